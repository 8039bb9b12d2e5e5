//! What of a file's receivers will not be as it is written: kinds that are not served, and texts in Go's template language, each by line and key, with what to
//! write instead.

use crate::alert::translate;
use crate::alert::translate::Named;
use crate::config::read::Problem;
use crate::config::receivers::Kind;
use crate::config::receivers::Text;
use crate::config::routing::Routing;
use crate::notify::page;
use crate::notify::page::Written;
use crate::notify::template;

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

/// All that is doubtful, by line. Nothing here keeps a file from being used. `templates`: names and texts of the files that `templates:` names, as far as they are known.
pub fn doubts(file: &Routing, templates: &[(String, String)]) -> Vec<Problem> {
    let mut found = Vec::new();
    let named_all = all(templates);
    for integration in file.receivers.iter().flat_map(|receiver| &receiver.integrations) {
        found.extend(integration.unserved.iter().cloned());
        if matches!(integration.kind, Kind::None(_)) {
            continue;
        }
        found.extend(integration.kind.texts().into_iter().filter_map(|text| doubt(text, &named_all)));
    }
    for text in &file.templates {
        let rule = format!("{text}: files of templates are not read");
        let remedy =
            "write a receiver's texts at the receiver; `sluice template translate --file FILE` shows what becomes of each".to_owned();
        found.push(Problem { line: 0, key: "templates".to_owned(), value: String::new(), rule, remedy });
    }
    for (path, text) in templates {
        let named = translate::named(text);
        if named.is_none() {
            let rule = "is no file of Go's templates: a block in it does not end".to_owned();
            found.push(Problem { line: 0, key: path.clone(), value: String::new(), rule, remedy: String::new() });
        }
        for one in named.into_iter().flatten() {
            let rule = "is in Go's template language, which sluice does not run".to_owned();
            let remedy = match ours(&one.body, &named_all) {
                Some(ours) => format!("where a receiver calls it, write: {ours}"),
                None => "cannot be translated; write it anew in MiniJinja (docs/receivers.md)".to_owned(),
            };
            found.push(Problem { line: 0, key: format!("{path}:{}: {:?}", one.line, one.name), value: String::new(), rule, remedy });
        }
    }
    found.sort_by_key(|problem| problem.line);
    found
}

/// Whether sluice has no text of its own for this one.
pub fn is_exact(text: &Text) -> bool {
    let key = text.place.key.rsplit('.').next().unwrap_or_default();
    EXACT.contains(&key) || [".details.", ".fields[", ".headers."].iter().any(|part| text.place.key.contains(part))
}

fn all(templates: &[(String, String)]) -> Vec<Named> {
    templates.iter().filter_map(|(_, text)| translate::named(text)).flatten().collect()
}

/// The translation, if it is a template of ours.
pub fn ours(text: &str, named: &[Named]) -> Option<String> {
    translate::translate_with(text, named).filter(|ours| template::check(ours).is_ok())
}

fn doubt(text: &Text, named: &[Named]) -> Option<Problem> {
    let exact = is_exact(text);
    let instead = if exact { "its translation is used" } else { "sluice's own text is sent in its place" };
    let (rule, remedy) = match page::judge(&text.text) {
        Written::Plain | Written::Ours | Written::Default => return None,
        Written::Go(Some(ours)) => {
            (format!("is in Go's template language, which sluice does not run: {instead}"), format!("write: {ours}"))
        }
        Written::Go(None) => {
            let remedy = ours(&text.text, named).map(|ours| format!("write: {ours}"));
            let instead = if exact { "nothing stands in its place" } else { instead };
            let rule = format!("is in Go's template language, which sluice does not run: {instead}");
            (rule, remedy.unwrap_or_else(|| "cannot be translated; write it anew in MiniJinja (docs/receivers.md)".to_owned()))
        }
        Written::Broken(why) => (format!("is no template: {why}; {instead}"), "docs/receivers.md shows templates".to_owned()),
    };
    Some(Problem { line: text.place.line, key: text.place.key.clone(), value: String::new(), rule, remedy })
}
