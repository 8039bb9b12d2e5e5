//! The dialogue by which mail is handed to a server (RFC 5321): TLS from the start or by STARTTLS, PLAIN or LOGIN, one message, and off.
//!
//! A password goes over TLS only (or to this host). An answer of 4xx means later, of 5xx never, as the server says. Left out on purpose: CRAM-MD5, queues, and
//! connections that are kept.

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::config::receivers::page::Mail;
use crate::notify::Outcome;
use crate::notify::http;
use crate::secret::sign;

/// Bytes of an answer, all of its lines.
const ANSWER: usize = 16 << 10;

/// What is handed over.
pub struct Letter {
    /// The sender's address.
    pub from: String,
    /// Recipients' addresses.
    pub to: Vec<String>,
    /// Headers and parts, with CRLF; no line begins with a dot.
    pub data: String,
}

/// User, password, identity.
pub type Login<'a> = (&'a str, String, &'a str);

/// What the server said.
struct Answer {
    code: u16,
    lines: Vec<String>,
}

impl Answer {
    fn outcome(&self, what: &str) -> Outcome {
        let text: String = self.lines.join(" ").chars().filter(|letter| !letter.is_control()).take(300).collect();
        let why = format!("{what}: the server answers {} {text}", self.code);
        if (400..500).contains(&self.code) { Outcome::Again { after: None, why } } else { Outcome::Never { why } }
    }

    fn has(&self, word: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| {
            let (first, rest) = line.split_once([' ', '=']).unwrap_or((line, ""));
            first.eq_ignore_ascii_case(word).then_some(rest)
        })
    }
}

/// Hands it over. Has no time of its own: whoever calls bounds it.
pub async fn deliver(mail: &Mail, login: Option<Login<'_>>, letter: &Letter) -> Outcome {
    let broken = |why: String| Outcome::Again { after: None, why: format!("{}:{}: {why}", mail.host, mail.port) };
    let stream = match TcpStream::connect((mail.host.as_str(), mail.port)).await {
        Ok(stream) => stream,
        Err(error) => return broken(error.to_string()),
    };
    let outcome = if mail.implicit_tls {
        match http::secured(stream, &mail.host, &mail.tls).await {
            Ok(stream) => hand_over(&mut Dialogue::new(stream, true), mail, login, letter, true).await,
            Err(why) => Err(broken(why)),
        }
    } else {
        begin_plainly(stream, mail, login, letter).await
    };
    match outcome {
        Ok(()) => Outcome::Taken,
        Err(outcome) => outcome,
    }
}

async fn begin_plainly(stream: TcpStream, mail: &Mail, login: Option<Login<'_>>, letter: &Letter) -> Result<(), Outcome> {
    let local = stream.peer_addr().is_ok_and(|address| address.ip().is_loopback());
    let mut dialogue = Dialogue::new(stream, local);
    dialogue.expect(220, "greeting").await?;
    let offers = dialogue.say(&format!("EHLO {}", mail.hello), 250, "EHLO").await?;
    if offers.has("STARTTLS").is_none() {
        if mail.require_tls {
            let why = "the server offers no STARTTLS; write require_tls: false if mail may go without".to_owned();
            return Err(Outcome::Never { why });
        }
        return transfer(&mut dialogue, login, letter, &offers).await;
    }
    dialogue.say("STARTTLS", 220, "STARTTLS").await?;
    let stream = dialogue.into_stream()?;
    let stream = http::secured(stream, &mail.host, &mail.tls)
        .await
        .map_err(|why| Outcome::Again { after: None, why: format!("{}: {why}", mail.host) })?;
    hand_over(&mut Dialogue::new(stream, true), mail, login, letter, false).await
}

async fn hand_over<Io>(
    dialogue: &mut Dialogue<Io>,
    mail: &Mail,
    login: Option<Login<'_>>,
    letter: &Letter,
    greets: bool,
) -> Result<(), Outcome>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    if greets {
        dialogue.expect(220, "greeting").await?;
    }
    let offers = dialogue.say(&format!("EHLO {}", mail.hello), 250, "EHLO").await?;
    transfer(dialogue, login, letter, &offers).await
}

