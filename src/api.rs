//! What operators and programs ask of a running node, over HTTP and JSON: status, groups, sinks, health, metrics.
//!
//! Every shape is a struct of this module (never a type of the parts below) and stands in docs/api.md. Deliberately absent: remote write
//! (`ingest`), the page itself (`console`), and any knowledge of how sinks or ingest work: `app` hands that in (`deps`).

pub mod acknowledge;
pub mod active;
pub mod alerting;
pub mod alertmanager;
pub mod answer;
pub mod backup;
pub mod bundle;
pub mod cardinality;
pub mod checkup;
pub mod cluster;
pub mod deps;
pub mod doctor;
pub mod groups;
pub mod history;
pub mod inputs;
pub mod metrics;
pub mod preview;
pub mod probe;
pub mod probes;
pub mod push;
pub mod receivers;
pub mod rehearsal;
pub mod route;
pub mod senders;
pub mod settings;
pub mod signatures;
pub mod sinks;
pub mod status;
pub mod tap;
pub mod tokens;
pub mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::Method;
use hyper::StatusCode;
use hyper::header::HOST;
use hyper::header::ORIGIN;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::api::alertmanager::Gate;
use crate::api::alertmanager::listing;
use crate::api::alertmanager::listing::List;
use crate::api::answer::Failure;
use crate::api::answer::json;
use crate::api::deps::Deps;
use crate::api::deps::Sender;
use crate::api::groups::Done;
use crate::api::route::OfGroup;
use crate::api::route::OfSink;
use crate::api::route::Route;
use crate::api::signatures::Signatures;
use crate::clock;
use crate::serve;
use crate::serve::Peer;
use crate::serve::Request;
use crate::serve::Response;
use crate::serve::Tenant;
use crate::serve::Who;
use crate::serve::body;
use crate::serve::body::ReadError;
use crate::shard;
use crate::telemetry;

/// No request of this API is larger; the largest one holds settings, as JSON.
const BODY_BYTES: usize = 2 * shard::settings::MOST_TEXT;
/// Such a body comes at once or not at all.
const PACE: body::Pace = body::Pace { bytes_per_second: 1024, grace: Duration::from_secs(10) };

/// Answers everything that is not remote write.
#[derive(Clone)]
pub struct Api {
    deps: Arc<Deps>,
    gate: Arc<Gate>,
    signatures: Arc<Signatures>,
    /// Pushed bodies that are in memory.
    pushes: Arc<Semaphore>,
}

/// A request, read.
struct Call {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Bytes,
    who: Who,
    tenant: Option<Tenant>,
}

/// `GET /-/healthy` and `GET /-/ready`.
#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    reasons: Vec<String>,
}

/// `POST /-/reload` that was refused.
#[derive(Debug, Serialize)]
struct NotReloaded {
    error: &'static str,
    remedy: &'static str,
    code: &'static str,
    problems: Vec<String>,
}

/// `GET /api/v1/dev/senders`.
#[derive(Debug, Serialize)]
struct Senders {
    senders: Vec<Sender>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetSender {
    name: String,
    running: bool,
}

impl Api {
    /// Of its parts.
    pub fn new(deps: Deps) -> Api {
        Api { deps: Arc::new(deps), gate: Arc::default(), signatures: Arc::default(), pushes: Arc::new(Semaphore::new(push::AT_A_TIME)) }
    }

    /// What another node is told when it asks for this one's part of a bundle. Keeps nothing alive.
    pub fn itself(&self) -> bundle::Itself {
        bundle::itself(Arc::downgrade(&self.deps))
    }

