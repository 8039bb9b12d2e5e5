//! From paths to what is asked. Names of groups hold slashes: a path is split before it is decoded, and where a proxy has decoded `%2F`
//! already, everything between the collection and a known last word is the name.

use crate::api::cluster::Reseat;
use crate::api::push;

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/-/healthy`
    Healthy,
    /// `/-/ready`
    Ready,
    /// `/-/reload`
    Reload,
    /// `/metrics`
    Metrics,
    /// `/probe`
    Probe,
    /// `/api/v1/status`
    Status,
    /// `/api/v1/groups`
    Groups,
    /// `/api/v1/groups/{name}`, with a last word or without one.
    Group(String, OfGroup),
    /// `/api/v1/cardinality`
    Cardinality,
    /// `/api/v1/tap`
    Tap,
    /// `/api/v1/probes`
    Probes,
    /// `/api/v1/senders`
    RemoteSenders,
    /// `/api/v1/sinks`
    Sinks,
    /// `/api/v1/sinks/{name}`, with a last word or without one.
    Sink(String, OfSink),
    /// `/api/v1/explain`
    Explain,
    /// `/api/v1/config`
    Config,
    /// `/api/v1/config/diff`
    ConfigDiff,
    /// `/api/v1/config/apply`
    ConfigApply,
    /// `/api/v1/cluster`
    Cluster,
    /// `/api/v1/cluster/doctor`
    Doctor,
    /// `/api/v1/cluster/upgrade`
    Upgrade,
    /// `/api/v1/cluster/upgrade/finalize`
    Finalize,
    /// `/api/v1/cluster/debug`
    Debug,
    /// `/api/v1/cluster/init`
    Init,
    /// `/api/v1/cluster/drain`, or `undrain`
    Drain(bool),
    /// `/api/v1/cluster/transfer`
    Transfer,
    /// `/api/v1/cluster/{replace,add,remove}/{name}`
    Reseat(Reseat, String),
    /// `/api/v1/backups/{name}`
    Backup(String),
    /// `/api/v1/tokens`
    Tokens,
    /// `/api/v1/tokens/{name}/revoke`
    RevokeToken(String),
    /// `/api/v1/dev/senders`
    Senders,
    /// `/api/v1/alerts/in/{source}`
    Alerts(String),
    /// `/api/v1/alerts/active`
    ActiveAlerts,
    /// `/api/v1/alerts/dry-run`
    DryRun,
    /// `/api/v1/alerts/dry-run/{id}`
    DryRunOf(String),
    /// `/api/v1/alerts/history`
    AlertHistory,
    /// `/api/v1/alerts/receivers`
    AlertReceivers,
    /// `/api/v1/alerts/{fingerprint}/ack`
    Acknowledge(String),
    /// `/api/v1/receivers/{name}/preview`
    Preview(String),
    /// What was Alertmanager's API v1, as `/api/v1/alerts`.
    AlertmanagerV1,
    /// Pushgateway's paths, perhaps with `/tenants/{name}` before them.
    Push(Option<String>, push::What),
}

/// The last word after a group's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfGroup {
    /// None: the group itself.
    Itself,
    /// `history`
    History,
    /// `cardinality`
    Cardinality,
    /// `pin`
    Pin,
    /// `unpin`
    Unpin,
    /// `step-down`
    StepDown,
}

/// The last word after a sink's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfSink {
    /// None: the sink itself.
    Itself,
    /// `dead`
    Dead,
    /// `replay`
    Replay,
    /// `pause`
    Pause,
    /// `resume`
    Resume,
    /// `rewind`
    Rewind,
    /// `test`
    Test,
    /// `tap`
    Tap,
}

const OF_GROUP: [(&str, OfGroup); 5] = [
    ("history", OfGroup::History),
    ("cardinality", OfGroup::Cardinality),
    ("pin", OfGroup::Pin),
    ("unpin", OfGroup::Unpin),
    ("step-down", OfGroup::StepDown),
];
const OF_SINK: [(&str, OfSink); 7] = [
    ("rewind", OfSink::Rewind),
    ("test", OfSink::Test),
    ("dead", OfSink::Dead),
    ("replay", OfSink::Replay),
    ("pause", OfSink::Pause),
    ("resume", OfSink::Resume),
    ("tap", OfSink::Tap),
];

/// Shown where a path is unknown.
pub const PATHS: &str =
    "/api/v1/status, /api/v1/groups, /api/v1/sinks, /metrics, /probe, /-/healthy, /-/ready, /-/reload; docs/api.md has all of them";

impl Route {
    /// Of a path without its query; `None`: nothing is there.
    pub fn of(path: &str) -> Option<Route> {
        let path = if path.len() > 1 { path.strip_suffix('/').unwrap_or(path) } else { path };
        if let Some(push) = pushed(path) {
            return Some(push);
        }
        match path {
            "/-/healthy" | "/pushgateway/-/healthy" => return Some(Route::Healthy),
            "/-/ready" | "/pushgateway/-/ready" => return Some(Route::Ready),
            "/-/reload" => return Some(Route::Reload),
            "/metrics" => return Some(Route::Metrics),
            "/probe" => return Some(Route::Probe),
            "/api/v1/status" => return Some(Route::Status),
            "/api/v1/groups" => return Some(Route::Groups),
            "/api/v1/cardinality" => return Some(Route::Cardinality),
            "/api/v1/tap" => return Some(Route::Tap),
            "/api/v1/probes" => return Some(Route::Probes),
            "/api/v1/senders" => return Some(Route::RemoteSenders),
            "/api/v1/sinks" => return Some(Route::Sinks),
            "/api/v1/explain" => return Some(Route::Explain),
            "/api/v1/config" => return Some(Route::Config),
            "/api/v1/config/diff" => return Some(Route::ConfigDiff),
            "/api/v1/config/apply" => return Some(Route::ConfigApply),
            "/api/v1/cluster" => return Some(Route::Cluster),
            "/api/v1/cluster/doctor" => return Some(Route::Doctor),
            "/api/v1/cluster/upgrade" => return Some(Route::Upgrade),
            "/api/v1/cluster/upgrade/finalize" => return Some(Route::Finalize),
            "/api/v1/cluster/debug" => return Some(Route::Debug),
            "/api/v1/cluster/init" => return Some(Route::Init),
            "/api/v1/cluster/drain" => return Some(Route::Drain(true)),
            "/api/v1/cluster/undrain" => return Some(Route::Drain(false)),
            "/api/v1/cluster/transfer" => return Some(Route::Transfer),
            "/api/v1/alerts/active" => return Some(Route::ActiveAlerts),
            "/api/v1/alerts/dry-run" => return Some(Route::DryRun),
            "/api/v1/alerts/history" => return Some(Route::AlertHistory),
            "/api/v1/alerts/receivers" => return Some(Route::AlertReceivers),
            "/api/v1/tokens" => return Some(Route::Tokens),
            "/api/v1/dev/senders" => return Some(Route::Senders),
            "/api/v1/alerts" | "/api/v1/alerts/groups" | "/api/v1/silences" | "/api/v1/receivers" => return Some(Route::AlertmanagerV1),
            _ => {}
        }
        for (word, change) in [("replace", Reseat::Replace), ("add", Reseat::Add), ("remove", Reseat::Remove)] {
            let name =
                path.strip_prefix("/api/v1/cluster/").and_then(|rest| rest.strip_prefix(word)).and_then(|rest| rest.strip_prefix('/'));
            if let Some(name) = name {
                return Some(Route::Reseat(change, decode(name)?));
            }
        }
        if let Some(rest) = path.strip_prefix("/api/v1/alerts/") {
            if let Some(id) = rest.strip_prefix("dry-run/").filter(|id| !id.contains('/')) {
                return Some(Route::DryRunOf(decode(id)?));
            }
            return match (rest.strip_prefix("in/"), rest.strip_suffix("/ack")) {
                (Some(source), _) => Some(Route::Alerts(decode(source)?)),
                (None, fingerprint) => Some(Route::Acknowledge(decode(fingerprint?)?)),
            };
        }
        if let Some(rest) = path.strip_prefix("/api/v1/receivers/") {
            return Some(Route::Preview(decode(rest.strip_suffix("/preview").filter(|name| !name.is_empty())?)?));
        }
        if let Some(name) = path.strip_prefix("/api/v1/backups/") {
            return Some(Route::Backup(decode(name)?));
        }
        if let Some(name) = path.strip_prefix("/api/v1/tokens/").and_then(|rest| rest.strip_suffix("/revoke")) {
            return Some(Route::RevokeToken(decode(name)?));
        }
        if let Some(rest) = path.strip_prefix("/api/v1/groups/") {
            let (name, word) = name_and_word(rest, &OF_GROUP)?;
            return Some(Route::Group(name, word.unwrap_or(OfGroup::Itself)));
        }
        let (name, word) = name_and_word(path.strip_prefix("/api/v1/sinks/")?, &OF_SINK)?;
        Some(Route::Sink(name, word.unwrap_or(OfSink::Itself)))
    }

    /// The methods that it takes, as in `Allow`.
    pub fn allow(&self) -> &'static str {
        match self {
            Route::Reload
            | Route::Backup(_)
            | Route::ConfigApply
            | Route::Init
            | Route::Transfer
            | Route::Drain(_)
            | Route::Finalize
            | Route::Acknowledge(_)
            | Route::DryRun
            | Route::Preview(_)
            | Route::Reseat(..)
            | Route::RevokeToken(_) => "POST",
            Route::Group(_, OfGroup::Pin | OfGroup::Unpin | OfGroup::StepDown) => "POST",
            Route::Sink(_, OfSink::Replay | OfSink::Test | OfSink::Rewind | OfSink::Pause | OfSink::Resume) => "POST",
            Route::Alerts(_) => "PUT, POST",
            Route::AlertmanagerV1 => "GET, HEAD, POST",
            Route::Push(_, push::What::Group(_)) => "PUT, POST, DELETE",
            Route::Senders | Route::Tokens | Route::ConfigDiff => "GET, HEAD, POST",
            _ => "GET, HEAD",
        }
    }
}

fn pushed(path: &str) -> Option<Route> {
    let (tenant, path) = match path.strip_prefix("/tenants/").and_then(|rest| Some(rest.split_at(rest.find('/')?))) {
        Some((name, path)) => (Some(decode(name)?), path),
        None => (None, path),
    };
    push::what(path).map(|what| Route::Push(tenant, what))
}

fn name_and_word<Word: Copy>(rest: &str, words: &[(&str, Word)]) -> Option<(String, Option<Word>)> {
    let last = rest.rsplit_once('/').and_then(|(before, last)| {
        let word = words.iter().find(|(word, _)| *word == last)?;
        (!before.is_empty()).then_some((before, word.1))
    });
    let (name, word) = match last {
        Some((before, word)) => (before, Some(word)),
        None => (rest, None),
    };
    Some((decode(name)?, word))
}

/// Undoes percent-encoding; `None` where it is broken or no UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let taken = if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            let digit = |byte: u8| char::from(byte).to_digit(16);
            bytes.push(u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?);
            after
        } else {
            bytes.push(*first);
            after
        };
        rest = taken;
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, word: OfGroup) -> Option<Route> {
        Some(Route::Group(name.into(), word))
    }

    #[test]
    fn names_hold_slashes_and_whatever_else_is_encoded() {
        assert_eq!(Route::of("/api/v1/groups/monitoring%2Fk8s"), group("monitoring/k8s", OfGroup::Itself));
        assert_eq!(Route::of("/api/v1/groups/monitoring%2Fk8s/step-down"), group("monitoring/k8s", OfGroup::StepDown));
        assert_eq!(Route::of("/api/v1/groups/z%C3%BCrich%20%25/pin"), group("zürich %", OfGroup::Pin));
        assert_eq!(Route::of("/api/v1/sinks/platform/tap"), Some(Route::Sink("platform".into(), OfSink::Tap)));
    }

    #[test]
    fn a_proxy_may_have_decoded_the_slashes() {
        assert_eq!(Route::of("/api/v1/groups/monitoring/k8s/history"), group("monitoring/k8s", OfGroup::History));
        assert_eq!(Route::of("/api/v1/groups/monitoring/k8s"), group("monitoring/k8s", OfGroup::Itself));
    }

    #[test]
    fn a_group_may_be_called_like_a_verb() {
        assert_eq!(Route::of("/api/v1/groups/pin"), group("pin", OfGroup::Itself));
        assert_eq!(Route::of("/api/v1/groups/pin/pin"), group("pin", OfGroup::Pin));
        assert_eq!(Route::of("/api/v1/groups/a%2Fhistory"), group("a/history", OfGroup::Itself));
    }

    #[test]
    fn nodes_are_named_in_the_path() {
        assert_eq!(Route::of("/api/v1/cluster/replace/mon3.dc1"), Some(Route::Reseat(Reseat::Replace, "mon3.dc1".into())));
        assert_eq!(Route::of("/api/v1/cluster/remove/"), None);
        assert_eq!(Route::of("/api/v1/cluster/renew/mon3"), None);
    }

    #[test]
    fn alerts_come_in_by_their_source() {
        assert_eq!(Route::of("/api/v1/alerts/in/grafana%20eu"), Some(Route::Alerts("grafana eu".into())));
        assert_eq!(Route::of("/api/v1/alerts/in/ack"), Some(Route::Alerts("ack".into())));
        assert_eq!(Route::of("/api/v1/alerts/791cec13fcba0368/ack"), Some(Route::Acknowledge("791cec13fcba0368".into())));
        assert_eq!(Route::of("/api/v1/alerts/active"), Some(Route::ActiveAlerts));
        assert_eq!(Route::of("/api/v1/alerts/dry-run").unwrap().allow(), "POST");
        assert_eq!(Route::of("/api/v1/alerts/dry-run/5f0c"), Some(Route::DryRunOf("5f0c".into())));
        assert_eq!(Route::of("/api/v1/alerts/receivers"), Some(Route::AlertReceivers));
        assert_eq!(Route::of("/api/v1/alerts"), Some(Route::AlertmanagerV1));
        assert_eq!(Route::of("/api/v1/receivers/team%2Fdb/preview"), Some(Route::Preview("team/db".into())));
        assert_eq!((Route::of("/api/v1/receivers/x"), Route::of("/api/v1/receivers//preview")), (None, None));
        assert_eq!((Route::of("/api/v1/alerts/in/"), Route::of("/api/v1/alerts/x")), (None, None));
    }

    #[test]
    fn broken_paths_are_nothing() {
        for path in ["", "/", "/api/v1/groups/%2", "/api/v1/groups/%zz", "/api/v1/groups/%ff", "/api/v1/group", "/api/v1/sinks/%C3/dead"] {
            assert_eq!(Route::of(path), None, "{path}");
        }
        assert_eq!(Route::of("/metrics/"), Some(Route::Metrics));
    }
}
