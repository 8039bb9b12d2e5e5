//! sluice beside a real Alertmanager (Debian's is 0.25): made-up trees of routes, receivers, silences and inhibition, and the same words about alerts to both in the
//! same time. Several seeds share the two programs, each with a branch of the tree of its own, so that all of them take no longer than one.
//!
//! Compared after each step, when both have had time to tell: `/api/v2/alerts` and `/api/v2/alerts/groups` whole (how an alert stands, where it goes), and of
//! what receivers were told, per receiver and group:
//! - of each alert the order in which it was told as holding and as over. Saying the same of it again is left out, since the two programs' clocks of groups stand
//!   differently: what one tells in one message may be two of the other. So is the end of what nobody was told of, which is no news.
//! - what the last message says holds, which is all of the group that is not suppressed.
//! - that no message of ours says only what the one before said, where nothing is repeated; and at the end, that both repeat the same groups.
//!
//! Not taken as an oracle: Alertmanager where it loses an end because the alert is suppressed by then. Ours must tell it; afterwards that group is
//! compared by the API alone, since the log of Alertmanager believes for ever that the alert holds.

use super::alerting::rfc3339;
use super::routes::{NAMES, VALUES, matcher, route};
use crate::support::http::{Client, Http, Server};
use crate::support::peers::{ALERTMANAGERS, Peer, need, on_path};
use crate::support::process::{Process, Scratch, eventually, free_port, let_pass, now_ms};
use crate::support::sluice::Sluice;
use crate::support::trio::NOWHERE;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(40);
const SEEDS: u64 = 6;
const STEPS: u64 = 6;
/// Alerts of a seed.
const ALERTS: usize = 10;
/// Longer than the longest `group_wait` and `group_interval` here.
const SETTLES: Duration = Duration::from_millis(4_500);

/// Receiver and group.
pub type Lane = (String, String);

/// A message: alerts by their label `i`.
#[derive(Clone, Debug)]
struct Told {
    lane: Lane,
    firing: BTreeSet<String>,
    over: BTreeSet<String>,
}

/// One of the two, and what receivers heard of it.
pub struct Side {
    pub client: Client,
    heard: Arc<Mutex<Vec<Told>>>,
    /// Its names of the silences.
    pub silences: Vec<String>,
}

/// What was made up, and how it stands.
struct Stream {
    seed: u64,
    random: fastrand::Rng,
    alerts: Vec<Made>,
    /// Silences that hold, by their number.
    silences: Vec<usize>,
}

#[derive(Clone)]
struct Made {
    labels: BTreeMap<String, String>,
    /// It holds since then.
    starts: Option<i64>,
    word: u32,
}

