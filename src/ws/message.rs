//! Messages out of a client's bytes (RFC 6455 sections 5.4 to 5.6 and 7), in place.
//!
//! A frame that is in the read buffer as a whole is unmasked there and lent from there. Only what has to wait for its
//! rest is copied: into a [`Pending`], which a connection has from the first such byte until the last, and which is
//! as large as what has arrived, whatever was announced.

use crate::hub::frame::MessageKind;
use crate::limits::MAX_MESSAGE_BYTES;
use crate::time::Tick;
use crate::ws::deflate::{self, Arena, InflateError, Inflater};
use crate::ws::frame::{self, CONTINUATION_OF_NOTHING, Control, Expect, Header, MAX_CLIENT_HEADER, Opcode, Violation};
use crate::ws::mask;
use crate::ws::utf8::Validator;

const INVALID_TEXT: Violation = Violation::payload("text is not UTF-8");
const TOO_BIG: Violation = Violation::too_big("message is too big");

const _: () = assert!(MAX_MESSAGE_BYTES + MAX_MESSAGE_BYTES / 4 < u32::MAX as u64, "lengths are u32, compressed too");

/// Whether and how a client compresses its messages (RFC 7692).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    /// It does not: RSV1 is reserved.
    #[default]
    Off,
    /// Each message by itself; any inflater will do.
    PerMessage,
    /// With reference to the messages before; the inflater must be the connection's own.
    Takeover,
}

/// What a connection's messages may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Bytes of the largest message, inflated; at most [`MAX_MESSAGE_BYTES`].
    pub max_message: u32,
    /// Bytes on the wire of the largest message that is skipped where it is larger than that. What is larger still, or
    /// any that is too large if this is 0, breaks the protocol (1009).
    pub max_skipped: u32,
    /// How the client compresses.
    pub compression: Compression,
}

impl Settings {
    /// Whether a message that turns out to be too large when it is inflated may be skipped: the inflater must not be needed
    /// for the next.
    fn skips_inflated(self) -> bool {
        self.max_skipped > 0 && self.compression == Compression::PerMessage
    }
}

/// What arrived.
#[derive(PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// A message, unmasked, inflated, and if text then UTF-8. The bytes are lent to be parsed in place.
    Message {
        /// Text or binary.
        kind: MessageKind,
        /// Whether it had to be inflated.
        compressed: bool,
        /// All its fragments, joined.
        payload: &'a mut [u8],
    },
    /// The end of a message that was too large, and skipped.
    TooBig {
        /// Bytes that were inflated before it was known.
        inflated: usize,
    },
    /// To be answered with a pong of the same payload, at most 125 bytes.
    Ping(&'a [u8]),
    /// At most 125 bytes.
    Pong(&'a [u8]),
    /// The last event of a connection.
    Close {
        /// Why, if the client says so: 1000 to 1003, 1007 to 1014, or 3000 to 4999.
        code: Option<u16>,
        /// In words, at most 123 bytes.
        reason: &'a str,
    },
}

/// What a connection keeps from one read to the next: nothing, unless a frame or message is under way.
pub type Partial = Option<Box<Pending>>;

const _: () = assert!(size_of::<Partial>() == 8, "an idle connection pays for one pointer");

/// A frame or message under way.
#[derive(Default, Debug)]
pub struct Pending {
    /// The beginning of a frame header, `header_len` bytes.
    header: [u8; MAX_CLIENT_HEADER],
    header_len: u8,
    /// The frame whose payload is arriving.
    frame: Option<Frame>,
    /// Payload so far of `frame`, if that is a control frame.
    control: Vec<u8>,
    /// The message whose fragments are arriving, with the payload so far of `frame` if that is one of them.
    message: Option<Message>,
    /// The connection has sent its last: a close frame, or something forbidden.
    over: bool,
    /// When it began, for whoever has a clock: the decoder leaves it as it is. A message that follows has a pending of its own.
    pub since: Option<Tick>,
}

impl Pending {
    /// Bytes of heap memory.
    pub fn heap_bytes(&self) -> usize {
        let message = self.message.as_ref().map_or(0, |message| message.bytes.capacity());
        size_of::<Pending>() + self.control.capacity() + message
    }

    /// Adds to a header that has not been complete. `Some` if it is now.
    fn resume_header(&mut self, input: &mut &mut [u8], settings: Settings) -> Result<Option<Frame>, Violation> {
        let begun = usize::from(self.header_len);
        let more = input.len().min(MAX_CLIENT_HEADER - begun);
        self.header[begun..begun + more].copy_from_slice(&input[..more]);
        let parsed = parse(&self.header[..begun + more], settings, self.message.as_ref())?;
        let used = parsed.map_or(more, |(_, size)| size - begun);
        self.header_len = if parsed.is_some() { 0 } else { (begun + more) as u8 };
        take(input, used);
        Ok(parsed.map(|(frame, _)| frame))
    }

    /// Whether there is nothing to keep it for.
    fn is_idle(&self) -> bool {
        self.header_len == 0 && self.frame.is_none() && self.message.is_none() && !self.over
    }
}

/// A frame whose header is complete.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    rsv1: bool,
    key: [u8; 4],
    len: u32,
    received: u32,
    /// Its message is too large: its payload is not looked at.
    skipped: bool,
}

