//! `tls_config:` of a module: whom a probe trusts, and what it shows of itself.

use std::path::PathBuf;

use crate::config::probe::path;
use crate::config::probe::switch;
use crate::config::read::Refusal;
use crate::config::read::Section;
use crate::config::values;

/// TLS of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeTls {
    /// Whatever certificate comes is good.
    pub insecure_skip_verify: bool,
    /// PEM: the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The same as text.
    pub ca: Option<String>,
    /// PEM files of a certificate of its own, and its key.
    pub own_files: Option<(PathBuf, PathBuf)>,
    /// The same as text.
    pub own: Option<(String, String)>,
    /// The name that the certificate must have, where it is not the target's.
    pub server_name: Option<String>,
    /// Not older than this.
    pub min: Option<Version>,
    /// Not newer than this.
    pub max: Option<Version>,
}

/// A version that can be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.2
    Tls12,
    /// 1.3
    Tls13,
}

/// Reads the section.
pub fn read(section: &Section<'_>) -> ProbeTls {
    let mut tls = ProbeTls {
        insecure_skip_verify: section.or("insecure_skip_verify", false, switch),
        ca_file: section.opt("ca_file", path),
        ca: section.opt("ca", values::text),
        server_name: section.get("server_name").filter(|node| !node.is_empty()).and_then(|node| node.value(values::text)),
        // An older minimum asks for no more than that older versions be allowed, which costs nothing not to do.
        min: section.opt("min_version", |text| version(text, true)).flatten(),
        max: section.opt("max_version", |text| version(text, false)).flatten(),
        ..ProbeTls::default()
    };
    tls.own_files = section.opt("cert_file", path).zip(section.opt("key_file", path));
    tls.own = section.opt("cert", values::text).zip(section.opt("key", values::text));
    for (one, other) in [("cert_file", "key_file"), ("cert", "key")] {
        if let (Some(node), None) | (None, Some(node)) = (section.get(one), section.get(other)) {
            node.complain_unshown("is half of a pair", format!("write both {one} and {other}"));
        }
    }
    if let Some(node) = section.get("max_version").filter(|_| tls.max.is_some() && tls.max < tls.min) {
        node.complain("is older than min_version", "leave one of the two out");
    }
    section.finish();
    tls
}

fn version(text: &str, least: bool) -> Result<Option<Version>, Refusal> {
    match text {
        "TLS13" => Ok(Some(Version::Tls13)),
        "TLS12" => Ok(Some(Version::Tls12)),
        "TLS10" | "TLS11" if least => Ok(None),
        "TLS10" | "TLS11" => Err((
            "is not spoken by sluice: versions before 1.2 were given up in 2021 (RFC 8996)".into(),
            "leave it out; whether a server still speaks 1.0 or 1.1 is shown by `openssl s_client -tls1`".into(),
        )),
        _ => Err(("must be one of: TLS12, TLS13".into(), "for example TLS12".into())),
    }
}
