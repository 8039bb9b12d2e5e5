//! Files as webhooks send them, a mapping, and damaged ones.

use super::*;
use crate::config::inputs;
use crate::model::alert::Alert;
use crate::mutate::damage;
use crate::mutate::seeds;

const NOW: i64 = 1_790_000_000_000;
const HOLD: i64 = 5 * 3_600_000;

const GRAFANA_A: &str = include_str!("../../../tests/hooks/grafana-13-a.json");
const GRAFANA_B: &str = include_str!("../../../tests/hooks/grafana-13-b.json");
const EXTERNAL: &str = include_str!("../../../tests/hooks/grafana-13-external.json");
const GRAFANA_4: &str = include_str!("../../../tests/hooks/grafana-4.json");
const GRAFANA_6: &str = include_str!("../../../tests/hooks/grafana-6.json");
const GRAFANA_8: &str = include_str!("../../../tests/hooks/grafana-8.json");
const ALERTMANAGER: &str = include_str!("../../../tests/hooks/alertmanager-4.json");

fn heard(body: &str) -> (Kind, Vec<Alert>) {
    let (kind, batch) = read(body.as_bytes(), &Input::plain("hook"), NOW).unwrap_or_else(|error| panic!("{error:?}: {body}"));
    assert_eq!(batch.wrong, Vec::<String>::new());
    (kind, batch.good)
}

/// Labels, start, end, and whether it times out: what makes it that alert, and its state.
fn told(alert: &Alert) -> String {
    let labels: Vec<String> = alert.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let (starts, ends) = ((alert.starts - NOW) / 1000, (alert.ends - NOW) / 1000);
    format!("{} {starts} {ends}{}", labels.join(","), if alert.times_out { " unless said again" } else { "" })
}

#[test]
fn two_replicas_of_grafana_tell_of_the_same_alerts() {
    let ((kind, mut a), (_, mut b)) = (heard(GRAFANA_A), heard(GRAFANA_B));
    for alerts in [&mut a, &mut b] {
        alerts.sort_by_key(Alert::fingerprint);
    }
    let told_of = |alerts: &[Alert]| alerts.iter().map(told).collect::<Vec<_>>();
    assert_eq!((kind, told_of(&a)), (Kind::Grafana, told_of(&b)));
    let mut told_of = told_of(&a);
    told_of.sort();
    assert_eq!(
        told_of,
        [
            "__alert_rule_uid__=ae1b2c3d4e5f6g,alertname=DiskFull,grafana_folder=Infra,instance=web1:9100,severity=critical -40 18000 unless said again",
            "__alert_rule_uid__=ae1b2c3d4e5f6g,alertname=DiskFull,grafana_folder=Infra,instance=web2:9100,severity=critical -4400 -50",
        ]
    );
}

