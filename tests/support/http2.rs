//! A server that speaks HTTP/2, and HTTP/1.1 to whoever begins so: what probes are pointed at where HTTP by hand will not do.

use super::blackbox::serve;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// What is answered.
#[derive(Clone, Default)]
pub struct Said {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(&'static str, String)>,
    /// Its length is not told.
    pub endless: bool,
}

struct Content {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
    length: Option<u64>,
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))).collect()
}

fn response(said: Said, asked: &Parts) -> hyper::Response<Content> {
    let length = (!said.endless && said.trailers.is_empty()).then_some(said.body.len() as u64);
    let content = Content {
        data: (!said.body.is_empty() && asked.method != "HEAD").then(|| said.body.into()),
        trailers: (!said.trailers.is_empty()).then(|| headers(&said.trailers)),
        length,
    };
    let mut response = hyper::Response::new(content);
    *response.status_mut() = hyper::StatusCode::from_u16(said.status).expect("a status");
    *response.headers_mut() = headers(&said.headers);
    response
}

/// Answers HEAD without content and everything else as `say` does, over TLS where there is a configuration; where it says nothing, the stream is reset.
pub fn serve_http2(config: Option<Arc<ServerConfig>>, say: impl Fn(&Parts, &[u8]) -> Option<Said> + Send + Sync + 'static) -> SocketAddr {
    let say = Arc::new(say);
    serve(move |stream| {
        let (say, config) = (Arc::clone(&say), config.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            stream.set_nonblocking(true).expect("a socket");
            let stream = tokio::net::TcpStream::from_std(stream).expect("a socket");
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let say = Arc::clone(&say);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
                    say(&head, &body).map(|said| response(said, &head)).ok_or_else(|| std::io::Error::other("nothing is said"))
                }
            });
            let server = auto::Builder::new(TokioExecutor::new());
            // However it ends: the one that is tested says what it made of it.
            match config {
                None => drop(server.serve_connection(TokioIo::new(stream), service).await),
                Some(config) => {
                    if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                        drop(server.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            }
        });
    })
}
