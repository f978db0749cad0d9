//! Draining: everybody is sent away, once, evenly, and with a hint when to come back.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use uproar::Config;

use super::common::client::{CLOSE, TEXT};
use super::common::events::Events;
use super::common::{Client, PATIENCE, TestServer, config, scrape, wait_until};
use super::probes::get;

/// As the server spreads those who come back.
const SPREAD_MS: u64 = 2_000;

fn draining(shards: u32, time: Duration) -> Config {
    let mut config = config(shards);
    config.drain_time = time;
    config
}

/// A WebSocket that reads until it is closed, by 1012 and once: what it was sent before, and when it was closed.
pub fn until_closed(mut client: Client) -> JoinHandle<(Vec<String>, Instant)> {
    client.stream.set_read_timeout(Some(2 * PATIENCE)).expect("a timeout");
    thread::spawn(move || {
        let mut texts = Vec::new();
        loop {
            let frame = client.frame().expect("a close frame before the end");
            match frame.opcode() {
                TEXT => texts.push(frame.text().to_owned()),
                CLOSE => {
                    let at = Instant::now();
                    assert_eq!((frame.code(), &frame.payload[2..]), (1012, &b"service restart"[..]));
                    client.close(1012);
                    client.expect_end();
                    return (texts, at);
                }
                other => panic!("opcode {other}"),
            }
        }
    })
}

/// A `json` client, which is told when to come back, last of all.
fn json_until_closed(client: Client) -> JoinHandle<Instant> {
    thread::spawn(move || {
        let (texts, at) = until_closed(client).join().expect("it was closed");
        let hints = texts.iter().filter(|text| text.contains("\"reconnect\"")).count();
        let hint: Value = serde_json::from_str(texts.last().expect("a hint")).expect("JSON");
        assert_eq!((hints, &hint["type"]), (1, &Value::from("reconnect")), "{texts:?}");
        assert!(hint["after"].as_u64().is_some_and(|after| after <= SPREAD_MS), "{hint}");
        at
    })
}

/// A stream, which is told the same in its own way.
fn stream_until_closed(mut events: Events) -> JoinHandle<Instant> {
    events.stream.set_read_timeout(Some(2 * PATIENCE)).expect("a timeout");
    thread::spawn(move || {
        let mut blocks = Vec::new();
        while let Some(block) = events.part(b"\n\n") {
            blocks.push(block);
        }
        let retry = blocks.pop().and_then(|block| block.strip_prefix("retry: ")?.trim_end().parse::<u64>().ok());
        assert!(retry.is_some_and(|retry| (1_000..=1_000 + SPREAD_MS).contains(&retry)), "{retry:?} after {blocks:?}");
        Instant::now()
    })
}

#[test]
fn everybody_is_sent_away_evenly_once_and_with_a_hint() {
    const EACH: usize = 16;
    for shards in [1, 2] {
        let time = Duration::from_secs(3);
        let server = TestServer::start(draining(shards, time));
        let mut closed: Vec<JoinHandle<Instant>> = Vec::new();
        for _ in 0..EACH {
            closed.push(json_until_closed(Client::json(server.addr, "room")));
            let raw = until_closed(server.ws("/raw/t"));
            closed.push(thread::spawn(move || raw.join().expect("it was closed").1));
            closed.push(stream_until_closed(Events::open(server.addr, "topic=a&topic=b", "")));
        }
        let begin = Instant::now();
        server.running().drain();
        server.running().drain();
        let ends: Vec<Duration> = closed.into_iter().map(|end| end.join().expect("as it should") - begin).collect();
        let all = ends.len();
        let by = |part: Duration| ends.iter().filter(|end| **end < part).count();
        assert!(by(time / 3) <= all * 6 / 10, "{shards} shards: {} of {all} in the first third", by(time / 3));
        assert!(by(time * 2 / 3) >= all / 6, "{shards} shards: {} of {all} in two thirds", by(time * 2 / 3));
        assert!(by(time / 2) < all, "{shards} shards: all were gone after half of the time");
        wait_until("all are gone", || server.publisher().connections() == 0);
        assert_eq!(server.metric("connections_closed_total reason=\"drain\""), all as u64);
        assert_eq!(server.metric("close_timeouts_total"), 0);
    }
}

