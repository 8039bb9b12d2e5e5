//! `GET /api/v1/alerts/history`: alerts that are over, the latest first, with who was told when, and who took care after how long.

use serde::Serialize;

use crate::alert::episode::Episode;
use crate::alert::matcher;
use crate::api::alerting::Refused;
use crate::api::alerting::Wanted;
use crate::api::alertmanager;
use crate::api::answer::Failure;
use crate::api::deps::Deps;
use crate::clock;
use crate::model::labels::Labels;

/// Episodes of an answer unless the query says otherwise,
const LIMIT: usize = 100;
/// and at most.
const MOST: usize = 10_000;
const EXPECTED: &str =
    "the query takes filter=MATCHER (several times), from= and to= (RFC 3339, or ms since 1970), limit=1 to 10000, before=NUMBER";

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    episodes: Vec<Shown>,
    /// So many are not at this node: another one may have them.
    missing: u64,
    /// For `before=`: there may be more.
    next: Option<u64>,
}

/// The contract of a record; another number where a field changes its meaning or goes.
const RECORD: &str = "alert-episode/1";

/// An episode.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    number: Option<u64>,
    fingerprint: String,
    /// The worst that it had.
    level: String,
    level_at_end: String,
    labels: Labels,
    annotations: Labels,
    #[serde(rename = "generatorURL")]
    generator: String,
    starts_at: String,
    ends_at: String,
    lasted_ms: i64,
    /// `timeout`: nobody said that it is over, and nobody said any more that it holds.
    ended_by: &'static str,
    /// While its end was watched.
    came_again: u64,
    told: Vec<Told>,
    silenced_by: Option<String>,
    acknowledged: Option<Acknowledged>,
}

/// A receiver that was told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    receiver: String,
    at: String,
    over_at: Option<String>,
    /// By a digest alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    digest: bool,
}

/// Who took care.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Acknowledged {
    by: String,
    comment: String,
    at: String,
    after_ms: i64,
}

/// An episode as a record for whoever keeps reports: what `GET /api/v1/alerts/history` says of it, with its number and when it was closed.
pub fn record(number: u64, episode: Episode) -> serde_json::Value {
    let closed = clock::rfc3339(episode.closed);
    let mut record = serde_json::to_value(Shown::of((Some(number), episode))).unwrap_or_default();
    record["row"] = RECORD.into();
    record["closedAt"] = closed.into();
    record
}

impl Shown {
    fn of((number, episode): (Option<u64>, Episode)) -> Shown {
        let Episode { alert, came, acknowledged, told, silenced, level, level_at_end, again, .. } = episode;
        let starts = alert.starts.min(came);
        let acknowledged = acknowledged.map(|known| Acknowledged {
            by: known.by.clone(),
            comment: known.comment.clone(),
            at: clock::rfc3339(known.at),
            after_ms: (known.at - starts).max(0),
        });
        let told = told.into_iter().map(|telling| Told {
            receiver: telling.receiver.to_string(),
            at: clock::rfc3339(telling.at),
            over_at: (telling.over > 0).then(|| clock::rfc3339(telling.over)),
            digest: telling.digest,
        });
        Shown {
            number,
            fingerprint: format!("{:016x}", alert.fingerprint()),
            level: format!("P{level}"),
            level_at_end: format!("P{level_at_end}"),
            came_again: again,
            ended_by: if alert.is_unconfirmed() { "timeout" } else { "source" },
            starts_at: clock::rfc3339(starts),
            ends_at: clock::rfc3339(alert.ends),
            lasted_ms: (alert.ends - starts).max(0),
            told: told.collect(),
            silenced_by: Some(silenced).filter(|id| !id.is_empty()),
            acknowledged,
            labels: Labels::clone(&alert.labels),
            annotations: Labels::clone(&alert.annotations),
            generator: alert.generator.to_string(),
        }
    }
}

fn moment(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| clock::from_rfc3339(text))
}

