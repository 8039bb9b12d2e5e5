//! `sluice version`: the version, and with --verbose of what the program is made: what whoever helps asks first, and whoever follows advisories needs.
//!
//! Versions of the C libraries inside are those of Cargo.lock, which is the one place that decides on them. Commit and target are known where
//! `scripts/package` built the program (`SLUICE_COMMIT`, `SLUICE_TARGET` while it is compiled).

use clap::Args;

use crate::shard::level::KNOWN;

/// As cargo resolved it.
const LOCK: &str = include_str!("../../Cargo.lock");

/// Crates that bring a library in another language with them, and that library's name. What follows `+` in their version is the library's.
const BUNDLED: &[(&str, &str)] =
    &[("rdkafka-sys", "librdkafka"), ("librocksdb-sys", "RocksDB"), ("openssl-src", "OpenSSL"), ("zstd-sys", "zstd"), ("lz4-sys", "lz4")];

/// `sluice version`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Version {
    /// Commit, target, feature levels, bundled libraries.
    #[arg(long, short)]
    verbose: bool,
}

/// What it prints.
pub fn text(asked: &Version) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut out = format!("sluice {version}\n");
    if !asked.verbose {
        return out;
    }
    let here = format!("{} {}", std::env::consts::ARCH, std::env::consts::OS);
    let target = option_env!("SLUICE_TARGET").unwrap_or(&here);
    let commit = option_env!("SLUICE_COMMIT").unwrap_or("not known");
    let levels = if KNOWN.oldest == KNOWN.newest { KNOWN.newest.to_string() } else { format!("{} to {}", KNOWN.oldest, KNOWN.newest) };
    let bundled: Vec<String> = BUNDLED.iter().map(|(krate, name)| format!("{name} {}", bundled(krate).unwrap_or("?"))).collect();
    let rows = [("commit", commit), ("built for", target), ("feature levels", &levels), ("bundled", &bundled.join(", "))];
    for (name, value) in rows {
        out.push_str(&format!("{name:<16}{value}\n"));
    }
    out
}

/// The version of the library in this crate: `2.12.1` of `4.10.0+2.12.1`, `1.5.7` of `2.1.3+zstd.1.5.7`, `1.10.0` of `1.11.1+lz4-1.10.0`.
fn bundled(krate: &str) -> Option<&'static str> {
    let of_crate = LOCK.split("[[package]]").find(|entry| entry.lines().any(|line| line == format!("name = \"{krate}\"")))?;
    let version = of_crate.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))?;
    let library = version.split_once('+')?.1.rsplit('-').next()?;
    library.find(|letter: char| letter.is_ascii_digit()).map(|at| &library[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bundled_is_told_with_its_own_version() {
        for (krate, name) in BUNDLED {
            let version = bundled(krate).unwrap_or_else(|| panic!("{krate} does not say which {name} it brings"));
            assert!(version.split('.').count() == 3 && version.split('.').all(|part| part.parse::<u32>().is_ok()), "{name} {version}");
        }
        assert_eq!(bundled("serde"), None);
        let told = text(&Version { verbose: true });
        assert!(told.starts_with(&text(&Version { verbose: false })) && told.contains("librdkafka 2."), "{told}");
    }
}
