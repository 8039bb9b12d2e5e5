//! The accept loop against plain sockets.

use super::*;
use crate::clock;
use crate::secret::Bundle;
use crate::serve::tls::Certificate;
use crate::serve::tls::Files;
use std::sync::Mutex;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<usize>,
    gone: Arc<Mutex<Vec<u64>>>,
}

async fn start(connections: usize, answerer: Answerer) -> Running {
    start_with(connections, answerer, None).await
}

async fn start_with(connections: usize, answerer: Answerer, tls: Option<Arc<Tls>>) -> Running {
    let bounds = Bounds { connections, age: Duration::ZERO, drain: Duration::from_secs(2) };
    start_within(bounds, answerer, tls).await
}

async fn start_within(bounds: Bounds, answerer: Answerer, tls: Option<Arc<Tls>>) -> Running {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().with_tls(tls);
    let address = listener.address();
    let (stop, stopped) = watch::channel(false);
    let gone: Arc<Mutex<Vec<u64>>> = Arc::default();
    let told = Arc::clone(&gone);
    let door = Door { answerer, gone: Arc::new(move |connection, _| told.lock().unwrap().push(connection)) };
    let task = tokio::spawn(run(listener, bounds, door, Metrics::default(), stopped));
    Running { address, stop, task, gone }
}

fn echo(limit: usize, pace: body::Pace) -> Answerer {
    Arc::new(move |request, peer| {
        Box::pin(async move {
            if peer.beyond_bound {
                return answer(hyper::StatusCode::SERVICE_UNAVAILABLE, "text/plain", "full");
            }
            match body::read(&mut request.into_body(), limit, pace, &mut |_| true).await {
                Ok(bytes) => answer(hyper::StatusCode::OK, "text/plain", bytes),
                Err(error) => answer(hyper::StatusCode::BAD_REQUEST, "text/plain", error.to_string()),
            }
        })
    })
}

const FAST: body::Pace = body::Pace { bytes_per_second: 1, grace: Duration::from_secs(5) };

async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str, until: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut seen, mut part) = (String::new(), [0; 1024]);
    while !seen.contains(until) {
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut part)).await.expect("an answer").unwrap();
        if read == 0 {
            break;
        }
        seen.push_str(&String::from_utf8_lossy(&part[..read]));
    }
    seen
}

#[tokio::test]
async fn beyond_the_bound_senders_get_503_and_keep_their_connection() {
    let running = start(1, echo(100, FAST)).await;
    let post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
    let mut first = TcpStream::connect(running.address).await.unwrap();
    assert!(exchange(&mut first, post, "hi").await.contains("200 OK"));
    let mut second = TcpStream::connect(running.address).await.unwrap();
    for _ in 0..2 {
        let answer = exchange(&mut second, post, "full").await;
        assert!(answer.contains("503") && !answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn bodies_are_bounded_in_size_and_in_time() {
    let running = start(9, echo(4, FAST)).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let answer = exchange(&mut stream, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "bytes").await;
    assert!(answer.contains("larger than 4"), "{answer}");
    let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n";
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    assert!(exchange(&mut stream, chunked, "bytes").await.contains("larger than 4"));

    let slow = start(9, echo(100, body::Pace { bytes_per_second: 1000, grace: Duration::from_millis(50) })).await;
    let mut stream = TcpStream::connect(slow.address).await.unwrap();
    let answer = exchange(&mut stream, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nhello", "second").await;
    assert!(answer.contains("slower than 1000"), "{answer}");
}

#[tokio::test]
async fn a_stop_lets_a_request_under_way_end_and_closes_the_idle() {
    let answerer: Answerer = Arc::new(|_, _| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            answer(hyper::StatusCode::OK, "text/plain", "done")
        })
    });
    let running = start(9, answerer).await;
    let _idle = TcpStream::connect(running.address).await.unwrap();
    let mut busy = TcpStream::connect(running.address).await.unwrap();
    busy.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    running.stop.send(true).unwrap();
    let answer = exchange(&mut busy, "", "done").await;
    assert!(answer.contains("done"), "{answer}");
    assert_eq!(running.task.await.unwrap(), 0);
}

#[tokio::test]
async fn a_taken_port_says_which_flag_changes_it() {
    let first = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let error = Listener::bind(first.address()).await.err().unwrap();
    assert!(matches!(error, BindError::Taken(_)));
    assert!(error.to_string().contains("--listen"));
}

#[tokio::test]
async fn the_end_of_each_connection_is_told_by_its_number() {
    let running = start(4, echo(100, FAST)).await;
    let post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
    let mut first = TcpStream::connect(running.address).await.unwrap();
    exchange(&mut first, post, "hi").await;
    let mut second = TcpStream::connect(running.address).await.unwrap();
    exchange(&mut second, post, "hi").await;
    drop(second);
    let told = || running.gone.lock().unwrap().clone();
    while told().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(told(), [2]);
    exchange(&mut first, post, "hi").await;
    assert_eq!(told(), [2], "the other one is open");
    running.stop.send(true).unwrap();
    running.task.await.unwrap();
    let told = running.gone.lock().unwrap().clone();
    assert_eq!(told, [2, 1]);
}

#[tokio::test]
async fn an_old_connection_ends_with_its_next_answer() {
    let bounds = Bounds { connections: 9, age: Duration::from_millis(100), drain: Duration::from_secs(2) };
    let running = start_within(bounds, echo(100, FAST), None).await;
    let post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    let answer = exchange(&mut stream, post, "no such word").await;
    assert!(answer.contains("200 OK") && answer.contains("connection: close") && answer.ends_with("hi"), "{answer}");
    // One that may last does.
    let running = start(9, echo(100, FAST)).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    assert!(!exchange(&mut stream, post, "hi").await.contains("connection: close"));
}

#[tokio::test]
async fn an_old_http2_connection_takes_no_new_request_and_ends_with_the_last_one() {
    let slow: Answerer = Arc::new(|_, _| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(400)).await;
            answer(hyper::StatusCode::OK, "text/plain", "done")
        })
    });
    let bounds = Bounds { connections: 9, age: Duration::from_millis(100), drain: Duration::from_secs(2) };
    let running = start_within(bounds, slow, None).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.unwrap();
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get("http://x/").body(http_body_util::Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), hyper::StatusCode::OK, "under way when the time was over");
    drop(response);
    tokio::time::timeout(Duration::from_secs(5), connection).await.expect("the connection ends").unwrap().unwrap();
}

