//! The history of alerts on its way to a Kafka topic (`alerting.history.kafka`): a record for each episode that is closed, from the node that leads the control shard,
//! at least once. How far it came is noted in the book, so another leader, or a restart, goes on from there; what was sent and not noted is sent once more, with
//! the same number.
//!
//! Left out on purpose: what a record says (`api::history`), and Kafka itself (`forward`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::alert::episode::Closed;
use crate::api::history;
use crate::app::alerting::Alerting;
use crate::app::alerting::lock;
use crate::app::check;
use crate::config::sinks::Kafka;
use crate::forward::kafka::Identity;
use crate::forward::kafka::few::Few;
use crate::forward::kafka::few::Record;
use crate::node::Handle;
use crate::shard::alerting::Change;

/// Between two looks whether there is something new.
const LOOK: Duration = Duration::from_secs(1);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(5);
/// Records that are confirmed at once.
const AT_ONCE: usize = 500;
/// Towards Kafka this is its name, as a sink has one.
const NAME: &str = "alert-history";

/// What was sent: the number of the last one, and how many before it this node has not.
struct Sent {
    last: u64,
    missing: u64,
}

/// Sends until `stop`.
pub async fn keep(alerting: Arc<Alerting>, mut stop: watch::Receiver<bool>) {
    let mut few: Option<(Kafka, Few)> = None;
    let mut wait = LOOK;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = LOOK;
        let written = alerting.current().and_then(|current| current.written.kafka.clone());
        let Some(written) = written.filter(|_| alerting.node.leads_control()) else {
            few = None;
            *lock(&alerting.unexported) = None;
            continue;
        };
        let known = few.take().filter(|(of, _)| *of == written);
        let (of, mut sender) = match known.map_or_else(|| alerting.sender_to(&written).map(|few| (written, few)), Ok) {
            Ok(known) => known,
            Err(why) => {
                alerting.note_unexported(Some(why));
                wait = AGAIN;
                continue;
            }
        };
        let (node, after) = (alerting.node.clone(), alerting.node.book().ledger().exported());
        let sent = tokio::task::spawn_blocking(move || {
            let sent = send(&node, &mut sender, after);
            (sender, sent)
        });
        // A call that is under way when the node stops is left to itself: it is over within half a minute, and sent once more.
        let sent = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            sent = sent => sent,
        };
        let Ok((sender, sent)) = sent else { continue };
        few = Some((of, sender));
        match sent {
            Ok(None) => alerting.note_unexported(None),
            Ok(Some(Sent { last, missing })) => {
                if missing > 0 {
                    tracing::warn!(missing, "episodes of alerts that this node never had are not sent to Kafka");
                }
                alerting.note_unexported(None);
                let _ = alerting.note(Change::Exported(last)).await;
                wait = Duration::ZERO;
            }
            Err(why) => {
                alerting.note_unexported(Some(why));
                wait = AGAIN;
            }
        }
    }
}

/// Sends what is behind a number, as far as this node has it.
fn send(node: &Handle, few: &mut Few, after: u64) -> Result<Option<Sent>, String> {
    let closed = node.history_behind(after, AT_ONCE).map_err(|error| format!("the history cannot be read: {}", error.0))?;
    let Some(last) = closed.last().map(|closed| closed.number) else { return Ok(None) };
    let missing = last - after - closed.len() as u64;
    let record = |closed: Closed| {
        let key = format!("{:016x}", closed.episode.alert.fingerprint());
        Record { key, payload: history::record(closed.number, closed.episode).to_string() }
    };
    let records: Vec<Record> = closed.into_iter().map(record).collect();
    few.send(&records).map_err(|trouble| trouble.to_string())?;
    Ok(Some(Sent { last, missing }))
}

impl Alerting {
    fn sender_to(&self, written: &Kafka) -> Result<Few, String> {
        let settings = check::topic(written).map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        let identity = Identity { cluster: self.name.clone(), sink: NAME.to_owned(), shard: 0, seal: self.node.cluster_id() };
        Ok(Few::new(settings, identity, Some(tokio::runtime::Handle::current())))
    }

    fn note_unexported(&self, why: Option<String>) {
        let before = std::mem::replace(&mut *lock(&self.unexported), why.clone());
        match (why, before) {
            (Some(why), before) if before.as_ref() != Some(&why) => {
                tracing::warn!("the history of alerts does not reach Kafka, it is tried again: {why}")
            }
            (None, Some(_)) => tracing::info!("the history of alerts reaches Kafka again"),
            _ => {}
        }
    }
}
