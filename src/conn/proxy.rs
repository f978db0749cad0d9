//! The PROXY protocol, versions 1 and 2 (HAProxy's *The PROXY protocol*, 2020): what a proxy says of a connection before
//! anything else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// Bytes that a header may have: version 1 needs no more than 107, version 2 has room for what proxies add, such as the subject of
/// a certificate.
pub const MAX_HEADER_BYTES: usize = 4096;
/// Bytes of the longest line of version 1 (section 2.1).
const MAX_LINE_BYTES: usize = 107;
/// What version 2 begins with (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_BYTES: usize = 16;

/// What a proxy says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Its bytes, behind which the connection's own begin.
    pub len: usize,
    /// Where the connection comes from; `None`: from the proxy itself, as its own checks do, or that is not known.
    pub source: Option<IpAddr>,
}

/// A connection that does not begin with a header, or with one that is not in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("The connection does not begin with a PROXY header.")]
pub struct Malformed;

/// Reads the header at the start of a connection; `None` if it is not there in whole yet.
///
/// # Errors
/// There is none, or it has more than [`MAX_HEADER_BYTES`]. That does not change with what comes later.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let common = |start: &[u8]| bytes.iter().zip(start).all(|(byte, wanted)| byte == wanted);
    if common(SIGNATURE) {
        version_2(bytes)
    } else if common(b"PROXY ") {
        version_1(bytes)
    } else {
        Err(Malformed)
    }
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n`.
fn version_1(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let window = &bytes[..bytes.len().min(MAX_LINE_BYTES)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() == MAX_LINE_BYTES { Err(Malformed) } else { Ok(None) };
    };
    let line = std::str::from_utf8(&window[..end]).map_err(|_| Malformed)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    let source = match family {
        // Whatever follows is to be ignored.
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(addresses::<Ipv4Addr>(words).ok_or(Malformed)?.into()),
        Some("TCP6") => Some(addresses::<Ipv6Addr>(words).ok_or(Malformed)?.into()),
        _ => return Err(Malformed),
    };
    Ok(Some(Header { len: end + 2, source }))
}

/// Two addresses and two ports; the first address.
fn addresses<'a, A: std::str::FromStr>(mut words: impl Iterator<Item = &'a str>) -> Option<A> {
    let (source, _) = (words.next()?.parse().ok()?, words.next()?.parse::<A>().ok()?);
    let is_port = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit()) && word.parse::<u16>().is_ok();
    let ports = words.next().is_some_and(is_port) && words.next().is_some_and(is_port);
    (ports && words.next().is_none()).then_some(source)
}

/// Twelve bytes of signature, version and command, family, length; then addresses, and what else the proxy has to say.
fn version_2(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    // Told as soon as it is known, so that the answer does not depend on how the bytes came.
    let command = match bytes.get(12) {
        None => return Ok(None),
        Some(0x20) => Command::Local,
        Some(0x21) => Command::Proxy,
        Some(_) => return Err(Malformed),
    };
    let Some(&family) = bytes.get(13) else { return Ok(None) };
    let needed = match family {
        0x00 => 0,
        TCP4 => 12,
        TCP6 => 36,
        UNIX_STREAM => 216,
        // What is no connection cannot have come by one. A health check says nothing of its own.
        _ if command == Command::Local => 0,
        _ => return Err(Malformed),
    };
    let Some(&[high, low]) = bytes.get(14..FIXED_BYTES) else { return Ok(None) };
    let rest = usize::from(u16::from_be_bytes([high, low]));
    let len = FIXED_BYTES + rest;
    if len > MAX_HEADER_BYTES || command == Command::Proxy && rest < needed {
        return Err(Malformed);
    }
    let Some(said) = bytes.get(FIXED_BYTES..len) else { return Ok(None) };
    let source = match (command, family) {
        (Command::Proxy, TCP4) => said.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        (Command::Proxy, TCP6) => said.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
        _ => None,
    };
    Ok(Some(Header { len, source }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Command {
    Local,
    Proxy,
}

/// Family and protocol of version 2.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let head = [version_command, family];
        [&SIGNATURE[..], &head, &(rest.len() as u16).to_be_bytes(), rest].concat()
    }

    #[test]
    fn lines_of_version_1() {
        let longest =
            "PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535".replace("f...f", "ffff:ffff:ffff:ffff:ffff:ffff");
        for (line, source) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443", Some("192.0.2.1")),
            ("PROXY TCP6 2001:db8::1 ::1 0 65535", Some("2001:db8::1")),
            ("PROXY UNKNOWN", None),
            ("PROXY UNKNOWN ffff::1 what ever", None),
            (&longest, Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
        ] {
            let source = source.map(|source| source.parse().unwrap());
            let header = Header { len: line.len() + 2, source };
            assert_eq!(parse(format!("{line}\r\n").as_bytes()), Ok(Some(header)), "{line}");
            assert_eq!(parse(format!("{line}\r\nGET / HTTP/1.1\r\n\r\n").as_bytes()), Ok(Some(header)), "{line}");
        }
    }

    #[test]
    fn what_is_no_line_of_version_1() {
        let long = format!("PROXY UNKNOWN {}", "x".repeat(92));
        for line in [
            "GET / HTTP/1.1",
            "PROXY",
            "PROXY ",
            "proxy UNKNOWN",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 ",
            "PROXY TCP4 192.0.2.1  192.0.2.2 1 2",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 ",
            "PROXY TCP4 2001:db8::1 ::1 1 2",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2",
            "PROXY TCP4 192.0.2.1\n192.0.2.2 1 2",
            "PROXY TCP4 192.0.2.1 \u{e9} 1 2",
            &long,
        ] {
            assert_eq!(parse(format!("{line}\r\n").as_bytes()), Err(Malformed), "{line}");
        }
    }

    #[test]
    fn headers_of_version_2() {
        let four = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 1, 0xbb];
        let mut six = [0; 36];
        six[..16].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        let with_more = [&four[..], &[3, 0, 4, 1, 2, 3, 4]].concat();
        for (bytes, source) in [
            (v2(0x21, TCP4, &four), Some("192.0.2.1")),
            (v2(0x21, TCP4, &with_more), Some("192.0.2.1")),
            (v2(0x21, TCP6, &six), Some("2001:db8::1")),
            (v2(0x21, UNIX_STREAM, &[b'/'; 216]), None),
            (v2(0x21, 0, &[]), None),
            (v2(0x20, 0, &[]), None),
            (v2(0x20, TCP4, &four), None),
            (v2(0x20, 0x77, b"?"), None),
            (v2(0x21, TCP4, &[7; MAX_HEADER_BYTES - FIXED_BYTES]), Some("7.7.7.7")),
        ] {
            let header = Header { len: bytes.len(), source: source.map(|source| source.parse().unwrap()) };
            assert_eq!(parse(&[&bytes[..], b"\x16\x03\x01"].concat()), Ok(Some(header)), "{bytes:?}");
        }
        for bytes in [
            v2(0x21, TCP4, &four[..11]),
            v2(0x21, TCP6, &six[..35]),
            v2(0x11, TCP4, &four),
            v2(0x22, TCP4, &four),
            v2(0x21, 0x12, &four),
            v2(0x21, 0x41, &four),
            v2(0x21, TCP4, &[0; MAX_HEADER_BYTES - FIXED_BYTES + 1]),
            b"\r\n\r\n\0\r\nQUIT\r\n\r\n\r\n".to_vec(),
        ] {
            assert_eq!(parse(&bytes), Err(Malformed), "{bytes:?}");
        }
    }

    proptest! {
        /// Up to the first answer more bytes are wanted; from there on, the answer is that of the whole.
        #[test]
        fn it_does_not_matter_how_bytes_come(bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "PROXY (TCP4|TCP6|UNKNOWN) [0-9:. ]{0,120}\r\nrest".prop_map(String::into_bytes),
            (any::<u8>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..50))
                .prop_map(|(command, family, rest)| v2(0x20 | (command % 3), family % 0x40, &rest)),
        ]) {
            let whole = parse(&bytes);
            let settled = (0..bytes.len()).find(|&len| parse(&bytes[..len]) != Ok(None)).unwrap_or(bytes.len());
            for len in settled..bytes.len() {
                prop_assert_eq!(parse(&bytes[..len]), whole, "at {}", len);
            }
            if let Ok(Some(header)) = whole {
                prop_assert!(header.len <= bytes.len().min(MAX_HEADER_BYTES));
            }
        }

        #[test]
        fn what_is_written_is_read(source: IpAddr, port: u16, rest in prop::collection::vec(any::<u8>(), 0..20)) {
            let (line, binary) = match source {
                IpAddr::V4(ip) => {
                    (format!("PROXY TCP4 {ip} {ip} {port} {port}\r\n"), v2(0x21, TCP4, &[ip.octets(); 3].concat()))
                }
                IpAddr::V6(ip) => {
                    (format!("PROXY TCP6 {ip} {ip} {port} {port}\r\n"), v2(0x21, TCP6, &[ip.octets(); 3].concat()))
                }
            };
            for header in [line.into_bytes(), binary] {
                let expected = Header { len: header.len(), source: Some(source) };
                prop_assert_eq!(parse(&[&header[..], &rest].concat()), Ok(Some(expected)));
            }
        }
    }
}
