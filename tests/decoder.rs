//! The decoder against a naive one, on random conversations: well-formed, spoilt, and cut anywhere.

mod wire;

use proptest::prelude::*;
use proptest::sample::Index;
use uproar::hub::frame::MessageKind;
use uproar::ws::deflate::{Arena, Deflater, InflateError, Inflater, max_compressed};
use uproar::ws::frame::{Control, Opcode};
use uproar::ws::message::{Compression, Settings};
use wire::{ClientFrame, Seen, cut, decode};

/// The naive decoder: all bytes at once, every frame copied, nothing kept between calls. It follows RFC 6455 section
/// by section rather than the decoder under test.
struct Naive<'a> {
    bytes: &'a [u8],
    at: usize,
    settings: Settings,
    /// The fragmented message: text, compressed, its payload.
    message: Option<(bool, bool, Vec<u8>)>,
    inflater: Inflater,
    seen: Vec<Seen>,
}

/// Why decoding stopped.
#[derive(PartialEq, Debug)]
enum Stop {
    /// More bytes are needed.
    Wait,
    /// The client closed.
    Closed,
    /// It is to be closed with this code.
    Violation(u16),
}

impl Naive<'_> {
    fn byte(&mut self) -> Result<u8, Stop> {
        let byte = *self.bytes.get(self.at).ok_or(Stop::Wait)?;
        self.at += 1;
        Ok(byte)
    }

    fn number(&mut self, bytes: usize) -> Result<u64, Stop> {
        (0..bytes).try_fold(0, |sum, _| Ok(sum << 8 | u64::from(self.byte()?)))
    }

    fn run(mut self) -> (Vec<Seen>, Stop) {
        loop {
            if let Err(stop) = self.frame() {
                return (self.seen, stop);
            }
        }
    }

    fn frame(&mut self) -> Result<(), Stop> {
        let bad = Err(Stop::Violation(1002));
        let first = self.byte()?;
        let (fin, rsv1, opcode) = (first >= 0x80, first & 0x40 != 0, first & 0x0f);
        let control = opcode >= 8;
        let may_compress = self.settings.compression != Compression::Off && matches!(opcode, 1 | 2);
        let known = matches!(opcode, 0 | 1 | 2 | 8 | 9 | 10);
        if !known || first & 0x30 != 0 || (rsv1 && !may_compress) || (control && !fin) {
            return bad;
        }
        if !control && (opcode == 0) != self.message.is_some() {
            return bad;
        }
        let second = self.byte()?;
        if second < 0x80 || (control && second & 0x7f > 125) {
            return bad;
        }
        let len = match second & 0x7f {
            126 => self.number(2)?,
            127 => self.number(8)?,
            short => u64::from(short),
        };
        let minimal = match second & 0x7f {
            126 => len > 125,
            127 => len > 0xffff && len < 1 << 63,
            _ => true,
        };
        if !minimal {
            return bad;
        }
        if control { self.control(opcode, len as usize) } else { self.data(opcode, fin, rsv1, len) }
    }

    /// The payload as far as it is there, and whether it is whole.
    fn payload(&mut self, len: usize) -> Result<(Vec<u8>, bool), Stop> {
        let key = self.number(4)? as u32;
        let there = &self.bytes[self.at..self.bytes.len().min(self.at + len)];
        self.at += there.len();
        let key = key.to_be_bytes().into_iter().cycle();
        Ok((there.iter().zip(key).map(|(byte, mask)| byte ^ mask).collect(), there.len() == len))
    }

    fn control(&mut self, opcode: u8, len: usize) -> Result<(), Stop> {
        let (payload, true) = self.payload(len)? else { return Err(Stop::Wait) };
        match opcode {
            9 => self.seen.push(Seen::Ping(payload)),
            10 => self.seen.push(Seen::Pong(payload)),
            _ if payload.is_empty() => {
                self.seen.push(Seen::Close(None, String::new()));
                return Err(Stop::Closed);
            }
            _ if payload.len() == 1 => return Err(Stop::Violation(1002)),
            _ => {
                let code = u16::from(payload[0]) << 8 | u16::from(payload[1]);
                if code < 1000 || [1004, 1005, 1006].contains(&code) || (1015..3000).contains(&code) || code > 4999 {
                    return Err(Stop::Violation(1002));
                }
                let reason = String::from_utf8(payload[2..].to_vec()).map_err(|_| Stop::Violation(1007))?;
                self.seen.push(Seen::Close(Some(code), reason));
                return Err(Stop::Closed);
            }
        }
        Ok(())
    }

    fn data(&mut self, opcode: u8, fin: bool, rsv1: bool, len: u64) -> Result<(), Stop> {
        let (text, compressed, mut joined) = self.message.take().unwrap_or((opcode == 1, rsv1, Vec::new()));
        let max = self.settings.max_message;
        let max = if compressed { max_compressed(max) } else { u64::from(max) };
        let too_big = joined.len() as u64 + len > max;
        if too_big && joined.len() as u64 + len > u64::from(self.settings.max_skipped) {
            return Err(Stop::Violation(1009));
        }
        let (payload, whole) = self.payload(len as usize)?;
        joined.extend(payload);
        let ends = whole && fin;
        if text && !compressed && !too_big {
            let hopeless = |error: std::str::Utf8Error| ends || error.error_len().is_some();
            if std::str::from_utf8(&joined).err().is_some_and(hopeless) {
                return Err(Stop::Violation(1007));
            }
        }
        if !whole {
            return Err(Stop::Wait);
        }
        if !fin {
            self.message = Some((text, compressed, joined));
            return Ok(());
        }
        if too_big {
            self.seen.push(Seen::TooBig);
            return Ok(());
        }
        if compressed {
            let skips = self.settings.max_skipped > 0 && self.settings.compression == Compression::PerMessage;
            joined = match self.inflate(&joined) {
                Err(Stop::Violation(1009)) if skips => {
                    self.seen.push(Seen::TooBig);
                    return Ok(());
                }
                inflated => inflated?,
            };
            if text && std::str::from_utf8(&joined).is_err() {
                return Err(Stop::Violation(1007));
            }
        }
        self.seen.push(Seen::Message(if text { MessageKind::Text } else { MessageKind::Binary }, joined));
        Ok(())
    }

    /// Inflating has its own tests; here an inflater of our own is enough.
    fn inflate(&mut self, compressed: &[u8]) -> Result<Vec<u8>, Stop> {
        let limit = self.settings.max_message as usize;
        let mut arena = Arena::default();
        let inflated = match self.settings.compression {
            Compression::Takeover => self.inflater.inflate_next(compressed, &mut arena, limit),
            _ => Inflater::new().inflate(compressed, &mut arena, limit),
        };
        inflated.map(|bytes| bytes.to_vec()).map_err(|error| match error {
            InflateError::TooBig => Stop::Violation(1009),
            InflateError::Corrupt => Stop::Violation(1007),
        })
    }
}

