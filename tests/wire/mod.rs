//! The client's end of the wire: frames made, and the decoder run on them in pieces.
#![allow(dead_code, reason = "each test uses its part of this")]

pub mod server;
pub mod vectors;

use uproar::hub::frame::MessageKind;
use uproar::ws::deflate::{Arena, Inflater};
use uproar::ws::frame::{Opcode, Violation};
use uproar::ws::mask;
use uproar::ws::message::{Compression, Decoder, Event, Partial, Settings};

/// An [`Event`] that owns what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    Message(MessageKind, Vec<u8>),
    TooBig,
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Seen {
        match event {
            Event::Message { kind, payload, .. } => Seen::Message(kind, payload.to_vec()),
            Event::TooBig { .. } => Seen::TooBig,
            Event::Ping(payload) => Seen::Ping(payload.to_vec()),
            Event::Pong(payload) => Seen::Pong(payload.to_vec()),
            Event::Close { code, reason } => Seen::Close(code, reason.to_owned()),
        }
    }
}

/// A connection's receiving side.
pub struct Client {
    settings: Settings,
    partial: Partial,
    inflater: Inflater,
    arena: Arena,
    received: usize,
}

impl Client {
    pub fn new(settings: Settings) -> Client {
        Client { settings, partial: None, inflater: Inflater::new(), arena: Arena::default(), received: 0 }
    }

    /// Decodes what one read brought. The buffer is as long as the bytes, so a byte too far is found out.
    pub fn read(&mut self, bytes: &[u8], seen: &mut Vec<Seen>) -> Result<(), Violation> {
        let mut buffer = bytes.to_vec();
        let mut input = &mut buffer[..];
        let mut decoder = Decoder::new(self.settings, &mut self.partial, &mut self.inflater, &mut self.arena);
        let result = loop {
            match decoder.next(&mut input) {
                Ok(Some(event)) => seen.push(event.into()),
                Ok(None) => break Ok(()),
                Err(violation) => break Err(violation),
            }
        };
        assert!(input.is_empty() || result.is_err(), "the decoder left bytes");
        self.received += bytes.len();
        let held = self.partial.as_ref().map_or(0, |pending| pending.heap_bytes());
        assert!(held <= 256 + 2 * self.received, "{held} bytes are held for {} received", self.received);
        result
    }

    /// Whether nothing is kept for it.
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }
}

/// What became of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub seen: Vec<Seen>,
    pub violation: Option<Violation>,
    pub idle: bool,
}

/// Decodes `pieces`, each by a read of its own, until a violation.
pub fn decode<'a>(settings: Settings, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut client = Client::new(settings);
    let mut seen = Vec::new();
    let violation = pieces.into_iter().find_map(|piece| client.read(piece, &mut seen).err());
    if violation.is_some() {
        let before = seen.clone();
        assert_eq!(client.read(&[0x81, 0x80, 0, 0, 0, 0], &mut seen), Ok(()));
        assert_eq!(seen, before, "nothing is decoded after a violation");
    }
    Outcome { seen, violation, idle: client.is_idle() }
}

/// Cuts `bytes` into pieces of the given lengths; the last piece is what is left.
pub fn cut(bytes: &[u8], lens: impl IntoIterator<Item = usize>) -> Vec<&[u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for len in lens {
        let (piece, after) = rest.split_at(len.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

/// A frame as a client sends it.
#[derive(Clone, Debug)]
pub struct ClientFrame {
    pub fin: bool,
    pub rsv1: bool,
    pub opcode: Opcode,
    pub key: [u8; 4],
    pub payload: Vec<u8>,
}

impl ClientFrame {
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.fin) << 7 | u8::from(self.rsv1) << 6 | self.opcode.bits());
        match self.payload.len() {
            len @ 0..126 => out.push(0x80 | len as u8),
            len @ 126..0x1_0000 => {
                out.push(0xfe);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                out.push(0xff);
                out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&self.key);
        let start = out.len();
        out.extend_from_slice(&self.payload);
        mask::apply(&mut out[start..], self.key, 0);
    }
}

/// Settings with a limit that no small test comes near.
pub fn settings(compression: Compression) -> Settings {
    Settings { max_message: 1 << 20, max_skipped: 0, compression }
}
