//! What clients do, good and bad, each kind on a thread of its own, until it is over.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::common::Client;
use super::super::common::client::{
    BINARY, FIN, PONG, TEXT, close_payload, frame, handshake, masked_header, raw_frame,
};
use super::super::common::rng::Rng;
use super::super::crowd::{connect, push, upgraded};
use super::Site;

const ROOMS: usize = 50;
const TOPICS: usize = 200;
/// Connections that one churning thread keeps.
const POOL: usize = 150;

/// Begins all of it.
pub fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    site: &'scope Site,
    over: &'scope AtomicBool,
) -> Vec<ScopedJoinHandle<'scope, ()>> {
    let addr = site.server.addr;
    let goes_on = move || !over.load(Ordering::Relaxed);
    vec![
        scope.spawn(move || churn(addr, 1, goes_on)),
        scope.spawn(move || churn(addr, 2, goes_on)),
        scope.spawn(move || feed(addr, goes_on)),
        scope.spawn(move || come_back(addr, goes_on)),
        scope.spawn(move || stall(addr, goes_on)),
        scope.spawn(move || come_secured(site, goes_on)),
        scope.spawn(move || harm(addr, site.tls, goes_on)),
    ]
}

fn pause(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}

fn topic(rng: &mut Rng) -> String {
    format!("hist.{}", rng.below(TOPICS))
}

/// Clients who come, say and ask something, and go: in good order, by FIN or by RST.
fn churn(addr: SocketAddr, seed: u64, goes_on: impl Fn() -> bool) {
    let mut rng = Rng::new(seed);
    let mut pool: Vec<TcpStream> = Vec::new();
    while goes_on() {
        pool.push(newcomer(addr, &mut rng));
        for _ in 0..3 {
            let which = rng.below(pool.len());
            let words = words(&mut rng);
            push(&mut pool[which], &frame(TEXT, words.as_bytes()));
        }
        pool.retain_mut(drain);
        if pool.len() > POOL {
            let leaver = pool.swap_remove(rng.below(POOL));
            go(leaver, &mut rng);
        }
        pause(8);
    }
}

