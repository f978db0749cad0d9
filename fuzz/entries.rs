//! What the fuzz targets do with their bytes. `tests/fuzz_corpus.rs` does the same with the corpus, so that every build
//! replays what fuzzing has found.
#![allow(dead_code, reason = "each target uses its entry")]

#[path = "../tests/wire/mod.rs"]
pub mod wire;

#[path = "entries/auth.rs"]
mod auth;
#[path = "entries/backend.rs"]
mod backend_dialect;
#[path = "entries/bench.rs"]
mod bench;
#[path = "entries/head.rs"]
mod http_head;
#[path = "entries/json.rs"]
mod json_dialect;
#[path = "entries/proxy.rs"]
mod proxies;
#[path = "entries/sse.rs"]
mod server_sent_events;

pub use auth::{hook, token};
pub use backend_dialect::backend;
pub use bench::{answer, reader, reader_input};
pub use http_head::head;
pub use json_dialect::json;
pub use proxies::proxy;
pub use server_sent_events::{events, publish};

use uproar::ws::deflate::{self, Arena, Deflater, InflateError, Inflater, Policy};
use uproar::ws::message::{Compression, Settings};
use wire::decode;

/// Bytes before the wire's in an input of [`frames`].
pub const FRAMES_PREFIX: usize = 4;

/// The input of [`frames`] that decodes `bytes` with `settings`, of which the limit must fit 24 bits.
pub fn frames_input(settings: Settings, bytes: &[u8]) -> Vec<u8> {
    let mut input = settings.max_message.to_be_bytes().to_vec();
    input[0] = settings.compression as u8;
    input.extend_from_slice(bytes);
    input
}

/// A client's bytes: what is decoded does not depend on how they arrive. Decoding itself asserts that no more memory
/// is held than bytes have come, and that nothing follows a violation.
pub fn frames(data: &[u8]) {
    let Some((&[compression, a, b, c], bytes)) = data.split_first_chunk::<FRAMES_PREFIX>() else { return };
    let compression = match compression % 3 {
        0 => Compression::Off,
        1 => Compression::PerMessage,
        _ => Compression::Takeover,
    };
    let settings = Settings {
        max_message: u32::from_be_bytes([0, a, b, c]),
        max_skipped: u32::from_be_bytes([0, c, b, a]),
        compression,
    };
    let whole = decode(settings, [bytes]);
    for len in [1, 2, 3, 7, 64] {
        let pieces = decode(settings, bytes.chunks(len));
        assert!(pieces.seen == whole.seen && pieces.violation == whole.violation, "in pieces of {len}");
    }
    for event in &whole.seen {
        if let wire::Seen::Message(_, payload) = event {
            assert!(payload.len() <= settings.max_message as usize);
        }
    }
}

/// A compressed message, which may be anything, and the same bytes as a payload to compress. The first two bytes are
/// the limit when inflating, the third is the compressor's window and level.
pub fn deflate(data: &[u8]) {
    let Some((&[high, low, how], bytes)) = data.split_first_chunk() else { return };
    let limit = usize::from(u16::from_be_bytes([high, low]));
    let (mut inflater, mut arena) = (Inflater::new(), Arena::default());
    let first = inflater.inflate(bytes, &mut arena, limit).map(|bytes| bytes.to_vec());
    assert!(arena.capacity() <= limit + 1);
    let again = inflater.inflate(bytes, &mut arena, limit).map(|bytes| bytes.to_vec());
    assert!(again == first, "something was left behind");
    if let Ok(message) = first {
        assert!(message.len() <= limit);
        let next = Inflater::new().inflate_next(bytes, &mut arena, limit).map(|bytes| bytes.to_vec());
        assert!(next.as_ref() == Ok(&message), "the first message of a context is as any other");
        if let Some(less) = message.len().checked_sub(1) {
            assert_eq!(inflater.inflate(bytes, &mut arena, less), Err(InflateError::TooBig));
        }
    }
    let mut deflater = Deflater::new(9 + how % 7, 1 + how / 7 % 9);
    let mut out = Arena::default();
    let compressed = deflater.compress(bytes, &mut out);
    assert!(compressed.len() as u64 <= deflate::max_compressed(bytes.len() as u32));
    assert!(
        inflater.inflate(compressed, &mut arena, bytes.len()).as_deref() == Ok(bytes),
        "what is compressed inflates"
    );
}

/// `Sec-WebSocket-Extensions` fields, one a line: the answer is one that, offered, is answered with itself.
pub fn extensions(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for client_takeover in [false, true] {
        let policy = Policy { window_bits: 14, client_takeover };
        let Some(negotiated) = deflate::negotiate(text.lines(), policy) else { continue };
        assert!((9..=policy.window_bits).contains(&negotiated.window_bits));
        assert!(client_takeover || !negotiated.client_takeover);
        let again = deflate::negotiate([&negotiated.response[..]].into_iter(), policy);
        assert_eq!(again.as_ref(), Some(&negotiated));
    }
}
