//! How long it takes to read what Prometheus posts, and to say which alert each is: what `sluice bench alerts` prints. The clock is the caller's.

use std::fmt::Write as _;

use super::Unreadable;
use super::read;

/// Alerts of a request, as Prometheus sends them.
const REQUEST: usize = 256;
/// A moment.
const NOW: i64 = 1_790_000_000_000;

/// Nanoseconds an alert, the fastest round and the middle one; bytes of an alert.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Reading: the fastest round.
    pub least_ns: f64,
    /// Reading: the middle one.
    pub median_ns: f64,
    /// Fingerprints: the fastest round.
    pub fingerprint_ns: f64,
    /// Bytes.
    pub bytes: f64,
}

/// A request with eight labels and two annotations an alert.
fn request() -> String {
    let mut body = String::from("[");
    for n in 0..REQUEST {
        let comma = if n > 0 { "," } else { "" };
        let _ = write!(
            body,
            r#"{comma}{{"annotations":{{"description":"the disk of web{n} has less than 5 % left","summary":"disk of web{n} is full"}},"#
        );
        let _ = write!(body, r#""endsAt":"2026-09-21T14:17:20.123Z","startsAt":"2026-09-21T14:13:05.123Z","#);
        let _ =
            write!(body, r#""generatorURL":"http://prometheus.example:9090/graph?g0.expr=node_filesystem_avail_bytes+%3C+5&g0.tab=1","#);
        let _ = write!(body, r#""labels":{{"alertname":"DiskFull","cluster":"eu1","device":"sda{n}","instance":"web{n}:9100","#);
        let _ = write!(body, r#""job":"node","namespace":"infra","severity":"critical","team":"db"}}}}"#);
    }
    body.push(']');
    body
}

/// Reads a request so often. An error is a defect.
pub fn measure(rounds: usize, clock: &dyn Fn() -> u64) -> Result<Figures, Unreadable> {
    let body = request();
    let (mut reading, mut printing) = (Vec::new(), u64::MAX);
    for _ in 0..rounds.max(1) {
        let begin = clock();
        let batch = read(body.as_bytes(), NOW, 300_000)?;
        let middle = clock();
        let sum = batch.good.iter().fold(0, |sum, alert| sum ^ alert.fingerprint());
        printing = printing.min(clock().saturating_sub(middle));
        reading.push(middle.saturating_sub(begin) + u64::from(std::hint::black_box(sum) == 0));
    }
    reading.sort_unstable();
    let each = |ns: u64| ns as f64 / REQUEST as f64;
    let (least, median) = (reading.first().copied().unwrap_or(0), reading.get(reading.len() / 2).copied().unwrap_or(0));
    Ok(Figures {
        least_ns: each(least),
        median_ns: each(median),
        fingerprint_ns: each(printing),
        bytes: body.len() as f64 / REQUEST as f64,
    })
}
