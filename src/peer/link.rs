//! The way to one peer: one connection, kept up; Raft's messages in batches behind each other (Q4), offers and proposals beside them.
//!
//! A message that does not fit into the queue is dropped and counted, and so is all that waits when the connection breaks: Raft sends again.
//! A connection is given up when it says nothing for some seconds, since a stopped process keeps its sockets open.
//!
//! It leaves from the address that this node listens on for the others, where one was named: on a host with several addresses firewalls, and
//! whoever reads logs, see the node's own.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::Request;
use hyper::StatusCode;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::clock;
use crate::config::cluster::Member;
use crate::peer::CLUSTER_HEADER;
use crate::peer::Common;
use crate::peer::frame::Letter;
use crate::peer::frame::write_letters;
use crate::peer::hello::Hello;
use crate::peer::tls;
use crate::shard::replica::message_bytes;

/// Messages that wait for one peer: 7 shards with 64 on their way each fit twice.
const LETTERS: usize = 1024;
/// Their bytes.
const LETTER_BYTES: usize = 64 << 20;
/// In one request, so that a heartbeat behind it waits for a tenth of a second at 1 Gbit/s.
const BATCH_BYTES: usize = 4 << 20;
/// To connect, to shake hands, to be greeted.
const DIAL: Duration = Duration::from_secs(3);
/// Between two greetings, by which each side knows how the other one is.
const GREET: Duration = Duration::from_secs(1);
/// A batch that has no answer after this costs the connection.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two tries, at first and at most.
const REDIAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// No answer of a peer is longer: a piece of a snapshot that ends with an entry of 16 MiB.
const ANSWER_BYTES: usize = 24 << 20;

/// Where a peer stands, as seen from here.
#[derive(Clone, Debug, PartialEq)]
pub enum Sight {
    /// No connection: why.
    Unreachable(String),
    /// It answers.
    Greeted {
        /// What it said last.
        hello: Box<Hello>,
        /// Its clock less ours, ms.
        clock_off_ms: i64,
    },
}

#[derive(Default)]
struct Queue {
    letters: VecDeque<Letter>,
    bytes: usize,
}

/// One peer.
pub struct Link {
    /// Its name and address.
    pub member: Member,
    /// Where this node listens for the others.
    listen: IpAddr,
    queue: Mutex<Queue>,
    news: Notify,
    connection: Mutex<Option<SendRequest<Full<Bytes>>>>,
    /// Who is on the other side, by its certificate; 0: nobody.
    id: AtomicU64,
    sight: Mutex<Sight>,
    /// Messages that were dropped since the beginning.
    pub dropped: AtomicU64,
    /// Messages that were sent since the beginning.
    pub sent: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The address to leave from; `None`: the system chooses. From an address of loopback no way leads out of the host.
fn leaves_from(listen: IpAddr, to: IpAddr) -> Option<IpAddr> {
    let fits = listen.is_ipv4() == to.is_ipv4() && (!listen.is_loopback() || to.is_loopback());
    Some(listen).filter(|_| fits && !listen.is_unspecified())
}

async fn connect(listen: IpAddr, address: &str) -> std::io::Result<TcpStream> {
    let mut last = None;
    for to in tokio::net::lookup_host(address).await? {
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        let bound = leaves_from(listen, to.ip()).map_or(Ok(()), |from| socket.bind(SocketAddr::new(from, 0)));
        match bound {
            Ok(()) => match socket.connect(to).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            },
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| std::io::Error::other("the name has no address")))
}

impl Link {
    /// Not connected yet.
    pub fn new(member: Member, listen: IpAddr) -> Link {
        Link {
            member,
            listen,
            queue: Mutex::default(),
            news: Notify::new(),
            connection: Mutex::default(),
            id: AtomicU64::new(0),
            sight: Mutex::new(Sight::Unreachable("not tried yet".to_owned())),
            dropped: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }
    }

    /// Who is on the other side, by its certificate.
    pub fn id(&self) -> Option<u64> {
        Some(self.id.load(Ordering::Acquire)).filter(|id| *id != 0)
    }

    /// Where it stands.
    pub fn sight(&self) -> Sight {
        lock(&self.sight).clone()
    }

