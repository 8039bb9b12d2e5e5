//! What a query wants to see, in Alertmanager's parameters. Unknown ones mean nothing; a word that is no yes is a no, as its server has it.

use crate::alert::matcher;
use crate::alert::matcher::Matcher;
use crate::alert::matcher::Op;
use crate::api::alerting::Status;
use crate::model::labels::Labels;

/// The parameters of all lists; each list looks at its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// What is neither silenced nor inhibited; of silences: those that hold.
    pub active: bool,
    /// What is silenced.
    pub silenced: bool,
    /// What is inhibited.
    pub inhibited: bool,
    /// Groups that a time interval mutes.
    pub muted: bool,
    /// Silences to come.
    pub pending: bool,
    /// Silences that are over.
    pub expired: bool,
    /// All must hold for the labels; of silences: each must be one of its matchers.
    pub matchers: Vec<Matcher>,
    /// One of the receivers' names must fit.
    pub receiver: Option<Matcher>,
    /// All must hold for the labels of one receiver.
    pub receiver_matchers: Vec<Matcher>,
}

/// Words that mean yes.
const YES: [&str; 10] = ["true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled"];

impl Filter {
    /// Of a query; the error says what is wrong with it.
    pub fn of(query: &str) -> Result<Filter, String> {
        let mut filter = Filter {
            active: true,
            silenced: true,
            inhibited: true,
            muted: true,
            pending: true,
            expired: true,
            matchers: Vec::new(),
            receiver: None,
            receiver_matchers: Vec::new(),
        };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let switch = match &*key {
                "active" => &mut filter.active,
                "silenced" => &mut filter.silenced,
                "inhibited" => &mut filter.inhibited,
                "muted" => &mut filter.muted,
                "pending" => &mut filter.pending,
                "expired" => &mut filter.expired,
                "filter" => {
                    filter.matchers.push(matcher::one(&value)?);
                    continue;
                }
                "receiver" => {
                    let pattern = Matcher::new("receiver", Op::Matches, &*value);
                    filter.receiver = Some(pattern.map_err(|why| format!("failed to parse receiver param: {why}"))?);
                    continue;
                }
                "receiver_matchers" => {
                    let found = matcher::one(&value);
                    filter.receiver_matchers.push(found.map_err(|why| format!("failed to parse receiver_matchers param: {why}"))?);
                    continue;
                }
                _ => continue,
            };
            if !value.is_empty() {
                *switch = YES.iter().any(|word| word.eq_ignore_ascii_case(&value));
            }
        }
        Ok(filter)
    }

    /// Whether labels of receivers are asked for.
    pub fn asks_receivers(&self) -> bool {
        !self.receiver_matchers.is_empty()
    }

    /// Whether an alert's labels fit.
    pub fn fits(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches(labels))
    }

    /// Whether a receiver fits, by its name and by its labels as `status` has them.
    pub fn fits_receiver(&self, name: &str, status: &Status) -> bool {
        let by_name = self.receiver.as_ref().is_none_or(|pattern| pattern.takes(name));
        let by_labels = || {
            let known = status.receivers.iter().find(|receiver| receiver.name == name);
            known.is_some_and(|receiver| self.fits_labels(&receiver.labels))
        };
        by_name && (self.receiver_matchers.is_empty() || by_labels())
    }

    /// Whether a receiver's labels fit.
    pub fn fits_labels(&self, labels: &Labels) -> bool {
        self.receiver_matchers.iter().all(|matcher| matcher.matches(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_alertmanager_reads_it() {
        let all = Filter::of("").unwrap();
        assert!(all.active && all.silenced && all.inhibited && all.muted && all.pending && all.expired);
        let some =
            Filter::of("active=false&silenced=TRUE&inhibited=what&muted=&filter=a%3D%22b%22&filter=c!~d&receiver=team-.*&x=y").unwrap();
        assert!(!some.active && some.silenced && !some.inhibited && some.muted);
        assert_eq!(some.matchers.iter().map(ToString::to_string).collect::<Vec<_>>(), [r#"a="b""#, r#"c!~"d""#]);
        let status = Status::default();
        assert!(some.fits_receiver("team-db", &status) && !some.fits_receiver("the team-db", &status));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(Filter::of("filter=a").unwrap_err(), "bad matcher format: a");
        assert!(Filter::of("receiver=(").unwrap_err().starts_with("failed to parse receiver param: "));
        let wrong = Filter::of("receiver_matchers=a=b&receiver_matchers=x").unwrap_err();
        assert_eq!(wrong, "failed to parse receiver_matchers param: bad matcher format: x");
    }
}
