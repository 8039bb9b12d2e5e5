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
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
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
    fn wall_times_print_as_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_790_000_000_123), "2026-09-21T14:13:20.123Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
    }
}
