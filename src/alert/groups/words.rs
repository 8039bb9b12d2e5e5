//! A message, made of what is noted as being on its way: the same words from every node and with every try.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::Member;
use crate::alert::book::Book;
use crate::alert::groups::policed::as_told;
use crate::alert::message::Digest;
use crate::alert::message::Escalation;
use crate::alert::message::Mark;
use crate::alert::message::Message;
use crate::alert::message::Part;
use crate::alert::message::Reason;
use crate::alert::told::Claim;
use crate::alert::told::Told;
use crate::model::alert::Alert;
use crate::model::labels::Labels;

/// Alerts that stand in a digest themselves, the worst first.
const IN_DIGEST: usize = 20;
/// Values of a label that a digest counts one by one.
const TOP: usize = 5;
/// Labels by which a digest counts.
const BY: [&str; 5] = ["alertname", "cluster", "job", "namespace", "team"];

/// An alert as it is told of, and what policies come to for it.
type Said = (Alert, Mark);

/// The message that is to be sent.
pub fn message(book: &Book, parcel: &[Member<'_>], degraded: bool) -> Option<Message> {
    let (log, told, claim) = *parcel.first()?;
    let over = parcel.iter().flat_map(|(_, _, claim)| &claim.over).map(|id| (*id, false));
    let ids: BTreeMap<u64, bool> = over.chain(parcel.iter().flat_map(|(_, _, claim)| &claim.firing).map(|id| (*id, true))).collect();
    let mut alerts: Vec<Said> = ids
        .into_iter()
        .filter_map(|(id, firing)| {
            let kept = book.alerts().get(id)?;
            Some((as_told(kept, firing, claim.at), Mark { level: kept.level(), flapping: kept.flaps_at(claim.at) }))
        })
        .collect();
    alerts.sort_by(|(a, _), (b, _)| {
        let key = |alert: &Alert| (alert.is_over(claim.at), alert.starts);
        key(a).cmp(&key(b)).then_with(|| a.labels.cmp(&b.labels))
    });
    let worst = |firing: bool| alerts.iter().filter(|(alert, _)| !firing || !alert.is_over(claim.at)).map(|(_, mark)| mark.level).min();
    let level = worst(true).or_else(|| worst(false)).unwrap_or(3);
    let digest = told.whom.is_storm().then(|| digest(&mut alerts, claim.at));
    let all = alerts.len();
    if digest.is_some() {
        alerts.truncate(IN_DIGEST);
    }
    let alone = parcel.len() == 1;
    let steps: BTreeSet<Option<(&str, u32)>> = parcel.iter().map(|(_, told, _)| told.whom.step()).collect();
    let step = steps.first().copied().flatten().filter(|_| steps.len() == 1);
    Some(Message {
        id: if alone { format!("{log:016x}-{}", claim.number) } else { format!("{:016x}-bundle", claim.bundle) },
        receiver: told.whom.receiver.to_string(),
        group_key: if alone { told.whom.key().to_owned() } else { format!("{{}}:{{}}/{:016x}", claim.bundle) },
        group_labels: in_common(parcel),
        reason: reason(parcel),
        at: claim.at,
        level,
        left_out: all - alerts.len(),
        marks: alerts.iter().map(|(_, mark)| *mark).collect(),
        alerts: alerts.into_iter().map(|(alert, _)| alert).collect(),
        degraded,
        escalation: step.map(|(policy, step)| Escalation { policy: policy.to_owned(), step }),
        parts: if alone { Vec::new() } else { parcel.iter().map(|(_, told, claim)| part(told, claim)).collect() },
        digest,
    })
}

fn part(told: &Told, claim: &Claim) -> Part {
    Part { group_key: told.whom.key().to_owned(), group_labels: told.labels.clone(), firing: claim.firing.len(), over: claim.over.len() }
}

/// The labels that all of its groups have in common.
fn in_common(parcel: &[Member<'_>]) -> Labels {
    let mut all = parcel.iter().map(|(_, told, _)| &told.labels);
    let first = all.next().into_iter().flatten();
    let rest: Vec<&Labels> = all.collect();
    first.filter(|(name, value)| rest.iter().all(|other| other.get(name) == Some(*value))).collect()
}

/// Of one group its own; of several what is news to more people.
fn reason(parcel: &[Member<'_>]) -> Reason {
    let mut all = parcel.iter().map(|(_, _, claim)| claim.reason.unwrap_or(Reason::First));
    let Some(first) = all.next() else { return Reason::First };
    let rest: Vec<Reason> = all.collect();
    match () {
        () if rest.iter().all(|other| *other == first) => first,
        () if rest.iter().chain([&first]).any(|one| matches!(one, Reason::First | Reason::New)) => Reason::New,
        () if rest.iter().chain([&first]).any(|one| *one == Reason::SomeOver || *one == Reason::AllOver) => Reason::SomeOver,
        () => Reason::Repeat,
    }
}

/// How many there are, and of what kind; puts the worst that still hold first.
fn digest(alerts: &mut [Said], at: i64) -> Digest {
    let holds = |(alert, _): &&Said| !alert.is_over(at);
    let firing = alerts.iter().filter(holds).count();
    let mut top = BTreeMap::new();
    for name in BY {
        let mut counts = BTreeMap::<&str, usize>::new();
        for value in alerts.iter().filter(holds).filter_map(|(alert, _)| alert.labels.get(name)) {
            *counts.entry(value).or_default() += 1;
        }
        let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
        counts.sort_by_key(|(value, count)| (std::cmp::Reverse(*count), *value));
        counts.truncate(TOP);
        if !counts.is_empty() {
            top.insert(name.to_owned(), counts.into_iter().map(|(value, count)| (value.to_owned(), count)).collect());
        }
    }
    let over = alerts.len() - firing;
    alerts.sort_by_key(|(alert, mark)| (alert.is_over(at), mark.level));
    Digest { firing, over, top }
}
