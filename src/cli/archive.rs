//! Files of text as one `.tar.gz` that every tar unpacks. Nothing is packed smaller, which keeps two dependencies out for a file that is written once in a while.

use std::fmt::Write as _;

/// A block of tar.
const BLOCK: usize = 512;
/// What a stored block of deflate holds at most.
const STORED: usize = 65_535;
/// A name in a header of tar.
const NAME: usize = 100;

/// The archive; `mtime` in seconds since 1970.
pub fn tar_gz(files: &[(String, String)], mtime: u64) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, text) in files {
        tar.extend_from_slice(&header(name, text.len(), mtime));
        tar.extend_from_slice(text.as_bytes());
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    }
    tar.resize(tar.len() + 2 * BLOCK, 0);
    gzip(&tar)
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

/// RFC 1952 around stored blocks of RFC 1951.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let last = bytes.len().div_ceil(STORED).saturating_sub(1);
    for (number, part) in bytes.chunks(STORED).enumerate() {
        let length = part.len() as u16;
        out.push(u8::from(number == last));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&crc32(bytes).to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out
}

/// As gzip wants it: reflected, polynomial 0xEDB88320.
fn crc32(bytes: &[u8]) -> u32 {
    let table: [u32; 256] =
        std::array::from_fn(|byte| (0..8).fold(byte as u32, |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 }));
    !bytes.iter().fold(!0, |crc, byte| crc >> 8 ^ table[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_sum_is_that_of_gzip_and_everything_is_in_whole_blocks() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        let long = "x".repeat(200_000);
        let archive = tar_gz(&[("a/b.txt".into(), "hello\n".into()), ("a/long".into(), long)], 1_790_000_000);
        let size = u32::from_le_bytes(*archive.last_chunk::<4>().unwrap()) as usize;
        assert_eq!((size % BLOCK, size), (0, BLOCK * (1 + 1 + 1 + 391 + 2)));
    }

    #[test]
    fn a_tar_unpacks_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.tar.gz");
        let long = "0123456789".repeat(20_000);
        std::fs::write(&path, tar_gz(&[("a/b.txt".into(), "hello\n".into()), ("a/long".into(), long.clone())], 1_790_000_000)).unwrap();
        let done = std::process::Command::new("tar").arg("xzf").arg(&path).arg("-C").arg(directory.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(std::fs::read_to_string(directory.path().join("a/b.txt")).unwrap(), "hello\n");
        assert_eq!(std::fs::read_to_string(directory.path().join("a/long")).unwrap(), long);
    }
}
