//! `GET /api/v1/alerts/active`: the alerts that hold, as Alertmanager's API has them, and besides what the policies come to for each: how bad it is, whether it
//! flaps, what it waits for, whether its source is silent, who is told besides and when; and those whose end is watched, which Alertmanager's API leaves out.

use serde::Serialize;

use crate::alert::groups::outlook::Rung;
use crate::api::alerting::Policed;
use crate::api::alerting::Standing;
use crate::api::alerting::Status;
use crate::api::alertmanager::filter::Filter;
use crate::api::alertmanager::listing;
use crate::api::alertmanager::listing::Shown;
use crate::api::answer::Failure;
use crate::clock;
use crate::config::jobs;

const EXPECTED: &str = "the query takes what GET /api/v2/alerts does, and level=P1,P2 and sort=level or start";

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    filter: Filter,
    /// None: all of them.
    levels: Vec<u8>,
    /// The worst first; else the newest.
    by_level: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Active<'a> {
    #[serde(flatten)]
    alert: Shown<'a>,
    level: String,
    /// The worst that it had since it came.
    worst_level: String,
    /// Since when; null: it does not.
    flapping_since: Option<String>,
    /// Nobody is told before; null: it waits for nothing.
    waits: Option<Waits<'a>>,
    /// It is over, and that counts from then on; null: it holds.
    watched_until: Option<String>,
    /// While its end was watched.
    came_again: u64,
    /// Since when it is not said as often as it usually is; null: it is, or that is not known.
    unconfirmed_since: Option<String>,
    /// How often that is.
    usually_said_every_ms: Option<i64>,
    /// By each policy that counts for it.
    escalation: Vec<Escalation<'a>>,
}

#[derive(Serialize)]
struct Escalation<'a> {
    policy: &'a str,
    /// The step that was told last; null: none was.
    last: Option<Step<'a>>,
    /// The one that is to come; null: all were told, or somebody takes care.
    next: Option<Step<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Step<'a> {
    step: usize,
    receiver: &'a str,
    after_ms: i64,
    /// When it was told, or is to be; null: nobody was told of the alert yet.
    at: Option<String>,
}

#[derive(Serialize)]
struct Waits<'a> {
    until: String,
    why: &'a str,
}

impl Wanted {
    /// Of a query.
    pub fn of(query: &str) -> Result<Wanted, Failure> {
        let filter = Filter::of(query).map_err(|why| Failure::wrong(why, EXPECTED))?;
        let mut wanted = Wanted { filter, levels: Vec::new(), by_level: false };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let wrong = || Failure::wrong(format!("{key}={value} is not known"), EXPECTED);
            match &*key {
                "level" => {
                    for word in value.split(',') {
                        wanted.levels.push(jobs::level(&word.to_ascii_uppercase()).map_err(|_| wrong())?);
                    }
                }
                "sort" if value == "level" => wanted.by_level = true,
                "sort" if value == "start" => wanted.by_level = false,
                "sort" => return Err(wrong()),
                _ => {}
            }
        }
        Ok(wanted)
    }

    /// Whether labels of receivers are asked for.
    pub fn asks_receivers(&self) -> bool {
        self.filter.asks_receivers()
    }
}

/// The list as JSON.
pub fn list(standing: &[Standing], wanted: &Wanted, status: &Status) -> serde_json::Result<Vec<u8>> {
    let fit = |shown: &Shown<'_>| wanted.levels.is_empty() || wanted.levels.contains(&shown.one().policed.level);
    let mut all: Vec<Shown<'_>> = listing::alerts(standing, &wanted.filter, status, true).into_iter().filter(fit).collect();
    all.sort_by_key(|shown| {
        let one = shown.one();
        (if wanted.by_level { one.policed.level } else { 0 }, std::cmp::Reverse(one.alert.starts), one.fingerprint)
    });
    serde_json::to_vec(&all.into_iter().map(active).collect::<Vec<_>>())
}

fn active(alert: Shown<'_>) -> Active<'_> {
    let Policed { level, worst, flaps, waits, watched, again, unconfirmed, escalation } = &alert.one().policed;
    Active {
        level: format!("P{level}"),
        worst_level: format!("P{worst}"),
        flapping_since: flaps.map(clock::rfc3339),
        waits: waits.as_ref().map(|(until, why)| Waits { until: clock::rfc3339(*until), why }),
        watched_until: watched.map(clock::rfc3339),
        came_again: *again,
        unconfirmed_since: unconfirmed.map(|(since, _)| clock::rfc3339(since)),
        usually_said_every_ms: unconfirmed.map(|(_, every)| every),
        escalation: escalation
            .iter()
            .map(|one| Escalation { policy: &one.policy, last: one.last.as_ref().map(step), next: one.next.as_ref().map(step) })
            .collect(),
        alert,
    }
}

fn step(rung: &Rung) -> Step<'_> {
    Step { step: rung.step, receiver: &rung.receiver, after_ms: rung.after, at: rung.at.map(clock::rfc3339) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_or_refused_with_what_is_expected() {
        let read = Wanted::of("filter=team%3D%22db%22&level=p1,P3&sort=level").unwrap();
        assert_eq!((read.levels.as_slice(), read.by_level, read.filter.matchers.len()), ([1, 3].as_slice(), true, 1));
        for query in ["level=P6", "level=", "sort=name", "filter=x"] {
            assert!(Wanted::of(query).is_err(), "{query}");
        }
    }
}
