//! `push:`: metrics that short-lived jobs push, as to a Pushgateway. All of it is what nodes agree on.

use std::time::Duration;

use crate::config::read::Section;
use crate::config::values;

/// What is done with what is pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Pushes are taken.
    pub enabled: bool,
    /// Between two samples of what is there.
    pub interval: Duration,
    /// A group to which nothing was pushed for so long goes; `None`: it stays until it is deleted.
    pub expire: Option<Duration>,
}

impl Default for Push {
    fn default() -> Push {
        Push { enabled: true, interval: Duration::from_secs(15), expire: None }
    }
}

/// Reads it.
pub fn read(section: &Section<'_>) -> Push {
    let default = Push::default();
    let push = Push {
        enabled: section.or("enabled", default.enabled, values::switch),
        interval: section.or("interval", default.interval, values::duration_in(Duration::from_secs(1)..=Duration::from_secs(3_600))),
        expire: section.opt("expire", values::duration_in(Duration::from_secs(1)..=Duration::from_secs(366 * 86_400))),
    };
    section.finish();
    push
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::settings;

    #[test]
    fn it_is_agreed_on_and_everything_has_a_default() {
        let text = |push: &str| format!("listen: 127.0.0.1:1\ndata_dir: /x\nsinks: []\n{push}");
        assert_eq!(Config::parse(&text("")).unwrap().push, Push::default());
        let config = Config::parse(&text("push: { interval: 30s, expire: 12h }\n")).unwrap();
        let expected = Push { interval: Duration::from_secs(30), expire: Some(Duration::from_secs(43_200)), enabled: true };
        assert_eq!(config.push, expected);
        assert_eq!(settings::parse(&config.settings).unwrap().push, expected);
        let wrong = Config::parse(&text("push: { interval: 0s, expires: 1h }\n")).unwrap_err();
        assert_eq!(wrong.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), ["push.interval", "push.expires"]);
    }
}