    /// Answers one request. Over-bound connections are answered too: they may be an operator's who wants to know why.
    pub async fn answer(&self, request: Request, peer: Peer) -> Response {
        let (head, mut incoming) = request.into_parts();
        let who = head.extensions.get::<Who>().cloned().unwrap_or_else(|| Who(peer.address.ip().to_string().into()));
        let pushes = matches!(Route::of(head.uri.path()), Some(Route::Push(..)));
        // Held until the answer: what comes is unpacked, read and written once more.
        let _turn = if pushes { self.pushes.acquire().await.ok() } else { None };
        // What comes in at one of these is bounded by all of them together as well.
        let alerts = inputs::takes(head.uri.path());
        let mut claim = if alerts { self.gate.claim() } else { None };
        let limit = if alerts { alertmanager::BODY_BYTES } else { BODY_BYTES };
        let (limit, pace) = if pushes { (push::BODY_BYTES, push::PACE) } else { (limit, PACE) };
        let mut room = |bytes: usize| claim.as_mut().is_none_or(|claim| claim.grow(bytes as u64));
        let body = if head.method == Method::POST || (alerts || pushes) && head.method == Method::PUT {
            match body::read(&mut incoming, limit, pace, &mut room).await {
                Ok(body) => body,
                Err(error @ ReadError::TooLarge { .. }) if pushes => {
                    let (status, remedy) = (StatusCode::PAYLOAD_TOO_LARGE, "push less of it, or several groups");
                    return Failure::new(status, "too_large", error.to_string(), remedy).response();
                }
                Err(error @ ReadError::NoRoom) => {
                    return Failure::new(StatusCode::SERVICE_UNAVAILABLE, "later", error.to_string(), "send it again in a few seconds")
                        .response();
                }
                Err(error) => return Failure::wrong(error.to_string(), "docs/api.md shows the bodies that are expected").response(),
            }
        } else {
            Bytes::new()
        };
        let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or("").to_owned());
        let tenant = head.extensions.get::<Tenant>().cloned();
        self.call(Call { method: head.method, path, query, headers: head.headers, body, who, tenant }, clock::wall_ms()).await
    }

    async fn call(&self, call: Call, now: i64) -> Response {
        match self.carry_out(call, now).await {
            Ok(response) => response,
            Err(failure) => failure.response(),
        }
    }

    async fn carry_out(&self, call: Call, now: i64) -> Result<Response, Failure> {
        if let Some(rest) = call.path.strip_prefix(alertmanager::BELOW) {
            return alertmanager::answer(&self.deps, &self.gate, rest, &call, now).await;
        }
        let reads = call.method == Method::GET || call.method == Method::HEAD;
        let Some(route) = Route::of(&call.path) else {
            let page = if reads { (self.deps.pages)(&call.path, &call.headers) } else { None };
            return page.ok_or_else(|| {
                let text = format!("nothing is at {}", call.path);
                Failure::new(StatusCode::NOT_FOUND, "not_found", text, format!("there are: {}", route::PATHS))
            });
        };
        if let Route::Push(named, what @ push::What::Group(_)) = route {
            same_site(&call.headers)?;
            return self.push(named, what, &call).await;
        }
        let allow = route.allow();
        let writes = call.method == Method::POST || call.method == Method::PUT && allow.contains("PUT");
        if !(reads && allow.starts_with("GET") || writes && allow.ends_with("POST")) {
            let text = format!("{} is not for {}", call.path, call.method);
            let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method", text, format!("use {allow}"));
            return Err(Failure { allow: Some(allow), ..failure });
        }
        if writes {
            same_site(&call.headers)?;
            // Alerts come all the time, and are nobody's wish.
            if !matches!(route, Route::Alerts(_) | Route::Preview(_) | Route::DryRun) {
                tracing::info!(who = %call.who.0, path = call.path, "a change is asked for");
            }
        }
        self.route(route, call, now).await
    }

