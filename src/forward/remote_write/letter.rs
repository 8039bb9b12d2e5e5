//! A sample that a store refused for good, as a dead letter: a row that a person can read, and in it the request that would send it again, bit for bit.

use crate::forward::format::Columns;
use crate::forward::rows::Row;
use crate::forward::rows::RowEncoder;
use crate::model::Kind;
use crate::secret::hex;
use crate::wire::body::Picked;
use crate::wire::histogram::Histogram;
use crate::wire::outgoing::Outgoing;
use crate::wire::outgoing::Request;
use crate::wire::remote_write::Limits;
use crate::wire::remote_write::Protocol;
use crate::wire::remote_write::Walker;

/// The key under which the request stands, as hexadecimal digits of a request of 1.0.
const REQUEST: &str = "request";

/// A request of one point as a letter.
pub fn write(request: &Request, late: bool) -> Vec<u8> {
    let mut letter = Vec::new();
    let body = request.body();
    // Written by us just now: it can be read.
    let _ = Walker::new(0).walk(request.protocol(), &body, &Limits::none(), &mut |series| {
        let Some(point) = series.points.first() else { return };
        let picked = Picked { labels: series.labels, point, late, series: 0, item: 0, before: None, tenant: "", from: &series };
        row(&picked, &mut letter);
        let mut again = Outgoing::new(Protocol::V1);
        again.push(&picked);
        letter.pop();
        letter.extend_from_slice(format!(",\"{REQUEST}\":\"{}\"}}", hex(&again.finish().body())).as_bytes());
    });
    letter
}

/// A request of 1.0, of one sample, as a letter without the row.
pub fn of(request: &[u8]) -> Vec<u8> {
    format!("{{\"{REQUEST}\":\"{}\"}}", hex(request)).into_bytes()
}

/// The row, or what can be said of a point without one.
fn row(picked: &Picked<'_, '_>, out: &mut Vec<u8>) {
    let mut histogram = Histogram::default();
    let row = Row::of(picked, &mut histogram).ok();
    if row.is_none_or(|row| !RowEncoder::new(Columns::default()).encode(&row, out)) {
        let what = if picked.point.kind == Kind::Exemplar { "exemplar" } else { "sample" };
        let name = picked.from.label("__name__").unwrap_or_default();
        let text = serde_json::json!({ "ts": picked.point.time, "name": name, "kind": what });
        out.extend_from_slice(text.to_string().as_bytes());
    }
}

/// The request in a letter, for this protocol; `None`: the letter was cut, or is another sink's.
pub fn read(letter: &[u8], protocol: Protocol) -> Option<Request> {
    let json: serde_json::Value = serde_json::from_slice(letter).ok()?;
    let raw = unhex(json.get(REQUEST)?.as_str()?)?;
    let mut outgoing = Outgoing::new(protocol);
    // A seed that nobody knows: the request finds its symbols by hashes, and whoever wrote the sample may have chosen its labels.
    let walked = Walker::new(fastrand::u64(..)).walk(Protocol::V1, &raw, &Limits::default(), &mut |series| {
        for point in series.points.iter().filter(|_| series.fault.is_none()) {
            outgoing.push(&Picked {
                labels: series.labels,
                point,
                late: true,
                series: series.hash(&[]),
                item: 0,
                before: None,
                tenant: "",
                from: &series,
            });
        }
    });
    walked.ok().map(|_| outgoing.finish()).filter(|request| request.len() == 1)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |letter: &u8| char::from(*letter).to_digit(16);
    let pair = |pair: &[u8]| Some((digit(pair.first()?)? << 4 | digit(pair.get(1)?)?) as u8);
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::damage;
    use crate::mutate::seeds;
    use crate::wire::encode::Encoder;
    use crate::wire::encode::NewSeries;
    use crate::wire::encode::Sample;

    fn request(protocol: Protocol, bits: u64) -> Request {
        let mut encoder = Encoder::new(Protocol::V1);
        let labels = [("__name__", "up"), ("job", "a \"b\"")];
        encoder.push(&NewSeries { labels: &labels, samples: &[Sample { time: 7, bits, start: 0 }], ..NewSeries::default() });
        let mut raw = Vec::new();
        encoder.finish(&mut raw);
        let mut outgoing = Outgoing::new(protocol);
        Walker::new(0)
            .walk(Protocol::V1, &raw, &Limits::none(), &mut |series| {
                let point = &series.points[0];
                outgoing.push(&Picked {
                    labels: series.labels,
                    point,
                    late: false,
                    series: 0,
                    item: 0,
                    before: None,
                    tenant: "",
                    from: &series,
                });
            })
            .unwrap();
        outgoing.finish()
    }

    #[test]
    fn a_letter_can_be_read_by_people_and_sent_again_bit_for_bit() {
        for bits in [1.5_f64.to_bits(), 0x7ff8_0000_0000_0007, crate::model::STALE_NAN] {
            for from in [Protocol::V1, Protocol::V2] {
                let letter = write(&request(from, bits), false);
                let text = String::from_utf8(letter.clone()).unwrap();
                assert!(text.starts_with("{\"ts\":7,\"name\":\"up\""), "{text}");
                for to in [Protocol::V1, Protocol::V2] {
                    assert_eq!(read(&letter, to), Some(request(to, bits)), "{text}");
                }
                assert_eq!(read(&letter[..letter.len() - 4], Protocol::V1), None);
            }
        }
        assert_eq!(read(br#"{"ts":7,"name":"up","v":1,"labels":{}}"#, Protocol::V1), None);
    }

    #[test]
    fn damaged_letters_are_sent_whole_or_not_at_all() {
        let whole = write(&request(Protocol::V1, 1), false);
        for seed in seeds(10_000) {
            let random = &mut fastrand::Rng::with_seed(seed);
            let mut letter = whole.clone();
            damage(random, &mut letter);
            let read = read(&letter, Protocol::V1);
            assert!(read.is_none_or(|request| request.len() == 1), "SEED={seed}");
        }
    }
}
