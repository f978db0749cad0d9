//! What is sent: a stamp that says which message it is, and a fill that shows whether it came through as it was.
//!
//! ```text
//! ├ tag, 8 ┤ topic, seq, due, check: 24 characters ┤ fill, up to the size ┤
//! ```
//!
//! All of it is printable ASCII that JSON does not escape, so a payload can be put into a string as it is. The stamp is
//! base64url. The tag is the same in all messages of a run, so that the stamp is found wherever a server's envelope has put
//! it. The fill is a piece of a pattern that both sides know; which piece depends on the stamp.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::options::Fill;
use crate::limits::MAX_MESSAGE_BYTES;

/// Bytes of a stamp, and so of the smallest payload.
pub const STAMP_BYTES: usize = 32;

/// What every stamp begins with, so that hardly any other bytes look like one.
const MARK: [u8; 2] = [0xba, 0x9d];
/// Characters of mark and run.
const TAG_BYTES: usize = 8;
/// Bytes of a stamp before they are base64: mark 2, run 4, topic 4, seq 5, due 6, check 3.
const RAW_BYTES: usize = 24;
const RAW_TAG_BYTES: usize = 6;
const RAW_CHECK: usize = 21;

/// The greatest prime that three bytes hold.
const CHECK_PRIME: u64 = 16_777_213;

/// Bytes of one record of the fill.
const RECORD: usize = 40;
/// Records that a fill may begin with.
const STARTS: usize = 256;

const _: () = {
    assert!(RAW_BYTES * 4 == STAMP_BYTES * 3 && RAW_TAG_BYTES * 4 == TAG_BYTES * 3, "base64 without padding");
    assert!(CHECK_PRIME < 1 << 24, "a remainder fits three bytes, and four of them with five bytes more a u64");
};

/// What a message says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Which topic it was published to.
    pub topic: u32,
    /// Its position in that topic: 0, 1, 2, … below 2⁴⁰.
    pub seq: u64,
    /// When it was due, in nanoseconds since the run's start: below 2⁴⁸, three days.
    pub due: u64,
}

/// What is in a message that came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// A message of this run, in whole and unchanged.
    Ours(Stamp),
    /// No stamp of this run.
    Foreign,
    /// A stamp of this run, but it or what follows it was changed or cut.
    Corrupt,
}

/// The messages of one run, or of one publisher: all of one size.
#[derive(Clone, Debug)]
pub struct Payloads {
    run: u32,
    tag: [u8; TAG_BYTES],
    /// Bytes of a fill.
    fill: usize,
    /// Every fill is a piece of it, that begins with one of the first records.
    pattern: Vec<u8>,
}

impl Payloads {
    /// Messages of so many bytes. `run` tells them apart from those of another run or publisher.
    ///
    /// # Errors
    /// They are too small for a stamp, or larger than any message may be.
    pub fn new(bytes: usize, fill: Fill, run: u32) -> super::Result<Payloads> {
        if bytes < STAMP_BYTES {
            return Err(format!("a message of {bytes} bytes has no room for its stamp, of {STAMP_BYTES}").into());
        }
        if bytes as u64 > MAX_MESSAGE_BYTES {
            return Err(format!("a message of {bytes} bytes is too large: at most {MAX_MESSAGE_BYTES}").into());
        }
        let mut tag = [0; TAG_BYTES];
        encode(&raw_tag(run), &mut tag);
        let fill_bytes = bytes - STAMP_BYTES;
        let records = if fill_bytes == 0 { 0 } else { STARTS + fill_bytes.div_ceil(RECORD) };
        Ok(Payloads { run, tag, fill: fill_bytes, pattern: pattern(fill, records, run) })
    }

    /// Bytes of a message.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        STAMP_BYTES + self.fill
    }

    /// Appends a message, [`Payloads::len`] bytes.
    pub fn write(&self, stamp: Stamp, out: &mut Vec<u8>) {
        let mut text = [0; STAMP_BYTES];
        encode(&raw_stamp(self.run, stamp), &mut text);
        out.extend_from_slice(&text);
        out.extend_from_slice(self.fill_of(stamp));
    }

    /// Looks for one of these messages in one that came: anywhere, as servers have envelopes. What follows the payload is
    /// the envelope's, and not looked at.
    pub fn find(&self, message: &[u8]) -> Found {
        let mut found = Found::Foreign;
        let mut rest = message;
        while let Some(at) = position(rest, self.tag) {
            rest = &rest[at..];
            match self.read(rest) {
                Some(stamp) => return Found::Ours(stamp),
                None => found = Found::Corrupt,
            }
            rest = &rest[1..];
        }
        found
    }

    /// The stamp of the payload that `bytes` begin with, if all of it is as it was sent.
    fn read(&self, bytes: &[u8]) -> Option<Stamp> {
        let (text, rest) = bytes.split_first_chunk()?;
        let stamp = parse_stamp(self.run, text)?;
        (rest.get(..self.fill)? == self.fill_of(stamp)).then_some(stamp)
    }

    /// Topic and position decide, so that a fill that got behind another message's stamp is noticed.
    fn fill_of(&self, stamp: Stamp) -> &[u8] {
        let start = stamp.seq.wrapping_add(u64::from(stamp.topic)) as usize % STARTS * RECORD;
        self.pattern.get(start..start + self.fill).unwrap_or_default()
    }
}

