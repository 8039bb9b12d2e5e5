//! Alertmanager's API v2, so that Prometheus, vmalert, Grafana, amtool and Karma find here what they know: paths, parameters, answers, and what is said of
//! what is wrong, in the words of its server.
//!
//! Where it differs: a page of another site is let in only where the settings name the site (`pages`), POST and DELETE of others are refused; a post is answered when a majority of the nodes has
//! it, 503 where none can be had, and the sender says it again. Deliberately absent: `/alertmanager/api/v2`, since Grafana takes a server that has both for
//! neither; API v1, which is gone (410).

pub mod filter;
pub mod listing;
pub mod pages;
pub mod posting;
pub mod silences;

use std::sync::Arc;

use bytes::Bytes;
use hyper::Method;
use hyper::StatusCode;
use hyper::header::ALLOW;
use hyper::header::HeaderValue;
use hyper::header::RETRY_AFTER;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::admission::Budget;
use crate::admission::Claim;
use crate::api::Call;
use crate::api::alerting::Alerting;
use crate::api::alerting::Off;
use crate::api::alerting::Refused;
use crate::api::alerting::Status;
use crate::api::alertmanager::filter::Filter;
use crate::api::alertmanager::listing::List;
use crate::api::answer::Failure;
use crate::api::answer::json;
use crate::api::deps::Deps;
use crate::api::same_site;
use crate::clock;
use crate::model::labels::Labels;
use crate::serve;
use crate::serve::Response;

/// Where it is.
pub const BELOW: &str = "/api/v2/";
/// Of a request with alerts: Prometheus sends 256 of them, some 200 KB.
pub const BODY_BYTES: usize = 4 << 20;
/// Of all of them together; what is made of a request is some three times as large.
const BUDGET: u64 = 64 << 20;
/// Lists that are made at the same time: each may be of 100,000 alerts, some 60 MB.
const LISTS: usize = 8;
/// The version whose API this is: clients compare it with theirs.
pub const VERSION: &str = "0.34.0";

/// What bounds the memory that alerts may take on their way in and out.
#[derive(Debug)]
pub struct Gate {
    bodies: Budget,
    lists: Semaphore,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate { bodies: Budget::new(BUDGET), lists: Semaphore::new(LISTS) }
    }
}

impl Gate {
    /// Nothing yet, for a body that grows.
    pub fn claim(&self) -> Option<Claim> {
        self.bodies.claim(0)
    }
}

/// A path below [`BELOW`].
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Status,
    Receivers,
    Alerts,
    Groups,
    Silences,
    Silence(String),
}

impl Asked {
    fn of(rest: &str) -> Option<Asked> {
        Some(match rest.strip_suffix('/').unwrap_or(rest) {
            "status" => Asked::Status,
            "receivers" => Asked::Receivers,
            "alerts" => Asked::Alerts,
            "alerts/groups" => Asked::Groups,
            "silences" => Asked::Silences,
            other => Asked::Silence(other.strip_prefix("silence/").filter(|id| !id.is_empty() && !id.contains('/'))?.to_owned()),
        })
    }

    fn allow(&self) -> &'static str {
        match self {
            Asked::Status | Asked::Receivers | Asked::Groups => "GET",
            Asked::Alerts | Asked::Silences => "GET,POST",
            Asked::Silence(_) => "DELETE,GET",
        }
    }
}

/// What go-openapi's server says of what is wrong.
#[derive(Serialize)]
struct Coded<'a> {
    code: u16,
    message: &'a str,
}

/// Codes of what is wrong with something that could be read, answered 422.
mod code {
    pub const TYPE: u16 = 601;
    pub const REQUIRED: u16 = 602;
    pub const TOO_FEW: u16 = 612;
}

fn coded(status: StatusCode, code: u16, message: &str) -> Response {
    json(status, &Coded { code, message })
}

/// 422: something that must be there is not.
fn required(what: &str) -> Response {
    coded(StatusCode::UNPROCESSABLE_ENTITY, code::REQUIRED, &format!("{what} in body is required"))
}

/// A sentence as JSON, as the operations themselves answer.
fn sentence(status: StatusCode, text: &str) -> Response {
    json(status, &text)
}

fn empty(status: StatusCode) -> Response {
    json_of(status, Bytes::new())
}

fn json_of(status: StatusCode, body: Bytes) -> Response {
    let mut response = serve::answer(status, "application/json", body);
    crate::api::answer::unstored(&mut response, &[]);
    response
}

/// What a refusal of the state comes to.
fn refused(refused: Refused) -> Response {
    match refused {
        Refused::Unknown => empty(StatusCode::NOT_FOUND),
        Refused::Wrong(text) => sentence(StatusCode::BAD_REQUEST, &text),
        // Senders say alerts again; an answer of 4xx would be their operator's fault.
        Refused::Full(text) | Refused::Later(text) => {
            let mut response = sentence(StatusCode::SERVICE_UNAVAILABLE, &text);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
            response
        }
    }
}

/// Why a node has no state of alerts.
pub fn off(off: Off) -> Failure {
    match off {
        Off::NoSection => Failure::new(
            StatusCode::NOT_FOUND,
            "no_alerting",
            "this node handles no alerts",
            "write a section `alerting:` (docs/alerting.md) and reload",
        ),
        Off::Starting => Failure::new(StatusCode::SERVICE_UNAVAILABLE, "later", "the node is only starting", "try again in a few seconds"),
    }
}

