//! A many-series exporter: targets of our own whose values are functions of time, and which can fail for one replica alone.
//!
//! A target is a path, `/t/3?replica=a`; series are counters, which begin anew when they are told to, and gauges.

use super::http::{Http, Server};
use super::process::now_ms;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

/// Which target is dead for whom.
type Robbed = Arc<Mutex<Vec<(String, usize)>>>;

pub struct Exporter {
    server: Server,
    robbed: Robbed,
    targets: usize,
    /// What counters count from.
    since: Arc<AtomicI64>,
}

impl Exporter {
    /// `targets` targets of `series` series each.
    pub fn start(targets: usize, series: usize) -> Exporter {
        let robbed = Robbed::default();
        let since = Arc::new(AtomicI64::new(1_700_000_000_000));
        let (dead, from) = (robbed.clone(), since.clone());
        let server = Server::start(move |request| Some(serve(request, series, &dead.lock().unwrap(), from.load(Ordering::Relaxed))));
        Exporter { server, robbed, targets, since }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    pub fn targets(&self) -> usize {
        self.targets
    }

    /// From now on every second target answers this replica with an error.
    pub fn rob(&self, replica: &str) {
        self.robbed.lock().unwrap().extend((0..self.targets).step_by(2).map(|target| (replica.to_owned(), target)));
    }

    /// Counters begin at zero.
    pub fn begin_anew(&self) {
        self.since.store(now_ms(), Ordering::Relaxed);
    }

    /// All targets answer everyone again.
    pub fn heal(&self) {
        self.robbed.lock().unwrap().clear();
    }
}

fn serve(request: &Http, series: usize, robbed: &[(String, usize)], since: i64) -> Http {
    let (path, query) = request.target().1.split_once('?').unwrap_or_default();
    let target = path.trim_start_matches("/t/").parse().unwrap_or(usize::MAX);
    let replica = query.trim_start_matches("replica=");
    if robbed.iter().any(|(name, number)| name == replica && *number == target) {
        return Http::answer(500, "robbed");
    }
    let now = now_ms();
    let mut text = String::from("# TYPE demo_counter_total counter\n# TYPE demo_gauge gauge\n");
    for number in 0..series {
        if number % 2 == 0 {
            // Counts milliseconds: whoever is asked, it falls only where it begins anew.
            writeln!(text, "demo_counter_total{{number=\"{number}\"}} {}", counter(now - since, number)).expect("text");
        } else {
            writeln!(text, "demo_gauge{{number=\"{number}\"}} {}", (now % 60_000) as f64 / 7.0 + number as f64).expect("text");
        }
    }
    let mut answer = Http::answer(200, text);
    answer.headers.push(("Content-Type".to_owned(), "text/plain; version=0.0.4".to_owned()));
    answer
}

/// The value of a counter after so many milliseconds.
fn counter(passed: i64, number: usize) -> u64 {
    u64::try_from(passed).unwrap_or(0) * (number as u64 + 1)
}
