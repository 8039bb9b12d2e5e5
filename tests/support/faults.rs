//! The network between the nodes of a trio: every connection from one to another goes through here, and bytes of each direction of each pair can be
//! held, slowed down, or have their connection closed.
//!
//! Whose a connection is, is told by the address it comes from: nodes leave from the address that they listen on. What is said between them is
//! encrypted and of no interest here.

use super::process::free_port;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const NODES: usize = 3;
/// Between two looks at whether a way has been opened or closed.
const LOOK: Duration = Duration::from_millis(20);
/// Read at a time, and so many times until the sender feels that nothing is taken.
const PIECE: usize = 16 << 10;
const PIECES: usize = 64;

/// What becomes of the bytes that one node sends another, whoever opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Open,
    /// Nothing arrives until the way is open again, as where packets are lost in one direction.
    Held,
    /// Connections between the two are closed and new ones end at once, in either direction.
    Closed,
    /// So late, and up to so much more.
    Late(Duration, Duration),
    /// So many bytes a second.
    Narrow(usize),
}

type Ways = Arc<Mutex<[[Way; NODES]; NODES]>>;

/// The network of a trio.
pub struct Faults {
    ways: Ways,
    addresses: Vec<SocketAddr>,
}

/// The address of a node in a trio whose network this is.
pub fn home(node: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11 + u8::try_from(node).expect("few")))
}

impl Faults {
    /// Between nodes that listen on these ports of their addresses. All ways are open.
    pub fn between(ports: &[u16]) -> Faults {
        let ways: Ways = Arc::new(Mutex::new([[Way::Open; NODES]; NODES]));
        let door = |(node, port): (usize, &u16)| {
            let listener = TcpListener::bind(("127.0.0.1", free_port())).expect("a loopback port");
            let address = listener.local_addr().expect("bound");
            let (ways, server) = (ways.clone(), SocketAddr::new(home(node), *port));
            std::thread::spawn(move || accept(&listener, node, server, &ways));
            address
        };
        let addresses = ports.iter().enumerate().map(door).collect();
        Faults { ways, addresses }
    }

    /// Where the others reach a node.
    pub fn address(&self, node: usize) -> SocketAddr {
        self.addresses[node]
    }

    /// From one node to another.
    pub fn set(&self, from: usize, to: usize, way: Way) {
        self.ways.lock().unwrap()[from][to] = way;
    }

    /// In both directions.
    pub fn between_both(&self, one: usize, other: usize, way: Way) {
        self.set(one, other, way);
        self.set(other, one, way);
    }

    /// Between a node and both others.
    pub fn around(&self, node: usize, way: Way) {
        (0..NODES).filter(|other| *other != node).for_each(|other| self.between_both(node, other, way));
    }

    /// Everywhere.
    pub fn everywhere(&self, way: Way) {
        (0..NODES).for_each(|node| self.around(node, way));
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        // Whatever waits goes on, and ends with its connection.
        self.everywhere(Way::Closed);
    }
}

fn accept(listener: &TcpListener, to: usize, server: SocketAddr, ways: &Ways) {
    for client in listener.incoming().flatten() {
        let source = client.peer_addr().map(|address| address.ip());
        let Some(from) = (0..NODES).find(|node| source.as_ref().is_ok_and(|source| *source == home(*node))) else {
            eprintln!("faults: a connection from {source:?} is of no node");
            continue;
        };
        let link = Link { ways: ways.clone(), from, to };
        if link.is_closed() {
            continue;
        }
        let Ok(upstream) = TcpStream::connect(server) else { continue };
        for (from, to, link) in [(&client, &upstream, link.clone()), (&upstream, &client, link.back())] {
            drop(from.set_nodelay(true));
            let (from, to) = (from.try_clone().expect("socket"), to.try_clone().expect("socket"));
            let (pieces, arriving) = sync_channel(PIECES);
            let taking = link.clone();
            std::thread::spawn(move || take(from, &taking, &pieces));
            std::thread::spawn(move || give(to, &link, &arriving));
        }
    }
}

/// A direction of a connection.
#[derive(Clone)]
struct Link {
    ways: Ways,
    from: usize,
    to: usize,
}

impl Link {
    fn back(&self) -> Link {
        Link { ways: self.ways.clone(), from: self.to, to: self.from }
    }

    fn way(&self) -> Way {
        self.ways.lock().unwrap()[self.from][self.to]
    }

    /// Either direction counts.
    fn is_closed(&self) -> bool {
        self.way() == Way::Closed || self.back().way() == Way::Closed
    }
}

/// Bytes, and when they may arrive at the earliest.
type Piece = (Instant, Vec<u8>);

/// Takes what is sent, until either side ends or the way is closed.
fn take(mut from: TcpStream, link: &Link, pieces: &SyncSender<Piece>) {
    drop(from.set_read_timeout(Some(LOOK)));
    let mut buffer = vec![0; PIECE];
    while !link.is_closed() {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                let late = match link.way() {
                    Way::Late(least, jitter) => least + jitter.mul_f64(fastrand::f64()),
                    _ => Duration::ZERO,
                };
                if pieces.send((Instant::now() + late, buffer[..length].to_vec())).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    drop(from.shutdown(Shutdown::Read));
}

/// Gives it on, as the way allows, and in order. The end of what is sent is given on like the rest.
fn give(mut to: TcpStream, link: &Link, arriving: &Receiver<Piece>) {
    while !link.is_closed() {
        match arriving.recv_timeout(LOOK) {
            Ok((due, piece)) => {
                wait_until(due, link);
                if link.is_closed() || to.write_all(&piece).is_err() {
                    break;
                }
                if let Way::Narrow(a_second) = link.way() {
                    std::thread::sleep(Duration::from_secs_f64(piece.len() as f64 / a_second as f64));
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                wait_until(Instant::now(), link);
                break;
            }
        }
    }
    drop(to.shutdown(Shutdown::Both));
}

fn wait_until(due: Instant, link: &Link) {
    while !link.is_closed() {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() && link.way() != Way::Held {
            return;
        }
        std::thread::sleep(if left.is_zero() { LOOK } else { left.min(LOOK) });
    }
}
