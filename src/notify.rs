//! Tells receivers: a group's message written as its receiver wants it, sent, and the answer judged.
//!
//! `Receivers` is what one `alertmanager.yml` says; whoever keeps the groups calls [`Receivers::send`] with a message and one integration of its receiver,
//! and repeats as the outcome says. Left out on purpose: when a group is told, what was told before, and trying again (`app`).

use std::time::Duration;

use crate::alert::message::Message;
use crate::config::routing::Routing;

/// What came of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Taken,
    /// It may have it later.
    Again {
        /// Not before this, where the receiver or a limit of its rate says so.
        after: Option<Duration>,
        /// For people; holds no secret.
        why: String,
    },
    /// It will not take this message, however often it is sent.
    Never {
        /// For people; holds no secret.
        why: String,
    },
}

/// Whom alerts can be told to.
pub struct Receivers {}

impl Receivers {
    /// Of a file. `external` is the URL by which people reach this sluice; `before` is what was there before a reload: how much was sent lately is kept.
    pub fn new(_file: &Routing, _external: &str, _before: Option<&Receivers>) -> Receivers {
        Receivers {}
    }

    /// How many integrations a receiver has; each is sent to, and repeated, by itself. A receiver that is not known has none.
    pub fn integrations(&self, _receiver: &str) -> usize {
        0
    }

    /// What an integration is, as Alertmanager calls it: `webhook`, `slack`. For metrics and for people.
    pub fn kind(&self, _receiver: &str, _integration: usize) -> &'static str {
        ""
    }

    /// Whether it wants to hear that alerts are over.
    pub fn send_resolved(&self, _receiver: &str, _integration: usize) -> bool {
        true
    }

    /// Whether it takes the message's id as a key and so tells nobody twice.
    pub fn takes_key(&self, _receiver: &str, _integration: usize) -> bool {
        false
    }

    /// Sends, once. Whatever happens, it is over within the integration's timeout.
    pub async fn send(&self, _message: &Message, _receiver: &str, _integration: usize) -> Outcome {
        Outcome::Never { why: "nothing is sent yet".to_owned() }
    }
}
