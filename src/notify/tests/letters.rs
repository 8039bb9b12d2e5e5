//! Mail, handed to a server that says what the test wants.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::AsyncBufReadExt as _;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio::io::BufReader;
use tokio::net::TcpListener;

use super::AT;
use super::alert;
use super::both;
use super::is_again;
use super::is_never;
use super::message;
use super::send;
use crate::clock;
use crate::notify::Outcome;
use crate::secret::Bundle;
use crate::secret::sign;
use crate::serve::tls::Certificate;
use crate::serve::tls::Files;
use crate::serve::tls::Tls;

/// How a server behaves.
#[derive(Default)]
struct Habits {
    tls: Option<Tls>,
    /// TLS from the first byte.
    at_once: bool,
    auth: &'static str,
    /// A line that begins so is answered so.
    says: Vec<(&'static str, &'static str)>,
}

struct Post {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Post {
    async fn new(habits: Habits) -> Post {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&lines);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if habits.at_once {
                    let Some(stream) = habits.tls.as_ref().unwrap().accept_in_a_test(stream).await else { continue };
                    talk(stream, &habits, true, &seen).await;
                } else if let Some(stream) = talk(stream, &habits, true, &seen).await
                    && let Some(tls) = &habits.tls
                    && let Some(stream) = tls.accept_in_a_test(stream).await
                {
                    talk(stream, &habits, false, &seen).await;
                }
            }
        });
        Post { address, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    fn config(&self, more: &str) -> String {
        format!(
            "  email_configs: [{{ to: 'On Call <a@example.com>, b@example.com', from: s@example.com, smarthost: 'localhost:{}', timeout: 3s, {more} }}]",
            self.address.port()
        )
    }
}