    async fn route(&self, route: Route, call: Call, now: i64) -> Result<Response, Failure> {
        let deps = &*self.deps;
        let node = &*deps.node;
        let ok = StatusCode::OK;
        Ok(match route {
            Route::Healthy => json(ok, &Health { status: "healthy", reasons: Vec::new() }),
            Route::Ready => ready((deps.not_ready)()),
            Route::Reload => return self.reload().await,
            Route::Probe => return probe::answer(deps, &call.query, &call.headers).await,
            Route::Metrics => {
                let mut response = serve::answer(ok, telemetry::CONTENT_TYPE, (deps.metrics)());
                answer::unstored(&mut response, &[]);
                response
            }
            Route::Status => json(ok, &status::status(deps, now)),
            Route::Groups => json(ok, &groups::all(&node.groups())),
            Route::Group(name, OfGroup::Itself) => json(ok, &groups::one(&groups::find(node, &name)?)),
            Route::Group(name, OfGroup::Cardinality) => json(ok, &cardinality::one(deps, &name, &call.query, now).await?),
            Route::Group(name, OfGroup::History) => json(ok, &groups::history(&groups::find(node, &name)?)),
            Route::Group(name, what) => json(ok, &groups::change(node, &name, what, &call, now).await?),
            Route::Tap => return tap::tap(deps, &call.query),
            Route::Cardinality => json(ok, &cardinality::all(deps, now)),
            Route::RemoteSenders => json(ok, &senders::all(deps, &call.query, now).await?),
            Route::Probes => json(ok, &probes::show((deps.probes)(), &call.query, now)?),
            Route::Sinks => json(ok, &sinks::Sinks { sinks: deps.sinks.list().into_iter().map(sinks::one).collect() }),
            Route::Sink(name, what) => return self.sink(&name, what, &call).await,
            Route::Explain => json(ok, &sinks::explain(deps.sinks.as_ref(), &call.query)?),
            Route::Config => json(ok, &settings::show(deps, &call.query)?),
            Route::ConfigDiff if call.method == Method::POST => json(ok, &settings::diff(deps, &call.body)?),
            Route::ConfigDiff => json(ok, &settings::diff_of_file(deps)?),
            Route::ConfigApply => match settings::apply(deps, &call.body, &call.who).await? {
                Ok(applied) => json(ok, &applied),
                Err(refused) => refused,
            },
            Route::Cluster => json(ok, &cluster::show(deps)?),
            Route::Backup(name) => json(ok, &backup::make(deps, &name, &call.query).await?),
            Route::Doctor => json(ok, &checkup::checkup(deps, now)),
            Route::Upgrade => json(ok, &upgrade::show(deps)?),
            Route::Finalize => json(ok, &upgrade::finalize(deps, &call.who).await?),
            Route::Debug => json(ok, &bundle::bundle(deps, now).await),
            Route::Init => json(ok, &cluster::init(deps).await?),
            Route::Drain(drained) => json(ok, &cluster::drain(deps, drained)?),
            Route::Transfer => json(ok, &cluster::transfer(deps, &call.body).await?),
            Route::Reseat(change, name) => json(ok, &cluster::reseat(deps, change, &name).await?),
            Route::Tokens if call.method == Method::POST => json(ok, &tokens::create(node, &call.body, &call.who, now).await?),
            Route::Tokens => json(ok, &tokens::all(&node.tokens(), now)),
            Route::RevokeToken(name) => json(ok, &tokens::revoke(node, &name, &call.who).await?),
            Route::Senders => return self.senders(&call).await,
            Route::AlertmanagerV1 => alertmanager::gone(),
            Route::Alerts(source) => inputs::post(deps, &self.signatures, (&source, &call), now).await?,
            Route::ActiveAlerts => {
                let (state, list) = ((deps.alerting)().map_err(alertmanager::off)?, List::Active(active::Wanted::of(&call.query)?));
                listing::answer(&self.gate, state, list, now).await
            }
            Route::AlertHistory => json(ok, &history::history(deps, &call.query).await?),
            Route::AlertReceivers => json(ok, &receivers::receivers(deps, now)?),
            Route::DryRun => json(StatusCode::ACCEPTED, &rehearsal::begin(deps, &call, now)?),
            Route::DryRunOf(id) => json(ok, &rehearsal::look(deps, id)?),
            Route::Preview(name) => json(ok, &preview::preview(deps, &name, &call, now)?),
            Route::Acknowledge(fingerprint) => json(ok, &acknowledge::acknowledge(deps, &fingerprint, &call, now).await?),
            Route::Push(named, what) => return self.push(named, what, &call).await,
        })
    }

