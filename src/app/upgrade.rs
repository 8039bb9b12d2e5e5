//! From one version to the next: every node is restarted with it, one after the other, and the cluster stays at its feature level, so that the version
//! before can be started again. Then somebody finalises: here is what must hold before that.
//!
//! Left out on purpose: what a level is (`shard::level`).

use crate::api::upgrade::Knows;
use crate::api::upgrade::Upgrade;
use crate::app::cluster::Seen;
use crate::model::ShardId;
use crate::peer::link::Sight;
use crate::shard::command::Command;
use crate::shard::level;
use crate::shard::level::Levels;
use crate::shard::members::Role;

/// What is in the way of going to a level. Pure.
fn in_the_way(level: u64, members: &[Knows]) -> Vec<String> {
    let against = |member: &Knows| {
        let name = &member.name;
        let version = member.version.as_deref().unwrap_or("unknown");
        match (member.oldest, member.newest) {
            (Some(oldest), Some(newest)) if (oldest..=newest).contains(&level) => None,
            (_, Some(newest)) => {
                Some(format!("{name} runs {version}, which knows levels up to {newest}, not {level}: give it the later version first"))
            }
            _ => Some(format!("{name} cannot be reached, so nobody knows what it runs: start it, or `sluice cluster remove {name}`")),
        }
    };
    members.iter().filter_map(against).collect()
}

impl Seen {
    /// What the members' programs know. Whoever is leaving does not count.
    fn know(&self) -> Vec<Knows> {
        let of_node = self.node.get().map(|node| node.levels().1).unwrap_or(level::KNOWN);
        let own = self.common.id();
        let staying = self.roles().nodes.into_iter().filter(|node| node.role != Role::Leaving);
        let knows = |id: u64, name: String| {
            if id == own {
                let Levels { oldest, newest } = of_node;
                let version = Some(env!("CARGO_PKG_VERSION").to_owned());
                return Knows { name, version, oldest: Some(oldest), newest: Some(newest) };
            }
            match self.common.links().iter().find(|link| link.id() == Some(id)).map(|link| link.sight()) {
                Some(Sight::Greeted { hello, .. }) => {
                    let (oldest, newest) = hello.levels.unwrap_or((level::FIRST, level::FIRST));
                    Knows { name, version: Some(hello.version), oldest: Some(oldest), newest: Some(newest) }
                }
                _ => Knows { name, version: None, oldest: None, newest: None },
            }
        };
        staying.map(|node| knows(node.id, node.name)).collect()
    }

    /// For people.
    pub(super) fn upgrade_view(&self) -> Upgrade {
        let (level, levels) = self.node.get().map_or((level::FIRST, level::KNOWN), |node| node.levels());
        let nodes = self.know();
        Upgrade { level, newest: levels.newest, in_the_way: in_the_way(levels.newest, &nodes), nodes }
    }

    /// The cluster goes to this program's newest level; what is so now, or what is in the way.
    pub(super) async fn go_up(&self, who: &str) -> Result<String, Vec<String>> {
        let one = |why: String| vec![why];
        let node = self.node.get().ok_or_else(|| one("this node is only starting".to_owned()))?;
        let Upgrade { level, newest, in_the_way, .. } = self.upgrade_view();
        if level >= newest {
            return Ok(format!(
                "the cluster is at feature level {level} already, the newest that this version knows: there is nothing to finalise"
            ));
        }
        if !in_the_way.is_empty() {
            return Err(in_the_way);
        }
        let finalize = Command::Finalize { level: newest, by: who.to_owned() };
        node.propose(ShardId::CONTROL, finalize).await.map_err(|error| one(error.to_string()))?;
        tracing::info!(level = newest, who, "the upgrade is finalised");
        Ok(format!("the cluster is at feature level {newest} now; versions that do not know it cannot be started any more"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_must_be_there_and_know_the_level() {
        let knows = |name: &str, levels: Option<(u64, u64)>| Knows {
            name: name.into(),
            version: levels.map(|_| "0.2.0".into()),
            oldest: levels.map(|levels| levels.0),
            newest: levels.map(|levels| levels.1),
        };
        assert_eq!(in_the_way(2, &[knows("a", Some((1, 2))), knows("b", Some((2, 3)))]), Vec::<String>::new());
        let against = in_the_way(2, &[knows("a", Some((1, 2))), knows("b", Some((1, 1))), knows("c", None)]);
        assert!(against.len() == 2 && against[0].contains("b runs 0.2.0") && against[1].contains("c cannot be reached"), "{against:?}");
    }
}
