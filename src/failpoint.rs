//! Places where a test lets the process die: before and after every step that puts something on the disk, tells it to others, or takes it back.
//!
//! `SLUICE_FAILPOINT=NAME` lets it die (SIGKILL, by its own hand) when it first comes to that place, `NAME:3` when it comes there the third time;
//! `NAME:3:hang` lets the thread that comes there stand still for ever instead, which a watchdog ends (`tests/e2e/service.rs`), or of which a sink is relieved (`crash.rs` beside it).
//! Compiled in always, so that what is tested is what is shipped: where nothing is armed a place costs one read of memory, and none of them
//! is on the way of a single sample. A test goes through all names there are (`tests/e2e/edges.rs`), so a new place is tested or fails it.
//!
//! Left out on purpose: errors and pauses that end at such places (tests have a disk that fails and processes that stand still for that), and the loss of what was
//! written and not synced, which only a simulation can show (`shard::cluster_simulation`).

use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// The variable that arms a place.
pub const VARIABLE: &str = "SLUICE_FAILPOINT";

macro_rules! places {
    ($($(#[$doc:meta])* $place:ident = $name:literal,)*) => {
        /// A place. Names say what has just been done, or is about to be.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Place {
            $($(#[$doc])* $place,)*
        }

        impl Place {
            /// All of them.
            pub const ALL: &'static [Place] = &[$(Place::$place,)*];

            /// As the variable names it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Place::$place => $name,)*
                }
            }
        }
    };
}

places! {
    /// The writer has entries and has written nothing of them.
    LogUnwritten = "log.unwritten",
    /// Entries are written and not synced.
    LogWritten = "log.written",
    /// Entries are durable, and nobody was told.
    LogSynced = "log.synced",
    /// A term or a vote is durable, and the mark of what was promised is not.
    PromiseUnmarked = "promise.unmarked",
    /// The mark is durable, and the promise not given.
    PromiseMarked = "promise.marked",
    /// Messages for other members are made and not sent.
    MessagesUnsent = "messages.unsent",
    /// They were handed to the network.
    MessagesSent = "messages.sent",
    /// Entries were applied and what follows from them handed to the writer, and nobody who waits was answered.
    AppliedUnanswered = "applied.unanswered",
    /// An image of the state is about to be handed to the writer.
    ImageMade = "image.made",
    /// The log is about to be cut.
    CutUnwritten = "cut.unwritten",
    /// Messages for receivers of alerts are noted as on their way, and not sent.
    AlertClaimed = "alert.claimed",
    /// One was sent, and it is not noted that it was taken.
    AlertSent = "alert.sent",
    /// It is cut durably, and its room not given back.
    CutSynced = "cut.synced",
    /// Files of what was cut are gone, what is left of it is not compacted.
    RoomHalfBack = "room.half_back",
    /// New members of a shard are committed and about to be handed to the writer.
    MembersCommitted = "members.committed",
    /// A change of a shard's seats was proposed.
    SeatProposed = "seat.proposed",
    /// The list of nodes was changed.
    NodesChanged = "nodes.changed",
    /// A leader has asked another one to lead.
    HandedOver = "leadership.handed_over",
    /// A member may fetch a snapshot from here.
    SnapshotOffered = "snapshot.offered",
    /// A piece of a snapshot was read for a member, and is not sent.
    SnapshotRead = "snapshot.read",
    /// The last piece that came was handed to the writer.
    SnapshotStaged = "snapshot.staged",
    /// All pieces are there, and the member goes on without them still.
    SnapshotComplete = "snapshot.complete",
    /// The member has begun anew, and may not be durable.
    SnapshotInstalled = "snapshot.installed",
    /// A node's secrets are partly written by `cluster join`.
    JoinHalf = "join.half",
    /// The founders have agreed, and this one has not written it down.
    CharterUnwritten = "charter.unwritten",
    /// The charter is written, and there are no data.
    CharterWritten = "charter.written",
    /// Data were begun, and the charter does not say so.
    DataBegun = "data.begun",
    /// A sink has fenced its predecessor.
    SinkFenced = "sink.fenced",
    /// Rows are in a transaction, and not their position.
    SinkFilled = "sink.filled",
    /// Rows and position are in a transaction that is not committed.
    SinkPositioned = "sink.positioned",
    /// Kafka has committed, and the log does not know.
    SinkCommitted = "sink.committed",
    /// A store has taken a round, and the log does not know.
    StoreTaken = "store.taken",
    /// What it refused for good is a dead letter, and the rest of the round is not done.
    StoreBuried = "store.buried",
    /// A file of rows was begun, and is empty.
    FileBegun = "file.begun",
    /// Rows are in it for good, and nothing says so.
    FileWritten = "file.written",
    /// The place beside it says so, and the log does not know.
    FilePlaced = "file.placed",
    /// It is finished and has its name.
    FileFinished = "file.finished",
    /// Dead letters were sent again, and the log does not know.
    LettersResent = "letters.resent",
    /// New settings were agreed on, and this node's parts are as before.
    SettingsAgreed = "settings.agreed",
    /// Sinks that go have stopped, and the shards know them still.
    SettingsHalf = "settings.half",
    /// New certificates are read and not used.
    CertificatesRead = "certificates.read",
    /// A backup's database is written, and nothing says what it is.
    BackupHalf = "backup.half",
    /// A backup is whole, and does not have its name.
    BackupUnnamed = "backup.unnamed",
    /// A backup's database is copied, and not where it belongs.
    RestoreCopied = "restore.copied",
    /// It is where it belongs, and has no identity.
    RestoreMoved = "restore.moved",
    /// What was restored begins new epochs, and is the old cluster still.
    RestoreUnsettled = "restore.unsettled",
    /// Some shards have this node as their only member.
    RecoverHalf = "recover.half",
    /// All have, and the charter does not say so.
    RecoverUnwritten = "recover.unwritten",
}

struct Armed {
    place: Place,
    left: AtomicU32,
    hang: bool,
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

/// Arms what the environment names; says what. An error names all places.
pub fn arm() -> Result<Option<&'static str>, String> {
    let Some(wanted) = std::env::var_os(VARIABLE) else {
        return Ok(None);
    };
    let armed = parse(&wanted.to_string_lossy())?;
    let name = armed.place.name();
    let _ = ARMED.set(Some(armed));
    Ok(Some(name))
}

fn parse(wanted: &str) -> Result<Armed, String> {
    let (wanted_place, hang) = wanted.strip_suffix(":hang").map_or((wanted, false), |place| (place, true));
    let (name, times) = wanted_place.split_once(':').unwrap_or((wanted_place, "1"));
    let place = Place::ALL.iter().find(|place| place.name() == name);
    match (place, times.parse()) {
        (Some(&place), Ok(times @ 1..)) => Ok(Armed { place, left: AtomicU32::new(times), hang }),
        _ => {
            let names: Vec<&str> = Place::ALL.iter().map(|place| place.name()).collect();
            Err(format!("{VARIABLE}={wanted}: write NAME, NAME:TIMES or NAME:TIMES:hang; the names are {}", names.join(", ")))
        }
    }
}

/// The process comes to a place; where that is armed, this does not return.
pub fn reach(place: Place) {
    let Some(Some(armed)) = ARMED.get() else { return };
    if armed.place == place && armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        if armed.hang {
            stand_still(place);
        }
        die(place);
    }
}

