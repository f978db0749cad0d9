//! Compression of messages: `permessage-deflate` (RFC 7692).
//!
//! The server never keeps its context from one message to the next, so that a message is compressed once for all
//! subscribers, and one compressor of each window size serves a shard. The client's context is kept only where
//! [`Policy`] says so, as that costs an [`Inflater`] for each connection.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Windows are of `2^bits` bytes. RFC 7692 has 8 too, but raw deflate streams of zlib cannot be made with it.
pub const WINDOW_BITS: std::ops::RangeInclusive<u8> = 9..=15;

/// What every message ends with, and what is not sent (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// An empty last block. If a deflate stream does not end with this after the tail, its message was cut within a block.
const LAST_BLOCK: [u8; 2] = [0x03, 0x00];
/// Bytes that an [`Arena`] keeps for the next message.
const ARENA_KEEP: usize = 1 << 20;
/// Bytes that an inflated message is given at first; it is given twice as many whenever they do not suffice.
const FIRST_STEP: usize = 4 * 1024;

/// Memory for the output of one message at a time, shared by a shard's connections.
///
/// Its bytes are initialised once, not for every message: zlib writes to slices, and clearing what it does not fill
/// would cost more than a small message's compression.
#[derive(Default, Debug)]
pub struct Arena {
    bytes: Vec<u8>,
}

impl Arena {
    /// Bytes of memory held.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives the memory back if a large message made it grow beyond 1 MiB. To be called when a message is done with.
    pub fn trim(&mut self) {
        if self.bytes.capacity() > ARENA_KEEP {
            self.bytes = Vec::new();
        }
    }

    /// Makes room for `len` bytes; those already written stay.
    fn grow(&mut self, len: usize) {
        if len > self.bytes.len() {
            self.bytes.reserve_exact(len - self.bytes.len());
            self.bytes.resize(len, 0);
        }
    }
}

/// Compresses messages with one window size. Allocates nothing once warm.
#[derive(Debug)]
pub struct Deflater {
    stream: Compress,
}

impl Deflater {
    /// A compressor with a window of `2^window_bits` bytes (9 to 15; panics otherwise) and zlib's `level`, 1 to 9.
    pub fn new(window_bits: u8, level: u8) -> Deflater {
        let level = Compression::new(u32::from(level.clamp(1, 9)));
        Deflater { stream: Compress::new_with_window_bits(level, false, window_bits) }
    }

    /// About what one takes: two windows and a link for each place in them, the table of hashes, what is not yet written.
    pub const fn bytes(window_bits: u8) -> usize {
        (4 << window_bits) + (128 << 10) + (64 << 10)
    }

    /// Compresses one message: the payload of a frame with RSV1 set (RFC 7692 section 7.2.1).
    pub fn compress<'a>(&mut self, payload: &[u8], arena: &'a mut Arena) -> &'a [u8] {
        self.stream.reset();
        arena.grow(compressed_bound(payload.len()));
        let mut written = 0;
        loop {
            let read = self.stream.total_in() as usize;
            let status = self.stream.compress(&payload[read..], &mut arena.bytes[written..], FlushCompress::Sync);
            debug_assert!(matches!(status, Ok(Status::Ok | Status::BufError)), "there is no other with a sync flush");
            written = self.stream.total_out() as usize;
            if written < arena.bytes.len() {
                break;
            }
            arena.grow(2 * written);
        }
        debug_assert!(arena.bytes[..written].ends_with(&TAIL));
        &arena.bytes[..written.saturating_sub(TAIL.len())]
    }
}

/// Enough for any message of `len` bytes to be compressed at one go, by zlib's own bound for its weakest settings
/// (nine bits a byte), and the tail.
const fn compressed_bound(len: usize) -> usize {
    len + len / 8 + len / 128 + 64
}

/// The largest compressed payload worth receiving when a message may have `max_message` bytes: no compressor makes
/// more of it.
pub const fn max_compressed(max_message: u32) -> u64 {
    compressed_bound(max_message as usize) as u64
}

/// Why a message could not be inflated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InflateError {
    /// It is larger than the limit.
    #[error("message is larger than the limit")]
    TooBig,
    /// It is no deflate stream.
    #[error("message does not inflate")]
    Corrupt,
}

