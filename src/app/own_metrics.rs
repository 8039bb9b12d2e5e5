//! sluice's own metrics, through its own sinks: what `/metrics` says every 15 seconds becomes samples of the group `sluice`, so that whoever has the sinks' data
//! sees how the way there is, without a scraper.
//!
//! Offered as anybody's request is, after unpacking: the same bounds, the same log. Without a replica's label, since each node says something else. They cannot
//! feed on themselves: what a round brings depends on how many groups, sinks and shards there are, never on how many samples flow, and a round is bounded.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::app::sinks::SinkSet;
use crate::clock;
use crate::ingest::Ingest;
use crate::node::Handle;
use crate::telemetry::Telemetry;
use crate::telemetry::exposition;
use crate::wire::encode::Encoder;
use crate::wire::encode::NewSeries;
use crate::wire::encode::Sample;
use crate::wire::pack;
use crate::wire::remote_write::Protocol;

/// The group.
pub const GROUP: &str = "sluice";
/// Between two rounds.
const EVERY: Duration = Duration::from_secs(15);
/// The first one comes sooner, so that somebody who tries it sees it.
const FIRST: Duration = Duration::from_secs(3);
/// Samples of a round: a thousand groups are some twelve thousand.
const MOST: usize = 30_000;
/// Samples of a request.
const A_REQUEST: usize = 5_000;

/// Whose they are.
#[derive(Clone, Debug)]
pub struct Who {
    /// Label `instance`: the node's name, or where it listens.
    pub instance: String,
    /// Label `node`: its id.
    pub node: String,
}

/// Runs until `stop`.
pub async fn keep(ingest: Arc<Ingest<Handle>>, sinks: Arc<SinkSet>, (telemetry, who): (Telemetry, Who), mut stop: watch::Receiver<bool>) {
    let mut wait = FIRST;
    let mut told = false;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = EVERY;
        // Without a sink nobody would ever see them.
        if sinks.is_empty() {
            continue;
        }
        let (requests, left_out) = requests(&telemetry.render(), &who, clock::wall_ms());
        if left_out > 0 && !std::mem::replace(&mut told, true) {
            tracing::warn!(left_out, most = MOST, "there are more own metrics than are sent through the sinks");
        }
        for request in requests {
            if let Err(text) = ingest.take_own(request, GROUP).await {
                // The next round says more than this one would, sent again.
                tracing::debug!("own metrics were not taken: {text}");
                break;
            }
        }
    }
}

/// A round as packed requests, and how many samples are in none.
fn requests(exposition: &str, who: &Who, now_ms: i64) -> (Vec<Bytes>, usize) {
    let (mut done, mut all, mut open) = (Vec::new(), 0, 0);
    let mut encoder = Encoder::new(Protocol::V2);
    exposition::read(exposition, &mut |name, own, value| {
        all += 1;
        if all > MOST {
            return;
        }
        let mut labels = vec![("__name__", name), ("instance", &*who.instance), ("job", GROUP), ("node", &*who.node)];
        let ours = labels.len();
        let taken = |name: &str| ["instance", "job", "node"].contains(&name);
        labels.extend(own.iter().filter(|(name, value)| !taken(name) && !value.is_empty()).map(|(name, value)| (&**name, &**value)));
        debug_assert!(labels.len() <= ours + own.len());
        labels.sort_unstable();
        encoder.push(&NewSeries { labels: &labels, samples: &[Sample::new(now_ms, value)], ..NewSeries::default() });
        open += 1;
        if open == A_REQUEST {
            done.push(packed(std::mem::replace(&mut encoder, Encoder::new(Protocol::V2))));
            open = 0;
        }
    });
    if open > 0 {
        done.push(packed(encoder));
    }
    (done, all.saturating_sub(MOST))
}

fn packed(mut encoder: Encoder) -> Bytes {
    let (mut raw, mut packed) = (Vec::new(), Vec::new());
    encoder.finish(&mut raw);
    pack::pack_snappy(&raw, &mut packed);
    packed.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pack::Bounds;
    use crate::wire::pack::Packing;
    use crate::wire::remote_write::Limits;
    use crate::wire::remote_write::Walker;

    #[test]
    fn a_round_is_bounded_and_every_sample_says_whose_it_is() {
        let who = Who { instance: "mon1".into(), node: "00ff".into() };
        let text: String = (0..MOST + 7).map(|number| format!("sluice_x{{group=\"g{number}\",job=\"theirs\"}} {number}\n")).collect();
        let (requests, left_out) = requests(&text, &who, 1000);
        assert_eq!((requests.len(), left_out), (MOST / A_REQUEST, 7));
        let mut raw = Vec::new();
        pack::unpack(Packing::Snappy, &requests[0], Bounds::default(), &mut raw).unwrap();
        let mut seen = 0;
        let walked = Walker::new(0).walk(Protocol::V2, &raw, &Limits::default(), &mut |series| {
            assert_eq!(["instance", "job", "node"].map(|name| series.label(name)), [Some("mon1"), Some("sluice"), Some("00ff")]);
            assert_eq!((series.fault, series.points.len(), series.points[0].time), (None, 1, 1000));
            seen += 1;
        });
        assert_eq!((walked.unwrap().points, seen), (A_REQUEST, A_REQUEST));
    }
}
