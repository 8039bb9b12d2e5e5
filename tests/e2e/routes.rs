//! `sluice route` beside amtool: the same made-up trees of routes and the same labels, and the receivers that each of them names; files that Alertmanager
//! refuses, refused; what is hardly meant, said.

use std::process::Command;

use crate::support::peers::{Peer, need};
use crate::support::sluice::BINARY;

pub const NAMES: [&str; 4] = ["team", "severity", "cluster", "service"];
pub const VALUES: [&str; 5] = ["", "a", "b", "ab", "a b"];

/// A matcher that both grammars read.
pub fn matcher(random: &mut fastrand::Rng) -> String {
    let name = NAMES[random.usize(..NAMES.len())];
    let op = ["=", "!=", "=~", "!~"][random.usize(..4)];
    let value = if op.ends_with('~') { ["a|b", "a.*", ".+", "", "(a|b)+", "[^a]"][random.usize(..6)] } else { VALUES[random.usize(..5)] };
    format!("{name}{op}\"{value}\"")
}

/// Routes below one, whose receivers are numbered on; `more` gives further keys of each.
pub fn route(
    random: &mut fastrand::Rng,
    depth: usize,
    receivers: &mut usize,
    more: &impl Fn(&mut fastrand::Rng) -> Vec<String>,
    out: &mut String,
) {
    let indent = "  ".repeat(depth + 1);
    let count = if depth == 0 { random.usize(2..6) } else { random.usize(..3) };
    if count == 0 || depth > 3 {
        return;
    }
    out.push_str(&format!("{indent}routes:\n"));
    for _ in 0..count {
        *receivers += 1;
        let matchers: Vec<String> = (0..random.usize(..2)).map(|_| format!("'{}'", matcher(random))).collect();
        out.push_str(&format!("{indent}- matchers: [{}]\n", matchers.join(", ")));
        if random.u8(..4) > 0 {
            out.push_str(&format!("{indent}  receiver: r{receivers}\n"));
        }
        out.push_str(&format!("{indent}  continue: {}\n", random.bool()));
        more(random).into_iter().for_each(|key| out.push_str(&format!("{indent}  {key}\n")));
        route(random, depth + 1, receivers, more, out);
    }
}

fn tree(random: &mut fastrand::Rng) -> String {
    let (mut receivers, mut routes) = (0, String::new());
    route(random, 0, &mut receivers, &|_| Vec::new(), &mut routes);
    let mut file = format!("route:\n  receiver: r0\n{routes}receivers:\n");
    (0..=receivers).for_each(|number| file.push_str(&format!("  - name: r{number}\n")));
    file
}

