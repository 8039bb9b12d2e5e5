//! A sample in Avro's binary encoding, after the one schema that is shipped (docs/sample.avsc): the contract `avro/1` of docs/rows.md.
//!
//! Written by hand because a record of a fixed schema is a dozen appends, and a value tree for each sample is not. Tests read it back with
//! Avro's own implementation. Nothing is allocated for a sample. With a schema registry a message begins with Confluent's five bytes.

use crate::forward::rows::Row;
use crate::forward::rows::Value;
use crate::wire::histogram::Histogram;
use crate::wire::histogram::Side;

/// The schema, as shipped.
pub const SCHEMA: &str = include_str!("../../docs/sample.avsc");
/// Confluent's framing: this byte, then the schema's number as four bytes.
const MAGIC: u8 = 0;
/// Bytes of that framing.
pub const FRAME: usize = 5;

/// Appends the message; `schema` is the number that a registry gave. False (and nothing appended): this point has none (an exemplar).
pub fn encode(row: &Row<'_>, schema: Option<u32>, out: &mut Vec<u8>) -> bool {
    if matches!(row.value, Value::Exemplar) {
        return false;
    }
    if let Some(number) = schema {
        out.push(MAGIC);
        out.extend_from_slice(&number.to_be_bytes());
    }
    put_long(out, row.time);
    out.push(u8::from(row.late));
    let named = row.labels.iter().position(|label| label.name == "__name__");
    put_text(out, named.map_or("", |place| row.labels[place].value));
    let count = row.labels.len() - usize::from(named.is_some());
    if count > 0 {
        put_long(out, count as i64);
        for (place, label) in row.labels.iter().enumerate() {
            if Some(place) != named {
                put_text(out, label.name);
                put_text(out, label.value);
            }
        }
    }
    put_long(out, 0);
    match row.value {
        Value::Float(value) => {
            put_long(out, 1);
            put_double(out, value);
        }
        _ => put_long(out, 0),
    }
    match row.rise() {
        Some(rise) => {
            put_long(out, 1);
            put_double(out, rise.by);
            put_long(out, 1);
            put_long(out, rise.within);
        }
        None => {
            put_long(out, 0);
            put_long(out, 0);
        }
    }
    out.push(u8::from(matches!(row.value, Value::Stale)));
    match row.value {
        Value::Histogram(histogram) => {
            put_long(out, 1);
            put_histogram(out, histogram);
        }
        _ => put_long(out, 0),
    }
    true
}

fn put_histogram(out: &mut Vec<u8>, histogram: &Histogram) {
    put_double(out, histogram.count.to_f64());
    put_double(out, f64::from_bits(histogram.sum_bits));
    put_long(out, i64::from(histogram.schema));
    put_double(out, f64::from_bits(histogram.zero_threshold_bits));
    put_double(out, histogram.zero_count.to_f64());
    put_buckets(out, &histogram.positive, histogram.is_float());
    put_buckets(out, &histogram.negative, histogram.is_float());
    if !histogram.custom_values.is_empty() {
        put_long(out, histogram.custom_values.len() as i64);
        histogram.custom_values.iter().for_each(|bound| put_double(out, f64::from_bits(*bound)));
    }
    put_long(out, 0);
    put_long(out, i64::from(histogram.reset_hint.min(3)));
}

fn put_buckets(out: &mut Vec<u8>, side: &Side, float: bool) {
    let buckets = if float { side.counts.len() } else { side.deltas.len() };
    let named: u64 = side.spans.iter().map(|span| u64::from(span.length)).sum();
    // As many as there are counts for: the spans of a histogram that was checked speak of no more.
    let count = usize::try_from(named).unwrap_or(usize::MAX).min(buckets);
    if count > 0 {
        put_long(out, count as i64);
    }
    let (mut index, mut number, mut running) = (0_i64, 0, 0_i64);
    for span in &side.spans {
        index += i64::from(span.offset);
        for _ in 0..(span.length as usize).min(count - number) {
            put_long(out, index);
            if float {
                put_double(out, f64::from_bits(side.counts[number]));
            } else {
                running = running.wrapping_add(side.deltas[number]);
                put_double(out, running as f64);
            }
            number += 1;
            index += 1;
        }
    }
    put_long(out, 0);
}

#[inline]
fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut left = (value << 1 ^ value >> 63).cast_unsigned();
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[inline]
fn put_text(out: &mut Vec<u8>, text: &str) {
    put_long(out, text.len() as i64);
    out.extend_from_slice(text.as_bytes());
}

fn put_double(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// What a dead letter must tell to be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter<'a> {
    /// All labels, the name among them, sorted by name.
    pub labels: Vec<(&'a str, &'a str)>,
    /// Where the mark of late samples stands.
    pub late_at: usize,
}

