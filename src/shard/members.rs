//! Who takes part in the cluster, and how a shard's seats come to follow: one small change at a time, each proposed by the shard's leader, so that
//! whatever is interrupted goes on by itself.
//!
//! A list of nodes stands in the control shard; everything else follows from it. A node that joins is a learner first, takes what it lacks, and gets
//! a vote only when it keeps up; who leaves goes only when all who shall stay have come, but before the new one's vote: so no step asks for more
//! living nodes than the one before.
//!
//! Left out on purpose: how nodes reach each other (`peer`), who may ask for a change (`api`).

use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;

/// Nodes in a cluster, comers and goers included.
pub const MOST_NODES: usize = 16;

/// What a node is to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One of it.
    Member,
    /// Becoming one of it.
    Joining,
    /// On its way out, living or not.
    Leaving,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: u64,
    /// Its name in the configuration.
    pub name: String,
    /// What it is to the cluster.
    pub role: Role,
}

/// All nodes of a cluster. Version 0: as founded, never changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// Grows by one with every change.
    pub version: u64,
    /// By id.
    pub nodes: Vec<Node>,
}

impl Nodes {
    /// Nobody comes and nobody goes.
    pub fn is_settled(&self) -> bool {
        self.nodes.iter().all(|node| node.role == Role::Member)
    }

    /// Whether this one shall have a seat in every shard.
    pub fn stays(&self, id: u64) -> bool {
        self.staying().any(|other| other == id)
    }

    /// Who shall have a seat in every shard.
    fn staying(&self) -> impl Iterator<Item = u64> {
        self.nodes.iter().filter(|node| node.role != Role::Leaving).map(|node| node.id)
    }

    /// As it is when nobody comes or goes any more.
    pub fn settled(&self) -> Nodes {
        let staying = self.nodes.iter().filter(|node| node.role != Role::Leaving);
        let nodes = staying.map(|node| Node { role: Role::Member, ..node.clone() }).collect();
        Nodes { version: self.version + 1, nodes }
    }

    /// What cannot be, in words.
    pub fn wrong(&self) -> Option<&'static str> {
        let mut ids: Vec<u64> = self.nodes.iter().map(|node| node.id).collect();
        ids.sort_unstable();
        if ids.contains(&0) || ids.windows(2).any(|pair| pair[0] == pair[1]) {
            Some("every node has an id of its own")
        } else if !self.nodes.iter().any(|node| node.role == Role::Member) {
            Some("a cluster has a member")
        } else if self.nodes.len() > MOST_NODES {
            Some("a cluster has 16 nodes at most")
        } else {
            None
        }
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.number(self.version);
        out.number(self.nodes.len() as u64);
        for node in &self.nodes {
            out.fixed(node.id);
            out.text(&node.name);
            out.byte(match node.role {
                Role::Member => 0,
                Role::Joining => 1,
                Role::Leaving => 2,
            });
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Nodes, Malformed> {
        let (version, mut nodes) = (from.number()?, Vec::new());
        for _ in 0..from.count(10)? {
            let (id, name) = (from.fixed()?, from.text()?.to_owned());
            let role = match from.byte()? {
                0 => Role::Member,
                1 => Role::Joining,
                2 => Role::Leaving,
                _ => return Err(Malformed::Impossible("a node of this kind")),
            };
            nodes.push(Node { id, name, role });
        }
        Ok(Nodes { version, nodes })
    }
}

/// Who takes part in a shard: ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seats {
    /// Have a vote.
    pub voters: Vec<u64>,
    /// Get the log, and have none.
    pub learners: Vec<u64>,
}

impl Seats {
    /// Exactly those who shall stay have a vote, and nobody else has a seat.
    pub fn follow(&self, nodes: &Nodes) -> bool {
        self.learners.is_empty()
            && nodes.staying().all(|id| self.voters.contains(&id))
            && self.voters.iter().all(|&voter| nodes.staying().any(|id| id == voter))
    }
}

/// One change of a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new one gets the log.
    Learner(u64),
    /// One that keeps up gets a vote.
    Voter(u64),
    /// One goes.
    Remove(u64),
}

/// What the leader of a shard has to do next, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Propose this.
    Change(Change),
    /// Let another one lead: this one is to go.
    HandOver,
}

fn without_seat(seats: &Seats, nodes: &Nodes) -> Option<u64> {
    nodes.staying().find(|id| !seats.voters.contains(id) && !seats.learners.contains(id))
}

/// What the leader `own` of the control shard does while the other shards are still on their way. Whoever comes reads the list at once, before it
/// may lead anything: a leader that knew no list could not go on. Whoever goes lets another one see to the rest: nobody may have told it that it
/// has gone from the others, so it would wait for ever.
pub fn meanwhile(own: u64, seats: &Seats, nodes: &Nodes) -> Option<Step> {
    match without_seat(seats, nodes) {
        _ if !seats.voters.contains(&own) => Some(Step::HandOver),
        Some(id) => Some(Step::Change(Change::Learner(id))),
        None => (!nodes.stays(own)).then_some(Step::HandOver),
    }
}

