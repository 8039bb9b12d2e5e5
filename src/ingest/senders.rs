//! Who sends: one line per group and replica, for `sluice sender list` and for being loud about names that change.
//!
//! A table in memory of this node, bounded, and lost with it: what matters is in the shards. Whoever was refused before anybody knew whose series they
//! are stands there by address alone.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::wire::remote_write::Protocol;

/// What is known of one sender.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Where the last request came from.
    pub address: IpAddr,
    /// The protocol of the last request; none where none could be read.
    pub protocol: Option<Protocol>,
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
    /// Requests that it had sent before: the same bytes, or by its own count.
    pub repeated: u64,
    /// Requests answered 503.
    pub put_off: u64,
    /// Newest time of a point taken.
    pub newest: Option<i64>,
    /// What was missing to identify it, in a word.
    pub missing: Option<&'static str>,
    /// What it was told last that was not 2xx.
    pub told: Option<Told>,
    /// Connections over which it has written and that are open, the newest last.
    pub connections: Vec<u64>,
    rate: Rate,
    bodies: VecDeque<u64>,
}

/// An answer that was not 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When, ms since 1970.
    pub at_ms: i64,
    /// The status.
    pub status: u16,
    /// Why.
    pub text: String,
}

/// Points a second, over some half a minute: what came longer ago counts less and less.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    sum: f64,
    at_ms: i64,
    /// Of the first points: a sum of a few seconds is not one of half a minute. 0: none came yet.
    since_ms: i64,
}

impl Rate {
    const MEMORY_MS: f64 = 30_000.0;

    fn faded(&self, now_ms: i64) -> f64 {
        self.sum * (-((now_ms - self.at_ms).max(0) as f64) / Rate::MEMORY_MS).exp()
    }

    fn add(&mut self, points: u64, now_ms: i64) {
        let since_ms = if self.since_ms == 0 { now_ms } else { self.since_ms };
        *self = Rate { sum: self.faded(now_ms) + points as f64, at_ms: now_ms, since_ms };
    }
}

/// A hundred groups of two, with room.
const SENDERS_MAX: usize = 4096;
/// A replica silent for so long does not count as one of the group's any more.
const SILENT_MS: i64 = 3_600_000;
/// Open connections that are remembered of one sender: Prometheus has at most 200 shards, nearly always far fewer.
const CONNECTIONS: usize = 256;
/// Bodies by which a repeated request is known: as many as a sender has under way, mostly.
const BODIES: usize = 64;
/// Of a `User-Agent`.
const AGENT_BYTES: usize = 80;
/// Of an answer.
const TOLD_BYTES: usize = 200;

/// Group and replica; where neither is known, nothing and the address.
type Key = (String, String);

/// The table.
#[derive(Debug, Default)]
pub struct Senders {
    /// Nothing waits while it is held.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    senders: BTreeMap<Key, Sender>,
    /// Who wrote over which open connection.
    by_connection: HashMap<u64, Vec<Key>>,
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
    /// A hash of the body as it came.
    pub body: u64,
    /// It says itself that it is a repeat.
    pub retry: bool,
    /// Now.
    pub now_ms: i64,
    /// Points taken.
    pub taken: u64,
    /// Points refused.
    pub refused: u64,
    /// Newest time of a point taken.
    pub newest: Option<i64>,
    /// What was missing.
    pub missing: Option<&'static str>,
}

/// An answer that is not 2xx.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// To whom.
    pub address: IpAddr,
    /// Over which connection.
    pub connection: u64,
    /// Its `User-Agent`.
    pub agent: &'a str,
    /// Now.
    pub now_ms: i64,
    /// The status.
    pub status: u16,
    /// Why.
    pub text: &'a str,
}