fn yaml_block(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

/// The file for both; `{hook}` stands where each is told.
fn file(seeds: &[u64]) -> String {
    let (mut receivers, mut routes, mut inhibit) = (0, String::new(), String::new());
    for seed in seeds {
        let mut random = fastrand::Rng::with_seed(*seed);
        receivers += 1;
        let (group_by, repeat) = (group_by(&mut random), if repeats(*seed) { "3s" } else { "1h" });
        routes.push_str(&format!(
            "  - matchers: ['seed=\"{seed}\"']\n    receiver: r{receivers}\n    {group_by}\n    group_wait: 1s\n    group_interval: 2s\n    \
             repeat_interval: {repeat}\n"
        ));
        let mut below = String::new();
        route(&mut random, 0, &mut receivers, &keys, &mut below);
        routes.push_str(&yaml_block(&below, 2));
        for _ in 0..random.usize(1..3) {
            let (name, value, target) = (NAMES[random.usize(..4)], VALUES[random.usize(1..5)], matcher(&mut random));
            let equal = ["[seed]", "[seed, cluster]", "[seed, team]"][random.usize(..3)];
            inhibit.push_str(&format!(
                "- source_matchers: ['seed=\"{seed}\"', '{name}=\"{value}\"']\n  target_matchers: ['{target}']\n  equal: {equal}\n"
            ));
        }
    }
    let mut file = format!("route:\n  receiver: r0\n  group_by: [seed]\n  routes:\n{routes}inhibit_rules:\n{inhibit}receivers:\n");
    for number in 0..=receivers {
        let ends = number % 4 != 3;
        file.push_str(&format!("- name: r{number}\n  webhook_configs: [{{ url: 'http://{{hook}}/', send_resolved: {ends} }}]\n"));
    }
    file.push_str("time_intervals:\n- name: always\n  time_intervals: [{ years: ['2000:2100'] }]\n- name: never\n  time_intervals: [{ years: ['1999'] }]\n");
    file
}

fn group_by(random: &mut fastrand::Rng) -> String {
    format!("group_by: {}", ["[alertname]", "[cluster, team]", "['...']", "[service, severity]"][random.usize(..4)])
}

/// What a route may say besides where it leads.
fn keys(random: &mut fastrand::Rng) -> Vec<String> {
    let mut keys = Vec::new();
    if random.bool() {
        keys.push(group_by(random));
    }
    if random.u8(..3) == 0 {
        keys.push("group_interval: 3s".to_owned());
    }
    if random.u8(..3) == 0 {
        keys.push("group_wait: 500ms".to_owned());
    }
    match random.u8(..12) {
        0 => keys.push("mute_time_intervals: [always]".to_owned()),
        1 => keys.push("mute_time_intervals: [never]".to_owned()),
        2 => keys.push("active_time_intervals: [always]".to_owned()),
        3 => keys.push("active_time_intervals: [never]".to_owned()),
        _ => {}
    }
    keys
}

/// Every third seed's groups are told again and again.
fn repeats(seed: u64) -> bool {
    seed.is_multiple_of(3)
}

fn listen() -> (Arc<Mutex<Vec<Told>>>, Server) {
    let heard: Arc<Mutex<Vec<Told>>> = Arc::default();
    let known = Arc::clone(&heard);
    let server = Server::start(move |request: &Http| {
        let body = request.json();
        let of = |state: &str| {
            let alerts = body["alerts"].as_array().unwrap().iter().filter(|alert| alert["status"] == state);
            alerts.map(|alert| text(&alert["labels"]["i"])).collect()
        };
        let lane = (text(&body["receiver"]), text(&body["groupKey"]));
        known.lock().unwrap().push(Told { lane, firing: of("firing"), over: of("resolved") });
        Some(Http::answer(200, ""))
    });
    (heard, server)
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Side {
    fn new(address: SocketAddr, heard: Arc<Mutex<Vec<Told>>>) -> Side {
        Side { client: Client::new(address), heard, silences: Vec::new() }
    }

    #[track_caller]
    pub fn post(&mut self, path: &str, body: &Value) -> Http {
        let headers = vec![("Host".to_owned(), "x".to_owned()), ("Content-Type".to_owned(), "application/json".to_owned())];
        let request = Http { first: format!("POST {path} HTTP/1.1"), headers, body: body.to_string().into() };
        let answer = self.client.send(&request).expect("an answer");
        assert_eq!(answer.status(), 200, "{}: {body}", answer.text());
        answer
    }

    fn get(&mut self, path: &str) -> Value {
        self.client.call("GET", path).expect("an answer").json()
    }

    /// How each alert stands, and by what it is inhibited.
    fn alerts(&mut self) -> BTreeMap<String, (Value, BTreeSet<String>)> {
        let all = self.get("/api/v2/alerts");
        all.as_array().unwrap().iter().map(|alert| (text(&alert["labels"]["i"]), self.standing(alert))).collect()
    }

    fn standing(&self, alert: &Value) -> (Value, BTreeSet<String>) {
        let mut silenced: Vec<Option<usize>> = alert["status"]["silencedBy"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| self.silences.iter().position(|known| id == known.as_str()))
            .collect();
        silenced.sort_unstable();
        let inhibited: BTreeSet<String> = alert["status"]["inhibitedBy"].as_array().unwrap().iter().map(text).collect();
        let mut receivers: Vec<String> = alert["receivers"].as_array().unwrap().iter().map(|receiver| text(&receiver["name"])).collect();
        receivers.sort();
        let mut shown = json!({ "silenced": silenced, "inhibited": !inhibited.is_empty(), "receivers": receivers });
        for key in ["fingerprint", "startsAt", "endsAt", "annotations", "labels"] {
            shown[key] = alert[key].clone();
        }
        // That a route's time interval mutes it is said since 0.28 only.
        let muted = alert["status"]["mutedBy"].as_array().is_some_and(|muted| !muted.is_empty());
        let state = text(&alert["status"]["state"]);
        let by_us = muted && silenced.is_empty() && inhibited.is_empty();
        shown["state"] = if by_us && state == "suppressed" { "active".into() } else { state.into() };
        (shown, inhibited)
    }

    /// Of each group receiver, labels, and how its alerts stand.
    fn groups(&mut self) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for group in self.get("/api/v2/alerts/groups").as_array().unwrap() {
            let alerts = group["alerts"].as_array().unwrap().iter();
            let mut alerts: Vec<String> = alerts.map(|alert| self.standing(alert).0.to_string()).collect();
            alerts.sort();
            *all.entry(format!("{} {} {alerts:?}", group["receiver"]["name"], group["labels"])).or_default() += 1;
        }
        all
    }

    pub fn story(&self) -> BTreeMap<Lane, Story> {
        let mut stories = BTreeMap::<Lane, Story>::new();
        for told in &*self.heard.lock().unwrap() {
            stories.entry(told.lane.clone()).or_default().add(told);
        }
        stories
    }
}

/// What a receiver was told of a group.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// Of each alert `F` and `R`, in turn.
    pub alerts: BTreeMap<String, String>,
    /// What the last message says holds.
    last: BTreeSet<String>,
    /// Over, and never told as holding.
    pub untold: BTreeSet<String>,
    pub messages: usize,
    /// Messages that said nothing new.
    idle: usize,
}

