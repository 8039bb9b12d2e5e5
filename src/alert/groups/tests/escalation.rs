//! Steps of escalation: when they come, what stops them, who hears that it is over; and long random lives in which nobody is told too early, nobody who must be
//! told waits, and whoever has it that an alert holds is told its end.

use super::*;
use crate::alert::book::Acknowledged;

const POLICIES: &str = "  escalation:\n  - { name: db, matchers: [team=db], receivers: [db], levels: [P1], steps: [{ after: 5m, receiver: web }] }\n  \
                        - name: oncall\n    receivers: [all, db]\n    steps: [{ after: 10m, receiver: web }, { after: 20m, receiver: db, repeat: 10m }]\n";

impl World {
    fn sorted(&mut self, seconds: i64) -> Vec<String> {
        let mut told = self.after(seconds);
        told.sort();
        told
    }

    fn acknowledge(&mut self, text: &str) {
        let (id, now) = (crate::alert::book::id(SEED, &labels(text)), self.now);
        Arc::make_mut(&mut self.book).acknowledge(id, Acknowledged { by: "ann".into(), at: now, ..Acknowledged::default() }, now).unwrap();
    }
}

#[test]
fn steps_are_told_one_after_the_other_and_all_hear_the_end() {
    let mut world = World::of(plan_with(POLICIES));
    world.post("alertname=X,i=1", 100_000);
    assert_eq!(world.sorted(30), ["all0 First 1"]);
    assert_eq!(world.sorted(599), [""; 0]);
    assert_eq!(world.sorted(1), ["web0 First 1 oncall/1"]);
    // Whoever leads reckons the same.
    world.other_leader();
    assert_eq!(world.sorted(599), [""; 0]);
    assert_eq!(world.sorted(1), ["db0 First 1 oncall/2", "db1 First 1 oncall/2"]);
    assert_eq!(world.sorted(300), [""; 0]);
    assert_eq!(world.sorted(300), ["db0 Repeat 1 oncall/2", "db1 Repeat 1 oncall/2"]);
    world.post("alertname=X,i=1", 0);
    assert_eq!(world.sorted(300), ["all0 AllOver 1", "db0 AllOver 1 oncall/2", "web0 AllOver 1 oncall/1"], "one wants to hear of no end");
    world.post("alertname=X,i=1", 100_000);
    assert_eq!(world.sorted(330), ["all0 First 1"], "it counts anew");
    assert_eq!(world.sorted(600), ["web0 First 1 oncall/1"]);
}

#[test]
fn an_acknowledgement_stops_it_and_ends_are_told_all_the_same() {
    let mut world = World::of(plan_with(POLICIES));
    world.post("alertname=X,i=1", 100_000);
    assert_eq!(world.sorted(30), ["all0 First 1"]);
    world.post("alertname=X,i=2", 100_000);
    assert_eq!(world.sorted(300), ["all0 New 12"]);
    world.acknowledge("alertname=X,i=1");
    assert_eq!(world.sorted(599), [""; 0], "one is taken care of, the other is too young");
    assert_eq!(world.sorted(1), ["web0 First 2 oncall/1"]);
    world.acknowledge("alertname=X,i=2");
    assert_eq!(world.sorted(7_200), [""; 0]);
    // Whoever leads next knows whom the end is owed.
    world.other_leader();
    assert_eq!(world.sorted(1), [""; 0]);
    world.post("alertname=X,i=1", 0);
    world.post("alertname=X,i=2", 0);
    assert_eq!(world.sorted(300), ["all0 AllOver 12", "web0 AllOver 2 oncall/1"]);
    assert_eq!(world.sorted(3_600), [""; 0]);
}

#[test]
fn what_is_silenced_is_told_to_nobody_else_until_it_is_not() {
    let mut world = World::of(plan_with(POLICIES));
    world.post("alertname=X,i=1", 100_000);
    assert_eq!(world.sorted(30), ["all0 First 1"]);
    let (starts, ends) = (world.now, world.now + 1_000_000);
    let matchers = matcher::read("alertname=X").unwrap().matchers;
    let silence = Silence { id: "s".into(), matchers, starts, ends, ..Silence::default() };
    Arc::make_mut(&mut world.book).silence(silence, None, world.now).unwrap();
    assert_eq!(world.sorted(999), [""; 0]);
    assert_eq!(world.sorted(300), ["db0 First 1 oncall/2", "db1 First 1 oncall/2", "web0 First 1 oncall/1"]);
}

#[test]
fn what_is_silenced_waits_for_nothing_that_comes_later() {
    let mut world = World::of(plan_with(POLICIES));
    world.post("alertname=X,i=1", 100_000);
    assert_eq!(world.sorted(30), ["all0 First 1"]);
    assert_eq!(world.sorted(600), ["web0 First 1 oncall/1"]);
    world.post("alertname=X,i=2", 100_000);
    assert_eq!(world.sorted(300), ["all0 New 12"]);
    // Told and over: the log of the step says nothing more.
    world.post("alertname=X,i=1", 0);
    assert_eq!(world.sorted(300), ["all0 SomeOver 21", "web0 AllOver 1 oncall/1"]);
    let (starts, ends) = (world.now, world.now + 400_000);
    let silence = Silence { id: "s".into(), matchers: matcher::read("i=2").unwrap().matchers, starts, ends, ..Silence::default() };
    Arc::make_mut(&mut world.book).silence(silence, None, world.now).unwrap();
    world.post("alertname=X,i=3", 100_000);
    // The time of the second comes within the silence, that of the third long after it.
    assert_eq!(world.sorted(300), ["all0 New 3"]);
    assert_eq!(world.sorted(299), [""; 0]);
    assert_eq!(world.sorted(1), ["web0 First 2 oncall/1"]);
}