fn naive(settings: Settings, bytes: &[u8]) -> (Vec<Seen>, Stop) {
    Naive { bytes, at: 0, settings, message: None, inflater: Inflater::new(), seen: Vec::new() }.run()
}

/// Both decoders agree on `bytes`, however they are cut.
fn agree(settings: Settings, bytes: &[u8], cuts: &[usize]) -> Result<(), TestCaseError> {
    let (seen, stop) = naive(settings, bytes);
    for pieces in [vec![bytes], cut(bytes, cuts.iter().copied()), bytes.chunks(1).collect()] {
        let outcome = decode(settings, pieces);
        prop_assert_eq!(&outcome.seen, &seen);
        let code = outcome.violation.map(|violation| violation.code);
        prop_assert_eq!(code, if let Stop::Violation(code) = stop { Some(code) } else { None });
    }
    Ok(())
}

/// A message and how it is sent.
#[derive(Clone, Debug)]
struct Sent {
    kind: MessageKind,
    payload: Vec<u8>,
    compressed: bool,
    /// Where it is cut into fragments.
    cuts: Vec<Index>,
    /// Pings and pongs, each after the fragment of its index.
    controls: Vec<(Index, bool, Vec<u8>)>,
    key: [u8; 4],
}

fn sent() -> impl Strategy<Value = Sent> {
    let text = ".{0,60}".prop_map(|text| (MessageKind::Text, text.into_bytes()));
    let binary = proptest::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| (MessageKind::Binary, bytes));
    let repeated = (any::<u8>(), 0usize..70_000).prop_map(|(byte, len)| (MessageKind::Binary, vec![byte; len]));
    let control = (any::<Index>(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..126));
    (
        prop_oneof![8 => text, 8 => binary, 1 => repeated],
        any::<bool>(),
        proptest::collection::vec(any::<Index>(), 0..4),
        proptest::collection::vec(control, 0..3),
        any::<[u8; 4]>(),
    )
        .prop_map(|((kind, payload), compressed, cuts, controls, key)| Sent {
            kind,
            payload,
            compressed,
            cuts,
            controls,
            key,
        })
}

