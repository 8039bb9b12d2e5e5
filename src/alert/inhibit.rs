//! Inhibition: an alert is not told while another one explains it.
//!
//! As Alertmanager documents it (an alert that is both source and target of a rule is not inhibited by others that are both), and not as its index from 0.30 to
//! 0.34.0 did, which knew one source for each set of equal labels.

use crate::alert::matcher::Matchers;
use crate::alert::value;
use crate::config::routing::Place;
use crate::model::labels::Labels;

/// A rule.
#[derive(Clone, Debug)]
pub struct Inhibition {
    /// Where it stands.
    pub place: Place,
    /// What inhibits.
    pub source: Matchers,
    /// What is inhibited.
    pub target: Matchers,
    /// Labels that must be equal; one that neither has is equal.
    pub equal: Vec<String>,
}

impl Inhibition {
    /// Whether `source`, while it fires, keeps `target` from being told.
    pub fn applies(&self, source: &Labels, target: &Labels) -> bool {
        self.target.matches(target)
            && self.source.matches(source)
            && !(self.source.matches(target) && self.target.matches(source))
            && self.equal.iter().all(|name| value(source, name) == value(target, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::matcher::read;

    fn rule(source: &str, target: &str, equal: &[&str]) -> Inhibition {
        let matchers = |text: &str| Matchers::new(read(text).unwrap().matchers);
        let equal = equal.iter().map(|name| (*name).to_owned()).collect();
        Inhibition { place: Place::default(), source: matchers(source), target: matchers(target), equal }
    }

    fn labels(text: &str) -> Labels {
        read(text).unwrap().matchers.into_iter().map(|matcher| (matcher.name, matcher.value)).collect()
    }

    #[test]
    fn a_source_inhibits_what_is_equal() {
        let rule = rule("severity=critical", "severity=~\"warning|info\"", &["cluster", "service"]);
        let source = labels("severity=critical,cluster=a,service=x");
        assert!(rule.applies(&source, &labels("severity=warning,cluster=a,service=x")));
        assert!(!rule.applies(&source, &labels("severity=warning,cluster=b,service=x")));
        assert!(!rule.applies(&source, &labels("severity=warning,cluster=a")));
        assert!(!rule.applies(&labels("severity=warning,cluster=a,service=x"), &labels("severity=info,cluster=a,service=x")));
        // Labels that neither has are equal.
        assert!(rule.applies(&labels("severity=critical"), &labels("severity=info")));
    }

    #[test]
    fn what_is_both_is_not_inhibited_by_what_is_both() {
        let rule = rule("a=1", "b=2", &[]);
        let (both, only_source) = (labels("a=1,b=2"), labels("a=1"));
        assert!(!rule.applies(&both, &both) && rule.applies(&only_source, &both) && rule.applies(&both, &labels("b=2")));
    }
}
