//! Requests that are not in order, and a server that is not able.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uproar::{Connection, Handler, Message, Server};

use super::common::{Client, PATIENCE, TestServer, config, scrape};
use super::{JSON, exchange, get, json, post, post_with, posted, refused};

/// Bytes that a message may have in these tests.
const MAX_MESSAGE: usize = 1000;

fn start() -> TestServer {
    let mut config = config(2);
    config.max_message = MAX_MESSAGE as u32;
    TestServer::start(config)
}

#[test]
fn requests_that_are_not_in_order_are_refused() {
    let server = start();
    let body = r#"{"topic":"t","data":1}"#;
    let length = format!("Content-Length: {}\r\n", body.len());
    let host = "Host: localhost\r\n";
    for (head, body, status, code) in [
        (format!("POST /publish HTTP/1.1\r\n{host}{JSON}"), "", 411, "no_length"),
        (format!("POST /publish HTTP/1.1\r\n{host}{length}"), body, 415, "media_type"),
        (format!("POST /publish HTTP/1.1\r\n{host}Content-Type: text/plain\r\n{length}"), body, 415, "media_type"),
        (format!("POST /publish HTTP/1.1\r\n{host}{JSON}Content-Length: 99999999\r\n"), "", 413, "too_large"),
        (format!("POST /publish HTTP/1.1\r\nHost: evil.example\r\n{JSON}{length}"), body, 421, "bad_host"),
        (
            format!("POST /publish HTTP/1.1\r\nHost: localhost.evil.example:8081\r\n{JSON}{length}"),
            body,
            421,
            "bad_host",
        ),
        (format!("POST http://evil.example/publish HTTP/1.1\r\n{host}{JSON}{length}"), body, 421, "bad_host"),
        ("GET /rooms HTTP/1.1\r\nHost: evil.example\r\n".into(), "", 421, "bad_host"),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n".into(), "", 421, "bad_host"),
        (format!("PUT /publish HTTP/1.1\r\n{host}{JSON}{length}"), body, 405, "method_not_allowed"),
        (format!("PUT /metrics HTTP/1.1\r\n{host}{JSON}{length}"), body, 405, "method_not_allowed"),
        (format!("DELETE /rooms HTTP/1.1\r\n{host}"), "", 405, "method_not_allowed"),
        (format!("OPTIONS /publish HTTP/1.1\r\n{host}Origin: http://evil.example\r\n"), "", 405, "method_not_allowed"),
        (format!("POST /publish/ HTTP/1.1\r\n{host}{JSON}{length}"), body, 404, "not_found"),
        (format!("POST /publish HTTP/1.1\r\n{host}{JSON}{length}Idempotency-Key: \r\n"), body, 400, "bad_id"),
        (
            format!("POST /publish HTTP/1.1\r\n{host}{JSON}{length}Idempotency-Key: a\r\nIdempotency-Key: b\r\n"),
            body,
            400,
            "bad_id",
        ),
    ] {
        let response = exchange(&server.admin, &format!("{head}Connection: close\r\n\r\n{body}"));
        assert_eq!(refused(json(&response)), (status, code.to_owned()), "{head}");
        assert!(!response.head.to_lowercase().contains("access-control"), "{}", response.head);
        if status == 405 {
            let allow = response.field("allow").expect("an Allow field");
            assert!(["POST", "GET,HEAD"].contains(&allow), "{allow}");
            let said = format!("\"Only {}\"", allow.trim_end_matches(",HEAD"));
            assert!(response.body.contains(&said), "{}", response.body);
        }
    }
    let fine =
        format!("POST /publish HTTP/1.1\r\nHost: [::1]:1\r\ncontent-type: Application/JSON; charset=utf-8\r\n{length}");
    let response = exchange(&server.admin, &format!("{fine}Connection: close\r\n\r\n{body}"));
    assert_eq!((response.status, response.field("cache-control")), (200, Some("no-store")));
    assert_eq!(server.metric("messages_published_total"), 1, "nothing else was");
}

