//! What of a file's receivers will not be as it is written: kinds that are not served, and texts in Go's template language, each by line and key, with what to
//! write instead.

use crate::config::read::Problem;
use crate::config::receivers::Kind;
use crate::config::receivers::Text;
use crate::config::routing::Routing;
use crate::notify::page;
use crate::notify::page::Written;

/// Texts that have no counterpart of ours, so that their translation is used.
const EXACT: [&str; 19] = [
    "channel",
    "username",
    "icon_emoji",
    "icon_url",
    "to",
    "from",
    "corp_id",
    "to_user",
    "to_party",
    "to_tag",
    "agent_id",
    "value",
    "name",
    "style",
    "type",
    "href",
    "src",
    "alt",
    "url",
];

/// All that is doubtful, by line. Nothing here keeps a file from being used.
pub fn doubts(file: &Routing) -> Vec<Problem> {
    let mut found = Vec::new();
    for integration in file.receivers.iter().flat_map(|receiver| &receiver.integrations) {
        found.extend(integration.unserved.iter().cloned());
        if matches!(integration.kind, Kind::None(_)) {
            continue;
        }
        found.extend(integration.kind.texts().into_iter().filter_map(doubt));
    }
    for text in &file.templates {
        let rule = format!("{text}: files of templates are not read");
        let remedy = "write a receiver's texts at the receiver; `sluice template translate FILE` shows what becomes of each".to_owned();
        found.push(Problem { line: 0, key: "templates".to_owned(), value: String::new(), rule, remedy });
    }
    found.sort_by_key(|problem| problem.line);
    found
}

/// Whether sluice has no text of its own for this one.
pub fn is_exact(text: &Text) -> bool {
    let key = text.place.key.rsplit('.').next().unwrap_or_default();
    EXACT.contains(&key) || [".details.", ".fields[", ".headers."].iter().any(|part| text.place.key.contains(part))
}

fn doubt(text: &Text) -> Option<Problem> {
    let exact = is_exact(text);
    let instead = if exact { "its translation is used" } else { "sluice's own text is sent in its place" };
    let (rule, remedy) = match page::judge(&text.text) {
        Written::Plain | Written::Ours | Written::Default => return None,
        Written::Go(Some(ours)) => {
            (format!("is in Go's template language, which sluice does not run: {instead}"), format!("write: {ours}"))
        }
        Written::Go(None) => {
            let instead = if exact { "nothing stands in its place" } else { instead };
            let rule = format!("is in Go's template language, which sluice does not run, and cannot be translated: {instead}");
            (rule, "write it anew in MiniJinja (docs/receivers.md)".to_owned())
        }
        Written::Broken(why) => (format!("is no template: {why}; {instead}"), "docs/receivers.md shows templates".to_owned()),
    };
    Some(Problem { line: text.place.line, key: text.place.key.clone(), value: String::new(), rule, remedy })
}
