//! The rules of the house that no compiler checks: layers, headers, lengths, who may name which crate, where threads and channels begin.
//!
//! Reads files as text and uses nothing of the library, so it links none of it. Each rule is a pure function over `(path, text)`, and
//! each is shown below to find a planted violation.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, which does not cover their helpers")]

use std::path::{Path, PathBuf};

/// Modules by layer, DESIGN's "the ground" first. A module names modules of lower layers only, never one of its own layer.
const LAYERS: &[&[&str]] = &[
    &["failpoint"],
    &["clock", "config", "mutate", "secret"],
    &["admission", "serve", "telemetry"],
    &["model"],
    &["alert", "dedup", "relabel", "wire"],
    &["shard", "store"],
    &["node"],
    &["api", "console", "forward", "ingest", "notify", "peer", "probe"],
    &["app", "cli"],
];

/// Names within a layer that are allowed, and why.
const WITHIN_A_LAYER: &[(&str, &str)] = &[
    // The command line starts the parts, and nothing else does.
    ("cli", "app"),
    // Routes of alerts are matchers too.
    ("alert", "relabel"),
    // Tests only.
    ("config", "mutate"),
    ("secret", "mutate"),
];

/// Macros, which stand at the crate's root wherever they are written, and their module.
const MACROS: &[(&str, &str)] = &[("label_words", "telemetry")];

