//! The only place that reads a clock.
//!
//! Everything below the edges takes time as an argument (a lint refuses `Instant::now` elsewhere), so that the shards can be replayed
//! and simulated. Two clocks: one that only grows, for waiting and for ages; and the wall's, for what people and samples call time.

use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// The clock that only grows. Never compare its readings across processes.
#[expect(clippy::disallowed_methods, reason = "the one reader of this clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Time of a core that this process has taken: grows as long as it does something.
pub fn cpu() -> Duration {
    span(rustix::time::ClockId::ProcessCPUTime)
}

/// Since the machine was started, as others on it read the same clock (`CLOCK_MONOTONIC`).
pub fn since_boot() -> Duration {
    span(rustix::time::ClockId::Monotonic)
}

fn span(clock: rustix::time::ClockId) -> Duration {
    let read = rustix::time::clock_gettime(clock);
    Duration::new(u64::try_from(read.tv_sec).unwrap_or(0), u32::try_from(read.tv_nsec).unwrap_or(0))
}

/// Milliseconds since 1970 by the wall clock: what sample times are compared with. It may jump.
#[expect(clippy::disallowed_methods, reason = "the one reader of this clock")]
pub fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970 as `2026-11-24T13:50:00.123Z`. No time zone but UTC, no leap seconds (as Unix time has none).
pub fn rfc3339(wall_ms: i64) -> String {
    let (seconds, millis) = (wall_ms.div_euclid(1000), wall_ms.rem_euclid(1000));
    let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    if !(0..=9999).contains(&year) {
        return format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z");
    }
    // Lists of alerts hold some hundred thousand of them.
    let mut text = String::with_capacity("2026-11-24T13:50:00.123Z".len());
    let parts =
        [(year, 1000, '-'), (month, 10, '-'), (day, 10, 'T'), (hour, 10, ':'), (minute, 10, ':'), (second, 10, '.'), (millis, 100, 'Z')];
    for (value, mut place, mark) in parts {
        while place > 0 {
            text.push(char::from(b'0' + (value / place % 10) as u8));
            place /= 10;
        }
        text.push(mark);
    }
    text
}

/// Milliseconds since 1970 of such a text, with any zone; without one it is UTC. What is finer than a millisecond is cut off.
pub fn from_rfc3339(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| {
        let digits = bytes.get(from..to)?;
        digits.iter().try_fold(0_i64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
    };
    let marks = [(4, "-"), (7, "-"), (10, "Tt "), (13, ":"), (16, ":")];
    if !marks.iter().all(|(at, signs)| bytes.get(*at).is_some_and(|byte| signs.as_bytes().contains(byte))) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days(year, month, day);
    // The 31st of a month that has none is a day of the next one.
    if civil(days) != (year, month, day) {
        return None;
    }
    let mut at = 19;
    let mut millis = 0;
    if matches!(bytes.get(at), Some(b'.' | b',')) {
        let end = bytes[at + 1..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |length| at + 1 + length);
        let fraction = bytes.get(at + 1..end).filter(|digits| !digits.is_empty())?;
        millis = (0..3).fold(0, |sum, place| sum * 10 + i64::from(fraction.get(place).map_or(0, |digit| digit - b'0')));
        at = end;
    }
    let zone = match (bytes.get(at), bytes.len() - at) {
        (None, _) | (Some(b'Z' | b'z'), 1) => 0,
        (Some(sign @ (b'+' | b'-')), 6) if bytes.get(at + 3) == Some(&b':') => {
            let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
            let east = if *sign == b'+' { 1 } else { -1 };
            (hours < 24 && minutes < 60).then_some(east * (hours * 60 + minutes))?
        }
        _ => return None,
    };
    Some((((days * 24 + hour) * 60 + minute - zone) * 60 + second) * 1000 + millis)
}

/// The opposite of [`civil`], for years from 0 on.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, march_month) = (year.div_euclid(400), (month + 9) % 12);
    let year_of_era = year.rem_euclid(400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * march_month + 2) / 5 + day - 1;
    era * 146_097 + day_of_era - 719_468
}

/// Days since 1970-01-01 as (year, month, day) of the Gregorian calendar, counted in eras of 400 years (146,097 days) that start in March,
/// so that the leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468; // days from 0000-03-01 to 1970-01-01
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time_of_a_core() {
        let before = cpu();
        let mut sum = 0_u64;
        while cpu() < before + Duration::from_millis(5) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let booted = since_boot();
        assert!(booted > Duration::ZERO && since_boot() >= booted);
    }

    #[test]
    fn wall_times_print_as_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_790_000_000_123), "2026-09-21T14:13:20.123Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let at = random.i64(-62_167_219_200_000..253_402_300_800_000);
            assert_eq!(from_rfc3339(&rfc3339(at)), Some(at), "{}", rfc3339(at));
        }
        for (text, expected) in [
            ("2026-09-21T14:13:20.1239Z", Some(1_790_000_000_123)),
            ("2026-09-21T16:13:20+02:00", Some(1_790_000_000_000)),
            ("2026-09-21t09:43:20.5-04:30", Some(1_790_000_000_500)),
            ("2026-09-21 14:13:20", Some(1_790_000_000_000)),
            ("2028-02-29T00:00:00Z", Some(1_835_395_200_000)),
            ("2026-02-29T00:00:00Z", None),
            ("2026-04-31T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-09-21T24:00:00Z", None),
            ("2026-09-21T14:13:20.Z", None),
            ("2026-09-21T14:13:20+2:00", None),
            ("2026-09-21T14:13:20Zz", None),
            ("2026-09-21", None),
            ("", None),
            ("+026-09-21T14:13:20Z", None),
            ("2026-09-21T14:13:2\u{660}", None),
        ] {
            assert_eq!(from_rfc3339(text), expected, "{text}");
        }
    }
}
