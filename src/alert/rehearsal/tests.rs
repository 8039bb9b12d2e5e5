//! A few days that somebody made up, lived through with one policy after the other.

use super::*;
use crate::alert::listed::Listed;
use crate::alert::maintenance::Windows;
use crate::alert::matcher;
use crate::alert::policy::Flapping;
use crate::alert::policy::Transient;
use crate::alert::route::Routing;
use crate::alert::telling;
use crate::config::policies;
use crate::config::policies::Maintenance;
use crate::config::routing;
use crate::config::routing::Place;

const BEGIN: i64 = 1_790_000_000_000;

fn script(rules: EpisodeRules, windows: &[Maintenance]) -> Script {
    let file = "route: { receiver: a, group_by: [alertname], group_wait: 30s, group_interval: 5m }\nreceivers: [{ name: a }]\n";
    let routing = Routing::new(&routing::parse(file).unwrap()).unwrap();
    let plan = Plan::new(routing, [("a".to_owned(), vec![true])].into()).with_windows(Windows::new(windows).unwrap());
    Script { plan: Arc::new(plan), rules, lessons: Lessons::default() }
}

/// Seconds after the beginning: from, to.
fn episode(text: &str, from: i64, to: i64) -> Episode {
    let labels = matcher::read(text).unwrap().matchers.into_iter().map(|matcher| (matcher.name, matcher.value)).collect();
    let (came, ends) = (BEGIN + from * 1000, BEGIN + to * 1000);
    let alert = Alert { labels, starts: came, ends, updated: ends, ..Alert::default() };
    Episode { alert, came, closed: ends + 1_200_000, ..Episode::default() }
}

#[derive(Default)]
struct Counts {
    told: u64,
    most: Option<usize>,
}

impl Watch for Counts {
    fn told(&mut self, wanted: &Wanted, at: i64) {
        assert!(at >= BEGIN && !(wanted.claim.firing.is_empty() && wanted.claim.over.is_empty()));
        self.told += 1;
    }

    fn goes_on(&mut self, begun: usize) -> bool {
        self.most.is_none_or(|most| begun < most)
    }
}

fn lived(episodes: &[Episode], rules: EpisodeRules, windows: &[Maintenance]) -> Outcome {
    let mut counts = Counts::default();
    let outcome = rehearse(episodes, script(rules, windows), &mut counts);
    assert_eq!(outcome.messages, counts.told);
    outcome
}

fn fates(outcome: &Outcome) -> Vec<(i64, i64, Kept)> {
    let seconds = |at: i64| if at == 0 { 0 } else { (at - BEGIN) / 1000 };
    outcome.fates.iter().map(|fate| (seconds(fate.told), seconds(fate.over), fate.kept)).collect()
}

/// Two groups that are due at the same time are told in one message where the receiver's are bundled, and each alert is told as before.
#[test]
fn several_groups_in_one_message_are_one_message() {
    let episodes = [episode("alertname=A", 0, 1_000), episode("alertname=B", 1, 1_000)];
    let apart = lived(&episodes, EpisodeRules::default(), &[]);
    let written = policies::of_text("bundle: [{ receivers: [a], within: 5s }]").unwrap().1;
    let file = routing::parse("route: { receiver: a }\nreceivers: [{ name: a }]\n").unwrap();
    let alone = script(EpisodeRules::default(), &[]);
    let plan = Plan::clone(&alone.plan).with_telling(telling::TellingRules::new(&written, &file).unwrap());
    let together = rehearse(&episodes, Script { plan: Arc::new(plan), ..alone }, &mut Counts::default());
    assert_eq!((apart.messages, together.messages), (4, 2));
    assert!(together.fates.iter().all(|fate| fate.told > 0 && fate.over > 0));
}

#[test]
fn without_policies_it_is_told_as_in_earnest() {
    let mut silenced = episode("alertname=S", 100, 5_000);
    silenced.silenced = "x".into();
    let episodes = [episode("alertname=A,i=1", 0, 1_000), episode("alertname=A,i=2", 40, 2_000), episode("alertname=B", 0, 20), silenced];
    let outcome = lived(&episodes, EpisodeRules::default(), &[]);
    let expected = [(30, 1_230, Kept::Otherwise), (330, 2_130, Kept::Otherwise), (0, 0, Kept::Otherwise), (0, 0, Kept::Silenced)];
    assert_eq!((fates(&outcome).as_slice(), outcome.messages), (expected.as_slice(), 4));
}

