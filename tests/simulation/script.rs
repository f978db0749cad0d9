//! What a client sets out to do, and the request that it begins with.

use super::oracle::Oracle;
use super::plan::Plan;
use super::wire::upgrade;
use crate::common::rng::Rng;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Persona {
    /// Speaks `raw`.
    Raw { topic: usize, own: bool },
    /// Speaks `json`.
    Json,
    /// Speaks it too, and goes on where another that is gone was.
    Follower,
    /// Reads a stream of Server-Sent Events, and goes on where another that is gone was.
    Reader,
    /// Speaks `json`, wants everything acknowledged, and has a backend.
    Sender,
    /// Speaks `json`, and may not do everything.
    Guest,
    /// Is one.
    Backend,
    /// Asks for pages.
    Visitor,
    /// Sends a head that is refused.
    Rude,
    /// Sends nothing, or half a head.
    Dawdler,
}

/// What a client begins with: its bytes, and the statuses that it expects for them.
pub struct Opening {
    pub bytes: String,
    pub expected: Vec<u16>,
}

impl Persona {
    pub fn new(plan: &Plan, rng: &mut Rng) -> Persona {
        if plan.guard.is_some() && rng.percent(40) {
            return Persona::Guest;
        }
        let rude = rng.percent(plan.rude);
        match rng.below(13) {
            0 | 1 if rude => Persona::Rude,
            2 | 3 if rude => Persona::Dawdler,
            4 if !plan.calm => Persona::Visitor,
            5 => Persona::Follower,
            6 => Persona::Reader,
            7 | 8 => Persona::Sender,
            9 | 10 if plan.backends => Persona::Backend,
            9.. => Persona::Json,
            _ => Persona::Raw { topic: rng.below(plan.topics), own: rng.percent(60) },
        }
    }

    pub fn opening(self, oracle: &Oracle, rng: &mut Rng) -> Opening {
        let extra = if rng.percent(25) { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        match self {
            Persona::Raw { topic, own } => {
                let query = if own { "" } else { "?self=false" };
                let path = format!("/raw/{}{query}", oracle.names[topic]);
                after_pages(rng, upgrade(&path, extra), 101)
            }
            Persona::Json | Persona::Follower => {
                let path =
                    rng.pick(&["/game", "/game", "/game?recover=true", "/game?recover=true&epoch=none&offset=7"]);
                after_pages(rng, upgrade(path, extra), 101)
            }
            Persona::Guest => after_pages(rng, upgrade("/game", extra), 101),
            // What they ask for is said when it is known who was there before.
            Persona::Reader | Persona::Sender | Persona::Backend => {
                Opening { bytes: String::new(), expected: Vec::new() }
            }
            Persona::Visitor => {
                let last = "GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned();
                after_pages(rng, last, 200)
            }
            Persona::Rude => refused(rng),
            Persona::Dawdler => {
                let head = upgrade("/game", "");
                Opening { bytes: head[..rng.below(head.len())].to_owned(), expected: vec![408] }
            }
        }
    }
}

/// A request, at times after others on the same connection.
pub fn after_pages(rng: &mut Rng, last: String, status: u16) -> Opening {
    let pages = if rng.percent(20) { rng.between(1, 4) } else { 0 };
    let mut bytes = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n".repeat(pages);
    bytes.push_str(&last);
    let mut expected = vec![200; pages];
    expected.push(status);
    Opening { bytes, expected }
}

fn refused(rng: &mut Rng) -> Opening {
    let whole = upgrade("/game", "");
    let (bytes, status) = match rng.below(9) {
        0 => ("G\u{1}T / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        1 => (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(2_000)), 431),
        2 => (whole.replace("Version: 13", "Version: 8"), 426),
        3 => (whole.replace("dGhlI", "dGhl"), 400),
        4 => (upgrade("/raw/", ""), 400),
        5 => (upgrade("/sse", "Connection: close\r\n"), 404),
        6 => (upgrade("/backend?key=correct-horse", ""), 401),
        7 => ("POST / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405),
        _ => (upgrade("/raw/x", "").replace("Upgrade: websocket\r\n", "Connection: close\r\n"), 426),
    };
    Opening { bytes, expected: vec![status] }
}

/// How to break the protocol: bytes, and the close code that they are answered with.
pub fn violation(rng: &mut Rng) -> (Vec<u8>, u16) {
    use super::wire::{CLOSE, PING, TEXT, control, frame};
    match rng.below(9) {
        0 => (vec![0x81, 1, b'x'], 1002),
        1 => (frame(0x83, b"", rng), 1002),
        2 => (frame(0x81, b"\xff\xfe", rng), 1007),
        // Too large to be skipped, too.
        3 => ([&[0x82, 0xff][..], &(16 * 100_000 + 1_u64).to_be_bytes(), &[1, 2, 3, 4]].concat(), 1009),
        4 => (frame(0x80, b"x", rng), 1002),
        5 => (frame(0xa1, b"x", rng), 1002),
        6 => (control(CLOSE, &1005u16.to_be_bytes(), rng), 1002),
        7 => (frame(PING, b"", rng), 1002),
        _ => ([frame(TEXT, b"x", rng), frame(0x80 | TEXT, b"y", rng)].concat(), 1002),
    }
}
