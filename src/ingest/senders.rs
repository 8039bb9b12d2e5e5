//! Who sends: one line per group and replica, for the status page and for being loud about names that change.
//!
//! A table in memory of this node, bounded, and lost with it: what matters is in the shards.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::wire::remote_write::Protocol;

/// What is known of one sender.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Where the last request came from.
    pub address: IpAddr,
    /// The protocol of the last request.
    pub protocol: Protocol,
    /// The `User-Agent` of the last request.
    pub agent: String,
    /// When the last request came, ms since 1970.
    pub last_ms: i64,
    /// Requests.
    pub requests: u64,
    /// Points taken.
    pub taken: u64,
    /// Points refused for good.
    pub refused: u64,
    /// What was missing to identify it, in a word.
    pub missing: Option<&'static str>,
    /// What it was told last that was not 2xx, and when.
    pub trouble: Option<(i64, String)>,
    /// Connections over which it has written and that are open, the newest last.
    pub connections: Vec<u64>,
}

/// A hundred groups of two, with room.
const SENDERS_MAX: usize = 4096;
/// A replica silent for so long does not count as one of the group's any more.
const SILENT_MS: i64 = 3_600_000;
/// Open connections that are remembered of one sender: Prometheus has at most 200 shards, nearly always far fewer.
const CONNECTIONS: usize = 256;
/// Of a `User-Agent`.
const AGENT_BYTES: usize = 80;

/// The table.
#[derive(Debug, Default)]
pub struct Senders {
    /// By group and replica. Nothing waits while it is held.
    known: Mutex<BTreeMap<(String, String), Sender>>,
}

/// One request, as far as one sender is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The group.
    pub group: &'a str,
    /// The replica.
    pub replica: &'a str,
    /// Where it came from.
    pub address: IpAddr,
    /// Over which connection.
    pub connection: u64,
    /// How it was written.
    pub protocol: Protocol,
    /// Its `User-Agent`.
    pub agent: &'a str,
    /// Now.
    pub now_ms: i64,
    /// Points taken.
    pub taken: u64,
    /// Points refused.
    pub refused: u64,
    /// What was missing.
    pub missing: Option<&'static str>,
    /// What it is told, where not 2xx.
    pub trouble: Option<&'a str>,
}

impl Senders {
    /// Notes a request. Returns the other live names of the group if this name is new and they are two or more already: a name that
    /// changes at each restart, or Prometheus that are no copies under one group's name.
    pub fn saw(&self, seen: Seen<'_>) -> Option<Vec<String>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (seen.group.to_string(), seen.replica.to_string());
        let mut others = None;
        if !known.contains_key(&key) {
            if known.len() >= SENDERS_MAX {
                let silent = known.iter().min_by_key(|(_, sender)| sender.last_ms).map(|(key, _)| key.clone());
                silent.and_then(|key| known.remove(&key));
            }
            let names: Vec<String> = known
                .iter()
                .filter(|((group, replica), sender)| group == seen.group && !replica.is_empty() && seen.now_ms - sender.last_ms < SILENT_MS)
                .map(|((_, replica), _)| replica.clone())
                .collect();
            others = (names.len() >= 2 && !seen.replica.is_empty()).then_some(names);
        }
        let sender = known.entry(key).or_insert_with(|| Sender {
            address: seen.address,
            protocol: seen.protocol,
            agent: String::new(),
            last_ms: seen.now_ms,
            requests: 0,
            taken: 0,
            refused: 0,
            missing: None,
            trouble: None,
            connections: Vec::new(),
        });
        if !sender.connections.contains(&seen.connection) {
            if sender.connections.len() >= CONNECTIONS {
                sender.connections.remove(0);
            }
            sender.connections.push(seen.connection);
        }
        sender.address = seen.address;
        sender.protocol = seen.protocol;
        if sender.agent != seen.agent {
            sender.agent = seen.agent.chars().take(AGENT_BYTES).collect();
        }
        sender.last_ms = seen.now_ms;
        sender.requests += 1;
        sender.taken += seen.taken;
        sender.refused += seen.refused;
        sender.missing = seen.missing;
        if let Some(trouble) = seen.trouble {
            sender.trouble = Some((seen.now_ms, trouble.chars().take(200).collect()));
        }
        others
    }

    /// A connection is gone. Returns those who wrote over it and have no other one left, as group and replica.
    pub fn gone(&self, connection: u64) -> Vec<(String, String)> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cut_off = Vec::new();
        for (key, sender) in known.iter_mut() {
            let before = sender.connections.len();
            sender.connections.retain(|open| *open != connection);
            if before > 0 && sender.connections.is_empty() {
                cut_off.push(key.clone());
            }
        }
        cut_off
    }

    /// All of them, by group and replica.
    pub fn all(&self) -> Vec<(String, String, Sender)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|((group, replica), sender)| (group.clone(), replica.clone(), sender.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_name_in_a_group_is_told() {
        let senders = Senders::default();
        let seen = |replica: &'static str, now_ms| Seen {
            group: "g",
            replica,
            address: IpAddr::from([127, 0, 0, 1]),
            connection: 7,
            protocol: Protocol::V1,
            agent: "x",
            now_ms,
            taken: 1,
            refused: 0,
            missing: None,
            trouble: None,
        };
        assert_eq!(senders.saw(seen("a", 0)), None);
        assert_eq!(senders.saw(seen("b", 0)), None);
        assert_eq!(senders.saw(seen("a", 1)), None);
        assert_eq!(senders.saw(seen("c", 2)), Some(vec!["a".to_string(), "b".to_string()]));
        assert_eq!(senders.saw(seen("c", 3)), None);
        assert_eq!(senders.saw(seen("d", SILENT_MS + 2)), None, "a and b have been silent for an hour");
        assert_eq!(senders.all()[0].2.requests, 2);
    }

    #[test]
    fn a_sender_is_cut_off_when_its_last_connection_is_gone() {
        let senders = Senders::default();
        for (replica, connection) in [("a", 1), ("a", 2), ("a", 1), ("b", 2), ("b", 3)] {
            senders.saw(Seen {
                group: "g",
                replica,
                address: IpAddr::from([127, 0, 0, 1]),
                connection,
                protocol: Protocol::V1,
                agent: "x",
                now_ms: 0,
                taken: 1,
                refused: 0,
                missing: None,
                trouble: None,
            });
        }
        let of = |replica: &str| ("g".to_owned(), replica.to_owned());
        assert_eq!(senders.gone(1), []);
        assert_eq!(senders.gone(9), [], "nobody wrote over it");
        assert_eq!(senders.gone(2), [of("a")], "b has another one");
        assert_eq!(senders.gone(2), [], "told once");
        assert_eq!(senders.gone(3), [of("b")]);
    }
}
