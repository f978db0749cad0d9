//! Limits of what one connection may send, over real sockets: a clear answer first, then the end of whoever goes on.

mod common;

use std::io::Write;
use std::time::Duration;

use common::client::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, RSV1, TEXT, frame, raw_frame};
use common::{Client, SHARDS, TestServer, config, wait_until};
use serde_json::{Value, json};
use uproar::config::{Limit, Rate, Secret};

const KEY: &str = "correct-horse-battery";

/// So slow that nothing flows in while a test runs: what comes at once is all there is.
fn limited(messages: u32) -> TestServer {
    let mut config = config(1);
    config.message_rate = Limit::At(Rate { per_second: 1, burst: messages });
    config.close_timeout = Duration::from_millis(200);
    config.backend_key = vec![Secret::new(KEY)];
    TestServer::start(config)
}

fn value(client: &mut Client) -> Value {
    let frame = client.frame().expect("a message, not the end");
    assert_eq!(frame.opcode(), TEXT, "{frame:?}");
    serde_json::from_str(frame.text()).expect("JSON")
}

#[test]
fn a_json_client_is_told_and_then_closed() {
    let server = limited(20);
    // The handshake is a request, and costs as much as a message.
    let mut client = Client::json(server.addr, "a");
    let publish = |n: u32| json!({"type": "publish", "topic": "t", "data": n, "id": n, "ack": true}).to_string();
    for n in 1..=19 {
        client.text(&publish(n));
        assert_eq!(value(&mut client)["type"], "ack");
    }
    for n in 20..=38 {
        client.text(&publish(n));
        let error = value(&mut client);
        assert_eq!((&error["type"], &error["code"], &error["id"]), (&json!("error"), &json!("too_fast"), &json!(n)));
    }
    // One token may have flowed in meanwhile, on a slow machine.
    for n in 39..60 {
        client.send_anyway(&frame(TEXT, publish(n).as_bytes()));
    }
    let close = std::iter::from_fn(|| client.frame()).find(|frame| frame.opcode() == CLOSE).expect("a close frame");
    assert_eq!((close.code(), &close.payload[2..]), (1008, &b"too fast"[..]));
    assert!(server.metric("messages_refused_total reason=\"too_fast\"") >= 20);
    wait_until("the reason is counted", || server.metric("connections_closed_total reason=\"too_fast\"") == 1);
    assert!(server.metric("messages_published_total") <= 25, "what was refused is not published");
}

#[test]
fn who_has_no_word_for_it_is_closed() {
    let server = limited(10);
    let mut reader = server.ws("/raw/t");
    let mut client = server.ws("/raw/t?self=false");
    server.wait_subscriptions(2);
    for _ in 0..10 {
        client.send_anyway(&frame(TEXT, b"x"));
    }
    assert_eq!(client.close_code(), 1008);
    for _ in 0..9 {
        reader.expect_text("x");
    }
}

#[test]
fn pings_are_answered_as_far_as_they_may_come() {
    let server = limited(10);
    let mut client = server.ws("/raw/t");
    for n in 0..40 {
        client.send_anyway(&frame(PING, &[n]));
    }
    for n in 0..9 {
        client.expect(PONG, &[n]);
    }
    assert_eq!(client.close_code(), 1008);
}

#[test]
fn requests_are_refused_with_429() {
    let server = limited(3);
    let mut client = Client::connect(server.addr);
    for status in [200, 200, 200, 429] {
        client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let response = client.response();
        assert_eq!(response.status, status);
        assert_eq!(response.field("Retry-After").is_some(), status == 429);
        let readable = response.field("Access-Control-Expose-Headers");
        assert_eq!(readable, (status == 429).then_some("Retry-After"), "a page may know how long to wait");
    }
    client.expect_end();
}

