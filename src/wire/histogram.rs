//! Native histograms: a message of either protocol as a value, and whether it makes sense.
//!
//! The fields have the same numbers in Remote Write 1.0 and 2.0. The walker reads each histogram into one reused [`Histogram`] to check it
//! as Prometheus' receiver would (`histogram.Validate` of prometheus 3.14); sinks read the picked ones again to write rows. Values stay
//! bits: nothing here rounds or adds floats, except [`Histogram::buckets`], which is for people's eyes and rows.

use super::proto::Malformed;
use super::proto::Reader;

/// The most spans, deltas, counts or custom values that are kept of one histogram. Prometheus' own limits are a few hundred; without a bound
/// one packed byte could cost eight of ours.
pub const ELEMENTS_MAX: usize = 16_384;

/// Schema of custom buckets (NHCB): bounds are listed, as in a classic histogram.
pub const SCHEMA_CUSTOM: i32 = -53;

/// A number of observations: whole in integer histograms, a double's bits in float histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Of an integer histogram.
    Int(u64),
    /// Of a float histogram (recording rules make them): the double's bits.
    Float(u64),
}

impl Count {
    /// As a double; whole numbers above 2^53 are rounded.
    pub fn to_f64(self) -> f64 {
        match self {
            Count::Int(count) => count as f64,
            Count::Float(bits) => f64::from_bits(bits),
        }
    }
}

/// `length` buckets in a row, `offset` empty ones after the last span (the first: from bucket 0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Empty buckets before it.
    pub offset: i32,
    /// Buckets in it.
    pub length: u32,
}

/// The buckets above zero, or those below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Where the buckets are.
    pub spans: Vec<Span>,
    /// Integer histograms: each bucket's count less the one before.
    pub deltas: Vec<i64>,
    /// Float histograms: each bucket's count, as bits.
    pub counts: Vec<u64>,
}

impl Side {
    fn clear(&mut self) {
        self.spans.clear();
        self.deltas.clear();
        self.counts.clear();
    }
}

/// A native histogram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// All observations; [`Count::Float`] makes it a float histogram.
    pub count: Count,
    /// Bits of the sum; those of the stale marker end the series.
    pub sum_bits: u64,
    /// -4 to 8 (newer senders up to 52): the buckets' growth is 2^(2^-schema); [`SCHEMA_CUSTOM`]: bounds as listed.
    pub schema: i32,
    /// Bits of the zero bucket's half width.
    pub zero_threshold_bits: u64,
    /// Observations in the zero bucket.
    pub zero_count: Count,
    /// Below zero.
    pub negative: Side,
    /// Above zero; with custom buckets all of them.
    pub positive: Side,
    /// 0 unknown, 1 yes, 2 no, 3 gauge.
    pub reset_hint: u32,
    /// Milliseconds since 1970.
    pub time: i64,
    /// When the counter began; 0 = unset.
    pub start: i64,
    /// Bits of the upper bounds of custom buckets, without +Inf.
    pub custom_values: Vec<u64>,
    /// The message held more than [`ELEMENTS_MAX`] of something, and the rest was not kept.
    pub overfull: bool,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            count: Count::Int(0),
            sum_bits: 0,
            schema: 0,
            zero_threshold_bits: 0,
            zero_count: Count::Int(0),
            negative: Side::default(),
            positive: Side::default(),
            reset_hint: 0,
            time: 0,
            start: 0,
            custom_values: Vec::new(),
            overfull: false,
        }
    }
}

/// Why a histogram that can be read is refused all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HistogramFault {
    /// Not -53 and not -4 to 52.
    #[error("its schema is unknown")]
    Schema,
    /// The parts do not add up to the count.
    #[error("its count is not the sum of its buckets")]
    Count,
    /// A bucket with less than nothing in it.
    #[error("a bucket's count is negative")]
    NegativeCount,
    /// The spans speak of more or fewer buckets than there are.
    #[error("its spans and buckets differ in number")]
    Spans,
    /// A span begins before the end of the last one.
    #[error("a span has a negative offset")]
    SpanOffset,
    /// Custom buckets have no zero bucket and nothing below zero.
    #[error("custom buckets come with a zero bucket or negative buckets")]
    CustomExtras,
    /// Custom bounds that do not grow, are NaN, or end in +Inf.
    #[error("its custom bounds do not rise, or are not finite")]
    CustomBounds,
    /// Custom bounds in a histogram that has a growth of its own.
    #[error("it has custom bounds and an exponential schema")]
    CustomInExponential,
    /// More than [`ELEMENTS_MAX`] of something.
    #[error("it has more than {ELEMENTS_MAX} spans, buckets or bounds")]
    TooLarge,
}