/// Until the end, or the wish for TLS.
async fn talk<Io: AsyncRead + AsyncWrite + Unpin>(stream: Io, habits: &Habits, greets: bool, seen: &Mutex<Vec<String>>) -> Option<Io> {
    let mut stream = BufReader::new(stream);
    if greets {
        stream.write_all(b"220 post ESMTP\r\n").await.ok()?;
    }
    let (mut data, mut login) = (false, 0);
    loop {
        stream.flush().await.ok()?;
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end_matches("\r\n").to_owned();
        seen.lock().unwrap().push(line.clone());
        let known = habits.says.iter().find(|(begins, _)| line.starts_with(begins));
        let answer = match (known, line.as_str()) {
            (_, ".") if data => {
                data = false;
                "250 queued".to_owned()
            }
            _ if data => continue,
            (Some((_, answer)), _) => (*answer).to_owned(),
            (None, line) if line.starts_with("EHLO") => {
                let starttls = if habits.tls.is_some() && greets && !habits.at_once { "250-STARTTLS\r\n" } else { "" };
                format!("250-post\r\n{starttls}250-AUTH {}\r\n250 SIZE 1000000", habits.auth)
            }
            (None, "STARTTLS") => {
                stream.write_all(b"220 go\r\n").await.ok()?;
                stream.flush().await.ok()?;
                return Some(stream.into_inner());
            }
            (None, "DATA") => {
                data = true;
                "354 go".to_owned()
            }
            (None, line) if line.starts_with("AUTH PLAIN") => "235 welcome".to_owned(),
            (None, "AUTH LOGIN") => {
                login = 2;
                "334 VXNlcm5hbWU6".to_owned()
            }
            _ if login > 0 => {
                login -= 1;
                if login == 0 { "235 welcome" } else { "334 UGFzc3dvcmQ6" }.to_owned()
            }
            (None, "QUIT") => return None,
            _ => "250 ok".to_owned(),
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
    }
}

/// A certificate for `localhost`, and the file of its authority.
fn certificate(dir: &std::path::Path) -> (Tls, String) {
    let bundle = Bundle::make("post", &["localhost".into()], clock::wall_ms()).unwrap();
    bundle.admit(1, "localhost", clock::wall_ms()).unwrap().write(dir).unwrap();
    let file = |name: &str| dir.join("cluster").join(name);
    let certificate = Certificate::load(&Files { certificate: file("node.pem"), key: file("node.key") }).unwrap();
    (Tls::new(certificate), file("ca.pem").display().to_string())
}

#[tokio::test]
async fn mail_goes_out_with_text_and_html_and_no_line_of_an_alert_is_a_command() {
    let post = Post::new(Habits { auth: "LOGIN PLAIN", ..Habits::default() }).await;
    let hostile = message(vec![alert("a\r\n.\r\nMAIL FROM:<x@y>", "ünder <b>&\r\nBcc: x@y", AT + 1)]);
    let lines = post.config(
        "require_tls: false, auth_username: u, auth_password: p, headers: { Subject: 'A {{ commonAnnotations.summary }}', X-Team: db }",
    );
    assert_eq!(send(&lines, &hostile).await, Outcome::Taken);
    let seen = post.lines();
    assert_eq!(
        seen[..6],
        [
            "EHLO localhost",
            "AUTH PLAIN AHUAcA==",
            "MAIL FROM:<s@example.com>",
            "RCPT TO:<a@example.com>",
            "RCPT TO:<b@example.com>",
            "DATA"
        ]
    );
    let letter = seen[6..].join("\n");
    assert_eq!(seen.iter().filter(|line| *line == ".").count(), 1);
    assert!(!letter.contains("\nBcc:") && letter.contains("\nX-Team: db\n") && letter.contains("To: On Call <a@example.com>"), "{letter}");
    let subject = seen.iter().find(|line| line.starts_with("Subject: ")).unwrap();
    assert_eq!(*subject, format!("Subject: =?UTF-8?B?{}?=", sign::base64("A ünder <b>& Bcc: x@y".as_bytes())));
    let parts: Vec<String> = letter.split("base64\n\n").skip(1).map(|part| part.split("--").next().unwrap().replace('\n', "")).collect();
    let decoded: Vec<String> = parts
        .iter()
        .map(|part| String::from_utf8(sign::from_base64_url(&part.replace('+', "-").replace('/', "_")).unwrap()).unwrap())
        .collect();
    assert!(decoded[0].contains("[P2] [FIRING:1] DiskFull") && decoded[0].contains("ünder <b>&"), "{}", decoded[0]);
    assert!(decoded[1].contains("ünder &lt;b&gt;&amp;") && decoded[1].contains("<b>firing</b>"), "{}", decoded[1]);
    let id = |seen: &[String]| seen.iter().find(|line| line.starts_with("Message-ID: ")).cloned().unwrap();
    let first = id(&seen);
    assert_eq!(send(&lines, &hostile).await, Outcome::Taken);
    assert_eq!(id(&post.lines()[seen.len()..]), first, "each try is the same message");
}

#[tokio::test]
async fn starttls_and_tls_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for at_once in [false, true] {
        let (tls, ca) = certificate(dir.path());
        let post = Post::new(Habits { tls: Some(tls), at_once, auth: "LOGIN", ..Habits::default() }).await;
        let with = format!("auth_username: u, auth_password: p, force_implicit_tls: {at_once}, tls_config: {{ ca_file: '{ca}' }}");
        assert_eq!(send(&post.config(&with), &both()).await, Outcome::Taken);
        let seen = post.lines();
        assert_eq!(seen.iter().any(|line| line == "STARTTLS"), !at_once);
        let login = seen.iter().position(|line| line == "AUTH LOGIN").unwrap();
        assert_eq!(seen[login + 1..login + 3], ["dQ==", "cA=="]);
        // An authority that is not trusted: nothing is said.
        let post = Post::new(Habits { tls: Some(certificate(dir.path()).0), at_once, ..Habits::default() }).await;
        assert!(is_again(&send(&post.config(&format!("force_implicit_tls: {at_once}")), &both()).await));
        assert!(post.lines().iter().all(|line| !line.starts_with("MAIL")));
    }
}

#[tokio::test]
async fn what_the_server_refuses_is_said() {
    let without = Post::new(Habits::default()).await;
    let Outcome::Never { why } = send(&without.config("html: ''"), &both()).await else { panic!() };
    assert!(why.contains("offers no STARTTLS"), "{why}");
    for (begins, answer, never) in
        [("MAIL", "451 later", false), ("MAIL", "550 no", true), ("AUTH", "535 wrong", true), ("DATA", "421 bye", false)]
    {
        let post = Post::new(Habits { auth: "PLAIN", says: vec![(begins, answer)], ..Habits::default() }).await;
        let outcome = send(&post.config("require_tls: false, auth_username: u, auth_password: secret"), &both()).await;
        assert_eq!((is_never(&outcome), is_again(&outcome)), (never, !never), "{begins} {answer}: {outcome:?}");
        assert!(!format!("{outcome:?}").contains("secret"));
    }
    // One address that is gone does not keep the message from the other.
    let post = Post::new(Habits { says: vec![("RCPT TO:<a@", "550 gone")], ..Habits::default() }).await;
    assert_eq!(send(&post.config("require_tls: false"), &both()).await, Outcome::Taken);
    let post = Post::new(Habits { says: vec![("RCPT TO:", "550 gone")], ..Habits::default() }).await;
    assert!(is_never(&send(&post.config("require_tls: false"), &both()).await));
    // A server that hangs.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let lines = format!(
        "  email_configs: [{{ to: a@b, from: c@d, smarthost: 'localhost:{}', timeout: 300ms }}]",
        listener.local_addr().unwrap().port()
    );
    assert!(is_again(&send(&lines, &both()).await));
}
