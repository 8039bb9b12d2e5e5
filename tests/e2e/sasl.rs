//! Getting in: TLS with certificates on both sides, SCRAM, PLAIN and tokens, at a real broker; and files that are exchanged while samples flow.

use super::topics::{Expected, shown, wait_said};
use crate::support::kafka::Kafka;
use crate::support::load::Sender;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, now_ms};
use crate::support::sluice::Sluice;
use crate::support::tls::Authority;
use std::path::Path;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(120);

/// base64url without padding.
fn encoded(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for piece in text.as_bytes().chunks(3) {
        let bits = piece.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - piece.len()));
        for place in 0..=piece.len() {
            out.push(char::from(LETTERS[(bits >> (18 - 6 * place) & 63) as usize]));
        }
    }
    out
}

/// A token that nobody signed, which the broker of the tests takes.
fn token(seconds: i64) -> String {
    let now = now_ms() / 1000;
    let claims = format!("{{\"sub\":\"sluice\",\"iat\":{now},\"exp\":{}}}", now + seconds);
    format!("{}.{}.", encoded("{\"alg\":\"none\"}"), encoded(&claims))
}

/// Written beside and put in place at once.
fn put(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).expect("a file");
    std::fs::rename(&beside, path).expect("a file");
}

/// How many producers the sink's shards have made.
fn log_says(sluice: &Sluice, words: &str) -> usize {
    std::fs::read_to_string(sluice.log()).expect("the log").matches(words).count()
}

#[test]
fn certificates_passwords_and_tokens_let_sluice_in_and_are_exchanged_while_samples_flow() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("sasl");
    let authority = Authority::new(scratch.sub("tls"));
    let kafka = Kafka::secured("sasl-kafka", &authority);
    let (own, said) = kafka.secure_addresses();
    // The authority has written the broker's certificate where it will write others.
    authority.renew();
    let (scram, plain, bearer) = (scratch.join("scram"), scratch.join("plain"), scratch.join("bearer"));
    put(&scram, "first\n");
    put(&plain, "wrong\n");
    put(&bearer, &token(60));
    let names = ["mutual", "scram", "plain", "bearer"];
    names.iter().for_each(|topic| kafka.create_topic(topic, 2));
    let ca = format!("ca_file: {}", authority.trusted().display());
    let pair = format!("cert_file: {}, key_file: {}", authority.certificate().display(), authority.key().display());
    let sink = |name: &str, broker: &str, delivery: &str, more: &str| {
        format!("  - name: {name}\n    kafka:\n      brokers: [\"{broker}\"]\n      topic: {name}\n      delivery: {delivery}\n{more}")
    };
    let password = |mechanism: &str, user: &str, file: &Path| {
        format!("      sasl: {{ mechanism: {mechanism}, username: {user}, password_file: {} }}\n", file.display())
    };
    let sinks = [
        sink("mutual", &own, "at_least_once", &format!("      tls: {{ {ca}, {pair} }}\n")),
        sink("scram", &said, "exactly_once", &format!("      tls: {{ {ca} }}\n{}", password("SCRAM-SHA-512", "sluice", &scram))),
        sink("plain", &said, "at_least_once", &format!("      tls: {{ {ca} }}\n{}", password("PLAIN", "plain", &plain))),
        sink(
            "bearer",
            &said,
            "exactly_once",
            &format!("      tls: {{ {ca} }}\n      sasl: {{ mechanism: OAUTHBEARER, token_file: {} }}\n", bearer.display()),
        ),
    ];
    let mut sluice = Sluice::prepare_with(&scratch, &format!("sasl-{}", fastrand::u32(..)), &sinks.concat(), None);
    sluice.up();
    let running = Sender { group: "g".to_owned(), replica: "a".to_owned(), series: 20, interval: 250, offset: 0 }.start(sluice.address());
    let flows = |name: &str| {
        let before = shown(&sluice, name)["delivered"].as_u64().unwrap_or_default();
        eventually(LONG, &format!("{name} to deliver"), || {
            let sink = shown(&sluice, name);
            if sink["delivered"].as_u64().unwrap_or_default() > before + 40 { Ok(()) } else { Err(sink.to_string()) }
        });
    };
    wait_said(&sluice, "plain", "not_let_in");
    put(&plain, "first\n");
    names.iter().for_each(|name| flows(name));

    // A key that is none changes nothing; a certificate with its key makes a new client, and so does a password.
    let words = "the files of TLS or SASL have changed";
    let before = log_says(&sluice, words);
    put(&authority.key(), "nonsense\n");
    wait_said(&sluice, "mutual", "new_files");
    flows("mutual");
    assert_eq!(log_says(&sluice, words), before);
    authority.renew();
    kafka.change_password("second");
    put(&scram, "second\n");
    put(&bearer, &token(600));
    eventually(LONG, "new clients", || {
        if log_says(&sluice, words) >= before + 2 { Ok(()) } else { Err(log_says(&sluice, words).to_string()) }
    });
    // Whoever connects now must show what is good now.
    kafka.down();
    kafka.up();
    names.iter().for_each(|name| flows(name));

    let account = running.stop();
    assert_eq!(account.refused, Vec::<String>::new());
    for topic in names {
        // The broker's death may repeat what was under way, where there are no transactions.
        let repeats = ["mutual", "plain"].contains(&topic);
        Expected { repeats, ..Expected::all(&account.acknowledged) }.arrives(&kafka, topic, &|_| true);
    }
    sluice.stop();
}
