//! Rules in an order, of which the first that fits an alert counts; found without trying all (`sought`).

use crate::alert::matcher;
use crate::alert::matcher::Matcher;
use crate::alert::sought::Sought;
use crate::config::policies::Matching;
use crate::config::read::Problem;
use crate::model::labels::Labels;

/// Rules with what each says.
#[derive(Clone, Debug)]
pub struct Listed<T> {
    rules: Vec<(Vec<Matcher>, T)>,
    sought: Sought<usize>,
}

impl<T> Default for Listed<T> {
    fn default() -> Listed<T> {
        Listed { rules: Vec::new(), sought: Sought::default() }
    }
}

impl<T: PartialEq> PartialEq for Listed<T> {
    fn eq(&self, other: &Listed<T>) -> bool {
        self.rules == other.rules
    }
}

impl<T: Eq> Eq for Listed<T> {}

impl<T> Listed<T> {
    /// In this order; matchers that are none fit every alert.
    pub fn new(rules: Vec<(Vec<Matcher>, T)>) -> Listed<T> {
        let mut sought = Sought::default();
        rules.iter().enumerate().for_each(|(number, (matchers, _))| sought.add(matchers, number));
        Listed { rules, sought }
    }

    /// All of them.
    pub fn rules(&self) -> &[(Vec<Matcher>, T)] {
        &self.rules
    }

    /// Numbers of those that fit, in no order.
    pub fn fitting<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = usize> + 'a {
        let fits = |number: &usize| self.rules.get(*number).is_some_and(|(all, _)| all.iter().all(|one| one.matches(labels)));
        self.sought.of(labels).copied().filter(fits)
    }

    /// What the first that fits says.
    pub fn first(&self, labels: &Labels) -> Option<&T> {
        let number = self.fitting(labels).min()?;
        self.rules.get(number).map(|(_, says)| says)
    }
}

/// What texts of matchers mean; what is wrong is added to the problems.
pub fn matchers(written: &Matching, problems: &mut Vec<Problem>) -> Vec<Matcher> {
    let mut all = Vec::new();
    for (place, text) in written {
        match matcher::read(text) {
            Ok(read) => all.extend(read.matchers),
            Err(rule) => problems.push(Problem {
                line: place.line,
                key: place.key.clone(),
                value: text.clone(),
                rule,
                remedy: "write name=\"value\", with =, !=, =~ or !~".to_owned(),
            }),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::routing::Place;

    #[test]
    fn the_first_that_fits_counts_wherever_it_is_sought() {
        let read = |text: &str| matcher::read(text).unwrap().matchers;
        let listed =
            Listed::new(vec![(read("team=db,severity=page"), 1), (read("severity=~\"p.*\""), 2), (read("team=db"), 3), (vec![], 4)]);
        let of = |text: &str| {
            let labels: Labels = read(text).into_iter().map(|one| (one.name, one.value)).collect();
            *listed.first(&labels).unwrap()
        };
        assert_eq!(["team=db,severity=page", "team=web,severity=page", "team=db", "x=y"].map(of), [1, 2, 3, 4]);
        assert_eq!(Listed::<u8>::default().first(&Labels::new()), None);
    }

    #[test]
    fn what_is_no_matcher_is_said_with_its_place() {
        let mut problems = Vec::new();
        let written = vec![(Place { line: 3, key: "levels[0].matchers[0]".into() }, "a=~(".to_owned())];
        assert!(matchers(&written, &mut problems).is_empty());
        assert_eq!((problems[0].line, problems[0].key.as_str()), (3, "levels[0].matchers[0]"));
    }
}
