//! What policies and windows of maintenance do to an alert of a group: whether it is to be told at all, from when on, and whether its end counts.

use crate::alert::book::Kept;
use crate::alert::groups::Groups;
use crate::alert::groups::ms;
use crate::alert::route::Route;
use crate::alert::told::Found;
use crate::model::alert::Alert;

/// When an alert counts as come in a group: so that it is told when it need not wait any longer, and after `group_wait`, whichever is later.
pub(super) fn begins(kept: &Kept, released: i64, route: &Route) -> i64 {
    // Who was told of its first beginning is not concerned, and for all others it begins now.
    kept.came.max(kept.noted.since).max(released.saturating_sub(ms(route.group_wait)))
}

/// An alert as it is told of. One whose end does not count yet holds: until that, for all that is known.
pub(super) fn as_told(kept: &Kept, firing: bool, at: i64) -> Alert {
    match firing && kept.alert.is_over(at) && !kept.is_closed(at) {
        true => Alert { ends: kept.counts(), ..kept.alert.clone() },
        false => kept.alert.clone(),
    }
}

impl Groups {
    /// How a lane finds an alert; `owed`: it was told that it holds.
    pub(super) fn found(&self, (id, kept): (u64, &Kept), owed: bool, route: &Route, now: i64) -> Found {
        let (is_over, flaps, released) = (kept.alert.is_over(now), kept.flaps_at(now), self.released(id, kept));
        // That an end is watched is for those who know the beginning; that it flaps is for all.
        let watched = is_over && !kept.is_closed(now);
        // What ended while it waited is nobody's business.
        let waits = !owed && (released > now.min(kept.alert.ends) || watched && !flaps);
        Found {
            id,
            over: if owed || flaps { kept.is_closed(now) } else { is_over },
            ends: kept.counts(),
            came: begins(kept, released, route),
            flaps: if flaps { kept.noted.flaps } else { 0 },
            suppressed: waits || self.is_suppressed(id, kept, now),
            acknowledged: kept.acknowledged.is_some(),
        }
    }

    /// Nobody is told of an alert before; 0: it waits for nothing.
    pub(super) fn released(&self, id: u64, kept: &Kept) -> i64 {
        self.released.get(&id).copied().unwrap_or(0).max(kept.noted.released)
    }
}