impl Frame {
    fn remaining(&self) -> usize {
        (self.len - self.received) as usize
    }
}

/// A message put together from fragments or reads.
#[derive(Debug)]
struct Message {
    kind: MessageKind,
    compressed: bool,
    /// Unmasked, still compressed if `compressed`.
    bytes: Vec<u8>,
    /// Of `bytes`, if they are text.
    utf8: Validator,
    /// Bytes that were skipped, from the start; then there are no others.
    skipped: u32,
}

impl Message {
    fn new(kind: MessageKind, compressed: bool) -> Message {
        Message { kind, compressed, bytes: Vec::new(), utf8: Validator::default(), skipped: 0 }
    }

    /// Bytes of it that have come.
    fn len(&self) -> u64 {
        self.bytes.len() as u64 + u64::from(self.skipped)
    }

    /// More has come of a message that is too large.
    fn skip(&mut self, len: usize) {
        self.skipped += (std::mem::take(&mut self.bytes).len() + len) as u32;
    }

    fn is_plain_text(&self) -> bool {
        self.kind == MessageKind::Text && !self.compressed
    }

    fn push(&mut self, payload: &[u8]) -> Result<(), Violation> {
        if self.is_plain_text() {
            self.utf8.push(payload).map_err(|_| INVALID_TEXT)?;
        }
        self.bytes.extend_from_slice(payload);
        Ok(())
    }

    fn finish(self) -> Result<Unit<'static>, Violation> {
        self.utf8.finish().map_err(|_| INVALID_TEXT)?;
        let payload = Payload::Own(self.bytes);
        Ok(Unit::Message { kind: self.kind, compressed: self.compressed, payload })
    }
}

/// What an event is made of.
enum Unit<'b> {
    Control(Control, Payload<'b>),
    Message { kind: MessageKind, compressed: bool, payload: Payload<'b> },
    TooBig,
}

/// Unmasked bytes.
enum Payload<'b> {
    /// In the read buffer, where they were as a whole.
    Lent(&'b mut [u8]),
    /// Put together. Plain text is known to be UTF-8.
    Own(Vec<u8>),
}

/// Makes events of the bytes of one read.
pub struct Decoder<'s> {
    settings: Settings,
    partial: &'s mut Partial,
    inflater: &'s mut Inflater,
    arena: &'s mut Arena,
    /// What the last event lent, if that was put together.
    own: Vec<u8>,
}

