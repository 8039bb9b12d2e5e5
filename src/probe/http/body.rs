//! The body of an answer: counted as it comes, unpacked on the way where the module says how it is packed, and kept only where expressions want
//! to see it.

use std::io;
use std::io::Write;
use std::time::Instant;

use flate2::write::DeflateDecoder;
use flate2::write::MultiGzDecoder;
use flate2::write::ZlibDecoder;

use crate::clock;
use crate::config::probe::http::Compression;

/// So much is kept for expressions, in bytes. A module that wants to look at more does not want what a probe is for.
pub const KEPT: usize = 32 << 20;

/// What has come, unpacked.
#[derive(Debug)]
pub struct Sink {
    /// Bytes so far.
    pub count: u64,
    /// What they are, if somebody wants to see them.
    pub kept: Option<Vec<u8>>,
    most: u64,
    until: Option<Instant>,
    /// More came than may.
    pub over: bool,
    /// More came when the time was up. One piece can unpack to a thousand times as much, and nothing else would look at the clock meanwhile.
    pub late: bool,
}

impl Sink {
    /// With a bound, 0 for none, that takes nothing after `until`.
    pub fn new(most: u64, keep: bool, until: Option<Instant>) -> Sink {
        Sink { count: 0, kept: keep.then(Vec::new), most: if most == 0 { u64::MAX } else { most }, until, over: false, late: false }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.until.is_some_and(|until| clock::now() > until) {
            self.late = true;
            return Err(io::Error::other("the time is up"));
        }
        let room = usize::try_from(self.most - self.count).unwrap_or(usize::MAX);
        let taken = bytes.len().min(room);
        self.count += taken as u64;
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(&bytes[..taken]);
        }
        let too_much = self.kept.as_ref().is_some_and(|kept| kept.len() > KEPT);
        if taken < bytes.len() || too_much {
            self.over = true;
            return Err(io::Error::other("the body is too long"));
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Unpacks into a sink.
pub enum Unpacker {
    /// As it comes.
    Plain(Sink),
    /// `gzip`
    Gzip(Box<MultiGzDecoder<Sink>>),
    /// `deflate`, of which it is not known yet how it is wrapped.
    Unknown(Sink, Vec<u8>),
    /// `deflate` with zlib's head, as HTTP means it.
    Zlib(Box<ZlibDecoder<Sink>>),
    /// `deflate` without, as many write it and blackbox_exporter reads it.
    Deflate(Box<DeflateDecoder<Sink>>),
    /// `br`
    Brotli(Box<brotli_decompressor::DecompressorWriter<Sink>>),
}

impl Unpacker {
    /// For a body that is packed so.
    pub fn new(compression: Option<Compression>, sink: Sink) -> Unpacker {
        match compression {
            None | Some(Compression::Identity) => Unpacker::Plain(sink),
            Some(Compression::Gzip) => Unpacker::Gzip(Box::new(MultiGzDecoder::new(sink))),
            Some(Compression::Deflate) => Unpacker::Unknown(sink, Vec::new()),
            Some(Compression::Brotli) => Unpacker::Brotli(Box::new(brotli_decompressor::DecompressorWriter::new(sink, 16 << 10))),
        }
    }

    /// The next piece.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Unpacker::Plain(sink) => sink.write_all(bytes),
            Unpacker::Gzip(inner) => inner.write_all(bytes),
            Unpacker::Zlib(inner) => inner.write_all(bytes),
            Unpacker::Deflate(inner) => inner.write_all(bytes),
            Unpacker::Brotli(inner) => inner.write_all(bytes),
            Unpacker::Unknown(_, first) => {
                first.extend_from_slice(bytes);
                if first.len() < 2 {
                    return Ok(());
                }
                self.find_out()
            }
        }
    }

    /// zlib's head: method 8, and both bytes together a multiple of 31.
    fn find_out(&mut self) -> io::Result<()> {
        let Unpacker::Unknown(sink, first) = std::mem::replace(self, Unpacker::Plain(Sink::new(0, false, None))) else { return Ok(()) };
        let zlib = matches!(first.as_slice(), [a, b, ..] if a & 0x0f == 8 && (u16::from(*a) << 8 | u16::from(*b)) % 31 == 0);
        *self =
            if zlib { Unpacker::Zlib(Box::new(ZlibDecoder::new(sink))) } else { Unpacker::Deflate(Box::new(DeflateDecoder::new(sink))) };
        self.write(&first)
    }

    /// Nothing more comes. An error: something is missing.
    pub fn finish(&mut self) -> io::Result<()> {
        match self {
            Unpacker::Plain(_) => Ok(()),
            Unpacker::Gzip(inner) => inner.try_finish(),
            Unpacker::Zlib(inner) => inner.try_finish(),
            Unpacker::Deflate(inner) => inner.try_finish(),
            Unpacker::Brotli(inner) => inner.close(),
            Unpacker::Unknown(..) => {
                self.find_out()?;
                self.finish()
            }
        }
    }

    /// What has come.
    pub fn sink(&self) -> &Sink {
        match self {
            Unpacker::Plain(sink) | Unpacker::Unknown(sink, _) => sink,
            Unpacker::Gzip(inner) => inner.get_ref(),
            Unpacker::Zlib(inner) => inner.get_ref(),
            Unpacker::Deflate(inner) => inner.get_ref(),
            Unpacker::Brotli(inner) => inner.get_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn nothing_is_unpacked_when_the_time_is_up() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&vec![0; 4 << 20]).unwrap();
        let packed = packed.finish().unwrap();
        let unpacked = |until| {
            let mut unpacker = Unpacker::new(Some(Compression::Gzip), Sink::new(0, false, Some(until)));
            let written = unpacker.write(&packed).and_then(|()| unpacker.finish());
            (written.is_ok(), unpacker.sink().late, unpacker.sink().count)
        };
        let now = clock::now();
        assert_eq!(unpacked(now + Duration::from_secs(600)), (true, false, 4 << 20));
        assert_eq!(unpacked(now), (false, true, 0));
    }
}
