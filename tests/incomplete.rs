//! What is incomplete, of one shard without a kernel: how long it may take, how much there may be, and who pays for it.

mod fixture;

use std::time::Duration;

use fixture::{Fixture, frame};
use uproar::Config;
use uproar::config::Patterns;
use uproar::counters::Part;
use uproar::error::CloseReason;
use uproar::ring::op::{Completion, Op};
use uproar::ring::token::{ConnId, Kind, Token};
use uproar::shard::mail::{Mail, Shed};
use uproar::shard::settings::Settings;

const BOUND: usize = 1_000_000;
const PIECE: usize = 60_000;
/// One who sends a message of 40 kB in two pieces, and one who does nothing else than what it should.
const SENDER: u32 = 90;
const READER: u32 = 91;

fn fixture(change: impl FnOnce(&mut Settings)) -> Fixture {
    let mut config = Config::default();
    config.ping_interval = None;
    let mut settings = Settings::try_from(&config).expect("valid");
    settings.incomplete_bytes = BOUND;
    change(&mut settings);
    Fixture::with(300, 1, settings)
}

fn kept(f: &Fixture) -> u64 {
    f.counter(|counters| counters.memory(Part::PartialMessages))
}

fn closed(f: &Fixture, reason: CloseReason) -> u64 {
    f.shared.counters(0).closed[reason as usize].get()
}

/// Bytes, and what is sent to their sender in that turn.
fn says(f: &mut Fixture, slot: u32, bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let ops = f.receive_once(slot, bytes);
    said(f, &ops)
}

/// What is sent to whom.
fn said(f: &Fixture, ops: &[Op]) -> Vec<(u32, Vec<u8>)> {
    let bytes = |op: &Op| match *op {
        Op::Send { conn, span } => Some((conn.index, f.shard.core.frames.bytes(span).to_vec())),
        _ => None,
    };
    ops.iter().filter_map(bytes).collect()
}

/// Lets everybody who is on his way out get there.
fn settle(f: &mut Fixture) {
    f.turn(&[], b"");
    f.turn(&[], b"");
    let shut = |index| {
        let token = Token::new(Kind::Shutdown, ConnId { index, generation: 0 });
        Completion { token, result: 0, more: false, buffer: 0 }
    };
    f.turn(&(0..100).map(shut).collect::<Vec<_>>(), b"");
    f.pass(Duration::from_secs(3));
    f.turn(&[], b"");
}

/// The code and the reason of a close frame.
fn close(bytes: &[u8]) -> (u16, &str) {
    assert_eq!(bytes[0], 0x88, "a close frame: {bytes:?}");
    (u16::from_be_bytes([bytes[2], bytes[3]]), std::str::from_utf8(&bytes[4..]).expect("text"))
}

/// A frame of a fragment; nothing of it is masked.
fn fragment(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(opcode, payload);
    bytes[0] = u8::from(fin) << 7 | opcode;
    bytes
}

/// A slot's tenant sends so much of a message that does not end.
fn hog(f: &mut Fixture, slot: u32) -> Vec<(u32, Vec<u8>)> {
    f.websocket(slot, "/raw/hogs?self=false");
    f.pass(Duration::from_millis(10));
    says(f, slot, &fragment(false, 2, &[7; PIECE]))
}

fn post(f: &mut Fixture, slot: u32, fields: &str, body: &[u8]) -> Vec<(u32, Vec<u8>)> {
    f.accept(slot);
    let head = format!("POST /publish HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n{fields}\r\n");
    f.pass(Duration::from_millis(10));
    says(f, slot, &[head.as_bytes(), body].concat())
}

fn status(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).ok().and_then(|text| text.get(9..12)).expect("a response")
}

