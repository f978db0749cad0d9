//! Plain HTTP over a socket: statuses, connections that go on and that end, heads that come in any way.

mod common;

use std::time::Duration;

use common::client::{BINARY, CLOSE, TEXT, close_payload, frame, handshake};
use common::{Client, SHARDS, TestServer, config, wait_until};

const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn ask(server: &TestServer, request: &str) -> common::client::Response {
    let mut client = Client::connect(server.addr);
    client.send(request.as_bytes());
    client.response()
}

#[test]
fn every_status_comes_over_the_wire() {
    let server = TestServer::start(config(1));
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(9000));
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: b\r\n".repeat(65));
    let version = handshake("/raw/x", "").replace("Version: 13", "Version: 8");
    let no_key = handshake("/raw/x", "").replace("Sec-WebSocket-Key", "X-Key");
    let body = "HEAD /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";
    for (request, status, field) in [
        (HEALTH, 200, ("Content-Type", "application/json")),
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, ("Content-Type", "text/html; charset=utf-8")),
        ("nonsense\r\n\r\n", 400, ("Connection", "close")),
        ("GET / HTTP/1.1\r\n\r\n", 400, ("Connection", "close")),
        ("GET /health HTTP/1.1\nHost: localhost\n\n", 400, ("Connection", "close")),
        (&no_key, 400, ("Connection", "close")),
        (&handshake("/raw/", ""), 400, ("Connection", "close")),
        ("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, ("Connection", "keep-alive")),
        (&handshake("/sse", ""), 404, ("Connection", "keep-alive")),
        ("POST /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, ("Allow", "GET, HEAD")),
        (body, 413, ("Connection", "close")),
        ("GET /raw/x HTTP/1.1\r\nHost: localhost\r\n\r\n", 426, ("Sec-WebSocket-Version", "13")),
        (&version, 426, ("Upgrade", "websocket")),
        (&long, 431, ("Connection", "close")),
        (&many, 431, ("Connection", "close")),
        ("GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505, ("Connection", "close")),
    ] {
        let mut client = Client::connect(server.addr);
        client.send(request.as_bytes());
        let head = client.head();
        let start = request.lines().next().unwrap_or_default();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{start}: {head}");
        assert!(head.contains(&format!("\r\n{}: {}\r\n", field.0, field.1)), "{start}: {head}");
        if head.contains("Connection: close\r\n") && status != 413 {
            // Whole, and then FIN, although not all of the request was read.
            let len = head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            assert!(client.bytes(len.expect("a length")).is_some());
            client.expect_end();
        }
    }
    server.wait_idle();
    assert_eq!(server.metric("http_requests_total"), 2);
    assert_eq!(server.metric("http_errors_total"), 14);
    assert_eq!(server.metric("handshakes_total result=\"malformed\""), 2);
}

#[test]
fn the_body_is_what_was_announced() {
    let server = TestServer::start(config(1));
    let health = ask(&server, HEALTH);
    assert_eq!(health.body, "{\"status\":\"ok\",\"connections\":1}\n");
    let page = ask(&server, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(page.body.trim_end().ends_with("</html>"));
    let mut quiet = config(1);
    quiet.playground = false;
    let server = TestServer::start(quiet);
    assert_eq!(ask(&server, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 404);
}

#[test]
fn pages_come_with_their_types_and_policies() {
    let server = TestServer::start(config(1));
    let mut quiet = config(1);
    quiet.playground = false;
    let quiet = TestServer::start(quiet);
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/demo/", "text/html; charset=utf-8"),
        ("/demo/ticker?x=y", "text/html; charset=utf-8"),
        ("/demo/style.css", "text/css; charset=utf-8"),
        ("/demo/client/index.js", "text/javascript; charset=utf-8"),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut client = Client::connect(server.addr);
        client.send(request.as_bytes());
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
        for field in [format!("Content-Type: {content_type}"), "Cache-Control: no-cache".into()] {
            assert!(head.contains(&format!("\r\n{field}\r\n")), "{path}: {field} in {head}");
        }
        let is_document = content_type.starts_with("text/html");
        assert_eq!(head.contains("\r\nContent-Security-Policy: default-src 'none';"), is_document, "{path}: {head}");
        assert_eq!(ask(&quiet, &request).status, 404, "{path}");
    }
    let mut client = Client::connect(server.addr);
    client.send(handshake("/demo/chat", "").as_bytes());
    assert!(client.head().starts_with("HTTP/1.1 101 "), "a WebSocket of the json dialect, as on other paths");
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    let server = TestServer::start(config(1));
    let mut client = Client::connect(server.addr);
    for _ in 0..3 {
        client.send(HEALTH.as_bytes());
        assert_eq!(client.response().status, 200);
    }
    // Pipelined, a HEAD and an error among them; the last one ends it.
    let last = HEALTH.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let pipeline = [&HEALTH.replace("GET", "HEAD"), HEALTH, &HEALTH.replace("health", "nothing"), &last].concat();
    client.send(pipeline.as_bytes());
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Content-Length: 32\r\n"), "{head}");
    let statuses: Vec<_> = (0..3).map(|_| client.response().status).collect();
    assert_eq!(statuses, [200, 404, 200]);
    client.expect_end();
    server.wait_idle();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = TestServer::start(config(1));
    let mut client = Client::connect(server.addr);
    let two = [HEALTH, &HEALTH.replace("health", "nothing")].concat();
    client.send(two.repeat(100).as_bytes());
    for i in 0..200 {
        assert_eq!(client.response().status, if i % 2 == 0 { 200 } else { 404 }, "{i}");
    }
}

#[test]
fn who_asks_for_more_than_it_reads_is_not_buffered_for() {
    let server = common::Process::start(&["--shards=1"]);
    let before = server.resident();
    let mut client = Client::connect_small(server.addr);
    // A page has 48 KiB, a request for it 33 bytes.
    client.send_anyway("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20_000).as_bytes());
    wait_until("it is being served", || server.metric("http_requests_total") > 0);
    let mut connection = "keep-alive".to_owned();
    while connection == "keep-alive" {
        let response = client.response();
        assert_eq!(response.status, 200);
        connection = response.field("Connection").expect("it is always said").to_owned();
    }
    assert_eq!(connection, "close");
    client.expect_end();
    let grown = server.resident().saturating_sub(before);
    // All answers would be 900 MiB, those to one read 90.
    assert!(grown < 32 << 20, "{grown} bytes");
}

#[test]
fn http_1_0_is_answered_once_unless_it_asks_for_more() {
    let server = TestServer::start(config(1));
    let mut client = Client::connect(server.addr);
    client.send(b"GET /health HTTP/1.0\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.field("Connection")), (200, Some("close")));
    client.expect_end();
    let mut client = Client::connect(server.addr);
    for _ in 0..2 {
        client.send(b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(client.response().field("Connection"), Some("keep-alive"));
    }
    let old = handshake("/raw/x", "").replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(ask(&server, &old).status, 400);
}

#[test]
fn a_client_that_half_closes_after_its_request_is_answered() {
    for shards in SHARDS {
        let server = TestServer::start(config(shards));
        for request in [HEALTH, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\n\r\n"] {
            for _ in 0..20 {
                let mut client = Client::connect(server.addr);
                client.send(request.as_bytes());
                client.shut_write();
                client.response();
                client.expect_end();
            }
        }
        // Half a request, and no more: there is nobody to answer.
        let mut client = Client::connect(server.addr);
        client.send(b"GET /health HT");
        client.shut_write();
        client.expect_end();
        server.wait_idle();
    }
}

#[test]
fn a_head_may_be_split_anywhere() {
    let server = TestServer::start(config(1));
    let head = handshake("/raw/split", "");
    let message = frame(TEXT, b"whole");
    let bytes = [head.as_bytes(), &message].concat();
    for at in 1..bytes.len() {
        let mut client = Client::connect(server.addr);
        client.send(&bytes[..at]);
        // Long enough for the server to see two pieces, most of the time.
        std::thread::sleep(Duration::from_micros(200));
        client.send(&bytes[at..]);
        client.switched();
        client.expect_text("whole");
        client.send(&frame(CLOSE, &close_payload(1000, "")));
        assert_eq!(client.close_code(), 1000);
        client.expect_end();
    }
    server.wait_idle();
}

#[test]
fn frames_in_the_same_write_as_the_handshake_are_not_lost() {
    for shards in SHARDS {
        let server = TestServer::start(config(shards));
        for i in 0..50 {
            let mut client = Client::connect(server.addr);
            let head = handshake(&format!("/raw/early{i}"), "");
            let messages = [frame(TEXT, b"one"), frame(BINARY, b"two"), frame(CLOSE, &close_payload(1000, ""))];
            // A plain request before it is no hindrance either.
            client.send(&[HEALTH.as_bytes(), head.as_bytes(), &messages[0], &messages[1]].concat());
            assert_eq!(client.response().status, 200);
            client.switched();
            client.expect(TEXT, b"one");
            client.expect(BINARY, b"two");
            client.send(&messages[2]);
            assert_eq!(client.close_code(), 1000);
        }
        server.wait_idle();
    }
}

#[test]
fn an_incomplete_head_is_told_that_its_time_is_over() {
    let mut config = config(1);
    config.head_timeout = Duration::from_millis(100);
    config.keep_alive_timeout = Duration::from_millis(100);
    let server = TestServer::start(config);
    let mut slow = Client::connect(server.addr);
    slow.send(b"GET /health HTTP/1.1\r\n");
    let mut silent = Client::connect(server.addr);
    let response = slow.response();
    assert_eq!((response.status, response.field("Connection")), (408, Some("close")));
    slow.expect_end();
    silent.expect_end();
    // Between requests nothing is said either.
    let mut idle = Client::connect(server.addr);
    idle.send(HEALTH.as_bytes());
    assert_eq!(idle.response().status, 200);
    idle.expect_end();
    drop((slow, silent, idle));
    server.wait_idle();
    assert_eq!(server.metric("connections_closed_total reason=\"head_timeout\""), 2);
}

#[test]
fn a_head_that_drips_in_does_not_put_off_its_end() {
    let mut config = config(1);
    config.head_timeout = Duration::from_millis(200);
    let server = TestServer::start(config);
    let mut client = Client::connect(server.addr);
    client.send(b"GET / HTTP/1.1\r\n");
    let mut reader = Client::from(client.stream.try_clone().expect("a descriptor"));
    let drip = std::thread::spawn(move || {
        while !client.stream.peek(&mut [0]).is_ok_and(|len| len > 0) {
            client.send_anyway(b"X: y\r\n");
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    reader.stream.set_nonblocking(false).expect("blocking");
    assert_eq!(reader.response().status, 408);
    drop(drip);
}

#[test]
fn an_endless_head_is_cut_off_and_takes_no_memory() {
    let server = TestServer::start(config(1));
    for line in
        ["X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
    {
        let mut client = Client::connect(server.addr);
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n");
        client.send_anyway(line.repeat(4 << 10).as_bytes());
        assert_eq!(client.response().status, 431);
        client.expect_end();
    }
    server.wait_idle();
}

#[test]
fn more_connections_than_allowed_are_told_when_to_come_back() {
    for shards in SHARDS {
        let mut config = config(shards);
        config.max_connections = Some(4);
        let server = TestServer::start(config);
        let mut inside: Vec<_> = (0..4).map(|_| server.ws("/raw/full")).collect();
        for _ in 0..10 {
            let mut outside = Client::connect(server.addr);
            outside.send_anyway(HEALTH.as_bytes());
            let response = outside.response();
            assert_eq!((response.status, response.field("Retry-After")), (503, Some("1")));
            outside.expect_end();
        }
        assert_eq!(server.metric("connections_refused_total reason=\"full\""), 10);
        // Those inside do not notice, and their places are free again when they go.
        inside[0].text("still here");
        inside.iter_mut().for_each(|client| client.expect_text("still here"));
        drop(inside.pop());
        wait_until("the place is free", || server.publisher().connections() < 4);
        assert_eq!(ask(&server, HEALTH).status, 200);
    }
}
