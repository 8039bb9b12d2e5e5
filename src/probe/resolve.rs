//! From a host to the one address that is asked: by the system's own rules (hosts file, resolver, search list), IPv6 or IPv4 as the module prefers,
//! the first one found. Nothing is kept: a probe asks anew.

use std::io;
use std::net::IpAddr;
use std::net::ToSocketAddrs;

use tokio::sync::Semaphore;

use crate::config::probe::Family;
use crate::probe::guard::Guard;
use crate::probe::outcome::Cause;
use crate::probe::record::Record;
use crate::probe::record::Stop;
use crate::probe::record::Way;

/// Names looked up at the same time. The system's resolver holds a thread for as long as it takes, and threads are shared with those that decode
/// samples: a dead name server must not take them all.
static TURNS: Semaphore = Semaphore::const_new(64);

/// Resolves a host, and writes down how long that took. Names are judged by the address that they have.
pub async fn resolve(host: &str, family: Family, guard: Option<&Guard>, record: &mut Record) -> Way<IpAddr> {
    record.begin("resolve", || host.to_owned());
    let address = match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) if address.is_ipv4() != family.four && !family.fallback => {
            return Err(Stop::new(
                Cause::NoAddress,
                format!("{address} is no {} address, and the module takes no other", word(family.four)),
            ));
        }
        Ok(address) => address,
        Err(_) => choose(host, family, look_up(host).await?)?,
    };
    if let Some(guard) = guard {
        guard.judge(address)?;
    }
    record.address.get_or_insert(address);
    record.note(|| format!("{host} is {address}"));
    record.end();
    Ok(address)
}

fn word(four: bool) -> &'static str {
    if four { "IPv4" } else { "IPv6" }
}

async fn look_up(host: &str) -> Way<Vec<IpAddr>> {
    if host.is_empty() {
        return Err(Stop::new(Cause::Target, "the target has no host"));
    }
    // Never closed.
    let turn = TURNS.acquire().await.map_err(|_| Stop::new(Cause::Resolver, "the node is stopping"))?;
    let name = host.to_owned();
    let found = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        (name.as_str(), 0).to_socket_addrs().map(|all| all.map(|address| address.ip()).collect::<Vec<_>>())
    });
    match found.await {
        Ok(found) => found.map_err(|error| of_resolver(host, &error)),
        Err(_) => Err(Stop::new(Cause::Resolver, "the node is stopping")),
    }
}

/// The system says in words only what kind of failure it was.
fn of_resolver(host: &str, error: &io::Error) -> Stop {
    let text = error.to_string();
    let cause = if ["not known", "does not resolve", "nodename nor servname"].iter().any(|words| text.contains(words)) {
        Cause::UnknownName
    } else if text.contains("No address associated") {
        Cause::NoAddress
    } else {
        Cause::Resolver
    };
    Stop::new(cause, format!("{host}: {}", text.trim_start_matches("failed to lookup address information: ")))
}

fn choose(host: &str, family: Family, found: Vec<IpAddr>) -> Way<IpAddr> {
    let wanted = found.iter().find(|address| address.is_ipv4() == family.four);
    let other = found.first().filter(|_| family.fallback);
    wanted.or(other).copied().ok_or_else(|| Stop::new(Cause::NoAddress, format!("{host} has no {} address", word(family.four))))
}

/// Metrics of the first name that was resolved, or was to be.
pub fn tell(record: &mut Record) {
    let took = record.first("resolve").as_secs_f64();
    let address = record.address;
    record.set("probe_dns_lookup_time_seconds", "Returns the time taken for probe dns lookup in seconds", took);
    let version = address.map_or(0.0, |address| if address.is_ipv4() { 4.0 } else { 6.0 });
    record.set("probe_ip_protocol", "Specifies whether probe ip protocol is IP4 or IP6", version);
    let hash = address.map_or(0.0, |address| f64::from(hash(address)));
    record.set("probe_ip_addr_hash", "Specifies the hash of IP address. It's useful to detect if the IP address changes.", hash);
}

/// FNV-1a, 32 bits, as Go's fnv.New32a.
fn hash(address: IpAddr) -> u32 {
    let mix = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().iter().fold(0x811c_9dc5, mix),
        IpAddr::V6(address) => address.octets().iter().fold(0x811c_9dc5, mix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_blackbox_exporter() {
        // FNV-1a of the four bytes, which the differential test compares with blackbox_exporter's.
        assert_eq!(hash("127.0.0.1".parse().unwrap()), 3668918509);
        assert_eq!(hash("::ffff:127.0.0.1".parse().unwrap()), 3668918509);
        assert_ne!(hash("::1".parse().unwrap()), hash("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn one_address_of_the_preferred_kind_is_taken() {
        let found = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let choose =
            |four, fallback, texts: &[&str]| choose("x", Family { four, fallback }, found(texts)).ok().map(|address| address.to_string());
        let both = ["192.0.2.1", "2001:db8::1", "192.0.2.2"];
        assert_eq!(choose(false, true, &both).as_deref(), Some("2001:db8::1"));
        assert_eq!(choose(true, false, &both).as_deref(), Some("192.0.2.1"));
        assert_eq!(choose(false, true, &both[..1]).as_deref(), Some("192.0.2.1"));
        assert_eq!(choose(false, false, &both[..1]), None);
        assert_eq!(choose(true, true, &[]), None);
    }
}
