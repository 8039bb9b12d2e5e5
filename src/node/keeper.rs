//! A shard's housekeeping, by its leader: what is due, images, forgetting, budgets, giving back space, views. All by proposing entries, but
//! for deleting (each member for itself) and views.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::node::mailbox::Ask;
use crate::node::mailbox::Wanted;
use crate::node::view::Progress;
use crate::node::worker::Worker;
use crate::shard::command::Command;
use crate::shard::command::DropUpTo;
use crate::shard::command::Founding;
use crate::shard::command::Policy;
use crate::shard::data::Data;
use crate::shard::entry::Entry;
use crate::shard::member::Free;
use crate::shard::member::Op;
use crate::shard::member::State;
use crate::shard::member::Turn;
use crate::store::identity;

/// A budget's cut leaves this share of the budget, percent, so that it is not cut again at once.
const CUT_TO: u64 = 90;
/// Groups forgotten in one round; the others follow in the next.
const FORGET_AT_ONCE: usize = 64;

/// When what was done last.
pub(super) struct Keeper {
    /// Something happened that an image should hold.
    pub changed: bool,
    /// Log bytes since the last image.
    pub logged: u64,
    /// As published last.
    pub leads: bool,
    /// As published last.
    pub leader: u64,
    due: Instant,
    image: Instant,
    forget: Instant,
    free: Instant,
    view: Instant,
    detect: Instant,
    /// The group with which the next round of forgetting begins; `None`: with the first.
    forget_from: Option<String>,
    /// Index of an image that is proposed and not taken.
    image_at: Option<u64>,
    freed: Free,
    founding: bool,
}

impl Keeper {
    pub fn new(now: Instant) -> Keeper {
        let (due, image, forget, free, view, detect) = (now, now, now, now, now, now);
        let (changed, logged, leads, image_at, freed, founding, forget_from) = (false, 0, false, None, Free::default(), false, None);
        let leader = 0;
        Keeper { changed, logged, leads, leader, due, image, forget, free, view, detect, forget_from, image_at, freed, founding }
    }

    pub fn image_open(&self) -> bool {
        self.image_at.is_some()
    }

    pub fn image_proposed(&mut self, index: u64, now: Instant) {
        (self.image_at, self.image) = (Some(index), now);
    }

    pub fn image_taken(&mut self, index: u64) {
        if self.image_at.is_none_or(|at| at <= index) {
            self.image_at = None;
        }
        (self.changed, self.logged) = (false, 0);
    }
}

fn passed(since: &mut Instant, now: Instant, every: Duration) -> bool {
    let passed = now.saturating_duration_since(*since) >= every;
    if passed {
        *since = now;
    }
    passed
}

impl Worker {
    /// Once a turn.
    pub(super) fn keep(&mut self, now: Instant) -> Result<(), String> {
        if self.member.replica.leads_surely() {
            self.found();
            self.tick_if_due(now);
            let old = now.saturating_duration_since(self.keeper.image) >= self.timing.image;
            if self.keeper.changed && (old || self.keeper.logged >= self.timing.image_bytes) {
                self.propose_image(now);
            }
            if passed(&mut self.keeper.forget, now, self.timing.forget) {
                self.forget(now);
            }
            if passed(&mut self.keeper.detect, now, self.timing.detect) {
                self.detect(now);
            }
        } else {
            self.forget_observations();
            (self.keeper.image_at, self.keeper.founding) = (None, false); // they may never be committed
        }
        if passed(&mut self.keeper.free, now, self.timing.free) {
            self.free()?;
        }
        if passed(&mut self.keeper.view, now, self.timing.view) {
            self.budgets()?;
            self.tend_outgoing(now);
            self.reseat();
            self.weigh(now);
            self.mind_room();
            self.balance(now);
            self.show();
            self.publish();
        }
        Ok(())
    }

