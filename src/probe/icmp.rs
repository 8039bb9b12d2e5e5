//! `prober: icmp`: one echo, and its reply. By a socket that needs no rights where the system allows that (`net.ipv4.ping_group_range`), by a raw one
//! where the process may have it (`CAP_NET_RAW`).
//!
//! A raw socket hears all echoes of the host: a reply must come from whom was asked and hold what was sent, of which eight bytes are drawn anew for every probe.
//! How many routers a reply might still have passed stands in the header of IPv4, which only a raw socket shows: so `probe_icmp_reply_hop_limit` is missing otherwise.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;

use socket2::Domain;
use socket2::Protocol;
use socket2::SockAddr;
use socket2::Socket;
use socket2::Type;
use tokio::net::UdpSocket;

use crate::config::probe;
use crate::probe::connect::of_io;
use crate::probe::outcome::Cause;
use crate::probe::record::Record;
use crate::probe::record::Stop;
use crate::probe::record::Way;
use crate::probe::resolve;
use crate::probe::run::Ask;

/// Bytes behind the header, unless the module says another number: as many as blackbox_exporter sends.
const PAYLOAD: &[u8; 28] = b"........ sluice asks you why";
/// Drawn anew for every probe.
const NONCE: usize = 8;
/// Header of an echo.
const HEAD: usize = 8;
/// Header of IPv4 without options.
const HEAD_V4: usize = 20;

static SEQUENCE: AtomicU16 = AtomicU16::new(0);

/// What came of it.
#[derive(Debug, Default)]
pub struct Told {
    hop_limit: Option<u8>,
}

/// An open socket.
struct Echo {
    /// Not of UDP: sending and waiting is the same for all that carry datagrams.
    socket: UdpSocket,
    /// Sends with a header of its own: no router may cut it.
    whole: Option<Socket>,
    raw: bool,
    v4: bool,
}

/// Probes.
pub async fn run(module: &probe::Icmp, ask: &Ask<'_>, told: &mut Told, record: &mut Record) -> Way<()> {
    let address = resolve::resolve(ask.target, module.family, ask.guard, record).await?.to_canonical();
    record.begin("setup", || address.to_string());
    let echo = Echo::open(address, module)?;
    record.note(|| format!("by a {} socket", if echo.raw { "raw" } else { "datagram" }));
    let (id, sequence) = (fastrand::u16(..), SEQUENCE.fetch_add(1, Ordering::Relaxed));
    let packet = packet(address.is_ipv4(), id, sequence, module.payload_size);
    record.begin("rtt", || address.to_string());
    echo.send(address, &packet, module).await?;
    let mut buffer = vec![0; HEAD_V4 + 40 + packet.len() + 1];
    loop {
        match echo.socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                if from.ip().to_canonical() == address && echo.is_reply(&buffer[..length], &packet) {
                    told.hop_limit = (echo.raw && echo.v4).then_some(buffer[8]);
                    record.end();
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(of_io(&error, &address.to_string())),
        }
    }
}

fn packet(v4: bool, id: u16, sequence: u16, size: usize) -> Vec<u8> {
    let mut packet = vec![if v4 { 8 } else { 128 }, 0, 0, 0];
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&sequence.to_be_bytes());
    let mut payload = PAYLOAD.to_vec();
    payload[..NONCE].copy_from_slice(&fastrand::u64(..).to_be_bytes());
    payload.resize(if size == 0 { PAYLOAD.len() } else { size }, 0);
    packet.extend_from_slice(&payload);
    if v4 {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum & 0xffff).unwrap_or(0)
}

