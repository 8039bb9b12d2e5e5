//! `application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited`: a length and a MetricFamily, again and again. What Go's
//! client library pushes.
//!
//! Of histograms the classic buckets are read; a native one keeps its sum and its count. A metric without the value that its family's type wants can be read and
//! is refused.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::wire::families::Family;
use crate::wire::families::Kind;
use crate::wire::families::Labels;
use crate::wire::families::MOST_ITEMS;
use crate::wire::families::Metric;
use crate::wire::families::NO_TIMES;
use crate::wire::families::Parts;
use crate::wire::families::Read;
use crate::wire::families::Value;
use crate::wire::families::Wrong;
use crate::wire::proto::Malformed;
use crate::wire::proto::Reader;

/// Keys: the field's number and how it is written.
const fn text(field: u32) -> u32 {
    field << 3 | 2
}

const fn varint(field: u32) -> u32 {
    field << 3
}

const fn double(field: u32) -> u32 {
    field << 3 | 1
}

impl From<Malformed> for Wrong {
    fn from(malformed: Malformed) -> Wrong {
        Wrong::Protobuf(malformed.to_string())
    }
}

/// A metric before its family's type is known, since that may follow.
#[derive(Default)]
struct Loose {
    labels: Labels,
    /// By kind's number.
    values: [Option<Value>; 5],
    timed: bool,
}

/// How much more may come.
struct Room(usize);

impl Room {
    fn take(&mut self) -> Result<(), Wrong> {
        self.0 =
            self.0.checked_sub(1).ok_or_else(|| Wrong::Protobuf(format!("there are more than {MOST_ITEMS} metrics, labels and steps")))?;
        Ok(())
    }
}

/// Reads a body. Of two families of one name the later one counts.
pub fn read(body: &[u8]) -> Result<Read, Wrong> {
    let (mut by_name, mut refused, mut room) = (BTreeMap::new(), None, Room(MOST_ITEMS));
    let mut all = Reader::new(body);
    while !all.is_empty() {
        let family = read_family(all.message()?, &mut refused, &mut room)?;
        by_name.insert(family.name.clone(), family);
    }
    Ok(Read { families: by_name.into_values().collect(), refused })
}

fn string(reader: &mut Reader<'_>) -> Result<String, Wrong> {
    let bytes = reader.message()?;
    String::from_utf8(bytes.rest().to_vec()).map_err(|_| Wrong::Protobuf("a text is not UTF-8".to_owned()))
}

fn read_family(mut from: Reader<'_>, refused: &mut Option<String>, room: &mut Room) -> Result<Family, Wrong> {
    let (mut name, mut help, mut kind, mut loose) = (String::new(), None, 0, Vec::new());
    while let Some(key) = from.key()? {
        match key {
            key if key == text(1) => name = string(&mut from)?,
            key if key == text(2) => help = Some(string(&mut from)?),
            key if key == varint(3) => kind = from.varint()?,
            key if key == text(4) => loose.push(read_metric(from.message()?, room)?),
            key => from.skip(key, &[1, 2, 3, 4])?,
        }
    }
    if !is_name(&name, true) {
        return Err(Wrong::Protobuf(format!("{name:?} is no name of a metric")));
    }
    let kind = Kind::of(kind).ok_or_else(|| Wrong::Protobuf(format!("{name} has type number {kind}, which is not known here")))?;
    let mut metrics = Vec::with_capacity(loose.len());
    for Loose { labels, mut values, timed } in loose {
        if timed {
            refused.get_or_insert_with(|| NO_TIMES.to_owned());
        }
        if let Some((label, _)) = labels.iter().find(|(label, _)| !is_name(label, false)) {
            refused.get_or_insert_with(|| format!("a metric {name} has a label {label:?}, which is no name of a label"));
        }
        if labels.iter().map(|(label, _)| label).collect::<BTreeSet<_>>().len() < labels.len() {
            refused.get_or_insert_with(|| format!("a metric {name} has two labels of one name"));
        }
        match values[usize::from(kind.number())].take() {
            Some(value) => metrics.push(Metric { labels, value }),
            None => drop(refused.get_or_insert_with(|| format!("a metric {name} is not a {}", kind.word()))),
        }
    }
    Ok(Family { name, help, kind, metrics })
}

fn is_name(name: &str, colons: bool) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || colons && byte == b':';
    let mut bytes = name.bytes();
    bytes.next().is_some_and(letter) && bytes.all(|byte| letter(byte) || byte.is_ascii_digit()) && name != "__name__"
}

