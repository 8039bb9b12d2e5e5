//! Flags of a Go program, as a command line or a file has them: `-name=value`, `--name=value`, `-name value`, `-name`; a file also as a unit's `ExecStart=` or the `args:` of a
//! container, with quotes, comments and lines that go on. And the lists that VictoriaMetrics' flags hold: one flag with commas, or several flags.

use crate::config::import;
use crate::config::import::Content;
use crate::config::import::draft::Said;
use crate::config::read::Problem;

/// A flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its line; among arguments, its number.
    pub line: usize,
    /// Without hyphens.
    pub name: String,
    /// `true` where nothing is written.
    pub value: String,
}

impl Flag {
    /// For a finding.
    pub fn said(&self) -> Said {
        Said::new(self.line, &format!("-{}", self.name), &self.value)
    }

    /// For a finding that shows no value.
    pub fn unshown(&self) -> Said {
        Said::new(self.line, &format!("-{}", self.name), "")
    }
}

/// Reads them.
pub fn read(content: &Content) -> Result<Vec<Flag>, Vec<Problem>> {
    let words = match content {
        Content::Text(text) => words(text)?,
        Content::Words(words) => words.iter().enumerate().map(|(at, word)| (at + 1, word.clone())).collect(),
        Content::Variables(_) => {
            return Err(vec![import::wrong(0, "(the input)", "is an environment", "name a file of flags, or write them behind --")]);
        }
    };
    let (mut flags, mut problems) = (Vec::<Flag>::new(), Vec::new());
    // Only right behind a flag without `=` a word is its value.
    let mut open = false;
    for (line, word) in words {
        let bare =
            word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()));
        match (bare, flags.last_mut()) {
            (Some(bare), _) => {
                let (name, value) = bare.split_once('=').unwrap_or((bare, "true"));
                open = !bare.contains('=');
                flags.push(Flag { line, name: name.to_owned(), value: value.to_owned() });
            }
            (None, Some(flag)) if open => {
                flag.value = word;
                open = false;
            }
            (None, None) if is_before_flags(&word) => {}
            (None, _) => {
                let remedy = "a flag is -name=value; a value with spaces stands in quotes";
                problems.push(import::wrong(line, &word, "is no flag, and no flag's value", remedy));
            }
        }
    }
    if problems.is_empty() { Ok(flags) } else { Err(problems) }
}

/// The program itself, and what a unit or a container's description has before its arguments.
fn is_before_flags(word: &str) -> bool {
    let word = word.strip_prefix("ExecStart=").unwrap_or(word);
    word.contains("vmagent") || matches!(word, "args:" | "command:" | "-" | "exec")
}

/// Words as a shell tells them apart, with the lines on which they begin.
fn words(text: &str) -> Result<Vec<(usize, String)>, Vec<Problem>> {
    let (mut words, mut open, mut quote) = (Vec::new(), None::<(usize, String)>, None);
    let mut line = 1;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (letter, Some((ends, _))) if letter == ends => quote = None,
            ('"' | '\'', None) => {
                quote = Some((letter, line));
                open.get_or_insert((line, String::new()));
            }
            ('\\', None) if letters.peek() == Some(&'\n') => {}
            ('#', None) if open.is_none() => {
                while letters.peek().is_some_and(|letter| *letter != '\n') {
                    letters.next();
                }
            }
            (letter, None) if letter.is_whitespace() => words.extend(open.take()),
            (letter, _) => open.get_or_insert((line, String::new())).1.push(letter),
        }
        line += usize::from(letter == '\n');
    }
    if let Some((ends, line)) = quote {
        return Err(vec![import::wrong(line, "(this line)", format!("a quote {ends} is not closed"), "close it on the same line")]);
    }
    words.extend(open.take());
    // A container's arguments stand in a list of YAML.
    words.retain(|(_, word)| word != "-");
    Ok(words)
}

/// The members of a list flag: at commas outside of quotes and brackets.
pub fn members(value: &str) -> Vec<String> {
    let (mut members, mut open, mut quote, mut depth) = (Vec::new(), String::new(), None, 0_usize);
    for letter in value.chars() {
        match (letter, quote) {
            (letter, Some(ends)) if letter == ends => quote = None,
            ('"' | '\'', None) => quote = Some(letter),
            (',', None) if depth == 0 => members.push(std::mem::take(&mut open)),
            (letter, _) => {
                match letter {
                    '[' | '(' | '{' => depth += 1,
                    ']' | ')' | '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                open.push(letter);
            }
        }
    }
    members.push(open);
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(text: &str) -> Vec<(usize, String, String)> {
        read(&Content::Text(text.to_owned())).unwrap().into_iter().map(|flag| (flag.line, flag.name, flag.value)).collect()
    }

    #[test]
    fn flags_are_read_as_a_unit_a_container_and_a_shell_write_them() {
        let expected =
            vec![(2, "a".to_owned(), "b c".to_owned()), (3, "d".to_owned(), "true".to_owned()), (4, "e.f".to_owned(), "1m".to_owned())];
        assert_eq!(flags("ExecStart=/usr/bin/vmagent-prod \\\n  -a='b c' \\\n  --d \\\n -e.f 1m\n"), expected);
        assert_eq!(flags("args: # of a pod\n  - \"-a=b c\"\n  - --d\n  - -e.f=1m\n"), expected);
    }

    #[test]
    fn what_is_no_flag_is_told_with_its_line() {
        let wrong = read(&Content::Text("-a=b\nc\n".to_owned())).unwrap_err();
        assert_eq!((wrong[0].line, wrong[0].key.as_str()), (2, "c"));
        assert!(read(&Content::Text("-a='b\n".to_owned())).unwrap_err()[0].rule.contains("not closed"));
    }

    #[test]
    fn lists_are_parted_at_commas_outside_of_quotes() {
        assert_eq!(members("a,'b,c',d"), ["a", "b,c", "d"]);
        assert_eq!(members(""), [""]);
        assert_eq!(members("{a,b},c"), ["{a,b}", "c"]);
    }
}
