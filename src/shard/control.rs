//! The state of the control shard: what the cluster is, who takes part, which group lives in which data shard, the cluster's settings, its tokens.
//!
//! Left out on purpose: what the settings mean (`config` and the parts that own a section), who asks (`node`).

use std::collections::BTreeMap;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

use crate::alert::book::Book;
use crate::alert::episode::Closed;
use crate::model::ShardId;
use crate::shard::alerting;
use crate::shard::alerts::Alerts;
use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;
use crate::shard::command::Command;
use crate::shard::command::Founding;
use crate::shard::entry;
use crate::shard::entry::Entry;
use crate::shard::episodes;
use crate::shard::level;
use crate::shard::members::Nodes;
use crate::shard::policies;
use crate::shard::pushed::Pushed;
use crate::shard::settings::Settings;
use crate::shard::telling;
use crate::shard::tokens::Tokens;
use crate::shard::verdicts::Verdicts;

/// Raised when the layout changes.
const VERSION: u8 = 12;
/// Images of this version end before tokens and nodes.
const WITHOUT_TOKENS: u8 = 1;
/// Images up to this version know no settings: a number and a text stood there that nobody ever wrote.
const WITHOUT_SETTINGS: u8 = 2;
/// Images up to this version end before the feature level.
const WITHOUT_LEVEL: u8 = 3;
/// Tokens in images up to this version have no tenants.
const WITHOUT_TENANTS: u8 = 4;
/// Images up to this version end before verdicts and alerts.
const WITHOUT_VERDICTS: u8 = 5;
/// Images up to this version end before the book of alerts.
const WITHOUT_BOOK: u8 = 6;
/// Images up to this version end before what was pushed.
const WITHOUT_PUSHED: u8 = 7;
/// Images up to this version end before what is known of episodes of alerts.
const WITHOUT_EPISODES: u8 = 8;
/// Images up to this version end before the policies for alerts, and what they come to; and before since when alerts are told.
const WITHOUT_POLICIES: u8 = 9;
/// Images up to this version do not say how bad alerts were at their worst.
const WITHOUT_WORST: u8 = 10;
/// Images up to this version do not say how often alerts are said.
const WITHOUT_BEATS: u8 = 11;
/// Groups in a cluster; a sender that invents names without end must not fill the memory.
pub const MAX_GROUPS: usize = 10_000;

/// What an applied entry leads to.
#[derive(Debug, Default)]
pub struct ControlEffects {
    /// An image of the state as it is now is to be taken.
    pub image: bool,
    /// Committed, but void: why.
    pub void: Option<String>,
    /// `Assign`: the shard.
    pub shard: Option<ShardId>,
    /// Whether anything changed that an image holds.
    pub changed: bool,
    /// Episodes of alerts that ended, for the history.
    pub closed: Vec<Closed>,
}

/// The state.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Index of the last applied entry.
    pub applied: u64,
    /// The shard's time.
    pub at: i64,
    /// What the cluster is; `None` before it was founded.
    pub founding: Option<Founding>,
    /// Which group lives where. A group's shard never changes.
    pub groups: BTreeMap<String, ShardId>,
    /// What all nodes agree on. Shared with those who look at it.
    pub settings: Arc<Settings>,
    /// Who takes part.
    pub nodes: Nodes,
    /// Who may ask. Shared with those who look at it with every request.
    pub tokens: Arc<Tokens>,
    /// Index of the last `Image` entry.
    pub image: u64,
    /// The feature level; 0: nobody said anything, see [`Control::level`].
    pub finalized: u64,
    /// What is down. Shared with those who look at it.
    pub verdicts: Arc<Verdicts>,
    /// Whom to tell what. Shared, too.
    pub alerts: Arc<Alerts>,
    /// All alerts that are routed, silences, and what was told of them. Shared, too.
    pub book: Arc<Book>,
    /// What short-lived jobs have pushed.
    pub pushed: Pushed,
}

