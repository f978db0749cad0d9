//! HTTP and WebSocket as a client has them, written without the server's code.

use std::collections::VecDeque;

use crate::common::rng::Rng;

/// A WebSocket frame of the server.
#[derive(PartialEq, Eq, Debug)]
pub enum Frame {
    Text { compressed: bool, payload: Vec<u8> },
    Binary { compressed: bool, payload: Vec<u8> },
    Close(Option<u16>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

/// A response of the server.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Response {
    /// Whether it is the connection's last.
    pub fn closes(&self) -> bool {
        self.head.contains("\r\nConnection: close")
    }
}

/// What has arrived and is not whole.
#[derive(Default)]
pub struct Reader {
    bytes: VecDeque<u8>,
}

impl Reader {
    pub fn push(&mut self, bytes: impl Iterator<Item = u8>) {
        self.bytes.extend(bytes);
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn response(&mut self) -> Option<Response> {
        let bytes = self.bytes.make_contiguous();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is text");
        let status = head.strip_prefix("HTTP/1.1 ").expect("a status line")[..3].parse().expect("a status");
        let length = head
            .split_once("\r\nContent-Length: ")
            .map_or(0, |(_, rest)| rest.split_once('\r').expect("a line").0.parse().expect("a length"));
        let body = String::from_utf8(bytes.get(end..end + length)?.to_vec()).expect("a body of text");
        self.bytes.drain(..end + length);
        Some(Response { status, head, body })
    }

    /// A block of an event stream: some lines, and an empty one.
    pub fn block(&mut self) -> Option<String> {
        let end = self.bytes.make_contiguous().windows(2).position(|window| window == b"\n\n")? + 2;
        Some(String::from_utf8(self.bytes.drain(..end).collect()).expect("a stream is text"))
    }

    pub fn frame(&mut self) -> Option<Frame> {
        let bytes = self.bytes.make_contiguous();
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        assert_eq!(first & 0xb0, 0x80, "a server's frame is whole, and nothing but RSV1 was agreed on: {}", shown());
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let (header, len) = match second {
            126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()))),
            127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap())),
            short => (2, u64::from(short)),
        };
        assert_eq!(
            header,
            if len < 126 {
                2
            } else if len < 65536 {
                4
            } else {
                10
            },
            "the shortest length"
        );
        assert!(len < 1 << 20, "a length that nobody has published");
        let payload = bytes.get(header..header + len as usize)?.to_vec();
        self.bytes.drain(..header + payload.len());
        assert!(first & 0x40 == 0 || first & 0x0f < 3, "a compressed control frame");
        assert!(first & 0x08 == 0 || len < 126, "a large control frame");
        let compressed = first & 0x40 != 0;
        Some(match first & 0x0f {
            1 => Frame::Text { compressed, payload },
            2 => Frame::Binary { compressed, payload },
            8 => Frame::Close(close_code(&payload)),
            9 => Frame::Ping(payload),
            10 => Frame::Pong(payload),
            opcode => panic!("opcode {opcode}"),
        })
    }
}

fn close_code(payload: &[u8]) -> Option<u16> {
    assert_ne!(payload.len(), 1, "half a close code");
    std::str::from_utf8(payload.get(2..).unwrap_or_default()).expect("a reason in UTF-8");
    Some(u16::from_be_bytes([*payload.first()?, *payload.get(1)?]))
}

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A frame of a client; `first` is its first byte.
pub fn frame(first: u8, payload: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len @ 126..65536 => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    let key = (rng.bits() as u32).to_be_bytes();
    out.extend(key);
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// A control frame.
pub fn control(opcode: u8, payload: &[u8], rng: &mut Rng) -> Vec<u8> {
    frame(0x80 | opcode, payload, rng)
}

/// A message, in one frame or in fragments, with pings of no payload in between.
pub fn message(opcode: u8, payload: &[u8], rng: &mut Rng, mut pinged: impl FnMut()) -> Vec<u8> {
    if rng.percent(70) {
        return frame(0x80 | opcode, payload, rng);
    }
    let mut out = Vec::new();
    let (mut opcode, mut rest) = (opcode, payload);
    for _ in 0..rng.below(3) {
        let (now, later) = rest.split_at(rng.between(0, rest.len()));
        out.extend(frame(opcode, now, rng));
        (opcode, rest) = (0, later);
        if rng.percent(30) {
            out.extend(control(PING, &[], rng));
            pinged();
        }
    }
    out.extend(frame(0x80 | opcode, rest, rng));
    out
}

/// A WebSocket handshake.
pub fn upgrade(path: &str, extra: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extra}\r\n"
    )
}

/// What answers the key of [`upgrade`] (RFC 6455 section 1.3).
pub const ACCEPT: &str = "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
