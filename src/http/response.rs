//! Responses: values until they are encoded.

use std::borrow::Cow;

use ::http::StatusCode;

use super::pages::Page;
use super::request::{HeadError, Method};

/// The field that says which pages may read a response.
pub const ALLOW_ORIGIN: &str = "Access-Control-Allow-Origin";
/// The field that names those of a response that such pages may read besides those that they always may (Fetch, *CORS protocol*).
pub const EXPOSE_HEADERS: &str = "Access-Control-Expose-Headers";

/// The head of a stream of Server-Sent Events, which has no length: the connection's end is its own. Neither caches nor
/// proxies are to keep any of it back.
pub const EVENT_STREAM: &str = "HTTP/1.1 200 OK\r\n\
    Content-Type: text/event-stream\r\n\
    Cache-Control: no-cache, no-transform\r\n\
    X-Accel-Buffering: no\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Access-Control-Allow-Origin: *\r\n\
    Connection: close\r\n\r\n";

/// A response to a request that was no WebSocket handshake, or was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response<'a> {
    /// Status code; three digits.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Cache-Control`.
    pub cache_control: &'static str,
    /// Further header fields; neither names nor values may come from a client.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body, which a `HEAD` is not sent.
    pub body: Cow<'a, [u8]>,
}

/// What of a response depends on the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Framing {
    /// The method was `HEAD`: headers as for `GET`, no body.
    pub head_only: bool,
    /// The connection stays open for another request.
    pub keep_alive: bool,
}

impl Framing {
    /// The response is the last of its connection.
    pub const CLOSE: Framing = Framing { head_only: false, keep_alive: false };
}

impl<'a> Response<'a> {
    fn new(status: u16, content_type: &'static str, body: impl Into<Cow<'a, [u8]>>) -> Response<'a> {
        Response { status, content_type, cache_control: "no-store", headers: Vec::new(), body: body.into() }
    }

    /// 200 with a JSON text.
    pub fn json(text: String) -> Response<'a> {
        Response::new(200, "application/json", text.into_bytes())
    }

    /// 200 with a page, or a part of one, which is asked for anew whenever it is needed.
    pub fn page(page: &Page) -> Response<'static> {
        let response = Response { cache_control: "no-cache", ..Response::new(200, page.content_type, page.bytes) };
        let response = response.header("Referrer-Policy", "no-referrer");
        match page.policy {
            Some(policy) => response.header("Content-Security-Policy", policy),
            None => response,
        }
    }

    /// 200: any page may post a message, or read a stream with a token in a header (Fetch, *CORS protocol*).
    pub fn preflight() -> Response<'static> {
        Response::new(200, "text/plain", &b""[..])
            .header(ALLOW_ORIGIN, "*")
            .header("Access-Control-Allow-Methods", "GET, POST")
            .header("Access-Control-Allow-Headers", "Authorization, Content-Type")
            .header("Access-Control-Max-Age", "86400")
    }

    /// 405 where messages are posted to.
    pub fn post_only() -> Response<'static> {
        let body = format!("405 {}\nMessages are posted here.\n", reason_phrase(405)).into_bytes();
        Response::new(405, "text/plain; charset=utf-8", body).header("Allow", "POST, OPTIONS")
    }

    /// An error: the status in words, and a sentence for whoever reads it in a terminal or a proxy's log.
    ///
    /// 401 has `WWW-Authenticate`, 405 has `Allow`, 426 has `Upgrade` and `Sec-WebSocket-Version` (RFC 9110 sections 15.5.2,
    /// 15.5.6 and 15.5.22, RFC 6455 section 4.4).
    pub fn error(status: u16, sentence: &str) -> Response<'static> {
        let body = format!("{status} {}\n{sentence}\n", reason_phrase(status)).into_bytes();
        let response = Response::new(status, "text/plain; charset=utf-8", body);
        match status {
            401 => response.header("WWW-Authenticate", "Bearer"),
            405 => response.header("Allow", Method::ALLOW),
            426 => response.header("Upgrade", "websocket").header("Sec-WebSocket-Version", "13"),
            _ => response,
        }
    }

    /// 503: come back in so many seconds. Pages of any origin may read it.
    pub fn unavailable(retry_after: u32, sentence: &str) -> Response<'static> {
        Response::error(503, sentence).retry_after(retry_after).header(ALLOW_ORIGIN, "*")
    }

    /// 429: come back in so many seconds. Pages of any origin may read it.
    pub fn too_many(retry_after: u32, sentence: &str) -> Response<'static> {
        Response::error(429, sentence).retry_after(retry_after).header(ALLOW_ORIGIN, "*")
    }

    /// Says to come back in so many seconds, also to pages of other origins, where these may read the response.
    pub fn retry_after(self, seconds: u32) -> Response<'a> {
        self.header("Retry-After", seconds.to_string()).header(EXPOSE_HEADERS, "Retry-After")
    }

    /// Adds a header field.
    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Response<'a> {
        self.headers.push((name, value.into()));
        self
    }

    /// Appends the response to `out`. It has no `Date`: that would need a clock (RFC 9110 section 6.6.1).
    pub fn encode(&self, framing: Framing, out: &mut Vec<u8>) {
        let status_line = format!("HTTP/1.1 {} {}\r\n", self.status, reason_phrase(self.status));
        out.extend_from_slice(status_line.as_bytes());
        write_field(out, "Content-Type", self.content_type);
        write_field(out, "Content-Length", &self.body.len().to_string());
        write_field(out, "Cache-Control", self.cache_control);
        write_field(out, "X-Content-Type-Options", "nosniff");
        write_field(out, "Connection", self.connection(framing.keep_alive));
        for (name, value) in &self.headers {
            write_field(out, name, value);
        }
        out.extend_from_slice(b"\r\n");
        if !framing.head_only {
            out.extend_from_slice(&self.body);
        }
    }

    /// Whoever sends `Upgrade` has to say so in `Connection` (RFC 9110 section 7.8).
    fn connection(&self, keep_alive: bool) -> &'static str {
        match (self.status == 426, keep_alive) {
            (false, true) => "keep-alive",
            (false, false) => "close",
            (true, true) => "keep-alive, upgrade",
            (true, false) => "close, upgrade",
        }
    }
}