    /// A cluster of one founds itself; one of several was founded by an operator, and this writes down what was agreed on.
    fn found(&mut self) {
        let State::Control(control) = &self.member.state else { return };
        if control.founding.is_some() || self.keeper.founding {
            return;
        }
        if let Some(together) = &self.shared.together {
            self.keeper.founding = true;
            return self.say(Command::Found(together.founding));
        }
        let random = || identity::random().unwrap_or_else(|_| fastrand::u64(..));
        let cluster = u128::from(random()) << 64 | u128::from(random());
        let founding = Founding { cluster, seed: random(), data_shards: self.shared.data_shards };
        self.keeper.founding = true;
        self.say(Command::Found(founding));
    }

    fn say(&self, command: Command) {
        // Full: it will be said again in the next round.
        let _ = self.lane.mailbox.ask(Ask { wanted: Wanted::Command(command), reply: None });
    }

    fn tick_if_due(&mut self, now: Instant) {
        if now.saturating_duration_since(self.keeper.due) < self.timing.due {
            return;
        }
        let at = self.at(now);
        let State::Data(data) = &self.member.state else { return };
        if data.next_due().is_some_and(|due| due <= at) {
            self.keeper.due = now;
            // Not taken: the next round tries again.
            let _ = self.member.propose(at, &Entry::Tick);
        }
    }

    /// Proposes an `Image` entry unless one is on its way; says whether one is.
    pub(super) fn propose_image(&mut self, now: Instant) -> bool {
        if self.keeper.image_open() {
            return true;
        }
        let at = self.at(now);
        match self.member.propose(at, &Entry::Image) {
            Ok(place) => {
                self.keeper.image_proposed(place.index, now);
                true
            }
            Err(_) => false,
        }
    }

    /// Old series of all groups, and replicas that have been silent for an hour.
    fn forget(&mut self, now: Instant) {
        let at = self.at(now);
        let State::Data(data) = &self.member.state else { return };
        let named: Vec<(String, Vec<String>)> = data
            .groups
            .iter()
            .map(|(name, place)| (name.clone(), place.group.silent(at).into_iter().map(str::to_owned).collect()))
            .collect();
        // A round goes on where the last one ended, so that no group waits for ever behind others.
        let begin = self.keeper.forget_from.take().map_or(0, |name| named.partition_point(|(group, _)| *group < name));
        let turn = named.iter().skip(begin).take(FORGET_AT_ONCE);
        self.keeper.forget_from = named.get(begin + FORGET_AT_ONCE).map(|(group, _)| group.clone());
        for (group, silent) in turn.cloned() {
            let _ = self.member.propose(at, &Entry::Forget { group: &group });
            for replica in silent {
                self.say(Command::ForgetReplica { group: group.clone(), replica });
            }
        }
    }

    /// Deletes what nobody needs.
    fn free(&mut self) -> Result<(), String> {
        let mut failed = None;
        let after = match &self.member.state {
            State::Data(data) => {
                let done = data.done();
                if done < data.emissions {
                    match self.emission(done + 1) {
                        Ok(found) => found.map(|emission| emission.floor),
                        Err(error) => {
                            failed = Some(error);
                            None
                        }
                    }
                } else {
                    None
                }
            }
            State::Control(_) => None,
        };
        if let Some(error) = failed {
            return Err(error);
        }
        let Some(free) = self.member.free(|_| after) else { return Ok(()) };
        if free == self.keeper.freed {
            return Ok(());
        }
        self.keeper.freed = free;
        self.carry_out(Turn { ops: vec![Op::Free(free)], ..Turn::default() })
    }

