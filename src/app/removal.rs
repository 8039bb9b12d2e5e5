//! A node that was removed from its cluster while it was away, or that somebody started again: the others take nothing from it, so it would wait for
//! ever for leaders. It is told so with every greeting, and says it: on its page, to `sluice cluster status`, in the log.
//!
//! Believed only after some seconds in which nobody said otherwise: whoever was just admitted may reach a node that has not heard of it yet.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::watch;

use crate::api::cluster::Node as NodeView;
use crate::api::deps::Problem;
use crate::api::deps::Severity;
use crate::app::cluster::Seen;
use crate::app::cluster::problem;
use crate::clock;
use crate::peer::link::Sight;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// So long nobody may have said otherwise.
const BELIEVED: Duration = Duration::from_secs(5);

const TEXT: &str = "this node was removed from the cluster: the others take nothing from it, and it waits for nothing any more";
const REMEDY: &str = "stop it for good; to let it in again give it an empty data_dir, `sluice cluster join BUNDLE`, start it, and `sluice cluster add` it (or `replace`) on \
                      another node";

/// Since when all who were heard say so.
#[derive(Debug, Default)]
struct Removal {
    since: Option<Instant>,
}

impl Removal {
    /// Whether it is to be believed, by what those who answer said last.
    fn look(&mut self, said: &[String], now: Instant) -> bool {
        if said.is_empty() || said.iter().any(|said| said != "removed") {
            // Nobody there is no news: what was believed stays, what was not begins anew.
            self.since = self.since.filter(|since| said.is_empty() && now.saturating_duration_since(*since) >= BELIEVED);
        } else if self.since.is_none() {
            self.since = Some(now);
        }
        self.since.is_some_and(|since| now.saturating_duration_since(since) >= BELIEVED)
    }
}

/// Listens to what the others say, until the end.
pub async fn watch(seen: Arc<Seen>, mut stop: watch::Receiver<bool>) {
    let mut removal = Removal::default();
    loop {
        let removed = removal.look(&seen.what_others_say(), clock::now());
        if removed && !seen.removed.swap(removed, Ordering::AcqRel) {
            tracing::error!("{TEXT}. {REMEDY}");
        }
        seen.removed.store(removed, Ordering::Release);
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

impl Seen {
    fn what_others_say(&self) -> Vec<String> {
        if self.common.charter().is_none() {
            return Vec::new();
        }
        let said = |link: &Arc<crate::peer::link::Link>| match link.sight() {
            Sight::Greeted { hello, .. } => hello.you_are,
            Sight::Unreachable(_) => None,
        };
        self.common.links().iter().filter_map(said).collect()
    }

    /// In a sentence, with what to do; `None`: it was not removed.
    pub fn removed(&self) -> Option<String> {
        self.removed.load(Ordering::Acquire).then(|| format!("{TEXT}; {REMEDY}"))
    }

    pub(super) fn removal_problem(&self) -> Option<Problem> {
        self.removed().map(|_| problem(Severity::Error, "removed", "this node".to_owned(), TEXT.to_owned(), REMEDY))
    }
}

/// A node that is no member and waits, or was one and still runs. Pure.
pub(super) fn stranger(node: &NodeView, own_cluster: Option<&str>) -> Option<Problem> {
    if node.role.as_deref() != Some("stranger") || node.state == "this" {
        return None;
    }
    let about = format!("node {}", node.name);
    if node.cluster.is_some() && node.cluster.as_deref() == own_cluster {
        let text = "it was removed from the cluster and still runs".to_owned();
        let remedy = format!("stop it, and take {} out of cluster.nodes on all nodes", node.name);
        return Some(problem(Severity::Warning, "removed", about, text, &remedy));
    }
    let text = "it is not part of the cluster: it waits to be admitted".to_owned();
    let name = &node.name;
    let remedy =
        format!("`sluice cluster replace {name}` if it takes the place of the node that had its name, else `sluice cluster add {name}`");
    Some(problem(Severity::Warning, "not_admitted", about, text, &remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_believed_when_nobody_says_otherwise_for_some_seconds() {
        let (mut removal, start) = (Removal::default(), clock::now());
        let mut look = |ms: u64, said: &[&str]| {
            let said: Vec<String> = said.iter().map(|word| (*word).to_owned()).collect();
            removal.look(&said, start + Duration::from_millis(ms))
        };
        assert!(!look(0, &["removed", "removed"]));
        assert!(!look(4_000, &["removed", "member"]), "one of them has not heard of it yet, or the other one not of its coming");
        assert!(!look(5_000, &["removed"]));
        assert!(!look(9_000, &["removed"]));
        assert!(look(10_000, &["removed"]));
        assert!(look(11_000, &[]), "nobody there: it stays removed");
        assert!(!look(12_000, &["member"]));
        assert!(!look(13_000, &[]));
    }

    #[test]
    fn whoever_was_a_member_is_not_said_to_wait() {
        let node = |cluster: Option<&str>| NodeView {
            name: "c".into(),
            state: "connected".into(),
            role: Some("stranger".into()),
            cluster: cluster.map(str::to_owned),
            ..NodeView::default()
        };
        let code = |node: NodeView| stranger(&node, Some("x")).map(|problem| problem.code);
        assert_eq!(code(node(Some("x"))).as_deref(), Some("removed"));
        assert_eq!(code(node(None)).as_deref(), Some("not_admitted"));
        assert_eq!(code(NodeView { role: Some("member".into()), ..node(Some("x")) }), None);
    }
}
