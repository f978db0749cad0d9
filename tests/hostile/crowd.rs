//! Attackers: sockets without manners, many at a time.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::common::Client;
use super::common::client::Frame;

/// How an attacker's connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum End {
    /// With a response of this status.
    Status(u16),
    /// With a close frame of this code.
    Close(u16),
    /// By FIN or RST, without a word.
    Silent,
    /// Not at all, in the time that was waited.
    Open,
}

/// Connects so many.
pub fn connect(addr: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| Client::connect(addr).stream).collect()
}

/// So many with an open WebSocket.
pub fn upgraded(addr: SocketAddr, path: &str, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| Client::ws(addr, path).stream).collect()
}

/// Writes what the socket takes at once; how much that is, or `None` if the connection is over.
pub fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> Option<usize> {
    stream.set_nonblocking(true).expect("a socket");
    let outcome = stream.write(bytes);
    stream.set_nonblocking(false).expect("a socket");
    match outcome {
        Ok(len) => Some(len),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(0),
        Err(_) => None,
    }
}

/// Writes a little, which the socket takes at once; whether the connection is still there.
pub fn push(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    write_some(stream, bytes).is_some()
}

/// Bytes that one connection of a flood sends each millisecond: of twenty, 20 MB a second and in a release build 160. A flood
/// without a bound would say how much the machine that runs the tests can do, not what the server does.
const PACE: usize = if cfg!(debug_assertions) { 1024 } else { 8192 };

/// Sends the same again and again to all of them, as much as they take, for so long. Nothing is read.
pub fn flood(streams: &mut [TcpStream], bytes: &[u8], time: Duration) {
    let mut places = vec![0; streams.len()];
    for_a_while(time, Duration::from_millis(1), |_| {
        for (stream, place) in streams.iter_mut().zip(&mut places) {
            let end = bytes.len().min(*place + PACE);
            *place = (*place + write_some(stream, &bytes[*place..end]).unwrap_or(0)) % bytes.len();
        }
    });
}

/// Calls it again and again, with the number of the round, with a pause between, for so long.
pub fn for_a_while(time: Duration, pause: Duration, mut round: impl FnMut(usize)) {
    let begin = Instant::now();
    for number in 0.. {
        if begin.elapsed() >= time {
            return;
        }
        round(number);
        std::thread::sleep(pause);
    }
}

/// How the connection ends, or has ended. Whatever comes before is read.
pub fn end_of(stream: &mut TcpStream) -> End {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    let ended = loop {
        match stream.read(&mut chunk) {
            Ok(0) => break true,
            Ok(len) => bytes.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break ![ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()),
        }
    };
    let word = match bytes.first() {
        Some(b'H') => status(&bytes),
        // A frame from a server, not a record of TLS.
        Some(first) if first & 0x80 != 0 => last_frame(&bytes),
        _ => None,
    };
    word.unwrap_or(if ended { End::Silent } else { End::Open })
}

/// The status of the last response in what came.
fn status(bytes: &[u8]) -> Option<End> {
    let text = String::from_utf8_lossy(bytes);
    Some(End::Status(text.rsplit("HTTP/1.1 ").next()?.get(..3)?.parse().ok()?))
}

/// The close frame at the end of what came.
fn last_frame(mut bytes: &[u8]) -> Option<End> {
    loop {
        let (header, len) = match *bytes.get(1)? {
            126 => (4, usize::from(u16::from_be_bytes([bytes[2], *bytes.get(3)?]))),
            127 => (10, u64::from_be_bytes(*bytes.get(2..10)?.first_chunk()?) as usize),
            len => (2, usize::from(len)),
        };
        let frame = Frame { first: bytes[0], payload: bytes.get(header..header + len)?.to_vec() };
        if frame.opcode() == super::common::client::CLOSE {
            return Some(End::Close(frame.code()));
        }
        bytes = &bytes[header + len..];
    }
}

/// How all of them end: each way once, with how many took it.
pub fn ends(streams: &mut [TcpStream]) -> Vec<(End, usize)> {
    let mut ends: Vec<End> = streams.iter_mut().map(end_of).collect();
    ends.sort_unstable();
    ends.chunk_by(|a, b| a == b).map(|same| (same[0], same.len())).collect()
}
