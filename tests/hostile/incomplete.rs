//! Messages and bodies that are begun and not ended, by so many that a shard does not keep all of them. The healthy send messages
//! that come in two segments, and ask for something.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use super::arena::Arena;
use super::common::client::{BINARY, PONG, frame, masked_header};
use super::common::{Client, Process, wait_until};
use super::crowd::{End, connect, end_of, ends, push, upgraded};
use super::healthy::Entrance;

/// More than a shard keeps of what is incomplete.
const HOGS: usize = 270;
const LARGE: usize = 1_048_000;
const SECRET: &str = "a-secret-of-more-than-16-characters";

/// Sends something large to each, a piece in each round, so that all of them go on at the same time. Whoever is closed meanwhile is
/// not written to any more.
fn fill(streams: &mut [TcpStream], first: &[u8]) {
    let piece = vec![7; 48 << 10];
    streams.iter_mut().for_each(|stream| _ = push(stream, first));
    let mut left = vec![LARGE; streams.len()];
    let begin = Instant::now();
    while left.iter().any(|&left| left > 0) && begin.elapsed() < Duration::from_secs(30) {
        for (stream, left) in streams.iter_mut().zip(&mut left).filter(|(_, left)| **left > 0) {
            *left -= super::crowd::write_some(stream, &piece[..piece.len().min(*left)]).unwrap_or(*left);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Messages of 40 kB, each in two segments with a pause between, from one client to another.
fn halves(server: &Process, query: &str, messages: usize) {
    let mut reader = server.ws(&format!("/raw/halves?{query}"));
    let mut sender = server.ws(&format!("/raw/halves?self=false&{query}"));
    thread::sleep(Duration::from_millis(100));
    let message = frame(BINARY, &[5; 40_000]);
    for _ in 0..messages {
        sender.send(&message[..20_000]);
        thread::sleep(Duration::from_millis(20));
        sender.send(&message[20_000..]);
        reader.expect(BINARY, &[5; 40_000]);
    }
}

/// Those of them that are closed, and how; nobody else is waited for.
fn closed(streams: &mut [TcpStream]) -> Vec<(End, usize)> {
    streams.iter_mut().for_each(|stream| {
        stream.set_read_timeout(Some(Duration::from_millis(5))).expect("a time-out");
    });
    ends(streams)
}

#[test]
fn messages_that_are_begun() {
    let args = ["--shards=1", "--message-timeout=10s"];
    let arena = Arena::on(Process::start(&args), &Entrance::default(), Vec::new());
    let (after, (early, late)) = arena.attack("messages of 1 MB that are begun, 270", |server| {
        let mut hogs = upgraded(server.addr, "/raw/hogs", HOGS);
        fill(&mut hogs, &masked_header(BINARY, LARGE as u64));
        halves(server, "", 20);
        let early = closed(&mut hogs);
        wait_until("all are closed", || {
            hogs.iter_mut().for_each(|hog| _ = push(hog, &frame(PONG, b"")));
            server.metric("memory_bytes part=\"partial_messages\"") < 1 << 20
        });
        (early, closed(&mut hogs))
    });
    let gone = after.rose("connections_closed_total reason=\"incomplete\"");
    assert!((1..200).contains(&gone), "{gone} of 270 are too many for 256 MiB");
    after.rises("connections_closed_total reason=\"message_timeout\"", HOGS as u64 - gone);
    assert!(early.iter().all(|(end, _)| [End::Close(1013), End::Silent, End::Open].contains(end)), "{early:?}");
    assert!(late.iter().all(|(end, _)| [End::Close(1008), End::Silent].contains(end)), "{late:?}");
}

fn token() -> String {
    let claims = json!({"sub": "ann", "exp": 4_000_000_000u64});
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("a token")
}

#[test]
fn bodies_that_are_begun() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("uproar.toml");
    std::fs::write(&config, format!("jwt_secret = \"{SECRET}\"\n")).expect("a file");
    let args = ["--shards=1", "--head-timeout=10s", &format!("--config={}", config.display())];
    let entrance = Entrance { token: token(), ..Entrance::default() };
    let arena = Arena::on(Process::start(&args), &entrance, Vec::new());
    let (after, statuses) = arena.attack("bodies of 1 MB that are begun, 270 with a token and 270 without", |server| {
        let head = |fields: &str| {
            let fields = format!("Host: a\r\nContent-Type: text/plain\r\nContent-Length: 1048576\r\n{fields}\r\n");
            format!("POST /publish HTTP/1.1\r\n{fields}")
        };
        // Without a good one, nothing is kept.
        let mut strangers = connect(server.addr, HOGS);
        let bad = format!("Authorization: Bearer {}\r\n", token().replace('.', "_"));
        for (n, stranger) in strangers.iter_mut().enumerate() {
            assert!(push(stranger, head(if n % 2 == 0 { "" } else { &bad }).as_bytes()));
            assert_eq!(end_of(stranger), End::Status(401));
        }
        assert!(server.metric("memory_bytes part=\"partial_messages\"") < 1 << 20);
        let mut hogs = connect(server.addr, HOGS);
        fill(&mut hogs, head(&format!("Authorization: Bearer {}\r\n", token())).as_bytes());
        halves(server, &format!("access_token={}", token()), 20);
        // Newcomers come in, and post.
        for _ in 0..20 {
            let mut newcomer = Client::connect(server.addr);
            let body = r#"{"topic":"t","data":1}"#;
            let head = head(&format!("Authorization: Bearer {}\r\n", token())).replace("1048576", "22");
            newcomer.send(&head.as_bytes()[..head.len() - 9]);
            thread::sleep(Duration::from_millis(5));
            newcomer.send(&head.as_bytes()[head.len() - 9..]);
            newcomer.send(body.as_bytes());
            assert_eq!(newcomer.response().status, 200);
        }
        ends(&mut hogs)
    });
    let gone = after.rose("connections_closed_total reason=\"incomplete\"");
    assert!((1..200).contains(&gone), "{gone} of 270 are too many for 256 MiB");
    after.rises("connections_closed_total reason=\"head_timeout\"", HOGS as u64 - gone);
    let known = [End::Status(503), End::Status(408), End::Silent];
    assert!(statuses.iter().all(|(end, _)| known.contains(end)), "{statuses:?}");
}
