//! What is allowed in a file and hardly meant: what Alertmanager takes without a word, and nobody sees until an alert does not come.
//!
//! Left out on purpose: receivers' integrations and texts (`notify`).

use crate::alert::matcher;
use crate::alert::route::Route;
use crate::alert::route::Routing;
use crate::config::read::Problem;
use crate::config::routing as written;
use crate::config::routing::Place;

/// All that is doubtful, by line. Nothing here keeps a file from being used.
pub fn doubts(file: &written::Routing, routing: &Routing) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut doubt = |place: &Place, key: &str, rule: String, remedy: &str| {
        let key = if key.is_empty() { place.key.clone() } else { format!("{}.{key}", place.key) };
        found.push(Problem { line: place.line, key, value: String::new(), rule, remedy: remedy.to_owned() });
    };
    let routes = routing.root.walk();
    for (_, route) in &routes {
        if route.group_interval > route.repeat_interval {
            let rule = "group_interval is longer than repeat_interval: what was told is told again at every group_interval".to_owned();
            doubt(&route.place, "", rule, "write a repeat_interval that is several times group_interval");
        }
        for (number, child) in route.routes.iter().enumerate() {
            if let Some(before) = route.routes.iter().take(number).find(|before| !before.goes_on && takes_all_of(before, child)) {
                let rule = format!("no alert gets here: the route of line {} takes all of them", before.place.line);
                doubt(&child.place, "", rule, "write it before that one, or let that one `continue`");
            }
        }
    }
    for receiver in &file.receivers {
        if !routes.iter().any(|(_, route)| route.receiver == receiver.name) {
            doubt(&receiver.place, "", format!("no route leads to receiver {:?}", receiver.name), "write a route to it, or take it out");
        }
    }
    for rule in &routing.inhibitions {
        if rule.source.is_empty() && rule.target.is_empty() {
            doubt(
                &rule.place,
                "",
                "has no matchers: every alert is source and target, so none is inhibited".into(),
                "say which alerts explain which",
            );
        } else if rule.source.to_string() == rule.target.to_string() {
            doubt(
                &rule.place,
                "",
                "source and target are the same alerts, so none is inhibited".into(),
                "let the target's matchers differ",
            );
        }
    }
    for interval in &file.intervals {
        let named = |route: &Route| route.mute.contains(&interval.name) || route.active.contains(&interval.name);
        if !routes.iter().any(|(_, route)| named(route)) {
            doubt(
                &interval.place,
                "",
                format!("no route names the time interval {:?}", interval.name),
                "name it at a route, or take it out",
            );
        }
    }
    for condition in
        conditions(&file.route).into_iter().chain(file.inhibitions.iter().flat_map(|rule| rule.source.iter().chain(&rule.target)))
    {
        if let written::Written::Matchers(text) = &condition.written
            && let Some(warning) = matcher::read(text).ok().and_then(|read| read.warning)
        {
            doubt(&condition.place, "", format!("{text}: {warning}"), "so every program reads it alike");
        }
    }
    found.sort_by_key(|problem| problem.line);
    found
}

fn conditions(route: &written::Route) -> Vec<&written::Condition> {
    route.conditions.iter().chain(route.routes.iter().flat_map(conditions)).collect()
}

/// Whether what `one` takes is at least what `other` takes: all of its matchers are among the other's. There are other ways, which are not looked for.
fn takes_all_of(one: &Route, other: &Route) -> bool {
    one.matchers.iter().all(|matcher| other.matchers.iter().any(|known| known == matcher))
}
