//! A way to a server that can be closed: bytes through, or connections refused and dropped.

use super::process::free_port;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Cut from the start, until opened.
pub struct Proxy {
    address: SocketAddr,
    open: Arc<AtomicBool>,
}

impl Proxy {
    pub fn to(server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", free_port())).expect("a loopback port");
        let address = listener.local_addr().expect("bound");
        let open = Arc::new(AtomicBool::new(false));
        let is_open = open.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten().filter(|_| is_open.load(Ordering::Relaxed)) {
                let Ok(upstream) = TcpStream::connect(server) else { continue };
                for (from, to) in [(&client, &upstream), (&upstream, &client)] {
                    let (from, to, is_open) = (from.try_clone().expect("socket"), to.try_clone().expect("socket"), is_open.clone());
                    std::thread::spawn(move || pump(from, to, &is_open));
                }
            }
        });
        Proxy { address, open }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Relaxed);
    }
}

/// Copies until either side ends or the proxy is cut; looks for that ten times a second.
fn pump(mut from: TcpStream, mut to: TcpStream, open: &AtomicBool) {
    drop(from.set_read_timeout(Some(Duration::from_millis(100))));
    let mut buffer = vec![0; 65_536];
    while open.load(Ordering::Relaxed) {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) if to.write_all(&buffer[..length]).is_ok() => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Ok(_) | Err(_) => break,
        }
    }
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}
