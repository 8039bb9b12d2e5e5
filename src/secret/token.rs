//! Bearer tokens: made of 256 bits that nobody can guess, kept as a hash, compared without telling by the time it takes how much of it was right.
//!
//! The hash is one round of SHA-256. Slow hashes (bcrypt, argon2) are for passwords, which people choose and others can try in turn; 2^256 random
//! tokens cannot be tried, and every request of every sender is checked.
//!
//! Left out on purpose: who has which token (`shard::tokens`), and where one is wanted (`app`).

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Begins every token, so that one that was published by mistake is found by searching for it.
pub const PREFIX: &str = "slc_";
/// Letters at its end by which people tell tokens apart: 24 of its 256 bits.
const HINT: usize = 4;
/// No header that holds a token of ours is longer, a user's name included.
const LONGEST: usize = 1024;

/// In the data directory: the token that a node makes for itself, for whoever may read the file.
pub const LOCAL_FILE: &str = "local-token";

/// SHA-256 of a token.
pub type Hash = [u8; 32];

/// A token in clear: shown once, and never kept.
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Token(..)")
    }
}

impl Token {
    /// A new one.
    pub fn make() -> std::io::Result<Token> {
        let mut bytes = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Token(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// In clear.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// As it is kept.
    pub fn hash(&self) -> Hash {
        hash(&self.0)
    }

    /// Its last letters.
    pub fn hint(&self) -> String {
        self.0.chars().rev().take(HINT).collect::<Vec<_>>().into_iter().rev().collect()
    }
}

/// Of whatever came as a token.
pub fn hash(token: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref());
    hash
}

/// Whether both are the same; takes as long wherever they differ.
pub fn same(a: &Hash, b: &Hash) -> bool {
    let differ = a.iter().zip(b).fold(0, |differ, (a, b)| std::hint::black_box(differ | (a ^ b)));
    std::hint::black_box(differ) == 0
}

/// When a JSON web token says that it ends, ms since 1970; `None`: it is another kind of token. Nothing is verified: that is the receiver's business.
pub fn ends_ms(token: &str) -> Option<i64> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    let seconds = claims.get("exp")?.as_f64()?;
    (0.0..1e11).contains(&seconds).then_some((seconds * 1000.0) as i64)
}

/// The header of basic auth (RFC 7617) by which this process shows who it is to another.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// The token in an `Authorization` header: `Bearer TOKEN`, or, for senders that know nothing else, `Basic` with any user and the token as password.
pub fn presented(header: &str) -> Option<String> {
    if header.len() > LONGEST {
        return None;
    }
    let (scheme, rest) = header.trim().split_once(' ')?;
    let rest = rest.trim();
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        rest.to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        let both = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
        both.split_once(':')?.1.to_owned()
    } else {
        return None;
    };
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::damage_text;
    use crate::mutate::seeds;

    #[test]
    fn tokens_are_long_different_and_fit_a_header() {
        let (one, other) = (Token::make().unwrap(), Token::make().unwrap());
        assert!(one.reveal().starts_with(PREFIX) && one.reveal().len() == 4 + 43, "{}", one.reveal());
        assert!(one.reveal().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert!(one.reveal().ends_with(&one.hint()) && one.hint().len() == HINT);
        assert!(same(&one.hash(), &hash(one.reveal())) && !same(&one.hash(), &other.hash()));
        assert!(!format!("{one:?}").contains(&one.hint()));
    }

    #[test]
    fn the_hash_is_sha_256() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(crate::secret::hex(&hash("abc")), expected);
        let mut last = hash("abc");
        last[31] ^= 1;
        assert!(!same(&hash("abc"), &last), "the last byte counts as much as the first");
    }

    #[test]
    fn a_token_comes_as_a_bearer_or_as_a_password() {
        for (header, token) in [
            ("Bearer slc_x", Some("slc_x")),
            ("bearer   slc_x ", Some("slc_x")),
            ("Basic cHJvbWV0aGV1czpzbGNfeA==", Some("slc_x")),
            ("Basic OnNsY194", Some("slc_x")),
            ("Basic OmE6Yg==", Some("a:b")),
            ("Basic cHJvbWV0aGV1czo=", None),
            ("Basic cHJvbWV0aGV1cw==", None),
            ("Basic !", None),
            ("Bearer ", None),
            ("Bearer", None),
            ("Digest slc_x", None),
            ("", None),
        ] {
            assert_eq!(presented(header).as_deref(), token, "{header}");
        }
        assert_eq!(presented(&format!("Bearer {}", "x".repeat(LONGEST))), None);
    }

    #[test]
    fn any_header_is_read_or_refused() {
        for seed in seeds(10_000) {
            let header = ["Bearer slc_abc", "Basic cHJvbWV0aGV1czpzbGNfeA=="][(seed % 2) as usize];
            let damaged = damage_text(&mut fastrand::Rng::with_seed(seed), header);
            assert!(presented(&damaged).is_none_or(|token| token.len() < damaged.len()));
        }
    }
    #[test]
    fn a_web_token_says_when_it_ends_and_no_other_does() {
        // {"sub":"x","exp":1790000000}
        assert_eq!(ends_ms("e30.eyJzdWIiOiJ4IiwiZXhwIjoxNzkwMDAwMDAwfQ.sig"), Some(1_790_000_000_000));
        for other in ["", "opaque", "a.b.c", "e30.e30.", "e30.eyJleHAiOiJub3cifQ."] {
            assert_eq!(ends_ms(other), None, "{other}");
        }
    }
}
