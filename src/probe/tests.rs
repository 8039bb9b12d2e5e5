//! Probes against servers on loopback that do one thing each, by modules as they stand in a `blackbox.yml`.

mod dns;
mod http;
mod others;
mod stub;
mod tcp;
mod tls;

use std::time::Duration;

use crate::config::probe;
use crate::probe::guard::Guard;
use crate::probe::module::Module;
use crate::probe::outcome::Cause;
use crate::probe::outcome::Outcome;
use crate::probe::run;
use crate::probe::run::Ask;

/// A module of these lines, which stand below its name.
fn module(lines: &str, strict: bool) -> Module {
    let mut text = "modules:\n  it:\n".to_owned();
    lines.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
    match probe::parse_file(&text) {
        Ok(modules) => Module::new("it", &modules[0].1, strict),
        Err(problems) => panic!("{text}{}", problems[0]),
    }
}

async fn probe(lines: &str, target: &str) -> Outcome {
    probe_so(&module(lines, false), target, None).await
}

async fn probe_so(module: &Module, target: &str, hostname: Option<&str>) -> Outcome {
    let timeout = module.timeout(Duration::from_secs(20));
    run::probe(&Ask { hostname, log: true, ..Ask::new(target, module, timeout) }).await
}

impl Outcome {
    /// The value of a metric, with labels as `name{label="value"}`.
    fn value(&self, name: &str) -> Option<f64> {
        let text = crate::probe::exposition::text(&self.metrics);
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    #[track_caller]
    fn is(&self, name: &str, value: f64) {
        assert_eq!(self.value(name), Some(value), "{name}: {:?}", self.failure);
    }

    #[track_caller]
    fn good(&self) {
        assert!(self.success, "{:?}\n{:?}", self.failure, self.log);
        self.is("probe_success", 1.0);
    }

    /// Failed for this reason, during this phase.
    #[track_caller]
    fn failed(&self, cause: Cause, phase: &str) {
        let failure = self.failure.as_ref().unwrap_or_else(|| panic!("it did not fail: {:?}", self.log));
        assert_eq!((failure.cause, failure.phase), (cause, phase), "{}\n{:?}", failure.text, self.log);
        self.is("probe_success", 0.0);
        self.is(&format!("sluice_probe_failure_info{{cause=\"{}\",phase=\"{phase}\"}}", cause.word()), 1.0);
    }
}

#[tokio::test]
async fn the_guard_is_asked_after_the_name_is_resolved_and_at_every_redirect() {
    let secret = stub::http(|_| stub::answer(200, "", "secret")).await;
    let way = stub::http(move |_| stub::answer(302, &format!("Location: http://{secret}/\r\n"), "")).await;
    let module = module("prober: http\nhttp: {preferred_ip_protocol: ip4}", false);
    let rules = |deny: &str| {
        let net = probe::net::parse(deny).unwrap();
        Guard::new(probe::AdHoc { enabled: true, allow: Vec::new(), deny: vec![net], ..probe::AdHoc::default() })
    };
    let all = rules("127.0.0.0/8");
    let timeout = Duration::from_secs(20);
    for target in [format!("http://{way}/"), format!("http://localhost:{}/", way.port())] {
        let outcome = run::probe(&Ask { guard: Some(&all), ..Ask::new(&target, &module, timeout) }).await;
        outcome.failed(Cause::Forbidden, "resolve");
    }
    let default = Guard::default();
    let target = format!("http://{way}/");
    run::probe(&Ask { guard: Some(&default), ..Ask::new(&target, &module, timeout) }).await.good();
    // The second hop is judged like the first.
    let leads = stub::http(|_| stub::answer(302, "Location: http://169.254.169.254/latest/meta-data/\r\n", "")).await;
    let target = format!("http://{leads}/");
    let outcome = run::probe(&Ask { guard: Some(&default), ..Ask::new(&target, &module, timeout) }).await;
    outcome.failed(Cause::Forbidden, "resolve");
    outcome.is("probe_http_redirects", 1.0);
}

#[tokio::test]
async fn the_guard_is_asked_of_what_a_proxy_is_to_ask_and_not_of_what_the_operator_named() {
    let proxy = stub::http(|_| stub::answer(200, "", "by proxy")).await;
    let timeout = Duration::from_secs(20);
    let proxied =
        format!("prober: http\nhttp: {{preferred_ip_protocol: ip4, skip_resolve_phase_with_proxy: true, proxy_url: 'http://{proxy}'}}");
    let module = module(&proxied, false);
    let ask = async |guard: &Guard, target: &str| run::probe(&Ask { guard: Some(guard), ..Ask::new(target, &module, timeout) }).await;
    ask(&Guard::default(), "http://169.254.169.254/latest").await.failed(Cause::Forbidden, "resolve");
    // Nothing is forbidden: the proxy may resolve what nobody here can.
    let none = Guard::new(probe::AdHoc { deny: Vec::new(), ..probe::AdHoc::default() });
    ask(&none, "http://no-such-name.invalid/").await.good();
    // The target leads elsewhere, the operator's own place of tokens is at 127.0.0.1, which nobody may ask for.
    let tokens = stub::http(|_| stub::answer(200, "", r#"{"access_token": "T"}"#)).await;
    let login = format!("oauth2: {{client_id: i, client_secret: s, token_url: 'http://{tokens}/'}}");
    let module = super::tests::module(&format!("prober: http\nhttp: {{preferred_ip_protocol: ip4, {login}}}"), false);
    let own = Guard::new(probe::AdHoc { deny: vec![probe::net::parse("127.0.0.1/32").unwrap()], ..probe::AdHoc::default() });
    let target =
        stub::http_at("127.0.0.2:0", |request| stub::answer(if request.contains("Bearer T\r\n") { 200 } else { 401 }, "", "")).await;
    run::probe(&Ask { guard: Some(&own), ..Ask::new(&target.to_string(), &module, timeout) }).await.good();
}

#[test]
fn the_shipped_modules_are_good() {
    let text = include_str!("../../packaging/blackbox.yml");
    assert!(probe::parse_file(text).is_ok_and(|modules| modules.len() > 10));
    let modules = crate::probe::module::Modules::new(&[], false);
    assert!(modules.get("http_2xx").is_some() && modules.get("icmp").is_some());
}
