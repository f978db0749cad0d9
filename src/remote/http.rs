//! One request of HTTP/1.0, and its answer: after it the server closes, so that neither has to be told where it ends.

use std::io::{self, Read, Write};

use crate::limits::MAX_HEADERS;

/// Bytes of an answer.
const MAX_ANSWER: u64 = 1 << 20;

/// An answer.
#[derive(PartialEq, Eq, Debug)]
pub struct Response {
    /// As 200.
    pub status: u16,
    /// What follows the head.
    pub body: Vec<u8>,
}

/// A request: method, path and what it brings.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Where it goes, as the header has it.
    pub host: &'a str,
    /// As `GET /health`.
    pub line: &'a str,
    /// What proves that it may be made.
    pub key: Option<&'a str>,
    /// JSON.
    pub body: Option<&'a [u8]>,
}

impl Request<'_> {
    fn head(&self) -> String {
        let Request { host, line, key, body } = self;
        let key = key.map_or(String::new(), |key| format!("Authorization: Bearer {key}\r\n"));
        let about = body.map_or(String::new(), |body| {
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
        });
        format!("{line} HTTP/1.0\r\nHost: {host}\r\n{key}{about}\r\n")
    }
}

/// Sends a request and reads until the server closes.
pub fn exchange(mut stream: impl Read + Write, request: Request<'_>) -> io::Result<Response> {
    let sent =
        stream.write_all(request.head().as_bytes()).and_then(|()| stream.write_all(request.body.unwrap_or_default()));
    let mut answer = Vec::new();
    let read = stream.take(MAX_ANSWER).read_to_end(&mut answer);
    // A server that refuses a body need not read it, and is heard all the same.
    match parse(&answer) {
        Some(response) => Ok(response),
        None => Err(sent.err().or(read.err()).unwrap_or_else(|| io::Error::other("it answers no HTTP"))),
    }
}

/// `None` if this is not the whole of an answer.
fn parse(answer: &[u8]) -> Option<Response> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(len) = head.parse(answer).ok()? else { return None };
    let body = answer.get(len..)?;
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("Content-Length"));
    let announced = length.and_then(|length| std::str::from_utf8(length.value).ok()?.trim().parse::<usize>().ok());
    let whole = announced.is_none_or(|announced| announced == body.len());
    whole.then(|| Some(Response { status: head.code?, body: body.to_vec() }))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_if_it_is_whole() {
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(parse(answer), Some(Response { status: 404, body: b"{}".to_vec() }));
        assert_eq!(parse(b"HTTP/1.0 200 OK\r\n\r\nall").map(|response| response.body), Some(b"all".to_vec()));
        for len in 0..answer.len() {
            assert_eq!(parse(&answer[..len]), None, "{len}");
        }
        assert_eq!(parse(b"SSH-2.0-x\r\n\r\n"), None);
    }

    #[test]
    fn a_request_brings_what_it_has() {
        let request = Request { host: "h:1", line: "GET /health", key: None, body: None };
        assert_eq!(request.head(), "GET /health HTTP/1.0\r\nHost: h:1\r\n\r\n");
        let posted = Request { line: "POST /x", key: Some("k"), body: Some(b"{}"), ..request };
        assert_eq!(
            posted.head(),
            "POST /x HTTP/1.0\r\nHost: h:1\r\nAuthorization: Bearer k\r\nContent-Type: application/json\r\n\
             Content-Length: 2\r\n\r\n"
        );
    }
}
