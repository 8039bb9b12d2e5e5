//! What is shown of what is still to come: steps of escalation of an alert; windows, what they hold, bundles and storms of receivers; and that long random lives
//! show the same as is told then.

use super::*;
use crate::alert::book::Acknowledged;
use crate::alert::groups::outlook::Escalation;
use crate::alert::groups::outlook::Held;
use crate::alert::groups::outlook::Outlook;
use crate::alert::groups::outlook::Rung;
use crate::alert::groups::outlook::WaitsFor;
use crate::alert::groups::outlook::Window;

const STEPS: &str =
    "  escalation:\n  - { name: oncall, receivers: [all], steps: [{ after: 10m, receiver: web }, { after: 20m, receiver: db }] }\n";

impl World {
    fn escalations(&mut self, text: &str) -> Vec<Escalation> {
        let book = Arc::clone(&self.book);
        self.groups.look(&book);
        let id = crate::alert::book::id(SEED, &labels(text));
        self.groups.escalations(id, book.alerts().get(id).unwrap(), self.now)
    }

    fn outlook(&mut self, receiver: &str) -> Outlook {
        let book = Arc::clone(&self.book);
        self.groups.look(&book);
        self.groups.outlooks(self.now).remove(&Target { receiver: receiver.into(), integration: 0 }).unwrap()
    }
}

fn rung(step: usize, receiver: &str, minutes: i64, at: Option<i64>) -> Option<Rung> {
    Some(Rung { step, receiver: receiver.into(), after: minutes * 60_000, at })
}

#[test]
fn an_alert_says_which_step_is_next_and_when() {
    let mut world = World::of(plan_with(STEPS));
    let one = "alertname=X,i=1";
    world.post(one, 100_000);
    let only = |world: &mut World| world.escalations(one).remove(0);
    assert_eq!((only(&mut world).last, only(&mut world).next), (None, rung(1, "web", 10, None)), "nobody was told of it yet");
    world.after(30);
    let begun = world.now;
    assert_eq!(only(&mut world).next, rung(1, "web", 10, Some(begun + 600_000)));
    world.after(601);
    let second = rung(2, "db", 20, Some(begun + 1_200_000));
    // On any node.
    world.other_leader();
    assert_eq!(only(&mut world), Escalation { policy: "oncall".into(), last: rung(1, "web", 10, Some(begun + 601_000)), next: second });
    let (id, now) = (crate::alert::book::id(SEED, &labels(one)), world.now);
    Arc::make_mut(&mut world.book).acknowledge(id, Acknowledged { by: "ann".into(), at: now, ..Acknowledged::default() }, now).unwrap();
    assert_eq!(only(&mut world).next, None, "somebody takes care");
    world.post("alertname=Y,i=3", 100_000);
    world.post("alertname=Y,i=3", 0);
    assert_eq!(world.escalations("alertname=Y,i=3")[0].next, None, "it is over");
    world.post("alertname=X,team=db,cluster=x,i=2", 100_000);
    assert_eq!(world.escalations("alertname=X,team=db,cluster=x,i=2"), [], "no policy is for its receivers");
}

#[test]
fn a_receiver_says_what_its_windows_hold_and_until_when() {
    let mut world =
        World::of(plan_with("  throttle: [{ receivers: [all], windows: [{ messages: 2, per: 1m }, { messages: 20, per: 1h }] }]\n"));
    world.post("alertname=X,i=1", 100_000);
    world.after(10);
    world.post("alertname=Y,i=2", 100_000);
    world.after(10);
    ["alertname=Z,i=3", "alertname=W,i=4", "alertname=W,i=5"].iter().for_each(|text| world.post(text, 100_000));
    world.after(10);
    let first = world.now;
    assert_eq!(world.outlook("all").windows[0], Window { messages: 2, per: 60_000, used: 1, opens: None });
    world.after(10);
    world.after(10);
    let outlook = world.outlook("all");
    let opens = Some(first + 60_000);
    let windows = [Window { messages: 2, per: 60_000, used: 2, opens }, Window { messages: 20, per: 3_600_000, used: 2, opens: None }];
    assert_eq!((outlook.windows.as_slice(), outlook.opens, outlook.held), (windows.as_slice(), opens, Held { groups: 2, alerts: 3 }));
    assert_eq!(outlook.waiting, Some((2, WaitsFor::Window, first + 60_000)));
    // Of another node: all that the book has.
    world.other_leader();
    assert_eq!(world.outlook("all"), Outlook { waiting: None, ..outlook });
    assert_eq!(world.outlook("web"), Outlook::default());
    world.after(40);
    let outlook = world.outlook("all");
    assert_eq!((outlook.held, outlook.windows[0].used, outlook.opens), (Held::default(), 2, Some(first + 70_000)), "told in one message");
}