impl Senders {
    /// Notes a request. Returns the other live names of the group if this name is new and they are two or more already: a name that
    /// changes at each restart, or Prometheus that are no copies under one group's name.
    pub fn saw(&self, seen: Seen<'_>) -> Option<Vec<String>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut *known;
        let key = (seen.group.to_string(), seen.replica.to_string());
        let mut others = None;
        if !known.senders.contains_key(&key) {
            known.make_room();
            let names: Vec<String> = known
                .senders
                .iter()
                .filter(|((group, replica), sender)| group == seen.group && !replica.is_empty() && seen.now_ms - sender.last_ms < SILENT_MS)
                .map(|((_, replica), _)| replica.clone())
                .collect();
            others = (names.len() >= 2 && !seen.replica.is_empty()).then_some(names);
        }
        let sender = known.senders.entry(key.clone()).or_insert_with(|| Sender::new(seen.address));
        if !sender.connections.contains(&seen.connection) {
            if sender.connections.len() >= CONNECTIONS {
                sender.connections.remove(0);
            }
            sender.connections.push(seen.connection);
            let writers = known.by_connection.entry(seen.connection).or_default();
            if !writers.contains(&key) {
                writers.push(key);
            }
        }
        sender.note(&seen);
        others
    }

    /// Notes an answer that was not 2xx for whoever has written over the connection; else for the address.
    pub fn told(&self, refused: Refused<'_>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut *known;
        let told = Told { at_ms: refused.now_ms, status: refused.status, text: refused.text.chars().take(TOLD_BYTES).collect() };
        let writers = known.by_connection.get(&refused.connection).cloned().unwrap_or_default();
        for key in &writers {
            if let Some(sender) = known.senders.get_mut(key) {
                sender.put_off += u64::from(refused.status == 503);
                sender.told = Some(told.clone());
            }
        }
        if writers.is_empty() {
            let key = (String::new(), refused.address.to_string());
            if !known.senders.contains_key(&key) {
                known.make_room();
            }
            let sender = known.senders.entry(key).or_insert_with(|| Sender::new(refused.address));
            sender.set_agent(refused.agent);
            (sender.last_ms, sender.requests) = (refused.now_ms, sender.requests + 1);
            sender.put_off += u64::from(refused.status == 503);
            sender.told = Some(told);
        }
    }

    /// A connection is gone. Returns those who wrote over it and have no other one left, as group and replica.
    pub fn gone(&self, connection: u64) -> Vec<(String, String)> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let writers = known.by_connection.remove(&connection).unwrap_or_default();
        let mut cut_off = Vec::new();
        for key in writers {
            let Some(sender) = known.senders.get_mut(&key) else { continue };
            let before = sender.connections.len();
            sender.connections.retain(|open| *open != connection);
            if before > 0 && sender.connections.is_empty() {
                cut_off.push(key);
            }
        }
        cut_off.sort();
        cut_off
    }

    /// All of them, by group and replica.
    pub fn all(&self) -> Vec<(String, String, Sender)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.senders.iter().map(|((group, replica), sender)| (group.clone(), replica.clone(), sender.clone())).collect()
    }
}

impl Known {
    /// The one that has been silent for longest goes where there are too many.
    fn make_room(&mut self) {
        if self.senders.len() >= SENDERS_MAX {
            let silent = self.senders.iter().min_by_key(|(_, sender)| sender.last_ms).map(|(key, _)| key.clone());
            silent.and_then(|key| self.senders.remove(&key));
        }
    }
}

impl Sender {
    fn new(address: IpAddr) -> Sender {
        Sender {
            address,
            protocol: None,
            agent: String::new(),
            last_ms: 0,
            requests: 0,
            taken: 0,
            refused: 0,
            repeated: 0,
            put_off: 0,
            newest: None,
            missing: None,
            told: None,
            connections: Vec::new(),
            rate: Rate::default(),
            bodies: VecDeque::new(),
        }
    }

    fn set_agent(&mut self, agent: &str) {
        if self.agent != agent {
            self.agent = agent.chars().take(AGENT_BYTES).collect();
        }
    }

    fn note(&mut self, seen: &Seen<'_>) {
        self.address = seen.address;
        self.protocol = Some(seen.protocol);
        self.set_agent(seen.agent);
        self.last_ms = seen.now_ms;
        self.requests += 1;
        self.taken += seen.taken;
        self.refused += seen.refused;
        self.newest = self.newest.max(seen.newest);
        self.missing = seen.missing;
        self.rate.add(seen.taken, seen.now_ms);
        let known = self.bodies.contains(&seen.body);
        self.repeated += u64::from(known || seen.retry);
        if !known {
            if self.bodies.len() >= BODIES {
                self.bodies.pop_front();
            }
            self.bodies.push_back(seen.body);
        }
    }

