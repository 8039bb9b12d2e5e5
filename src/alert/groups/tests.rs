//! Times of groups one by one; and long random lives of many alerts, in which grouping and suppression are held against a plain reckoning over all, and
//! telling against what must hold of it: nothing too early, nothing missing, everything in order. `SEED` and `ROUNDS` work as everywhere.

use std::time::Duration;

use super::standing::Standing;
use super::standing::Ways;
use super::*;
use crate::alert::matcher;
use crate::alert::message::Message;
use crate::alert::silence::Phase;
use crate::alert::silence::Silence;
use crate::alert::telling;
use crate::alert::told::End;
use crate::alert::told::has;
use crate::alert::value;
use crate::config::Config;
use crate::config::routing as written;
use crate::model::alert::Alert;
use crate::mutate::seeds;

mod bounds;
mod escalation;
mod outlook;
mod policies;

const SEED: u64 = 3;

const FILE: &str = r#"
route:
  receiver: all
  group_by: [alertname]
  group_wait: 30s
  group_interval: 5m
  repeat_interval: 4h
  routes:
    - { matchers: [team=db], receiver: db, continue: true, group_by: [alertname, cluster] }
    - { matchers: ['team=~"db|web"'], receiver: web, group_by: [], mute_time_intervals: [nights] }
receivers: [{ name: all }, { name: db }, { name: web }]
inhibit_rules:
  - { source_matchers: [severity=critical], target_matchers: [severity=warning], equal: [cluster] }
  - { source_matchers: [alertname=A], target_matchers: ['alertname=~"A|B"'] }
time_intervals: [{ name: nights, time_intervals: [{ times: [{ start_time: '20:00', end_time: '24:00' }] }] }]
"#;

fn plan() -> Arc<Plan> {
    plan_with("")
}

/// With what stands beside the file in the section `alerting`.
fn plan_with(beside: &str) -> Arc<Plan> {
    let config = Config::parse(&format!("data_dir: /x\nsinks: []\nalerting:\n  file: x\n{beside}")).unwrap();
    let (routing, rules) = telling::judge(&config.alerting.unwrap().telling, &written::parse(FILE).unwrap()).unwrap();
    let receivers = [("all".into(), vec![true]), ("db".into(), vec![true, false]), ("web".into(), vec![true])].into();
    Arc::new(Plan::new(routing, receivers).with_telling(rules))
}

fn labels(text: &str) -> Labels {
    matcher::read(text).unwrap().matchers.into_iter().map(|matcher| (matcher.name, matcher.value)).collect()
}

struct World {
    book: Arc<Book>,
    groups: Groups,
    now: i64,
}

impl World {
    fn new() -> World {
        World::of(plan())
    }

    fn of(plan: Arc<Plan>) -> World {
        World { book: Arc::default(), groups: Groups::new(plan, SEED), now: 1_790_000_000_000 }
    }

    /// Another one leads.
    fn other_leader(&mut self) {
        self.groups = Groups::new(Arc::clone(self.groups.plan()), SEED);
    }

    /// `span` seconds from now; negative: over.
    fn post(&mut self, text: &str, span: i64) {
        let (ends, now) = (self.now + span * 1000, self.now);
        let word = Alert { labels: labels(text), starts: ends.min(now), ends, updated: now, ..Alert::default() };
        Arc::make_mut(&mut self.book).post(SEED, vec![word], now).unwrap();
    }

    /// What is told when so many seconds have passed, and taken.
    fn after(&mut self, seconds: i64) -> Vec<String> {
        self.now += seconds * 1000;
        let mut told = Vec::new();
        for _ in 0..20 {
            let wanted = self.wanted();
            if wanted.is_empty() {
                return told;
            }
            Arc::make_mut(&mut self.book).claim(SEED, wanted).unwrap();
            told.extend(self.take().into_iter().map(|message| line(&message)));
        }
        panic!("it does not come to an end: {told:?}");
    }

