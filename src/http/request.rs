//! Request heads (RFC 9112): parsing, what is refused, and a view of what was asked.

use std::borrow::Cow;

use httparse::Header;
use percent_encoding::percent_decode_str;
use thiserror::Error;

use crate::limits::MAX_HEADERS;

/// The path that messages are posted to.
pub const PUBLISH: &str = "/publish";
/// Where streams of Server-Sent Events are.
pub const EVENTS: &str = "/sse";

/// The methods that are answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`: as `GET`, without the body.
    Head,
    /// `POST`, to [`PUBLISH`] only.
    Post,
    /// `OPTIONS`, of [`PUBLISH`] and [`EVENTS`] only: what a browser asks before a page of another origin sends a token.
    Options,
}

impl Method {
    /// What the `Allow` header of a 405 says, of most paths.
    pub const ALLOW: &'static str = "GET, HEAD";

    /// The method's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Options => "OPTIONS",
        }
    }

    fn from_wire(name: &str) -> Option<Method> {
        // Methods are case-sensitive (RFC 9110 section 9.1).
        [Method::Get, Method::Head, Method::Post, Method::Options].into_iter().find(|method| method.as_str() == name)
    }
}

/// Why a head is refused. The connection is closed after the answer: where the next request would begin is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HeadError {
    /// Not `METHOD target HTTP/1.1` (RFC 9112 section 3).
    #[error("The request line is not of the form `GET /path HTTP/1.1`.")]
    RequestLine,
    /// A header line that is none; also a folded one (obs-fold) or one with a space before its colon.
    #[error("A header line is not of the form `Name: value`.")]
    HeaderLine,
    /// A line ends without CR: peers that disagree on where lines end can be played off against each other.
    #[error("A line of the head ends in LF alone; lines end in CRLF.")]
    LineEnd,
    /// `Host` is missing, repeated or no host (RFC 9112 section 3.2).
    #[error("The request needs exactly one Host header, with a host and nothing else.")]
    Host,
    /// A field is repeated that says who asks, of which there is one (RFC 9110 section 5.3): others may believe the other one.
    #[error("The request needs no more than one Authorization header, and one Origin.")]
    Repeated,
    /// `Content-Length` is repeated or not a number (RFC 9112 section 6.3).
    #[error("The Content-Length header is repeated or not a number.")]
    ContentLength,
    /// `Transfer-Encoding` beside `Content-Length`, or in HTTP/1.0 (RFC 9112 section 6.1).
    #[error("The Transfer-Encoding header is not allowed in HTTP/1.0, nor beside Content-Length.")]
    TransferEncoding,
    /// A body without a `Content-Length`.
    #[error("The request needs a Content-Length.")]
    LengthRequired,
    /// A body is announced.
    #[error("A request body is not accepted here.")]
    Body,
    /// The head is longer than so many bytes.
    #[error("The request head is larger than the {0} bytes allowed.")]
    TooLarge(usize),
    /// More header fields than [`MAX_HEADERS`].
    #[error("The request has more than the {MAX_HEADERS} header fields allowed.")]
    TooManyHeaders,
    /// Neither `GET` nor `HEAD`, but for [`PUBLISH`] and [`EVENTS`].
    #[error("Only GET and HEAD are answered here.")]
    Method,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    #[error("Only HTTP/1.1 and HTTP/1.0 are spoken here.")]
    Version,
}

impl HeadError {
    /// The status that answers it.
    pub fn status(self) -> u16 {
        match self {
            HeadError::RequestLine
            | HeadError::HeaderLine
            | HeadError::LineEnd
            | HeadError::Host
            | HeadError::Repeated
            | HeadError::ContentLength
            | HeadError::TransferEncoding => 400,
            HeadError::Method => 405,
            HeadError::LengthRequired => 411,
            HeadError::Body => 413,
            HeadError::TooLarge(_) | HeadError::TooManyHeaders => 431,
            HeadError::Version => 505,
        }
    }
}

