//! The answer to an opening handshake (RFC 6455 section 4.1, RFC 7692 section 5.1).

use httparse::Header;

use crate::limits::MAX_HEADERS;
use crate::ws::handshake::{items, values};

/// Bytes that an answer's head may have.
const MAX_HEAD: usize = 64 * 1024;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The value of `Sec-WebSocket-Accept` that answers the key.
    pub accept: &'a [u8],
    /// `permessage-deflate` was offered, without context takeover on either side.
    pub deflate: bool,
    /// The subprotocols that were offered.
    pub protocols: &'a [String],
}

/// Judges what has come of the answer. `None`: its head is not there in whole. Otherwise the head's bytes, and whether
/// messages may be compressed.
///
/// # Errors
/// In words, why there is no connection.
pub fn judge(bytes: &[u8], asked: Asked<'_>) -> Result<Option<(usize, bool)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let window = &bytes[..bytes.len().min(MAX_HEAD)];
    let len = match response.parse(window) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if window.len() == MAX_HEAD => {
            return Err(format!("the answer's head has more than {MAX_HEAD} bytes"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("the answer is no HTTP: {error}")),
    };
    let (code, reason) = (response.code.unwrap_or_default(), response.reason.unwrap_or_default());
    if code != 101 {
        return Err(format!("answered {code} {reason}").trim_end().to_owned());
    }
    if response.version != Some(1) {
        return Err("answered with HTTP/1.0".to_owned());
    }
    check_upgrade(response.headers, asked)?;
    check_protocol(response.headers, asked.protocols)?;
    let deflate = check_extensions(response.headers, asked.deflate)?;
    Ok(Some((len, deflate)))
}

fn check_upgrade(headers: &[Header<'_>], asked: Asked<'_>) -> Result<(), String> {
    if !items(headers, "Upgrade").any(|item| item.eq_ignore_ascii_case(b"websocket")) {
        return Err("the answer has no `Upgrade: websocket`".to_owned());
    }
    if !items(headers, "Connection").any(|item| item.eq_ignore_ascii_case(b"upgrade")) {
        return Err("the answer has no `Connection: Upgrade`".to_owned());
    }
    let mut keys = values(headers, "Sec-WebSocket-Accept");
    match (keys.next(), keys.next()) {
        (None, _) => Err("the answer has no Sec-WebSocket-Accept".to_owned()),
        (Some(key), None) if key == asked.accept => Ok(()),
        (Some(key), None) => Err(format!("Sec-WebSocket-Accept is wrong: {}", words(key))),
        (Some(_), Some(_)) => Err("the answer has more than one Sec-WebSocket-Accept".to_owned()),
    }
}

fn check_protocol(headers: &[Header<'_>], offered: &[String]) -> Result<(), String> {
    let mut protocols = values(headers, "Sec-WebSocket-Protocol");
    let Some(protocol) = protocols.next() else { return Ok(()) };
    if protocols.next().is_some() {
        return Err("the answer has more than one Sec-WebSocket-Protocol".to_owned());
    }
    if !offered.iter().any(|name| name.as_bytes() == protocol) {
        return Err(format!("the subprotocol {} was not offered", words(protocol)));
    }
    Ok(())
}

/// Whether `permessage-deflate` was agreed on, which is the only extension there is.
fn check_extensions(headers: &[Header<'_>], offered: bool) -> Result<bool, String> {
    let mut extensions = items(headers, "Sec-WebSocket-Extensions");
    let Some(extension) = extensions.next() else { return Ok(false) };
    if !offered || extensions.next().is_some() {
        let all = values(headers, "Sec-WebSocket-Extensions").map(words).collect::<Vec<_>>().join(", ");
        return Err(format!("an extension was not offered: {all}"));
    }
    let mut parts = extension.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    if parts.next() != Some(b"permessage-deflate") {
        return Err(format!("the extension was not offered: {}", words(extension)));
    }
    let mut seen: Vec<&[u8]> = Vec::new();
    for parameter in parts {
        let name = check_parameter(parameter)?;
        if seen.contains(&name) {
            return Err(format!("permessage-deflate has a parameter twice: {}", words(name)));
        }
        seen.push(name);
    }
    if !seen.contains(&&b"server_no_context_takeover"[..]) {
        return Err("permessage-deflate without server_no_context_takeover, which was asked for".to_owned());
    }
    Ok(true)
}

/// The name of a parameter of `permessage-deflate` that may be in an answer to what was offered (RFC 7692 section 7.1).
fn check_parameter(parameter: &[u8]) -> Result<&[u8], String> {
    let mut parts = parameter.splitn(2, |&byte| byte == b'=').map(<[u8]>::trim_ascii);
    match (parts.next().unwrap_or_default(), parts.next()) {
        (name @ (b"server_no_context_takeover" | b"client_no_context_takeover"), None) => Ok(name),
        (name @ b"server_max_window_bits", Some(value)) if is_window_bits(value) => Ok(name),
        _ => Err(format!("permessage-deflate has a parameter that was not offered: {}", words(parameter))),
    }
}

/// 8 to 15, which may be in quotes.
fn is_window_bits(value: &[u8]) -> bool {
    let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    matches!(unquoted, b"8" | b"9" | b"10" | b"11" | b"12" | b"13" | b"14" | b"15")
}

/// A field of a server's, fit for a message.
fn words(value: &[u8]) -> String {
    value.escape_ascii().take(200).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn judged(deflate: bool, answer: &str) -> Result<Option<(usize, bool)>, String> {
        let protocols = ["chat".to_owned()];
        judge(answer.as_bytes(), Asked { accept: ACCEPT.as_bytes(), deflate, protocols: &protocols })
    }

    /// A good answer with these lines more.
    fn answer(lines: &str) -> String {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\n{lines}\r\n"
        )
    }

    #[test]
    fn a_good_answer_is_accepted_once_it_is_there() {
        let good = answer("Sec-WebSocket-Protocol: chat\r\n");
        for len in 0..good.len() {
            assert_eq!(judged(false, &good[..len]), Ok(None), "{len}");
        }
        assert_eq!(judged(false, &good), Ok(Some((good.len(), false))));
        assert_eq!(judged(true, &format!("{good}\u{1}")), Ok(Some((good.len(), false))), "no compression is fine too");
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        for (from, to, expected) in [
            ("101 Switching Protocols", "503 Service Unavailable", "answered 503 Service Unavailable"),
            ("101 Switching Protocols", "404", "answered 404"),
            ("HTTP/1.1", "HTTP/1.0", "answered with HTTP/1.0"),
            ("HTTP/1.1", "SSH-2.0", "the answer is no HTTP: invalid HTTP version"),
            ("upgrade: WebSocket", "upgrade: h2c", "the answer has no `Upgrade: websocket`"),
            ("Connection:", "X:", "the answer has no `Connection: Upgrade`"),
            ("Sec-WebSocket-Accept:", "X:", "the answer has no Sec-WebSocket-Accept"),
            ("s3p", "S3p", "Sec-WebSocket-Accept is wrong: S3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("\r\n\r\n", "\r\nSec-WebSocket-Accept: x\r\n\r\n", "the answer has more than one Sec-WebSocket-Accept"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: x\u{e9}\r\n\r\n", "the subprotocol x\\xc3\\xa9 was not offered"),
            (
                "\r\n\r\n",
                "\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
                "the answer has more than one Sec-WebSocket-Protocol",
            ),
        ] {
            assert_eq!(judged(true, &answer("").replacen(from, to, 1)), Err(expected.to_owned()));
        }
        let endless = format!("{}X: {}", answer("").trim_end(), "y".repeat(MAX_HEAD));
        assert_eq!(judged(true, &endless), Err("the answer's head has more than 65536 bytes".to_owned()));
    }

    #[test]
    fn of_extensions_only_what_was_offered_is_agreed_to() {
        const NO_TAKEOVER: &str = "permessage-deflate; server_no_context_takeover";
        let was_not = |what: &str| Err(format!("permessage-deflate has a parameter that was not offered: {what}"));
        for (value, expected) in [
            (NO_TAKEOVER.to_owned(), Ok(true)),
            (format!("{NO_TAKEOVER};client_no_context_takeover"), Ok(true)),
            (format!("{NO_TAKEOVER} ; server_max_window_bits = \"12\""), Ok(true)),
            (
                "permessage-deflate".to_owned(),
                Err("permessage-deflate without server_no_context_takeover, which was asked for".to_owned()),
            ),
            (format!("{NO_TAKEOVER}; server_max_window_bits=16"), was_not("server_max_window_bits=16")),
            (format!("{NO_TAKEOVER}; client_max_window_bits=15"), was_not("client_max_window_bits=15")),
            (format!("{NO_TAKEOVER}; client_no_context_takeover=1"), was_not("client_no_context_takeover=1")),
            (
                format!("{NO_TAKEOVER}; server_no_context_takeover"),
                Err("permessage-deflate has a parameter twice: server_no_context_takeover".to_owned()),
            ),
            ("x-webkit-deflate".to_owned(), Err("the extension was not offered: x-webkit-deflate".to_owned())),
            (format!("{NO_TAKEOVER}, foo"), Err(format!("an extension was not offered: {NO_TAKEOVER}, foo"))),
        ] {
            let answer = answer(&format!("Sec-WebSocket-Extensions: {value}\r\n"));
            let expected = expected.map(|deflate| Some((answer.len(), deflate)));
            assert_eq!(judged(true, &answer), expected, "{value}");
            assert!(judged(false, &answer).is_err(), "nothing was offered");
        }
    }
}