fn stand_still(place: Place) -> ! {
    eprintln!("fail point {}: this thread stands still", place.name());
    loop {
        std::thread::park();
    }
}

fn die(place: Place) -> ! {
    // Not by way of the log, whose thread may not come to it any more.
    eprintln!("fail point {}: the process ends itself", place.name());
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_arms_its_place_and_anything_else_is_told_the_names() {
        let armed = parse("log.synced:3").unwrap();
        assert_eq!((armed.place, armed.left.into_inner()), (Place::LogSynced, 3));
        assert_eq!(parse("sink.committed").unwrap().left.into_inner(), 1);
        let armed = parse("applied.unanswered:2:hang").unwrap();
        assert_eq!((armed.place, armed.left.into_inner(), armed.hang), (Place::AppliedUnanswered, 2, true));
        assert!(parse("applied.unanswered:hang").unwrap().hang);
        for wrong in ["", "log", "log.synced:0", "log.synced:", "log.synced:x", "log.synced:1:sleep", ":1", ":hang"] {
            let told = parse(wrong).err().unwrap();
            assert!(told.contains("log.unwritten") && told.contains("recover.unwritten"), "{told}");
        }
        let mut names: Vec<&str> = Place::ALL.iter().map(|place| place.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Place::ALL.len());
        reach(Place::LogSynced); // nothing is armed here
    }
}
