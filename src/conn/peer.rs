//! Where connections come from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a connection comes from: an IPv4 address, or the first 64 bits of an IPv6 address, which are one customer's (RFC 6177).
///
/// Eight bytes, of the memory budget of a connection. `::1` is taken for `127.0.0.1`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer(u64);

/// IPv4 addresses are in `0:ffff::/32`, which is nobody's (RFC 4291 section 2.4).
const IPV4: u64 = 0xffff << 32;

impl Peer {
    /// `127.0.0.1`.
    pub const LOCAL: Peer = Peer(IPV4 | 0x7f00_0001);

    /// Whether it is this machine.
    pub fn is_loopback(self) -> bool {
        self.0 >> 24 == IPV4 >> 24 | 0x7f
    }
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Peer {
        match address.to_canonical() {
            IpAddr::V4(address) => Peer(IPV4 | u64::from(address.to_bits())),
            IpAddr::V6(Ipv6Addr::LOCALHOST) => Peer::LOCAL,
            IpAddr::V6(address) => Peer((address.to_bits() >> 64) as u64),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 & !u64::from(u32::MAX) {
            IPV4 => Ipv4Addr::from_bits(self.0 as u32).fmt(f),
            _ => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(self.0) << 64)),
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The peers of a shard's connections, by slot. Those on `127.0.0.1` take no memory, as long as there are no others.
#[derive(Default)]
pub struct Peers(Vec<Peer>);

impl Peers {
    /// Where the tenant of a slot comes from.
    pub fn get(&self, index: u32) -> Peer {
        self.0.get(index as usize).copied().unwrap_or(Peer::LOCAL)
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Peer>()
    }

    /// A slot has a new tenant, or it is known better where that comes from.
    pub fn set(&mut self, index: u32, peer: Peer) {
        let index = index as usize;
        if peer != Peer::LOCAL && index >= self.0.len() {
            self.0.resize(index + 1, Peer::LOCAL);
        }
        if let Some(known) = self.0.get_mut(index) {
            *known = peer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn addresses_are_shown_as_far_as_they_are_known() {
        for (address, shown, local) in [
            ("192.0.2.1", "192.0.2.1", false),
            ("::ffff:192.0.2.1", "192.0.2.1", false),
            ("127.255.0.9", "127.255.0.9", true),
            ("128.0.0.1", "128.0.0.1", false),
            ("::1", "127.0.0.1", true),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", false),
        ] {
            assert_eq!((peer(address).to_string().as_str(), peer(address).is_loopback()), (shown, local), "{address}");
        }
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:0:0:2"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
    }

    #[test]
    fn a_slots_next_tenant_is_another() {
        let mut peers = Peers::default();
        peers.set(7, Peer::LOCAL);
        assert!(peers.0.is_empty());
        peers.set(7, peer("192.0.2.1"));
        assert_eq!((peers.get(7), peers.get(6), peers.get(8)), (peer("192.0.2.1"), Peer::LOCAL, Peer::LOCAL));
        peers.set(7, Peer::LOCAL);
        assert_eq!(peers.get(7), Peer::LOCAL);
    }
}
