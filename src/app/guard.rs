//! Who is let in at the public door: before anything else of a request is looked at, the token that came with it.
//!
//! A token is wanted from the first one on that was ever made (revoking the last one must not open the door), and on a listener beyond loopback always; never with `allow_unauthenticated: true`, nor for health, readiness
//! and the page's own files, which say nothing about anybody's data. A Prometheus throws away what is answered 401. So 401 is said only of what is
//! known: where this node may not have heard of a token yet, and where there is none that a sender could have, the answer is 503, and senders keep
//! their data.
//!
//! A node makes a token for itself at every start and leaves it in a file that only its owner can read: so the first token of a cluster can be made
//! without one, by whoever may read that file. Left out on purpose: roles; other nodes, which come in at a door of their own (`peer`).

pub mod metrics;

use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::Method;
use hyper::StatusCode;
use hyper::header::AUTHORIZATION;
use hyper::header::HeaderValue;
use hyper::header::WWW_AUTHENTICATE;

use crate::api::alertmanager;
use crate::api::answer::Failure;
use crate::api::deps::Problem;
use crate::api::deps::Severity;
use crate::api::route::Route;
use crate::app::Fault;
use crate::app::guard::metrics::Metrics;
use crate::app::guard::metrics::Refusal;
use crate::clock;
use crate::config::Access;
use crate::console;
use crate::ingest::head;
use crate::secret;
use crate::secret::token;
use crate::secret::token::Hash;
use crate::secret::token::Token;
use crate::serve;
use crate::serve::Response;
use crate::serve::Tenant;
use crate::serve::Who;
use crate::serve::body;
use crate::shard::tokens::Found;
use crate::shard::tokens::Tokens;

/// Who asks with the node's own token.
const LOCAL_NAME: &str = "local";
/// Of a refused request so much is taken, so that the answer is read and the connection stays: a Prometheus sends some 100 KB.
const TAKEN_BYTES: usize = 1 << 20;
/// Such a body comes at once or the connection goes.
const PACE: body::Pace = body::Pace { bytes_per_second: 64 << 10, grace: Duration::from_secs(2) };
/// Between two lines in the log about refused requests, ms.
const TELL_MS: i64 = 60_000;
/// What whoever has no good token can do.
const REMEDY: &str = "send `Authorization: Bearer TOKEN` (Prometheus: authorization: { credentials_file: FILE }), or the token as a password; `sluice token create \
                      NAME` makes one, on the node itself without having one (docs/security.md)";
/// What can be done where no token is there.
const NO_TOKEN: &str = "`sluice token create NAME` on the node makes the first one; or listen on 127.0.0.1; or, if whoever reaches this address may do everything, \
                        write `allow_unauthenticated: true`";

/// What the shards know of tokens.
pub trait Known: Send + Sync {
    /// All tokens, as far as this node has heard.
    fn tokens(&self) -> Arc<Tokens>;
    /// Whether it has heard all that there is to hear.
    fn current(&self) -> bool;
}

/// Who is let in.
#[derive(Debug, Default)]
struct Caller {
    /// The token's name; nobody in particular where none was wanted.
    name: Option<String>,
    /// Whose samples come with it.
    tenant: Option<String>,
}

/// The guard of a listener.
pub struct Guard {
    local: Hash,
    beyond_loopback: bool,
    access: RwLock<Access>,
    known: OnceLock<Box<dyn Known>>,
    metrics: Metrics,
    told_ms: AtomicI64,
}

impl Guard {
    /// Of a listener at this address. Makes the node's own token, too.
    pub fn new(access: Access, listen: SocketAddr) -> Result<(Guard, Token), Fault> {
        let token = Token::make().map_err(|error| Fault::Start(format!("/dev/urandom: {error}")))?;
        let guard = Guard {
            local: token.hash(),
            beyond_loopback: !is_loopback(listen.ip()),
            access: RwLock::new(access),
            known: OnceLock::new(),
            metrics: Metrics::default(),
            told_ms: AtomicI64::new(0),
        };
        Ok((guard, token))
    }

    /// The shards run.
    pub fn knows(&self, known: Box<dyn Known>) {
        let _ = self.known.set(known);
    }

