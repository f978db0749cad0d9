//! `permessage-deflate`: negotiation on `tests/vectors/extensions.txt`, compression against itself and the limits.

use std::io::Write;

use flate2::write::DeflateEncoder;
use proptest::prelude::*;
use uproar::ws::deflate::{self, Arena, Deflater, InflateError, Inflater, Negotiated, Policy, WINDOW_BITS};

const NO_LIMIT: usize = 1 << 30;

fn policy(text: &str) -> Policy {
    let (bits, rest) = text.split_once(' ').unwrap_or((text, ""));
    Policy { window_bits: bits.parse().expect("window bits"), client_takeover: rest == "takeover" }
}

/// Negotiates a case of the file and compares.
fn negotiate(block: &str) {
    let field = |key: &str| {
        let lines = block.lines().filter_map(|line| line.split_once(':'));
        let values: Vec<&str> = lines.filter(|(name, _)| *name == key).map(|(_, value)| value.trim()).collect();
        values
    };
    let policy = field("policy").first().map_or(policy("15"), |text| policy(text));
    let answer = field("answer")[0];
    let negotiated = deflate::negotiate(field("offer").into_iter(), policy);
    let expected = (answer != "none").then(|| Negotiated {
        window_bits: answer
            .split_once("server_max_window_bits=")
            .map_or(policy.window_bits, |(_, bits)| bits.parse().expect("window bits")),
        client_takeover: !answer.contains("client_no_context_takeover"),
        response: answer.to_owned(),
    });
    assert_eq!(negotiated, expected, "{block}");
}

#[test]
fn offers_are_answered_as_the_file_says() {
    let cases: Vec<&str> =
        include_str!("vectors/extensions.txt").split("\n\n").filter(|block| block.contains("answer:")).collect();
    assert!(cases.len() >= 50, "only {} cases", cases.len());
    cases.into_iter().for_each(negotiate);
}

fn inflate(compressed: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    Inflater::new().inflate(compressed, &mut Arena::default(), limit).map(|bytes| bytes.to_vec())
}

fn compress(payload: &[u8], window_bits: u8, level: u8) -> Vec<u8> {
    Deflater::new(window_bits, level).compress(payload, &mut Arena::default()).to_vec()
}

/// A stream that ends in a last block, as a sender makes it that cannot flush (RFC 7692 section 7.2.3.4).
fn last_block(payload: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(payload).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}

