//! What a certificate (X.509, DER) says of itself, good or bad: for metrics and people. Whether it is any good is judged elsewhere (`tls`).
//!
//! The bytes come from whoever was probed: whatever they are, the answer is a value or nothing. Names are written as Go writes them
//! (RFC 2253, in Go's order), so that series of blackbox_exporter go on.

use std::borrow::Cow;

use ring::digest;

use crate::probe::outcome::Certificate;
use crate::secret::hex;
use crate::secret::validity::item;
use crate::secret::validity::moment_ms;

const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `version [0]` and `extensions [3]` of a certificate; `dNSName [2]` of its names.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// Attributes in the order in which Go writes them, which is the other way around of the order in which it keeps them: last byte of 2.5.4.x.
const ATTRIBUTES: [(u8, &str); 9] =
    [(5, "SERIALNUMBER"), (3, "CN"), (17, "POSTALCODE"), (9, "STREET"), (8, "ST"), (7, "L"), (11, "OU"), (10, "O"), (6, "C")];

/// Reads one.
pub fn read(der: &[u8]) -> Option<Certificate> {
    let (SEQUENCE, whole, _) = item(der)? else { return None };
    let (SEQUENCE, signed, _) = item(whole)? else { return None };
    let rest = match item(signed)? {
        (VERSION, _, rest) => rest,
        _ => signed,
    };
    let (INTEGER, serial, rest) = item(rest)? else { return None };
    let (SEQUENCE, _algorithm, rest) = item(rest)? else { return None };
    let (SEQUENCE, issuer, rest) = item(rest)? else { return None };
    let (SEQUENCE, validity, rest) = item(rest)? else { return None };
    let (SEQUENCE, subject, rest) = item(rest)? else { return None };
    let (SEQUENCE, _key, rest) = item(rest)? else { return None };
    let (begin_tag, begins, after) = item(validity)?;
    let (end_tag, ends, _) = item(after)?;
    let significant = serial.iter().position(|byte| *byte != 0).map_or(&[][..], |at| &serial[at..]);
    Some(Certificate {
        subject: name(subject),
        issuer: name(issuer),
        serial: hex(significant),
        names: alternative_names(rest).unwrap_or_default(),
        begins_ms: moment_ms(begin_tag, begins)?,
        ends_ms: moment_ms(end_tag, ends)?,
        fingerprint: hex(digest::digest(&digest::SHA256, der).as_ref()),
    })
}

/// The members of a list, as long as they are well formed.
fn items(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, content, after) = item(rest)?;
        rest = after;
        Some((tag, content))
    })
}

fn alternative_names(mut rest: &[u8]) -> Option<Vec<String>> {
    let extensions = loop {
        let (tag, content, after) = item(rest)?;
        if tag == EXTENSIONS {
            break item(content)?.1;
        }
        rest = after;
    };
    for (_, extension) in items(extensions) {
        let (OID, oid, after) = item(extension)? else { continue };
        if oid != SUBJECT_ALT_NAME {
            continue;
        }
        // A flag may stand between.
        let (_, octets) = items(after).find(|(tag, _)| *tag == OCTETS)?;
        let (SEQUENCE, names, _) = item(octets)? else { return None };
        let texts = items(names).filter(|(tag, _)| *tag == DNS_NAME).map(|(_, name)| String::from_utf8_lossy(name).into_owned());
        return Some(texts.collect());
    }
    None
}

/// An attribute of a name: its identifier, and its value with tag and length.
struct Attribute<'a> {
    oid: &'a [u8],
    tag: u8,
    value: &'a [u8],
    whole: &'a [u8],
}

fn name(rdns: &[u8]) -> String {
    let mut all = Vec::new();
    for (_, set) in items(rdns).filter(|(tag, _)| *tag == SET) {
        for (_, pair) in items(set).filter(|(tag, _)| *tag == SEQUENCE) {
            let Some((OID, oid, whole)) = item(pair) else { continue };
            let Some((tag, value, _)) = item(whole) else { continue };
            all.push(Attribute { oid, tag, value, whole });
        }
    }
    let mut parts = Vec::new();
    for (last, word) in ATTRIBUTES {
        let of_kind: Vec<String> = all
            .iter()
            .filter(|attribute| attribute.oid == [0x55, 0x04, last])
            .map(|attribute| format!("{word}={}", escaped(&text(attribute))))
            .collect();
        // There is only one of these in Go, the last.
        match (word, of_kind.last()) {
            (_, None) => {}
            ("CN" | "SERIALNUMBER", Some(one)) => parts.push(one.clone()),
            _ => parts.push(of_kind.join("+")),
        }
    }
    let known = |oid: &[u8]| matches!(oid, [0x55, 0x04, last] if ATTRIBUTES.iter().any(|(known, _)| known == last));
    for attribute in all.iter().rev().filter(|attribute| !known(attribute.oid)) {
        parts.push(format!("{}=#{}", dotted(attribute.oid), hex(attribute.whole)));
    }
    parts.join(",")
}

fn text<'a>(attribute: &Attribute<'a>) -> Cow<'a, str> {
    // BMPString: two bytes a letter.
    if attribute.tag == 0x1e {
        let letters = attribute.value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        return char::decode_utf16(letters).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>().into();
    }
    String::from_utf8_lossy(attribute.value)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, letter) in text.chars().enumerate() {
        let special = matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';');
        if special || letter == ' ' && (at == 0 || at == last) || letter == '#' && at == 0 {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

fn dotted(oid: &[u8]) -> String {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc: u64 = 0;
    for byte in oid {
        arc = arc.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.extend([first, arc - first * 40]);
            } else {
                arcs.push(arc);
            }
            arc = 0;
        }
    }
    arcs.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use rcgen::CertificateParams;
    use rcgen::DnType;
    use rcgen::KeyPair;
    use rcgen::SerialNumber;

    use super::*;
    use crate::mutate::damage;
    use crate::mutate::seeds;

    fn certificate() -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a.example".to_owned(), "*.b.example".to_owned(), "192.0.2.1".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "CN");
        params.distinguished_name.push(DnType::OrganizationName, "Big, Inc.");
        params.distinguished_name.push(DnType::CommonName, "#1 <x>");
        params.distinguished_name.push(DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]), "m@x");
        params.serial_number = Some(SerialNumber::from(vec![0, 0x0b, 0xad]));
        params.not_before = rcgen::date_time_ymd(2020, 1, 2);
        params.not_after = rcgen::date_time_ymd(2060, 1, 2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_is_read_as_go_writes_it() {
        let read = read(&certificate()).unwrap();
        // The order of Go's String(), with what it does not know in hexadecimal at the end.
        assert!(read.subject.starts_with(r"CN=\#1 \<x\>,O=Big\, Inc.,C=CN,1.2.840.113549.1.9.1=#"), "{}", read.subject);
        assert_eq!((read.serial.as_str(), &read.subject), ("0bad", &read.issuer));
        assert_eq!(read.names, ["a.example", "*.b.example"]);
        assert_eq!((read.begins_ms, read.ends_ms), (1_577_923_200_000, 2_840_227_200_000));
        assert_eq!(read.fingerprint.len(), 64);
    }

    #[test]
    fn whatever_the_bytes_are_the_answer_is_a_value_or_nothing() {
        let good = certificate();
        assert_eq!(read(b""), None);
        for seed in seeds(20_000) {
            let mut bytes = good.clone();
            damage(&mut fastrand::Rng::with_seed(seed), &mut bytes);
            let _ = read(&bytes);
        }
    }
}