    /// Sinks above their budgets: the oldest goes by an entry, or nothing more comes in.
    fn budgets(&mut self) -> Result<(), String> {
        let State::Data(data) = &self.member.state else { return Ok(()) };
        let (mut refuse, mut drops) = (false, Vec::new());
        for sink in &data.settings.sinks {
            let Some(cursor) = data.sinks.cursors.get(&sink.name) else { continue };
            let Some((bytes, age)) = self.pending(data, cursor.emission)? else { continue };
            if bytes <= sink.budget_bytes && age <= sink.budget_ms {
                continue;
            }
            match sink.policy {
                Policy::Refuse => refuse = true,
                Policy::DropOldest => {
                    let (most, oldest) = (sink.budget_bytes / 100 * CUT_TO, data.at - sink.budget_ms);
                    let up_to = self.last_over(data, cursor.emission, most, oldest)?;
                    if up_to > cursor.emission {
                        drops.push(DropUpTo { sink: sink.name.clone(), epoch: cursor.epoch, up_to, samples: 0 });
                    }
                }
            }
        }
        self.refuse(refuse);
        if self.member.replica.leads_surely() {
            for drop in drops {
                tracing::warn!(
                    shard = self.lane.shard.0,
                    sink = drop.sink,
                    up_to = drop.up_to,
                    "a sink is over its budget: its oldest samples are dropped"
                );
                self.say(Command::Drop(drop));
            }
        }
        Ok(())
    }

    /// Log bytes that stay for a sink that is done with this emission, and the age of the oldest, ms; `None`: nothing does.
    pub(super) fn pending(&self, data: &Data, done: u64) -> Result<Option<(u64, i64)>, String> {
        if done >= data.emissions {
            return Ok(None);
        }
        let next = self.emission(done + 1)?;
        Ok(next.map(|next| (data.bytes.saturating_sub(next.bytes_before), data.at - next.at)))
    }

    /// The last emission after `done` that has more than `most` bytes after it, or is from before `oldest`.
    fn last_over(&self, data: &Data, done: u64, most: u64, oldest: i64) -> Result<u64, String> {
        let (mut low, mut high) = (done, data.emissions);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let over = match self.emission(middle)? {
                Some(emission) => data.bytes.saturating_sub(emission.bytes_before) > most || emission.at < oldest,
                None => true,
            };
            if over { low = middle } else { high = middle - 1 }
        }
        Ok(low)
    }

    /// Tells everybody how far the shard is.
    pub(super) fn publish(&mut self) {
        self.show_cursors();
        self.show_seats();
        let leads = self.member.replica.leads_surely();
        let leader = self.member.replica.leader().unwrap_or(0);
        if self.keeper.leads && !leads {
            self.lane.stay(None); // it was lost, so who has it by now may be anybody
        }
        (self.keeper.leads, self.keeper.leader) = (leads, leader);
        if leader != 0 {
            self.lane.led(crate::clock::now());
        }
        let mut progress = Progress { leads, leader, term: self.member.replica.hard_state().term, ..Progress::default() };
        match &self.member.state {
            State::Data(data) => {
                progress.applied = data.applied;
                progress.last_emission = data.emissions;
                progress.oldest_emission = data.done() + 1;
                progress.samples = data.samples;
                progress.sinks_version = data.sinks.version;
                progress.at = data.at;
            }
            State::Control(control) => {
                (progress.applied, progress.at) = (control.applied, control.at);
                let mut views = crate::node::lane::lock(&self.lane.views);
                if views.assigned.len() != control.groups.len() {
                    views.assigned = Arc::new(control.groups.clone());
                }
                views.cluster_settings = Arc::clone(&control.settings);
                views.founding = control.founding;
                views.level = control.level();
                if let Err(why) = self.shared.settings.levels.check(views.level) {
                    self.shared.fatal.end(why);
                }
                if views.nodes.version != control.nodes.version {
                    views.nodes = Arc::new(control.nodes.clone());
                }
                views.tokens = Arc::clone(&control.tokens);
                views.verdicts = Arc::clone(&control.verdicts);
                views.alerts = Arc::clone(&control.alerts);
                views.pushed = Arc::clone(control.pushed.groups());
            }
        }
        self.lane.progress.send_if_modified(|before| {
            let changed = *before != progress;
            *before = progress;
            changed
        });
    }
}
