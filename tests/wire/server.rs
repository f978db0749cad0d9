//! The server's end of the wire: its bytes made, and the load generator's reader run on them in pieces.

use uproar::ws::client::reader::{Event, Reader, Tools};
use uproar::ws::frame::Violation;
use uproar::ws::mask;

/// An [`Event`] that owns what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    Message(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Seen {
        match event {
            Event::Message(bytes) => Seen::Message(bytes.to_vec()),
            Event::Ping(bytes) => Seen::Ping(bytes.to_vec()),
            Event::Pong(bytes) => Seen::Pong(bytes.to_vec()),
            Event::Close(code) => Seen::Close(code),
        }
    }
}

impl From<super::Seen> for Seen {
    fn from(seen: super::Seen) -> Seen {
        match seen {
            super::Seen::Message(_, bytes) => Seen::Message(bytes),
            super::Seen::TooBig => unreachable!("nothing is skipped here"),
            super::Seen::Ping(bytes) => Seen::Ping(bytes),
            super::Seen::Pong(bytes) => Seen::Pong(bytes),
            super::Seen::Close(code, _) => Seen::Close(code),
        }
    }
}

/// What became of a server's bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub seen: Vec<Seen>,
    pub violation: Option<Violation>,
    pub idle: bool,
}

/// Reads `pieces`, each as one receive, until a violation.
pub fn read<'a>(deflate: bool, max_message: u32, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let (mut reader, mut tools) = (Reader::default(), Tools::new(max_message));
    let mut seen = Vec::new();
    let mut received = 0;
    let violation = pieces.into_iter().find_map(|piece| {
        received += piece.len();
        let result = reader.feed(piece, deflate, &mut tools, &mut |event| seen.push(event.into()));
        assert!(reader.heap_bytes() <= 256 + 4 * received, "{} bytes for {received}", reader.heap_bytes());
        result.err()
    });
    let idle = reader.heap_bytes() == 0;
    if violation.is_some() {
        let before = seen.len();
        let result = reader.feed(b"\x89\x00", deflate, &mut tools, &mut |event| seen.push(event.into()));
        assert!(result.is_ok() && seen.len() == before, "what follows a violation is swallowed");
    }
    Outcome { seen, violation, idle }
}

/// A client's frames as a server would send them: not masked. `None` if one is not masked as it is.
pub fn unmasked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    while let [first, second, ..] = *bytes {
        if second & 0x80 == 0 {
            return None;
        }
        let extended = [0, 2, 8][usize::from(second & 0x7f).saturating_sub(125)];
        out.extend_from_slice(&[first, second & 0x7f]);
        let Some((len, rest)) = bytes[2..].split_at_checked(extended) else {
            return Some([&out, &bytes[2..]].concat());
        };
        out.extend_from_slice(len);
        let Some((key, rest)) = rest.split_first_chunk() else { return Some(out) };
        let announced = len.iter().fold(0u64, |len, &byte| len << 8 | u64::from(byte));
        let announced = if extended == 0 { u64::from(second & 0x7f) } else { announced };
        let (payload, rest) = rest.split_at(rest.len().min(announced.try_into().unwrap()));
        let begin = out.len();
        out.extend_from_slice(payload);
        mask::apply(&mut out[begin..], *key, 0);
        bytes = rest;
    }
    out.extend_from_slice(bytes);
    Some(out)
}