/// External crates, and the modules that may name them: what a crate brings (its types, its errors) stays behind its owner.
const OWNERS: &[(&str, &[&str])] = &[
    // `config`: `!!binary` in modules of probes; `api`: labels in paths of pushed groups.
    ("base64", &["secret", "config", "probe", "api"]),
    ("brotli_decompressor", &["probe"]),
    // Compiled by `config`, where its line is known, and carried out by `probe`.
    ("cel", &["config", "probe"]),
    ("clap", &["cli", "main"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("flate2", &["cli", "wire", "probe"]),
    ("hdrhistogram", &["cli"]),
    // Retry-After and Last-Modified are dates; hyper brings it with it.
    ("httpdate", &["serve", "probe"]),
    ("hyper", &["serve", "api", "console", "ingest", "notify", "peer", "forward", "probe", "app", "cli"]),
    ("hyper_util", &["serve", "ingest", "peer", "forward", "probe", "app", "cli"]),
    ("http_body_util", &["serve", "api", "ingest", "notify", "peer", "forward", "probe", "app", "cli"]),
    // `notify`: times in texts, as templates want them.
    ("jiff", &["alert", "notify"]),
    ("md5", &["relabel"]),
    ("minijinja", &["notify"]),
    // And every `metrics.rs`: a part's own struct of counters.
    ("prometheus_client", &["telemetry"]),
    ("prost", &["shard", "wire", "node"]),
    // `node` carries raft's messages and says what is on the disk in its words.
    ("raft", &["shard", "node"]),
    // Tests of `probe` make certificates of every kind.
    ("rcgen", &["secret", "probe"]),
    // Compiled by `relabel::pattern`; `alert` keeps what comes of it, `config` looks whether an expression of a probe is one, where its line is known;
    // `notify` runs those of templates.
    ("regex", &["alert", "relabel", "config", "notify", "probe"]),
    ("rdkafka", &["forward", "app"]),
    // For SHA-256 of tokens; rustls and rcgen bring it with them, and name a module of theirs after it.
    ("ring", &["secret", "peer", "serve", "probe"]),
    ("rocksdb", &["store"]),
    ("saphyr_parser", &["config"]),
    ("slog", &["shard"]),
    ("snap", &["wire"]),
    // Sockets for ICMP.
    ("socket2", &["probe"]),
    // `peer` between nodes, with the cluster's own certificates on both sides; `serve` on the public listener, with those of the operator, and for the
    // verbs that ask such a listener and sinks that write to a store. Nobody else opens a connection with TLS.
    // `probe` in another way: it records the certificates that came, good or bad.
    ("tokio_rustls", &["peer", "serve", "probe"]),
    // Certificates are read back by webpki.
    ("tracing_subscriber", &["telemetry"]),
    ("webpki", &["peer", "probe"]),
    ("zstd", &["wire"]),
];

/// Where a thread, a task or a channel may begin: `(file, words, why)`. A queue stands in src/ARCHITECTURE.md too.
const SITES: &[(&str, &str, &str)] = &[
    ("src/api/tap.rs", "spawn_blocking(", "walks a batch for a listener of `tap`; one a listener"),
    ("src/api/push.rs", "spawn_blocking(", "writes down all that was pushed, some tens of megabytes at most; one an HTTP request"),
    ("src/app/pushed.rs", "spawn_blocking(", "makes samples of all that was pushed; one at a time"),
    ("src/app/flow.rs", "spawn_blocking(", "unpacks a batch for a listener of `tap`; one a listener"),
    ("src/ingest/tap.rs", "broadcast::channel(", "requests for listeners of `tap`: bounded, slow listeners miss some and are told"),
    (
        "src/node/fates.rs",
        "broadcast::channel(",
        "what apply decided for listeners of `tap`: bounded, slow listeners miss some and are told",
    ),
    ("src/api/alertmanager/listing.rs", "spawn_blocking(", "makes a list of alerts; one call an HTTP request, 8 at a time"),
    ("src/app/alerting/rehearse.rs", "spawn_blocking(", "lives through the history with other policies; one at a time, bounded rows"),
    (
        "src/app/alerting/export.rs",
        "spawn_blocking(",
        "a few records of the history to Kafka, until they are confirmed; one call at a time",
    ),
    ("src/app/alerting/history.rs", "spawn_blocking(", "reads the history of alerts; one call an HTTP request, bounded rows"),
    ("src/probe/http/cel.rs", "spawn_blocking(", "carries out a module's expression on a body of at most a few MiB; one a probe"),
    ("src/api/sinks.rs", "spawn_blocking(", "reading dead letters reads the disk; one call an HTTP request"),
    ("src/app/reload.rs", "spawn_blocking(", "stopping a sink waits for Kafka; one reload at a time"),
    (
        "src/app/alerting/teller.rs",
        "JoinSet::new(",
        "a task a message to a receiver of alerts, 256 at most and 8 to one; ended with the node",
    ),
    ("src/app.rs", "watch::channel(", "a signal during the start: one value"),
    ("src/app.rs", "JoinSet::new(", "tells the service manager; ended with the process"),
    ("src/app/backup.rs", "spawn_blocking(", "writes a backup and removes older ones; one at a time"),
    ("src/app/dev.rs", "watch::channel(", "the same, which never comes"),
    ("src/app/probes.rs", "watch::Sender::new(", "what is to be looked at, and the references: one value each"),
    ("src/app/reload.rs", "watch::Sender::new(", "settings in force, for whoever acts on them: one value each"),
    ("src/app/rewind.rs", "spawn_blocking(", "looks for an emission by its time on the disk; one shard at a time, at an operator's wish"),
    ("src/app/running.rs", "watch::channel(", "the end of the node and the reason of a fatal end: one value each"),
    ("src/app/running.rs", "tokio::spawn(", "the accept loop, awaited at the end"),
    ("src/app/running.rs", "JoinSet::new(", "the synthetic senders of dev, ended with the node"),
    ("src/app/running.rs", "spawn_blocking(", "opening and closing the disk"),
    ("src/app/senders.rs", "tokio::spawn(", "drives a synthetic sender's connection, ends with it"),
    (
        "src/app/sinks.rs",
        "spawn_blocking(",
        "stops all sinks at the same time; one replay of dead letters at a time, and trials of sinks, which wait for the receiver",
    ),
    ("src/forward.rs", "thread::Builder::new(", "a worker per sink and shard, joined by Sink::stop"),
    ("src/forward/remote_write/flight.rs", "runtime.spawn(", "a task a connection to a store, awaited by the worker before it goes on"),
    ("src/forward/remote_write/lane.rs", "tokio::spawn(", "drives a connection to a store; ends with its sender, which a worker holds"),
    ("src/forward/tap.rs", "broadcast::channel(", "rows for listeners of `tap`: bounded, slow listeners miss some and are counted"),
    ("src/ingest/desk.rs", "spawn_blocking(", "decoding; as many at a time as there are desks"),
    ("src/node.rs", "oneshot::channel(", "an answer to an offer or a proposal"),
    ("src/node/lane.rs", "watch::Sender::new(", "how far a shard is and who leads it: one value a shard"),
    ("src/node/peers.rs", "oneshot::channel(", "an answer to an offer or a proposal of a peer"),
    ("src/node/measure.rs", "thread::spawn(", "the measuring run's own"),
    ("src/node/measure.rs", "JoinSet::new(", "the measuring run's own"),
    (
        "src/node/start.rs",
        "thread::Builder::new(",
        "a thread a shard, the writer, the watch of free space and the probe of the disk; joined by Node::stop",
    ),
    ("src/peer.rs", "watch::channel(", "the end of all connections: one value"),
    ("src/peer.rs", "watch::Sender::new(", "the cluster's charter: one value"),
    ("src/peer.rs", "thread::Builder::new(", "all that goes on between nodes; joined by Peering::stop"),
    ("src/peer.rs", "spawn_blocking(", "waits for that thread's end"),
    ("src/peer.rs", "JoinSet::new(", "the door, and a task a peer; their end is the thread's"),
    (
        "src/peer/way.rs",
        "runtime.spawn(",
        "fetches a piece of a snapshot, one a shard, since a shard asks for the next when it has the last; tells a peer what may be lost, 128 at most",
    ),
    (
        "src/peer/door.rs",
        "spawn_blocking(",
        "reads the disk: a piece of a snapshot, one a shard and member; what a node says of itself, for a person",
    ),
    ("src/peer/door.rs", "JoinSet::new(", "a task a connection, 64 at most; ended with the door"),
    ("src/probe/discovery.rs", "spawn_blocking(", "reading lists of targets reads the disk, and takes long; 16 at a time"),
    ("src/probe/discovery.rs", "JoinSet::new(", "a task a list of targets that is read, 16 at a time; awaited"),
    (
        "src/probe/jobs.rs",
        "thread::Builder::new(",
        "all looks at targets of jobs that do not compute; ends by `stop`, at the next thing that wakes it",
    ),
    ("src/probe/jobs.rs", "JoinSet::new(", "a task a look, 2,000 at most; ended with the thread of looks"),
    ("src/probe/out.rs", "JoinSet::new(", "one request of samples on its way; ended with the thread of looks"),
    ("src/probe/watcher.rs", "JoinSet::new(", "a task a Prometheus that is looked at, 4,096 at most; ended with the node"),
    ("src/probe/resolve.rs", "spawn_blocking(", "the system's resolver; 64 names at a time"),
    ("src/serve.rs", "JoinSet::new(", "a task a connection, bounded by their number; ended with the server"),
    ("src/cli/client.rs", "tokio::spawn(", "drives the one connection of a verb that asks a node"),
    ("src/cli/bench/load.rs", "JoinSet::new(", "a task a sender of the load tool"),
    ("src/cli/bench/load.rs", "tokio::spawn(", "drives a sender's connection"),
];

/// What starts a thread or a task or makes a channel.
const STARTERS: &[&str] = &[
    "mpsc::channel(",
    "mpsc::channel::<",
    "sync_channel(",
    "sync_channel::<",
    "oneshot::channel(",
    "watch::channel(",
    "watch::Sender::new(",
    "broadcast::channel(",
    "unbounded_channel(",
    "thread::spawn(",
    "thread::Builder::new(",
    "thread::scope(",
    "tokio::spawn(",
    "task::spawn(",
    "spawn_blocking(",
    "spawn_local(",
    "JoinSet::new(",
];

/// Lines that a source file may have.
const LONGEST: usize = 600;

/// Private places and tools, none of which belongs into the project. Spelled in halves, since this file is read as well.
fn private_words() -> Vec<String> {
    [
        ("/wo", "rk/"),
        ("/root", "/"),
        ("/home", "/"),
        ("cla", "ude"),
        ("anth", "ropic"),
        ("wt-", "proof"),
        ("../fac", "ts"),
        ("shared/fac", "ts"),
    ]
    .map(|(left, right)| format!("{left}{right}"))
    .into()
}

/// The module at the top of which a file of src/ stands: `forward` for forward.rs and forward/kafka/rows.rs.
fn top_module(path: &str) -> Option<&str> {
    path.strip_prefix("src/")?.split(['/', '.']).next()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Lines with their numbers, without those that are comments as a whole.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn ident(text: &str) -> &str {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or_default()
}

/// Modules named through `crate::` must lie lower.
fn layers(path: &str, text: &str) -> Vec<String> {
    let Some(module) = top_module(path).filter(|module| !["lib", "main"].contains(module)) else { return Vec::new() };
    let Some(height) = layer(module) else { return vec![format!("{path}: module `{module}` is in no layer of tests/tidy.rs")] };
    let mut problems = Vec::new();
    for (number, line) in code(text) {
        for rest in line.split("crate::").skip(1) {
            let word = ident(rest);
            let named = MACROS.iter().find(|(name, _)| *name == word).map_or(word, |(_, module)| module);
            if rest.starts_with('{') {
                problems.push(format!("{path}:{number}: `use crate::{{..}}` hides what it names; one module a line"));
            } else if named != module && !WITHIN_A_LAYER.contains(&(module, named)) && layer(named).is_none_or(|depth| depth >= height) {
                problems.push(format!("{path}:{number}: `{module}` may not name `{named}`"));
            }
        }
    }
    problems
}

/// What reads back, in unit tests, what was packed by an owner: with the crate's own functions, lest both ends share a mistake.
const READ_BACK: [&str; 2] = ["flate2", "zstd"];

/// Crates of OWNERS named by others. A path that begins with the crate's name counts; a word in a comment does not.
fn owners(path: &str, text: &str) -> Vec<String> {
    let Some(module) = top_module(path) else { return Vec::new() };
    let mut problems = Vec::new();
    for (number, line) in code(text) {
        for (name, allowed) in OWNERS.iter().filter(|(_, allowed)| !allowed.contains(&module)) {
            let read_back = READ_BACK.contains(name) && path.ends_with("/tests.rs");
            if read_back || *name == "prometheus_client" && path.ends_with("/metrics.rs") {
                continue;
            }
            let names_it = line.match_indices(&format!("{name}::")).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                // `crate::prost::x` or `self.hyper::y` is another one's.
                !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == ':') || line[..at].ends_with(" ::")
            });
            if names_it {
                problems.push(format!("{path}:{number}: `{name}` is named by {} only", allowed.join(", ")));
            }
        }
    }
    problems
}

