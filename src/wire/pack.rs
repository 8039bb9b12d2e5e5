//! Unpacking of request bodies, bounded before memory is taken, and packing.
//!
//! A packed body is chosen by whoever sends it: a few bytes may claim 4 GiB. The claimed size is checked against the bound and against what
//! the packed bytes can stand for at all, first; only then is room made for it. The output buffer is meant to be reused and must not be
//! cleared between calls: [`unpack`] sets its length, and what it already holds need not be zeroed again.

use std::io::Read;
use std::io::Write;

/// How a body is packed: the `Content-Encoding` of remote write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    /// Snappy's block format.
    Snappy,
    /// Zstandard, as vmagent sends it.
    Zstd,
}

/// How large an unpacked body may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes. The packed size is bounded by whoever reads it from the connection.
    pub unpacked_bytes: usize,
}

impl Default for Bounds {
    /// 64 MiB: 130,000 samples of 490 B; Prometheus sends 2,000 a request unless told otherwise.
    fn default() -> Bounds {
        Bounds { unpacked_bytes: 64 << 20 }
    }
}

/// Why a body was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Above the bound, by its own claim or as it turned out.
    #[error("unpacked it has {bytes} bytes or more; at most {limit} are taken")]
    TooLarge {
        /// What it claims, or has been seen to have at least.
        bytes: u64,
        /// The bound.
        limit: usize,
    },
    /// Claims more than can be packed in so few bytes.
    #[error("{packed} packed bytes cannot stand for the {claimed} they claim")]
    Implausible {
        /// What it claims.
        claimed: u64,
        /// How many bytes it has.
        packed: usize,
    },
    /// Not snappy's block format.
    #[error("it is not snappy's block format: {0}")]
    Snappy(#[from] snap::Error),
    /// Not zstd.
    #[error("it is not zstd: {0}")]
    Zstd(std::io::Error),
}

impl UnpackError {
    /// Too large (answered 413), not merely wrong (400).
    pub fn is_size(&self) -> bool {
        matches!(self, UnpackError::TooLarge { .. } | UnpackError::Implausible { .. })
    }
}

/// Three bytes of snappy (a copy with a two-byte offset) stand for 64 at most.
const SNAPPY_RATIO: (u64, u64) = (64, 3);

/// Zstd has no useful bound (an RLE block of 4 bytes stands for 128 KiB). Remote write packs 20-60:1, a request of equal series 300:1; beyond
/// this, and above [`ZSTD_ALWAYS`], a claim is not believed.
const ZSTD_RATIO: u64 = 1024;
/// So little is taken on trust, whatever the ratio.
const ZSTD_ALWAYS: u64 = 1 << 20;
/// 8 MiB: what zstd's levels up to 19 use; a larger window would have to be allocated for a few bytes of header.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Unpacks `packed` into `out`, whose former content goes (do not clear it: its length saves zeroing). On an error `out` is empty.
pub fn unpack(packing: Packing, packed: &[u8], bounds: Bounds, out: &mut Vec<u8>) -> Result<(), UnpackError> {
    let outcome = match packing {
        Packing::Snappy => unpack_snappy(packed, bounds, out),
        Packing::Zstd => unpack_zstd(packed, bounds, out),
    };
    if outcome.is_err() {
        out.clear();
    }
    outcome
}

fn unpack_snappy(packed: &[u8], bounds: Bounds, out: &mut Vec<u8>) -> Result<(), UnpackError> {
    let claimed = snap::raw::decompress_len(packed)?;
    check_claim(claimed as u64, bounds)?;
    let (most, per) = SNAPPY_RATIO;
    if claimed as u64 * per > packed.len() as u64 * most {
        return Err(UnpackError::Implausible { claimed: claimed as u64, packed: packed.len() });
    }
    out.resize(claimed, 0);
    let written = snap::raw::Decoder::new().decompress(packed, out)?;
    out.truncate(written);
    Ok(())
}

