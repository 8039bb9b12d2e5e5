//! `sluice alert`: the alerts that hold, one of them in full, that somebody takes care, and one to try the way with.

use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;

use crate::alert::matcher;
use crate::alert::matcher::Matcher;
use crate::alert::matcher::Op;
use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::client::segment;
use crate::cli::episodes;
use crate::cli::receivers;
use crate::cli::rehearsal;
use crate::cli::table::Table;
use crate::cli::table::cell;
use crate::cli::table::span;
use crate::clock;
use crate::config::values;
use crate::model::alert::fingerprint;
use crate::model::labels::Labels;

/// Alerts that hold.
const ACTIVE: &str = "/api/v1/alerts/active";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Alerts that hold, the newest first: since when, whether they are told, whom they go to.
    List(List),
    /// Alerts that are over, the latest first: how long they lasted, who was told, who took care.
    History(episodes::History),
    /// One alert in full: labels, annotations, times, what keeps it from being told.
    Show {
        /// Its fingerprint, or the beginning of it.
        fingerprint: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Say that somebody takes care of alerts.
    Ack {
        /// Their fingerprints, or the beginnings of them.
        #[arg(required = true)]
        fingerprints: Vec<String>,
        /// What you say to it.
        #[arg(long, default_value = "")]
        comment: String,
        /// Who takes care; the name of your token if nothing is said.
        #[arg(long, default_value = "")]
        by: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// What receivers are not told yet: messages on their way, what their windows hold and until when, bundles, storms.
    Receivers(receivers::Receivers),
    /// What would have been told within the last days with other policies, of the history; nothing is told, nothing changes.
    DryRun(rehearsal::DryRun),
    /// Send an alert that means nothing, to see where it goes.
    SendTest(SendTest),
}

/// `sluice alert list`.
#[derive(Debug, Args)]
pub struct List {
    /// Only those that fit all of them: `team=db`, `severity=~"critical|page"`; a word alone is the alert's name.
    #[arg(value_name = "MATCHER")]
    matchers: Vec<String>,
    /// Only those that go to a receiver of this name, a regular expression.
    #[arg(long, value_name = "NAME")]
    receiver: Option<String>,
    /// Only those that are told: neither silenced nor inhibited.
    #[arg(long)]
    active: bool,
    /// Only those of these levels: `P1,P2`.
    #[arg(long, value_name = "LEVELS")]
    level: Option<String>,
    /// The newest first, or the worst first.
    #[arg(long, value_name = "BY", default_value = "start", value_parser = ["start", "level"])]
    sort: String,
    #[command(flatten)]
    asked: Asked,
}

/// `sluice alert send-test`.
#[derive(Debug, Args)]
pub struct SendTest {
    /// Its labels; without any it is alertname=SluiceTest severity=info.
    #[arg(value_name = "LABEL=VALUE")]
    labels: Vec<String>,
    /// So long it holds.
    #[arg(long = "for", value_name = "TIME", default_value = "5m", value_parser = time)]
    lasts: Duration,
    /// It is over now.
    #[arg(long)]
    resolved: bool,
    /// An annotation; may be said several times.
    #[arg(long = "annotation", value_name = "NAME=TEXT")]
    annotations: Vec<String>,
    #[command(flatten)]
    asked: Asked,
}

/// A time span.
pub fn time(text: &str) -> Result<Duration, String> {
    values::duration(text).map_err(|(rule, remedy)| format!("{rule}, {remedy}"))
}

/// Does it.
pub async fn carry_out(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(asked) => list(&asked).await,
        Verb::History(asked) => episodes::show(&asked).await,
        Verb::Receivers(asked) => receivers::show(&asked).await,
        Verb::DryRun(asked) => rehearsal::show(&asked).await,
        Verb::Show { fingerprint, asked } => {
            let alert = find(&asked, &fingerprint).await?;
            if asked.json {
                println!("{alert:#}");
            } else {
                print!("{}", full(&alert));
            }
            Ok(())
        }
        Verb::Ack { fingerprints, comment, by, asked } => {
            let mut done = Vec::new();
            for fingerprint in &fingerprints {
                let alert = find(&asked, fingerprint).await?;
                let path = format!("/api/v1/alerts/{}/ack", segment(&cell(&alert["fingerprint"])));
                done.push(asked.client().post(&path, &json!({ "by": by, "comment": comment })).await?);
            }
            if asked.json {
                println!("{:#}", Value::from(done));
            } else {
                done.iter().for_each(|one| println!("{}", cell(&one["done"])));
            }
            Ok(())
        }
        Verb::SendTest(test) => send_test(&test).await,
    }
}

