//! Messages of DNS (RFC 1035): one question out, an answer in, its records as text in the way of zone files, separated by tabs as Go's dns
//! package writes them, since expressions of modules are written against that text.
//!
//! Own code, and not a library's: what is needed is small, and the exact text is what matters. The bytes come from whoever was asked: whatever they are, the
//! result is a message or an error; names lead only backwards, so reading ends.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::probe::dns::CLASSES;
use crate::config::probe::dns::TYPES;
use crate::secret::hex;

/// Type of the record that is none: flags of the extension mechanism.
const OPT: u16 = 41;
/// Records in a message that are read.
const RECORDS: usize = 4096;

/// An answer.
#[derive(Debug, Default, PartialEq)]
pub struct Message {
    /// As in the question.
    pub id: u16,
    /// It did not fit.
    pub truncated: bool,
    /// 0 is good.
    pub rcode: u16,
    /// Records that answer,
    pub answer: Vec<Record>,
    /// that say who is responsible,
    pub authority: Vec<Record>,
    /// and others.
    pub additional: Vec<Record>,
}

/// A record.
#[derive(Debug, PartialEq)]
pub struct Record {
    /// As in a zone file.
    pub text: String,
    /// Of an SOA.
    pub serial: Option<u32>,
}

/// Why bytes are no message.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);

/// A question.
pub fn question(id: u16, name: &str, kind: u16, class: u16, recursion: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 18);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&[u8::from(recursion), 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        // The configuration took care of the length.
        out.push(u8::try_from(label.len()).unwrap_or(63));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&class.to_be_bytes());
    out
}