#[test]
fn bytes_are_bounded_too() {
    let mut config = config(1);
    config.byte_rate = Limit::At(Rate { per_second: 1024, burst: 8192 });
    let server = TestServer::start(config);
    let mut client = Client::json(server.addr, "a");
    let big = json!({"type": "chat", "text": "x".repeat(6000)}).to_string();
    client.text(&big);
    assert_eq!(value(&mut client)["type"], "chat");
    client.text(&big);
    assert_eq!(value(&mut client)["code"], "too_fast");
}

#[test]
fn what_never_becomes_a_message_is_bounded_too() {
    let mut config = config(1);
    config.byte_rate = Limit::At(Rate { per_second: 1024, burst: 8192 });
    let server = TestServer::start(config);
    let pongs = frame(PONG, b"").repeat(100);
    let fragments = [raw_frame(TEXT, b""), raw_frame(CONTINUATION, b"").repeat(99)].concat();
    for (path, first, next) in [
        ("/raw/t", &pongs, &pongs),
        ("/?room=r", &pongs, &pongs),
        ("/raw/t", &fragments, &raw_frame(CONTINUATION, b"").repeat(100)),
    ] {
        let mut client = server.ws(path);
        client.send(first);
        (0..40).for_each(|_| client.send_anyway(next));
        let close = std::iter::from_fn(|| client.frame()).find(|frame| frame.opcode() == CLOSE).expect("a close frame");
        assert_eq!((close.code(), &close.payload[2..]), (1008, &b"too fast"[..]), "{path}");
        client.expect_end();
    }
    // Who reads a stream has nothing to say.
    let mut events = common::events::Events::open(server.addr, "topic=t", "");
    events.expect("subscribed");
    (0..40).for_each(|_| drop(events.stream.write_all(&pongs)));
    assert!(events.event().is_none(), "the stream ends");
    wait_until("all are counted", || server.metric("connections_closed_total reason=\"too_fast\"") == 4);
}

#[test]
fn what_is_inflated_counts() {
    let mut config = config(1);
    config.byte_rate = Limit::At(Rate { per_second: 1024, burst: 100_000 });
    let server = TestServer::start(config);
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let (mut client, _) = Client::connect(server.addr).upgrade("/raw/t?self=false", offer);
    // A block of 40,000 zeros.
    let mut deflate = flate2::Compress::new(flate2::Compression::best(), false);
    let mut bomb = Vec::with_capacity(1000);
    deflate.compress_vec(&[0; 40_000], &mut bomb, flate2::FlushCompress::Sync).expect("room");
    let message = raw_frame(FIN | RSV1 | BINARY, &bomb[..bomb.len() - 4]);
    assert!(message.len() < 200, "{} bytes on the wire", message.len());
    (0..3).for_each(|_| client.send_anyway(&message));
    assert_eq!(client.close_code(), 1008);
}

#[test]
fn backends_are_not_bounded() {
    let server = limited(5);
    let mut backend = server.ws(&format!("/backend?key={KEY}"));
    assert_eq!(value(&mut backend)["backend"], true);
    for n in 0..100 {
        backend.text(&json!({"type": "publish", "topic": "t", "data": n, "id": n, "ack": true}).to_string());
        assert_eq!(value(&mut backend)["type"], "ack");
    }
    assert_eq!(server.metric("messages_refused_total reason=\"too_fast\""), 0);
}

/// So few publications to one topic, on all shards together.
fn limited_topics(shards: u32, publications: u32) -> TestServer {
    let mut config = config(shards);
    config.topic_publish_rate = Some(Rate { per_second: 1, burst: publications });
    config.close_timeout = Duration::from_millis(200);
    TestServer::start(config)
}