/// One bucket with something in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Observations.
    pub count: f64,
}

impl Histogram {
    /// Reads one Histogram message; whatever the value held goes.
    pub fn decode(&mut self, raw: &[u8]) -> Result<(), Malformed> {
        self.read(Reader::new(raw))
    }

    fn clear(&mut self) {
        self.count = Count::Int(0);
        self.sum_bits = 0;
        self.schema = 0;
        self.zero_threshold_bits = 0;
        self.zero_count = Count::Int(0);
        self.negative.clear();
        self.positive.clear();
        self.reset_hint = 0;
        self.time = 0;
        self.start = 0;
        self.custom_values.clear();
        self.overfull = false;
    }

    pub(crate) fn read(&mut self, mut message: Reader<'_>) -> Result<(), Malformed> {
        self.clear();
        while let Some(key) = message.key()? {
            match key {
                0x08 => self.count = Count::Int(message.varint()?),
                0x11 => self.count = Count::Float(message.fixed64()?),
                0x19 => self.sum_bits = message.fixed64()?,
                0x20 => self.schema = message.sint32()?,
                0x29 => self.zero_threshold_bits = message.fixed64()?,
                0x30 => self.zero_count = Count::Int(message.varint()?),
                0x39 => self.zero_count = Count::Float(message.fixed64()?),
                0x70 => self.reset_hint = message.uint32()?,
                0x78 => self.time = message.int64()?,
                0x88 => self.start = message.int64()?,
                other => self.read_repeated(other, &mut message)?,
            }
        }
        Ok(())
    }

