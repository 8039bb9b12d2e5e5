//! How words about alerts are put together, what can be done to silences, and what is forgotten.

use super::*;
use crate::alert::listed::Listed;
use crate::alert::matcher;

const SEED: u64 = 7;

fn alert(name: &str, (starts, ends, updated): (i64, i64, i64), times_out: bool) -> Alert {
    let labels = Labels::from([("alertname", name)]);
    Alert { labels, starts, ends, updated, times_out, ..Alert::default() }
}

fn of(book: &Book, name: &str) -> Kept {
    Kept::clone(book.alerts().get(id(SEED, &alert(name, (0, 0, 0), false).labels)).unwrap())
}

#[test]
fn words_about_one_alert_are_put_together() {
    let explicit = |starts, ends, updated| alert("a", (starts, ends, updated), false);
    let reckoned = |starts, ends, updated| alert("a", (starts, ends, updated), true);
    for (before, new, expected) in [
        // A later end counts, an earlier start, too.
        (explicit(10, 100, 20), explicit(10, 130, 30), (10, 130)),
        (explicit(10, 100, 20), explicit(15, 130, 30), (10, 130)),
        (explicit(15, 100, 20), explicit(10, 130, 30), (10, 130)),
        // It is over.
        (explicit(10, 100, 20), explicit(10, 40, 50), (10, 40)),
        // Both are over: the later end.
        (explicit(10, 45, 20), explicit(10, 40, 50), (10, 45)),
        // An end that was said counts more than one that was reckoned; of two that were reckoned the younger one.
        (explicit(10, 100, 20), reckoned(10, 90, 30), (10, 100)),
        (reckoned(10, 100, 20), reckoned(10, 90, 30), (10, 90)),
        (reckoned(10, 100, 20), explicit(10, 90, 30), (10, 90)),
        // An older word comes late.
        (explicit(10, 40, 50), explicit(10, 100, 20), (10, 40)),
        // Another episode.
        (explicit(10, 40, 20), explicit(45, 100, 50), (45, 100)),
    ] {
        let one = merged(&before, &new, 50);
        assert_eq!((one.starts, one.ends), expected, "{before:?} {new:?}");
    }
}

#[test]
fn an_end_that_has_come_counts_though_the_time_of_entries_is_behind() {
    let mut book = Book::default();
    book.post(SEED, vec![alert("a", (10_000, 90_000, 20_000), false)], 20_000).unwrap();
    // Said at 30,000, by a clock that is two seconds before that of the shard.
    book.post(SEED, vec![alert("a", (10_000, 30_000, 30_000), false)], 28_000).unwrap();
    assert_eq!((of(&book, "a").alert.ends, of(&book, "a").alert.updated), (30_000, 28_000));
    // An end that lies farther ahead than any clock may is no end yet.
    book.post(SEED, vec![alert("b", (10_000, 90_000, 20_000), false)], 28_000).unwrap();
    book.post(SEED, vec![alert("b", (10_000, 60_000, 70_000), false)], 28_000).unwrap();
    assert_eq!(of(&book, "b").alert.ends, 90_000);
}

#[test]
fn only_what_is_new_becomes_an_entry() {
    let mut book = Book::default();
    let word = alert("a", (10, 100, 20), true);
    assert_eq!(book.news(SEED, vec![word.clone()], 20), (vec![word.clone()], vec![]));
    assert_eq!(book.news(SEED, vec![alert("b", (10, 15, 20), false)], 20), (vec![], vec![]), "over before it came");
    book.post(SEED, vec![word.clone()], 20).unwrap();
    assert_eq!(book.news(SEED, vec![word.clone()], 21), (vec![], vec![]));
    let later = alert("a", (10, 130, 50), true);
    let (new, longer) = book.news(SEED, vec![later.clone()], 50);
    assert_eq!((new.len(), longer[0].ends, longer[0].ids.len()), (0, 130, 1));
    book.longer(&longer, 50).unwrap();
    assert_eq!((of(&book, "a").alert.ends, of(&book, "a").came), (130, 20));
    // Over meanwhile: the whole word is needed.
    assert_eq!(book.longer(&longer, 200), Err(UNKNOWN_ALERT.to_owned()));
    let again = alert("a", (10, 300, 200), true);
    assert_eq!(book.news(SEED, vec![again.clone()], 200), (vec![again.clone()], vec![]));
    book.post(SEED, vec![again], 200).unwrap();
    assert_eq!(of(&book, "a").came, 200, "another episode");
    let annotated = Alert { annotations: Labels::from([("x", "y")]), ..alert("a", (10, 300, 200), true) };
    assert_eq!(book.news(SEED, vec![annotated.clone()], 200).0, [annotated]);
}