impl Control {
    /// Applies the entry at `index`.
    pub fn apply(&mut self, index: u64, encoded: &[u8], effects: &mut ControlEffects) -> Result<(), Malformed> {
        self.applied = index;
        if encoded.is_empty() {
            return Ok(());
        }
        let stamped = entry::parse(encoded)?;
        self.at = self.at.max(stamped.at);
        match stamped.entry {
            Entry::Image => {
                self.image = index;
                effects.image = true;
            }
            Entry::Command(command) => {
                effects.changed = true;
                self.command(command, effects);
            }
            Entry::Samples(_) | Entry::Tick | Entry::Forget { .. } => {}
        }
        Ok(())
    }

    fn command(&mut self, command: Command, effects: &mut ControlEffects) {
        match command {
            Command::Found(_) if self.founding.is_some() => effects.void = Some("the cluster exists already".to_owned()),
            Command::Found(founding) => self.founding = Some(founding),
            Command::Reidentify(cluster) => match &mut self.founding {
                Some(founding) if cluster > 0 => founding.cluster = cluster,
                _ => effects.void = Some("the cluster has not been founded".to_owned()),
            },
            Command::Assign { group } => self.assign(&group, effects),
            Command::ClusterSettings(new) => effects.void = Arc::make_mut(&mut self.settings).change(new, self.at).err(),
            Command::Nodes(nodes) if nodes.version != self.nodes.version + 1 => {
                effects.void = Some("somebody else changed the list of nodes just now".to_owned());
            }
            Command::Nodes(nodes) => match nodes.wrong() {
                Some(wrong) => effects.void = Some(wrong.to_owned()),
                None => self.nodes = nodes,
            },
            Command::CreateToken(new) => effects.void = Arc::make_mut(&mut self.tokens).create(new, self.at).err(),
            Command::RevokeToken { name, .. } => effects.void = Arc::make_mut(&mut self.tokens).revoke(&name).err(),
            Command::Finalize { level, .. } if level <= self.level() => {
                effects.void = Some(format!("the cluster is at feature level {} by now", self.level()));
            }
            Command::Finalize { level, .. } => self.finalized = level,
            Command::Verdicts(changes) => Arc::make_mut(&mut self.verdicts).change(changes, self.at),
            Command::Alerts(changes) => Arc::make_mut(&mut self.alerts).change(changes, self.at),
            Command::Alerting(change) => {
                let seed = self.founding.map_or(0, |founding| founding.seed);
                let book = Arc::make_mut(&mut self.book);
                effects.void = change.carry_out(book, seed, self.at).err();
                effects.closed = book.take_closed();
            }
            Command::Push(change) => effects.void = self.pushed.change(change, self.at).err(),
            _ => effects.void = Some("this is for a data shard".to_owned()),
        }
    }

    /// The feature level (`level`).
    pub fn level(&self) -> u64 {
        self.finalized.max(level::FIRST)
    }

    /// The shard with the fewest groups, the first one of several.
    fn assign(&mut self, group: &str, effects: &mut ControlEffects) {
        let data_shards = self.founding.map_or(0, |founding| founding.data_shards);
        if let Some(&shard) = self.groups.get(group) {
            effects.shard = Some(shard);
        } else if self.groups.len() >= MAX_GROUPS {
            effects.void = Some(format!("there are {MAX_GROUPS} groups already"));
        } else {
            let load = |shard: &ShardId| self.groups.values().filter(|other| *other == shard).count();
            effects.shard = (1..=data_shards).map(ShardId).min_by_key(load);
            match effects.shard {
                Some(shard) => drop(self.groups.insert(group.to_owned(), shard)),
                None => effects.void = Some("the cluster has not been founded".to_owned()),
            }
        }
    }

