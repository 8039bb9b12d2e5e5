//! A server that answers as it is told, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// What it does with a request.
#[derive(Clone)]
pub enum Reply {
    /// Status, headers (with their ends of line), content.
    Answer(u16, &'static str, String),
    /// Nothing, for ever.
    Hang,
    /// Half of an answer.
    Cut,
    /// The end, before anything.
    Close,
}

/// An answer without headers of its own.
pub fn says(status: u16, body: &str) -> Reply {
    Reply::Answer(status, "", body.to_owned())
}

#[derive(Clone, Debug)]
pub struct Seen {
    pub head: String,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value))
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }
}

pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// The first request gets the first reply, and so on; the last one is for all others.
    pub async fn new(replies: Vec<Reply>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let known = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let at = known.lock().unwrap().len().min(replies.len() - 1);
                tokio::spawn(serve(stream, replies[at].clone(), Arc::clone(&known)));
            }
        });
        Server { address, seen }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn last(&self) -> Seen {
        self.seen().pop().unwrap()
    }
}

async fn serve(mut stream: TcpStream, reply: Reply, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut one = Seen { head, body: String::new() };
    let length = one.header("content-length").map_or(0, |length| length.parse::<usize>().unwrap());
    while bytes.len() < head_end + length {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    one.body = String::from_utf8_lossy(&bytes[head_end..]).into_owned();
    seen.lock().unwrap().push(one);
    let text = match reply {
        Reply::Answer(status, headers, body) => format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()),
        Reply::Cut => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"errcode\":".to_owned(),
        Reply::Close => return,
        Reply::Hang => {
            // Until whoever asks has had enough.
            let _ = stream.read_u8().await;
            return;
        }
    };
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}