    /// All that is on its way is taken.
    fn take(&mut self) -> Vec<(Message, u32)> {
        let book = Arc::clone(&self.book);
        self.groups.look(&book);
        let parcels = self.groups.parcels();
        let messages = parcels.iter().map(|parcel| (words::message(&book, parcel, false).unwrap(), parcel[0].1.whom.integration)).collect();
        let ended: Vec<_> = parcels.iter().flatten().map(|(log, _, claim)| (*log, claim.number, End::Taken)).collect();
        Arc::make_mut(&mut self.book).end(&ended, self.now);
        messages
    }

    fn wanted(&mut self) -> Vec<Wanted> {
        let book = Arc::clone(&self.book);
        self.groups.look(&book);
        self.groups.due(self.now, 100)
    }
}

/// To whom, why, which alerts by their label `i`; a step, how many groups, or how many alerts of a storm fire and are over.
fn line((message, integration): &(Message, u32)) -> String {
    let names: Vec<&str> = message.alerts.iter().map(|alert| value(&alert.labels, "i")).collect();
    let step = message.escalation.as_ref().map(|step| format!(" {}/{}", step.policy, step.step)).unwrap_or_default();
    let groups = if message.parts.is_empty() { String::new() } else { format!(" of {}", message.parts.len()) };
    let digest = message.digest.as_ref().map(|all| format!(" storm {}/{}", all.firing, all.over)).unwrap_or_default();
    format!("{}{integration} {:?} {}{step}{groups}{digest}", message.receiver, message.reason, names.join(""))
}

#[test]
fn a_group_waits_then_looks_at_every_interval() {
    let mut world = World::new();
    world.post("alertname=X,i=1", 7_200);
    assert_eq!(world.after(29), [""; 0]);
    world.post("alertname=X,i=2", 7_200);
    assert_eq!(world.after(1), ["all0 First 12"]);
    world.post("alertname=X,i=3", 7_200);
    assert_eq!(world.after(299), [""; 0]);
    assert_eq!(world.after(1), ["all0 New 123"]);
    world.post("alertname=X,i=2", 0);
    assert_eq!(world.after(301), ["all0 SomeOver 132"]);
    world.post("alertname=X,i=1", 0);
    world.post("alertname=X,i=3", 0);
    assert_eq!(world.after(300), ["all0 AllOver 13"]);
    // It holds again: as if new.
    assert_eq!(world.after(299), [""; 0]);
    world.post("alertname=X,i=1", 7_200);
    assert_eq!(world.after(29), [""; 0]);
    assert_eq!(world.after(1), ["all0 First 1"]);
}

#[test]
fn what_holds_is_told_again() {
    let mut world = World::new();
    world.post("alertname=X,i=1", 100_000);
    assert_eq!(world.after(30), ["all0 First 1"]);
    assert_eq!(world.after(4 * 3600 - 1), [""; 0]);
    assert_eq!(world.after(1), ["all0 Repeat 1"]);
    world.after(3_600);
    assert_eq!(world.after(3 * 3_600 - 1), [""; 0]);
    assert_eq!(world.after(1), ["all0 Repeat 1"]);
}

#[test]
fn times_survive_whoever_reckons_them() {
    let mut world = World::new();
    world.post("alertname=X,i=1", 100_000);
    assert_eq!(world.after(30), ["all0 First 1"]);
    world.after(400);
    world.post("alertname=X,i=2", 100_000);
    // Another leader: what came a moment ago waits for its time all the same.
    world.groups = Groups::new(plan(), SEED);
    assert_eq!(world.after(1), [""; 0]);
    assert_eq!(world.after(198), [""; 0]);
    assert_eq!(world.after(1), ["all0 New 12"]);
    // And what was due while nobody led is told at once.
    world.post("alertname=X,i=3", 100_000);
    world.groups = Groups::new(plan(), SEED);
    assert_eq!(world.after(310), ["all0 New 123"]);
}