impl Sent {
    /// The message's frames, and what they must be seen as.
    fn encode(&self, compression: Compression, out: &mut Vec<u8>, seen: &mut Vec<Seen>) {
        let compressed = self.compressed && compression != Compression::Off;
        let mut wire = self.payload.clone();
        if compressed {
            wire = Deflater::new(15, 6).compress(&self.payload, &mut Arena::default()).to_vec();
        }
        let mut cuts: Vec<usize> = self.cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        cuts.sort_unstable();
        let lens = cuts.iter().scan(0, |from, &to| Some(to - std::mem::replace(from, to)));
        let fragments = cut(&wire, lens);
        for (i, fragment) in fragments.iter().enumerate() {
            let opcode = if i == 0 { Opcode::Data(self.kind) } else { Opcode::Continuation };
            let (fin, rsv1) = (i + 1 == fragments.len(), i == 0 && compressed);
            ClientFrame { fin, rsv1, opcode, key: self.key, payload: fragment.to_vec() }.encode(out);
            if fin {
                seen.push(Seen::Message(self.kind, self.payload.clone()));
            }
            for (_, ping, payload) in self.controls.iter().filter(|(at, ..)| at.index(fragments.len()) == i) {
                let (control, event): (_, fn(_) -> _) =
                    if *ping { (Control::Ping, Seen::Ping) } else { (Control::Pong, Seen::Pong) };
                let opcode = Opcode::Control(control);
                ClientFrame { fin: true, rsv1: false, opcode, key: self.key, payload: payload.clone() }.encode(out);
                seen.push(event(payload.clone()));
            }
        }
    }
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::Off), Just(Compression::PerMessage), Just(Compression::Takeover)]
}

fn conversation() -> impl Strategy<Value = (Vec<Sent>, Vec<usize>)> {
    (proptest::collection::vec(sent(), 1..5), proptest::collection::vec(0usize..200, 0..30))
}

proptest! {
    #[test]
    fn a_conversation_is_seen_as_it_was_sent((messages, cuts) in conversation(), compression in compression()) {
        let (mut bytes, mut seen) = (Vec::new(), Vec::new());
        for message in &messages {
            message.encode(compression, &mut bytes, &mut seen);
        }
        let settings = wire::settings(compression);
        let outcome = decode(settings, cut(&bytes, cuts.iter().copied()));
        prop_assert_eq!(outcome.seen, seen);
        prop_assert_eq!(outcome.violation, None);
        prop_assert!(outcome.idle, "nothing is kept between messages");
        agree(settings, &bytes, &cuts)?;
    }

    #[test]
    fn a_spoilt_conversation_is_judged_as_the_naive_decoder_does(
        (messages, cuts) in conversation(),
        compression in compression(),
        max_message in prop_oneof![Just(1u32 << 20), 0u32..400],
        max_skipped in prop_oneof![Just(0), Just(1u32 << 21), 0u32..800],
        spoilt in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        end in any::<Index>(),
    ) {
        let mut bytes = Vec::new();
        for message in &messages {
            message.encode(compression, &mut bytes, &mut Vec::new());
        }
        for (at, byte) in spoilt {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(end.index(bytes.len()) + 1);
        agree(Settings { max_message, max_skipped, compression }, &bytes, &cuts)?;
    }

    #[test]
    fn noise_is_judged_as_the_naive_decoder_does(
        // Headers are likely, so that noise gets past them.
        frames in proptest::collection::vec(
            (
                prop_oneof![4 => proptest::sample::select(vec![0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a, 0xc1, 0xc2, 0x41]), 1 => any::<u8>()],
                prop_oneof![8 => 0x80u8..0x88, 1 => any::<u8>()],
                any::<[u8; 4]>(),
                proptest::collection::vec(any::<u8>(), 0..8),
            ),
            0..8,
        ),
        compression in compression(),
        cuts in proptest::collection::vec(0usize..9, 0..30),
    ) {
        let mut bytes = Vec::new();
        for (first, second, key, payload) in frames {
            bytes.extend([first, second]);
            bytes.extend(key);
            bytes.extend(payload.iter().cycle().take(usize::from(second & 0x7f).min(8 * payload.len())));
        }
        agree(Settings { max_message: 1000, max_skipped: 0, compression }, &bytes, &cuts)?;
        agree(Settings { max_message: 3, max_skipped: 6, compression }, &bytes, &cuts)?;
    }
}
