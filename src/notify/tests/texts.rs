//! Templates: the words they have, what hostile labels and hostile templates come to, and Go's texts.

use crate::alert::message::Message;
use crate::alert::translate;
use crate::config::routing;
use crate::mutate::damage_text;
use crate::mutate::seeds;
use crate::notify::data::Data;
use crate::notify::doubts;
use crate::notify::page;
use crate::notify::page::Written;
use crate::notify::say;
use crate::notify::say::Dialect;
use crate::notify::template;

use super::AT;
use super::alert;
use super::both;
use super::message;

fn render(text: &str, message: &Message, dialect: Dialect) -> Result<String, String> {
    template::render(text, message, &Data::new(message, "http://sluice:9201", 0), dialect)
}

#[test]
fn templates_have_alertmanagers_words_and_functions() {
    let message = both();
    for (text, expected) in [
        ("{{ status }} {{ receiver }} {{ level }} {{ externalURL }}", "firing team.db 2 http://sluice:9201"),
        ("{{ groupLabels.alertname }} {{ commonLabels.team }}{{ commonLabels.nothing }}{{ commonLabels.a.b.c }}", "DiskFull db"),
        ("{{ alerts|length }} {{ alerts.firing|length }} {{ alerts.resolved[0].labels.instance }}", "2 1 b"),
        ("{% for a in alerts %}{{ a.status }}={{ a.labels.instance }} {% endfor %}", "firing=a resolved=b "),
        ("{{ alerts[1].annotations.summary|toUpper }} {{ 'A'|toLower }} {{ ' x '|trimSpace }}", "B IS FULL a x"),
        ("{{ alerts[0].startsAt|date('2006-01-02 15:04:05') }}", "2026-09-21 14:13:20"),
        ("{{ alerts[0].startsAt|date('Mon 2 Jan 15:04 MST', 'Asia/Shanghai') }}", "Mon 21 Sep 22:13 CST"),
        ("{{ alerts[0].startsAt|tz('Europe/Berlin')|date('15:04 -07:00') }}", "16:13 +02:00"),
        ("{{ alerts[0].startsAt|date('%H:%M') }}", "14:13"),
        ("{{ 3725|humanizeDuration }} {{ 59|humanizeDuration }} {{ 90061|humanizeDuration }}", "1h 2m 5s 59s 1d 1h 1m 1s"),
        ("{{ commonLabels|remove(groupLabels|names)|values|join(',') }}", "db"),
        ("{% for p in commonLabels|sortedPairs %}{{ p.name }}={{ p.value }};{% endfor %}", "alertname=DiskFull;team=db;"),
        ("{{ 'a-b'|reReplaceAll('(.)-(.)', '$2-$1') }} {{ 'abc'|match('^a') }}", "b-a true"),
        ("{{ 'ü?'|base64encode }} {{ 'w7w_'|base64decode }} {{ 'a%20b'|urlUnescape }} {{ 'a b'|urlEscape }}", "w7w_ ü? a b a+b"),
        ("{{ commonLabels|tojson }}", "{\"alertname\": \"DiskFull\", \"team\": \"db\"}"),
        ("{{ subject }} {{ notificationReason }}", "[FIRING:1] DiskFull (db) first notification"),
        ("{{ alerts[0].level }} {{ alerts[0].flapping }} {{ alerts[1].unconfirmed }}", "2 false false"),
    ] {
        assert_eq!(render(text, &message, Dialect::Plain).as_deref(), Ok(expected), "{text}");
    }
    assert!(render("{{ now()|since < 5 }}", &message, Dialect::Plain).is_ok_and(|text| text == "true"));
}

#[test]
fn what_flaps_and_what_nobody_confirms_any_more_is_told_as_such() {
    let mut message = both();
    message.marks[0].flapping = true;
    let over = &mut message.alerts[1];
    over.updated = over.starts;
    let data = Data::new(&message, "", 0);
    let text = say::text(&message, &data, Dialect::Plain, 4096);
    assert!(text.contains("flapping: a is full") && text.contains("no longer confirmed: b is full"), "{text}");
    assert!(text.contains("nothing more is told until") && text.contains("has not said that it is over"), "{text}");
    let words = "{{ alerts[0].flapping }} {{ alerts[1].unconfirmed }} {{ alerts[1].status }}";
    assert_eq!(render(words, &message, Dialect::Plain).as_deref(), Ok("true true resolved"));
    // What knows Alertmanager's format gets no other.
    let body = String::from_utf8(data.webhook_body()).unwrap();
    assert!(!body.contains("flapping") && !body.contains("unconfirmed") && !body.contains("level"), "{body}");
}

