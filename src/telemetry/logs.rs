//! The log: where it goes, how it looks, and how repeats are kept from filling it.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use tracing_subscriber::EnvFilter;

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
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    let _ = match logging.format {
        Format::Text => builder.with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
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
