//! `GET alerts` and `GET alerts/groups`: what fits the query, sorted and written as Alertmanager does. Made beside the requests, since a list may be of
//! 100,000 alerts; and no more than some at a time.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;
use serde::Serializer;

use crate::api::active;
use crate::api::alerting::Alerting;
use crate::api::alerting::Group;
use crate::api::alerting::Standing;
use crate::api::alerting::State;
use crate::api::alerting::Status;
use crate::api::alertmanager::Gate;
use crate::api::alertmanager::LISTS;
use crate::api::alertmanager::filter::Filter;
use crate::api::alertmanager::json_of;
use crate::clock;
use crate::model::labels::Labels;
use crate::serve;
use crate::serve::Response;

/// What is to be listed.
pub enum List {
    /// Alerts,
    Alerts(Filter),
    /// or groups, as Alertmanager lists them;
    Groups(Filter),
    /// alerts with what the policies come to.
    Active(active::Wanted),
}

/// Answers a query.
pub async fn answer(gate: &Gate, state: Arc<dyn Alerting>, list: List, now: i64) -> Response {
    let Ok(_turn) = gate.lists.try_acquire() else {
        let text = format!("Limit of concurrent GET requests reached ({LISTS}), try again later.\n");
        return serve::answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", text);
    };
    let made = tokio::task::spawn_blocking(move || {
        // Only labels of receivers are looked at, and hardly anybody asks for those.
        let asks = match &list {
            List::Alerts(filter) | List::Groups(filter) => filter.asks_receivers(),
            List::Active(wanted) => wanted.asks_receivers(),
        };
        let status = if asks { state.status() } else { Status::default() };
        match &list {
            List::Alerts(filter) => serde_json::to_vec(&alerts(&state.alerts(now), filter, &status, false)),
            List::Groups(filter) => serde_json::to_vec(&groups(&mut state.groups(now), filter, &status)),
            List::Active(wanted) => active::list(&state.alerts(now), wanted, &status),
        }
    });
    match made.await {
        Ok(Ok(text)) => json_of(StatusCode::OK, Bytes::from(text)),
        // Writing our own structs into memory fails only by a defect of ours.
        Ok(Err(_)) | Err(_) => super::sentence(StatusCode::INTERNAL_SERVER_ERROR, "the list could not be made; the node's log says more"),
    }
}

/// Those that fit, by fingerprint; with those whose end is `watched`, or without.
pub fn alerts<'s>(standing: &'s [Standing], filter: &Filter, status: &Status, watched: bool) -> Vec<Shown<'s>> {
    let receivers = |one: &Standing| {
        let any = filter.receiver.is_none() && filter.receiver_matchers.is_empty();
        any || one.receivers.iter().any(|name| filter.fits_receiver(name, status))
    };
    let fit = standing.iter().filter(|one| (watched || one.policed.watched.is_none()) && fits(one, filter) && receivers(one));
    let shown = |one: &'s Standing| Shown { one, muted_by: &one.muted_by, receivers: one.receivers.iter().map(String::as_str).collect() };
    let mut shown: Vec<Shown<'_>> = fit.map(shown).collect();
    shown.sort_by_key(|shown| shown.one.fingerprint);
    shown
}

fn fits(one: &Standing, filter: &Filter) -> bool {
    (filter.active || one.state != State::Active)
        && (filter.silenced || one.silenced_by.is_empty())
        && (filter.inhibited || one.inhibited_by.is_empty())
        && filter.fits(&one.alert.labels)
}

/// Those with alerts that fit, by labels and receiver.
fn groups<'s>(groups: &'s mut [Group], filter: &Filter, status: &Status) -> Vec<ShownGroup<'s>> {
    groups.sort_by(|a, b| before(&a.labels, &b.labels).then_with(|| a.receiver.cmp(&b.receiver)).then_with(|| a.key.cmp(&b.key)));
    let shown = groups.iter().filter_map(|group| {
        if !filter.fits_receiver(&group.receiver, status) || !filter.muted && !group.muted_by.is_empty() {
            return None;
        }
        let fit = group.alerts.iter().filter(|one| one.policed.watched.is_none() && fits(one, filter));
        // Found once, not at every comparison.
        let mut alerts: Vec<(Place<'_>, &'s Standing)> = fit.map(|one| (Place::of(&one.alert.labels), one)).collect();
        alerts.sort_by(|(place, _), (other, _)| place.cmp(other));
        let shown = |one: &'s Standing| {
            // Of other receivers nothing is said where they are not asked for.
            let names = one.receivers.iter().map(String::as_str).filter(|name| filter.fits_receiver(name, status));
            let mut receivers: Vec<&str> = names.collect();
            receivers.sort_unstable();
            Shown { one, muted_by: &group.muted_by, receivers }
        };
        let alerts: Vec<Shown<'_>> = alerts.into_iter().map(|(_, one)| shown(one)).collect();
        let receiver = Named { name: &group.receiver };
        (!alerts.is_empty()).then_some(ShownGroup { alerts, labels: &group.labels, receiver, route_labels: &group.route_labels })
    });
    shown.collect()
}

