//! Networks: `10.0.0.0/8`, `fe80::/10`, a single address.

use std::fmt;
use std::net::IpAddr;

use crate::config::read::Refusal;

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    address: IpAddr,
    bits: u8,
}

impl Net {
    /// Whether the address is one of it. IPv4 written as IPv6 is IPv4.
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(address)) => same(u128::from(net.to_bits()), u128::from(address.to_bits()), 32, self.bits),
            (IpAddr::V6(net), IpAddr::V6(address)) => same(net.to_bits(), address.to_bits(), 128, self.bits),
            _ => false,
        }
    }
}

fn same(a: u128, b: u128, width: u8, bits: u8) -> bool {
    bits == 0 || a >> (width - bits) == b >> (width - bits)
}

impl fmt::Display for Net {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.bits)
    }
}

/// Reads one.
pub fn parse(text: &str) -> Result<Net, Refusal> {
    let wrong = || ("must be a network or an address".to_owned(), "for example 10.0.0.0/8 or fe80::/10".to_owned());
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Ok(most), |bits| bits.parse::<u8>().map_err(|_| wrong()))?;
    if bits > most { Err(wrong()) } else { Ok(Net { address, bits }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_however_they_are_written() {
        let holds = |net: &str, address: &str| parse(net).unwrap().holds(address.parse().unwrap());
        assert!(holds("169.254.0.0/16", "169.254.169.254") && holds("169.254.0.0/16", "::ffff:169.254.169.254"));
        assert!(!holds("169.254.0.0/16", "169.255.0.1") && holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("fe80::/10", "febf::1") && !holds("fe80::/10", "fec0::1") && holds("10.1.2.3", "10.1.2.3"));
        for wrong in ["", "10.0.0.0/33", "fe80::/129", "a/8", "10.0.0.0/x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