/// Filters of the API: each matcher of each text; a word without a sign is the alert's name.
pub fn filters(texts: &[String]) -> Result<Vec<String>, Failure> {
    let mut query = Vec::new();
    for matcher in matchers(texts)? {
        query.push(format!("filter={}", segment(&matcher.to_string())));
    }
    Ok(query)
}

/// What texts mean, one after the other.
pub fn matchers(texts: &[String]) -> Result<Vec<Matcher>, Failure> {
    let mut all = Vec::new();
    for text in texts {
        let plain = !text.contains(['=', '~', '{']);
        let read = match plain {
            true => Matcher::new("alertname", Op::Equal, text.as_str()).map(|one| vec![one]),
            false => matcher::read(text).map(|read| read.matchers),
        };
        all.extend(
            read.map_err(|why| Failure::Wrong(format!("`{text}` is no matcher: {why}\n  write name=\"value\", with =, !=, =~ or !~")))?,
        );
    }
    Ok(all)
}

async fn list(asked: &List) -> Result<(), Failure> {
    let mut query = filters(&asked.matchers)?;
    query.extend(asked.receiver.iter().map(|name| format!("receiver={}", segment(name))));
    if asked.active {
        query.push("silenced=false&inhibited=false".to_owned());
    }
    query.extend(asked.level.iter().map(|levels| format!("level={}", segment(levels))));
    query.push(format!("sort={}", asked.sort));
    let answer = asked.asked.client().get(&format!("{ACTIVE}?{}", query.join("&"))).await?;
    if asked.asked.json {
        println!("{answer:#}");
    } else {
        print!("{}", table(&answer, clock::wall_ms()));
    }
    Ok(())
}

/// Milliseconds since 1970 of a time in JSON.
pub fn moment(value: &Value) -> Option<i64> {
    value.as_str().and_then(clock::from_rfc3339)
}