#[test]
fn what_is_published_meanwhile_reaches_those_who_are_still_there() {
    for shards in [1, 2] {
        let server = TestServer::start(draining(shards, Duration::from_secs(2)));
        let clients: Vec<_> = (0..12).map(|_| until_closed(server.ws("/raw/t"))).collect();
        let publisher = server.publisher();
        let mut number = 0;
        let mut publish = || {
            number += 1;
            let _ = publisher.publish("t", &*number.to_string());
            thread::sleep(Duration::from_millis(5));
        };
        (0..10).for_each(|_| publish());
        server.running().drain();
        while !clients.iter().all(JoinHandle::is_finished) {
            publish();
        }
        let mut counts = Vec::new();
        for client in clients {
            let (texts, _) = client.join().expect("it was closed");
            let expected: Vec<String> = (1..=texts.len()).map(|number| number.to_string()).collect();
            assert_eq!(texts, expected, "nothing is missing before the close");
            counts.push(texts.len());
        }
        let (least, most) = (counts.iter().min().expect("12"), counts.iter().max().expect("12"));
        assert!(*least >= 10 && most > least, "{counts:?}");
    }
}

#[test]
fn newcomers_are_turned_away_and_probes_are_answered() {
    let server = TestServer::start(draining(1, Duration::from_secs(60)));
    let admin = server.admin.parse().expect("an address");
    let mut clients: Vec<_> = (0..4).map(|_| server.ws("/raw/t")).collect();
    let mut early = Client::connect(server.addr);
    assert!(scrape(&server.admin).contains("\nuproar_draining 0\n"));
    server.running().drain();
    // The first to have come is the first to go, at once; a minute later, all will have.
    assert_eq!(clients[0].close_code(), 1012);
    clients[0].close(1012);
    for target in ["/raw/t", "/", "/sse?topic=t"] {
        let mut late = Client::connect(server.addr);
        late.send(super::common::client::handshake(target, "").as_bytes());
        let response = late.response();
        let after = response.field("Retry-After").and_then(|after| after.parse::<u32>().ok());
        assert!(response.status == 503 && after.is_some_and(|after| (1..=4).contains(&after)), "{response:?}");
        late.expect_end();
    }
    early.send(b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(early.response().status, 503);
    assert_eq!(server.metric("connections_refused_total reason=\"draining\""), 4);
    for listener in [server.addr, admin] {
        let ready = get(listener, "/ready");
        assert_eq!((ready.status, ready.body.trim_end()), (503, r#"{"status":"unready","reason":"draining"}"#));
        assert_eq!(ready.field("Retry-After"), Some("1"));
        assert_eq!(get(listener, "/live").status, 200);
        let health = get(listener, "/health");
        assert!(
            health.status == 200 && health.body.starts_with(r#"{"status":"draining","connections":"#),
            "{health:?}"
        );
    }
    assert!(scrape(&server.admin).contains("\nuproar_draining 1\n"));
    // The others are served.
    clients[3].text("still here");
    clients[3].expect_text("still here");
}

#[test]
fn readiness_turns_first_and_newcomers_are_served_until_the_delay_is_over() {
    let mut config = draining(2, Duration::from_millis(100));
    config.drain_delay = Duration::from_millis(1500);
    let server = TestServer::start(config);
    let begin = Instant::now();
    server.running().drain();
    assert_eq!(get(server.addr, "/ready").status, 503);
    let newcomer = server.ws("/raw/t");
    let (_, at) = until_closed(newcomer).join().expect("it was closed");
    assert!(at - begin >= Duration::from_millis(1400), "{:?}", at - begin);
}

#[test]
fn backends_are_sent_away_last() {
    let mut config = draining(2, Duration::from_secs(1));
    config.backend_key = vec![uproar::config::Secret::new("0123456789abcdef")];
    let server = TestServer::start(config);
    let backend = until_closed(server.ws("/backend?key=0123456789abcdef"));
    let clients: Vec<_> = (0..8).map(|_| json_until_closed(Client::json(server.addr, "room"))).collect();
    server.running().drain();
    let last = clients.into_iter().map(|client| client.join().expect("it was closed")).max().expect("8");
    // Both times are those of reading, in threads of their own.
    let (_, at) = backend.join().expect("it was closed");
    assert!(at + Duration::from_millis(100) >= last, "the backend was closed {:?} earlier", last - at);
}