impl From<HeadError> for Response<'static> {
    fn from(error: HeadError) -> Response<'static> {
        Response::error(error.status(), &error.to_string())
    }
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    debug_assert!(!value.contains(['\r', '\n']), "a field's value is one line");
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The words that go with a status code (RFC 9110 section 15).
pub fn reason_phrase(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Unknown")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::pages::page;

    fn encoded(response: &Response<'_>, framing: Framing) -> String {
        let mut out = Vec::new();
        response.encode(framing, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_error_is_its_status_in_words_and_a_sentence() {
        let response = Response::error(408, "The request head was not complete within 10 s.");
        assert_eq!(
            encoded(&response, Framing::CLOSE),
            "HTTP/1.1 408 Request Timeout\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 67\r\n\
             Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\n\
             Connection: close\r\n\
             \r\n\
             408 Request Timeout\nThe request head was not complete within 10 s.\n"
        );
    }

    #[test]
    fn a_head_request_gets_the_length_and_no_body() {
        let response = Response::json("{}".into());
        let with_body = encoded(&response, Framing { head_only: false, keep_alive: true });
        let without = encoded(&response, Framing { head_only: true, keep_alive: true });
        assert_eq!(with_body, format!("{without}{{}}"));
        assert!(without.contains("Content-Length: 2\r\n") && without.contains("Connection: keep-alive\r\n"));
    }

    #[test]
    fn statuses_bring_the_fields_they_must() {
        let [document, module] = ["/demo/chat", "/demo/client/index.js"].map(|path| page(path).unwrap());
        for (response, field) in [
            (Response::error(405, ""), "Allow: GET, HEAD\r\n"),
            (Response::error(426, ""), "Sec-WebSocket-Version: 13\r\n"),
            (Response::error(426, ""), "Upgrade: websocket\r\n"),
            (Response::error(426, ""), "Connection: close, upgrade\r\n"),
            (Response::unavailable(3, ""), "Retry-After: 3\r\n"),
            (Response::unavailable(3, ""), "Access-Control-Expose-Headers: Retry-After\r\n"),
            (Response::too_many(3, ""), "Access-Control-Expose-Headers: Retry-After\r\n"),
            (Response::page(document), "Content-Security-Policy: default-src 'none'; script-src"),
            (Response::page(document), "Referrer-Policy: no-referrer\r\n"),
            (Response::page(document), "Cache-Control: no-cache\r\n"),
            (Response::page(module), "Content-Type: text/javascript; charset=utf-8\r\n"),
        ] {
            let text = encoded(&response, Framing::CLOSE);
            assert!(text.contains(field), "{field} in {text}");
        }
    }

    #[test]
    fn every_head_error_has_a_status_with_words() {
        for error in [
            HeadError::RequestLine,
            HeadError::Method,
            HeadError::Body,
            HeadError::TooLarge(8192),
            HeadError::TooManyHeaders,
            HeadError::Version,
        ] {
            assert_ne!(reason_phrase(error.status()), "", "{error:?}");
            assert!(Response::from(error).body.ends_with(b".\n"));
        }
    }
}