/// A head that was accepted; it borrows the bytes it was parsed from.
#[derive(Clone, Debug)]
pub struct Request<'b> {
    /// What is to be done.
    pub method: Method,
    /// The target's path as it came: never empty, percent-encoded.
    pub path: &'b str,
    /// The target's query as it came: without the question mark, percent-encoded, empty if there is none.
    pub query: &'b str,
    /// The minor version of HTTP/1: 0 or 1.
    pub minor_version: u8,
    /// Bytes of the head, the empty line included. What follows belongs to the next request, or to the WebSocket.
    pub head_len: usize,
    /// Bytes of the body that follows the head: of a `POST` only.
    pub body_len: u64,
    /// Whether it is answered before its body is there, so that nothing can follow on its connection. For the caller to say.
    pub is_cut: bool,
    headers: [Header<'b>; MAX_HEADERS],
    header_count: usize,
}

/// Parses the head at the start of `bytes`, of at most `max_head` bytes; `None` if the head is not there in whole yet.
///
/// The answer depends on the bytes alone, not on how they arrived: once it is not `Ok(None)`, more bytes do not
/// change it.
pub fn parse(bytes: &[u8], max_head: usize) -> Result<Option<Request<'_>>, HeadError> {
    let window = &bytes[..bytes.len().min(max_head)];
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let head_len = match head.parse(window) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if window.len() == max_head => return Err(HeadError::TooLarge(max_head)),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(syntax_error(error, window)),
    };
    let (Some(method), Some(target), Some(minor_version)) = (head.method, head.path, head.version) else {
        return Err(HeadError::RequestLine);
    };
    let header_count = head.headers.len();
    if has_bare_lf(&window[..head_len]) {
        return Err(HeadError::LineEnd);
    }
    let method = Method::from_wire(method).ok_or(HeadError::Method)?;
    let target = split_target(target);
    let is_taken = |(path, _): (&str, _)| match method {
        Method::Get | Method::Head => true,
        Method::Post => path == PUBLISH,
        Method::Options => [PUBLISH, EVENTS].contains(&path),
    };
    // A target that is none is told as such, with the methods that all know.
    if !target.map_or(matches!(method, Method::Get | Method::Head), is_taken) {
        return Err(HeadError::Method);
    }
    let (path, query) = target.ok_or(HeadError::RequestLine)?;
    let mut request =
        Request { method, path, query, minor_version, head_len, body_len: 0, is_cut: false, headers, header_count };
    check_host(&request)?;
    if ["Authorization", "Origin"].into_iter().any(|name| request.values(name).nth(1).is_some()) {
        return Err(HeadError::Repeated);
    }
    request.body_len = body_len(&request)?;
    Ok(Some(request))
}

impl<'b> Request<'b> {
    /// The header fields, in order.
    pub fn headers(&self) -> &[Header<'b>] {
        &self.headers[..self.header_count]
    }

    /// The values of every field of that name, which is compared without regard to case.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.headers().iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// The value of the first field of that name.
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        self.values(name).next()
    }

    /// Whether a list of tokens, over all fields of that name, has `token`; case does not matter.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether the client asks for a WebSocket; whether it asks properly is for the handshake to say.
    ///
    /// `Connection` is left out of it: a proxy that strips it is told what is wrong rather than served a page.
    pub fn wants_websocket(&self) -> bool {
        self.has_token("Upgrade", "websocket")
    }

    /// Whether the connection may carry another request (RFC 9112 section 9.3).
    pub fn keep_alive(&self) -> bool {
        let close = self.is_cut || self.has_token("Connection", "close");
        !close && (self.minor_version >= 1 || self.has_token("Connection", "keep-alive"))
    }

    /// The query's first parameter of that name, decoded as a form: `+` is a space, an escape that is none stands for
    /// itself, what is not UTF-8 becomes U+FFFD.
    pub fn query_value(&self, name: &str) -> Option<Cow<'b, str>> {
        self.query_values(name).next()
    }

    /// The query's parameters of that name, in order, decoded as [`Request::query_value`] does.
    pub fn query_values(&self, name: &str) -> impl Iterator<Item = Cow<'b, str>> {
        let query: &'b str = self.query;
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.filter(move |(key, _)| form_decode(key) == name).map(|(_, value)| form_decode(value))
    }
}

