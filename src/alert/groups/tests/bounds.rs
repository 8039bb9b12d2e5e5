//! Throttles, bundles and storms one by one; and long random lives under all of them, in which no window is overrun by what does not pass, nothing that was held
//! or told by a digest lacks its end, and no message has another's id.

use super::*;

const THROTTLE: &str = "  throttle: [{ receivers: [all], windows: [{ messages: 2, per: 1m }, { messages: 20, per: 1h }] }]\n";

#[test]
fn what_is_held_is_told_in_one_message_and_what_is_over_by_then_as_over() {
    let mut world = World::of(plan_with(THROTTLE));
    world.post("alertname=X,i=1", 100_000);
    assert_eq!(world.after(10), [""; 0]);
    world.post("alertname=Y,i=2", 100_000);
    assert_eq!(world.after(10), [""; 0]);
    world.post("alertname=Z,i=3", 100_000);
    world.post("alertname=W,i=4", 100_000);
    assert_eq!(world.after(10), ["all0 First 1"]);
    assert_eq!(world.after(10), ["all0 First 2"]);
    assert_eq!(world.after(10), [""; 0], "two in a minute");
    // Noted, so that another leader knows.
    assert_eq!(world.book.logs().iter().filter(|(_, told)| told.held.len() == 1).count(), 2);
    world.other_leader();
    world.post("alertname=Z,i=3", 0);
    assert_eq!(world.after(39), [""; 0]);
    assert_eq!(world.after(1), ["all0 New 43 of 2"], "the first message is a minute ago");
    assert!(world.book.logs().iter().all(|(_, told)| told.held.is_empty()));
    assert_eq!(world.after(3_600), [""; 0], "nothing is told twice");
}

#[test]
fn levels_that_pass_and_ends_of_what_was_told_wait_for_no_window() {
    let mut world = World::of(plan_with("  throttle: [{ receivers: [all], windows: [{ messages: 1, per: 1h }] }]\n"));
    world.post("alertname=X,i=1", 100_000);
    assert_eq!(world.after(30), ["all0 First 1"]);
    world.post("alertname=Y,i=2", 100_000);
    world.post("alertname=Z,severity=critical,i=3", 100_000);
    assert_eq!(world.after(30), ["all0 First 3"]);
    world.post("alertname=X,i=1", 0);
    world.post("alertname=Z,severity=critical,i=3", 0);
    let mut ends = world.after(300);
    ends.sort();
    assert_eq!(ends, ["all0 AllOver 1", "all0 AllOver 3"]);
    world.post("alertname=Y,i=2", 0);
    // Two ends stand in the hour, too.
    assert_eq!(world.after(3_599), [""; 0]);
    assert_eq!(world.after(301), ["all0 AllOver 2"], "held, and over by now");
}

#[test]
fn groups_that_are_due_within_a_moment_are_one_message() {
    let mut world = World::of(plan_with("  bundle: [{ receivers: [all], within: 5s }]\n"));
    for (name, i) in [("X", 1), ("Y", 2), ("Z", 3)] {
        world.post(&format!("alertname={name},i={i}"), 100_000);
        assert_eq!(world.after(1), [""; 0]);
    }
    assert_eq!(world.after(31), [""; 0]);
    world.other_leader();
    assert_eq!(world.after(1), ["all0 First 123 of 3"]);
    world.post("alertname=X,i=1", 0);
    assert_eq!(world.after(304), [""; 0]);
    assert_eq!(world.after(1), ["all0 AllOver 1"], "one alone is a message as ever");
    world.post("alertname=Y,i=2", 0);
    world.post("alertname=Z,i=3", 0);
    assert_eq!(world.after(305), ["all0 AllOver 23 of 2"]);
}

