//! What very many alerts cost once they are read: taking them into the book, keeping the groups up with it, saying what is due,
//! saying how each stands, and hearing that all hold longer. What `sluice bench alerts` prints. The clock is the caller's.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Groups;
use super::Plan;
use crate::alert::book::Book;
use crate::alert::route::Routing;
use crate::config::routing;
use crate::model::alert::Alert;
use crate::model::labels::Labels;

/// Alerts of a request.
const REQUEST: usize = 256;
/// A moment.
const NOW: i64 = 1_790_000_000_000;
/// Fifty routes, and ten rules of inhibition.
const ROUTES: usize = 50;

/// Nanoseconds an alert.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// What is new of a request, and taking it.
    pub post_ns: f64,
    /// Keeping the groups up, request by request.
    pub look_ns: f64,
    /// Saying what is due.
    pub due_ns: f64,
    /// How each stands.
    pub standing_ns: f64,
    /// Hearing that all hold longer.
    pub longer_ns: f64,
    /// Groups that there were.
    pub groups: usize,
}

fn plan() -> Option<Plan> {
    let mut file = String::from("receivers: [{ name: all }]\nroute:\n  receiver: all\n  group_by: [alertname, cluster]\n  routes:\n");
    (0..ROUTES).for_each(|team| file.push_str(&format!("    - {{ matchers: ['team=\"t{team}\"'] }}\n")));
    file.push_str("inhibit_rules:\n");
    (0..10).for_each(|rule| {
        file.push_str(&format!(
            "  - {{ source_matchers: ['alertname=\"Down{rule}\"'], target_matchers: ['severity=\"warning\"'], equal: [cluster] }}\n"
        ));
    });
    let routing = Routing::new(&routing::parse(&file).ok()?).ok()?;
    Some(Plan::new(routing, BTreeMap::from([("all".to_owned(), vec![true])])))
}

fn alert(number: usize, ends: i64) -> Alert {
    let pairs = [
        ("alertname", format!("Alert{}", number % 200)),
        ("cluster", format!("c{}", number % 7)),
        ("instance", format!("web{number}:9100")),
        ("job", "node".to_owned()),
        ("namespace", "infra".to_owned()),
        ("severity", if number.is_multiple_of(3) { "warning" } else { "critical" }.to_owned()),
        ("team", format!("t{}", number % (2 * ROUTES))),
    ];
    let labels: Labels = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let annotations = Labels::from([("summary".to_owned(), format!("the disk of web{number} is full"))]);
    Alert { labels, annotations, starts: NOW, ends, updated: NOW, ..Alert::default() }
}

/// So many alerts, once.
pub fn measure(alerts: usize, clock: &dyn Fn() -> u64) -> Option<Figures> {
    let (seed, each) = (7, |ns: u64| ns as f64 / alerts.max(1) as f64);
    let mut groups = Groups::new(Arc::new(plan()?), seed);
    let (mut book, mut posting, mut looking) = (Arc::new(Book::default()), 0, 0);
    let all: Vec<Alert> = (0..alerts).map(|number| alert(number, NOW + 240_000)).collect();
    for request in all.chunks(REQUEST) {
        let words = request.to_vec();
        let begin = clock();
        let (new, _) = book.news(seed, words, NOW);
        Arc::make_mut(&mut book).post(seed, new, NOW).ok()?;
        let middle = clock();
        groups.look(&book);
        groups.rest();
        posting += middle.saturating_sub(begin);
        looking += clock().saturating_sub(middle);
    }
    groups.look(&book);
    let begin = clock();
    let due = groups.due(NOW + 30_000, usize::MAX);
    let after_due = clock();
    let standing = book.alerts().iter().filter(|(id, kept)| groups.standing(*id, kept, NOW).silenced_by.is_empty()).count();
    let after_standing = clock();
    let mut longer = 0;
    for request in all.chunks(REQUEST) {
        let words = request.iter().map(|alert| Alert { ends: alert.ends + 60_000, updated: NOW + 60_000, ..alert.clone() }).collect();
        let begin = clock();
        let (_, held) = book.news(seed, words, NOW + 60_000);
        Arc::make_mut(&mut book).longer(&held, NOW + 60_000).ok()?;
        longer += clock().saturating_sub(begin);
        groups.look(&book);
        groups.rest();
    }
    let unseen = u64::from(standing == 0 || due.is_empty());
    Some(Figures {
        post_ns: each(posting),
        look_ns: each(looking),
        due_ns: each(after_due.saturating_sub(begin)),
        standing_ns: each(after_standing.saturating_sub(after_due) + unseen),
        longer_ns: each(longer),
        groups: groups.len(),
    })
}
