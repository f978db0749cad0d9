//! The load: subscribers that count bytes, and publishers. Everything blocks, and what nobody looks at is thrown away in
//! the kernel, so that one core keeps up with a server on the other.

use crate::peer::Result;
use crate::sys;
use socket2::SockRef;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// What waits longer than this was lost.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes that one receive throws away.
const DISCARD_BYTES: usize = 1 << 20;
/// Any key does; not zero, so that the server has to unmask.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// Final fragment of a binary message (RFC 6455 section 5.2).
const BINARY: u8 = 0x82;
const MASKED: u8 = 0x80;

/// A message as a server sends it.
pub fn server_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = header(payload.len(), 0);
    frame.extend(payload);
    frame
}

/// A message as a client sends it.
pub fn client_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = header(payload.len(), MASKED);
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn header(length: usize, masked: u8) -> Vec<u8> {
    match length {
        0..126 => vec![BINARY, masked | length as u8],
        126..0x1_0000 => [&[BINARY, masked | 126][..], &(length as u16).to_be_bytes()].concat(),
        _ => [&[BINARY, masked | 127][..], &(length as u64).to_be_bytes()].concat(),
    }
}

/// Connects and shakes hands. The connection is reset when dropped, to leave no TIME_WAIT behind.
fn open(port: u16, target: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let head = read_head(&mut stream)?;
    if head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
        Ok(stream)
    } else {
        Err(format!("{target} was refused: {head}").into())
    }
}

/// Reads a response's head; bytes behind it are an error, as no message was published yet.
fn read_head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") {
        let mut part = [0; 512];
        match stream.read(&mut part)? {
            0 => return Err("closed in the handshake".into()),
            _ if head.len() > 8 * part.len() => return Err("no end to the handshake".into()),
            read => head.extend(&part[..read]),
        }
    }
    Ok(String::from_utf8(head)?)
}

/// One that sends, and is sent nothing.
pub struct Publisher {
    stream: TcpStream,
}

impl Publisher {
    pub fn connect(port: u16, topic: &str) -> Result<Publisher> {
        Ok(Publisher { stream: open(port, &format!("/raw/{topic}?self=false"))? })
    }

    /// Sends frames in one write.
    pub fn publish(&mut self, frames: &[u8]) -> io::Result<()> {
        self.stream.write_all(frames)
    }
}

/// One subscriber.
pub struct Subscriber {
    pub stream: TcpStream,
    received: u64,
}

impl Subscriber {
    pub fn connect(port: u16, topic: &str) -> Result<Subscriber> {
        Ok(Subscriber { stream: open(port, &format!("/raw/{topic}"))?, received: 0 })
    }

    /// Throws away what is there, or what comes next; with `MSG_DONTWAIT` it may be nothing. Returns whether all that
    /// was expected has come.
    fn discard(&mut self, expected: u64, flags: libc::c_int) -> Result<bool> {
        match sys::discard(&self.stream, DISCARD_BYTES, flags) {
            Ok(0) => return Err("the server closed a connection".into()),
            Err(error) if is_nothing(&error) && flags & libc::MSG_DONTWAIT != 0 => {}
            Err(error) if is_nothing(&error) => {
                return Err(format!("lost: {} of {expected} bytes came", self.received).into());
            }
            taken => self.received += taken? as u64,
        }
        if self.received > expected {
            return Err(format!("{} bytes came where {expected} were due", self.received).into());
        }
        Ok(self.received == expected)
    }
}

fn is_nothing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// The subscribers of one topic, and how many bytes each must have received by now.
pub struct Crowd {
    subscribers: Vec<Subscriber>,
    expected: u64,
}

impl Crowd {
    pub fn connect(port: u16, topic: &str, count: usize) -> Result<Crowd> {
        let subscribers = (0..count).map(|_| Subscriber::connect(port, topic)).collect::<Result<_>>()?;
        Ok(Crowd { subscribers, expected: 0 })
    }

    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// So many bytes more are due to everyone.
    pub fn expect(&mut self, bytes: usize) {
        self.expected += bytes as u64;
    }

    /// Four to wait for, the last connected first: a server that goes through them in order is then done with nearly
    /// all, and wakes the load once.
    pub fn samples(&self) -> [usize; 4] {
        let last = self.subscribers.len().saturating_sub(1);
        [last, 0, last / 3, 2 * last / 3]
    }

    /// Waits until the samples have everything.
    pub fn await_samples(&mut self) -> Result<()> {
        self.samples().into_iter().try_for_each(|sample| self.await_one(sample))
    }

    /// Waits until everybody has everything.
    pub fn await_all(&mut self) -> Result<()> {
        (0..self.subscribers.len()).try_for_each(|index| self.await_one(index))
    }

    fn await_one(&mut self, index: usize) -> Result<()> {
        let subscriber = &mut self.subscribers[index];
        while subscriber.received < self.expected && !subscriber.discard(self.expected, 0)? {}
        Ok(())
    }

    /// Throws away what has come for some; returns how many of them still miss something.
    pub fn sweep(&mut self, some: Range<usize>) -> Result<usize> {
        let mut missing = 0;
        for subscriber in &mut self.subscribers[some] {
            let complete = subscriber.received == self.expected;
            missing += usize::from(!complete && !subscriber.discard(self.expected, libc::MSG_DONTWAIT)?);
        }
        Ok(missing)
    }

    /// What a sample is polled by, if it still misses something.
    pub fn missing_sample(&self) -> Option<RawFd> {
        let mut samples = self.samples().into_iter().map(|index| &self.subscribers[index]);
        samples.find(|sample| sample.received < self.expected).map(|sample| sample.stream.as_raw_fd())
    }

    /// Waits for everybody's next bytes and compares them.
    pub fn await_exactly(&mut self, frames: &[u8]) -> Result<()> {
        self.expect(frames.len());
        let mut received = vec![0; frames.len()];
        for subscriber in &mut self.subscribers {
            subscriber.stream.read_exact(&mut received)?;
            subscriber.received += received.len() as u64;
            if received != frames {
                return Err("a subscriber received something else than was published".into());
            }
        }
        Ok(())
    }

    /// Nobody, having received everything, is sent more.
    pub fn check_nothing_more(&mut self) -> Result<()> {
        self.subscribers.iter_mut().try_for_each(|s| s.discard(self.expected, libc::MSG_DONTWAIT).map(drop))
    }
}
