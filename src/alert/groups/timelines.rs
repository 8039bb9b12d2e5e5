//! What Alertmanager's acceptance suite checks of groups, as timelines on a made-up clock: words about alerts, silences and reloads at given moments, and what each
//! integration of a receiver must be told at which moment. docs/compat.md names the case that each stands for.
//!
//! The suite allows half a second around each message; here the moment is exact, as nothing takes time. Receivers take everything at once. Left out on purpose:
//! what only real processes show (start, reload by signal, timeouts, several nodes): the end-to-end tests have it.

use super::*;
use crate::alert::matcher;
use crate::alert::silence::Silence;
use crate::alert::told::End;
use crate::alert::value;
use crate::config::routing as written;
use crate::model::alert::Alert;

const SEED: u64 = 5;
/// Second 0.
const BEGIN: i64 = 1_790_000_000_000;
/// One looks so often, ms.
const STEP: i64 = 10;

/// What happens; times in seconds.
enum Event {
    /// Labels, since when and until when (as Alertmanager fills in what is not said), and an annotation.
    Said(&'static str, Option<f64>, Option<f64>, &'static str),
    /// What these matchers fit is silenced between two moments.
    Silenced(&'static str, f64, f64),
    /// That silence is ended.
    Ended,
    /// A reload that lets timers begin anew.
    Reload,
}
use Event::Ended;
use Event::Reload;
use Event::Said;
use Event::Silenced;

struct Line {
    file: String,
    lanes: Vec<bool>,
    resolve_timeout: f64,
    book: Arc<Book>,
    groups: Groups,
}

fn ms_of(seconds: f64) -> i64 {
    BEGIN + (seconds * 1000.0).round() as i64
}

fn seconds_of(ms: i64) -> f64 {
    (ms - BEGIN) as f64 / 1000.0
}

impl Line {
    /// `route`: keys of the root; `more`: for the end of the file. Integrations of the one receiver: whether each wants to hear what is over.
    fn new(route: &str, more: &str, lanes: &[bool]) -> Line {
        let file = format!("route: {{ receiver: default, {route} }}\nreceivers: [{{ name: default }}]\n{more}");
        let plan = Arc::new(plan(&file, lanes));
        Line { file, lanes: lanes.to_vec(), resolve_timeout: 300.0, book: Arc::default(), groups: Groups::new(plan, SEED) }
    }

    fn happens(&mut self, event: &Event, now: i64) {
        let labels = |text: &str| matcher::read(text).unwrap().matchers.into_iter().map(|one| (one.name, one.value)).collect::<Labels>();
        let book = Arc::make_mut(&mut self.book);
        match *event {
            Said(text, starts, ends, annotation) => {
                let starts = starts.or(ends).map_or(now, ms_of);
                let until = ends.map_or(now + (self.resolve_timeout * 1000.0) as i64, ms_of);
                let annotations = labels(annotation);
                let labels = labels(text);
                let word = Alert { labels, annotations, starts, ends: until, times_out: ends.is_none(), updated: now, ..Alert::default() };
                book.post(SEED, vec![word], now).unwrap();
            }
            Silenced(text, starts, ends) => {
                let matchers = matcher::read(text).unwrap().matchers;
                let silence = Silence { id: "one".into(), matchers, starts: ms_of(starts), ends: ms_of(ends), ..Silence::default() };
                book.silence(silence, None, now).unwrap();
            }
            Ended => book.expire("one", now).unwrap(),
            Reload => self.groups = Groups::new(Arc::new(plan(&self.file, &self.lanes).anew(now)), SEED),
        }
    }

