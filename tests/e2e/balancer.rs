//! Where Prometheus points: HAProxy before three nodes with the configuration of docs/cluster.md, while one of them is drained, restarted and given
//! its load again.

use super::crash::{Accounts, sender};
use crate::support::http::Client;
use crate::support::load::Running;
use crate::support::peers::{Peer, need};
use crate::support::process::{Process, Scratch, eventually, free_port, let_pass};
use crate::support::trio::{NAMES, NOWHERE, Trio};
use std::net::SocketAddr;
use std::time::Duration;

/// The page's configuration for this port and these nodes.
fn of_the_page(port: u16, trio: &Trio) -> String {
    let page = include_str!("../../docs/cluster.md");
    let (_, rest) = page.split_once("```haproxy\n").expect("the page has it");
    let mut text = rest.split_once("```").expect("its end").0.replace("bind :9201", &format!("bind 127.0.0.1:{port}"));
    for (node, number) in trio.nodes.iter().zip(1..) {
        let written = format!("mon{number}.example:9201");
        assert!(text.contains(&written), "{text}");
        text = text.replace(&written, &node.sluice.address().to_string());
    }
    text
}

#[test]
fn behind_haproxy_a_node_is_drained_restarted_and_gets_its_load_again_without_a_refused_request() {
    if !need(&[Peer::Haproxy]) {
        return;
    }
    let scratch = Scratch::new("balancer");
    let mut trio = Trio::up(&scratch, NOWHERE);
    let (dir, port) = (scratch.sub("haproxy"), free_port());
    let file = dir.join("haproxy.cfg");
    std::fs::write(&file, of_the_page(port, &trio)).unwrap();
    let args = ["-db".to_owned(), "-f".to_owned(), file.display().to_string()];
    let _haproxy = Process::start("haproxy", "haproxy", &args, &dir, &dir.join("log"));
    let front = SocketAddr::from(([127, 0, 0, 1], port));
    eventually(Duration::from_secs(30), "HAProxy to find a node", || {
        let ready = Client::new(front).call("GET", "/-/ready").map_err(|error| error.to_string())?;
        if ready.status() == 200 { Ok(()) } else { Err(format!("{} {}", ready.status(), ready.text())) }
    });
    let senders: Vec<Running> = (0..6).map(|number| sender(&format!("group-{number}"), "a", number * 30).start(front)).collect();
    let taken = |trio: &Trio, node: usize| {
        let status = trio.nodes[node].json("/api/v1/status")?;
        status["ingest"]["requests"].as_u64().ok_or_else(|| status.to_string())
    };
    let gets_load = |trio: &Trio, node: usize| {
        eventually(Duration::from_secs(60), "requests to come", || match taken(trio, node)? {
            0..20 => Err(format!("{} has few", NAMES[node])),
            _ => Ok(()),
        });
    };
    (0..3).for_each(|node| gets_load(&trio, node));
    for node in [2, 0] {
        trio.nodes[node].must(&["cluster", "drain"]);
        // When its balancer has looked: the page says for how long.
        let_pass(Duration::from_secs(3));
        trio.nodes[node].sluice.stop();
        let_pass(Duration::from_secs(2));
        trio.nodes[node].sluice.launch();
        trio.nodes[node].sluice.wait_ready(Duration::from_secs(60));
        // It began to count anew.
        gets_load(&trio, node);
        trio.wait_well();
    }
    let accounts = Accounts::of(senders, Vec::new());
    assert_eq!(accounts.repeated(), 0, "requests were refused, or went unanswered");
    trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
}