/// Decodes `%41` to `A`; `None` if an escape is not two hex digits or the result not UTF-8.
pub fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    let escapes_are_whole = text
        .split('%')
        .skip(1)
        .all(|rest| rest.len() >= 2 && rest.as_bytes().iter().take(2).all(u8::is_ascii_hexdigit));
    if escapes_are_whole { percent_decode_str(text).decode_utf8().ok() } else { None }
}

fn form_decode(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        Cow::Owned(percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned())
    } else {
        percent_decode_str(text).decode_utf8_lossy()
    }
}

fn syntax_error(error: httparse::Error, head: &[u8]) -> HeadError {
    match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => HeadError::HeaderLine,
        httparse::Error::TooManyHeaders => HeadError::TooManyHeaders,
        httparse::Error::Version if names_http(head) => HeadError::Version,
        // A stray CR is found in the request line or where a header line should be.
        _ => HeadError::RequestLine,
    }
}

/// Whether the third word of the request line is some version of HTTP.
fn names_http(head: &[u8]) -> bool {
    head.trim_ascii_start().split(|&byte| byte == b' ').nth(2).is_some_and(|word| word.starts_with(b"HTTP/"))
}

fn has_bare_lf(head: &[u8]) -> bool {
    head.split_inclusive(|&byte| byte == b'\n').any(|line| !line.ends_with(b"\r\n"))
}

/// Path and query of a target in origin form or, as a proxy sends it, in absolute form (RFC 9112 section 3.2).
fn split_target(target: &str) -> Option<(&str, &str)> {
    let local = if target.starts_with('/') {
        target
    } else {
        let (scheme, rest) = target.split_once("://")?;
        let known = ["http", "https", "ws", "wss"].into_iter().any(|known| scheme.eq_ignore_ascii_case(known));
        let authority = rest.find(['/', '?']).unwrap_or(rest.len());
        if !known || authority == 0 {
            return None;
        }
        &rest[authority..]
    };
    // A fragment never leaves the client (RFC 9110 section 7.1).
    if local.contains('#') {
        return None;
    }
    let (path, query) = local.split_once('?').unwrap_or((local, ""));
    Some((if path.is_empty() { "/" } else { path }, query))
}

fn check_host(request: &Request<'_>) -> Result<(), HeadError> {
    let mut hosts = request.values("Host");
    let valid = match hosts.next() {
        Some(host) => host.iter().all(|&byte| is_host_byte(byte)) && hosts.next().is_none(),
        None => request.minor_version == 0,
    };
    if valid { Ok(()) } else { Err(HeadError::Host) }
}

/// `uri-host [ ":" port ]` by its alphabet (RFC 3986 section 3.2): no space, no second host, no path, no user.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(&byte)
}

/// Bytes of the body; none is allowed but a `POST`'s, whose length must be known.
fn body_len(request: &Request<'_>) -> Result<u64, HeadError> {
    let mut lengths = request.values("Content-Length");
    let length = lengths.next();
    if lengths.next().is_some() || length.is_some_and(|value| !is_number(value)) {
        return Err(HeadError::ContentLength);
    }
    let encoded = request.values("Transfer-Encoding").next().is_some();
    if encoded && (length.is_some() || request.minor_version == 0) {
        return Err(HeadError::TransferEncoding);
    }
    // The number may be larger than any integer type.
    let digit = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    let length = length.map(|value| value.iter().fold(0, digit));
    match (request.method, length) {
        (Method::Post, Some(length)) => Ok(length),
        (Method::Post, None) => Err(HeadError::LengthRequired),
        // `Content-Length: 0` is no body.
        (_, None | Some(0)) if !encoded => Ok(0),
        _ => Err(HeadError::Body),
    }
}