    fn read_repeated(&mut self, key: u32, message: &mut Reader<'_>) -> Result<(), Malformed> {
        let full = &mut self.overfull;
        match key {
            0x42 => keep(&mut self.negative.spans, read_span(message.message()?)?, full),
            0x5a => keep(&mut self.positive.spans, read_span(message.message()?)?, full),
            0x48 | 0x4a => return message.repeated(key, |from| from.sint64().map(|delta| keep(&mut self.negative.deltas, delta, full))),
            0x60 | 0x62 => return message.repeated(key, |from| from.sint64().map(|delta| keep(&mut self.positive.deltas, delta, full))),
            0x51 | 0x52 => return message.repeated(key, |from| from.fixed64().map(|bits| keep(&mut self.negative.counts, bits, full))),
            0x69 | 0x6a => return message.repeated(key, |from| from.fixed64().map(|bits| keep(&mut self.positive.counts, bits, full))),
            0x81 | 0x82 => return message.repeated(key, |from| from.fixed64().map(|bits| keep(&mut self.custom_values, bits, full))),
            other => return message.skip(other, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]),
        }
        Ok(())
    }

    /// A float histogram, not one of whole numbers.
    pub fn is_float(&self) -> bool {
        matches!(self.count, Count::Float(_))
    }

    /// Whether it makes sense, as Prometheus' receiver judges (its answer is 400 otherwise).
    ///
    /// Schemas 9 to 52 are taken as they are: Prometheus folds them down to 8, a forwarder has no reason to.
    pub fn check(&self) -> Result<(), HistogramFault> {
        if self.overfull {
            return Err(HistogramFault::TooLarge);
        }
        match self.schema {
            SCHEMA_CUSTOM => self.check_custom()?,
            -4..=52 => {
                check_spans(&self.positive.spans, self.buckets_in(&self.positive))?;
                check_spans(&self.negative.spans, self.buckets_in(&self.negative))?;
                if !self.custom_values.is_empty() {
                    return Err(HistogramFault::CustomInExponential);
                }
            }
            _ => return Err(HistogramFault::Schema),
        }
        match self.count {
            Count::Int(count) => self.check_int_counts(count),
            Count::Float(_) => {
                let negative = |bits: &u64| f64::from_bits(*bits) < 0.0;
                let below = self.positive.counts.iter().any(negative) || self.negative.counts.iter().any(negative);
                if below { Err(HistogramFault::NegativeCount) } else { Ok(()) }
            }
        }
    }

    fn buckets_in(&self, side: &Side) -> usize {
        if self.is_float() { side.counts.len() } else { side.deltas.len() }
    }

    fn check_int_counts(&self, count: u64) -> Result<(), HistogramFault> {
        let zero = match self.zero_count {
            Count::Int(zero) => zero,
            // What Prometheus reads of a zero count of the other kind.
            Count::Float(_) => 0,
        };
        let parts = total_of(&self.positive.deltas)? + total_of(&self.negative.deltas)? + u128::from(zero);
        // With a NaN among the observations the sum is NaN, and the NaN itself is in no bucket.
        let fits = if f64::from_bits(self.sum_bits).is_nan() { parts <= u128::from(count) } else { parts == u128::from(count) };
        if fits { Ok(()) } else { Err(HistogramFault::Count) }
    }

    fn check_custom(&self) -> Result<(), HistogramFault> {
        let zero = match self.zero_count {
            Count::Int(count) => count == 0 || self.is_float(),
            Count::Float(bits) => f64::from_bits(bits) == 0.0 || !self.is_float(),
        };
        let below = !self.negative.spans.is_empty() || self.buckets_in(&self.negative) > 0;
        if !zero || f64::from_bits(self.zero_threshold_bits) != 0.0 || below {
            return Err(HistogramFault::CustomExtras);
        }
        let mut last = f64::NEG_INFINITY;
        for bound in self.custom_values.iter().map(|bits| f64::from_bits(*bits)) {
            if bound.is_nan() || bound <= last {
                return Err(HistogramFault::CustomBounds);
            }
            last = bound;
        }
        if last == f64::INFINITY {
            return Err(HistogramFault::CustomBounds);
        }
        if self.positive.spans.iter().any(|span| span.offset < 0) {
            return Err(HistogramFault::SpanOffset);
        }
        check_spans(&self.positive.spans, self.buckets_in(&self.positive))?;
        let reach: u64 = self.positive.spans.iter().map(|span| u64::from(span.length) + u64::from(span.offset.unsigned_abs())).sum();
        if reach > self.custom_values.len() as u64 + 1 { Err(HistogramFault::Spans) } else { Ok(()) }
    }

    /// The buckets that hold something, upwards from the lowest bound, the zero bucket in its place.
    pub fn buckets(&self, visit: &mut dyn FnMut(Bucket)) {
        let mut below = Vec::new();
        self.side_buckets(&self.negative, &mut |index, count| {
            let (near, far) = self.bounds(index);
            below.push(Bucket { lower: -far, upper: -near, count });
        });
        below.into_iter().rev().for_each(&mut *visit);
        let zero = self.zero_count.to_f64();
        if zero != 0.0 {
            let half = f64::from_bits(self.zero_threshold_bits);
            visit(Bucket { lower: -half, upper: half, count: zero });
        }
        self.side_buckets(&self.positive, &mut |index, count| {
            let (lower, upper) = self.bounds(index);
            visit(Bucket { lower, upper, count });
        });
    }

    /// Each filled bucket's index and count, outwards from zero.
    fn side_buckets(&self, side: &Side, visit: &mut dyn FnMut(i64, f64)) {
        let total = self.buckets_in(side);
        let (mut index, mut number, mut running) = (0i64, 0usize, 0i64);
        for span in &side.spans {
            index += i64::from(span.offset);
            for _ in 0..span.length {
                if number == total {
                    return;
                }
                let count = if self.is_float() {
                    side.counts.get(number).map_or(0.0, |bits| f64::from_bits(*bits))
                } else {
                    running = running.wrapping_add(side.deltas.get(number).copied().unwrap_or_default());
                    running as f64
                };
                if count != 0.0 {
                    visit(index, count);
                }
                number += 1;
                index += 1;
            }
        }
    }

    /// Lower and upper bound of the bucket with this index, above zero.
    fn bounds(&self, index: i64) -> (f64, f64) {
        if self.schema == SCHEMA_CUSTOM {
            let bound = |at: i64| usize::try_from(at).ok().and_then(|at| self.custom_values.get(at)).map(|bits| f64::from_bits(*bits));
            return (bound(index - 1).unwrap_or(f64::NEG_INFINITY), bound(index).unwrap_or(f64::INFINITY));
        }
        (exponential_bound(self.schema, index - 1), exponential_bound(self.schema, index))
    }
}