#[test]
fn who_has_kept_much_the_longest_is_closed_and_who_keeps_little_is_not() {
    let mut f = fixture(|_| {});
    f.websocket(READER, "/raw/t");
    f.websocket(SENDER, "/raw/t?self=false");
    let message = frame(2, &[5; 40_000]);
    let (first, second) = message.split_at(20_000);
    // It is older than everybody's.
    assert_eq!(says(&mut f, SENDER, first), []);
    let (mut gone, mut hogs) = (Vec::new(), 0);
    while gone.len() < 8 {
        for (slot, bytes) in hog(&mut f, hogs) {
            assert_eq!(close(&bytes), (1013, "too many incomplete messages"));
            gone.push(slot);
        }
        assert!(kept(&f) <= BOUND as u64, "{} bytes", kept(&f));
        hogs += 1;
    }
    assert_eq!(gone, (0..8).collect::<Vec<_>>(), "the oldest first");
    assert_eq!(hogs as usize, gone.len() + 15, "no more than it takes");
    let [(READER, bytes)] = &says(&mut f, SENDER, second)[..] else { panic!("it is delivered") };
    assert!(bytes.ends_with(&[5; 40_000]));
    settle(&mut f);
    assert_eq!(closed(&f, CloseReason::Incomplete), 8);
    assert_eq!(kept(&f) as usize / PIECE, 15);
}

#[test]
fn bodies_count_as_messages_do() {
    let mut f = fixture(|_| {});
    let mut gone = Vec::new();
    for slot in 0..20 {
        let answers = match slot % 2 {
            0 => hog(&mut f, slot),
            _ => post(&mut f, slot, "Content-Length: 1000000\r\n", &[b' '; PIECE]),
        };
        gone.extend(answers);
        // Somebody posts a little.
        let body = br#"{"topic":"t","data":1}"#;
        let answers = post(&mut f, 50 + slot, &format!("Content-Length: {}\r\n", body.len()), &body[..7]);
        assert!(!answers.iter().any(|(who, _)| *who == 50 + slot));
        let [(_, answer)] = &says(&mut f, 50 + slot, &body[7..])[..] else { panic!("an answer") };
        assert_eq!(status(answer), "200");
        assert!(kept(&f) <= BOUND as u64);
    }
    assert_eq!(gone.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [0, 1, 2, 3], "the oldest first");
    for (slot, bytes) in gone {
        match slot % 2 {
            0 => assert_eq!(close(&bytes).0, 1013),
            _ => assert_eq!(status(&bytes), "503"),
        }
    }
    settle(&mut f);
    assert_eq!(closed(&f, CloseReason::Incomplete), 4);
}

/// One read may be more than there is room for: whoever brings it is who holds much.
#[test]
fn a_bound_holds_for_one_connection_too() {
    let mut f = fixture(|settings| settings.incomplete_bytes = 100_000);
    f.websocket(READER, "/raw/t");
    f.websocket(0, "/raw/t?self=false");
    assert_eq!(says(&mut f, 0, &fragment(false, 2, &[7; PIECE])), []);
    let [(0, bytes)] = &says(&mut f, 0, &fragment(false, 0, &[7; PIECE]))[..] else { panic!("a close frame") };
    assert_eq!(close(bytes).0, 1013);
    assert_eq!(kept(&f), 0);
    // What it still sends is nobody's.
    assert_eq!(says(&mut f, 0, &fragment(true, 0, b"end")), []);
}

#[test]
fn a_message_has_its_time_whatever_goes_on() {
    let mut f = fixture(|settings| settings.message_timeout = Some(Duration::from_secs(60)));
    f.websocket(READER, "/raw/t");
    f.websocket(0, "/raw/t?self=false");
    let second = Duration::from_secs(1);
    // A message that takes 59 seconds, and the begin of one that follows it in the same read.
    says(&mut f, 0, &fragment(false, 1, b"a"));
    f.pass(59 * second);
    let both = [fragment(true, 0, b"b"), fragment(false, 1, b"c")].concat();
    let [(READER, bytes)] = &says(&mut f, 0, &both)[..] else { panic!("it is delivered") };
    assert!(bytes.ends_with(b"ab"));
    // A byte a second, and pings between.
    for n in 0..59 {
        f.pass(second);
        let more = if n % 2 == 0 { fragment(false, 0, b"d") } else { frame(9, b"e") };
        assert!(says(&mut f, 0, &more).iter().all(|(_, bytes)| bytes[0] == 0x8a), "pongs alone");
    }
    f.pass(second + Duration::from_millis(10));
    let ops = f.turn(&[], b"");
    let [(0, bytes)] = &said(&f, &ops)[..] else { panic!("a close frame") };
    assert_eq!(close(bytes), (1008, "message timeout"));
    assert_eq!(kept(&f), 0);
    settle(&mut f);
    assert_eq!((closed(&f, CloseReason::MessageTimeout), f.shard.core.connections()), (1, 1));
}