fn read_metric(mut from: Reader<'_>, room: &mut Room) -> Result<Loose, Wrong> {
    room.take()?;
    let mut loose = Loose::default();
    while let Some(key) = from.key()? {
        let mut put = |kind: Kind, value| loose.values[usize::from(kind.number())] = Some(value);
        match key {
            key if key == text(1) => {
                room.take()?;
                loose.labels.push(read_label(from.message()?)?);
            }
            key if key == text(2) => put(Kind::Gauge, read_single(from.message()?)?),
            key if key == text(3) => put(Kind::Counter, read_single(from.message()?)?),
            key if key == text(4) => put(Kind::Summary, read_summary(from.message()?, room)?),
            key if key == text(5) => put(Kind::Untyped, read_single(from.message()?)?),
            key if key == varint(6) => {
                from.varint()?;
                loose.timed = true;
            }
            key if key == text(7) => put(Kind::Histogram, read_histogram(from.message()?, room)?),
            key => from.skip(key, &[1, 2, 3, 4, 5, 6, 7])?,
        }
    }
    Ok(loose)
}

fn read_label(mut from: Reader<'_>) -> Result<(String, String), Wrong> {
    let mut pair = (String::new(), String::new());
    while let Some(key) = from.key()? {
        match key {
            key if key == text(1) => pair.0 = string(&mut from)?,
            key if key == text(2) => pair.1 = string(&mut from)?,
            key => from.skip(key, &[1, 2])?,
        }
    }
    Ok(pair)
}

fn read_single(mut from: Reader<'_>) -> Result<Value, Wrong> {
    let mut value = 0.0;
    while let Some(key) = from.key()? {
        if key == double(1) {
            value = f64::from_bits(from.fixed64()?);
        } else {
            from.skip(key, &[1])?;
        }
    }
    Ok(Value::Single(value))
}

/// Two doubles: a quantile and its value.
fn read_quantile(mut from: Reader<'_>) -> Result<(f64, f64), Wrong> {
    let mut pair = (0.0, 0.0);
    while let Some(key) = from.key()? {
        match key {
            key if key == double(1) => pair.0 = f64::from_bits(from.fixed64()?),
            key if key == double(2) => pair.1 = f64::from_bits(from.fixed64()?),
            key => from.skip(key, &[1, 2])?,
        }
    }
    Ok(pair)
}

fn read_summary(mut from: Reader<'_>, room: &mut Room) -> Result<Value, Wrong> {
    let mut parts = Parts::default();
    while let Some(key) = from.key()? {
        match key {
            key if key == varint(1) => parts.count = from.varint()? as f64,
            key if key == double(2) => parts.sum = f64::from_bits(from.fixed64()?),
            key if key == text(3) => {
                room.take()?;
                parts.steps.push(read_quantile(from.message()?)?);
            }
            key => from.skip(key, &[1, 2, 3])?,
        }
    }
    Ok(Value::Parts(parts))
}

fn read_histogram(mut from: Reader<'_>, room: &mut Room) -> Result<Value, Wrong> {
    let (mut parts, mut fractions) = (Parts::default(), None);
    while let Some(key) = from.key()? {
        match key {
            key if key == varint(1) => parts.count = from.varint()? as f64,
            key if key == double(2) => parts.sum = f64::from_bits(from.fixed64()?),
            key if key == text(3) => {
                room.take()?;
                parts.steps.push(read_bucket(from.message()?)?);
            }
            key if key == double(4) => fractions = Some(f64::from_bits(from.fixed64()?)),
            key => from.skip(key, &[1, 2, 3, 4])?,
        }
    }
    parts.count = fractions.filter(|count| *count > 0.0).unwrap_or(parts.count);
    Ok(Value::Parts(parts))
}

fn read_bucket(mut from: Reader<'_>) -> Result<(f64, f64), Wrong> {
    let (mut bound, mut count, mut fractions) = (0.0, 0.0, None);
    while let Some(key) = from.key()? {
        match key {
            key if key == varint(1) => count = from.varint()? as f64,
            key if key == double(2) => bound = f64::from_bits(from.fixed64()?),
            key if key == double(4) => fractions = Some(f64::from_bits(from.fixed64()?)),
            key => from.skip(key, &[1, 2, 4])?,
        }
    }
    Ok((bound, fractions.filter(|count| *count > 0.0).unwrap_or(count)))
}
