//! Passwords and tokens of a store, from files that are read again: whoever exchanges a file need not touch sluice.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use hyper::header::HeaderValue;

use crate::clock;
use crate::config::remote_write::Login;
use crate::forward::remote_write::trouble::StoreTrouble;
use crate::secret::token;

/// So old what was read may be.
const AGE: Duration = Duration::from_secs(5);
/// A password or a token is short.
const LONGEST: u64 = 64 << 10;

/// The header, and when its file was read.
#[derive(Default)]
pub struct Credentials {
    read: Option<(Instant, HeaderValue)>,
}

impl Credentials {
    /// The header as of now, and whether it is another one than before.
    pub fn header(&mut self, login: &Login) -> Result<(HeaderValue, bool), StoreTrouble> {
        let now = clock::now();
        if let Some((at, header)) = &self.read
            && now.saturating_duration_since(*at) < AGE
        {
            return Ok((header.clone(), false));
        }
        let header = match login {
            Login::Basic { username, password_file } => {
                let secret = secret("basic_auth.password_file", password_file)?;
                value("basic_auth.password_file", password_file, &token::basic(username, &secret))?
            }
            Login::Bearer(file) => {
                let secret = secret("bearer_token_file", file)?;
                value("bearer_token_file", file, &format!("Bearer {secret}"))?
            }
        };
        let news = self.read.as_ref().is_none_or(|(_, before)| before != header);
        self.read = Some((now, header.clone()));
        Ok((header, news))
    }

    /// The next request reads the file.
    pub fn forget(&mut self) {
        self.read = None;
    }
}

/// What the file holds, without the line feed at its end.
pub fn secret(key: &'static str, path: &Path) -> Result<String, StoreTrouble> {
    let wrong = |detail: String| StoreTrouble::File { key, path: path.display().to_string(), detail };
    let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if size > LONGEST {
        return Err(wrong(format!("it has {size} bytes; {LONGEST} are the most")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err(wrong("it is empty".to_owned())),
        secret => Ok(secret.to_owned()),
    }
}

fn value(key: &'static str, path: &Path, text: &str) -> Result<HeaderValue, StoreTrouble> {
    let wrong = |_| StoreTrouble::File { key, path: path.display().to_string(), detail: "it holds what no header can".to_owned() };
    let mut header = HeaderValue::from_str(text).map_err(wrong)?;
    header.set_sensitive(true);
    Ok(header)
}