impl<'s> Decoder<'s> {
    /// A decoder that goes on where `partial` stands. The inflater is a shared one, or with [`Compression::Takeover`]
    /// the connection's own.
    pub fn new(
        settings: Settings,
        partial: &'s mut Partial,
        inflater: &'s mut Inflater,
        arena: &'s mut Arena,
    ) -> Decoder<'s> {
        debug_assert!(u64::from(settings.max_message) <= MAX_MESSAGE_BYTES);
        Decoder { settings, partial, inflater, arena, own: Vec::new() }
    }

    /// The next event of `input`, from whose front the bytes used are taken. `None`: all are used, and more are
    /// needed. The last event's memory is given back first.
    ///
    /// # Errors
    /// The client broke the protocol, by the bytes so far. Neither after this nor after [`Event::Close`] is anything
    /// decoded any more: all further input of the connection is swallowed.
    pub fn next<'e, 'b: 'e>(&'e mut self, input: &mut &'b mut [u8]) -> Result<Option<Event<'e>>, Violation> {
        self.own = Vec::new();
        self.arena.trim();
        let unit = self.unit(input).inspect_err(|_| end(self.partial))?;
        let Some(unit) = unit else { return Ok(None) };
        let event = match unit {
            Unit::TooBig => Ok(Event::TooBig { inflated: 0 }),
            Unit::Control(control, payload) => control_event(control, lend(payload, &mut self.own)),
            Unit::Message { kind, compressed: false, payload: payload @ Payload::Own(_) } => {
                Ok(Event::Message { kind, compressed: false, payload: lend(payload, &mut self.own) })
            }
            Unit::Message { kind, compressed: false, payload: Payload::Lent(payload) } => {
                message_event(kind, false, payload)
            }
            Unit::Message { kind, compressed: true, payload } => {
                let payload = lend(payload, &mut self.own);
                match inflate(self.settings, payload, self.inflater, self.arena) {
                    Ok(payload) => message_event(kind, true, payload),
                    Err(TOO_BIG) if self.settings.skips_inflated() => {
                        Ok(Event::TooBig { inflated: self.settings.max_message as usize })
                    }
                    Err(violation) => Err(violation),
                }
            }
        };
        if matches!(event, Err(_) | Ok(Event::Close { .. })) {
            end(self.partial);
        }
        event.map(Some)
    }

    /// Takes frames from `input` until there is one that makes an event.
    fn unit<'b>(&mut self, input: &mut &'b mut [u8]) -> Result<Option<Unit<'b>>, Violation> {
        if self.partial.as_ref().is_some_and(|pending| pending.over) {
            *input = &mut [];
        }
        while let Some(mut frame) = self.frame(input)? {
            if input.is_empty() && frame.len > 0 {
                // Nothing of its payload has come. If all of it comes with the next read, it is lent after all.
                self.partial.get_or_insert_default().frame = Some(frame);
                break;
            }
            let payload = take(input, frame.remaining());
            if !frame.skipped {
                mask::apply(payload, frame.key, frame.received as usize);
            }
            let whole = payload.len() == frame.len as usize;
            frame.received += payload.len() as u32;
            let unit = match frame.opcode {
                Opcode::Control(control) if whole => Some(Unit::Control(control, Payload::Lent(payload))),
                Opcode::Control(control) => self.gather_control(frame, control, payload),
                Opcode::Data(kind) if whole && frame.fin && !frame.skipped => {
                    Some(Unit::Message { kind, compressed: frame.rsv1, payload: Payload::Lent(payload) })
                }
                Opcode::Data(_) | Opcode::Continuation => self.gather_message(frame, payload)?,
            };
            if unit.is_some() {
                self.partial.take_if(|pending| pending.is_idle());
                return Ok(unit);
            }
        }
        Ok(None)
    }

    /// The frame to go on with, or else the next one if its header is complete.
    fn frame(&mut self, input: &mut &mut [u8]) -> Result<Option<Frame>, Violation> {
        if input.is_empty() {
            return Ok(None);
        }
        if let Some(pending) = &mut *self.partial {
            if let Some(frame) = pending.frame.take() {
                return Ok(Some(frame));
            }
            if pending.header_len > 0 {
                return pending.resume_header(input, self.settings);
            }
        }
        let message = self.partial.as_ref().and_then(|pending| pending.message.as_ref());
        match parse(input, self.settings, message)? {
            Some((frame, size)) => {
                take(input, size);
                Ok(Some(frame))
            }
            None => self.partial.get_or_insert_default().resume_header(input, self.settings),
        }
    }

    /// Keeps a piece of a control frame.
    fn gather_control(&mut self, frame: Frame, control: Control, payload: &[u8]) -> Option<Unit<'static>> {
        let pending = self.partial.get_or_insert_default();
        pending.control.extend_from_slice(payload);
        if frame.remaining() > 0 {
            pending.frame = Some(frame);
            return None;
        }
        Some(Unit::Control(control, Payload::Own(std::mem::take(&mut pending.control))))
    }

    /// Keeps a piece of a message.
    fn gather_message(&mut self, frame: Frame, payload: &[u8]) -> Result<Option<Unit<'static>>, Violation> {
        let pending = self.partial.get_or_insert_default();
        let message = match frame.opcode {
            Opcode::Data(kind) => Some(pending.message.get_or_insert_with(|| Message::new(kind, frame.rsv1))),
            _ => pending.message.as_mut(),
        };
        let Some(message) = message else { return Err(CONTINUATION_OF_NOTHING) };
        if frame.skipped {
            message.skip(payload.len())
        } else {
            message.push(payload)?
        }
        if frame.remaining() > 0 {
            pending.frame = Some(frame);
            return Ok(None);
        }
        match pending.message.take_if(|_| frame.fin) {
            Some(_) if frame.skipped => Ok(Some(Unit::TooBig)),
            message => message.map(Message::finish).transpose(),
        }
    }
}

