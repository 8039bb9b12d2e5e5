//! The real blackbox_exporter beside sluice, with the same modules, and small servers that both are pointed at.

use super::http::{Client, Http};
use super::peers::{BLACKBOX_EXPORTERS, on_path};
use super::process::{Process, Scratch, eventually, free_port};
use super::sluice::Sluice;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Metrics that 0.23 has not.
const NEWER: &[&str] = &["probe_timeout_seconds", "probe_tls_cipher_info", "probe_failed_due_to_bytes"];

/// Both of them.
pub struct Pair {
    pub sluice: Client,
    pub rival: Client,
    _processes: (Sluice, Process),
}

/// By name and labels.
pub type Series = BTreeMap<String, f64>;

/// Samples of a text.
pub fn read(text: &str) -> Series {
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            (plain(series), value.parse().expect("a number"))
        })
        .collect()
}

/// Without the label that 0.23 has not.
fn plain(series: &str) -> String {
    match series.find("serialnumber=\"") {
        Some(at) => {
            let end = series[at + 14..].find("\",").map_or(series.len(), |end| at + 14 + end + 2);
            format!("{}{}", &series[..at], &series[end..])
        }
        None => series.to_owned(),
    }
}

/// Without its labels.
pub fn name(series: &str) -> &str {
    series.split('{').next().unwrap_or_default()
}

impl Pair {
    pub fn start(scratch: &Scratch, modules: &str) -> Pair {
        Pair::start_with(scratch, modules, "")
    }

    /// With more lines of sluice's settings of probes.
    pub fn start_with(scratch: &Scratch, modules: &str, more: &str) -> Pair {
        let file = scratch.join("blackbox.yml");
        std::fs::write(&file, modules).expect("modules");
        let rows = scratch.sub("rows");
        let sinks = format!(
            "  - name: rows\n    file: {{ directory: {} }}\nprobe:\n  compat: strict\n  modules_file: {}\n{more}",
            rows.display(),
            file.display()
        );
        let mut sluice = Sluice::prepare_with(scratch, "probing", &sinks, None);
        sluice.up();
        let port = free_port();
        let args = [format!("--config.file={}", file.display()), format!("--web.listen-address=127.0.0.1:{port}")];
        let log = scratch.join("blackbox.log");
        let program = BLACKBOX_EXPORTERS.into_iter().find(|name| on_path(name)).expect("need(Blackbox) was asked");
        let rival = Process::start("blackbox_exporter", program, &args, scratch.path(), &log);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        eventually(Duration::from_secs(30), "blackbox_exporter to listen", || {
            Client::new(address).call("GET", "/-/healthy").map(|_| ()).map_err(|error| format!("{error}\n{}", rival.log_tail(2000)))
        });
        Pair { sluice: Client::new(sluice.address()), rival: Client::new(address), _processes: (sluice, rival) }
    }

    /// Asks both; `differ` are names of which only one side has a metric, or another value.
    #[track_caller]
    pub fn same(&mut self, module: &str, target: &str, differ: &[&str]) -> bool {
        let path = format!("/probe?module={module}&target={}", target.replace('&', "%26"));
        let ask = |client: &mut Client| {
            client.hang_up();
            let headers =
                [("Host", "sluice"), ("X-Prometheus-Scrape-Timeout-Seconds", "8")].map(|(name, value)| (name.to_owned(), value.to_owned()));
            let asked = Http { first: format!("GET {path} HTTP/1.1"), headers: headers.into(), body: Vec::new() };
            let answer = client.send(&asked).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
            read(&answer.text())
        };
        let (ours, theirs) = (ask(&mut self.sluice), ask(&mut self.rival));
        let known = |series: &str| differ.contains(&name(series)) || name(series).starts_with("sluice_") || NEWER.contains(&name(series));
        let mut wrong = Vec::new();
        for (series, value) in &theirs {
            let timed = series.contains("duration") || series.contains("lookup_time");
            match ours.get(series) {
                None if !known(series) => wrong.push(format!("{series} {value} is missing")),
                Some(own) if !timed && !known(series) && own != value => wrong.push(format!("{series} {value} is {own}")),
                _ => {}
            }
        }
        wrong.extend(ours.keys().filter(|series| !theirs.contains_key(*series) && !known(series)).map(|series| format!("{series} is new")));
        let why = ours.keys().find(|series| series.starts_with("sluice_probe_failure_info")).cloned().unwrap_or_default();
        assert!(wrong.is_empty(), "{module} {target}: {why}\n{}\n{theirs:#?}", wrong.join("\n"));
        ours["probe_success"] == 1.0
    }