/// Answers what is below [`BELOW`]: `rest` is the path behind it.
pub(super) async fn answer(deps: &Deps, gate: &Gate, rest: &str, call: &Call, now: i64) -> Result<Response, Failure> {
    let Some(asked) = Asked::of(rest) else {
        return Ok(coded(StatusCode::NOT_FOUND, 404, &format!("path {} was not found", call.path)));
    };
    let state = (deps.alerting)().map_err(off)?;
    let now = now.max(state.noted_until());
    let Some(site) = pages::site(state.pages(), &call.headers) else {
        let reads = call.method == Method::GET || call.method == Method::HEAD;
        if !reads {
            same_site(&call.headers)?;
        }
        return carry_out(deps, gate, (asked, state), call, now).await;
    };
    let mut response = match pages::asks_first(&call.method, &call.headers) {
        true => pages::may(asked.allow()),
        false => carry_out(deps, gate, (asked, state), call, now).await.unwrap_or_else(|failure| failure.response()),
    };
    pages::let_read(site, &mut response);
    Ok(response)
}

async fn carry_out(
    deps: &Deps,
    gate: &Gate,
    (asked, state): (Asked, Arc<dyn Alerting>),
    call: &Call,
    now: i64,
) -> Result<Response, Failure> {
    let reads = call.method == Method::GET || call.method == Method::HEAD;
    if !reads && !asked.allow().split(',').any(|method| method == call.method.as_str()) {
        let mut response =
            coded(StatusCode::METHOD_NOT_ALLOWED, 405, &format!("method {} is not allowed, but [{}] are", call.method, asked.allow()));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(asked.allow()));
        return Ok(response);
    }
    let filter = Filter::of(&call.query);
    Ok(match asked {
        Asked::Status => json(StatusCode::OK, &status(&state.status(), deps)),
        Asked::Receivers => match filter {
            Err(why) => sentence(StatusCode::BAD_REQUEST, &why),
            Ok(filter) => {
                let status = state.status();
                let fit = status.receivers.iter().filter(|receiver| filter.fits_labels(&receiver.labels));
                json(
                    StatusCode::OK,
                    &fit.map(|receiver| NamedReceiver { labels: &receiver.labels, name: &receiver.name }).collect::<Vec<_>>(),
                )
            }
        },
        Asked::Alerts if call.method == Method::POST => posting::alerts(&*state, &deps.alert_counts, &call.body, now).await,
        Asked::Alerts | Asked::Groups => match filter {
            Err(why) => sentence(StatusCode::BAD_REQUEST, &why),
            Ok(filter) if asked == Asked::Groups => listing::answer(gate, state, List::Groups(filter), now).await,
            Ok(filter) => listing::answer(gate, state, List::Alerts(filter), now).await,
        },
        Asked::Silences if call.method == Method::POST => {
            tracing::info!(who = %call.who.0, path = call.path, "a change is asked for");
            silences::post(&*state, &call.body, now).await
        }
        Asked::Silences => match filter {
            Err(why) => sentence(StatusCode::BAD_REQUEST, &why),
            Ok(filter) => silences::list(&*state, &filter, now),
        },
        Asked::Silence(id) => match silences::uuid(&id) {
            None => coded(StatusCode::UNPROCESSABLE_ENTITY, code::TYPE, &format!("silenceID in path must be of type uuid: {id:?}")),
            Some(id) if call.method == Method::DELETE => {
                tracing::info!(who = %call.who.0, path = call.path, "a change is asked for");
                state.expire(&id).await.map_or_else(refused, |()| empty(StatusCode::OK))
            }
            Some(id) => silences::one(&*state, &id, now),
        },
    })
}

/// Of API v1.
pub fn gone() -> Response {
    const TEXT: &str = "{\"status\":\"deprecated\",\"error\":\"The Alertmanager v1 API was deprecated in version 0.16.0 and is removed as of version 0.27.0 - \
                        please use the equivalent route in the v2 API\"}";
    json_of(StatusCode::GONE, Bytes::from_static(TEXT.as_bytes()))
}

#[derive(Serialize)]
struct NamedReceiver<'a> {
    #[serde(skip_serializing_if = "Labels::is_empty")]
    labels: &'a Labels,
    name: &'a str,
}

#[derive(Serialize)]
struct Peer<'a> {
    address: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct Cluster<'a> {
    name: &'a str,
    peers: Vec<Peer<'a>>,
    status: &'static str,
}

#[derive(Serialize)]
struct Original<'a> {
    original: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionInfo<'a> {
    branch: &'static str,
    build_date: &'static str,
    build_user: &'static str,
    go_version: &'static str,
    revision: &'a str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownStatus<'a> {
    cluster: Cluster<'a>,
    config: Original<'a>,
    uptime: String,
    version_info: VersionInfo<'a>,
}

fn status<'a>(status: &'a Status, deps: &'a Deps) -> ShownStatus<'a> {
    let mut peers: Vec<Peer<'_>> = status.peers.iter().map(|(name, address)| Peer { address, name }).collect();
    peers.sort_by_key(|peer| peer.name);
    ShownStatus {
        cluster: Cluster { name: &status.name, peers, status: if status.ready { "ready" } else { "settling" } },
        config: Original { original: &status.original },
        uptime: clock::rfc3339(deps.started_ms),
        version_info: VersionInfo {
            branch: "sluice",
            build_date: "",
            build_user: "",
            go_version: "none: sluice is written in Rust",
            revision: deps.version,
            version: VERSION,
        },
    }
}
