//! The remote-write sink against a store of our own, which answers as it is told. What real stores make of the requests is shown in the end-to-end tests.

mod catch_up;
mod refusals;
mod tenants;

use std::collections::BTreeMap;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::settings::StoreSettings;
use crate::config::remote_write::Compression;
use crate::config::remote_write::Login;
use crate::config::remote_write::Protocol as Version;
use crate::config::remote_write::RemoteWrite;
use crate::forward::Shaping;
use crate::forward::Sink;
use crate::forward::SinkIdentity;
use crate::forward::Target;
use crate::forward::resend::ReplayError;
use crate::forward::shape::Shape;
use crate::forward::source::Source;
use crate::forward::standin::Sample;
use crate::forward::standin::Shard;
use crate::forward::standin::eventually;
use crate::forward::standin::stop;
use crate::forward::standin::trouble;
use crate::forward::standin::view;
use crate::forward::view::Phase;
use crate::model::Kind;
use crate::shard::command::DeadLetter;
use crate::wire::pack::Bounds;
use crate::wire::pack::Packing;
use crate::wire::pack::unpack;
use crate::wire::remote_write::Limits;
use crate::wire::remote_write::Protocol;
use crate::wire::remote_write::Walker;

/// A request as the store got it.
#[derive(Clone, Debug)]
struct Got {
    /// Number of its connection.
    connection: usize,
    headers: BTreeMap<String, String>,
    /// Series and what it counted.
    samples: Vec<(u64, u64)>,
    exemplars: usize,
    status: u16,
}