#[test]
fn the_first_policy_that_fits_is_the_alerts() {
    let mut world = World::of(plan_with(POLICIES));
    let (bad, other) = ("alertname=X,team=db,cluster=x,severity=critical,i=1", "alertname=X,team=db,cluster=x,i=2");
    [bad, other].into_iter().for_each(|text| world.post(text, 100_000));
    assert_eq!(world.sorted(30), ["db0 First 12", "db1 First 12", "web0 First 12"]);
    assert_eq!(world.sorted(300), ["web0 First 1 db/1"]);
    assert_eq!(world.sorted(300), ["web0 First 2 oncall/1"]);
    assert_eq!(world.sorted(600), ["db0 First 2 oncall/2", "db1 First 2 oncall/2"]);
}

/// Since when a step owes it that an alert holds, or anybody that it is over.
type Owes = BTreeMap<(u64, u64, bool), i64>;

fn check_steps(world: &World, plan: &Plan, owes: &mut Owes, context: &str) {
    let mut now_owed = BTreeSet::new();
    for group in world.groups.groups.values() {
        let route = plan.routing.route(group.route).unwrap();
        let muted = plan.routing.muted_by(route, world.now).is_some();
        for lane in &group.lanes {
            let told = world.book.logs().get(lane.log).map(|told| Told::clone(told)).unwrap_or_default();
            for id in &group.alerts {
                let kept = world.book.alerts().get(*id).unwrap();
                let over = kept.alert.is_over(world.now);
                let due = world.groups.comes((route, lane), *id, kept).is_some_and(|at| at <= world.now);
                let holds = lane.step.is_some() && due && !muted && !world.groups.is_suppressed(*id, kept, world.now);
                let owed = match over {
                    true => lane.wants_over && told.is_owed(*id),
                    false => holds && !has(&told.firing, *id),
                };
                if owed && told.claim.is_none() {
                    now_owed.insert((lane.log, *id, over));
                }
            }
        }
    }
    owes.retain(|known, _| now_owed.contains(known));
    for known in now_owed {
        let waited = world.now - *owes.entry(known).or_insert(world.now);
        // An interval; and where the log was forgotten meanwhile, one that begins anew.
        assert!(waited <= 660_000, "{context}: {known:?} is owed for {waited} ms");
    }
}

fn check_claim(world: &World, plan: &Plan, wanted: &Wanted, context: &str) {
    let log = log_id(SEED, &wanted.whom);
    let told = world.book.logs().get(log).map(|told| Told::clone(told)).unwrap_or_default();
    let (group, lane) = world.groups.of_log[&log];
    let group = &world.groups.groups[&group];
    let (route, lane) = (plan.routing.route(group.route).unwrap(), &group.lanes[lane]);
    for id in wanted.claim.firing.iter().filter(|id| lane.step.is_some() && !has(&told.firing, **id)) {
        let kept = world.book.alerts().get(*id).unwrap();
        assert!(kept.acknowledged.is_none(), "{context}: somebody took care");
        let due = world.groups.comes((route, lane), *id, kept).unwrap();
        assert!(due <= world.now && due >= kept.came + 300_000, "{context}: too early");
        assert!(!kept.alert.is_over(world.now) && !world.groups.is_suppressed(*id, kept, world.now), "{context}");
    }
    for id in wanted.claim.over.iter().filter(|_| lane.step.is_some()) {
        assert!(told.is_owed(*id), "{context}: an end of what was never told");
    }
}

#[test]
fn long_lives_with_steps() {
    let plan = plan_with(POLICIES);
    let (mut steps, mut ends, mut acknowledged) = (0, 0, 0);
    for seed in seeds(3) {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut world, mut owes) = (World::of(Arc::clone(&plan)), Owes::new());
        for round in 0..400 {
            let context = format!("SEED={seed} round {round}");
            world.now += random.i64(1..=20_000);
            for _ in 0..random.usize(0..3) {
                let span = if random.u8(0..6) == 0 { 0 } else { random.i64(600..4_000) };
                world.post(&random_labels(&mut random), span);
            }
            let now = world.now;
            let book = Arc::make_mut(&mut world.book);
            if random.u8(0..10) == 0 {
                let ids: Vec<u64> = book.alerts().iter().map(|(id, _)| id).collect();
                let by = Acknowledged { by: "ann".into(), at: now, ..Acknowledged::default() };
                acknowledged += u64::from(random.choice(ids).is_some_and(|id| book.acknowledge(id, by, now).is_ok()));
            }
            if random.u8(0..10) == 0 {
                let gone = book.sweepings(now, (900_000, 7_200_000), 50);
                book.sweep(&gone, now);
            }
            let open: Vec<_> = book.logs().iter().filter_map(|(id, told)| Some((id, told.claim.clone()?.number))).collect();
            for (id, number) in open {
                if random.u8(0..5) > 0 {
                    book.end(&[(id, number, End::Taken)], now);
                }
            }
            if random.u8(0..40) == 0 {
                world.other_leader();
            }
            for wanted in world.wanted() {
                check_claim(&world, &plan, &wanted, &context);
                let step = wanted.whom.step().is_some();
                steps += u64::from(step && !wanted.claim.firing.is_empty());
                ends += u64::from(step && !wanted.claim.over.is_empty());
                Arc::make_mut(&mut world.book).claim(SEED, vec![wanted]).unwrap();
            }
            let book = Arc::clone(&world.book);
            world.groups.look(&book);
            check_steps(&world, &plan, &mut owes, &context);
        }
    }
    assert!(steps > 50 && ends > 20 && acknowledged > 20, "{steps} {ends} {acknowledged}");
}