#[test]
fn ends_that_are_watched_join_episodes() {
    let episodes = [episode("alertname=A", 0, 100), episode("alertname=A", 150, 1_000), episode("alertname=A", 2_000, 3_000)];
    let rules = EpisodeRules { recovery: Listed::new(vec![(vec![], 120_000)]), ..EpisodeRules::default() };
    let outcome = lived(&episodes, rules, &[]);
    assert_eq!(fates(&outcome), [(30, 0, Kept::Otherwise), (0, 1_230, Kept::Joined), (2_030, 3_230, Kept::Otherwise)]);
    let names = tally(&episodes, &outcome, None);
    let tally = &names["A"];
    assert_eq!((tally.episodes, tally.told, tally.over, tally.kept[&Kept::Joined]), (3, 2, 2, 1));
}

#[test]
fn what_flaps_costs_few_messages_and_says_so() {
    let episodes: Vec<Episode> = (0..30).map(|number| episode("alertname=A", number * 400, number * 400 + 100)).collect();
    let policy = Flapping { changes: 4, within: 3_600_000, calm: 900_000 };
    let without = lived(&episodes, EpisodeRules::default(), &[]);
    let with = lived(&episodes, EpisodeRules { flapping: Listed::new(vec![(vec![], policy)]), ..EpisodeRules::default() }, &[]);
    assert!(without.messages >= 30 && with.messages <= 6, "{} {}", without.messages, with.messages);
    assert!(with.fates.last().unwrap().over > 0);
    assert!(tally(&episodes, &with, Some(&without))["A"].kept[&Kept::Joined] > 20);
}

#[test]
fn what_mostly_ends_by_itself_waits_and_what_does_not_is_told_later() {
    let mut episodes: Vec<Episode> = (0..40).map(|number| episode("alertname=A", number * 3_000, number * 3_000 + 55)).collect();
    episodes.push(episode("alertname=A", 130_000, 140_000));
    let policy = Transient { within: 120_000, share: 80, least: 20, percentile: 90, most: 300_000 };
    let rules = || EpisodeRules { transient: Listed::new(vec![(vec![], policy)]), ..EpisodeRules::default() };
    let without = lived(&episodes, EpisodeRules::default(), &[]);
    let with = lived(&episodes, rules(), &[]);
    let names = tally(&episodes, &with, Some(&without));
    let tally = &names["A"];
    // Twenty are known from the twenty-first on; the one that lasts is told when most others would have been over, 60 s, instead of 30.
    assert_eq!((tally.kept[&Kept::Waited], tally.later), (20, (1, 30_000, 30_000)));
    // With what was learned before, the first ones wait as well.
    let mut lessons = Lessons::default();
    (0..20).for_each(|at| lessons.learn("A", Some(50_000), at));
    let outcome = rehearse(&episodes, Script { lessons, ..script(rules(), &[]) }, &mut Counts::default());
    assert!(outcome.fates[0].kept == Kept::Waited && outcome.messages == 2);
}

#[test]
fn maintenance_keeps_back_and_a_rehearsal_can_be_broken_off() {
    let window = Maintenance {
        name: "w".into(),
        matchers: vec![(Place::default(), "alertname=A".into())],
        once: Some(("2026-09-21T14:13:20Z".into(), "2026-09-21T15:13:20Z".into())),
        ..Maintenance::default()
    };
    let episodes = [episode("alertname=A", 100, 1_000), episode("alertname=B", 100, 1_000), episode("alertname=A", 1_100, 8_000)];
    let outcome = lived(&episodes, EpisodeRules::default(), &[window]);
    let told: Vec<(bool, Kept)> = outcome.fates.iter().map(|fate| (fate.told > 0, fate.kept)).collect();
    assert_eq!(told, [(false, Kept::Maintained), (true, Kept::Otherwise), (true, Kept::Otherwise)]);
    let mut one = Counts { most: Some(1), ..Counts::default() };
    assert!(rehearse(&episodes, script(EpisodeRules::default(), &[]), &mut one).broken_off);
}
