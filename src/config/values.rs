//! What single values mean: sizes, durations, numbers, addresses, names. Each refusal says the rule and shows a value that is taken.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::read::Refusal;
use crate::config::read::nearest;

fn refuse<T>(rule: impl Into<String>, remedy: impl Into<String>) -> Result<T, Refusal> {
    Err((rule.into(), remedy.into()))
}

/// Any text.
pub fn text(text: &str) -> Result<String, Refusal> {
    Ok(text.to_string())
}

/// A name that goes into metrics, paths and Kafka ids.
pub fn name(text: &str) -> Result<String, Refusal> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=64).contains(&text.len()) && text.chars().all(fits) {
        return Ok(text.to_string());
    }
    refuse("must be 1 to 64 letters, digits, `-`, `_` or `.`", "for example `platform`")
}

/// `true` or `false`.
pub fn switch(text: &str) -> Result<bool, Refusal> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => refuse("must be true or false", ""),
    }
}

/// A whole number in `range`.
pub fn number(range: std::ops::RangeInclusive<u64>) -> impl FnOnce(&str) -> Result<u64, Refusal> {
    move |text| match text.replace('_', "").parse::<u64>() {
        Ok(number) if range.contains(&number) => Ok(number),
        Ok(_) => refuse(format!("must be {} to {}", range.start(), range.end()), "write a number in that range"),
        Err(_) => refuse(format!("must be a whole number, {} to {}", range.start(), range.end()), format!("for example {}", range.start())),
    }
}

/// Bytes: `64MiB`, `1.5GiB`, `500KB`, `1048576`.
pub fn size(text: &str) -> Result<u64, Refusal> {
    const UNITS: &[(&str, u64)] = &[
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
    ];
    let (digits, factor) =
        UNITS.iter().find_map(|(unit, factor)| text.strip_suffix(unit).map(|digits| (digits.trim_end(), *factor))).unwrap_or((text, 1));
    let Some(thousandths) = thousandths(digits) else {
        return refuse("must be a size: a number and B, KiB, MiB, GiB, TiB (or KB, MB, GB, TB)", "for example 64MiB");
    };
    match u64::try_from(u128::from(thousandths) * u128::from(factor) / 1000) {
        Ok(bytes) if i64::try_from(bytes).is_ok() => Ok(bytes),
        _ => refuse("is more than any machine holds", "write a smaller size"),
    }
}

/// A time span: `250ms`, `15s`, `10m`, `24h`, `7d`, also joined as `1h30m`.
pub fn duration(text: &str) -> Result<Duration, Refusal> {
    let mut millis: u64 = 0;
    let mut rest = text.trim();
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| at + digits);
        let factor: u64 = match &rest[digits..unit_end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => 0,
        };
        let part = thousandths(&rest[..digits])
            .filter(|_| factor > 0)
            .and_then(|number| number.checked_mul(factor))
            .map(|thousand| thousand / 1000);
        let Some(sum) = part.and_then(|part| millis.checked_add(part)) else {
            return refuse("must be a time span: a number and ms, s, m, h or d", "for example 15m");
        };
        millis = sum;
        rest = &rest[unit_end..];
        parts += 1;
    }
    if parts == 0 {
        return refuse("must be a time span: a number and ms, s, m, h or d", "for example 15m");
    }
    Ok(Duration::from_millis(millis))
}

/// A time span in a range.
pub fn duration_in(range: std::ops::RangeInclusive<Duration>) -> impl FnOnce(&str) -> Result<Duration, Refusal> {
    move |text| {
        let span = duration(text)?;
        if range.contains(&span) {
            return Ok(span);
        }
        refuse(format!("must be {} to {}", shown_duration(*range.start()), shown_duration(*range.end())), "write a time span in that range")
    }
}

/// A size in a range.
pub fn size_in(range: std::ops::RangeInclusive<u64>) -> impl FnOnce(&str) -> Result<u64, Refusal> {
    move |text| {
        let bytes = size(text)?;
        if range.contains(&bytes) {
            return Ok(bytes);
        }
        refuse(format!("must be {} to {}", shown_size(*range.start()), shown_size(*range.end())), "write a size in that range")
    }
}

/// Percent: `10%`.
pub fn percent(text: &str) -> Result<u8, Refusal> {
    match text.strip_suffix('%').and_then(|digits| digits.trim().parse::<u8>().ok()) {
        Some(percent) if percent <= 90 => Ok(percent),
        _ => refuse("must be a share of the disk, 0% to 90%", "for example 10%"),
    }
}

/// Address and port to listen on: `127.0.0.1:9201`, `0.0.0.0:9201`, `[::]:9201`, `:9201`.
pub fn listen(text: &str) -> Result<SocketAddr, Refusal> {
    let whole = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.replace("localhost:", "127.0.0.1:") };
    match whole.parse() {
        Ok(address) => Ok(address),
        Err(_) => refuse("must be an address of this machine and a port", "for example 127.0.0.1:9201, or 0.0.0.0:9201 for all addresses"),
    }
}

