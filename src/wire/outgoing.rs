//! Requests that sinks send on: picked points, a TimeSeries each, in one buffer that can be cut between any two of them.
//!
//! Values go through as bits, native histograms as the message that came in. In 2.0 the symbol table of a request goes with both halves of it: unused symbols
//! are allowed, and cutting costs nothing. Left out on purpose: metadata of 1.0 (it comes in requests of its own, by no replica's name, and
//! stores find it missing without harm), and exemplars in 2.0 without a sample of their series in the same request: a TimeSeries there needs one.

use bytes::Bytes;

use super::body::Picked;
use super::encode::put_histogram;
use super::histogram::Histogram;
use super::proto::LENGTH;
use super::proto::Reader;
use super::proto::put_bytes;
use super::proto::put_double;
use super::proto::put_uint;
use super::proto::put_varint;
use super::remote_write::Label;
use super::remote_write::Protocol;
use crate::model::Kind;
use crate::wire::symbols::Symbols;

/// Collects points, then gives the request.
#[derive(Debug)]
pub struct Outgoing {
    protocol: Protocol,
    series: Vec<u8>,
    /// Where each TimeSeries ends in `series`.
    ends: Vec<usize>,
    symbols: Symbols,
    point: Vec<u8>,
    inner: Vec<u8>,
    scratch: Vec<u8>,
    /// Whose each point is, where exemplars look for theirs (2.0).
    hashes: Vec<u64>,
    /// Exemplars as fields of a TimeSeries, and the point with which they go (2.0).
    exemplars: Vec<(usize, Vec<u8>)>,
}

/// What became of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It stands in the request.
    Own,
    /// An exemplar of 2.0: it goes along with a sample that stands there.
    Along,
    /// It has no form in this protocol.
    No,
}

/// A request of remote write, not packed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    protocol: Protocol,
    symbols: Bytes,
    series: Bytes,
    ends: Vec<usize>,
}

impl Outgoing {
    /// An empty request of this protocol.
    pub fn new(protocol: Protocol) -> Outgoing {
        Outgoing {
            protocol,
            series: Vec::new(),
            ends: Vec::new(),
            symbols: Symbols::default(),
            point: Vec::new(),
            inner: Vec::new(),
            scratch: Vec::new(),
            hashes: Vec::new(),
            exemplars: Vec::new(),
        }
    }

    /// How many points it holds.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of it so far.
    pub fn bytes(&self) -> usize {
        self.symbols.len() + self.series.len()
    }

    /// Adds a point.
    pub fn push(&mut self, picked: &Picked<'_, '_>) -> Pushed {
        match self.protocol {
            Protocol::V1 => self.push_v1(picked),
            Protocol::V2 if picked.point.kind == Kind::Exemplar => return self.along(picked),
            Protocol::V2 => {
                if self.ends.is_empty() {
                    self.symbols.begin(picked.series);
                }
                self.hashes.push(picked.series);
                self.push_v2(picked);
            }
        }
        self.ends.push(self.series.len());
        Pushed::Own
    }

    /// An exemplar of 2.0 goes with the newest sample of its series in this request: senders write both of them for one scrape.
    fn along(&mut self, picked: &Picked<'_, '_>) -> Pushed {
        let Some(with) = self.hashes.iter().rposition(|series| *series == picked.series) else { return Pushed::No };
        let mut labels = Vec::new();
        picked.from.exemplar_labels(picked.point, &mut |name, value| {
            put_varint(&mut labels, u64::from(self.symbols.number(name)));
            put_varint(&mut labels, u64::from(self.symbols.number(value)));
        });
        let (mut message, mut field) = (Vec::new(), Vec::new());
        if !labels.is_empty() {
            put_bytes(&mut message, 1, &labels);
        }
        put_double(&mut message, 2, picked.point.bits);
        put_uint(&mut message, 3, picked.point.time.cast_unsigned());
        put_bytes(&mut field, 4, &message);
        self.exemplars.push((with, field));
        Pushed::Along
    }