    /// Never waits. False: it did not fit, or there is no connection.
    pub fn post(&self, letter: Letter) -> bool {
        let bytes = message_bytes(&letter.message);
        let mut queue = lock(&self.queue);
        if queue.letters.len() >= LETTERS || queue.bytes > 0 && queue.bytes + bytes > LETTER_BYTES || lock(&self.connection).is_none() {
            drop(queue);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        queue.bytes += bytes;
        queue.letters.push_back(letter);
        drop(queue);
        self.news.notify_one();
        true
    }

    fn batch(&self) -> Vec<Letter> {
        let mut queue = lock(&self.queue);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES
            && let Some(letter) = queue.letters.pop_front()
        {
            bytes += message_bytes(&letter.message);
            batch.push(letter);
        }
        queue.bytes = queue.bytes.saturating_sub(bytes);
        batch
    }

    /// Asks the peer; `None`: no answer, so nobody knows what became of it. An error: there is no connection, so nothing was sent.
    pub async fn ask(&self, common: &Common, path: &str, body: Bytes, within: Duration) -> Result<Option<(StatusCode, Bytes)>, ()> {
        let Some(connection) = lock(&self.connection).clone() else { return Err(()) };
        Ok(tokio::time::timeout(within, request(connection, common, path, body)).await.ok().and_then(Result::ok))
    }

    /// Keeps the connection up until the end.
    pub async fn run(self: Arc<Link>, common: Arc<Common>, mut stop: watch::Receiver<bool>) {
        let mut pause = REDIAL.0;
        loop {
            let why = tokio::select! {
                _ = ended(&mut stop) => return,
                why = self.once(&common, &mut pause) => why,
            };
            *lock(&self.connection) = None;
            let lost = {
                let mut queue = lock(&self.queue);
                queue.bytes = 0;
                std::mem::take(&mut queue.letters).len()
            };
            self.dropped.fetch_add(lost as u64, Ordering::Relaxed);
            let before = std::mem::replace(&mut *lock(&self.sight), Sight::Unreachable(why.clone()));
            if matches!(before, Sight::Greeted { .. }) {
                tracing::warn!(peer = self.member.name, "the connection is gone: {why}");
            }
            let gone = self.id.swap(0, Ordering::AcqRel);
            if gone != 0 {
                common.unreachable(gone);
            }
            let jitter = pause.mul_f64(0.5 + fastrand::f64());
            tokio::select! {
                _ = ended(&mut stop) => return,
                () = tokio::time::sleep(jitter) => pause = (pause * 2).min(REDIAL.1),
            }
        }
    }

    /// One connection, from its making to its end; says why it ended.
    async fn once(&self, common: &Arc<Common>, pause: &mut Duration) -> String {
        let connected = match tokio::time::timeout(DIAL, self.dial(common)).await {
            Ok(connected) => connected,
            Err(_) => Err(format!("{} did not answer within {} s", self.member.address, DIAL.as_secs())),
        };
        let (connection, driver) = match connected {
            Ok(connected) => connected,
            Err(why) => return why,
        };
        let mut driver = std::pin::pin!(driver);
        tokio::select! {
            // The driver moves the bytes; when it ends so has the connection.
            why = driver.as_mut() => why,
            why = self.work(connection, common, pause) => why,
        }
    }

    async fn dial(&self, common: &Arc<Common>) -> Result<(SendRequest<Full<Bytes>>, impl Future<Output = String> + Send + use<>), String> {
        let address = &self.member.address;
        let stream = connect(self.listen, address).await.map_err(|error| format!("{address}: {error}"))?;
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from(self.member.name.clone()).map_err(|error| format!("{}: {error}", self.member.name))?;
        let stream = common
            .tls
            .get()
            .connector
            .connect(name, stream)
            .await
            .map_err(|error| format!("{address}: {error}; was it admitted by the same bundle, under the name {}?", self.member.name))?;
        let id = tls::id_of(stream.get_ref().1.peer_certificates()).ok_or("its certificate names no node")?;
        common.is_expected(&self.member.name, id)?;
        self.id.store(id, Ordering::Release);
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(1)).keep_alive_timeout(Duration::from_secs(2));
        builder.initial_stream_window_size(8 << 20).initial_connection_window_size(32 << 20).max_send_buf_size(4 << 20);
        let (connection, driver) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| format!("{address}: {error}"))?;
        let address = address.clone();
        let driver = async move {
            match driver.await {
                Ok(()) => format!("{address} closed the connection"),
                Err(error) => format!("{address}: {error}"),
            }
        };
        Ok((connection, driver))
    }

    async fn work(&self, connection: SendRequest<Full<Bytes>>, common: &Arc<Common>, pause: &mut Duration) -> String {
        let mut greeted = None;
        loop {
            let now = clock::now();
            if greeted.is_none_or(|at| now.saturating_duration_since(at) >= GREET) {
                if let Err(why) = self.greet(&connection, common).await {
                    return why;
                }
                if greeted.is_none() {
                    *pause = REDIAL.0;
                    *lock(&self.connection) = Some(connection.clone());
                    tracing::info!(peer = self.member.name, address = self.member.address, "connected");
                }
                greeted = Some(now);
            }
            let batch = self.batch();
            if batch.is_empty() {
                let _ = tokio::time::timeout(GREET, self.news.notified()).await;
                continue;
            }
            let body = Bytes::from(write_letters(&batch));
            match tokio::time::timeout(ANSWER, request(connection.clone(), common, "/raft", body)).await {
                Ok(Ok((StatusCode::NO_CONTENT, _))) => self.sent.fetch_add(batch.len() as u64, Ordering::Relaxed),
                // It is not (or not yet) a member to that node, which the greetings say, too: the connection stays, to hear when that changes.
                Ok(Ok((StatusCode::FORBIDDEN, _))) => self.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed),
                Ok(Ok((status, text))) => return format!("it refuses messages ({status}): {}", String::from_utf8_lossy(&text)),
                Ok(Err(why)) => return why,
                Err(_) => return format!("no answer within {} s", ANSWER.as_secs()),
            };
        }
    }

    async fn greet(&self, connection: &SendRequest<Full<Bytes>>, common: &Arc<Common>) -> Result<(), String> {
        let before = clock::wall_ms();
        let body = serde_json::to_vec(&common.hello()).map_err(|error| error.to_string())?;
        let asked = tokio::time::timeout(DIAL, request(connection.clone(), common, "/hello", body.into())).await;
        let (status, answer) = asked.map_err(|_| format!("no greeting within {} s", DIAL.as_secs()))??;
        if status != StatusCode::OK {
            return Err(format!("it does not greet ({status}): {}", String::from_utf8_lossy(&answer)));
        }
        let hello: Hello = serde_json::from_slice(&answer).map_err(|error| format!("its greeting cannot be read: {error}"))?;
        if let (Some(own), Some(theirs)) = (common.cluster(), &hello.cluster)
            && own != *theirs
        {
            return Err(format!("it belongs to another cluster ({theirs}; this node's is {own})"));
        }
        let middle = (before + clock::wall_ms()) / 2;
        let clock_off_ms = hello.now_ms - middle;
        *lock(&self.sight) = Sight::Greeted { hello: Box::new(hello), clock_off_ms };
        Ok(())
    }
}