/// The next step towards `nodes`, for the leader `own` of a shard with these seats. `None`: nothing to do, or not yet.
pub fn next_step(own: u64, seats: &Seats, nodes: &Nodes, keeps_up: impl Fn(u64) -> bool) -> Option<Step> {
    if !seats.voters.contains(&own) {
        // Its predecessor proposed that it goes, it was elected, and then that was committed. Raft takes no proposal of such a leader, and does not end it.
        return Some(Step::HandOver);
    }
    if let Some(id) = without_seat(seats, nodes) {
        return Some(Step::Change(Change::Learner(id)));
    }
    let learners = || nodes.staying().filter(|id| seats.learners.contains(id));
    let all_came = learners().all(&keeps_up);
    let gone = seats.voters.iter().chain(&seats.learners).copied().filter(|&id| !nodes.staying().any(|other| other == id));
    // A dead one goes before a living one, and the leader last.
    let next = gone.min_by_key(|&id| (id == own, keeps_up(id)));
    match next.filter(|_| all_came) {
        Some(id) if id == own => Some(Step::HandOver),
        Some(id) => Some(Step::Change(Change::Remove(id))),
        None => learners().find(|&id| keeps_up(id)).map(|id| Step::Change(Change::Voter(id))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(all: &[(u64, Role)]) -> Nodes {
        let node = |&(id, role): &(u64, Role)| Node { id, name: format!("n{id}"), role };
        Nodes { version: 3, nodes: all.iter().map(node).collect() }
    }

    /// All steps from `seats` until nothing is left to do. `dead` never keep up.
    fn walk(own: u64, mut seats: Seats, nodes: &Nodes, dead: &[u64]) -> (Vec<Step>, Seats) {
        let mut steps = Vec::new();
        while let Some(step) = next_step(own, &seats, nodes, |id| !dead.contains(&id)) {
            steps.push(step);
            match step {
                Step::HandOver => break,
                Step::Change(Change::Learner(id)) => seats.learners.push(id),
                Step::Change(Change::Voter(id)) => {
                    seats.learners.retain(|other| *other != id);
                    seats.voters.push(id);
                }
                Step::Change(Change::Remove(id)) => {
                    seats.voters.retain(|other| *other != id);
                    seats.learners.retain(|other| *other != id);
                }
            }
            let living = seats.voters.iter().filter(|id| !dead.contains(id)).count();
            assert!(2 * living > seats.voters.len(), "no majority is left after {steps:?}");
        }
        (steps, seats)
    }

    #[test]
    fn a_dead_node_is_replaced_without_ever_needing_it() {
        use Change::*;
        let goal = nodes(&[(1, Role::Member), (2, Role::Member), (3, Role::Leaving), (4, Role::Joining)]);
        let begin = Seats { voters: vec![1, 2, 3], learners: vec![] };
        let (steps, seats) = walk(1, begin.clone(), &goal, &[3]);
        assert_eq!(steps, [Learner(4), Remove(3), Voter(4)].map(Step::Change));
        assert!(seats.follow(&goal) && !begin.follow(&goal));
        // The new one is slow: nobody goes before it has come.
        assert_eq!(walk(1, begin, &goal, &[3, 4]).0, [Step::Change(Learner(4))]);
    }

    #[test]
    fn one_grows_into_three_and_a_leader_that_goes_hands_over_first() {
        use Change::*;
        let goal = nodes(&[(1, Role::Member), (2, Role::Joining), (3, Role::Joining)]);
        let (steps, seats) = walk(1, Seats { voters: vec![1], learners: vec![] }, &goal, &[]);
        assert_eq!(steps, [Learner(2), Learner(3), Voter(2), Voter(3)].map(Step::Change));
        assert!(seats.follow(&goal.settled()));
        let goal = nodes(&[(1, Role::Leaving), (2, Role::Member), (3, Role::Member)]);
        assert_eq!(walk(1, seats.clone(), &goal, &[]).0, [Step::HandOver]);
        assert_eq!(walk(2, seats, &goal, &[]).0, [Step::Change(Remove(1))]);
        // It was elected while its own removal was on its way.
        let others = Seats { voters: vec![2, 3], learners: vec![] };
        assert_eq!(walk(1, others.clone(), &goal, &[]).0, [Step::HandOver]);
        assert_eq!(meanwhile(1, &others, &goal), Some(Step::HandOver));
    }

    #[test]
    fn a_control_leader_that_goes_does_not_wait_for_what_it_may_never_hear() {
        let goal = nodes(&[(1, Role::Leaving), (2, Role::Member), (3, Role::Joining)]);
        let seats = |voters: &[u64], learners: &[u64]| Seats { voters: voters.to_vec(), learners: learners.to_vec() };
        assert_eq!(meanwhile(1, &seats(&[1, 2], &[]), &goal), Some(Step::Change(Change::Learner(3))));
        assert_eq!(meanwhile(1, &seats(&[1, 2], &[3]), &goal), Some(Step::HandOver));
        assert_eq!(meanwhile(2, &seats(&[1, 2], &[3]), &goal), None);
        assert!(goal.stays(3) && !goal.stays(1) && !goal.stays(4));
    }

    #[test]
    fn lists_read_as_written_and_nonsense_is_named() {
        let goal = nodes(&[(1, Role::Leaving), (u64::MAX, Role::Member), (3, Role::Joining)]);
        let mut bytes = Vec::new();
        goal.write(&mut Writer(&mut bytes));
        assert_eq!(Nodes::read(&mut Reader(&bytes)), Ok(goal.clone()));
        (0..bytes.len()).for_each(|end| assert!(Nodes::read(&mut Reader(&bytes[..end])).is_err()));
        assert_eq!(goal.wrong(), None);
        assert!(nodes(&[(1, Role::Member), (1, Role::Joining)]).wrong().is_some());
        assert!(nodes(&[(1, Role::Leaving)]).wrong().is_some());
    }
}
