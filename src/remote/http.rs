//! One request of HTTP/1.0, and its answer: after it the server closes, so that neither has to be told where it ends.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::Error;
use super::address::Address;
use crate::limits::MAX_HEADERS;

/// Time for the server to say something, which itself waits for its shards.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of an answer.
const MAX_ANSWER: u64 = 1 << 20;

/// Where the admin listener is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admin {
    /// At a URL.
    Tcp(Address),
    /// At a socket in the file system.
    Unix(PathBuf),
}

/// An answer.
#[derive(PartialEq, Eq, Debug)]
pub struct Response {
    /// As 200.
    pub status: u16,
    /// What follows the head.
    pub body: Vec<u8>,
}

impl Admin {
    /// `http://host:port`, or `unix:/path`.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn parse(text: &str) -> Result<Admin, Error> {
        let wrong = || Error::Usage(format!("--admin {text}: expected http://host:port or unix:/path"));
        match text.strip_prefix("unix:") {
            Some("") => Err(wrong()),
            Some(path) => Ok(Admin::Unix(path.into())),
            None => {
                let address = Address::parse("--admin", "http", text).map_err(|_| wrong())?;
                if address.target == "/" { Ok(Admin::Tcp(address)) } else { Err(wrong()) }
            }
        }
    }

    /// Posts JSON.
    pub fn post(&self, path: &str, body: &[u8]) -> io::Result<Response> {
        match self {
            Admin::Tcp(address) => {
                let stream = address.connect()?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                exchange(stream, &address.authority, path, body)
            }
            Admin::Unix(socket) => {
                let stream = UnixStream::connect(socket)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                exchange(stream, "localhost", path, body)
            }
        }
    }
}

fn exchange(mut stream: impl Read + Write, host: &str, path: &str, body: &[u8]) -> io::Result<Response> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
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
    fn admin_is_a_url_or_a_path() {
        assert_eq!(Admin::parse("unix:/run/x"), Ok(Admin::Unix("/run/x".into())));
        assert!(matches!(Admin::parse("http://[::1]:8081/"), Ok(Admin::Tcp(_))));
        assert!(matches!(Admin::parse("127.0.0.1:8081"), Ok(Admin::Tcp(_))));
        for text in ["", "unix:", "/run/x", "https://x", "http://x/y", "ws://x"] {
            assert!(matches!(Admin::parse(text), Err(Error::Usage(_))), "{text}");
        }
    }
}
