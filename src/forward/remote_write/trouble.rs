//! What can be wrong with a store that is written to by remote write: a closed list, each with a text and a remedy.

use std::fmt;

/// What is wrong, or worth knowing, about one store as seen from one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "what the fields are stands in the text of each, in `Display` below")]
pub enum StoreTrouble {
    /// Nobody answers.
    Unreachable { url: String, detail: String },
    /// TLS does not come about.
    NotTrusted { url: String, detail: String },
    /// It answers that it cannot now.
    Busy { url: String, status: u16, text: String },
    /// It wants other credentials.
    NotLetIn { url: String, status: u16, text: String },
    /// There is nothing that takes samples at this URL.
    NotThere { url: String, status: u16, text: String },
    /// It does not speak this version of the protocol.
    NotSpoken { url: String, version: &'static str, text: String },
    /// It refuses even a request without samples.
    RefusesAll { url: String, status: u16, text: String },
    /// It takes nothing that is older than what went ahead.
    RefusesOlder { url: String, status: u16, text: String },
    /// A file of credentials cannot be read.
    File { key: &'static str, path: String, detail: String },
    /// Single samples were refused for good.
    SamplesRefused { url: String, samples: u64, text: String },
    /// Samples that may have been there already were refused for being there, or for something newer.
    RepeatsRefused { url: String, samples: u64, text: String },
    /// zstd was refused and snappy taken.
    ZstdRefused { url: String, text: String },
    /// It said 2xx and that it took less than it was sent.
    WroteLess { url: String, sent: u64, written: u64 },
}

impl StoreTrouble {
    /// A short fixed word for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            StoreTrouble::Unreachable { .. } => "unreachable",
            StoreTrouble::NotTrusted { .. } => "not_trusted",
            StoreTrouble::Busy { .. } => "busy",
            StoreTrouble::NotLetIn { .. } => "not_let_in",
            StoreTrouble::NotThere { .. } => "not_there",
            StoreTrouble::NotSpoken { .. } => "not_spoken",
            StoreTrouble::RefusesAll { .. } => "refuses_all",
            StoreTrouble::RefusesOlder { .. } => "refuses_older",
            StoreTrouble::File { .. } => "file",
            StoreTrouble::SamplesRefused { .. } => "samples_refused",
            StoreTrouble::RepeatsRefused { .. } => "repeats_refused",
            StoreTrouble::ZstdRefused { .. } => "zstd_refused",
            StoreTrouble::WroteLess { .. } => "wrote_less",
        }
    }

    /// What somebody can do about it.
    pub fn remedy(&self) -> String {
        match self {
            StoreTrouble::Unreachable { .. } => "check that the store runs and that this machine reaches host and port; sluice keeps trying, nothing is lost within the sink's budget".into(),
            StoreTrouble::NotTrusted { .. } => "check the store's certificate and name, and under `tls` ca_file (the authority to trust), server_name, and cert_file with key_file where the store asks for them".into(),
            StoreTrouble::Busy { .. } => "look at the store's load and limits; sluice tries again as it asks to, nothing is lost within the sink's budget".into(),
            StoreTrouble::NotLetIn { .. } => "check basic_auth or bearer_token_file and what this user may do; the file is read again by itself, and sluice keeps trying".into(),
            StoreTrouble::NotThere { .. } => "check the path of `url`: /api/v1/write of Prometheus (started with --web.enable-remote-write-receiver) and VictoriaMetrics, /api/v1/push of Mimir and Cortex, /api/v1/receive of Thanos; redirects are not followed".into(),
            StoreTrouble::NotSpoken { version: "2.0", .. } => "write `protocol: v1`, which every store speaks; sluice keeps trying until then".into(),
            StoreTrouble::NotSpoken { .. } => "is `url` that of a remote-write receiver? With VictoriaMetrics' zstd refused, write `compression: snappy`".into(),
            StoreTrouble::RefusesAll { .. } => "check the path of `url`, `headers` (the tenant) and what stands between here and the store; samples wait, none has become a dead letter for it".into(),
            StoreTrouble::RefusesOlder { .. } => "let the store take samples that are older than the newest of their series (Prometheus: storage.tsdb.out_of_order_time_window, Mimir: out_of_order_time_window, longer than the outage was), or write `catch_up: in_order` for the next time; new samples flow, the backlog waits within the sink's budget".into(),
            StoreTrouble::File { .. } => "let the user that runs sluice read it; it is the same path on every node, and read again by itself".into(),
            StoreTrouble::SamplesRefused { .. } => "look at them (`sluice sink dead`), mend the cause, then `sluice sink replay`".into(),
            StoreTrouble::RepeatsRefused { .. } => "nothing has to be done: after a request without an answer they were sent again, and the store had them".into(),
            StoreTrouble::ZstdRefused { .. } => "nothing has to be done; `compression: snappy` says at once what was found out".into(),
            StoreTrouble::WroteLess { .. } => "look at the store's own log: by the protocol an answer of 2xx means that all was taken".into(),
        }
    }

    /// Whether samples do not flow because of it. The others are things worth knowing.
    pub fn stops_samples(&self) -> bool {
        !matches!(
            self,
            StoreTrouble::SamplesRefused { .. }
                | StoreTrouble::RepeatsRefused { .. }
                | StoreTrouble::ZstdRefused { .. }
                | StoreTrouble::WroteLess { .. }
        )
    }

    /// Whether it goes away by itself, mostly: a first time is not worth a word.
    pub fn passes(&self) -> bool {
        matches!(self, StoreTrouble::Unreachable { .. } | StoreTrouble::Busy { .. })
    }
}

impl fmt::Display for StoreTrouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreTrouble::Unreachable { url, detail } => write!(out, "{url} does not answer: {detail}"),
            StoreTrouble::NotTrusted { url, detail } => write!(out, "no TLS with {url}: {detail}"),
            StoreTrouble::Busy { url, status, text } => write!(out, "{url} cannot take samples now: {status}{}", said(text)),
            StoreTrouble::NotLetIn { url, status, text } => write!(out, "{url} does not let sluice in: {status}{}", said(text)),
            StoreTrouble::NotThere { url, status, text } => write!(out, "nothing takes samples at {url}: {status}{}", said(text)),
            StoreTrouble::NotSpoken { url, version, text } => write!(out, "{url} does not take Remote Write {version}{}", said(text)),
            StoreTrouble::RefusesAll { url, status, text } => {
                write!(out, "{url} refuses everything, even a request without samples: {status}{}", said(text))
            }
            StoreTrouble::RefusesOlder { url, status, text } => {
                write!(out, "{url} does not take what is older than the samples that went ahead: {status}{}", said(text))
            }
            StoreTrouble::File { key, path, detail } => write!(out, "{key} {path} cannot be used: {detail}"),
            StoreTrouble::SamplesRefused { url, samples, text } => {
                write!(out, "{url} refused {samples} samples, which became dead letters; the last{}", said(text))
            }
            StoreTrouble::RepeatsRefused { url, samples, text } => {
                write!(out, "{url} refused {samples} samples that it may have had before; the last{}", said(text))
            }
            StoreTrouble::ZstdRefused { url, text } => write!(out, "{url} refused zstd and took snappy{}", said(text)),
            StoreTrouble::WroteLess { url, sent, written } => write!(out, "{url} said that it wrote {written} of {sent} samples, and 2xx"),
        }
    }
}

/// The store's own words, if it had any.
fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}