/// What comes back for these bytes, up to the end of the connection.
async fn raw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may close before it has read all of it.
    let _closed = stream.write_all(bytes).await;
    let _closed = stream.shutdown().await;
    let mut seen = Vec::new();
    let _reset = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut seen)).await.expect("an end");
    seen
}

#[tokio::test]
async fn damaged_heads_are_answered_or_hung_up_on_and_the_next_one_is_served() {
    let running = start(64, echo(4096, FAST)).await;
    let heads = [
        "POST /api/v1/write?group=a HTTP/1.1\r\nHost: x\r\nContent-Encoding: snappy\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nTrailer: t\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ];
    let mut answers = [0; 2];
    for seed in crate::mutate::seeds(400) {
        let random = &mut fastrand::Rng::with_seed(seed);
        let mut bytes = heads[random.usize(0..heads.len())].as_bytes().to_vec();
        crate::mutate::damage(random, &mut bytes);
        let seen = raw(running.address, &bytes).await;
        answers[usize::from(seen.starts_with(b"HTTP/1.1 200"))] += 1;
        assert!(seen.len() < 16 << 10, "SEED={seed}: {} bytes", seen.len());
    }
    assert!(answers.iter().all(|count| *count > 0) || std::env::var("SEED").is_ok(), "{answers:?}");
    // Heads without an end: hyper stops reading at some 400 KiB, and at a hundred headers.
    let endless = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(4 << 20));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(10_000));
    for bytes in [endless, many] {
        let seen = raw(running.address, bytes.as_bytes()).await;
        assert!(!seen.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&seen));
    }
    let mut good = TcpStream::connect(running.address).await.unwrap();
    assert!(exchange(&mut good, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", "hi").await.contains("200 OK"));
    drop(good);
    running.stop.send(true).unwrap();
    assert_eq!(running.task.await.unwrap(), 0);
}

/// Certificates for `localhost` of an authority of their own, in files of a directory of their own.
struct Authority {
    bundle: Bundle,
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        Authority { bundle: Bundle::make("test", &["localhost".into()], clock::wall_ms()).unwrap(), dir: tempfile::tempdir().unwrap() }
    }

    fn certificate(&self) -> Certificate {
        let made = self.bundle.admit(1, "localhost", clock::wall_ms()).unwrap();
        let files = Files { certificate: self.dir.path().join("own.pem"), key: self.dir.path().join("own.key") };
        std::fs::write(self.trusted(), made.authority).unwrap();
        std::fs::write(&files.certificate, made.certificate).unwrap();
        std::fs::write(&files.key, made.key).unwrap();
        Certificate::load(&files).unwrap()
    }

    fn trusted(&self) -> std::path::PathBuf {
        self.dir.path().join("ca.pem")
    }

    async fn connect(&self, running: &Running) -> Result<tls::ClientStream, String> {
        let trusted = self.trusted();
        let trust = tls::Trust { authorities: Some(&trusted), own: None, option: "--ca-file" };
        tls::connect(TcpStream::connect(running.address).await.unwrap(), "localhost", trust).await
    }
}

fn shown(stream: &tls::ClientStream) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_certificate_is_exchanged_for_new_connections_and_old_ones_live_on() {
    let authority = Authority::new();
    let tls = Arc::new(Tls::new(authority.certificate()));
    let running = start_with(9, echo(100, FAST), Some(Arc::clone(&tls))).await;
    let post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
    let mut first = authority.connect(&running).await.unwrap();
    assert!(exchange(&mut first, post, "hi").await.contains("200 OK"));
    assert!(tls.exchange(authority.certificate()));
    let mut second = authority.connect(&running).await.unwrap();
    assert_ne!(shown(&first), shown(&second));
    for stream in [&mut first, &mut second] {
        assert!(exchange(stream, post, "hi").await.contains("200 OK"));
    }
    let stranger = Authority::new();
    drop(stranger.certificate());
    let error = stranger.connect(&running).await.expect_err("signed by another authority");
    assert!(error.contains("--ca-file"), "{error}");
}

#[tokio::test]
async fn whoever_speaks_plainly_to_a_port_with_tls_is_told_so() {
    let authority = Authority::new();
    let running = start_with(9, echo(100, FAST), Some(Arc::new(Tls::new(authority.certificate())))).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let answer = exchange(&mut stream, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", "\n\n").await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("https://"), "{answer}");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let authority = Authority::new();
    let mut tls = Tls::new(authority.certificate());
    tls.within = Duration::from_millis(50);
    let running = start_with(9, echo(100, FAST), Some(Arc::new(tls))).await;
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    silent.write_all(&[22]).await.unwrap();
    let mut rest = Vec::new();
    // Plain connections may be silent for six minutes.
    let closed = tokio::time::timeout(Duration::from_secs(60), silent.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "still open after a minute");
}