/// 2^(index * 2^-schema). Whole powers are exact; the last one that a double holds stands for 2^1024, as in Prometheus.
fn exponential_bound(schema: i32, index: i64) -> f64 {
    let exponent = index as f64 * 2f64.powi(-schema);
    if exponent == 1024.0 {
        return f64::MAX;
    }
    let whole = exponent.floor();
    // In two factors: the fraction is rounded once, the power of two is exact, denormals included.
    (exponent - whole).exp2() * whole.exp2()
}

fn keep<T>(list: &mut Vec<T>, element: T, overfull: &mut bool) {
    if list.len() < ELEMENTS_MAX {
        list.push(element);
    } else {
        *overfull = true;
    }
}

fn read_span(mut message: Reader<'_>) -> Result<Span, Malformed> {
    let mut span = Span::default();
    while let Some(key) = message.key()? {
        match key {
            0x08 => span.offset = message.sint32()?,
            0x10 => span.length = message.uint32()?,
            other => message.skip(other, &[1, 2])?,
        }
    }
    Ok(span)
}

fn check_spans(spans: &[Span], buckets: usize) -> Result<(), HistogramFault> {
    if spans.iter().skip(1).any(|span| span.offset < 0) {
        return Err(HistogramFault::SpanOffset);
    }
    let spoken_of: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    if spoken_of == buckets as u64 { Ok(()) } else { Err(HistogramFault::Spans) }
}

