//! A reader of Server-Sent Events that can stop after any byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use socket2::SockRef;

use super::Client;

/// One event, as the standard has it read.
#[derive(Debug)]
pub struct Event {
    /// Its own id, if it has one.
    pub id: Option<String>,
    pub name: String,
    pub data: String,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).expect("data is JSON")
    }
}

pub struct Events {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes that may still be read.
    pub budget: usize,
    /// The id of the newest whole event that had one.
    pub last_id: String,
}

impl Events {
    /// Opens `/sse?QUERY`, behind an id if that is not empty. The head is checked, and the preamble read.
    #[track_caller]
    pub fn open(addr: SocketAddr, query: &str, last_id: &str) -> Events {
        let mut events = Events::ask(Client::connect(addr), query, last_id);
        assert!(events.part(b"\r\n\r\n").expect("a head").starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(events.part(b"\n\n").as_deref(), Some(": uproar\nretry: 2000\n\n"));
        events
    }

    /// Asks for a stream.
    pub fn ask(mut client: Client, query: &str, last_id: &str) -> Events {
        let field = if last_id.is_empty() { String::new() } else { format!("Last-Event-ID: {last_id}\r\n") };
        client.send(format!("GET /sse?{query} HTTP/1.1\r\nHost: localhost\r\n{field}\r\n").as_bytes());
        Events { stream: client.stream, buffer: Vec::new(), budget: usize::MAX, last_id: last_id.to_owned() }
    }

    /// Everything up to and including the next `end`; `None` if the stream, or the budget, ends before.
    #[track_caller]
    pub fn part(&mut self, end: &[u8]) -> Option<String> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.buffer[seen..].windows(end.len()).position(|window| window == end) {
                let part = self.buffer.drain(..seen + at + end.len()).collect();
                return Some(String::from_utf8(part).expect("a stream is text"));
            }
            seen = self.buffer.len().saturating_sub(end.len() - 1);
            let mut chunk = vec![0; self.budget.min(16 * 1024)];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(len) => {
                    self.budget -= len;
                    self.buffer.extend_from_slice(&chunk[..len]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("reading failed: {error}"),
            }
        }
    }

    /// The next event; `None` at the end. Comments are passed over.
    #[track_caller]
    pub fn event(&mut self) -> Option<Event> {
        loop {
            let block = self.part(b"\n\n")?;
            let (mut event, mut data) = (Event { id: None, name: String::new(), data: String::new() }, Vec::new());
            for line in block.trim_end_matches('\n').lines().filter(|line| !line.starts_with(':')) {
                match line.split_once(": ").expect("a field with a value") {
                    ("id", value) => event.id = Some(value.to_owned()),
                    ("event", value) => event.name = value.to_owned(),
                    ("data", value) => data.push(value),
                    (name, _) => panic!("a field {name} in {block:?}"),
                }
            }
            if let Some(id) = &event.id {
                self.last_id.clone_from(id);
            }
            if !event.name.is_empty() {
                event.data = data.join("\n");
                return Some(event);
            }
        }
    }

    /// The next event, which must be there and of that name; its data.
    #[track_caller]
    pub fn expect(&mut self, name: &str) -> Value {
        let event = self.event().expect("an event");
        assert_eq!(event.name, name, "{event:?}");
        assert_eq!(event.json()["type"], name, "{event:?}");
        event.json()
    }

    /// Sends what no reader of a stream would.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes bytes");
    }

    /// Ends the connection with RST.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).expect("a lingering time");
    }
}
