//! Which shape a sink's messages have, and which labels stand at the top of a row: checked once, at the start.

use std::fmt;

/// The shape of a Kafka message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Many rows a message, one a line (NDJSON), every line ended by a line feed. The default, and the cheapest.
    Rows,
    /// One row a message, no line feed, the series' hash as key.
    Row,
    /// The exact message of prometheus-kafka-adapter 1.9, for people who move over. One sample a message, seconds, value as a string.
    Adapter,
    /// A request of Remote Write 1.0, packed with snappy: what vmagent writes to Kafka and reads from it.
    RemoteWrite,
    /// The same request as it is, and the tenant as key: a record of Mimir's ingest storage.
    Mimir,
    /// One sample in Avro's binary encoding (docs/sample.avsc).
    Avro,
}

impl Format {
    /// All of them.
    const ALL: [Format; 6] = [Format::Rows, Format::Row, Format::Adapter, Format::RemoteWrite, Format::Mimir, Format::Avro];

    /// The word used in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Format::Rows => "rows",
            Format::Row => "row",
            Format::Adapter => "adapter",
            Format::RemoteWrite => "remote-write",
            Format::Mimir => "mimir",
            Format::Avro => "avro",
        }
    }

    /// The format of that name.
    pub fn from_word(word: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.word() == word)
    }

    /// The value of the header `sluice-format`; neither the adapter nor Mimir sends headers of that kind.
    pub fn header(self) -> Option<&'static str> {
        match self {
            Format::Rows | Format::Row => Some("rows/1"),
            Format::RemoteWrite => Some("remote-write/1.0"),
            Format::Avro => Some("avro/1"),
            Format::Adapter | Format::Mimir => None,
        }
    }

    /// Whether a message holds many samples.
    pub fn packs(self) -> bool {
        matches!(self, Format::Rows | Format::RemoteWrite | Format::Mimir)
    }

    /// How many rows may share a message.
    pub fn rows_a_message(self, asked: usize) -> usize {
        if self.packs() { asked.max(1) } else { 1 }
    }

    /// Whether labels can stand at the top.
    pub fn has_columns(self) -> bool {
        matches!(self, Format::Rows | Format::Row)
    }

    /// Whether a message is no text.
    pub fn is_binary(self) -> bool {
        matches!(self, Format::RemoteWrite | Format::Mimir | Format::Avro)
    }
}

/// Keys of a row that no column may take; `d` and `dt` are kept for counter increases.
pub const RESERVED: [&str; 11] = ["ts", "name", "v", "d", "dt", "nan", "inf", "stale", "histogram", "late", "labels"];

/// The most columns a row has. More belong into `labels`, where Druid reads them as fast (`JSON_VALUE`).
pub const COLUMNS_MAX: usize = 32;

/// The columns of a sink that names none.
pub const DEFAULT_COLUMNS: [&str; 4] = ["job", "instance", "namespace", "cluster"];

/// Why a column is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnProblem {
    /// Not `[a-zA-Z_][a-zA-Z0-9_]*`.
    BadName(String),
    /// One of [`RESERVED`].
    Reserved(String),
    /// `__name__` is the row's `name` already.
    MetricName,
    /// Named twice.
    Twice(String),
    /// More than [`COLUMNS_MAX`].
    TooMany(usize),
}

impl fmt::Display for ColumnProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnProblem::BadName(name) => {
                write!(
                    out,
                    "column {name:?} must look like [a-zA-Z_][a-zA-Z0-9_]*; leave it out, and the label stays in `labels` under its full name"
                )
            }
            ColumnProblem::Reserved(name) => write!(
                out,
                "column {name:?} is a key of the row itself ({}); leave it out, and the label stays in `labels`, where it clashes with nothing",
                RESERVED.join(", ")
            ),
            ColumnProblem::MetricName => write!(out, "column \"__name__\" is the row's `name` already; leave it out"),
            ColumnProblem::Twice(name) => write!(out, "column {name:?} is named twice; name it once"),
            ColumnProblem::TooMany(count) => write!(out, "{count} columns; at most {COLUMNS_MAX} are allowed, the rest stays in `labels`"),
        }
    }
}

/// The labels that stand at the top of a row, in the order in which they stand there. Holding one proves that no key clashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    names: Vec<String>,
    /// Bit `n`: some column's name is `n` bytes long (63: 63 or more). Most labels are told apart by that alone.
    lengths: u64,
}

impl Columns {
    /// Checks the names; all problems at once.
    pub fn new<S: AsRef<str>>(names: &[S]) -> Result<Columns, Vec<ColumnProblem>> {
        let mut problems = Vec::new();
        if names.len() > COLUMNS_MAX {
            problems.push(ColumnProblem::TooMany(names.len()));
        }
        let mut lengths = 0;
        let mut kept: Vec<String> = Vec::new();
        for name in names.iter().map(AsRef::as_ref) {
            if name == "__name__" {
                problems.push(ColumnProblem::MetricName);
            } else if !legal(name) {
                problems.push(ColumnProblem::BadName(name.to_owned()));
            } else if RESERVED.contains(&name) {
                problems.push(ColumnProblem::Reserved(name.to_owned()));
            } else if kept.iter().any(|other| other == name) {
                problems.push(ColumnProblem::Twice(name.to_owned()));
            }
            lengths |= 1 << name.len().min(63);
            kept.push(name.to_owned());
        }
        if problems.is_empty() { Ok(Columns { names: kept, lengths }) } else { Err(problems) }
    }

    /// The names in the order of the row.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The place of the column of this name.
    #[inline(always)]
    pub fn place(&self, label: &str) -> Option<usize> {
        if self.lengths >> label.len().min(63) & 1 == 0 {
            return None;
        }
        self.names.iter().position(|name| name == label)
    }
}

impl Default for Columns {
    fn default() -> Columns {
        let names: Vec<String> = DEFAULT_COLUMNS.iter().map(|name| (*name).to_owned()).collect();
        let lengths = names.iter().fold(0, |bits, name| bits | 1 << name.len().min(63));
        Columns { names, lengths }
    }
}

fn legal(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_of_columns_are_told_at_once() {
        let problems = Columns::new(&["job", "ts", "__name__", "job", "a-b", ""]).unwrap_err();
        assert_eq!(
            problems,
            [
                ColumnProblem::Reserved("ts".into()),
                ColumnProblem::MetricName,
                ColumnProblem::Twice("job".into()),
                ColumnProblem::BadName("a-b".into()),
                ColumnProblem::BadName(String::new()),
            ]
        );
        let many: Vec<String> = (0..33).map(|n| format!("c{n}")).collect();
        assert_eq!(Columns::new(&many).unwrap_err(), [ColumnProblem::TooMany(33)]);
    }

    #[test]
    fn the_default_columns_pass_the_check() {
        assert_eq!(Columns::new(&DEFAULT_COLUMNS).unwrap(), Columns::default());
    }
}