    #[track_caller]
    pub fn good(&mut self, module: &str, target: impl std::fmt::Display) {
        assert!(self.same(module, &target.to_string(), &[]), "{module} {target} failed with both");
    }

    #[track_caller]
    pub fn bad(&mut self, module: &str, target: impl std::fmt::Display, differ: &[&str]) {
        assert!(!self.same(module, &target.to_string(), differ), "{module} {target} was good with both");
    }
}

/// A server that talks with each connection in a thread of its own.
pub fn serve(talk: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let talk = Arc::new(talk);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let talk = Arc::clone(&talk);
            std::thread::spawn(move || talk(stream));
        }
    });
    address
}

/// One request, with its body.
pub fn request(stream: &mut BufReader<impl Read>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).unwrap_or(0) == 0 {
            return head;
        }
    }
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    let _ = stream.read_exact(&mut body);
    head + &String::from_utf8_lossy(&body)
}

/// An answer; `headers` end in line breaks.
pub fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {status} -\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()).into_bytes();
    out.extend_from_slice(body);
    out
}

/// For servers of TLS with this certificate that speak these protocols, in their order.
pub fn speaking(protocols: &[&str], certificate: &Path, key: &Path) -> Arc<ServerConfig> {
    let mut config = ServerConfig::clone(&secure(certificate, key));
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// For servers of TLS with this certificate.
pub fn secure(certificate: &Path, key: &Path) -> Arc<ServerConfig> {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let chain = vec![CertificateDer::from_pem_file(certificate).expect("a certificate")];
    Arc::new(config.with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_file(key).expect("a key")).expect("a pair"))
}

/// The server's end of TLS.
pub fn over_tls(config: &Arc<ServerConfig>, stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
    StreamOwned::new(ServerConnection::new(Arc::clone(config)).expect("a connection"), stream)
}

/// What a server of names answers. `nil...` is not there; what begins with `big` does not fit into UDP, as is said without a record.
fn named(question: &[u8], udp: bool) -> Vec<u8> {
    let (name, kind) = (String::from_utf8_lossy(&question[13..16]).into_owned(), question[question.len() - 3]);
    let mut answer = question.to_vec();
    answer[2] |= 0x80;
    if udp && name == "big" {
        answer[2] |= 2;
        return answer;
    }
    answer[3] = if name == "nil" { 3 } else { 0 };
    let data: Vec<u8> = match kind {
        6 => [&[0xc0, 12, 0xc0, 12][..], &1000_u32.to_be_bytes(), &[0; 16]].concat(),
        _ => vec![127, 0, 0, 1],
    };
    if name != "nil" {
        (answer[7], answer[9]) = (1, 1);
        for (kind, data) in [(kind, &data[..]), (2, &[2, b'n', b's', 0xc0, 12][..])] {
            answer.extend_from_slice(&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0x0e, 0x10, 0, u8::try_from(data.len()).expect("short")]);
            answer.extend_from_slice(data);
        }
    }
    answer
}

/// A server of names by UDP.
pub fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound");
    std::thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(&named(&bytes[..length], true), from);
        }
    });
    address
}

/// The same by TCP, over whatever `dress` makes of a connection.
pub fn name_server_by_tcp<W: Read + Write>(dress: impl Fn(TcpStream) -> W + Send + Sync + 'static) -> SocketAddr {
    serve(move |stream| {
        let mut stream = dress(stream);
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            if stream.read_exact(&mut question).is_err() {
                return;
            }
            let answer = named(&question, false);
            let framed = [&u16::try_from(answer.len()).expect("short").to_be_bytes()[..], &answer].concat();
            if stream.write_all(&framed).and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
    })
}
