//! Who gets what, in which order, and that nobody misses anything: both dialects, one shard and several.

mod common;

use std::thread;

use common::client::{BINARY, CLOSE, PING, PONG, TEXT, close_payload, frame};
use common::{Client, SHARDS, TestServer, config, wait_until};
use serde_json::{Value, json};
use uproar::{Message, PublishError, Publisher};

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

fn publish(publisher: &Publisher, topic: &str, text: &str) {
    while let Err(error) = publisher.publish(topic, text) {
        assert_eq!(error, PublishError::Busy);
        thread::yield_now();
    }
}

#[test]
fn everybody_on_a_topic_gets_what_is_sent_there_and_nobody_else() {
    for shards in SHARDS {
        let server = TestServer::start(config(shards));
        let mut here: Vec<_> = (0..8).map(|_| server.ws("/raw/here")).collect();
        let mut there: Vec<_> = (0..8).map(|_| server.ws("/raw/there")).collect();
        for i in 0..8 {
            here[i].text(&format!("text {i}"));
            here[i].send(&frame(BINARY, &[i as u8, 0xff]));
            for client in &mut here {
                client.expect_text(&format!("text {i}"));
                client.expect(BINARY, &[i as u8, 0xff]);
            }
        }
        // The first thing that those of the other topic get is theirs.
        there[0].text("there");
        there.iter_mut().for_each(|client| client.expect_text("there"));
        // Escapes in the path are decoded: this is the same topic.
        let mut same = server.ws("/raw/%68ere");
        same.text("same");
        here.iter_mut().chain([&mut same]).for_each(|client| client.expect_text("same"));
    }
}

#[test]
fn who_asks_not_to_does_not_get_its_own() {
    for shards in SHARDS {
        let server = TestServer::start(config(shards));
        for i in 0..10 {
            let mut quiet = server.ws(&format!("/raw/t{i}?self=false"));
            let mut other = server.ws(&format!("/raw/t{i}?self=false"));
            let mut plain = server.ws(&format!("/raw/t{i}?self=true"));
            quiet.text("from quiet");
            other.expect_text("from quiet");
            plain.expect_text("from quiet");
            plain.text("from plain");
            [&mut quiet, &mut other, &mut plain].into_iter().for_each(|client| client.expect_text("from plain"));
        }
    }
}

/// Checks that of each publisher's messages, `a 0`, `a 1` and so on, all come and in order. The order of them all.
fn read_all(client: &mut Client, publishers: usize, each: usize) -> Vec<String> {
    let mut next = vec![0; publishers];
    let mut all = Vec::new();
    for _ in 0..publishers * each {
        let text = client.frame().expect("a message").text().to_owned();
        let (who, count) = text.split_once(' ').expect("two words");
        let (who, count): (usize, usize) = (who.parse().expect("a number"), count.parse().expect("a number"));
        assert_eq!(next[who], count, "of publisher {who}");
        next[who] += 1;
        all.push(text);
    }
    all
}

#[test]
fn all_subscribers_see_one_order_which_is_each_publishers_own() {
    const EACH: usize = 300;
    for shards in SHARDS {
        let mut config = config(shards);
        config.backlog = 16 << 20;
        let server = TestServer::start(config);
        let mut readers: Vec<_> = (0..6).map(|_| server.ws("/raw/order")).collect();
        let publisher = server.publisher();
        thread::scope(|scope| {
            for who in 0..4 {
                let mut client = server.ws("/raw/order?self=false");
                scope.spawn(move || {
                    (0..EACH).for_each(|i| client.text(&format!("{who} {i}")));
                    client.send(&frame(CLOSE, &close_payload(1000, "")));
                    while client.frame().is_some_and(|frame| frame.opcode() != CLOSE) {}
                });
            }
            for who in 4..6 {
                let publisher = publisher.clone();
                scope.spawn(move || (0..EACH).for_each(|i| publish(&publisher, "order", &format!("{who} {i}"))));
            }
            let orders: Vec<_> = readers.iter_mut().map(|reader| read_all(reader, 6, EACH)).collect();
            assert!(orders.iter().all(|order| *order == orders[0]), "the subscribers disagree");
        });
    }
}

