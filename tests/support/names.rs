//! One name for several addresses, as three A records give it: a name server that answers with all of them, beginning with another one each time, and
//! programs that ask nobody else (a mount namespace with a resolv.conf of its own).
//!
//! Resolvers know no port but 53, so whoever runs the tests must be allowed to listen there (`Peer::NameServer`).

use super::disk::NAMESPACE;
use super::process::Scratch;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long an answer may be kept, s.
const TTL: u32 = 1;
/// A question for addresses of the old and the new kind.
const A: [u8; 2] = [0, 1];

/// The server, for as long as it lives.
pub struct Names {
    file: PathBuf,
    asked: Arc<AtomicUsize>,
    alive: Arc<()>,
}

/// Whether a name server can be had here.
pub fn can_serve() -> bool {
    bind().is_some()
}

/// At some loopback address that no other test has.
fn bind() -> Option<(Ipv4Addr, UdpSocket)> {
    let tries = (0..20).map(|_| Ipv4Addr::new(127, fastrand::u8(1..=254), fastrand::u8(1..=254), fastrand::u8(1..=254)));
    tries.filter_map(|at| Some((at, UdpSocket::bind((at, 53)).ok()?))).next()
}

impl Names {
    /// Whatever name is asked for has these addresses.
    pub fn of(scratch: &Scratch, addresses: Vec<Ipv4Addr>) -> Names {
        let (at, socket) = bind().expect("need(Peer::NameServer) was asked");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
        let file = scratch.join("resolv.conf");
        std::fs::write(&file, format!("nameserver {at}\noptions timeout:1\n")).expect("resolv.conf");
        let (asked, alive) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
        let (count, names) = (Arc::clone(&asked), Arc::downgrade(&alive));
        std::thread::spawn(move || {
            let mut question = [0; 1500];
            while names.upgrade().is_some() {
                let Ok((length, from)) = socket.recv_from(&mut question) else { continue };
                if let Some(answer) = answer(&question[..length], &addresses, count.load(Ordering::Relaxed)) {
                    count.fetch_add(usize::from(answer[7] > 0), Ordering::Relaxed);
                    drop(socket.send_to(&answer, from));
                }
            }
        });
        Names { file, asked, alive }
    }

    /// How often addresses were asked for.
    pub fn asked(&self) -> usize {
        debug_assert!(Arc::strong_count(&self.alive) > 0);
        self.asked.load(Ordering::Relaxed)
    }

    /// What to put before a command so that it asks here.
    pub fn enter(&self) -> Vec<String> {
        // resolv.conf is a link on some machines; the link's end is what is covered.
        let script = "mount --bind \"$1\" \"$(readlink -f /etc/resolv.conf)\" && shift && exec \"$@\"";
        let words = ["sh".to_owned(), "-c".to_owned(), script.to_owned(), "sh".to_owned(), self.file.display().to_string()];
        ["unshare"].into_iter().chain(NAMESPACE).map(str::to_owned).chain(words).collect()
    }
}

/// All addresses, turned round by `turn`; none where another kind is asked for.
fn answer(question: &[u8], addresses: &[Ipv4Addr], turn: usize) -> Option<Vec<u8>> {
    let name = question.get(12..)?;
    let end = 12 + name.iter().position(|byte| *byte == 0)? + 1;
    let kind = question.get(end..end + 2)?;
    let mut all = addresses.to_vec();
    all.rotate_left(turn % addresses.len());
    all.truncate(if kind == A { all.len() } else { 0 });
    // The same number, "an answer, authoritative, recursion is had", one question, so many answers.
    let mut out = question.get(..2)?.to_vec();
    out.extend([0x85, 0x80, 0, 1, 0, u8::try_from(all.len()).ok()?, 0, 0, 0, 0]);
    out.extend(question.get(12..end + 4)?);
    for address in all {
        // Its name is that at byte 12.
        out.extend([0xc0, 12, 0, 1, 0, 1]);
        out.extend(TTL.to_be_bytes());
        out.extend([0, 4]);
        out.extend(address.octets());
    }
    Some(out)
}
