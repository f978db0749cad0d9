//! Readers that do not read: each policy, what it costs others, and what it costs in memory.

mod common;

use std::thread;
use std::time::Duration;

use common::client::{CLOSE, PING, PONG, TEXT, frame};
use common::{Client, Process, SHARDS, TestServer, config, wait_until};
use uproar::config::BacklogPolicy;

const MIB: usize = 1 << 20;
const MESSAGE: usize = 1000;
/// Messages that are published before anyone must have read them: within a backlog.
const BATCH: usize = 32;

fn message(i: usize) -> String {
    format!("{i:08}{}", "x".repeat(MESSAGE - 8))
}

/// The number of a [`message`].
fn number(text: &str) -> usize {
    assert_eq!(text.len(), MESSAGE, "whole messages only");
    text[..8].parse().expect("a number")
}

/// A topic with a subscriber that does not read, at least until some hundred kilobytes after its socket is full.
struct Stall {
    server: TestServer,
    stalled: Client,
    published: usize,
}

fn stall(shards: u32, policy: BacklogPolicy, path: &str, subscribe: impl FnOnce(&mut Client)) -> Stall {
    let mut config = config(shards);
    config.backlog_policy = policy;
    let server = TestServer::start(config);
    let mut stalled = Client::ws_small(server.addr, path);
    subscribe(&mut stalled);
    let mut healthy: Vec<_> = (0..4).map(|_| server.ws("/raw/stall?self=false")).collect();
    let publisher = server.publisher();
    let (mut published, mut since_full) = (0, 0);
    while since_full < 20 {
        for i in published..published + BATCH {
            publisher.publish("stall", &message(i)).expect("there is room");
        }
        // The others do not notice, and miss nothing.
        for client in &mut healthy {
            for i in published..published + BATCH {
                assert_eq!(number(client.frame().expect("a message").text()), i);
            }
        }
        published += BATCH;
        since_full += usize::from(since_full > 0 || server.metric("backlogged_connections") == 1);
    }
    settle(&server);
    Stall { server, stalled, published }
}

/// Waits until nothing is under way between shards any more.
fn settle(server: &TestServer) {
    let state = || ["deliveries_total", "mail_total", "messages_dropped_total"].map(|name| server.metric(name));
    let mut last = state();
    wait_until("nothing is under way", || {
        thread::sleep(Duration::from_millis(20));
        let now = state();
        std::mem::replace(&mut last, now) == now
    });
}

/// The numbers of the messages until the pong, and the `gap`s that were told.
fn read_until_pong(client: &mut Client) -> (Vec<usize>, usize) {
    let (mut numbers, mut gaps) = (Vec::new(), 0);
    loop {
        let frame = client.frame().expect("a message");
        match frame.opcode() {
            PONG => return (numbers, gaps),
            TEXT if frame.payload.starts_with(b"{") => {
                let gap: serde_json::Value = serde_json::from_slice(&frame.payload).expect("JSON");
                assert_eq!(gap["type"], "gap");
                gaps += gap["dropped"].as_u64().expect("a count") as usize;
            }
            _ => numbers.push(number(frame.text())),
        }
    }
}