#[test]
fn a_format_of_one_group_a_message_is_not_bundled() {
    let plan = plan_with(
        "  bundle: [{ receivers: [all], within: 5s }]\n  throttle: [{ receivers: [all], windows: [{ messages: 2, per: 1m }] }]\n",
    );
    let plan = Arc::into_inner(plan).unwrap().with_single([("all".to_owned(), 0)].into());
    let mut world = World::of(Arc::new(plan));
    for i in 1..=3 {
        world.post(&format!("alertname=X{i},i={i}"), 100_000);
    }
    assert_eq!(world.after(35).len(), 2);
    assert_eq!(world.after(60).len(), 1);
}

const STORM: &str = "  storm: [{ receivers: [all], alerts: 3, within: 1m, calm: 2m }]\n";

#[test]
fn a_storm_is_a_digest_until_it_is_calm() {
    let mut world = World::of(plan_with(STORM));
    for i in 1..=5 {
        world.post(&format!("alertname=X{i},i={i}"), 100_000);
    }
    world.post("alertname=Y,severity=critical,i=9", 100_000);
    let mut told = world.after(30);
    told.sort();
    assert_eq!(told, ["all0 First 12345 storm 5/0", "all0 First 9"], "the worst go by themselves");
    world.post("alertname=X1,i=1", 0);
    // One of the worst that comes in the middle of it waits for its group alone; and with it came one too many once more.
    world.post("alertname=Z,severity=critical,i=8", 100_000);
    assert_eq!(world.after(30), ["all0 First 8"]);
    assert_eq!(world.after(29), [""; 0], "a digest a minute");
    world.other_leader();
    assert_eq!(world.after(1), ["all0 SomeOver 23451 storm 4/1"]);
    world.post("alertname=X2,i=2", 0);
    assert_eq!(world.after(59), [""; 0]);
    let mut told = world.after(1);
    told.sort();
    let expected = ["all0 First 3", "all0 First 4", "all0 First 5", "all0 SomeOver 3452 storm 3/1"];
    assert_eq!(told, expected, "calm for two minutes: what still holds, and a last digest for whoever was told by one alone");
    assert_eq!(world.after(60), [""; 0]);
    let told_by = |i: &str| {
        let id = crate::alert::book::id(SEED, &labels(&format!("alertname=X{i},i={i}")));
        world
            .book
            .ledger()
            .told()
            .get(id)
            .unwrap()
            .iter()
            .map(|one| (one.receiver.to_string(), one.digest, one.over > 0))
            .collect::<Vec<_>>()
    };
    assert_eq!((told_by("2"), told_by("3")), (vec![("all".to_owned(), true, true)], vec![("all".to_owned(), false, false)]));
    world.post("alertname=X3,i=3", 0);
    assert_eq!(world.after(300), ["all0 AllOver 3"]);
    assert_eq!(world.after(7_200), [""; 0]);
}

const ALL: &str = "  escalation: [{ name: up, receivers: [all], steps: [{ after: 10m, receiver: web }] }]\n  \
                   throttle:\n  - { receivers: [all, web], windows: [{ messages: 1, per: 2m }, { messages: 20, per: 1h }] }\n  \
                   - { receivers: [db], windows: [{ messages: 1, per: 5m }], pass: [] }\n  \
                   bundle: [{ receivers: [db, web], within: 5s }]\n  storm: [{ receivers: [all, web], alerts: 8, within: 2m, calm: 3m }]\n";

struct Life {
    world: World,
    plan: Arc<Plan>,
    /// Held or told as holding: the end is owed where it is wanted.
    owed: BTreeSet<(u64, u64)>,
    ids: BTreeSet<String>,
    /// Of each target when it was sent what its windows hold.
    bound: BTreeMap<Target, Vec<i64>>,
    kinds: [u64; 4],
}

