//! Alertmanager's table of what is told, row by row, and the rows that were mended.

use super::*;

/// An alert in a word: `f` holds, `o` is over, `s` holds and is suppressed, `a` holds and is acknowledged, `l` holds and came after the tick, `w` holds and has
/// flapped since 70.
fn group(states: &str) -> Vec<Found> {
    let one = |(id, state): (usize, char)| Found {
        id: id as u64,
        over: state == 'o',
        ends: if state == 'o' { 50 } else { 1_000 },
        came: if state == 'l' { 95 } else { 10 },
        flaps: if state == 'w' { 70 } else { 0 },
        suppressed: state == 's',
        acknowledged: state == 'a',
    };
    states.chars().enumerate().filter(|(_, state)| *state != '-').map(one).collect()
}

fn told(firing: &[u64], over: &[u64]) -> Told {
    Told { at: 60, base: 60, number: 5, firing: firing.to_vec(), over: over.to_vec(), ..Told::default() }
}

fn look(before: Option<&Told>, states: &str, wants_over: bool, repeat: i64) -> Option<Claim> {
    decide(before, group(states).into_iter(), Look { now: 100, tick: 90, repeat, wants_over })
}

fn reason(before: Option<&Told>, states: &str, wants_over: bool, repeat: i64) -> Option<Reason> {
    look(before, states, wants_over, repeat).and_then(|claim| claim.reason)
}

#[test]
fn alertmanagers_table() {
    use Reason::*;
    for (before, states, wants, repeat, expected) in [
        // Nothing told.
        (None, "ff", true, 500, Some(First)),
        (None, "oo", true, 500, None),
        (None, "s", true, 500, None),
        (None, "", true, 500, None),
        // Told and empty.
        (Some(told(&[], &[0])), "of", true, 500, Some(First)),
        (Some(told(&[], &[0])), "f", true, 500, Some(First)),
        (Some(told(&[], &[0])), "o", true, 500, None),
        // Told and holding.
        (Some(told(&[0], &[])), "f", true, 500, None),
        (Some(told(&[0], &[])), "ff", true, 500, Some(New)),
        (Some(told(&[0], &[])), "fo", true, 500, Some(SomeOver)),
        (Some(told(&[0, 1], &[])), "fo", true, 500, Some(SomeOver)),
        (Some(told(&[0, 1], &[])), "fo", false, 500, None),
        (Some(told(&[0], &[1])), "fo", true, 500, None),
        (Some(told(&[0, 1], &[])), "oo", true, 500, Some(AllOver)),
        (Some(told(&[0, 1], &[])), "oo", false, 500, None),
        // Again.
        (Some(told(&[0], &[])), "f", true, 40, Some(Repeat)),
        (Some(told(&[0], &[])), "f", true, 41, None),
        (Some(told(&[0], &[])), "s", true, 40, None),
        (Some(told(&[0, 1], &[])), "aa", true, 40, None),
        (Some(told(&[0, 1], &[])), "af", true, 40, Some(Repeat)),
        // That one flaps is told once.
        (Some(told(&[0], &[])), "w", true, 500, Some(New)),
        (Some(Told { at: 70, ..told(&[0], &[]) }), "w", true, 500, None),
        (None, "w", true, 500, Some(First)),
        // What came after the tick waits for the next.
        (None, "l", true, 500, None),
        (Some(told(&[0], &[])), "fl", true, 500, None),
    ] {
        assert_eq!(reason(before.as_ref(), states, wants, repeat), expected, "{before:?} {states} {wants} {repeat}");
    }
}

#[test]
fn what_is_over_is_told_to_whoever_was_told_that_it_holds_and_to_nobody_else() {
    let before = told(&[0, 1], &[]);
    // The other one is silenced since: it is neither new nor over.
    let claim = look(Some(&before), "os", true, 500).unwrap();
    assert_eq!((claim.reason, &*claim.over, &*claim.stay, &*claim.firing), (Some(Reason::SomeOver), &[0][..], &[1][..], &[][..]));
    let mut after = before;
    after.claim(Claim { number: 6, ..claim });
    assert!(after.end(6, End::Taken) && !after.end(6, End::Taken));
    assert_eq!((&*after.firing, &*after.over), (&[1][..], &[0][..]));
    assert_eq!(reason(Some(&after), "oo", true, 500), Some(Reason::AllOver));
}