#[test]
fn publishers_of_a_topic_are_told_when_they_are_too_fast_together() {
    for shards in SHARDS {
        let server = limited_topics(shards, 10);
        for topic in ["a", "b", "c", "d"] {
            let mut reader = server.ws(&format!("/raw/{topic}"));
            let mut clients = [0, 1].map(|_| Client::json(server.addr, "elsewhere"));
            // The first hears of the second.
            assert_eq!(value(&mut clients[0])["type"], "user_joined");
            let publish =
                |n: u32, ack: bool| json!({"type": "publish", "topic": topic, "data": n, "id": n, "ack": ack});
            for n in 0..10 {
                let client = &mut clients[n as usize % 2];
                client.text(&publish(n, true).to_string());
                assert_eq!(value(client)["type"], "ack");
                reader.expect_text(&n.to_string());
            }
            // Whether an acknowledgement is wanted or not; some tokens may flow in meanwhile, on a slow machine.
            (10..50).for_each(|n| clients[0].text(&publish(n, n % 2 == 0).to_string()));
            let mut refused = std::collections::BTreeSet::new();
            while refused.len() < 35 {
                let answer = value(&mut clients[0]);
                let id = answer["id"].as_u64().filter(|id| (10..50).contains(id)).expect("the message's");
                match answer["type"].as_str() {
                    Some("ack") => assert_eq!(id % 2, 0),
                    _ => assert!(answer["code"] == "too_fast" && refused.insert(id), "{answer}"),
                }
            }
            drop(clients);
        }
        wait_until("refusals are counted", || {
            server.metric("messages_refused_total reason=\"topic_too_fast\"") >= 4 * 30
        });
        assert_eq!(server.metric("messages_refused_total reason=\"too_fast\""), 0);
    }
}

#[test]
fn who_posts_to_a_topic_too_fast_is_told_and_a_raw_client_is_closed() {
    for shards in SHARDS {
        let server = limited_topics(shards, 5);
        for topic in ["a", "b", "c"] {
            let _reader = server.ws(&format!("/raw/{topic}"));
            let body = format!(r#"{{"topic":"{topic}","data":1}}"#);
            let head = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            for at in [server.addr.to_string(), server.admin.clone()] {
                let statuses: Vec<u16> = (0..9)
                    .map(|_| {
                        let mut poster = Client::connect(at.parse().expect("an address"));
                        poster.send(format!("POST /publish HTTP/1.1\r\nHost: localhost\r\n{head}").as_bytes());
                        let response = poster.response();
                        let is_refused = response.status == 429;
                        assert_eq!(response.field("Retry-After"), is_refused.then_some("1"), "{response:?}");
                        assert_eq!(response.body.contains(r#""code":"too_fast""#), is_refused);
                        let exposed = is_refused && at == server.addr.to_string();
                        let readable = response.field("Access-Control-Expose-Headers");
                        assert_eq!(readable, exposed.then_some("Retry-After"), "{response:?}");
                        response.status
                    })
                    .collect();
                assert!(statuses.iter().all(|status| [200, 429].contains(status)) && statuses.contains(&429));
            }
            let mut raw = server.ws(&format!("/raw/{topic}?self=false"));
            (0..5).for_each(|_| raw.send_anyway(&frame(TEXT, b"x")));
            let close = raw.frame().expect("a close frame");
            assert_eq!((close.code(), &close.payload[2..]), (1008, &b"too fast"[..]));
        }
    }
}

#[test]
fn a_slow_body_is_waited_for_as_long_as_its_head() {
    let mut config = config(1);
    config.head_timeout = Duration::from_millis(500);
    let server = TestServer::start(config);
    let head =
        b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n";
    let mut client = Client::connect(server.addr);
    let start = std::time::Instant::now();
    client.send(head);
    // A byte at a time keeps it going no longer than nothing would.
    while start.elapsed() < Duration::from_millis(400) {
        client.send_anyway(b"x");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(client.response().status, 408);
    assert!(start.elapsed() < Duration::from_secs(5));
    client.expect_end();
    // Nor after a request that was answered in time.
    let mut client = Client::connect(server.addr);
    client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.response().status, 200);
    client.send(head);
    assert_eq!(client.response().status, 408);
    wait_until("both are counted", || server.metric("connections_closed_total reason=\"head_timeout\"") == 2);
}