/// Words with commas between them.
pub fn words(list: &Value, of: impl Fn(&Value) -> String) -> String {
    let words: Vec<String> = list.as_array().into_iter().flatten().map(of).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

fn table(answer: &Value, now: i64) -> String {
    let mut headings = vec!["FINGERPRINT", "ALERT", "LEVEL", "STATE", "FOR", "RECEIVERS", "LABELS"];
    let escalates = |alert: &Value| alert["escalation"].as_array().is_some_and(|all| !all.is_empty());
    let steps = answer.as_array().into_iter().flatten().any(escalates);
    if steps {
        headings.insert(6, "NEXT STEP");
    }
    let mut table = Table::new(&headings);
    for alert in answer.as_array().into_iter().flatten() {
        let since = moment(&alert["startsAt"]).map_or(Value::Null, |at| Value::from((now - at).max(0)));
        let state = match (&*cell(&alert["status"]["state"]), &alert["acknowledged"]["by"]) {
            ("suppressed", _) => stopped(&alert["status"]),
            _ if alert["flappingSince"].is_string() => "flapping".to_owned(),
            _ if alert["watchedUntil"].is_string() => "over, watched".to_owned(),
            ("active", Value::String(by)) => format!("taken by {by}"),
            _ if alert["waits"].is_object() => "waits".to_owned(),
            (state, _) => state.to_owned(),
        };
        let state = if alert["unconfirmedSince"].is_string() { format!("{state}, unconfirmed") } else { state };
        let mut row = vec![
            cell(&alert["fingerprint"]),
            cell(&alert["labels"]["alertname"]),
            cell(&alert["level"]),
            state,
            span(&since),
            words(&alert["receivers"], |receiver| cell(&receiver["name"])),
            labels(&alert["labels"], &["alertname"]),
        ];
        if steps {
            row.insert(6, next_step(&alert["escalation"], now));
        }
        table.row(row);
    }
    table.text("no alert; `sluice alert send-test` sends one")
}

/// Who is told next, and in how long.
fn next_step(escalation: &Value, now: i64) -> String {
    let next = escalation.as_array().into_iter().flatten().map(|one| &one["next"]).filter(|next| next.is_object());
    let Some(next) = next.min_by_key(|next| moment(&next["at"]).unwrap_or(i64::MAX)) else { return "-".to_owned() };
    let receiver = cell(&next["receiver"]);
    match moment(&next["at"]) {
        Some(at) if at > now => format!("{receiver} in {}", span(&Value::from(at - now))),
        Some(_) => format!("{receiver} is due"),
        None => format!("{receiver} {} after the first", span(&next["afterMs"])),
    }
}

/// An alert's way through a policy of escalation.
fn steps(one: &Value) -> String {
    let step = |step: &Value| format!("step {} ({})", cell(&step["step"]), cell(&step["receiver"]));
    let last = match &one["last"] {
        Value::Null => "nobody is told besides yet".to_owned(),
        last => format!("{} was told {}", step(last), cell(&last["at"])),
    };
    let next = match &one["next"] {
        Value::Null => "no step is to come".to_owned(),
        next if next["at"].is_null() => format!("{} {} after somebody is told", step(next), span(&next["afterMs"])),
        next => format!("{} is due {}", step(next), cell(&next["at"])),
    };
    format!("{}: {last}; {next}", cell(&one["policy"]))
}

/// What keeps an alert from being told, in a word.
fn stopped(status: &Value) -> String {
    let some = |key: &str| status[key].as_array().is_some_and(|list| !list.is_empty());
    let by = [("silencedBy", "silenced"), ("inhibitedBy", "inhibited"), ("mutedBy", "muted")];
    by.into_iter().find(|(key, _)| some(key)).map_or("suppressed", |(_, word)| word).to_owned()
}

/// `a=b c=d`, without those that stand elsewhere.
pub fn labels(labels: &Value, without: &[&str]) -> String {
    let pairs = labels.as_object().into_iter().flatten().filter(|(name, _)| !without.contains(&name.as_str()));
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", cell(value))).collect();
    if pairs.is_empty() { "-".to_owned() } else { pairs.join(" ") }
}

fn full(alert: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        if value != "-" && !value.is_empty() {
            out.push_str(&format!("{name:<14}{value}\n"));
        }
    };
    line("fingerprint", cell(&alert["fingerprint"]));
    match (cell(&alert["level"]), cell(&alert["worstLevel"])) {
        (level, worst) if worst == "-" || worst == level => line("level", level),
        (level, worst) => line("level", format!("{level}; it was {worst} at its worst")),
    }
    line("state", cell(&alert["status"]["state"]));
    if alert["waits"].is_object() {
        line("waits until", format!("{}: {}", cell(&alert["waits"]["until"]), cell(&alert["waits"]["why"])));
    }
    if alert["flappingSince"].is_string() {
        line("flapping", format!("since {}; nothing more is told until it is calm", cell(&alert["flappingSince"])));
    }
    if alert["watchedUntil"].is_string() {
        line("over", format!("told at {} unless it comes again before", cell(&alert["watchedUntil"])));
    }
    if alert["cameAgain"].as_u64().is_some_and(|times| times > 0) {
        line("came again", format!("{} times", cell(&alert["cameAgain"])));
    }
    line("silenced by", words(&alert["status"]["silencedBy"], cell));
    line("inhibited by", words(&alert["status"]["inhibitedBy"], cell));
    line("muted by", words(&alert["status"]["mutedBy"], cell));
    if let Some(taken) = alert["acknowledged"].as_object() {
        let said =
            taken.get("comment").map(cell).filter(|comment| comment != "-").map(|comment| format!(": {comment}")).unwrap_or_default();
        line("taken by", format!("{}, {}{said}", cell(&alert["acknowledged"]["by"]), cell(&alert["acknowledged"]["at"])));
    }
    for one in alert["escalation"].as_array().into_iter().flatten() {
        line("escalation", steps(one));
    }
    line("since", cell(&alert["startsAt"]));
    match alert["watchedUntil"].is_string() {
        true => line("until", cell(&alert["endsAt"])),
        false => line("until", format!("{} unless it is said again", cell(&alert["endsAt"]))),
    }
    line("last said", cell(&alert["updatedAt"]));
    if alert["unconfirmedSince"].is_string() {
        let every = span(&alert["usuallySaidEveryMs"]);
        line("unconfirmed", format!("since {}: it is usually said every {every}, and was not twice", cell(&alert["unconfirmedSince"])));
    }
    line("receivers", words(&alert["receivers"], |receiver| cell(&receiver["name"])));
    line("from", cell(&alert["generatorURL"]));
    for (heading, key) in [("labels", "labels"), ("annotations", "annotations")] {
        for (number, (name, value)) in alert[key].as_object().into_iter().flatten().enumerate() {
            line(if number == 0 { heading } else { "" }, format!("{name} = {}", cell(value).replace('\n', "\n    ")));
        }
    }
    out
}

