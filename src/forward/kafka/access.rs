//! How a client gets in: TLS and SASL as librdkafka wants to be told, passwords and tokens from files, and when those files have changed.
//!
//! librdkafka reads certificates and a password once, when a client is made. So whoever exchanges a file gets a new producer: the session ends in
//! order, its transaction closed, and the next one reads the files. Tokens are asked for again and again, by the client itself.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use hyper::header;
use hyper::header::HeaderValue;
use rdkafka::client::OAuthToken;
use rdkafka::config::ClientConfig;
use xxhash_rust::xxh3::xxh3_64;

use crate::clock;
use crate::config::kafka::OauthClient;
use crate::forward::http;
use crate::forward::http::Question;
use crate::forward::remote_write::login;
use crate::forward::remote_write::settings::Place;
use crate::forward::settings::KafkaSettings;
use crate::forward::settings::Sasl;
use crate::forward::trouble::Trouble;
use crate::secret::token;

/// A token that does not say when it ends is read again after about that.
const LIFE_MS: i64 = 5 * 60 * 1000;
/// Files are looked at so often.
const LOOK: Duration = Duration::from_secs(5);
/// librdkafka's properties that name files.
const FILES: [&str; 4] = ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location"];

/// Sets what it takes to get in.
pub fn apply(settings: &KafkaSettings, config: &mut ClientConfig) -> Result<(), Trouble> {
    let access = &settings.access;
    let protocol = match (&access.tls, &access.sasl) {
        (None, None) => return Ok(()),
        (Some(_), None) => "SSL",
        (None, Some(_)) => "SASL_PLAINTEXT",
        (Some(_), Some(_)) => "SASL_SSL",
    };
    config.set("security.protocol", protocol);
    if let Some(tls) = &access.tls {
        if let Some(authorities) = &tls.ca_file {
            config.set("ssl.ca.location", authorities.display().to_string());
        }
        if let Some((certificate, key)) = &tls.own {
            config.set("ssl.certificate.location", certificate.display().to_string());
            config.set("ssl.key.location", key.display().to_string());
        }
    }
    match &access.sasl {
        None => {}
        Some(Sasl::Password(mechanism, username, file)) => {
            let password = login::secret("sasl.password_file", file).map_err(Trouble::Store)?;
            config.set("sasl.mechanism", mechanism.word()).set("sasl.username", username).set("sasl.password", password);
        }
        Some(Sasl::TokenFile(_) | Sasl::Client(..)) => {
            config.set("sasl.mechanism", "OAUTHBEARER");
        }
    }
    Ok(())
}

/// A token, and when it ends, ms since 1970.
#[derive(Clone, Debug)]
struct Held {
    token: String,
    asked: i64,
    ends: i64,
}

/// Where tokens come from.
#[derive(Debug)]
pub struct Tokens {
    sasl: Sasl,
    runtime: Option<tokio::runtime::Handle>,
    /// The one before; guards a value, and the asking for the next one, which one client at a time does.
    held: Mutex<Option<Held>>,
}

impl Tokens {
    /// For these settings, where they want tokens.
    pub fn of(settings: &KafkaSettings, runtime: Option<&tokio::runtime::Handle>) -> Option<Tokens> {
        let sasl = settings.access.sasl.clone().filter(|sasl| !matches!(sasl, Sasl::Password(..)))?;
        Some(Tokens { sasl, runtime: runtime.cloned(), held: Mutex::new(None) })
    }

    /// A token that is good for a while.
    pub fn token(&self) -> Result<OAuthToken, String> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::wall_ms();
        // librdkafka asks again after four fifths of a token's life; so whoever asks before half of it is another client.
        if let Some(held) = held.as_ref().filter(|held| now < held.asked + (held.ends - held.asked) / 2) {
            return Ok(presented(held));
        }
        let new = match &self.sasl {
            Sasl::Password(..) => return Err("no token is wanted".to_owned()),
            Sasl::TokenFile(file) => {
                let token = login::secret("sasl.token_file", file).map_err(|trouble| trouble.to_string())?;
                let ends = token::ends_ms(&token).unwrap_or(now + LIFE_MS);
                // A new file is to be noticed soon, however long the token in it would be good for.
                Held { token, asked: now, ends: ends.min(now + LIFE_MS) }
            }
            Sasl::Client(client, place) => {
                let runtime = self.runtime.as_ref().ok_or("nothing can be asked here")?;
                runtime.block_on(fetch(client, place, now))?
            }
        };
        if new.ends <= now {
            return Err("the token has ended; it must be renewed".to_owned());
        }
        let presented = presented(&new);
        *held = Some(new);
        Ok(presented)
    }
}

