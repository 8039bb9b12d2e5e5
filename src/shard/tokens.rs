//! Who may ask: the tokens of the cluster, as the control shard keeps them. Never a token itself, only its hash.
//!
//! Left out on purpose: roles (a token may do everything), where one is wanted, and how a request carries it.

use std::collections::BTreeMap;

use crate::secret::token;
use crate::secret::token::Hash;
use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;

/// Tokens that there may be: one a Prometheus, and some for people.
pub const MAX_TOKENS: usize = 1_000;

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    by_name: BTreeMap<String, Kept>,
    /// How many were ever made.
    made: u64,
}

/// What is kept of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// SHA-256.
    pub hash: Hash,
    /// Its last letters, for people.
    pub hint: String,
    /// Who made it.
    pub by: String,
    /// When, ms since 1970.
    pub created_ms: i64,
    /// When it ends, ms since 1970; `None`: never.
    pub expires_ms: Option<i64>,
    /// Whose samples come with it; empty: whosever they say.
    pub tenant: String,
}

/// A token to be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewToken {
    /// Its name: who is meant when it is shown.
    pub name: String,
    /// SHA-256.
    pub hash: Hash,
    /// Its last letters.
    pub hint: String,
    /// Who makes it.
    pub by: String,
    /// When it ends, ms since 1970; `None`: never.
    pub expires_ms: Option<i64>,
    /// Only where no token was ever made: the one that a cluster begins with, which several nodes may propose.
    pub first: bool,
    /// Whose samples come with it; empty: whosever they say.
    pub tenant: String,
}

/// What a presented token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// Good; its name.
    Good(&'a str),
    /// It has ended; its name.
    Ended(&'a str),
    /// Nobody's.
    Unknown,
}

impl Tokens {
    /// Whose token has this hash. Looks at all of them, however early it is found.
    pub fn find(&self, hash: &Hash, now_ms: i64) -> Found<'_> {
        let mut found = Found::Unknown;
        for (name, kept) in &self.by_name {
            if token::same(&kept.hash, hash) {
                found = if kept.expires_ms.is_some_and(|ends| ends <= now_ms) { Found::Ended(name) } else { Found::Good(name) };
            }
        }
        found
    }

    /// Whose samples come with the token of this name, if that is settled.
    pub fn tenant_of(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(|kept| kept.tenant.as_str()).filter(|tenant| !tenant.is_empty())
    }

    /// By name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Kept)> {
        self.by_name.iter().map(|(name, kept)| (name.as_str(), kept))
    }

    /// Whether there never was one. Where the last one was revoked the door stays shut.
    pub fn never_any(&self) -> bool {
        self.made == 0
    }

    /// Keeps one more; an error says why not.
    pub(super) fn create(&mut self, new: NewToken, at: i64) -> Result<(), String> {
        if new.first && self.made > 0 {
            return Err("a token was made before".to_owned());
        }
        if self.by_name.contains_key(&new.name) {
            return Err(format!("there is a token `{}` already; revoke it, or take another name", new.name));
        }
        if self.by_name.len() >= MAX_TOKENS {
            return Err(format!("there are {MAX_TOKENS} tokens already"));
        }
        let NewToken { name, hash, hint, by, expires_ms, first: _, tenant } = new;
        self.by_name.insert(name, Kept { hash, hint, by, created_ms: at, expires_ms, tenant });
        self.made += 1;
        Ok(())
    }

    /// Lets one go; an error says why not.
    pub(super) fn revoke(&mut self, name: &str) -> Result<(), String> {
        self.by_name.remove(name).map(drop).ok_or_else(|| format!("there is no token `{name}`"))
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.number(self.made);
        out.number(self.by_name.len() as u64);
        for (name, kept) in &self.by_name {
            out.text(name);
            out.bytes(&kept.hash);
            out.text(&kept.hint);
            out.text(&kept.by);
            out.signed(kept.created_ms);
            write_end(out, kept.expires_ms);
            out.text(&kept.tenant);
        }
    }

    /// `tenants`: whether they stand there.
    pub(super) fn read(from: &mut Reader<'_>, tenants: bool) -> Result<Tokens, Malformed> {
        let mut tokens = Tokens { made: from.number()?, ..Tokens::default() };
        // Five lengths and numbers of a byte at least, and the hash.
        for _ in 0..from.count(5 + 32)? {
            let name = from.text()?.to_owned();
            let (hash, hint, by) = (read_hash(from)?, from.text()?.to_owned(), from.text()?.to_owned());
            let (created_ms, expires_ms) = (from.signed()?, read_end(from)?);
            let tenant = if tenants { from.text()?.to_owned() } else { String::new() };
            tokens.by_name.insert(name, Kept { hash, hint, by, created_ms, expires_ms, tenant });
        }
        Ok(tokens)
    }
}