fn unpack_zstd(packed: &[u8], bounds: Bounds, out: &mut Vec<u8>) -> Result<(), UnpackError> {
    if packed.is_empty() {
        // The stream decoder takes no frame at all for an empty one; a sender that lost its body must hear of it.
        return Err(UnpackError::Zstd(std::io::ErrorKind::UnexpectedEof.into()));
    }
    match zstd::zstd_safe::get_frame_content_size(packed) {
        Ok(Some(claimed)) => {
            check_claim(claimed, bounds)?;
            if claimed > ZSTD_ALWAYS && claimed / ZSTD_RATIO > packed.len() as u64 {
                return Err(UnpackError::Implausible { claimed, packed: packed.len() });
            }
            out.resize(claimed as usize, 0);
            let mut decoder = zstd::bulk::Decompressor::new().map_err(UnpackError::Zstd)?;
            let written = decoder.decompress_to_buffer(packed, out.as_mut_slice()).map_err(UnpackError::Zstd)?;
            out.truncate(written);
            Ok(())
        }
        _ => unpack_zstd_stream(packed, bounds, out),
    }
}

/// A frame that does not say how large it is: unpacked piece by piece, up to the bound.
fn unpack_zstd_stream(packed: &[u8], bounds: Bounds, out: &mut Vec<u8>) -> Result<(), UnpackError> {
    out.clear();
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(UnpackError::Zstd)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(UnpackError::Zstd)?;
    let limit = bounds.unpacked_bytes;
    decoder.take(limit as u64 + 1).read_to_end(out).map_err(UnpackError::Zstd)?;
    if out.len() > limit {
        // The buffer has grown to the bound; it is not kept for the next request.
        *out = Vec::new();
        return Err(UnpackError::TooLarge { bytes: limit as u64 + 1, limit });
    }
    Ok(())
}

/// A stream that says nothing of its size, as clients of a Pushgateway pack their bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Members one after the other are one stream.
    Gzip,
    /// Snappy's framed format, not the blocks of remote write.
    Snappy,
}

/// Unpacks a stream piece by piece, up to the bound. `Ok(None)`: it is larger.
pub fn unpack_stream(stream: Stream, packed: &[u8], limit: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut out = Vec::new();
    let most = limit as u64 + 1;
    match stream {
        Stream::Gzip => flate2::read::MultiGzDecoder::new(packed).take(most).read_to_end(&mut out)?,
        Stream::Snappy => snap::read::FrameDecoder::new(packed).take(most).read_to_end(&mut out)?,
    };
    Ok((out.len() <= limit).then_some(out))
}

fn check_claim(claimed: u64, bounds: Bounds) -> Result<(), UnpackError> {
    if claimed > bounds.unpacked_bytes as u64 {
        return Err(UnpackError::TooLarge { bytes: claimed, limit: bounds.unpacked_bytes });
    }
    Ok(())
}

/// Packs `raw` as snappy's block format into `out`, whose former content goes.
///
/// # Panics
/// If `raw` has 4 GiB or more; nothing that has passed [`unpack`] has.
pub fn pack_snappy(raw: &[u8], out: &mut Vec<u8>) {
    let bound = snap::raw::max_compress_len(raw.len());
    assert!(raw.is_empty() || bound > 0, "a body of 4 GiB or more cannot be packed");
    // Fresh memory is zero already, and most of it is never touched: what is packed is much smaller than what it may be at worst.
    if out.capacity() < bound.max(1) {
        *out = vec![0; bound.max(1)];
    }
    out.resize(bound.max(1), 0);
    // The one error there is, a buffer too small, is excluded by the length above.
    let written = snap::raw::Encoder::new().compress(raw, out).unwrap_or_default();
    out.truncate(written);
}

/// Packs `raw` as one zstd frame of level 1 that says its size, as vmagent does.
pub fn pack_zstd(raw: &[u8]) -> std::io::Result<Vec<u8>> {
    zstd::bulk::compress(raw, 1)
}

/// Packs `raw` as one zstd frame that is to be kept: level 3, with a checksum. Frames one after the other are one stream to every reader.
pub fn pack_zstd_kept(raw: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(3)?;
    compressor.include_checksum(true)?;
    compressor.compress(raw)
}

