//! What an answer to a remote-write request means: one pure function from status to verdict, after the specifications of 1.0 and 2.0, with one thing added that a careful
//! operator would: what is wrong with the sink as a whole (credentials, path, version) is no fault of the samples, so they wait.

use std::time::Duration;

use crate::forward::remote_write::trouble::StoreTrouble;
use crate::serve::ask;
use crate::wire::remote_write::Protocol;

/// The longest that a store's Retry-After is obeyed: beyond it sluice looks again by itself.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// What a store answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// HTTP's status.
    pub status: u16,
    /// Retry-After, bounded.
    pub retry_after: Option<Duration>,
    /// Samples and histograms written, where it says so (2.0).
    pub written: Option<u64>,
    /// The beginning of its text.
    pub text: String,
}

/// What follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done; something may be worth a note.
    Taken(Option<StoreTrouble>),
    /// To be sent again after a while.
    Later(StoreTrouble, Option<Duration>),
    /// Something in it is refused for good.
    Refused(Answer),
}

/// Judges an answer to a request of so many samples.
pub fn judge(answer: Answer, url: &str, protocol: Protocol, samples: u64) -> Verdict {
    let url = url.to_owned();
    let Answer { status, retry_after, written, .. } = answer;
    let text = answer.text.clone();
    match status {
        200..=299 => match (protocol, written) {
            (Protocol::V1, _) => Verdict::Taken(None),
            (Protocol::V2, _) if samples == 0 => Verdict::Taken(None),
            (Protocol::V2, Some(written)) if written >= samples => Verdict::Taken(None),
            (Protocol::V2, Some(written)) => Verdict::Taken(Some(StoreTrouble::WroteLess { url, sent: samples, written })),
            // A store that reads 2.0 as 1.0 finds nothing in it and is content. By the specification this is to be taken as 415.
            (Protocol::V2, None) => {
                let text = format!("it answered {status} and did not say how many samples it wrote");
                Verdict::Later(StoreTrouble::NotSpoken { url, version: "2.0", text }, None)
            }
        },
        408 | 425 | 429 | 500..=510 | 512..=599 => Verdict::Later(StoreTrouble::Busy { url, status, text }, retry_after),
        401 | 402 | 403 | 407 | 511 => Verdict::Later(StoreTrouble::NotLetIn { url, status, text }, None),
        300..=399 | 404 | 405 | 410 | 421 => Verdict::Later(StoreTrouble::NotThere { url, status, text }, None),
        406 | 411 | 415 | 426 => {
            let version = if protocol == Protocol::V2 { "2.0" } else { "1.0" };
            Verdict::Later(StoreTrouble::NotSpoken { url, version, text: format!("{status} {text}") }, None)
        }
        _ => Verdict::Refused(answer),
    }
}

/// Whether a refusal may be about zstd rather than about what is packed in it.
pub fn may_be_packing(status: u16) -> bool {
    matches!(status, 400 | 415)
}

/// Whether a refusal says that the store has this sample, or a newer one of its series.
pub fn is_repeat(text: &str) -> bool {
    let text = text.to_lowercase();
    ["out of order", "out-of-order", "duplicate sample", "duplicate timestamp"].iter().any(|words| text.contains(words))
}

/// Whether a refusal says that a sample comes too late: after newer ones of its series, or beyond what the store goes back.
pub fn is_for_age(text: &str) -> bool {
    let lower = text.to_lowercase();
    is_repeat(text) || ["too old", "out of bounds", "out-of-bounds", "too far behind"].iter().any(|words| lower.contains(words))
}

/// Retry-After as it is obeyed: not for ever, and not if it says now.
pub fn retry_after(text: &str, now_ms: i64) -> Option<Duration> {
    ask::retry_after(text, now_ms).map(|wait| wait.min(RETRY_AFTER_MAX)).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(status: u16, protocol: Protocol, written: Option<u64>) -> &'static str {
        let answer = Answer { status, written, ..Answer::default() };
        match judge(answer, "http://store/w", protocol, 10) {
            Verdict::Taken(None) => "taken",
            Verdict::Refused(_) => "refused",
            Verdict::Taken(Some(trouble)) | Verdict::Later(trouble, _) => trouble.code(),
        }
    }

    #[test]
    fn each_status_has_one_meaning() {
        let table: [(&str, &[u16]); 6] = [
            ("taken", &[200, 202, 204]),
            ("busy", &[408, 429, 500, 502, 503, 504, 529]),
            ("not_let_in", &[401, 403]),
            ("not_there", &[301, 302, 307, 404, 405]),
            ("not_spoken", &[415]),
            ("refused", &[400, 409, 413, 422]),
        ];
        for (word, statuses) in table {
            for &status in statuses {
                assert_eq!(code(status, Protocol::V1, None), word, "{status}");
                if word != "taken" {
                    assert_eq!(code(status, Protocol::V2, None), word, "{status}");
                }
            }
        }
    }

    #[test]
    fn of_two_zero_a_store_must_say_what_it_wrote() {
        assert_eq!(code(204, Protocol::V2, Some(10)), "taken");
        assert_eq!(code(204, Protocol::V2, Some(9)), "wrote_less");
        assert_eq!(code(204, Protocol::V2, None), "not_spoken");
        let unspoken = judge(Answer { status: 415, ..Answer::default() }, "u", Protocol::V2, 1);
        let Verdict::Later(trouble, None) = unspoken else { panic!("{unspoken:?}") };
        assert!(trouble.remedy().contains("protocol: v1"), "{}", trouble.remedy());
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now = 784_111_770_000; // Sun, 06 Nov 1994 08:49:30 GMT
        let date = |text: &str| retry_after(text, now);
        assert_eq!(date("3"), Some(Duration::from_secs(3)));
        assert_eq!(date("86400"), Some(RETRY_AFTER_MAX));
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(date("Sun, 06 Nov 1994 08:49:00 GMT"), None, "it has passed");
        for wrong in
            ["", "0", "-1", "soon", "Sun, 06 Nov 1994 GMT", "Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 99999999999 08:49:37 GMT"]
        {
            assert_eq!(date(wrong), None, "{wrong}");
        }
    }
}