impl NewToken {
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.text(&self.name);
        out.bytes(&self.hash);
        out.text(&self.hint);
        out.text(&self.by);
        write_end(out, self.expires_ms);
        out.byte(u8::from(self.first));
        out.text(&self.tenant);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<NewToken, Malformed> {
        let name = from.text()?.to_owned();
        let (hash, hint, by) = (read_hash(from)?, from.text()?.to_owned(), from.text()?.to_owned());
        let (expires_ms, first) = (read_end(from)?, from.byte()? != 0);
        Ok(NewToken { name, hash, hint, by, expires_ms, first, tenant: from.text_if_any()?.to_owned() })
    }
}

fn read_hash(from: &mut Reader<'_>) -> Result<Hash, Malformed> {
    Hash::try_from(from.bytes()?).map_err(|_| Malformed::Impossible("a hash of another length"))
}

fn write_end(out: &mut Writer<'_>, ends_ms: Option<i64>) {
    out.byte(u8::from(ends_ms.is_some()));
    out.signed(ends_ms.unwrap_or(0));
}

fn read_end(from: &mut Reader<'_>) -> Result<Option<i64>, Malformed> {
    let (some, ends_ms) = (from.byte()?, from.signed()?);
    Ok((some != 0).then_some(ends_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str, token: &str, expires_ms: Option<i64>) -> NewToken {
        NewToken {
            name: name.into(),
            hash: token::hash(token),
            hint: "x".into(),
            by: "me".into(),
            expires_ms,
            first: false,
            tenant: String::new(),
        }
    }

    #[test]
    fn a_token_is_good_until_it_ends_or_is_revoked() {
        let mut tokens = Tokens::default();
        tokens.create(new("a", "slc_a", None), 5).unwrap();
        tokens.create(new("b", "slc_b", Some(100)), 5).unwrap();
        assert!(tokens.create(new("a", "slc_c", None), 6).is_err(), "a name is one token's");
        let of = |tokens: &Tokens, token: &str, now| match tokens.find(&token::hash(token), now) {
            Found::Good(name) => format!("good {name}"),
            Found::Ended(name) => format!("ended {name}"),
            Found::Unknown => "unknown".to_owned(),
        };
        assert_eq!([of(&tokens, "slc_a", 1 << 50), of(&tokens, "slc_b", 99), of(&tokens, "slc_b", 100)], ["good a", "good b", "ended b"]);
        assert_eq!(of(&tokens, "slc_c", 0), "unknown");
        tokens.revoke("a").unwrap();
        assert!(tokens.revoke("a").is_err());
        assert_eq!(of(&tokens, "slc_a", 0), "unknown");
    }

    #[test]
    fn tokens_of_an_image_from_before_there_were_tenants_are_read() {
        let (mut tokens, mut bytes) = (Tokens::default(), Vec::new());
        tokens.create(NewToken { tenant: "team-a".into(), ..new("a", "slc_a", Some(9)) }, 5).unwrap();
        tokens.write(&mut Writer(&mut bytes));
        assert_eq!(Tokens::read(&mut Reader(&bytes), true).as_ref(), Ok(&tokens));
        assert_eq!(tokens.tenant_of("a"), Some("team-a"));
        bytes.truncate(bytes.len() - "_team-a".len());
        let before = Tokens::read(&mut Reader(&bytes), false).unwrap();
        assert_eq!((before.all().count(), before.tenant_of("a")), (1, None));
    }

    #[test]
    fn the_first_one_is_made_once_even_if_it_was_revoked() {
        let mut tokens = Tokens::default();
        let first = NewToken { first: true, ..new("first", "slc_a", None) };
        tokens.create(first.clone(), 5).unwrap();
        tokens.revoke("first").unwrap();
        assert!(tokens.create(first, 6).is_err(), "a node that was late must not bring it back");
    }

    #[test]
    fn there_are_no_more_than_the_bound() {
        let mut tokens = Tokens::default();
        for number in 0..MAX_TOKENS {
            tokens.create(new(&number.to_string(), &number.to_string(), None), 0).unwrap();
        }
        assert!(tokens.create(new("one more", "x", None), 0).unwrap_err().contains("1000"));
    }
}