/// Header, length, no mod.rs.
fn shape(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !text.starts_with("//!") {
        problems.push(format!("{path}: does not open with `//!` saying why it exists"));
    }
    if path.ends_with("/mod.rs") {
        problems.push(format!("{path}: is a mod.rs; name it as the module"));
    }
    let lines = text.lines().count();
    if lines > LONGEST {
        problems.push(format!("{path}: {lines} lines, {LONGEST} at most"));
    }
    problems
}

/// Threads, tasks and channels outside the list. Unit tests, at the end of a file or in one of their own, may do as they like.
fn starters(path: &str, text: &str, sites: &[(&str, &str, &str)]) -> Vec<String> {
    let mut problems = Vec::new();
    if path.ends_with("/tests.rs") || path.contains("/tests/") || path.contains("_tests/") {
        return problems;
    }
    for (number, line) in code(text).take_while(|(_, line)| !line.starts_with("#[cfg(test)]")) {
        for starter in STARTERS.iter().filter(|starter| line.contains(**starter)) {
            if !sites.iter().any(|(file, words, _)| *file == path && starter.starts_with(words)) {
                problems.push(format!(
                    "{path}:{number}: `{starter}..` is no site of tests/tidy.rs; see the queue table in src/ARCHITECTURE.md"
                ));
            }
        }
    }
    problems
}