#[test]
fn bundles_and_storms_are_seen() {
    let storm = "  storm: [{ receivers: [all], alerts: 3, within: 1m, calm: 2m }]\n  bundle: [{ receivers: [all], within: 5s }]\n";
    let mut world = World::of(plan_with(storm));
    world.post("alertname=X0,i=0", 100_000);
    world.post("alertname=X1,i=1", 100_000);
    world.after(30);
    assert_eq!(world.outlook("all").waiting, Some((2, WaitsFor::Bundle, world.now + 5_000)));
    assert_eq!(world.outlook("all").storm, None);
    world.after(5);
    (2..7).for_each(|i| world.post(&format!("alertname=X{i},i={i}"), 100_000));
    world.after(40);
    let outlook = world.outlook("all");
    let storm = outlook.storm.unwrap();
    assert_eq!((storm.told, storm.until, outlook.waiting.unwrap().1), (5, world.now + 80_000, WaitsFor::Storm));
    world.other_leader();
    assert_eq!(world.outlook("all").storm, Some(storm), "any node knows of it");
    world.after(90);
    assert_eq!(world.outlook("all").storm, None);
}

/// A node that tells nobody looks for no storms, and must not keep every alert that ever came.
#[test]
fn who_tells_nobody_forgets_what_came_long_ago() {
    let mut world = World::of(plan_with("  storm: [{ receivers: [all], alerts: 3, within: 1m, calm: 2m }]\n"));
    for i in 0..200 {
        world.now += 10_000;
        world.post(&format!("alertname=X{i},i={i}"), 100_000);
        let book = Arc::clone(&world.book);
        world.groups.look(&book);
    }
    assert_eq!(world.groups.arrivals.values().map(BTreeSet::len).sum::<usize>(), 19, "three minutes of them");
}

/// For any life: what is shown as held is what the logs hold, nothing is held where there is room, and the step that is shown as next is the one that is told next.
#[test]
fn what_is_shown_is_what_comes() {
    let policies = format!("{STEPS}  throttle: [{{ receivers: [all, web], windows: [{{ messages: 3, per: 2m }}] }}]\n");
    for seed in seeds(15) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::of(plan_with(&policies));
        for _ in 0..60 {
            for _ in 0..random.usize(0..4) {
                let (name, i) = (random.u8(0..6), random.u8(0..4));
                world.post(&format!("alertname=X{name},i={i}"), if random.u8(..4) == 0 { 0 } else { 100_000 });
            }
            let book = Arc::clone(&world.book);
            world.groups.look(&book);
            let expected: BTreeMap<u64, Vec<Escalation>> =
                book.alerts().iter().map(|(id, kept)| (id, world.groups.escalations(id, kept, world.now))).collect();
            let before = world.now;
            world.after(random.i64(1..240));
            let book = Arc::clone(&world.book);
            world.groups.look(&book);
            for (id, was) in expected.iter().filter_map(|(id, all)| Some((id, all.first()?))) {
                let Some(kept) = book.alerts().get(*id).filter(|kept| kept.came < before && !kept.alert.is_over(world.now)) else {
                    continue;
                };
                let is = world.groups.escalations(*id, kept, world.now).remove(0);
                let (was_next, is_last) = (was.next.as_ref(), is.last.as_ref());
                if let Some(told) = is_last.filter(|told| was.last.as_ref().is_none_or(|last| last.step < told.step)) {
                    let next = was_next.expect("a step was to come");
                    assert!(next.step <= told.step, "SEED={seed} {was:?} {is:?}");
                    assert!(next.at.is_none_or(|at| at <= world.now) && told.at <= Some(world.now), "SEED={seed} {was:?} {is:?}");
                }
            }
            for receiver in ["all", "web"] {
                let outlook = world.outlook(receiver);
                let held = book.logs().iter().filter(|(_, told)| &*told.whom.receiver == receiver && !told.held.is_empty()).count();
                assert_eq!(outlook.held.groups, held, "SEED={seed}");
                assert!(
                    outlook.windows[0].used <= 3 && (outlook.windows[0].used == 3) == outlook.opens.is_some(),
                    "SEED={seed} {outlook:?}"
                );
                assert!(
                    held == 0 || outlook.opens.is_some_and(|opens| opens > world.now),
                    "SEED={seed}: held, and there is room: {outlook:?}"
                );
            }
        }
    }
}
