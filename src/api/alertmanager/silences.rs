//! Silences: listed, shown, made and changed. What a silence must be like is judged here, in Alertmanager's words; what can be changed in place is the
//! state's business, since it depends on what is kept.

use std::cmp::Ordering;
use std::sync::Arc;

use hyper::StatusCode;
use serde::Deserialize;
use serde::Serialize;

use crate::alert::matcher::Matcher;
use crate::alert::matcher::Op;
use crate::alert::silence::Phase;
use crate::alert::silence::Silence;
use crate::api::alerting::Alerting;
use crate::api::alerting::Refused;
use crate::api::alertmanager::code;
use crate::api::alertmanager::coded;
use crate::api::alertmanager::empty;
use crate::api::alertmanager::filter::Filter;
use crate::api::alertmanager::refused;
use crate::api::alertmanager::required;
use crate::api::alertmanager::sentence;
use crate::api::answer::json;
use crate::clock;
use crate::config::compat::is_classic_name;
use crate::model::labels::Labels;
use crate::serve::Response;
use crate::wire::alerts;

/// Matchers of a silence.
const MOST_MATCHERS: usize = 64;
/// Bytes of all that a silence says.
const MOST_BYTES: usize = 16 << 10;

/// As it is posted. What must be there is looked for after the reading, since its absence is answered differently from what cannot be read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    id: Option<String>,
    matchers: Option<Vec<PostedMatcher>>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    annotations: Option<Labels>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedMatcher {
    name: Option<String>,
    value: Option<String>,
    is_regex: Option<bool>,
    is_equal: Option<bool>,
}

#[derive(Serialize)]
struct Made<'a> {
    #[serde(rename = "silenceID")]
    id: &'a str,
}

/// As it is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    annotations: &'a Labels,
    id: &'a str,
    status: ShownStatus,
    updated_at: String,
    comment: &'a str,
    created_by: &'a str,
    ends_at: String,
    matchers: Vec<ShownMatcher<'a>>,
    starts_at: String,
}

#[derive(Serialize)]
struct ShownStatus {
    state: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownMatcher<'a> {
    is_equal: bool,
    is_regex: bool,
    name: &'a str,
    value: &'a str,
}

fn shown(silence: &Silence, now: i64) -> Shown<'_> {
    let matcher =
        |matcher: &'_ Matcher| (matches!(matcher.op, Op::Equal | Op::Matches), matches!(matcher.op, Op::Matches | Op::NotMatches));
    Shown {
        annotations: &silence.annotations,
        id: &silence.id,
        status: ShownStatus { state: silence.phase(now).word() },
        updated_at: clock::rfc3339(silence.updated),
        comment: &silence.comment,
        created_by: &silence.by,
        ends_at: clock::rfc3339(silence.ends),
        matchers: silence
            .matchers
            .iter()
            .map(|one| {
                let (is_equal, is_regex) = matcher(one);
                ShownMatcher { is_equal, is_regex, name: &one.name, value: &one.value }
            })
            .collect(),
        starts_at: clock::rfc3339(silence.starts),
    }
}

/// Those that fit, sorted.
pub fn list(state: &dyn Alerting, filter: &Filter, now: i64) -> Response {
    let all = state.silences();
    let wanted = |silence: &&Arc<Silence>| {
        let phase = match silence.phase(now) {
            Phase::Active => filter.active,
            Phase::Pending => filter.pending,
            Phase::Expired => filter.expired,
        };
        phase && filter.matchers.iter().all(|matcher| silence.matchers.contains(matcher))
    };
    let mut fit: Vec<&Arc<Silence>> = all.iter().filter(wanted).collect();
    fit.sort_by(|a, b| order(a, b, now));
    json(StatusCode::OK, &fit.into_iter().map(|silence| shown(silence, now)).collect::<Vec<_>>())
}

/// Those that hold first, the next one to end before the others; then those to come, then those that are over, the last one to end before the others.
fn order(a: &Silence, b: &Silence, now: i64) -> Ordering {
    let phase = a.phase(now);
    let within = || match phase {
        Phase::Active => a.ends.cmp(&b.ends),
        Phase::Pending => a.starts.cmp(&b.starts),
        Phase::Expired => b.ends.cmp(&a.ends),
    };
    phase.cmp(&b.phase(now)).then_with(within).then_with(|| a.id.cmp(&b.id))
}

/// One.
pub fn one(state: &dyn Alerting, id: &str, now: i64) -> Response {
    match state.silences().iter().find(|silence| silence.id == id) {
        Some(silence) => json(StatusCode::OK, &shown(silence, now)),
        None => empty(StatusCode::NOT_FOUND),
    }
}

