//! Where a request has its token.

use std::borrow::Cow;

use crate::http::request::Request;

/// Bytes of a token.
const MAX_TOKEN: usize = 8 * 1024;
/// The query's parameter (RFC 6750 section 2.3).
const PARAMETER: &str = "access_token";
/// The subprotocol that goes before a token, and is agreed to, where a browser can send no header.
pub const SUBPROTOCOL: &str = "bearer";

/// The token of a request: in `Authorization: Bearer`, as the subprotocol after `bearer`, as `access_token` in the query, or in
/// the cookie of that name. The first of these counts.
pub fn of<'b>(request: &Request<'b>, cookie: Option<&str>) -> Option<Cow<'b, str>> {
    let text = |bytes: &'b [u8]| std::str::from_utf8(bytes).ok().map(Cow::Borrowed);
    let token = request
        .header("Authorization")
        .and_then(bearer)
        .or_else(|| subprotocol(request))
        .and_then(text)
        .or_else(|| request.query_value(PARAMETER))
        .or_else(|| cookie.and_then(|name| cookie_of(request, name)).and_then(text))?;
    (!token.is_empty() && token.len() <= MAX_TOKEN).then_some(token)
}

/// The token of an `Authorization` field (RFC 6750 section 2.1). The name of the scheme may be in any case (RFC 9110 section 11.1).
pub fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// The subprotocol that is offered after `bearer`.
fn subprotocol<'b>(request: &Request<'b>) -> Option<&'b [u8]> {
    let mut offered = request.values("Sec-WebSocket-Protocol").flat_map(|value| value.split(|&byte| byte == b','));
    offered.find(|item| item.trim_ascii() == SUBPROTOCOL.as_bytes())?;
    offered.next().map(<[u8]>::trim_ascii)
}

/// Whether a token is offered as a subprotocol, so that `bearer` has to be agreed to.
pub fn is_subprotocol(request: &Request<'_>) -> bool {
    subprotocol(request).is_some()
}

/// The value of a cookie (RFC 6265 section 4.2.1), without the quotes that it may be in.
fn cookie_of<'b>(request: &Request<'b>, name: &str) -> Option<&'b [u8]> {
    let pairs = request.values("Cookie").flat_map(|value| value.split(|&byte| byte == b';'));
    let mut values = pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    let value = values.next()?;
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::parse;

    fn found(target: &str, fields: &str) -> Option<String> {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let request = parse(head.as_bytes(), 8192).unwrap().unwrap();
        of(&request, Some("session")).map(Cow::into_owned)
    }

    #[test]
    fn a_token_is_found_wherever_it_may_be() {
        for (target, fields, token) in [
            ("/", "", None),
            ("/", "Authorization: Bearer a.b-c_d\r\n", Some("a.b-c_d")),
            ("/", "authorization: bearer  x \r\n", Some("x")),
            ("/", "Authorization: Basic x\r\n", None),
            ("/", "Authorization: Bearer\r\n", None),
            ("/?access_token=a%2Eb", "", Some("a.b")),
            ("/?access_token=", "", None),
            ("/", "Sec-WebSocket-Protocol: bearer, a.b.c\r\n", Some("a.b.c")),
            ("/", "Sec-WebSocket-Protocol: chat, bearer\r\nSec-WebSocket-Protocol: a.b.c\r\n", Some("a.b.c")),
            ("/", "Sec-WebSocket-Protocol: a.b.c\r\n", None),
            ("/", "Sec-WebSocket-Protocol: bearer\r\n", None),
            ("/", "Cookie: a=b; session=\"x.y\"; c=d\r\n", Some("x.y")),
            ("/", "Cookie: sessionx=1; xsession=2\r\n", None),
            ("/?access_token=query", "Authorization: Bearer header\r\nCookie: session=c\r\n", Some("header")),
            ("/?access_token=query", "Cookie: session=c\r\n", Some("query")),
        ] {
            assert_eq!(found(target, fields).as_deref(), token, "{target} {fields}");
        }
    }

    #[test]
    fn the_token_is_behind_the_scheme() {
        for (credentials, token) in [
            ("Bearer abc", Some("abc")),
            ("bEARER  abc ", Some("abc")),
            ("Bearer ", Some("")),
            ("Bearer", None),
            ("Basic abc", None),
            ("", None),
        ] {
            assert_eq!(bearer(credentials.as_bytes()), token.map(str::as_bytes), "{credentials}");
        }
    }

    #[test]
    fn a_token_has_a_bound() {
        let field = |len| format!("Authorization: Bearer {}\r\n", "x".repeat(len));
        let head = |len| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", field(len));
        for (len, is_one) in [(MAX_TOKEN, true), (MAX_TOKEN + 1, false)] {
            let head = head(len);
            assert_eq!(of(&parse(head.as_bytes(), 65536).unwrap().unwrap(), None).is_some(), is_one);
        }
    }
}
