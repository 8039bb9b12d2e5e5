//! Whom `/probe` may be pointed at. Addresses are judged after a name is resolved, and again at every redirect, so a name that means one thing to
//! whoever asks and another to the node leads nowhere.

use std::net::IpAddr;

use crate::config::probe::AdHoc;
use crate::probe::outcome::Cause;
use crate::probe::record::Stop;
use crate::probe::record::Way;

/// The rules.
#[derive(Clone, Debug, Default)]
pub struct Guard(AdHoc);

impl Guard {
    /// Of the configuration.
    pub fn new(rules: AdHoc) -> Guard {
        Guard(rules)
    }

    /// Whether there is a `/probe`.
    pub fn enabled(&self) -> bool {
        self.0.enabled
    }

    /// Whether any address at all is judged otherwise than another.
    pub fn judges(&self) -> bool {
        !(self.0.allow.is_empty() && self.0.deny.is_empty())
    }

    /// Whether this address may be asked.
    pub fn judge(&self, address: IpAddr) -> Way<()> {
        let rule = match self.0.deny.iter().find(|net| net.holds(address)) {
            Some(net) => format!("probe.ad_hoc.deny has {net}"),
            None if self.0.allow.is_empty() || self.0.allow.iter().any(|net| net.holds(address)) => return Ok(()),
            None => "probe.ad_hoc.allow does not have it".to_owned(),
        };
        Err(Stop::new(Cause::Forbidden, format!("{address} may not be probed by /probe: {rule}")))
    }

    /// A socket of this host is no address, and may be anything: only rules that allow everything allow it.
    pub fn judge_path(&self, path: &str) -> Way<()> {
        if self.0.allow.is_empty() {
            return Ok(());
        }
        Err(Stop::new(Cause::Forbidden, format!("{path} may not be probed by /probe: probe.ad_hoc.allow names addresses only")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::probe::net;

    #[test]
    fn addresses_are_denied_first_and_then_allowed() {
        let judge = |guard: &Guard, address: &str| guard.judge(address.parse().unwrap()).is_ok();
        let default = Guard::default();
        assert!(judge(&default, "10.0.0.1") && judge(&default, "::1") && default.judge_path("/run/x").is_ok());
        for metadata in ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fd00:ec2::254"] {
            assert!(!judge(&default, metadata), "{metadata}");
        }
        let nets = |texts: &[&str]| texts.iter().map(|text| net::parse(text).unwrap()).collect();
        let narrow = Guard::new(AdHoc { enabled: true, allow: nets(&["10.0.0.0/8"]), deny: nets(&["10.1.0.0/16"]), ..AdHoc::default() });
        assert!(judge(&narrow, "10.2.0.1") && !judge(&narrow, "10.1.0.1") && !judge(&narrow, "192.0.2.1"));
        assert!(narrow.judge_path("/run/x").is_err());
    }
}
