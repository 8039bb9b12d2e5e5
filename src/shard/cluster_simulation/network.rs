//! Who reaches whom, and how badly: between nodes, and from each node to Kafka. Senders reach nodes by the same rules of loss and delay.

use std::collections::BTreeSet;

use super::shape::Theme;
use super::stage::Event;
use super::stage::Mail;
use super::stage::Stage;
use super::stage::node_of;
use raft::eraftpb::MessageType;

/// The state of all ways.
#[derive(Default)]
pub struct Network {
    /// Ways from one node to another that are cut.
    pub cut: BTreeSet<(usize, usize)>,
    /// Nodes that do not reach Kafka.
    pub from_kafka: BTreeSet<usize>,
    /// Of 256 messages so many are lost, as many come twice, and many come late.
    pub loss: u8,
}

impl Stage {
    /// How long a message is under way; `None`: it is lost.
    pub fn way(&mut self) -> Option<i64> {
        let loss = self.network.loss;
        if self.random.u8(..) < loss {
            return None;
        }
        let late = self.random.u8(..) < loss.max(2);
        Some(if late { self.random.i64(5..800) } else { self.random.i64(0..4) })
    }

    /// From one node to the one that has this id; if none has, it gets nowhere.
    pub fn send_to(&mut self, from: usize, id: u64, mail: Mail) {
        let to = node_of(id);
        if self.ids.get(to) == Some(&id) {
            self.send(from, to, mail);
        }
    }

    /// From one node to another.
    pub fn send(&mut self, from: usize, to: usize, mail: Mail) {
        if self.network.cut.contains(&(from, to)) || to >= self.shape.nodes {
            return;
        }
        let Some(mut delay) = self.way() else { return };
        if self.shape.theme == Theme::Votes
            && matches!(&mail, Mail::Raft { message, .. } if message.msg_type() == MessageType::MsgRequestVote)
        {
            // So that two ask for a vote of the same term, one of them when the other has it.
            delay += self.random.i64(0..300);
        }
        // Only Raft's messages may come twice: the others are requests over connections.
        if matches!(mail, Mail::Raft { .. }) && self.random.u8(..) < self.network.loss / 2 {
            let again = delay + self.random.i64(0..1_000);
            self.after(again, Event::Mail { node: to, mail: mail.clone() });
        }
        self.after(delay, Event::Mail { node: to, mail });
    }
}
