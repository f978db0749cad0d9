//! The load generator's reader of what a server sends: against the server's own decoder, cut anywhere, and against what RFC
//! 6455 forbids.

mod wire;

use proptest::prelude::*;
use uproar::hub::frame::MessageKind;
use uproar::ws::client::reader::{Event, Reader, Tools};
use uproar::ws::deflate::{Arena, Deflater};
use uproar::ws::frame::{Control, Opcode, Violation};
use uproar::ws::message::Compression;
use wire::server::{Outcome, Seen, read, unmasked};
use wire::{ClientFrame, cut, vectors};

const MAX_MESSAGE: u32 = 100_000;
const AFTER_CLOSE: &str = "something after a close frame";
const INVALID_TEXT: &str = "text is not UTF-8";

/// The reader agrees with the server's decoder, but for two things: it also says that something follows a close frame, and
/// of text in fragments it says no sooner than at its end that it is none.
fn assert_as_decoded(outcome: Outcome, decoded: wire::Outcome) {
    let seen: Vec<Seen> = decoded.seen.into_iter().map(Seen::from).collect();
    if decoded.violation.is_some_and(|violation| violation.reason == INVALID_TEXT) {
        assert!(outcome.seen.starts_with(&seen), "{outcome:?} {seen:?}");
        assert!(outcome.violation.is_some() || !outcome.idle, "{outcome:?}");
        return;
    }
    assert_eq!(outcome.seen, seen);
    if outcome.violation.is_none_or(|violation| violation.reason != AFTER_CLOSE) {
        assert_eq!(outcome.violation, decoded.violation);
        assert_eq!(outcome.idle, decoded.idle, "{outcome:?}");
    } else {
        assert!(matches!(seen.last(), Some(Seen::Close(_))), "{outcome:?}");
    }
}

#[test]
fn the_vectors_of_the_decoder_hold_without_masks() {
    let mut count = 0;
    for case in vectors::frames() {
        let takes_over = case.settings.compression == Compression::Takeover;
        let Some(input) = unmasked(&case.input).filter(|_| !takes_over) else { continue };
        println!("{}", case.name);
        let deflate = case.settings.compression == Compression::PerMessage;
        let outcome = read(deflate, case.settings.max_message, [&input[..]]);
        assert_as_decoded(outcome, wire::decode(case.settings, [&case.input[..]]));
        count += 1;
    }
    assert!(count > 80, "only {count}");
}

#[test]
fn what_a_server_must_not_send_is_an_error_in_words() {
    for (bytes, code, reason) in [
        (&b"\x81\x85\x01\x02\x03\x04aaaaa"[..], 1002, "frame is masked"),
        (b"\xc1\x00", 1002, "reserved bit is set"),
        (b"\xa1\x00", 1002, "reserved bit is set"),
        (b"\x83\x00", 1002, "reserved opcode"),
        (b"\x8b\x00", 1002, "reserved opcode"),
        (b"\x09\x00", 1002, "control frame is fragmented"),
        (b"\x89\x7e\x00\x7e", 1002, "control frame is too long"),
        (b"\x80\x00", 1002, "continuation of no message"),
        (b"\x01\x00\x81\x00", 1002, "message inside a fragmented message"),
        (b"\x82\x7e\x00\x7d", 1002, "length is not minimally encoded"),
        (b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00", 1002, "length has its highest bit set"),
        (b"\x88\x01\x03", 1002, "close code is cut"),
        (b"\x88\x02\x03\xed", 1002, "close code is not allowed"),
        (b"\x88\x03\x03\xe8\xff", 1007, "close reason is not UTF-8"),
        (b"\x88\x00\x89\x00", 1002, AFTER_CLOSE),
        (b"\x81\x01\xff", 1007, INVALID_TEXT),
        (b"\x01\x01\xc3\x80\x01a", 1007, INVALID_TEXT),
        (b"\x82\x7f\x00\x00\x00\x00\x00\x01\x86\xa1", 1009, "message is too big"),
    ] {
        let violation = Some(Violation { code, reason });
        for len in [bytes.len(), 1] {
            assert_eq!(read(false, MAX_MESSAGE, bytes.chunks(len)).violation, violation, "{bytes:x?} by {len}");
        }
    }
    let compressed_control = read(true, MAX_MESSAGE, [&b"\xc9\x00"[..]]);
    assert_eq!(compressed_control.violation, Some(Violation::protocol("reserved bit is set")));
}

#[test]
fn a_message_that_is_there_in_whole_is_lent_from_the_bytes() {
    let bytes = b"\x82\x03abc\x81\x04text\x89\x02hi\x82\x05h";
    let (mut reader, mut tools) = (Reader::default(), Tools::default());
    assert_eq!((size_of_val(&reader), reader.heap_bytes()), (8, 0));
    let mut seen = 0;
    let mut on = |event: Event<'_>| {
        let (Event::Message(lent) | Event::Ping(lent)) = event else { panic!("{event:?}") };
        assert!(bytes.as_ptr_range().contains(&lent.as_ptr()));
        seen += 1;
    };
    reader.feed(&bytes[..15], false, &mut tools, &mut on).unwrap();
    assert_eq!(reader.heap_bytes(), 0);
    reader.feed(&bytes[15..], false, &mut tools, &mut |_| ()).unwrap();
    assert!(reader.heap_bytes() > 0, "a frame has begun");
    reader.feed(b"ello", false, &mut tools, &mut |event| assert_eq!(event, Event::Message(b"hello"))).unwrap();
    assert_eq!((seen, reader.heap_bytes()), (3, 0), "and is over");
}

