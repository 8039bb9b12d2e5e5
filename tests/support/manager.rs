//! A service manager's ear: the socket to which a node tells how it is (sd_notify), and all that came to it.

use super::process::{Scratch, eventually};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub struct Manager {
    /// As the environment names it.
    path: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Manager {
    pub fn new(scratch: &Scratch, name: &str) -> Manager {
        let path = scratch.join(&format!("notify-{name}"));
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Manager::at(path, socket)
    }

    /// One in the abstract namespace, which those reach who may not go where tests keep their files.
    pub fn hidden() -> Manager {
        let name = format!("sluice-tests-{}-{}", std::process::id(), fastrand::u64(..));
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("a socket");
        Manager::at(format!("@{name}").into(), socket)
    }

    fn at(path: PathBuf, socket: UnixDatagram) -> Manager {
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time");
        let (heard, stop) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(false)));
        let (into, until) = (heard.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while !until.load(Ordering::Relaxed) {
                if let Ok(length) = socket.recv(&mut bytes) {
                    into.lock().unwrap().push(String::from_utf8_lossy(&bytes[..length]).into_owned());
                }
            }
        });
        Manager { path, heard, stop, thread: Some(thread) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All that was heard, in order.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// How often this was heard.
    pub fn count(&self, words: &str) -> usize {
        self.heard().iter().filter(|one| one.contains(words)).count()
    }

    /// Waits until this was heard once more than so many times.
    #[track_caller]
    pub fn wait_more(&self, words: &str, than: usize, deadline: Duration) {
        eventually(deadline, &format!("the manager to hear {words}"), || {
            if self.count(words) > than { Ok(()) } else { Err(format!("{:?}", self.heard())) }
        });
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}
