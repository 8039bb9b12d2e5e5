//! `query_response:` of a module: what is waited for and what is said over a connection, step by step.

use crate::config::probe::pattern;
use crate::config::probe::switch;
use crate::config::read::Node;
use crate::config::values;

/// A step; its parts are done in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Lines are read until this matches one.
    pub expect: Option<String>,
    /// Exactly these bytes are waited for.
    pub expect_bytes: Option<Vec<u8>>,
    /// Labels of `probe_expect_info`, made of what matched.
    pub labels: Vec<(String, String)>,
    /// Sent, with a line feed behind it.
    pub send: Option<Vec<u8>>,
    /// TLS from here on.
    pub starttls: bool,
}

/// Reads the list.
pub fn read(node: &Node<'_>) -> Vec<Step> {
    node.list().iter().map(step).collect()
}

fn step(node: &Node<'_>) -> Step {
    let section = node.section();
    let mut step = Step {
        expect: section.get("expect").filter(|node| !node.is_empty()).and_then(|node| node.value(pattern)),
        expect_bytes: section.get("expect_bytes").filter(|node| !node.is_empty()).and_then(|node| node.bytes()),
        send: section.get("send").filter(|node| !node.is_empty()).and_then(|node| node.bytes()).filter(|bytes| !bytes.is_empty()),
        starttls: section.or("starttls", false, switch),
        labels: Vec::new(),
    };
    for label in section.get("labels").map(|node| node.list()).unwrap_or_default() {
        let pair = label.section();
        let name = pair.must("name", "write the label's name", values::label);
        let value = pair.get("value").and_then(|node| if node.is_empty() { None } else { node.text() }).unwrap_or_default();
        pair.finish();
        step.labels.extend(name.map(|name| (name, value.to_owned())));
    }
    if let Some(node) = section.get("expect_bytes").filter(|_| step.expect.is_some() && step.expect_bytes.is_some()) {
        node.complain("stands beside expect", "keep one of the two, or write two steps");
    }
    section.finish();
    step
}
