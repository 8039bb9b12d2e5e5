//! Targets that stand in files or that a server names: read again when it is time, and kept as they were while they cannot be read.
//!
//! Left out on purpose: what a target is (`targets`), watching files (a look every refresh interval is what `refresh_interval` promises).

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::config::jobs;
use crate::config::jobs::FileSd;
use crate::config::jobs::HttpSd;
use crate::config::jobs::TargetGroup;
use crate::probe::ask;
use crate::probe::ask::Place;
use crate::probe::ask::Silence;
use crate::probe::targets::Ready;

/// What a server may take for its answer,
const WITHIN: Duration = Duration::from_secs(10);
/// and how long it, or a file, may be.
const BYTES: usize = 32 << 20;
/// Files that one pattern may name.
const FILES: usize = 1_000;

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
pub struct Discovery {
    jobs: Vec<Arc<Ready>>,
    sources: Vec<Source>,
}

impl Discovery {
    /// Nothing read yet.
    pub fn new(jobs: Vec<Arc<Ready>>) -> Discovery {
        let mut sources = Vec::new();
        for (job, ready) in jobs.iter().enumerate() {
            let source = |kind| Source { job, kind, due: None, found: Vec::new(), trouble: None };
            sources.extend(ready.job.files.iter().map(|files| source(Kind::Files(files.clone()))));
            sources.extend(ready.job.servers.iter().map(|server| source(Kind::Server(server.clone()))));
        }
        Discovery { jobs, sources }
    }

    /// Reads what is due; says whether anything is different.
    pub async fn refresh(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for source in &mut self.sources {
            if source.due.is_some_and(|due| now < due) {
                continue;
            }
            let (read, refresh) = match &source.kind {
                Kind::Files(files) => (files_read(files).await, files.refresh),
                Kind::Server(server) => (ask_server(server).await, server.refresh),
            };
            source.due = Some(now + refresh);
            match read {
                Ok(found) => {
                    source.trouble = None;
                    changed |= source.found != found;
                    source.found = found;
                }
                Err(trouble) => {
                    if source.trouble.as_ref() != Some(&trouble) {
                        tracing::warn!(job = self.jobs[source.job].job.name, "targets cannot be read, those known before stay: {trouble}");
                    }
                    source.trouble = Some(trouble);
                }
            }
        }
        changed
    }

    /// Each job with what was found for it.
    pub fn found(&self) -> Vec<(Arc<Ready>, Vec<TargetGroup>)> {
        let of = |job: usize| self.sources.iter().filter(move |source| source.job == job).flat_map(|source| source.found.clone());
        self.jobs.iter().enumerate().map(|(number, ready)| (Arc::clone(ready), of(number).collect())).collect()
    }
}

/// The disk may be slow: not on an async worker.
async fn files_read(files: &FileSd) -> Result<Vec<TargetGroup>, String> {
    let files = files.clone();
    tokio::task::spawn_blocking(move || read_files(&files)).await.unwrap_or_else(|_| Err("reading was given up".to_owned()))
}

fn read_files(files: &FileSd) -> Result<Vec<TargetGroup>, String> {
    let mut found = Vec::new();
    for pattern in &files.files {
        for path in named(pattern)? {
            let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            let text = std::fs::read_to_string(&path).map_err(|error| wrong(&error))?;
            if text.len() > BYTES {
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

async fn ask_server(server: &HttpSd) -> Result<Vec<TargetGroup>, String> {
    let wrong = |error: &str| format!("{}: {error}", server.url);
    let place = Place::new(&server.url, &server.tls).ok_or_else(|| wrong("is no URL"))?;
    let answer = ask::get(&place, "", (WITHIN, BYTES)).await.map_err(|silence| match silence {
        Silence::Refused => wrong("nobody listens there"),
        Silence::Timeout => wrong("no answer in time"),
        Silence::Broken(why) => wrong(&why),
    })?;
    if answer.status != 200 {
        return Err(wrong(&format!("answers {}", answer.status)));
    }
    let text = std::str::from_utf8(&answer.body).map_err(|_| wrong("its answer is no text"))?;
    jobs::target_groups(text).map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

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
        let mut discovery = Discovery::new(vec![Arc::new(Ready::new(&config.jobs.jobs[0]).unwrap())]);
        let mut now = crate::clock::now();
        let shown = |discovery: &Discovery| discovery.found()[0].1.iter().flat_map(|group| group.targets.clone()).collect::<Vec<_>>();
        std::fs::write(path.join("t1.json"), r#"[{"targets":["a"]}]"#).unwrap();
        std::fs::write(path.join("other.json"), "nonsense").unwrap();
        assert!(discovery.refresh(now).await);
        assert_eq!(shown(&discovery), ["a", "s:1"]);
        std::fs::write(path.join("t2.json"), "- targets: [b]\n").unwrap();
        assert!(!discovery.refresh(now).await, "not yet");
        now += Duration::from_secs(1);
        assert!(discovery.refresh(now).await);
        assert_eq!(shown(&discovery), ["a", "b", "s:1"]);
        std::fs::write(path.join("t2.json"), "[{").unwrap();
        now += Duration::from_secs(1);
        assert!(!discovery.refresh(now).await);
        assert_eq!(shown(&discovery), ["a", "b", "s:1"], "half a file is no list");
    }
}
