//! What the process says about itself, read back: so that it can go the way of everybody's samples.
//!
//! Reads what [`crate::telemetry::Telemetry::render`] writes, and no more of OpenMetrics than that: no exemplars, no timestamps. A line that is none is passed over.

/// Names and values.
pub type Labels = [(String, String)];

/// Visits each sample: its name, its labels, its value.
pub fn read(text: &str, visit: &mut dyn FnMut(&str, &Labels, f64)) {
    let mut labels = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        labels.clear();
        let Some((name, value)) = sample(line, &mut labels) else { continue };
        visit(name, &labels, value);
    }
}

fn sample<'t>(line: &'t str, labels: &mut Vec<(String, String)>) -> Option<(&'t str, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = rest.strip_prefix(',').unwrap_or(rest).split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.push((label.to_owned(), value));
            rest = after;
        }
    }
    let value = match rest.trim() {
        "NaN" => f64::NAN,
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().ok()?,
    };
    Some((name, value))
}

/// Up to the closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Telemetry;

    #[test]
    fn what_is_rendered_is_read_back() {
        let telemetry = Telemetry::default();
        telemetry.register_process(1_790_000_000_000);
        let mut found = Vec::new();
        read(&telemetry.render(), &mut |name, labels, value| found.push((name.to_owned(), labels.to_vec(), value)));
        assert!(found.iter().any(|(name, _, value)| name == "process_start_time_seconds" && *value == 1_790_000_000.0), "{found:?}");
        assert!(found.iter().any(|(name, labels, _)| name.starts_with("sluice_build_info") && labels[0].0 == "version"), "{found:?}");
        assert!(found.iter().any(|(name, ..)| name == "process_cpu_seconds_total"), "counters end so: {found:?}");
    }

    #[test]
    fn labels_may_hold_anything() {
        let text =
            "# TYPE x counter\nx_total{a=\"q \\\" b\\\\ \\n, }\",b=\"\"} 1.5\nup 1\nbroken{a=\"\nx_bucket{le=\"+Inf\"} +Inf\n# EOF\n";
        let mut found = Vec::new();
        read(text, &mut |name, labels, value| found.push((name.to_owned(), labels.to_vec(), value)));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(found[0], ("x_total".to_owned(), vec![pair("a", "q \" b\\ \n, }"), pair("b", "")], 1.5));
        assert_eq!(found[1], ("up".to_owned(), vec![], 1.0));
        assert_eq!(found[2], ("x_bucket".to_owned(), vec![pair("le", "+Inf")], f64::INFINITY));
        assert_eq!(found.len(), 3);
    }
}