impl Story {
    fn add(&mut self, told: &Told) {
        let mut news = self.messages == 0 || told.firing != self.last;
        for (alerts, state) in [(&told.over, 'R'), (&told.firing, 'F')] {
            for alert in alerts {
                let known = self.alerts.entry(alert.clone()).or_default();
                if known.is_empty() && state == 'R' {
                    news |= self.untold.insert(alert.clone());
                } else if !known.ends_with(state) {
                    known.push(state);
                    news = true;
                }
            }
        }
        self.last.clone_from(&told.firing);
        self.messages += 1;
        self.idle += usize::from(!news);
    }
}

impl Stream {
    fn new(seed: u64) -> Stream {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let alerts = (0..ALERTS)
            .map(|number| {
                let mut labels: BTreeMap<String, String> =
                    NAMES.iter().map(|name| ((*name).to_owned(), VALUES[random.usize(..5)].to_owned())).collect();
                labels.retain(|_, value| !value.is_empty());
                labels.insert("alertname".to_owned(), ["A", "B"][random.usize(..2)].to_owned());
                labels.extend([("seed".to_owned(), seed.to_string()), ("i".to_owned(), format!("{seed}.{number}"))]);
                Made { labels, starts: None, word: 0 }
            })
            .collect();
        Stream { seed, random, alerts, silences: Vec::new() }
    }

    /// What changes in silences: the one that ends, or the one that begins.
    fn silences(&mut self, ends: bool, next: usize) -> (Option<usize>, Option<Value>) {
        if ends {
            return ((!self.silences.is_empty() && self.random.bool()).then(|| self.silences.remove(0)), None);
        }
        let made = (self.random.u8(..3) > 0).then(|| {
            let is_equal = self.random.u8(..4) > 0;
            let (name, value) = (NAMES[self.random.usize(..4)], VALUES[self.random.usize(1..5)]);
            self.silences.push(next);
            json!({
                "matchers": [
                    { "name": "seed", "value": self.seed.to_string(), "isRegex": false, "isEqual": true },
                    { "name": name, "value": value, "isRegex": self.random.bool(), "isEqual": is_equal },
                ],
                "startsAt": rfc3339(now_ms()), "endsAt": rfc3339(now_ms() + 3_600_000), "createdBy": "ann", "comment": "work",
            })
        });
        (None, made)
    }

