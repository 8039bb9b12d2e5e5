//! Selectors and rules by example. The same rules by a real Prometheus: `tests/e2e/relabel.rs`.

use super::pattern::whole;
use super::rules::Rule;
use super::rules::Rules;
use super::rules::Work;
use super::selector::Selector;
use crate::config::shape::Relabel;

type Pairs = &'static [(&'static str, &'static str)];

const SERIES: Pairs = &[("__name__", "up"), ("a", "foo"), ("b", "bar"), ("instance", "h1:9100"), ("job", "node")];

fn of(pairs: Pairs) -> impl Fn(&str) -> Option<&'static str> {
    move |name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

#[test]
fn selectors_take_what_promql_takes() {
    for text in [
        "up",
        " up ",
        "up{}",
        "up{job=\"node\"}",
        "{job='node',}",
        "{ __name__ =~ \"u.\" , job != \"x\" }",
        "{job=~\"no|node\"}",
        "{absent=\"\"}",
        "{absent!=\"x\", a=~\".+\"}",
        "{absent=~\".*\"}",
        "{\"up\", \"job\"=\"node\"}",
        "{job=`node`}",
        "{job=\"n\\u006fde\"}",
        "{instance=~\"h\\\\d:9100\"}",
        "{}",
    ] {
        assert!(Selector::parse(text).unwrap().takes(of(SERIES)), "{text}");
    }
    for text in ["down", "{job=~\"nod\"}", "{job=~\"ode\"}", "{a!~\"f.*\"}", "{absent=~\".+\"}", "up{job=\"\"}", "{\"down\"}"] {
        assert!(!Selector::parse(text).unwrap().takes(of(SERIES)), "{text}");
    }
}

#[test]
fn what_is_no_selector_is_told_with_its_place() {
    let wrong = |text: &str| Selector::parse(text).unwrap_err().to_string();
    assert_eq!(wrong(""), "at letter 1: a metric's name or `{` should stand here");
    assert_eq!(wrong("up{job}"), "at letter 7: `=`, `!=`, `=~` or `!~` should stand here");
    assert_eq!(wrong("up{job=node}"), "at letter 8: a value in quotes should stand here");
    assert_eq!(wrong("{job=\"a\" x=\"b\"}"), "at letter 10: `,` or `}` should stand here");
    assert_eq!(wrong("{job=\"a\"} 5"), "at letter 11: the selector ends before this");
    assert_eq!(wrong("{ü=\"a\"}"), "at letter 2: a label's name should stand here");
    assert_eq!(wrong("{job=\"a"), "at letter 8: the quote is not closed");
    assert_eq!(wrong("{job=\"\\d\"}"), "at letter 9: no such escape; write `\\\\` for a backslash, or the value in backticks");
    assert_eq!(wrong("up{\"down\"}"), "at letter 10: the metric's name stands here a second time");
    assert!(wrong("{job=~\"(\"}").starts_with("at letter 7: not a regular expression: "), "{}", wrong("{job=~\"(\"}"));
}

#[test]
fn a_series_is_written_as_a_selector_of_equals() {
    let selector = Selector::parse("up{job=\"node\", empty=\"\", a=\"x\"}").unwrap();
    assert_eq!(selector.labels(), Ok(vec![("__name__", "up"), ("a", "x"), ("job", "node")]));
    assert_eq!(Selector::parse("up{job=~\"node\"}").unwrap().labels(), Err("job"));
    assert_eq!(Selector::parse("up{job=\"a\", job=\"b\"}").unwrap().labels(), Err("job"));
}