/// `compat.reload_resets_timers`, as Alertmanager's `TestReload` has it.
#[test]
fn timers_begin_anew_where_a_reload_is_to_reset_them() {
    let mut world = World::new();
    world.post("alertname=X,i=1", 100_000);
    assert_eq!(world.after(30), ["all0 First 1"]);
    world.after(200);
    world.post("alertname=X,i=2", 100_000);
    world.post("alertname=Y,i=3", 100_000);
    world.after(20);
    // 80 seconds before the group would be looked at, and 10 before the new one is told.
    let routing = plan().routing().clone();
    let anew = Plan::new(routing, [("all".into(), vec![true])].into()).anew(world.now);
    world.groups = Groups::new(Arc::new(anew), SEED);
    assert_eq!(world.after(29), [""; 0]);
    assert_eq!(world.after(1), ["all0 First 3"]);
    assert_eq!(world.after(269), [""; 0]);
    assert_eq!(world.after(1), ["all0 New 12"]);
    // And then go on as ever.
    world.post("alertname=X,i=4", 100_000);
    assert_eq!(world.after(299), [""; 0]);
    assert_eq!(world.after(1), ["all0 New 124"]);
}

#[test]
fn a_message_on_its_way_is_waited_for_and_what_came_meanwhile_is_told_then() {
    let mut world = World::new();
    world.post("alertname=X,i=1", 100_000);
    world.now += 30_000;
    let wanted = world.wanted();
    assert_eq!(world.wanted(), [], "decided a moment ago");
    world.now += AGAIN_MS;
    assert_eq!(world.wanted().len(), 1, "and not in the book: decided anew");
    Arc::make_mut(&mut world.book).claim(SEED, wanted.clone()).unwrap();
    world.post("alertname=X,i=1", 0);
    world.now += 3_600_000;
    assert_eq!(world.wanted(), []);
    let open: Vec<_> = world.groups.parcels().iter().map(|parcel| words::message(&world.book, parcel, false).unwrap()).collect();
    assert!(open[0].is_firing() && world.groups.open().count() == 1);
    Arc::make_mut(&mut world.book).end(&[(log_id(SEED, &wanted[0].whom), wanted[0].claim.number, End::Taken)], 0);
    assert_eq!(world.after(1), ["all0 AllOver 1"]);
}

#[test]
fn each_integration_is_told_by_itself() {
    let mut world = World::new();
    world.post("alertname=X,team=db,cluster=c,i=1", 1_000);
    let mut told = world.after(30);
    told.sort();
    assert_eq!(told, ["db0 First 1", "db1 First 1", "web0 First 1"]);
    world.post("alertname=X,team=db,cluster=c,i=1", 0);
    let mut told = world.after(300);
    told.sort();
    assert_eq!(told, ["db0 AllOver 1", "web0 AllOver 1"], "one wants to hear of no end");
}

#[test]
fn what_fires_for_a_moment_is_not_told() {
    let mut world = World::new();
    world.post("alertname=X,i=1", 10);
    assert_eq!(world.after(30), [""; 0]);
    assert_eq!(world.groups.next_due(), None);
    world.post("alertname=X,i=2", 1_000);
    assert_eq!(world.after(30), ["all0 First 2"]);
}