    /// Takes another configuration. True: it differs.
    pub fn reload(&self, access: Access) -> bool {
        let mut present = self.access.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *present, access) != access
    }

    /// For `/metrics`.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Answers whoever is let in by `inner`, and everybody else itself.
    pub fn before(self: &Arc<Guard>, inner: serve::Answerer) -> serve::Answerer {
        let guard = Arc::clone(self);
        Arc::new(move |mut request, peer| match guard.judge(&request, clock::wall_ms()) {
            Ok(Caller { name, tenant }) => {
                let who = name.unwrap_or_else(|| peer.address.ip().to_string());
                if let Some(tenant) = tenant {
                    request.extensions_mut().insert(Tenant(tenant.into()));
                }
                request.extensions_mut().insert(Who(who.into()));
                inner(request, peer)
            }
            Err(refusal) => {
                let response = guard.refuse(refusal, peer.address, request.uri().path());
                Box::pin(async move {
                    body::discard(request.into_body(), TAKEN_BYTES, PACE).await;
                    response
                })
            }
        })
    }

    fn judge<B>(&self, request: &hyper::Request<B>, now_ms: i64) -> Result<Caller, Refusal> {
        let presented = request.headers().get(AUTHORIZATION).and_then(|header| token::presented(header.to_str().ok()?));
        let access = *self.access.read().unwrap_or_else(PoisonError::into_inner);
        let path = request.uri().path();
        let wanted = !access.allow_unauthenticated && !is_free(path, access) && !is_preflight(request.method(), path);
        let tokens = self.known.get().map(|known| known.tokens()).unwrap_or_default();
        let wanted = wanted && (self.beyond_loopback || !tokens.never_any());
        let refusal = match presented.map(|token| token::hash(&token)) {
            Some(hash) if token::same(&hash, &self.local) => return Ok(Caller { name: Some(LOCAL_NAME.to_owned()), tenant: None }),
            Some(hash) => match tokens.find(&hash, now_ms) {
                Found::Good(name) => return Ok(Caller { name: Some(name.to_owned()), tenant: tokens.tenant_of(name).map(str::to_owned) }),
                Found::Ended(_) => Refusal::Expired,
                Found::Unknown if self.known.get().is_none_or(|known| !known.current()) => Refusal::Unsure,
                Found::Unknown => Refusal::Unknown,
            },
            None => Refusal::Missing,
        };
        if !wanted {
            return Ok(Caller::default());
        }
        // No sender can have a token yet. Whoever operates the node is told to make one, whoever sends to come again.
        let nothing_to_show = tokens.never_any() && head::route(path, None).is_some();
        Err(if nothing_to_show { Refusal::Unsure } else { refusal })
    }

    fn refuse(&self, refusal: Refusal, from: SocketAddr, path: &str) -> Response {
        self.metrics.refused(refusal);
        let (now, told) = (clock::wall_ms(), self.told_ms.load(Ordering::Relaxed));
        if now - told >= TELL_MS && self.told_ms.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let reason = refusal.word();
            tracing::warn!(%from, path, reason, "a request without a good token was refused; further ones within a minute are only counted");
        }
        let text = match refusal {
            Refusal::Missing => "a token is wanted",
            Refusal::Unknown => "this token is not known, or was revoked",
            Refusal::Expired => "this token has ended",
            Refusal::Unsure => {
                let none = self.known.get().is_none_or(|known| known.tokens().never_any());
                let (text, remedy) = match none {
                    true => ("a token is wanted, and there is none yet", NO_TOKEN),
                    false => ("this node may not have heard of this token yet", "send it again in a few seconds"),
                };
                return Failure::new(StatusCode::SERVICE_UNAVAILABLE, "no_token_yet", text, remedy).response();
            }
        };
        let mut response = Failure::new(StatusCode::UNAUTHORIZED, "unauthenticated", text, REMEDY).response();
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sluice\""));
        response
    }

    /// What a person should hear once, when the node starts.
    pub fn warnings(&self, secure: bool) -> Vec<&'static str> {
        let access = *self.access.read().unwrap_or_else(PoisonError::into_inner);
        let mut warnings = Vec::new();
        if self.beyond_loopback && access.allow_unauthenticated {
            warnings.push("whoever reaches this address may write, read and change everything (allow_unauthenticated: true)");
        } else if self.beyond_loopback && !secure {
            warnings.push("tokens and samples cross the network in clear; `tls: { cert_file, key_file }` changes that (docs/security.md)");
        }
        warnings
    }

    /// Nobody is let in.
    pub fn problems(&self) -> Vec<Problem> {
        let access = *self.access.read().unwrap_or_else(PoisonError::into_inner);
        let none = self.known.get().is_some_and(|known| known.tokens().never_any());
        if !self.beyond_loopback || access.allow_unauthenticated || !none {
            return Vec::new();
        }
        vec![Problem {
            severity: Severity::Error,
            code: "no_token".to_owned(),
            about: "listener".to_owned(),
            text: "it listens beyond this host and there is no token, so nobody is let in: senders are answered 503 and keep their data"
                .to_owned(),
            remedy: NO_TOKEN.to_owned(),
        }]
    }
}

/// Writes the node's own token down, for those on this host who may read it. Only by the one process that has the data: another one, started by
/// mistake, must not take the token's place.
pub fn leave(token: &Token, data_dir: &Path) -> Result<(), String> {
    let file = data_dir.join(token::LOCAL_FILE);
    secret::write(&file, &format!("{}\n", token.reveal())).map_err(|error| error.to_string())
}

/// Every address of 127.0.0.0/8 and ::1, also written as IPv4 in IPv6.
fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether nothing is to be had there that a token would protect.
fn is_free(path: &str, access: Access) -> bool {
    let free = match Route::of(path) {
        Some(Route::Healthy | Route::Ready) => true,
        Some(Route::Metrics) => access.metrics_without_token,
        _ => console::has(path),
    };
    // A path of remote write wins over any other reading of it.
    free && head::route(path, None).is_none()
}

/// Browsers ask without a token whether a page may ask with one. The answer says no more than that.
fn is_preflight(method: &Method, path: &str) -> bool {
    method == Method::OPTIONS && path.starts_with(alertmanager::BELOW)
}

#[cfg(test)]
mod tests;
