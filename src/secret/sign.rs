//! Signatures by a shared secret (HMAC-SHA256), by which a receiver knows that a message is ours; and the letters that signatures and digests are written in.
//!
//! Left out on purpose: what is signed, which every receiver has its own mind of (`notify`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE;
use ring::digest;
use ring::hmac;

/// HMAC-SHA256.
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

/// SHA-256 in hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// In hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 4648, section 4.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// RFC 4648, section 5: the letters that stand in URLs as they are.
pub fn base64_url(bytes: &[u8]) -> String {
    URL_SAFE.encode(bytes)
}

/// Back from [`base64_url`].
pub fn from_base64_url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hmac_is_that_of_rfc_4231() {
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(&hmac_sha256(b"Jefe", b"what do ya want for nothing?")), expected);
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((base64(&[0xff, 0xfe, 0xfd]), base64_url(&[0xff, 0xfe, 0xfd])), ("//79".to_owned(), "__79".to_owned()));
        assert_eq!(from_base64_url("__79"), Some(vec![0xff, 0xfe, 0xfd]));
    }
}
