//! Publications by HTTP, over real sockets.

mod common;

use std::thread;
use std::time::Duration;

use common::client::Response;
use common::events::Events;
use common::{Client, SHARDS, TestServer, config, wait_until};
use serde_json::{Value, json};
use uproar::config::Patterns;

fn request(query: &str, fields: &str, body: &str) -> String {
    let len = body.len();
    format!("POST /publish{query} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {len}\r\n\r\n{body}")
}

fn post(client: &mut Client, query: &str, body: &Value) -> Response {
    client.send(request(query, "Content-Type: application/json\r\n", &body.to_string()).as_bytes());
    client.response()
}

fn body(response: &Response) -> Value {
    assert_eq!(response.field("Content-Type"), Some("application/json"), "{response:?}");
    assert_eq!(response.field("Access-Control-Allow-Origin"), Some("*"), "{response:?}");
    serde_json::from_str(&response.body).expect("JSON")
}

#[test]
fn what_is_posted_is_published_in_order_on_one_connection() {
    for shards in SHARDS {
        let server = TestServer::start(config(shards));
        for topic in ["a", "b", "c"] {
            let mut events = Events::open(server.addr, &format!("topic={topic}"), "");
            let epoch = events.expect("subscribed")["topics"][0]["epoch"].clone();
            let mut client = Client::connect(server.addr);
            for i in 1..=20 {
                let response = post(&mut client, "", &json!({"topic": topic, "data": {"n": i}, "id": "same"}));
                assert_eq!((response.status, response.field("Connection")), (200, Some("keep-alive")));
                assert_eq!(body(&response), json!({"topic": topic, "epoch": epoch, "offset": i}));
                let message = events.expect("message");
                assert_eq!((&message["offset"], &message["data"]), (&json!(i), &json!({"n": i})));
            }
        }
        // Who ends his half after the request is answered, wherever the message is ordered.
        for topic in ["a", "b", "c"] {
            let mut client = Client::connect(server.addr);
            let text = json!({"topic": topic, "data": 0}).to_string();
            client.send(request("", "Content-Type: application/json\r\n", &text).as_bytes());
            client.shut_write();
            assert_eq!(client.response().status, 200);
            client.expect_end();
        }
        server.wait_idle();
        assert_eq!(server.metric("messages_repeated_total"), 0, "nobody has proved to have sent it before");
    }
}