/// Sites that no longer exist leave the list.
fn stale_sites(files: &[(String, String)], sites: &[(&str, &str, &str)]) -> Vec<String> {
    let used = |file: &str, words: &str| files.iter().any(|(path, text)| path == file && code(text).any(|(_, line)| line.contains(words)));
    let gone = sites.iter().filter(|(file, words, _)| !used(file, words));
    gone.map(|(file, words, _)| format!("tests/tidy.rs: {file} has no `{words}` any more")).collect()
}

/// Words that name a machine or a tool of one of us.
fn private(path: &str, text: &str) -> Vec<String> {
    let words = private_words();
    let mut problems = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let lower = line.to_lowercase();
        problems.extend(
            words.iter().filter(|word| lower.contains(*word)).map(|word| format!("{path}:{}: `{word}` is nobody else's business", at + 1)),
        );
    }
    problems
}

/// All text files of the project: `(path from its root, text)`.
fn files(dir: &Path, into: &mut Vec<(String, String)>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut entries: Vec<PathBuf> = std::fs::read_dir(root.join(dir)).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let here = dir.join(&name);
        if path.is_dir() {
            if !["target", ".git", "corpus", "artifacts"].contains(&name.as_str()) {
                files(&here, into);
            }
        } else if name != ".git"
            && name != "Cargo.lock"
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            into.push((here.to_string_lossy().into_owned(), text));
        }
    }
}

