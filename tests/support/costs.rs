//! What a test costs, asked for by `SLUICE_TEST_COSTS=FILE`: each test adds a line when it ends (seconds by the clock, seconds of CPU time of
//! the processes that it started, its name, and the shares of these processes).
//!
//! libtest gives each test a thread of its own that bears its name, so a value of that thread lives from the test's first word to this harness until its
//! end. Left out: what a test itself computes, commands that it runs without [`super::process::Process`], and the broker that all share.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// CPU time by process' name, of processes that have ended.
type Shares = Arc<Mutex<BTreeMap<String, Duration>>>;

struct Test {
    name: String,
    begun: Instant,
    shares: Shares,
}

thread_local! {
    static TEST: OnceCell<Test> = const { OnceCell::new() };
}

/// Where the lines go, if anybody wants them.
fn list() -> Option<&'static PathBuf> {
    static LIST: OnceLock<Option<PathBuf>> = OnceLock::new();
    LIST.get_or_init(|| std::env::var_os("SLUICE_TEST_COSTS").map(PathBuf::from)).as_ref()
}

/// The account of the test whose thread this is; begins its time at the first call. None where nobody asked, and in threads of no test.
fn shares() -> Option<Shares> {
    list()?;
    let name = std::thread::current().name().filter(|name| name.contains("::"))?.to_owned();
    let begun = || Test { name, begun: Instant::now(), shares: Shares::default() };
    TEST.try_with(|test| test.get_or_init(begun).shares.clone()).ok()
}

/// Begins the time of the test whose thread this is.
pub fn begin() {
    drop(shares());
}

impl Drop for Test {
    fn drop(&mut self) {
        let Some(list) = list() else { return };
        let shares = self.shares.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let whole: Duration = shares.values().sum();
        let each: Vec<String> = shares.iter().map(|(name, time)| format!("{name} {:.1}", time.as_secs_f64())).collect();
        let line = format!("{:7.1} {:6.1}  {}  {}\n", self.begun.elapsed().as_secs_f64(), whole.as_secs_f64(), self.name, each.join(", "));
        // One write, so that lines of tests that end together stay whole. A list that cannot be written fails no test.
        drop(File::options().append(true).create(true).open(list).and_then(|mut file| file.write_all(line.as_bytes())));
    }
}

/// A process of a test, as long as it runs.
pub struct Account {
    shares: Shares,
    name: String,
    pid: u32,
    seen: Duration,
}

impl Account {
    /// Of a process that the test whose thread this is has started.
    pub fn open(name: &str, pid: u32) -> Option<Account> {
        shares().map(|shares| Account { shares, name: name.to_owned(), pid, seen: Duration::ZERO })
    }

    /// Notes what it has used up to now, which can be read until its end is waited for.
    pub fn look(&mut self) {
        self.seen = used(self.pid).unwrap_or(self.seen);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let mut shares = self.shares.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *shares.entry(self.name.clone()).or_default() += self.seen;
    }
}

/// User and system time of a process and of its children that have ended: fields 14 to 17 of proc_pid_stat(5), in ticks.
fn used(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, a name in brackets, may hold spaces; behind it stands the third.
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}
