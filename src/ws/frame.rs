//! Frames (RFC 6455 section 5.2): headers are parsed, the client's for the server and the server's for the load generator;
//! headers of the server's are made.

use crate::error::CloseReason;
use crate::hub::frame::MessageKind;
use crate::limits::{MAX_CONTROL_PAYLOAD, is_close_code};

/// The longest header of a client: two bytes, a 64-bit length and the masking key.
pub const MAX_CLIENT_HEADER: usize = 14;
/// The longest header of a server, which does not mask.
pub const MAX_SERVER_HEADER: usize = 10;
/// The longest reason of a close frame: its payload begins with the code.
pub const MAX_CLOSE_REASON: usize = MAX_CONTROL_PAYLOAD - 2;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_RSV3: u8 = 0x30;
const MASKED: u8 = 0x80;
const LEN_16: u8 = 126;
const LEN_64: u8 = 127;

const _: () = assert!(MAX_CONTROL_PAYLOAD < LEN_16 as usize, "a control frame's length fits the second byte");

/// How a peer broke the protocol, and what its connection is closed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason} ({code})")]
pub struct Violation {
    /// Close code (RFC 6455 section 7.4.1): 1002, 1007 or 1009.
    pub code: u16,
    /// What was wrong, short enough for a close frame.
    pub reason: &'static str,
}

impl Violation {
    /// 1002: the frames are not as RFC 6455 wants them.
    pub const fn protocol(reason: &'static str) -> Violation {
        Violation { code: 1002, reason }
    }

    /// 1007: the payload is not what its type says.
    pub const fn payload(reason: &'static str) -> Violation {
        Violation { code: 1007, reason }
    }

    /// 1009: the message is larger than the server takes.
    pub const fn too_big(reason: &'static str) -> Violation {
        Violation { code: 1009, reason }
    }

    /// The reason as the metrics have it.
    pub fn close_reason(self) -> CloseReason {
        match self.code {
            1007 => CloseReason::Payload,
            1009 => CloseReason::TooBig,
            _ => CloseReason::Protocol,
        }
    }
}

pub(super) const CONTINUATION_OF_NOTHING: Violation = Violation::protocol("continuation of no message");

/// Control frames (RFC 6455 section 5.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    /// The sender will send nothing more.
    Close,
    /// To be answered with a pong of the same payload.
    Ping,
    /// Answers a ping, or says "I live" unasked.
    Pong,
}

/// What a frame is (RFC 6455 section 5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opcode {
    /// The next fragment of a message.
    Continuation,
    /// A message, or its first fragment.
    Data(MessageKind),
    /// A control frame.
    Control(Control),
}

impl Opcode {
    /// The four bits on the wire.
    pub const fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Data(MessageKind::Text) => 0x1,
            Opcode::Data(MessageKind::Binary) => 0x2,
            Opcode::Control(Control::Close) => 0x8,
            Opcode::Control(Control::Ping) => 0x9,
            Opcode::Control(Control::Pong) => 0xa,
        }
    }

    /// The opcode of four bits; `None` if they are reserved.
    pub const fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Data(MessageKind::Text),
            0x2 => Opcode::Data(MessageKind::Binary),
            0x8 => Opcode::Control(Control::Close),
            0x9 => Opcode::Control(Control::Ping),
            0xa => Opcode::Control(Control::Pong),
            _ => return None,
        })
    }
}

/// What the peer may send next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expect {
    /// A message has begun and not ended, so that data must be a continuation.
    pub continuation: bool,
    /// `permessage-deflate` was negotiated, so that RSV1 may say "compressed" (RFC 7692 section 6).
    pub deflate: bool,
}

/// A frame's header; a client's goes up to its masking key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Whether the frame is its message's last.
    pub fin: bool,
    /// Whether the message is compressed; only ever set on a message's first frame.
    pub rsv1: bool,
    /// What it is.
    pub opcode: Opcode,
    /// Bytes of payload, at most 2⁶³ − 1.
    pub len: u64,
    /// Bytes of the header, masking key included.
    pub size: usize,
}

/// Bytes of a masking key.
const KEY_BYTES: usize = 4;