fn presented(held: &Held) -> OAuthToken {
    // The broker knows who it is by the token; the name is for librdkafka alone.
    OAuthToken { token: held.token.clone(), principal_name: "sluice".to_owned(), lifetime_ms: held.ends }
}

/// Client credentials, as RFC 6749 has them (section 4.4).
async fn fetch(client: &OauthClient, place: &Place, now: i64) -> Result<Held, String> {
    let secret = login::secret("sasl.client.secret_file", &client.secret_file).map_err(|trouble| trouble.to_string())?;
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let basic = token::basic(&encoded(&client.id), &encoded(&secret));
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if let Some(scope) = &client.scope {
        form.append_pair("scope", scope);
    }
    let mut basic = HeaderValue::from_str(&basic).map_err(|_| "id or secret hold what no header can".to_owned())?;
    basic.set_sensitive(true);
    let headers = vec![
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")),
        (header::ACCEPT, HeaderValue::from_static("application/json")),
        (header::AUTHORIZATION, basic),
    ];
    let question = Question { path: String::new(), headers, body: Bytes::from(form.finish()) };
    let wrong = |detail: &str| format!("no token from {}: {detail}", client.url);
    let answer = http::post(place, question, "sasl.client.tls.ca_file").await.map_err(|error| wrong(&error))?;
    if answer.status != 200 {
        return Err(wrong(&answer.text()));
    }
    let json: serde_json::Value = serde_json::from_slice(&answer.body).map_err(|_| wrong("the answer is no JSON"))?;
    let token = json.get("access_token").and_then(|token| token.as_str()).ok_or_else(|| wrong("the answer holds no access_token"))?;
    let life = json.get("expires_in").and_then(serde_json::Value::as_i64).map(|seconds| now + seconds.clamp(1, 86_400) * 1000);
    let ends = life.or_else(|| token::ends_ms(token)).unwrap_or(now + LIFE_MS);
    Ok(Held { token: token.to_owned(), asked: now, ends })
}

/// What the files hold that a client was made with.
#[derive(Debug)]
pub struct Files {
    seen: Vec<(PathBuf, Option<u64>)>,
    /// Seen a first time, and not believed yet: a file may be half written.
    news: Option<Vec<Option<u64>>>,
    looked: Instant,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// What was there.
    Same,
    /// Another content, twice in a row.
    New,
}

impl Files {
    /// As they are now.
    pub fn now(settings: &KafkaSettings) -> Files {
        let mut paths: Vec<PathBuf> = Vec::new();
        if let Some(tls) = &settings.access.tls {
            paths.extend(tls.ca_file.clone());
            paths.extend(tls.own.iter().flat_map(|(certificate, key)| [certificate.clone(), key.clone()]));
        }
        if let Some(Sasl::Password(_, _, file)) = &settings.access.sasl {
            paths.push(file.clone());
        }
        paths.extend(settings.properties.iter().filter(|(name, _)| FILES.contains(name)).map(|(_, path)| PathBuf::from(path)));
        let seen = paths.into_iter().map(|path| (path.clone(), content(&path))).collect();
        Files { seen, news: None, looked: clock::now() }
    }

    /// Looks, from time to time.
    pub fn look(&mut self) -> Found {
        let now = clock::now();
        if self.seen.is_empty() || now.saturating_duration_since(self.looked) < LOOK {
            return Found::Same;
        }
        self.looked = now;
        let present: Vec<Option<u64>> = self.seen.iter().map(|(path, _)| content(path)).collect();
        // One that is not there is about to be: the client that runs has what it needs.
        if present.iter().any(Option::is_none) || present.iter().zip(&self.seen).all(|(now, (_, before))| now == before) {
            self.news = None;
            return Found::Same;
        }
        if self.news.as_ref() != Some(&present) {
            self.news = Some(present);
            return Found::Same;
        }
        self.news = None;
        for ((_, seen), now) in self.seen.iter_mut().zip(present) {
            *seen = now;
        }
        Found::New
    }
}

fn content(path: &Path) -> Option<u64> {
    std::fs::read(path).ok().map(|bytes| xxh3_64(&bytes))
}
