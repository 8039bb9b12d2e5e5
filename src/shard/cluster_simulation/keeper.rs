//! A shard's housekeeping: `node::keeper` without threads and views. What is due, images, forgetting, detection, giving back space, each as often
//! as `node` does it or oftener; all by proposing entries, but for deleting.
//!
//! Left out: replicas that were silent for an hour.

use super::bugs::Bug;
use super::process::Host;
use super::process::Job;
use super::stage::Stage;
use super::stage::node_of;
use super::worker::Worker;
use crate::shard::command::Command;
use crate::shard::command::DropUpTo;
use crate::shard::command::Founding;
use crate::shard::command::Policy;
use crate::shard::command::SinkSettings;
use crate::shard::command::SwitchTo;
use crate::shard::emission::Emission;
use crate::shard::entry::Entry;
use crate::shard::member::Free;
use crate::shard::member::Op;
use crate::shard::member::State;

/// Between two `Tick` entries, looks at who should lead, rounds of forgetting, proposals of what a new shard needs, ms.
const DUE: i64 = 250;
const DETECT: i64 = 500;
const FORGET: i64 = 15_000;
const BEGIN: i64 = 1_000;
/// Between two looks at snapshots that are given, and at who has a seat.
const VIEW: i64 = 1_000;

/// When what was done last, by the process' own clock.
pub struct Keeper {
    pub changed: bool,
    /// The seats are to be looked at.
    pub look: bool,
    /// A sink that refuses above its budget is above it.
    pub refuses: bool,
    due: i64,
    image: i64,
    detect: i64,
    forget: i64,
    free: i64,
    begin: i64,
    view: i64,
    image_at: Option<u64>,
    freed: Free,
}

impl Keeper {
    pub fn new() -> Keeper {
        let (due, image, detect, forget, free, begin, view) = (0, 0, 0, 0, 0, -BEGIN, 0);
        Keeper {
            changed: false,
            look: false,
            refuses: false,
            due,
            image,
            detect,
            forget,
            free,
            begin,
            view,
            image_at: None,
            freed: Free::default(),
        }
    }

    pub fn image_taken(&mut self, index: u64) {
        if self.image_at.is_none_or(|at| at <= index) {
            self.image_at = None;
        }
        self.changed = false;
    }
}

fn passed(since: &mut i64, now: i64, every: i64) -> bool {
    let passed = now - *since >= every;
    if passed {
        *since = now;
    }
    passed
}

impl Worker {
    /// Once a turn.
    pub(super) fn keep(&mut self, host: &Host, stage: &mut Stage, jobs: &mut Vec<Job>) {
        let now = self.mono(host, stage);
        let at = self.at(host, stage);
        if self.member.replica.leads_surely() {
            if passed(&mut self.keeper.begin, now, BEGIN) {
                self.begin(at, stage);
            }
            if now - self.keeper.due >= DUE
                && matches!(&self.member.state, State::Data(data) if data.next_due().is_some_and(|due| due <= at))
            {
                self.keeper.due = now;
                let _ = self.member.propose(at, &Entry::Tick);
            }
            let old = now - self.keeper.image >= stage.shape.image;
            if self.keeper.changed
                && old
                && self.keeper.image_at.is_none()
                && let Ok(place) = self.member.propose(at, &Entry::Image)
            {
                (self.keeper.image_at, self.keeper.image) = (Some(place.index), now);
            }
            if passed(&mut self.keeper.forget, now, FORGET) {
                self.forget(at);
            }
            if passed(&mut self.keeper.detect, now, DETECT) {
                self.detect(now, at, stage);
            }
        } else {
            self.detector = Default::default();
            self.keeper.image_at = None;
        }
        if passed(&mut self.keeper.free, now, stage.shape.free) {
            self.free(host, stage, jobs);
        }
        if passed(&mut self.keeper.view, now, VIEW) {
            self.keeper.look = true;
            self.budgets(host);
            self.stand_aside(host, stage);
            self.tend_outgoing(now);
            self.member.replica.press(host.is_full(stage.now));
            stage.ledger.pressed |= host.is_full(stage.now);
        }
    }

    /// What a shard needs at its very beginning, and what it is to do since.
    fn begin(&mut self, at: i64, stage: &Stage) {
        let command = match &self.member.state {
            State::Control(control) if control.founding.is_none() => {
                Command::Found(Founding { cluster: 7, seed: 99, data_shards: stage.shape.data_shards })
            }
            State::Data(data) if data.settings.version < stage.settings.version => Command::Settings(stage.settings.clone()),
            _ => return,
        };
        let _ = self.member.propose(at, &Entry::Command(command));
    }

