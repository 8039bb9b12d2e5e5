//! How a probe shows who it is: basic auth, tokens, tokens that are fetched first, and headers whose values stand in files.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::Method;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;

use crate::clock;
use crate::config::probe::Family;
use crate::config::probe::http;
use crate::config::probe::http::Login as Configured;
use crate::probe::files;
use crate::probe::http::hop;
use crate::probe::http::hop::Answer;
use crate::probe::http::hop::Ends;
use crate::probe::http::hop::Hop;
use crate::probe::http::url::Url;
use crate::probe::outcome::Cause;
use crate::probe::record::Record;
use crate::probe::record::Stop;
use crate::probe::record::Way;
use crate::probe::tls::Tls;

/// A token is asked for anew so long before its end.
const EARLY: Duration = Duration::from_secs(10);

/// Who a probe is.
#[derive(Debug)]
pub struct Login {
    configured: Option<Configured>,
    headers: Vec<(HeaderName, http::Value)>,
    /// Towards where tokens are made.
    tls: Option<Tls>,
    token: Mutex<Option<(String, Option<Instant>)>>,
}

#[derive(serde::Deserialize)]
struct Token {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<serde_json::Value>,
}

impl Login {
    /// Of what the module says.
    pub fn new(module: &http::Http) -> Login {
        let tls = match &module.login {
            Some(Configured::OAuth2(oauth2)) => Some(Tls::new(&oauth2.tls, &[b"http/1.1"])),
            _ => None,
        };
        let named = |(name, value): &(String, http::Value)| Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value.clone()));
        let headers = module.more_headers.iter().filter_map(named).collect();
        Login { configured: module.login.clone(), headers, tls, token: Mutex::new(None) }
    }

    /// Headers out of `http_headers`; those that may be secret only where `trusted`.
    pub fn more(&self, headers: &mut HeaderMap, trusted: bool) -> Way<()> {
        for (name, value) in &self.headers {
            headers.remove(name);
            for text in &value.texts {
                headers.append(name, sensitive(text)?);
            }
            for text in value.secrets.iter().filter(|_| trusted) {
                headers.append(name, sensitive(text)?);
            }
            for file in value.files.iter().filter(|_| trusted) {
                headers.append(name, sensitive(&files::text(file)?)?);
            }
        }
        Ok(())
    }

    /// Files are read for it, or a token is fetched.
    pub fn takes_work(&self) -> bool {
        let is_file = |secret: &http::Secret| matches!(secret, http::Secret::File(_));
        let configured = match &self.configured {
            None => false,
            Some(Configured::Basic { username, password }) => is_file(username) || is_file(password),
            Some(Configured::Token { token, .. }) => is_file(token),
            Some(Configured::OAuth2(_)) => true,
        };
        configured || self.headers.iter().any(|(_, value)| !value.files.is_empty())
    }

    /// What was fetched is good no more.
    pub fn forget(&self) {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// The header `Authorization`. `user` is what the target's URL says, for modules that say nothing.
    pub async fn authorization(&self, user: Option<&str>, record: &mut Record) -> Way<Option<HeaderValue>> {
        let text = match &self.configured {
            None => match user {
                None => return Ok(None),
                Some(user) => basic(if user.contains(':') { user.to_owned() } else { format!("{user}:") }),
            },
            Some(Configured::Basic { username, password }) => basic(format!("{}:{}", files::secret(username)?, files::secret(password)?)),
            Some(Configured::Token { kind, token }) => format!("{kind} {}", files::secret(token)?),
            Some(Configured::OAuth2(oauth2)) => self.fetched(oauth2, record).await?,
        };
        sensitive(&text).map(Some)
    }

    async fn fetched(&self, oauth2: &http::OAuth2, record: &mut Record) -> Way<String> {
        let kept = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((token, until)) = kept
            && until.is_none_or(|until| clock::now() < until)
        {
            return Ok(token);
        }
        let wrong = |text: String| Stop::new(Cause::Other, format!("no token from {}: {text}", oauth2.token_url));
        let url = Url::of_target(&oauth2.token_url).map_err(wrong)?;
        record.note(|| format!("asks {url} for a token"));
        let mut answer = self.ask_for_token(oauth2, &url, false).await?;
        if !answer.good() {
            // Some servers want to be told by the content who asks, and nothing says which (RFC 6749, 2.3.1).
            answer = self.ask_for_token(oauth2, &url, true).await?;
        }
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if !answer.good() {
            return Err(wrong(format!("{} {}", answer.status, text.chars().take(200).collect::<String>())));
        }
        let token: Token = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let kind = token.token_type.filter(|kind| !kind.eq_ignore_ascii_case("bearer")).unwrap_or_else(|| "Bearer".to_owned());
        let seconds = token.expires_in.as_ref().and_then(seconds);
        let until = seconds.map(|seconds| clock::now() + Duration::from_secs(seconds.min(1 << 31)).saturating_sub(EARLY));
        let text = format!("{kind} {}", token.access_token);
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some((text.clone(), until));
        Ok(text)
    }

    async fn ask_for_token(&self, oauth2: &http::OAuth2, url: &Url, by_content: bool) -> Way<Whole> {
        let (headers, content) = token_request(oauth2, by_content)?;
        // Without a record of its own: what it takes is not the target's time, and counts for the deadline all the same.
        let mut aside = Record::new(Duration::ZERO, false);
        let hop = Hop {
            url,
            tls: self.tls.as_ref(),
            name: &url.host,
            family: Family::default(),
            // The operator named it: it is nobody's target.
            guard: None,
            proxy: None,
            resolves: true,
            http2: false,
        };
        let request = hop::Request { method: Method::POST, host: url.authority(), headers, body: Bytes::from(content) };
        let mut answer = Whole::default();
        Box::pin(hop.go(request, &mut answer, &mut aside)).await?;
        Ok(answer)
    }
}