#[test]
fn messages_have_a_limit_in_fragments_and_when_inflated() {
    let max = 1000;
    let zeros = |len: usize| {
        let (mut deflater, mut arena) = (Deflater::new(15, 6), Arena::default());
        let compressed = deflater.compress(&vec![0; len], &mut arena);
        [&[0xc2, compressed.len() as u8], compressed].concat()
    };
    let fragments = |last: usize| {
        let frame = |first: u8, len: usize| [&[first, 126, (len >> 8) as u8, len as u8][..], &vec![b'a'; len]].concat();
        [frame(0x02, 500), frame(0x80, last)].concat()
    };
    for (largest, larger) in [(zeros(1000), zeros(1001)), (fragments(500), fragments(501))] {
        let outcome = read(true, max, [&largest[..]]);
        assert!(matches!(&outcome.seen[..], [Seen::Message(bytes)] if bytes.len() == 1000), "{outcome:?}");
        let outcome = read(true, max, [&larger[..]]);
        assert_eq!((outcome.seen.len(), outcome.violation.map(|violation| violation.code)), (0, Some(1009)));
    }
}

/// Frames, most of them in order.
fn frames() -> impl Strategy<Value = Vec<ClientFrame>> {
    let opcode = prop_oneof![
        4 => Just(Opcode::Continuation),
        4 => Just(Opcode::Data(MessageKind::Text)),
        4 => Just(Opcode::Data(MessageKind::Binary)),
        2 => Just(Opcode::Control(Control::Ping)),
        1 => Just(Opcode::Control(Control::Pong)),
        1 => Just(Opcode::Control(Control::Close)),
    ];
    let payload = prop_oneof![
        8 => "[a-zé€😀]{0,40}".prop_map(String::into_bytes),
        2 => proptest::collection::vec(any::<u8>(), 0..10),
        1 => proptest::collection::vec(Just(b'x'), 100..300),
        1 => Just(1000u16.to_be_bytes().to_vec()),
    ];
    let frame = (opcode, 0..10, any::<[u8; 4]>(), payload, 0..10);
    proptest::collection::vec(frame, 0..8).prop_map(|frames| {
        let mut open = false;
        let put = |(opcode, fin, key, payload, wild): (Opcode, i32, [u8; 4], Vec<u8>, i32)| {
            let control = matches!(opcode, Opcode::Control(_));
            let fin = fin < 6 || control;
            let opcode = match opcode {
                Opcode::Data(_) if open && wild > 0 => Opcode::Continuation,
                Opcode::Continuation if !open && wild > 0 => Opcode::Data(MessageKind::Binary),
                opcode => opcode,
            };
            open = if control { open } else { !fin };
            ClientFrame { fin, rsv1: false, opcode, key, payload }
        };
        frames.into_iter().map(put).collect()
    })
}

fn encoded(frames: &[ClientFrame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    bytes
}

/// A message, compressed, in so many fragments.
fn compressed(text: &str, fragments: usize) -> Vec<u8> {
    let (mut deflater, mut arena) = (Deflater::new(15, 6), Arena::default());
    let bytes = deflater.compress(text.as_bytes(), &mut arena);
    let pieces: Vec<&[u8]> = bytes.chunks(bytes.len().div_ceil(fragments).max(1)).collect();
    let frame = |(i, piece): (usize, &&[u8])| ClientFrame {
        fin: i + 1 == pieces.len(),
        rsv1: i == 0,
        opcode: if i == 0 { Opcode::Data(MessageKind::Text) } else { Opcode::Continuation },
        key: [0; 4],
        payload: piece.to_vec(),
    };
    let frames: Vec<_> = pieces.iter().enumerate().map(frame).collect();
    unmasked(&encoded(&frames)).unwrap()
}

proptest! {
    #[test]
    fn the_servers_decoder_reads_the_same_from_masked_frames(frames in frames()) {
        let client = encoded(&frames);
        let outcome = read(false, MAX_MESSAGE, [&unmasked(&client).unwrap()[..]]);
        let settings = wire::settings(Compression::Off);
        assert_as_decoded(outcome, wire::decode(settings, [&client[..]]));
    }

    #[test]
    fn any_cut_gives_the_same(frames in frames(), lens in proptest::collection::vec(0usize..40, 0..20)) {
        let bytes = unmasked(&encoded(&frames)).unwrap();
        let whole = read(false, MAX_MESSAGE, [&bytes[..]]);
        prop_assert_eq!(&read(false, MAX_MESSAGE, cut(&bytes, lens)), &whole);
        for len in [1, 2, 7] {
            prop_assert_eq!(&read(false, MAX_MESSAGE, bytes.chunks(len)), &whole);
        }
    }

    #[test]
    fn any_cut_of_compressed_messages_gives_the_same(
        texts in proptest::collection::vec((".{0,100}", 1usize..4), 1..4),
        lens in proptest::collection::vec(0usize..40, 0..20),
    ) {
        let bytes = texts.iter().flat_map(|(text, fragments)| compressed(text, *fragments)).collect::<Vec<_>>();
        let seen: Vec<_> = texts.iter().map(|(text, _)| Seen::Message(text.clone().into_bytes())).collect();
        let expected = Outcome { seen, violation: None, idle: true };
        prop_assert_eq!(&read(true, MAX_MESSAGE, cut(&bytes, lens)), &expected);
        for at in 0..=bytes.len() {
            prop_assert_eq!(&read(true, MAX_MESSAGE, cut(&bytes, [at])), &expected);
        }
    }

    #[test]
    fn any_bytes_do_no_harm(bytes: Vec<u8>, deflate: bool) {
        let whole = read(deflate, MAX_MESSAGE, [&bytes[..]]);
        prop_assert_eq!(read(deflate, MAX_MESSAGE, bytes.chunks(1)), whole);
    }
}