/// Where the tag is. Eight bytes are compared at once: there is no quicker way that stays linear for any message.
fn position(message: &[u8], tag: [u8; TAG_BYTES]) -> Option<usize> {
    let tag = u64::from_ne_bytes(tag);
    message.windows(TAG_BYTES).position(|window| window.first_chunk().is_some_and(|w| u64::from_ne_bytes(*w) == tag))
}

fn encode(raw: &[u8], text: &mut [u8]) {
    let written = URL_SAFE_NO_PAD.encode_slice(raw, text);
    debug_assert_eq!(written, Ok(raw.len() / 3 * 4));
}

fn raw_tag(run: u32) -> [u8; RAW_TAG_BYTES] {
    let [a, b, c, d] = run.to_be_bytes();
    [MARK[0], MARK[1], a, b, c, d]
}

fn raw_stamp(run: u32, stamp: Stamp) -> [u8; RAW_BYTES] {
    debug_assert!(stamp.seq >> 40 == 0 && stamp.due >> 48 == 0);
    let mut raw = [0; RAW_BYTES];
    raw[..6].copy_from_slice(&raw_tag(run));
    raw[6..10].copy_from_slice(&stamp.topic.to_be_bytes());
    raw[10..15].copy_from_slice(&stamp.seq.to_be_bytes()[3..]);
    raw[15..21].copy_from_slice(&stamp.due.to_be_bytes()[2..]);
    let check = check(&raw[..RAW_CHECK]);
    raw[RAW_CHECK..].copy_from_slice(&check.to_be_bytes()[5..]);
    raw
}

/// The stamp of its 32 characters, if it is of this run and its check agrees.
fn parse_stamp(run: u32, text: &[u8; STAMP_BYTES]) -> Option<Stamp> {
    let mut raw = [0; RAW_BYTES];
    URL_SAFE_NO_PAD.decode_slice(text, &mut raw).ok()?;
    let stamp =
        Stamp { topic: big_endian(&raw[6..10]) as u32, seq: big_endian(&raw[10..15]), due: big_endian(&raw[15..21]) };
    (raw == raw_stamp(run, stamp)).then_some(stamp)
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// The bytes as one number, modulo a prime. So any change of one character shows: it changes the number by less than the
/// prime, times a power of two.
fn check(bytes: &[u8]) -> u64 {
    bytes.chunks(5).fold(0, |sum, chunk| (sum << (8 * chunk.len()) | big_endian(chunk)) % CHECK_PRIME)
}

/// So many records.
fn pattern(fill: Fill, records: usize, run: u32) -> Vec<u8> {
    let mut random = Random::new(run);
    let mut pattern = Vec::with_capacity(records * RECORD);
    match fill {
        Fill::Ticks => ticks(records, &mut random, &mut pattern),
        Fill::Random => {
            const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            pattern.extend((0..records * RECORD).map(|_| ALPHABET[random.below(64) as usize]));
        }
    }
    pattern
}

/// Quotes of a few symbols, whose prices wander.
fn ticks(records: usize, random: &mut Random, out: &mut Vec<u8>) {
    const SYMBOLS: [&str; 8] = ["ACME", "BOLT", "CRUX", "DYNE", "ERGO", "FLUX", "GLEN", "HALO"];
    let mut cents = SYMBOLS.map(|_| 10_000 + random.below(80_000));
    for _ in 0..records {
        let symbol = random.below(SYMBOLS.len() as u64) as usize;
        let bid = (cents[symbol] + random.below(21) - 10).clamp(10_000, 99_000);
        cents[symbol] = bid;
        let ask = bid + 1 + random.below(5);
        let volume = 100 * (10 + random.below(90));
        let (name, bid, bid_cents, ask, ask_cents) = (SYMBOLS[symbol], bid / 100, bid % 100, ask / 100, ask % 100);
        let record = format!("sym={name};bid={bid}.{bid_cents:02};ask={ask}.{ask_cents:02};vol={volume};");
        debug_assert_eq!(record.len(), RECORD);
        out.extend_from_slice(record.as_bytes());
    }
}

/// Numbers that look like random ones, the same for the same seed (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn new(seed: u32) -> Random {
        Random(u64::from(seed) ^ 0x9e37_79b9_7f4a_7c15)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) * limit >> 32
    }
}
