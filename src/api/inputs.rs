//! `POST /api/v1/alerts/in/{source}`: alerts by webhook, of Grafana, of another Alertmanager, or in any JSON that the settings explain.
//!
//! The answer comes when a majority of the nodes has the alerts. A signed time that is too far off is refused; what is signed, was taken here, and comes once more
//! within that time is answered and changes nothing (`signatures`).

use hyper::HeaderMap;
use hyper::StatusCode;
use serde::Serialize;

use crate::api::Call;
use crate::api::alertmanager;
use crate::api::alertmanager::posting;
use crate::api::answer::Failure;
use crate::api::answer::json;
use crate::api::deps::Deps;
use crate::api::signatures::Mark;
use crate::api::signatures::Signatures;
use crate::config::inputs::Input;
use crate::config::inputs::Signature;
use crate::model::alert::Alert;
use crate::secret::signed;
use crate::serve::Response;
use crate::wire::alerts::Unreadable;
use crate::wire::hooks;

/// Where they are.
const BELOW: &str = "/api/v1/alerts/in/";
/// Replicas of Grafana tell the same within one interval of a group: five minutes unless somebody wants otherwise. What is signed counts no longer than this either.
const TURNS_MS: i64 = 10 * 60_000;

/// Whether alerts come in at a path.
pub fn takes(path: &str) -> bool {
    path.starts_with(BELOW) || path.starts_with(alertmanager::BELOW)
}

#[derive(Serialize)]
struct Taken {
    kind: &'static str,
    alerts: usize,
    /// It came once more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    repeated: bool,
}

/// Reads and keeps alerts.
pub(super) async fn post(deps: &Deps, signatures: &Signatures, (source, call): (&str, &Call), now: i64) -> Result<Response, Failure> {
    let state = (deps.alerting)().map_err(alertmanager::off)?;
    let inputs = state.inputs();
    let plain;
    let input = match inputs.iter().find(|input| input.name == source) {
        Some(input) => input,
        None => {
            plain = Input::plain(source);
            &plain
        }
    };
    let signed = input.signature.as_ref().map(|signature| verify(signature, &call.headers, &call.body, now)).transpose()?.flatten();
    let mark = signed.map(|(at, signature)| Mark::of(source, at, signature));
    let repeated = mark.as_ref().is_some_and(|mark| signatures.knows(mark));
    let (kind, mut batch) = hooks::read(&call.body, input, now).map_err(|error| {
        let why = match error {
            Unreadable::Malformed(why) => why,
            Unreadable::Lacks(place) if place.is_empty() => "the body is empty".to_owned(),
            Unreadable::Lacks(place) => format!("{place} is missing"),
        };
        Failure::wrong(format!("what {source} sent cannot be used: {why}"), "docs/alerting.md shows what is understood")
    })?;
    let (alerts, wrong) = (batch.good.len(), batch.wrong.len());
    if repeated {
        tracing::info!(source, "a signed webhook came once more; it was taken before");
        return Ok(json(StatusCode::OK, &Taken { kind: kind.word(), alerts, repeated }));
    }
    batch.good.retain_mut(|word| is_news(state.known(&word.labels).as_ref(), word, now));
    let response = posting::keep(&*state, &deps.alert_counts, batch).await;
    let all_is_well = wrong == 0 && response.status() == StatusCode::OK;
    if !all_is_well {
        return Ok(response);
    }
    // Not before: what could not be kept is taken when it comes again.
    mark.into_iter().for_each(|mark| signatures.take(mark));
    Ok(json(StatusCode::OK, &Taken { kind: kind.word(), alerts, repeated }))
}

/// Whether anything comes of a webhook's word about an alert that is known so. Replicas take turns, the later one may not know yet, and what was recorded may be sent
/// once more: that an alert holds of which another one has said, a moment ago, that it is over (what fires anew began after that end); that one is over, and that was before
/// it last began to hold. An earlier beginning of what holds may be that of an earlier time that it did, whose end is then none of this one: the one that stands stays.
fn is_news(known: Option<&Alert>, word: &mut Alert, now: i64) -> bool {
    let Some(known) = known else { return true };
    match (word.times_out, known.is_over(now)) {
        (true, true) => known.times_out || word.starts > known.ends || now - known.updated >= TURNS_MS,
        (true, false) => {
            word.starts = word.starts.max(known.starts);
            true
        }
        (false, _) => !word.is_over(now) || word.ends >= known.starts,
    }
}