    /// Writes exemplars into the messages of the samples with which they go.
    fn gather(&mut self) {
        let mut exemplars = std::mem::take(&mut self.exemplars);
        exemplars.sort_by_key(|(with, _)| *with);
        let (old, mut start, mut left) = (std::mem::take(&mut self.series), 0, exemplars.as_slice());
        for (number, end) in self.ends.iter_mut().enumerate() {
            let field = old.get(start..*end).unwrap_or_default();
            start = *end;
            let own = left.iter().take_while(|(with, _)| *with == number).count();
            let (here, later) = left.split_at(own);
            left = later;
            let mut whole = Reader::new(field);
            match whole.key().and_then(|_| whole.message()) {
                Ok(message) if own > 0 => {
                    self.inner.clear();
                    self.inner.extend_from_slice(message.rest());
                    here.iter().for_each(|(_, exemplar)| self.inner.extend_from_slice(exemplar));
                    put_bytes(&mut self.series, 5, &self.inner);
                }
                _ => self.series.extend_from_slice(field),
            }
            *end = self.series.len();
        }
    }

    fn push_v1(&mut self, picked: &Picked<'_, '_>) {
        if let Some([head, tail]) = copied(picked) {
            let (out, sample) = (&mut self.series, picked.point.raw);
            put_varint(out, u64::from(1 << 3 | LENGTH));
            put_varint(out, (head.len() + tail.len() + field_length(sample.len())) as u64);
            out.extend_from_slice(head);
            out.extend_from_slice(tail);
            put_bytes(out, if picked.point.histogram { 4 } else { 2 }, sample);
            return;
        }
        let field = self.point_field(picked, 3, 4);
        put_v1(picked.labels, (field, &self.point), &mut self.series);
    }

    fn push_v2(&mut self, picked: &Picked<'_, '_>) {
        let field = self.point_field(picked, 4, 3);
        let mut message = std::mem::take(&mut self.inner);
        message.clear();
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        for label in picked.labels {
            let pair = self.symbols.pair(label);
            scratch.extend_from_slice(pair.bytes());
        }
        put_bytes(&mut message, 1, &scratch);
        put_bytes(&mut message, field, &self.point);
        if let Some(metadata) = picked.from.metadata {
            scratch.clear();
            let [help, unit] = self.symbols.told(metadata.help, metadata.unit);
            put_uint(&mut scratch, 1, u64::from(metadata.kind));
            put_uint(&mut scratch, 3, u64::from(help));
            put_uint(&mut scratch, 4, u64::from(unit));
            put_bytes(&mut message, 5, &scratch);
        }
        put_bytes(&mut self.series, 5, &message);
        (self.inner, self.scratch) = (message, scratch);
    }

    /// Writes the point's message into `self.point`; says in which field of a TimeSeries it goes.
    fn point_field(&mut self, picked: &Picked<'_, '_>, exemplars: u32, histograms: u32) -> u32 {
        let point = picked.point;
        let out = &mut self.point;
        out.clear();
        match point.kind {
            Kind::Exemplar => {
                picked.from.exemplar_labels(point, &mut |name, value| put_label(out, name, value));
                put_double(out, 2, point.bits);
                put_uint(out, 3, point.time.cast_unsigned());
                exemplars
            }
            _ if point.histogram => {
                out.extend_from_slice(point.raw);
                histograms
            }
            Kind::Float | Kind::Stale | Kind::Histogram => {
                put_double(out, 1, point.bits);
                put_uint(out, 2, point.time.cast_unsigned());
                if self.protocol == Protocol::V2 {
                    put_uint(out, 3, point.start.cast_unsigned());
                }
                2
            }
        }
    }

    /// The request; what comes next begins another one.
    pub fn finish(&mut self) -> Request {
        if !self.exemplars.is_empty() {
            self.gather();
        }
        self.hashes.clear();
        Request {
            protocol: self.protocol,
            symbols: self.symbols.finish().into(),
            series: std::mem::take(&mut self.series).into(),
            ends: std::mem::take(&mut self.ends),
        }
    }
}

