//! How the policies for alerts are written: as an entry, what the settings say; and in the control shard's image that, what is noted of each alert, and what was
//! learned of episodes.

use std::sync::Arc;

use crate::alert::book::Book;
use crate::alert::lesson::EDGES_S;
use crate::alert::lesson::Lesson;
use crate::alert::lesson::Lessons;
use crate::alert::listed::Listed;
use crate::alert::noted::Noted;
use crate::alert::policy::EpisodeRules;
use crate::alert::policy::Flapping;
use crate::alert::policy::Transient;
use crate::shard::alerting::list;
use crate::shard::alerting::read_list;
use crate::shard::alerting::read_matchers;
use crate::shard::alerting::write_matchers;
use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;

fn write_listed<T>(listed: &Listed<T>, out: &mut Writer<'_>, one: impl Fn(&T, &mut Writer<'_>)) {
    list(listed.rules(), out, |(matchers, says), out| {
        write_matchers(matchers, out);
        one(says, out);
    });
}

fn read_listed<T>(from: &mut Reader<'_>, one: impl Fn(&mut Reader<'_>) -> Result<T, Malformed>) -> Result<Listed<T>, Malformed> {
    Ok(Listed::new(read_list(from, 2, |from| Ok((read_matchers(from)?, one(from)?)))?))
}

pub(super) fn write_rules(rules: &EpisodeRules, out: &mut Writer<'_>) {
    write_listed(&rules.levels, out, |level, out| out.byte(*level));
    write_listed(&rules.recovery, out, |observe, out| out.signed(*observe));
    write_listed(&rules.flapping, out, |Flapping { changes, within, calm }, out| {
        out.number(*changes);
        out.signed(*within);
        out.signed(*calm);
    });
    write_listed(&rules.transient, out, |Transient { within, share, least, percentile, most }, out| {
        out.signed(*within);
        out.byte(*share);
        out.number(*least);
        out.byte(*percentile);
        out.signed(*most);
    });
}

pub(super) fn read_rules(from: &mut Reader<'_>) -> Result<EpisodeRules, Malformed> {
    Ok(EpisodeRules {
        levels: read_listed(from, |from| match from.byte()? {
            level @ 1..=5 => Ok(level),
            _ => Err(Malformed::Impossible("a level")),
        })?,
        recovery: read_listed(from, |from| from.signed())?,
        flapping: read_listed(from, |from| Ok(Flapping { changes: from.number()?, within: from.signed()?, calm: from.signed()? }))?,
        transient: read_listed(from, |from| {
            let (within, share, least) = (from.signed()?, from.byte()?, from.number()?);
            Ok(Transient { within, share, least, percentile: from.byte()?, most: from.signed()? })
        })?,
    })
}

fn write_noted(noted: &Noted, out: &mut Writer<'_>) {
    out.byte(noted.level);
    [noted.released, noted.observe, noted.calm, noted.remembered, noted.flaps, noted.since].into_iter().for_each(|time| out.signed(time));
    out.number(noted.again);
    list(&noted.changes, out, |change, out| out.signed(*change));
    out.byte(noted.worst);
}

fn read_noted(from: &mut Reader<'_>, worst: bool) -> Result<Noted, Malformed> {
    let noted = Noted {
        level: from.byte()?,
        released: from.signed()?,
        observe: from.signed()?,
        calm: from.signed()?,
        remembered: from.signed()?,
        flaps: from.signed()?,
        since: from.signed()?,
        again: from.number()?,
        changes: read_list(from, 1, |from| from.signed())?,
        worst: 0,
    };
    Ok(Noted { worst: if worst { from.byte()? } else { 0 }, ..noted })
}

/// Appends all of it.
pub(super) fn write(book: &Book, out: &mut Writer<'_>) {
    write_rules(book.rules(), out);
    let noted = || book.alerts().iter().filter(|(_, kept)| !kept.noted.is_nothing());
    out.number(noted().count() as u64);
    for (id, kept) in noted() {
        out.fixed(id);
        write_noted(&kept.noted, out);
    }
    let lessons = book.lessons().all();
    out.number(lessons.len() as u64);
    for (name, lesson) in lessons {
        out.text(name);
        lesson.short.iter().chain([&lesson.others]).for_each(|count| out.number(u64::from(*count)));
        out.signed(lesson.last);
    }
}

/// Puts that into the book. `worst`: it says how bad alerts were at their worst.
pub(super) fn read(from: &mut Reader<'_>, book: &mut Book, worst: bool) -> Result<(), Malformed> {
    let rules = read_rules(from)?;
    for _ in 0..from.count(17)? {
        book.restore_noted(from.fixed()?, read_noted(from, worst)?);
    }
    let mut lessons = Lessons::default();
    for _ in 0..from.count(EDGES_S.len() + 3)? {
        let (name, mut lesson) = (Arc::from(from.text()?), Lesson::default());
        for count in lesson.short.iter_mut().chain([&mut lesson.others]) {
            *count = from.small()?;
        }
        lesson.last = from.signed()?;
        lessons.restore(name, lesson);
    }
    book.restore_policies(rules, lessons);
    Ok(())
}

/// Policies of every kind, for the tests of this layer.
#[cfg(test)]
pub(super) fn example() -> EpisodeRules {
    let matchers = |text: &str| crate::alert::matcher::read(text).map(|read| read.matchers).unwrap_or_default();
    EpisodeRules {
        levels: Listed::new(vec![(matchers(r#"severity=~"page|x""#), 1), (vec![], 4)]),
        recovery: Listed::new(vec![(vec![], 120_000)]),
        flapping: Listed::new(vec![(matchers("a=b"), Flapping { changes: 4, within: 3_600_000, calm: 900_000 })]),
        transient: Listed::new(vec![(
            matchers("a!=c"),
            Transient { within: 120_000, share: 80, least: 20, percentile: 90, most: 300_000 },
        )]),
    }
}