/// Packs `raw` as one member of gzip; members one after the other are one stream to every reader.
pub fn pack_gzip(raw: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(raw)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Vec<u8> {
        (0..50_000u32).flat_map(|n| format!("line {} ", n % 97).into_bytes()).collect()
    }

    #[test]
    fn what_is_packed_comes_back_and_the_buffer_is_reused() {
        let mut out = vec![7; 1 << 20];
        let mut packed = Vec::new();
        for raw in [text(), Vec::new(), b"x".to_vec(), text()[..1000].to_vec()] {
            pack_snappy(&raw, &mut packed);
            unpack(Packing::Snappy, &packed, Bounds::default(), &mut out).unwrap();
            assert_eq!(out, raw);
            unpack(Packing::Zstd, &pack_zstd(&raw).unwrap(), Bounds::default(), &mut out).unwrap();
            assert_eq!(out, raw);
        }
        assert!(out.capacity() >= 1 << 20);
    }

    #[test]
    fn a_claim_above_the_bound_allocates_nothing() {
        let four_gib_less_one = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0];
        let mut out = Vec::new();
        let refused = unpack(Packing::Snappy, &four_gib_less_one, Bounds::default(), &mut out).unwrap_err();
        assert!(matches!(refused, UnpackError::TooLarge { bytes: 4_294_967_295, .. }), "{refused}");
        assert!(refused.is_size());
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn a_claim_that_cannot_be_true_allocates_nothing() {
        let mut body = vec![0x80, 0x80, 0x80, 0x10]; // 32 MiB
        body.extend_from_slice(&[0; 1000]);
        let mut out = Vec::new();
        let refused = unpack(Packing::Snappy, &body, Bounds::default(), &mut out).unwrap_err();
        assert!(matches!(refused, UnpackError::Implausible { .. }), "{refused}");
        assert_eq!(out.capacity(), 0);

        let zeros = pack_zstd(&vec![0; 32 << 20]).unwrap();
        let refused = unpack(Packing::Zstd, &zeros, Bounds::default(), &mut out).unwrap_err();
        assert!(matches!(refused, UnpackError::Implausible { .. }), "{refused}");
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn the_densest_snappy_there_is_passes() {
        let raw = vec![b'x'; 1 << 20];
        let mut packed = Vec::new();
        pack_snappy(&raw, &mut packed);
        assert!(packed.len() * 15 < raw.len());
        let mut out = Vec::new();
        unpack(Packing::Snappy, &packed, Bounds::default(), &mut out).unwrap();
        assert_eq!(out, raw);
    }

    #[test]
    fn a_zstd_stream_that_does_not_say_its_size_is_cut_at_the_bound() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.write_all(&text()).unwrap();
        encoder.flush().unwrap();
        let packed = encoder.finish().unwrap();
        assert!(matches!(zstd::zstd_safe::get_frame_content_size(&packed), Ok(None)));
        let mut out = Vec::new();
        unpack(Packing::Zstd, &packed, Bounds { unpacked_bytes: text().len() }, &mut out).unwrap();
        assert_eq!(out, text());
        let refused = unpack(Packing::Zstd, &packed, Bounds { unpacked_bytes: text().len() - 1 }, &mut out).unwrap_err();
        assert!(matches!(refused, UnpackError::TooLarge { .. }), "{refused}");
        assert_eq!(out.capacity(), 0);
        // Nothing beyond the bound is even looked at: what is damaged there does not show.
        let mut damaged = packed.clone();
        let last = damaged.len() - 9;
        damaged[last..].fill(0xff);
        assert!(matches!(unpack(Packing::Zstd, &damaged, Bounds::default(), &mut out), Err(UnpackError::Zstd(_))));
        let refused = unpack(Packing::Zstd, &damaged, Bounds { unpacked_bytes: 1000 }, &mut out).unwrap_err();
        assert!(matches!(refused, UnpackError::TooLarge { .. }), "{refused}");
    }

    #[test]
    fn streams_are_unpacked_up_to_the_bound() {
        let mut framed = snap::write::FrameEncoder::new(Vec::new());
        framed.write_all(&text()).unwrap();
        for (stream, packed) in [(Stream::Gzip, pack_gzip(&text()).unwrap()), (Stream::Snappy, framed.into_inner().unwrap())] {
            assert_eq!(unpack_stream(stream, &packed, text().len()).unwrap(), Some(text()));
            assert_eq!(unpack_stream(stream, &packed, text().len() - 1).unwrap(), None);
            assert!(unpack_stream(stream, b"rubbish", 9).is_err());
            assert!(unpack_stream(stream, &packed[..packed.len() / 2], text().len()).is_err(), "it was cut");
        }
    }

    #[test]
    fn rubbish_is_refused_and_leaves_nothing_behind() {
        let mut out = vec![1, 2, 3];
        for packing in [Packing::Snappy, Packing::Zstd] {
            for body in [&b""[..], b"\xff", b"\x05hello", b"not packed at all, but long enough to look at"] {
                assert!(unpack(packing, body, Bounds::default(), &mut out).is_err());
                assert!(out.is_empty());
            }
        }
    }
}