/// Which silences, alerts and intervals suppress an alert, by looking at all of them.
fn plainly(world: &World, plan: &Plan, id: u64, kept: &Kept) -> (Standing, Ways) {
    let now = world.now;
    let holds = |silence: &&Arc<Silence>| silence.phase(now) == Phase::Active && silence.matches(&kept.alert.labels);
    let mut inhibited_by: Vec<u64> = Vec::new();
    for rule in &plan.routing.inhibitions {
        let sources =
            world.book.alerts().iter().filter(|(other, source)| {
                *other != id && !source.alert.is_over(now) && rule.applies(&source.alert.labels, &kept.alert.labels)
            });
        inhibited_by.extend(sources.map(|(other, _)| other));
    }
    inhibited_by.sort_unstable();
    inhibited_by.dedup();
    let routes = plan.routing.root.matching(&kept.alert.labels);
    let muted = routes.iter().map(|route| plan.routing.muted_by(route, now).map(str::to_owned)).collect::<Option<BTreeSet<_>>>();
    let standing = Standing {
        silenced_by: world.book.silences().values().filter(holds).map(|silence| silence.id.clone()).collect(),
        inhibited_by,
        ..Standing::default()
    };
    let receivers = routes.into_iter().map(|route| route.receiver.clone()).collect();
    (standing, Ways { muted_by: muted.unwrap_or_default().into_iter().collect(), receivers })
}

