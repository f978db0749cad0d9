//! Those who are slow on purpose: heads, bodies and frames that come by the byte, and readers who do not read.

use std::net::TcpStream;
use std::time::Duration;

use super::arena::Arena;
use super::common::client::{BINARY, TEXT, frame, handshake};
use super::common::{Client, Process};
use super::crowd::{End, connect, ends, for_a_while, push};

const SECOND: Duration = Duration::from_secs(1);

/// Sends the bytes one by one, to all of them in each round, until they are closed.
fn drip(streams: &mut [TcpStream], bytes: &[u8], time: Duration) {
    for_a_while(time, Duration::from_millis(40), |round| {
        let byte = bytes[round % bytes.len()];
        streams.iter_mut().for_each(|stream| _ = push(stream, &[byte]));
    });
}

#[test]
fn slow_heads() {
    let (after, ends) = Arena::start(&["--head-timeout=1s"]).attack("heads by the byte, 300", |server| {
        let mut slow = connect(server.addr, 300);
        drip(&mut slow, handshake("/raw/t", &"X-Slow: loris\r\n".repeat(50)).as_bytes(), SECOND * 3 / 2);
        ends(&mut slow)
    });
    assert_eq!(ends, [(End::Status(408), 300)]);
    after.rises("connections_closed_total reason=\"head_timeout\"", 300);
}

#[test]
fn heads_that_never_begin() {
    let (after, ends) = Arena::start(&["--head-timeout=1s"]).attack("connections that say nothing, 500", |server| {
        let mut silent = connect(server.addr, 500);
        ends(&mut silent)
    });
    assert_eq!(ends, [(End::Silent, 500)]);
    after.rises("connections_closed_total reason=\"head_timeout\"", 500);
}

#[test]
fn slow_bodies() {
    let (after, ends) = Arena::start(&["--head-timeout=1s"]).attack("bodies by the byte, 300", |server| {
        let mut slow = connect(server.addr, 300);
        let head = "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n";
        slow.iter_mut().for_each(|stream| _ = push(stream, head.as_bytes()));
        drip(&mut slow, b" ", SECOND * 3 / 2);
        ends(&mut slow)
    });
    assert_eq!(ends, [(End::Status(408), 300)]);
    after.rises("connections_closed_total reason=\"head_timeout\"", 300);
    assert_eq!(after.rose("memory_bytes part=\"partial_messages\""), 0);
}

/// As many small things as there can be: frames of one byte, each byte in a segment of its own.
#[test]
fn one_byte_frames_in_one_byte_segments() {
    let (after, sent) = Arena::start(&[]).attack("frames of a byte, segments of a byte, 20", |server| {
        let mut clients: Vec<TcpStream> =
            (0..20).map(|n| Client::ws(server.addr, &format!("/raw/drip-{n}?self=false")).stream).collect();
        let bytes = frame(TEXT, b"x");
        let mut sent = 0;
        for_a_while(SECOND * 2, Duration::from_micros(500), |round| {
            let byte = bytes[round % bytes.len()];
            clients.iter_mut().for_each(|client| assert!(push(client, &[byte])));
            sent += 1;
        });
        20 * (sent / bytes.len()) as u64
    });
    assert!(sent > 1000, "{sent} messages are no flood");
    after.rises("messages_received_total", sent);
}

/// A reader that has stopped, on a topic that goes on.
fn stalled(server: &Process, readers: usize) -> Vec<TcpStream> {
    let mut stalled: Vec<TcpStream> = (0..readers).map(|_| Client::ws_small(server.addr, "/raw/busy").stream).collect();
    let mut publisher = server.ws("/raw/busy?self=false");
    let message = frame(BINARY, &[7; 4000]);
    for_a_while(SECOND * 2, Duration::from_millis(10), |_| publisher.send(&message.repeat(4)));
    stalled.iter_mut().for_each(|stream| stream.set_read_timeout(Some(SECOND)).expect("a time-out"));
    stalled
}

#[test]
fn readers_that_do_not_read() {
    let args = ["--send-buffer=16KiB", "--close-timeout=500ms"];
    let (after, ends) =
        Arena::start(&args).attack("readers that do not read, 100", |server| ends(&mut stalled(server, 100)));
    // The close frame stands behind what the socket does not take; who reads too late for that is cut.
    assert_eq!(ends.iter().map(|(_, count)| count).sum::<usize>(), 100);
    assert!(ends.iter().all(|(end, _)| [End::Close(1013), End::Silent].contains(end)), "{ends:?}");
    assert_eq!(after.rose("connections_closed_total reason=\"backlog\""), 100);
}
