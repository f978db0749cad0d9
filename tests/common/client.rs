//! A blocking client that sends whatever bytes a test wants and reads no further than it must.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, SockRef, Socket, Type};

use super::PATIENCE;

pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to [`KEY`], from RFC 6455 section 1.3.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
pub const FIN: u8 = 0x80;
pub const RSV1: u8 = 0x40;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A whole, masked frame.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    raw_frame(FIN | opcode, payload)
}

/// A masked frame with any first byte.
pub fn raw_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = masked_header(first, payload.len() as u64);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The header of a masked frame.
pub fn masked_header(first: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match len {
        0..=125 => bytes.push(0x80 | len as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

/// The payload of a close frame.
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// The head of a handshake.
pub fn handshake(path: &str, fields: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{fields}\r\n"
    )
}

/// A frame from the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// FIN, the reserved bits and the opcode.
    pub first: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("text is UTF-8")
    }

    /// The code of a close frame; 1005 if it has none.
    pub fn code(&self) -> u16 {
        assert_eq!(self.opcode(), CLOSE, "{self:?}");
        self.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = String::from_utf8_lossy(&self.payload[..self.payload.len().min(64)]);
        write!(f, "frame {:#04x} of {} bytes: {shown:?}", self.first, self.payload.len())
    }
}

/// A response to a plain request.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Status line and fields.
    pub head: String,
    pub body: String,
}

impl Response {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

pub struct Client {
    pub stream: TcpStream,
    /// Read and not yet taken, from `at` on.
    buffer: Vec<u8>,
    at: usize,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Client {
        Client::from(TcpStream::connect(addr).expect("the server accepts"))
    }

    /// A client whose receive buffer is as small as the kernel allows, so that not reading shows soon.
    pub fn connect_small(addr: SocketAddr) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(2048).expect("a small buffer");
        socket.connect(&addr.into()).expect("the server accepts");
        Client::from(TcpStream::from(socket))
    }

