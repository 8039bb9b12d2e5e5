//! The log: where it goes, how it looks, how repeats are kept from filling it, and its last lines, for whoever is to find out what went wrong.
//!
//! In the journal a line has its priority (`journalctl -p warning`): `<4>` before it, which the journal takes off again (sd-daemon(3)). Anywhere else there is no such thing.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::io::IsTerminal;
use std::io::Write;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::Format;
use crate::config::Level;
use crate::config::Logging;

/// Sets up the log of the process, once; a second call changes nothing. `SLUICE_LOG` wins over the file, for a look into single modules.
pub fn set_up(logging: &Logging) {
    let level = match logging.level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    let filter = EnvFilter::try_from_env("SLUICE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // Colours are for terminals; in a file or the journal they are noise that no search finds its way through.
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Log { journal: to_journal() }).with_ansi(colours);
    let _ = match logging.format {
        Format::Text => builder.with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// Lines that are kept, and their bytes: an hour of an ordinary node, some minutes of one in trouble.
const RECENT: (usize, usize) = (4000, 1 << 20);

/// The last lines of this process's log, oldest first, in a process that has set it up.
static LINES: Mutex<Recent> = Mutex::new(Recent { lines: VecDeque::new(), bytes: 0 });

/// The last lines of the log of this process, oldest first.
pub fn recent() -> String {
    let recent = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    recent.lines.iter().fold(String::with_capacity(recent.bytes), |text, line| text + line)
}

struct Recent {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > RECENT.0 || self.bytes > RECENT.1 {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes -= oldest.len();
        }
    }
}

/// Whether what is written to standard error goes to the journal: whoever started us says which stream that is, and it may be another one by now.
fn to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(std::io::stderr()).is_ok_and(|about| stream == format!("{}:{}", about.st_dev, about.st_ino))
}

/// Makes a [`Tee`] for each line.
struct Log {
    journal: bool,
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Tee;

    fn make_writer(&'a self) -> Tee {
        Tee { priority: "" }
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Tee {
        Tee { priority: if self.journal { priority(*about.level()) } else { "" } }
    }
}

/// As syslog numbers them.
fn priority(level: tracing::Level) -> &'static str {
    match level {
        tracing::Level::ERROR => "<3>",
        tracing::Level::WARN => "<4>",
        tracing::Level::INFO => "<6>",
        _ => "<7>",
    }
}

/// Standard error, and the last lines. Each call brings one whole line.
struct Tee {
    /// What stands before it, but not in the last lines.
    priority: &'static str,
}

impl Write for Tee {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(plain(line));
        if self.priority.is_empty() {
            std::io::stderr().write_all(line)?;
        } else {
            // In one piece, since others write, too.
            std::io::stderr().write_all(&[self.priority.as_bytes(), line].concat())?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Without colours.
fn plain(line: &[u8]) -> String {
    let (text, mut out, mut inside) = (String::from_utf8_lossy(line), String::with_capacity(line.len()), false);
    for letter in text.chars() {
        match letter {
            '\u{1b}' => inside = true,
            'm' if inside => inside = false,
            _ if inside => {}
            _ => out.push(letter),
        }
    }
    out
}

/// Lets a line about one thing through every so often, and counts what it held back.
#[derive(Debug)]
pub struct Seldom {
    every: Duration,
    /// When each thing was last said, and how many lines about it were held back since. No waiting while it is held.
    said: Mutex<HashMap<String, (Instant, u64)>>,
}

/// Things told apart; beyond it they share one line.
const THINGS_MAX: usize = 1000;

impl Seldom {
    /// One line per thing and `every`.
    pub fn every(every: Duration) -> Seldom {
        Seldom { every, said: Mutex::new(HashMap::new()) }
    }

    /// Whether to speak about `thing` now; then with the number of lines held back since the last one.
    pub fn speak(&self, thing: &str, now: Instant) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let key = if said.len() >= THINGS_MAX && !said.contains_key(thing) { "" } else { thing };
        match said.get_mut(key) {
            Some((last, held_back)) if now.duration_since(*last) < self.every => {
                *held_back += 1;
                None
            }
            Some((last, held_back)) => {
                *last = now;
                Some(std::mem::take(held_back))
            }
            None => {
                said.insert(key.to_string(), (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_within_their_bound_and_without_colours() {
        let mut recent = Recent { lines: VecDeque::new(), bytes: 0 };
        (0..RECENT.0 + 10).for_each(|number| recent.push(format!("{number}\n")));
        assert_eq!((recent.lines.len(), recent.lines.front().map(String::as_str)), (RECENT.0, Some("10\n")));
        recent.push("x".repeat(RECENT.1));
        assert_eq!((recent.lines.len(), recent.bytes), (1, RECENT.1));
        recent.push("y".to_owned());
        assert_eq!((recent.lines.len(), recent.bytes), (1, 1));
        assert_eq!(plain("\u{1b}[2m02:00\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m ready\n".as_bytes()), "02:00  INFO ready\n");
    }

    #[test]
    fn repeats_are_held_back_and_counted() {
        let seldom = Seldom::every(Duration::from_secs(60));
        let start = crate::clock::now();
        assert_eq!(seldom.speak("a", start), Some(0));
        assert_eq!(seldom.speak("a", start + Duration::from_secs(1)), None);
        assert_eq!(seldom.speak("b", start + Duration::from_secs(1)), Some(0));
        assert_eq!(seldom.speak("a", start + Duration::from_secs(59)), None);
        assert_eq!(seldom.speak("a", start + Duration::from_secs(60)), Some(2));
    }
}
