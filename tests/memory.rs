//! What the server gives up when it is short of memory, and in which order: newcomers, histories, the largest backlogs. Each server
//! is a process of its own, with little memory.

mod common;

use std::thread;
use std::time::Duration;

use common::client::{BINARY, CLOSE, FIN, frame, masked_header};
use common::{Client, Process, wait_until};
use serde_json::json;

const MAX: u64 = 128 << 20;

fn start(args: &[&str]) -> Process {
    Process::start(&[&["--shards=1", "--max-memory=128MiB"], args].concat())
}

/// Sends until something is counted: fast at first, then so slowly that no step is passed between two looks.
fn fill(server: &Process, counter: &str, mut send: impl FnMut()) {
    for _ in 0..5000 {
        send();
        let resident = server.resident();
        assert!(resident < MAX + MAX / 4, "{resident} bytes are resident");
        if resident > MAX / 10 * 7 {
            if server.metric(counter) > 0 {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
    panic!("in vain: {counter}");
}

/// A client that was there before, whose messages go on.
fn still_served(client: &mut Client) {
    client.text("hello");
    client.expect_text("hello");
}

#[test]
fn histories_go_before_connections() {
    let server = start(&["--history=h* count=100000 age=1h bytes=64MiB", "--history-memory=1GiB"]);
    let mut client = server.ws("/raw/ok");
    let mut publishers = [0, 1, 2, 3].map(|n| server.ws(&format!("/raw/h{n}?self=false")));
    let message = frame(BINARY, &[7; 32 << 10]);
    fill(&server, "history_evicted_total reason=\"max_memory\"", || {
        publishers.iter_mut().for_each(|publisher| publisher.send(&message))
    });
    assert_eq!(server.metric("connections_closed_total reason=\"memory\""), 0);
    still_served(&mut client);
    // Once there is enough, newcomers are let in again.
    wait_until("newcomers are let in", || {
        let mut newcomer = Client::connect(server.addr);
        newcomer.send_anyway(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        newcomer.response().status == 200
    });
    assert!(server.resident() < MAX / 10 * 8);
}

#[test]
fn the_largest_backlog_goes_first() {
    let server = start(&["--backlog=256MiB", "--send-buffer=4KiB", "--byte-rate=off"]);
    let mut client = server.ws("/raw/ok");
    let topics: Vec<String> = (0..6).map(|n| format!("/raw/t{n}")).collect();
    let mut stalled: Vec<Client> = topics.iter().map(|topic| Client::ws_small(server.addr, topic)).collect();
    let mut publishers: Vec<Client> = topics.iter().map(|topic| server.ws(&format!("{topic}?self=false"))).collect();
    let message = frame(BINARY, &[7; 16 << 10]);
    fill(&server, "messages_dropped_total reason=\"memory\"", || {
        publishers.iter_mut().for_each(|publisher| publisher.send(&message));
        publishers[3].send(&message.repeat(3));
    });
    let last = std::iter::from_fn(|| stalled[3].frame()).find(|frame| frame.opcode() == CLOSE).expect("a close frame");
    assert_eq!((last.code(), &last.payload[2..]), (1013, &b"short of memory"[..]));
    stalled[3].close(1013);
    wait_until("it is counted", || server.metric("connections_closed_total reason=\"memory\"") > 0);
    assert_eq!(server.metric("connections_closed_total reason=\"memory\""), 1, "that was enough");
    still_served(&mut client);
    assert!(server.metric("connections_refused_total reason=\"memory\"") == 0, "nobody came");
}

/// Without a bound too: what a burst has needed does not stay with the process.
#[test]
fn memory_of_a_burst_is_given_back() {
    let server = Process::start(&["--shards=1", "--max-message=16MiB"]);
    let mut client = server.ws("/raw/ok");
    still_served(&mut client);
    let before = server.resident();
    let mut begun: Vec<Client> = (0..60).map(|_| server.ws("/raw/t")).collect();
    let part = [&masked_header(FIN | BINARY, 16 << 20)[..], &[7; 1 << 20]].concat();
    begun.iter_mut().for_each(|client| client.send(&part));
    wait_until("it is kept", || server.metric("memory_bytes part=\"partial_messages\"") >= 60 << 20);
    assert!(server.resident() >= before + (60 << 20));
    drop(begun);
    wait_until("it is given back", || server.resident() < before + (16 << 20));
    still_served(&mut client);
}

/// What a shard kept of another's publishers is memory that only the other can give back.
#[test]
fn memory_of_histories_is_given_back_wherever_it_came_from() {
    let history = "--history=h count=100000 age=2s bytes=64MiB";
    let server = Process::start(&["--shards=2", history, "--history-memory=1GiB"]);
    let mut publishers: Vec<Client> = (0..16).map(|_| Client::connect(server.addr)).collect();
    let before = server.resident();
    let body = json!({"topic": "h", "data": "x".repeat(48 << 10)}).to_string();
    let head = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    for _ in 0..80 {
        publishers.iter_mut().for_each(|publisher| publisher.send(request.as_bytes()));
        publishers.iter_mut().for_each(|publisher| assert_eq!(publisher.response().status, 200));
    }
    assert!(server.resident() >= before + (50 << 20), "it is kept");
    wait_until("it is given back", || server.resident() < before + (8 << 20));
    wait_until("nothing is kept", || server.metric("memory_bytes part=\"history\"") == 0);
}