#[test]
fn an_acknowledgement_lasts_as_long_as_the_alert() {
    let mut book = Book::default();
    book.post(SEED, vec![alert("a", (10, 100, 20), true)], 20).unwrap();
    let id = id(SEED, &of(&book, "a").alert.labels);
    book.acknowledge(id, Acknowledged { by: "ann".into(), ..Acknowledged::default() }, 30).unwrap();
    book.longer(&[Longer { ends: 200, updated: 40, ids: vec![id] }], 40).unwrap();
    assert_eq!(of(&book, "a").acknowledged.unwrap().by, "ann");
    assert_eq!(book.acknowledge(id, Acknowledged::default(), 300), Err(UNKNOWN_ALERT.to_owned()));
    book.post(SEED, vec![alert("a", (250, 400, 300), true)], 300).unwrap();
    assert_eq!(of(&book, "a").acknowledged, None);
}

#[test]
fn what_is_too_much_is_refused_in_words() {
    let mut book = Book::default();
    let large = Alert { generator: "x".repeat(MOST_OF_ONE).into(), ..alert("a", (10, 100, 20), true) };
    assert!(judge(&large).unwrap_err().contains("bytes"));
    assert!(book.post(SEED, vec![large, alert("b", (10, 100, 20), true)], 20).unwrap_err().starts_with("1 alerts"));
    assert_eq!((book.alerts().len(), book.bytes()), (1, 12), "with the lengths of name and value");
}

fn silence(id: &str, matchers: &str, (starts, ends): (i64, i64)) -> Silence {
    Silence { id: id.into(), matchers: matcher::read(matchers).unwrap().matchers, starts, ends, ..Silence::default() }
}

#[test]
fn silences_change_in_place_where_alertmanager_lets_them() {
    let ids =
        |book: &Book| book.silences().values().map(|known| format!("{} {}-{}", known.id, known.starts, known.ends)).collect::<Vec<_>>();
    let mut book = Book::default();
    book.silence(silence("a", "x=y", (5_000, 90_000)), None, 10_000).unwrap();
    assert_eq!(ids(&book), ["a 10000-90000"], "not in the past");
    // The same second.
    book.silence(silence("b", "x=y", (10_500, 80_000)), Some("a"), 20_000).unwrap();
    assert_eq!(ids(&book), ["a 10500-80000"]);
    // Another start, or other matchers: another silence.
    book.silence(silence("b", "x=y", (11_500, 80_000)), Some("a"), 20_000).unwrap();
    assert_eq!(ids(&book), ["a 10500-20000", "b 20000-80000"]);
    book.silence(silence("c", "x=z", (20_000, 80_000)), Some("b"), 30_000).unwrap();
    assert_eq!(ids(&book), ["a 10500-20000", "b 20000-30000", "c 30000-80000"]);
    // One that is over stays so.
    book.silence(silence("d", "x=y", (20_000, 80_000)), Some("b"), 40_000).unwrap();
    assert_eq!(ids(&book)[3], "d 40000-80000");
    // Pending: its times move.
    book.silence(silence("e", "x=y", (100_000, 200_000)), None, 40_000).unwrap();
    book.silence(silence("f", "x=y", (110_000, 200_000)), Some("e"), 40_000).unwrap();
    assert_eq!(ids(&book)[4], "e 110000-200000");
    book.expire("e", 50_000).unwrap();
    assert_eq!(ids(&book)[4], "e 50000-50000");
    assert_eq!(book.expire("e", 50_000), Ok(()));
    assert_eq!(book.expire("x", 50_000), Err(UNKNOWN_SILENCE.to_owned()));
    assert_eq!(book.silence(silence("g", "x=y", (0, 90_000)), Some("x"), 50_000), Err(UNKNOWN_SILENCE.to_owned()));
    assert!(book.silence(silence("g", "x=y", (0, 50_000)), None, 50_000).is_err());
}