/// What Go's syntax means and the crate's own would not.
#[test]
fn patterns_mean_what_they_mean_to_prometheus() {
    for (pattern, takes, not) in [
        ("a|b", "b", "ab"),
        ("a.c", "a\nc", "abcd"),
        ("\\d+", "12", "١٢"),
        ("[\\d.]+", "1.2", "1.٢"),
        ("\\w+", "a_1", "ü"),
        ("\\W", "ü", "a"),
        ("[^\\s]", "\u{a0}", " "),
        ("[[a]+", "[a", "b"),
        ("[a&&b]+", "a&b", "c"),
        ("[]a]+", "]a", "b"),
        ("[^]a]", "b", "]"),
        ("[[:alpha:]_]+", "a_b", "1"),
        ("\\Qa.b\\E+", "a.bb", "axb"),
        ("(?i)ab", "AB", "AC"),
        ("(?:a|b)\\b.*", "a-", "ab"),
        ("", "", "a"),
    ] {
        let compiled = whole(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
        assert!(compiled.is_match(takes), "{pattern} {takes}");
        assert!(!compiled.is_match(not), "{pattern} {not}");
    }
    assert!(whole("(").unwrap_err().contains("unclosed group"), "{}", whole("(").unwrap_err());
    assert!(whole("(a{1000}){1000}").unwrap_err().contains("memory"));
}

fn draft(text: &str) -> Relabel {
    let mut draft = Relabel::default();
    for pair in text.split(", ") {
        let (key, value) = pair.split_once(": ").unwrap_or((pair.trim_end_matches(':'), ""));
        let own = Some(value.to_owned());
        match key {
            "source" => draft.source_labels = Some(value.split(' ').map(str::to_owned).collect()),
            "separator" => draft.separator = own,
            "target" => draft.target_label = own,
            "regex" => draft.regex = own,
            "modulus" => draft.modulus = value.parse().ok(),
            "replacement" => draft.replacement = own,
            "action" => draft.action = own,
            other => panic!("{other}"),
        }
    }
    draft
}

/// The labels after these rules, as text; `None`: dropped.
fn relabelled(pairs: Pairs, rules: &[&str]) -> Option<String> {
    let rules =
        Rules::new(rules.iter().map(|rule| Rule::check(&draft(rule)).unwrap_or_else(|wrong| panic!("{rule}: {wrong:?}"))).collect());
    let mut work = Work::default();
    let mut last = None;
    // Twice, since the room that is kept must make no difference.
    for _ in 0..2 {
        work.clear();
        pairs.iter().for_each(|(name, value)| work.push(name, value, None));
        let kept = rules.apply(&mut work).is_ok();
        let text = work.labels().map(|(name, value, _)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        let text = kept.then_some(text);
        assert!(last.as_ref().is_none_or(|last| *last == text), "{text:?} {last:?}");
        last = Some(text);
    }
    last.flatten()
}

#[test]
fn every_action_does_what_prometheus_documents() {
    let pairs: Pairs = &[("a", "foo"), ("b", "bar"), ("c", "baz")];
    let cases: &[(&[&str], Option<&str>)] = &[
        (&["source: a, regex: f(.*), target: d, replacement: ch${1}-ch${1}, action: replace"], Some("a=foo b=bar c=baz d=choo-choo")),
        (&["source: a b, regex: f(.*);(.*)r, target: a, replacement: b${1}${2}m"], Some("a=boobam b=bar c=baz")),
        (&["source: a b, separator: -, target: d"], Some("a=foo b=bar c=baz d=foo-bar")),
        (&["source: a, regex: f, target: b"], Some("a=foo b=bar c=baz")),
        (&["source: a, regex: (f).*, target: d, replacement: $1x"], Some("a=foo b=bar c=baz")),
        (&["source: a, regex: (f).*, target: d, replacement: ${1}x$$$2"], Some("a=foo b=bar c=baz d=fx$")),
        (&["source: a, regex: (?P<first>f).*, target: d_${first}, replacement: $first"], Some("a=foo b=bar c=baz d_f=f")),
        (&["target: d, replacement: fixed"], Some("a=foo b=bar c=baz d=fixed")),
        (&["source: absent, target: a, replacement:"], Some("b=bar c=baz")),
        (&["source: absent, target: a"], Some("b=bar c=baz")),
        (&["source: a, regex: .*o.*, action: drop"], None),
        (&["source: a, regex: o, action: drop"], Some("a=foo b=bar c=baz")),
        (&["source: a, regex: no-match, action: keep"], None),
        (&["source: a, regex: f.*, action: keep"], Some("a=foo b=bar c=baz")),
        (&["source: a, target: b, action: keepequal"], None),
        (&["source: absent, target: gone, action: keepequal"], Some("a=foo b=bar c=baz")),
        (&["source: a, target: b, action: dropequal"], Some("a=foo b=bar c=baz")),
        (&["source: a, target: a, action: dropequal"], None),
        (&["regex: (b.*), replacement: bar_${1}, action: labelmap"], Some("a=foo b=bar bar_b=bar c=baz")),
        (&["regex: a, replacement: b, action: labelmap"], Some("a=foo b=foo c=baz")),
        (&["regex: [ab], action: labeldrop"], Some("c=baz")),
        (&["regex: [ab], action: labelkeep"], Some("a=foo b=bar")),
        (
            &["source: b, target: up, action: uppercase", "source: up, target: low, action: lowercase"],
            Some("a=foo b=bar c=baz low=bar up=BAR"),
        ),
        (&["source: a, target: d", "source: d, regex: foo, action: drop"], None),
    ];
    for (rules, expected) in cases {
        assert_eq!(relabelled(pairs, rules).as_deref(), *expected, "{rules:?}");
    }
}

/// `printf foo | md5sum` ends in edef654fccc4a4d8.
#[test]
fn hashmod_divides_the_last_half_of_an_md5() {
    let pairs: Pairs = &[("a", "foo"), ("b", "bar")];
    let expected = |half: u64, modulus: u64| format!("a=foo b=bar d={}", half % modulus);
    assert_eq!(
        relabelled(pairs, &["source: a, target: d, modulus: 1000, action: hashmod"]).unwrap(),
        expected(0xedef_654f_ccc4_a4d8, 1000)
    );
}

#[test]
fn what_is_wrong_with_a_rule_is_told_with_its_key() {
    let keys = |rule: &str| Rule::check(&draft(rule)).unwrap_err().iter().map(|wrong| wrong.key).collect::<Vec<_>>();
    assert_eq!(keys("source: a"), ["target_label"]);
    assert_eq!(keys("source: a, target: b, regex: ("), ["regex"]);
    assert_eq!(keys("action: fly"), ["action"]);
    assert_eq!(keys("source: a, target: b, action: hashmod"), ["modulus"]);
    assert_eq!(keys("source: a, target: b, modulus: 0, action: hashmod"), ["modulus"]);
    assert_eq!(keys("source: a, target: b, regex: x, replacement: y, action: keepequal"), ["regex", "replacement"]);
    assert_eq!(keys("source: a, regex: x, separator: y, action: labeldrop"), ["source_labels", "separator"]);
    assert_eq!(keys("source: a, target: b, replacement: c, action: lowercase"), ["replacement"]);
    assert_eq!(keys("source: a, target: $1, action: uppercase"), ["target_label"]);
    assert_eq!(
        Rule::check(&draft("action: LabelDrop, regex: x")).map(|_| ()),
        Ok(()),
        "actions are read in any case, as Prometheus reads them"
    );
}

#[test]
fn a_step_can_be_followed() {
    let rules = Rules::new(
        ["target: d, replacement: x", "source: a, regex: f.*, action: drop"].map(|rule| Rule::check(&draft(rule)).unwrap()).into(),
    );
    let mut work = Work::default();
    work.push("a", "foo", Some(7));
    let mut steps = Vec::new();
    let outcome = rules.follow(&mut work, &mut |number, work| steps.push((number, work.labels().len())));
    assert_eq!((outcome, steps), (Err(1), vec![(0, 2)]));
    assert_eq!(work.labels().next(), Some(("a", "foo", Some(7))));
}