#[test]
fn grafanas_webhook_and_its_notifier_tell_of_one_alert() {
    let (_, hook) = heard(GRAFANA_A);
    let posted = alerts::read(EXTERNAL.as_bytes(), NOW, 300_000).unwrap().good;
    assert_eq!(hook[0].labels, posted[0].labels);
    for name in ["__orgId__", "__values__", "__value_string__", "summary"] {
        assert_eq!(hook[0].annotations[name], posted[0].annotations[name], "{name}");
    }
    assert_eq!(&hook[0].annotations["panelURL"], "http://grafana.example/d/abc?viewPanel=2");
    // Of another organisation it is another alert, by either way.
    let other = heard(&GRAFANA_A.replace("\"orgId\":1", "\"orgId\":2")).1;
    let posted = alerts::read(EXTERNAL.replace(r#""__orgId__": "1""#, r#""__orgId__": "2""#).as_bytes(), NOW, 300_000).unwrap().good;
    assert_eq!((&other[0].labels["grafana_org"], &other[0].labels), ("2", &posted[0].labels));
}

#[test]
fn older_grafanas_have_one_alert_a_rule() {
    let (kind, fired) = heard(GRAFANA_4);
    let (_, well) = heard(GRAFANA_6);
    assert_eq!((kind, told(&fired[0])), (Kind::OldGrafana, "alertname=Load,rule_id=7 0 18000 unless said again".to_owned()));
    assert_eq!(told(&well[0]), "alertname=Load,rule_id=7 0 0");
    assert_eq!(&fired[0].annotations["matches"], "load{host=a} = 3");
    assert_eq!(
        (&*fired[0].generator, &*well[0].generator),
        ("http://grafana.example/d/1?panelId=2", "http://grafana.example/d/1?panelId=2")
    );
    assert_eq!((&fired[0].annotations["imageURL"], &well[0].annotations["imageURL"]), ("http://img/1.png", "http://img/2.png"));
    let (_, no_data) = heard(GRAFANA_8);
    assert_eq!(told(&no_data[0]), "alertname=Panel Title alert,grafana_org=3,rule_id=1,team=db 0 18000 unless said again");
    assert_eq!(&no_data[0].annotations["state"], "no_data");
    assert_eq!(&no_data[0].annotations["matches"], "Count{} = 1\nload{dc=x, host=a} = 2.5");
    assert_eq!(heard(&GRAFANA_4.replace("\"alerting\"", "\"pending\"")).1, []);
}

#[test]
fn another_alertmanager() {
    let (kind, alerts) = heard(ALERTMANAGER);
    assert_eq!(kind, Kind::Alertmanager);
    assert_eq!(told(&alerts[0]), "alertname=Slow,severity=info -79 18000 unless said again");
    assert_eq!(told(&alerts[1]), "alertname=Slow,severity=info,x=y -80 -20");
    assert_eq!(heard(" [{\"labels\":{\"a\":\"b\"}}]").0, Kind::Plain);
}

#[test]
fn json_that_the_configuration_explains() {
    let part = |text: &str| inputs::text(text).unwrap();
    let mapping = Mapping {
        each: "data.checks".into(),
        labels: vec![
            ("alertname".into(), part("{check}")),
            ("host".into(), part("{host.name}:{ports.0}")),
            ("zone".into(), part("{zone}")),
        ],
        annotations: vec![("summary".into(), part("{check} is {state}: {{{output}}}"))],
        status: Some(part("{state}")),
        resolved: vec!["OK".into()],
        starts: Some(part("{since}")),
        link: Some(part("http://nagios/{host.name}")),
    };
    let mut input = Input { mapping: Some(mapping), ..Input::plain("nagios") };
    let body = r#"{"data":{"checks":[
        {"check":"disk","host":{"name":"a"},"ports":[22,80],"state":"CRITICAL","output":"5 % left","since":1789999990},
        {"check":"load","host":{"name":"b"},"ports":[1.5],"state":"OK","output":null,"since":"2026-09-21T14:13:10Z"},
        {"host":{"name":"c"},"ports":{},"state":true,"since":"lately","zone":{"x":1}}]}}"#;
    let (kind, batch) = read(body.as_bytes(), &input, NOW).unwrap();
    let told_of: Vec<String> = batch.good.iter().map(told).collect();
    let expected = [
        "alertname=disk,host=a:22 -10 18000 unless said again",
        "alertname=load,host=b:1.5 -10 0",
        "host=c:,zone={\"x\":1} 0 18000 unless said again",
    ];
    assert_eq!((kind, told_of), (Kind::Mapped, expected.map(str::to_owned).to_vec()));
    assert_eq!(batch.wrong, ["\"lately\" is no time; the alert is kept, as if it began now"]);
    assert_eq!((&batch.good[0].annotations["summary"], &*batch.good[0].generator), ("disk is CRITICAL: {5 % left}", "http://nagios/a"));
    assert!(matches!(read(b"{}", &input, NOW), Err(Unreadable::Malformed(why)) if why.contains("data.checks")));
    input.mapping.as_mut().unwrap().each.clear();
    assert_eq!(read(br#"{"check":"x"}"#, &input, NOW).unwrap().1.good.len(), 1);
    assert_eq!(read(br#"[{"check":"x"},{"check":"y"}]"#, &input, NOW).unwrap().1.good.len(), 2);
}

#[test]
fn what_is_no_alert_is_refused_in_words() {
    for body in
        ["", "{", "7", "{}", r#"{"version":"4"}"#, r#"{"version":"4","alerts":{}}"#, r#"{"ruleId":1}"#, r#"{"version":"1","alerts":[]}"#]
    {
        assert!(matches!(read(body.as_bytes(), &Input::plain("a"), NOW), Err(Unreadable::Malformed(_))), "{body}");
    }
    let (_, batch) = read(br#"{"version":"4","alerts":[7,{"labels":[]},{"labels":{"a":"b"}}]}"#, &Input::plain("a"), NOW).unwrap();
    assert_eq!((batch.good.len(), batch.wrong.len()), (1, 2));
}

/// Damaged ones never panic, and never bring an alert that breaks a rule.
#[test]
fn damaged_webhooks_never_panic() {
    let corpus = [GRAFANA_A, GRAFANA_B, EXTERNAL, GRAFANA_4, GRAFANA_6, GRAFANA_8, ALERTMANAGER];
    let mapping = Mapping { labels: vec![("a".into(), inputs::text("{alerts.0.status}{title}").unwrap())], ..Mapping::default() };
    let inputs = [Input::plain("a"), Input { mapping: Some(mapping), ..Input::plain("b") }];
    let (mut taken, mut refused) = (0, 0);
    for seed in seeds(10_000) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = corpus[random.usize(0..corpus.len())].as_bytes().to_vec();
        damage(&mut random, &mut bytes);
        match read(&bytes, &inputs[random.usize(0..2)], NOW) {
            Ok((_, batch)) => {
                taken += 1;
                for alert in &batch.good {
                    assert!(
                        !alert.labels.is_empty() && alert.starts <= alert.ends && alert.ends <= NOW + HOLD.max(300_000) || !alert.times_out,
                        "SEED={seed}"
                    );
                }
            }
            Err(_) => refused += 1,
        }
    }
    assert!(taken > 0 && refused > 0, "{taken} {refused}");
}