#[test]
fn what_is_over_is_forgotten_once_nobody_is_owed_it() {
    let mut book = Book::default();
    book.post(SEED, vec![alert("a", (10, 100, 20), true), alert("b", (10, 100, 20), true)], 20).unwrap();
    let [a, b] = ["a", "b"].map(|name| id(SEED, &of(&book, name).alert.labels));
    let whom = Whom { group: "g".into(), receiver: "r".into(), integration: 0 };
    let claim = Claim { number: 1, at: 50, reason: Some(crate::alert::message::Reason::First), firing: vec![a], ..Claim::default() };
    let wanted = Wanted { whom: whom.clone(), labels: Labels::new(), claim };
    book.claim(SEED, vec![wanted.clone()]).unwrap();
    assert!(book.claim(SEED, vec![wanted.clone()]).is_err(), "it is on its way");
    let log = log_id(SEED, &whom);
    book.end(&[(log, 1, End::Taken), (log, 9, End::Taken)], 110);
    assert!(book.claim(SEED, vec![wanted]).is_err(), "an old number");
    let sweep = |book: &mut Book, now: i64| {
        let gone = book.sweepings(now, (1_000, 10_000), 100);
        book.sweep(&gone, now);
        gone
    };
    assert_eq!(sweep(&mut book, 1_000), Gone::default());
    assert_eq!(sweep(&mut book, 2_000).alerts, [b]);
    let over = Claim { number: 2, at: 2_000, reason: Some(crate::alert::message::Reason::AllOver), over: vec![a], ..Claim::default() };
    book.claim(SEED, vec![Wanted { whom, labels: Labels::new(), claim: over }]).unwrap();
    book.end(&[(log, 2, End::Taken)], 110);
    assert_eq!(sweep(&mut book, 2_500).alerts, [a]);
    assert_eq!(sweep(&mut book, 3_000), Gone::default());
    assert_eq!(sweep(&mut book, 3_001).logs, [log]);
    let closed: Vec<u64> = book.take_closed().iter().map(|closed| closed.number).collect();
    let left = (book.alerts().is_empty(), book.bytes(), book.logs().is_empty(), book.ledger().told().is_empty());
    assert_eq!((closed, left), (vec![1, 2], (true, 0, true, true)));
}

#[test]
fn an_episode_is_closed_when_the_alert_is_forgotten_or_fires_again() {
    let mut book = Book::default();
    let held = |starts, ends| vec![alert("a", (starts, ends, starts), false)];
    let id = id(SEED, &held(0, 1)[0].labels);
    let whom = Whom { group: "g".into(), receiver: "db".into(), integration: 0 };
    let tell = |book: &mut Book, number: u64, (firing, over): (Vec<u64>, Vec<u64>), at: i64| {
        let claim = Claim { number, at, reason: Some(crate::alert::message::Reason::First), firing, over, ..Claim::default() };
        book.claim(SEED, vec![Wanted { whom: whom.clone(), labels: Labels::new(), claim }]).unwrap();
        book.end(&[(log_id(SEED, &whom), number, End::Taken)], at + 1);
    };
    book.post(SEED, held(10, 100), 10).unwrap();
    tell(&mut book, 1, (vec![id], vec![]), 20);
    book.acknowledge(id, Acknowledged { by: "ann".into(), comment: String::new(), at: 30 }, 30).unwrap();
    assert!(book.take_closed().is_empty());

    // It fires again before anybody was told that it was over: who was told of the first one has it that it holds.
    book.post(SEED, held(150, 200), 150).unwrap();
    let first = book.take_closed();
    let told = |closed: &Closed| closed.episode.told.iter().map(|telling| (telling.at, telling.over)).collect::<Vec<_>>();
    assert_eq!((first.len(), first[0].number, first[0].episode.alert.ends, told(&first[0])), (1, 1, 100, vec![(21, 0)]));
    assert_eq!(first[0].episode.acknowledged.as_ref().map(|known| &*known.by), Some("ann"));
    tell(&mut book, 2, (vec![], vec![id]), 210);
    book.sweep(&Gone { alerts: vec![id], ..Gone::default() }, 300);
    let second = book.take_closed();
    assert_eq!((second.len(), second[0].number, second[0].before, told(&second[0])), (1, 2, first[0].episode.bytes(), vec![(21, 211)]));
    assert!(second[0].episode.acknowledged.is_none() && book.ledger().told().is_empty());

    // Of one that was silenced nobody was told.
    book.silence(silence("s", "alertname=a", (300, 900)), None, 300).unwrap();
    book.post(SEED, held(310, 400), 310).unwrap();
    book.sweep(&Gone { alerts: vec![id], ..Gone::default() }, 500);
    let third = book.take_closed();
    assert_eq!((third[0].number, &*third[0].episode.silenced, told(&third[0])), (3, "s", vec![]));
}

