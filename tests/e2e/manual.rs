//! What README and docs tell people to type, typed.

use crate::support::http::Client;
use crate::support::peers::{Peer, need};
use crate::support::process::{Process, Scratch, eventually, free_port};
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
    assert_eq!(blocks.len(), 1);
    let file = scratch.join("sluice.yaml");
    std::fs::write(&file, &blocks[0]).expect("file");
    check(&file);
}

#[test]
fn the_configuration_with_every_key_is_right_as_it_stands() {
    check(&root().join("config/sluice.yaml"));
}

#[test]
fn commands_that_the_readme_names_exist() {
    for line in blocks("README.md", "sh").iter().flat_map(|block| block.lines()) {
        let program: PathBuf = root().join(line.split(' ').next().expect("a word"));
        assert!(program.is_file(), "README: `{line}`");
        let status = Command::new("bash").arg("-n").arg(&program).status().expect("bash");
        assert!(status.success(), "{}", program.display());
    }
}

/// A running `sluice dev` with the arguments, and where it listens.
fn dev(scratch: &Scratch, more: &[&str]) -> (Process, SocketAddr) {
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
        // The lines follow the topic for ever; some seconds of it will do. `sluice` is the binary that was built.
        let dir = Path::new(BINARY).parent().expect("a directory").display().to_string();
        let path = format!("{dir}:{}", std::env::var("PATH").unwrap_or_default());
        let output = Command::new("timeout").args(["8", "sh", "-c", &line]).env("PATH", path).output().expect("timeout");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("\"ts\"") || text.lines().count() > 3, "`{line}` printed: {text}{}", String::from_utf8_lossy(&output.stderr));
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
fn a_port_that_is_taken_is_named_with_the_flag_that_changes_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let output = Command::new(BINARY).args(["dev", "--listen", &address]).output().expect("the binary");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains(&address) && text.contains("--listen"), "{text}");
}