/// Whether the sender knows the secret; and the time that was signed with the body, seconds since 1970, if one was, with the signature.
fn verify<'h>(wanted: &Signature, headers: &'h HeaderMap, body: &[u8], now: i64) -> Result<Option<(i64, &'h str)>, Failure> {
    const REMEDY: &str = "the sender's secret and headers must be those of the settings (alerting.inputs, docs/alerting.md)";
    let refused = |text: String| Failure::new(StatusCode::UNAUTHORIZED, "unsigned", text, REMEDY);
    let secret = std::fs::read_to_string(&wanted.secret_file).map_err(|error| {
        // Whoever sends is told no path.
        tracing::error!(file = %wanted.secret_file.display(), %error, "the secret of an input cannot be read: what comes is answered 503");
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "no_secret", "the secret that signs this cannot be read", "look at the node's log")
    })?;
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| refused(format!("there is no header {name}")))
    };
    let signature = header(&wanted.header)?;
    let (mut message, mut signed_at) = (Vec::with_capacity(body.len() + 16), None);
    if let Some(name) = &wanted.timestamp_header {
        let text = header(name)?;
        let seconds = text.parse::<i64>().map_err(|_| refused(format!("the header {name} is no number of seconds")))?;
        let tolerance = wanted.tolerance.as_secs();
        if seconds.abs_diff(now / 1000) > tolerance {
            return Err(refused(format!("the header {name} is more than {tolerance} s off")));
        }
        signed_at = Some((seconds, signature));
        message.extend_from_slice(text.as_bytes());
        message.push(b':');
    }
    message.extend_from_slice(body);
    if signed::is_signed(secret.trim_end().as_bytes(), &message, signature) {
        return Ok(signed_at);
    }
    Err(refused("the signature is not right".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::book;
    use crate::alert::book::Book;
    use crate::model::labels::Labels;

    const SEED: u64 = 7;
    const MINUTE: i64 = 60_000;
    const HOLD: i64 = 300 * MINUTE;

    fn word(labels: &Labels, (starts, ends): (i64, Option<i64>), now: i64) -> Alert {
        let until = ends.unwrap_or(now + HOLD);
        Alert { labels: labels.clone(), starts, ends: until, times_out: ends.is_none(), updated: now, ..Alert::default() }
    }

    /// An alert that fires again and again, told of by two replicas at times of their own, and by somebody who recorded them and sends each once more within the time that a
    /// signature counts: it holds if the latest episode that anybody has told of has not been told to be over, whatever else comes. A replica says that it is over within the
    /// five minutes in which it does not fire anew: where it is told that it does before anybody said that it is over, both are one episode, by the earliest start.
    #[test]
    fn late_words_and_recorded_ones_change_nothing() {
        let labels = Labels::from([("alertname", "X")]);
        for seed in crate::mutate::seeds(80) {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut at, mut words) = (1_790_000_000_000, Vec::new());
            for episode in 0..6 {
                let starts = at + random.i64(5 * MINUTE..15 * MINUTE);
                let ends = starts + random.i64(MINUTE / 3..20 * MINUTE);
                for _ in 0..2 {
                    for said in [(starts, None), (starts, Some(ends))] {
                        let first = said.1.unwrap_or(starts) + random.i64(0..5 * MINUTE);
                        let again = first + random.i64(0..5 * MINUTE);
                        words.extend([(first, episode, said), (again, episode, said)]);
                    }
                }
                at = ends;
            }
            words.sort_unstable();
            let (mut book, mut latest, mut is_over) = (Book::default(), -1, true);
            let id = book::id(SEED, &labels);
            for (now, episode, said) in words {
                let mut word = word(&labels, said, now);
                let known = book.alerts().get(id).map(|kept| kept.alert.clone());
                if is_news(known.as_ref(), &mut word, now) {
                    book.post(SEED, vec![word], now).unwrap();
                }
                // Of what was over before anybody heard that it holds nothing is kept.
                match episode.cmp(&latest) {
                    std::cmp::Ordering::Greater if said.1.is_none() || known.is_some() => (latest, is_over) = (episode, said.1.is_some()),
                    std::cmp::Ordering::Equal => is_over |= said.1.is_some(),
                    _ => {}
                }
                let holds = book.alerts().get(id).is_some_and(|kept| !kept.alert.is_over(now));
                assert_eq!(holds, !is_over && latest >= 0, "SEED={seed} at {now}: episode {episode} {said:?}, {:?}", book.alerts().get(id));
            }
        }
    }
}
