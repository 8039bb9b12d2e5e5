//! How an alert stands: what keeps it from being told, and whom it goes to. For those who look.
//!
//! Whom it goes to is the same for all alerts of the same groups, so it is said apart: who lists many asks once for each. Left out on purpose: when it is told.

use super::Groups;
use super::upkeep::Known;
use crate::alert::book::Kept;
use crate::alert::route::Route;

/// What keeps an alert from being told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Silences, sorted.
    pub silenced_by: Vec<String>,
    /// Alerts, by id.
    pub inhibited_by: Vec<u64>,
    /// Windows of maintenance, sorted.
    pub maintained_by: Vec<String>,
    /// Nobody is told before; 0: it waits for nothing.
    pub released: i64,
}

/// Whom alerts of some groups go to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// Time intervals that keep them from being told to anybody.
    pub muted_by: Vec<String>,
    /// Receivers, in the order of the routes.
    pub receivers: Vec<String>,
}

impl Groups {
    /// What keeps an alert from being told.
    pub fn standing(&self, id: u64, kept: &Kept, now: i64) -> Standing {
        let labels = &kept.alert.labels;
        Standing {
            silenced_by: self.suppress.silenced(id, now).into_iter().map(str::to_owned).collect(),
            inhibited_by: self.suppress.inhibited(labels, now, self.book.alerts(), true),
            maintained_by: self.plan.windows.names(labels, kept.came, now),
            released: Some(self.released(id, kept)).filter(|released| *released > now).unwrap_or(0),
        }
    }

    /// The groups of an alert, in the order of the routes.
    pub fn of(&self, id: u64) -> &[u64] {
        self.of_alert.get(&id).map_or(&[], |Known { groups, .. }| groups)
    }

    /// Whom alerts of these groups go to.
    pub fn ways(&self, groups: &[u64], now: i64) -> Ways {
        let route = |number: &u64| self.plan.routing.route(self.groups.get(number)?.route);
        let routes: Vec<&Route> = groups.iter().filter_map(route).collect();
        let muted = routes.iter().map(|route| self.plan.routing.muted_by(route, now).map(str::to_owned));
        let mut muted_by = muted.collect::<Option<Vec<String>>>().unwrap_or_default();
        muted_by.sort();
        muted_by.dedup();
        Ways { muted_by, receivers: routes.into_iter().map(|route| route.receiver.clone()).collect() }
    }
}
