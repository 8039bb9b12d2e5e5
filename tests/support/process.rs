//! Peers as processes: started by us, stopped by their own pid, dead when the test binary is.
//!
//! Every child runs under `setpriv --pdeathsig KILL`, started from one thread that lives as long as the test binary; so neither a
//! failed test nor a killed one leaves a broker behind, and nothing is ever ended by name.

use super::costs::{self, Account};
use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

pub use rustix::process::Signal;

type Order = (Command, SyncSender<std::io::Result<Child>>);

/// Children die with the *thread* that made them (PR_SET_PDEATHSIG), and a test's thread ends with its test: hence this one.
fn spawner() -> &'static SyncSender<Order> {
    static SPAWNER: OnceLock<SyncSender<Order>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (orders, inbox) = sync_channel::<Order>(16);
        std::thread::spawn(move || {
            while let Ok((mut command, reply)) = inbox.recv() {
                drop(reply.send(command.spawn()));
            }
        });
        orders
    })
}

/// A peer.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    account: Option<Account>,
}

impl Process {
    /// Starts `program` with its output in `log` (appended, so that restarts read as one story).
    pub fn start(name: &str, program: &str, args: &[String], dir: &Path, log: &Path) -> Process {
        let out = File::options().create(true).append(true).open(log).expect("log file");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]).args(args).current_dir(dir).stdin(Stdio::null());
        command.stdout(out.try_clone().expect("log file")).stderr(out);
        let (reply, answer) = sync_channel(1);
        spawner().send((command, reply)).expect("the spawner lives as long as we do");
        let child = answer.recv().expect("the spawner answers").unwrap_or_else(|error| panic!("{name}: cannot start {program}: {error}"));
        let account = Account::open(name, child.id());
        Process { name: name.to_owned(), child, log: log.to_owned(), account }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Signals this process and no other.
    pub fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).expect("a pid")).expect("not zero");
        // Gone already is as good.
        let _gone = rustix::process::kill_process(pid, signal);
    }

    /// Whether it has a handler of its own for the signal.
    pub fn catches(&self, signal: Signal) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
        u64::from_str_radix(caught.trim(), 16).is_ok_and(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.account();
        self.signal(Signal::KILL);
        drop(self.child.wait());
    }

    /// SIGTERM; panics when it does not end within `grace`.
    pub fn terminate(&mut self, grace: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_end(grace)
    }

    /// Waits until it ends by itself.
    pub fn wait_end(&mut self, grace: Duration) -> ExitStatus {
        let what = format!("{} to end", self.name);
        eventually(grace, &what, || self.ended().ok_or_else(|| "it still runs".to_owned()))
    }

    /// Its status when it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.account();
        self.child.try_wait().expect("own child")
    }

    fn account(&mut self) {
        if let Some(account) = &mut self.account {
            account.look();
        }
    }

    /// The end of what it wrote.
    pub fn log_tail(&self, bytes: u64) -> String {
        tail(&self.log, bytes)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- end of what {} (pid {}) wrote, {}:\n{}", self.name, self.pid(), self.log.display(), self.log_tail(3000));
        }
        self.signal(Signal::CONT);
        self.kill();
    }
}

/// The last `bytes` of a file.
pub fn tail(path: &Path, bytes: u64) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let length = file.metadata().map_or(0, |meta| meta.len());
        drop(file.seek(SeekFrom::Start(length.saturating_sub(bytes))));
        drop(file.read_to_end(&mut text));
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Tries until it works; panics with the last complaint when `deadline` has passed.
#[track_caller]
pub fn eventually<T>(deadline: Duration, what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(complaint) if start.elapsed() > deadline => panic!("waited {deadline:?} for {what}; at last: {complaint}"),
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

/// Lets real time pass, for peers that go by the clock (a scrape every second). Never used to wait for an outcome: that is [`eventually`].
pub fn let_pass(time: Duration) {
    std::thread::sleep(time);
}

/// A free port of 127.0.0.1, below the range that outgoing connections take theirs from, and given to nobody else in this run.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap();
    let given = given.get_or_insert_default();
    loop {
        let port = fastrand::u16(20_000..32_000);
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
}

/// A directory of its own for a test, under the target directory; kept when the test fails.
pub struct Scratch {
    dir: Option<tempfile::TempDir>,
    path: PathBuf,
}

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        costs::begin();
        sweep();
        let prefix = format!("{}-{name}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("scratch directory");
        let path = dir.path().to_owned();
        Scratch { dir: Some(dir), path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a directory in it.
    pub fn sub(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir_all(&path).expect("directory");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kept = self.dir.take().map(tempfile::TempDir::keep);
            eprintln!("--- kept: {}", kept.unwrap_or_default().display());
        }
    }
}

/// Removes what earlier runs left (a killed run, a failed test) once they are a day old or of the shared broker, whose owner is gone.
fn sweep() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        for entry in std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner_gone = name.split('-').next().is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists());
            let old =
                entry.metadata().and_then(|meta| meta.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() > 86_400));
            if owner_gone && (old || name.contains("-shared-")) {
                drop(std::fs::remove_dir_all(entry.path()));
            }
        }
    });
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292 million")
}
