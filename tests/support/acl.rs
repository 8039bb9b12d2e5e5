//! Rights at a Kafka broker, granted and taken by Kafka's own requests (CreateAcls 30, DeleteAcls 31, version 1): the jars of a broker hold no
//! `kafka-acls.sh`, and the client library does not reach these. `Right::of_command` reads the lines that people would type.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// One `allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    pub user: String,
    /// Kafka's number: 2 topic, 3 group, 4 cluster, 5 transactional id.
    pub resource: u8,
    pub name: String,
    pub prefixed: bool,
    /// Kafka's number: 3 read, 4 write, 5 create, 8 describe, 12 idempotent write.
    pub operation: u8,
}

impl Right {
    /// The rights that a line `kafka-acls.sh --add ...` grants.
    pub fn of_command(line: &str) -> Vec<Right> {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[..2], ["kafka-acls.sh", "--add"], "{line}");
        let all = |flag: &str| {
            let at = words.iter().enumerate().filter(|(_, word)| **word == flag);
            at.map(|(at, _)| words[at + 1].to_owned()).collect::<Vec<_>>()
        };
        let user = all("--allow-principal").pop().expect("a principal");
        let prefixed = all("--resource-pattern-type") == ["prefixed"];
        let resources = [("--topic", 2), ("--group", 3), ("--transactional-id", 5)];
        let (resource, name) =
            resources.iter().find_map(|(flag, number)| Some((*number, all(flag).pop()?))).unwrap_or_else(|| panic!("no resource: {line}"));
        let operation = |word: String| match &*word {
            "Read" => 3,
            "Write" => 4,
            "Create" => 5,
            "Describe" => 8,
            other => panic!("operation {other}"),
        };
        let right = |word| Right { user: user.clone(), resource, name: name.clone(), prefixed, operation: operation(word) };
        all("--operation").into_iter().map(right).collect()
    }
}

/// Grants them.
pub fn grant(broker: &str, rights: &[Right]) {
    ask(broker, 30, rights);
}

/// Takes them away.
pub fn take(broker: &str, rights: &[Right]) {
    ask(broker, 31, rights);
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(i16::try_from(text.len()).expect("short").to_be_bytes());
    out.extend(text.as_bytes());
}

/// A right is written the same way in both requests: as what is made, and as a filter that matches it alone.
fn ask(broker: &str, request: i16, rights: &[Right]) {
    let mut out = Vec::new();
    for number in [request, 1] {
        out.extend(number.to_be_bytes());
    }
    out.extend(7_i32.to_be_bytes());
    text(&mut out, "test");
    out.extend(i32::try_from(rights.len()).expect("few").to_be_bytes());
    for right in rights {
        out.push(right.resource);
        text(&mut out, &right.name);
        out.push(if right.prefixed { 4 } else { 3 });
        text(&mut out, &right.user);
        text(&mut out, "*");
        // 3: allow.
        out.extend([right.operation, 3]);
    }
    let mut stream = TcpStream::connect(broker).expect("the broker");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    stream.write_all(&u32::try_from(out.len()).expect("short").to_be_bytes()).expect("the broker");
    stream.write_all(&out).expect("the broker");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).expect("an answer");
    // Correlation, throttle, how many results; then each begins with an error code, of which the first one says enough.
    assert_eq!(answer[8..12], i32::try_from(rights.len()).expect("few").to_be_bytes(), "{answer:?}");
    assert_eq!(answer[12..14], [0, 0], "{}", String::from_utf8_lossy(&answer));
}
