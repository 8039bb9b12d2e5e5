//! What ingest has seen, in the words of the API: who sends, and which series.

use std::sync::Arc;

use crate::api::deps::Census;
use crate::api::deps::LastRefusal;
use crate::api::deps::RemoteSender;
use crate::api::deps::Sampled;
use crate::api::deps::SampledSeries;
use crate::api::deps::Who;
use crate::ingest::Ingest;
use crate::ingest::census::Shown;
use crate::ingest::senders::Sender;
use crate::node::Handle;
use crate::wire::remote_write::Protocol;

/// Who has written to this node.
pub fn senders(ingest: &Arc<Ingest<Handle>>) -> Arc<Who> {
    let ingest = Arc::clone(ingest);
    Arc::new(move |now_ms| {
        let all = ingest.senders().all();
        all.into_iter().map(|(group, replica, sender)| shown((group, replica), sender, now_ms)).collect()
    })
}

fn shown((group, replica): (String, String), sender: Sender, now_ms: i64) -> RemoteSender {
    let known = !group.is_empty();
    RemoteSender {
        // Without a group what stands in the replica's place is the address.
        replica: if known { replica } else { String::new() },
        group,
        address: sender.address.to_string(),
        agent: sender.agent.clone(),
        protocol: sender.protocol.map(|protocol| if protocol == Protocol::V1 { "1.0" } else { "2.0" }.to_owned()),
        samples_per_second: (sender.points_per_second(now_ms) * 10.0).round() / 10.0,
        lag_ms: sender.newest.map(|newest| sender.last_ms - newest),
        last_seen: sender.last_ms,
        connections: sender.connections.len() as u64,
        requests: sender.requests,
        samples: sender.taken,
        refused: sender.refused,
        repeated: sender.repeated,
        put_off: sender.put_off,
        missing: sender.missing.map(str::to_owned),
        last_refusal: sender.told.map(|told| LastRefusal { at: told.at_ms, status: told.status, text: told.text }),
    }
}

/// The series of groups, by sample.
pub fn census(ingest: &Arc<Ingest<Handle>>) -> Arc<Census> {
    let ingest = Arc::clone(ingest);
    Arc::new(move |group| {
        let census = ingest.census();
        let all = group.map_or_else(|| census.all(), |group| census.show(group).into_iter().collect());
        all.into_iter().map(sampled).collect()
    })
}

fn sampled(shown: Shown) -> Sampled {
    let series = shown.series.into_iter().map(|(hash, series)| SampledSeries {
        hash,
        labels: series.labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        first: series.first_ms,
        fresh: series.fresh,
    });
    Sampled { group: shown.group, since: shown.since_ms, below: shown.below, series: series.collect() }
}