/// Makes or changes one.
pub async fn post(state: &dyn Alerting, body: &[u8], now: i64) -> Response {
    let silence = match read(body, now, state.classic_names()) {
        Ok(silence) => silence,
        Err(response) => return *response,
    };
    match state.silence(silence).await {
        Ok(id) => json(StatusCode::OK, &Made { id: &id }),
        Err(Refused::Unknown) => sentence(StatusCode::NOT_FOUND, "silence not found"),
        Err(Refused::Full(why)) => sentence(StatusCode::BAD_REQUEST, &why),
        Err(why) => refused(why),
    }
}

/// Reads one, or says what is wrong with it. `classic`: its names must be of the old sort.
fn read(body: &[u8], now: i64, classic: bool) -> Result<Silence, Box<Response>> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Box::new(required("silence")));
    }
    let malformed = |why: &dyn std::fmt::Display| {
        let text = format!("parsing silence body from \"\" failed, because {why}");
        Box::new(coded(StatusCode::BAD_REQUEST, 400, &text))
    };
    let posted: Posted = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    let lacking = |what: &str| Box::new(required(what));
    // In the order in which its server looks for them.
    let comment = posted.comment.ok_or_else(|| lacking("comment"))?;
    let by = posted.created_by.ok_or_else(|| lacking("createdBy"))?;
    let time = |text: &str| alerts::time(text).map_err(|why| malformed(&why));
    let ends = time(&posted.ends_at.ok_or_else(|| lacking("endsAt"))?)?;
    let matchers = posted.matchers.ok_or_else(|| lacking("matchers"))?;
    if matchers.is_empty() {
        let text = "matchers in body should have at least 1 items";
        return Err(Box::new(coded(StatusCode::UNPROCESSABLE_ENTITY, code::TOO_FEW, text)));
    }
    let matchers = read_matchers(matchers, classic)?;
    let starts = time(&posted.starts_at.ok_or_else(|| lacking("startsAt"))?)?.unwrap_or(now);
    let silence = Silence {
        id: posted.id.unwrap_or_default(),
        matchers,
        starts,
        ends: ends.unwrap_or(0),
        updated: now,
        by,
        comment,
        annotations: posted.annotations.unwrap_or_default(),
    };
    match fault(&silence, now) {
        None => Ok(silence),
        Some(why) => Err(Box::new(sentence(StatusCode::BAD_REQUEST, &why))),
    }
}

fn read_matchers(posted: Vec<PostedMatcher>, classic: bool) -> Result<Vec<Matcher>, Box<Response>> {
    let mut matchers = Vec::with_capacity(posted.len());
    for (number, PostedMatcher { name, value, is_regex, is_equal }) in posted.into_iter().enumerate() {
        let lacking = |what: &str| Box::new(required(&format!("matchers.{number}.{what}")));
        let is_regex = is_regex.ok_or_else(|| lacking("isRegex"))?;
        let (name, value) = (name.ok_or_else(|| lacking("name"))?, value.ok_or_else(|| lacking("value"))?);
        let op = match (is_equal.unwrap_or(true), is_regex) {
            (true, false) => Op::Equal,
            (false, false) => Op::NotEqual,
            (true, true) => Op::Matches,
            (false, true) => Op::NotMatches,
        };
        let wrong = |why: &str| {
            let text = format!("invalid silence: invalid label matcher {number} in set 0: {why}");
            Box::new(sentence(StatusCode::BAD_REQUEST, &text))
        };
        if name.is_empty() || classic && !is_classic_name(&name) {
            return Err(wrong(&format!("invalid label name {name:?}")));
        }
        matchers.push(Matcher::new(name, op, value).map_err(|why| wrong(&why))?);
    }
    Ok(matchers)
}

/// What is wrong with a silence in itself.
fn fault(silence: &Silence, now: i64) -> Option<String> {
    if silence.starts >= silence.ends {
        return Some("Failed to create silence: start time must be before end time".to_owned());
    }
    if silence.ends < now {
        return Some("Failed to create silence: end time can't be in the past".to_owned());
    }
    // One that says what a label must not be counts as one that does not match the empty string, also where it does.
    if silence.matchers.iter().all(|matcher| matches!(matcher.op, Op::Equal | Op::Matches) && matcher.takes("")) {
        return Some("invalid silence: matcher set 0: at least one matcher must not match the empty string".to_owned());
    }
    let pairs = silence.annotations.iter().map(|(name, value)| name.len() + value.len());
    let bytes = silence.matchers.iter().map(|one| one.name.len() + one.value.len()).chain(pairs).sum::<usize>();
    let bytes = bytes + silence.comment.len() + silence.by.len();
    if silence.matchers.len() > MOST_MATCHERS {
        return Some(format!("silence has {} matchers (limit: {MOST_MATCHERS})", silence.matchers.len()));
    }
    (bytes > MOST_BYTES).then(|| format!("silence exceeded maximum size: {bytes} bytes (limit: {MOST_BYTES} bytes)"))
}

/// A UUID in lower case; `None`: it is none.
pub fn uuid(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths = parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]);
    let digits = parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()));
    (lengths && digits).then(|| text.to_ascii_lowercase())
}