    /// Words about some alerts; those that end are named.
    fn words(&mut self, ends: bool) -> (Vec<Value>, Vec<String>) {
        let (mut words, mut ended, now) = (Vec::new(), Vec::new(), now_ms());
        for made in &mut self.alerts {
            let (starts, until) = match (made.starts, self.random.u8(..10)) {
                (None, 0..6) if !ends => (*made.starts.insert(now), now + 3_600_000),
                (Some(starts), 0..4) if ends => {
                    made.starts = None;
                    ended.push(made.labels["i"].clone());
                    (starts, now)
                }
                // Once more, and perhaps with another text.
                (Some(starts), 4..6) => {
                    made.word += u32::from(self.random.bool());
                    (starts, now + 3_600_000)
                }
                _ => continue,
            };
            words.push(json!({
                "labels": made.labels, "annotations": { "word": made.word.to_string() },
                "startsAt": rfc3339(starts), "endsAt": rfc3339(until),
            }));
        }
        (words, ended)
    }
}

/// The two of them, and what is known of Alertmanager's losses.
struct Pair {
    theirs: Side,
    ours: Side,
    lost: BTreeSet<Lane>,
    no_ends: BTreeSet<String>,
    /// Parts of groups' keys.
    repeated: Vec<String>,
}

fn differ<T: PartialEq + Debug>(what: &str, theirs: &BTreeMap<String, T>, ours: &BTreeMap<String, T>, out: &mut Vec<String>) {
    for key in theirs.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
        if theirs.get(key) != ours.get(key) {
            out.push(format!("{what} {key}\n  Alertmanager {:?}\n  sluice       {:?}", theirs.get(key), ours.get(key)));
        }
    }
}

impl Pair {
    /// One step of every stream: silences first, then alerts, all of them in one piece. Of one stream either something begins or something ends: what ends while
    /// what suppresses it begins is told or not, as the group's clock stands. So is what ends in the moment in which a silence ends that kept it from being told
    /// at all: both have time to tell what that releases.
    fn step(&mut self, streams: &mut [Stream], step: u64) {
        let ending = |stream: &Stream| (stream.seed + step).is_multiple_of(2) && step > 1;
        let mut released = false;
        for stream in &mut *streams {
            let (ends, begins) = stream.silences(ending(stream), self.ours.silences.len());
            released |= ends.is_some();
            for side in [&mut self.theirs, &mut self.ours] {
                if let Some(ends) = ends {
                    let path = format!("/api/v2/silence/{}", side.silences[ends]);
                    assert_eq!(side.client.call("DELETE", &path).expect("an answer").status(), 200);
                }
                if let Some(silence) = &begins {
                    let id = text(&side.post("/api/v2/silences", silence).json()["silenceID"]);
                    side.silences.push(id);
                }
            }
        }
        if released {
            let_pass(SETTLES);
        }
        let (words, ended): (Vec<_>, Vec<_>) = streams.iter_mut().map(|stream| stream.words(ending(stream))).unzip();
        let suppressed: BTreeSet<String> =
            self.theirs.alerts().into_iter().filter(|(_, (shown, _))| shown["state"] == "suppressed").map(|(alert, _)| alert).collect();
        let (told, words) = (self.ours.story(), Value::Array(words.concat()));
        self.theirs.post("/api/v2/alerts", &words);
        self.ours.post("/api/v2/alerts", &words);
        // Whoever was told of these must hear that they are over, and perhaps does not from Alertmanager.
        for alert in ended.concat().into_iter().filter(|alert| suppressed.contains(alert)) {
            let heard = |story: &Story| story.alerts.get(&alert).is_some_and(|known| known.ends_with('F'));
            let lanes: Vec<Lane> = told.iter().filter(|(_, story)| heard(story)).map(|(lane, _)| lane.clone()).collect();
            for lane in lanes {
                if !self.no_ends.contains(&lane.0) {
                    eventually(SOON, &format!("the end of {alert}, which is suppressed, to be told to {lane:?}"), || {
                        let story = self.ours.story().remove(&lane).unwrap_or_default();
                        if heard(&story) { Err(format!("{story:?}")) } else { Ok(()) }
                    });
                }
                self.lost.insert(lane);
            }
        }
    }

