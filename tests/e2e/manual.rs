//! What README and docs tell people to type, typed.

use crate::support::check::{Received, receive};
use crate::support::http::Client;
use crate::support::kafka::Kafka;
use crate::support::load::Sender;
use crate::support::peers::{Peer, need};
use crate::support::process::{Process, Scratch, Signal, eventually, free_port, let_pass};
use crate::support::sluice::BINARY;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Fenced blocks of a language in a page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    blocks_of(&std::fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}")), language)
}

/// Fenced blocks of a language in a text; `""` for those of none.
pub(super) fn blocks_of(text: &str, language: &str) -> Vec<String> {
    let parts = text.split("\n```");
    let blocks = parts.skip(1).step_by(2).filter_map(|block| block.split_once('\n')).filter(|(first, _)| *first == language);
    blocks.map(|(_, block)| block.to_owned()).collect()
}

fn check(file: &Path) {
    let output = Command::new(BINARY).arg("check").arg(file).output().expect("the binary");
    assert!(
        output.status.success(),
        "{}: {}{}",
        file.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_configuration_in_the_readme_is_complete() {
    let scratch = Scratch::new("readme");
    let blocks = blocks("README.md", "yaml");
    assert_eq!(blocks.len(), 2);
    let file = scratch.join("sluice.yaml");
    // Alone, and with what makes it one of three.
    for text in [blocks[0].clone(), format!("{}\n{}", blocks[0], blocks[1])] {
        std::fs::write(&file, text).expect("file");
        check(&file);
    }
}

#[test]
fn the_configuration_with_every_key_is_right_as_it_stands() {
    check(&root().join("config/sluice.yaml"));
}

#[test]
fn configurations_in_pages_about_whole_deployments_are_right() {
    let scratch = Scratch::new("deployments");
    std::fs::write(scratch.join("alertmanager.yml"), "route: { receiver: a }\nreceivers: [ { name: a } ]\n").expect("file");
    let file = scratch.join("sluice.yaml");
    for page in ["docs/reference-architecture.md", "docs/sizing.md"] {
        let blocks = blocks(page, "yaml");
        assert!(!blocks.is_empty(), "{page}");
        for block in blocks {
            // The listener's certificate is read, and there is none here.
            let lines = block.lines().filter(|line| !line.starts_with("tls:")).map(|line| format!("{line}\n"));
            let whole: String = lines.collect();
            let data = if whole.contains("data_dir:") { "" } else { "data_dir: /var/lib/sluice\n" };
            std::fs::write(&file, format!("{data}{whole}")).expect("file");
            check(&file);
        }
    }
}

#[test]
fn commands_that_the_readme_names_exist() {
    for line in blocks("README.md", "sh").iter().flat_map(|block| block.lines()) {
        if let Some(command) = line.strip_prefix("sluice ") {
            let words = command.split('#').next().unwrap_or_default().split_whitespace();
            let asked = Command::new(BINARY).args(words).arg("--help").output().expect("the binary");
            assert!(asked.status.success(), "README: `{line}`: {}", String::from_utf8_lossy(&asked.stderr));
            continue;
        }
        let program: PathBuf = root().join(line.split(' ').next().expect("a word"));
        assert!(program.is_file(), "README: `{line}`");
        let status = Command::new("bash").arg("-n").arg(&program).status().expect("bash");
        assert!(status.success(), "{}", program.display());
    }
}

/// A running `sluice dev` with the arguments, and where it listens.
pub(super) fn dev(scratch: &Scratch, more: &[&str]) -> (Process, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut args = vec!["dev".to_owned(), "--listen".to_owned(), address.to_string()];
    args.extend(more.iter().map(|one| (*one).to_owned()));
    let mut process = Process::start("sluice dev", BINARY, &args, scratch.path(), &scratch.join("dev.log"));
    let mut client = Client::new(address);
    eventually(Duration::from_secs(30), "sluice dev to be ready", || {
        assert!(process.ended().is_none(), "it ended: {}", process.log_tail(3000));
        let answer = client.call("GET", "/-/ready").map_err(|error| error.to_string())?;
        if answer.status() == 200 { Ok(()) } else { Err(answer.text()) }
    });
    (process, address)
}

/// Lines of what `sluice dev` printed that begin with these words.
fn printed(process: &Process, begin: &str) -> Vec<String> {
    process
        .log_tail(100_000)
        .lines()
        .map(|line| line.trim().trim_start_matches("$ ").to_owned())
        .filter(|line| line.starts_with(begin))
        .collect()
}

#[test]
fn what_dev_prints_to_read_the_topic_works_as_printed() {
    if !need(&[Peer::Kcat, Peer::Jq]) {
        return;
    }
    let scratch = Scratch::new("dev");
    let (process, _) = dev(&scratch, &[]);
    for begin in ["kcat", "sluice tap"] {
        let line =
            eventually(Duration::from_secs(10), begin, || printed(&process, begin).first().cloned().ok_or_else(|| process.log_tail(3000)));
        // The lines follow the topic for ever; some seconds of it will do.
        let text = typed(&line);
        assert!(text.contains("\"ts\""), "`{line}` printed: {text}");
    }
}

#[test]
fn dev_shows_its_page_and_ends_on_sigterm() {
    let scratch = Scratch::new("dev-page");
    let (mut process, address) = dev(&scratch, &[]);
    let page = Client::new(address).call("GET", "/").expect("the page");
    assert_eq!(page.status(), 200);
    assert!(page.text().contains("<html"), "{}", page.text());
    assert!(process.terminate(Duration::from_secs(30)).success());
}

#[test]
fn stopping_the_leading_sender_shows_the_switch_as_printed() {
    if !need(&[Peer::Curl]) {
        return;
    }
    let scratch = Scratch::new("dev-switch");
    let (process, _) = dev(&scratch, &["--interval", "1"]);
    let line = |begin: &str| {
        eventually(Duration::from_secs(10), begin, || printed(&process, begin).first().cloned().ok_or_else(|| process.log_tail(3000)))
    };
    let (stop, history) = (line("curl"), line("sluice group history"));
    eventually(Duration::from_secs(30), "the pair to be known", || {
        let list = typed(&line("sluice group list"));
        if list.contains("prometheus-shop-0") && list.contains("prometheus-shop-1") { Ok(()) } else { Err(list) }
    });
    assert!(typed(&history).contains("never changed"), "{}", typed(&history));
    assert!(typed(&stop).contains("\"running\":false"), "`{stop}` did not stop the sender");
    eventually(Duration::from_secs(60), "the switch", || {
        let text = typed(&history);
        if text.contains("prometheus-shop-1") && text.contains("closed") { Ok(()) } else { Err(text) }
    });
}

#[test]
fn dev_takes_a_real_kafka_and_its_page_has_the_block_to_paste() {
    if !need(&[Peer::Kafka, Peer::Chromium]) {
        return;
    }
    let kafka = Kafka::shared();
    let topic = format!("dev-{}", fastrand::u32(..));
    let scratch = Scratch::new("dev-kafka");
    let (_process, address) = dev(&scratch, &["--no-synthetic", "--kafka", &kafka.address(), "--topic", &topic]);
    // Its own metrics come first, and are no Prometheus.
    eventually(Duration::from_secs(30), "its own metrics", || {
        let groups = Client::new(address).call("GET", "/api/v1/groups").map_err(|error| error.to_string())?.text();
        if groups.contains("\"sluice\"") { Ok(()) } else { Err(groups) }
    });
    let page = seen_in_chromium(address, "", &scratch);
    let start = page.find("id=\"start\"").map_or("", |at| &page[at..at + 80]);
    assert!(page.contains("No Prometheus has written here yet") && !start.contains("hidden"), "{start}: {page}");
    assert!(page.contains(&format!("url: http://{address}/api/v1/write")), "{page}");
    let load = Sender { group: "under-test".to_owned(), replica: "a".to_owned(), series: 3, interval: 200, offset: 0 }.start(address);
    eventually(Duration::from_secs(30), "samples to be taken", || if load.acknowledged() > 20 { Ok(()) } else { Err(String::new()) });
    let account = load.stop();
    let reader = kafka.reader(&topic);
    let mut received = Received::new();
    eventually(Duration::from_secs(60), "the real Kafka to hold them", || {
        receive(&mut received, &reader.drain());
        // Beside them come sluice's own metrics.
        let theirs = received.iter().filter(|(series, _)| series.contains("under-test"));
        let rows: usize = theirs.map(|(_, rows)| rows.len()).sum();
        let sent: usize = account.acknowledged.values().map(|times| times.len()).sum();
        if rows == sent { Ok(()) } else { Err(format!("{rows} of {sent}")) }
    });
    let page = seen_in_chromium(address, "", &scratch);
    assert!(page.contains("under-test") && !page.contains("class=\"loading\""), "the page shows the group: {page}");
}

/// The page, with this behind its `#`, as a browser has drawn it, after its first answers.
pub(super) fn seen_in_chromium(address: SocketAddr, fragment: &str, scratch: &Scratch) -> String {
    let profile = format!("--user-data-dir={}", scratch.join("chromium").display());
    let quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"];
    let output = Command::new("timeout")
        .args(["60", "chromium"])
        .args(quiet)
        .args([
            "--disable-component-update",
            &profile,
            "--virtual-time-budget=6000",
            "--dump-dom",
            &format!("http://{address}/#{fragment}"),
        ])
        .output()
        .expect("timeout");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a line prints when it is typed into a shell.
fn typed(line: &str) -> String {
    let dir = Path::new(BINARY).parent().expect("a directory").display().to_string();
    let path = format!("{dir}:{}", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("timeout").args(["8", "sh", "-c", line]).env("PATH", path).output().expect("timeout");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_sigterm_during_the_start_ends_in_order() {
    let scratch = Scratch::new("dev-term");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let args = ["dev", "--listen", &address.to_string()].map(str::to_owned);
    // At every moment from its first instructions on; before the signals are ours there is nothing to put in order.
    for wait in [60, 90, 120, 180, 300] {
        let mut process = Process::start("sluice dev", BINARY, &args, scratch.path(), &scratch.join("dev.log"));
        eventually(Duration::from_secs(10), "its own handling of SIGTERM", || {
            if process.catches(Signal::TERM) { Ok(()) } else { Err(String::new()) }
        });
        let_pass(Duration::from_millis(wait));
        let status = process.terminate(Duration::from_secs(30));
        assert!(status.success(), "{status}: {}", process.log_tail(2000));
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_the_flag_that_changes_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let output = Command::new(BINARY).args(["dev", "--listen", &address]).output().expect("the binary");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains(&address) && text.contains("--listen"), "{text}");
}
