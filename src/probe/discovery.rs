//! Targets that stand in files or that a server names: read again when it is time, and kept as they were while they cannot be read.
//!
//! Left out on purpose: what a target is (`targets`), watching files (a look every refresh interval is what `refresh_interval` promises).

use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::config::jobs;
use crate::config::jobs::FileSd;
use crate::config::jobs::HttpSd;
use crate::config::jobs::TargetGroup;
use crate::probe::targets::Ready;
use crate::serve::ask;
use crate::serve::ask::Place;

type Read = Result<Vec<TargetGroup>, String>;

/// What a server may take for its answer,
const WITHIN: Duration = Duration::from_secs(10);
/// and how long it, or a file, may be.
const BYTES: usize = 32 << 20;
/// Files that one pattern may name.
const FILES: usize = 1_000;
/// Places that are read at the same time.
const AT_ONCE: usize = 16;

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Files(FileSd),
    Server(HttpSd),
}

/// One place where targets stand.
struct Source {
    job: usize,
    kind: Kind,
    /// When it is read next.
    due: Option<Instant>,
    found: Vec<TargetGroup>,
    /// Why it could not be read last.
    trouble: Option<String>,
}

/// Those of all jobs.
#[derive(Default)]
pub struct Discovery {
    jobs: Vec<Arc<Ready>>,
    sources: Vec<Source>,
}

impl Discovery {
    /// Those of these jobs from now on. What was found where a job still has it found stays, and is not read again before its time.
    pub fn replaced(mut self, jobs: Vec<Arc<Ready>>) -> Discovery {
        let mut sources = Vec::new();
        for (job, ready) in jobs.iter().enumerate() {
            let mut source = |kind: Kind| {
                let same = |known: &Source| known.kind == kind && self.jobs[known.job].job.name == ready.job.name;
                match self.sources.iter().position(same) {
                    Some(at) => Source { job, ..self.sources.swap_remove(at) },
                    None => Source { job, kind, due: None, found: Vec::new(), trouble: None },
                }
            };
            sources.extend(ready.job.files.iter().map(|files| source(Kind::Files(files.clone()))));
            sources.extend(ready.job.servers.iter().map(|server| source(Kind::Server(server.clone()))));
        }
        Discovery { jobs, sources }
    }

    /// Reads what is due; tells whenever something is different. Given up, it begins anew with what was not read.
    pub async fn refresh(&mut self, now: Instant, mut tell: impl FnMut(&Discovery)) {
        let is_due = |source: &Source| source.due.is_none_or(|due| due <= now);
        let due = self.sources.iter().enumerate().filter(|(_, source)| is_due(source)).map(|(at, source)| (at, source.kind.clone()));
        let mut due = due.collect::<Vec<_>>().into_iter();
        // Beside each other: one that does not answer holds up no other.
        let mut reading: JoinSet<(usize, Read)> = JoinSet::new();
        loop {
            for (at, kind) in due.by_ref().take(AT_ONCE.saturating_sub(reading.len())) {
                reading.spawn(async move { (at, read(kind).await) });
            }
            let Some(first) = reading.join_next().await else { return };
            let mut changed = false;
            for (at, read) in std::iter::once(first).chain(std::iter::from_fn(|| reading.try_join_next())).flatten() {
                changed |= self.take(at, read, now);
            }
            if changed {
                tell(self);
            }
        }
    }

    /// Says whether it is different from what was found before.
    fn take(&mut self, at: usize, read: Read, now: Instant) -> bool {
        let source = &mut self.sources[at];
        source.due = Some(now + source.kind.refresh());
        match read {
            Ok(found) => {
                source.trouble = None;
                let changed = source.found != found;
                source.found = found;
                changed
            }
            Err(trouble) => {
                if source.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!(job = self.jobs[source.job].job.name, "targets cannot be read, those known before stay: {trouble}");
                }
                source.trouble = Some(trouble);
                false
            }
        }
    }

    /// Each job with what was found for it.
    pub fn found(&self) -> Vec<(Arc<Ready>, Vec<TargetGroup>)> {
        let of = |job: usize| self.sources.iter().filter(move |source| source.job == job).flat_map(|source| source.found.clone());
        self.jobs.iter().enumerate().map(|(number, ready)| (Arc::clone(ready), of(number).collect())).collect()
    }
}

impl Kind {
    fn refresh(&self) -> Duration {
        match self {
            Kind::Files(files) => files.refresh,
            Kind::Server(server) => server.refresh,
        }
    }
}

/// The disk may be slow, and a list long: not on an async worker.
async fn read(kind: Kind) -> Read {
    let parsed = match kind {
        Kind::Files(files) => tokio::task::spawn_blocking(move || read_files(&files)),
        Kind::Server(server) => {
            let answer = ask_server(&server).await?;
            tokio::task::spawn_blocking(move || {
                let wrong = |error: &str| format!("{}: {error}", server.url);
                let text = std::str::from_utf8(&answer).map_err(|_| wrong("its answer is no text"))?;
                jobs::target_groups(text).map_err(|error| wrong(&error))
            })
        }
    };
    parsed.await.unwrap_or_else(|_| Err("reading was given up".to_owned()))
}

fn read_files(files: &FileSd) -> Read {
    let mut found = Vec::new();
    for pattern in &files.files {
        for path in named(pattern)? {
            let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            // To open a pipe is to wait for whoever writes into it.
            if !std::fs::metadata(&path).map_err(|error| wrong(&error))?.is_file() {
                return Err(wrong(&"is no file"));
            }
            let (file, mut text) = (std::fs::File::open(&path).map_err(|error| wrong(&error))?, String::new());
            if file.take(BYTES as u64 + 1).read_to_string(&mut text).map_err(|error| wrong(&error))? > BYTES {
                return Err(wrong(&"is too long"));
            }
            found.extend(jobs::target_groups(&text).map_err(|error| wrong(&error))?);
        }
    }
    Ok(found)
}