fn complain(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn the_project_keeps_its_rules() {
    let mut all = Vec::new();
    files(Path::new(""), &mut all);
    let mut problems = Vec::new();
    for (path, text) in &all {
        problems.extend(private(path, text));
        if path.ends_with(".rs") {
            problems.extend(shape(path, text));
        }
        if path.starts_with("src/") && path.ends_with(".rs") {
            problems.extend(layers(path, text));
            problems.extend(owners(path, text));
            problems.extend(starters(path, text, SITES));
        }
    }
    problems.extend(stale_sites(&all, SITES));
    complain(&problems);
}

#[test]
fn the_queues_of_the_architecture_are_numbered_once() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ARCHITECTURE.md")).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| Q")).map(|line| ident(&line[2..])).collect();
    let mut once = rows.clone();
    once.dedup();
    assert!(!rows.is_empty() && rows == once, "{rows:?}");
}

#[track_caller]
fn finds(problems: &[String], words: &str) {
    assert!(problems.iter().any(|problem| problem.contains(words)), "`{words}` not found in {problems:?}");
}

#[test]
fn planted_violations_are_found() {
    finds(&layers("src/dedup/row.rs", "//! x\nuse crate::node::Handle;\n"), "src/dedup/row.rs:2: `dedup` may not name `node`");
    finds(&layers("src/dedup.rs", "let x = crate::wire::body::Body::new();"), "may not name `wire`");
    finds(&layers("src/ingest.rs", "pub(crate) fn x(x: crate::forward::X) {}"), "may not name `forward`");
    finds(&layers("src/node.rs", "use crate::{model, forward};"), "one module a line");
    finds(&layers("src/nowhere/x.rs", ""), "in no layer");
    finds(&layers("src/clock.rs", "crate::label_words! {}"), "`clock` may not name `telemetry`");
    finds(&owners("src/node/writer.rs", "use rocksdb::DB;"), "`rocksdb` is named by store only");
    finds(&owners("src/ingest.rs", "    let x = raft::Config::default();"), "`raft` is named by");
    finds(&shape("src/x.rs", "use std::fmt;\n"), "does not open with");
    finds(&shape("src/x/mod.rs", "//! x\n"), "mod.rs");
    finds(&shape("src/x.rs", &"//! x\n".repeat(601)), "601 lines");
    finds(&starters("src/x.rs", "let (a, b) = mpsc::channel(8);", &[]), "no site");
    finds(&starters("src/x.rs", "let x = watch::Sender::new(0);", &[]), "no site");
    finds(&starters("src/x.rs", "std::thread::Builder::new().name(n)", &[("src/x.rs", "mpsc::channel", "")]), "no site");
    finds(&stale_sites(&[("src/x.rs".into(), "// mpsc::channel(".into())], &[("src/x.rs", "mpsc::channel", "")]), "any more");
    finds(&private("docs/x.md", &format!("see {}notes", private_words()[0])), "nobody else's business");
}

#[test]
fn what_is_allowed_is_not_found() {
    let none: Vec<String> = Vec::new();
    assert_eq!(layers("src/node/writer.rs", "//! x\n// crate::forward\nuse crate::store::Log;\nuse crate::node::Handle;"), none);
    assert_eq!(layers("src/ingest/metrics.rs", "crate::label_words! {}"), none);
    assert_eq!(owners("src/ingest/metrics.rs", "use prometheus_client::metrics::counter::Counter;"), none);
    assert_eq!(layers("src/lib.rs", "use crate::forward;"), none);
    assert_eq!(layers("src/cli/run.rs", "use crate::app::App;"), none);
    assert_eq!(owners("src/shard.rs", "use raft::RawNode;\nuse crate::shard::raft_log::X;\n// rocksdb::x"), none);
    assert_eq!(owners("src/node.rs", "use crate::shard::raft::Y; draft::x()"), none);
    assert_eq!(starters("src/x.rs", "let (a, b) = mpsc::channel(8);", &[("src/x.rs", "mpsc::channel", "Q1")]), none);
    assert_eq!(starters("src/x.rs", "fn x() {}\n#[cfg(test)]\nmod tests {\n thread::spawn(x) }", &[]), none);
    assert_eq!(shape("src/x.rs", &"//! x\n".repeat(600)), none);
}