    /// Appends the state.
    pub fn write_image(&self, into: &mut Vec<u8>) {
        let mut out = Writer(into);
        out.byte(VERSION);
        out.number(self.applied);
        out.signed(self.at);
        out.number(self.image);
        out.byte(u8::from(self.founding.is_some()));
        let Founding { cluster, seed, data_shards } = self.founding.unwrap_or_default();
        [cluster as u64, (cluster >> 64) as u64, seed].into_iter().for_each(|number| out.fixed(number));
        out.number(u64::from(data_shards));
        self.settings.write(&mut out);
        out.number(self.groups.len() as u64);
        for (name, shard) in &self.groups {
            out.text(name);
            out.number(u64::from(shard.0));
        }
        self.tokens.write(&mut out);
        self.nodes.write(&mut out);
        out.number(self.finalized);
        self.verdicts.write(&mut out);
        self.alerts.write(&mut out);
        alerting::write(&self.book, &mut out);
        self.pushed.write(&mut out);
        episodes::write(&self.book, &mut out);
        policies::write(&self.book, &mut out);
        telling::write(&self.book, &mut out);
    }

    /// The state whose image this is, all of it.
    pub fn read_image(bytes: &[u8]) -> Result<Control, Malformed> {
        let mut from = Reader(bytes);
        let version = from.byte()?;
        if !(WITHOUT_TOKENS..=VERSION).contains(&version) {
            return Err(Malformed::Version(version));
        }
        let mut control = Control { applied: from.number()?, at: from.signed()?, image: from.number()?, ..Control::default() };
        let founded = from.byte()? != 0;
        let (low, high, seed) = (from.fixed()?, from.fixed()?, from.fixed()?);
        let data_shards = from.small()?;
        control.founding = founded.then_some(Founding { cluster: u128::from(high) << 64 | u128::from(low), seed, data_shards });
        if version > WITHOUT_SETTINGS {
            control.settings = Arc::new(Settings::read(&mut from)?);
        } else {
            from.number()?;
            from.text()?;
        }
        for _ in 0..from.count(2)? {
            control.groups.insert(from.text()?.to_owned(), ShardId(from.small()?));
        }
        if version > WITHOUT_TOKENS {
            control.tokens = Arc::new(Tokens::read(&mut from, version > WITHOUT_TENANTS)?);
            control.nodes = Nodes::read(&mut from)?;
        }
        if version > WITHOUT_LEVEL {
            control.finalized = from.number()?;
        }
        if version > WITHOUT_VERDICTS {
            control.verdicts = Arc::new(Verdicts::read(&mut from)?);
            control.alerts = Arc::new(Alerts::read(&mut from)?);
        }
        if version > WITHOUT_BOOK {
            control.book = Arc::new(alerting::read(&mut from)?);
        }
        if version > WITHOUT_PUSHED {
            control.pushed = Pushed::read(&mut from)?;
        }
        if version > WITHOUT_EPISODES {
            episodes::read(&mut from, Arc::make_mut(&mut control.book), version > WITHOUT_POLICIES)?;
        }
        if version > WITHOUT_POLICIES {
            policies::read(&mut from, Arc::make_mut(&mut control.book), version > WITHOUT_WORST)?;
            telling::read(&mut from, Arc::make_mut(&mut control.book), version > WITHOUT_BEATS)?;
        } else {
            Arc::make_mut(&mut control.book).ledger_mut().begin_as_told();
        }
        from.end()?;
        Ok(control)
    }