/// The files that a path with at most one `*` in its last part names.
fn named(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let last = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((before, after)) = last.split_once('*') else { return Ok(vec![pattern.to_owned()]) };
    let dir = pattern.parent().unwrap_or(Path::new("/"));
    let wrong = |error: std::io::Error| format!("{}: {error}", dir.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after) && paths.len() < FILES {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

async fn ask_server(server: &HttpSd) -> Result<Bytes, String> {
    let wrong = |error: &str| format!("{}: {error}", server.url);
    let place = Place::new(&server.url, &server.tls).ok_or_else(|| wrong("is no URL"))?;
    let answer = ask::get(&place, "", (WITHIN, BYTES)).await.map_err(|silence| wrong(&silence.to_string()))?;
    if answer.status != 200 {
        return Err(wrong(&format!("answers {}", answer.status)));
    }
    Ok(answer.body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// Says whether anything was different.
    async fn refresh(discovery: &mut Discovery, now: Instant) -> bool {
        let mut changed = false;
        discovery.refresh(now, |_| changed = true).await;
        changed
    }

    #[tokio::test]
    async fn files_and_servers_are_read_again_and_kept_while_they_cannot_be() {
        let dir = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/targets?x=y", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut request = [0; 4096];
                let length = std::io::Read::read(&mut stream, &mut request).unwrap();
                assert!(request[..length].starts_with(b"GET /targets?x=y HTTP/1.1\r\n"));
                let body = r#"[{"targets":["s:1"]}]"#;
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                std::io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
            }
        });
        let path = dir.path();
        let text = format!(
            "listen: 127.0.0.1:1\ndata_dir: /x\nsinks: []\nprobe:\n  jobs:\n    - name: web\n      file_sd_configs: [ {{ files: ['{}/t*.json'], refresh_interval: 1s }} ]\n      \
             http_sd_configs: [ {{ url: '{url}' }} ]\n",
            path.display()
        );
        let config = Config::parse(&text).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let ready = || Arc::new(Ready::new(&config.jobs.jobs[0]).unwrap());
        let mut discovery = Discovery::default().replaced(vec![ready()]);
        let mut now = crate::clock::now();
        let shown = |discovery: &Discovery| discovery.found()[0].1.iter().flat_map(|group| group.targets.clone()).collect::<Vec<_>>();
        std::fs::write(path.join("t1.json"), r#"[{"targets":["a"]}]"#).unwrap();
        std::fs::write(path.join("other.json"), "nonsense").unwrap();
        assert!(refresh(&mut discovery, now).await);
        assert_eq!(shown(&discovery), ["a", "s:1"]);
        std::fs::write(path.join("t2.json"), "- targets: [b]\n").unwrap();
        assert!(!refresh(&mut discovery, now).await, "not yet");
        now += Duration::from_secs(1);
        assert!(refresh(&mut discovery, now).await);
        assert_eq!(shown(&discovery), ["a", "b", "s:1"]);
        std::fs::write(path.join("t2.json"), "[{").unwrap();
        now += Duration::from_secs(1);
        assert!(!refresh(&mut discovery, now).await);
        assert_eq!(shown(&discovery), ["a", "b", "s:1"], "half a file is no list");
        let other = Config::parse(&text.replace("name: web", "name: web\n      interval: 20s\n      targets: [c]")).unwrap();
        discovery = discovery.replaced(vec![Arc::new(Ready::new(&other.jobs.jobs[0]).unwrap())]);
        assert_eq!(shown(&discovery), ["a", "b", "s:1"], "a reload forgets nothing that was found");
        let elsewhere = Config::parse(&text.replace("name: web", "name: other")).unwrap();
        discovery = discovery.replaced(vec![Arc::new(Ready::new(&elsewhere.jobs.jobs[0]).unwrap())]);
        assert_eq!(shown(&discovery), [""; 0], "another job has found nothing yet");
    }

    #[tokio::test]
    async fn one_that_does_not_answer_holds_up_no_other_and_a_pipe_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        // The second answers once what the first named was told.
        let told = Arc::new(std::sync::Barrier::new(2));
        let urls = [false, true].map(|waits| {
            let (listener, told) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), Arc::clone(&told));
            let url = format!("http://{}", listener.local_addr().unwrap());
            std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = std::io::Read::read(&mut stream, &mut [0; 4096]).unwrap();
                if waits {
                    told.wait();
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n[{\"targets\":[\"s\"]}]";
                std::io::Write::write_all(&mut stream, answer).unwrap();
            });
            url
        });
        let pipe = dir.path().join("pipe.json");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let text = format!(
            "listen: 127.0.0.1:1\ndata_dir: /x\nsinks: []\nprobe:\n  jobs:\n    - name: web\n      file_sd_configs: [ {{ files: ['{}'] }} ]\n      \
             http_sd_configs: [ {{ url: '{}' }}, {{ url: '{}' }} ]\n",
            pipe.display(),
            urls[1],
            urls[0]
        );
        let config = Config::parse(&text).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let mut discovery = Discovery::default().replaced(vec![Arc::new(Ready::new(&config.jobs.jobs[0]).unwrap())]);
        let mut seen = Vec::new();
        let tell = |discovery: &Discovery| {
            seen.push(discovery.found()[0].1.len());
            if seen.len() == 1 {
                told.wait();
            }
        };
        discovery.refresh(crate::clock::now(), tell).await;
        assert_eq!(seen, [1, 2]);
        let trouble = discovery.sources.iter().find_map(|source| source.trouble.clone()).unwrap();
        assert!(trouble.ends_with("pipe.json: is no file"), "{trouble}");
    }
}