#[test]
fn a_receiver_that_wants_no_ends_is_told_when_one_holds_again() {
    let mut log = told(&[0, 1], &[]);
    let claim = look(Some(&log), "fo", false, 500).unwrap();
    assert_eq!(claim.reason, None);
    log.claim(claim);
    assert_eq!((&*log.firing, &*log.over, log.claim.is_some(), log.at), (&[0][..], &[1][..], false, 60));
    assert_eq!(reason(Some(&log), "ff", false, 500), Some(Reason::New));
}

#[test]
fn fire_and_end_while_a_receiver_is_away_are_both_told() {
    let mut log = Told::default();
    log.claim(Claim { number: 1, ..look(None, "f", true, 500).unwrap() });
    // It is over before the receiver takes the first message, which is told nevertheless.
    assert!(log.claim.is_some());
    log.end(1, End::Taken);
    assert_eq!(reason(Some(&log), "o", true, 500), Some(Reason::AllOver));
}

#[test]
fn what_was_given_up_is_told_anew_and_its_end_is_told() {
    let mut log = told(&[], &[]);
    log.claim(Claim { number: 6, ..look(Some(&log), "f", true, 500).unwrap() });
    log.end(6, End::Dropped);
    assert_eq!((&*log.maybe, log.at), (&[0][..], 60));
    assert_eq!(reason(Some(&log), "f", true, 500), Some(Reason::First));
    assert_eq!(reason(Some(&log), "o", true, 500), Some(Reason::AllOver));
    let mut refused = told(&[], &[]);
    refused.claim(Claim { number: 6, ..look(Some(&refused), "f", true, 500).unwrap() });
    refused.end(6, End::Never);
    assert_eq!((refused.is_open(), refused.at, refused.base), (false, 60, 100));
}

#[test]
fn a_step_is_read_back_and_no_key_reads_like_one() {
    let whom = |group: &str| Whom { group: group.into(), ..Whom::default() };
    let key = "{}/{team=\"db\"}:{a=\"b\"}";
    let step = Whom { group: Whom::group_of_step(key, "on-call.1", 12), ..Whom::default() };
    assert_eq!((step.key(), step.step(), step.is_storm()), (key, Some(("on-call.1", 12)), false));
    assert_eq!((whom(key).key(), whom(key).step()), (key, None));
    // The name of a label may be any text.
    let odd = "{}:{x\nescalation a 1=\"b\"}";
    assert_eq!((whom(odd).key(), whom(odd).step()), (odd, None));
    let both = Whom { group: Whom::group_of_step(odd, "p", 1), ..Whom::default() };
    assert_eq!((both.key(), both.step()), (odd, Some(("p", 1))));
    let storm = Whom::of_storm(&Target::default());
    assert_eq!((storm.key(), storm.step(), storm.is_storm()), ("{}:{}", None, true));
}

#[test]
fn what_is_held_is_owed_until_it_is_told() {
    let mut log = Told::default();
    log.claim(Claim { number: 7, at: 100, held: vec![1, 0], ..Claim::default() });
    assert_eq!((&*log.held, log.number, log.base, log.is_open(), log.has_it(0)), (&[0, 1][..], 7, 100, true, false));
    // One is over by now: it is told as over, never having been told.
    let claim = look(Some(&log), "of", true, 500).unwrap();
    assert_eq!((claim.reason, &*claim.firing, &*claim.over), (Some(Reason::First), &[1][..], &[0][..]));
    log.claim(Claim { number: 8, ..claim });
    assert_eq!(log.held, [0, 1], "until it is taken");
    log.end(8, End::Taken);
    assert_eq!((&*log.held, &*log.firing, &*log.over), (&[][..], &[1][..], &[0][..]));
}