/// Decompresses messages of any window size. Allocates nothing once warm.
#[derive(Debug)]
pub struct Inflater {
    stream: Decompress,
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Inflater {
    /// About what one takes.
    pub const BYTES: usize = 40 << 10;

    /// A decompressor with a window of 32 KiB. A smaller one would save nothing: zlib-rs allocates this much anyway.
    pub fn new() -> Inflater {
        Inflater { stream: Decompress::new_with_window_bits(false, *WINDOW_BITS.end()) }
    }

    /// Inflates a message that refers to nothing before it (RFC 7692 section 7.2.2).
    ///
    /// # Errors
    /// The message has more than `limit` bytes, or is not a whole one. No more than `limit + 1` bytes are inflated, in
    /// an arena that grows as they come.
    pub fn inflate<'a>(
        &mut self,
        compressed: &[u8],
        arena: &'a mut Arena,
        limit: usize,
    ) -> Result<&'a mut [u8], InflateError> {
        self.stream.reset(false);
        let mut run = Run { stream: &mut self.stream, arena, limit, written: 0 };
        // Some senders flush an empty message to nothing at all.
        if !compressed.is_empty() && !run.feed(compressed)? {
            run.feed_tail(&TAIL)?;
            if !run.feed_tail(&LAST_BLOCK)? {
                return Err(InflateError::Corrupt);
            }
        }
        Ok(run.finish())
    }

    /// Inflates a message that may refer to the messages before it, which this inflater must have seen. That it was cut
    /// within a block is noticed less surely: to be sure would end the context.
    ///
    /// # Errors
    /// As [`Inflater::inflate`]; the inflater is of no further use then.
    pub fn inflate_next<'a>(
        &mut self,
        compressed: &[u8],
        arena: &'a mut Arena,
        limit: usize,
    ) -> Result<&'a mut [u8], InflateError> {
        let mut run = Run { stream: &mut self.stream, arena, limit, written: 0 };
        if !compressed.is_empty() && !run.feed(compressed)? {
            run.feed_tail(&TAIL)?;
        }
        Ok(run.finish())
    }
}

/// A message being inflated.
struct Run<'s, 'a> {
    stream: &'s mut Decompress,
    arena: &'a mut Arena,
    limit: usize,
    written: usize,
}

impl<'a> Run<'_, 'a> {
    /// Inflates more input. `true`: it ended in a block marked as the last.
    fn feed(&mut self, mut input: &[u8]) -> Result<bool, InflateError> {
        loop {
            // One byte beyond the limit shows that there are more.
            let end = self.arena.bytes.len().min(self.limit + 1);
            if self.written == end {
                self.arena.grow((2 * end).max(FIRST_STEP).min(self.limit + 1));
                continue;
            }
            let (read, written) = (self.stream.total_in(), self.stream.total_out());
            let output = &mut self.arena.bytes[self.written..end];
            let status =
                self.stream.decompress(input, output, FlushDecompress::Sync).map_err(|_| InflateError::Corrupt)?;
            input = &input[(self.stream.total_in() - read) as usize..];
            self.written += (self.stream.total_out() - written) as usize;
            if self.written > self.limit {
                return Err(InflateError::TooBig);
            }
            if status == Status::StreamEnd {
                // A last block may be followed by others (RFC 7692 section 7.2.3.4). With it a deflate stream is over
                // (RFC 1951 section 3.2.3), so what follows refers to nothing before it.
                self.stream.reset(false);
                if input.is_empty() {
                    return Ok(true);
                }
            } else if self.written < end {
                // Room is left, so nothing more comes of this input, of which nothing is left.
                return if input.is_empty() { Ok(false) } else { Err(InflateError::Corrupt) };
            }
        }
    }

    /// Inflates what the sender has left out. That says nothing, unless a message cut within a block took it for data.
    fn feed_tail(&mut self, tail: &[u8]) -> Result<bool, InflateError> {
        let written = self.written;
        let last = self.feed(tail)?;
        if self.written == written { Ok(last) } else { Err(InflateError::Corrupt) }
    }

    fn finish(self) -> &'a mut [u8] {
        &mut self.arena.bytes[..self.written]
    }
}

/// What the server makes of a client's offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Bits of the largest window to compress with, 9 to 15.
    pub window_bits: u8,
    /// Whether a client that would like to may keep its context from message to message, at the price of an
    /// [`Inflater`] (about 40 KiB) for its connection.
    pub client_takeover: bool,
}

/// An offer accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// Bits of the window that the server compresses with, 9 to 15.
    pub window_bits: u8,
    /// Whether the client's messages refer to those before them, so that its connection needs an inflater of its own.
    pub client_takeover: bool,
    /// Value of the response's `Sec-WebSocket-Extensions`.
    pub response: String,
}