fn wanted(query: &str) -> Result<Wanted, Failure> {
    let mut wanted = Wanted { to: i64::MAX, limit: LIMIT, ..Wanted::default() };
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let wrong = |why: &str| Failure::wrong(format!("{key}={value} {why}"), EXPECTED);
        match &*key {
            "filter" => wanted.matchers.push(matcher::one(&value).map_err(|why| wrong(&format!("is no matcher: {why}")))?),
            "from" => wanted.from = moment(&value).ok_or_else(|| wrong("is no time"))?,
            "to" => wanted.to = moment(&value).ok_or_else(|| wrong("is no time"))?,
            "limit" => {
                let number = value.parse().ok().filter(|number| (1..=MOST).contains(number));
                wanted.limit = number.ok_or_else(|| wrong("is no number in range"))?;
            }
            "before" => wanted.before = Some(value.parse().map_err(|_| wrong("is no number"))?),
            _ => return Err(wrong("is not known")),
        }
    }
    Ok(wanted)
}

/// Answers.
pub(super) async fn history(deps: &Deps, query: &str) -> Result<History, Failure> {
    let state = (deps.alerting)().map_err(alertmanager::off)?;
    let past = state.history(wanted(query)?).await.map_err(|refused| {
        let why = match refused {
            Refused::Wrong(why) | Refused::Full(why) | Refused::Later(why) => why,
            Refused::Unknown => "the history cannot be read".to_owned(),
        };
        Failure::new(hyper::StatusCode::SERVICE_UNAVAILABLE, "later", why, "try again, or ask another node")
    })?;
    Ok(History { episodes: past.episodes.into_iter().map(Shown::of).collect(), missing: past.missing, next: past.next })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::alert::book;
    use crate::alert::episode::Telling;
    use crate::model::alert::Alert;

    #[test]
    fn queries_are_read_or_refused_with_what_is_expected() {
        let read = wanted("filter=team%3D%22db%22&from=1970-01-01T00:00:05Z&to=9000&limit=7&before=12").unwrap();
        assert_eq!((read.matchers.len(), read.from, read.to, read.limit, read.before), (1, 5_000, 9_000, 7, Some(12)));
        for query in ["filter=~", "from=yesterday", "limit=0", "limit=10001", "before=x", "x=1"] {
            assert!(wanted(query).is_err(), "{query}");
        }
    }

    #[test]
    fn an_episode_says_who_was_told_and_after_how_long_somebody_took_care() {
        let labels = Labels::from([("alertname", "X"), ("severity", "critical")]);
        let alert = Alert { labels, starts: 1_000, ends: 61_000, ..Alert::default() };
        let acknowledged = Some(Arc::new(book::Acknowledged { by: "ann".into(), comment: String::new(), at: 31_000 }));
        let told = vec![
            Telling { receiver: "db".into(), at: 2_000, over: 62_000, digest: false },
            Telling { receiver: "all".into(), at: 3_000, over: 0, digest: true },
        ];
        let episode =
            Episode { alert, came: 1_500, closed: 70_000, acknowledged, told, level: 1, level_at_end: 3, again: 2, ..Episode::default() };
        let record = record(3, episode.clone());
        assert_eq!(
            (&record["row"], &record["number"], &record["closedAt"]),
            (&RECORD.into(), &3.into(), &"1970-01-01T00:01:10.000Z".into())
        );
        let shown = serde_json::to_value(Shown::of((Some(3), episode))).unwrap();
        assert_eq!(
            (&shown["level"], &shown["levelAtEnd"], &shown["lastedMs"], &shown["acknowledged"]["afterMs"]),
            (&"P1".into(), &"P3".into(), &60_000.into(), &30_000.into())
        );
        assert_eq!(
            (&shown["told"][0]["overAt"], &shown["told"][1]["overAt"]),
            (&"1970-01-01T00:01:02.000Z".into(), &serde_json::Value::Null)
        );
        assert_eq!((&shown["told"][0]["digest"], &shown["told"][1]["digest"]), (&serde_json::Value::Null, &true.into()));
        assert_eq!(shown["silencedBy"], serde_json::Value::Null);
        // Its last word is of 1970, and its end of later: nobody said that it is over.
        assert_eq!((&shown["endedBy"], &shown["cameAgain"]), (&"timeout".into(), &2.into()));
    }
}
