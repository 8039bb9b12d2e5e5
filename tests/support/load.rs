//! Senders of our own for the runs in which sluice dies a hundred times: as Prometheus does, each sends one request at a time and the
//! same bytes again until they are taken; unlike Prometheus, many fit on one core.

use super::gate::{Samples, note};
use super::http::Client;
use super::process::now_ms;
use super::prompb::{Label, Sample, TimeSeries, decode_v1, encode_v1};
use super::series::samples_of;
use super::sluice::write_request;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a sender kept account of.
#[derive(Default)]
pub struct Account {
    pub acknowledged: Samples,
    pub offered: Samples,
    /// Requests that had to be sent more than once.
    pub repeated: u64,
    /// Answers that no good request should get.
    pub refused: Vec<String>,
}

/// A replica that "scrapes" every `interval` milliseconds, an own offset after the full interval.
#[derive(Clone)]
pub struct Sender {
    pub group: String,
    pub replica: String,
    pub series: usize,
    pub interval: i64,
    pub offset: i64,
}

/// A running sender.
pub struct Running {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    thread: JoinHandle<Account>,
}

impl Sender {
    pub fn start(self, to: SocketAddr) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (stopped, count) = (stop.clone(), acknowledged.clone());
        let thread = std::thread::spawn(move || self.run(to, &stopped, &count));
        Running { stop, acknowledged, thread }
    }

    /// What it read on this stroke of the clock.
    pub fn body(&self, time: i64) -> Vec<u8> {
        let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
        let series = (0..self.series).map(|number| TimeSeries {
            labels: vec![
                label("__name__", "load"),
                label("__replica__", &self.replica),
                label("cluster", &self.group),
                label("instance", "load:1"),
                label("job", "load"),
                label("number", &number.to_string()),
            ],
            // A counter that begins anew every ten seconds.
            samples: vec![Sample { value: (time % 10_000) as f64 + number as f64, timestamp: time }],
            ..TimeSeries::default()
        });
        encode_v1(series.collect())
    }

    fn run(&self, to: SocketAddr, stop: &AtomicBool, count: &AtomicU64) -> Account {
        let mut account = Account::default();
        let mut client = Client::new(to);
        let mut time = now_ms() / self.interval * self.interval + self.offset;
        while !stop.load(Ordering::Relaxed) {
            if now_ms() < time {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            let body = self.body(time);
            let samples = samples_of(&decode_v1(&body));
            note(&mut account.offered, &samples);
            let mut tries = 0;
            // Until it is taken, even when asked to stop: so whatever is left unanswered at the end is nobody's fault but sluice's.
            loop {
                tries += 1;
                match client.send(&write_request(body.clone())) {
                    Ok(answer) if answer.status() / 100 == 2 => break,
                    Ok(answer) if answer.status() == 503 => {}
                    Ok(answer) => account.refused.push(format!("{} {}", answer.status(), answer.text())),
                    Err(_) => {}
                }
                if tries > 3000 {
                    account.refused.push("given up after a minute".to_owned());
                    return account;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            account.repeated += u64::from(tries > 1);
            note(&mut account.acknowledged, &samples);
            count.fetch_add(samples.len() as u64, Ordering::Relaxed);
            time += self.interval;
        }
        account
    }
}

impl Running {
    /// Samples acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Lets it finish the request it is at, and takes its account.
    pub fn stop(self) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("sender")
    }
}
