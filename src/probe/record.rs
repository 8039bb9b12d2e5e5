//! What a probe writes down while it goes on. It outlives the probe's future: where that is cut off by its deadline, the phase that was open is
//! closed here, and everything that was known until then is told.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;
use std::time::Instant;

use crate::clock;
use crate::probe::outcome::Cause;
use crate::probe::outcome::Certificate;
use crate::probe::outcome::Failure;
use crate::probe::outcome::Line;
use crate::probe::outcome::Metric;
use crate::probe::outcome::Outcome;
use crate::probe::outcome::Phase;

/// Lines that are noted, and bytes of each: whoever is probed may send as many as it likes.
const LINES: usize = 1_000;
const LINE: usize = 1_000;

/// Why a probe cannot go on.
#[derive(Debug)]
pub struct Stop {
    /// Of the closed list.
    pub cause: Cause,
    /// For people.
    pub text: String,
}

impl Stop {
    /// Of its parts.
    pub fn new(cause: Cause, text: impl Into<String>) -> Stop {
        Stop { cause, text: text.into() }
    }
}

/// What a handshake came to.
#[derive(Clone, Debug)]
pub struct Encrypted {
    /// `TLS 1.3`
    pub version: &'static str,
    /// As Go calls it.
    pub cipher: String,
    /// When the longest of the ways to a trusted certificate ends, ms since 1970; `None`: none was good.
    pub last_chain_ms: Option<i64>,
    /// The module takes any certificate.
    pub skipped: bool,
}

/// How far a probe came.
pub type Way<T> = Result<T, Stop>;

/// What is known so far.
pub struct Record {
    began: Instant,
    timeout: Duration,
    phases: Vec<Phase>,
    open: Option<Instant>,
    log: Option<Vec<Line>>,
    /// The address that is asked.
    pub address: Option<IpAddr>,
    /// Certificates that came.
    pub certificates: Vec<Certificate>,
    /// The last handshake that came to its end.
    pub encrypted: Option<Encrypted>,
    /// Metrics so far.
    pub metrics: Vec<Metric>,
}

impl Record {
    /// Of a probe that begins now.
    pub fn new(timeout: Duration, log: bool) -> Record {
        Record {
            began: clock::now(),
            timeout,
            phases: Vec::with_capacity(6),
            open: None,
            log: log.then(Vec::new),
            address: None,
            certificates: Vec::new(),
            encrypted: None,
            metrics: Vec::with_capacity(24),
        }
    }

    /// A phase begins; one that is open comes to its end. What it is about is kept if somebody wants to know what goes on.
    pub fn begin(&mut self, name: &'static str, about: impl FnOnce() -> String) {
        let now = clock::now();
        self.close(now, true);
        let from = now.duration_since(self.began);
        let about = if self.log.is_some() { about() } else { String::new() };
        self.phases.push(Phase { name, from, took: Duration::ZERO, done: false, about });
        self.open = Some(now);
    }

    /// The open phase comes to its end.
    pub fn end(&mut self) {
        self.close(clock::now(), true);
    }

    fn close(&mut self, now: Instant, done: bool) {
        if let (Some(since), Some(phase)) = (self.open.take(), self.phases.last_mut()) {
            (phase.took, phase.done) = (now.duration_since(since), done);
        }
    }

    /// The phase that is open, or was last.
    pub fn phase(&self) -> &'static str {
        self.phases.last().map_or("", |phase| phase.name)
    }

    /// How long all phases of this name took together; the one that is open counts when it is closed (`stop`, `end`).
    pub fn took(&self, name: &str) -> Duration {
        self.phases.iter().filter(|phase| phase.name == name).map(|phase| phase.took).sum()
    }

    /// How long the first phase of this name took.
    pub fn first(&self, name: &str) -> Duration {
        self.phases.iter().find(|phase| phase.name == name).map_or(Duration::ZERO, |phase| phase.took)
    }

    /// Whether a phase of this name began.
    pub fn began(&self, name: &str) -> bool {
        self.phases.iter().any(|phase| phase.name == name)
    }

    /// Whether a phase of this name came to its end.
    pub fn has(&self, name: &str) -> bool {
        self.phases.iter().any(|phase| phase.name == name && phase.done)
    }

    /// When its time is up; `None`: later than clocks reach.
    pub fn until(&self) -> Option<Instant> {
        self.began.checked_add(self.timeout)
    }

    /// Since the probe began.
    pub fn elapsed(&self) -> Duration {
        clock::now().duration_since(self.began)
    }

    /// Notes what goes on, if somebody wants to know.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        let Some(noted) = self.log.as_ref().map(Vec::len).filter(|noted| *noted <= LINES) else { return };
        let text = if noted < LINES { shortened(text()) } else { "more went on, which is not noted".to_owned() };
        let at = self.elapsed();
        self.log.get_or_insert_default().push(Line { at, text });
    }

    /// A metric without labels.
    pub fn set(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.metrics.push(Metric::plain(name, help, value));
    }

    /// A duration for each of these phases, in seconds, under one name.
    pub fn set_phases(&mut self, name: &'static str, help: &'static str, phases: &[&'static str]) {
        for phase in phases {
            let took = self.took(phase).as_secs_f64();
            self.metrics.push(Metric::with(name, help, ("phase", Cow::Borrowed(phase)), took));
        }
    }

    /// The probe is over: its open phase is cut off where it failed.
    pub fn stop(&mut self, way: &Way<()>) {
        self.close(clock::now(), way.is_ok());
        if let Err(stop) = way {
            let phase = self.phase();
            let at = self.elapsed();
            if let Some(log) = &mut self.log {
                let phase = if phase.is_empty() { "the beginning" } else { phase };
                log.push(Line { at, text: shortened(format!("failed during {phase}: {}: {}", stop.cause.word(), stop.text)) });
            }
        }
    }

    /// What came of it.
    pub fn outcome(mut self, way: Way<()>) -> Outcome {
        let duration = self.elapsed();
        let success = way.is_ok();
        let phase = self.phase();
        let failure = way.err().map(|stop| Failure { cause: stop.cause, phase, text: stop.text });
        self.set("probe_success", "Displays whether or not the probe was a success", f64::from(u8::from(success)));
        self.set("probe_duration_seconds", "Returns how long the probe took to complete in seconds", duration.as_secs_f64());
        self.set("probe_timeout_seconds", "Returns how long the probe timeout is in seconds", self.timeout.as_secs_f64());
        if let Some(failure) = &failure {
            self.metrics.push(Metric {
                name: "sluice_probe_failure_info",
                help: "Why the probe failed, and during which phase",
                labels: vec![("cause".into(), failure.cause.word().into()), ("phase".into(), failure.phase.into())],
                value: 1.0,
            });
        }
        Outcome {
            success,
            failure,
            duration,
            timeout: self.timeout,
            phases: self.phases,
            address: self.address,
            certificates: self.certificates,
            metrics: self.metrics,
            log: self.log.unwrap_or_default(),
        }
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > LINE {
        let end = (0..=LINE).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_bounded() {
        let mut record = Record::new(Duration::from_secs(1), true);
        for _ in 0..10 * LINES {
            record.note(|| "\u{fffd}".repeat(LINE));
        }
        record.stop(&Err(Stop::new(Cause::Other, "why")));
        let log = record.outcome(Ok(())).log;
        assert_eq!(log.len(), LINES + 2);
        assert!(log.iter().all(|line| line.text.len() <= LINE + 3), "{}", log[0].text.len());
        assert!(log[LINES].text.contains("not noted") && log[LINES + 1].text.contains("other: why"));
    }
}
