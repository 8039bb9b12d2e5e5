//! What a sender is told: one pure function from what happened to status, headers and text.
//!
//! The rules in one place. **503 wins** over 400, because a sender that gets 400 throws the request away. Trouble is 503 with a jittered
//! `Retry-After`, never 429, which Prometheus takes for "drop it". Whatever is wrong for good is exactly 400, 413 or 415: vmagent
//! retries every other 4xx for ever. 2.0 always gets the three counts once it is known to be 2.0, 1.0 never does: a 1.0 sender believes
//! any it sees. What a standby sent, or somebody sent again, counts as written: a sender takes zeros for failure.

use crate::ingest::lanes::Written;
use crate::ingest::offenders::Offenders;
use crate::label_words;
use crate::wire::remote_write::Protocol;

label_words! {
    /// Why a request cannot be taken now. It may be sent again as it is.
    Unable {
        /// `limits.connections`.
        Connections = "connections",
        /// `limits.in_flight_bytes`.
        InFlight = "in_flight_bytes",
        /// The shard has too much to do.
        Overloaded = "overloaded",
        /// The group's `limits.per_group.samples_per_second`.
        GroupSamples = "group_samples",
        /// The group's `limits.per_group.new_series_per_second`.
        GroupNewSeries = "group_new_series",
        /// The group's `limits.per_group.in_flight_bytes`.
        GroupInFlight = "group_in_flight_bytes",
        /// The disk is full.
        DiskFull = "disk_full",
        /// A sink whose budget says `refuse` has used it up.
        SinkBudget = "sink_budget",
        /// No leader, or nobody knows what became of it.
        NoLeader = "no_leader",
        /// The node stops.
        Stopping = "stopping",
        /// The settings changed in the middle.
        Settings = "settings",
    }
}

impl Unable {
    fn says(self) -> &'static str {
        match self {
            Unable::Connections => "more connections are open than limits.connections allows; raise it, or send to another node",
            Unable::InFlight => "more bytes are under way than limits.in_flight_bytes allows; raise it, or send to another node",
            Unable::Overloaded => "the shard has more to write than it can; `sluice status` shows which queue is full",
            Unable::GroupSamples => "its group sends more samples a second than limits.per_group.samples_per_second allows",
            Unable::GroupNewSeries => "its group begins more series a second than limits.per_group.new_series_per_second allows",
            Unable::GroupInFlight => "its group has more bytes under way than limits.per_group.in_flight_bytes allows",
            Unable::DiskFull => "the disk is full to its reserve (log.reserve); free space, it goes on by itself",
            Unable::SinkBudget => "a sink has used up its budget and its policy is `refuse`; `sluice sink list` shows which",
            Unable::NoLeader => "no node leads the group's shard at the moment, or the outcome is not known; it goes on by itself",
            Unable::Stopping => "the node is stopping",
            Unable::Settings => "the settings changed while this was read",
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// vmagent asked which dialect is spoken.
    Handshake,
    /// Neither POST nor the handshake.
    Method,
    /// None of the two messages.
    ContentType(String),
    /// Neither snappy nor zstd.
    Encoding(String),
    /// Its tenant is not one, or is missing, or there are two; the text says which.
    Tenant(String),
    /// The body as it came is above the bound.
    PackedTooLarge {
        /// The bound.
        limit: usize,
    },
    /// Unpacked, or counted, it is above a bound, or claims what cannot be; the text says which.
    TooLarge(String),
    /// No snappy, zstd or protobuf; the text says why.
    Undecodable(String),
    /// The body came too slowly.
    Slow,
    /// The sender went away in the middle.
    Broken,
    /// It was not even looked at.
    Busy(Unable),
    /// It was read, and its good part taken as far as possible.
    Read {
        /// What is safe now.
        written: Written,
        /// What was refused for good.
        refused: Offenders,
        /// Why some of it could not be taken now.
        unable: Option<Unable>,
    },
}

/// What else the answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Which protocol, once that is known.
    pub protocol: Option<Protocol>,
    /// How often the sender tried before.
    pub retries: u32,
    /// Any number; spreads `Retry-After`.
    pub entropy: u64,
}

/// What goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers besides the content type (plain text).
    pub headers: Vec<(&'static str, String)>,
    /// For people; empty where all is well.
    pub text: String,
}

/// The headers that say what was written, in the order of [`Written`]'s fields.
pub const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

/// The answer.
pub fn answer(outcome: &Outcome, context: Context) -> Answer {
    let (status, text) = match outcome {
        Outcome::Handshake => (200, "1".to_string()),
        Outcome::Method => (405, "remote write is sent by POST\n".to_string()),
        Outcome::ContentType(seen) => (
            415,
            format!(
                "content type {seen:?} is not taken; send application/x-protobuf (Remote Write 1.0) or \
                 application/x-protobuf;proto=io.prometheus.write.v2.Request (2.0)\n"
            ),
        ),
        Outcome::Encoding(seen) => (415, format!("content encoding {seen:?} is not taken; send snappy (block format) or zstd\n")),
        Outcome::PackedTooLarge { limit } => {
            (413, format!("the body is larger than {limit} bytes; send fewer samples a request, or raise limits.packed_bytes\n"))
        }
        Outcome::TooLarge(why) => {
            (413, format!("the request is too large: {why}; send fewer samples a request, or raise the limit (docs/configuration.md)\n"))
        }
        Outcome::Tenant(why) => (400, format!("nothing was taken: {why}\n")),
        Outcome::Undecodable(why) => (400, format!("nothing was taken: {why}\n")),
        Outcome::Slow => (408, "the body came too slowly (limits.body_bytes_per_second)\n".to_string()),
        Outcome::Broken => (400, "the body broke off\n".to_string()),
        Outcome::Busy(unable) | Outcome::Read { unable: Some(unable), .. } => {
            (503, format!("not taken now, send it again: {}\n", unable.says()))
        }
        Outcome::Read { refused, .. } if !refused.is_empty() => (400, refused.text()),
        Outcome::Read { .. } => (204, String::new()),
    };
    let mut headers = Vec::new();
    match status {
        405 => headers.push(("allow", "POST".to_string())),
        408 => headers.push(("connection", "close".to_string())),
        503 => headers.push(("retry-after", retry_after(context.retries, context.entropy).to_string())),
        _ => {}
    }
    if context.protocol == Some(Protocol::V2) {
        let written = match outcome {
            Outcome::Read { written, .. } => *written,
            _ => Written::default(),
        };
        let counts = [written.samples, written.histograms, written.exemplars];
        headers.extend(WRITTEN.into_iter().zip(counts).map(|(name, count)| (name, count.to_string())));
    }
    Answer { status, headers, text }
}

/// The first wait, seconds. Senders obey `Retry-After` to the second and without jitter of their own: ours spreads them.
const RETRY_FIRST: u64 = 2;
/// The longest wait on average. A sender's queue holds some ten seconds of samples before it falls back on its log.
const RETRY_MOST: u64 = 30;

/// Seconds: doubling with each try, half as much less or more.
fn retry_after(retries: u32, entropy: u64) -> u64 {
    let middle = RETRY_FIRST.saturating_mul(1 << retries.min(8)).min(RETRY_MOST);
    let least = middle.div_ceil(2);
    least + entropy % (middle + 1)
}

#[cfg(test)]
mod tests;
