//! What passes, for `sluice tap`: requests at the door, and what apply decided, each with the body that says what the samples are.
//!
//! Bodies are unpacked here, on a blocking thread a batch, so whoever listens costs the way of the samples nothing but that.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::deps::Flow;
use crate::api::deps::Later;
use crate::api::deps::Mark;
use crate::api::deps::Part;
use crate::api::deps::Passing;
use crate::api::deps::Point;
use crate::api::deps::Tapped;
use crate::dedup::judged::Fate;
use crate::ingest::Ingest;
use crate::ingest::tap;
use crate::ingest::tap::Came;
use crate::model::tenant;
use crate::node::Handle;
use crate::node::fates;
use crate::node::fates::Batch;
use crate::wire::body::Body;
use crate::wire::digest::Digest;
use crate::wire::pack;
use crate::wire::pack::Bounds;

/// Opens what is asked for.
pub fn flows(node: &Handle, ingest: &Arc<Ingest<Handle>>) -> Arc<dyn Fn(Tapped) -> Box<dyn Flow> + Send + Sync> {
    let (node, ingest) = (node.clone(), Arc::clone(ingest));
    Arc::new(move |tapped| match tapped.point {
        Point::In => Box::new(AtDoor { listener: ingest.tap().listen(), group: tapped.group }) as Box<dyn Flow>,
        point => Box::new(OfShards { listener: node.fates(), node: node.clone(), point, group: tapped.group }),
    })
}

/// Of a node that takes nothing yet.
pub struct Silent;

impl Flow for Silent {
    fn next(&mut self) -> Later<'_, Option<Passing>> {
        Box::pin(std::future::ready(None))
    }
}

struct AtDoor {
    listener: tap::Listener,
    group: Option<String>,
}

impl Flow for AtDoor {
    fn next(&mut self) -> Later<'_, Option<Passing>> {
        Box::pin(async {
            let (came, missed) = self.listener.next().await?;
            if self.group.as_ref().is_some_and(|group| *group != came.group) {
                return Some(Passing { parts: Vec::new(), missed });
            }
            let parts = tokio::task::spawn_blocking(move || at_door(&came)).await.ok().flatten();
            Some(Passing { parts: parts.into_iter().collect(), missed })
        })
    }
}

fn at_door(came: &Came) -> Option<Part> {
    let mut raw = Vec::new();
    pack::unpack(came.packing, &came.body, Bounds::default(), &mut raw).ok()?;
    let digest = Digest::parse(&came.digest).ok()?;
    let reason = |number: u32| came.reasons.iter().find(|(at, _)| *at == number).map_or("at_the_door", |(_, refusal)| refusal.word());
    let mark = |number, refused| match refused {
        true => Mark { verdict: "refused", reason: reason(number) },
        false if came.told == "taken" => Mark { verdict: "taken", reason: "taken" },
        false => Mark { verdict: "put_off", reason: came.told },
    };
    let items = digest.iter().enumerate().map(|(number, item)| (number as u32, mark(number as u32, item.refused))).collect();
    // With the replica's label: as it came.
    let body = Arc::new(Body { protocol: came.protocol, raw, strip: Vec::new(), tenant: tenant::of(&came.group).to_owned() });
    Some(Part { group: came.group.clone(), replica: came.replica.clone(), body, items })
}

struct OfShards {
    listener: fates::Listener,
    node: Handle,
    point: Point,
    group: Option<String>,
}

impl Flow for OfShards {
    fn next(&mut self) -> Later<'_, Option<Passing>> {
        Box::pin(async {
            let (batch, batches) = self.listener.next().await?;
            let (node, point, group) = (self.node.clone(), self.point, self.group.clone());
            let passing = tokio::task::spawn_blocking(move || of_shard(&node, &batch, point, group.as_deref())).await;
            let passing = passing.unwrap_or_default();
            Some(Passing { missed: passing.missed + batches, ..passing })
        })
    }
}

/// Where a fate is shown, and how.
fn shown(fate: Fate) -> (Point, Mark) {
    let mark = |verdict, reason| Mark { verdict, reason };
    match fate {
        Fate::Passed { late: true, .. } => (Point::Passed, mark("passed", "late")),
        Fate::Passed { filled: true, .. } => (Point::Passed, mark("passed", "filled")),
        Fate::Passed { .. } => (Point::Passed, mark("passed", "leader")),
        Fate::Waiting => (Point::Waiting, mark("waiting", "standby")),
        Fate::Covered => (Point::Covered, mark("covered", "covered")),
        Fate::Repeated => (Point::Covered, mark("covered", "repeated")),
        Fate::Disbelieved => (Point::Covered, mark("refused", "ahead")),
        Fate::TooOld => (Point::Covered, mark("refused", "too_old")),
        Fate::Ninth => (Point::Covered, mark("refused", "ninth_replica")),
        Fate::AtDoor => (Point::Covered, mark("refused", "at_the_door")),
    }
}

fn of_shard(node: &Handle, batch: &Batch, point: Point, group: Option<&str>) -> Passing {
    let mut by_entry: BTreeMap<u64, Vec<(u32, Mark)>> = BTreeMap::new();
    for (entry, item, fate) in &batch.fates.list {
        let (at, mark) = shown(*fate);
        if at == point {
            by_entry.entry(*entry).or_default().push((*item, mark));
        }
    }
    let mut passing = Passing { parts: Vec::new(), missed: batch.fates.beyond };
    for (entry, mut items) in by_entry {
        items.sort_by_key(|(item, _)| *item);
        items.dedup_by_key(|(item, _)| *item);
        match node.sent(batch.shard, entry) {
            Ok(Some(sent)) if group.is_none_or(|group| group == sent.group) => {
                let mut replica = sent.replica;
                for (_, mark) in &mut items {
                    if replica.is_empty() && mark.reason == "leader" {
                        mark.reason = "no_replica";
                    }
                }
                passing.parts.push(Part { group: sent.group, replica: std::mem::take(&mut replica), body: sent.body, items });
            }
            Ok(Some(_)) => {}
            // It went, or is not on this node's disk yet, though a majority has it.
            Ok(None) | Err(_) => passing.missed += items.len() as u64,
        }
    }
    passing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fate_is_shown_somewhere_with_its_reason() {
        assert_eq!(shown(Fate::Passed { late: false, filled: true }).1, Mark { verdict: "passed", reason: "filled" });
        assert_eq!(shown(Fate::Passed { late: true, filled: true }).1, Mark { verdict: "passed", reason: "late" });
        assert_eq!(shown(Fate::Waiting).0, Point::Waiting);
        for fate in [Fate::Covered, Fate::Repeated, Fate::Disbelieved, Fate::TooOld, Fate::Ninth, Fate::AtDoor] {
            assert_eq!(shown(fate).0, Point::Covered, "{fate:?}");
        }
    }
}
