//! What looks wrong about how a group is set up, with a remedy. Hints, not alarms: each may be as its owner wants it, and none loses a
//! sample. What is seen is seen by the detector of the group's shard leader (`dedup::detect::doctor`), ten minutes after it began to watch.

use serde::Serialize;

use crate::dedup::detect::doctor::Oddity;
use crate::model::tenant;
use crate::node::view::GroupView;

/// Something that looks wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hint {
    /// A short fixed word.
    pub code: &'static str,
    /// What is seen.
    pub text: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// All hints about a group.
pub fn hints(view: &GroupView) -> Vec<Hint> {
    if tenant::is_no_group(&view.name) {
        return vec![Hint {
            code: "unidentified",
            text: "these series do not say which pair they come from, so nothing can be deduplicated".into(),
            remedy: "give each Prometheus external_labels with the group's and the replica's name (docs/senders.md)",
        }];
    }
    view.oddities.iter().map(hint).collect()
}

/// Whether its replicas' names change at each restart: then those that are gone are no news.
pub fn renames(view: &GroupView) -> bool {
    view.oddities.iter().any(|oddity| matches!(oddity, Oddity::NameChanges { .. }))
}

fn hint(oddity: &Oddity) -> Hint {
    let (code, remedy) = match oddity {
        Oddity::OneReplica { .. } => ("one_replica", "start its twin, with the same external_labels but for the replica's name"),
        Oddity::HardlyOverlap { .. } => (
            "hardly_overlap",
            "give both the same scrape configuration and labels; if they watch different targets, give them different group names",
        ),
        Oddity::NameChanges { .. } => {
            ("name_changes", "use a stable name as replica label: a StatefulSet's pod name, not a Deployment's or a container's id")
        }
        Oddity::SharesSeries { .. } => {
            ("shares_series", "if they are one pair, give both the same group label; only the replica label may differ")
        }
    };
    Hint { code, text: oddity.to_string(), remedy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NO_GROUP;

    #[test]
    fn each_oddity_has_its_word_and_a_remedy() {
        let oddities = vec![
            Oddity::OneReplica { replica: "a".into() },
            Oddity::HardlyOverlap { one: "a".into(), other: "b".into(), percent: 3 },
            Oddity::NameChanges { names: 8, active: 2, refused: 9 },
            Oddity::SharesSeries { with: "other".into(), percent: 97 },
        ];
        let mut view = GroupView { name: "g".into(), oddities, ..GroupView::default() };
        let codes: Vec<&str> = hints(&view).iter().map(|hint| hint.code).collect();
        assert_eq!(codes, ["one_replica", "hardly_overlap", "name_changes", "shares_series"]);
        assert!(hints(&view)[3].text.contains("group other") && renames(&view));
        view.oddities.remove(2);
        assert!(!renames(&view));
    }

    #[test]
    fn samples_of_no_group_say_which_labels_are_missing() {
        let view = GroupView { name: NO_GROUP.into(), ..GroupView::default() };
        assert!(hints(&view)[0].remedy.contains("external_labels"));
    }
}
