//! `sluice sink replay`: dead letters are sent again, and those that the receiver took leave the shard's log by an entry.
//!
//! Done on a blocking thread from beginning to end, because whoever asked may hang up in between: what was sent must still be taken off
//! the list. Between the receiver's answer and that entry lies a moment: if the node dies in it, the next replay sends those rows once more
//! (at most [`PAGE`] of a shard). Left out on purpose: two replays of one node at a time, and a transaction: see `forward::resend`.

use std::collections::BTreeSet;

use crate::api::deps::Letters;
use crate::api::deps::Refusal;
use crate::api::deps::Replayed;
use crate::api::deps::ReplayedShard;
use crate::api::deps::Unsent;
use crate::failpoint;
use crate::forward::resend::ReplayError;
use crate::forward::resend::Resender;
use crate::model::ShardId;
use crate::node::Handle;
use crate::shard::command::Command;
use crate::shard::command::DeadLetter;
use crate::shard::command::Resent;

/// Letters that are sent, and then taken off the list, at a time: of 64 KiB each at most, so 6 MiB.
const PAGE: usize = 100;
/// Letters that were not sent and are named in an answer, of a shard.
const NAMED: usize = 100;

/// A replay of one sink's letters.
pub struct Replay {
    /// The shards.
    pub node: Handle,
    /// For awaiting proposals from a blocking thread.
    pub runtime: tokio::runtime::Handle,
    /// The sink's name.
    pub sink: String,
    /// What sends.
    pub resender: Resender,
}

impl Replay {
    /// Sends them, for as long as `go_on` says so. Blocking.
    pub fn run(&self, letters: Letters, go_on: &dyn Fn() -> bool) -> Result<Replayed, Refusal> {
        let mut all = Replayed::default();
        let shards = self.node.shards().iter().copied();
        for shard in shards.filter(|shard| !matches!(letters, Letters::One { shard: only, .. } if only != shard.0)) {
            let first = match letters {
                Letters::All => self.node.dead(shard, &self.sink, 0, PAGE),
                Letters::One { number, .. } => self.node.dead(shard, &self.sink, number.saturating_sub(1), 1).map(|mut found| {
                    found.retain(|(found, _)| *found == number);
                    found
                }),
            };
            let first = first.map_err(|error| unreadable(&error))?;
            if first.is_empty() {
                continue;
            }
            let mut done = ReplayedShard { shard: shard.0, ..ReplayedShard::default() };
            all.more |= self.shard(shard, first, letters == Letters::All, &mut done, go_on)?;
            let stuck = done.problem.is_some();
            all.shards.push(done);
            if stuck {
                // The same brokers would be asked for the next shard, and for as long.
                all.more |= letters == Letters::All;
                break;
            }
        }
        match letters {
            Letters::One { shard, number } if all.shards.is_empty() => Err(Refusal::Conflict {
                text: format!("sink {} has no dead letter {number} in shard {shard}", self.sink),
                remedy: format!("`sluice sink dead {}` lists those that there are", self.sink),
            }),
            _ => Ok(all),
        }
    }

    /// One shard's letters, page by page; says whether some were not tried.
    fn shard(
        &self,
        shard: ShardId,
        mut page: Vec<(u64, DeadLetter)>,
        all: bool,
        done: &mut ReplayedShard,
        go_on: &dyn Fn() -> bool,
    ) -> Result<bool, Refusal> {
        // A row may have become a letter twice, when the outcome of the first entry was not known.
        let mut sent = BTreeSet::new();
        while let Some(last) = page.last().map(|(number, _)| *number) {
            if !self.node.progress(shard).borrow().leads {
                done.problem = Some(format!("this node does not lead shard {}", shard.0));
                return Ok(true);
            }
            // Beyond the position the sink may deliver everything once more after a crash, and then the row too, if it fits by now.
            let position = self.node.cursors(shard).iter().find(|cursor| cursor.sink == self.sink).map_or(0, |cursor| cursor.emission);
            let (page_now, early): (Vec<_>, Vec<_>) = page.into_iter().partition(|(_, letter)| letter.emission <= position);
            early.iter().for_each(|(number, _)| done.stays(*number, "what stood around it is not delivered yet".to_owned()));
            let (numbers, letters): (Vec<u64>, Vec<DeadLetter>) = page_now.into_iter().unzip();
            let (twins, fresh): (Vec<usize>, Vec<usize>) =
                (0..letters.len()).partition(|&at| !sent.insert((letters[at].emission, letters[at].item)));
            let to_send: Vec<DeadLetter> = fresh.iter().map(|&at| letters[at].clone()).collect();
            let outcomes = match self.send(shard, &to_send, go_on) {
                Ok(outcomes) => outcomes,
                Err(problem) => {
                    done.problem = Some(problem);
                    return Ok(true);
                }
            };
            let mut gone = Vec::new();
            let mut untried = false;
            for (&at, outcome) in fresh.iter().zip(outcomes) {
                match outcome {
                    Ok(()) => gone.push(numbers[at]),
                    Err(ReplayError::NotTried) => untried = true,
                    Err(error) => {
                        sent.remove(&(letters[at].emission, letters[at].item));
                        done.stays(numbers[at], error.to_string());
                    }
                }
            }
            done.replayed += gone.len() as u64;
            if !untried {
                gone.extend(twins.iter().filter(|&&at| sent.contains(&(letters[at].emission, letters[at].item))).map(|&at| numbers[at]));
            }
            if let Some(problem) = self.take_off(shard, gone) {
                done.problem = Some(problem);
                return Ok(true);
            }
            if untried || !all {
                return Ok(untried);
            }
            page = self.node.dead(shard, &self.sink, last, PAGE).map_err(|error| unreadable(&error))?;
        }
        Ok(false)
    }

    fn send(&self, shard: ShardId, letters: &[DeadLetter], go_on: &dyn Fn() -> bool) -> Result<Vec<Result<(), ReplayError>>, String> {
        if letters.is_empty() {
            return Ok(Vec::new());
        }
        self.resender.send((shard.0, self.node.hash_seed()), letters, go_on)
    }

    /// They are no dead letters any more; says what went wrong.
    fn take_off(&self, shard: ShardId, numbers: Vec<u64>) -> Option<String> {
        if numbers.is_empty() {
            return None;
        }
        let count = numbers.len();
        failpoint::reach(failpoint::Place::LettersResent);
        let resent = Command::Resent(Resent { sink: self.sink.clone(), numbers });
        let error = self.runtime.block_on(self.node.propose(shard, resent)).err()?;
        Some(format!("{count} rows were sent but may still be listed, and would be sent again by the next replay: {error}"))
    }
}

impl ReplayedShard {
    fn stays(&mut self, number: u64, reason: String) {
        self.failed += 1;
        if self.letters.len() < NAMED {
            self.letters.push(Unsent { number, reason });
        }
    }
}

fn unreadable(error: &crate::node::ReadError) -> Refusal {
    Refusal::Conflict { text: error.to_string(), remedy: "look at the node's log and disk".to_owned() }
}
