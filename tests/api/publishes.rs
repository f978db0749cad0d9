//! Publishing, sending, disconnecting: what arrives, and what is said of it.

use serde_json::{Value, json};
use uproar::config::Secret;

use super::common::client::{BINARY, CLOSE};
use super::common::{Client, SHARDS, TestServer, config, wait_until};
use super::{post, post_with, posted, refused};

fn start(shards: u32) -> TestServer {
    TestServer::start(config(shards))
}

/// A client that is welcomed, and its id.
fn member(server: &TestServer, room: &str) -> (Client, String) {
    let mut client = server.ws(&format!("/?room={room}"));
    let welcome: Value = serde_json::from_str(client.frame().expect("a welcome").text()).expect("JSON");
    (client, welcome["clientId"].as_str().expect("an id").to_owned())
}

fn epoch_and_offset(value: &Value) -> (String, u64) {
    (value["epoch"].as_str().expect("an epoch").to_owned(), value["offset"].as_u64().expect("an offset"))
}

#[test]
fn what_is_published_arrives_as_it_was_spelled() {
    for shards in SHARDS {
        let server = start(shards);
        let mut plain = server.ws("/raw/t");
        let (mut recovering, _) = member(&server, "x");
        recovering.text(r#"{"type":"subscribe","topics":["t"],"recover":true}"#);
        assert!(recovering.frame().expect("an answer").text().contains("subscribed"));
        let placed = posted(&server.admin, "/publish", r#"{"topic":"t","data":{ "a" :1.0,"a":"\u0041"}, "id": null}"#);
        assert_eq!((&placed["topic"], &placed["offset"]), (&json!("t"), &json!(1)));
        plain.expect_text(r#"{ "a" :1.0,"a":"\u0041"}"#);
        let envelope = recovering.frame().expect("a message").text().to_owned();
        let epoch = placed["epoch"].as_str().expect("an epoch");
        let place = format!(r#""epoch":"{epoch}","offset":1,"data":{{ "a" :1.0"#);
        assert!(envelope.contains(&place), "{envelope} has no {place}");

        posted(&server.admin, "/publish", r#"{"topic":"t","data":"say \"x\"\n","encoding":"text"}"#);
        plain.expect_text("say \"x\"\n");
        posted(&server.admin, "/publish", r#"{"topic":"t","data":"AAH/","encoding":"base64"}"#);
        plain.expect(BINARY, &[0, 1, 255]);
        // Also what no client may say.
        let last = posted(&server.admin, "/publish", r#"{"topic":"t","data":{"type":"ack"}}"#);
        plain.expect_text(r#"{"type":"ack"}"#);
        assert_eq!(epoch_and_offset(&last), (epoch.to_owned(), 4));
    }
}

#[test]
fn a_topic_that_nobody_uses_is_ordered_all_the_same() {
    for shards in SHARDS {
        let server = start(shards);
        let (_, offset) = epoch_and_offset(&posted(&server.admin, "/publish", r#"{"topic":"lonely","data":1}"#));
        assert_eq!(offset, 1);
        wait_until("nothing is left of it", || server.metric("topics") == 0);
    }
}

#[test]
fn a_batch_keeps_the_order_of_each_topic() {
    for shards in SHARDS {
        let server = start(shards);
        let mut clients: Vec<_> = (0..4).map(|topic| server.ws(&format!("/raw/t{topic}"))).collect();
        let messages: Vec<_> = (0..1000).map(|n| json!({"topic": format!("t{}", n % 4), "data": n})).collect();
        let answer = posted(&server.admin, "/batch", &json!({ "messages": messages }).to_string());
        let results = answer["results"].as_array().expect("a list");
        assert_eq!(results.len(), 1000);
        for (n, result) in results.iter().enumerate() {
            assert_eq!((&result["topic"], &result["offset"]), (&messages[n]["topic"], &json!(n / 4 + 1)));
        }
        for n in 0..1000 {
            clients[n % 4].expect_text(&n.to_string());
        }
        let more: Vec<_> = (0..1001).map(|_| json!({"topic": "t", "data": 1})).collect();
        let too_many = post(&server.admin, "/batch", &json!({ "messages": more }).to_string());
        assert_eq!(refused(too_many), (400, "bad_number".into()));
    }
}

#[test]
fn what_comes_again_is_answered_again_and_not_delivered_again() {
    for shards in SHARDS {
        let server = start(shards);
        let mut client = server.ws("/raw/t");
        let first = posted(&server.admin, "/publish", r#"{"topic":"t","data":1,"id":"a"}"#);
        assert_eq!(posted(&server.admin, "/publish", r#"{"topic":"t","data":2,"id":"\u0061"}"#), first, "one id");
        assert_ne!(posted(&server.admin, "/publish", r#"{"topic":"t","data":3}"#), first);
        let key = |data| post_with(&server.admin, "/publish", "Idempotency-Key: k\r\n", data);
        let keyed = key(r#"{"topic":"t","data":4}"#);
        assert_eq!(key(r#"{"topic":"t","data":5}"#), keyed);
        assert_eq!(key(r#"{"topic":"t","data":6,"id":"a"}"#), (200, first), "its own id comes first");
        let batch = r#"{"messages":[{"topic":"t","data":7},{"topic":"t","data":8},{"topic":"t","data":9,"id":9}]}"#;
        let keyed = post_with(&server.admin, "/batch", "Idempotency-Key: b\r\n", batch);
        assert_eq!(post_with(&server.admin, "/batch", "Idempotency-Key: b\r\n", batch), keyed);
        for data in ["1", "3", "4", "7", "8", "9"] {
            client.expect_text(data);
        }
        // What was refused was not done, and is not known.
        let nobody = r#"{"receiver":"nobody","data":1,"id":"s"}"#;
        assert_eq!([(); 2].map(|()| post(&server.admin, "/send", nobody).0), [404, 404]);
        assert_eq!(server.metric("messages_repeated_total"), 6);
    }
}

#[test]
fn a_client_cannot_use_up_the_apis_ids() {
    let server = start(1);
    let (mut client, _) = member(&server, "x");
    client.text(r#"{"type":"publish","topic":"t","data":1,"id":"a","ack":true}"#);
    assert!(client.frame().expect("an answer").text().contains(r#""offset":1"#));
    let placed = posted(&server.admin, "/publish", r#"{"topic":"t","data":2,"id":"a"}"#);
    assert_ne!(placed["offset"], json!(0));
    assert_eq!(server.metric("messages_repeated_total"), 0);
}

#[test]
fn a_broadcast_goes_to_every_topic() {
    for shards in SHARDS {
        let server = start(shards);
        let mut clients: Vec<_> = (0..5).map(|topic| server.ws(&format!("/raw/t{topic}"))).collect();
        let body = r#"{"topics":["t0","t1","","t2","t3","t4"],"data":{"n": 1},"id":7}"#;
        let answer = posted(&server.admin, "/broadcast", body);
        assert_eq!(answer["results"][2]["code"], "bad_topic");
        assert_eq!(answer["results"].as_array().map(Vec::len), Some(6));
        clients.iter_mut().for_each(|client| client.expect_text(r#"{"n": 1}"#));
        assert_eq!(posted(&server.admin, "/broadcast", body), answer);
        posted(&server.admin, "/broadcast", r#"{"topics":["t0","t1","t2","t3","t4"],"data":"end"}"#);
        clients.iter_mut().for_each(|client| client.expect_text(r#""end""#));
    }
}

#[test]
fn a_message_is_sent_to_a_client_or_a_room() {
    for shards in SHARDS {
        let server = start(shards);
        let members: Vec<_> = (0..6).map(|_| member(&server, "room")).collect();
        let body = |receiver: &str, id: &str| {
            format!(r#"{{"receiver":"{receiver}","data":{{ "type":"state","for":"{receiver}"}},"id":"{id}"}}"#)
        };
        let sent = |receiver: &str| format!(r#"{{ "type":"state","for":"{receiver}"}}"#);
        for (_, id) in &members {
            assert_eq!(posted(&server.admin, "/send", &body(id, "1")), json!({}));
            assert_eq!(posted(&server.admin, "/send", &body(id, "1")), json!({}), "again, but it is not sent");
        }
        assert_eq!(posted(&server.admin, "/send", &body("room", "1")), json!({}));
        for (mut client, id) in members {
            let mut next = || loop {
                let text = client.frame().expect("a message").text().to_owned();
                if !text.contains("user_joined") {
                    return text;
                }
            };
            assert_eq!((next(), next()), (sent(&id), sent("room")));
        }
        for nobody in ["nobody", "0123456789abcdef", "ffffffffffffffff"] {
            assert_eq!(refused(post(&server.admin, "/send", &body(nobody, "2"))), (404, "no_receiver".into()));
        }
    }
}

#[test]
fn a_message_is_sent_to_every_connection_of_a_user() {
    for shards in SHARDS {
        let mut config = config(shards);
        config.backend_key = vec![Secret::new("correct-horse-battery")];
        let server = TestServer::start(config);
        let mut backend = server.ws("/backend?key=correct-horse-battery");
        assert!(backend.frame().expect("a welcome").text().contains("backend"));
        let connections: Vec<_> = (0..4).map(|n| member(&server, &format!("room{n}"))).collect();
        for (_, id) in &connections {
            let identify = json!({"type": "identify", "clientId": id, "user": "ann", "id": 1, "ack": true});
            backend.text(&identify.to_string());
            assert!(backend.frame().expect("an answer").text().contains("ack"));
        }
        assert_eq!(posted(&server.admin, "/send", r#"{"receiver":"ann","data":[1, 2]}"#), json!({}));
        let (_other, id) = member(&server, "room0");
        let both = json!({"clientId": id, "user": "ann"}).to_string();
        assert_eq!(refused(post(&server.admin, "/disconnect", &both)), (400, "bad_receiver".into()));
        let as_user = json!({ "user": id }).to_string();
        assert_eq!(refused(post(&server.admin, "/disconnect", &as_user)), (404, "no_receiver".into()));
        assert_eq!(posted(&server.admin, "/disconnect", r#"{"user":"ann","code":4500,"reason":"banned"}"#), json!({}));
        for (mut client, _) in connections {
            client.expect_text("[1, 2]");
            let close = loop {
                let frame = client.frame().expect("a close frame");
                if frame.opcode() == CLOSE {
                    break frame;
                }
            };
            assert_eq!((close.code(), &close.payload[2..]), (4500, &b"banned"[..]));
        }
        wait_until("they are gone", || post(&server.admin, "/disconnect", r#"{"user":"ann"}"#).0 == 404);
    }
}

#[test]
fn a_client_is_sent_away() {
    for shards in SHARDS {
        let server = start(shards);
        for n in 0..4 {
            let (mut client, id) = member(&server, &format!("room{n}"));
            let body = json!({"clientId": id, "code": 4000 + n, "reason": "enough"}).to_string();
            assert_eq!(posted(&server.admin, "/disconnect", &body), json!({}));
            let close = client.frame().expect("a close frame");
            assert_eq!((close.opcode(), close.code(), &close.payload[2..]), (CLOSE, 4000 + n as u16, &b"enough"[..]));
            client.close(4000);
            wait_until("it is gone", || refused_gone(&server, &id));
        }
        for body in [r#"{"clientId":"room0"}"#, r#"{"clientId":""}"#, r#"{"clientId":"FFFFFFFFFFFFFFFF"}"#] {
            assert_eq!(refused(post(&server.admin, "/disconnect", body)), (404, "no_receiver".into()), "{body}");
        }
    }
}

fn refused_gone(server: &TestServer, id: &str) -> bool {
    post(&server.admin, "/disconnect", &json!({ "clientId": id }).to_string()).0 == 404
}
