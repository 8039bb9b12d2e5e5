//! What the API asks of alerts: posting, listing, silences, acknowledging, as this node sees the book.
//!
//! What is posted is compared with the book first, so that what says nothing new costs no entry. Left out on purpose: JSON (`api`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::book;
use crate::alert::book::Kept;
use crate::alert::book::Longer;
use crate::alert::book::UNKNOWN_ALERT;
use crate::alert::book::UNKNOWN_SILENCE;
use crate::alert::groups::Groups;
use crate::alert::silence::Silence;
use crate::api::alerting::Acknowledged;
use crate::api::alerting::Alerting as Asked;
use crate::api::alerting::Group;
use crate::api::alerting::Past;
use crate::api::alerting::Policed;
use crate::api::alerting::Preview;
use crate::api::alerting::Previewed;
use crate::api::alerting::Receiver;
use crate::api::alerting::Receiving;
use crate::api::alerting::Refused;
use crate::api::alerting::Rehearsal;
use crate::api::alerting::Rehearsing;
use crate::api::alerting::Standing;
use crate::api::alerting::State;
use crate::api::alerting::Status;
use crate::api::alerting::Wanted;
use crate::api::deps::Later;
use crate::app::alerting::Alerting;
use crate::app::alerting::Current;
use crate::app::alerting::agreed;
use crate::app::alerting::history;
use crate::app::alerting::rehearse;
use crate::config::alerting;
use crate::config::inputs::Input;
use crate::model::ShardId;
use crate::model::alert::Alert;
use crate::model::labels::Labels;
use crate::node::offer::ProposeError;
use crate::notify::preview;
use crate::shard::alerting::Change;
use crate::shard::command::Command;

/// Alerts of one entry,
const AN_ENTRY: usize = 2_000;
/// and their bytes.
const ENTRY_BYTES: usize = 1 << 20;

/// The state of alerts with what the settings say now.
pub struct View {
    pub(super) alerting: Arc<Alerting>,
    pub(super) current: Arc<Current>,
}

fn refused(error: ProposeError) -> Refused {
    match error {
        ProposeError::Void(why) if why == UNKNOWN_ALERT || why == UNKNOWN_SILENCE => Refused::Unknown,
        ProposeError::Void(why) => Refused::Wrong(why),
        other => Refused::Later(other.to_string()),
    }
}

fn size(alert: &Alert) -> usize {
    alert.labels.packed().len() + alert.annotations.packed().len() + alert.generator.len() + 64
}

impl Alerting {
    /// Proposes what is new of words about alerts; resolves when a majority has it.
    pub(super) async fn post(&self, words: Vec<Alert>) -> Result<(), Refused> {
        let (seed, now) = (self.node.hash_seed(), self.now());
        let whole = words.clone();
        let (mut new, longer) = self.node.with_book(|book| book.news(seed, words, now));
        if !longer.is_empty() {
            let ids: BTreeSet<u64> = longer.iter().flat_map(|longer: &Longer| longer.ids.iter().copied()).collect();
            match self.change(Change::Longer(longer)).await {
                Ok(()) => {}
                // Some are over by now, or forgotten, where the book is younger than here.
                Err(Refused::Unknown) => new.extend(whole.into_iter().filter(|word| ids.contains(&book::id(seed, &word.labels)))),
                Err(other) => return Err(other),
            }
        }
        let (mut entry, mut bytes, mut full) = (Vec::new(), 0, Ok(()));
        let mut rest = new.into_iter().peekable();
        while let Some(word) = rest.next() {
            bytes += size(&word);
            entry.push(word);
            if entry.len() >= AN_ENTRY || bytes >= ENTRY_BYTES || rest.peek().is_none() {
                bytes = 0;
                match self.change(Change::Post(std::mem::take(&mut entry))).await {
                    // What fits was taken.
                    Err(Refused::Wrong(why)) => full = Err(Refused::Full(why)),
                    other => other?,
                }
            }
        }
        full
    }

    /// Proposes a change; it is seen here when this resolves.
    async fn change(&self, change: Change) -> Result<(), Refused> {
        self.node.propose(ShardId::CONTROL, Command::Alerting(change)).await.map(drop).map_err(refused)
    }
}

fn fingerprints(groups: &Groups, ids: &[u64]) -> Arc<[String]> {
    let mut shown: Vec<String> =
        ids.iter().filter_map(|id| groups.book().alerts().get(*id)).map(|kept| format!("{:016x}", kept.alert.fingerprint())).collect();
    shown.sort_unstable();
    shared(shown)
}

/// Receivers, and what mutes all of them.
type Ways = (Arc<[String]>, Arc<[String]>);

