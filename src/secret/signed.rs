//! Whether a message was signed by somebody who knows a secret (HMAC-SHA256 in hexadecimal digits), as Grafana signs what its webhooks send.

use ring::hmac;

/// Compares without telling by its time how much of it was right.
pub fn is_signed(secret: &[u8], message: &[u8], signature: &str) -> bool {
    let digits = signature.trim().as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    bytes.is_some_and(|bytes| hmac::verify(&key, message, &bytes).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grafana_signs_is_known() {
        let plain = "d42927434049e0b8c73ce887062238cc1c6bb6644bfe66e66d8dd0f30b85679e";
        let timed = "c27bf53028b5a09eacad0cd5b2a1248a12e2d83c69373645dbfc5578fb7d3ae1";
        assert!(is_signed(b"s3cr3t", br#"{"a":1}"#, plain) && is_signed(b"s3cr3t", br#"1700000000:{"a":1}"#, timed));
        assert!(is_signed(b"s3cr3t", br#"{"a":1}"#, &format!(" {} ", plain.to_uppercase())));
        for (secret, message, signature) in
            [("other", r#"{"a":1}"#, plain), ("s3cr3t", r#"{"a":2}"#, plain), ("s3cr3t", r#"{"a":1}"#, timed)]
        {
            assert!(!is_signed(secret.as_bytes(), message.as_bytes(), signature));
        }
        for broken in ["", "d4", "zz", &plain[1..], "ü"] {
            assert!(!is_signed(b"s3cr3t", br#"{"a":1}"#, broken), "{broken}");
        }
    }
}
