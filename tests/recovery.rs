//! Clients that lose their connections at any moment, and come back: nothing is missing, nothing comes twice.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::client::{TEXT, frame, handshake};
use common::rng::Rng;
use common::{Client, SHARDS, TestServer, config, wait_until};
use serde_json::Value;
use uproar::config::parse_history;

const TOPICS: usize = 3;
const CLIENTS: u64 = 8;
const LIVES: usize = 40;

/// Where a client is in a topic.
#[derive(Clone, Default, Debug)]
struct Place {
    epoch: String,
    offset: u64,
    /// The number in the message there.
    number: u64,
}

#[test]
fn who_comes_back_goes_on_where_it_was() {
    for shards in SHARDS {
        let mut config = config(shards);
        config.history = parse_history("deep.* count=1000000 bytes=64MiB age=1h").expect("a rule");
        config.backlog = 16 << 20;
        let server = TestServer::start(config);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| server.count_in(TOPICS, &over));
            let clients: Vec<_> = (0..CLIENTS)
                .map(|seed| (seed, &server))
                .map(|(seed, server)| scope.spawn(move || live(server, seed)))
                .collect();
            let lived: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
            over.store(true, Ordering::Relaxed);
            lived.into_iter().for_each(|client| client.expect("a client that missed nothing"));
        });
        assert_eq!(server.metric("recoveries_total result=\"gap\""), 0);
        assert!(server.metric("history_replayed_total") > 0);
    }
}

/// Comes and goes, and checks that each message is the one after the last.
fn live(server: &TestServer, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut places: Vec<Option<Place>> = vec![None; TOPICS];
    for life in 0..LIVES {
        let mut client = Client::json(server.addr, &format!("room{}-{life}", rng.bits()));
        client.text(&subscription(&places));
        for _ in 0..rng.below(60) {
            let text = client.frame().expect("a message").text().to_owned();
            take(&serde_json::from_str(&text).expect("JSON"), &mut places);
        }
        match rng.below(3) {
            0 => client.reset(),
            1 => client.close(1000),
            _ => drop(client),
        }
    }
    assert!(places.iter().flatten().any(|place| place.offset > 0), "something was received");
}

fn subscription(places: &[Option<Place>]) -> String {
    let topics: Vec<String> = (0..TOPICS).map(|topic| format!("deep.{topic}")).collect();
    let since: serde_json::Map<String, Value> = places
        .iter()
        .enumerate()
        .filter_map(|(topic, place)| {
            let place = place.as_ref()?;
            Some((format!("deep.{topic}"), serde_json::json!({"epoch": place.epoch, "offset": place.offset})))
        })
        .collect();
    serde_json::json!({"type": "subscribe", "topics": topics, "recover": true, "since": since}).to_string()
}

fn take(message: &Value, places: &mut [Option<Place>]) {
    match message["type"].as_str() {
        Some("subscribed") => {
            for result in message["topics"].as_array().expect("a list") {
                let place = &mut places[index(&result["topic"])];
                // Whoever comes for the first time begins where the topic is.
                place.get_or_insert_with(|| Place {
                    epoch: text(&result["epoch"]),
                    offset: result["offset"].as_u64().expect("an offset"),
                    number: 0,
                });
            }
        }
        Some("message") => {
            let place = places[index(&message["topic"])].as_mut().expect("subscribed before");
            let (offset, number) = (message["offset"].as_u64(), message["data"].as_u64().expect("a number"));
            assert_eq!((text(&message["epoch"]), offset), (place.epoch.clone(), Some(place.offset + 1)), "{message}");
            assert!(place.number == 0 || number == place.number + 1, "{message} after {place:?}");
            (place.offset, place.number) = (place.offset + 1, number);
        }
        _ => panic!("{message}"),
    }
}

fn index(topic: &Value) -> usize {
    topic.as_str().and_then(|topic| topic.strip_prefix("deep.")?.parse().ok()).expect("one of the topics")
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

#[test]
fn a_room_that_is_asked_for_again_while_it_is_waited_for_stays_the_room() {
    for shards in SHARDS {
        let mut config = config(shards);
        config.max_topics = 100;
        let server = TestServer::start(config);
        let topics: Vec<_> = (0..100).map(|topic| format!("t{topic}")).collect();
        for attempt in 0..20 {
            let room = format!("room{attempt}");
            let mut bytes = handshake(&format!("/?room={room}&recover=true"), "").into_bytes();
            for message in [
                serde_json::json!({"type": "subscribe", "topics": topics}),
                serde_json::json!({"type": "subscribe", "topic": room}),
                serde_json::json!({"type": "chat", "text": "here"}),
            ] {
                bytes.extend(frame(TEXT, message.to_string().as_bytes()));
            }
            let mut client = Client::connect(server.addr);
            client.send(&bytes);
            client.switched();
            let mut texts = std::iter::from_fn(|| client.frame()).map(|frame| frame.text().to_owned());
            assert!(texts.any(|text| text.contains("\"here\"")), "it is in its room");
        }
        server.wait_idle();
    }
}

#[test]
fn who_is_held_for_a_last_value_is_let_go_though_there_is_none() {
    for shards in SHARDS {
        let mut config = config(shards);
        config.history = parse_history("* count=1 last_value").expect("a rule");
        config.ping_interval = None;
        let server = TestServer::start(config);
        for attempt in 0..20 {
            server.ws(&format!("/raw/r{attempt}"));
            Client::json(server.addr, &format!("j{attempt}"));
        }
    }
}

#[test]
fn what_there_is_no_memory_to_keep_is_counted() {
    const MESSAGES: u64 = 100;
    for shards in SHARDS {
        let mut config = config(shards);
        config.history = parse_history("* count=1000 bytes=64MiB").expect("a rule");
        config.history_memory = 1 << 20;
        let server = TestServer::start(config);
        for _ in 0..MESSAGES {
            server.publisher().publish("t", "x".repeat(20_000).as_str()).expect("published");
        }
        wait_until("all are ordered", || server.metric("messages_published_total") == MESSAGES);
        // Of 100 messages of 20 kB, at most 52 are kept in a MiB.
        wait_until("the others are counted", || (48..MESSAGES).contains(&server.metric("history_evicted_total")));
        assert!((1..=1 << 20).contains(&server.metric("history_bytes")));
    }
}