/// Says how alerts stand, one after another, at one time.
struct Looking<'g> {
    groups: &'g Groups,
    now: i64,
    /// What alerts of the same groups have in common: whom they go to, and what mutes them.
    ways: BTreeMap<&'g [u64], Ways>,
}

impl<'g> Looking<'g> {
    fn at(groups: &'g Groups, now: i64) -> Looking<'g> {
        Looking { groups, now, ways: BTreeMap::new() }
    }

    fn ways(&mut self, id: u64) -> Ways {
        let (groups, now, of) = (self.groups, self.now, self.groups.of(id));
        let made = || {
            let ways = groups.ways(of, now);
            (ways.receivers.into(), shared(ways.muted_by))
        };
        self.ways.entry(of).or_insert_with(made).clone()
    }

    fn standing(&mut self, id: u64, kept: &Kept) -> Standing {
        let ways = self.ways(id);
        standing(self.groups, (id, kept), ways, self.now)
    }
}

/// Nothing takes no memory.
fn shared(texts: Vec<String>) -> Arc<[String]> {
    if texts.is_empty() { Arc::default() } else { texts.into() }
}

fn standing(groups: &Groups, (id, kept): (u64, &Kept), (receivers, muted_by): Ways, now: i64) -> Standing {
    let how = groups.standing(id, kept, now);
    let policed = Policed { escalation: groups.escalations(id, kept, now), ..agreed::policed(groups.book(), kept, &how, now) };
    // As Alertmanager's clients show what keeps an alert back.
    let maintained = how.maintained_by.iter().map(|name| format!("maintenance:{name}"));
    let muted_by = if how.maintained_by.is_empty() { muted_by } else { muted_by.iter().cloned().chain(maintained).collect() };
    let suppressed = !(how.silenced_by.is_empty() && how.inhibited_by.is_empty() && muted_by.is_empty());
    let acknowledged = kept
        .acknowledged
        .as_ref()
        .map(|known| Arc::new(Acknowledged { by: known.by.clone(), comment: known.comment.clone(), at: known.at }));
    Standing {
        alert: kept.alert.clone(),
        fingerprint: kept.alert.fingerprint(),
        state: match suppressed {
            true => State::Suppressed,
            false if policed.waits.is_some() => State::Unprocessed,
            false => State::Active,
        },
        silenced_by: shared(how.silenced_by),
        inhibited_by: fingerprints(groups, &how.inhibited_by),
        muted_by,
        receivers,
        acknowledged,
        policed,
    }
}

/// A UUID of version 4.
fn uuid() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | 4 << 76 | 2 << 62;
    let text = format!("{bits:032x}");
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

impl Asked for View {
    fn post(&self, alerts: Vec<Alert>) -> Later<'_, Result<(), Refused>> {
        Box::pin(self.alerting.post(alerts))
    }

    fn alerts(&self, now: i64) -> Vec<Standing> {
        let mut all: Vec<Standing> = self.alerting.with_groups(&self.current, |groups| {
            let (held, mut looking) = (groups.book().alerts().iter().filter(|(_, kept)| !kept.is_closed(now)), Looking::at(groups, now));
            held.map(|(id, kept)| looking.standing(id, kept)).collect()
        });
        all.sort_by_key(|standing| standing.fingerprint);
        all
    }

    fn groups(&self, now: i64) -> Vec<Group> {
        self.alerting.with_groups(&self.current, |groups| {
            let (mut known, mut looking) = (BTreeMap::<u64, Standing>::new(), Looking::at(groups, now));
            let mut all = Vec::new();
            for (route, key, labels, ids) in groups.all() {
                let mut alerts = Vec::new();
                groups.book().alerts().fetch(&ids.iter().copied().collect::<Vec<u64>>());
                for id in ids {
                    let Some(kept) = groups.book().alerts().get(*id).filter(|kept| !kept.alert.is_over(now)) else { continue };
                    alerts.push(match groups.of(*id).len() {
                        // Most are of one group: nothing is kept for another.
                        0 | 1 => looking.standing(*id, kept),
                        _ => known.entry(*id).or_insert_with(|| looking.standing(*id, kept)).clone(),
                    });
                }
                if !alerts.is_empty() {
                    let muted: Vec<String> = groups.plan().routing().muted_by(route, now).map(str::to_owned).into_iter().collect();
                    all.push(Group {
                        labels: labels.clone(),
                        route_labels: Labels::new(),
                        key: key.to_owned(),
                        receiver: route.receiver.clone(),
                        muted_by: muted.into(),
                        alerts,
                    });
                }
            }
            all
        })
    }