#[test]
fn bodies_that_are_not_in_order_are_refused() {
    let server = start();
    let long = "x".repeat(300);
    let large = format!(r#"{{"topic":"t","data":"{}"}}"#, "x".repeat(MAX_MESSAGE));
    for (path, body, status, code) in [
        ("/publish", "", 400, "invalid_json"),
        ("/publish", "{", 400, "invalid_json"),
        ("/publish", "[]", 400, "invalid_json"),
        ("/publish", "\u{feff}{}", 400, "invalid_json"),
        ("/publish", r#"{"topic":"t","data":1}x"#, 400, "invalid_json"),
        ("/publish", r#"{"topic":"t","topic":"u","data":1}"#, 400, "invalid_json"),
        ("/publish", r#"{"topic":1,"data":1}"#, 400, "invalid_json"),
        ("/publish", r#"{"topic":"\ud800","data":1}"#, 400, "invalid_json"),
        ("/publish", r#"{"topic":"t","data":01}"#, 400, "invalid_json"),
        ("/publish", r#"{"topic":"t","data":1,"encoding":"hex"}"#, 400, "invalid_json"),
        ("/publish", r#"{"topic":null,"data":1}"#, 400, "no_topic"),
        ("/publish", r#"{"topic":"\u0000user:ann","data":1}"#, 400, "bad_topic"),
        ("/publish", &format!(r#"{{"topic":"{long}","data":1}}"#), 400, "bad_topic"),
        ("/publish", r#"{"topic":"t"}"#, 400, "no_data"),
        ("/publish", r#"{"topic":"t","data":"\udc00"}"#, 400, "bad_data"),
        ("/publish", r#"{"topic":"t","data":1,"id":{}}"#, 400, "bad_id"),
        ("/publish", &large, 413, "too_large"),
        ("/broadcast", r#"{"data":1}"#, 400, "invalid_json"),
        ("/broadcast", r#"{"topics":"t","data":1}"#, 400, "invalid_json"),
        ("/batch", r#"{"messages":[]}"#, 400, "bad_number"),
        ("/batch", r#"{"messages":[{"topic":"t","data":1},{"topic":"t","dat":1}]}"#, 400, "invalid_json"),
        ("/send", r#"{"data":1}"#, 400, "invalid_json"),
        ("/send", r#"{"receiver":"\u0000user:ann","data":1}"#, 400, "bad_receiver"),
        ("/disconnect", r#"{"clientId":"0123456789abcdef","code":1001}"#, 400, "bad_close"),
        ("/disconnect", r#"{"clientId":"0123456789abcdef","code":70000}"#, 400, "bad_close"),
        ("/disconnect", &format!(r#"{{"clientId":"0123456789abcdef","reason":"{long}"}}"#), 400, "bad_close"),
    ] {
        assert_eq!(refused(post(&server.admin, path, body)), (status, code.to_owned()), "{path} {body}");
    }
    let raw = exchange_bytes(&server.admin, b"{\"topic\":\"t\",\"data\":\"\xff\"}");
    assert!(raw.starts_with("HTTP/1.1 400"), "{raw}");
    let deep = format!(r#"{{"topic":"t","data":{}{}}}"#, "[".repeat(400), "]".repeat(400));
    posted(&server.admin, "/publish", &deep);
    let whole = format!(r#"{{"topic":"t","data":{}}}"#, "7".repeat(300));
    posted(&server.admin, "/publish", &whole);
    assert_eq!(server.metric("messages_published_total"), 2, "nothing else was");
}

#[test]
fn what_is_wrong_is_said_in_words() {
    let server = start();
    let object = "expected an object, {…}";
    for (path, body, code, message) in [
        ("/publish", "", "invalid_json", object),
        ("/publish", r#" ["arr",1,"json","i"]"#, "invalid_json", object),
        ("/publish", r#"{"topic":"t","data":1,"encoding":"hex"}"#, "invalid_json", "encoding is json, text or base64"),
        ("/broadcast", r#"[["t"],1,"json",null]"#, "invalid_json", object),
        ("/batch", r#"[[{"topic":"t","data":1}]]"#, "invalid_json", object),
        (
            "/batch",
            r#"{"messages":[{"topic":"t","data":1},["t",1,"json",2]]}"#,
            "invalid_json",
            "messages[1]: expected an",
        ),
        (
            "/batch",
            r#"{"messages":[{"topic":"t","dat":1}]}"#,
            "invalid_json",
            "messages[0]: unknown field `dat`, expected",
        ),
        ("/send", r#"["r",1,null]"#, "invalid_json", object),
        ("/disconnect", r#"["0123456789abcdef",1000,""]"#, "invalid_json", object),
        ("/disconnect", r#"{"clientId":"0123456789abcdef","code":"x"}"#, "bad_close", "code is 1000 or 3000 to 4999"),
        ("GET", "/history?topic=t&limit=zero", "bad_limit", "limit is 1 to 10000"),
        ("GET", "/history?topic=t&epoch=e&offset=x", "bad_since", "an offset is an integer from 0"),
        ("GET", "/rooms?limit=", "bad_limit", "limit is 1 to 10000"),
        ("GET", "/rooms?limits=1", "bad_query", "limits: unknown field `limits`, expected"),
    ] {
        let (status, answer) = if path == "GET" { get(&server.admin, body) } else { post(&server.admin, path, body) };
        let said = answer["message"].as_str().expect("a message");
        assert_eq!((status, answer["code"].as_str()), (400, Some(code)), "{path} {body}: {said}");
        assert!(said.starts_with(message) || code == "bad_since" && said.contains(message), "{path} {body}: {said}");
    }
    assert_eq!(server.metric("messages_published_total"), 0);
}

fn exchange_bytes(admin: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(admin).expect("the admin listener");
    let head = format!(
        "POST /publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{JSON}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer
}

#[test]
fn a_body_may_come_in_chunks_and_is_cut_off_where_it_is_too_long() {
    let server = start();
    let head = format!(
        "POST /publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n"
    );
    let chunked = format!("{head}b\r\n{{\"topic\":\"t\r\nb\r\n\",\"data\":1}}\r\n0\r\n\r\n");
    assert_eq!(json(&exchange(&server.admin, &chunked)).0, 200);
    let piece = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    let endless = exchange(&server.admin, &format!("{head}{}", piece.repeat(20)));
    assert_eq!(refused(json(&endless)), (413, "too_large".into()));
    let cut = exchange(&server.admin, &format!("{head}zz\r\n"));
    assert_eq!(refused(json(&cut)), (400, "bad_body".into()));
}

#[test]
fn those_who_send_no_body_are_few_and_not_for_long() {
    let server = start();
    let begin = format!("POST /publish HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: 100\r\n\r\n{{");
    let begun = Instant::now();
    let mut slow: Vec<Client> = (0..64)
        .map(|_| {
            let mut client = Client::connect(server.admin.parse().expect("an address"));
            client.send(begin.as_bytes());
            client
        })
        .collect();
    let busy = || exchange(&server.admin, "GET /rooms HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    super::common::wait_until("as many as may be are under way", || busy().status == 503);
    let refusal = busy();
    assert_eq!(refusal.field("retry-after"), Some("1"));
    assert_eq!(refused(json(&refusal)), (503, "busy".into()));
    assert!(scrape(&server.admin).contains("uproar_api_requests"), "metrics are there all the same");
    slow.truncate(63);
    super::common::wait_until("one has gone", || busy().status == 200);
    let late = slow[0].response();
    assert_eq!((late.status, late.body.contains("too_slow")), (408, true), "{late:?}");
    assert!(begun.elapsed() < PATIENCE);
}

/// Blocks its shard when it is sent a message, until it is let go.
struct Block(Arc<flume::Receiver<()>>);

impl Handler for Block {
    fn message(&mut self, _: &mut Connection<'_>, _: Message<'_>) {
        let _ = self.0.recv_timeout(PATIENCE);
    }
}

#[test]
fn a_shard_that_does_not_answer_is_not_waited_for_and_one_that_is_behind_is_busy() {
    let (go, wait) = flume::bounded(1);
    let wait = Arc::new(wait);
    let server = TestServer::serve(Server::new(config(1)).route("/block", move || Block(wait.clone())));
    let mut blocker = server.ws("/block");
    blocker.text("stop");
    // It is read in its own time.
    super::common::wait_until("the shard is blocked", || server.metric("messages_received_total") > 0);
    let asked = Instant::now();
    let message = r#"{"topic":"t","data":1,"id":"once"}"#;
    assert_eq!(refused(post(&server.admin, "/publish", message)), (504, "timeout".into()));
    assert!(asked.elapsed() >= Duration::from_secs(5) && asked.elapsed() < Duration::from_secs(9));
    let megabyte = vec![0; 1 << 20];
    while server.publisher().publish("t", &megabyte[..]).is_ok() {}
    for path in ["/publish", "/send"] {
        let body = if path == "/send" { r#"{"receiver":"r","data":1}"# } else { message };
        assert_eq!(refused(post(&server.admin, path, body)), (503, "busy".into()));
    }
    assert_eq!(get(&server.admin, "/health").0, 200);
    go.send(()).expect("somebody waits");
    super::common::wait_until("it goes on", || post(&server.admin, "/publish", message).0 == 200);
    let (_, again) = post_with(&server.admin, "/publish", "", message);
    assert_eq!(again["offset"], 1, "what was not waited for was done, once");
}