fn output(command: &mut Command) -> (bool, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn routes_lead_where_amtool_says() {
    if !need(&[Peer::Amtool]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("alertmanager.yml");
    let mut random = fastrand::Rng::with_seed(7);
    let mut several = 0;
    for _ in 0..30 {
        let text = tree(&mut random);
        std::fs::write(&file, &text).unwrap();
        for _ in 0..5 {
            let labels: Vec<String> = NAMES
                .iter()
                .map(|name| format!("{name}=\"{}\"", VALUES[random.usize(..5)]))
                .filter(|label| !label.ends_with("\"\""))
                .collect();
            let mut amtool = Command::new("amtool");
            amtool.args(["config", "routes", "test", "--config.file"]).arg(&file).args(&labels);
            let (good, expected, error) = output(&mut amtool);
            assert!(good, "{error}\n{text}");
            let mut sluice = Command::new(BINARY);
            sluice.args(["route", "test", "--json", "--file"]).arg(&file).args(&labels);
            let (good, told, error) = output(&mut sluice);
            assert!(good, "{error}\n{text}");
            let told: serde_json::Value = serde_json::from_str(&told).unwrap();
            let receivers: Vec<&str> = told["routes"].as_array().unwrap().iter().map(|route| route["receiver"].as_str().unwrap()).collect();
            assert_eq!(receivers.join(","), expected.trim(), "{labels:?}\n{text}");
            several += usize::from(receivers.len() > 1);
        }
    }
    assert!(several > 20, "the trees are too plain: {several}");
}

#[test]
fn a_file_is_refused_where_amtool_refuses_it() {
    if !need(&[Peer::Amtool]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("alertmanager.yml");
    let good = "route: { receiver: a }\nreceivers: [{ name: a }]\n";
    for (text, line) in [
        (good.to_owned(), None),
        (good.replace("receiver: a }", "receiver: b }"), Some(1)),
        (good.replace("receiver: a }", "receiver: a, group_interval: 0s }"), Some(1)),
        (good.replace("receiver: a }", "receiver: a, group_by: [x, x] }"), Some(1)),
        (good.replace("receiver: a }", "receiver: a, recever: a }"), Some(1)),
        (
            format!(
                "{good}time_intervals:\n  - name: n\n    time_intervals:\n      - times: [{{ start_time: '17:00', end_time: '09:00' }}]\n"
            ),
            Some(6),
        ),
        (format!("{good}time_intervals:\n  - name: n\n    time_intervals:\n      - weekdays: ['friday:monday']\n"), Some(6)),
        (format!("{good}time_intervals:\n  - name: n\n    time_intervals:\n      - days_of_month: ['-1:5']\n"), Some(6)),
        (format!("{good}inhibit_rules:\n  - target_matchers: ['a=~\"(\"']\n"), Some(4)),
    ] {
        std::fs::write(&file, &text).unwrap();
        let (peer, said, error) = output(Command::new("amtool").arg("check-config").arg(&file));
        assert_eq!(peer, line.is_none(), "{said}{error}\n{text}");
        let (own, _, error) = output(Command::new(BINARY).args(["route", "check"]).arg(&file));
        assert_eq!(own, line.is_none(), "{error}\n{text}");
        if let Some(line) = line {
            assert!(error.contains(&format!("line {line}: ")), "{error}\n{text}");
        }
    }
}

#[test]
fn what_is_hardly_meant_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("alertmanager.yml");
    let text = r#"route:
  receiver: a
  repeat_interval: 1m
  routes:
    - { matchers: [x=1], receiver: b }
    - { matchers: [x=1, y=2], receiver: c }
receivers:
  - name: a
    slack_configs: [{ api_url: 'http://slack.example/', channel: '#a', title: '{{ .Status }}' }]
  - { name: b }
  - { name: c }
  - { name: unused }
inhibit_rules:
  - { source_matchers: [a=1], target_matchers: [a=1] }
time_intervals: [{ name: never, time_intervals: [] }]
"#;
    std::fs::write(&file, text).unwrap();
    let (good, told, _) = output(Command::new(BINARY).args(["route", "check", "--json"]).arg(&file));
    assert!(good);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let lines: Vec<u64> = told["doubts"].as_array().unwrap().iter().map(|doubt| doubt["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [1, 5, 6, 6, 9, 12, 14, 15], "{told:#}");
    // The time, what fires beside it, and what is expected.
    let test = |words: &[&str]| output(Command::new(BINARY).args(["route", "test", "--file"]).arg(&file).args(words));
    let (good, _, error) = test(&["x=1", "--receivers", "c"]);
    assert!(!good && error.contains("expected receivers c, got b"), "{error}");
    assert!(test(&["x=1", "--receivers", "b", "--at", "2026-01-01T00:00:00Z"]).0);
    assert!(!test(&["x=1", "--at", "yesterday"]).0 && !test(&["x=~1"]).0 && !test(&["x"]).0);
}

#[test]
fn texts_are_tried_without_a_node_and_gos_are_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("alertmanager.yml");
    let text = r#"route: { receiver: chat }
receivers:
  - name: chat
    dingtalk_configs:
      - url: http://robot.example/
        title: '[P{{ level }}] {{ groupLabels.alertname }}'
        text: '{{ range .Alerts }}{{ .Labels.instance }} {{ end }}'
    telegram_configs: [{ chat_id: 1 }]
"#;
    std::fs::write(&file, text).unwrap();
    let template = |words: &[&str]| output(Command::new(BINARY).arg("template").args(words));
    let path = file.to_str().unwrap();
    let (good, told, error) = template(&["show", "--file", path, "--receiver", "chat", "--json", "alertname=DiskFull", "instance=a"]);
    assert!(good, "{error}");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let texts = told["texts"].as_array().unwrap();
    assert_eq!((&texts[0]["text"], &texts[0]["line"]), (&"[P2] DiskFull".into(), &6.into()));
    assert!(texts[1]["instead"].as_str().unwrap().contains("Go's template language"), "{told:#}");
    assert!(texts[2]["instead"].as_str().unwrap().contains("does not send to"), "{told:#}");
    let (good, told, _) = template(&["translate", "{{ range .Alerts }}{{ .Labels.instance }} {{ end }}"]);
    assert!(good && told == "{% for alert in alerts %}{{ alert.labels.instance }} {% endfor %}\n", "{told}");
    assert!(!template(&["translate", "{{ template \"mine\" . }}"]).0);
    let (good, _, error) = template(&["show", "--file", path, "--receiver", "other"]);
    assert!(!good && error.contains("there are: chat"), "{error}");
    // The check names each by its line, with what to write.
    let (good, told, _) = output(Command::new(BINARY).args(["route", "check"]).arg(&file));
    assert!(good && told.contains("line 7") && told.contains("write: {% for alert in alerts %}") && told.contains("line 8"), "{told}");
}
