//! What the service manager (systemd) is told: that the node is ready, what it does, that it reads its file again, that it ends; and the watchdog,
//! which is fed only while every shard's thread, the writer and the disk have moved lately. Started by anything else, nothing of this does anything.
//!
//! *Ready* is a node whose page answers and whose own log is replayed. A node that is all there is takes samples then. One of several may still wait for the
//! others, or for somebody who founds the cluster: it is ready to the manager, says what it waits for as its status, and answers 503 to senders; else the first of
//! three that are started one after the other would keep whoever starts them from the second.
//!
//! *The watchdog* (`WatchdogSec=`) ends a process that stands still: a hung disk, a thread that never comes back. Such a process still holds its connections and its votes;
//! its peers go on without it, but its senders wait. The task that feeds lives on the runtime that answers requests, so a runtime that hangs feeds nothing either.
//!
//! The protocol is sd_notify(3): datagrams of `KEY=value` lines to the socket that `NOTIFY_SOCKET` names, as a path or (`@`) in the abstract namespace. Own code since it is
//! these lines: the crate for it (sd-notify 0.5) knows no abstract sockets and reads the environment anew at each call.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock;
use crate::node::Handle;

/// At least so often the manager hears of us, and no status is older.
const EVERY: Duration = Duration::from_secs(5);
/// While replay goes on, so much longer than `TimeoutStartSec=` it may take from now.
const LONGER: Duration = Duration::from_secs(30);
/// Replay goes on if it takes this share of a core at least: it decodes what it reads. A disk that hangs takes nothing.
const AT_WORK: u32 = 50;
/// Parts must have moved within this share of the watchdog's time. So a standstill is ended between one and four thirds of that time after it began.
const LATELY: u32 = 3;

const STARTING: u8 = 0;
const READY: u8 = 1;
const STOPPING: u8 = 2;

type Waits = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// The service manager, if one started us.
#[derive(Default)]
pub struct Service {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
    phase: AtomicU8,
    node: OnceLock<Handle>,
    waits: OnceLock<Waits>,
}

impl Service {
    /// As the environment says. A socket that cannot be used is told, and is none: the manager will say what it misses.
    pub fn of_environment() -> Service {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Service::default() };
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0).map(Duration::from_micros);
        match Service::at(&name, watchdog) {
            Ok(service) => service,
            Err(error) => {
                tracing::warn!(socket = %name.display(), %error, "the service manager cannot be told anything");
                Service::default()
            }
        }
    }

    fn at(name: &OsStr, watchdog: Option<Duration>) -> std::io::Result<Service> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?; // a manager that does not read must not hold us up
        Ok(Service { socket: Some(socket), watchdog, ..Service::default() })
    }

    fn tell(&self, lines: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(lines.as_bytes())
        {
            tracing::debug!(%error, "the service manager was not told: {lines}");
        }
    }

    /// Says what a node that is ready to the manager still waits for.
    pub fn waits(&self, reasons: Waits) {
        drop(self.waits.set(reasons));
    }

    /// The node's threads run: from now on they must move.
    pub fn runs(&self, node: &Handle) {
        drop(self.node.set(node.clone()));
    }

    /// The start is over. Said again it changes nothing.
    pub fn ready(&self) {
        if self.phase.compare_exchange(STARTING, READY, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.tell(&format!("READY=1\nSTATUS={}", self.status()));
        }
    }

    /// The configuration is read again, until [`Service::reloaded`]. The time is for units of `Type=notify-reload`.
    pub fn reloading(&self) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::since_boot().as_micros()));
    }

    /// It was, or was refused and nothing changed.
    pub fn reloaded(&self) {
        self.tell(&format!("READY=1\nSTATUS={}", self.status()));
    }

    /// The end has begun.
    pub fn stopping(&self) {
        if self.phase.swap(STOPPING, Ordering::AcqRel) != STOPPING {
            self.tell("STOPPING=1\nSTATUS=stopping: what was acknowledged is on the disk");
        }
    }

    /// Tells for as long as the process lives; ends at once where nobody listens.
    pub async fn keep(self: Arc<Service>) {
        if self.socket.is_none() {
            return;
        }
        let every = self.watchdog.map_or(EVERY, |watchdog| (watchdog / (2 * LATELY)).min(EVERY));
        let (mut cpu, mut said, mut starved) = (clock::cpu(), String::new(), false);
        loop {
            tokio::time::sleep(every).await;
            match self.phase.load(Ordering::Acquire) {
                STARTING => {
                    let now = clock::cpu();
                    if now.saturating_sub(cpu) >= every / AT_WORK {
                        self.tell(&format!("EXTEND_TIMEOUT_USEC={}", LONGER.as_micros()));
                    }
                    cpu = now;
                }
                READY => self.feed(&mut starved),
                _ => return,
            }
            let status = self.status();
            if status != said {
                self.tell(&format!("STATUS={status}"));
                said = status;
            }
        }
    }

    fn feed(&self, starved: &mut bool) {
        let Some(watchdog) = self.watchdog else { return };
        let still = self.node.get().map(|node| node.still(watchdog / LATELY)).unwrap_or_default();
        if still.is_empty() {
            *starved = false;
            return self.tell("WATCHDOG=1");
        }
        if !std::mem::replace(starved, true) {
            let parts: Vec<String> = still.iter().map(|still| format!("{} for {} s", still.part, still.span.as_secs())).collect();
            let parts = parts.join(", ");
            tracing::error!(watchdog_s = watchdog.as_secs(), "the watchdog is not fed any more: these do not move: {parts}");
        }
    }

    /// One line for `systemctl status`.
    fn status(&self) -> String {
        let waits = self.waits.get().map(|waits| waits()).unwrap_or_default();
        let text = match (&waits[..], self.node.get()) {
            ([], Some(node)) => describe(node),
            ([], None) => "opens its data".to_owned(),
            (waits, _) => format!("waits: {}", waits.join("; ")),
        };
        text.replace('\n', " ")
    }
}

