//! What a module keeps in files: passwords, tokens, bodies. Read at every probe, as blackbox_exporter does, so that a new one counts at once.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::config::probe::http::Secret;
use crate::probe::outcome::Cause;
use crate::probe::record::Stop;
use crate::probe::record::Way;

/// No password and no body of a request is longer.
const MOST: u64 = 16 << 20;

/// All of a file.
pub fn bytes(path: &Path) -> Way<Vec<u8>> {
    let wrong = |error: &dyn std::fmt::Display| Stop::new(Cause::File, format!("{}: {error}", path.display()));
    let mut content = Vec::new();
    let file = File::open(path).map_err(|error| wrong(&error))?;
    let read = file.take(MOST + 1).read_to_end(&mut content).map_err(|error| wrong(&error))?;
    if read as u64 > MOST { Err(wrong(&"is longer than 16 MiB")) } else { Ok(content) }
}

/// A text that may be a secret, without white space around it where it is of a file.
pub fn secret(secret: &Secret) -> Way<String> {
    match secret {
        Secret::Text(text) => Ok(text.clone()),
        Secret::File(path) => Ok(text(path)?),
    }
}

/// The text of a file, without white space around it.
pub fn text(path: &Path) -> Way<String> {
    let content = String::from_utf8(bytes(path)?);
    let text = content.map_err(|_| Stop::new(Cause::File, format!("{}: is no text", path.display())))?;
    Ok(text.trim().to_owned())
}
