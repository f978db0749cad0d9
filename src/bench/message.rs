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
use super::{Result, Usage};
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

/// The greatest prime that three bytes hold.
const CHECK_PRIME: u64 = 16_777_213;

/// Bytes of one record of the fill.
const RECORD: usize = 40;
/// Records that a fill may begin with.
const STARTS: usize = 256;

const _: () = {
    assert!(RAW_BYTES * 4 == STAMP_BYTES * 3 && RAW_TAG_BYTES * 4 == TAG_BYTES * 3, "base64 without padding");
    assert!(CHECK_PRIME < 1 << 24, "a remainder fits three bytes, and with five bytes more a u64");
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

/// Whether messages may have so many bytes.
///
/// # Errors
/// [`Usage`]: they are too small for a stamp, or larger than any message may be.
pub fn check_size(bytes: usize) -> Result<()> {
    if bytes < STAMP_BYTES {
        return Usage::error(format!("--payload {bytes} has no room for a stamp, of {STAMP_BYTES} bytes"));
    }
    if bytes as u64 > MAX_MESSAGE_BYTES {
        return Usage::error(format!("--payload {bytes} is too large: at most {MAX_MESSAGE_BYTES} bytes"));
    }
    Ok(())
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
    /// [`Usage`]: they are too small for a stamp, or larger than any message may be.
    pub fn new(bytes: usize, fill: Fill, run: u32) -> Result<Payloads> {
        check_size(bytes)?;
        let mut tag = [0; TAG_BYTES];
        encode(&raw_tag(run), &mut tag);
        let rest = bytes - STAMP_BYTES;
        Ok(Payloads { run, tag, fill: rest, pattern: pattern(fill, STARTS + rest.div_ceil(RECORD), run) })
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
        for next in self.each(message) {
            match next {
                Found::Ours(_) => return next,
                _ => found = next,
            }
        }
        found
    }

    /// All of these messages in one that came, in their order: a server may put several publications into one message.
    pub fn each<'a>(&'a self, message: &'a [u8]) -> impl Iterator<Item = Found> + 'a {
        let mut rest = message;
        std::iter::from_fn(move || {
            let here = &rest[position(rest, self.tag)?..];
            let stamp = self.read(here);
            rest = &here[stamp.map_or(1, |_| self.len())..];
            Some(stamp.map_or(Found::Corrupt, Found::Ours))
        })
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
    raw[21..24].copy_from_slice(&check(run, stamp).to_be_bytes()[5..]);
    raw
}

/// The stamp of its 32 characters, if it is of this run and its check agrees.
fn parse_stamp(run: u32, text: &[u8; STAMP_BYTES]) -> Option<Stamp> {
    let mut raw = [0; RAW_BYTES];
    URL_SAFE_NO_PAD.decode_slice(text, &mut raw).ok()?;
    let stamp =
        Stamp { topic: big_endian(&raw[6..10]) as u32, seq: big_endian(&raw[10..15]), due: big_endian(&raw[15..21]) };
    (raw[..6] == raw_tag(run) && big_endian(&raw[21..24]) == check(run, stamp)).then_some(stamp)
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Run, topic, seq and due as one number of 19 bytes, modulo a prime. So any change of one character shows: it changes the
/// number by less than the prime, times a power of two.
fn check(run: u32, stamp: Stamp) -> u64 {
    let head = (u64::from(run) << 32 | u64::from(stamp.topic)) % CHECK_PRIME;
    let with_seq = (head << 40 | stamp.seq) % CHECK_PRIME;
    let with_most = (with_seq << 24 | stamp.due >> 24) % CHECK_PRIME;
    (with_most << 24 | stamp.due & 0xff_ffff) % CHECK_PRIME
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
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) * limit) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::deflate::{Arena, Deflater};
    use proptest::prelude::*;
    use proptest::sample::Index;

    const RUN: u32 = 0xfeed_beef;

    fn message(payloads: &Payloads, stamp: Stamp) -> Vec<u8> {
        let mut out = Vec::new();
        payloads.write(stamp, &mut out);
        assert_eq!(out.len(), payloads.len());
        out
    }

    fn stamps() -> impl Strategy<Value = Stamp> {
        (any::<u32>(), 0u64..1 << 40, 0u64..1 << 48).prop_map(|(topic, seq, due)| Stamp { topic, seq, due })
    }

    fn any_payloads() -> impl Strategy<Value = Payloads> {
        let fill = prop_oneof![Just(Fill::Ticks), Just(Fill::Random)];
        (STAMP_BYTES..2000, fill, any::<u32>()).prop_map(|(len, fill, run)| Payloads::new(len, fill, run).unwrap())
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let error = Payloads::new(STAMP_BYTES - 1, Fill::Ticks, RUN).unwrap_err().to_string();
        assert_eq!(error, "--payload 31 has no room for a stamp, of 32 bytes");
        assert!(Payloads::new(MAX_MESSAGE_BYTES as usize + 1, Fill::Ticks, RUN).is_err());
        assert_eq!(Payloads::new(STAMP_BYTES, Fill::Random, RUN).unwrap().len(), STAMP_BYTES);
    }

    #[test]
    fn what_is_sent_looks_like_this() {
        let stamp = Stamp { topic: 7, seq: 1000, due: 5_000_000_000 };
        let text = |fill| String::from_utf8(message(&Payloads::new(112, fill, RUN).unwrap(), stamp)).unwrap();
        let ticks = text(Fill::Ticks);
        assert!(ticks.starts_with("up3-7b7v"), "{ticks}");
        let records: Vec<&str> = ticks[STAMP_BYTES..].split_inclusive("vol=").collect();
        assert!(records.len() == 3 && records[0].starts_with("sym="), "{ticks}");
        assert_ne!(ticks, text(Fill::Random));
    }

    /// Of a message of 16 KiB, and of 1 KiB. Market data is names and digits: names go, of the digits the most stay.
    #[test]
    fn ticks_compress_and_random_text_hardly_does() {
        let ratio = |fill, len| {
            let (mut deflater, mut arena) = (Deflater::new(15, 6), Arena::default());
            let payload = message(&Payloads::new(len, fill, RUN).unwrap(), Stamp { topic: 0, seq: 0, due: 0 });
            len as f64 / deflater.compress(&payload, &mut arena).len() as f64
        };
        let ticks = [ratio(Fill::Ticks, 1 << 14), ratio(Fill::Ticks, 1 << 10)];
        assert!((3.0..6.0).contains(&ticks[0]) && (2.0..5.0).contains(&ticks[1]), "{ticks:?}");
        let random = ratio(Fill::Random, 1 << 14);
        assert!((1.2..1.4).contains(&random), "six bits a byte: {random}");
    }

    #[test]
    fn no_changed_byte_goes_unnoticed() {
        let payloads = Payloads::new(STAMP_BYTES + 17, Fill::Ticks, RUN).unwrap();
        let stamp = Stamp { topic: 3, seq: 123_456, due: 987_654_321 };
        let sent = message(&payloads, stamp);
        for at in 0..sent.len() {
            for byte in (0..=255).filter(|&byte| byte != sent[at]) {
                let mut came = sent.clone();
                came[at] = byte;
                let expected = if at < TAG_BYTES { Found::Foreign } else { Found::Corrupt };
                assert_eq!(payloads.find(&came), expected, "{byte} at {at}");
            }
        }
    }

    #[test]
    fn a_cut_message_is_corrupt_once_its_tag_is_there() {
        let payloads = Payloads::new(100, Fill::Random, RUN).unwrap();
        let sent = message(&payloads, Stamp { topic: 3, seq: 9, due: 1 });
        for len in 0..sent.len() {
            let expected = if len < TAG_BYTES { Found::Foreign } else { Found::Corrupt };
            assert_eq!(payloads.find(&sent[..len]), expected, "{len}");
        }
    }

    #[test]
    fn a_fill_behind_the_stamp_of_another_message_is_noticed() {
        let payloads = Payloads::new(64, Fill::Ticks, RUN).unwrap();
        let stamp = Stamp { topic: 1, seq: 10, due: 0 };
        let sent = message(&payloads, stamp);
        for other in [Stamp { topic: 2, ..stamp }, Stamp { seq: 11, ..stamp }] {
            let other = message(&payloads, other);
            assert_eq!(payloads.find(&[&sent[..STAMP_BYTES], &other[STAMP_BYTES..]].concat()), Found::Corrupt);
        }
    }

    #[test]
    fn a_whole_message_after_a_broken_one_is_found() {
        let payloads = Payloads::new(50, Fill::Ticks, RUN).unwrap();
        let stamp = Stamp { topic: 1, seq: 10, due: 0 };
        let sent = message(&payloads, stamp);
        assert_eq!(payloads.find(&[&sent[..40], &sent[..]].concat()), Found::Ours(stamp));
        assert_eq!(payloads.find(&sent[..8].repeat(1000)), Found::Corrupt);
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_found_in_any_envelope(
            payloads in any_payloads(),
            stamp in stamps(),
            before: Vec<u8>,
            after: Vec<u8>,
        ) {
            let sent = message(&payloads, stamp);
            prop_assert!(sent.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'));
            prop_assert_eq!(payloads.find(&sent), Found::Ours(stamp));
            let wrapped = [&before[..], &sent, &after].concat();
            prop_assert_eq!(payloads.find(&wrapped), Found::Ours(stamp));
        }

        #[test]
        fn changes_of_any_bytes_never_make_another_stamp(
            payloads in any_payloads(),
            stamp in stamps(),
            changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..8),
        ) {
            let sent = message(&payloads, stamp);
            let mut came = sent.clone();
            for (at, byte) in changes {
                let at = at.index(came.len());
                came[at] = byte;
            }
            let found = payloads.find(&came);
            prop_assert_eq!(matches!(found, Found::Ours(_)), came == sent, "{:?}", found);
        }

        #[test]
        fn messages_of_another_run_are_foreign(payloads in any_payloads(), stamp in stamps(), run: u32) {
            prop_assume!(run != payloads.run);
            let other = Payloads::new(payloads.len(), Fill::Ticks, run).unwrap();
            prop_assert_eq!(payloads.find(&message(&other, stamp)), Found::Foreign);
        }

        #[test]
        fn nothing_is_found_in_other_bytes(payloads in any_payloads(), bytes: Vec<u8>) {
            prop_assert_eq!(payloads.find(&bytes), Found::Foreign);
        }
    }
}