impl Request {
    /// A request without points.
    pub fn empty(protocol: Protocol) -> Request {
        Outgoing::new(protocol).finish()
    }

    /// Which message it is.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// How many points it holds.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Its bytes.
    pub fn body(&self) -> Bytes {
        if self.protocol == Protocol::V1 {
            return self.series.clone();
        }
        let mut body = Vec::with_capacity(self.symbols.len().max(2) + self.series.len());
        if self.symbols.is_empty() {
            put_bytes(&mut body, 4, b"");
        }
        body.extend_from_slice(&self.symbols);
        body.extend_from_slice(&self.series);
        body.into()
    }

    /// The first `count` points, and the others.
    pub fn cut(mut self, count: usize) -> (Request, Request) {
        let count = count.min(self.ends.len());
        let at = count.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0);
        let ends = self.ends.split_off(count).into_iter().map(|end| end - at).collect();
        let series = self.series.split_off(at);
        let rest = Request { protocol: self.protocol, symbols: self.symbols.clone(), series, ends };
        (self, rest)
    }
}

/// What a point says, where it is not shown as it came in.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// A double's bits.
    Bits(u64),
    /// A native histogram.
    Histogram(&'a Histogram),
}

/// Appends a TimeSeries of 1.0 with one point; `scratch` is for the point.
pub fn put_series(labels: &[Label<'_>], time: i64, said: Said<'_>, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    scratch.clear();
    let field = match said {
        Said::Bits(bits) => {
            put_double(scratch, 1, bits);
            put_uint(scratch, 2, time.cast_unsigned());
            2
        }
        Said::Histogram(histogram) => {
            put_histogram(scratch, histogram);
            4
        }
    };
    put_v1(labels, (field, scratch), out);
}

/// A TimeSeries of 1.0 with this point in this field.
fn put_v1(labels: &[Label<'_>], (field, point): (u32, &[u8]), out: &mut Vec<u8>) {
    let length: usize = labels.iter().map(|label| field_length(label_length(label))).sum();
    put_varint(out, u64::from(1 << 3 | LENGTH));
    put_varint(out, (length + field_length(point.len())) as u64);
    labels.iter().for_each(|label| put_label(out, label.name, label.value));
    put_bytes(out, field, point);
}

/// Labels and sample of a message of 1.0 as they came, if nothing has to be done about them: they are copied then, since two copies of memory cost a tenth of
/// writing fourteen labels one by one. Whoever made other labels of them shows them in a list of its own.
fn copied<'b>(picked: &Picked<'_, 'b>) -> Option<[&'b [u8]; 2]> {
    if !std::ptr::eq(picked.labels, picked.from.labels) || picked.point.kind == Kind::Exemplar {
        return None;
    }
    picked.from.label_fields()
}

/// Bytes of a length-delimited field with a small number.
fn field_length(content: usize) -> usize {
    1 + varint_length(content) + content
}

fn label_length(label: &Label<'_>) -> usize {
    field_length(label.name.len()) + field_length(label.value.len())
}

fn varint_length(value: usize) -> usize {
    let bits = (usize::BITS - value.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

/// A label of 1.0, in the field of that name of series and exemplars alike.
fn put_label(out: &mut Vec<u8>, name: &str, value: &str) {
    put_varint(out, u64::from(1 << 3 | LENGTH));
    put_varint(out, (field_length(name.len()) + field_length(value.len())) as u64);
    put_bytes(out, 1, name.as_bytes());
    put_bytes(out, 2, value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pick;
    use crate::wire::body::Body;
    use crate::wire::captured_tests::captured;
    use crate::wire::remote_write::Limits;
    use crate::wire::remote_write::Walker;

    /// What a receiver can know of a request: each point with labels, kind, time, bits, and histograms and exemplars in full.
    type Content = Vec<(String, Kind, i64, u64, Vec<u8>, Vec<(String, String)>)>;

    fn content(protocol: Protocol, raw: &[u8]) -> Content {
        let mut content = Content::new();
        Walker::new(1)
            .walk(protocol, raw, &Limits::none(), &mut |series| {
                assert_eq!((series.fault, series.sorted), (None, true));
                for point in series.points {
                    let labels = series.labels.iter().map(|label| format!("{}={:?} ", label.name, label.value)).collect();
                    let mut of_exemplar = Vec::new();
                    series.exemplar_labels(point, &mut |name, value| of_exemplar.push((name.to_owned(), value.to_owned())));
                    let whole = if point.histogram { point.raw.to_vec() } else { Vec::new() };
                    content.push((labels, point.kind, point.time, point.bits, whole, of_exemplar));
                }
            })
            .unwrap();
        content
    }

    /// All points of a body, and the request made of them.
    fn passed_on(body: &Body, to: Protocol) -> (usize, Request) {
        let mut total = 0;
        Walker::new(1).walk(body.protocol, &body.raw, &Limits::none(), &mut |series| total += series.points.len()).unwrap();
        let picks: Vec<Pick> = (0..total as u32).map(|item| Pick { item, late: false }).collect();
        let mut outgoing = Outgoing::new(to);
        let mut refused = 0;
        body.pick(&mut Walker::new(1), &picks, &mut |picked| refused += usize::from(outgoing.push(&picked) == Pushed::No)).unwrap();
        (refused, outgoing.finish())
    }

    /// Exemplars stand with the newest sample of their series before them; those without one are gone.
    fn along(content: &mut Content) {
        let mut with: Vec<Content> = Vec::new();
        for point in content.drain(..) {
            if point.1 != Kind::Exemplar {
                with.push(vec![point]);
            } else if let Some(own) = with.iter_mut().rfind(|own| own[0].0 == point.0) {
                own.push(point);
            }
        }
        content.extend(with.into_iter().flatten());
    }

    #[test]
    fn what_a_prometheus_sent_goes_on_as_it_was_without_the_replica() {
        for from in [Protocol::V1, Protocol::V2] {
            for to in [Protocol::V1, Protocol::V2] {
                let (mut points, mut exemplars) = (0, 0);
                for raw in captured(from) {
                    let mut expected = content(from, &raw);
                    let body = Body { protocol: from, raw, strip: vec!["__replica__".to_owned()], tenant: String::new() };
                    let (refused, request) = passed_on(&body, to);
                    if to == Protocol::V2 {
                        along(&mut expected);
                    }
                    exemplars += refused;
                    for point in &mut expected {
                        let (before, after) = point.0.split_once("__replica__=").unwrap();
                        point.0 = format!("{before}{}", after.split_once(' ').unwrap().1);
                    }
                    let own = expected.iter().filter(|point| to == Protocol::V1 || point.1 != Kind::Exemplar).count();
                    assert_eq!(request.len(), own);
                    assert_eq!(content(to, &request.body()), expected, "{from:?} {to:?}");
                    points += expected.len();
                }
                assert_eq!(points + exemplars, 8_323, "{from:?} {to:?}");
                // Of 400 exemplars all find a sample of their series in their request.
                assert_eq!(exemplars, 0, "{from:?} {to:?}");
            }
        }
    }

    /// Copied or written anew, a receiver cannot tell; only what stands on the wire just so is copied.
    #[test]
    fn labels_are_copied_where_nothing_has_to_be_done_about_them() {
        let all = [("__name__", "up"), ("__replica__", "a"), ("job", "x"), ("zone", "z")];
        let orders: [(&[usize], &str, bool); 7] = [
            (&[0, 1, 2, 3], "__replica__", true),
            (&[0, 1, 2, 3], "zone", true),
            (&[0, 1, 2, 3], "absent", true),
            (&[0], "absent", true),
            (&[0, 3, 2], "absent", false),
            (&[3, 1, 2, 0], "__replica__", false),
            (&[0, 1, 3], "__replica__", true),
        ];
        for (order, strip, as_it_came) in orders {
            let labels: Vec<(&str, &str)> = order.iter().map(|at| all[*at]).collect();
            let mut encoder = super::super::encode::Encoder::new(Protocol::V1);
            for bits in [1.5f64.to_bits(), 0] {
                let samples = [super::super::encode::Sample { time: 7, bits, start: 0 }];
                encoder.push(&super::super::encode::NewSeries { labels: &labels, samples: &samples, ..Default::default() });
            }
            let mut raw = Vec::new();
            encoder.finish(&mut raw);
            let body = Body { protocol: Protocol::V1, raw, strip: vec![strip.to_owned()], tenant: String::new() };
            let picks = [0, 1].map(|item| Pick { item, late: false });
            let (mut whole, mut anew) = (Outgoing::new(Protocol::V1), Outgoing::new(Protocol::V1));
            let visited = body.pick(&mut Walker::new(1), &picks, &mut |picked| {
                assert_eq!(copied(&picked).is_some(), as_it_came, "{order:?} without {strip}");
                whole.push(&picked);
                let labels = picked.labels.to_vec();
                anew.push(&Picked { labels: &labels, ..picked });
            });
            assert_eq!(visited, Ok(2));
            assert_eq!(whole.finish().body(), anew.finish().body(), "{order:?} without {strip}");
        }
    }

    #[test]
    fn a_request_is_cut_anywhere_and_nothing_is_lost() {
        for to in [Protocol::V1, Protocol::V2] {
            let body = Body { protocol: Protocol::V2, raw: captured(Protocol::V2).remove(0), strip: Vec::new(), tenant: String::new() };
            let (_, whole) = passed_on(&body, to);
            let all = content(to, &whole.body());
            for at in [0, 1, whole.len() / 2, whole.len() - 1, whole.len(), whole.len() + 1] {
                let (first, rest) = whole.clone().cut(at);
                assert_eq!((first.len(), rest.len()), (at.min(whole.len()), whole.len().saturating_sub(at)));
                let mut both = content(to, &first.body());
                both.extend(content(to, &rest.body()));
                assert_eq!(both, all, "{to:?} cut at {at}");
            }
            // Down to a single one, cut again and again.
            let mut single = whole;
            while single.len() > 1 {
                let half = single.len() / 2;
                single = single.cut(half).1;
            }
            let last = content(to, &single.body());
            assert!(!last.is_empty() && all.ends_with(&last));
        }
        assert_eq!(Request::empty(Protocol::V1).body(), &b""[..]);
        assert_eq!(content(Protocol::V2, &Request::empty(Protocol::V2).body()), Content::new());
    }

    #[test]
    fn values_keep_their_bits_and_lengths_their_varints() {
        for length in [0usize, 1, 127, 128, 16_383, 16_384, 1 << 21] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, length as u64);
            assert_eq!(varint_length(length), bytes.len(), "{length}");
        }
        let bits = [0, 1 << 63, crate::model::STALE_NAN, 0x7ff8_0000_0000_0001, 0xfff8_dead_beef_0003, f64::INFINITY.to_bits(), 1];
        let samples: Vec<super::super::encode::Sample> = bits
            .iter()
            .enumerate()
            .map(|(at, bits)| super::super::encode::Sample { time: -3 + at as i64, bits: *bits, start: 0 })
            .collect();
        let long = "x".repeat(20_000);
        let mut encoder = super::super::encode::Encoder::new(Protocol::V1);
        let labels = [("__name__", "x"), ("long", long.as_str())];
        encoder.push(&super::super::encode::NewSeries { labels: &labels, samples: &samples, ..Default::default() });
        let mut raw = Vec::new();
        encoder.finish(&mut raw);
        let body = Body { protocol: Protocol::V1, raw, strip: Vec::new(), tenant: String::new() };
        for to in [Protocol::V1, Protocol::V2] {
            let (_, request) = passed_on(&body, to);
            let got: Vec<(i64, u64)> = content(to, &request.body()).iter().map(|point| (point.2, point.3)).collect();
            assert_eq!(got, samples.iter().map(|sample| (sample.time, sample.bits)).collect::<Vec<_>>());
        }
    }
}
