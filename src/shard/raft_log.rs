//! What raft-rs has to say (it speaks `slog`), passed on to `tracing`: its news of elections at debug level, since `node` reports them itself.

use slog::Drain;
use slog::Level;
use slog::Logger;
use slog::OwnedKVList;
use slog::Record;
use slog::o;

struct ToTracing(u64);

impl Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
        let (member, text) = (self.0, record.msg());
        match record.level() {
            Level::Critical => tracing::error!(member, "raft: {text}"),
            Level::Error | Level::Warning => tracing::warn!(member, "raft: {text}"),
            Level::Info => tracing::debug!(member, "raft: {text}"),
            Level::Debug | Level::Trace => tracing::trace!(member, "raft: {text}"),
        }
        Ok(())
    }

    /// Keeps raft-rs from formatting what nobody reads.
    fn is_enabled(&self, level: Level) -> bool {
        match level {
            Level::Critical | Level::Error | Level::Warning => true,
            Level::Info => tracing::enabled!(tracing::Level::DEBUG),
            Level::Debug | Level::Trace => tracing::enabled!(tracing::Level::TRACE),
        }
    }
}

pub(super) fn logger(member: u64) -> Logger {
    Logger::root(ToTracing(member), o!())
}
