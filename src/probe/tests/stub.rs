//! Servers on loopback: bytes in, bytes out.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// Talks with each connection in its own way.
pub async fn tcp<F, W>(talk: F) -> SocketAddr
where
    F: Fn(TcpStream) -> W + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    tcp_at("127.0.0.1:0", talk).await
}

/// The same at some place of loopback.
async fn tcp_at<F, W>(place: &str, talk: F) -> SocketAddr
where
    F: Fn(TcpStream) -> W + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(place).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream));
        }
    });
    address
}

/// Reads one request: its head and its body.
pub async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some(text);
        }
    }
}

/// Answers a request as `answer` says.
async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &(dyn Fn(&str) -> Vec<u8> + Send + Sync)) {
    if let Some(request) = request(&mut stream).await {
        let _ = stream.write_all(&answer(&request)).await;
        let _ = stream.shutdown().await;
        // Else the system may throw away what was not read.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
}

/// Speaks HTTP.
pub async fn http(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    http_at("127.0.0.1:0", answer).await
}

/// The same at some place of loopback.
pub async fn http_at(place: &str, answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let answer = Arc::new(answer);
    tcp_at(place, move |stream| {
        let answer = Arc::clone(&answer);
        async move { converse(stream, &*answer).await }
    })
    .await
}

/// Speaks HTTP over TLS.
pub async fn https(acceptor: TlsAcceptor, answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let answer = Arc::new(answer);
    tcp(move |stream| {
        let (answer, acceptor) = (Arc::clone(&answer), acceptor.clone());
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                converse(stream, &*answer).await;
            }
        }
    })
    .await
}

/// An answer of HTTP/1.1 with its length. `headers` end in line breaks.
pub fn answer(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut out = format!("HTTP/1.1 {status} -\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()).into_bytes();
    out.extend_from_slice(body);
    out
}

/// Plays a dialogue: waits for a line that begins so (nothing: does not wait), then says that.
pub async fn lines(steps: &'static [(&'static str, &'static str)]) -> SocketAddr {
    tcp(move |mut stream| async move { play(&mut stream, steps).await }).await
}

/// The same over any connection. False: something else was said.
pub async fn play(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), steps: &[(&str, &str)]) {
    for (wanted, say) in steps {
        if !wanted.is_empty() {
            let mut line = Vec::new();
            while !line.ends_with(b"\n") {
                match stream.read_u8().await {
                    Ok(byte) => line.push(byte),
                    Err(_) => return,
                }
            }
            if !line.starts_with(wanted.as_bytes()) {
                return;
            }
        }
        if stream.write_all(say.as_bytes()).await.is_err() {
            return;
        }
        let _ = stream.flush().await;
    }
    let _ = stream.shutdown().await;
}
