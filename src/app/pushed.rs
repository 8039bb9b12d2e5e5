//! Makes samples of what short-lived jobs have pushed, at every interval, as if a Prometheus scraped a Pushgateway; and lets groups go that nobody pushes to any more.
//!
//! Whoever leads the control shard does it, since all that was pushed is there. A sample's time is a multiple of the interval: where two nodes write the same one,
//! because one has just taken over, the second is a repeat and goes no further. What is there no more ends with a stale marker, unless the leader changed in
//! that very interval. Left out on purpose: what is there (`shard::pushed`), and pushing it (`api::push`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::clock;
use crate::config::push::Push;
use crate::ingest::Ingest;
use crate::model::ShardId;
use crate::node::Handle;
use crate::shard::command::Command;
use crate::shard::pushed::Change;
use crate::shard::pushed::Group;
use crate::shard::pushed::Groups;
use crate::shard::pushed::Key;
use crate::wire::encode::Encoder;
use crate::wire::encode::NewSeries;
use crate::wire::encode::Sample;
use crate::wire::families::Family;
use crate::wire::families::Kind;
use crate::wire::families::Labels;
use crate::wire::pack;
use crate::wire::remote_write::Protocol;

/// The group of these samples.
const GROUP: &str = "push";
/// Samples of a request.
const A_REQUEST: usize = 5_000;
/// Between two tries while samples are not taken.
const AGAIN: Duration = Duration::from_secs(1);
/// Groups that go at a time: the rest goes with the next interval.
const EXPIRE: usize = 500;