/// Reads an answer.
pub fn read(bytes: &[u8]) -> Result<Message, Broken> {
    let mut reader = Reader { bytes, at: 0 };
    let id = reader.u16()?;
    let flags = reader.u16()?;
    if flags & 0x8000 == 0 {
        return Err(Broken("is a question"));
    }
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    for _ in 0..counts[0] {
        reader.name()?;
        reader.take(4)?;
    }
    let mut message = Message { id, truncated: flags & 0x0200 != 0, rcode: flags & 0x0f, ..Message::default() };
    let mut left = RECORDS;
    for (section, count) in counts.into_iter().enumerate().skip(1) {
        for _ in 0..count {
            left = left.checked_sub(1).ok_or(Broken("has too many records"))?;
            // What was cut off is cut off: the header says so.
            let record = match reader.record(&mut message.rcode) {
                Err(_) if message.truncated => return Ok(message),
                record => record?,
            };
            match section {
                1 => message.answer.push(record),
                2 => message.authority.push(record),
                _ => message.additional.push(record),
            }
        }
    }
    Ok(message)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let taken = self.bytes.get(self.at..self.at + count).ok_or(Broken("ends too early"))?;
        self.at += count;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Broken> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, Broken> {
        self.take(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
    }

    fn u32(&mut self) -> Result<u32, Broken> {
        self.take(4).map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
    }

    /// A name, as text with a dot at its end.
    fn name(&mut self) -> Result<String, Broken> {
        let mut out = String::new();
        let (mut at, mut resume, mut lowest) = (self.at, None, self.at);
        loop {
            let length = usize::from(*self.bytes.get(at).ok_or(Broken("ends too early"))?);
            if length >= 0xc0 {
                let low = usize::from(*self.bytes.get(at + 1).ok_or(Broken("ends too early"))?);
                resume.get_or_insert(at + 2);
                at = (length & 0x3f) << 8 | low;
                // Only ever backwards: so it ends.
                if at >= lowest {
                    return Err(Broken("holds a name that leads forward"));
                }
                lowest = at;
                continue;
            }
            if length > 63 {
                return Err(Broken("holds a label of an unknown kind"));
            }
            if length == 0 {
                self.at = resume.unwrap_or(at + 1);
                if out.is_empty() {
                    out.push('.');
                }
                return Ok(out);
            }
            let label = self.bytes.get(at + 1..at + 1 + length).ok_or(Broken("ends too early"))?;
            if out.len() > 1024 {
                return Err(Broken("holds a name that is too long"));
            }
            for byte in label {
                match byte {
                    b'.' | b' ' | b'\'' | b'@' | b';' | b'(' | b')' | b'"' | b'\\' => {
                        out.push('\\');
                        out.push(char::from(*byte));
                    }
                    0x21..=0x7e => out.push(char::from(*byte)),
                    _ => {
                        let _ = write!(out, "\\{byte:03}");
                    }
                }
            }
            out.push('.');
            at += 1 + length;
        }
    }

    fn record(&mut self, rcode: &mut u16) -> Result<Record, Broken> {
        let name = self.name()?;
        let (kind, class, ttl) = (self.u16()?, self.u16()?, self.u32()?);
        let length = usize::from(self.u16()?);
        let end = self.at + length;
        if end > self.bytes.len() {
            return Err(Broken("ends too early"));
        }
        if kind == OPT {
            *rcode |= u16::try_from(ttl >> 24).unwrap_or(0) << 4;
        }
        let mut serial = None;
        // Of the record alone, but with the names before it to lead to.
        let mut inside = Reader { bytes: &self.bytes[..end], at: self.at };
        let known = inside.data(kind, length, &mut serial).filter(|_| inside.at == end);
        let data = known.unwrap_or_else(|| format!("\\# {length} {}", hex(&self.bytes[self.at..end])));
        self.at = end;
        Ok(Record { text: format!("{name}\t{ttl}\t{}\t{}\t{data}", word(CLASSES, class, "CLASS"), word(TYPES, kind, "TYPE")), serial })
    }

    /// The data of a record of a known kind.
    fn data(&mut self, kind: u16, length: usize, serial: &mut Option<u32>) -> Option<String> {
        let end = self.at + length;
        let text = match kind {
            1 => Ipv4Addr::from(<[u8; 4]>::try_from(self.take(4).ok()?).ok()?).to_string(),
            28 => Ipv6Addr::from(<[u8; 16]>::try_from(self.take(16).ok()?).ok()?).to_string(),
            2 | 5 | 7 | 12 | 39 => self.name().ok()?,
            15 | 18 | 36 => format!("{} {}", self.u16().ok()?, self.name().ok()?),
            17 => format!("{} {}", self.name().ok()?, self.name().ok()?),
            6 => {
                let (server, mail) = (self.name().ok()?, self.name().ok()?);
                let number = self.u32().ok()?;
                *serial = Some(number);
                let times = [self.u32().ok()?, self.u32().ok()?, self.u32().ok()?, self.u32().ok()?];
                format!("{server} {mail} {number} {} {} {} {}", times[0], times[1], times[2], times[3])
            }
            13 | 16 | 99 => {
                let mut all = Vec::new();
                while self.at < end {
                    all.push(self.quoted().ok()?);
                }
                all.join(" ")
            }
            33 => format!("{} {} {} {}", self.u16().ok()?, self.u16().ok()?, self.u16().ok()?, self.name().ok()?),
            35 => {
                let (order, preference) = (self.u16().ok()?, self.u16().ok()?);
                let words = [self.quoted().ok()?, self.quoted().ok()?, self.quoted().ok()?];
                format!("{order} {preference} {} {}", words.join(" "), self.name().ok()?)
            }
            43 | 59 => {
                let (tag, algorithm, digest) = (self.u16().ok()?, self.u8().ok()?, self.u8().ok()?);
                format!("{tag} {algorithm} {digest} {}", hex(self.rest(end)?).to_uppercase())
            }
            44 => format!("{} {} {}", self.u8().ok()?, self.u8().ok()?, hex(self.rest(end)?).to_uppercase()),
            48 | 60 => {
                let (flags, protocol, algorithm) = (self.u16().ok()?, self.u8().ok()?, self.u8().ok()?);
                format!("{flags} {protocol} {algorithm} {}", STANDARD.encode(self.rest(end)?))
            }
            52 | 53 => {
                let (usage, selector, matching) = (self.u8().ok()?, self.u8().ok()?, self.u8().ok()?);
                format!("{usage} {selector} {matching} {}", hex(self.rest(end)?))
            }
            257 => {
                let flags = self.u8().ok()?;
                let tag = usize::from(self.u8().ok()?);
                let tag = String::from_utf8_lossy(self.take(tag).ok()?).into_owned();
                format!("{flags} {tag} {}", quote(self.rest(end)?))
            }
            _ => return None,
        };
        Some(text)
    }

    fn rest(&mut self, end: usize) -> Option<&'a [u8]> {
        self.take(end.checked_sub(self.at)?).ok()
    }

    fn quoted(&mut self) -> Result<String, Broken> {
        let length = usize::from(self.u8()?);
        Ok(quote(self.take(length)?))
    }
}