    fn forget(&mut self, at: i64) {
        let State::Data(data) = &self.member.state else { return };
        for group in data.groups.keys().cloned().collect::<Vec<_>>() {
            let _ = self.member.propose(at, &Entry::Forget { group: &group });
        }
    }

    fn detect(&mut self, now: i64, at: i64, stage: &Stage) {
        let State::Data(data) = &self.member.state else { return };
        let findings = self.detector.check(now as u64, data.groups.values().map(|place| &place.group));
        for found in findings.proposals {
            stage.say(|| format!("shard {}: {} should go to {} ({})", self.shard.0, found.group, found.to, found.reason));
            let (group, from, to, reason, evidence) = (found.group, found.from, found.to, found.reason.to_owned(), found.evidence);
            let _ = self.member.propose(at, &Entry::Command(Command::Switch(SwitchTo { group, from, to, reason, evidence })));
        }
    }

    /// Sinks above their budgets: the oldest goes by an entry, or nothing more comes in.
    fn budgets(&mut self, host: &Host) {
        let State::Data(data) = &self.member.state else { return };
        let (mut refuses, mut cuts) = (false, Vec::new());
        for sink in &data.settings.sinks {
            let Some(cursor) = data.sinks.cursors.get(&sink.name) else { continue };
            let Some(up_to) = self.over_budget(sink, cursor.emission, host) else { continue };
            match sink.policy {
                Policy::Refuse => refuses = true,
                Policy::DropOldest => cuts.push(DropUpTo { sink: sink.name.clone(), epoch: cursor.epoch, up_to, samples: 0 }),
            }
        }
        self.keeper.refuses = refuses;
        if self.member.replica.leads_surely() {
            self.mail.commands.extend(cuts.into_iter().map(Command::Drop));
        }
    }

    /// The last emission that is to be let go, if what stays for the sink is more than it may be.
    fn over_budget(&self, sink: &SinkSettings, done: u64, host: &Host) -> Option<u64> {
        let State::Data(data) = &self.member.state else { return None };
        let next = self.emission(done + 1, host)?;
        let bytes = |emission: &Emission| data.bytes.saturating_sub(emission.bytes_before);
        if bytes(&next) <= sink.budget_bytes && data.at - next.at <= sink.budget_ms {
            return None;
        }
        let (most, oldest) = (sink.budget_bytes / 100 * 90, data.at - sink.budget_ms);
        let over = |number: &u64| self.emission(*number, host).is_none_or(|emission| bytes(&emission) > most || emission.at < oldest);
        (done + 1..=data.emissions).take_while(over).last()
    }

    /// A node that is drained, or whose clock is wrong, leads nothing that another one can lead at once (`node::leadership`).
    fn stand_aside(&mut self, host: &Host, stage: &Stage) {
        let replica = &mut self.member.replica;
        if !replica.leads_surely() || replica.is_handing_over() || !stage.stands_aside(host.node) {
            return;
        }
        if stage.has(Bug::WrongClockLeads) && stage.clock_is_off(host.node) {
            return;
        }
        let fit: Vec<u64> =
            replica.seats().voters.into_iter().filter(|&id| replica.keeps_up(id) && !stage.stands_aside(node_of(id))).collect();
        if replica.hand_over(|id| fit.contains(&id)) {
            stage.say(|| format!("n{} hands shard {} over", host.node, self.shard.0));
        }
    }

    /// Deletes what nobody needs.
    fn free(&mut self, host: &Host, stage: &mut Stage, jobs: &mut Vec<Job>) {
        let floor = match &self.member.state {
            State::Data(data) => {
                let mut done = data.done();
                if stage.has(Bug::CutUnsaid) {
                    let over = data.settings.sinks.iter().filter_map(|sink| self.over_budget(sink, done, host));
                    done = over.max().unwrap_or(done);
                }
                self.emission(done + 1, host).map(|emission| emission.floor)
            }
            State::Control(_) => None,
        };
        if stage.has(Bug::CutForgetsOthers) {
            let own = self.member.replica.last().index;
            self.member.replica.learn_floor(own);
        }
        let Some(mut free) = self.member.free(|_| floor) else { return };
        if let State::Data(data) = &self.member.state
            && stage.has(Bug::CutBeforeJudged)
        {
            free.truncated = self.member.replica.truncate(data.image.0).unwrap_or(self.member.replica.known().truncated);
            free.standby_below = free.truncated.index + 1;
        }
        if free != self.keeper.freed {
            self.keeper.freed = free;
            self.write(Op::Free(free), stage, jobs);
        }
    }
}
