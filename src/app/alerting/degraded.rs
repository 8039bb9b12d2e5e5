//! Without a majority nobody can note what is told, and silence would be worse than telling twice: after half a minute a node tells by itself what was to be told
//! by the book as it applied it last, marked as degraded, and remembers that alone. Ids follow from the book, so that every node, and later the one that
//! leads, gives the same message the same one.
//!
//! Ends are not told so: no source can be heard, so that an alert is over may only mean that nobody said it again. Left out on purpose: alerts that come
//! meanwhile, which senders repeat.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::alert::book::Book;
use crate::alert::groups;
use crate::alert::groups::Groups;
use crate::alert::groups::Plan;
use crate::alert::groups::words::message;
use crate::alert::message::Message;
use crate::alert::told::End;
use crate::app::alerting::Current;
use crate::clock;

/// Without a leader for so long a node tells by itself.
const AFTER: Duration = Duration::from_secs(30);
/// Messages of one turn.
const AT_ONCE: usize = 100;

/// What is to be sent: logs with the numbers of what it says of each, which integration, and the message.
pub type Told = (Vec<(u64, u64)>, u32, Message);

/// What a node tells by itself.
#[derive(Default)]
pub struct Alone {
    since: Option<Instant>,
    known: Option<(Arc<Book>, Groups)>,
}

impl Alone {
    /// Somebody leads.
    pub fn ends(&mut self) {
        *self = Alone::default();
    }

    /// What is to be sent. `led`: somebody led lately. `book`: as it was applied last.
    pub fn due(&mut self, current: &Current, (led, at, seed): (bool, i64, u64), book: impl FnOnce() -> Arc<Book>) -> Vec<Told> {
        let now = clock::now();
        if led {
            self.ends();
            return Vec::new();
        }
        if now.saturating_duration_since(*self.since.get_or_insert(now)) < AFTER {
            return Vec::new();
        }
        let (book, groups) = self.known.get_or_insert_with(|| {
            tracing::warn!("there is no majority: what is to be told is told by this node alone, and perhaps by others, too");
            (book(), Groups::new(without_ends(&current.plan), seed))
        });
        tell(book, groups, (at, seed))
    }

    /// Something came of it.
    pub fn end(&mut self, parts: &[(u64, u64)], taken: bool) {
        if let Some((book, _)) = &mut self.known {
            // One that was not taken is looked at again after `group_interval`.
            let end = if taken { End::Taken } else { End::Never };
            let ended: Vec<(u64, u64, End)> = parts.iter().map(|(log, number)| (*log, *number, end)).collect();
            Arc::make_mut(book).end(&ended, 0);
        }
    }
}

fn without_ends(plan: &Plan) -> Arc<Plan> {
    Arc::new(plan.without_ends())
}

fn tell(book: &mut Arc<Book>, groups: &mut Groups, (at, seed): (i64, u64)) -> Vec<Told> {
    groups.look(book);
    let wanted = groups.due(at, AT_ONCE);
    // A number that is taken already is another node's message, which was noted.
    let _ = Arc::make_mut(book).claim(seed, wanted);
    groups.look(book);
    let book = &**book;
    let wanted = |parcel: &groups::Parcel<'_>| parcel.iter().any(|(log, _, claim)| groups.is_wanted(*log, claim, at));
    let parcels = groups.parcels().into_iter().filter(wanted);
    let one = |parcel: groups::Parcel<'_>| {
        let ids = parcel.iter().map(|(log, _, claim)| (*log, claim.number)).collect();
        Some((ids, parcel.first()?.1.whom.integration, message(book, &parcel, true)?))
    };
    parcels.filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::route::Routing;
    use crate::config::routing;
    use crate::model::alert::Alert;
    use crate::model::labels::Labels;

    #[test]
    fn every_node_tells_the_same_with_the_same_ids_and_no_ends() {
        let file = "route: { receiver: a, group_wait: 30s }\nreceivers: [{ name: a }]\n";
        let routing = Routing::new(&routing::parse(file).unwrap()).unwrap();
        let plan = Plan::new(routing, [("a".to_owned(), vec![true])].into());
        let mut book = Arc::new(Book::default());
        let labels = Labels::from([("alertname", "X")]);
        let alert = Alert { labels, starts: 0, ends: 600_000, ..Alert::default() };
        Arc::make_mut(&mut book).post(7, vec![alert], 10).unwrap();
        let mut told = Vec::new();
        for at in [40_000, 55_000] {
            let (mut book, mut groups) = (Arc::clone(&book), Groups::new(without_ends(&plan), 7));
            let sent = tell(&mut book, &mut groups, (at, 7));
            let (parts, _, message) = &sent[0];
            assert!(message.degraded && message.is_firing() && sent.len() == 1);
            told.push(message.id.clone());
            Arc::make_mut(&mut book).end(&[(parts[0].0, parts[0].1, End::Taken)], 0);
            assert!(tell(&mut book, &mut groups, (1_000_000, 7)).is_empty(), "that nobody says it again is no end");
        }
        assert_eq!(told[0], told[1]);
    }
}
