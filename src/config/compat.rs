//! `alerting.compat` and `alerting.pages`: what Alertmanager does and sluice does not unless it is told to, for those who change over and for its acceptance suite.
//!
//! Each key is off by default, since each takes something away: timers that survive a reload, alerts that are told at once, names that anybody may use, an
//! API that no page of another site can ask. Left out on purpose: differences that lose alerts (docs/compat.md); nobody can want them.

use std::time::Duration;

use crate::config::read::Refusal;
use crate::config::read::Section;
use crate::config::values;

/// Longer than this nobody waits for alerts to come in again.
const MOST_DELAY: Duration = Duration::from_secs(3600);

/// What is done as Alertmanager does it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compat {
    /// A reload lets all groups begin anew: what was told is looked at `group_interval` after it, what waits is told `group_wait` after it.
    pub reload_resets_timers: bool,
    /// Nothing is told by a node for so long after its start (`--dispatch.start-delay`).
    pub start_delay: Duration,
    /// Names of labels are ASCII letters, digits and `_` (`--enable-feature=classic-mode`).
    pub classic_names: bool,
}

/// Reads `compat`.
pub fn read(section: &Section<'_>) -> Compat {
    let compat = Compat {
        reload_resets_timers: section.or("reload_resets_timers", false, values::switch),
        start_delay: section.or("start_delay", Duration::ZERO, values::duration_in(Duration::ZERO..=MOST_DELAY)),
        classic_names: section.or("classic_names", false, values::switch),
    };
    section.finish();
    compat
}

/// A site whose pages may ask the API: scheme, host and port, as browsers say it in `Origin`.
pub fn page(text: &str) -> Result<String, Refusal> {
    let remedy = "write scheme, host, and a port if there is one: https://karma.example";
    if text == "*" || text == "null" {
        return Err(("would let any page that anybody looks at read and silence alerts".to_owned(), remedy.to_owned()));
    }
    let site = values::url(text).map_err(|(rule, _)| (rule, remedy.to_owned()))?;
    let authority = site.split_once("://").map_or("", |(_, rest)| rest);
    match authority.contains(['/', '?', '*']) {
        true => Err(("must be a site, without a path".to_owned(), remedy.to_owned())),
        false => Ok(site.to_ascii_lowercase()),
    }
}

/// Whether a label's name is one of the old sort.
pub fn is_classic_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !name.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn nothing_is_as_alertmanager_does_it_unless_it_is_written() {
        let read = |text: &str| {
            Config::parse(&format!("data_dir: /x\nsinks: []\nalerting:\n  file: a.yml\n{text}")).map(|config| config.alerting.unwrap())
        };
        let none = read("").unwrap();
        assert_eq!((none.compat, none.pages), (Compat::default(), Vec::new()));
        let all =
            read("  compat: { reload_resets_timers: true, start_delay: 5s, classic_names: true }\n  pages: [\"https://Karma.example\"]\n");
        let all = all.unwrap();
        let expected = Compat { reload_resets_timers: true, start_delay: Duration::from_secs(5), classic_names: true };
        assert_eq!((all.compat, all.pages), (expected, vec!["https://karma.example".to_owned()]));
        for (text, key) in [
            ("  compat: { start_delay: 2h }\n", "alerting.compat.start_delay"),
            ("  compat: { reload: true }\n", "alerting.compat.reload"),
            ("  pages: [\"*\"]\n", "alerting.pages[0]"),
            ("  pages: [\"null\"]\n", "alerting.pages[0]"),
            ("  pages: [\"https://a/b\"]\n", "alerting.pages[0]"),
            ("  pages: [\"https://*.a\"]\n", "alerting.pages[0]"),
            ("  pages: [karma.example]\n", "alerting.pages[0]"),
        ] {
            assert_eq!(read(text).unwrap_err()[0].key, key, "{text}");
        }
    }

    #[test]
    fn classic_names() {
        for name in ["a", "_", "alertname", "A9_"] {
            assert!(is_classic_name(name), "{name}");
        }
        for name in ["9", "00", "a-b", "Σ", "a.b", "a b"] {
            assert!(!is_classic_name(name), "{name}");
        }
    }
}