/// The observations in a row of buckets given by deltas. 16,384 deltas of 64 bits fit 128 bits twice summed.
fn total_of(deltas: &[i64]) -> Result<u128, HistogramFault> {
    let (mut bucket, mut total) = (0i128, 0u128);
    for delta in deltas {
        bucket += i128::from(*delta);
        total += u128::try_from(bucket).map_err(|_| HistogramFault::NegativeCount)?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Histogram {
        let spans = vec![Span { offset: -1, length: 2 }, Span { offset: 3, length: 1 }];
        Histogram {
            count: Count::Int(9),
            sum_bits: 4f64.to_bits(),
            zero_threshold_bits: 0.5f64.to_bits(),
            zero_count: Count::Int(1),
            positive: Side { spans, deltas: vec![1, 1, 2], counts: Vec::new() },
            negative: Side { spans: vec![Span { offset: 2, length: 1 }], deltas: vec![1], counts: Vec::new() },
            ..Histogram::default()
        }
    }

    fn float() -> Histogram {
        let bits = |list: &[f64]| list.iter().map(|value| value.to_bits()).collect();
        let mut made = whole();
        made.count = Count::Float(9f64.to_bits());
        made.zero_count = Count::Float(1f64.to_bits());
        made.positive.counts = bits(&[1.0, 2.0, 4.0]);
        made.negative.counts = bits(&[1.0]);
        made
    }

    fn custom() -> Histogram {
        let spans = vec![Span { offset: 0, length: 3 }];
        Histogram {
            count: Count::Int(6),
            schema: SCHEMA_CUSTOM,
            positive: Side { spans, deltas: vec![1, 1, 1], counts: Vec::new() },
            custom_values: vec![0.1f64.to_bits(), 5f64.to_bits()],
            ..Histogram::default()
        }
    }

    #[track_caller]
    fn check(start: Histogram, spoil: impl FnOnce(&mut Histogram), expected: Result<(), HistogramFault>) {
        let mut histogram = start;
        spoil(&mut histogram);
        assert_eq!(histogram.check(), expected);
    }

    #[test]
    fn a_histogram_is_judged_as_prometheus_does() {
        use HistogramFault::*;
        let nan = f64::NAN.to_bits();
        check(whole(), |_| (), Ok(()));
        check(whole(), |h| h.count = super::Count::Int(10), Err(Count));
        check(whole(), |h| (h.count, h.sum_bits) = (super::Count::Int(11), nan), Ok(()));
        check(whole(), |h| (h.count, h.sum_bits) = (super::Count::Int(8), nan), Err(Count));
        check(whole(), |h| h.positive.deltas = vec![1, -2, 2], Err(NegativeCount));
        check(whole(), |h| h.positive.deltas = vec![i64::MAX, i64::MAX, i64::MAX], Err(Count));
        check(whole(), |h| h.positive.deltas.push(1), Err(Spans));
        check(whole(), |h| h.positive.spans[1].offset = -1, Err(SpanOffset));
        check(whole(), |h| h.negative.spans.clear(), Err(Spans));
        check(whole(), |h| h.custom_values.push(1), Err(CustomInExponential));
        check(whole(), |h| h.schema = -5, Err(Schema));
        check(whole(), |h| h.schema = 53, Err(Schema));
        check(whole(), |h| (h.schema, h.count) = (52, super::Count::Int(9)), Ok(()));
        check(whole(), |h| h.overfull = true, Err(TooLarge));
        check(float(), |_| (), Ok(()));
        check(float(), |h| h.count = super::Count::Float(nan), Ok(()));
        check(float(), |h| h.positive.counts[1] = (-1f64).to_bits(), Err(NegativeCount));
        check(float(), |h| h.negative.counts.clear(), Err(Spans));
    }

    #[test]
    fn custom_buckets_have_rising_finite_bounds_and_nothing_else() {
        use HistogramFault::*;
        check(custom(), |_| (), Ok(()));
        check(custom(), |h| h.zero_count = super::Count::Int(1), Err(CustomExtras));
        check(custom(), |h| h.zero_threshold_bits = 1f64.to_bits(), Err(CustomExtras));
        check(custom(), |h| h.negative.spans.push(Span::default()), Err(CustomExtras));
        check(custom(), |h| h.custom_values[1] = h.custom_values[0], Err(CustomBounds));
        check(custom(), |h| h.custom_values[1] = f64::NAN.to_bits(), Err(CustomBounds));
        check(custom(), |h| h.custom_values[1] = f64::INFINITY.to_bits(), Err(CustomBounds));
        check(custom(), |h| h.positive.spans[0].offset = -1, Err(SpanOffset));
        check(custom(), |h| h.positive.spans[0].offset = 1, Err(Spans));
    }

    fn buckets(histogram: &Histogram) -> Vec<(f64, f64, f64)> {
        let mut all = Vec::new();
        histogram.buckets(&mut |bucket| all.push((bucket.lower, bucket.upper, bucket.count)));
        all
    }

    #[test]
    fn buckets_rise_from_the_lowest_bound_and_empty_ones_are_left_out() {
        let expected = [(-4.0, -2.0, 1.0), (-0.5, 0.5, 1.0), (0.25, 0.5, 1.0), (0.5, 1.0, 2.0), (8.0, 16.0, 4.0)];
        assert_eq!(buckets(&whole()), expected);
        assert_eq!(buckets(&float()), expected);
        assert_eq!(buckets(&custom()), [(f64::NEG_INFINITY, 0.1, 1.0), (0.1, 5.0, 2.0), (5.0, f64::INFINITY, 3.0)]);
        let mut gap = whole();
        gap.positive.deltas = vec![1, -1, 4];
        assert_eq!(buckets(&gap).len(), 4);
    }

    #[test]
    fn bounds_reach_from_the_smallest_double_to_the_largest() {
        assert_eq!(exponential_bound(0, 1024), f64::MAX);
        assert_eq!(exponential_bound(0, 1025), f64::INFINITY);
        assert_eq!(exponential_bound(-4, -67), 4.0 * f64::from_bits(1)); // 2^-1072
        assert_eq!(exponential_bound(-4, 64), f64::MAX);
        assert_eq!(exponential_bound(3, 8), 2.0);
        assert_eq!(exponential_bound(1, 1), std::f64::consts::SQRT_2);
    }
}