impl Header {
    /// Parses the header of a client's frame at the beginning of `bytes`. `None`: its length is not there yet, though its
    /// masking key may be missing all the same ([`Header::key`]), so that a frame can be refused for its length as early
    /// as possible.
    ///
    /// # Errors
    /// Code 1002. Bytes are judged in their order, so what is reported does not depend on how many have arrived.
    #[inline]
    pub fn parse(bytes: &[u8], expect: Expect) -> Result<Option<Header>, Violation> {
        Header::parse_masked::<true>(bytes, expect)
    }

    /// Parses the header of a server's frame, which must not be masked (RFC 6455 section 5.1), at the beginning of `bytes`.
    /// `None`: it is not there in whole.
    ///
    /// # Errors
    /// As [`Header::parse`].
    #[inline]
    pub fn parse_unmasked(bytes: &[u8], expect: Expect) -> Result<Option<Header>, Violation> {
        Header::parse_masked::<false>(bytes, expect)
    }

    #[inline]
    fn parse_masked<const MASK: bool>(bytes: &[u8], expect: Expect) -> Result<Option<Header>, Violation> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let opcode = parse_first(first, expect)?;
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        if (second & MASKED != 0) != MASK {
            return Err(Violation::protocol(if MASK { "frame is not masked" } else { "frame is masked" }));
        }
        let short = second & !MASKED;
        if matches!(opcode, Opcode::Control(_)) && usize::from(short) > MAX_CONTROL_PAYLOAD {
            return Err(Violation::protocol("control frame is too long"));
        }
        let Some((len, extended)) = parse_len(short, bytes.get(2..).unwrap_or_default())? else { return Ok(None) };
        let fin = first & FIN != 0;
        let size = 2 + extended + if MASK { KEY_BYTES } else { 0 };
        Ok(Some(Header { fin, rsv1: first & RSV1 != 0, opcode, len, size }))
    }

    /// The masking key of the client's header at the beginning of `bytes`, which this was parsed from.
    #[inline]
    pub fn key(&self, bytes: &[u8]) -> Option<[u8; 4]> {
        bytes.get(..self.size)?.last_chunk().copied()
    }
}

/// Judges a header's first byte.
fn parse_first(first: u8, expect: Expect) -> Result<Opcode, Violation> {
    if first & RSV2_RSV3 != 0 {
        return Err(Violation::protocol("reserved bit is set"));
    }
    let Some(opcode) = Opcode::from_bits(first & 0x0f) else {
        return Err(Violation::protocol("reserved opcode"));
    };
    if first & RSV1 != 0 && !(expect.deflate && matches!(opcode, Opcode::Data(_))) {
        return Err(Violation::protocol("reserved bit is set"));
    }
    match opcode {
        Opcode::Control(_) if first & FIN == 0 => Err(Violation::protocol("control frame is fragmented")),
        Opcode::Continuation if !expect.continuation => Err(CONTINUATION_OF_NOTHING),
        Opcode::Data(_) if expect.continuation => Err(Violation::protocol("message inside a fragmented message")),
        _ => Ok(opcode),
    }
}

/// The payload's length from the seven bits of the second byte and what follows it, with how many of the bytes that
/// follow belong to it.
fn parse_len(short: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    let (len, extended, least) = match short {
        LEN_16 => match rest.first_chunk() {
            Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 2, u64::from(LEN_16)),
            None => return Ok(None),
        },
        LEN_64 => match rest.first_chunk() {
            Some(bytes) => (u64::from_be_bytes(*bytes), 8, 1 << 16),
            None => return Ok(None),
        },
        _ => (u64::from(short), 0, 0),
    };
    if len < least {
        return Err(Violation::protocol("length is not minimally encoded"));
    }
    if len >> 63 != 0 {
        return Err(Violation::protocol("length has its highest bit set"));
    }
    Ok(Some((len, extended)))
}

/// The header of a server's frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderBytes {
    bytes: [u8; MAX_SERVER_HEADER],
    len: u8,
}

