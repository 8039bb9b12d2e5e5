//! An `alertmanager.yml`: sluice reads the file as it is, so the configuration names it. Only where it holds keys that sluice does not know its content is
//! written out without them. Texts in Go's template language and receivers that are not served keep no file from being read; `cli` names them beside the rest.

use crate::config::import;
use crate::config::import::Input;
use crate::config::import::draft::Draft;
use crate::config::import::draft::Said;
use crate::config::import::draft::quoted;
use crate::config::read::Problem;
use crate::config::routing;
use crate::config::settings;
use crate::config::tree;
use crate::config::tree::Tree;
use crate::config::tree::Value;

/// What `config::read` says of a key that nobody asked for.
const UNKNOWN: &str = "is no key known here";
/// Keys of Alertmanager's that hold one, with a key beside them that names a file.
const SECRETS: [&str; 19] = [
    "api_key",
    "api_secret",
    "auth_password",
    "auth_secret",
    "bot_token",
    "client_secret",
    "credentials",
    "opsgenie_api_key",
    "password",
    "routing_key",
    "service_key",
    "slack_api_url",
    "slack_app_token",
    "smtp_auth_password",
    "smtp_auth_secret",
    "token",
    "user_key",
    "victorops_api_key",
    "wechat_api_secret",
];
/// A file with more unknown keys is a file of something else.
const UNKNOWN_MAX: usize = 200;

/// Reads one.
pub fn import(input: &Input, draft: &mut Draft) -> Result<(), Vec<Problem>> {
    let text = import::text_of(input)?;
    let file = Said::whole();
    match routing::parse(text) {
        Ok(read) => {
            draft.alerting = vec![format!(
                "file: {}   # read as it is; amtool and `sluice route check` read it, too",
                quoted(&input.path.display().to_string())
            )];
            draft
                .taken(&file, format!("alerting.file; {} receivers, {} rules of inhibition", read.receivers.len(), read.inhibitions.len()));
        }
        Err(problems) if problems.iter().all(may_go) => {
            let kept = without_unknown(text, draft)?;
            draft.alerting = std::iter::once("config:   # the file's content without the keys that sluice does not know".to_owned())
                .chain(settings::lines_of(&kept).lines().map(|line| format!("  {line}")))
                .collect();
            draft.different(
                &file,
                "alerting.config: the file's content without these keys",
                "from now on edit it here; amtool reads it from /api/v2/status",
            );
        }
        Err(problems) => return Err(problems),
    }
    draft.alerting.push("# external_url: https://sluice.example   # by which people reach sluice, as --web.external-url".to_owned());
    let clustering = "alertmanagers become one: sluice's nodes agree on alerts, silences and what was told; --cluster.* has no counterpart and needs none";
    draft.different(
        &file,
        clustering,
        "name all nodes under alertmanagers: of each Prometheus; move silences over with amtool (docs/migration.md)",
    );
    of_top_level(text, draft);
    if let Ok(tree) = tree::parse_foreign(text) {
        secrets(&tree, draft);
    }
    Ok(())
}

/// Whether a key may be left out: it is not known, and does not say which alerts go where, or when. A route without one of its conditions would take what was another's.
fn may_go(problem: &Problem) -> bool {
    problem.rule == UNKNOWN
        && !["route", "inhibit_rules", "time_intervals", "mute_time_intervals"].iter().any(|key| problem.key.starts_with(key))
}

/// Sections that are read over.
fn of_top_level(text: &str, draft: &mut Draft) {
    let Ok(Tree { value: Value::Pairs(pairs), .. }) = tree::parse_foreign(text) else { return };
    for (key, _) in &pairs {
        let Value::Scalar(name) = &key.value else { continue };
        if matches!(name.as_str(), "tracing" | "event_recorder") {
            draft.missing(&Said::new(key.line, name, ""), "sluice does nothing of the kind; the section is read over", "");
        }
    }
}

/// Secrets that stand in the file in clear: they become part of what nodes agree on.
fn secrets(tree: &Tree, draft: &mut Draft) {
    match &tree.value {
        Value::Pairs(pairs) => {
            for (key, value) in pairs {
                if let (Value::Scalar(name), Value::Scalar(_)) = (&key.value, &value.value)
                    && SECRETS.contains(&name.as_str())
                {
                    let text = "a secret stands in the file in clear, and so in the cluster's settings; it is hidden where they are shown";
                    draft.different(
                        &Said::new(key.line, name, ""),
                        text,
                        &format!("write {name}_file: the path of a file that holds it, where the receiver knows that key"),
                    );
                }
                secrets(value, draft);
            }
        }
        Value::List(items) => items.iter().for_each(|item| secrets(item, draft)),
        Value::Scalar(_) | Value::Empty => {}
    }
}

/// The file without what is not known; each such key is a finding.
fn without_unknown(text: &str, draft: &mut Draft) -> Result<Tree, Vec<Problem>> {
    let mut tree = tree::parse_foreign(text).map_err(super::super::broken)?;
    for _ in 0..UNKNOWN_MAX {
        let Err(problems) = routing::parse(&settings::lines_of(&tree)) else { return Ok(tree) };
        let Some(unknown) = problems.iter().find(|problem| may_go(problem)) else { return Err(problems) };
        let Some(line) = take_out(&mut tree, &unknown.key) else { return Err(problems) };
        draft.missing(&Said::new(line, &unknown.key, ""), "is a key that sluice does not know; it is left out", &unknown.remedy);
    }
    let rule = format!("holds more than {UNKNOWN_MAX} keys that are not known here");
    Err(vec![import::wrong(0, "(the file)", rule, "is it an alertmanager.yml?")])
}

/// Takes what stands under a key such as `receivers[0].x_configs[1].y` out; the line on which it stood.
fn take_out(tree: &mut Tree, path: &str) -> Option<usize> {
    let (step, rest) = path.split_once('.').map_or((path, None), |(step, rest)| (step, Some(rest)));
    let mut indices = step.split('[');
    let name = indices.next()?;
    let Value::Pairs(pairs) = &mut tree.value else { return None };
    let at = pairs.iter().position(|(key, _)| matches!(&key.value, Value::Scalar(text) if text == name))?;
    let Some(rest) = rest else { return Some(pairs.remove(at).0.line) };
    let mut below = &mut pairs[at].1;
    for index in indices {
        let index: usize = index.strip_suffix(']')?.parse().ok()?;
        let Value::List(items) = &mut below.value else { return None };
        below = items.get_mut(index)?;
    }
    take_out(below, rest)
}
