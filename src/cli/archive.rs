//! Files of text as one `.tar.gz` that every tar unpacks. The tar is written here (two dozen lines); what packs it is zlib, which is in the binary for
//! Kafka's sake already.

use std::fmt::Write as _;
use std::io::Write;

use flate2::Compression;
use flate2::GzBuilder;

/// A block of tar.
const BLOCK: usize = 512;
/// A name in a header of tar.
const NAME: usize = 100;

/// The archive; `mtime` in seconds since 1970.
pub fn tar_gz(files: &[(String, String)], mtime: u64) -> std::io::Result<Vec<u8>> {
    let mut out = GzBuilder::new().mtime(u32::try_from(mtime).unwrap_or(0)).write(Vec::new(), Compression::default());
    let zeros = [0; 2 * BLOCK];
    for (name, text) in files {
        out.write_all(&header(name, text.len(), mtime))?;
        out.write_all(text.as_bytes())?;
        out.write_all(&zeros[..text.len().next_multiple_of(BLOCK) - text.len()])?;
    }
    out.write_all(&zeros)?;
    out.finish()
}

/// One file's header: POSIX ustar. Numbers are octal.
fn header(name: &str, size: usize, mtime: u64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    let name = &name.as_bytes()[..name.len().min(NAME)];
    put(0, name);
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, format!("{mtime:011o}\0").as_bytes());
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let mut text = String::new();
    let _ = write!(text, "{sum:06o}\0 "); // into a String: never fails
    header[148..156].copy_from_slice(text.as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_unpacks_it_and_it_is_packed_smaller() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.tar.gz");
        let long = "0123456789".repeat(20_000);
        // One of exactly a block, too.
        let files = [("a/b.txt", "hello\n"), ("a/block", &"x".repeat(BLOCK)), ("a/long", &long)];
        let packed = tar_gz(&files.map(|(name, text)| (name.to_owned(), text.to_owned())), 1_790_000_000).unwrap();
        assert!(packed.len() * 10 < long.len(), "{} bytes", packed.len());
        std::fs::write(&path, packed).unwrap();
        let done = std::process::Command::new("tar").arg("xzf").arg(&path).arg("-C").arg(directory.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(std::fs::read_to_string(directory.path().join("a/b.txt")).unwrap(), "hello\n");
        assert_eq!(std::fs::read_to_string(directory.path().join("a/long")).unwrap(), long);
        assert_eq!(std::fs::read_to_string(directory.path().join("a/block")).unwrap().len(), BLOCK);
    }
}
