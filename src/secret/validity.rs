//! When a certificate ends, so that it can be told before it happens.
//!
//! Reads as much of a certificate (X.509, DER) as stands before that date, and nothing else: whether a certificate is any good is judged by rustls,
//! and a parser of all of X.509 is a large thing to carry for one number. The bytes are an operator's file: whatever they are, the answer is a
//! time or nothing.

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `version [0]`, which certificates of version 1 leave out.
const VERSION: u8 = 0xa0;

/// The last moment at which a certificate (DER) is good, ms since 1970; `None`: it is no certificate.
pub fn ends_ms(certificate: &[u8]) -> Option<i64> {
    // Certificate { tbs { version, serial, algorithm, issuer, validity { not before, not after }, .. } .. }: RFC 5280, 4.1.
    let (SEQUENCE, certificate, _) = item(certificate)? else { return None };
    let (SEQUENCE, signed, _) = item(certificate)? else { return None };
    let rest = match item(signed)? {
        (VERSION, _, rest) => rest,
        _ => signed,
    };
    let (INTEGER, _serial, rest) = item(rest)? else { return None };
    let (SEQUENCE, _algorithm, rest) = item(rest)? else { return None };
    let (SEQUENCE, _issuer, rest) = item(rest)? else { return None };
    let (SEQUENCE, validity, _) = item(rest)? else { return None };
    let (_, _not_before, rest) = item(validity)?;
    let (tag, not_after, _) = item(rest)?;
    moment_ms(tag, not_after)
}

/// A moment as certificates write it, ms since 1970.
pub fn moment_ms(tag: u8, content: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    if !text.is_ascii() {
        return None;
    }
    match tag {
        // Two digits of the year: 50 to 99 are of the last century.
        UTC_TIME if text.len() == 12 => {
            let century = if number(text, 0, 2)? >= 50 { "19" } else { "20" };
            time_ms(&format!("{century}{text}"))
        }
        GENERALIZED_TIME if text.len() == 14 => time_ms(text),
        _ => None,
    }
}

/// Tag, content and what follows it, of DER.
pub fn item(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // So many bytes hold the length; no certificate is longer than three can say.
        let digits = usize::from(first & 0x7f);
        if digits == 0 || digits > 3 {
            return None;
        }
        let (digits, rest) = rest.split_at_checked(digits)?;
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn number(text: &str, from: usize, to: usize) -> Option<i64> {
    let digits = text.get(from..to)?;
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// `YYYYMMDDhhmmss`, UTC.
fn time_ms(text: &str) -> Option<i64> {
    let (year, month, day) = (number(text, 0, 4)?, number(text, 4, 6)?, number(text, 6, 8)?);
    let (hour, minute, second) = (number(text, 8, 10)?, number(text, 10, 12)?, number(text, 12, 14)?);
    let possible = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    possible.then_some(seconds * 1_000)
}

/// Days since 1970-01-01 of a day of the Gregorian calendar, in years that begin in March, so that the leap day is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::damage;
    use crate::mutate::seeds;
    use rcgen::CertificateParams;
    use rcgen::KeyPair;

    fn certificate(end: (i32, u8, u8)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["sluice.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(end.0, end.1, end.2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_is_read_from_either_kind_of_time() {
        // UTCTime to 2049, GeneralizedTime from 2050 on.
        assert_eq!(ends_ms(&certificate((2029, 2, 28))), Some(1_866_931_200_000));
        assert_eq!(ends_ms(&certificate((2000, 2, 29))), Some(951_782_400_000));
        assert_eq!(ends_ms(&certificate((2124, 3, 1))), Some(4_864_924_800_000));
        assert_eq!(ends_ms(&certificate((1970, 1, 1))), Some(0));
    }

    #[test]
    fn whatever_the_bytes_are_the_answer_is_a_time_or_nothing() {
        let good = certificate((2029, 2, 28));
        assert_eq!(ends_ms(b""), None);
        assert_eq!(ends_ms(&good[..60]), None);
        for seed in seeds(20_000) {
            let mut bytes = good.clone();
            damage(&mut fastrand::Rng::with_seed(seed), &mut bytes);
            let _ = ends_ms(&bytes);
        }
    }
}