    /// What differs now.
    fn differences(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        let (theirs, ours) = (self.theirs.alerts(), self.ours.alerts());
        let shown =
            |all: &BTreeMap<String, (Value, BTreeSet<String>)>| all.iter().map(|(id, (shown, _))| (id.clone(), shown.clone())).collect();
        differ("alert", &shown(&theirs), &shown(&ours), &mut out);
        for (alert, (_, by)) in &theirs {
            // Alertmanager names one of them.
            if ours.get(alert).is_some_and(|(_, known)| !by.is_subset(known)) {
                out.push(format!("alert {alert} is inhibited by {by:?}, ours by {:?}", ours[alert].1));
            }
        }
        differ("group", &self.theirs.groups(), &self.ours.groups(), &mut out);
        let (theirs, ours) = (self.theirs.story(), self.ours.story());
        let told = |all: BTreeMap<Lane, Story>, lost: &BTreeSet<Lane>, no_ends: &BTreeSet<String>| {
            let kept = all.into_iter().filter(|(lane, _)| !lost.contains(lane));
            let shown = kept.map(|(lane, mut story)| {
                story.alerts.retain(|_, known| !known.is_empty());
                let last = if no_ends.contains(&lane.0) { BTreeSet::new() } else { story.last };
                (format!("{lane:?}"), (story.alerts, last))
            });
            shown.filter(|(_, (alerts, last))| !(alerts.is_empty() && last.is_empty())).collect()
        };
        let idle = ours.iter().filter(|((receiver, group), story)| {
            story.idle > 0 && !self.no_ends.contains(receiver) && !self.repeated.iter().any(|part| group.contains(part))
        });
        out.extend(idle.map(|(lane, story)| format!("{lane:?} was told nothing new: {story:?}")));
        differ("told", &told(theirs, &self.lost, &self.no_ends), &told(ours, &self.lost, &self.no_ends), &mut out);
        out
    }

    #[track_caller]
    fn same(&mut self, when: &str) {
        let_pass(SETTLES);
        eventually(SOON, &format!("the two to say the same {when}"), || {
            let out = self.differences();
            if out.is_empty() { Ok(()) } else { Err(format!("{} differences\n{}", out.len(), out.join("\n"))) }
        });
    }

    /// Nothing new comes: which groups are told again, by both. One that only one of them tells again stays a difference, however long one waits.
    #[track_caller]
    fn again(&self) -> BTreeSet<Lane> {
        let before = [self.theirs.story(), self.ours.story()];
        let more = |side: &Side, before: &BTreeMap<Lane, Story>| -> BTreeSet<Lane> {
            let told = side.story().into_iter();
            let more = told.filter(|(lane, story)| before.get(lane).is_none_or(|before| before.messages < story.messages));
            more.map(|(lane, _)| lane).filter(|lane| !self.lost.contains(lane)).collect()
        };
        let_pass(Duration::from_secs(8));
        eventually(SOON, "the two to tell the same groups again", || {
            let (theirs, ours) = (more(&self.theirs, &before[0]), more(&self.ours, &before[1]));
            if theirs == ours { Ok(theirs) } else { Err(format!("Alertmanager {theirs:?}\nsluice       {ours:?}")) }
        })
    }
}

