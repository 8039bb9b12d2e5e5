//! Receivers as files have them.

use std::time::Duration;

use crate::config::read::Problem;
use crate::config::receivers::Integration;
use crate::config::receivers::Kind;
use crate::config::receivers::Secret;
use crate::config::receivers::http::Login;
use crate::config::routing;
use crate::mutate::damage_text;
use crate::mutate::seeds;

/// The file's receivers, given what stands below `global` and the receiver's own lines.
fn read(global: &str, lines: &str) -> Result<Vec<Integration>, Vec<Problem>> {
    let text = format!("global: {global}\nroute: {{ receiver: a }}\nreceivers:\n- name: a\n{lines}");
    routing::parse(&text).map(|file| file.receivers[0].integrations.clone())
}

fn problems(global: &str, lines: &str) -> Vec<String> {
    let wrong = read(global, lines).map(|read| format!("{read:?}"));
    wrong.unwrap_err().into_iter().map(|problem| format!("{}: {}", problem.key.replace("receivers[0].", ""), problem.rule)).collect()
}

#[test]
fn what_is_said_for_all_is_what_one_has_that_says_nothing() {
    let global = "{ smtp_smarthost: 'mail:25', smtp_from: a@b, smtp_require_tls: false, slack_api_url: 'http://s/x', \
                  http_config: { authorization: { credentials: t }, proxy_url: 'http://p' }, pagerduty_url: 'http://pd/' }";
    let lines = "  email_configs: [{ to: x@y }, { to: x@y, smarthost: 'other:465', require_tls: true }]\n  slack_configs: [{ channel: c }]\n  \
                 pagerduty_configs: [{ routing_key: k, http_config: { basic_auth: { username: u } } }]\n";
    let read = read(global, lines).unwrap();
    let (Kind::Slack(slack), Kind::PagerDuty(duty), Kind::Mail(one), Kind::Mail(other)) =
        (&read[0].kind, &read[1].kind, &read[2].kind, &read[3].kind)
    else {
        panic!("{read:?}")
    };
    assert_eq!(
        (&slack.url, slack.http.login.clone()),
        (&Secret::Here("http://s/x".into()), Some(Login::Header("Bearer".into(), Secret::Here("t".into()))))
    );
    // A section of one's own takes the place of the whole one.
    assert_eq!(
        (duty.url.as_str(), &duty.http.login, &duty.http.proxy),
        ("http://pd/", &Some(Login::Basic(Secret::Here("u".into()), None)), &None)
    );
    assert_eq!((one.host.as_str(), one.port, one.require_tls, one.implicit_tls), ("mail", 25, false, false));
    assert_eq!((other.host.as_str(), other.port, other.require_tls, other.implicit_tls), ("other", 465, true, true));
    let resolved: Vec<bool> = read.iter().map(|one| one.send_resolved).collect();
    assert_eq!(resolved, [false, true, false, false], "Alertmanager's defaults");
    assert!(!format!("{read:?}").contains("http://s/x"), "no secret is shown");
}

#[test]
fn what_alertmanager_refuses_is_refused() {
    for (global, lines, expected) in [
        ("{ slack_url: x }", "  webhook_configs: [{ url: 'http://a' }]\n", "global.slack_url: is no key known here"),
        ("{}", "  webhook_configs: [{}]\n", "webhook_configs[0].url: is missing"),
        (
            "{}",
            "  webhook_configs: [{ url: 'http://a', url_file: b }]\n",
            "webhook_configs[0].url: at most one of url & url_file must be configured",
        ),
        ("{}", "  webhook_configs: [{ url: 'http://a', uri: b }]\n", "webhook_configs[0].uri: is no key known here"),
        (
            "{}",
            "  webhook_configs: [{ url: 'canary.example/x' }]\n",
            "webhook_configs[0].url: is no URL that begins with http:// or https://",
        ),
        (
            "{}",
            "  wechat_configs: [{ api_url: x, api_secret: y, corp_id: z }]\n",
            "wechat_configs[0].api_url: is no URL that begins with http:// or https://",
        ),
        (
            "{ slack_api_url: 'https://' }",
            "  webhook_configs: [{ url: '{{ x }}' }]\n",
            "global.slack_api_url: is no URL that begins with http:// or https://",
        ),
        ("{}", "  slack_configs: [{ channel: c }]\n", "slack_configs[0].api_url: is missing"),
        ("{}", "  email_configs: [{ to: a@b, from: c@d }]\n", "email_configs[0].smarthost: is missing"),
        ("{}", "  email_configs: [{ to: a@b, from: c@d, smarthost: mail }]\n", "email_configs[0]: its smarthost is no host and port"),
        ("{}", "  pagerduty_configs: [{ severity: x }]\n", "pagerduty_configs[0].routing_key: is missing"),
        ("{}", "  wecom_configs: [{ url: 'http://a', per_minute: 0 }]\n", "wecom_configs[0].per_minute: must be 1 to 6000"),
        (
            "{}",
            "  alert_center_configs: [{ url: 'http://a', expect: { field: code } }]\n",
            "alert_center_configs[0].expect.values: is missing",
        ),
        (
            "{}",
            "  webhook_configs: [{ url: 'http://a', http_config: { bearer_token: a, basic_auth: { username: b } } }]\n",
            "webhook_configs[0].http_config: at most one of basic_auth, authorization, bearer_token & bearer_token_file must be configured",
        ),
        (
            "{}",
            "  webhook_configs: [{ url: 'http://a', http_config: { http_headers: { Host: x } } }]\n",
            "webhook_configs[0].http_config.http_headers.Host: is no header that can be set here",
        ),
        ("{}", "  fax_configs: [{}]\n", "fax_configs: is no key known here"),
    ] {
        let found = problems(global, lines);
        assert!(found.iter().any(|problem| problem == expected), "{expected}\n{found:?}");
    }
}

#[test]
fn what_cannot_be_done_is_kept_with_its_line() {
    let lines = "  telegram_configs:\n  - { chat_id: 1, anything: goes }\n  webhook_configs:\n  - url: 'http://a'\n    timeout: 0s\n    http_config:\n      \
                 tls_config: { insecure_skip_verify: true }\n      oauth2: { client_id: x }\n  - url: 'http://b'\n    http_config: { tls_config: { insecure_skip_verify: false } }\n  \
                 email_configs: [{ to: a@b, from: c@d, smarthost: 'h:25', auth_username: u, auth_secret: s }]\n";
    let read = read("{}", lines).unwrap();
    let lines: Vec<Vec<usize>> = read.iter().map(|one| one.unserved.iter().map(|problem| problem.line).collect()).collect();
    assert_eq!(lines, [vec![12, 11], vec![], vec![15], vec![6]], "{read:?}");
    let Kind::Webhook(hook) = &read[0].kind else { panic!() };
    assert_eq!(hook.http.timeout, Duration::from_secs(10), "there is always an end");
}

#[test]
fn damaged_files_never_panic() {
    let text = include_str!("../../../docs/receivers.md");
    let examples: Vec<&str> = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let (mut taken, mut refused) = (0, 0);
    for seed in seeds(2_000) {
        let mut random = fastrand::Rng::with_seed(seed);
        let example = examples[random.usize(..examples.len())];
        match routing::parse(&damage_text(&mut random, example)) {
            Ok(_) => taken += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(taken > 0 && refused > 0, "{taken} {refused}");
}