fn is_run(numbers: &[usize]) -> bool {
    numbers.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

#[test]
fn a_stalled_reader_is_closed_with_1013() {
    for shards in SHARDS {
        let Stall { server, mut stalled, published } = stall(shards, BacklogPolicy::Close, "/raw/stall", |_| {});
        let mut next = 0;
        let code = loop {
            let frame = stalled.frame().expect("a message or a close frame");
            if frame.opcode() == CLOSE {
                break frame.code();
            }
            assert_eq!(number(frame.text()), next);
            next += 1;
        };
        assert_eq!(code, 1013);
        stalled.close(1013);
        stalled.expect_end();
        let dropped = server.metric("messages_dropped_total reason=\"backlog_close\"") as usize;
        assert!(dropped > 0 && next + dropped <= published, "{next} + {dropped} of {published}");
        assert_eq!(server.metric("connections_closed_total reason=\"backlog\""), 1);
    }
}

/// Of messages dropped for a stalled reader: their counter, and which of those that were kept come after the gap.
fn drops(policy: BacklogPolicy, reason: &str, check: fn(before: &[usize], after: &[usize], published: usize)) {
    for shards in SHARDS {
        let Stall { server, mut stalled, published } = stall(shards, policy, "/raw/stall", |_| {});
        stalled.send(&frame(PING, b"end"));
        let (numbers, _) = read_until_pong(&mut stalled);
        let gap = numbers.windows(2).position(|pair| pair[1] != pair[0] + 1).map_or(numbers.len(), |at| at + 1);
        let (before, after) = numbers.split_at(gap);
        assert!(before[0] == 0 && is_run(before) && is_run(after), "{numbers:?}");
        check(before, after, published);
        let dropped = server.metric(&format!("messages_dropped_total reason=\"{reason}\"")) as usize;
        assert_eq!(numbers.len() + dropped, published);
        assert_eq!(server.metric("messages_dropped_total") as usize, dropped, "for no other reason");
        // It is served as ever now that it reads.
        server.publisher().publish("stall", &message(published)).expect("there is room");
        assert_eq!(number(stalled.frame().expect("a message").text()), published);
    }
}

#[test]
fn the_oldest_go() {
    drops(BacklogPolicy::DropOldest, "drop_oldest", |before, after, published| {
        assert!(after[0] > before[before.len() - 1] && after[after.len() - 1] == published - 1);
        assert!((60..=66).contains(&after.len()), "a backlog full of the newest: {}", after.len());
    });
}

#[test]
fn the_newest_go() {
    drops(BacklogPolicy::DropNewest, "drop_newest", |_, after, _| assert!(after.is_empty(), "{after:?}"));
}

#[test]
fn the_latest_stays() {
    drops(BacklogPolicy::Latest, "conflated", |before, after, published| {
        assert!(after[0] > before[before.len() - 1] && after[after.len() - 1] == published - 1);
    });
}

#[test]
fn a_json_client_is_told_how_many_it_has_missed() {
    for policy in [BacklogPolicy::DropOldest, BacklogPolicy::DropNewest, BacklogPolicy::Latest] {
        let subscribe = |client: &mut Client| {
            assert!(client.frame().expect("a welcome").text().contains("connected"));
            client.text(r#"{"type":"subscribe","topic":"stall"}"#);
            assert!(client.frame().expect("an answer").text().contains("subscribed"));
        };
        let Stall { server, mut stalled, published } = stall(3, policy, "/", subscribe);
        let (mut numbers, mut gaps) = (Vec::new(), 0);
        // What was dropped is told when the socket takes bytes again, after what waited then.
        for _ in 0..2 {
            stalled.send(&frame(PING, b"end"));
            let (more, told) = read_until_pong(&mut stalled);
            numbers.extend(more);
            gaps += told;
        }
        assert!(gaps > 0);
        assert_eq!(numbers.len() + gaps, published, "{policy:?}");
        assert_eq!(server.metric("messages_dropped_total") as usize, gaps);
    }
}

#[test]
fn one_message_larger_than_the_backlog_is_admitted_whole() {
    for policy in [BacklogPolicy::Close, BacklogPolicy::DropOldest, BacklogPolicy::DropNewest, BacklogPolicy::Latest] {
        let mut config = config(1);
        config.backlog_policy = policy;
        config.backlog = 1024;
        config.max_message = 8 << 20;
        let server = TestServer::start(config);
        let mut stalled = Client::ws_small(server.addr, "/raw/large");
        let text = "x".repeat(8 * MIB);
        server.publisher().publish("large", &text).expect("there is room");
        wait_until("it waits", || server.metric("backlogged_connections") == 1);
        stalled.expect_text(&text);
        server.publisher().publish("large", "small").expect("there is room");
        stalled.expect_text("small");
        assert_eq!(server.metric("messages_dropped_total"), 0);
    }
}

/// Sends pings without reading, sees the server stop reading, and then reads all pongs; `peak` memory in bytes.
fn flood(server: &Process, path: &str, bytes: &[u8], count: usize, answer: &[u8]) -> u64 {
    let mut reader = Client::ws_small(server.addr, path);
    let mut writer = Client::from(reader.stream.try_clone().expect("a descriptor"));
    let (before, earlier) = (server.resident(), server.metric("received_bytes_total"));
    let many = bytes.repeat(100);
    if !path.starts_with("/raw/") {
        assert!(reader.frame().expect("a welcome").text().contains("connected"));
    }
    let writing = thread::spawn(move || (0..count / 100).for_each(|_| writer.send(&many)));
    let mut received = 0;
    wait_until("the flood is not read any more", || {
        thread::sleep(Duration::from_millis(50));
        let last = std::mem::replace(&mut received, server.metric("received_bytes_total") - earlier);
        received > 1000 && last == received
    });
    let received = received as usize;
    assert!(received < bytes.len() * count, "{received} bytes were read");
    let mut peak = server.resident();
    for i in 0..count {
        let frame = reader.frame().expect("an answer");
        assert!(frame.payload.starts_with(answer), "{frame:?}");
        if i % 1000 == 0 {
            peak = peak.max(server.resident());
        }
    }
    writing.join().expect("all was sent");
    peak.saturating_sub(before)
}

#[test]
fn who_asks_without_reading_is_not_read_from() {
    let server = Process::start(&["--shards=1"]);
    let payload = [b'p'; 125];
    let grown = flood(&server, "/raw/flood", &frame(PING, &payload), 200_000, &payload);
    assert!(grown < 8 * MIB as u64, "{grown} bytes");
    let ping = frame(TEXT, br#"{"type":"ping","filler":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#);
    let grown = flood(&server, "/", &ping, 200_000, br#"{"type":"pong""#);
    assert!(grown < 8 * MIB as u64, "{grown} bytes");
}

#[test]
fn stalled_readers_share_what_they_have_not_read() {
    let server = Process::start(&["--shards=1", "--backlog=64MiB"]);
    let mut stalled: Vec<_> = (0..30).map(|_| Client::ws_small(server.addr, "/raw/shared")).collect();
    let mut publisher = server.ws("/raw/shared?self=false");
    let text = "x".repeat(16 << 10);
    let count = 16 * MIB / text.len();
    // Read buffers are touched first.
    let mut first = server.ws("/raw/first");
    (0..count / 4).for_each(|_| first.text(&text));
    (0..count / 4).for_each(|_| first.expect_text(&text));
    let before = server.resident();
    (0..count).for_each(|_| publisher.text(&text));
    publisher.send(&frame(PING, b"all is read"));
    publisher.expect(PONG, b"all is read");
    wait_until("all are blocked", || server.metric("backlogged_connections") == 30);
    let grown = server.resident().saturating_sub(before);
    assert!(grown <= 24 * MIB as u64, "{grown} bytes");
    for _ in 0..count {
        stalled[0].expect_text(&text);
    }
    // When nobody waits for them any more, they are gone.
    drop(stalled);
    wait_until("the frames are freed", || server.metric("memory_bytes part=\"frames\"") == 0);
}