/// What a node leads, and the sink that is furthest behind.
fn describe(node: &Handle) -> String {
    let stats = node.stats();
    let leads = stats.shards.iter().filter(|shard| shard.leads).count();
    let mut text = format!("leads {leads} of {} shards", stats.shards.len());
    let cursors = node.shards().iter().map(|shard| node.cursors(*shard)).collect::<Vec<_>>();
    let furthest = cursors.iter().flat_map(|of_shard| of_shard.iter()).max_by_key(|cursor| cursor.pending_ms);
    if let Some(cursor) = furthest {
        text.push_str(&format!("; sink {} is {} s behind", cursor.sink, cursor.pending_ms / 1000));
    }
    if stats.store.disk_full {
        text.push_str("; the disk is full to its reserve");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 1024];
        manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn each_word_is_said_once_and_to_whichever_kind_of_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let abstract_name = format!("sluice-test-{}-{}", std::process::id(), fastrand::u64(..));
        let hidden = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let managers = [UnixDatagram::bind(&path).unwrap(), UnixDatagram::bind_addr(&hidden).unwrap()];
        let names = [path.into_os_string(), format!("@{abstract_name}").into()];
        for (manager, name) in managers.iter().zip(&names) {
            let service = Service::at(name, None).unwrap();
            service.waits(Box::new(|| vec!["two\nlines".to_owned(), "more".to_owned()]));
            service.ready();
            service.ready();
            assert_eq!(heard(manager), "READY=1\nSTATUS=waits: two lines; more");
            service.reloading();
            let reloading = heard(manager);
            let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(at.parse::<u64>().unwrap() > 0, "{reloading}");
            service.reloaded();
            assert!(heard(manager).starts_with("READY=1\n"));
            service.stopping();
            service.stopping();
            assert!(heard(manager).starts_with("STOPPING=1\n"));
            service.ready();
            manager.set_nonblocking(true).unwrap();
            assert!(manager.recv(&mut [0; 16]).is_err(), "whoever ends is not ready again");
        }
    }

    #[test]
    fn a_socket_that_is_not_there_is_an_error_and_none_is_not() {
        assert!(Service::at(OsStr::new("/nowhere/notify"), None).is_err());
        let nobody = Service::default();
        nobody.ready();
        nobody.stopping();
    }

    #[tokio::test]
    async fn a_start_that_works_may_take_longer_and_what_is_ready_feeds_the_watchdog() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let service = Arc::new(Service::at(path.as_os_str(), Some(Duration::from_millis(1_200))).unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(Arc::clone(&service).keep());
        let heard_of = |word: &str| {
            let word = word.to_owned();
            let manager = manager.try_clone().unwrap();
            tokio::task::spawn_blocking(move || while !heard(&manager).contains(&word) {})
        };
        let busy = tokio::task::spawn_blocking(|| {
            let until = clock::now() + Duration::from_secs(2);
            while clock::now() < until {
                std::hint::black_box(());
            }
        });
        heard_of("EXTEND_TIMEOUT_USEC=30000000").await.unwrap();
        busy.await.unwrap();
        service.ready();
        heard_of("READY=1").await.unwrap();
        heard_of("WATCHDOG=1").await.unwrap();
        heard_of("WATCHDOG=1").await.unwrap();
        service.stopping();
        tokio::time::timeout(Duration::from_secs(20), tasks.join_next()).await.unwrap();
    }
}