impl Life {
    /// A turn of whoever leads: what is wanted is noted, most of what is on its way is taken.
    fn turn(&mut self, random: &mut fastrand::Rng, context: &str) {
        for _ in 0..20 {
            let wanted = self.world.wanted();
            if wanted.is_empty() {
                break;
            }
            self.check_windows(&wanted, context);
            for one in &wanted {
                let log = log_id(SEED, &one.whom);
                self.owed.extend(one.claim.held.iter().chain(&one.claim.firing).map(|id| (log, *id)));
                self.kinds[0] += u64::from(!one.claim.held.is_empty());
            }
            Arc::make_mut(&mut self.world.book).claim(SEED, wanted).unwrap();
        }
        let book = Arc::clone(&self.world.book);
        self.world.groups.look(&book);
        let mut ended = Vec::new();
        for parcel in self.world.groups.parcels().into_iter().filter(|_| random.u8(0..5) > 0) {
            let message = words::message(&book, &parcel, false).unwrap();
            assert!(self.ids.insert(message.id.clone()), "{context}: {} is told twice", message.id);
            self.kinds[1] += u64::from(parcel.len() > 1);
            self.kinds[2] += u64::from(message.digest.is_some());
            self.kinds[3] += 1;
            for (log, _, claim) in &parcel {
                ended.push((*log, claim.number, End::Taken));
            }
        }
        Arc::make_mut(&mut self.world.book).end(&ended, self.world.now);
    }

    /// What does not pass is never more than any window has room for.
    fn check_windows(&mut self, wanted: &[Wanted], context: &str) {
        let mut seen = BTreeSet::new();
        for one in wanted.iter().filter(|one| one.claim.reason.is_some() && !one.whom.is_storm()) {
            let target = Target::of(&one.whom);
            let Some(bounds) = self.plan.telling.bounds(&target.receiver) else { continue };
            let new = one.claim.bundle == 0 || seen.insert(one.claim.bundle);
            let told = self.world.book.logs().get(log_id(SEED, &one.whom)).map(|told| Told::clone(told)).unwrap_or_default();
            let kept = |id: &u64| self.world.book.alerts().get(*id).unwrap();
            let passes = one.claim.firing.iter().any(|id| bounds.pass.has(crate::alert::message::level(&kept(id).alert.labels)));
            if !new || passes || one.claim.over.iter().any(|id| told.has_it(*id)) {
                continue;
            }
            let sent = self.bound.entry(target).or_default();
            sent.push(self.world.now);
            for (messages, per) in &bounds.windows {
                let within = sent.iter().filter(|at| **at > self.world.now - per).count();
                assert!(within <= *messages, "{context}: {within} messages in {per} ms");
            }
        }
    }

    /// Nobody lacks the end of what was told or held.
    fn check_ends(&self, context: &str) {
        for (log, id) in &self.owed {
            let told = self.world.book.logs().get(*log).map(|told| Told::clone(told)).unwrap_or_default();
            assert!(!told.is_owed(*id), "{context}: {} lacks the end of {id}", told.whom.group);
        }
    }
}

#[test]
fn long_lives_under_all_bounds() {
    let plan = plan_with(ALL);
    let mut kinds = [0; 4];
    for seed in seeds(3) {
        let mut random = fastrand::Rng::with_seed(seed);
        let world = World::of(Arc::clone(&plan));
        let (owed, ids, bound) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        let mut life = Life { world, plan: Arc::clone(&plan), owed, ids, bound, kinds: [0; 4] };
        for round in 0..600 {
            let context = format!("SEED={seed} round {round}");
            life.world.now += random.i64(1..=15_000);
            let storm = round % 100 < 10;
            for _ in 0..random.usize(0..if storm { 8 } else { 3 }) {
                let span = if random.u8(0..4) == 0 { 0 } else { random.i64(60..2_000) };
                life.world.post(&random_labels(&mut random), span);
            }
            if random.u8(0..40) == 0 {
                life.world.other_leader();
            }
            life.turn(&mut random, &context);
        }
        // Everything ends, and time goes by.
        for round in 0..400 {
            life.world.now += 30_000;
            life.turn(&mut random, &format!("SEED={seed} end {round}"));
        }
        life.check_ends(&format!("SEED={seed}"));
        (0..4).for_each(|kind| kinds[kind] += life.kinds[kind]);
    }
    let [held, bundles, digests, messages] = kinds;
    assert!(held > 5 && bundles > 5 && digests > 2 && messages > 100, "{kinds:?}");
}
