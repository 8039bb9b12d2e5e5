//! Which series count something, so that a difference of two of their samples means something: by the names that Prometheus' conventions give them, or by
//! selectors.
//!
//! A name is a convention and no proof: a gauge called `x_total` is taken for a counter, and the `_sum` of a histogram that observes negative values seems
//! to begin anew when it falls. Whoever knows better writes selectors.

use crate::relabel::selector::Selector;

/// What the names of counters end with; classic histograms and summaries are three kinds of counters.
const ENDINGS: [&str; 4] = ["_total", "_count", "_sum", "_bucket"];

/// The counters of which a sink asks how far they rose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// One of them takes the series; none written: the name decides.
    selectors: Vec<Selector>,
}

impl Counters {
    /// Those that these selectors take; without any, those that are called as counters are.
    pub fn new(selectors: Vec<Selector>) -> Counters {
        Counters { selectors }
    }

    /// Whether the series is one, whose labels `value` finds.
    pub fn takes<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> bool {
        if self.selectors.is_empty() {
            return value("__name__").is_some_and(|name| ENDINGS.iter().any(|ending| name.ends_with(ending)));
        }
        self.selectors.iter().any(|selector| selector.takes(&value))
    }
}

/// The counters of which any sink asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    each: Vec<Counters>,
    external: Vec<(String, String)>,
}

impl Asked {
    /// By these sinks; `external` are the labels that every series gets which lacks them.
    pub fn new(sinks: impl Iterator<Item = Counters>, external: &[(String, String)]) -> Asked {
        let mut asked = Asked { each: Vec::new(), external: external.to_vec() };
        for counters in sinks {
            if !asked.each.contains(&counters) {
                asked.each.push(counters);
            }
        }
        asked
    }

    /// Nobody asks.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// Whether somebody asks of the series whose labels `value` finds.
    pub fn takes<'v>(&'v self, value: impl Fn(&str) -> Option<&'v str>) -> bool {
        let value = |name: &str| value(name).or_else(|| found(&self.external, name));
        self.each.iter().any(|counters| counters.takes(value))
    }
}

/// The value of a label among pairs.
pub fn found<'v>(labels: &'v [(String, String)], name: &str) -> Option<&'v str> {
    labels.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(selectors: &[&str], labels: &[(&str, &str)]) -> bool {
        let counters = Counters::new(selectors.iter().map(|text| Selector::parse(text).unwrap()).collect());
        let external = [("dc".to_owned(), "nj1".to_owned())];
        let asked = Asked::new([counters.clone(), counters].into_iter(), &external);
        assert_eq!(asked.each.len(), 1);
        asked.takes(|name| labels.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    }

    #[test]
    fn a_name_decides_unless_selectors_do() {
        for (name, counts) in [("a_total", true), ("a_count", true), ("a_sum", true), ("a_bucket", true), ("total", false), ("up", false)] {
            assert_eq!(takes(&[], &[("__name__", name)]), counts, "{name}");
        }
        assert!(!takes(&[], &[("job", "a_total")]));
        assert!(takes(&["odd", "{job=\"a\"}"], &[("__name__", "odd")]) && takes(&["odd", "{job=\"a\"}"], &[("job", "a")]));
        assert!(!takes(&["odd"], &[("__name__", "a_total")]));
        assert!(takes(&["{dc=\"nj1\"}"], &[("__name__", "x")]) && !takes(&["{dc=\"nj1\"}"], &[("dc", "nj2")]), "external labels count");
        assert!(Asked::default().is_empty() && !Asked::default().takes(|_| Some("a_total")));
    }
}
