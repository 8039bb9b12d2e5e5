//! Feature levels: what the members of a cluster may write, so that programs of two versions work together while one node after the other gets the
//! later one.
//!
//! The level stands in the control shard's state. A program knows a range of levels and does what the state's level allows, no more: entries, images
//! and messages that an earlier level does not know are written only from the level on that brought them in (an image, too: members compare
//! the hashes of theirs). So the version before can be started again until somebody says that the cluster stays with the later one
//! ([`Command::Finalize`](crate::shard::command::Command::Finalize)), which no program that does not know the level survives: it refuses to start.

/// The level of a cluster of which nobody said otherwise.
pub const FIRST: u64 = 1;

/// The levels that a program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// It can still work at this one.
    pub oldest: u64,
    /// It was made with this one.
    pub newest: u64,
}

/// Those of this program. A later level is a change here and one condition wherever it matters.
pub const KNOWN: Levels = Levels { oldest: FIRST, newest: FIRST };

impl Levels {
    /// Whether a program that knows these can work with a state of this level, or what to do.
    pub fn check(self, level: u64) -> Result<(), String> {
        let Levels { oldest, newest } = self;
        let version = env!("CARGO_PKG_VERSION");
        if level > newest {
            return Err(format!(
                "the cluster is at feature level {level}, and this program ({version}) knows {oldest} to {newest}: the upgrade was finalised, and there is no \
                 way back to this version. Start the one that the other nodes run"
            ));
        }
        if level < oldest {
            return Err(format!(
                "the cluster is at feature level {level}, and this program ({version}) knows {oldest} to {newest}: a version was left out. Start the one that ran \
                 before; where that knows level {oldest}, `sluice cluster upgrade finalize` first, else upgrade to a version in between"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_works_with_the_levels_it_knows_and_says_what_to_do_about_others() {
        let levels = Levels { oldest: 3, newest: 4 };
        assert_eq!((levels.check(3), levels.check(4)), (Ok(()), Ok(())));
        assert!(levels.check(5).unwrap_err().contains("no way back"));
        assert!(levels.check(2).unwrap_err().contains("finalize` first"));
        assert_eq!(KNOWN.check(FIRST), Ok(()));
    }
}
