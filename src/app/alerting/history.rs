//! Alerts that are over: those of the book, of which something may still be said, and those that this node has on its disk.

use crate::alert::episode::Episode;
use crate::api::alerting::Past;
use crate::api::alerting::Refused;
use crate::api::alerting::Wanted;
use crate::node::Handle;

/// Rows that one question looks at: some tenths of a second. What comes behind is asked for by the next one.
const MOST_ROWS: usize = 100_000;

/// Answers a question.
pub async fn read(node: Handle, wanted: Wanted, now: i64) -> Result<Past, Refused> {
    let read = tokio::task::spawn_blocking(move || of(&node, &wanted, now));
    match read.await {
        Ok(read) => read,
        Err(_) => Err(Refused::Later("reading was given up".to_owned())),
    }
}

fn fits(wanted: &Wanted, episode: &Episode) -> bool {
    let alert = &episode.alert;
    let starts = alert.starts.min(episode.came);
    alert.ends >= wanted.from && starts <= wanted.to && wanted.matchers.iter().all(|matcher| matcher.matches(&alert.labels))
}

fn of(node: &Handle, wanted: &Wanted, now: i64) -> Result<Past, Refused> {
    let book = node.book();
    let mut past = Past::default();
    if wanted.before.is_none() {
        for (id, kept) in book.alerts().iter().filter(|(_, kept)| kept.is_closed(now)) {
            let told = book.ledger().told().get(id).map(|told| Vec::clone(told)).unwrap_or_default();
            let episode = Episode::of(kept, told, 0);
            if fits(wanted, &episode) {
                past.episodes.push((None, episode));
            }
        }
        past.episodes.sort_by_key(|(_, episode)| std::cmp::Reverse(episode.alert.ends));
        past.episodes.truncate(wanted.limit);
    }
    // What this book has is not among them, and what came since is not missed.
    let before = wanted.before.unwrap_or(book.ledger().totals().0 + 1);
    let mut last = None;
    let read = node.history(before, MOST_ROWS, &mut |closed| {
        if past.episodes.len() >= wanted.limit {
            last = Some(closed.number + 1);
            return false;
        }
        // Nothing that was closed before then held after it.
        let goes_on = closed.episode.closed >= wanted.from;
        if fits(wanted, &closed.episode) {
            past.episodes.push((Some(closed.number), closed.episode));
        }
        goes_on
    });
    let read = read.map_err(|error| Refused::Later(format!("the history cannot be read: {}", error.0)))?;
    (past.missing, past.next) = (read.missing, last.or(read.next));
    Ok(past)
}

/// Episodes to live through once more.
#[derive(Debug, Default)]
pub struct Lived {
    /// The oldest first.
    pub episodes: Vec<Episode>,
    /// So many of those that were looked at are not at this node.
    pub missing: u64,
    /// Where there were too many: those that are left out came before, ms since 1970.
    pub since: Option<i64>,
}

/// Those that came within a time and are over, at most so many, the latest.
pub fn episodes(node: &Handle, (from, to): (i64, i64), most: usize) -> Result<Lived, Refused> {
    let wanted = Wanted { from, to, limit: most, ..Wanted::default() };
    let past = of(node, &wanted, to)?;
    let full = past.episodes.len() >= most || past.next.is_some();
    let all = past.episodes.into_iter().map(|(_, episode)| episode).filter(|episode| episode.came >= from);
    let mut lived = Lived { episodes: all.collect(), missing: past.missing, since: None };
    lived.episodes.sort_by_key(|episode| episode.came);
    lived.since = lived.episodes.first().map(|episode| episode.came).filter(|_| full);
    Ok(lived)
}