#[test]
fn labels_are_letters_and_never_templates() {
    let hostile = message(vec![alert("{{ 7*7 }}{% for x in y %}<@all> [a](http://b) \"'&", "s", AT + 1)]);
    for (dialect, expected) in [
        (Dialect::Plain, "{{ 7*7 }}{% for x in y %}<@all> [a](http://b) \"'&"),
        (Dialect::Markdown, "{{ 7*7 }}{% for x in y %}＜@all> [a] (http://b) \"'&"),
        (Dialect::Mrkdwn, "{{ 7*7 }}{% for x in y %}&lt;@all&gt; [a](http://b) \"'&amp;"),
        (Dialect::Html, "{{ 7*7 }}{% for x in y %}&lt;@all&gt; [a](http://b) &#34;&#39;&amp;"),
        (Dialect::Json, "{{ 7*7 }}{% for x in y %}<@all> [a](http://b) \\\"'&"),
    ] {
        assert_eq!(render("{{ alerts[0].labels.instance }}", &hostile, dialect).as_deref(), Ok(expected), "{dialect:?}");
        // By way of a macro or a set it is escaped once.
        let by_macro = "{% macro m(x) %}{{ x }}{% endmacro %}{% set y %}{{ m(alerts[0].labels.instance) }}{% endset %}{{ y }}";
        assert_eq!(render(by_macro, &hostile, dialect).as_deref(), Ok(expected), "{dialect:?}");
    }
    assert_eq!(render("<b>{{ 'x'|safeHtml }}</b>", &hostile, Dialect::Html).as_deref(), Ok("<b>x</b>"));
}

#[test]
fn a_template_that_takes_too_much_ends() {
    let message = both();
    let doubling: String =
        std::iter::once("{% set a = 'xxxxxxxxxxxxxxxx' %}".to_owned()).chain((0..60).map(|_| "{% set a = a ~ a %}".to_owned())).collect();
    for text in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% macro m(x) %}{{ m(x ~ x) }}{% endmacro %}{{ m('abcdefgh') }}",
        "{% for a in range(100000) %}{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' }}{% endfor %}",
        "{% for a in range(100000) %}{{ 'a'|reReplaceAll('(a{1,50}){1,50}', 'b') }}{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{{ 'x'|reReplaceAll('(((a{100}){100}){100})', '') }}",
        &doubling,
    ] {
        assert!(render(text, &message, Dialect::Plain).is_err(), "{text}");
    }
    for text in ["{% include '/etc/passwd' %}", "{% import 'x' as y %}", "{{ env.PATH }}{{ ''.__class__.__mro__ }}"] {
        let result = render(text, &message, Dialect::Plain);
        assert!(result.as_deref().map_or(true, str::is_empty), "{text}: {result:?}");
    }
}

#[test]
fn gos_texts_are_told_by_line_with_what_replaces_them() {
    let text = "\
route: { receiver: a }
templates: ['*.tmpl']
receivers:
- name: a
  slack_configs:
  - api_url: 'http://s/'
    channel: '{{ .GroupLabels.team }}'
    title: '{{ template \"slack.default.title\" . }}'
    text: '{{ range .Alerts }}{{ .Labels.instance }} {{ end }}'
    pretext: '{{ template \"mine\" . }}'
    footer: '{{ status }}'
    fallback: '{{ status'
  telegram_configs: [{ chat_id: 1 }]
  webhook_configs:
  - url: 'http://w/'
    http_config: { oauth2: { client_id: x } }
";
    let found = doubts::doubts(&routing::parse(text).unwrap(), &[]);
    let found: Vec<(usize, &str)> = found.iter().map(|problem| (problem.line, problem.remedy.as_str())).collect();
    assert_eq!(found.len(), 7, "{found:?}");
    assert_eq!((found[0].0, found[1]), (0, (7, "write: {{ groupLabels.team }}")));
    assert_eq!(found[2], (9, "write: {% for alert in alerts %}{{ alert.labels.instance }} {% endfor %}"));
    assert_eq!(found[3].0, 10);
    assert_eq!(found[4].0, 12);
    assert_eq!(found[5].0, 13);
    assert_eq!(found[6].0, 16);
    // With the file of templates it is known what is called.
    let files = [("a.tmpl".to_owned(), "\n{{ define \"mine\" }}{{ .Status | toUpper }}{{ end }}".to_owned())];
    let found = doubts::doubts(&routing::parse(text).unwrap(), &files);
    assert!(found.iter().any(|problem| problem.line == 10 && problem.remedy == "write: {{ status|upper }}"), "{found:?}");
    assert!(found.iter().any(|problem| problem.key == "a.tmpl:2: \"mine\""), "{found:?}");
    assert_eq!(page::judge("{{ template \"slack.default.title\" . }}"), Written::Default);
}

