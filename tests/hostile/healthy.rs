//! Healthy clients: one publishes every 10 ms, the others check what they get, and when.
//!
//! All of them are served by one thread, which looks at each socket every quarter of a millisecond: so it is never the load
//! that is measured, and what it is late by counts against the server.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustls::{ClientConnection, StreamOwned};

use super::common::client::{CLOSE, PING, PONG, TEXT, frame};
use super::common::events::Events;
use super::common::tls::TlsClient;
use super::common::{Client, PATIENCE};

const RAW: usize = 10;
const JSON: usize = 9;
const TOPIC: &str = "pulse";
const INTERVAL: Duration = Duration::from_millis(10);
const LOOK: Duration = Duration::from_micros(250);

/// What samples count for.
const QUIET: u8 = 0;
const ATTACKED: u8 = 1;
const OVER: u8 = 2;

/// How healthy clients come in.
#[derive(Clone, Default)]
pub struct Entrance {
    /// An address of this machine to come from.
    pub from: Option<&'static str>,
    /// Bytes before the first request: a header of the PROXY protocol.
    pub prelude: String,
    /// A token, if they need one.
    pub token: String,
}

impl Entrance {
    fn open(&self, addr: SocketAddr) -> Client {
        let mut client = self.from.map_or_else(|| Client::connect(addr), |from| Client::connect_from(from, addr));
        client.send(self.prelude.as_bytes());
        client
    }

    fn query(&self) -> String {
        if self.token.is_empty() { String::new() } else { format!("&access_token={}", self.token) }
    }

    fn raw(&self, addr: SocketAddr) -> Client {
        self.open(addr).upgrade(&format!("/raw/{TOPIC}?self=false{}", self.query()), "").0
    }

