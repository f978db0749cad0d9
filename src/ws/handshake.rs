//! The opening handshake (RFC 6455 section 4.2): what is asked of a client, and the answer.

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use httparse::Header;
use thiserror::Error;

/// What the server appends to the client's key (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a key in base64: 16 bytes are four groups of four, and one of two with padding.
const KEY_LEN: usize = 24;
/// Bytes of the accept value: a SHA-1 in base64.
const ACCEPT_LEN: usize = 28;

const _: () = {
    assert!(KEY_LEN == 16usize.div_ceil(3) * 4);
    assert!(ACCEPT_LEN == sha1_smol::DIGEST_LENGTH.div_ceil(3) * 4);
};

/// 24 characters hold 144 bits, a key 128: some clients write 22 random characters and leave the odd bits set.
const KEY_BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// Why a handshake is refused; the text tells what to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// The method is not `GET`.
    #[error("A WebSocket handshake is a GET request.")]
    Method,
    /// The request is older than HTTP/1.1.
    #[error("A WebSocket handshake needs HTTP/1.1; does a proxy in between speak HTTP/1.0?")]
    HttpVersion,
    /// No `Host`, more than one, or an empty one.
    #[error("A WebSocket handshake needs exactly one Host header.")]
    Host,
    /// `Upgrade` does not list `websocket`.
    #[error("The header `Upgrade: websocket` is missing.")]
    Upgrade,
    /// `Connection` does not list `upgrade`.
    #[error("The header `Connection: Upgrade` is missing; does a proxy in between remove it?")]
    Connection,
    /// `Sec-WebSocket-Version` is not 13.
    #[error("Only version 13 of the WebSocket protocol is spoken here: `Sec-WebSocket-Version: 13`.")]
    Version,
    /// `Sec-WebSocket-Key` is missing, repeated, or not 16 bytes in base64.
    #[error("The handshake needs exactly one Sec-WebSocket-Key header, of 16 bytes in base64.")]
    Key,
    /// `Sec-WebSocket-Protocol` is not a list of tokens.
    #[error("The Sec-WebSocket-Protocol header is not a list of protocol names.")]
    Protocol,
}

impl Refusal {
    /// The status that answers it. With 426 goes `Sec-WebSocket-Version: 13` (RFC 6455 section 4.4).
    pub fn status(self) -> u16 {
        match self {
            Refusal::Version => 426,
            _ => 400,
        }
    }
}

/// A handshake that is in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handshake<'p> {
    /// The value of `Sec-WebSocket-Accept`.
    pub accept: AcceptKey,
    /// The subprotocol that was chosen.
    pub protocol: Option<&'p str>,
}

/// The value of `Sec-WebSocket-Accept`, in base64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AcceptKey([u8; ACCEPT_LEN]);

impl AcceptKey {
    /// The value on the wire; ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Checks a request that asks for a WebSocket, in the order of RFC 6455 section 4.2.1.
///
/// `minor_version` is that of HTTP/1. Of the client's subprotocols, which are in the order of its preference, the
/// first that `protocols` has is chosen; none is no reason to refuse (section 4.2.2).
pub fn check<'p>(
    method: &str,
    minor_version: u8,
    headers: &[Header<'_>],
    protocols: &[&'p str],
) -> Result<Handshake<'p>, Refusal> {
    let require = |condition, refusal| if condition { Ok(()) } else { Err(refusal) };
    require(method == "GET", Refusal::Method)?;
    require(minor_version >= 1, Refusal::HttpVersion)?;
    require(single(headers, "Host").is_some_and(|host| !host.is_empty()), Refusal::Host)?;
    require(items(headers, "Upgrade").any(|item| item.eq_ignore_ascii_case(b"websocket")), Refusal::Upgrade)?;
    require(items(headers, "Connection").any(|item| item.eq_ignore_ascii_case(b"upgrade")), Refusal::Connection)?;
    require(single(headers, "Sec-WebSocket-Version") == Some(b"13"), Refusal::Version)?;
    let key = single(headers, "Sec-WebSocket-Key").filter(|key| is_key(key)).ok_or(Refusal::Key)?;
    Ok(Handshake { accept: accept_key(key), protocol: choose_protocol(headers, protocols)? })
}

impl Handshake<'_> {
    /// Appends the 101 response to `out`, with the value of `Sec-WebSocket-Extensions` if one was agreed on.
    pub fn write_response(&self, extensions: Option<&str>, out: &mut Vec<u8>) {
        let mut write = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
        write(&[b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"]);
        write(&[b"Sec-WebSocket-Accept: ", self.accept.as_bytes(), b"\r\n"]);
        if let Some(protocol) = self.protocol {
            write(&[b"Sec-WebSocket-Protocol: ", protocol.as_bytes(), b"\r\n"]);
        }
        if let Some(extensions) = extensions {
            write(&[b"Sec-WebSocket-Extensions: ", extensions.as_bytes(), b"\r\n"]);
        }
        write(&[b"\r\n"]);
    }
}

/// The answer to a client's key: base64 of the SHA-1 of key and GUID (RFC 6455 section 4.2.2).
pub fn accept_key(key: &[u8]) -> AcceptKey {
    let mut sha1 = sha1_smol::Sha1::new();
    sha1.update(key);
    sha1.update(GUID);
    let mut accept = [0; ACCEPT_LEN];
    let written = STANDARD.encode_slice(sha1.digest().bytes(), &mut accept);
    debug_assert_eq!(written, Ok(ACCEPT_LEN));
    AcceptKey(accept)
}

fn is_key(key: &[u8]) -> bool {
    // The decoder wants room by its estimate, which is more than 16 bytes.
    let mut nonce = [0; KEY_LEN];
    key.len() == KEY_LEN && KEY_BASE64.decode_slice(key, &mut nonce) == Ok(16)
}

/// The first of the client's subprotocols that is in `protocols`; an error if its list is none (`1#token`).
fn choose_protocol<'p>(headers: &[Header<'_>], protocols: &[&'p str]) -> Result<Option<&'p str>, Refusal> {
    let offered = || items(headers, "Sec-WebSocket-Protocol");
    let sent = values(headers, "Sec-WebSocket-Protocol").next().is_some();
    if sent && (offered().next().is_none() || !offered().all(is_token)) {
        return Err(Refusal::Protocol);
    }
    Ok(offered().find_map(|item| protocols.iter().copied().find(|protocol| protocol.as_bytes() == item)))
}

/// The values of all fields of that name, whatever its case.
pub(super) fn values<'h>(headers: &'h [Header<'_>], name: &'static str) -> impl Iterator<Item = &'h [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// The items of the lists in all fields of that name; empty ones do not count (RFC 9110 section 5.6.1).
pub(super) fn items<'h>(headers: &'h [Header<'_>], name: &'static str) -> impl Iterator<Item = &'h [u8]> {
    values(headers, name)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
}

/// The value of the one field of that name; `None` if there is none or more than one.
fn single<'h>(headers: &'h [Header<'_>], name: &'static str) -> Option<&'h [u8]> {
    let mut values = values(headers, name);
    values.next().filter(|_| values.next().is_none())
}