async fn request(
    mut connection: SendRequest<Full<Bytes>>,
    common: &Common,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), String> {
    let request = Request::post(format!("https://sluice{path}"))
        .header(CLUSTER_HEADER, common.cluster().unwrap_or_default())
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    connection.ready().await.map_err(|error| error.to_string())?;
    let answer = connection.send_request(request).await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await.map_err(|error| error.to_string())?;
    Ok((status, body.to_bytes()))
}

/// Ends when the end has come. (Without the guard that `wait_for` returns, which may not be held across an await.)
pub(super) async fn ended(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::leaves_from;

    #[test]
    fn a_connection_leaves_from_the_address_that_the_node_listens_on_where_it_can() {
        let from = |listen: &str, to: &str| leaves_from(listen.parse().unwrap(), to.parse().unwrap()).map(|from| from.to_string());
        assert_eq!(from("10.0.0.1", "10.0.0.2"), Some("10.0.0.1".into()));
        assert_eq!(from("127.0.0.11", "127.0.0.1"), Some("127.0.0.11".into()));
        assert_eq!(from("::1", "::1"), Some("::1".into()));
        for (listen, to) in [("0.0.0.0", "10.0.0.2"), ("::", "fd00::2"), ("10.0.0.1", "fd00::2"), ("127.0.0.1", "10.0.0.2")] {
            assert_eq!(from(listen, to), None, "{listen} {to}");
        }
    }
}
