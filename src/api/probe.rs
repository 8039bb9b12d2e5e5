//! `GET /probe?target=&module=&hostname=&debug=`: blackbox_exporter's, so that a scrape configuration changes nothing but its address.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::StatusCode;

use crate::api::answer;
use crate::api::answer::Failure;
use crate::api::deps::Deps;
use crate::api::deps::Later;
use crate::serve;
use crate::serve::Response;

/// How long Prometheus waits for an answer.
const HEADER: &str = "x-prometheus-scrape-timeout-seconds";
/// Without that header, and at most with it: a probe holds a socket for as long as it takes.
const PATIENCE: Duration = Duration::from_secs(120);
/// So much earlier a probe ends, that its answer arrives.
const OFFSET: Duration = Duration::from_millis(500);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What is probed.
    pub target: String,
    /// How.
    pub module: String,
    /// The name that it is asked by.
    pub hostname: Option<String>,
    /// Everything is to be told.
    pub debug: bool,
    /// How long the asker waits.
    pub patience: Patience,
}

/// How long somebody waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience(Duration);

impl Default for Patience {
    fn default() -> Patience {
        Patience(PATIENCE)
    }
}

/// Why there was no probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `probe.ad_hoc.enabled: false`
    Off,
    /// No module of this name; there are these.
    NoModule(Vec<String>),
    /// The module says another `Host`.
    OtherHost(String),
    /// So many are under way already, as many as `probe.ad_hoc.at_once` allows.
    Busy(usize),
}

/// What is answered, and as what.
pub type Text = (&'static str, String);

/// Who probes.
pub trait Prober: Send + Sync {
    /// The answer's text. What goes wrong with the target is no refusal.
    fn probe(&self, asked: Asked) -> Later<'_, Result<Text, Refused>>;
}

impl Patience {
    /// How long a probe may take, of a module that says this or nothing of it. `strict`: a module's own counts where the asker has none left.
    pub fn timeout(self, module: Option<Duration>, strict: bool) -> Duration {
        match (self.0.checked_sub(OFFSET).filter(|left| !left.is_zero()), module) {
            (Some(left), Some(module)) => left.min(module),
            (Some(left), None) => left,
            // Half of very little is better than more than there is.
            (None, Some(module)) if strict => module,
            (_, module) => (self.0 / 2).min(module.unwrap_or(self.0)),
        }
    }
}

fn patience(headers: &HeaderMap) -> Result<Patience, Failure> {
    let Some(header) = headers.get(HEADER) else { return Ok(Patience::default()) };
    let seconds =
        header.to_str().ok().and_then(|text| text.trim().parse::<f64>().ok()).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match seconds {
        Some(Duration::ZERO) => Ok(Patience::default()),
        Some(span) => Ok(Patience(span.min(PATIENCE))),
        None => {
            let text = "X-Prometheus-Scrape-Timeout-Seconds is no number of seconds";
            Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "timeout", text, "Prometheus sets it; leave it out otherwise"))
        }
    }
}

/// Answers.
pub async fn answer(deps: &Deps, query: &str, headers: &HeaderMap) -> Result<Response, Failure> {
    let mut asked = Asked { target: String::new(), module: String::new(), hostname: None, debug: false, patience: patience(headers)? };
    // Of several of the same name the first counts, as in blackbox_exporter.
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "target" if asked.target.is_empty() => asked.target = value.into_owned(),
            "module" if asked.module.is_empty() => asked.module = value.into_owned(),
            "hostname" if asked.hostname.is_none() && !value.is_empty() => asked.hostname = Some(value.into_owned()),
            "debug" => asked.debug = value == "true",
            _ => {}
        }
    }
    if asked.target.is_empty() {
        return Err(Failure::wrong("Target parameter is missing", "GET /probe?target=https://example.com&module=http_2xx"));
    }
    if asked.module.is_empty() {
        asked.module = "http_2xx".to_owned();
    }
    let module = asked.module.clone();
    match deps.probe.probe(asked).await {
        Ok((content_type, text)) => {
            let mut response = serve::answer(StatusCode::OK, content_type, text);
            answer::unstored(&mut response, &[]);
            Ok(response)
        }
        Err(Refused::Off) => {
            let text = "this node probes nothing at anybody's wish (probe.ad_hoc.enabled: false)";
            Err(Failure::new(StatusCode::FORBIDDEN, "off", text, "ask another node, or change its configuration"))
        }
        Err(Refused::NoModule(names)) => {
            Err(Failure::wrong(format!("Unknown module {module:?}"), format!("there are: {}; probe.modules adds more", names.join(", "))))
        }
        Err(Refused::OtherHost(host)) => Err(Failure::wrong(
            format!("the header Host is written in the module ({host}) and asked for by `hostname`, which says another"),
            "leave one of the two out",
        )),
        Err(Refused::Busy(most)) => {
            let text = format!("{most} probes that somebody asked for are under way (probe.ad_hoc.at_once)");
            Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "busy", text, "ask again in a few seconds, or raise probe.ad_hoc.at_once"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_ends_before_the_scrape_does() {
        // Module and header in seconds; what blackbox_exporter makes of them with its offset of 0.5 s.
        for (module, header, wanted) in [
            (0.0, "15", 14.5),
            (0.0, "15.5", 15.0),
            (5.0, "15", 5.0),
            (5.0, "5", 4.5),
            (15.0, "10", 9.5),
            (10.0, "", 10.0),
            (0.0, "", 119.5),
            (0.0, "0", 119.5),
            (130.0, "", 119.5),
            (3.0, "0.5", 0.25),
            (0.0, "0.5", 0.25),
            (0.0, "1e9", 119.5),
            (3.0, "1e9", 3.0),
        ] {
            let mut headers = HeaderMap::new();
            if !header.is_empty() {
                headers.insert(HEADER, header.parse().unwrap());
            }
            let module = (module > 0.0).then(|| Duration::from_secs_f64(module));
            let timeout = patience(&headers).unwrap().timeout(module, false).as_secs_f64();
            let exact = (timeout - wanted).abs() < 1e-9;
            assert!(exact, "{module:?} {header}: {timeout}");
        }
        // blackbox_exporter takes the module's own there, and answers too late.
        let little = Patience(Duration::from_millis(300));
        assert_eq!(little.timeout(Some(Duration::from_secs(3)), false), Duration::from_millis(150));
        assert_eq!(little.timeout(Some(Duration::from_secs(3)), true), Duration::from_secs(3));
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, "soon".parse().unwrap());
        assert_eq!(patience(&headers).unwrap_err().status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
