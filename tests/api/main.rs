//! The HTTP API of the admin listener, over TCP and a Unix socket.

#[path = "../common/mod.rs"]
mod common;

mod asks;
mod guide;
mod hostile;
mod openapi;
mod publishes;
mod watches;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use serde_json::Value;

use common::PATIENCE;
use common::client::Response;

/// What a request has beside its length.
const JSON: &str = "Content-Type: application/json\r\n";

/// Sends a request as it is, and reads until the server closes.
fn exchange(admin: &str, request: &str) -> Response {
    let answer = match admin.strip_prefix("unix:") {
        Some(path) => {
            let stream = UnixStream::connect(path).expect("the admin socket");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            read(stream, request)
        }
        None => {
            let stream = TcpStream::connect(admin).expect("the admin listener");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            read(stream, request)
        }
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Response { status, head: head.to_owned(), body: body.to_owned() }
}

fn read(mut stream: impl Read + Write, request: &str) -> String {
    // Who refuses a body need not read it.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).expect("text")
}

fn post_with(admin: &str, path: &str, fields: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{JSON}{fields}Content-Length: {length}\r\n\r\n{body}"
    );
    json(&exchange(admin, &request))
}

fn post(admin: &str, path: &str, body: &str) -> (u16, Value) {
    post_with(admin, path, "", body)
}

fn get(admin: &str, target: &str) -> (u16, Value) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    json(&exchange(admin, &request))
}

fn json(response: &Response) -> (u16, Value) {
    assert_eq!(response.field("content-type"), Some("application/json"), "{}", response.head);
    (response.status, serde_json::from_str(&response.body).expect("JSON"))
}

/// What must go well.
#[track_caller]
fn posted(admin: &str, path: &str, body: &str) -> Value {
    let (status, value) = post(admin, path, body);
    assert_eq!(status, 200, "{path} {body}: {value}");
    value
}

/// The status and code of what must not.
fn refused((status, value): (u16, Value)) -> (u16, String) {
    (status, value["code"].as_str().unwrap_or_else(|| panic!("no code: {value}")).to_owned())
}
