//! Captured requests: what a real sender sent, in a file, for tests and `sluice bench decode`.
//!
//! Records of `u32 LE header length, u32 LE body length, header text ("Name: value" lines as received), body (as received: packed)`.

use super::pack::Packing;
use super::remote_write::Protocol;

/// One request of a capture.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// "Name: value" lines.
    pub headers: &'a str,
    /// As it came over the wire.
    pub body: &'a [u8],
}

impl<'a> Captured<'a> {
    /// The value of this header, whatever its case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let pairs = self.headers.lines().filter_map(|line| line.split_once(':'));
        pairs.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// By its Content-Type.
    pub fn protocol(&self) -> Protocol {
        match self.header("content-type") {
            Some(kind) if kind.contains("io.prometheus.write.v2.Request") => Protocol::V2,
            _ => Protocol::V1,
        }
    }

    /// By its Content-Encoding.
    pub fn packing(&self) -> Packing {
        match self.header("content-encoding") {
            Some("zstd") => Packing::Zstd,
            _ => Packing::Snappy,
        }
    }
}

/// The file ends within a record, or a header is not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the capture is damaged at byte {at}")]
pub struct CaptureError {
    /// Where the record begins.
    pub at: usize,
}

/// The requests in a capture.
pub fn read(bytes: &[u8]) -> Result<Vec<Captured<'_>>, CaptureError> {
    let mut requests = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (captured, after) = record(rest).ok_or(CaptureError { at: bytes.len() - rest.len() })?;
        requests.push(captured);
        rest = after;
    }
    Ok(requests)
}

fn record(bytes: &[u8]) -> Option<(Captured<'_>, &[u8])> {
    let (header_length, rest) = bytes.split_first_chunk::<4>()?;
    let (body_length, rest) = rest.split_first_chunk::<4>()?;
    let (headers, rest) = rest.split_at_checked(u32::from_le_bytes(*header_length) as usize)?;
    let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*body_length) as usize)?;
    Some((Captured { headers: std::str::from_utf8(headers).ok()?, body }, rest))
}

/// Appends a record.
pub fn write(headers: &str, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(headers.len() as u32).to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(headers.as_bytes());
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_their_headers_say_what_they_are() {
        let mut file = Vec::new();
        let v2 = "CONTENT-TYPE: application/x-protobuf;proto=io.prometheus.write.v2.Request\ncontent-encoding: zstd\n";
        write(v2, b"body", &mut file);
        write("", b"", &mut file);
        let read_back = read(&file).unwrap();
        let seen: Vec<_> = read_back.iter().map(|request| (request.protocol(), request.packing(), request.body)).collect();
        assert_eq!(seen, [(Protocol::V2, Packing::Zstd, &b"body"[..]), (Protocol::V1, Packing::Snappy, &b""[..])]);
        file.push(1);
        assert_eq!(read(&file).err(), Some(CaptureError { at: file.len() - 1 }));
    }
}
