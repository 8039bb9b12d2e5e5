//! Where a row goes: which topic (a template over its labels, with an allow list and a bound), and which partition (a key).
//!
//! Pure, and nothing is allocated for a row. Left out on purpose: whether a topic exists and how many partitions it has (`kafka::topics`).

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::model::tenant;
use crate::wire::remote_write::Label;

/// Kafka takes no longer name.
pub const TOPIC_BYTES_MAX: usize = 249;

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Label(String),
}

/// A topic's name with labels in it: `metrics.{{datacenter}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

impl Template {
    /// Whether a name is one.
    pub fn is_one(text: &str) -> bool {
        text.contains("{{") || text.contains("}}")
    }

    /// Reads a template; or the rule that it breaks.
    pub fn parse(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((label, behind)) = after.split_once("}}") else { return Err("a label's {{ is not closed by }}".to_owned()) };
            let label = label.trim();
            if label.is_empty() || label.contains(['{', '}']) {
                return Err("a label's name stands between {{ and }}".to_owned());
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Label(label.to_owned()));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let fits = |part: &Part| match part {
            Part::Text(text) => text.bytes().all(legal),
            Part::Label(_) => true,
        };
        if !parts.iter().all(fits) {
            return Err("around the labels stand letters, digits, dots, underscores and hyphens only".to_owned());
        }
        if !parts.iter().any(|part| matches!(part, Part::Label(_))) {
            return Err("it names no label".to_owned());
        }
        Ok(Template { text: text.to_owned(), parts })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Writes the topic's name for these labels and this tenant; false: a label is not there, or it would be no topic's name. What no name can hold becomes `_`.
    pub fn fill(&self, (labels, tenant): (&[Label<'_>], &str), out: &mut String) -> bool {
        out.clear();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Label(name) => {
                    let Some(value) = value_of((labels, tenant), name) else { return false };
                    if value.bytes().all(legal) {
                        out.push_str(value);
                    } else {
                        out.extend(value.chars().map(|letter| if letter.is_ascii() && legal(letter as u8) { letter } else { '_' }));
                    }
                }
            }
        }
        out.len() <= TOPIC_BYTES_MAX && out != "." && out != ".."
    }
}

fn legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Whether Kafka takes this name.
pub fn legal_topic(topic: &str) -> bool {
    (1..=TOPIC_BYTES_MAX).contains(&topic.len()) && topic != "." && topic != ".." && topic.bytes().all(legal)
}

/// The value of the label, or of the tenant's name, which is never empty.
#[inline]
fn value_of<'a>((labels, tenant): (&[Label<'a>], &'a str), name: &str) -> Option<&'a str> {
    if name == tenant::LABEL {
        return Some(tenant).filter(|tenant| !tenant.is_empty());
    }
    labels.iter().find(|label| label.name == name).map(|label| label.value)
}

/// Whether a name fits a pattern, in which `*` stands for anything.
pub fn fits(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        // The first place will do: whatever comes after it comes after a later one, too.
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    left.ends_with(last)
}

/// Topics that all shards of a sink in this process have taken by the template: a bound on what senders' labels can make sluice write to.
#[derive(Debug, Default)]
pub struct Taken {
    /// Guards a set of names; nothing is done while it is held.
    names: Mutex<BTreeSet<String>>,
}

impl Taken {
    /// Whether this topic is one of the first `max`.
    pub fn admit(&self, topic: &str, max: usize) -> bool {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.contains(topic) {
            return true;
        }
        let room = names.len() < max;
        if room {
            names.insert(topic.to_owned());
        }
        room
    }
}

/// What decides the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// The series' hash.
    Series,
    /// The values of these labels; as Java's producer does it, so that other topics with this key have the same partition.
    Labels(Vec<String>),
    /// Nothing: partitions are filled in turn.
    None,
}

