//! What a module keeps in files: passwords, tokens, bodies, certificates. Read at every probe, as blackbox_exporter does, so that a new one counts at once.

use std::fs;
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
    // A pipe would be waited for, perhaps for ever, by a thread that others wait for.
    if !fs::metadata(path).map_err(|error| wrong(&error))?.is_file() {
        return Err(wrong(&"is no regular file"));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&pipe, Path::new("/dev/zero"), dir.path()] {
            let stop = bytes(path).unwrap_err();
            assert!(stop.cause == Cause::File && stop.text.contains("no regular file"), "{}", stop.text);
        }
        let file = dir.path().join("file");
        fs::write(&file, " x ").unwrap();
        assert_eq!((bytes(&file).unwrap().as_slice(), text(&file).unwrap().as_str()), (&b" x "[..], "x"));
    }
}