    /// Points a second that were taken of it, over some half a minute.
    pub fn points_per_second(&self, now_ms: i64) -> f64 {
        let age = (now_ms - self.rate.since_ms).max(1000) as f64;
        let memory = Rate::MEMORY_MS * (1.0 - (-age / Rate::MEMORY_MS).exp());
        self.rate.faded(now_ms) * 1000.0 / memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen<'a>(group: &'a str, replica: &'a str, connection: u64, now_ms: i64) -> Seen<'a> {
        Seen {
            group,
            replica,
            address: IpAddr::from([127, 0, 0, 1]),
            connection,
            protocol: Protocol::V1,
            agent: "x",
            body: now_ms as u64,
            retry: false,
            now_ms,
            taken: 1,
            refused: 0,
            newest: Some(now_ms - 400),
            missing: None,
        }
    }

    #[test]
    fn a_third_name_in_a_group_is_told() {
        let senders = Senders::default();
        let saw = |replica: &str, now_ms| senders.saw(seen("g", replica, 7, now_ms));
        assert_eq!(saw("a", 0), None);
        assert_eq!(saw("b", 0), None);
        assert_eq!(saw("a", 1), None);
        assert_eq!(saw("c", 2), Some(vec!["a".to_string(), "b".to_string()]));
        assert_eq!(saw("c", 3), None);
        assert_eq!(saw("d", SILENT_MS + 2), None, "a and b have been silent for an hour");
        assert_eq!(senders.all()[0].2.requests, 2);
    }

    #[test]
    fn a_sender_is_cut_off_when_its_last_connection_is_gone() {
        let senders = Senders::default();
        for (replica, connection) in [("a", 1), ("a", 2), ("a", 1), ("b", 2), ("b", 3)] {
            senders.saw(seen("g", replica, connection, 0));
        }
        let of = |replica: &str| ("g".to_owned(), replica.to_owned());
        assert_eq!(senders.gone(1), []);
        assert_eq!(senders.gone(9), [], "nobody wrote over it");
        assert_eq!(senders.gone(2), [of("a")], "b has another one");
        assert_eq!(senders.gone(2), [], "told once");
        assert_eq!(senders.gone(3), [of("b")]);
    }

    #[test]
    fn refusals_are_told_of_whoever_wrote_over_the_connection_else_of_the_address() {
        let senders = Senders::default();
        senders.saw(seen("g", "a", 1, 0));
        senders.saw(seen("g", "b", 2, 0));
        let refused =
            |connection, status| Refused { address: IpAddr::from([10, 0, 0, 1]), connection, agent: "y", now_ms: 5, status, text: "why" };
        senders.told(refused(1, 503));
        senders.told(refused(9, 415));
        let all = senders.all();
        let rows: Vec<_> = all
            .iter()
            .map(|(group, replica, one)| (&**group, &**replica, one.told.as_ref().map(|told| told.status), one.put_off))
            .collect();
        assert_eq!(rows, [("", "10.0.0.1", Some(415), 0), ("g", "a", Some(503), 1), ("g", "b", None, 0)]);
    }

    #[test]
    fn a_body_that_was_seen_before_is_a_repeat_and_rates_fade() {
        let senders = Senders::default();
        for second in 0..120 {
            senders.saw(Seen { taken: 100, ..seen("g", "a", 1, second * 1000) });
        }
        senders.saw(Seen { taken: 0, body: 119_000, ..seen("g", "a", 1, 120_000) });
        senders.saw(Seen { taken: 0, retry: true, ..seen("g", "a", 1, 121_000) });
        let (_, _, sender) = senders.all().remove(0);
        assert_eq!(sender.repeated, 2);
        senders.saw(Seen { taken: 500, ..seen("g", "young", 2, 1_000_000) });
        let (_, _, young) = senders.all().pop().unwrap();
        assert!((90.0..110.0).contains(&young.points_per_second(1_005_000)), "{}", young.points_per_second(1_005_000));
        let rate = sender.points_per_second(120_000);
        assert!((90.0..110.0).contains(&rate), "{rate}");
        assert!(sender.points_per_second(300_000) < 1.0);
    }
}
