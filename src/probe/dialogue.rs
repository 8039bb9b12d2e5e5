//! What is waited for and what is said over a connection, step by step, TLS from some step on included.

use std::borrow::Cow;

use regex::bytes::Regex;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::config::probe::dialogue;
use crate::probe::connect::Wire;
use crate::probe::connect::of_io;
use crate::probe::outcome::Cause;
use crate::probe::outcome::Metric;
use crate::probe::record::Record;
use crate::probe::record::Stop;
use crate::probe::record::Way;
use crate::probe::tls::Tls;

/// No line is longer.
const LINE: usize = 64 << 10;

/// The steps, ready to be done.
#[derive(Debug)]
pub struct Dialogue(Vec<Step>);

#[derive(Debug)]
struct Step {
    expect: Option<Regex>,
    rest: dialogue::Step,
}

/// What came of it, however far it came.
#[derive(Debug, Default)]
pub struct Told {
    /// A line was waited for in vain.
    regex: bool,
    /// Other bytes came.
    bytes: bool,
    /// A line is waited for.
    waiting: bool,
    infos: Vec<Metric>,
}

impl Dialogue {
    /// Of what the module says, which was found good.
    pub fn new(steps: &[dialogue::Step]) -> Dialogue {
        let ready = |step: &dialogue::Step| Step {
            // It can be compiled: that was looked at.
            expect: step.expect.as_ref().and_then(|text| Regex::new(text).ok()),
            rest: step.clone(),
        };
        Dialogue(steps.iter().map(ready).collect())
    }

    /// A step begins TLS.
    pub fn starts_tls(&self) -> bool {
        self.0.iter().any(|step| step.rest.starttls)
    }

    /// Does all steps. `host` is the name for TLS.
    pub async fn hold(&self, wire: Wire, (tls, host): (&Tls, &str), told: &mut Told, record: &mut Record) -> Way<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut talk = Talk { wire, read: Vec::new(), at: 0 };
        record.begin("dialogue", String::new);
        for (number, step) in self.0.iter().enumerate() {
            record.note(|| format!("step {}", number + 1));
            let mut send = step.rest.send.as_deref().map(Cow::Borrowed);
            if let Some(expect) = &step.expect {
                let line = talk.line_that(expect, told, record).await?;
                let caught = expect.captures(&line);
                let expand = |template: &[u8]| {
                    let mut out = Vec::new();
                    if let Some(caught) = &caught {
                        caught.expand(template, &mut out);
                    }
                    out
                };
                send = send.map(|template| Cow::Owned(expand(&template)));
                if !step.rest.labels.is_empty() {
                    let label = |(name, value): &(String, String)| {
                        (Cow::Owned(name.clone()), Cow::Owned(String::from_utf8_lossy(&expand(value.as_bytes())).into_owned()))
                    };
                    let (name, help) = ("probe_expect_info", "Explicit content matched");
                    told.infos.push(Metric { name, help, labels: step.rest.labels.iter().map(label).collect(), value: 1.0 });
                }
            }
            if let Some(bytes) = &step.rest.expect_bytes {
                talk.bytes(bytes, told, record).await?;
            }
            if let Some(text) = send.filter(|text| !text.is_empty()) {
                let mut line = text.into_owned();
                record.note(|| format!("sends {} bytes", line.len() + 1));
                line.push(b'\n');
                talk.wire.write_all(&line).await.map_err(|error| of_io(&error, "sending"))?;
                talk.wire.flush().await.map_err(|error| of_io(&error, "sending"))?;
            }
            if step.rest.starttls {
                let secured = tls.shake(host, talk.wire, record).await?;
                talk = Talk { wire: Box::new(secured), read: Vec::new(), at: 0 };
                record.begin("dialogue", String::new);
            }
        }
        record.end();
        Ok(())
    }
}

struct Talk {
    wire: Wire,
    read: Vec<u8>,
    /// So much of it was looked at.
    at: usize,
}

impl Talk {
    async fn line_that(&mut self, expect: &Regex, told: &mut Told, record: &mut Record) -> Way<Vec<u8>> {
        told.waiting = true;
        loop {
            let Some(line) = self.line().await? else {
                told.regex = true;
                return Err(Stop::new(Cause::Body, format!("the connection was ended before a line matched `{expect}`")));
            };
            record.note(|| format!("reads `{}`", String::from_utf8_lossy(&line)));
            if expect.is_match(&line) {
                (told.waiting, told.regex) = (false, false);
                return Ok(line);
            }
        }
    }

    /// The next line without its end; what stands before the connection's end is one, too.
    async fn line(&mut self) -> Way<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.read[self.at..].iter().position(|byte| *byte == b'\n') {
                let mut line = self.read[self.at..self.at + end].to_vec();
                self.at += end + 1;
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(Some(line));
            }
            if self.read.len() - self.at > LINE {
                return Err(Stop::new(Cause::Protocol, "a line is longer than 64 KiB"));
            }
            if self.more().await? == 0 {
                let rest = self.read.split_off(self.at);
                (self.read, self.at) = (Vec::new(), 0);
                return Ok((!rest.is_empty()).then_some(rest));
            }
        }
    }

    async fn more(&mut self) -> Way<usize> {
        self.read.drain(..self.at);
        self.at = 0;
        self.wire.read_buf(&mut self.read).await.map_err(|error| of_io(&error, "reading"))
    }

    /// Exactly these, in however many pieces they come.
    async fn bytes(&mut self, expected: &[u8], told: &mut Told, record: &mut Record) -> Way<()> {
        while self.read.len() - self.at < expected.len() {
            // What has come is wrong already: no need to wait for the rest.
            let come = &self.read[self.at..];
            if !expected.starts_with(come) {
                break;
            }
            if self.more().await? == 0 {
                return Err(Stop::new(Cause::Closed, format!("the connection was ended before {} bytes had come", expected.len())));
            }
        }
        let come = &self.read[self.at..(self.at + expected.len()).min(self.read.len())];
        record.note(|| format!("reads {} bytes", come.len()));
        if come != expected {
            told.bytes = true;
            return Err(Stop::new(Cause::Body, format!("other bytes came than the {} that were expected", expected.len())));
        }
        self.at += expected.len();
        Ok(())
    }
}

/// Metrics of a dialogue.
pub fn tell(told: Told, record: &mut Record, strict: bool) {
    // There, a line that never comes is no fault of the expression.
    let regex = told.regex || told.waiting && !strict;
    record.set("probe_failed_due_to_regex", "Indicates if probe failed due to regex", f64::from(u8::from(regex)));
    record.set("probe_failed_due_to_bytes", "Indicates if probe failed due to bytes", f64::from(u8::from(told.bytes)));
    // Two with the same labels are one.
    for info in told.infos {
        record.metrics.retain(|metric| metric.name != info.name || metric.labels != info.labels);
        record.metrics.push(info);
    }
    for phase in ["resolve", "connect", "tls", "dialogue"] {
        let took = record.took(phase).as_secs_f64();
        if record.began(phase) {
            let (name, help) = ("sluice_probe_duration_seconds", "Duration of a probe by phase, for probers that have no such metric");
            record.metrics.push(Metric::with(name, help, ("phase", phase.into()), took));
        }
    }
}
