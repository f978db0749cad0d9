//! What a server sends, taken apart as RFC 6455 has it.

use crate::hub::frame::MessageKind;
use crate::limits::MAX_MESSAGE_BYTES;
use crate::ws::deflate::{Arena, InflateError, Inflater, max_compressed};
use crate::ws::frame::{Control, Expect, Header, Opcode, Violation, parse_close};

/// Bytes of the largest message, inflated, unless told.
const DEFAULT_MAX_MESSAGE: u32 = 64 << 20;

const TOO_BIG: Violation = Violation::too_big("message is too big");

/// What arrived.
#[derive(PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// A message, inflated, and if text then UTF-8.
    Message(&'a [u8]),
    /// To be answered with a pong of the same payload, at most 125 bytes.
    Ping(&'a [u8]),
    /// At most 125 bytes.
    Pong(&'a [u8]),
    /// The server sends nothing more. Why, if it says so.
    Close(Option<u16>),
}

/// What all readers of a thread share.
#[derive(Debug)]
pub struct Tools {
    inflater: Inflater,
    arena: Arena,
    max_message: u32,
}

impl Default for Tools {
    /// For messages of at most 64 MiB.
    fn default() -> Self {
        Tools::new(DEFAULT_MAX_MESSAGE)
    }
}

impl Tools {
    /// For messages of at most so many bytes, inflated; not more than 256 MiB ([`MAX_MESSAGE_BYTES`]).
    pub fn new(max_message: u32) -> Tools {
        let max_message = max_message.min(MAX_MESSAGE_BYTES as u32);
        Tools { inflater: Inflater::new(), arena: Arena::default(), max_message }
    }

    /// Judges and hands out a message whose frames are all there.
    fn message(
        &mut self,
        kind: MessageKind,
        compressed: bool,
        payload: &[u8],
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Violation> {
        let message = if compressed {
            self.arena.trim();
            let inflated = self.inflater.inflate(payload, &mut self.arena, self.max_message as usize);
            inflated.map_err(|error| match error {
                InflateError::TooBig => TOO_BIG,
                InflateError::Corrupt => Violation::payload("message does not inflate"),
            })?
        } else {
            payload
        };
        if kind == MessageKind::Text && simdutf8::basic::from_utf8(message).is_err() {
            return Err(Violation::payload("text is not UTF-8"));
        }
        on(Event::Message(message));
        Ok(())
    }
}

/// Takes a connection's bytes apart. It holds nothing but a pointer while no frame or message is under way.
#[derive(Default, Debug)]
pub struct Reader {
    partial: Option<Box<Partial>>,
}

/// What a reader keeps from one receive to the next.
#[derive(Default, Debug)]
struct Partial {
    /// A frame's beginning, header included.
    frame: Vec<u8>,
    /// The message whose first fragments came.
    message: Option<Fragments>,
    end: Option<End>,
}

/// Why there should be nothing more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// A close frame came.
    Closed,
    /// Something forbidden came.
    Broken,
}

/// A message's frames so far.
#[derive(Debug)]
struct Fragments {
    kind: MessageKind,
    compressed: bool,
    bytes: Vec<u8>,
}

/// What some bytes begin with.
enum Next {
    /// A frame that is there in whole, header and payload.
    Frame(Header),
    /// A frame that lacks at least so many bytes.
    Lacks(usize),
}

impl Reader {
    /// Takes the bytes of one receive, and hands out what they complete. What is there in whole is lent from `bytes`.
    /// `deflate`: `permessage-deflate` was agreed on, without context takeover.
    ///
    /// # Errors
    /// The server broke the protocol: RFC 6455, or RFC 7692. The events and the violation depend on the bytes alone, not on
    /// how they were cut. After a violation the connection's bytes are swallowed.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        deflate: bool,
        tools: &mut Tools,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Violation> {
        if self.end() == Some(End::Broken) {
            return Ok(());
        }
        let result = self.frames(bytes, deflate, tools, on);
        if result.is_err() {
            self.partial = Some(Box::new(Partial { end: Some(End::Broken), ..Partial::default() }));
        }
        result
    }

    /// Bytes of heap memory: none while nothing is under way.
    pub fn heap_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            let message = partial.message.as_ref().map_or(0, |message| message.bytes.capacity());
            size_of::<Partial>() + partial.frame.capacity() + message
        })
    }

    fn frames(
        &mut self,
        bytes: &[u8],
        deflate: bool,
        tools: &mut Tools,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Violation> {
        let mut rest = self.resume(bytes, deflate, tools, on)?;
        while let Next::Frame(header) = self.next(rest, deflate, tools.max_message)? {
            let (frame, after) = rest.split_at(header.size + header.len as usize);
            self.frame(header, &frame[header.size..], tools, on)?;
            rest = after;
        }
        if !rest.is_empty() {
            self.partial.get_or_insert_default().frame.extend_from_slice(rest);
        }
        self.partial.take_if(|partial| partial.is_idle());
        Ok(())
    }

    /// Completes the frame that an earlier receive began, as far as `bytes` go, and returns what follows it.
    fn resume<'b>(
        &mut self,
        bytes: &'b [u8],
        deflate: bool,
        tools: &mut Tools,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<&'b [u8], Violation> {
        let Some(partial) = self.partial.as_mut().filter(|partial| !partial.frame.is_empty()) else { return Ok(bytes) };
        let mut frame = std::mem::take(&mut partial.frame);
        let mut rest = bytes;
        loop {
            match self.next(&frame, deflate, tools.max_message)? {
                Next::Frame(header) => {
                    self.frame(header, &frame[header.size..], tools, on)?;
                    return Ok(rest);
                }
                Next::Lacks(_) if rest.is_empty() => {
                    self.partial.get_or_insert_default().frame = frame;
                    return Ok(rest);
                }
                Next::Lacks(missing) => {
                    let (more, after) = rest.split_at(missing.min(rest.len()));
                    frame.extend_from_slice(more);
                    rest = after;
                }
            }
        }
    }

    /// Judges the header that `bytes` begin with.
    fn next(&self, bytes: &[u8], deflate: bool, max_message: u32) -> Result<Next, Violation> {
        if self.end().is_some() && !bytes.is_empty() {
            return Err(Violation::protocol("something after a close frame"));
        }
        let message = self.partial.as_ref().and_then(|partial| partial.message.as_ref());
        let expect = Expect { continuation: message.is_some(), deflate };
        let Some(header) = Header::parse_unmasked(bytes, expect)? else { return Ok(Next::Lacks(1)) };
        if !matches!(header.opcode, Opcode::Control(_)) {
            let (compressed, begun) =
                message.map_or((header.rsv1, 0), |message| (message.compressed, message.bytes.len()));
            let limit = if compressed { max_compressed(max_message) } else { u64::from(max_message) };
            if header.len > limit.saturating_sub(begun as u64) {
                return Err(TOO_BIG);
            }
        }
        let len = header.size + header.len as usize;
        Ok(if bytes.len() < len { Next::Lacks(len - bytes.len()) } else { Next::Frame(header) })
    }

    /// Takes a frame.
    fn frame(
        &mut self,
        header: Header,
        payload: &[u8],
        tools: &mut Tools,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Violation> {
        match header.opcode {
            Opcode::Control(Control::Ping) => on(Event::Ping(payload)),
            Opcode::Control(Control::Pong) => on(Event::Pong(payload)),
            Opcode::Control(Control::Close) => {
                let (code, _) = parse_close(payload)?;
                self.partial.get_or_insert_default().end = Some(End::Closed);
                on(Event::Close(code));
            }
            Opcode::Data(kind) if header.fin => return tools.message(kind, header.rsv1, payload, on),
            Opcode::Data(kind) => {
                let begun = Fragments { kind, compressed: header.rsv1, bytes: payload.to_vec() };
                self.partial.get_or_insert_default().message = Some(begun);
            }
            Opcode::Continuation => return self.continuation(header.fin, payload, tools, on),
        }
        Ok(())
    }

    /// Takes a fragment that is not a message's first.
    fn continuation(
        &mut self,
        fin: bool,
        payload: &[u8],
        tools: &mut Tools,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Violation> {
        // The header has been judged: there is one.
        let Some(message) = self.partial.as_mut().and_then(|partial| partial.message.as_mut()) else { return Ok(()) };
        message.bytes.extend_from_slice(payload);
        if fin {
            tools.message(message.kind, message.compressed, &message.bytes, on)?;
            self.partial.as_mut().map(|partial| partial.message.take());
        }
        Ok(())
    }

    fn end(&self) -> Option<End> {
        self.partial.as_ref().and_then(|partial| partial.end)
    }
}

impl Partial {
    /// Whether there is nothing to keep it for.
    fn is_idle(&self) -> bool {
        self.frame.is_empty() && self.message.is_none() && self.end.is_none()
    }
}