/// What Alertmanager itself would write is known of each by hand.
#[test]
fn translations_say_what_the_original_says() {
    let message = both();
    for (go, says) in [
        (
            "[{{ .Status | toUpper }}{{ if eq .Status \"firing\" }}:{{ .Alerts.Firing | len }}{{ end }}] {{ .GroupLabels.SortedPairs.Values | join \" \" }}",
            "[FIRING:1] DiskFull",
        ),
        (
            "{{ range .Alerts }}{{ range .Labels.SortedPairs }}{{ .Name }}={{ .Value }} {{ end }}| {{ end }}",
            "alertname=DiskFull instance=a team=db | alertname=DiskFull instance=b team=db | ",
        ),
        ("{{ with .CommonLabels.Remove .GroupLabels.Names }}({{ .Values | join \", \" }}){{ end }}", "(db)"),
        ("{{ range $i, $a := .Alerts.Firing }}{{ $i }}:{{ $a.StartsAt.Format \"15:04\" }}{{ end }}", "0:14:13"),
        ("{{ range $k, $v := .CommonLabels }}{{ $k }}-{{ $v }} {{ end }}", "alertname-DiskFull team-db "),
        ("a  {{- \" b \" -}}  c{{ printf \"%s/%d\" .Status 3 }}", "a b cfiring/3"),
        ("{{ (index .Alerts 1).Annotations.summary | title }}", "B Is Full"),
        ("{{ if and (gt (len .Alerts) 1) (not .CommonLabels.x) }}yes{{ else }}no{{ end }}", "yes"),
        ("{{ if match \"^Disk\" .GroupLabels.alertname }}disk{{ end }}", "disk"),
    ] {
        let ours = translate::translate(go).unwrap_or_else(|| panic!("{go}"));
        assert_eq!(render(&ours, &message, Dialect::Plain).as_deref(), Ok(says), "{go}\n{ours}");
    }
}

/// docs/receivers.md: every example is read as it stands, and its templates run.
#[test]
fn the_examples_of_the_manual_are_good() {
    let manual = include_str!("../../../docs/receivers.md");
    let examples: Vec<&str> = manual.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 6);
    let message = both();
    for example in examples {
        let file = routing::parse(example).unwrap_or_else(|problems| panic!("{problems:?}\n{example}"));
        assert_eq!(doubts::doubts(&file, &[]), [], "{example}");
        for text in file.receivers.iter().flat_map(|receiver| &receiver.integrations).flat_map(|one| one.kind.texts()) {
            let dialect = if text.place.key.ends_with(".body") { Dialect::Json } else { Dialect::Plain };
            let carried_out = render(&text.text, &message, dialect).unwrap_or_else(|why| panic!("{}: {why}", text.place.key));
            if dialect == Dialect::Json {
                serde_json::from_str::<serde_json::Value>(&carried_out).unwrap_or_else(|error| panic!("{error}: {carried_out}"));
            }
        }
    }
    let rows = manual
        .split("| Go | MiniJinja |")
        .nth(1)
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.replace("\\|", "\u{1}"));
    let mut seen = 0;
    for row in rows {
        let cells: Vec<String> = row.split('|').map(|cell| cell.trim().trim_matches('`').replace('\u{1}', "|")).collect();
        assert_eq!(translate::translate(&cells[1]).as_deref(), Some(cells[2].as_str()));
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[test]
fn our_own_text_fits_and_says_nothing_that_a_label_wants() {
    let dialects = [Dialect::Plain, Dialect::Markdown, Dialect::Mrkdwn, Dialect::Lark, Dialect::Html, Dialect::Json];
    for seed in seeds(60) {
        let mut random = fastrand::Rng::with_seed(seed);
        let wicked = "<!here> <@all> [x](http://evil) <at id=all></at> <script>&\"'`*_~ \\ \u{202e}\r\n.\r\n {{ 1 }} ünïcödé 漢字 "
            .repeat(1 + random.usize(..5));
        let alerts = (0..random.usize(1..30))
            .map(|_| alert(&damage_text(&mut random, &wicked), &damage_text(&mut random, &wicked), AT + random.i64(-1..2)))
            .collect();
        let message = message(alerts);
        let data = Data::new(&message, "http://sluice:9201", random.usize(..3));
        let most = random.usize(50..6_000);
        for dialect in dialects {
            let text = say::text(&message, &data, dialect, most);
            assert!(text.len() <= most, "SEED={seed} {dialect:?}");
            let bad: &[&str] = match dialect {
                Dialect::Markdown | Dialect::Lark => &["<", "]("],
                Dialect::Mrkdwn => &["<!", "<@", "<at", "<script"],
                Dialect::Html => &["<!", "<@", "<at", "<script"],
                Dialect::Plain | Dialect::Json => &[],
            };
            assert!(bad.iter().all(|bad| !text.contains(bad)), "SEED={seed} {dialect:?}: {text}");
        }
        assert!(!say::title(&message, &data).contains(['\n', '\r']), "SEED={seed}");
    }
}
