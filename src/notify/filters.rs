//! Functions of Alertmanager's templates, as filters and functions of MiniJinja, under the names that its users know.
//!
//! Times are texts (RFC 3339); layouts are Go's (`2006-01-02 15:04:05`), or strftime's where there is a `%` in them. Left out on purpose: what MiniJinja has
//! itself (`join`, `tojson`, lists and maps).

use jiff::Timestamp;
use jiff::Zoned;
use jiff::tz::TimeZone;
use minijinja::Environment;
use minijinja::Error;
use minijinja::ErrorKind;
use minijinja::State;
use minijinja::Value;
use regex::Regex;
use regex::RegexBuilder;

use crate::clock;
use crate::notify::data;
use crate::secret::sign;

/// Memory of a compiled expression.
const EXPRESSION: usize = 256 << 10;
/// What compiling one costs, in steps of a template.
const COMPILING: u64 = 3_000;

/// All of them.
pub fn add(environment: &mut Environment<'_>) {
    environment.add_filter("toUpper", |text: String| text.to_uppercase());
    environment.add_filter("toLower", |text: String| text.to_lowercase());
    environment.add_filter("trimSpace", |text: String| text.trim().to_owned());
    environment.add_filter("safeHtml", Value::from_safe_string);
    environment.add_filter("safeUrl", Value::from_safe_string);
    environment.add_filter("base64encode", |text: String| sign::base64_url(text.as_bytes()));
    environment.add_filter("base64decode", |text: String| {
        let bytes = sign::from_base64_url(&text).ok_or_else(|| wrong("is no base64"))?;
        String::from_utf8(bytes).map_err(|_| wrong("is no text"))
    });
    environment.add_filter("urlUnescape", |text: String| unescaped(&text));
    environment.add_filter("urlEscape", |text: String| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>());
    environment
        .add_filter("match", |state: &State, text: String, pattern: String| Ok::<_, Error>(expression(state, &pattern)?.is_match(&text)));
    environment.add_filter("reReplaceAll", |state: &State, text: String, pattern: String, with: String| {
        Ok::<_, Error>(expression(state, &pattern)?.replace_all(&text, with.as_str()).into_owned())
    });
    environment.add_filter("date", date);
    environment
        .add_filter("tz", |time: String, zone: String| Ok::<_, Error>(moment(&time)?.with_time_zone(self::zone(&zone)?).to_string()));
    environment.add_filter("since", |time: String| {
        Ok::<_, Error>((clock::wall_ms() - moment(&time)?.timestamp().as_millisecond()) as f64 / 1000.0)
    });
    environment.add_filter("humanizeDuration", humanized);
    environment.add_filter("names", |map: Value| Ok::<_, Error>(sorted(&map)?.into_iter().map(|(name, _)| name).collect::<Vec<_>>()));
    environment.add_filter("values", |map: Value| Ok::<_, Error>(sorted(&map)?.into_iter().map(|(_, value)| value).collect::<Vec<_>>()));
    environment.add_filter("sortedPairs", |map: Value| {
        let pairs = sorted(&map)?.into_iter().map(|(name, value)| Value::from_pairs([("name", name), ("value", value)]));
        Ok::<_, Error>(pairs.collect::<Vec<_>>())
    });
    environment.add_filter("remove", |map: Value, names: Vec<String>| {
        let left = sorted(&map)?.into_iter().filter(|(name, _)| !name.as_str().is_some_and(|name| names.iter().any(|known| known == name)));
        Ok::<_, Error>(Value::from_pairs(left))
    });
    environment.add_function("now", || data::when(clock::wall_ms()));
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

fn expression(state: &State, pattern: &str) -> Result<Regex, Error> {
    state.consume_fuel(COMPILING)?;
    RegexBuilder::new(pattern).size_limit(EXPRESSION).dfa_size_limit(EXPRESSION).build().map_err(|error| wrong(error.to_string()))
}

/// `alertname` first, then by name, as Alertmanager's `SortedPairs`.
fn sorted(map: &Value) -> Result<Vec<(Value, Value)>, Error> {
    let mut pairs = Vec::new();
    for name in map.try_iter()? {
        let value = map.get_item(&name)?;
        pairs.push((name, value));
    }
    pairs.sort_by_key(|(name, _)| (name.as_str() != Some("alertname"), name.to_string()));
    Ok(pairs)
}

fn unescaped(text: &str) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = behind.get(..2).and_then(|two| std::str::from_utf8(two).ok());
                let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok()).ok_or_else(|| wrong("is no escaped URL"))?;
                bytes.push(byte);
                rest = &behind[2..];
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong("is no text"))
}

fn zone(name: &str) -> Result<TimeZone, Error> {
    TimeZone::get(name).map_err(|_| wrong(format!("{name} is no time zone; write it as Europe/Berlin")))
}

/// A time, in its zone where it has one.
fn moment(text: &str) -> Result<Zoned, Error> {
    let plain = |_| text.parse::<Timestamp>().map(|time| time.to_zoned(TimeZone::UTC));
    text.parse::<Zoned>().or_else(plain).map_err(|_| wrong(format!("{text} is no time")))
}

fn date(time: String, layout: String, zone: Option<String>) -> Result<String, Error> {
    let mut time = moment(&time)?;
    if let Some(name) = zone {
        time = time.with_time_zone(self::zone(&name)?);
    }
    let layout = if layout.contains('%') { layout } else { strftime(&layout) };
    jiff::fmt::strtime::format(&layout, &time).map_err(|error| wrong(error.to_string()))
}

/// Go's layouts, which are one moment written out: the 2nd of January 2006, 15:04:05, in a zone of -07:00.
fn strftime(layout: &str) -> String {
    const WORDS: [(&str, &str); 24] = [
        ("January", "%B"),
        ("Monday", "%A"),
        ("-07:00", "%:z"),
        ("Z07:00", "%:z"),
        ("-0700", "%z"),
        ("2006", "%Y"),
        ("Jan", "%b"),
        ("Mon", "%a"),
        ("MST", "%Z"),
        ("002", "%j"),
        (".000", ".%3f"),
        ("01", "%m"),
        ("02", "%d"),
        ("03", "%I"),
        ("04", "%M"),
        ("05", "%S"),
        ("06", "%y"),
        ("15", "%H"),
        ("PM", "%p"),
        ("_2", "%e"),
        ("1", "%-m"),
        ("2", "%-d"),
        ("3", "%-I"),
        ("4", "%-M"),
    ];
    let mut out = String::new();
    let mut rest = layout;
    while let Some(letter) = rest.chars().next() {
        if let Some((word, with)) = WORDS.iter().find(|(word, _)| rest.starts_with(word)) {
            out.push_str(with);
            rest = &rest[word.len()..];
        } else {
            out.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    out
}

/// Seconds as people read them: `1h 2m 5s`, as Alertmanager writes them.
fn humanized(seconds: f64) -> String {
    if !seconds.is_finite() {
        return seconds.to_string();
    }
    if seconds.abs() < 1.0 {
        return if seconds == 0.0 { "0s".to_owned() } else { format!("{:.3}ms", seconds * 1000.0) };
    }
    let (sign, whole) = (if seconds < 0.0 { "-" } else { "" }, seconds.abs() as u64);
    let (days, hours, minutes, rest) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{rest}s"),
        (0, 0, _) => format!("{sign}{minutes}m {rest}s"),
        (0, ..) => format!("{sign}{hours}h {minutes}m {rest}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {rest}s"),
    }
}