impl Key {
    /// Writes the key's text; false: it has none, as a series without any of the labels.
    pub fn write(&self, (labels, tenant): (&[Label<'_>], &str), series: u64, out: &mut Vec<u8>) -> bool {
        out.clear();
        match self {
            Key::Series => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend((0..16).rev().map(|place| DIGITS[(series >> (place * 4) & 15) as usize]));
                true
            }
            Key::Labels(names) => {
                let mut some = false;
                for (place, name) in names.iter().enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    if let Some(value) = value_of((labels, tenant), name) {
                        some = true;
                        out.extend_from_slice(value.as_bytes());
                    }
                }
                some
            }
            Key::None => false,
        }
    }
}

/// The partition that Java's producer gives a record with this key.
pub fn java_partition(key: &[u8], partitions: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % partitions.max(1)
}

/// MurmurHash2 (Austin Appleby, public domain) with the seed that Kafka's clients use.
pub fn murmur2(data: &[u8]) -> u32 {
    const FACTOR: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut mixed = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(FACTOR);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(FACTOR) ^ mixed.wrapping_mul(FACTOR);
    }
    let left = words.remainder();
    if !left.is_empty() {
        left.iter().enumerate().for_each(|(place, byte)| hash ^= u32::from(*byte) << (8 * place));
        hash = hash.wrapping_mul(FACTOR);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(FACTOR);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<Label<'a>> {
        pairs.iter().map(|(name, value)| Label::new(0, name, value)).collect()
    }

    #[test]
    fn a_template_takes_its_labels_or_says_that_it_cannot() {
        let mut name = String::new();
        let template = Template::parse("m.{{datacenter}}.{{ job }}").unwrap();
        let mut filled = |pairs: &[(&str, &str)]| template.fill((&labels(pairs), ""), &mut name).then(|| name.clone());
        assert_eq!(filled(&[("datacenter", "nj1"), ("job", "node")]).as_deref(), Some("m.nj1.node"));
        assert_eq!(filled(&[("datacenter", "nj 1/ü"), ("job", "node")]).as_deref(), Some("m.nj_1__.node"));
        assert_eq!(filled(&[("datacenter", "nj1")]), None, "a label is missing");
        assert_eq!(filled(&[("datacenter", &"x".repeat(250)), ("job", "node")]), None, "too long");
        let mut bare = String::new();
        assert!(!Template::parse("{{a}}").unwrap().fill((&labels(&[("a", "..")]), ""), &mut bare));
        // A tenant is no label, and may be called as Kafka's topics may not.
        let by_tenant = Template::parse("m.{{__tenant__}}").unwrap();
        assert!(by_tenant.fill((&[], "team-a*'()"), &mut bare) && bare == "m.team-a____", "{bare}");
        assert!(!by_tenant.fill((&labels(&[("__tenant__", "x")]), ""), &mut bare));
        for wrong in ["m.{{a", "m.{{}}", "m {{a}}", "m.{{{a}}}", "m.a}}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn patterns_hold_any_number_of_stars() {
        for (pattern, name, expected) in [
            ("m.nj1", "m.nj1", true),
            ("m.nj1", "m.nj11", false),
            ("m.*", "m.", true),
            ("m.*", "n.x", false),
            ("*", "anything", true),
            ("m.*.x", "m.a.x.x", true),
            ("m.*.x", "m.x", false),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn the_first_topics_are_admitted_and_stay_so() {
        let taken = Taken::default();
        assert_eq!(["a", "b", "a", "c", "b"].map(|topic| taken.admit(topic, 2)), [true, true, true, false, true]);
    }

    /// From `UtilsTest.testMurmur2` of Apache Kafka.
    #[test]
    fn keys_hash_as_in_java() {
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
        }
    }

    #[test]
    fn keys_are_hex_or_the_values_of_labels() {
        let mut key = Vec::new();
        let of = labels(&[("a", "x"), ("b", "y")]);
        let mut text = |by: &Key, series| by.write((&of, ""), series, &mut key).then(|| String::from_utf8(key.clone()).unwrap());
        assert_eq!(text(&Key::Series, 0xab).as_deref(), Some("00000000000000ab"));
        assert_eq!(text(&Key::Labels(vec!["b".into(), "none".into(), "a".into()]), 1).as_deref(), Some("y,,x"));
        assert_eq!(text(&Key::Labels(vec!["none".into()]), 1), None);
        assert_eq!(text(&Key::None, 1), None);
    }
}