/// Reads a message of ours back, as far as a letter needs; `None`: it is no whole one.
pub fn read(message: &[u8], framed: bool) -> Option<Letter<'_>> {
    let mut reader = Reader { left: message };
    if framed {
        reader.take(FRAME).filter(|frame| frame[0] == MAGIC)?;
    }
    reader.long()?;
    let late_at = message.len() - reader.left.len();
    reader.flag()?;
    let name = reader.text()?;
    let mut labels = Vec::new();
    if !name.is_empty() {
        labels.push(("__name__", name));
    }
    reader.block(&mut |reader| {
        labels.push((reader.text()?, reader.text()?));
        Some(())
    })?;
    labels.sort_unstable();
    reader.optional(&mut |reader| reader.take(8).map(drop))?;
    reader.optional(&mut |reader| reader.take(8).map(drop))?;
    reader.optional(&mut |reader| reader.long().map(drop))?;
    reader.flag()?;
    reader.optional(&mut |reader| {
        reader.take(16)?;
        reader.long()?;
        reader.take(16)?;
        for _ in 0..2 {
            reader.block(&mut |reader| {
                reader.long()?;
                reader.take(8).map(drop)
            })?;
        }
        reader.block(&mut |reader| reader.take(8).map(drop))?;
        reader.long().map(drop)
    })?;
    reader.left.is_empty().then_some(Letter { labels, late_at })
}

struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.left.split_at_checked(count)?;
        self.left = left;
        Some(taken)
    }

    fn long(&mut self) -> Option<i64> {
        let mut value = 0_u64;
        for place in 0..10 {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        None
    }

    fn flag(&mut self) -> Option<()> {
        self.take(1).filter(|byte| byte[0] < 2).map(drop)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.long()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    /// The blocks of an array or a map, as we write them: one at most.
    fn block(&mut self, item: &mut dyn FnMut(&mut Reader<'a>) -> Option<()>) -> Option<()> {
        let count = self.long()?;
        if count == 0 {
            return Some(());
        }
        for _ in 0..usize::try_from(count).ok()? {
            item(self)?;
        }
        (self.long()? == 0).then_some(())
    }

    fn optional(&mut self, there: &mut dyn FnMut(&mut Reader<'a>) -> Option<()>) -> Option<()> {
        match self.long()? {
            0 => Some(()),
            1 => there(self),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Before;
    use crate::mutate::damage;
    use crate::mutate::seeds;
    use crate::wire::histogram::Count;
    use crate::wire::histogram::Span;
    use crate::wire::remote_write::Label;
    use apache_avro::types::Value as Avro;

    fn labels() -> [Label<'static>; 4] {
        [("__name__", "up"), ("a", "ü\"\\"), ("job", "node"), ("zone", "")].map(|(name, value)| Label::new(9, name, value))
    }

    fn row<'a>(labels: &'a [Label<'a>], value: Value<'a>) -> Row<'a> {
        Row { labels, time: 1_790_000_000_123, value, late: false, series: 1, item: 0, before: None, tenant: "" }
    }

    /// By Avro's own implementation, which must take all of it.
    fn decoded(message: &[u8]) -> Vec<(String, Avro)> {
        let schema = apache_avro::Schema::parse_str(SCHEMA).unwrap();
        let mut left = message;
        let value = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut left).unwrap();
        assert_eq!(left, b"");
        let Avro::Record(fields) = value else { panic!("{value:?}") };
        fields
    }

    fn field<'a>(fields: &'a [(String, Avro)], name: &str) -> &'a Avro {
        let value = &fields.iter().find(|(field, _)| field == name).unwrap().1;
        if let Avro::Union(_, within) = value { within } else { value }
    }

    #[test]
    fn avros_own_reader_reads_what_was_written() {
        let labels = labels();
        let mut out = Vec::new();
        assert!(encode(&Row { late: true, ..row(&labels, Value::Float(1.5)) }, None, &mut out));
        let fields = decoded(&out);
        assert_eq!(field(&fields, "ts"), &Avro::TimestampMillis(1_790_000_000_123));
        assert_eq!(field(&fields, "name"), &Avro::String("up".into()));
        assert_eq!((field(&fields, "late"), field(&fields, "stale")), (&Avro::Boolean(true), &Avro::Boolean(false)));
        assert_eq!((field(&fields, "v"), field(&fields, "d"), field(&fields, "dt")), (&Avro::Double(1.5), &Avro::Null, &Avro::Null));
        let Avro::Map(map) = field(&fields, "labels") else { panic!("{fields:?}") };
        let mut pairs: Vec<(&str, &Avro)> = map.iter().map(|(name, value)| (name.as_str(), value)).collect();
        pairs.sort_by_key(|(name, _)| *name);
        assert_eq!(
            pairs,
            [("a", &Avro::String("ü\"\\".into())), ("job", &Avro::String("node".into())), ("zone", &Avro::String(String::new()))]
        );
    }

    #[test]
    fn an_increase_stands_in_its_fields() {
        let labels = labels();
        let mut out = Vec::new();
        let before = Before { time: 1_790_000_000_123 - 15_000, bits: 4.0_f64.to_bits() };
        encode(&Row { before: Some(before), ..row(&labels, Value::Float(10.5)) }, None, &mut out);
        let fields = decoded(&out);
        assert_eq!(
            (field(&fields, "v"), field(&fields, "d"), field(&fields, "dt")),
            (&Avro::Double(10.5), &Avro::Double(6.5), &Avro::Long(15_000))
        );
        assert_eq!(read(&out, false).unwrap().labels.len(), 4);
    }

    #[test]
    fn values_keep_their_bits_and_a_stale_marker_is_none() {
        let labels = labels();
        for bits in [0, 1 << 63, 0x7ff8_0000_0000_0001, 0xfff8_dead_beef_0003, f64::INFINITY.to_bits(), 1] {
            let mut out = Vec::new();
            encode(&row(&labels, Value::Float(f64::from_bits(bits))), None, &mut out);
            let fields = decoded(&out);
            let Avro::Double(value) = field(&fields, "v") else { panic!("{fields:?}") };
            assert_eq!(value.to_bits(), bits);
        }
        let mut out = Vec::new();
        encode(&row(&labels[1..1], Value::Stale), None, &mut out);
        let fields = decoded(&out);
        assert_eq!((field(&fields, "v"), field(&fields, "stale")), (&Avro::Null, &Avro::Boolean(true)));
        assert_eq!((field(&fields, "name"), field(&fields, "labels")), (&Avro::String(String::new()), &Avro::Map(Default::default())));
        assert!(!encode(&row(&labels, Value::Exemplar), Some(7), &mut Vec::new()));
    }

    #[test]
    fn a_histogram_goes_whole() {
        let labels = labels();
        let histogram = Histogram {
            count: Count::Int(9),
            sum_bits: 18.5_f64.to_bits(),
            schema: 3,
            zero_count: Count::Int(2),
            zero_threshold_bits: 1e-128_f64.to_bits(),
            positive: Side {
                spans: vec![Span { offset: -1, length: 2 }, Span { offset: 3, length: 1 }],
                deltas: vec![1, 2, -1],
                counts: Vec::new(),
            },
            custom_values: vec![0.5_f64.to_bits()],
            reset_hint: 2,
            ..Histogram::default()
        };
        let mut out = Vec::new();
        encode(&row(&labels, Value::Histogram(&histogram)), None, &mut out);
        let fields = decoded(&out);
        let Avro::Record(within) = field(&fields, "histogram") else { panic!("{fields:?}") };
        assert_eq!((field(within, "count"), field(within, "sum")), (&Avro::Double(9.0), &Avro::Double(18.5)));
        let bucket = |index, count| Avro::Record(vec![("index".into(), Avro::Int(index)), ("count".into(), Avro::Double(count))]);
        assert_eq!(field(within, "buckets"), &Avro::Array(vec![bucket(-1, 1.0), bucket(0, 3.0), bucket(4, 2.0)]));
        assert_eq!(field(within, "negative_buckets"), &Avro::Array(Vec::new()));
        assert_eq!(field(within, "bounds"), &Avro::Array(vec![Avro::Double(0.5)]));
        assert_eq!(field(within, "reset"), &Avro::Enum(2, "no".into()));
        assert_eq!(read(&out, false).unwrap().labels.len(), 4);
    }

    #[test]
    fn a_registrys_number_stands_before_it_and_a_letter_tells_its_labels() {
        let labels = labels();
        let (mut framed, mut bare) = (Vec::new(), Vec::new());
        encode(&row(&labels, Value::Float(2.0)), Some(0x0102_0304), &mut framed);
        encode(&row(&labels, Value::Float(2.0)), None, &mut bare);
        assert_eq!((&framed[..5], &framed[5..]), (&[0, 1, 2, 3, 4][..], &bare[..]));
        let mut letter = framed.clone();
        let read = read(&framed, true).unwrap();
        assert_eq!(read.labels, [("__name__", "up"), ("a", "ü\"\\"), ("job", "node"), ("zone", "")]);
        letter[read.late_at] = 1;
        assert_eq!(field(&decoded(&letter[5..]), "late"), &Avro::Boolean(true));
        for end in 0..framed.len() {
            assert_eq!(super::read(&framed[..end], true), None, "cut at {end}");
        }
    }

    #[test]
    fn damaged_letters_are_read_whole_or_not_at_all() {
        let labels = labels();
        let mut whole = Vec::new();
        encode(&row(&labels, Value::Float(2.0)), Some(1), &mut whole);
        for seed in seeds(20_000) {
            let random = &mut fastrand::Rng::with_seed(seed);
            let mut letter = whole.clone();
            damage(random, &mut letter);
            if let Some(read) = read(&letter, true) {
                assert!(read.late_at < letter.len() && read.labels.len() <= letter.len(), "SEED={seed}");
            }
        }
    }
}
