//! What came of a probe: good or not, why not, how long each phase took, and the metrics that say it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

/// What came of a probe.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Everything that the module asks for held.
    pub success: bool,
    /// Why not, and during which phase.
    pub failure: Option<Failure>,
    /// All of it.
    pub duration: Duration,
    /// How long it might have taken.
    pub timeout: Duration,
    /// In the order in which they began; of several requests each has its own.
    pub phases: Vec<Phase>,
    /// The address that was asked (the first one, where redirects led elsewhere).
    pub address: Option<IpAddr>,
    /// Certificates that came, the server's own first, whether they were any good or not.
    pub certificates: Vec<Certificate>,
    /// In no particular order; those of blackbox_exporter, `probe_success` and `probe_duration_seconds` among them, and some of sluice's own.
    pub metrics: Vec<Metric>,
    /// What went on, if that was asked for.
    pub log: Vec<Line>,
}

/// Why a probe failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Of the closed list.
    pub cause: Cause,
    /// During which phase: `resolve`, `connect`, ...; empty: before all of them.
    pub phase: &'static str,
    /// For people.
    pub text: String,
}

/// Every reason for which a probe fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The target is no URL, has no port, ...: nothing was asked.
    Target,
    /// A file of the module cannot be read.
    File,
    /// The rules for `/probe` forbid this address.
    Forbidden,
    /// The name does not exist.
    UnknownName,
    /// Whoever resolves names did not do it.
    Resolver,
    /// The name has no address of the kind that is asked for.
    NoAddress,
    /// Nobody listens there.
    Refused,
    /// No way leads there.
    Unreachable,
    /// The time was up.
    Timeout,
    /// The other side ended the connection.
    Closed,
    /// This host does not let us.
    NotPermitted,
    /// The handshake failed.
    Tls,
    /// The certificate is over.
    CertificateExpired,
    /// The certificate has not begun.
    CertificateNotYet,
    /// The certificate is for another name.
    CertificateName,
    /// Nobody who is trusted has signed the certificate.
    CertificateAuthority,
    /// The certificate is no good otherwise.
    Certificate,
    /// It came with TLS and should not, or the other way around.
    Encryption,
    /// What came is not of this protocol.
    Protocol,
    /// The version is none of those that are good.
    Version,
    /// The status, the code of an answer, is none of those that are good.
    Status,
    /// Redirects without end, or to nowhere.
    Redirect,
    /// A header is missing, or not as it should be.
    Header,
    /// The body, the banner, the records are not as they should be.
    Body,
    /// The body does not unpack.
    Encoding,
    /// The body is too long.
    Size,
    /// It answers that it does not serve.
    NotServing,
    /// Something else; the text says it.
    Other,
}

impl Cause {
    /// As it stands in labels.
    pub fn word(self) -> &'static str {
        match self {
            Cause::Target => "target",
            Cause::File => "file",
            Cause::Forbidden => "forbidden",
            Cause::UnknownName => "unknown_name",
            Cause::Resolver => "resolver",
            Cause::NoAddress => "no_address",
            Cause::Refused => "refused",
            Cause::Unreachable => "unreachable",
            Cause::Timeout => "timeout",
            Cause::Closed => "closed",
            Cause::NotPermitted => "not_permitted",
            Cause::Tls => "tls",
            Cause::CertificateExpired => "certificate_expired",
            Cause::CertificateNotYet => "certificate_not_yet",
            Cause::CertificateName => "certificate_name",
            Cause::CertificateAuthority => "certificate_authority",
            Cause::Certificate => "certificate",
            Cause::Encryption => "encryption",
            Cause::Protocol => "protocol",
            Cause::Version => "version",
            Cause::Status => "status",
            Cause::Redirect => "redirect",
            Cause::Header => "header",
            Cause::Body => "body",
            Cause::Encoding => "encoding",
            Cause::Size => "size",
            Cause::NotServing => "not_serving",
            Cause::Other => "other",
        }
    }
}

/// A part of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// As it stands in the label `phase`.
    pub name: &'static str,
    /// When it began, from the probe's beginning.
    pub from: Duration,
    /// How long it took, or until it was cut off.
    pub took: Duration,
    /// Whether it came to its end.
    pub done: bool,
    /// What it was about: an address, a URL without its query; empty where nobody wanted to read what goes on.
    pub about: String,
}

/// A certificate that came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// Whose it is, as RFC 2253 writes it.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Hexadecimal.
    pub serial: String,
    /// Names that it is for.
    pub names: Vec<String>,
    /// From when on it is good, ms since 1970.
    pub begins_ms: i64,
    /// Until when, ms since 1970.
    pub ends_ms: i64,
    /// SHA-256, hexadecimal.
    pub fingerprint: String,
}

/// A metric's label and its value.
pub type Label = (Cow<'static, str>, Cow<'static, str>);

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name,
    pub name: &'static str,
    /// what it means,
    pub help: &'static str,
    /// its labels in the order of the exposition,
    pub labels: Vec<Label>,
    /// and its value.
    pub value: f64,
}

/// A line about what went on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// From the probe's beginning.
    pub at: Duration,
    /// What.
    pub text: String,
}

impl Metric {
    /// Without labels.
    pub fn plain(name: &'static str, help: &'static str, value: f64) -> Metric {
        Metric { name, help, labels: Vec::new(), value }
    }

    /// With one label.
    pub fn with(name: &'static str, help: &'static str, label: (&'static str, Cow<'static, str>), value: f64) -> Metric {
        Metric { name, help, labels: vec![(Cow::Borrowed(label.0), label.1)], value }
    }
}
