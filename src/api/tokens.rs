//! Tokens as they are published, and how they are made and revoked. A token in clear stands in one answer, once.

use serde::Deserialize;
use serde::Serialize;

use crate::api::answer::Failure;
use crate::api::deps::Node;
use crate::api::deps::Problem;
use crate::api::deps::Severity;
use crate::api::groups::Done;
use crate::config::values;
use crate::model::ShardId;
use crate::model::tenant;
use crate::secret::token::Token;
use crate::serve::Who;
use crate::shard::command::Command;
use crate::shard::tokens::NewToken;
use crate::shard::tokens::Tokens;

/// A token that ends sooner is a problem, ms.
const ENDS_SOON_MS: i64 = 14 * 86_400_000;
/// The longest life, seconds: a hundred years, lest a time overflows.
const LONGEST_SECONDS: u64 = 100 * 365 * 86_400;

/// `GET /api/v1/tokens`.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// By name.
    pub tokens: Vec<One>,
}

/// One token.
#[derive(Debug, Serialize)]
pub struct One {
    name: String,
    hint: String,
    created: i64,
    created_by: String,
    expires: Option<i64>,
    expired: bool,
    tenant: String,
}

/// `POST /api/v1/tokens`.
#[derive(Debug, Serialize)]
pub struct Created {
    name: String,
    /// In clear; nobody can show it again.
    token: String,
    expires: Option<i64>,
    /// From now on a token is wanted on every node.
    first: bool,
    tenant: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    expires_seconds: Option<u64>,
    #[serde(default)]
    tenant: String,
}

/// All of them.
pub fn all(tokens: &Tokens, now: i64) -> Shown {
    let one = |(name, kept): (&str, &crate::shard::tokens::Kept)| One {
        name: name.to_owned(),
        hint: kept.hint.clone(),
        created: kept.created_ms,
        created_by: kept.by.clone(),
        expires: kept.expires_ms,
        expired: kept.expires_ms.is_some_and(|ends| ends <= now),
        tenant: kept.tenant.clone(),
    };
    Shown { tokens: tokens.all().map(one).collect() }
}

/// Makes one.
pub async fn create(node: &dyn Node, body: &[u8], who: &Who, now: i64) -> Result<Created, Failure> {
    const EXPECTED: &str =
        r#"send {"name": "NAME"}, and "expires_seconds": 7776000 if it shall end, "tenant": "TENANT" if it is one tenant's"#;
    let wrong = |error: &dyn std::fmt::Display| Failure::wrong(format!("the body is not as expected: {error}"), EXPECTED);
    let Create { name, expires_seconds, tenant } = serde_json::from_slice(body).map_err(|error| wrong(&error))?;
    let name = values::name(&name).map_err(|(rule, remedy)| Failure::wrong(format!("`{name}`: a token's name {rule}"), remedy))?;
    if !tenant.is_empty() && !tenant::legal(&tenant) {
        return Err(Failure::wrong(format!("`{tenant}` is no tenant"), tenant::RULE));
    }
    if expires_seconds.is_some_and(|seconds| !(1..=LONGEST_SECONDS).contains(&seconds)) {
        return Err(wrong(&format!("expires_seconds must be 1 to {LONGEST_SECONDS}")));
    }
    let expires_ms = expires_seconds.and_then(|seconds| i64::try_from(seconds).ok()).map(|seconds| now + seconds * 1000);
    let token = Token::make().map_err(|error| {
        Failure::new(hyper::StatusCode::INTERNAL_SERVER_ERROR, "no_randomness", format!("/dev/urandom: {error}"), "look at this system")
    })?;
    let first = node.tokens().never_any();
    let (hash, hint, by) = (token.hash(), token.hint(), who.0.to_string());
    let new = NewToken { name: name.clone(), hash, hint, by, expires_ms, first: false, tenant: tenant.clone() };
    node.propose(ShardId::CONTROL, Command::CreateToken(new)).await.map_err(Failure::of_command)?;
    Ok(Created { name, token: token.reveal().to_owned(), expires: expires_ms, first, tenant })
}

/// Revokes one.
pub async fn revoke(node: &dyn Node, name: &str, who: &Who) -> Result<Done, Failure> {
    if !node.tokens().all().any(|(known, _)| known == name) {
        return Err(Failure::unknown("token", name, "`sluice token list` shows them"));
    }
    let command = Command::RevokeToken { name: name.to_owned(), by: who.0.to_string() };
    node.propose(ShardId::CONTROL, command).await.map_err(Failure::of_command)?;
    Ok(Done { done: format!("{name} is revoked: whoever shows it is answered 401 by every node that hears of it, which takes a moment") })
}

/// Tokens that end soon, or have ended: whoever has them is refused then.
pub fn problems(tokens: &Tokens, now: i64) -> Vec<Problem> {
    let ending = tokens.all().filter_map(|(name, kept)| Some((name, kept.expires_ms? - now)).filter(|(_, left)| *left < ENDS_SOON_MS));
    let problem = |(name, left): (&str, i64)| {
        let text = match left {
            ..=0 => "it has ended: whoever shows it is answered 401, and a Prometheus throws away what it sends".to_owned(),
            _ => format!("it ends in {} hours, and a Prometheus that still has it then loses data", left / 3_600_000),
        };
        Problem {
            severity: Severity::Warning,
            code: "token".to_owned(),
            about: format!("token {name}"),
            text,
            remedy: "`sluice token create` makes another one for whoever has it; then `sluice token revoke` this one".to_owned(),
        }
    };
    ending.map(problem).collect()
}
