//! Copies of a shard's state for people, sinks and `/metrics`, made on the shard's thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::clock;
use crate::dedup::judged::Counts;
use crate::node::lane::lock;
use crate::node::view::CountsView;
use crate::node::view::CursorView;
use crate::node::view::GroupView;
use crate::node::view::MemberView;
use crate::node::view::ReplicaView;
use crate::node::view::ShardStats;
use crate::node::view::SwitchView;
use crate::node::worker::Worker;
use crate::shard::data::Place;
use crate::shard::member::State;

fn counts(counts: Counts) -> CountsView {
    let Counts { received, emitted, covered, repeated, refused, waiting, late, filled, .. } = counts;
    CountsView { received, emitted, covered, repeated, refused, waiting, late, filled }
}

fn group(shard: u16, name: &str, place: &Place) -> GroupView {
    let group = &place.group;
    let replicas = group.replicas().map(|replica| ReplicaView {
        name: replica.name.clone(),
        lag: replica.lag,
        newest: replica.newest().unwrap_or(0),
        samples: replica.received,
        emitted: replica.emitted,
        covered: replica.covered,
        filled: replica.filled,
        last_seen: replica.last_seen,
    });
    let switches: Vec<SwitchView> = group
        .history()
        .map(|record| SwitchView {
            at: record.at,
            from: record.from.clone(),
            to: record.to.clone(),
            reason: record.reason.clone(),
            evidence: record.evidence.clone(),
            gap: record.gap,
            overlap: record.overlap,
            late: record.late,
            filled: record.filled,
        })
        .collect();
    GroupView {
        name: name.to_owned(),
        shard,
        leader: group.leader().map(str::to_owned),
        pinned: group.leader().filter(|_| group.pinned()).map(str::to_owned),
        replicas: replicas.collect(),
        since: switches.last().map_or(0, |switch| switch.at),
        series: group.series() as u64,
        interval: i64::from(group.interval()),
        counts: counts(group.counts()),
        switches,
        ..GroupView::default()
    }
}

impl Worker {
    /// Once a second.
    pub(super) fn show(&mut self) {
        let (slots, bytes) = self.lane.mailbox.waiting();
        let last = self.member.replica.last();
        let hard = self.member.replica.hard_state();
        let mut stats = ShardStats {
            shard: self.lane.shard.0,
            term: hard.term,
            leads: self.member.replica.leads(),
            leader: self.member.replica.leader().unwrap_or(0),
            members: self.member.replica.members().map(|(id, matched, active)| MemberView { id, matched, active }).collect(),
            messages_dropped: self.lane.mailbox.dropped(),
            last_index: last.index,
            committed: hard.commit,
            applied: self.member.state.applied(),
            queued_offers: slots as u64,
            queued_bytes: bytes as u64,
            unanswered: self.count_waiters() as u64,
            uncommitted_bytes: self.member.replica.uncommitted_bytes() as u64,
            unsynced_ms: self.lane.unsynced_ms.load(Ordering::Relaxed),
            gave_way: self.lane.gave_way.load(Ordering::Relaxed),
            refused: lock(&self.lane.refused).iter().map(|(reason, count)| (*reason, *count)).collect(),
            ..ShardStats::default()
        };
        let mut groups = Vec::new();
        match &self.member.state {
            State::Data(data) => {
                let now = self.mono(clock::now());
                groups.extend(data.groups.iter().map(|(name, place)| GroupView {
                    oddities: self.watched.detector.oddities(now, &place.group),
                    alarm: self.watched.alarms.get(name).cloned(),
                    ..group(self.lane.shard.0, name, place)
                }));
                stats.image = data.image.0;
                stats.waiting_bytes = data.waiting_bytes();
                stats.samples = data.samples;
                stats.emissions = data.emissions;
                stats.kept_bytes = data.bytes;
                stats.series = groups.iter().map(|group: &GroupView| group.series).sum();
                stats.dead = data.dead_letters();
            }
            State::Control(control) => stats.image = control.image,
        }
        let cursors = self.cursors_with_age();
        let mut views = lock(&self.lane.views);
        views.groups = Arc::new(groups);
        views.stats = stats;
        if let Some(cursors) = cursors {
            views.cursors = Arc::new(cursors);
        }
        drop(views);
        self.show_bare();
    }

    /// Positions are shown at once; sizes and ages once a second.
    pub(super) fn show_cursors(&mut self) {
        let State::Data(data) = &self.member.state else { return };
        self.lane.settings.store(data.settings.version, Ordering::Release);
        let mut views = lock(&self.lane.views);
        if views.dead_gone.0 != data.dead.0 || *views.dead_gone.1 != data.resent {
            views.dead_gone = (data.dead.0, Arc::new(data.resent.clone()));
        }
        if *views.settings != data.settings {
            views.settings = Arc::new(data.settings.clone());
        }
        let same = views.cursors.len() == data.sinks.cursors.len()
            && views.cursors.iter().zip(&data.sinks.cursors).all(|(view, (name, cursor))| {
                view.sink == *name
                    && view.epoch == cursor.epoch
                    && view.emission == cursor.emission
                    && view.paused == cursor.paused
                    && view.pending == data.samples - cursor.samples
            });
        if same {
            return;
        }
        let before: BTreeMap<String, CursorView> = views.cursors.iter().map(|view| (view.sink.clone(), view.clone())).collect();
        let cursors = data.sinks.cursors.iter().map(|(name, cursor)| CursorView {
            sink: name.clone(),
            epoch: cursor.epoch,
            emission: cursor.emission,
            delivered: cursor.delivered,
            filtered: cursor.filtered,
            dead: cursor.dead,
            dropped: cursor.dropped,
            pending: data.samples.saturating_sub(cursor.samples),
            paused: cursor.paused,
            ..before.get(name).cloned().unwrap_or_default()
        });
        views.cursors = Arc::new(cursors.collect());
    }

    fn cursors_with_age(&mut self) -> Option<Vec<CursorView>> {
        self.show_cursors();
        let State::Data(data) = &self.member.state else { return None };
        let mut cursors = lock(&self.lane.views).cursors.to_vec();
        for view in &mut cursors {
            let budget = data.settings.sinks.iter().find(|sink| sink.name == view.sink);
            view.budget_bytes = budget.map_or(0, |sink| sink.budget_bytes);
            let before = view.pending_bytes;
            (view.pending_bytes, view.pending_ms) = self.pending(data, view.emission).ok().flatten().unwrap_or_default();
            let grown = view.pending_bytes.saturating_sub(before);
            let left = view.budget_bytes.saturating_sub(view.pending_bytes);
            // Smoothed over some ten seconds: a view is made every second.
            view.bytes_a_second = (view.bytes_a_second * 9 + grown) / 10;
            view.seconds_left = left.checked_div(view.bytes_a_second);
        }
        Some(cursors)
    }
}
