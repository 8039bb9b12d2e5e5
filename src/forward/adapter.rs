//! The exact message of prometheus-kafka-adapter 1.9, so that people can move over without touching their readers.
//!
//! Its faults are kept, being what readers know: seconds only, the value as a string, the name twice, stale markers as "NaN". It is Go's
//! `encoding/json` of a map, so keys are sorted and `<`, `>`, `&`, U+2028 and U+2029 are escaped. It never had native histograms or
//! exemplars; those have no message. Source: serializers.go and handlers.go of that project at 1.9.1, and Go's encode.go.

use crate::forward::rows::{Row, Value};
use crate::forward::text::push_unicode_escape;
use std::io::Write;

/// Appends the message. False (and nothing appended): this point has none.
pub fn encode(row: &Row<'_>, out: &mut Vec<u8>) -> bool {
    let value = match row.value {
        Value::Float(value) => value,
        Value::Stale => f64::NAN,
        Value::Histogram(_) | Value::Exemplar => return false,
    };
    out.extend_from_slice(b"{\"labels\":{");
    for (at, label) in row.labels.iter().enumerate() {
        out.extend_from_slice(if at > 0 { b",\"" } else { b"\"" });
        push_go_text(out, label.name);
        out.extend_from_slice(b"\":\"");
        push_go_text(out, label.value);
        out.push(b'"');
    }
    out.extend_from_slice(b"},\"name\":\"");
    push_go_text(out, row.labels.iter().find(|label| label.name == "__name__").map_or("", |label| label.value));
    out.extend_from_slice(b"\",\"timestamp\":\"");
    push_rfc3339(out, row.time / 1000);
    out.extend_from_slice(b"\",\"value\":\"");
    push_go_float(out, value);
    out.extend_from_slice(b"\"}");
    true
}

fn push_go_text(out: &mut Vec<u8>, text: &str) {
    for letter in text.chars() {
        match letter {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => push_unicode_escape(out, letter as u32),
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// `strconv.FormatFloat(value, 'f', -1, 64)`: the shortest digits, never an exponent, as Rust's own `Display` has it.
fn push_go_float(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else {
        // Writing into memory cannot fail.
        let _ = write!(out, "{value}");
    }
}

/// `time.Unix(seconds, 0).UTC().Format(time.RFC3339)`; days to dates as in Howard Hinnant's `civil_from_days`.
fn push_rfc3339(out: &mut Vec<u8>, seconds: i64) {
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::remote_write::Label;

    fn message(labels: &[Label<'_>], time: i64, value: Value<'_>) -> String {
        let mut out = Vec::new();
        assert!(encode(&Row { labels, time, value, late: false, series: 0, item: 0, before: None, tenant: "" }, &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn it_is_byte_for_byte_what_the_adapter_sent() {
        let labels = [Label::new(0, "__name__", "up"), Label::new(0, "job", "a<b>&\"c\"")];
        assert_eq!(
            message(&labels, 0, Value::Float(9_876_543_210.0)),
            r#"{"labels":{"__name__":"up","job":"a\u003cb\u003e\u0026\"c\""},"name":"up","timestamp":"1970-01-01T00:00:00Z","value":"9876543210"}"#
        );
        assert!(
            message(&labels, 1_790_000_000_999, Value::Float(1e21))
                .ends_with(r#""timestamp":"2026-09-21T14:13:20Z","value":"1000000000000000000000"}"#)
        );
        assert!(
            message(&labels, 951_782_400_000, Value::Float(1e-7)).ends_with(r#""timestamp":"2000-02-29T00:00:00Z","value":"0.0000001"}"#)
        );
        assert!(message(&labels, 0, Value::Stale).ends_with(r#""value":"NaN"}"#));
        assert!(message(&labels, 0, Value::Float(f64::NEG_INFINITY)).ends_with(r#""value":"-Inf"}"#));
    }
}
