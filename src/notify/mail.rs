//! Mail: a message with what it says as text, as HTML, or both, for whoever [`smtp`](crate::notify::smtp) hands it to.
//!
//! Every part is base64, so no line of an alert can be a header, an end of the message, or too long. `Message-ID` is made of the message's id: a server that
//! has it already can tell.

use crate::config::receivers::page::Mail;
use crate::notify::Outcome;
use crate::notify::http;
use crate::notify::page::Page;
use crate::notify::say;
use crate::notify::say::Dialect;
use crate::notify::smtp;
use crate::notify::smtp::Letter;
use crate::secret::sign;

/// Bytes of a part.
const PART: usize = 512 << 10;
/// Recipients of one.
const RECIPIENTS: usize = 100;

/// Sends.
pub async fn send(mail: &Mail, page: &Page<'_>) -> Outcome {
    let letter = match letter(mail, page) {
        Ok(letter) => letter,
        Err(outcome) => return outcome,
    };
    let login = match &mail.login {
        None => None,
        Some((user, password, identity)) => match http::reveal(password) {
            Ok(password) => Some((user.as_str(), password, identity.as_str())),
            Err(why) => return Outcome::Again { after: None, why },
        },
    };
    match tokio::time::timeout(mail.timeout, smtp::deliver(mail, login, &letter)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Again { after: None, why: format!("{}: no end within {} s", mail.host, mail.timeout.as_secs_f64()) },
    }
}

fn letter(mail: &Mail, page: &Page<'_>) -> Result<Letter, Outcome> {
    let never = |why: String| Outcome::Never { why };
    let (from_text, to_text) = (page.address(&mail.from)?, page.address(&mail.to)?);
    let from = address(&from_text).ok_or_else(|| never("its sender is no address of mail".to_owned()))?;
    let to: Vec<String> = to_text
        .split(',')
        .filter(|one| !one.trim().is_empty())
        .map(|one| address(one).ok_or(one))
        .collect::<Result<_, _>>()
        .map_err(|one| never(format!("{} is no address of mail", one.trim())))?;
    if to.is_empty() || to.len() > RECIPIENTS {
        return Err(never(format!("{} recipients; 1 to {RECIPIENTS} are taken", to.len())));
    }
    let written = |name: &str| mail.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, text)| text);
    let subject = page.text(written("subject"), Dialect::Plain, || say::title(page.message, &page.data));
    let mut headers = vec![
        ("Subject".to_owned(), say::cut(&subject, 900)),
        ("From".to_owned(), page.part(written("from").unwrap_or(&mail.from), Dialect::Plain)),
        ("To".to_owned(), page.part(written("to").unwrap_or(&mail.to), Dialect::Plain)),
    ];
    for (name, text) in mail.headers.iter().filter(|(name, _)| !["subject", "from", "to"].contains(&name.to_ascii_lowercase().as_str())) {
        headers.push((name.clone(), page.part(text, Dialect::Plain)));
    }
    let absent = |headers: &[(String, String)], name: &str| !headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    let id = sign::sha256_hex(page.message.id.as_bytes());
    if absent(&headers, "Message-ID") {
        headers.push(("Message-ID".to_owned(), format!("<{}@{}>", &id[..32], mail.hello)));
    }
    if absent(&headers, "Date") {
        headers.push(("Date".to_owned(), date(page.message.at)));
    }
    headers.push(("MIME-Version".to_owned(), "1.0".to_owned()));
    let ours = |dialect: Dialect| {
        let (title, text) = (dialect.escape(&say::title(page.message, &page.data)), say::text(page.message, &page.data, dialect, PART));
        if dialect == Dialect::Html { format!("<h3>{title}</h3>\n<p>{text}</p>\n") } else { format!("{title}\n\n{text}\n") }
    };
    let part = |text, dialect| say::cut(&page.text(text, dialect, || ours(dialect)), PART);
    let mut parts = Vec::new();
    if mail.text.is_some() || mail.html.is_none() {
        parts.push(("text/plain", part(mail.text.as_ref(), Dialect::Plain)));
    }
    // An empty `html` is Alertmanager's way to say: text alone.
    if mail.html.as_ref().is_none_or(|html| !html.text.is_empty()) {
        parts.push(("text/html", part(mail.html.as_ref(), Dialect::Html)));
    }
    Ok(Letter { from, to, data: written_out(&headers, &parts, &id[32..56]) })
}

fn written_out(headers: &[(String, String)], parts: &[(&str, String)], boundary: &str) -> String {
    let mut out = String::new();
    for (name, value) in headers {
        out.push_str(&format!("{name}: {}\r\n", header(value)));
    }
    out.push_str(&format!("Content-Type: multipart/alternative; boundary=\"{boundary}\"\r\n\r\n"));
    for (kind, text) in parts {
        out.push_str(&format!("--{boundary}\r\nContent-Type: {kind}; charset=UTF-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"));
        let packed = sign::base64(text.as_bytes());
        for line in packed.as_bytes().chunks(76) {
            out.push_str(&String::from_utf8_lossy(line));
            out.push_str("\r\n");
        }
    }
    out.push_str(&format!("--{boundary}--\r\n"));
    out
}

/// A header's value: one line, and what is not ASCII in RFC 2047's words of at most 75 letters.
fn header(value: &str) -> String {
    let line = value.split(['\r', '\n']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|letter| !letter.is_control()).collect();
    if line.is_ascii() && line.len() < 900 {
        return line;
    }
    // An address behind a name stays as it is: words are for names.
    let (name, behind) = match line.rsplit_once(" <").filter(|(_, address)| address.ends_with('>') && address.is_ascii()) {
        Some((name, address)) => (name.to_owned(), format!(" <{address}")),
        None => (line, String::new()),
    };
    let mut words = Vec::new();
    let mut rest = name.as_str();
    while !rest.is_empty() {
        let piece = say::short(rest, 45);
        words.push(format!("=?UTF-8?B?{}?=", sign::base64(piece.as_bytes())));
        rest = &rest[piece.len()..];
    }
    format!("{}{behind}", words.join("\r\n "))
}

/// The address in `Name <user@host>`, or alone.
fn address(text: &str) -> Option<String> {
    let text = text.trim();
    let bare = match text.rsplit_once('<') {
        Some((_, rest)) => rest.strip_suffix('>')?,
        None => text,
    };
    let fits = bare.is_ascii() && bare.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>,;\"()".contains(&byte));
    (fits && bare.len() <= 320 && bare.contains('@')).then(|| bare.to_owned())
}

fn date(at: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(at).unwrap_or_default();
    time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_one_line_of_ascii() {
        assert_eq!(header("a\r\nBcc: x@y"), "a Bcc: x@y");
        assert_eq!(header("Täst"), "=?UTF-8?B?VMOkc3Q=?=");
        assert_eq!(header("Ü <a@b>"), "=?UTF-8?B?w5w=?= <a@b>");
        let long = header(&"ä".repeat(300));
        assert!(long.split("\r\n").all(|line| line.len() <= 76), "{long}");
        assert_eq!(date(1_790_000_000_000), "Mon, 21 Sep 2026 14:13:20 +0000");
    }

    #[test]
    fn addresses_are_taken_out_of_names() {
        assert_eq!(address(" On Call <a@b.c> ").as_deref(), Some("a@b.c"));
        for wrong in ["", "a", "a b@c", "a@b>\r\nRCPT TO:<x@y", "<a@b", "a@b, c@d"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
