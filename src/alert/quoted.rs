//! Text between double quotes as Go writes it: what matchers, group keys and listings quote with, and read back.

/// The text between the quotes, escapes undone; and what stands behind it. `text` begins behind the first quote.
///
/// Escapes are Go's: `\a \b \f \n \r \t \v \\ \"`, three octal digits, `\xhh`, `\uhhhh`, `\Uhhhhhhhh`.
pub fn read(text: &str) -> Result<(String, &str), String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    loop {
        let mut letters = rest.chars();
        let Some(letter) = letters.next() else { return Err(format!("\"{text}: missing end \"")) };
        rest = letters.as_str();
        match letter {
            '"' => break,
            '\n' => return Err("a line feed within quotes; write \\n".into()),
            '\\' => rest = escape(rest, &mut bytes).ok_or_else(|| format!("\"{text}: no escape that is known"))?,
            letter => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    let read = String::from_utf8(bytes).map_err(|_| format!("\"{text}: is no UTF-8 when its escapes are undone"))?;
    Ok((read, rest))
}

fn escape<'t>(text: &'t str, out: &mut Vec<u8>) -> Option<&'t str> {
    let mut letters = text.chars();
    let letter = letters.next()?;
    let plain = match letter {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        '"' => b'"',
        'x' => {
            let (digits, rest) = text.get(1..).filter(|text| text.is_char_boundary(2.min(text.len())))?.split_at_checked(2)?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            return Some(rest);
        }
        '0'..='7' => {
            let (digits, rest) = text.split_at_checked(3)?;
            out.push(u8::from_str_radix(digits, 8).ok()?);
            return Some(rest);
        }
        'u' | 'U' => {
            let (digits, rest) = text.get(1..)?.split_at_checked(if letter == 'u' { 4 } else { 8 })?;
            let letter = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
            out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        _ => return None,
    };
    out.push(plain);
    Some(letters.as_str())
}

/// In quotes, with `\`, `"` and line feeds escaped and nothing else: as Alertmanager writes the values of matchers.
pub fn write(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            letter => out.push(letter),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_go() {
        assert_eq!(read(r#"a\"b\\\n\t\x41\101é\u00e9\U0001F642" rest"#).unwrap(), ("a\"b\\\n\tAAéé🙂".into(), " rest"));
        assert_eq!(read(r#"\xc3\xa9""#).unwrap().0, "é");
        for wrong in [r"open", r#"\q""#, r#"\xff""#, r#"\x4""#, r#"\ud800""#, "a\nb\"", r#"\9""#, r#"\xé""#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["", "a", "a\"b\\c\nd", "héé\t"] {
            let mut out = String::new();
            write(text, &mut out);
            assert_eq!(read(&out[1..]).unwrap(), (text.to_owned(), ""), "{out}");
        }
    }
}