/// Both programs with one file, in which `{hook}` stands for where they tell.
pub struct Two {
    pub theirs: Side,
    pub ours: Side,
    pub sluice: Sluice,
    _peers: (Process, Server, Server),
}

impl Two {
    pub fn up(scratch: &Scratch, text: &str) -> Two {
        let ((theirs, their_hook), (ours, our_hook)) = (listen(), listen());
        let (alertmanager, address) = alertmanager(scratch, &text.replace("{hook}", &their_hook.address.to_string()));
        let section = yaml_block(&text.replace("{hook}", &our_hook.address.to_string()), 4);
        let sinks = NOWHERE.strip_prefix("sinks:\n").unwrap();
        let mut sluice = Sluice::prepare_with(scratch, "streams", &format!("{sinks}alerting:\n  config:\n{section}"), None);
        sluice.up();
        let (theirs, ours) = (Side::new(address, theirs), Side::new(sluice.address(), ours));
        Two { theirs, ours, sluice, _peers: (alertmanager, their_hook, our_hook) }
    }
}

fn alertmanager(scratch: &Scratch, text: &str) -> (Process, SocketAddr) {
    let (dir, address) = (scratch.sub("alertmanager"), SocketAddr::from(([127, 0, 0, 1], free_port())));
    std::fs::write(dir.join("alertmanager.yml"), text).unwrap();
    let program = ALERTMANAGERS.into_iter().find(|name| on_path(name)).expect("need(Amtool) was asked");
    let arguments = [
        "--config.file=alertmanager.yml".to_owned(),
        "--storage.path=data".to_owned(),
        format!("--web.listen-address={address}"),
        "--cluster.listen-address=".to_owned(),
        "--log.level=warn".to_owned(),
    ];
    let process = Process::start("alertmanager", program, &arguments, &dir, &dir.join("log"));
    let mut client = Client::new(address);
    eventually(SOON, "alertmanager", || match client.call("GET", "/-/ready").map_err(|error| error.to_string())?.status() {
        200 => Ok(()),
        other => Err(other.to_string()),
    });
    (process, address)
}

#[test]
fn streams_of_alerts_end_as_with_alertmanager() {
    if !need(&[Peer::Amtool]) {
        return;
    }
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(300);
    let seeds: Vec<u64> = (first..first + SEEDS).collect();
    eprintln!("seeds {seeds:?}; another first one: SEED=N");
    let scratch = Scratch::new("alert-streams");
    let text = file(&seeds);
    let Two { theirs, ours, mut sluice, _peers } = Two::up(&scratch, &text);
    let receivers = text.matches("- name: r").count();
    let no_ends = (0..receivers).filter(|number| number % 4 == 3).map(|number| format!("r{number}")).collect();
    let keys = seeds.iter().filter(|seed| repeats(**seed)).map(|seed| format!("{{seed=\"{seed}\"}}")).collect();
    let mut pair = Pair { theirs, ours, lost: BTreeSet::new(), no_ends, repeated: keys };
    let mut streams: Vec<Stream> = seeds.iter().map(|seed| Stream::new(*seed)).collect();
    for step in 1..=STEPS {
        pair.step(&mut streams, step);
        pair.same(&format!("after step {step}"));
    }
    let repeated = pair.again();

    // The streams were worth it.
    let stories = pair.ours.story();
    let told = |what: &str| stories.values().flat_map(|story| story.alerts.values()).filter(|known| known.contains(what)).count();
    let suppressed = pair.ours.alerts().values().filter(|(shown, _)| shown["state"] == "suppressed").count();
    let numbers = (stories.len(), pair.lost.len(), repeated.len(), suppressed, told("F"), told("FR"), told("FRF"));
    eprintln!("groups, not comparable, repeated, suppressed; alerts told, over, told anew: {numbers:?}");
    assert!(
        stories.len() > 3 * pair.lost.len() && !repeated.is_empty() && suppressed > 3 && told("FR") > 10 && told("FRF") > 0,
        "{numbers:?}"
    );
    sluice.stop();
}
