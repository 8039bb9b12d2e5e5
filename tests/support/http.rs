//! HTTP/1.1 in its smallest form, blocking: what the exporter, the gates, the receivers and the load sender need, and independent of
//! the HTTP code under test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::tls;
use tokio_rustls::rustls::ClientConfig;

/// A request or an answer: first line, headers as received, body.
#[derive(Clone, Debug, Default)]
pub struct Http {
    pub first: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Http {
    /// Method and path of a request.
    pub fn target(&self) -> (&str, &str) {
        let mut words = self.first.split(' ');
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    /// Status of an answer.
    pub fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body, which must be JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.first, self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads one; None at the end of the connection.
    pub fn read(from: &mut BufReader<impl Read>) -> std::io::Result<Option<Http>> {
        let mut message = Http::default();
        if from.read_line(&mut message.first)? == 0 {
            return Ok(None);
        }
        message.first.truncate(message.first.trim_end().len());
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            message.headers.push((name.to_owned(), value.trim().to_owned()));
        }
        if message.header("transfer-encoding").is_some_and(|how| how.eq_ignore_ascii_case("chunked")) {
            message.body = read_chunks(from)?;
        } else {
            let length = message.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            message.body.resize(length, 0);
            from.read_exact(&mut message.body)?;
        }
        Ok(Some(message))
    }

    /// Writes it with its headers; the length is set anew.
    pub fn write(&self, to: &mut impl Write) -> std::io::Result<()> {
        let mut head = format!("{}\r\n", self.first);
        for (name, value) in &self.headers {
            if !name.eq_ignore_ascii_case("content-length") && !name.eq_ignore_ascii_case("transfer-encoding") {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        to.write_all(&bytes)
    }

    /// An answer.
    pub fn answer(status: u16, body: impl Into<Vec<u8>>) -> Http {
        Http { first: format!("HTTP/1.1 {status} -"), headers: Vec::new(), body: body.into() }
    }
}

fn read_chunks(from: &mut BufReader<impl Read>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim().split(';').next().unwrap_or_default(), 16).map_err(std::io::Error::other)?;
        let mut chunk = vec![0; size + 2];
        from.read_exact(&mut chunk)?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

/// A connection, with TLS or without.
trait Wire: Read + Write + Send {}

impl<T: Read + Write + Send> Wire for T {}

/// A connection to a server that is kept between requests.
pub struct Client {
    address: SocketAddr,
    timeout: Duration,
    secure: Option<Arc<ClientConfig>>,
    token: Option<String>,
    connection: Option<BufReader<Box<dyn Wire>>>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Client {
        Client { address, timeout: Duration::from_secs(30), secure: None, token: None, connection: None }
    }

    /// With TLS from now on.
    pub fn secure(self, config: Arc<ClientConfig>) -> Client {
        Client { secure: Some(config), connection: None, ..self }
    }

    /// With this token in each request.
    pub fn with_token(self, token: &str) -> Client {
        Client { token: Some(token.to_owned()), ..self }
    }

    /// The next request takes a connection of its own.
    pub fn hang_up(&mut self) {
        self.connection = None;
    }

    /// Sends a request and reads its answer; the connection is dropped after an error.
    pub fn send(&mut self, request: &Http) -> std::io::Result<Http> {
        let answer = self.exchange(request);
        if answer.is_err() || answer.as_ref().is_ok_and(|answer| answer.header("connection") == Some("close")) {
            self.connection = None;
        }
        answer
    }

    fn exchange(&mut self, request: &Http) -> std::io::Result<Http> {
        if self.connection.is_none() {
            let stream: Box<dyn Wire> = match &self.secure {
                Some(config) => Box::new(tls::connect(config, self.address, "127.0.0.1")?),
                None => {
                    let stream = TcpStream::connect_timeout(&self.address, self.timeout)?;
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(self.timeout))?;
                    Box::new(stream)
                }
            };
            self.connection = Some(BufReader::new(stream));
        }
        let connection = self.connection.as_mut().expect("set above");
        let mut request = request.clone();
        request.headers.extend(self.token.iter().map(|token| ("Authorization".to_owned(), format!("Bearer {token}"))));
        request.write(connection.get_mut())?;
        Http::read(connection)?.ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }

    /// Sends a request without a body.
    pub fn call(&mut self, method: &str, path: &str) -> std::io::Result<Http> {
        let headers = vec![("Host".to_owned(), self.address.to_string())];
        self.send(&Http { first: format!("{method} {path} HTTP/1.1"), headers, body: Vec::new() })
    }
}

/// A server on a loopback port, a thread a connection. A handler that returns None closes the connection without an answer.
pub struct Server {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Server {
    pub fn start<H>(handler: H) -> Server
    where
        H: Fn(&Http) -> Option<Http> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", super::process::free_port())).expect("a loopback port");
        let address = listener.local_addr().expect("bound");
        let stop = Arc::new(AtomicBool::new(false));
        let (handler, stopped) = (Arc::new(handler), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (handler, stopped) = (handler.clone(), stopped.clone());
                std::thread::spawn(move || drop(converse(stream, &*handler, &stopped)));
            }
        });
        Server { address, stop }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, which then sees the flag.
        drop(TcpStream::connect(self.address));
    }
}

fn converse(stream: TcpStream, handler: &dyn Fn(&Http) -> Option<Http>, stopped: &AtomicBool) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = Http::read(&mut reader)? {
        let Some(answer) = handler(&request).filter(|_| !stopped.load(Ordering::Relaxed)) else { break };
        answer.write(reader.get_mut())?;
    }
    Ok(())
}
