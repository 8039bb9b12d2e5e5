//! What a sink would write for a sample, without writing it: for `sluice sink explain`, and for tests of configurations.

use crate::forward::Target;
use crate::forward::adapter;
use crate::forward::format::Columns;
use crate::forward::format::Format;
use crate::forward::rows::Row;
use crate::forward::rows::RowEncoder;
use crate::forward::rows::Value;
use crate::model::Before;
use crate::wire::remote_write::Label;
use crate::wire::remote_write::series_hash;

/// Labels of a series as PromQL writes it.
pub fn series(labels: &[(&str, &str)]) -> String {
    let plain = |name: &str| {
        let mut bytes = name.bytes();
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        bytes.next().is_some_and(|first| !first.is_ascii_digit() && inside(first)) && bytes.all(inside)
    };
    let name = labels.iter().find(|(name, value)| *name == "__name__" && value.split(':').all(|part| part.is_empty() || plain(part)));
    let mut text = name.map(|(_, value)| (*value).to_owned()).unwrap_or_default();
    let others = labels.iter().filter(|label| Some(*label) != name);
    // JSON's strings are Go's, which is what PromQL reads; Rust's own have escapes that Go does not know.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let pairs: Vec<String> = others
        .map(|(name, value)| if plain(name) { format!("{name}={}", quoted(value)) } else { format!("{}={}", quoted(name), quoted(value)) })
        .collect();
    if !pairs.is_empty() || text.is_empty() {
        text.push_str(&format!("{{{}}}", pairs.join(", ")));
    }
    text
}

/// The record of a sample with these labels, which are in order; `before`: what was forwarded of its series, if the sink asks how far it rose.
pub fn record(target: &Target, labels: &[(&str, &str)], (value, time): (f64, i64), before: Option<Before>) -> String {
    // The seed is of no matter: no hash is shown.
    let known: Vec<Label<'_>> = labels.iter().map(|(name, value)| Label::new(0, name, value)).collect();
    let row = Row {
        labels: &known,
        time,
        value: Value::Float(value),
        late: false,
        series: series_hash(&known, &[]),
        item: 0,
        before,
        tenant: "",
    };
    let mut out = Vec::new();
    match target {
        Target::Kafka(settings) => match settings.format {
            Format::Adapter => drop(adapter::encode(&row, &mut out)),
            // What is no text is shown as those see it who read along.
            Format::Avro => drop(RowEncoder::new(Columns::default()).encode(&row, &mut out)),
            Format::RemoteWrite | Format::Mimir => out = format!("{} {value} {time}", series(labels)).into_bytes(),
            Format::Rows | Format::Row => drop(RowEncoder::new(settings.columns.clone()).encode(&row, &mut out)),
        },
        Target::Files(settings) => drop(RowEncoder::new(settings.columns.clone()).encode(&row, &mut out)),
        Target::Store(_) => out = format!("{} {value} {time}", series(labels)).into_bytes(),
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relabel::selector::Selector;

    #[test]
    fn a_series_is_written_as_promql_writes_it() {
        assert_eq!(series(&[("__name__", "up"), ("job", "a\"b")]), "up{job=\"a\\\"b\"}");
        assert_eq!(series(&[("__name__", "job:up:sum")]), "job:up:sum");
        assert_eq!(series(&[("__name__", "a metric"), ("a label", "x")]), "{__name__=\"a metric\", \"a label\"=\"x\"}");
        assert_eq!(series(&[("job", "a")]), "{job=\"a\"}");
        assert_eq!(series(&[]), "{}");
        // And it is read back as it was, whatever stands in it.
        let strange = [("__name__", "up"), ("a b", "\u{200b}\u{7f}"), ("job", "\"\\\n\t\u{1}ü")];
        let text = series(&strange);
        assert_eq!(Selector::parse(&text).unwrap().labels(), Ok(strange.to_vec()), "{text}");
    }
}