/// Where an alert of a group stands: by job, then by instance, those without last; then as labels are compared.
struct Place<'a> {
    job: Option<&'a str>,
    instance: Option<&'a str>,
    labels: &'a Labels,
}

impl Place<'_> {
    fn of(labels: &Labels) -> Place<'_> {
        Place { job: labels.get("job"), instance: labels.get("instance"), labels }
    }

    fn cmp(&self, other: &Place<'_>) -> Ordering {
        let by = |a: Option<&str>, b: Option<&str>| match (a, b) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        by(self.job, other.job).then_with(|| by(self.instance, other.instance)).then_with(|| before(self.labels, other.labels))
    }
}

/// Fewer labels come first; then whoever lacks the first name that only one has, or has the lesser value.
fn before(a: &Labels, b: &Labels) -> Ordering {
    let pairs = || {
        for ((name, value), (other, its)) in a.iter().zip(b) {
            match name.cmp(other) {
                // The one without the lesser name comes first.
                Ordering::Less => return Ordering::Greater,
                Ordering::Greater => return Ordering::Less,
                Ordering::Equal if value != its => return value.cmp(its),
                Ordering::Equal => {}
            }
        }
        Ordering::Equal
    };
    a.len().cmp(&b.len()).then_with(pairs)
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownGroup<'a> {
    alerts: Vec<Shown<'a>>,
    labels: &'a Labels,
    receiver: Named<'a>,
    route_labels: &'a Labels,
}

/// An alert as it is listed.
pub struct Shown<'a> {
    one: &'a Standing,
    muted_by: &'a [String],
    receivers: Vec<&'a str>,
}

impl<'a> Shown<'a> {
    /// The alert.
    pub fn one(&self) -> &'a Standing {
        self.one
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownAlert<'a> {
    annotations: &'a Labels,
    ends_at: String,
    fingerprint: String,
    receivers: Names<'a>,
    starts_at: String,
    status: ShownStatus<'a>,
    updated_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "str::is_empty")]
    generator: &'a str,
    labels: &'a Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged: Option<ShownAcknowledged<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownStatus<'a> {
    inhibited_by: &'a [String],
    muted_by: &'a [String],
    silenced_by: &'a [String],
    state: &'static str,
}

/// What Alertmanager does not know: clients pass over it.
#[derive(Serialize)]
struct ShownAcknowledged<'a> {
    at: String,
    by: &'a str,
    comment: &'a str,
}

struct Names<'a>(&'a [&'a str]);

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(self.0.iter().map(|name| Named { name }))
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let Standing { alert, fingerprint, state, silenced_by, inhibited_by, acknowledged, .. } = self.one;
        let state = if self.muted_by.is_empty() { *state } else { State::Suppressed };
        let shown = ShownAlert {
            annotations: &alert.annotations,
            ends_at: clock::rfc3339(alert.ends),
            fingerprint: format!("{fingerprint:016x}"),
            receivers: Names(&self.receivers),
            starts_at: clock::rfc3339(alert.starts),
            status: ShownStatus { inhibited_by, muted_by: self.muted_by, silenced_by, state: state.word() },
            updated_at: clock::rfc3339(alert.updated),
            generator: &alert.generator,
            labels: &alert.labels,
            acknowledged: acknowledged.as_deref().map(|one| ShownAcknowledged {
                at: clock::rfc3339(one.at),
                by: &one.by,
                comment: &one.comment,
            }),
        };
        shown.serialize(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        text.split_whitespace().filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn labels_are_compared_as_prometheus_does() {
        for (lesser, greater) in
            [("", "a=1"), ("z=9", "a=1 b=1"), ("a=1", "a=2"), ("b=1", "a=1"), ("a=1 c=1", "a=1 b=1"), ("a=1 b=1", "a=2 b=0")]
        {
            assert_eq!(before(&labels(lesser), &labels(greater)), Ordering::Less, "{lesser} | {greater}");
            assert_eq!(before(&labels(greater), &labels(lesser)), Ordering::Greater, "{lesser} | {greater}");
        }
        assert_eq!(before(&labels("a=1 b=2"), &labels("a=1 b=2")), Ordering::Equal);
    }

    #[test]
    fn within_a_group_by_job_and_instance() {
        for (first, second) in
            [("job=a x=1 y=1", "job=b"), ("job=a instance=2", "job=a"), ("job=a instance=1", "job=a instance=2"), ("job=a a=1 b=2", "c=1")]
        {
            assert_eq!(Place::of(&labels(first)).cmp(&Place::of(&labels(second))), Ordering::Less, "{first} | {second}");
        }
    }
}