#[test]
fn a_proven_client_is_known_again() {
    for shards in SHARDS {
        let server = TestServer::start(config(shards));
        let mut reader = Events::open(server.addr, "topic=t", "");
        reader.expect("subscribed");
        let mut ws = server.ws("/");
        let welcome: Value = serde_json::from_str(ws.frame().expect("a welcome").text()).expect("JSON");
        let text = |name: &str| welcome[name].as_str().expect("a text").to_owned();
        let (good, bad) = (
            format!("?clientId={}&token={}", text("clientId"), text("token")),
            format!("?clientId={}&token={}", text("clientId"), "0".repeat(40)),
        );
        let mut client = Client::connect(server.addr);
        let mut offset = |query: &str| {
            body(&post(&mut client, query, &json!({"topic": "t", "data": 1, "id": "p1"})))["offset"].clone()
        };
        assert_eq!([offset(&good), offset(&good), offset(&bad), offset(&good)], [1, 1, 2, 1].map(|n| json!(n)));
        ws.text(r#"{"type":"publish","topic":"t","data":1,"id":"p1","ack":true}"#);
        let ack: Value = serde_json::from_str(ws.frame().expect("an ack").text()).expect("JSON");
        assert_eq!((&ack["type"], &ack["offset"]), (&json!("ack"), &json!(1)), "by whatever way it comes");
    }
}

#[test]
fn what_cannot_be_published_is_refused() {
    let mut config = config(1);
    config.max_message = 1000;
    let server = TestServer::start(config);
    let json = "Content-Type: application/json\r\n";
    let large = format!(r#"{{"topic":"a","data":"{}"}}"#, "x".repeat(2100));
    for (fields, text, status, code) in [
        (json, "", 400, "invalid_json"),
        (json, r#"{"topic":"a"}"#, 400, "no_data"),
        (json, r#"{"topic":"a","data":"AA==","encoding":"base64"}"#, 400, "invalid_json"),
        (json, r#"{"topic":"","data":1}"#, 400, "bad_topic"),
        (json, r#"{"topic":"a","data":{"type":"ack"}}"#, 403, "not_allowed"),
        ("", r#"{"topic":"a","data":1}"#, 415, "media_type"),
        ("Content-Type: application/jsonp\r\n", r#"{"topic":"a","data":1}"#, 415, "media_type"),
        (json, &large, 413, "too_large"),
    ] {
        let mut client = Client::connect(server.addr);
        client.send(request("", fields, text).as_bytes());
        let response = client.response();
        assert_eq!((response.status, body(&response)["code"].as_str()), (status, Some(code)), "{text}");
    }
    for (head, status) in [
        ("POST /publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        ("POST /publish HTTP/1.1\r\nHost: x\r\n\r\n", 411),
        ("POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413),
        ("POST /sse HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        ("OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        ("GET /publish HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        ("GET /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 413),
    ] {
        let mut client = Client::connect(server.addr);
        client.send(head.as_bytes());
        assert_eq!(client.response().status, status, "{head}");
    }
    assert_eq!(server.metric("messages_published_total"), 0);
}

#[test]
fn where_clients_may_not_publish_is_forbidden() {
    for shards in SHARDS {
        let mut config = config(shards);
        config.client_publish = Patterns(vec!["open.*".into()]);
        let server = TestServer::start(config);
        let mut client = Client::connect(server.addr);
        let refused = post(&mut client, "", &json!({"topic": "game", "data": {"type": "state"}, "id": 1}));
        let why = json!({"code": "not_allowed", "message": "Clients may not publish to this topic"});
        assert_eq!((refused.status, body(&refused)), (403, why));
        assert_eq!(post(&mut client, "", &json!({"topic": "open.t", "data": 1})).status, 200);
        assert_eq!(
            (server.metric("messages_refused_total reason=\"not_allowed\""), server.metric("messages_published_total")),
            (1, 1)
        );
    }
}

#[test]
fn a_page_of_another_origin_may_ask_and_post() {
    let server = TestServer::start(config(1));
    let mut client = Client::connect(server.addr);
    for path in ["/publish", "/sse?topic=a"] {
        client
            .send(format!("OPTIONS {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://elsewhere\r\n\r\n").as_bytes());
        let allowed = client.response();
        assert_eq!(
            (allowed.status, allowed.field("Access-Control-Allow-Headers")),
            (200, Some("Authorization, Content-Type"))
        );
        assert_eq!(allowed.field("Access-Control-Allow-Methods"), Some("GET, POST"));
    }
    client.send(request("", "Content-Type: Text/Plain;charset=UTF-8\r\n", r#"{"topic":"a","data":1}"#).as_bytes());
    assert_eq!(body(&client.response())["offset"], 1);
}

#[test]
fn a_body_may_come_in_any_pieces() {
    let server = TestServer::start(config(3));
    let mut events = Events::open(server.addr, "topic=a", "");
    events.expect("subscribed");
    let data = "\n\"x\" ".repeat(2);
    let whole = request(
        "",
        "Content-Type: application/json\r\n",
        &format!(r#"{{"topic":"a","data":[1,{}]}}"#, data.trim().replace(' ', ",")),
    );
    assert!(serde_json::from_str::<Value>(whole.split("\r\n\r\n").nth(1).expect("a body")).is_ok());
    let mut client = Client::connect(server.addr);
    for cut in (1..whole.len()).step_by(7) {
        client.send(&whole.as_bytes()[..cut]);
        thread::sleep(Duration::from_millis(2));
        client.send(&whole.as_bytes()[cut..]);
        assert_eq!(body(&client.response())["topic"], "a", "cut at {cut}");
        assert_eq!(events.expect("message")["data"], json!([1, "x", "x"]));
    }
    let large = json!({"topic": "a", "data": "x".repeat(1_000_000)}).to_string();
    let head = format!(
        "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        large.len()
    );
    client.send(head.as_bytes());
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send(&large.as_bytes()[..500_000]);
    wait_until("it is counted", || server.metric("memory_bytes part=\"partial_messages\"") >= 500_000);
    client.send(&large.as_bytes()[500_000..]);
    assert_eq!(client.response().status, 200);
    assert_eq!(events.expect("message")["data"].as_str().map(str::len), Some(1_000_000));
    wait_until("nothing is kept", || server.metric("memory_bytes part=\"partial_messages\"") == 0);
    // Who goes in the middle leaves nothing behind.
    client.send(head.as_bytes());
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send(&large.as_bytes()[..500_000]);
    wait_until("it is counted", || server.metric("memory_bytes part=\"partial_messages\"") >= 500_000);
    client.reset();
    drop(events);
    server.wait_idle();
    assert_eq!(server.metric("memory_bytes part=\"partial_messages\""), 0);
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let mut config = config(1);
    config.head_timeout = Duration::from_millis(200);
    let server = TestServer::start(config);
    let mut client = Client::connect(server.addr);
    client.send(b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{\"topic\"");
    assert_eq!(client.response().status, 408);
    client.expect_end();
    server.wait_idle();
}