fn random_labels(random: &mut fastrand::Rng) -> String {
    let mut pick = |all: &[&'static str]| *random.choice(all.iter()).unwrap();
    let (name, team, severity) = (pick(&["A", "B", "C"]), pick(&["db", "web", "ops"]), pick(&["critical", "warning", "info"]));
    format!("alertname={name},team={team},severity={severity},cluster={},i={}", pick(&["x", "y"]), pick(&["1", "2", "3"]))
}

fn check(world: &World, plan: &Plan, context: &str) {
    let mut expected: BTreeMap<(usize, String), BTreeSet<u64>> = BTreeMap::new();
    for (id, kept) in world.book.alerts().iter() {
        for route in plan.routing.root.matching(&kept.alert.labels) {
            expected.entry((route.number, route.group_key(&kept.alert.labels))).or_default().insert(id);
        }
        let (groups, now, (plain, ways)) = (&world.groups, world.now, plainly(world, plan, id, kept));
        assert_eq!((&groups.standing(id, kept, now), groups.ways(groups.of(id), now)), (&plain, ways), "{context}");
        let suppressed = !plain.silenced_by.is_empty() || !plain.inhibited_by.is_empty();
        assert_eq!(world.groups.is_suppressed(id, kept, world.now), suppressed, "{context}");
    }
    let found: BTreeMap<(usize, String), BTreeSet<u64>> =
        world.groups.all().map(|(route, key, _, ids)| ((route.number, key.to_owned()), ids.clone())).collect();
    assert_eq!(found, expected, "{context}");
}

/// Since when something of a lane is owed: an alert that holds and is not told, or one that is over and was told.
type Owed = BTreeMap<(Whom, u64, bool), i64>;

/// What must be told, and for how long: a group's wait and interval, and a step.
fn check_owed(world: &World, plan: &Plan, owed: &mut Owed, (step, context): (i64, &str)) {
    let mut now_owed = BTreeSet::new();
    for (id, kept) in world.book.alerts().iter() {
        let over = kept.alert.is_over(world.now);
        let suppressed = world.groups.is_suppressed(id, kept, world.now);
        for route in plan.routing.root.matching(&kept.alert.labels) {
            let muted = plan.routing.muted_by(route, world.now).is_some();
            for (integration, wants_over) in (0..).zip(plan.lanes(&route.receiver)) {
                let whom =
                    Whom { group: route.group_key(&kept.alert.labels).into(), receiver: route.receiver.as_str().into(), integration };
                let told = world.book.logs().get(log_id(SEED, &whom)).map(|told| Told::clone(told)).unwrap_or_default();
                let owes = match over {
                    true => *wants_over && told.is_owed(id),
                    false => !suppressed && !muted && !has(&told.firing, id),
                };
                if owes && told.claim.is_none() {
                    now_owed.insert((whom, id, over));
                }
            }
        }
    }
    owed.retain(|known, _| now_owed.contains(known));
    for known in now_owed {
        let since = *owed.entry(known.clone()).or_insert(world.now);
        let waited = world.now - since;
        assert!(waited <= ms(Duration::from_secs(330)) + 2 * step, "{context}: {known:?} has been owed for {waited} ms");
    }
}

#[test]
fn long_lives_of_many_alerts() {
    let plan = plan();
    let (mut messages, mut taken, mut inhibited) = (0, 0, 0);
    for seed in seeds(3) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new();
        let mut owed = Owed::new();
        let mut silences = 0;
        let step = 20_000;
        for round in 0..250 {
            let context = format!("SEED={seed} round {round}");
            world.now += random.i64(1..=step);
            for _ in 0..random.usize(0..3) {
                let span = if random.u8(0..3) == 0 { 0 } else { random.i64(60..4_000) };
                world.post(&random_labels(&mut random), span);
            }
            let book = Arc::make_mut(&mut world.book);
            if random.u8(0..15) == 0 {
                silences += 1;
                let text = random_labels(&mut random).split(',').take(random.usize(1..4)).collect::<Vec<_>>().join(",");
                let (starts, ends) = (world.now + random.i64(-9..99_000), world.now + random.i64(100_000..900_000));
                let silence = Silence {
                    id: format!("{silences:04}"),
                    matchers: matcher::read(&text).unwrap().matchers,
                    starts,
                    ends,
                    ..Silence::default()
                };
                book.silence(silence, None, world.now).unwrap();
            }
            if silences > 0 && random.u8(0..20) == 0 {
                let _ = book.expire(&format!("{:04}", random.u64(1..=silences)), world.now);
            }
            if random.u8(0..10) == 0 {
                let gone = book.sweepings(world.now, (900_000, 7_200_000), 50);
                book.sweep(&gone, world.now);
            }
            let open: Vec<_> = book.logs().iter().filter_map(|(id, told)| Some((id, told.claim.clone()?.number))).collect();
            for (id, number) in open {
                let end = match random.u8(0..10) {
                    0 => End::Never,
                    1 => End::Dropped,
                    2..4 => continue,
                    _ => End::Taken,
                };
                taken += u64::from(end == End::Taken);
                book.end(&[(id, number, end)], 0);
            }
            if random.u8(0..40) == 0 {
                world.groups = Groups::new(Arc::clone(&plan), SEED);
            }
            let before = Arc::clone(&world.book);
            for wanted in world.wanted() {
                let told = before.logs().get(log_id(SEED, &wanted.whom));
                messages += u64::from(wanted.claim.reason.is_some());
                for id in &wanted.claim.firing {
                    let kept = before.alerts().get(*id).unwrap();
                    assert!(!kept.alert.is_over(world.now) && !world.groups.is_suppressed(*id, kept, world.now), "{context}");
                }
                if told.is_none_or(|told| !told.is_open() && told.at == told.base) {
                    // Of all that came since, those that are over again among them: the group waits from the first.
                    let (group, _) = world.groups.of_log[&log_id(SEED, &wanted.whom)];
                    let base = told.map_or(i64::MIN, |told| told.base);
                    let all = world.groups.groups[&group].alerts.iter().map(|id| before.alerts().get(*id).unwrap().came);
                    let came = all.filter(|came| *came > base).min().unwrap();
                    assert!(world.now - came >= 30_000, "{context}: too early");
                } else if let Some(told) = told.filter(|told| told.is_open()) {
                    assert!(world.now - told.base >= 300_000, "{context}: too early");
                }
                Arc::make_mut(&mut world.book).claim(SEED, vec![wanted]).unwrap();
            }
            let book = Arc::clone(&world.book);
            world.groups.look(&book);
            if round % 5 == 0 {
                check(&world, &plan, &context);
                inhibited += world
                    .book
                    .alerts()
                    .iter()
                    .filter(|(id, kept)| !world.groups.standing(*id, kept, world.now).inhibited_by.is_empty())
                    .count();
            }
            check_owed(&world, &plan, &mut owed, (step, &context));
        }
    }
    assert!(messages > 100 && taken > 100 && inhibited > 100, "{messages} {taken} {inhibited}");
}
