//! Damaging bytes by a seed: what every fuzzer of a parser of outside bytes does, in its module's tests. `SEED=n` replays one round,
//! `ROUNDS=n` goes on longer. Not here: the corpora, which stand with the parsers.

use fastrand::Rng;

/// Seeds to run: one if `SEED` is set, otherwise `ROUNDS` or as many as given.
pub fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ROUNDS").unwrap_or(usual),
    }
}

/// Damages bytes here and there.
pub fn damage(random: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.usize(1..4) {
        let at = random.usize(0..=bytes.len());
        let end = (at + random.usize(0..12)).min(bytes.len());
        match random.u8(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
            1 if at < bytes.len() => bytes[at] = [0, 0x7f, 0x80, 0xff, 0x0a, 0x12, 0x0b, 0x0c][random.usize(0..8)],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copy = bytes[at..end].to_vec();
                let to = random.usize(0..=bytes.len());
                bytes.splice(to..to, copy);
            }
            _ => bytes.insert(at, random.u8(..)),
        }
    }
}

/// The same for texts. What is no UTF-8 any more becomes replacement characters.
pub fn damage_text(random: &mut Rng, text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    damage(random, &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
