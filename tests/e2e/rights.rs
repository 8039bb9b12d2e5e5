//! The rights that docs/kafka.md lists, at a broker that asks for them: without one of them sluice goes on, takes data and says which is missing;
//! with all of them, and with nothing more, rows flow and each sample is there once.

use super::manual::{blocks_of, root};
use crate::support::acl::{Right, grant, take};
use crate::support::check::{Case, Received, receive};
use crate::support::kafka::{Kafka, Reader};
use crate::support::load::Sender;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually};
use crate::support::sluice::Sluice;
use serde_json::Value as Json;
use std::time::Duration;

/// What the page's lines grant, for this topic and these names.
fn rights_of_the_page(topic: &str, cluster: &str, sink: &str) -> Vec<Right> {
    let page = std::fs::read_to_string(root().join("docs/kafka.md")).expect("docs/kafka.md");
    let lines: Vec<String> = blocks_of(&page, "sh").concat().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let typed = |line: &String| {
        let line = line
            .replace("--topic metrics", &format!("--topic {topic}"))
            .replace("sluice-dc1-platform-", &format!("sluice-{cluster}-{sink}-"));
        Right::of_command(&line)
    };
    lines.iter().flat_map(typed).collect()
}

/// The sink as `sluice sink list` shows it.
fn shown(sluice: &Sluice, name: &str) -> Json {
    let list: Json = serde_json::from_str(&sluice.ask(&["sink", "list", "--json"])).expect("JSON");
    let sinks = list["sinks"].as_array().expect("sinks").iter();
    sinks.into_iter().find(|sink| sink["name"] == name).cloned().unwrap_or_else(|| panic!("no sink {name}: {list}"))
}

/// Waits until the sink says that this is wrong, with a remedy that holds these words.
#[track_caller]
fn wait_trouble(sluice: &Sluice, sink: &str, code: &str, words: &str) {
    eventually(Duration::from_secs(90), &format!("{sink} to say {code}"), || {
        let sink = shown(sluice, sink);
        let troubles = sink["troubles"].as_array().expect("troubles");
        let said = troubles.iter().any(|one| one["code"] == code && one["remedy"].as_str().is_some_and(|text| text.contains(words)));
        if said { Ok(()) } else { Err(sink["troubles"].to_string()) }
    });
}

/// Waits until rows come that were not there before, and nothing is wrong any more.
#[track_caller]
fn wait_flow(sluice: &Sluice, sink: &str, reader: &Reader, received: &mut Received) {
    eventually(Duration::from_secs(90), &format!("rows of {sink}"), || {
        let records = reader.drain();
        receive(received, &records);
        let sink = shown(sluice, sink);
        let well = sink["troubles"].as_array().is_some_and(Vec::is_empty);
        if well && !records.is_empty() { Ok(()) } else { Err(format!("{} messages, {}", records.len(), sink["troubles"])) }
    });
}

#[test]
fn each_right_of_the_page_is_needed_and_all_of_them_are_enough() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let kafka = Kafka::guarded("rights", &[("sluice", "secret"), ("other", "secret")]);
    let broker = kafka.address();
    for topic in ["exact", "least"] {
        kafka.create_topic(topic, 3);
    }
    let scratch = Scratch::new("rights");
    let sink = |name: &str, topic: &str, user: &str, more: &str| {
        format!(
            "  - name: {name}\n    kafka:\n      brokers: [\"{}\"]\n      topic: {topic}\n      format: rows\n{more}      properties: \
             {{ security.protocol: SASL_PLAINTEXT, sasl.mechanism: PLAIN, sasl.username: {user}, sasl.password: secret }}\n",
            kafka.guarded_address()
        )
    };
    let sinks = [
        sink("platform", "exact", "sluice", ""),
        sink("least", "least", "other", "      delivery: at_least_once\n"),
        sink("maker", "made", "other", "      delivery: at_least_once\n      create_topic: { partitions: 2, replication: 1 }\n"),
    ];
    let mut sluice = Sluice::prepare_with(&scratch, "guarded", &sinks.concat(), None);
    sluice.up();
    let interval = 500;
    let sender = Sender { group: "g".to_owned(), replica: "a".to_owned(), series: 20, interval, offset: 0 }.start(sluice.address());

    // Nothing granted: it runs, takes data, and says so of each.
    let rights = rights_of_the_page("exact", "guarded", "platform");
    assert_eq!(rights.len(), 4, "{rights:?}");
    for name in ["platform", "least", "maker"] {
        wait_trouble(&sluice, name, "topic_denied", "grant WRITE and READ on topic");
    }
    let status: Json = serde_json::from_str(&sluice.get("/api/v1/status").text()).expect("JSON");
    assert!(status["problems"].to_string().contains("may not be used"), "{}", status["problems"]);
    let before = sender.acknowledged();
    eventually(Duration::from_secs(30), "data to be taken", || if sender.acknowledged() > before { Ok(()) } else { Err(String::new()) });

    // All of the page's, then each of them taken away for a while.
    grant(&broker, &rights);
    let reader = kafka.reader("exact");
    let mut received = Received::new();
    wait_flow(&sluice, "platform", &reader, &mut received);
    for right in &rights {
        take(&broker, std::slice::from_ref(right));
        let (code, words) = match right.resource {
            2 => ("topic_denied", "topic exact"),
            3 => ("group_denied", "group sluice-guarded-platform-"),
            _ => ("transaction_denied", "transactional id sluice-guarded-platform-"),
        };
        wait_trouble(&sluice, "platform", code, words);
        grant(&broker, std::slice::from_ref(right));
        wait_flow(&sluice, "platform", &reader, &mut received);
    }

    // Without transactions, WRITE on the topic is all; a topic that is to be made needs CREATE too.
    let right =
        |name: &str, operation| Right { user: "User:other".to_owned(), resource: 2, name: name.to_owned(), prefixed: false, operation };
    grant(&broker, &[right("least", 4), right("made", 4)]);
    let mut of_least = Received::new();
    let least = kafka.reader("least");
    wait_flow(&sluice, "least", &least, &mut of_least);
    wait_trouble(&sluice, "maker", "topic_not_made", "needs CREATE on the topic");
    grant(&broker, &[right("made", 5)]);
    let made = kafka.reader("made");
    let mut of_made = Received::new();
    wait_flow(&sluice, "maker", &made, &mut of_made);

    let account = sender.stop();
    assert_eq!(account.refused, Vec::<String>::new(), "sluice must take data whatever Kafka says");
    let (acknowledged, offered) = ([account.acknowledged], [account.offered]);
    let case = Case { interval, acknowledged: &acknowledged, offered: &offered };
    for (reader, mut received) in [(reader, received), (least, of_least), (made, of_made)] {
        eventually(Duration::from_secs(60), "all that was acknowledged, once", || {
            receive(&mut received, &reader.drain());
            case.check(&received)?;
            let (rows, sent) =
                (received.values().map(Vec::len).sum::<usize>(), acknowledged[0].values().map(|one| one.len()).sum::<usize>());
            if rows == sent { Ok(()) } else { Err(format!("{rows} rows of {sent} samples")) }
        });
    }
    sluice.stop();
}
