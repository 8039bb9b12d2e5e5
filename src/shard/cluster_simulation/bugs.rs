//! Bugs that are planted to see them found: the simulation of a cluster that keeps every promise proves something only if a cluster that breaks
//! one is caught.
//!
//! Each is a line or two in the simulated shell (`disk` and `process`, `worker`, `keeper`, `sink`, `snapshots`), where the shells of production could have them, too.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The disk says "durable" of a vote when it has only taken it.
    VoteNotSynced,
    /// The same of entries.
    EntriesNotSynced,
    /// A sender hears 2xx when its request has been proposed.
    AnsweredBeforeCommit,
    /// A sink commits its position, then sends the rows.
    PositionBeforeRows,
    /// A sink that begins does not fence its predecessor.
    NotFenced,
    /// A sink that comes again takes up the position that it had before it went.
    EpochForgotten,
    /// The log is cut at the image, whatever waits.
    CutBeforeJudged,
    /// The log is cut at what this member needs, whatever the others lack.
    CutForgetsOthers,
    /// What a standby sent and apply emits is not copied to where it outlives the standby's part of the log.
    BodyNotCopied,
    /// A snapshot is the image alone.
    SnapshotWithoutLog,
    /// A member goes on from a snapshot when it has the image, not the rest.
    InstalledEarly,
    /// A process that begins takes entries of a snapshot that was cut short for the member's own.
    StagedKept,
    /// A node that lost its disk comes back under its old id.
    OldId,
    /// Whoever comes gets a vote at once.
    VoteTooSoon,
    /// Apply takes the time from the clock instead of the entry.
    ApplyReadsClock,
    /// A new leader goes by its own clock, which is behind.
    ClockBehind,
    /// A new leader proposes what it is asked before it has applied what its predecessors left, so before it knows their time.
    AskedTooSoon,
    /// Whoever leads no more says 2xx to all who wait: somebody will have it.
    AnsweredOnLoss,
    /// A node whose clock is known to be wrong stamps entries by it, as long as it leads.
    WrongClockBelieved,
    /// A node whose clock is known to be wrong leads on.
    WrongClockLeads,
    /// A budget's cut does not say how many samples it lets go.
    CutUncounted,
    /// What is over a budget is deleted before the shard has agreed on the cut.
    CutUnsaid,
    /// A sink goes on without a row that was refused before that is a dead letter.
    DeadUnsaid,
    /// A node whose disk has lost what was acknowledged starts as if nothing were.
    MarkIgnored,
    /// A node that lost its disk on its way in comes back under the id that it was to have.
    ComerOldId,
    /// A sink counts from what it has read itself, not from what stands in the emission.
    CountedByMemory,
    /// Digests say no values.
    ValuesUnsaid,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 27] = [
        Bug::VoteNotSynced,
        Bug::EntriesNotSynced,
        Bug::AnsweredBeforeCommit,
        Bug::PositionBeforeRows,
        Bug::NotFenced,
        Bug::EpochForgotten,
        Bug::CutBeforeJudged,
        Bug::CutForgetsOthers,
        Bug::BodyNotCopied,
        Bug::SnapshotWithoutLog,
        Bug::InstalledEarly,
        Bug::StagedKept,
        Bug::OldId,
        Bug::VoteTooSoon,
        Bug::ApplyReadsClock,
        Bug::ClockBehind,
        Bug::AskedTooSoon,
        Bug::AnsweredOnLoss,
        Bug::WrongClockBelieved,
        Bug::WrongClockLeads,
        Bug::CutUncounted,
        Bug::CutUnsaid,
        Bug::DeadUnsaid,
        Bug::MarkIgnored,
        Bug::ComerOldId,
        Bug::CountedByMemory,
        Bug::ValuesUnsaid,
    ];
}
