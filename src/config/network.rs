//! Networks of IP addresses.

use std::fmt;
use std::net::IpAddr;

use super::value::Grammar;

/// The addresses that begin alike, as `10.0.0.0/8` or `2001:db8::/32` (RFC 4632, RFC 4291 section 2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    first: IpAddr,
    /// Bits that are alike.
    prefix: u32,
}

/// The bits of an address, and how many they are.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (address.to_bits().into(), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

impl Network {
    /// Reads `10.0.0.0/8`; an address alone is a network of one.
    ///
    /// # Errors
    /// What the text is not, as the end of a sentence. No bit behind the prefix may be set: one of the two would be a mistake.
    pub fn parse(text: &str) -> Result<Network, &'static str> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let first = address.parse::<IpAddr>().map_err(|_| "has what is not an IP address")?.to_canonical();
        let (bits, width) = bits(first);
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = match prefix {
            None => width,
            Some(text) if is_number(text) => text.parse().unwrap_or(u32::MAX),
            Some(_) => return Err("has a prefix that is not a number of bits"),
        };
        if prefix > width {
            return Err("has a prefix of more bits than an address has");
        }
        if bits & low_bits(width - prefix) != 0 {
            return Err("has an address with bits set behind its prefix");
        }
        Ok(Network { first, prefix })
    }

    /// Whether an address is of the network. An IPv4 address that is spelled as IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let ((first, width), (bits, other_width)) = (bits(self.first), bits(address.to_canonical()));
        width == other_width && (first ^ bits) & !low_bits(width - self.prefix) == 0
    }
}

/// So many bits, the lowest.
fn low_bits(count: u32) -> u128 {
    1u128.checked_shl(count).map_or(u128::MAX, |bit| bit - 1)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match bits(self.first).1 == self.prefix {
            true => self.first.fmt(f),
            false => write!(f, "{}/{}", self.first, self.prefix),
        }
    }
}

/// Some networks.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Networks(pub Vec<Network>);

impl Networks {
    /// Whether an address is of one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

/// Networks with commas between.
pub(super) struct Cidr;

impl Grammar for Cidr {
    type Value = Networks;

    fn parse(&self, text: &str) -> Result<Networks, &'static str> {
        match text {
            "none" => Ok(Networks::default()),
            _ => text.split(',').map(|text| Network::parse(text.trim())).collect::<Result<_, _>>().map(Networks),
        }
    }

    fn show(&self, value: &Networks) -> String {
        let networks: Vec<String> = value.0.iter().map(Network::to_string).collect();
        if networks.is_empty() { "none".into() } else { networks.join(",") }
    }

    fn range(&self) -> String {
        "none or networks with commas between".into()
    }

    fn form(&self) -> (&'static str, &'static str) {
        ("NETWORKS", "as 10.0.0.0/8,2001:db8::/32 or 127.0.0.1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_what_begins_alike() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"][..], &["11.0.0.0", "a00::"][..]),
            ("192.0.2.7", &["192.0.2.7"], &["192.0.2.6", "192.0.2.8"]),
            ("192.0.2.128/25", &["192.0.2.128", "192.0.2.255"], &["192.0.2.127"]),
            ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::", "::1"]),
            ("::/0", &["::", "ffff::1"], &["1.2.3.4", "::ffff:1.2.3.4"]),
            ("2001:db8::/33", &["2001:db8:7fff::1"], &["2001:db8:8000::"]),
            ("::1", &["::1"], &["::", "::2"]),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert_eq!(parsed.to_string(), network);
            assert!(inside.iter().all(|address| parsed.contains(address.parse().unwrap())), "{network}");
            assert!(!outside.iter().any(|address| parsed.contains(address.parse().unwrap())), "{network}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.1/8",
            "10/8",
            "::/129",
            "::1/64",
            "a",
            "::ffff:1.2.3.4/120",
            "10.0.0.0/8/8",
            "10.0.0.0/99999999999",
        ] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
    }
}
