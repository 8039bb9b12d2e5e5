//! `dns:` of a module: what is asked, and what the answer must be.

use std::net::IpAddr;

use crate::config::probe::Family;
use crate::config::probe::family;
use crate::config::probe::pattern;
use crate::config::probe::source;
use crate::config::probe::switch;
use crate::config::probe::tls;
use crate::config::probe::tls::ProbeTls;
use crate::config::read::Refusal;
use crate::config::read::Section;
use crate::config::read::nearest;
use crate::config::values;

/// `dns:`
#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    /// Which address of the server.
    pub family: Family,
    /// From where.
    pub source: Option<IpAddr>,
    /// TCP instead of UDP.
    pub tcp: bool,
    /// TLS over that.
    pub over_tls: bool,
    /// How.
    pub tls_config: ProbeTls,
    /// Asked for this name,
    pub name: String,
    /// this type,
    pub kind: u16,
    /// and this class.
    pub class: u16,
    /// The server may ask others.
    pub recursion: bool,
    /// Codes that are good.
    pub rcodes: Vec<u16>,
    /// Of the answer's records.
    pub answer: Records,
    /// Of those of the authority.
    pub authority: Records,
    /// Of the additional ones.
    pub additional: Records,
}

/// What must hold of a list of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// None may match one of these.
    pub matches: Vec<String>,
    /// Not all may match.
    pub all_match: Vec<String>,
    /// Each must match each.
    pub not_matches: Vec<String>,
    /// One must match.
    pub none_matches: Vec<String>,
}

/// Types of records that have a name.
pub const TYPES: &[(&str, u16)] = &[
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("MB", 7),
    ("NULL", 10),
    ("PTR", 12),
    ("HINFO", 13),
    ("MX", 15),
    ("TXT", 16),
    ("RP", 17),
    ("AFSDB", 18),
    ("SIG", 24),
    ("KEY", 25),
    ("AAAA", 28),
    ("LOC", 29),
    ("SRV", 33),
    ("NAPTR", 35),
    ("KX", 36),
    ("CERT", 37),
    ("DNAME", 39),
    ("OPT", 41),
    ("APL", 42),
    ("DS", 43),
    ("SSHFP", 44),
    ("IPSECKEY", 45),
    ("RRSIG", 46),
    ("NSEC", 47),
    ("DNSKEY", 48),
    ("DHCID", 49),
    ("NSEC3", 50),
    ("NSEC3PARAM", 51),
    ("TLSA", 52),
    ("SMIMEA", 53),
    ("HIP", 55),
    ("CDS", 59),
    ("CDNSKEY", 60),
    ("OPENPGPKEY", 61),
    ("CSYNC", 62),
    ("ZONEMD", 63),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("SPF", 99),
    ("EUI48", 108),
    ("EUI64", 109),
    ("TKEY", 249),
    ("TSIG", 250),
    ("IXFR", 251),
    ("AXFR", 252),
    ("MAILB", 253),
    ("MAILA", 254),
    ("ANY", 255),
    ("URI", 256),
    ("CAA", 257),
];
/// Classes.
pub const CLASSES: &[(&str, u16)] = &[("IN", 1), ("CS", 2), ("CH", 3), ("HS", 4), ("NONE", 254), ("ANY", 255)];
/// Codes of an answer.
pub const RCODES: &[(&str, u16)] = &[
    ("NOERROR", 0),
    ("FORMERR", 1),
    ("SERVFAIL", 2),
    ("NXDOMAIN", 3),
    ("NOTIMP", 4),
    ("REFUSED", 5),
    ("YXDOMAIN", 6),
    ("YXRRSET", 7),
    ("NXRRSET", 8),
    ("NOTAUTH", 9),
    ("NOTZONE", 10),
    ("BADSIG", 16),
    ("BADVERS", 16),
    ("BADKEY", 17),
    ("BADTIME", 18),
    ("BADMODE", 19),
    ("BADNAME", 20),
    ("BADALG", 21),
    ("BADTRUNC", 22),
    ("BADCOOKIE", 23),
];

/// Reads the section.
pub fn read(section: &Section<'_>) -> Option<Dns> {
    let name = section.must("query_name", "write what is asked for: query_name: www.example.com", name);
    let dns = Dns {
        family: family(section),
        source: source(section),
        tcp: section.or("transport_protocol", false, values::one_of(&[("udp", false), ("tcp", true)])),
        over_tls: section.or("dns_over_tls", false, switch),
        tls_config: section.below("tls_config").map(|section| tls::read(&section)).unwrap_or_default(),
        name: name.clone().unwrap_or_default(),
        kind: section.or("query_type", 255, |text| known(TYPES, text)),
        class: section.or("query_class", 1, |text| known(CLASSES, text)),
        recursion: section.or("recursion_desired", true, switch),
        rcodes: section
            .get("valid_rcodes")
            .map(|node| node.list().iter().filter_map(|node| node.value(|text| known(RCODES, text))).collect::<Vec<_>>())
            .filter(|codes| !codes.is_empty())
            .unwrap_or_else(|| vec![0]),
        answer: section.below("validate_answer_rrs").map(|section| records(&section)).unwrap_or_default(),
        authority: section.below("validate_authority_rrs").map(|section| records(&section)).unwrap_or_default(),
        additional: section.below("validate_additional_rrs").map(|section| records(&section)).unwrap_or_default(),
    };
    if let Some(node) = section.get("dns_over_tls").filter(|_| dns.over_tls && !dns.tcp) {
        node.complain("goes over TCP", "write transport_protocol: tcp beside it");
    }
    section.finish();
    name.map(|_| dns)
}

fn records(section: &Section<'_>) -> Records {
    let patterns =
        |key| section.get(key).map(|node| node.list().iter().filter_map(|node| node.value(pattern)).collect()).unwrap_or_default();
    let records = Records {
        matches: patterns("fail_if_matches_regexp"),
        all_match: patterns("fail_if_all_match_regexp"),
        not_matches: patterns("fail_if_not_matches_regexp"),
        none_matches: patterns("fail_if_none_matches_regexp"),
    };
    section.finish();
    records
}

fn known(table: &'static [(&str, u16)], text: &str) -> Result<u16, Refusal> {
    if let Some((_, number)) = table.iter().find(|(name, _)| *name == text) {
        return Ok(*number);
    }
    let words: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
    let remedy = nearest(text, &words).map_or_else(|| format!("for example {}", words[0]), |near| format!("did you mean `{near}`?"));
    Err(("is not known to DNS".into(), remedy))
}

/// A name that fits into a question: labels of at most 63 bytes, 253 in all.
fn name(text: &str) -> Result<String, Refusal> {
    let bare = text.strip_suffix('.').unwrap_or(text);
    let fits = text == "." || !bare.is_empty() && bare.len() <= 253 && bare.split('.').all(|label| (1..=63).contains(&label.len()));
    if fits { Ok(text.to_owned()) } else { Err(("is no name in DNS".into(), "for example www.example.com".into())) }
}