impl Echo {
    fn open(address: IpAddr, module: &probe::Icmp) -> Way<Echo> {
        let v4 = address.is_ipv4();
        let (domain, protocol) = if v4 { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
        let cuts = !(module.dont_fragment && v4);
        // Without a header of its own, nothing keeps this host from cutting a packet that is too long.
        let datagram = if cuts { Socket::new(domain, Type::DGRAM, Some(protocol)).ok() } else { None };
        let raw = datagram.is_none();
        let socket = match datagram {
            Some(socket) => socket,
            None => Socket::new(domain, Type::RAW, Some(protocol)).map_err(|error| not_permitted(&error))?,
        };
        let whole = if cuts { None } else { Some(with_own_header().map_err(|error| not_permitted(&error))?) };
        let set_up = || {
            socket.set_nonblocking(true)?;
            if let Some(source) = module.source {
                socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
            }
            match (module.ttl, v4) {
                (0, _) => Ok(()),
                (ttl, true) => socket.set_ttl_v4(ttl),
                (ttl, false) => socket.set_unicast_hops_v6(ttl),
            }
        };
        set_up().map_err(|error| of_io(&error, &module.source.unwrap_or(address).to_string()))?;
        let socket = UdpSocket::from_std(socket.into()).map_err(|error| of_io(&error, "the socket"))?;
        Ok(Echo { socket, whole, raw, v4 })
    }

    async fn send(&self, address: IpAddr, packet: &[u8], module: &probe::Icmp) -> Way<()> {
        let to = SocketAddr::new(address, 0);
        let sent = match (&self.whole, address) {
            (Some(socket), IpAddr::V4(address)) => socket.send_to(&with_head(address, packet, module), &to.into()),
            _ => self.socket.send_to(packet, to).await,
        };
        match sent {
            Ok(_) => Ok(()),
            // EMSGSIZE, which has no kind of its own.
            Err(error) if error.raw_os_error() == Some(90) => {
                Err(Stop::new(Cause::Size, format!("{address}: the packet is longer than the way takes, and must not be cut")))
            }
            Err(error) => Err(of_io(&error, &address.to_string())),
        }
    }

    /// The reply is the question but for its type, its sum, and its id where the system chose that.
    fn is_reply(&self, bytes: &[u8], packet: &[u8]) -> bool {
        let bytes = match bytes.first() {
            // A raw socket of IPv4 shows its header, too.
            Some(first) if self.raw && self.v4 => bytes.get(usize::from(first & 0x0f) * 4..).unwrap_or_default(),
            _ => bytes,
        };
        let wanted = if self.v4 { 0 } else { 129 };
        bytes.len() == packet.len()
            && bytes[0] == wanted
            && bytes[1] == 0
            && (!self.raw || bytes[4..6] == packet[4..6])
            && bytes[6..HEAD] == packet[6..HEAD]
            && bytes[HEAD..] == packet[HEAD..]
    }
}

/// With a header of IPv4 that forbids to cut it. The system writes sum, identification and source.
fn with_head(to: Ipv4Addr, packet: &[u8], module: &probe::Icmp) -> Vec<u8> {
    let mut whole = vec![0; HEAD_V4];
    whole[0] = 0x45;
    let length = u16::try_from(HEAD_V4 + packet.len()).unwrap_or(u16::MAX);
    whole[2..4].copy_from_slice(&length.to_be_bytes());
    whole[6] = 0x40;
    whole[8] = u8::try_from(if module.ttl == 0 { 64 } else { module.ttl }).unwrap_or(64);
    whole[9] = 1;
    if let Some(IpAddr::V4(source)) = module.source {
        whole[12..16].copy_from_slice(&source.octets());
    }
    whole[16..20].copy_from_slice(&to.octets());
    whole.extend_from_slice(packet);
    whole
}

fn with_own_header() -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.set_header_included_v4(true)?;
    Ok(socket)
}

fn not_permitted(error: &std::io::Error) -> Stop {
    if error.kind() != ErrorKind::PermissionDenied {
        return of_io(error, "a socket for ICMP");
    }
    Stop::new(
        Cause::NotPermitted,
        "this system lets the process open no socket for ICMP: let its group in by `sysctl net.ipv4.ping_group_range=\"0 2147483647\"`, or give it CAP_NET_RAW \
         (AmbientCapabilities= of its unit); dont_fragment needs the latter",
    )
}

/// Metrics.
pub fn tell(told: &Told, record: &mut Record) {
    resolve::tell(record);
    record.set_phases("probe_icmp_duration_seconds", "Duration of icmp request by phase", &["resolve", "setup", "rtt"]);
    if let Some(hops) = told.hop_limit {
        record.set("probe_icmp_reply_hop_limit", "Replied packet hop limit (TTL for ipv4)", f64::from(hops));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        let packet = packet(true, 1, 2, 0);
        assert_eq!((packet.len(), checksum(&packet)), (36, 0), "with its own sum in it, the sum is nothing");
        assert_eq!(super::packet(false, 1, 2, 3).len(), 11);
    }
}