    fn known(&self, labels: &Labels) -> Option<Alert> {
        let (node, id) = (&self.alerting.node, book::id(self.alerting.node.hash_seed(), labels));
        node.book().alerts().get(id).map(|kept| kept.alert.clone())
    }

    fn silences(&self) -> Vec<Arc<Silence>> {
        self.alerting.node.book().silences().values().cloned().collect()
    }

    fn silence(&self, mut silence: Silence) -> Later<'_, Result<String, Refused>> {
        let id = uuid();
        let changes = Some(std::mem::replace(&mut silence.id, id.clone())).filter(|id| !id.is_empty());
        Box::pin(async move {
            self.alerting.change(Change::Silence { silence, changes: changes.clone() }).await?;
            // Changed in place where no other one is there.
            let made = self.alerting.node.book().silences().contains_key(&id);
            Ok(changes.filter(|_| !made).unwrap_or(id))
        })
    }

    fn expire<'a>(&'a self, id: &'a str) -> Later<'a, Result<(), Refused>> {
        Box::pin(self.alerting.change(Change::Expire(id.to_owned())))
    }

    fn acknowledge(&self, fingerprint: u64, acknowledged: Acknowledged) -> Later<'_, Result<(), Refused>> {
        Box::pin(async move {
            let book = self.alerting.node.book();
            let found = book.alerts().iter().find(|(_, kept)| kept.alert.fingerprint() == fingerprint).map(|(id, _)| id);
            let Acknowledged { by, comment, at } = acknowledged;
            let change = Change::Acknowledge { id: found.ok_or(Refused::Unknown)?, acknowledged: book::Acknowledged { by, comment, at } };
            self.alerting.change(change).await
        })
    }

    fn history(&self, wanted: Wanted) -> Later<'_, Result<Past, Refused>> {
        Box::pin(history::read(self.alerting.node.clone(), wanted, self.alerting.now()))
    }

    fn rehearse(&self, asked: Rehearsal) -> Result<String, Refused> {
        rehearse::begin(self, asked)
    }

    fn rehearsed(&self, id: &str) -> Result<Rehearsing, Refused> {
        rehearse::look(self, id)
    }

    fn receivers(&self, now: i64) -> (Vec<Receiving>, bool) {
        (self.alerting.receivers(&self.current, now), self.alerting.node.leads_control())
    }

    fn status(&self) -> Status {
        let written = &self.current.written;
        let receivers = written.routing.iter().flat_map(|routing| &routing.receivers);
        let (node, name) = (&self.alerting.node, self.alerting.name.clone());
        let peers = match &self.alerting.seen {
            Some(seen) => seen.places(),
            None => vec![(name.clone(), self.alerting.sender.trim_start_matches("http://").to_owned())],
        };
        Status {
            original: alerting::shown(&written.text),
            receivers: receivers.map(|receiver| Receiver { name: receiver.name.clone(), labels: Labels::new() }).collect(),
            peers,
            name,
            ready: node.progress(ShardId::CONTROL).borrow().leader != 0,
        }
    }

    fn preview(&self, asked: Preview) -> Result<Vec<Previewed>, Refused> {
        let Preview { receiver, labels, annotations, resolved, text, at } = asked;
        let written = &self.current.written;
        let receivers = written.routing.iter().flat_map(|routing| &routing.receivers);
        let found = receivers.into_iter().find(|one| one.name == receiver).ok_or(Refused::Unknown)?;
        let external = written.external.as_deref().unwrap_or(&self.alerting.sender);
        let message = preview::message(&labels, annotations, &receiver, (resolved, at));
        if let Some(text) = text {
            let text = preview::text(&text, &message, external).map_err(Refused::Wrong)?;
            return Ok(vec![Previewed { key: "text".to_owned(), text, instead: None }]);
        }
        let shown = preview::shown(found, &message, external).into_iter();
        Ok(shown.map(|one| Previewed { key: one.key, text: one.text, instead: one.instead }).collect())
    }

    fn inputs(&self) -> Arc<[Input]> {
        Arc::clone(&self.current.inputs)
    }

    fn noted_until(&self) -> i64 {
        self.alerting.now()
    }

    fn classic_names(&self) -> bool {
        self.current.written.compat.classic_names
    }

    fn pages(&self) -> &[String] {
        &self.current.written.pages
    }

    fn stale_after(&self) -> Option<Duration> {
        self.current.written.policies.stale
    }

    fn resolve_timeout(&self) -> Duration {
        self.current.written.routing.as_ref().map_or(Duration::from_secs(300), |routing| routing.resolve_timeout)
    }
}