/// An answer: status, headers, text. `None`: the connection ends without one.
type Answer = Option<(u16, Vec<(&'static str, String)>, String)>;

fn plain(status: u16, text: &str) -> Answer {
    Some((status, Vec::new(), text.to_owned()))
}

/// As a store of the version that it is asked in.
fn taken(got: &Got) -> Answer {
    if got.headers["x-prometheus-remote-write-version"] == "0.1.0" {
        return plain(204, "");
    }
    let written = |name, count: usize| (name, count.to_string());
    let headers = vec![
        written("X-Prometheus-Remote-Write-Samples-Written", got.samples.len()),
        written("X-Prometheus-Remote-Write-Histograms-Written", 0),
        written("X-Prometheus-Remote-Write-Exemplars-Written", got.exemplars),
    ];
    Some((200, headers, String::new()))
}

struct Store {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    stop: Arc<AtomicBool>,
}

impl Store {
    fn start(answer: impl Fn(&Got) -> Answer + Send + Sync + 'static) -> Store {
        Store::at("127.0.0.1:0".parse().unwrap(), answer)
    }

    fn at(address: SocketAddr, answer: impl Fn(&Got) -> Answer + Send + Sync + 'static) -> Store {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (got, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (kept, stopped, answer) = (Arc::clone(&got), Arc::clone(&stop), Arc::new(answer));
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (kept, stopped, answer) = (Arc::clone(&kept), Arc::clone(&stopped), Arc::clone(&answer));
                std::thread::spawn(move || drop(converse(stream.unwrap(), connection, (&kept, &stopped), &*answer)));
            }
        });
        Store { address, got, stop }
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Per series, what was taken of it, in order.
    fn counted(&self) -> BTreeMap<u64, Vec<u64>> {
        let mut counted: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for got in self.got().iter().filter(|got| got.status / 100 == 2) {
            got.samples.iter().for_each(|(series, number)| counted.entry(*series).or_default().push(*number));
        }
        counted
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

fn converse(
    stream: TcpStream,
    connection: usize,
    (kept, stopped): (&Mutex<Vec<Got>>, &AtomicBool),
    answer: &dyn Fn(&Got) -> Answer,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut headers = BTreeMap::from([("request".to_owned(), line.trim().to_owned())]);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        reader.read_exact(&mut body)?;
        if stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut got = read(connection, headers, &body);
        let answer = answer(&got);
        got.status = answer.as_ref().map_or(0, |(status, ..)| *status);
        kept.lock().unwrap().push(got);
        let Some((status, headers, text)) = answer else { return Ok(()) };
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n{text}", text.len());
        reader.get_mut().write_all(head.as_bytes())?;
    }
}

fn read(connection: usize, headers: BTreeMap<String, String>, body: &[u8]) -> Got {
    let packing = if headers["content-encoding"] == "zstd" { Packing::Zstd } else { Packing::Snappy };
    let mut raw = Vec::new();
    unpack(packing, body, Bounds::default(), &mut raw).unwrap();
    let protocol = if headers["x-prometheus-remote-write-version"] == "2.0.0" { Protocol::V2 } else { Protocol::V1 };
    let (mut samples, mut exemplars) = (Vec::new(), 0);
    Walker::new(0)
        .walk(protocol, &raw, &Limits::none(), &mut |series| {
            assert_eq!((series.fault, series.sorted, series.label("__replica__")), (None, true, None));
            let number = series.label("s").unwrap().parse().unwrap();
            for point in series.points {
                match point.kind {
                    Kind::Exemplar => exemplars += 1,
                    _ => samples.push((number, f64::from_bits(point.bits) as u64)),
                }
            }
        })
        .unwrap();
    Got { connection, headers, samples, exemplars, status: 0 }
}

struct Bench {
    shard: Arc<Shard>,
    runtime: tokio::runtime::Runtime,
    wanted: RemoteWrite,
    shape: Arc<Shape>,
}

fn bench(store: &Store) -> Bench {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let wanted = RemoteWrite { samples_per_request: 100, ..RemoteWrite::new(&format!("http://{}/api/v1/write", store.address)) };
    Bench { shard: Shard::new(), runtime, wanted, shape: Arc::default() }
}

impl Bench {
    fn start(&self) -> Sink {
        let identity = SinkIdentity { cluster: "c".into(), seal: "one-of-a-kind".into(), sink: "store".into(), node: 7 };
        let target = Target::Store(Arc::new(StoreSettings::check(&self.wanted).unwrap()));
        let source: Arc<dyn Source> = Arc::clone(&self.shard) as Arc<dyn Source>;
        Sink::start(target, &Shaping { shape: Arc::clone(&self.shape), seed: 0 }, &identity, vec![(1, source)], self.runtime.handle())
            .unwrap()
    }

    fn delivered(&self, sink: &Sink) {
        let last = self.shard.last();
        eventually(&format!("emission {last}"), || (view(sink).position == last).then_some(()));
    }

    /// Delivers all there is, and stops; the cursor is there.
    fn finish(&self, sink: Sink) {
        self.delivered(&sink);
        stop(sink);
        assert_eq!(self.shard.cursor_now().emission, self.shard.last());
    }
}

/// Each series counted up from 0, none missing, none twice.
#[track_caller]
fn each_once_in_order(store: &Store, series: u64, samples: u64) {
    let counted = store.counted();
    for number in 0..series {
        let expect: Vec<u64> = (0..(samples - number).div_ceil(series)).collect();
        assert_eq!(counted.get(&number), Some(&expect), "series {number}");
    }
}

#[test]
fn every_dialect_delivers_each_sample_in_order_over_restarts_and_says_what_it_is() {
    let dialects = [
        (Version::V1, Compression::Snappy, "application/x-protobuf", "snappy"),
        (Version::V1, Compression::Zstd, "application/x-protobuf", "zstd"),
        (Version::V2, Compression::Snappy, "application/x-protobuf;proto=io.prometheus.write.v2.Request", "snappy"),
    ];
    for (protocol, compression, kind, encoding) in dialects {
        let store = Store::start(taken);
        let mut bench = bench(&store);
        bench.wanted = RemoteWrite { protocol, compression, headers: vec![("X-Scope-OrgID".into(), "nj1".into())], ..bench.wanted };
        for _ in 0..3 {
            let sink = bench.start();
            for _ in 0..5 {
                bench.shard.emit(7, 300);
            }
            bench.finish(sink);
        }
        each_once_in_order(&store, 7, 4_500);
        let cursor = bench.shard.cursor_now();
        assert_eq!((cursor.delivered, cursor.filtered, cursor.dead), (4_500, 0, 0));
        for got in store.got() {
            assert!(got.samples.len() <= 100);
            assert_eq!(got.headers["request"], "POST /api/v1/write HTTP/1.1");
            assert_eq!((&*got.headers["content-type"], &*got.headers["content-encoding"]), (kind, encoding));
            assert_eq!((&*got.headers["x-scope-orgid"], &*got.headers["host"]), ("nj1", &*store.address.to_string()));
            assert!(got.headers["user-agent"].starts_with("sluice/"));
            assert_eq!(got.headers.contains_key("x-victoriametrics-remote-write-version"), encoding == "zstd");
            assert!(!got.headers.contains_key("retry-attempt"));
        }
    }
}

#[test]
fn a_series_keeps_its_connection() {
    let store = Store::start(taken);
    let bench = bench(&store);
    let sink = bench.start();
    for _ in 0..10 {
        bench.shard.emit(7, 500);
    }
    bench.finish(sink);
    let mut connection: BTreeMap<u64, usize> = BTreeMap::new();
    for got in store.got() {
        for (series, _) in got.samples {
            assert_eq!(*connection.entry(series).or_insert(got.connection), got.connection);
        }
    }
    assert_eq!(connection.values().collect::<std::collections::BTreeSet<_>>().len(), 2);
}

#[test]
fn what_passes_is_sent_again_until_it_is_taken_as_the_store_asks() {
    let tries = AtomicUsize::new(0);
    let store = Store::start(move |got| match tries.fetch_add(1, Ordering::Relaxed) {
        0 => None,
        1 => Some((503, vec![("Retry-After", "1".to_owned())], "full".to_owned())),
        3 => plain(429, "slowly"),
        5 => plain(500, ""),
        _ => taken(got),
    });
    let bench = bench(&store);
    let sink = bench.start();
    for _ in 0..5 {
        bench.shard.emit(7, 300);
    }
    bench.finish(sink);
    each_once_in_order(&store, 7, 1_500);
    let attempts: Vec<String> = store.got().iter().filter_map(|got| got.headers.get("retry-attempt").cloned()).collect();
    assert!(attempts.contains(&"1".to_owned()), "{attempts:?}");
    assert_eq!(bench.shard.dead(), Vec::new());
}

#[test]
fn the_offender_is_isolated_and_the_rest_is_delivered() {
    for protocol in [Version::V1, Version::V2] {
        let bad = |(series, number): &(u64, u64)| (*series, *number) == (3, 17) || (*series, *number) == (5, 2);
        let mended = Arc::new(AtomicBool::new(false));
        let is_mended = Arc::clone(&mended);
        let store = Store::start(move |got| {
            let refused = !is_mended.load(Ordering::Relaxed) && got.samples.iter().any(bad);
            if refused { plain(400, "label value too long\n  for a series") } else { taken(got) }
        });
        let mut bench = bench(&store);
        bench.wanted.protocol = protocol;
        let sink = bench.start();
        bench.shard.emit(7, 700);
        bench.delivered(&sink);
        let dead = bench.shard.dead();
        let reasons: Vec<&str> = dead.iter().map(|dead| dead.reason.as_str()).collect();
        assert_eq!(reasons, ["the store answered 400 label value too long for a series"; 2]);
        let mut items: Vec<u32> = dead.iter().map(|dead| dead.item).collect();
        items.sort_unstable();
        assert_eq!(items, [2 * 7 + 5, 17 * 7 + 3]);
        let counted = store.counted();
        assert_eq!(counted.values().map(Vec::len).sum::<usize>(), 698);
        assert!(counted.values().all(|numbers| numbers.is_sorted()), "{counted:?}");
        let note = view(&sink).notes.into_iter().find(|note| note.code == "samples_refused").unwrap();
        assert!(note.text.contains("label value too long") && note.remedy.contains("sink replay"), "{note:?}");

        // Sent again: refused, then taken.
        let letter = |dead: &crate::forward::source::Dead| DeadLetter { payload: dead.payload.clone(), ..DeadLetter::default() };
        let letters: Vec<DeadLetter> = dead.iter().map(letter).collect();
        let resender = sink.resender();
        let outcomes = resender.send((1, 0), &letters, &|| true).unwrap();
        assert!(
            outcomes.iter().all(|one| matches!(one, Err(ReplayError::Refused(why)) if why.contains("400 label value"))),
            "{outcomes:?}"
        );
        mended.store(true, Ordering::Relaxed);
        assert_eq!(resender.send((1, 0), &letters, &|| true).unwrap(), [Ok(()), Ok(())]);
        assert_eq!(resender.send((1, 0), &letters, &|| false).unwrap(), [Err(ReplayError::NotTried), Err(ReplayError::NotTried)]);
        assert_eq!(store.counted().values().map(Vec::len).sum::<usize>(), 700);
        bench.finish(sink);
        let cursor = bench.shard.cursor_now();
        assert_eq!((cursor.delivered, cursor.dead), (698, 2));
    }
}

#[test]
fn a_store_that_refuses_everything_costs_no_sample() {
    for (status, code) in [(400, "refuses_all"), (401, "not_let_in"), (403, "not_let_in"), (404, "not_there"), (302, "not_there")] {
        let open = Arc::new(AtomicBool::new(false));
        let is_open = Arc::clone(&open);
        let store = Store::start(move |got| if is_open.load(Ordering::Relaxed) { taken(got) } else { plain(status, "unsupported path") });
        let bench = bench(&store);
        let sink = bench.start();
        bench.shard.emit(7, 300);
        let shown = trouble(&sink, code);
        assert!(shown.text.contains(&status.to_string()) && shown.text.contains("unsupported path"), "{shown:?}");
        open.store(true, Ordering::Relaxed);
        bench.finish(sink);
        each_once_in_order(&store, 7, 300);
        assert_eq!(bench.shard.dead(), Vec::new(), "{status}");
    }
}

#[test]
fn zstd_is_given_up_where_it_is_what_is_refused_and_nowhere_else() {
    for status in [400, 415] {
        let store = Store::start(move |got| if got.headers["content-encoding"] == "zstd" { plain(status, "no zstd") } else { taken(got) });
        let mut bench = bench(&store);
        bench.wanted = RemoteWrite { compression: Compression::Zstd, connections: 1, ..bench.wanted };
        let sink = bench.start();
        bench.shard.emit(7, 300);
        bench.delivered(&sink);
        bench.shard.emit(7, 300);
        bench.delivered(&sink);
        let notes: Vec<&str> = view(&sink).notes.iter().map(|note| note.code).collect();
        assert_eq!(notes, ["zstd_refused"]);
        bench.finish(sink);
        each_once_in_order(&store, 7, 600);
        let zstd = store.got().iter().filter(|got| got.headers["content-encoding"] == "zstd").count();
        assert_eq!(zstd, 1, "once was enough to know");
    }
    let store = Store::start(|got| if got.samples.contains(&(3, 17)) { plain(400, "bad") } else { taken(got) });
    let mut bench = bench(&store);
    bench.wanted = RemoteWrite { compression: Compression::Zstd, connections: 1, ..bench.wanted };
    let sink = bench.start();
    bench.shard.emit(7, 700);
    bench.delivered(&sink);
    bench.shard.emit(7, 70);
    bench.delivered(&sink);
    assert_eq!(store.got().last().unwrap().headers["content-encoding"], "zstd");
    assert_eq!(bench.shard.dead().len(), 1);
    stop(sink);
}

#[test]
fn a_store_that_goes_and_comes_back_costs_no_sample_and_no_restart() {
    let store = Store::start(taken);
    let bench = bench(&store);
    let sink = bench.start();
    bench.shard.emit(7, 300);
    bench.delivered(&sink);
    let (address, first) = (store.address, store.counted());
    drop(store);
    for _ in 0..5 {
        bench.shard.emit(7, 300);
    }
    let shown = trouble(&sink, "unreachable");
    assert!(shown.remedy.contains("the store runs"), "{shown:?}");
    eventually("the lag", || (view(&sink).lag_samples >= 1_500).then_some(()));
    let store =
        eventually("the address to be free again", || TcpListener::bind(address).ok().map(drop).map(|()| Store::at(address, taken)));
    bench.finish(sink);
    let mut both = first;
    store.counted().into_iter().for_each(|(series, numbers)| both.entry(series).or_default().extend(numbers));
    for (series, numbers) in both {
        assert_eq!(numbers, (0..(1_800 - series).div_ceil(7)).collect::<Vec<_>>(), "series {series}");
    }
}

#[test]
fn of_two_zero_a_store_that_understands_nothing_is_found_out() {
    for status in [204, 415] {
        let store = Store::start(move |_| plain(status, ""));
        let mut bench = bench(&store);
        bench.wanted.protocol = Version::V2;
        let sink = bench.start();
        bench.shard.emit(7, 70);
        let shown = trouble(&sink, "not_spoken");
        assert!(shown.remedy.contains("protocol: v1"), "{shown:?}");
        assert_eq!(view(&sink).position, 0);
        drop(sink.stop(Duration::from_millis(100)));
        assert_eq!((bench.shard.cursor_now().delivered, bench.shard.dead()), (0, Vec::new()));
    }
}

#[test]
fn a_pause_and_another_leader_hold_delivery() {
    let store = Store::start(taken);
    let bench = bench(&store);
    let sink = bench.start();
    bench.shard.emit(7, 70);
    bench.delivered(&sink);
    bench.shard.pause(true);
    eventually("the pause", || (view(&sink).phase == Phase::Paused).then_some(()));
    bench.shard.emit(7, 70);
    bench.shard.lead(false);
    bench.shard.pause(false);
    eventually("another leader", || (view(&sink).phase == Phase::Elsewhere).then_some(()));
    assert_eq!(store.counted().values().map(Vec::len).sum::<usize>(), 70);
    bench.shard.lead(true);
    bench.finish(sink);
    each_once_in_order(&store, 7, 140);
}

#[test]
fn a_budgets_cut_ends_waiting_for_a_dead_store() {
    let open = Arc::new(AtomicBool::new(false));
    let is_open = Arc::clone(&open);
    let store = Store::start(move |got| if is_open.load(Ordering::Relaxed) { taken(got) } else { plain(503, "") });
    let bench = bench(&store);
    let sink = bench.start();
    for _ in 0..3 {
        bench.shard.emit(1, 10);
    }
    trouble(&sink, "busy");
    bench.shard.cut(2);
    open.store(true, Ordering::Relaxed);
    bench.finish(sink);
    assert_eq!(store.counted()[&0], (20..30).collect::<Vec<_>>());
    assert_eq!(bench.shard.cursor_now().dropped, 20);
}

#[test]
fn a_repeat_that_is_refused_for_being_one_is_no_dead_letter() {
    let tries = AtomicUsize::new(0);
    // The first request is taken and its answer lost, as when a process dies.
    let store = Store::start(move |got| match tries.fetch_add(1, Ordering::Relaxed) {
        0 => None,
        _ if got.samples.iter().any(|(_, number)| *number == 0) => plain(400, "out of order sample"),
        _ => taken(got),
    });
    let mut bench = bench(&store);
    bench.wanted.connections = 1;
    let sink = bench.start();
    eventually("the session", || (view(&sink).phase == Phase::Running).then_some(()));
    bench.shard.emit(2, 20);
    bench.delivered(&sink);
    let note = view(&sink).notes.into_iter().find(|note| note.code == "repeats_refused").unwrap();
    assert!(note.text.contains("2 samples"), "{note:?}");
    assert_eq!(bench.shard.dead(), Vec::new());
    // One that was not sent before is.
    bench.shard.emit_these(vec![Sample { series: 9, number: 0, filling: 1, exemplar: false }]);
    bench.delivered(&sink);
    assert_eq!(bench.shard.dead().len(), 1);
    stop(sink);
}

#[test]
fn late_samples_have_requests_of_their_own_or_stay() {
    for drops_late in [false, true] {
        let store = Store::start(taken);
        let mut bench = bench(&store);
        bench.shape = Arc::new(Shape { drops_late, ..Shape::default() });
        let old = |number| Sample { series: 1, number, filling: 1, exemplar: false };
        bench.shard.emit_these(vec![old(10)]);
        bench.shard.emit_late(vec![old(3), old(4)]);
        bench.shard.emit_these(vec![old(11)]);
        let sink = bench.start();
        bench.finish(sink);
        let sent: Vec<Vec<u64>> = store.got().iter().map(|got| got.samples.iter().map(|(_, number)| *number).collect()).collect();
        let filtered = bench.shard.cursor_now().filtered;
        if drops_late {
            assert_eq!((sent, filtered), (vec![vec![10, 11]], 2));
        } else {
            assert_eq!((sent, filtered), (vec![vec![10, 11], vec![3, 4]], 0));
        }
    }
}

#[test]
fn exemplars_go_along_in_two_zero_with_a_sample_only() {
    let (with, alone) = ((1, 5), (2, 6));
    for (protocol, (series, number), exemplars, filtered) in
        [(Version::V1, with, 1, 0), (Version::V1, alone, 1, 0), (Version::V2, with, 1, 0), (Version::V2, alone, 0, 1)]
    {
        let store = Store::start(taken);
        let mut bench = bench(&store);
        bench.wanted.protocol = protocol;
        let sample = |series, number, exemplar| Sample { series, number, filling: 1, exemplar };
        bench.shard.emit_these(vec![sample(1, 5, false), sample(3, 1, false), sample(series, number, true)]);
        let sink = bench.start();
        bench.finish(sink);
        assert_eq!(store.got().iter().map(|got| got.exemplars).sum::<usize>(), exemplars);
        assert_eq!(bench.shard.cursor_now().filtered, filtered);
    }
}

#[test]
fn credentials_come_from_files_and_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let file: PathBuf = dir.path().join("secret");
    let store = Store::start(|got| match got.headers.get("authorization").map(String::as_str) {
        // user:right, and a token.
        Some("Basic dXNlcjpyaWdodA==" | "Bearer right") => taken(got),
        _ => plain(401, "who are you"),
    });
    let logins = [Login::Basic { username: "user".into(), password_file: file.clone() }, Login::Bearer(file.clone())];
    for login in logins {
        drop(std::fs::remove_file(&file));
        let mut bench = bench(&store);
        bench.wanted.login = Some(login);
        let sink = bench.start();
        bench.shard.emit(7, 70);
        let shown = trouble(&sink, "file");
        assert!(shown.text.contains(&file.display().to_string()), "{shown:?}");
        std::fs::write(&file, "wrong\n").unwrap();
        trouble(&sink, "not_let_in");
        std::fs::write(&file, "right\n").unwrap();
        bench.finish(sink);
    }
    assert_eq!(store.counted().values().map(Vec::len).sum::<usize>(), 140);
}

#[test]
fn a_stop_with_a_dead_store_ends_within_its_grace_and_says_what_stays() {
    let store = Store::start(|_| plain(503, ""));
    let bench = bench(&store);
    let sink = bench.start();
    bench.shard.emit(7, 70);
    trouble(&sink, "busy");
    let undone = sink.stop(Duration::from_millis(200));
    assert!(undone.len() == 1 && undone[0].contains("70 samples under way"), "{undone:?}");
    assert_eq!(bench.shard.cursor_now().emission, 0);
}
