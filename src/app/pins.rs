//! What the file says of who leads: `groups.overrides[].pinned`, and how often leaders may change, carried to the shards.
//!
//! A pin is proposed when its group and replica are there, once for each time the file is read: at the start and at each reload. In
//! between an operator's `unpin` holds, because it is meant. A pin that leaves the file is lifted; one that no file named is left alone.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::groups::Groups;
use crate::dedup::detect::SwitchLimits;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::view::GroupView;
use crate::shard::command::Command;

/// How often groups that were not there are looked for.
const LOOK: Duration = Duration::from_secs(5);

/// What is still to be done, and what was done by us.
#[derive(Debug, Default)]
struct Pins {
    /// Group and replica, to be pinned as soon as both are there.
    open: BTreeMap<String, String>,
    /// Pinned because the file says so.
    ours: BTreeMap<String, String>,
    /// Groups whose pin has left the file.
    lift: Vec<String>,
}

/// One thing to propose.
#[derive(Debug, PartialEq, Eq)]
struct Act {
    shard: ShardId,
    group: String,
    replica: Option<String>,
}

impl Pins {
    /// The file was read.
    fn read(&mut self, groups: &Groups) {
        let wanted = groups.overrides.iter().filter_map(|special| Some((special.name.clone(), special.pinned.clone()?)));
        self.open = wanted.collect();
        self.lift = self.ours.keys().filter(|group| !self.open.contains_key(*group)).cloned().collect();
    }

    /// What can be done now, by what there is.
    fn due(&self, views: &[GroupView]) -> Vec<Act> {
        let mut acts = Vec::new();
        for view in views {
            let act = |replica| Act { shard: ShardId(view.shard), group: view.name.clone(), replica };
            match self.open.get(&view.name) {
                Some(replica) if view.replicas.iter().any(|known| known.name == *replica) => acts.push(act(Some(replica.clone()))),
                Some(_) => {}
                None if self.lift.contains(&view.name) => acts.push(act(None)),
                None => {}
            }
        }
        acts
    }

    /// It was committed.
    fn done(&mut self, act: &Act) {
        match &act.replica {
            Some(replica) => {
                self.open.remove(&act.group);
                self.ours.insert(act.group.clone(), replica.clone());
            }
            None => {
                self.lift.retain(|group| *group != act.group);
                self.ours.remove(&act.group);
            }
        }
    }
}

/// How often leaders may change.
fn limits(groups: &Groups) -> SwitchLimits {
    let special = groups.overrides.iter().filter_map(|special| Some((special.name.clone(), special.switches_per_hour? as usize)));
    SwitchLimits { usual: groups.switches_per_hour as usize, special: special.collect() }
}

/// Runs until `stop`, or until nobody can change the groups any more.
pub async fn keep(node: Handle, mut groups: watch::Receiver<Groups>, mut stop: watch::Receiver<bool>) {
    let mut pins = Pins::default();
    groups.mark_changed();
    loop {
        if groups.has_changed().unwrap_or(false) {
            let read = groups.borrow_and_update().clone();
            node.limit_switches(limits(&read));
            pins.read(&read);
        }
        for act in pins.due(&node.groups()) {
            let (group, replica) = (&act.group, act.replica.as_deref());
            match node.propose(act.shard, Command::Pin { group: group.clone(), replica: act.replica.clone() }).await {
                Ok(_) => {
                    tracing::info!(group, replica, "pinned, or not any more, as the file says");
                    pins.done(&act);
                }
                // It is tried again; the shard may have no leader at the moment.
                Err(error) => tracing::debug!(group, replica, %error, "could not be pinned yet"),
            }
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            changed = groups.changed() => match changed {
                Ok(()) => groups.mark_changed(),
                Err(_) => return,
            },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::groups::Override;
    use crate::node::view::ReplicaView;

    fn file(pins: &[(&str, &str)]) -> Groups {
        let special =
            |(name, replica): &(&str, &str)| Override { name: (*name).into(), pinned: Some((*replica).into()), ..Override::default() };
        Groups { overrides: pins.iter().map(special).collect(), ..Groups::default() }
    }

    fn group(name: &str, replicas: &[&str]) -> GroupView {
        let replicas = replicas.iter().map(|name| ReplicaView { name: (*name).into(), ..ReplicaView::default() }).collect();
        GroupView { name: name.into(), shard: 2, replicas, ..GroupView::default() }
    }

    fn act(group: &str, replica: Option<&str>) -> Act {
        Act { shard: ShardId(2), group: group.into(), replica: replica.map(Into::into) }
    }

    #[test]
    fn a_pin_waits_for_its_replica_and_is_proposed_once() {
        let mut pins = Pins::default();
        pins.read(&file(&[("g", "b")]));
        assert_eq!(pins.due(&[]), []);
        assert_eq!(pins.due(&[group("g", &["a"]), group("other", &["b"])]), []);
        let views = [group("g", &["a", "b"])];
        assert_eq!(pins.due(&views), [act("g", Some("b"))]);
        assert_eq!(pins.due(&views), [act("g", Some("b"))], "until it is committed");
        pins.done(&act("g", Some("b")));
        assert_eq!(pins.due(&views), [], "an operator's unpin holds until the file is read again");
        pins.read(&file(&[("g", "b")]));
        assert_eq!(pins.due(&views), [act("g", Some("b"))]);
    }

    #[test]
    fn a_pin_that_leaves_the_file_is_lifted_and_no_other() {
        let mut pins = Pins::default();
        let views = [group("g", &["a"]), group("by-hand", &["a"])];
        pins.read(&file(&[("g", "a")]));
        pins.done(&act("g", Some("a")));
        pins.read(&file(&[]));
        assert_eq!(pins.due(&views), [act("g", None)]);
        pins.done(&act("g", None));
        pins.read(&file(&[]));
        assert_eq!(pins.due(&views), []);
    }

    #[test]
    fn limits_are_the_files() {
        let mut groups = file(&[]);
        groups.switches_per_hour = 3;
        groups.overrides.push(Override { name: "g".into(), switches_per_hour: Some(1), ..Override::default() });
        let limits = limits(&groups);
        assert_eq!((limits.of("g"), limits.of("other")), (1, 3));
    }
}