    async fn sink(&self, name: &str, what: OfSink, call: &Call) -> Result<Response, Failure> {
        let sinks = &*self.deps.sinks;
        let found = sinks::find(sinks, name)?;
        Ok(match what {
            OfSink::Itself => json(StatusCode::OK, &found),
            OfSink::Dead => json(StatusCode::OK, &sinks::dead(&self.deps.node, name, &call.query).await?),
            OfSink::Replay => json(StatusCode::OK, &sinks::replay(sinks, name, &call.body).await?),
            OfSink::Pause => json(StatusCode::OK, &sinks::pause(sinks, name, true).await?),
            OfSink::Test => json(StatusCode::OK, &sinks::test(sinks, name).await?),
            OfSink::Rewind => json(StatusCode::OK, &sinks::rewind(sinks, name, &call.body, clock::wall_ms()).await?),
            OfSink::Resume => json(StatusCode::OK, &sinks::pause(sinks, name, false).await?),
            OfSink::Tap => sinks::tap(sinks, name, &call.query, self.deps.stopping.clone())?,
        })
    }

    async fn push(&self, named: Option<String>, what: push::What, call: &Call) -> Result<Response, Failure> {
        let token = call.tenant.as_ref().map(|tenant| &*tenant.0);
        push::answer(&self.deps, what, push::Call { method: &call.method, headers: &call.headers, body: &call.body, named, token }).await
    }

    async fn reload(&self) -> Result<Response, Failure> {
        Ok(match (self.deps.reload)().await {
            Ok(done) => json(StatusCode::OK, &Done { done }),
            Err(problems) => {
                let (error, remedy) =
                    ("the file was not taken, everything stays as it was", "mend these, `sluice check FILE` shows them too");
                json(StatusCode::BAD_REQUEST, &NotReloaded { error, remedy, code: "not_reloaded", problems })
            }
        })
    }

    async fn senders(&self, call: &Call) -> Result<Response, Failure> {
        const EXPECTED: &str = r#"send {"name": "NAME", "running": false}"#;
        let Some(dev) = &self.deps.dev else {
            return Err(Failure::new(StatusCode::NOT_FOUND, "not_dev", "this node has no synthetic senders", "`sluice dev` has them"));
        };
        if call.method == Method::POST {
            let wrong = |error| Failure::wrong(format!("the body is not as expected: {error}"), EXPECTED);
            let set: SetSender = serde_json::from_slice(&call.body).map_err(wrong)?;
            let failure = |refusal| Failure::of_refusal(refusal, "sender", &set.name, "GET /api/v1/dev/senders shows them");
            dev.set(&set.name, set.running).await.map_err(failure)?;
        }
        Ok(json(StatusCode::OK, &Senders { senders: dev.list() }))
    }
}

fn ready(reasons: Vec<String>) -> Response {
    let (status, word) = if reasons.is_empty() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not_ready") };
    json(status, &Health { status: word, reasons })
}

/// A page of another site must not make its reader's browser change anything here. Browsers say where a request comes from; programs
/// that say nothing are let through: a token comes in a header that a page of another site cannot send, and without one there is nothing to steal.
fn same_site(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |value: Option<&hyper::header::HeaderValue>| value.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let origin = text(headers.get(ORIGIN));
    let ours = match (&origin, text(headers.get(HOST))) {
        (None, _) => true,
        (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(&host)),
        (Some(_), None) => false,
    };
    let cross = text(headers.get("sec-fetch-site")).is_some_and(|site| site == "cross-site" || site == "same-site");
    if ours && !cross {
        return Ok(());
    }
    Err(Failure::new(
        StatusCode::FORBIDDEN,
        "other_site",
        "a page of another site asked for a change",
        "use this node's own page, curl, or the sluice command",
    ))
}

#[cfg(test)]
mod tests;