#[test]
fn an_end_that_is_watched_does_not_end_the_episode() {
    let mut book = Book::default();
    let word = |starts, ends, updated| vec![alert("a", (starts, ends, updated), false)];
    let id = id(SEED, &word(0, 0, 0)[0].labels);
    book.post(SEED, word(10, 900_000, 10), 10).unwrap();
    book.acknowledge(id, Acknowledged { by: "ann".into(), ..Acknowledged::default() }, 20).unwrap();
    // Rules hold for what is there, too.
    book.change_rules(EpisodeRules { recovery: Listed::new(vec![(vec![], 60_000)]), ..EpisodeRules::default() }, 20);
    book.post(SEED, word(10, 50_000, 50_000), 50_000).unwrap();
    assert!(of(&book, "a").alert.is_over(50_000) && !of(&book, "a").is_closed(109_999) && of(&book, "a").is_closed(110_000));
    book.post(SEED, word(80_000, 900_000, 80_000), 80_000).unwrap();
    let kept = of(&book, "a");
    assert_eq!((kept.came, kept.alert.starts, kept.noted.again, kept.acknowledged.is_some()), (10, 10, 1, true));
    assert!(book.take_closed().is_empty());
    book.post(SEED, word(10, 200_000, 200_000), 200_000).unwrap();
    book.post(SEED, word(300_000, 900_000, 300_000), 300_000).unwrap();
    let closed = book.take_closed();
    assert_eq!((closed.len(), closed[0].episode.came, closed[0].episode.again, closed[0].episode.level), (1, 10, 1, 3));
    assert_eq!((of(&book, "a").came, of(&book, "a").acknowledged), (300_000, None));
    // Nobody forgets it before its end counts.
    book.post(SEED, word(300_000, 400_000, 400_000), 400_000).unwrap();
    let gone = Gone { alerts: vec![id], ..Gone::default() };
    book.sweep(&gone, 459_999);
    assert_eq!(book.alerts().len(), 1);
    book.sweep(&gone, 460_000);
    assert_eq!((book.alerts().len(), book.lessons().of("a").unwrap().total()), (0, 2));
}

#[test]
fn only_an_end_that_somebody_said_is_confirmed() {
    let mut book = Book::default();
    book.post(SEED, vec![alert("a", (10, 90_000, 10), false), alert("b", (10, 90_000, 10), true)], 10).unwrap();
    assert!(of(&book, "a").alert.is_unconfirmed() && of(&book, "b").alert.is_unconfirmed());
    book.post(SEED, vec![alert("a", (10, 50_000, 50_000), false)], 49_000).unwrap();
    assert!(!of(&book, "a").alert.is_unconfirmed());
}

#[test]
fn an_episode_has_the_worst_level_that_it_had_while_it_held() {
    let mut book = Book::default();
    let word = |starts, ends, updated| vec![alert("a", (starts, ends, updated), false)];
    let leveled = |level| EpisodeRules { levels: Listed::new(vec![(vec![], level)]), ..EpisodeRules::default() };
    book.change_rules(leveled(2), 5);
    book.post(SEED, word(10, 900_000, 10), 10).unwrap();
    book.change_rules(leveled(4), 20);
    assert_eq!((of(&book, "a").level(), of(&book, "a").worst()), (4, 2));
    book.post(SEED, word(10, 50_000, 50_000), 50_000).unwrap();
    // It is over: what rules say by now is nothing to it.
    book.change_rules(leveled(1), 60_000);
    book.post(SEED, word(70_000, 900_000, 70_000), 70_000).unwrap();
    let closed = book.take_closed();
    assert_eq!((closed[0].episode.level, closed[0].episode.level_at_end), (2, 4));
    assert_eq!((of(&book, "a").level(), of(&book, "a").worst()), (1, 1), "another episode");
}

#[test]
fn an_alert_of_which_two_words_were_missed_is_unconfirmed_until_it_is_said_again() {
    let mut book = Book::default();
    let minute = |number: i64| number * 60_000;
    // As Prometheus says it: it holds for four minutes more.
    let word = |at: i64| alert("a", (0, at + 240_000, at), false);
    book.post(SEED, vec![word(minute(1))], minute(1)).unwrap();
    let id = id(SEED, &word(0).labels);
    for number in 2..5 {
        let (new, longer) = book.news(SEED, vec![word(minute(number))], minute(number));
        assert!(new.is_empty() && longer.len() == 1);
        book.longer(&longer, minute(number)).unwrap();
        // Another node has the same word: no news, and no interval.
        assert_eq!(book.news(SEED, vec![word(minute(number))], minute(number) + 20), (vec![], vec![]));
    }
    let since = |book: &Book, at: i64| book.alerts().get(id).unwrap().unconfirmed_since(at);
    assert_eq!((since(&book, 374_999), since(&book, 375_000), since(&book, 479_999)), (None, Some(375_000), Some(375_000)));
    assert_eq!(since(&book, 480_000), None, "it is over");
    book.post(SEED, vec![word(400_000)], 400_000).unwrap();
    assert_eq!((since(&book, 400_000), of(&book, "a").came), (None, minute(1)));
    // What always says the same end says nothing of how often it comes.
    (0..20).for_each(|at| drop(book.post(SEED, vec![alert("b", (0, 9_000_000, at), false)], at * 5_000)));
    assert_eq!(of(&book, "b").beat, Beat::default());
}
