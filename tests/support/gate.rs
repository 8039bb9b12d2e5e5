//! What stands between a Prometheus and sluice: passes requests on, writes down what was offered and what was acknowledged, and can
//! be closed in the ways in which networks close.
//!
//! It decodes with prost (`prompb`), so that what the tests hold against Kafka never went through the code under test.

use super::http::{Client, Http, Server};
use super::prompb::{decode_raw_v1, decode_v1};
use super::series::{Series, Value, samples_of};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a gate does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Passes it on.
    Open,
    /// Closes the connection.
    Cut,
    /// Keeps it until the mode changes, as packets that get lost do.
    Hold,
    /// Passes it on and loses the answer.
    Deaf,
}

/// Samples by series and time.
pub type Samples = HashMap<Series, BTreeMap<i64, Value>>;

#[derive(Default)]
struct Book {
    offered: Samples,
    acknowledged: Samples,
    newest: i64,
    packings: BTreeSet<String>,
    refusals: Vec<String>,
}

/// One replica's way to sluice.
pub struct Gate {
    server: Server,
    state: Arc<State>,
}

struct State {
    upstream: Vec<SocketAddr>,
    /// Which of them takes what comes: the next one, once this one does not answer.
    turn: AtomicUsize,
    mode: AtomicU8,
    requests: AtomicU64,
    book: Mutex<Book>,
}

impl Gate {
    pub fn to(upstream: SocketAddr) -> Gate {
        Gate::to_any(vec![upstream])
    }

    /// To the first of several, and to the next one after a failure, as through a balancer.
    pub fn to_any(upstream: Vec<SocketAddr>) -> Gate {
        let (mode, requests) = (AtomicU8::new(Mode::Open as u8), AtomicU64::new(0));
        let state = Arc::new(State { upstream, turn: AtomicUsize::new(0), mode, requests, book: Mutex::default() });
        let serving = state.clone();
        Gate { server: Server::start(move |request| serving.pass(request)), state }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    pub fn set(&self, mode: Mode) {
        self.state.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// Samples in requests that were answered 2xx.
    pub fn acknowledged(&self) -> Samples {
        self.state.book.lock().unwrap().acknowledged.clone()
    }

    /// Samples in requests that were sent on, whatever came back.
    pub fn offered(&self) -> Samples {
        self.state.book.lock().unwrap().offered.clone()
    }

    /// The newest time acknowledged.
    pub fn newest(&self) -> i64 {
        self.state.book.lock().unwrap().newest
    }

    /// Requests seen, passed on or not.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// How the bodies were packed, by their headers.
    pub fn packings(&self) -> Vec<String> {
        self.state.book.lock().unwrap().packings.iter().cloned().collect()
    }

    /// Answers of 400 and above but 503: bodies that sluice took for bad.
    pub fn refusals(&self) -> Vec<String> {
        self.state.book.lock().unwrap().refusals.clone()
    }
}

thread_local! {
    // A server thread is a connection of the sender's; it keeps one of its own to sluice.
    static UPSTREAM: RefCell<Option<(usize, Client)>> = const { RefCell::new(None) };
}

impl State {
    fn mode(&self) -> u8 {
        self.mode.load(Ordering::SeqCst)
    }

    fn send(&self, request: &Http) -> Option<Http> {
        let turn = self.turn.load(Ordering::SeqCst);
        UPSTREAM.with_borrow_mut(|way| {
            if way.as_ref().is_none_or(|(of, _)| *of != turn) {
                *way = Some((turn, Client::new(self.upstream[turn % self.upstream.len()])));
            }
            let answer = way.as_mut().map(|(_, client)| client.send(request))?;
            if answer.is_err() {
                let _ = self.turn.compare_exchange(turn, turn + 1, Ordering::SeqCst, Ordering::SeqCst);
            }
            answer.ok()
        })
    }

    fn pass(&self, request: &Http) -> Option<Http> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        while self.mode() == Mode::Hold as u8 {
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.mode() == Mode::Cut as u8 {
            return None;
        }
        let no_body = request.body.is_empty();
        let packing = request.header("content-encoding").unwrap_or("snappy");
        let samples = match packing {
            _ if no_body => Vec::new(),
            "zstd" => samples_of(&decode_raw_v1(&zstd::decode_all(&*request.body).expect("zstd"))),
            _ => samples_of(&decode_v1(&request.body)),
        };
        {
            let mut book = self.book.lock().unwrap();
            note(&mut book.offered, &samples);
            if !no_body {
                book.packings.insert(packing.to_owned());
            }
        }
        let answer = self.send(request)?;
        // Lost on the way back: the sender does not know, and sends it again.
        if matches!(self.mode(), deaf if deaf == Mode::Deaf as u8 || deaf == Mode::Cut as u8) {
            return None;
        }
        let mut book = self.book.lock().unwrap();
        match answer.status() {
            200..=299 => {
                note(&mut book.acknowledged, &samples);
                book.newest = samples.iter().map(|(_, time, _)| *time).fold(book.newest, i64::max);
            }
            503 => {}
            status => book.refusals.push(format!("{status} {}", answer.text())),
        }
        Some(answer)
    }
}

/// Adds samples to the book. A sample sent twice must say the same.
pub fn note(book: &mut Samples, samples: &[(Series, i64, Value)]) {
    for (series, time, value) in samples {
        book.entry(series.clone()).or_default().insert(*time, value.clone());
    }
}