/// A number, or a text that is one: both are found.
fn seconds(value: &serde_json::Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// What a server of tokens is told: headers and content. The client says who it is in one or the other.
fn token_request(oauth2: &http::OAuth2, by_content: bool) -> Way<(HeaderMap, String)> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let secret = files::secret(&oauth2.client_secret)?;
    let mut form = form_urlencoded::Serializer::new(String::new());
    if !oauth2.params.iter().any(|(name, _)| name == "grant_type") {
        form.append_pair("grant_type", "client_credentials");
    }
    if !oauth2.scopes.is_empty() {
        form.append_pair("scope", &oauth2.scopes.join(" "));
    }
    form.extend_pairs(&oauth2.params);
    if by_content {
        form.append_pair("client_id", &oauth2.client_id).append_pair("client_secret", &secret);
    } else {
        // Encoded, as a colon would end the name.
        let plain = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        headers.insert(header::AUTHORIZATION, sensitive(&basic(format!("{}:{}", plain(&oauth2.client_id), plain(&secret))))?);
    }
    Ok((headers, form.finish()))
}

/// All of a short answer.
#[derive(Default)]
struct Whole {
    status: u16,
    body: Vec<u8>,
}

impl Whole {
    fn good(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Ends for Whole {
    fn head(&mut self, answer: &Answer<'_>, _: &mut Record) -> Way<bool> {
        self.status = answer.status;
        Ok(true)
    }

    fn piece(&mut self, bytes: &[u8]) -> Way<()> {
        self.body.extend_from_slice(bytes);
        if self.body.len() > 1 << 20 { Err(Stop::new(Cause::Size, "a token is no longer than 1 MiB")) } else { Ok(()) }
    }
}

/// `Basic ...`
pub fn basic(user_and_password: String) -> String {
    format!("Basic {}", STANDARD.encode(user_and_password))
}

/// A value that is not shown.
pub fn sensitive(text: &str) -> Way<HeaderValue> {
    let value = HeaderValue::from_bytes(text.as_bytes());
    let mut value = value.map_err(|_| Stop::new(Cause::File, "a password, token or header holds what no header can hold"))?;
    value.set_sensitive(true);
    Ok(value)
}
