//! The public door: TLS, tokens, and certificates that are exchanged under way.

use super::crash::sender;
use crate::support::http::Client;
use crate::support::process::{Scratch, Signal, eventually, now_ms};
use crate::support::sluice::{BINARY, Sluice, write_request};
use crate::support::tls::{Authority, shown, trusting};
use crate::support::trio::Trio;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A sink that reaches nobody: these tests look at the door only.
const NOWHERE: &str = "sinks:\n  - name: nowhere\n    kafka: { brokers: [\"127.0.0.1:9\"], topic: t, format: rows }\n";

/// A node with this configuration besides the usual.
fn node(scratch: &Scratch, listen: &str, more: &str) -> Sluice {
    let (dir, port) = (scratch.sub("sluice"), crate::support::process::free_port());
    let text = format!("listen: {listen}:{port}\ndata_dir: {}\n{more}{NOWHERE}", dir.join("data").display());
    Sluice::prepare_as("sluice", dir, port, &text)
}

#[test]
fn a_certificate_exchanged_under_load_costs_no_request_and_a_bad_one_changes_nothing() {
    let scratch = Scratch::new("certificate");
    let authority = Authority::new(scratch.sub("ca"));
    let mut sluice = node(&scratch, "127.0.0.1", &authority.configuration());
    let refused = Command::new(BINARY).args(["run", "--config", &sluice.config()]).output().expect("the binary");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    let said = ["tls.cert_file", "tls.key_file", "cannot be read", "is the path right?"].iter().all(|words| text.contains(words));
    assert!(refused.status.code() == Some(2) && said, "{text}");

    let first = authority.renew();
    let client = authority.client();
    sluice.launch();
    let (address, mut keeping) = (sluice.address(), Client::new(sluice.address()).secure(Arc::clone(&client)));
    eventually(Duration::from_secs(60), "the node to be ready", || {
        let answer = keeping.call("GET", "/-/ready").map_err(|error| error.to_string())?;
        if answer.status() == 200 { Ok(()) } else { Err(answer.text()) }
    });
    assert_eq!(shown(&client, address, "127.0.0.1").unwrap(), first);
    let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    // One that keeps its connection as Prometheus does, and two that come anew with each request.
    let load: Vec<_> = [true, false, false]
        .into_iter()
        .enumerate()
        .map(|(number, keeps)| {
            let (stop, taken, client) = (Arc::clone(&stop), Arc::clone(&taken), Arc::clone(&client));
            std::thread::spawn(move || {
                let mut connection = Client::new(address).secure(client);
                let sender = sender(&format!("g{number}"), "a", 0);
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match connection.send(&write_request(sender.body(now_ms()))) {
                        Ok(answer) if answer.status() == 204 => drop(taken.fetch_add(1, Ordering::Relaxed)),
                        other => failed.push(format!("{other:?}")),
                    }
                    if !keeps {
                        connection.hang_up();
                    }
                }
                failed
            })
        })
        .collect();
    let more = |than: u64| {
        eventually(Duration::from_secs(60), "writes", || {
            let now = taken.load(Ordering::Relaxed);
            if now > than { Ok(now) } else { Err(format!("{now}")) }
        })
    };
    let mut number = more(50);
    for _ in 0..5 {
        let renewed = authority.renew();
        let answer = keeping.call("POST", "/-/reload").unwrap();
        assert!(answer.status() == 200 && answer.text().contains("listener's certificate renewed"), "{}", answer.text());
        assert_eq!(shown(&client, address, "127.0.0.1").unwrap(), renewed, "the next connection sees it");
        number = more(number + 50);
    }
    let last = shown(&client, address, "127.0.0.1").unwrap();
    std::fs::write(authority.key(), "no key").unwrap();
    let answer = keeping.call("POST", "/-/reload").unwrap();
    assert!(
        answer.status() == 400 && answer.text().contains("tls.key_file") && answer.text().contains("holds no key"),
        "{}",
        answer.text()
    );
    sluice.process().signal(Signal::HUP);
    eventually(Duration::from_secs(20), "the refusal in the log", || {
        let log = sluice.process().log_tail(5000);
        if log.contains("not reloaded, all stays as it was") { Ok(()) } else { Err(log) }
    });
    assert_eq!(shown(&client, address, "127.0.0.1").unwrap(), last);
    more(number + 50);
    stop.store(true, Ordering::Relaxed);
    let failed: Vec<String> = load.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.first());

    let status = keeping.call("GET", "/api/v1/status").unwrap().json();
    let ends = status["public_certificate_expires"].as_i64().expect("when it ends");
    let metrics = keeping.call("GET", "/metrics").unwrap().text();
    let line = metrics.lines().find(|line| line.starts_with("sluice_certificate_expiry_timestamp_seconds{certificate=\"public\"}"));
    let value: f64 = line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok()).expect("the metric");
    assert!((value * 1000.0 - ends as f64).abs() < 1.0 && ends > now_ms(), "{value} {ends}");
    // The command line speaks TLS too, and whoever does not is told.
    let ask = |server: String, more: &[&str]| {
        let output = Command::new(BINARY).args(["group", "list", "--server", &server]).args(more).output().expect("the binary");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let trusted = authority.trusted().display().to_string();
    eventually(Duration::from_secs(10), "the groups to be shown", || {
        let text = ask(format!("https://{address}"), &["--ca-file", &trusted]);
        if text.contains("g2") { Ok(()) } else { Err(text) }
    });
    assert!(ask(format!("https://{address}"), &[]).contains("--ca-file"));
    assert!(ask(format!("http://{address}"), &[]).contains("write https://"));
    sluice.stop();
}