#[test]
fn the_examples_of_rfc_7692_section_7_2_3() {
    assert_eq!(compress(b"Hello", 15, 6), [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    assert_eq!(compress(b"", 15, 6), [0x00]);
}

#[test]
fn a_bomb_takes_no_more_memory_than_the_limit() {
    let bomb = compress(&vec![0; 64 << 20], 15, 9);
    assert!(bomb.len() < 100_000);
    for limit in [0, 1, 1000, 4096, 100_000, 3 << 20] {
        let mut arena = Arena::default();
        assert_eq!(Inflater::new().inflate(&bomb, &mut arena, limit), Err(InflateError::TooBig));
        assert!(arena.capacity() <= limit + 1, "{} for {limit}", arena.capacity());
    }
    let mut bombs = last_block(&vec![0; 60_000]).repeat(50);
    bombs.push(0);
    assert_eq!(inflate(&bombs, 2_999_999), Err(InflateError::TooBig));
    assert_eq!(inflate(&bombs, 3_000_000).map(|bytes| bytes.len()), Ok(3_000_000));
}

#[test]
fn the_limit_is_exact_wherever_the_message_ends() {
    for len in [0, 1, 2, 4095, 4096, 4097, 65_535, 65_536, 65_537, 200_000] {
        let payload: Vec<u8> = (0..len).map(|i| (i * i / 7) as u8).collect();
        let mut last = last_block(&payload);
        last.push(0);
        for compressed in [compress(&payload, 15, 6), last] {
            assert_eq!(inflate(&compressed, len).as_ref(), Ok(&payload));
            if len > 0 {
                assert_eq!(inflate(&compressed, len - 1), Err(InflateError::TooBig));
            }
        }
    }
}

#[test]
fn memory_is_given_back_only_after_large_messages() {
    let mut arena = Arena::default();
    let small = compress(&[b'a'; 10_000], 15, 6);
    let large = compress(&vec![b'a'; 5 << 20], 15, 6);
    let mut inflater = Inflater::new();
    inflater.inflate(&small, &mut arena, NO_LIMIT).expect("is whole");
    let warm = arena.capacity();
    arena.trim();
    assert_eq!(arena.capacity(), warm);
    inflater.inflate(&small, &mut arena, NO_LIMIT).expect("is whole");
    assert_eq!(arena.capacity(), warm);
    inflater.inflate(&large, &mut arena, NO_LIMIT).expect("is whole");
    assert!(arena.capacity() >= 5 << 20);
    arena.trim();
    assert_eq!(arena.capacity(), 0);
}

#[test]
fn what_is_no_stream_is_refused_and_the_inflater_goes_on() {
    let (mut inflater, mut arena) = (Inflater::new(), Arena::default());
    let whole = compress(&b"a message that is long enough to be cut".repeat(9), 15, 6);
    for cut in 1..whole.len() {
        let refused = inflater.inflate(&whole[..cut], &mut arena, NO_LIMIT);
        assert_eq!(refused, Err(InflateError::Corrupt), "cut at {cut}");
    }
    assert_eq!(inflater.inflate(&[0xff; 20], &mut arena, NO_LIMIT), Err(InflateError::Corrupt));
    assert!(inflater.inflate(&whole, &mut arena, NO_LIMIT).is_ok());
}

#[test]
fn a_kept_context_is_the_messages_before_and_a_shared_one_is_not() {
    let mut stream = flate2::Compress::new(flate2::Compression::default(), false);
    let text = b"the same words in every message, which is what a kept context is good for";
    let messages: Vec<Vec<u8>> = (0..5).map(|_| sync_flushed(&mut stream, text)).collect();
    assert!(messages[1].len() < messages[0].len() / 2);
    let (mut kept, mut shared, mut arena) = (Inflater::new(), Inflater::new(), Arena::default());
    for message in &messages {
        assert_eq!(kept.inflate_next(message, &mut arena, NO_LIMIT).as_deref(), Ok(&text[..]));
    }
    assert_eq!(shared.inflate(&messages[0], &mut arena, NO_LIMIT).as_deref(), Ok(&text[..]));
    assert_eq!(shared.inflate(&messages[1], &mut arena, NO_LIMIT).as_deref(), Err(&InflateError::Corrupt));
}

/// The next message of a sender that keeps its context.
fn sync_flushed(stream: &mut flate2::Compress, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() * 2 + 64);
    stream.compress_vec(payload, &mut out, flate2::FlushCompress::Sync).expect("there is room");
    assert_eq!(out.split_off(out.len() - 4), [0, 0, 0xff, 0xff]);
    out
}

/// Payloads that compress well, badly and not at all.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..3000),
        proptest::collection::vec(0u8..3, 0..3000),
        (proptest::collection::vec(any::<u8>(), 0..50), 0usize..2000).prop_map(|(unit, times)| unit.repeat(times)),
    ]
}

proptest! {
    #[test]
    fn what_is_compressed_inflates_to_itself(payload in payload(), bits in WINDOW_BITS, level in 1u8..10) {
        let (mut deflater, mut inflater) = (Deflater::new(bits, level), Inflater::new());
        let (mut out, mut back) = (Arena::default(), Arena::default());
        for _ in 0..2 {
            let compressed = deflater.compress(&payload, &mut out);
            prop_assert!(compressed.len() as u64 <= deflate::max_compressed(payload.len() as u32));
            let inflated = inflater.inflate(compressed, &mut back, payload.len());
            prop_assert_eq!(inflated.as_deref(), Ok(&payload[..]));
        }
    }

    #[test]
    fn what_was_compressed_before_does_not_show(first in payload(), second in payload(), bits in WINDOW_BITS) {
        let (mut deflater, mut arena) = (Deflater::new(bits, 6), Arena::default());
        deflater.compress(&first, &mut arena);
        prop_assert_eq!(deflater.compress(&second, &mut arena), compress(&second, bits, 6));
    }

    #[test]
    fn any_mix_of_blocks_inflates_to_their_payloads(parts in proptest::collection::vec((payload(), any::<bool>()), 1..5)) {
        let mut message = Vec::new();
        for (payload, last) in &parts {
            if *last {
                message.extend(last_block(payload));
            } else {
                message.extend(compress(payload, 15, 6));
                message.extend([0, 0, 0xff, 0xff]);
            }
        }
        message.push(0);
        let joined: Vec<u8> = parts.into_iter().flat_map(|(payload, _)| payload).collect();
        prop_assert_eq!(inflate(&message, joined.len()), Ok(joined));
    }
}