/// Answers a client's `Sec-WebSocket-Extensions` fields (RFC 7692 section 7.1), given in their order: with the first
/// offer that is valid and can be met. `None`: there is none, so the connection is not compressed.
///
/// The answer never has `client_max_window_bits`, as the inflater's window is the largest in any case.
pub fn negotiate<'a>(header_values: impl Iterator<Item = &'a str>, policy: Policy) -> Option<Negotiated> {
    debug_assert!(WINDOW_BITS.contains(&policy.window_bits));
    header_values.flat_map(|value| Offers { rest: value }).flatten().next().map(|offer| offer.accept(policy))
}

/// The parameters of one offer of `permessage-deflate`.
#[derive(Default)]
struct Offer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: bool,
}

impl Offer {
    /// Adds a parameter; `None` if that makes the offer one to decline: unknown, a duplicate, or of a wrong value.
    fn with(mut self, name: &str, value: Option<&str>) -> Option<Offer> {
        let duplicate = match (name, value) {
            ("server_no_context_takeover", None) => std::mem::replace(&mut self.server_no_context_takeover, true),
            ("client_no_context_takeover", None) => std::mem::replace(&mut self.client_no_context_takeover, true),
            ("server_max_window_bits", Some(value)) => {
                let bits = window_bits(value).filter(|bits| WINDOW_BITS.contains(bits))?;
                self.server_max_window_bits.replace(bits).is_some()
            }
            ("client_max_window_bits", value) => {
                if let Some(value) = value {
                    window_bits(value)?;
                }
                std::mem::replace(&mut self.client_max_window_bits, true)
            }
            _ => return None,
        };
        (!duplicate).then_some(self)
    }

    fn accept(self, policy: Policy) -> Negotiated {
        let client_takeover = policy.client_takeover && !self.client_no_context_takeover;
        let mut response = String::from("permessage-deflate; server_no_context_takeover");
        if !client_takeover {
            response.push_str("; client_no_context_takeover");
        }
        let mut window_bits = policy.window_bits;
        if let Some(bits) = self.server_max_window_bits {
            window_bits = window_bits.min(bits);
            response.push_str("; server_max_window_bits=");
            response.push_str(&window_bits.to_string());
        }
        Negotiated { window_bits, client_takeover, response }
    }
}

/// A window size as RFC 7692 section 7.1.2 has it: 8 to 15, no leading zero.
fn window_bits(value: &str) -> Option<u8> {
    let digits = !value.starts_with('0') && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|bits| digits && (8..=15).contains(bits))
}

/// The elements of one `Sec-WebSocket-Extensions` field (RFC 6455 section 9.1), each an offer, or `None` if it is
/// another extension or to be declined. What follows a syntax error is not looked at.
struct Offers<'a> {
    rest: &'a str,
}

/// The field is not as the grammar wants it.
struct Malformed;

impl Iterator for Offers<'_> {
    type Item = Option<Offer>;

    fn next(&mut self) -> Option<Option<Offer>> {
        self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
        if self.rest.is_empty() {
            return None;
        }
        Some(self.extension().unwrap_or_else(|Malformed| {
            self.rest = "";
            None
        }))
    }
}

impl Offers<'_> {
    fn extension(&mut self) -> Result<Option<Offer>, Malformed> {
        let mut offer = (self.token()? == "permessage-deflate").then(Offer::default);
        while self.eat(';') {
            let name = self.token()?.to_owned();
            let value = if self.eat('=') { Some(self.value()?) } else { None };
            offer = offer.and_then(|offer| offer.with(&name, value.as_deref()));
        }
        if self.rest.is_empty() || self.rest.starts_with(',') { Ok(offer) } else { Err(Malformed) }
    }

    /// Takes a separator and the white space around it, if it is what comes next.
    fn eat(&mut self, separator: char) -> bool {
        let rest = self.rest.trim_start_matches([' ', '\t']);
        let after = rest.strip_prefix(separator);
        self.rest = after.map_or(rest, |after| after.trim_start_matches([' ', '\t']));
        after.is_some()
    }

    /// Takes a token (RFC 9110 section 5.6.2).
    fn token(&mut self) -> Result<&str, Malformed> {
        let end = self.rest.bytes().position(|byte| !is_token(byte)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    /// Takes a parameter's value: a token, or a quoted string that is a token when unquoted (RFC 6455 section 9.1).
    fn value(&mut self) -> Result<String, Malformed> {
        let Some(quoted) = self.rest.strip_prefix('"') else { return self.token().map(str::to_owned) };
        let mut value = String::new();
        let mut chars = quoted.chars();
        loop {
            match chars.next().ok_or(Malformed)? {
                '"' => break,
                '\\' => value.push(chars.next().ok_or(Malformed)?),
                other => value.push(other),
            }
        }
        self.rest = chars.as_str();
        if !value.is_empty() && value.bytes().all(is_token) { Ok(value) } else { Err(Malformed) }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