    /// Plays until a moment, and gives what was told: when, to which integration, of which alerts: `name[since:until]`, `until` only of what is over.
    fn play(mut self, events: &[(f64, Event)], until: f64) -> Vec<String> {
        let mut told = Vec::new();
        for now in (0..).map(|step| BEGIN + step * STEP).take_while(|now| *now <= ms_of(until)) {
            for (at, event) in events {
                if ms_of(*at) == now {
                    self.happens(event, now);
                }
            }
            self.groups.look(&Arc::clone(&self.book));
            for wanted in self.groups.due(now, 100) {
                let (log, claim) = (log_id(SEED, &wanted.whom), wanted.claim.clone());
                let book = Arc::make_mut(&mut self.book);
                book.claim(SEED, vec![wanted.clone()]).unwrap();
                if claim.reason.is_some() {
                    let message = words::message(book, &[(log, book.logs().get(log).unwrap(), &claim)], false).unwrap();
                    let mut alerts: Vec<String> = message.alerts.iter().map(|alert| shown(alert, now)).collect();
                    alerts.sort();
                    told.push(format!("{:.1} to {}: {}", seconds_of(now), wanted.whom.integration, alerts.join(" ")));
                }
                book.end(&[(log, claim.number, End::Taken)], now);
            }
        }
        told
    }
}

fn plan(file: &str, lanes: &[bool]) -> Plan {
    let routing = Routing::new(&written::parse(file).unwrap()).unwrap();
    Plan::new(routing, [("default".to_owned(), lanes.to_vec())].into())
}

fn shown(alert: &Alert, now: i64) -> String {
    let (of, note) = (|name| value(&alert.labels, name), value(&alert.annotations, "ann"));
    let until = if alert.is_over(now) { format!("{:.1}", seconds_of(alert.ends)) } else { String::new() };
    format!("{}{}{}[{:.1}:{until}]{note}", of("alertname"), of("zone"), of("lbl"), seconds_of(alert.starts))
}

/// Each second; what was told is told again at the next.
const EACH_SECOND: &str = "group_by: [], group_wait: 1s, group_interval: 1s, repeat_interval: 1ms";

/// `TestMergeAlerts`, and `TestMergeAlertsWithEndsAt`, where each word says an end as Prometheus does.
#[test]
fn words_about_one_alert_are_put_together() {
    for with_end in [false, true] {
        let line = Line::new("group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 1ms", "", &[true]);
        let holds = |starts: f64, note| Said("alertname=test", Some(starts), with_end.then_some(starts + 3.0), note);
        let over = |starts, ends, note| Said("alertname=test", Some(starts), Some(ends), note);
        let events = [
            (1.0, holds(1.1, "")),
            (1.2, Said("alertname=test", Some(1.0), None, "")),
            (2.1, holds(2.0, "ann=v1")),
            (3.6, holds(1.5, "ann=v2")),
            (4.6, over(3.0, 4.5, "ann=v2")),
            (4.8, over(2.9, 4.8, "ann=v3")),
            (4.8, over(2.9, 4.1, "ann=v3")),
            (5.3, holds(5.0, "")),
        ];
        let expected = [
            "2.0 to 0: test[1.0:]",
            "3.0 to 0: test[1.0:]v1",
            "4.0 to 0: test[1.0:]v2",
            "5.0 to 0: test[1.0:4.8]v3",
            "6.3 to 0: test[5.0:]",
        ];
        assert_eq!(line.play(&events, 6.5), expected, "ends are said: {with_end}");
    }
}

/// `TestRepeat`.
#[test]
fn what_holds_is_told_again_and_then_that_it_is_over() {
    let line = Line::new(EACH_SECOND, "", &[true]);
    let events = [(1.0, Said("alertname=test", Some(1.0), None, "")), (3.5, Said("alertname=test", Some(1.0), Some(3.0), ""))];
    assert_eq!(line.play(&events, 4.5), ["2.0 to 0: test[1.0:]", "3.0 to 0: test[1.0:]", "4.0 to 0: test[1.0:3.0]"]);
}

/// `TestRetry`, as far as it is about groups: each integration is told, and again when it is time at a look of the group.
#[test]
fn integrations_are_told_each_for_itself_and_repetitions_come_with_looks() {
    let line = Line::new("group_by: [alertname], group_wait: 1s, group_interval: 2s, repeat_interval: 3s", "", &[true, true]);
    let told = line.play(&[(1.0, Said("alertname=test1", None, None, ""))], 6.5);
    assert_eq!(told, ["2.0 to 0: test1[1.0:]", "2.0 to 1: test1[1.0:]", "6.0 to 0: test1[1.0:]", "6.0 to 1: test1[1.0:]"]);
}

/// `TestBatching`.
#[test]
fn what_comes_while_a_group_waits_is_told_with_it() {
    let line = Line::new("group_by: [], group_wait: 1s, group_interval: 1s, repeat_interval: 4900ms", "", &[true]);
    let said = |name, starts| Said(name, Some(starts), None, "");
    let events = [
        (1.1, said("alertname=test1", 1.0)),
        (1.7, said("alertname=test5", 1.0)),
        (3.3, said("alertname=test2", 1.5)),
        (3.3, said("alertname=test3", 1.5)),
        (3.3, said("alertname=test4", 1.6)),
    ];
    let all = "test1[1.0:] test2[1.5:] test3[1.5:] test4[1.6:] test5[1.0:]";
    let expected = ["2.1 to 0: test1[1.0:] test5[1.0:]".to_owned(), format!("4.1 to 0: {all}"), format!("9.1 to 0: {all}")];
    assert_eq!(line.play(&events, 9.5), expected);
}

/// `TestResolved`.
#[test]
fn what_nobody_says_again_is_over() {
    let mut line = Line::new("group_by: [alertname], group_wait: 1s, group_interval: 5s", "", &[true]);
    line.resolve_timeout = 10.0;
    let events = ["alertname=test,lbl=v1", "alertname=test,lbl=v2", "alertname=test,lbl=v3"].map(|text| (1.0, Said(text, None, None, "")));
    let expected = ["2.0 to 0: testv1[1.0:] testv2[1.0:] testv3[1.0:]", "12.0 to 0: testv1[1.0:11.0] testv2[1.0:11.0] testv3[1.0:11.0]"];
    assert_eq!(line.play(&events, 13.0), expected);
}

/// `TestResolvedFilter`: the second integration does not want to hear what is over.
#[test]
fn who_does_not_want_ends_hears_of_what_holds() {
    let mut line = Line::new("group_by: [alertname], group_wait: 1s, group_interval: 5s", "", &[true, false]);
    line.resolve_timeout = 10.0;
    let events = [
        (1.0, Said("alertname=test,lbl=v1", None, None, "")),
        (1.0, Said("alertname=test,lbl=v2", None, None, "")),
        (3.0, Said("alertname=test,lbl=v1", Some(1.0), Some(4.0), "")),
        (3.0, Said("alertname=test,lbl=v3", None, None, "")),
        (8.0, Said("alertname=test,lbl=v3", Some(3.0), None, "")),
    ];
    let expected = [
        "2.0 to 0: testv1[1.0:] testv2[1.0:]",
        "2.0 to 1: testv1[1.0:] testv2[1.0:]",
        "7.0 to 0: testv1[1.0:4.0] testv2[1.0:] testv3[3.0:]",
        "7.0 to 1: testv2[1.0:] testv3[3.0:]",
        "12.0 to 0: testv2[1.0:11.0] testv3[3.0:]",
    ];
    assert_eq!(line.play(&events, 12.5), expected);
}

/// `TestReload` with `compat.reload_resets_timers`, and without.
#[test]
fn a_reload_resets_timers_only_where_it_is_to() {
    for (reload, second) in [(Some(3.0), "9.0"), (None, "8.0")] {
        let line = Line::new("group_by: [], group_wait: 1s, group_interval: 6s, repeat_interval: 10m", "", &[true]);
        let events = [(1.0, Said("alertname=test1", None, None, "")), (4.0, Said("alertname=test2", None, None, ""))];
        let reload = reload.map(|at| (at, Reload));
        let events: Vec<(f64, Event)> = events.into_iter().chain(reload).collect();
        let expected = ["2.0 to 0: test1[1.0:]".to_owned(), format!("{second} to 0: test1[1.0:] test2[4.0:]")];
        assert_eq!(line.play(&events, 9.5), expected);
    }
}

const INHIBITS: &str =
    "inhibit_rules: [{ source_match: { alertname: JobDown }, target_match: { alertname: InstanceDown }, equal: [job, zone] }]\n";

/// `TestInhibiting`.
#[test]
fn what_is_inhibited_is_told_again_when_what_inhibits_it_is_over() {
    let line = Line::new("group_by: [], group_wait: 1s, group_interval: 1s, repeat_interval: 1s", INHIBITS, &[true]);
    let job_down = "alertname=JobDown,job=testjob,zone=aa";
    let events = [
        (1.0, Said("alertname=test1,job=testjob,zone=aa", None, None, "")),
        (1.0, Said("alertname=InstanceDown,job=testjob,zone=aa", None, None, "")),
        (1.0, Said("alertname=InstanceDown,job=testjob,zone=ab", None, None, "")),
        (2.2, Said(job_down, None, None, "")),
        (3.6, Said(job_down, Some(2.2), Some(3.6), "")),
    ];
    let expected = [
        "2.0 to 0: InstanceDownaa[1.0:] InstanceDownab[1.0:] test1aa[1.0:]",
        "3.0 to 0: InstanceDownab[1.0:] JobDownaa[2.2:] test1aa[1.0:]",
        "4.0 to 0: InstanceDownaa[1.0:] InstanceDownab[1.0:] JobDownaa[2.2:3.6] test1aa[1.0:]",
    ];
    assert_eq!(line.play(&events, 4.5), expected);
}

/// `TestAlwaysInhibiting`.
#[test]
fn what_ends_together_with_what_inhibited_it_is_told_as_over() {
    let line = Line::new("group_by: [], group_wait: 1s, group_interval: 1s, repeat_interval: 1s", INHIBITS, &[true]);
    let (instance, job) = ("alertname=InstanceDown,job=testjob,zone=aa", "alertname=JobDown,job=testjob,zone=aa");
    let events = [
        (1.0, Said(instance, None, None, "")),
        (1.0, Said(job, None, None, "")),
        (2.6, Said(job, Some(1.0), Some(2.6), "")),
        (2.6, Said(instance, Some(1.0), Some(2.6), "")),
    ];
    assert_eq!(line.play(&events, 3.5), ["2.0 to 0: JobDownaa[1.0:]", "3.0 to 0: InstanceDownaa[1.0:2.6] JobDownaa[1.0:2.6]"]);
}

/// `TestEmptyInhibitionRule`: a rule of nothing fits everything as source and as target, which inhibits nothing.
#[test]
fn a_rule_of_nothing_inhibits_nothing() {
    let line = Line::new(EACH_SECOND, "inhibit_rules:\n-\n", &[true]);
    let events = [(1.0, Said("alertname=a", None, None, "")), (1.0, Said("alertname=b", None, None, ""))];
    assert_eq!(line.play(&events, 2.5), ["2.0 to 0: a[1.0:] b[1.0:]"]);
}

/// `TestSilencing`.
#[test]
fn what_is_silenced_is_not_told_until_the_silence_ends() {
    let line = Line::new(EACH_SECOND, "", &[true]);
    let events = [
        (1.0, Said("alertname=test1", Some(1.0), None, "")),
        (1.0, Said("alertname=test2", Some(1.0), None, "")),
        (2.3, Silenced("alertname=test1", 2.5, 4.5)),
    ];
    let both = "test1[1.0:] test2[1.0:]";
    let expected =
        [format!("2.0 to 0: {both}"), "3.0 to 0: test2[1.0:]".to_owned(), "4.0 to 0: test2[1.0:]".to_owned(), format!("5.0 to 0: {both}")];
    assert_eq!(line.play(&events, 5.5), expected);
}

/// `TestSilenceDelete`.
#[test]
fn what_was_silenced_from_the_beginning_is_told_when_somebody_ends_the_silence() {
    let line = Line::new(EACH_SECOND, "", &[true]);
    let events = [
        (1.0, Said("alertname=test1", Some(1.0), None, "")),
        (1.0, Said("alertname=test2", Some(1.0), None, "")),
        (1.3, Silenced("alertname=~.+", 1.5, 100.0)),
        (3.5, Ended),
    ];
    assert_eq!(line.play(&events, 4.5), ["4.0 to 0: test1[1.0:] test2[1.0:]"]);
}

/// `TestSendAlertsToUTF8Route`.
#[test]
fn names_of_any_letters_lead_to_a_route_and_make_its_groups() {
    let route = "group_wait: 1h, routes: [{ matchers: ['foo🙂=bar'], group_by: [foo🙂], group_wait: 1s }]";
    let line = Line::new(route, "", &[true]);
    let events = [(1.0, Said("\"foo🙂\"=bar", Some(1.0), None, "")), (1.0, Said("foo=bar", Some(1.0), None, ""))];
    assert_eq!(line.play(&events, 2.5), ["2.0 to 0: [1.0:]"]);
}