/// Where somebody else listens: `kafka-1.example:9092`.
pub fn host_port(text: &str) -> Result<String, Refusal> {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/')).and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(port) if port > 0 => Ok(text.to_string()),
        _ => refuse("must be host:port", "for example kafka-1.example:9092"),
    }
}

/// Where something is written to: `https://store.example:8480/insert/0/prometheus/api/v1/write`.
pub fn url(text: &str) -> Result<String, Refusal> {
    let example = "for example https://store.example/api/v1/write";
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return refuse("must begin with http:// or https://", example);
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return refuse("must not hold a user or a password", "write basic_auth: { username: ..., password_file: ... } beside it");
    }
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains('#');
    let (host, port) = match authority.rsplit_once(':').filter(|_| !authority.ends_with(']')) {
        Some((host, port)) => (host, port.parse::<u16>().is_ok_and(|port| port > 0)),
        None => (authority, true),
    };
    if plain && port && !host.is_empty() {
        return Ok(text.to_string());
    }
    refuse("must be a URL: scheme, host, a port if need be, and the path", example)
}

/// One word of a few.
pub fn one_of<T: Copy>(choices: &'static [(&'static str, T)]) -> impl FnOnce(&str) -> Result<T, Refusal> {
    move |text| {
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let remedy = nearest(text, &words).map(|near| format!("did you mean `{near}`?")).unwrap_or_default();
        refuse(format!("must be one of: {}", words.join(", ")), remedy)
    }
}

/// A Kafka topic, by Kafka's own rule.
pub fn topic(text: &str) -> Result<String, Refusal> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=249).contains(&text.len()) && text.chars().all(fits) && text != "." && text != ".." {
        return Ok(text.to_string());
    }
    refuse("must be a Kafka topic: 1 to 249 letters, digits, `.`, `_` or `-`", "for example metrics")
}

/// The name of a label. Any UTF-8 is a label name since Prometheus 3, so only the empty one is refused.
pub fn label(text: &str) -> Result<String, Refusal> {
    if text.is_empty() {
        return refuse("must not be empty", "write a label's name, for example prometheus_replica");
    }
    Ok(text.to_string())
}

/// `12.345` in thousandths, without floats.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || part.len() > 3 || !whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part)
}

/// A size as people read it.
pub fn shown_size(bytes: u64) -> String {
    let units = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, factor)| bytes >= *factor) {
        Some((unit, factor)) if bytes.is_multiple_of(*factor) => format!("{} {unit}", bytes / factor),
        Some((unit, factor)) => format!("{}.{} {unit}", bytes / factor, bytes % factor * 10 / factor),
        None => format!("{bytes} B"),
    }
}

/// A time span as people read it, to two units.
pub fn shown_duration(span: Duration) -> String {
    let millis = span.as_millis();
    let units = [("d", 86_400_000u128), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let Some(first) = units.iter().position(|(_, factor)| millis >= *factor) else { return "0s".into() };
    let (unit, factor) = units[first];
    let rest = millis % factor;
    match units.get(first + 1) {
        Some((next, below)) if rest >= *below && *next != "ms" => format!("{}{unit}{}{next}", millis / factor, rest / below),
        _ => format!("{}{unit}", millis / factor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(size("500KB"), Ok(500_000));
        assert_eq!(size("7"), Ok(7));
        for wrong in ["", "MiB", "-1MiB", "1.MiBs", "1e3", "9999999TiB", "1.2345KiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        for wrong in ["", "15", "m", "-3s", "3 weeks", "1.2.3s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_reads_well() {
        assert_eq!(shown_size(32 << 20), "32 MiB");
        assert_eq!(shown_size(1536), "1.5 KiB");
        assert_eq!(shown_duration(Duration::from_secs(5400)), "1h30m");
        assert_eq!(shown_duration(Duration::from_millis(250)), "250ms");
        assert_eq!(shown_duration(Duration::from_millis(1250)), "1s");
    }

    #[test]
    fn urls() {
        for good in
            ["http://h/api/v1/write", "https://h:8480/insert/0/prometheus/api/v1/write?a=b", "http://[::1]:9090/w", "http://[::1]/w"]
        {
            assert_eq!(url(good).as_deref(), Ok(good));
        }
        for wrong in [
            "",
            "h:9090/w",
            "ftp://h/w",
            "http://",
            "http:///w",
            "http://h:0/w",
            "http://h:x/w",
            "http://u:p@h/w",
            "http://h/ w",
            "http://h/#w",
        ] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(listen(":9201").unwrap().to_string(), "0.0.0.0:9201");
        assert_eq!(listen("localhost:1").unwrap().to_string(), "127.0.0.1:1");
        assert!(listen("9201").is_err());
        assert!(host_port("kafka:9092").is_ok());
        assert!(host_port("http://kafka:9092").is_err());
        assert!(host_port("kafka").is_err());
    }
}
