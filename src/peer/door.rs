//! Where other nodes come in: TLS with a certificate of the cluster, then a few paths. A node speaks for itself only, and for its own cluster only.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::model::ShardId;
use crate::peer::CLUSTER_HEADER;
use crate::peer::Common;
use crate::peer::charter::Charter;
use crate::peer::frame;
use crate::peer::hello::Hello;
use crate::peer::link::FRAME_BYTES;
use crate::peer::link::LETTERS_PATH;
use crate::peer::link::buffered;
use crate::peer::link::ended;
use crate::peer::stream::Batches;
use crate::peer::tls;

/// Connections at the same time: each node of seven has one, and a few that have not shown a certificate yet.
const CONNECTIONS: usize = 64;
/// To show a certificate.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The largest thing that is sent: an entry of 16 MiB and what goes around it, or a batch that ends with one.
const BODY_BYTES: usize = 24 << 20;

type Answer = (StatusCode, Vec<u8>);

/// Accepts and answers until the end.
pub async fn run(listener: TcpListener, common: Arc<Common>, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let full = connections.len() >= CONNECTIONS;
        tokio::select! {
            biased;
            _ = ended(&mut stop) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if !full => match accepted {
                Ok((stream, from)) => drop(connections.spawn(connection(stream, from, Arc::clone(&common)))),
                Err(error) => {
                    tracing::warn!(%error, "a peer's connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, from: SocketAddr, common: Arc<Common>) {
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, common.tls.get().acceptor.accept(buffered(stream))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%from, %error, "no peer of this cluster"),
        Err(_) => return,
    };
    let Some(id) = tls::id_of(stream.get_ref().1.peer_certificates()) else { return };
    let service = service_fn(move |request: Request<Incoming>| {
        let common = Arc::clone(&common);
        async move {
            let (status, body) = answer(&common, id, request).await;
            let mut response = Response::new(Full::new(Bytes::from(body)));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_secs(2))).keep_alive_timeout(Duration::from_secs(3));
    builder.initial_stream_window_size(8 << 20).initial_connection_window_size(32 << 20).max_concurrent_streams(1024);
    builder.max_frame_size(FRAME_BYTES);
    // Errors here are the peer's or the network's; its own link notices and dials anew.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

fn refuse(status: StatusCode, text: impl Into<String>) -> Answer {
    (status, text.into().into_bytes())
}

/// What a person collects. Files are read for it: not on the thread that keeps the peers.
async fn itself(common: &Common, what: Bytes) -> Answer {
    let Some(itself) = common.itself() else { return starting() };
    match tokio::task::spawn_blocking(move || itself(&String::from_utf8_lossy(&what))).await {
        Ok(itself) => (StatusCode::OK, itself),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn answer(common: &Arc<Common>, id: u64, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let theirs = request.headers().get(CLUSTER_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    if path == LETTERS_PATH {
        return letters(common, id, &theirs, request.into_body()).await;
    }
    // What is sent is counted before it is read: nobody's offers may fill this node's memory.
    let announced = hyper::body::Body::size_hint(request.body()).upper().unwrap_or(BODY_BYTES as u64).min(BODY_BYTES as u64);
    let Some(claim) = common.budget.claim(announced) else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "too many bytes of peers are under way");
    };
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES).collect().await else {
        return refuse(StatusCode::BAD_REQUEST, "the body broke off, or is too large");
    };
    let body = body.to_bytes();
    match path.as_str() {
        "/hello" => return greet(common, common.relation_to(id, &theirs)),
        "/found" => return found(common, &body).await,
        "/init" => return init(common).await,
        _ => {}
    }
    // Before the founding whoever has a certificate of the bundle is as good as a member.
    if path == "/itself" && theirs.is_empty() && common.cluster().is_none() {
        return itself(common, body).await;
    }
    if let Err(refusal) = admitted(common, id, &theirs) {
        return refusal;
    }
    if path == "/itself" {
        return itself(common, body).await;
    }
    let Some(node) = common.node.get() else { return starting() };
    let (kind, shard) = path.rsplit_once('/').unwrap_or((&path, ""));
    match (kind, shard.parse().map(ShardId)) {
        ("/offer", Ok(shard)) => {
            let answer = node.take_offer(shard, body.into(), Box::new(claim)).await;
            (StatusCode::OK, frame::write_offered(&answer))
        }
        ("/told", Ok(shard)) => {
            node.take_told(shard, &body);
            (StatusCode::NO_CONTENT, Vec::new())
        }
        ("/ask", Ok(shard)) => (StatusCode::OK, frame::write_asked(&node.take_ask(shard, &body).await)),
        ("/snapshot", Ok(shard)) => {
            let node = node.clone();
            match tokio::task::spawn_blocking(move || node.take_fetch(shard, id, &body)).await {
                Ok(Ok(Some(piece))) => (StatusCode::OK, piece),
                Ok(Ok(None)) => refuse(StatusCode::GONE, "there is no such snapshot (any more)"),
                Ok(Err(error)) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
                Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            }
        }
        _ => refuse(StatusCode::NOT_FOUND, "this node does not know what that is; are both of one version?"),
    }
}

fn starting() -> Answer {
    refuse(StatusCode::SERVICE_UNAVAILABLE, "this node is only starting")
}

/// Whether that node has a part in this one's cluster.
fn admitted(common: &Common, id: u64, theirs: &str) -> Result<(), Answer> {
    let Some(own) = common.cluster() else { return Err(refuse(StatusCode::CONFLICT, "this node belongs to no cluster yet")) };
    if own != theirs {
        return Err(refuse(StatusCode::CONFLICT, format!("this node belongs to cluster {own}, not to {theirs}")));
    }
    if !common.is_member(id) {
        return Err(refuse(StatusCode::FORBIDDEN, format!("node {id:016x} is no member of this cluster")));
    }
    Ok(())
}

/// Takes Raft's messages as they come, for as long as they come, or until that node may send none.
async fn letters(common: &Common, id: u64, theirs: &str, mut body: Incoming) -> Answer {
    let mut batches = Batches::default();
    let mut claim = None;
    loop {
        // Asked again and again: a node may be removed while its stream stands.
        if let Err(refusal) = admitted(common, id, theirs) {
            return refusal;
        }
        let Some(node) = common.node.get() else { return starting() };
        let data = match body.frame().await.map(|frame| frame.map(hyper::body::Frame::into_data)) {
            None if batches.is_between() => return (StatusCode::NO_CONTENT, Vec::new()),
            None | Some(Err(_)) => return refuse(StatusCode::BAD_REQUEST, "the stream broke off"),
            Some(Ok(Err(_))) => continue,
            Some(Ok(Ok(data))) => data,
        };
        batches.push(data);
        loop {
            let letters = match batches.next(BODY_BYTES).and_then(|batch| batch.map(|batch| frame::read_letters(&batch)).transpose()) {
                Ok(Some(letters)) => letters,
                Ok(None) => break,
                Err(error) => return refuse(StatusCode::BAD_REQUEST, error.to_string()),
            };
            claim = None;
            for letter in letters.into_iter().filter(|letter| letter.message.from == id) {
                node.take_message(letter.shard, letter.floor, letter.message);
            }
        }
        // What comes in one piece the connection's own window bounds; what has to be gathered is counted.
        if let (None, Some(bytes)) = (&claim, batches.begun()) {
            claim = common.budget.claim(bytes as u64);
            if claim.is_none() {
                return refuse(StatusCode::SERVICE_UNAVAILABLE, "too many bytes of peers are under way");
            }
        }
    }
}

fn greet(common: &Common, you_are: &str) -> Answer {
    match serde_json::to_vec(&Hello { you_are: Some(you_are.to_owned()), ..common.hello() }) {
        Ok(hello) => (StatusCode::OK, hello),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn found(common: &Arc<Common>, body: &[u8]) -> Answer {
    let Ok(charter) = serde_json::from_slice::<Charter>(body) else {
        return refuse(StatusCode::BAD_REQUEST, "the record of the cluster cannot be read");
    };
    match common.accept(charter) {
        Ok(()) => (StatusCode::OK, Vec::new()),
        Err(why) => refuse(StatusCode::CONFLICT, why),
    }
}

async fn init(common: &Arc<Common>) -> Answer {
    match common.init_here().await {
        Ok(done) => (StatusCode::OK, done.into_bytes()),
        Err(problems) => refuse(StatusCode::CONFLICT, problems.join("\n")),
    }
}