async fn transfer<Io>(dialogue: &mut Dialogue<Io>, login: Option<Login<'_>>, letter: &Letter, offers: &Answer) -> Result<(), Outcome>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    if let Some(login) = login {
        authenticate(dialogue, login, offers).await?;
    }
    dialogue.say(&format!("MAIL FROM:<{}>", letter.from), 250, "MAIL FROM").await?;
    let (mut taken, mut refused) = (0, None);
    for to in &letter.to {
        match dialogue.say(&format!("RCPT TO:<{to}>"), 250, "RCPT TO").await {
            Ok(_) => taken += 1,
            Err(outcome) => {
                if let Outcome::Never { why } | Outcome::Again { why, .. } = &outcome {
                    tracing::warn!(recipient = to, "a recipient of mail is refused: {why}");
                }
                refused = Some(outcome);
            }
        }
    }
    // One address that is gone does not keep a message from the others.
    if taken == 0 {
        return Err(refused.unwrap_or(Outcome::Never { why: "no recipients".to_owned() }));
    }
    dialogue.say("DATA", 354, "DATA").await?;
    dialogue.write(letter.data.as_bytes()).await?;
    dialogue.say(".", 250, "the message").await?;
    // It is the server's now, whatever comes of this.
    let _ = dialogue.write(b"QUIT\r\n").await;
    Ok(())
}

async fn authenticate<Io>(dialogue: &mut Dialogue<Io>, (user, password, identity): Login<'_>, offers: &Answer) -> Result<(), Outcome>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    if !dialogue.safe {
        return Err(Outcome::Never { why: "a password is not sent without TLS; let the server offer STARTTLS".to_owned() });
    }
    let ways = offers.has("AUTH").unwrap_or_default().to_ascii_uppercase();
    let knows = |way: &str| ways.split_whitespace().any(|known| known == way);
    if knows("PLAIN") {
        let secret = sign::base64(format!("{identity}\0{user}\0{password}").as_bytes());
        dialogue.say(&format!("AUTH PLAIN {secret}"), 235, "AUTH").await?;
    } else if knows("LOGIN") {
        dialogue.say("AUTH LOGIN", 334, "AUTH").await?;
        dialogue.say(&sign::base64(user.as_bytes()), 334, "AUTH").await?;
        dialogue.say(&sign::base64(password.as_bytes()), 235, "AUTH").await?;
    } else {
        return Err(Outcome::Never { why: format!("the server offers no AUTH that is spoken here, PLAIN or LOGIN, but: {ways}") });
    }
    Ok(())
}

struct Dialogue<Io> {
    stream: Io,
    read: Vec<u8>,
    /// Whether a password may go over it.
    safe: bool,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Dialogue<Io> {
    fn new(stream: Io, safe: bool) -> Dialogue<Io> {
        Dialogue { stream, read: Vec::new(), safe }
    }

    /// Before TLS: what came already would be believed to have come by it.
    fn into_stream(self) -> Result<Io, Outcome> {
        if self.read.is_empty() {
            Ok(self.stream)
        } else {
            Err(Outcome::Again { after: None, why: "the server speaks on before TLS has begun".to_owned() })
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Outcome> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        written.await.map_err(|error| Outcome::Again { after: None, why: error.to_string() })
    }

    /// Says a line, and takes the answer, which must be this.
    async fn say(&mut self, line: &str, code: u16, what: &str) -> Result<Answer, Outcome> {
        self.write(format!("{line}\r\n").as_bytes()).await?;
        self.expect(code, what).await
    }

    async fn expect(&mut self, code: u16, what: &str) -> Result<Answer, Outcome> {
        let answer = self.answer().await.map_err(|why| Outcome::Again { after: None, why: format!("{what}: {why}") })?;
        // 251: taken, and passed on.
        if answer.code == code || code == 250 && answer.code == 251 { Ok(answer) } else { Err(answer.outcome(what)) }
    }

    async fn answer(&mut self) -> Result<Answer, String> {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        loop {
            let line = self.line().await?;
            bytes += line.len();
            let code = line.get(..3).and_then(|code| code.parse::<u16>().ok()).ok_or("it does not speak SMTP")?;
            let last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if last {
                return Ok(Answer { code, lines });
            }
            if bytes > ANSWER {
                return Err("its answer has no end".to_owned());
            }
        }
    }

    async fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.read.len() > ANSWER {
                return Err("its answer has no end".to_owned());
            }
            let mut piece = [0; 2048];
            match self.stream.read(&mut piece).await.map_err(|error| error.to_string())? {
                0 => return Err("it has closed the connection".to_owned()),
                read => self.read.extend_from_slice(&piece[..read]),
            }
        }
    }
}