/// The one alert whose fingerprint begins so.
async fn find(asked: &Asked, fingerprint: &str) -> Result<Value, Failure> {
    let answer = asked.client().get(ACTIVE).await?;
    let begins = |alert: &&Value| alert["fingerprint"].as_str().is_some_and(|whole| whole.starts_with(&fingerprint.to_ascii_lowercase()));
    let mut found = answer.as_array().into_iter().flatten().filter(begins);
    match (found.next(), found.next()) {
        (Some(alert), None) => Ok(alert.clone()),
        (Some(_), Some(_)) => Err(Failure::Failed(format!("`{fingerprint}` is the beginning of several fingerprints\n  write more of it"))),
        (None, _) => {
            Err(Failure::Failed(format!("no alert that holds has the fingerprint `{fingerprint}`\n  `sluice alert list` shows them")))
        }
    }
}

/// `name=value` pairs.
fn pairs(texts: &[String]) -> Result<Labels, Failure> {
    fn pair(text: &String) -> Result<(&str, &str), Failure> {
        let (name, value) = text.split_once('=').ok_or_else(|| Failure::Wrong(format!("`{text}` is no label; write NAME=VALUE")))?;
        Ok((name, value))
    }
    texts.iter().map(pair).collect()
}

async fn send_test(test: &SendTest) -> Result<(), Failure> {
    let mut labels = pairs(&test.labels)?.or("alertname", "SluiceTest");
    if test.labels.is_empty() {
        labels = labels.with("severity", "info");
    }
    let labels = labels.said();
    let annotations = pairs(&test.annotations)?.or("summary", "A test; nothing is wrong.");
    let now = clock::wall_ms();
    let lasts = if test.resolved { 0 } else { i64::try_from(test.lasts.as_millis()).unwrap_or(0) };
    let mut alert = json!({ "labels": labels, "annotations": annotations, "endsAt": clock::rfc3339(now.saturating_add(lasts)) });
    if !test.resolved {
        alert["startsAt"] = clock::rfc3339(now).into();
    }
    test.asked.client().post("/api/v2/alerts", &json!([alert])).await?;
    let print = format!("{:016x}", fingerprint(&labels));
    if test.asked.json {
        alert["fingerprint"] = print.into();
        println!("{alert:#}");
    } else {
        let holds = || format!("holds for {}; `sluice alert show {print}` shows whom it goes to", values::shown_duration(test.lasts));
        println!("sent, and kept by the nodes: {print} {}", if test.resolved { "is over".to_owned() } else { holds() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Value {
        json!({"fingerprint": "791cec13fcba0368", "startsAt": "1970-01-01T00:00:10.000Z", "endsAt": "1970-01-01T00:05:00.000Z", "updatedAt": "1970-01-01T00:00:20.000Z",
            "receivers": [{"name": "db"}, {"name": "all"}], "labels": {"alertname": "DiskFull", "severity": "critical", "instance": "a", "job": "node"},
            "annotations": {"summary": "full\nat last"}, "generatorURL": "http://p", "level": "P2", "flappingSince": null,
            "waits": {"until": "1970-01-01T00:01:00.000Z", "why": "it mostly ended by itself"}, "watchedUntil": null, "cameAgain": 0,
            "status": {"state": "suppressed", "silencedBy": ["x"], "inhibitedBy": [], "mutedBy": []}})
    }

    #[test]
    fn a_list_shows_what_is_told_and_what_is_not() {
        let mut other = one();
        other["status"] = json!({"state": "active"});
        other["acknowledged"] = json!({"by": "ann", "comment": "", "at": "1970-01-01T00:00:20.000Z"});
        let text = table(&json!([one(), other]), 40_000);
        assert!(text.contains("silenced") && text.contains("taken by ann") && text.contains("30.0 s") && text.contains("P2"), "{text}");
        other["acknowledged"] = Value::Null;
        assert!(table(&json!([other]), 40_000).contains("waits"));
        (other["waits"], other["watchedUntil"]) = (Value::Null, json!("1970-01-01T00:02:00.000Z"));
        assert!(table(&json!([other]), 40_000).contains("over, watched"));
        other["flappingSince"] = json!("1970-01-01T00:00:20.000Z");
        assert!(table(&json!([other]), 40_000).contains("flapping"));
        other["unconfirmedSince"] = json!("1970-01-01T00:00:30.000Z");
        assert!(table(&json!([other]), 40_000).contains("flapping, unconfirmed"));
        other["usuallySaidEveryMs"] = json!(60_000);
        assert!(full(&other).contains("since 1970-01-01T00:00:30.000Z: it is usually said every 60.0 s, and was not twice"));
        assert!(text.contains("db, all") && text.contains("instance=a job=node"), "{text}");
        assert!(table(&json!([]), 0).contains("send-test"));
    }

    #[test]
    fn one_alert_in_full() {
        let text = full(&one());
        let expected = "fingerprint   791cec13fcba0368\nlevel         P2\nstate         suppressed\nwaits until   1970-01-01T00:01:00.000Z: it mostly ended by itself\nsilenced by   x\n";
        assert!(text.starts_with(expected), "{text}");
        let mut other = one();
        other["worstLevel"] = json!("P1");
        assert!(full(&other).contains("level         P2; it was P1 at its worst\n"), "{}", full(&other));
        assert!(text.contains("annotations   summary = full\n    at last\n") && !text.contains("inhibited"), "{text}");
    }

    #[test]
    fn who_is_told_next_stands_beside_an_alert() {
        let mut alert = one();
        assert!(!table(&json!([alert]), 40_000).contains("NEXT STEP"));
        let step =
            |number: u64, receiver: &str, at: Option<&str>| json!({"step": number, "receiver": receiver, "afterMs": 600_000, "at": at});
        let (at, later) = ("1970-01-01T00:00:30.000Z", "1970-01-01T00:10:40.000Z");
        alert["escalation"] = json!([{"policy": "oncall", "last": step(1, "second", Some(at)), "next": step(2, "boss", Some(later))}]);
        assert!(table(&json!([alert, one()]), 40_000).contains("boss in 10 min"));
        assert!(table(&json!([alert]), 640_000).contains("boss is due"));
        assert!(
            full(&alert).contains(&format!("\nescalation    oncall: step 1 (second) was told {at}; step 2 (boss) is due {later}\n")),
            "{}",
            full(&alert)
        );
        alert["escalation"] = json!([{"policy": "oncall", "last": null, "next": step(1, "second", None)}]);
        assert!(table(&json!([alert]), 40_000).contains("second 10 min after the first"));
        assert!(
            full(&alert).contains("oncall: nobody is told besides yet; step 1 (second) 10 min after somebody is told"),
            "{}",
            full(&alert)
        );
    }

    #[test]
    fn matchers_become_filters() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(filters(&texts(&["DiskFull", "a=~b|c"])).unwrap(), ["filter=alertname%3D%22DiskFull%22", "filter=a%3D~%22b%7Cc%22"]);
        assert_eq!(filters(&texts(&["{a=b,c!=d}"])).unwrap().len(), 2);
        assert!(filters(&texts(&["a=~("])).unwrap_err().to_string().contains("no matcher"));
    }
}
