//! A broadcast server that does one thing wrong, on purpose: the judge is to find it.
//!
//! Whoever connects to `/topic/…` subscribes, whoever connects to `/publish/…` publishes, and `/echo/…` is sent what it sends.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use uproar::ws::handshake::accept_key;

/// The message that goes wrong, from 0: of a burst of four, not the last.
const MESSAGE: usize = 6;

/// Longer than any run.
const A_WHILE: Duration = Duration::from_secs(60);

const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
/// Of a close frame: as long as a message.
const REASON: &[u8] = b"this connection is closed for no reason that anybody told me of";

/// What it does wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    None,
    /// A message to one of the connections, counted from 0 in the order of their handshakes.
    Message(usize, Wrong),
    /// The answer to these handshakes is another one.
    Answer(Range<usize>, &'static str),
    /// These connections are not subscribed.
    Forget(Range<usize>),
    /// A close frame is not answered.
    DeafToClose,
    /// Whoever publishes is not read from after so many publications.
    DeafAfter(usize),
    /// It sleeps so long before it delivers this publication.
    Pause(usize, Duration),
}

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// It is not sent.
    Lost,
    /// It is sent twice.
    Repeated,
    /// It is sent after the next one.
    Late,
    /// A character is another one.
    Changed,
    /// The last byte is not sent.
    Cut,
    /// It is of a kind that does not exist.
    NoFrame,
    /// The connection is closed in its place.
    Closed,
    /// The connection is cut in its place.
    Dropped,
}

/// What all connections share.
struct Shared {
    fault: Fault,
    handshakes: AtomicUsize,
    subscribers: Mutex<Vec<Peer>>,
}

/// A connection that is sent messages.
struct Peer {
    number: usize,
    topic: String,
    stream: TcpStream,
    /// Messages so far, and a frame that is held back.
    count: usize,
    held: Vec<u8>,
}

/// Serves on a port of the kernel's choice until the test's process ends.
pub fn serve(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let shared = Arc::new(Shared { fault, handshakes: AtomicUsize::new(0), subscribers: Mutex::default() });
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let shared = shared.clone();
            // The load may go away at any time.
            thread::spawn(move || drop(shared.connection(stream)));
        }
    });
    address
}

impl Shared {
    fn connection(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let head = read_head(&mut stream)?;
        let number = self.handshakes.fetch_add(1, Ordering::SeqCst);
        if let Fault::Answer(numbers, answer) = &self.fault
            && numbers.contains(&number)
        {
            stream.write_all(answer.as_bytes())?;
            // An empty answer is one that never comes.
            return if answer.is_empty() { drain(&mut stream) } else { stream.shutdown(Shutdown::Both) };
        }
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (role, topic) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        let mut peer = Peer { number, topic: topic.into(), stream: stream.try_clone()?, count: 0, held: Vec::new() };
        match role {
            "topic" => self.subscriber(peer, &head),
            "echo" => {
                stream.write_all(answer(&head).as_bytes())?;
                self.frames(&mut stream, |payload| peer.send(&self.fault, payload))
            }
            _ => self.publisher(stream, &head, topic),
        }
    }

    fn subscriber(&self, peer: Peer, head: &str) -> std::io::Result<()> {
        let (number, mut stream) = (peer.number, peer.stream.try_clone()?);
        // Under the lock, so that no message comes before the answer.
        let mut subscribers = self.subscribers.lock().expect("no thread panics");
        stream.write_all(answer(head).as_bytes())?;
        if !matches!(&self.fault, Fault::Forget(numbers) if numbers.contains(&number)) {
            subscribers.push(peer);
        }
        drop(subscribers);
        let ended = self.frames(&mut stream, |_| Ok(()));
        self.subscribers.lock().expect("no thread panics").retain(|peer| peer.number != number);
        ended
    }

    fn publisher(&self, mut stream: TcpStream, head: &str, topic: &str) -> std::io::Result<()> {
        stream.write_all(answer(head).as_bytes())?;
        let mut published = 0;
        self.frames(&mut stream, |payload| {
            match self.fault {
                Fault::Pause(before, pause) if before == published => thread::sleep(pause),
                Fault::DeafAfter(heard) if heard == published => thread::sleep(A_WHILE),
                _ => {}
            }
            published += 1;
            let mut subscribers = self.subscribers.lock().expect("no thread panics");
            subscribers.iter_mut().filter(|peer| peer.topic == topic).for_each(|peer| {
                // Whoever is gone is taken out by its own thread.
                let _ = peer.send(&self.fault, payload);
            });
            Ok(())
        })
    }

    /// Reads frames until the connection ends.
    fn frames(&self, stream: &mut TcpStream, mut on: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
        loop {
            let (opcode, payload) = read_frame(stream)?;
            match opcode {
                1 | 2 => on(&payload)?,
                8 if matches!(self.fault, Fault::DeafToClose) => {}
                8 => return stream.write_all(&frame(CLOSE, &payload)),
                _ => {}
            }
        }
    }
}

impl Peer {
    fn send(&mut self, fault: &Fault, payload: &[u8]) -> std::io::Result<()> {
        let good = frame(BINARY, payload);
        let wrong = match fault {
            Fault::Message(number, wrong) if *number == self.number => Some(*wrong),
            _ => None,
        };
        let bytes = match wrong.filter(|_| self.count == MESSAGE) {
            None => [good, std::mem::take(&mut self.held)].concat(),
            Some(Wrong::Lost) => Vec::new(),
            Some(Wrong::Repeated) => [good.clone(), good].concat(),
            Some(Wrong::Late) => {
                self.held = good;
                Vec::new()
            }
            Some(Wrong::Changed) => {
                let mut payload = payload.to_vec();
                payload.last_mut().into_iter().for_each(|byte| *byte ^= 1);
                frame(BINARY, &payload)
            }
            Some(Wrong::Cut) => frame(BINARY, &payload[..payload.len() - 1]),
            Some(Wrong::NoFrame) => frame(0x83, payload),
            Some(Wrong::Closed) => frame(CLOSE, &[&1011u16.to_be_bytes(), REASON].concat()),
            Some(Wrong::Dropped) => Vec::new(),
        };
        let ends = self.count == MESSAGE && matches!(wrong, Some(Wrong::Closed | Wrong::Dropped));
        self.count += 1;
        self.stream.write_all(&bytes)?;
        if ends { self.stream.shutdown(Shutdown::Both) } else { Ok(()) }
    }
}

fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    String::from_utf8(head).map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))
}

fn drain(stream: &mut TcpStream) -> std::io::Result<()> {
    std::io::copy(stream, &mut std::io::sink()).map(drop)
}

fn answer(head: &str) -> String {
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap_or_default();
    let accept = accept_key(key.as_bytes());
    let accept = std::str::from_utf8(accept.as_bytes()).unwrap_or_default();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// A client's frame of less than 64 KiB: its opcode, and its payload without the mask.
fn read_frame(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 2];
    stream.read_exact(&mut header)?;
    let mut len = usize::from(header[1] & 0x7f);
    if len == 126 {
        let mut long = [0; 2];
        stream.read_exact(&mut long)?;
        len = u16::from_be_bytes(long).into();
    }
    let (mut key, mut payload) = ([0; 4], vec![0; len]);
    stream.read_exact(&mut key)?;
    stream.read_exact(&mut payload)?;
    payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    Ok((header[0] & 0x0f, payload))
}

/// A server's frame of less than 64 KiB.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = match payload.len() {
        short @ ..=125 => vec![short as u8],
        long => [&[126], &(long as u16).to_be_bytes()[..]].concat(),
    };
    [&[first], &len[..], payload].concat()
}