fn quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for byte in bytes {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            0x20..=0x7e => out.push(char::from(*byte)),
            _ => {
                let _ = write!(out, "\\{byte:03}");
            }
        }
    }
    out.push('"');
    out
}

fn word(table: &[(&str, u16)], number: u16, otherwise: &str) -> String {
    table.iter().find(|(_, known)| *known == number).map_or_else(|| format!("{otherwise}{number}"), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::damage;
    use crate::mutate::seeds;

    /// An answer to `question`, with records given as name, type and data.
    pub fn answer(question: &[u8], records: &[(&str, u16, Vec<u8>)]) -> Vec<u8> {
        let mut out = question.to_vec();
        out[2] |= 0x80;
        out[7] = u8::try_from(records.len()).unwrap();
        for (name, kind, data) in records {
            // The name of the question, or one of its own.
            let own = self::question(0, name, 0, 0, false);
            out.extend_from_slice(if name.is_empty() { &[0xc0, 12] } else { &own[12..own.len() - 4] });
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&[0, 1, 0, 0, 1, 44]);
            out.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
            out.extend_from_slice(data);
        }
        out
    }

    fn sample() -> Vec<u8> {
        let question = question(7, "www.example.com", 255, 1, true);
        let soa = [&[0xc0, 12][..], &[4, b'm', b'.', b'a', b'x', 0], &1000_u32.to_be_bytes(), &[0, 0, 0, 1].repeat(4)].concat();
        answer(
            &question,
            &[
                ("", 1, vec![127, 0, 0, 1]),
                ("a.b", 16, b"\x03x\"y\x01\x07".to_vec()),
                ("", 6, soa),
                ("", 15, vec![0, 10, 0xc0, 12]),
                ("", 33, vec![0, 1, 0, 2, 0, 80, 1, b't', 0]),
                ("", 257, b"\x00\x05issueca.example".to_vec()),
                ("", 28, [0; 15].into_iter().chain([1]).collect()),
                ("", 4711, vec![1, 0xff]),
            ],
        )
    }

    #[test]
    fn records_are_written_as_zone_files_write_them() {
        let message = read(&sample()).unwrap();
        let texts: Vec<&str> = message.answer.iter().map(|record| record.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "www.example.com.\t300\tIN\tA\t127.0.0.1",
                "a.b.\t300\tIN\tTXT\t\"x\\\"y\" \"\\007\"",
                "www.example.com.\t300\tIN\tSOA\twww.example.com. m\\.ax. 1000 1 1 1 1",
                "www.example.com.\t300\tIN\tMX\t10 www.example.com.",
                "www.example.com.\t300\tIN\tSRV\t1 2 80 t.",
                "www.example.com.\t300\tIN\tCAA\t0 issue \"ca.example\"",
                "www.example.com.\t300\tIN\tAAAA\t::1",
                "www.example.com.\t300\tIN\tTYPE4711\t\\# 2 01ff",
            ]
        );
        assert_eq!(message.answer[2].serial, Some(1000));
    }

    #[test]
    fn whatever_the_bytes_are_reading_ends() {
        let good = sample();
        assert_eq!(read(b""), Err(Broken("ends too early")));
        // A name that leads to itself.
        let mut circle = answer(&question(1, "", 1, 1, false), &[("", 2, vec![0xc0, 0])]);
        let at = circle.len() - 1;
        circle[at] = u8::try_from(at - 1).unwrap();
        assert!(read(&circle).is_ok_and(|message| message.answer[0].text.contains("\\# 2")));
        for seed in seeds(20_000) {
            let mut bytes = good.clone();
            damage(&mut fastrand::Rng::with_seed(seed), &mut bytes);
            let _ = read(&bytes);
        }
    }
}
