//! Aligned columns for people. Scripts take `--json`.

use serde_json::Value;

/// Rows below headings; numbers stand to the right.
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(headings: &[&'static str]) -> Table {
        Table { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; it has as many cells as there are headings.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.headings.len());
        self.rows.push(cells);
    }

    /// The table as text, a line each, or `nothing` if it has no row.
    pub fn text(&self, nothing: &str) -> String {
        if self.rows.is_empty() {
            return format!("{nothing}\n");
        }
        let columns = self.headings.len();
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.headings[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let numeric =
            |column: usize| self.rows.iter().all(|row| row[column] == "-" || row[column].starts_with(|first: char| first.is_ascii_digit()));
        let right: Vec<bool> = (0..columns).map(numeric).collect();
        let mut out = String::new();
        let mut line = |cells: &[&str]| {
            let mut text = String::new();
            for (column, cell) in cells.iter().enumerate() {
                let fill = " ".repeat(widths[column] - cell.chars().count());
                let (before, after) = if right[column] { (fill.as_str(), "") } else { ("", fill.as_str()) };
                text.push_str(&format!("{before}{cell}{after}  "));
            }
            out.push_str(text.trim_end());
            out.push('\n');
        };
        line(&self.headings);
        for row in &self.rows {
            line(&row.iter().map(String::as_str).collect::<Vec<_>>());
        }
        out
    }
}

/// A value of JSON as a cell: `-` where there is none.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Milliseconds as people say them: `850 ms`, `12.3 s`, `4 min`, `3.5 h`.
pub fn span(ms: &Value) -> String {
    let Some(ms) = ms.as_f64() else { return "-".into() };
    match ms {
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms if ms < 120_000.0 => format!("{:.1} s", ms / 1000.0),
        ms if ms < 7_200_000.0 => format!("{:.0} min", ms / 60_000.0),
        ms => format!("{:.1} h", ms / 3_600_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_numbers_stand_right() {
        let mut table = Table::new(&["GROUP", "SERIES"]);
        table.row(vec!["a".into(), "7".into()]);
        table.row(vec!["zürich/k8s".into(), "12000".into()]);
        assert_eq!(table.text("none"), "GROUP       SERIES\na                7\nzürich/k8s   12000\n");
        assert_eq!(Table::new(&["X"]).text("none yet"), "none yet\n");
    }

    #[test]
    fn spans_have_the_unit_that_fits() {
        let shown: Vec<String> = [850.0, 12_345.0, 240_000.0, 12_600_000.0].iter().map(|ms| span(&Value::from(*ms))).collect();
        assert_eq!(shown, ["850 ms", "12.3 s", "4 min", "3.5 h"]);
    }
}