    /// A client of another address of this machine: `127.0.0.2`.
    pub fn connect_from(from: &str, addr: SocketAddr) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let from = SocketAddr::new(from.parse().expect("an address"), 0);
        socket.bind(&from.into()).expect("all of 127.0.0.0/8 is ours");
        socket.connect(&addr.into()).expect("the server accepts");
        Client::from(TcpStream::from(socket))
    }

    pub fn from(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Client { stream, buffer: Vec::new(), at: 0 }
    }

    /// A client whose WebSocket is open.
    pub fn ws(addr: SocketAddr, path: &str) -> Client {
        Client::connect(addr).upgrade(path, "").0
    }

    /// A client of the `json` dialect, alone in a room, that was welcomed.
    pub fn json(addr: SocketAddr, room: &str) -> Client {
        let mut client = Client::ws(addr, &format!("/?room={room}"));
        assert!(client.frame().expect("a welcome").text().contains("\"connected\""));
        client
    }

    /// As [`Client::ws`], with a small receive buffer.
    pub fn ws_small(addr: SocketAddr, path: &str) -> Client {
        Client::connect_small(addr).upgrade(path, "").0
    }

    /// Opens a WebSocket; the head of the answer.
    pub fn upgrade(mut self, path: &str, fields: &str) -> (Client, String) {
        self.send(handshake(path, fields).as_bytes());
        let head = self.switched();
        (self, head)
    }

    /// The head of the answer to a handshake, which must be 101.
    pub fn switched(&mut self) -> String {
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
        assert!(head.contains(&format!("Sec-WebSocket-Accept: {ACCEPT}\r\n")), "{head}");
        head
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes bytes");
    }

    /// Sends what the server may not want any more.
    pub fn send_anyway(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    #[track_caller]
    pub fn text(&mut self, text: &str) {
        self.send(&frame(TEXT, text.as_bytes()));
    }

    #[track_caller]
    pub fn close(&mut self, code: u16) {
        self.send(&frame(CLOSE, &close_payload(code, "")));
    }

    pub fn shut_write(&self) {
        self.stream.shutdown(Shutdown::Write).expect("it was open");
    }

    /// Ends the connection with RST.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a lingering time");
    }

    /// Reads on; `false` at the end of the stream.
    #[track_caller]
    fn more(&mut self) -> bool {
        if self.at > 0 && self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        }
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(len) => {
                self.buffer.extend_from_slice(&chunk[..len]);
                true
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) => panic!("reading failed: {error}; so far: {:?}", String::from_utf8_lossy(self.unread())),
        }
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// The next `len` bytes; `None` if the stream ends before the first.
    #[track_caller]
    pub fn bytes(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.unread().len() < len {
            if !self.more() {
                assert!(self.unread().is_empty(), "the stream ends amid {len} bytes: {:?}", self.unread());
                return None;
            }
        }
        let bytes = self.unread()[..len].to_vec();
        self.at += len;
        Some(bytes)
    }

    /// The next head.
    #[track_caller]
    pub fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.unread().windows(4).position(|window| window == b"\r\n\r\n") {
                let head = self.bytes(end + 4).expect("it is there");
                return String::from_utf8(head).expect("a head is text");
            }
            assert!(self.more(), "the stream ends before the head: {:?}", String::from_utf8_lossy(self.unread()));
        }
    }

    /// The next response, to a `GET`.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        let head = self.head();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut response = Response { status, head, body: String::new() };
        let len = response.field("Content-Length").expect("a length").parse().expect("a number");
        response.body = String::from_utf8(self.bytes(len).unwrap_or_default()).expect("a body is text");
        response
    }

    /// The next frame; `None` at the end of the stream.
    #[track_caller]
    pub fn frame(&mut self) -> Option<Frame> {
        let start = self.bytes(2)?;
        assert_eq!(start[1] & 0x80, 0, "a server does not mask");
        let len = match start[1] {
            126 => u64::from(u16::from_be_bytes(self.bytes(2)?.try_into().expect("two bytes"))),
            127 => u64::from_be_bytes(self.bytes(8)?.try_into().expect("eight bytes")),
            short => u64::from(short),
        };
        let payload = self.bytes(len as usize).expect("the payload follows");
        Some(Frame { first: start[0], payload })
    }

    #[track_caller]
    pub fn expect(&mut self, opcode: u8, payload: &[u8]) {
        let expected = Frame { first: FIN | opcode, payload: payload.to_vec() };
        let frame = self.frame().unwrap_or_else(|| panic!("the stream ends before {expected:?}"));
        assert!(frame == expected, "{frame:?} instead of {expected:?}");
    }

    #[track_caller]
    pub fn expect_text(&mut self, text: &str) {
        self.expect(TEXT, text.as_bytes());
    }

    /// The code of the close frame that must come next.
    #[track_caller]
    pub fn close_code(&mut self) -> u16 {
        self.frame().expect("a close frame").code()
    }

    /// The server must have ended the stream in good order, after nothing more.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let left = self.bytes(1);
        assert!(left.is_none(), "{left:?} instead of the end");
    }

    /// Whether the server ends the connection, by FIN or RST, whatever comes before.
    pub fn ends(&mut self) -> bool {
        let mut sink = [0; 4096];
        loop {
            match self.stream.read(&mut sink) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == ErrorKind::ConnectionReset,
            }
        }
    }
}

/// The next message, which is JSON.
#[track_caller]
pub fn next(client: &mut Client) -> Value {
    let frame = client.frame().expect("a message, not the end");
    assert_eq!(frame.opcode(), TEXT, "{frame:?}");
    serde_json::from_str(frame.text()).expect("JSON")
}

/// What is answered to a message.
#[track_caller]
pub fn ask(client: &mut Client, message: &Value) -> Value {
    client.text(&message.to_string());
    next(client)
}

/// The answer to a handshake.
pub fn knock(addr: SocketAddr, path: &str, fields: &str) -> Result<Client, Response> {
    let mut client = Client::connect(addr);
    client.send(handshake(path, fields).as_bytes());
    let head = client.head();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    if status == 101 { Ok(client) } else { Err(Response { status, head, body: String::new() }) }
}

/// Sends a handshake with a message behind it, cut within the message, and has that back.
#[track_caller]
pub fn speak_early(addr: SocketAddr, fields: &str, text: &str) {
    let bytes = [handshake("/raw/t", fields).into_bytes(), frame(TEXT, text.as_bytes())].concat();
    let (first, second) = bytes.split_at(bytes.len() - 7);
    let mut client = Client::connect(addr);
    client.send(first);
    client.send(second);
    client.switched();
    client.expect_text(text);
    client.close(1000);
    client.close_code();
}