/// Asks for something, and does not wait for the answer.
fn newcomer(addr: SocketAddr, rng: &mut Rng) -> TcpStream {
    let mut stream = Client::connect(addr).stream;
    let head = match rng.below(10) {
        0 | 1 => handshake(&format!("/raw/{}", topic(rng)), ""),
        2 => format!("GET /sse?topic={}&topic={} HTTP/1.1\r\nHost: a\r\n\r\n", topic(rng), topic(rng)),
        3 => {
            let body = json!({"topic": topic(rng), "data": rng.below(1000)}).to_string();
            let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
            format!("POST /publish HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
        }
        4 => {
            handshake(&format!("/?room=room-{}", rng.below(ROOMS)), "Sec-WebSocket-Extensions: permessage-deflate\r\n")
        }
        _ => handshake(&format!("/?room=room-{}&recover=true", rng.below(ROOMS)), ""),
    };
    push(&mut stream, head.as_bytes());
    stream
}

/// One of the things that clients say.
fn words(rng: &mut Rng) -> String {
    let number = rng.below(1 << 20);
    match rng.below(12) {
        0 => json!({"type": "subscribe", "topics": [topic(rng), format!("last.{}", rng.below(50)), topic(rng)]}),
        1 => json!({"type": "unsubscribe", "topics": [topic(rng)]}),
        2 => {
            let (one, past) = (topic(rng), json!({"epoch": "", "offset": 0}));
            json!({"type": "subscribe", "topics": [one], "recover": true, "since": {one.as_str(): past}})
        }
        3 => json!({"type": "publish", "topic": topic(rng), "data": {"n": number}, "id": number, "ack": true}),
        4 => {
            json!({"type": "publish", "topic": format!("last.{}", rng.below(50)), "data": "x".repeat(rng.below(2000))})
        }
        5 => json!({"type": "publish", "topic": format!("once.{number}"), "data": number}),
        6 => json!({"type": "chat", "text": "x".repeat(rng.below(500))}),
        7 => json!({"type": "presence"}),
        8 => json!({"type": "ping"}),
        9 => json!({"type": "text", "receiver": format!("room-{}", rng.below(ROOMS)), "content": number}),
        10 => json!({"type": "subscribe", "topics": [format!("once.{number}")], "recover": true}),
        _ => json!({"type": "no such type", "id": number}),
    }
    .to_string()
}

/// Reads and forgets what has come; whether the connection is still there.
fn drain(stream: &mut TcpStream) -> bool {
    let mut sink = [0; 64 * 1024];
    stream.set_nonblocking(true).expect("a socket");
    let there = match stream.read(&mut sink) {
        Ok(len) => len > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    };
    stream.set_nonblocking(false).expect("a socket");
    there
}

fn go(mut stream: TcpStream, rng: &mut Rng) {
    match rng.below(3) {
        0 => Client::from(stream).reset(),
        1 => drop(push(&mut stream, &frame(8, &close_payload(1000, "")))),
        _ => drop(stream),
    }
}

/// Publishers of what others read, stall on and come back for. They do not answer pings, and come anew before that is noticed.
fn feed(addr: SocketAddr, goes_on: impl Fn() -> bool) {
    let mut rng = Rng::new(3);
    while goes_on() {
        let mut busy = Client::ws(addr, "/raw/busy?self=false");
        let mut many = Client::json(addr, "feeder");
        let begin = Instant::now();
        while goes_on() && begin.elapsed() < Duration::from_secs(4) {
            busy.send(&frame(BINARY, &[7; 4096]));
            for _ in 0..4 {
                let data = "y".repeat(rng.below(1000));
                many.text(&json!({"type": "publish", "topic": topic(&mut rng), "data": data}).to_string());
            }
            pause(20);
        }
        busy.close(1000);
        many.close(1000);
    }
}

/// Where a client was in a topic.
type Place = (String, u64);

/// Clients who go on where they were. What they are told has neither a hole that is not told nor anything twice.
fn come_back(addr: SocketAddr, goes_on: impl Fn() -> bool) {
    let mut rng = Rng::new(4);
    let mut places: Vec<Place> = vec![(String::new(), 0); TOPICS];
    while goes_on() {
        let which = rng.below(TOPICS);
        places[which] = recover(addr, which, &places[which]);
        pause(25);
    }
}

fn recover(addr: SocketAddr, which: usize, place: &Place) -> Place {
    let topic = format!("hist.{which}");
    let mut client = Client::json(addr, "comeback");
    let since = json!({topic.as_str(): {"epoch": place.0, "offset": place.1}});
    client.text(&json!({"type": "subscribe", "topics": [topic], "recover": true, "since": since}).to_string());
    let mut next = |kinds: &[&str]| loop {
        let frame = client.frame().expect("a message");
        let Ok(message) = serde_json::from_slice::<Value>(&frame.payload) else { continue };
        if kinds.contains(&message["type"].as_str().unwrap_or_default())
            && (message["topic"] == topic || kinds[0] == "subscribed")
        {
            return message;
        }
    };
    let subscribed = next(&["subscribed"]);
    let now = &subscribed["topics"][0];
    let (epoch, until) = (now["epoch"].as_str().expect("an epoch"), now["offset"].as_u64().expect("an offset"));
    let mut at = if epoch == place.0 { place.1 } else { 0 };
    while at < until {
        let message = next(&["message", "gap"]);
        if message["type"] == "message" {
            let offset = message["offset"].as_u64().expect("an offset");
            assert_eq!(offset, at + 1, "{topic}: {message} behind {at}, of {until}");
            at = offset;
        } else if let Some(to) = message["to"].as_u64() {
            assert_eq!(message["from"].as_u64(), Some(at + 1), "{topic}: {message} behind {at}");
            at = to;
        }
    }
    client.close(1000);
    (epoch.to_owned(), until)
}

/// Readers who stop, some of them at a time.
fn stall(addr: SocketAddr, goes_on: impl Fn() -> bool) {
    let mut stalled: Vec<Vec<Client>> = Vec::new();
    while goes_on() {
        stalled.push((0..5).map(|_| Client::ws_small(addr, "/raw/busy")).collect());
        if stalled.len() > 5 {
            stalled.remove(0);
        }
        pause(700);
    }
}

/// Clients over TLS: a whole handshake, some words, and away.
fn come_secured(site: &Site, goes_on: impl Fn() -> bool) {
    let mut round = 0;
    while goes_on() {
        round += 1;
        let mut client = site.secured(round).upgrade(&format!("/raw/secured-{}", round % 7));
        for n in 0..5 {
            client.text(&format!("{round} {n}"));
            assert_eq!(client.frame().text(), format!("{round} {n}"));
        }
        if round % 2 == 0 {
            client.stream.conn.send_close_notify();
            client.stream.flush().expect("it takes bytes");
        }
        pause(60);
    }
}

/// A little of each attack, one after the other.
fn harm(addr: SocketAddr, tls: SocketAddr, goes_on: impl Fn() -> bool) {
    let mut rng = Rng::new(5);
    while goes_on() {
        let mut crowd = match rng.below(9) {
            0 => with(upgraded(addr, "/raw/t", 5), &masked_header(FIN | BINARY, u64::MAX >> 1)),
            1 => with(upgraded(addr, "/raw/t", 5), b"\x81\x05hello"),
            2 => with(upgraded(addr, "/?room=t", 3), &frame(TEXT, b"\xff\xfe")),
            3 => with(upgraded(addr, "/raw/t", 2), &frame(PONG, b"").repeat(20_000)),
            4 => with(upgraded(addr, "/raw/t", 10), &raw_frame(BINARY, &[7; 30_000])),
            5 => with(connect(addr, 20), b"GET /raw/t HTTP/1.1\r\nHos"),
            6 => with(
                connect(addr, 10),
                b"POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            ),
            7 => with(connect(tls, 10), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
            _ => with(connect(addr, 30), b""),
        };
        pause(80);
        if rng.percent(50) {
            crowd.drain(..).for_each(|stream| Client::from(stream).reset());
        }
    }
}

fn with(mut crowd: Vec<TcpStream>, bytes: &[u8]) -> Vec<TcpStream> {
    crowd.iter_mut().for_each(|stream| _ = push(stream, bytes));
    crowd
}