#[test]
fn who_was_told_that_it_is_subscribed_misses_nothing() {
    // The publish comes from another thread, and from another connection, as soon as the client has its 101.
    let server = TestServer::start(config(3));
    let publisher = server.publisher();
    let mut other = Client::json(server.addr, "other");
    for i in 0..2000 {
        let (topic, text) = (format!("t{i}"), format!("{{\"n\":{i}}}"));
        let mut client = server.ws(&format!("/raw/{topic}"));
        if i % 2 == 0 {
            publish(&publisher, &topic, &text);
        } else {
            other.text(&format!(r#"{{"type":"publish","topic":"{topic}","data":{text}}}"#));
        }
        client.expect_text(&text);
        client.close(1000);
    }
}

#[test]
fn who_comes_while_others_leave_the_same_topic_misses_nothing() {
    // The topic's last subscriber of a shard leaves while its next one comes.
    let server = TestServer::start(config(3));
    let publisher = server.publisher();
    let mut last = server.ws("/raw/same");
    for i in 0..500 {
        last.close(1000);
        let mut client = server.ws("/raw/same");
        publish(&publisher, "same", &i.to_string());
        client.expect_text(&i.to_string());
        last = client;
    }
}

#[test]
fn who_has_left_gets_nothing_and_leaves_nothing() {
    for shards in SHARDS {
        let server = TestServer::start(config(shards));
        let mut staying = server.ws("/raw/room");
        for _ in 0..20 {
            let mut leaving = server.ws("/raw/room");
            leaving.close(1000);
            staying.text("after");
            staying.expect_text("after");
            let rest: Vec<_> = std::iter::from_fn(|| leaving.frame()).collect();
            assert_eq!(rest.last().map(|frame| frame.code()), Some(1000), "{rest:?}");
        }
        server.wait_subscriptions(1);
        staying.close(1000);
        server.wait_idle();
    }
}

#[test]
fn a_publisher_works_from_any_thread_and_says_what_it_cannot_do() {
    for shards in SHARDS {
        let server = TestServer::start(config(shards));
        let mut clients: Vec<_> = (0..3).map(|_| server.ws("/raw/threads")).collect();
        thread::scope(|scope| {
            for who in 0..4 {
                let publisher = server.publisher();
                scope.spawn(move || (0..200).for_each(|i| publish(&publisher, "threads", &format!("{who} {i}"))));
            }
        });
        clients.iter_mut().for_each(|client| drop(read_all(client, 4, 200)));
        let publisher = server.publisher();
        publisher.publish("threads", Message::binary(b"\xff")).expect("it is taken");
        clients.iter_mut().for_each(|client| client.expect(BINARY, b"\xff"));
        assert_eq!(publisher.publish("", "x"), Err(PublishError::BadTopic));
        assert_eq!(publisher.publish(&"t".repeat(257), "x"), Err(PublishError::BadTopic));
        let kind = uproar::hub::frame::MessageKind::Text;
        assert_eq!(publisher.publish_bytes("t", kind, b"\xff".as_slice().into()), Err(PublishError::BadText));
        assert_eq!(publisher.connections(), 3);
        drop(server);
        assert_eq!(publisher.publish("threads", "x"), Err(PublishError::Stopped));
    }
}

#[test]
fn congestion_passes() {
    // More at once than may be on its way: publishers have to wait, and then to go on.
    let text = "x".repeat(9 << 20);
    for shards in SHARDS {
        let mut config = config(shards);
        config.max_message = 16 << 20;
        config.backlog = 256 << 20;
        let server = TestServer::start(config);
        let publisher = server.publisher();
        for i in 0..4 {
            let topic = format!("large {i}");
            let path = format!("/raw/large%20{i}");
            let mut readers: Vec<_> = (0..3).map(|_| server.ws(&path)).collect();
            let mut client = server.ws(&format!("{path}?self=false"));
            client.text(&text);
            client.send(&frame(PING, b"read on"));
            client.expect(PONG, b"read on");
            readers.iter_mut().for_each(|reader| reader.expect_text(&text));
            for _ in 0..2 {
                wait_until("the server is not busy", || publisher.publish(&topic, &text).is_ok());
            }
            for client in readers.iter_mut().chain([&mut client]) {
                (0..2).for_each(|_| client.expect_text(&text));
            }
        }
    }
}

#[track_caller]
fn ask(client: &mut Client, message: &Value) -> Value {
    client.text(&message.to_string());
    answer(client)
}

#[track_caller]
fn answer(client: &mut Client) -> Value {
    serde_json::from_str(client.frame().expect("an answer").text()).expect("JSON")
}

#[test]
fn json_clients_subscribe_publish_and_are_told_of_errors() {
    for shards in SHARDS {
        let mut config = config(shards);
        config.max_topics = 3;
        let server = TestServer::start(config);
        let mut a = Client::json(server.addr, "a");
        let mut b = Client::json(server.addr, "b");
        assert_eq!(ask(&mut a, &json!({"type": "ping"}))["type"], "pong");
        let long = "t".repeat(257);
        let subscribed = ask(&mut a, &json!({"type": "subscribe", "topics": ["x", "y", "", long, "x", "z", "w"]}));
        let results: Vec<_> =
            subscribed["topics"].as_array().expect("a list").iter().map(|topic| &topic["ok"]).collect();
        assert_eq!(results, [true, true, false, false, true, true, false]);
        assert_eq!(subscribed["topics"][6]["error"], "too_many_topics");
        assert_eq!(subscribed["topics"][2]["error"], "bad_topic");
        ask(&mut b, &json!({"type": "subscribe", "topic": "x"}));
        // What is published is what subscribers get, to the letter; raw clients of the topic too.
        let mut raw = server.ws("/raw/x");
        b.text(r#"{"type":"publish","topic":"x","data":{ "n": 1.50 }}"#);
        [&mut a, &mut b, &mut raw].into_iter().for_each(|client| client.expect_text(r#"{ "n": 1.50 }"#));
        raw.text("from raw");
        [&mut a, &mut b, &mut raw].into_iter().for_each(|client| client.expect_text("from raw"));
        let left = ask(&mut a, &json!({"type": "unsubscribe", "topics": ["x", "x", "nowhere"]}));
        assert_eq!(left["topics"][0], json!({"topic": "x", "ok": true}));
        assert_eq!(left["topics"][1], json!({"topic": "x", "ok": false, "error": "not_subscribed"}));
        raw.text("without a");
        [&mut b, &mut raw].into_iter().for_each(|client| client.expect_text("without a"));
        for (message, code) in [
            (json!({"type": "dance"}), "unknown_type"),
            (json!([1]), "invalid_json"),
            (json!({"type": "publish", "topic": "x"}), "no_data"),
            (json!({"type": "publish", "data": 1}), "no_topic"),
            (json!({"type": "subscribe"}), "no_topic"),
        ] {
            assert_eq!(ask(&mut a, &message)["code"], code);
        }
        a.send(&frame(BINARY, b"{}"));
        a.expect(BINARY, b"{}");
        a.send(&frame(PING, b"still"));
        a.expect(PONG, b"still");
    }
}

#[test]
fn who_leaves_a_topic_before_its_subscription_is_confirmed_goes_on() {
    let server = TestServer::start(config(3));
    for i in 0..60 {
        let mut client = Client::json(server.addr, &format!("one{i}"));
        let mut second = Client::json(server.addr, &format!("two{i}"));
        let command = |kind: &str| frame(TEXT, format!(r#"{{"type":"{kind}","topic":"brief {i}"}}"#).as_bytes());
        second.send(&[command("subscribe"), command("unsubscribe")].concat());
        client.send(&[command("subscribe"), command("unsubscribe"), command("subscribe")].concat());
        for client in [&mut client, &mut second] {
            assert_eq!(answer(client)["type"], "subscribed");
            assert_eq!(answer(client)["type"], "unsubscribed");
        }
        assert_eq!(answer(&mut client)["type"], "subscribed");
        second.text(&format!(r#"{{"type":"publish","topic":"brief {i}","data":1}}"#));
        client.expect_text("1");
        // Leaving by a reset must set free those who waited for the same topic.
        let mut third = Client::json(server.addr, &format!("three{i}"));
        third.send(&command("subscribe").repeat(2));
        client.reset();
        assert_eq!(answer(&mut third)["type"], "subscribed");
    }
}

#[test]
fn compressed_and_plain_subscribers_get_the_same_and_compression_runs_once_a_shard() {
    for shards in SHARDS {
        let server = TestServer::start(config(shards));
        let open = |fields: &str| Client::connect(server.addr).upgrade("/raw/mixed", fields).0;
        let mut plain: Vec<_> = (0..12).map(|_| open("")).collect();
        let mut deflated: Vec<_> = (0..12).map(|_| open(DEFLATE)).collect();
        let publisher = server.publisher();
        let text = "the same for all, ".repeat(100);
        let mut encoded = None;
        for i in 1..=10 {
            publish(&publisher, "mixed", &text);
            plain.iter_mut().for_each(|client| client.expect_text(&text));
            for client in &mut deflated {
                let frame = client.frame().expect("a message");
                assert_eq!(frame.first, 0xc1);
                assert_eq!(encoded.get_or_insert_with(|| inflated(&frame.payload)), &text);
            }
            let runs = server.metric("deflate_runs_total");
            // Three shards need not all have a compressed subscriber.
            assert!(runs.is_multiple_of(i) && (1..=u64::from(shards)).contains(&(runs / i)), "{runs} after {i}");
        }
        publish(&publisher, "mixed", "short");
        plain.iter_mut().chain(&mut deflated).for_each(|client| client.expect_text("short"));
        assert_eq!(server.metric("deliveries_total"), 11 * 24);
        assert_eq!(server.metric("messages_published_total"), 11);
        drop((plain, deflated));
        wait_until("they are gone", || publisher.connections() == 0);
    }
}

fn inflated(payload: &[u8]) -> String {
    let mut out = Vec::with_capacity(1 << 20);
    let input = [payload, &[0, 0, 0xff, 0xff]].concat();
    let mut stream = flate2::Decompress::new(false);
    stream.decompress_vec(&input, &mut out, flate2::FlushDecompress::Sync).expect("it inflates");
    String::from_utf8(out).expect("text")
}