/// RFC 9110 section 5.6.2.
fn is_token(item: &[u8]) -> bool {
    item.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"dGhlIHNhbXBsZSBub25jZQ==";

    fn header<'a>(name: &'a str, value: &'a [u8]) -> Header<'a> {
        Header { name, value }
    }

    fn good() -> Vec<Header<'static>> {
        vec![
            header("Host", b"server.example.com"),
            header("upgrade", b"WebSocket"),
            header("Connection", b"keep-alive, Upgrade"),
            header("Sec-WebSocket-Key", KEY),
            header("sec-websocket-version", b"13"),
        ]
    }

    #[test]
    fn the_example_of_rfc_6455_section_1_3() {
        assert_eq!(accept_key(KEY).as_bytes(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn every_required_field_is_required_and_unique() {
        assert!(check("GET", 1, &good(), &[]).is_ok());
        for (i, missing, repeated) in [
            (0, Refusal::Host, Some(Refusal::Host)),
            (1, Refusal::Upgrade, None),
            (2, Refusal::Connection, None),
            (3, Refusal::Key, Some(Refusal::Key)),
            (4, Refusal::Version, Some(Refusal::Version)),
        ] {
            let mut headers = good();
            let field = headers.remove(i);
            assert_eq!(check("GET", 1, &headers, &[]), Err(missing));
            headers.extend([field, field]);
            assert_eq!(check("GET", 1, &headers, &[]).err(), repeated);
        }
        assert_eq!(check("HEAD", 1, &good(), &[]), Err(Refusal::Method));
        assert_eq!(check("GET", 0, &good(), &[]), Err(Refusal::HttpVersion));
    }

    #[test]
    fn a_key_is_sixteen_bytes_in_base64() {
        for (key, valid) in [
            (KEY, true),
            (b"AQIDBAUGBwgJCgsMDQ4PEB==", true),
            (b"", false),
            (b"dGhlIHNhbXBsZSBub25jZQ", false),
            (b"dGhlIHNhbXBsZSBub25jZQ= ", false),
            (b"dGhlIHNhbXBsZSBub25jZQQ=", false),
            (b"dGhlIHNhbXBsZSBub25jZQQQ", false),
            (b"dGhlIHNhbXBsZSBub25-ZQ==", false),
            (b"dGhlIHNhbXBsZSBub25jZQ==dGhl", false),
        ] {
            assert_eq!(is_key(key), valid, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn the_clients_preference_decides_among_the_protocols() {
        for (offered, ours, chosen) in [
            (&b"b, a"[..], &["a", "b"][..], Ok(Some("b"))),
            (b"x,a", &["a", "b"], Ok(Some("a"))),
            (b"A", &["a"], Ok(None)),
            (b"a", &[], Ok(None)),
            (b",a,,", &["a"], Ok(Some("a"))),
            (b"", &["a"], Err(Refusal::Protocol)),
            (b"a b", &["a"], Err(Refusal::Protocol)),
            (b"a, \xff", &["a"], Err(Refusal::Protocol)),
        ] {
            let mut headers = good();
            headers.push(header("Sec-WebSocket-Protocol", offered));
            assert_eq!(check("GET", 1, &headers, ours).map(|handshake| handshake.protocol), chosen);
        }
    }

    #[test]
    fn the_response_is_the_one_of_the_rfc() {
        let mut out = Vec::new();
        check("GET", 1, &good(), &[]).unwrap().write_response(None, &mut out);
        assert_eq!(
            out,
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        );
        out.clear();
        let handshake = Handshake { accept: accept_key(KEY), protocol: Some("chat") };
        handshake.write_response(Some("permessage-deflate"), &mut out);
        assert!(
            out.ends_with(b"\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
        );
    }
}
