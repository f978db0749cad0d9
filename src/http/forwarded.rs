//! Whom a proxy says that it speaks for: `X-Forwarded-For`, and `Forwarded` (RFC 7239).
//!
//! Each proxy appends whom it was asked by. So only the end of a list is sure: the last element is what the proxy that sent the
//! request has seen, and one before it is worth as much as the proxy that the next one names. What is further to the left a client
//! may have written itself.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use super::request::Request;

/// A request that says two things: one field is the proxy's, the other may be the client's own, and which is which is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("X-Forwarded-For and Forwarded name different clients.")]
pub struct Contradiction;

/// Who a request is from, by a proxy that is trusted: the rightmost address that is not itself trusted; if all are, the leftmost.
/// An element that names nobody ends the search. `None`: the request says nothing.
///
/// # Errors
/// There are fields of both kinds, and they disagree.
pub fn client(request: &Request<'_>, is_trusted: impl Fn(IpAddr) -> bool) -> Result<Option<IpAddr>, Contradiction> {
    let by = |name, parse: fn(&[u8]) -> Option<IpAddr>| {
        let is_there = request.header(name).is_some();
        is_there.then(|| rightmost(elements(request, name).map(parse), &is_trusted))
    };
    match (by("X-Forwarded-For", node), by("Forwarded", forwarded_for)) {
        (Some(one), Some(other)) if one != other => Err(Contradiction),
        (one, other) => Ok(one.or(other).flatten()),
    }
}

/// Whether a request says for whom it is.
pub fn is_there(request: &Request<'_>) -> bool {
    ["X-Forwarded-For", "Forwarded"].into_iter().any(|name| request.header(name).is_some())
}

fn rightmost(nodes: impl Iterator<Item = Option<IpAddr>>, is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut found = None;
    for node in nodes {
        match node {
            Some(address) if is_trusted(address) => found = Some(address),
            Some(address) => return Some(address),
            None => break,
        }
    }
    found
}

/// The elements of a list, over all fields of that name, the last first.
///
/// They are cut at every comma, also within quotes: nobody's address has one, and from the right one cannot tell whether a quote
/// opens or closes. So what a client leaves open on the left hides nothing of what a proxy has appended.
fn elements<'r>(request: &'r Request<'_>, name: &str) -> impl Iterator<Item = &'r [u8]> {
    let fields = request.headers().iter().rev().filter(move |header| header.name.eq_ignore_ascii_case(name));
    fields.flat_map(|header| header.value.rsplit(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
}

/// The address of `for=` in an element of `Forwarded`, of which there may be one.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let pairs = element.split(|&byte| byte == b';').filter_map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=')?;
        Some((pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()))
    });
    let mut values = pairs.filter(|(name, _)| name.eq_ignore_ascii_case(b"for")).map(|(_, value)| value);
    let value = values.next().filter(|_| values.next().is_none())?;
    node(value.strip_prefix(b"\"").map_or(Some(value), |rest| rest.strip_suffix(b"\""))?)
}

/// An address, maybe with brackets and a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
/// `unknown` and names that begin with `_` (RFC 7239 section 6) are none.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|rest| rest.contains(':'));
    let address = bare.unwrap_or(text).parse().ok();
    let address = address.or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::request::parse;
    use super::*;

    /// 10.0.0.0/8 and 2001:db8:1::/48 are trusted.
    fn is_trusted(address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address.octets()[0] == 10,
            IpAddr::V6(address) => address.segments()[..3] == [0x2001, 0xdb8, 1],
        }
    }

    fn client_of(fields: &str) -> Result<Option<IpAddr>, Contradiction> {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        client(&parse(head.as_bytes(), 8192).unwrap().unwrap(), is_trusted)
    }

    /// A list of `X-Forwarded-For`, and whom it names.
    const LISTS: [(&str, &str); 22] = [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("198.51.100.7, 192.0.2.1", "192.0.2.1"),
        ("198.51.100.7,192.0.2.1,10.0.0.2, 10.0.0.3", "192.0.2.1"),
        ("198.51.100.7, 2001:db8:1::2", "198.51.100.7"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.3, unknown, 10.0.0.2", "10.0.0.2"),
        ("192.0.2.1, garbage", ""),
        ("192.0.2.1, _hidden", ""),
        ("192.0.2.1,", ""),
        ("unknown", ""),
        ("", ""),
        ("[192.0.2.1]", ""),
        ("192.0.2.1:99999", ""),
        ("192.0.2.1 198.51.100.7", ""),
        ("192.0.2.256", ""),
        ("192.0.2.01", ""),
        ("\"192.0.2.1\"", ""),
    ];

    #[test]
    fn lists_are_read_from_the_right() {
        for (list, expected) in LISTS {
            let expected = expected.parse().ok();
            assert_eq!(client_of(&format!("X-Forwarded-For: {list}\r\n")), Ok(expected), "{list}");
            let fields: String = list.split(',').map(|element| format!("x-forwarded-FOR:{element}\r\n")).collect();
            assert_eq!(client_of(&fields), Ok(expected), "several fields are one list: {fields}");
        }
        assert_eq!(client_of(""), Ok(None));
    }

    #[test]
    fn elements_of_forwarded_name_a_node() {
        for (list, expected) in [
            ("for=192.0.2.43", "192.0.2.43"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("by=203.0.113.43; FOR = \"192.0.2.60:_port\"", ""),
            ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
            ("for=192.0.2.43, for=\"10.0.0.1:80\"", "192.0.2.43"),
            ("for=192.0.2.43, for=_SEVKISEK", ""),
            ("for=unknown", ""),
            ("proto=https", ""),
            ("for=192.0.2.1;for=192.0.2.2", ""),
            ("for=\"192.0.2.1", ""),
            ("for=192.0.2.9;host=\"a, for=192.0.2.1", "192.0.2.1"),
            ("192.0.2.1", ""),
        ] {
            assert_eq!(client_of(&format!("Forwarded: {list}\r\n")), Ok(expected.parse().ok()), "{list}");
        }
    }

    #[test]
    fn two_kinds_of_fields_must_agree() {
        let both = |one: &str, other: &str| client_of(&format!("X-Forwarded-For: {one}\r\nForwarded: for={other}\r\n"));
        assert_eq!(both("192.0.2.1, 10.0.0.1", "192.0.2.1"), Ok("192.0.2.1".parse().ok()));
        assert_eq!(both("192.0.2.1", "192.0.2.2"), Err(Contradiction));
        assert_eq!(both("192.0.2.1", "unknown"), Err(Contradiction));
        assert_eq!(both("unknown", "_x"), Ok(None));
    }

    proptest! {
        /// Whatever a client writes: behind it, a proxy's own word counts.
        #[test]
        fn what_a_client_writes_changes_nothing(lie in "[ -~]{0,60}", again in "[ -~]{0,60}") {
            let truth: IpAddr = "192.0.2.1".parse().unwrap();
            for (name, value) in [("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.1")] {
                prop_assert_eq!(client_of(&format!("{name}: {lie}, {value}\r\n")), Ok(Some(truth)));
                prop_assert_eq!(client_of(&format!("{name}: {lie}\r\n{name}: {again}\r\n{name}: {value}\r\n")), Ok(Some(truth)));
            }
        }
    }
}
