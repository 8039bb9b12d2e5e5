//! The cluster's settings: the text in force, who made it and when, and what was in force before it.
//!
//! Left out on purpose: what the text means (`config`), and who may change it (`api`).

use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;

/// The longest text, bytes: a thousand sinks and groups of their own.
pub const MOST_TEXT: usize = 256 << 10;
/// Earlier versions that are kept, and bytes of them all together: an image with all of them stays small.
const MOST_EARLIER: usize = 20;
const MOST_EARLIER_BYTES: usize = 512 << 10;

/// One version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// From 1; 0: nobody has said anything yet.
    pub number: u64,
    /// What `config` reads.
    pub text: String,
    /// Who made it.
    pub by: String,
    /// When, by the shard's time, ms since 1970.
    pub at: i64,
}

/// A proposal for the next version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewVersion {
    /// Must be the present one + 1.
    pub number: u64,
    /// What `config` reads.
    pub text: String,
    /// Who asks for it.
    pub by: String,
}

/// All that is known of the cluster's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// In force.
    pub current: Version,
    /// Before that, newest first.
    pub earlier: Vec<Version>,
}

impl Settings {
    /// The next version, or why it is none.
    pub fn change(&mut self, new: NewVersion, at: i64) -> Result<(), String> {
        if new.number != self.current.number + 1 {
            let Version { number, by, .. } = &self.current;
            return Err(format!("somebody else changed the settings meanwhile: they have version {number} by now, by {by}"));
        }
        if new.text.len() > MOST_TEXT {
            return Err(format!("the settings have {} bytes; {MOST_TEXT} are the most", new.text.len()));
        }
        let before = std::mem::replace(&mut self.current, Version { number: new.number, text: new.text, by: new.by, at });
        if before.number > 0 {
            self.earlier.insert(0, before);
        }
        let mut bytes = 0;
        let kept = self.earlier.iter().take(MOST_EARLIER).take_while(|version| {
            bytes += version.text.len();
            bytes <= MOST_EARLIER_BYTES
        });
        self.earlier.truncate(kept.count());
        Ok(())
    }

    /// A version that is still known.
    pub fn version(&self, number: u64) -> Option<&Version> {
        std::iter::once(&self.current).chain(&self.earlier).find(|version| version.number == number && number > 0)
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.number(self.earlier.len() as u64 + 1);
        for version in std::iter::once(&self.current).chain(&self.earlier) {
            out.number(version.number);
            out.text(&version.text);
            out.text(&version.by);
            out.signed(version.at);
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Settings, Malformed> {
        let mut versions = Vec::new();
        for _ in 0..from.count(4)? {
            versions.push(Version {
                number: from.number()?,
                text: from.text()?.to_owned(),
                by: from.text()?.to_owned(),
                at: from.signed()?,
            });
        }
        if versions.is_empty() {
            return Err(Malformed::Impossible("settings without a version"));
        }
        let current = versions.remove(0);
        Ok(Settings { current, earlier: versions })
    }
}

impl NewVersion {
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.number(self.number);
        out.text(&self.text);
        out.text(&self.by);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<NewVersion, Malformed> {
        Ok(NewVersion { number: from.number()?, text: from.text()?.to_owned(), by: from.text()?.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(number: u64, text: &str) -> NewVersion {
        NewVersion { number, text: text.to_owned(), by: "alice".to_owned() }
    }

    #[test]
    fn versions_grow_by_one_and_the_last_ones_are_kept() {
        let mut settings = Settings::default();
        assert!(settings.change(new(2, "x"), 0).is_err());
        for number in 1..=30 {
            settings.change(new(number, &format!("text {number}")), number as i64).unwrap();
        }
        assert!(settings.change(new(30, "x"), 0).is_err_and(|why| why.contains("version 30") && why.contains("alice")));
        assert_eq!((settings.current.number, settings.current.at), (30, 30));
        assert_eq!(settings.earlier.len(), MOST_EARLIER);
        assert_eq!(settings.version(12).map(|version| version.text.as_str()), Some("text 12"));
        assert_eq!(settings.version(30).map(|version| version.text.as_str()), Some("text 30"));
        assert_eq!((settings.version(0), settings.version(9), settings.version(31)), (None, None, None));
        let mut bytes = Vec::new();
        settings.write(&mut Writer(&mut bytes));
        assert_eq!(Settings::read(&mut Reader(&bytes)).unwrap(), settings);
    }

    #[test]
    fn texts_are_bounded_each_and_together() {
        let mut settings = Settings::default();
        assert!(settings.change(new(1, &"x".repeat(MOST_TEXT + 1)), 0).is_err());
        for number in 1..=5 {
            settings.change(new(number, &"x".repeat(MOST_TEXT)), 0).unwrap();
        }
        assert_eq!(settings.earlier.len(), 2);
    }
}