#[test]
fn without_a_time_a_message_may_take_for_ever_and_one_that_is_there_needs_none() {
    for timeout in [None, Some(Duration::from_secs(60))] {
        let mut f = fixture(|settings| settings.message_timeout = timeout);
        f.websocket(0, "/raw/t?self=false");
        let message = frame(2, &[1; 1000]);
        says(&mut f, 0, &message[..500]);
        f.pass(Duration::from_secs(if timeout.is_none() { 3600 } else { 59 }));
        says(&mut f, 0, &message[500..]);
        f.pass(Duration::from_secs(3600));
        f.turn(&[], b"");
        assert_eq!(f.shard.core.connections(), 1);
        assert_eq!(f.counter(|counters| counters.messages_in.get()), 1);
        // Nothing is waited for any more.
        assert_eq!(f.shard.wait().at(f.now), uproar::ring::op::Wait::Forever);
    }
}

#[test]
fn what_its_head_refuses_is_answered_before_its_body_comes() {
    let mut f = fixture(|settings| settings.allowed_origins = Patterns(vec!["https://here".into()]));
    let long = "Content-Length: 500000\r\n";
    let [(0, answer)] = &post(&mut f, 0, &format!("{long}Origin: https://there\r\n"), b"[")[..] else {
        panic!("an answer")
    };
    let text = String::from_utf8_lossy(answer);
    assert!(text.starts_with("HTTP/1.1 403 ") && text.contains("\r\nConnection: close\r\n"), "{text}");
    assert_eq!(kept(&f), 0);
    let [(1, answer)] = &post(&mut f, 1, &format!("{long}Upgrade: websocket\r\n"), b"[")[..] else {
        panic!("an answer")
    };
    assert_eq!(status(answer), "404");
    // One that may go on does.
    let fields = format!("{long}Origin: https://here\r\nExpect: 100-continue\r\n");
    let [(2, answer)] = &post(&mut f, 2, &fields, b"")[..] else { panic!("an answer") };
    assert_eq!(answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(says(&mut f, 2, &[b' '; 1000]), []);
    assert!(kept(&f) > 1000);
    settle(&mut f);
    assert_eq!(f.shard.core.connections(), 1);
}

#[test]
fn near_the_bound_of_memory_what_is_incomplete_is_a_backlog() {
    let mut f = fixture(|_| {});
    hog(&mut f, 0);
    says(&mut f, 0, &fragment(false, 0, &[7; PIECE]));
    hog(&mut f, 1);
    post(&mut f, 2, "Content-Length: 1000000\r\n", &[b' '; PIECE + 1000]);
    f.websocket(SENDER, "/raw/t?self=false");
    says(&mut f, SENDER, &frame(2, &[5; 40_000])[..20_000]);
    f.postbox.post(Mail::Shed(Shed { histories: false, backlogs: 2 * PIECE as u64 + 1000 }));
    let ops = f.turn(&[], b"");
    let [(0, first), (2, second)] = &said(&f, &ops)[..] else { panic!("the two that hold the most: {ops:?}") };
    assert_eq!(close(first), (1013, "short of memory"));
    assert_eq!(status(second), "503");
    settle(&mut f);
    assert_eq!((closed(&f, CloseReason::Memory), f.shard.core.connections()), (2, 2));
    assert!((PIECE + 20_000..PIECE + 22_000).contains(&(kept(&f) as usize)), "{}", kept(&f));
}