fn is_number(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_HEAD: usize = 8 * 1024;

    fn request(head: &str) -> Request<'_> {
        parse(head.as_bytes(), MAX_HEAD).unwrap().unwrap()
    }

    fn with_headers(lines: &str) -> String {
        format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
    }

    #[test]
    fn a_head_ends_at_its_empty_line() {
        let bytes = b"\r\nGET /a?b HTTP/1.1\r\nHost: x:1\r\n\r\n\x81\x00";
        let head = parse(bytes, MAX_HEAD).unwrap().unwrap();
        assert_eq!((head.method, head.path, head.query, head.minor_version), (Method::Get, "/a", "b", 1));
        assert_eq!(head.head_len, bytes.len() - 2);
        assert_eq!(head.headers().len(), 1);
    }

    #[test]
    fn the_limit_is_on_the_head_not_on_what_follows() {
        let head = with_headers("");
        let bytes = [head.as_bytes(), &[b'x'; 100]].concat();
        assert_eq!(parse(&bytes, head.len()).unwrap().unwrap().head_len, head.len());
        let limit = head.len() - 1;
        assert_eq!(parse(&bytes, limit).unwrap_err(), HeadError::TooLarge(limit));
        assert!(parse(&bytes[..limit - 1], limit).unwrap().is_none());
    }

    #[test]
    fn the_number_of_headers_is_bounded() {
        let head = |n| with_headers(&"a: b\r\n".repeat(n));
        assert_eq!(request(&head(MAX_HEADERS - 1)).headers().len(), MAX_HEADERS);
        assert_eq!(parse(head(MAX_HEADERS).as_bytes(), MAX_HEAD).unwrap_err(), HeadError::TooManyHeaders);
    }

    #[test]
    fn targets() {
        for (target, path, query) in [
            ("/", "/", ""),
            ("/a/%20?x=1?y", "/a/%20", "x=1?y"),
            ("//double", "//double", ""),
            ("http://h:80/p?q", "/p", "q"),
            ("WSS://h", "/", ""),
            ("http://h?q", "/", "q"),
            ("/é", "/é", ""),
        ] {
            assert_eq!(split_target(target), Some((path, query)), "{target}");
        }
        for target in ["*", "h:80", "a/b", "ftp://h/", "http:///p", "/a#b", "?q"] {
            assert_eq!(split_target(target), None, "{target}");
        }
    }

    #[test]
    fn names_are_caseless_and_lists_span_fields() {
        let head = with_headers("connection: keep-alive, Upgrade\r\nCONNECTION:, x\r\nUpgrade: h2c\r\n");
        let request = request(&head);
        assert_eq!(request.header("Connection"), Some(&b"keep-alive, Upgrade"[..]));
        assert_eq!(request.values("connection").count(), 2);
        for token in ["UPGRADE", "keep-alive", "X"] {
            assert!(request.has_token("Connection", token));
        }
        assert!(!request.has_token("Connection", "keep"));
        assert!(!request.wants_websocket());
    }

    #[test]
    fn keep_alive_by_version() {
        for (version, connection, expected) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: Keep-Alive, Close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ] {
            let head = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
            assert_eq!(request(&head).keep_alive(), expected, "{version} {connection}");
        }
    }

    #[test]
    fn queries_are_forms() {
        let head = "HEAD /?a=1&a=2&topic=x%2fy+z&flag&&b%61r=%zz&bin=%ff HTTP/1.1\r\nHost: a\r\n\r\n";
        let request = request(head);
        for (name, value) in [
            ("a", Some("1")),
            ("topic", Some("x/y z")),
            ("flag", Some("")),
            ("bar", Some("%zz")),
            ("bin", Some("\u{fffd}")),
            ("no", None),
        ] {
            assert_eq!(request.query_value(name).as_deref(), value, "{name}");
        }
    }

    #[test]
    fn paths_are_decoded_strictly() {
        assert_eq!(percent_decode("a%2Fb+c%e2%82%ac").as_deref(), Some("a/b+c€"));
        for bad in ["%", "a%2", "%zz", "%ff", "%€", "%2%30"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }
}