impl HeaderBytes {
    /// The bytes to send, 2, 4 or 10.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The header of an unfragmented, unmasked frame with `len` bytes of payload, less than 2⁶³. `rsv1`: the payload is
/// compressed.
#[inline]
pub fn encode_header(opcode: Opcode, rsv1: bool, len: u64) -> HeaderBytes {
    debug_assert!(len >> 63 == 0);
    let mut bytes = [0; MAX_SERVER_HEADER];
    bytes[0] = FIN | if rsv1 { RSV1 } else { 0 } | opcode.bits();
    let size = if len < u64::from(LEN_16) {
        bytes[1] = len as u8;
        2
    } else if len < 1 << 16 {
        bytes[1] = LEN_16;
        bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        4
    } else {
        bytes[1] = LEN_64;
        bytes[2..10].copy_from_slice(&len.to_be_bytes());
        10
    };
    HeaderBytes { bytes, len: size }
}

/// A server's control frame, header and payload.
#[derive(Clone, Copy, Debug)]
pub struct ControlFrame {
    bytes: [u8; 2 + MAX_CONTROL_PAYLOAD],
    len: u8,
}

impl ControlFrame {
    /// The bytes to send, 2 to 127.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The concatenation of `parts` is the payload.
    fn new(control: Control, parts: [&[u8]; 2]) -> ControlFrame {
        let mut bytes = [0; 2 + MAX_CONTROL_PAYLOAD];
        let mut end = 2;
        for part in parts {
            bytes[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        let header = encode_header(Opcode::Control(control), false, (end - 2) as u64);
        bytes[..2].copy_from_slice(header.as_slice());
        ControlFrame { bytes, len: end as u8 }
    }
}

/// A close frame. A reason of more than [`MAX_CLOSE_REASON`] bytes is cut at a character. Without a code there is no
/// reason either: a peer's close frame without a code is answered in kind.
pub fn encode_close(code: Option<u16>, reason: &str) -> ControlFrame {
    match code {
        Some(code) => {
            let mut end = reason.len().min(MAX_CLOSE_REASON);
            while !reason.is_char_boundary(end) {
                end -= 1;
            }
            ControlFrame::new(Control::Close, [&code.to_be_bytes(), &reason.as_bytes()[..end]])
        }
        None => ControlFrame::new(Control::Close, [&[], &[]]),
    }
}

/// A ping. A payload of more than 125 bytes is cut.
pub fn encode_ping(payload: &[u8]) -> ControlFrame {
    ControlFrame::new(Control::Ping, [&payload[..payload.len().min(MAX_CONTROL_PAYLOAD)], &[]])
}

/// A pong. A payload of more than 125 bytes, which no ping has, is cut.
pub fn encode_pong(payload: &[u8]) -> ControlFrame {
    ControlFrame::new(Control::Pong, [&payload[..payload.len().min(MAX_CONTROL_PAYLOAD)], &[]])
}

/// Code and reason of a close frame's payload (RFC 6455 sections 5.5.1 and 7.4). Without a code there is no reason.
///
/// # Errors
/// Code 1002 if there is half a code, or one that must not be sent; 1007 if the reason is not UTF-8.
pub fn parse_close(payload: &[u8]) -> Result<(Option<u16>, &str), Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok((None, "")),
            _ => Err(Violation::protocol("close code is cut")),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !is_close_code(code) {
        return Err(Violation::protocol("close code is not allowed"));
    }
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| Violation::payload("close reason is not UTF-8"))?;
    Ok((Some(code), reason))
}

/// Bytes, header and payload, of the server's frame that `bytes` begin with, whose payload need not be there.
/// `None`: not even its header is. For bytes of our own making: nothing is checked.
#[inline]
pub fn first_len(bytes: &[u8]) -> Option<usize> {
    let rest = bytes.get(2..)?;
    Some(match bytes[1] {
        LEN_16 => 4 + usize::from(u16::from_be_bytes(*rest.first_chunk()?)),
        LEN_64 => MAX_SERVER_HEADER + u64::from_be_bytes(*rest.first_chunk()?) as usize,
        short => 2 + usize::from(short),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: Opcode = Opcode::Data(MessageKind::Text);
    const BINARY: Opcode = Opcode::Data(MessageKind::Binary);

    #[test]
    fn opcodes_are_those_whose_bits_they_have() {
        let known: Vec<u8> = (0..=255).filter(|&bits| Opcode::from_bits(bits).is_some()).collect();
        assert_eq!(known, [0, 1, 2, 8, 9, 10]);
        for bits in known {
            assert_eq!(Opcode::from_bits(bits).map(Opcode::bits), Some(bits));
        }
    }

    #[test]
    fn headers_are_as_short_as_their_length_allows() {
        for (opcode, rsv1, len, bytes) in [
            (TEXT, false, 0, &[0x81, 0][..]),
            (BINARY, false, 125, &[0x82, 125]),
            (TEXT, true, 126, &[0xc1, 126, 0, 126]),
            (BINARY, true, 65535, &[0xc2, 126, 0xff, 0xff]),
            (BINARY, false, 65536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
            (BINARY, false, (1 << 63) - 1, &[0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ] {
            assert_eq!(encode_header(opcode, rsv1, len).as_slice(), bytes);
        }
    }

    #[test]
    fn control_frames_are_cut_to_what_fits() {
        assert_eq!(encode_close(None, "not sent").as_slice(), b"\x88\x00");
        assert_eq!(encode_close(Some(1000), "").as_slice(), b"\x88\x02\x03\xe8");
        assert_eq!(encode_close(Some(1002), "bad").as_slice(), b"\x88\x05\x03\xeabad");
        let long = encode_close(Some(1000), &"é".repeat(100));
        assert_eq!(long.as_slice().len(), 2 + 2 + 122, "123 would cut a character in two");
        assert!(std::str::from_utf8(&long.as_slice()[4..]).is_ok());
        assert_eq!(encode_ping(b"").as_slice(), b"\x89\x00");
        assert_eq!(encode_pong(b"Hello").as_slice(), b"\x8a\x05Hello");
        assert_eq!(encode_pong(&[7; 126]).as_slice().len(), 127);
    }

    #[test]
    fn violations_have_their_metric() {
        assert_eq!(Violation::protocol("").close_reason(), CloseReason::Protocol);
        assert_eq!(Violation::payload("").close_reason(), CloseReason::Payload);
        assert_eq!(Violation::too_big("").close_reason(), CloseReason::TooBig);
    }

    #[test]
    fn a_length_is_known_before_the_key() {
        let expect = Expect { continuation: false, deflate: false };
        let bytes = [0x82, 0xfe, 0x01, 0x00, 1, 2, 3, 4];
        assert_eq!(Header::parse(&bytes[..3], expect), Ok(None));
        let header = Header::parse(&bytes[..4], expect).unwrap().unwrap();
        assert_eq!((header.len, header.size, header.opcode), (256, 8, BINARY));
        assert_eq!(header.key(&bytes[..7]), None);
        assert_eq!(header.key(&bytes), Some([1, 2, 3, 4]));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_walked_frame_by_frame(lens in proptest::collection::vec(0usize..70_000, 1..5)) {
            let mut bytes = Vec::new();
            for &len in &lens {
                bytes.extend_from_slice(encode_header(BINARY, false, len as u64).as_slice());
                bytes.resize(bytes.len() + len, 0xaa);
            }
            let mut rest = &bytes[..];
            for len in lens {
                let header = encode_header(BINARY, false, len as u64).as_slice().len();
                for short in 0..header {
                    prop_assert_eq!(first_len(&rest[..short]), None);
                }
                prop_assert_eq!(first_len(&rest[..header]), Some(header + len));
                rest = &rest[header + len..];
            }
            prop_assert_eq!(first_len(rest), None);
        }

        #[test]
        fn a_server_header_parses_to_what_was_encoded(len in 0u64..1 << 63, rsv1: bool) {
            let mut bytes = encode_header(TEXT, rsv1, len).as_slice().to_vec();
            let expect = Expect { continuation: false, deflate: true };
            let header = Header { fin: true, rsv1, opcode: TEXT, len, size: bytes.len() };
            for cut in 0..bytes.len() {
                prop_assert_eq!(Header::parse_unmasked(&bytes[..cut], expect), Ok(None));
            }
            prop_assert_eq!(Header::parse_unmasked(&bytes, expect), Ok(Some(header)));
            bytes[1] |= MASKED;
            prop_assert_eq!(Header::parse_unmasked(&bytes[..2], expect), Err(Violation::protocol("frame is masked")));
        }

        #[test]
        fn a_client_header_parses_to_what_was_encoded(len in 0u64..1 << 63, rsv1: bool, key: [u8; 4]) {
            let mut bytes = encode_header(TEXT, rsv1, len).as_slice().to_vec();
            bytes[1] |= MASKED;
            bytes.extend_from_slice(&key);
            let expect = Expect { continuation: false, deflate: true };
            let header = Header::parse(&bytes, expect).unwrap().unwrap();
            prop_assert_eq!(header, Header { fin: true, rsv1, opcode: TEXT, len, size: bytes.len() });
            prop_assert_eq!(header.key(&bytes), Some(key));
        }
    }
}
