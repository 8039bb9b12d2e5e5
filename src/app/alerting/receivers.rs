//! What receivers are not told yet, as this node sees it.
//!
//! Left out on purpose: what is kept back, and why (`alert::groups`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::alerting::Receiving;
use crate::app::alerting::Alerting;
use crate::app::alerting::Current;
use crate::app::alerting::lock;

impl Alerting {
    /// Each integration of each receiver, in the order of the file.
    pub(super) fn receivers(&self, current: &Arc<Current>, now: i64) -> Vec<Receiving> {
        let outlooks = self.with_groups(current, |groups| groups.outlooks(now));
        let trouble = lock(&self.trouble).clone();
        let file = current.written.routing.iter().flat_map(|routing| &routing.receivers);
        let places: BTreeMap<&str, usize> = file.enumerate().map(|(place, receiver)| (receiver.name.as_str(), place)).collect();
        let mut all: Vec<(Option<usize>, Receiving)> = outlooks
            .into_iter()
            .map(|(target, outlook)| {
                let receiver = target.receiver.to_string();
                let kind = current.receivers.kind(&receiver, usize::try_from(target.integration).unwrap_or_default());
                let why = trouble.get(&(receiver.clone(), target.integration)).cloned();
                (
                    places.get(receiver.as_str()).copied(),
                    Receiving { receiver, integration: target.integration, kind, outlook, trouble: why },
                )
            })
            .collect();
        all.sort_by_key(|(place, one)| (*place, one.integration));
        all.into_iter().map(|(_, one)| one).collect()
    }
}