/// Takes up to `len` bytes from the front.
fn take<'b>(input: &mut &'b mut [u8], len: usize) -> &'b mut [u8] {
    let len = len.min(input.len());
    let (front, rest) = std::mem::take(input).split_at_mut(len);
    *input = rest;
    front
}

/// Parses the header that `bytes` begin with, and says how long it is. `message`: the one that has begun. Its length
/// is judged as soon as that is known.
fn parse(bytes: &[u8], settings: Settings, message: Option<&Message>) -> Result<Option<(Frame, usize)>, Violation> {
    let deflate = settings.compression != Compression::Off;
    let Some(header) = Header::parse(bytes, Expect { continuation: message.is_some(), deflate })? else {
        return Ok(None);
    };
    let Header { fin, rsv1, opcode, len, size } = header;
    let mut skipped = false;
    if !matches!(opcode, Opcode::Control(_)) {
        let (compressed, begun) = message.map_or((rsv1, 0), |message| (message.compressed, message.len()));
        let max = u64::from(settings.max_message);
        let limit = if compressed { deflate::max_compressed(settings.max_message) } else { max };
        skipped = begun + len > limit;
        if skipped && begun + len > u64::from(settings.max_skipped) {
            return Err(TOO_BIG);
        }
    }
    let frame = |key| Frame { opcode, fin, rsv1, key, len: len as u32, received: 0, skipped };
    Ok(header.key(bytes).map(|key| (frame(key), size)))
}

/// From here on the connection's bytes are swallowed.
fn end(partial: &mut Partial) {
    *partial = Some(Box::new(Pending { over: true, ..Pending::default() }));
}

/// The bytes of a payload; those put together are put by in `own`.
fn lend<'e>(payload: Payload<'e>, own: &'e mut Vec<u8>) -> &'e mut [u8] {
    match payload {
        Payload::Lent(bytes) => bytes,
        Payload::Own(bytes) => {
            *own = bytes;
            own
        }
    }
}

fn message_event(kind: MessageKind, compressed: bool, payload: &mut [u8]) -> Result<Event<'_>, Violation> {
    if kind == MessageKind::Text && simdutf8::basic::from_utf8(payload).is_err() {
        return Err(INVALID_TEXT);
    }
    Ok(Event::Message { kind, compressed, payload })
}

fn inflate<'e>(
    settings: Settings,
    compressed: &[u8],
    inflater: &mut Inflater,
    arena: &'e mut Arena,
) -> Result<&'e mut [u8], Violation> {
    let limit = settings.max_message as usize;
    let inflated = match settings.compression {
        Compression::Takeover => inflater.inflate_next(compressed, arena, limit),
        Compression::PerMessage | Compression::Off => inflater.inflate(compressed, arena, limit),
    };
    inflated.map_err(|error| match error {
        InflateError::TooBig => TOO_BIG,
        InflateError::Corrupt => Violation::payload("message does not inflate"),
    })
}

fn control_event(control: Control, payload: &[u8]) -> Result<Event<'_>, Violation> {
    match control {
        Control::Ping => Ok(Event::Ping(payload)),
        Control::Pong => Ok(Event::Pong(payload)),
        Control::Close => frame::parse_close(payload).map(|(code, reason)| Event::Close { code, reason }),
    }
}