    /// The same on every member that has applied the same entries.
    pub fn state_hash(&self) -> u64 {
        let mut bytes = Vec::new();
        self.write_image(&mut bytes);
        xxh3_64(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::alerts;
    use crate::shard::members::Node;
    use crate::shard::members::Role;
    use crate::shard::settings::NewVersion;
    use crate::shard::tokens::NewToken;
    use crate::shard::verdicts;

    fn apply(control: &mut Control, command: Command) -> ControlEffects {
        let (mut bytes, mut effects) = (Vec::new(), ControlEffects::default());
        entry::encode(5, &Entry::Command(command), &mut bytes);
        control.apply(control.applied + 1, &bytes, &mut effects).unwrap();
        effects
    }

    #[test]
    fn groups_go_to_the_shard_with_fewest_and_stay() {
        let mut control = Control::default();
        assert!(apply(&mut control, Command::Assign { group: "a".into() }).void.is_some());
        apply(&mut control, Command::Found(Founding { cluster: 1 << 100, seed: 7, data_shards: 2 }));
        let mut shards = Vec::new();
        for group in ["a", "b", "c", "a"] {
            shards.push(apply(&mut control, Command::Assign { group: group.into() }).shard.unwrap().0);
        }
        assert_eq!(shards, [1, 2, 1, 1]);
        let mut bytes = Vec::new();
        control.write_image(&mut bytes);
        assert_eq!(Control::read_image(&bytes).as_ref(), Ok(&control));
    }

    #[test]
    fn a_restored_cluster_is_another_one_with_the_same_seed() {
        let mut control = Control::default();
        assert!(apply(&mut control, Command::Reidentify(9)).void.is_some());
        apply(&mut control, Command::Found(Founding { cluster: 1 << 100, seed: 7, data_shards: 2 }));
        assert_eq!(apply(&mut control, Command::Reidentify(3 << 90)).void, None);
        assert_eq!(control.founding, Some(Founding { cluster: 3 << 90, seed: 7, data_shards: 2 }));
    }

    #[test]
    fn nodes_change_by_one_version() {
        let mut control = Control::default();
        apply(&mut control, Command::Found(Founding { cluster: 3, seed: 7, data_shards: 2 }));
        let node = |id| Node { id, name: "a".into(), role: Role::Member };
        let nodes = |version| Command::Nodes(Nodes { version, nodes: vec![node(4), node(5)] });
        assert!(apply(&mut control, nodes(2)).void.is_some());
        assert!(apply(&mut control, nodes(1)).void.is_none());
        assert!(apply(&mut control, nodes(1)).void.is_some());
        let same = Command::Nodes(Nodes { version: 2, nodes: vec![node(4), node(4)] });
        assert!(apply(&mut control, same).void.is_some());
        let mut bytes = Vec::new();
        control.write_image(&mut bytes);
        assert_eq!(Control::read_image(&bytes).as_ref(), Ok(&control));
    }

    #[test]
    fn tokens_come_and_go_and_stand_in_the_image() {
        let mut control = Control::default();
        let new =
            |name: &str| NewToken { name: name.into(), hash: [7; 32], hint: "wxyz".into(), by: "first".into(), ..NewToken::default() };
        assert_eq!(apply(&mut control, Command::CreateToken(NewToken { expires_ms: Some(9), ..new("a") })).void, None);
        assert!(apply(&mut control, Command::CreateToken(new("a"))).void.is_some_and(|why| why.contains("`a`")));
        apply(&mut control, Command::CreateToken(new("b")));
        apply(&mut control, Command::RevokeToken { name: "b".into(), by: "a".into() });
        let (name, kept) = control.tokens.all().next().unwrap();
        assert_eq!((name, kept.created_ms, kept.expires_ms, &*kept.by), ("a", 5, Some(9), "first"));
        let mut bytes = Vec::new();
        control.write_image(&mut bytes);
        assert_eq!(Control::read_image(&bytes).as_ref(), Ok(&control));
        assert!(apply(&mut control, Command::RevokeToken { name: "b".into(), by: "a".into() }).void.is_some());
    }

    /// As programs before tokens, nodes and settings wrote it.
    fn old_image(control: &Control) -> Vec<u8> {
        let mut bytes = Vec::new();
        control.write_image(&mut bytes);
        assert_eq!(
            bytes.split_off(bytes.len() - 20),
            [0; 20],
            "no level, nothing down, no alerts, an empty book of three lists, nothing pushed, no episodes, four lists of policies, nothing noted or learned, nothing told, nothing said"
        );
        let mut settings = Vec::new();
        control.settings.write(&mut Writer(&mut settings));
        assert_eq!(settings, [1, 0, 0, 0, 0], "one version: number 0, no text, by nobody, at 0");
        let with_data_shards = [&[2], settings.as_slice()].concat();
        let at = bytes.windows(6).position(|window| window == with_data_shards).unwrap();
        bytes.splice(at + 1..at + 6, [0, 0]);
        bytes
    }

    #[test]
    fn images_from_before_there_were_tokens_nodes_and_settings_are_read_and_one_of_a_later_version_is_not() {
        let mut control = Control::default();
        apply(&mut control, Command::Found(Founding { cluster: 1 << 100, seed: 7, data_shards: 2 }));
        apply(&mut control, Command::Assign { group: "a".into() });
        let mut bytes = Vec::new();
        control.write_image(&mut bytes);
        bytes.pop();
        bytes[0] = WITHOUT_BEATS;
        assert_eq!(Control::read_image(&bytes).as_ref(), Ok(&control));
        bytes[0] = WITHOUT_WORST;
        assert_eq!(Control::read_image(&bytes).as_ref(), Ok(&control), "without alerts there is nothing to say");
        bytes.truncate(bytes.len() - 9);
        bytes[0] = WITHOUT_POLICIES;
        assert_eq!(Control::read_image(&bytes).as_ref(), Ok(&control));
        bytes.truncate(bytes.len() - 3);
        bytes[0] = WITHOUT_EPISODES;
        assert_eq!(Control::read_image(&bytes).as_ref(), Ok(&control));
        bytes.truncate(bytes.len() - 1);
        bytes[0] = WITHOUT_PUSHED;
        assert_eq!(Control::read_image(&bytes).as_ref(), Ok(&control));
        bytes.truncate(bytes.len() - 3);
        bytes[0] = WITHOUT_BOOK;
        assert_eq!(Control::read_image(&bytes).as_ref(), Ok(&control));
        bytes.truncate(bytes.len() - 2);
        bytes[0] = WITHOUT_VERDICTS;
        assert_eq!(Control::read_image(&bytes).as_ref(), Ok(&control));
        bytes[0] = WITHOUT_TENANTS;
        assert_eq!(Control::read_image(&bytes).as_ref(), Ok(&control));
        bytes.pop();
        bytes[0] = WITHOUT_LEVEL;
        assert_eq!(Control::read_image(&bytes).as_ref(), Ok(&control));
        let mut bytes = old_image(&control);
        bytes[0] = WITHOUT_SETTINGS;
        assert_eq!(Control::read_image(&bytes).as_ref(), Ok(&control));
        // No tokens (none ever made, none there) and no nodes (version 0, none) are four zeros at the end.
        assert_eq!(bytes.split_off(bytes.len() - 4), [0, 0, 0, 0]);
        bytes[0] = WITHOUT_TOKENS;
        assert_eq!(Control::read_image(&bytes).as_ref(), Ok(&control));
        bytes[0] = VERSION + 1;
        assert_eq!(Control::read_image(&bytes), Err(Malformed::Version(VERSION + 1)));
    }

    #[test]
    fn the_feature_level_goes_up_only_and_stands_in_the_image() {
        let mut control = Control::default();
        let finalize = |level| Command::Finalize { level, by: "a".into() };
        assert!(control.level() == 1 && apply(&mut control, finalize(1)).void.is_some());
        assert!(apply(&mut control, finalize(2)).void.is_none());
        assert!(apply(&mut control, finalize(2)).void.is_some_and(|why| why.contains("level 2 by now")));
        let mut bytes = Vec::new();
        control.write_image(&mut bytes);
        assert_eq!(Control::read_image(&bytes).map(|read| read.level()), Ok(2));
    }

    #[test]
    fn verdicts_and_alerts_stand_in_the_image() {
        let mut control = Control::default();
        let down = verdicts::Change { job: "web".into(), instance: "h".into(), down: Some(("refused".into(), vec![7])) };
        assert!(apply(&mut control, Command::Verdicts(vec![down])).void.is_none());
        assert_eq!(control.verdicts.of("web", "h").map(|verdict| verdict.since), Some(5));
        let raised = alerts::Change::Raise { id: "x".into(), said: alerts::Said { name: "ProbeDown".into(), ..alerts::Said::default() } };
        assert!(apply(&mut control, Command::Alerts(vec![raised])).void.is_none());
        let mut bytes = Vec::new();
        control.write_image(&mut bytes);
        assert_eq!(Control::read_image(&bytes).as_ref(), Ok(&control));
    }

    #[test]
    fn the_book_of_alerts_stands_in_the_image() {
        let mut control = Control::default();
        apply(&mut control, Command::Found(Founding { cluster: 3, seed: 7, data_shards: 2 }));
        let change = alerting::examples().swap_remove(0);
        assert_eq!(apply(&mut control, Command::Alerting(change)).void, None);
        let unknown = alerting::Change::Expire("x".into());
        assert!(apply(&mut control, Command::Alerting(unknown)).void.is_some_and(|why| why.contains("silence")));
        let mut bytes = Vec::new();
        control.write_image(&mut bytes);
        let read = Control::read_image(&bytes).unwrap();
        assert_eq!((&read, read.book.alerts().len()), (&control, 2));
    }

    #[test]
    fn an_episode_has_the_same_number_whether_its_entry_is_applied_once_or_again_from_an_image() {
        let mut control = Control::default();
        apply(&mut control, Command::Found(Founding { cluster: 3, seed: 7, data_shards: 2 }));
        let mut known = alerting::examples();
        let (Some(alerting::Change::Post(alerts)), sweep) = (known.first().cloned(), known.pop().unwrap()) else { panic!() };
        let held = alerts.iter().map(|alert| crate::model::alert::Alert { starts: 1, ends: 4, updated: 2, ..alert.clone() });
        // One that holds until its end is said: by then it is over at the shard's time.
        let mut bytes = Vec::new();
        entry::encode(2, &Entry::Command(Command::Alerting(alerting::Change::Post(held.collect()))), &mut bytes);
        let mut early = Control { founding: control.founding, ..Control::default() };
        early.apply(1, &bytes, &mut ControlEffects::default()).unwrap();
        let (mut image, before) = (Vec::new(), early.book.alerts().len());
        early.write_image(&mut image);
        let mut again = Control::read_image(&image).unwrap();
        let (first, second) = (apply(&mut early, Command::Alerting(sweep.clone())), apply(&mut again, Command::Alerting(sweep)));
        assert_eq!((before, first.closed.len(), early.book.alerts().len()), (2, 1, 1));
        assert_eq!((first.closed[0].number, first.closed[0].before, first.closed[0].episode.closed), (1, 0, 5));
        assert_eq!((&first.closed, &early), (&second.closed, &again));
        assert_eq!(early.book.ledger().totals(), (1, first.closed[0].episode.bytes()));
    }

    #[test]
    fn settings_stand_in_the_image_with_who_and_when() {
        let mut control = Control::default();
        let new = |number| Command::ClusterSettings(NewVersion { number, text: "x".into(), by: "alice".into() });
        assert!(apply(&mut control, new(2)).void.is_some());
        assert!(apply(&mut control, new(1)).void.is_none());
        let current = &control.settings.current;
        assert_eq!((current.number, &*current.text, &*current.by, current.at), (1, "x", "alice", 5));
        let mut bytes = Vec::new();
        control.write_image(&mut bytes);
        assert_eq!(Control::read_image(&bytes).as_ref(), Ok(&control));
    }
}