#[test]
fn a_node_that_joins_again_shows_its_new_certificate_to_new_connections_without_a_restart() {
    let scratch = Scratch::new("rejoin");
    let mut trio = Trio::up(&scratch, NOWHERE);
    let of = |trio: &Trio, node: usize, file: &str| trio.nodes[node].sluice.data().join("cluster").join(file);
    let shown_by_n2 = |trio: &Trio| {
        let (ca, certificate, key) = (of(trio, 0, "ca.pem"), of(trio, 0, "node.pem"), of(trio, 0, "node.key"));
        shown(&trusting(&ca, Some((&certificate, &key))), trio.peer_address(1), "n2").unwrap()
    };
    let expires = |trio: &Trio| {
        let view = trio.nodes[0].json("/api/v1/cluster").unwrap();
        view["nodes"][1]["certificate_expires"].as_i64().expect("n2's")
    };
    let (first, ends) = (shown_by_n2(&trio), expires(&trio));
    trio.nodes[1].must(&["cluster", "join", &trio.bundle(), "--config", &trio.nodes[1].sluice.config(), "--node", "n2"]);
    assert_eq!(shown_by_n2(&trio), first, "it has not looked yet");
    let reloaded = trio.nodes[1].post("/-/reload").unwrap();
    assert!(reloaded.status() == 200 && reloaded.text().contains("node's certificate renewed"), "{}", reloaded.text());
    assert_ne!(shown_by_n2(&trio), first);
    // The others hear of it over the links that were there before.
    eventually(Duration::from_secs(20), "n1 to know of it", || if expires(&trio) > ends { Ok(()) } else { Err(String::new()) });
    trio.wait_well();
    // A link made anew uses it, both ways.
    trio.nodes[0].sluice.stop();
    trio.nodes[0].sluice.up();
    trio.wait_well();
    // A certificate of strangers is refused, in words, and changes nothing.
    let strange = scratch.join("strange.bundle").display().to_string();
    trio.nodes[2].must(&["cluster", "prepare", "--bundle", &strange, "--config", &trio.nodes[2].sluice.config()]);
    trio.nodes[2].must(&["cluster", "join", &strange, "--config", &trio.nodes[2].sluice.config(), "--node", "n3"]);
    let refused = trio.nodes[2].post("/-/reload").unwrap();
    assert!(refused.status() == 400 && refused.text().contains("another bundle"), "{}", refused.text());
    trio.wait_well();
    trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
}