    fn json(&self, addr: SocketAddr, room: usize) -> Client {
        let (mut client, _) = self.open(addr).upgrade(&format!("/?room=healthy-{room}{}", self.query()), "");
        client.text(&format!(r#"{{"type":"subscribe","topics":["{TOPIC}"],"recover":true}}"#));
        while !client.frame().expect("an answer").text().contains(r#""type":"subscribed""#) {}
        client
    }

    fn events(&self, addr: SocketAddr) -> Events {
        let mut events = Events::ask(self.open(addr), &format!("topic={TOPIC}{}", self.query()), "");
        assert!(events.part(b"\r\n\r\n").expect("a head").starts_with("HTTP/1.1 200 OK\r\n"));
        events.part(b"\n\n").expect("the preamble");
        events.expect("subscribed");
        events
    }
}

/// What the healthy clients have found.
pub struct Findings {
    /// Latencies in microseconds, from when a message was due, before the attack and from its begin on.
    pub quiet: Histogram<u64>,
    pub attacked: Histogram<u64>,
    /// What was lost, came twice or out of order, and who was closed.
    pub problems: Vec<String>,
    pub published: u64,
}

/// Those that are there, on their thread.
pub struct Healthy {
    phase: Arc<AtomicU8>,
    thread: JoinHandle<Findings>,
    pub connections: u64,
}

impl Healthy {
    /// Connects all of them, and begins to publish. Readers over TLS may come besides.
    pub fn start(addr: SocketAddr, entrance: &Entrance, secured: Vec<TlsClient>) -> Healthy {
        let reader = |name: String, stream: TcpStream, framing| {
            stream.set_nonblocking(true).expect("a socket");
            Reader::new(name, Box::new(stream), framing)
        };
        let publisher = reader("the publisher".into(), entrance.raw(addr).stream, Framing::Frames);
        let mut readers = Vec::new();
        let mut add = |name, stream, framing| readers.push(reader(name, stream, framing));
        (0..RAW).for_each(|n| add(format!("raw {n}"), entrance.raw(addr).stream, Framing::Frames));
        (0..JSON).for_each(|n| add(format!("json {n}"), entrance.json(addr, n).stream, Framing::Frames));
        add("events".into(), entrance.events(addr).stream, Framing::Lines);
        for (n, client) in secured.into_iter().enumerate() {
            let client = client.upgrade(&format!("/raw/{TOPIC}"));
            client.stream.sock.set_nonblocking(true).expect("a socket");
            readers.push(Reader::new(format!("TLS {n}"), Box::new(client.stream), Framing::Frames));
        }
        let connections = readers.len() as u64 + 1;
        let phase = Arc::new(AtomicU8::new(QUIET));
        let seen = phase.clone();
        Healthy { phase, thread: thread::spawn(move || run(publisher, readers, &seen)), connections }
    }

    /// From now on there is an attack.
    pub fn attacked(&self) {
        self.phase.store(ATTACKED, Ordering::Relaxed);
    }

    /// Waits for what is still to come, and tells what was found.
    pub fn finish(self) -> Findings {
        self.phase.store(OVER, Ordering::Relaxed);
        self.thread.join().expect("the healthy clients' thread")
    }
}

fn run(mut publisher: Reader, mut readers: Vec<Reader>, phase: &AtomicU8) -> Findings {
    let histogram = || Histogram::new_with_bounds(1, 60_000_000, 3).expect("up to a minute");
    let mut findings = Findings { quiet: histogram(), attacked: histogram(), problems: Vec::new(), published: 0 };
    let begin = Instant::now();
    let mut over = None;
    loop {
        let now = phase.load(Ordering::Relaxed);
        if now == OVER {
            let end = *over.get_or_insert_with(|| Instant::now() + PATIENCE);
            let complete = readers.iter().all(|reader| reader.next == findings.published || reader.ended);
            if complete || Instant::now() > end {
                break;
            }
        }
        while now != OVER && begin.elapsed() >= INTERVAL * findings.published as u32 {
            let due = (INTERVAL * findings.published as u32).as_micros();
            let message = format!(r#"{{"n":{},"t":{due}}}"#, findings.published);
            if let Err(error) = publisher.stream.write_all(&frame(TEXT, message.as_bytes())) {
                findings.problems.push(format!("the publisher cannot write: {error}"));
                return findings;
            }
            findings.published += 1;
        }
        let samples = if now == QUIET { &mut findings.quiet } else { &mut findings.attacked };
        for reader in readers.iter_mut().chain([&mut publisher]).filter(|reader| !reader.ended) {
            reader.read(begin, samples, &mut findings.problems);
        }
        thread::sleep(LOOK);
    }
    for reader in readers.iter().filter(|reader| reader.next != findings.published) {
        findings.problems.push(format!("{} has {} of {} messages", reader.name, reader.next, findings.published));
    }
    findings
}

/// A socket, plain or with TLS.
trait Stream: Read + Write + Send {}

impl Stream for TcpStream {}
impl Stream for StreamOwned<ClientConnection, TcpStream> {}

enum Framing {
    /// WebSocket frames.
    Frames,
    /// Lines of an event stream.
    Lines,
}

struct Reader {
    name: String,
    stream: Box<dyn Stream>,
    framing: Framing,
    buffer: Vec<u8>,
    /// The number of the message that must come next.
    next: u64,
    ended: bool,
}

impl Reader {
    fn new(name: String, stream: Box<dyn Stream>, framing: Framing) -> Reader {
        Reader { name, stream, framing, buffer: Vec::new(), next: 0, ended: false }
    }

    /// Takes what has come.
    fn read(&mut self, begin: Instant, samples: &mut Histogram<u64>, problems: &mut Vec<String>) {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.end("the end", problems),
                Ok(len) => {
                    self.buffer.extend_from_slice(&chunk[..len]);
                    self.take(begin.elapsed(), samples, problems);
                    continue;
                }
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => {}
                Err(error) => self.end(&error.to_string(), problems),
            }
            return;
        }
    }

    fn end(&mut self, how: &str, problems: &mut Vec<String>) {
        self.ended = true;
        problems.push(format!("{} was closed after {} messages: {how}", self.name, self.next));
    }

    /// Takes all that is whole.
    fn take(&mut self, now: Duration, samples: &mut Histogram<u64>, problems: &mut Vec<String>) {
        let mut at = 0;
        while let Some((len, opcode, payload)) = self.part(at) {
            let (stamp, payload) = (stamp(payload), if opcode == PING { payload.to_vec() } else { Vec::new() });
            at += len;
            match opcode {
                CLOSE => return self.end("a close frame", problems),
                PING => {
                    if let Err(error) = self.stream.write_all(&frame(PONG, &payload)) {
                        problems.push(format!("{} cannot write: {error}", self.name));
                    }
                }
                _ => {}
            }
            // What has no stamp is a notice or a ping.
            let Some((number, due)) = stamp else { continue };
            if number != self.next {
                problems.push(format!("{} has {number} instead of {}", self.name, self.next));
            }
            self.next = number + 1;
            samples.saturating_record((now.as_micros() as u64).saturating_sub(due).max(1));
        }
        self.buffer.drain(..at);
    }

    /// The frame or line that begins there, if it is whole: its length, its opcode, what is in it.
    fn part(&self, at: usize) -> Option<(usize, u8, &[u8])> {
        let bytes = &self.buffer[at..];
        match self.framing {
            Framing::Lines => {
                let len = bytes.iter().position(|&byte| byte == b'\n')? + 1;
                Some((len, TEXT, &bytes[..len]))
            }
            Framing::Frames => {
                let (header, len) = match *bytes.get(1)? {
                    126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
                    127 => panic!("no message is as long"),
                    len => (2, usize::from(len)),
                };
                Some((header + len, bytes[0] & 0x0f, bytes.get(header..header + len)?))
            }
        }
    }
}

/// The number in a message, and when it was due, in microseconds.
fn stamp(payload: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(payload).ok()?;
    let (number, rest) = text.split_once(r#"{"n":"#)?.1.split_once(r#","t":"#)?;
    Some((number.parse().ok()?, rest.split_once('}')?.0.parse().ok()?))
}