/// Runs until `stop`.
pub async fn keep(node: Handle, ingest: Arc<Ingest<Handle>>, push: watch::Receiver<Push>, mut stop: watch::Receiver<bool>) {
    let mut before: Option<Arc<Groups>> = None;
    loop {
        let Push { enabled, interval, expire } = push.borrow().clone();
        let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        let now = clock::wall_ms();
        let slot = (now.div_euclid(interval) + 1) * interval;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(Duration::from_millis(slot.abs_diff(now))) => {}
        }
        if !enabled || !node.leads_control() {
            before = None;
            continue;
        }
        if let Some(expire) = expire {
            let old = clock::wall_ms() - i64::try_from(expire.as_millis()).unwrap_or(i64::MAX);
            for (key, last) in expired(&node.pushed(), old) {
                // Not taken: it is found again.
                let _ = node.propose(ShardId::CONTROL, Command::Push(Change::Expire(key, last))).await;
            }
        }
        let groups = node.pushed();
        let (old, new) = (before.replace(Arc::clone(&groups)), groups);
        let Ok(requests) = tokio::task::spawn_blocking(move || requests(old.as_deref(), &new, slot)).await else { continue };
        for (tenant, request) in requests {
            // Until the next one is due: that says all of it again.
            while let Err(text) = ingest.take_own_of(request.clone(), GROUP, Some(&*tenant).filter(|tenant| !tenant.is_empty())).await {
                tracing::debug!("pushed metrics were not taken: {text}");
                if *stop.borrow() || clock::wall_ms() - slot >= interval {
                    break;
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Groups to which nothing was pushed since, and when something was last.
fn expired(groups: &Groups, since: i64) -> Vec<(Key, i64)> {
    let old = groups.iter().filter(|(_, group)| group.last() <= since);
    old.take(EXPIRE).map(|(key, group)| (key.clone(), group.last())).collect()
}

/// All of it at this time, and the end of what was there before; packed, each request with its tenant.
fn requests(before: Option<&Groups>, now: &Groups, slot: i64) -> Vec<(String, Bytes)> {
    let mut out = Out { tenant: String::new(), encoder: Encoder::new(Protocol::V2), open: 0, done: Vec::new() };
    for (key, group) in now {
        out.turn(&key.tenant);
        for family in group.all(key) {
            let metadata = Some((type_of(family.kind), family.help.as_deref().unwrap_or_default(), ""));
            series(&family, &mut |labels, value| out.push(labels, Sample::new(slot, value), metadata));
        }
    }
    for (tenant, gone) in before.map(|before| gone(before, now)).unwrap_or_default() {
        out.turn(&tenant);
        gone.iter().for_each(|labels| out.push(labels, Sample::stale(slot), None));
    }
    out.turn("");
    out.close();
    out.done
}

/// Its number in remote write 2.0.
fn type_of(kind: Kind) -> u32 {
    match kind {
        Kind::Untyped => 0,
        Kind::Counter => 1,
        Kind::Gauge => 2,
        Kind::Histogram => 3,
        Kind::Summary => 5,
    }
}

/// Visits the family's series: labels as remote write wants them, and the value.
fn series(family: &Family, visit: &mut dyn FnMut(&Labels, f64)) {
    family.samples(&mut |name, labels, part, value| {
        let labels = labels.iter().map(|(name, value)| (&**name, &**value)).chain(part).chain([("__name__", name)]);
        // A label that is empty is none.
        let whole: BTreeMap<&str, &str> = labels.filter(|(_, value)| !value.is_empty()).collect();
        visit(&whole.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), value);
    });
}

/// Series of before that are there no more, by tenant. What did not change is the same piece of memory, and is not looked at.
fn gone(before: &Groups, now: &Groups) -> BTreeMap<String, BTreeSet<Labels>> {
    let mut gone: BTreeMap<String, BTreeSet<Labels>> = BTreeMap::new();
    for (key, family) in differing(before, now) {
        let gone = gone.entry(key.tenant.clone()).or_default();
        series(&family, &mut |labels, _| {
            gone.insert(labels.clone());
        });
    }
    for (key, family) in differing(now, before) {
        let Some(gone) = gone.get_mut(&key.tenant) else { continue };
        series(&family, &mut |labels, _| {
            gone.remove(labels);
        });
    }
    gone
}

/// Families of these groups that the others do not have, or not so.
fn differing<'g>(of: &'g Groups, others: &'g Groups) -> impl Iterator<Item = (&'g Key, Family)> {
    let same = |group: &Group, name: &str, other: Option<&Arc<Group>>| match (group.families.get(name), other) {
        (Some(stored), Some(other)) => other.families.get(name).is_some_and(|theirs| Arc::ptr_eq(stored, theirs)),
        // The times of a push are there as long as the group.
        (None, other) => other.is_some(),
        (Some(_), None) => false,
    };
    of.iter().flat_map(move |(key, group)| {
        let other = others.get(key);
        let all = if other.is_some_and(|other| Arc::ptr_eq(group, other)) { Vec::new() } else { group.all(key) };
        all.into_iter().filter(move |family| !same(group, &family.name, other)).map(move |family| (key, family))
    })
}

/// Requests that come to be.
struct Out {
    tenant: String,
    encoder: Encoder,
    open: usize,
    done: Vec<(String, Bytes)>,
}

impl Out {
    /// What follows is of this tenant.
    fn turn(&mut self, tenant: &str) {
        if self.tenant != tenant {
            self.close();
            tenant.clone_into(&mut self.tenant);
        }
    }

    fn push(&mut self, labels: &Labels, sample: Sample, metadata: Option<(u32, &str, &str)>) {
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        self.encoder.push(&NewSeries { labels: &labels, samples: &[sample], metadata, ..NewSeries::default() });
        self.open += 1;
        if self.open >= A_REQUEST {
            self.close();
        }
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.open) == 0 {
            return;
        }
        let (mut raw, mut packed) = (Vec::new(), Vec::new());
        self.encoder.finish(&mut raw);
        pack::pack_snappy(&raw, &mut packed);
        self.done.push((self.tenant.clone(), packed.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::STALE_NAN;
    use crate::shard::control::Control;
    use crate::shard::control::ControlEffects;
    use crate::shard::entry;
    use crate::shard::entry::Entry;
    use crate::shard::pushed::Stored;
    use crate::wire::families::text;
    use crate::wire::pack::Bounds;
    use crate::wire::pack::Packing;
    use crate::wire::remote_write::Limits;
    use crate::wire::remote_write::Walker;

    fn key(tenant: &str, job: &str) -> Key {
        Key { tenant: tenant.into(), labels: vec![("job".into(), job.into())] }
    }

    fn apply(control: &mut Control, change: Change) {
        let (mut bytes, mut effects) = (Vec::new(), ControlEffects::default());
        entry::encode(5_000, &Entry::Command(Command::Push(change)), &mut bytes);
        control.apply(control.applied + 1, &bytes, &mut effects).unwrap();
        assert_eq!(effects.void, None);
    }

    fn push(control: &mut Control, group: &Key, body: &str) {
        let mut families = text::read(body.as_bytes()).unwrap().families;
        families.iter_mut().for_each(|family| family.label(&group.labels));
        let families = families.iter().map(|family| (family.name.clone(), Stored::new(family))).collect();
        apply(control, Change::Push { group: group.clone(), replace: true, families });
    }

    /// `tenant name{labels} value`, in order.
    fn shown(requests: &[(String, Bytes)]) -> Vec<String> {
        let mut shown = Vec::new();
        for (tenant, packed) in requests {
            let mut raw = Vec::new();
            pack::unpack(Packing::Snappy, packed, Bounds::default(), &mut raw).unwrap();
            let walked = Walker::new(0).walk(Protocol::V2, &raw, &Limits::default(), &mut |series| {
                let labels = ["__name__", "job", "instance", "le"].map(|name| series.label(name).unwrap_or("-").to_owned());
                let point = &series.points[0];
                let value = if point.bits == STALE_NAN { "stale".to_owned() } else { f64::from_bits(point.bits).to_string() };
                shown.push(format!("{tenant} {} {value} {}", labels.join(" "), point.time));
            });
            assert!(walked.is_ok());
        }
        shown.sort();
        shown
    }

    #[test]
    fn what_is_there_is_written_and_what_was_there_ends() {
        let mut control = Control::default();
        push(&mut control, &key("", "a"), "x 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_sum 3\nh_count 4\n");
        push(&mut control, &key("t", "b"), "y{instance=\"i\"} 1\n");
        let first = Arc::clone(control.pushed.groups());
        let all = shown(&requests(None, &first, 15_000));
        let expected = [
            " h_bucket a - +Inf 4 15000",
            " h_bucket a - 1 2 15000",
            " h_count a - - 4 15000",
            " h_sum a - - 3 15000",
            " push_failure_time_seconds a - - 0 15000",
            " push_time_seconds a - - 5 15000",
            " x a - - 1 15000",
            "t push_failure_time_seconds b - - 0 15000",
            "t push_time_seconds b - - 5 15000",
            "t y b i - 1 15000",
        ];
        assert_eq!(all, expected);
        push(&mut control, &key("", "a"), "x 2\nz 1\n");
        apply(&mut control, Change::Delete(key("t", "b")));
        let stale =
            |requests: &[(String, Bytes)]| -> Vec<String> { shown(requests).into_iter().filter(|line| line.contains("stale")).collect() };
        let ended = stale(&requests(Some(&first), control.pushed.groups(), 30_000));
        let expected = [
            " h_bucket a - +Inf stale 30000",
            " h_bucket a - 1 stale 30000",
            " h_count a - - stale 30000",
            " h_sum a - - stale 30000",
            "t push_failure_time_seconds b - - stale 30000",
            "t push_time_seconds b - - stale 30000",
            "t y b i - stale 30000",
        ];
        assert_eq!(ended, expected);
        let same = Arc::clone(control.pushed.groups());
        assert!(stale(&requests(Some(&same), &same, 45_000)).is_empty());
    }

    #[test]
    fn a_series_that_another_group_pushes_now_goes_on() {
        let mut control = Control::default();
        let other = Key { labels: vec![("host".into(), "h".into()), ("job".into(), "a".into())], ..Key::default() };
        push(&mut control, &key("", "a"), "x{host=\"h\"} 1\n");
        let first = Arc::clone(control.pushed.groups());
        apply(&mut control, Change::Delete(key("", "a")));
        push(&mut control, &other, "x 2\n");
        let all = shown(&requests(Some(&first), control.pushed.groups(), 15_000));
        assert_eq!(all.iter().filter(|line| line.starts_with(" x ")).collect::<Vec<_>>(), [" x a - - 2 15000"]);
    }

    #[test]
    fn groups_expire_by_their_last_push() {
        let mut control = Control::default();
        push(&mut control, &key("", "a"), "x 1\n");
        assert_eq!(expired(control.pushed.groups(), 4_999), []);
        assert_eq!(expired(control.pushed.groups(), 5_000), [(key("", "a"), 5_000)]);
    }
}
