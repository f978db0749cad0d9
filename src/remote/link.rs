//! A WebSocket, blocking.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;

use super::Error;
use super::address::Address;
use super::stream::Stream;
use crate::hub::frame::MessageKind;
use crate::limits::READ_BUFFER_BYTES;
use crate::ws::client::answer::{Asked, judge};
use crate::ws::client::frame::{client_control, client_frame};
use crate::ws::client::reader::{Event, Reader, Tools};
use crate::ws::frame::Control;
use crate::ws::handshake::accept_key;

/// Time for the server to answer the handshake, or to take what it is sent.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Where a client's token is, if no file has it.
pub const TOKEN: &str = "UPROAR_TOKEN";
/// What whoever wants a token, or another, answers.
const UNWELCOME: [&str; 2] = ["answered 401", "answered 403"];

/// What connections to a server have in common.
pub struct Terms {
    /// Where it is.
    pub address: Address,
    /// Whom `wss://` trusts.
    pub tls: Arc<ClientConfig>,
    /// What the handshake brings in `Authorization: Bearer`.
    pub token: Option<String>,
}

/// A connection that is open.
pub struct Link {
    stream: Stream,
    reader: Reader,
    tools: Tools,
    buffer: Box<[u8]>,
    /// What came behind the handshake's answer.
    rest: Vec<u8>,
    /// What came and was not taken yet.
    early: Vec<Got>,
}

/// What came.
#[derive(PartialEq, Eq, Debug)]
pub enum Got {
    /// A message.
    Message(Vec<u8>),
    /// The server ends the connection, with this code.
    Close(Option<u16>),
}

impl Link {
    /// Connects, and shakes hands.
    ///
    /// # Errors
    /// [`Error::NoServer`], which says what to do; [`Error::Refused`] where the server wants another token, or one.
    pub fn open(terms: &Terms) -> Result<Link, Error> {
        let authority = &terms.address.authority;
        let refused = |why: String| Error::NoServer(format!("no WebSocket at {authority}: {why}"));
        let stream = Stream::open(&terms.address, &terms.tls).map_err(|error| {
            Error::NoServer(format!("no connection to {authority}: {error}; is the server running, and --url right?"))
        })?;
        let mut link = Link {
            stream,
            reader: Reader::default(),
            tools: Tools::default(),
            buffer: vec![0; READ_BUFFER_BYTES].into(),
            rest: Vec::new(),
            early: Vec::new(),
        };
        let shaken = link.shake_hands(terms).map_err(|error| error.to_string());
        shaken.map(|()| link).map_err(|why| match UNWELCOME.iter().any(|status| why.starts_with(status)) {
            true => Error::Refused(format!("{authority} has {why}; a token is taken from {TOKEN}, or --token-file")),
            false => refused(why),
        })
    }

    fn shake_hands(&mut self, terms: &Terms) -> io::Result<()> {
        self.stream.set_read_timeout(TIMEOUT)?;
        self.stream.set_write_timeout(TIMEOUT)?;
        let key = key();
        let Address { target, authority, .. } = &terms.address;
        let token = terms.token.as_ref().map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{token}\r\n"
        );
        self.stream.write_all(request.as_bytes()).and_then(|()| self.stream.flush())?;
        let accept = accept_key(key.as_bytes());
        let asked = Asked { accept: accept.as_bytes(), deflate: false, protocols: &[] };
        let mut head = Vec::new();
        loop {
            match judge(&head, asked).map_err(io::Error::other)? {
                Some((len, _)) => {
                    self.rest = head.split_off(len);
                    return Ok(());
                }
                None => match self.stream.read(&mut self.buffer)? {
                    0 => return Err(ErrorKind::UnexpectedEof.into()),
                    len => head.extend_from_slice(&self.buffer[..len]),
                },
            }
        }
    }

    /// Sends a text.
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        let mut frame = Vec::new();
        client_frame(MessageKind::Text, text.as_bytes(), &mut frame);
        self.stream.write_all(&frame)
    }

    /// Asks whether the server is there.
    pub fn ping(&mut self) -> io::Result<()> {
        let mut frame = Vec::new();
        client_control(Control::Ping, b"", &mut frame);
        self.stream.write_all(&frame)
    }

    /// Has this come next, once more.
    pub fn put_back(&mut self, got: Vec<Got>) {
        self.early = got;
    }

    /// What comes next; nothing, if that is no message. Pings are answered. `None` if nothing came in time.
    ///
    /// # Errors
    /// The connection is over, or the server broke RFC 6455.
    pub fn receive(&mut self, within: Duration) -> io::Result<Option<Vec<Got>>> {
        let early = std::mem::take(&mut self.early);
        if !early.is_empty() {
            return Ok(Some(early));
        }
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            return self.take(&rest).map(Some);
        }
        // A timeout of nothing would be none.
        self.stream.set_read_timeout(within.max(Duration::from_millis(1)))?;
        match self.stream.read(&mut self.buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                let buffer = std::mem::take(&mut self.buffer);
                let got = self.take(&buffer[..len]);
                self.buffer = buffer;
                got.map(Some)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Some(Vec::new())),
            Err(error) => Err(error),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<Vec<Got>> {
        let (mut got, mut pongs) = (Vec::new(), Vec::new());
        let mut on = |event: Event<'_>| match event {
            Event::Message(message) => got.push(Got::Message(message.to_vec())),
            Event::Close(code) => got.push(Got::Close(code)),
            Event::Ping(payload) => client_control(Control::Pong, payload, &mut pongs),
            Event::Pong(_) => {}
        };
        let fed = self.reader.feed(bytes, false, &mut self.tools, &mut on);
        fed.map_err(|violation| io::Error::other(violation.reason))?;
        self.stream.write_all(&pongs)?;
        Ok(got)
    }
}

/// 16 bytes that differ from handshake to handshake (RFC 6455 section 4.1).
fn key() -> String {
    STANDARD.encode([random().to_le_bytes(), random().to_le_bytes()].concat())
}

/// A number that nobody guesses: the standard library's hasher has its keys from the kernel.
pub fn random() -> u64 {
    RandomState::new().hash_one(0)
}
