//! What all nodes agree on, as it is published and changed: the version in force, those before it, and differences by line. `app` carries it out.

use hyper::StatusCode;
use serde::Deserialize;
use serde::Serialize;

use crate::api::answer::Failure;
use crate::api::deps::Deps;
use crate::api::deps::Later;
use crate::clock;
use crate::serve::Who;
use crate::shard::settings::Version;

/// What is asked of the settings.
pub trait Settings: Send + Sync {
    /// In force, or a version that is still known.
    fn version(&self, number: Option<u64>) -> Option<Version>;
    /// Those before the one in force, newest first.
    fn earlier(&self) -> Vec<Version>;
    /// The settings in this node's file as it is now, or everything that is wrong with it. None: it has none.
    fn file(&self) -> Result<Option<String>, Vec<String>>;
    /// Makes them the next version and carries them out here; the other nodes do so by themselves.
    fn apply<'a>(&'a self, wanted: Wanted, by: &'a str) -> Later<'a, Result<String, Refused>>;
}

/// The next version, as asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// `groups:` and `sinks:`.
    pub text: String,
    /// It is meant to follow this version; none: whichever is in force.
    #[serde(default)]
    pub base: Option<u64>,
    /// Sinks that may go with what they have not delivered.
    #[serde(default)]
    pub discard: Vec<String>,
}

/// Why there is no next version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The text is wrong: every problem.
    Wrong(Vec<String>),
    /// Sinks would go with so many bytes that they have not delivered.
    Undelivered(Vec<(String, u64)>),
    /// Another version is in force by now: why it was not taken.
    Moved(String),
    /// Not now.
    Later(String),
}

/// `GET /api/v1/config`.
#[derive(Debug, Serialize)]
pub struct Shown {
    version: u64,
    by: String,
    at: i64,
    at_text: String,
    /// Without what is secret.
    text: String,
    earlier: Vec<Earlier>,
}

/// A version before.
#[derive(Debug, Serialize)]
struct Earlier {
    version: u64,
    by: String,
    at: i64,
    at_text: String,
}

/// `GET` and `POST /api/v1/config/diff`.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// The version in force.
    version: u64,
    same: bool,
    /// `-` before what is in force and would go, `+` before what would come, a space before what stays; without what is secret.
    lines: Vec<String>,
}

/// `POST /api/v1/config/apply`.
#[derive(Debug, Serialize)]
pub struct Applied {
    done: String,
    version: u64,
}

/// `POST /api/v1/config/apply` that was refused because of what would be lost.
#[derive(Debug, Serialize)]
struct Losing {
    error: String,
    remedy: String,
    code: &'static str,
    undelivered: Vec<LosingSink>,
}

#[derive(Debug, Serialize)]
struct LosingSink {
    sink: String,
    bytes: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    text: String,
}

fn settings(deps: &Deps) -> Result<&dyn Settings, Failure> {
    let absent = || Failure::new(StatusCode::SERVICE_UNAVAILABLE, "starting", "the node is only starting", "try again in a few seconds");
    deps.settings.as_deref().ok_or_else(absent)
}

/// The version in force, or one that the query names.
pub fn show(deps: &Deps, query: &str) -> Result<Shown, Failure> {
    let settings = settings(deps)?;
    let wanted = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "version").map(|(_, value)| value.into_owned());
    let number = wanted
        .map(|text| text.parse::<u64>().map_err(|_| Failure::wrong("version must be a number", "`sluice config history` lists them")));
    let number = number.transpose()?;
    let Some(found) = settings.version(number) else {
        return Err(Failure::unknown(
            "version",
            &number.unwrap_or(0).to_string(),
            "`sluice config history` lists those that are still known",
        ));
    };
    let earlier =
        |version: Version| Earlier { version: version.number, by: version.by, at: version.at, at_text: clock::rfc3339(version.at) };
    Ok(Shown {
        version: found.number,
        by: found.by,
        at: found.at,
        at_text: clock::rfc3339(found.at),
        text: crate::config::settings::shown(&found.text),
        earlier: settings.earlier().into_iter().map(earlier).collect(),
    })
}

/// From what is in force to this node's file.
pub fn diff_of_file(deps: &Deps) -> Result<Difference, Failure> {
    let settings = settings(deps)?;
    match settings.file() {
        Ok(Some(text)) => Ok(difference(settings, &text)),
        Ok(None) => Err(Failure::wrong("this node has no configuration file", "name a file: `sluice config diff FILE`")),
        Err(problems) => Err(Failure::wrong(problems.join("\n  "), "mend the node's file; `sluice check FILE` shows these too")),
    }
}

/// From what is in force to the text in the body.
pub fn diff(deps: &Deps, body: &[u8]) -> Result<Difference, Failure> {
    let wrong = |error| Failure::wrong(format!("the body is not as expected: {error}"), r#"send {"text": "sinks: ..."}"#);
    let Text { text } = serde_json::from_slice(body).map_err(wrong)?;
    Ok(difference(settings(deps)?, &text))
}

fn difference(settings: &dyn Settings, new: &str) -> Difference {
    let current = settings.version(None).unwrap_or_default();
    let diff = similar::TextDiff::from_lines(current.text.as_str(), new);
    let line = |change: similar::Change<&str>| {
        let sign = match change.tag() {
            similar::ChangeTag::Delete => '-',
            similar::ChangeTag::Insert => '+',
            similar::ChangeTag::Equal => ' ',
        };
        format!("{sign}{}", crate::config::settings::shown_line(change.value().trim_end_matches('\n')))
    };
    let lines: Vec<String> = diff.iter_all_changes().map(line).collect();
    let same = lines.iter().all(|line| line.starts_with(' '));
    Difference { version: current.number, same, lines }
}

/// Makes the next version.
pub async fn apply(deps: &Deps, body: &[u8], who: &Who) -> Result<Result<Applied, crate::serve::Response>, Failure> {
    const EXPECTED: &str = r#"send {"text": "sinks: ...", "base": 3, "discard": []}; base and discard may be left out"#;
    let wrong = |error| Failure::wrong(format!("the body is not as expected: {error}"), EXPECTED);
    let settings = settings(deps)?;
    match settings.apply(serde_json::from_slice(body).map_err(wrong)?, &who.0).await {
        Ok(done) => Ok(Ok(Applied { done, version: settings.version(None).map_or(0, |version| version.number) })),
        Err(Refused::Wrong(problems)) => {
            let text = format!("nothing was changed:\n  {}", problems.join("\n  "));
            Err(Failure::wrong(text, "mend these; `sluice check FILE` shows them with their lines"))
        }
        Err(Refused::Moved(text)) => Err(Failure::conflict(text, "look at `sluice config diff`, then apply again")),
        Err(Refused::Later(text)) => {
            Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "later", text, "look at `sluice config show`, then try again"))
        }
        Err(Refused::Undelivered(losing)) => {
            let each: Vec<String> = losing.iter().map(|(sink, bytes)| format!("{sink} ({bytes} bytes)")).collect();
            let names: Vec<String> = losing.iter().map(|(sink, _)| format!("--discard {sink}")).collect();
            let refused = Losing {
                error: format!("nothing was changed: these sinks would go with what they have not delivered: {}", each.join(", ")),
                remedy: format!("keep them until they have delivered it, or say that it may be lost: {}", names.join(" ")),
                code: "undelivered",
                undelivered: losing.into_iter().map(|(sink, bytes)| LosingSink { sink, bytes }).collect(),
            };
            Ok(Err(crate::api::answer::json(StatusCode::CONFLICT, &refused)))
        }
    }
}
