//! Regular expressions as Prometheus means them: Go's syntax (RE2), the whole text must match, `.` takes line feeds too.
//!
//! The `regex` crate is of the same family and differs in little: its `\d`, `\w`, `\s` and `\b` know all of Unicode while Go's know ASCII, a `[`
//! within a class opens another class, `&&`, `--` and `~~` within one are operators, and it has no `\Q...\E`. Those are written in its words here.

use regex::Regex;

/// Memory that a compiled pattern may take; Go's has no such bound, but a pattern of settings must not take a node's memory.
const COMPILED_BYTES_MAX: usize = 4 << 20;

/// A pattern that stands for the whole text.
pub fn whole(pattern: &str) -> Result<Regex, String> {
    let anchored = format!("^(?s:{})$", translated(pattern));
    regex::RegexBuilder::new(&anchored).size_limit(COMPILED_BYTES_MAX).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "it takes too much memory when compiled; write fewer or smaller repetitions".to_owned(),
        // The crate draws the pattern with a marker below; its last line says what is wrong.
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or(&text);
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    })
}

/// The pattern in the crate's words.
fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut letters = pattern.chars().peekable();
    // Within `[...]`: how many letters of it have been seen.
    let mut class: Option<usize> = None;
    while let Some(letter) = letters.next() {
        match (letter, class) {
            ('\\', _) => {
                let Some(next) = letters.next() else {
                    out.push('\\');
                    break;
                };
                match ascii_class(next, class.is_some()) {
                    Some(words) => out.push_str(words),
                    None if next == 'Q' && class.is_none() => quote(&mut letters, &mut out),
                    None => out.extend(['\\', next]),
                }
                class = class.map(|seen| seen + 1);
            }
            ('[', None) => {
                out.push('[');
                if letters.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                class = Some(0);
            }
            (']', Some(seen)) if seen > 0 => {
                out.push(']');
                class = None;
            }
            ('[', Some(seen)) => {
                // `[:alpha:]` is a class of names in both; any other bracket is a bracket.
                if letters.peek() != Some(&':') {
                    out.push('\\');
                    out.push('[');
                } else {
                    out.push('[');
                    for letter in letters.by_ref() {
                        out.push(letter);
                        if letter == ']' {
                            break;
                        }
                    }
                }
                class = Some(seen + 1);
            }
            (letter, Some(seen)) => {
                if matches!(letter, '&' | '~' | ']') {
                    out.push('\\');
                }
                out.push(letter);
                class = Some(seen + 1);
            }
            (letter, None) => out.push(letter),
        }
    }
    out
}

/// Go's ASCII classes.
fn ascii_class(letter: char, within: bool) -> Option<&'static str> {
    Some(match (letter, within) {
        ('d', false) => "[0-9]",
        ('d', true) => "0-9",
        ('D', _) => "[^0-9]",
        ('w', false) => "[0-9A-Za-z_]",
        ('w', true) => "0-9A-Za-z_",
        ('W', _) => "[^0-9A-Za-z_]",
        ('s', false) => "[\\t\\n\\x0c\\r ]",
        ('s', true) => "\\t\\n\\x0c\\r ",
        ('S', _) => "[^\\t\\n\\x0c\\r ]",
        ('b', false) => "(?-u:\\b)",
        _ => return None,
    })
}

/// What stands up to `\E`, or to the end, as it is.
fn quote(letters: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        if letter == '\\' && letters.next_if_eq(&'E').is_some() {
            break;
        }
        text.push(letter);
    }
    out.push_str(&regex::escape(&text));
}
