//! Frames: floods of those that mean nothing, messages that never end, bombs, and what is no frame at all.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use flate2::{Compress, Compression, FlushCompress};

use super::arena::Arena;
use super::common::Client;
use super::common::client::{
    BINARY, CONTINUATION, FIN, PING, PONG, RSV1, TEXT, close_payload, frame, masked_header, raw_frame,
};
use super::crowd::{End, ends, flood, push, upgraded};

const SECOND: Duration = Duration::from_secs(1);
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
/// Bounds as one would set them, that hold for this machine too.
const BOUNDED: [&str; 3] =
    ["--message-rate=1000 burst=2000", "--byte-rate=64KiB burst=128KiB", "--close-timeout=500ms"];

/// They flood, and are closed for it.
#[track_caller]
fn too_fast(name: &str, path: &str, first: &[u8], bytes: &[u8]) {
    let (after, ends) = Arena::start(&BOUNDED).attack(name, |server| {
        let mut clients = upgraded(server.addr, path, 20);
        clients.iter_mut().for_each(|client| _ = push(client, first));
        flood(&mut clients, bytes, SECOND);
        ends(&mut clients)
    });
    // A flood goes on when it is answered: the answer may be lost to a reset.
    assert!(ends.iter().all(|(end, _)| [End::Close(1008), End::Silent].contains(end)), "{ends:?}");
    after.rises("connections_closed_total reason=\"too_fast\"", 20);
    assert!(after.rose("messages_refused_total reason=\"too_fast\"") >= 20);
}

#[test]
fn floods_of_pings() {
    too_fast("pings, 20 × 1 MB/s", "/raw/t", b"", &frame(PING, b"are you there?").repeat(500));
}

#[test]
fn floods_of_pongs() {
    too_fast("pongs, 20 × 1 MB/s", "/raw/t", b"", &frame(PONG, b"").repeat(5000));
}

#[test]
fn fragments_of_nothing_without_an_end() {
    let nothing = raw_frame(CONTINUATION, b"").repeat(5000);
    too_fast("empty fragments, 20 × 1 MB/s", "/raw/t", &raw_frame(TEXT, b""), &nothing);
}

/// What this machine may do without a bound does not disturb others either: the load is spread fairly over turns.
#[test]
fn floods_that_nothing_bounds() {
    let (after, _) = Arena::start(&[]).attack("pings and pongs, 10 × 1 MB/s, no bound", |server| {
        let mut clients = upgraded(server.addr, "/raw/t", 10);
        let bytes = [frame(PING, b"x"), frame(PONG, b"x")].concat().repeat(500);
        flood(&mut clients, &bytes, SECOND * 2);
    });
    assert!(after.rose("received_bytes_total") > 1 << 20, "a flood");
    assert_eq!(after.rose("connections_closed_total reason=\"too_fast\""), 0);
}

#[test]
fn fragments_without_an_end() {
    let (after, ends) = Arena::start(&["--max-message=16KiB"]).attack("fragments without an end, 40", |server| {
        let mut clients: Vec<TcpStream> =
            ["/raw/t", "/?room=t"].into_iter().flat_map(|path| upgraded(server.addr, path, 20)).collect();
        clients.iter_mut().for_each(|client| _ = push(client, &raw_frame(BINARY, b"begin")));
        flood(&mut clients, &raw_frame(CONTINUATION, &[7; 16_000]), SECOND);
        ends(&mut clients)
    });
    assert!(ends.iter().all(|(end, _)| [End::Close(1009), End::Silent].contains(end)), "{ends:?}");
    assert_eq!(after.rose("connections_closed_total reason=\"too_big\""), 40);
}

/// Zeros, deflated: a block that may follow itself as often as one likes.
fn block(zeros: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(zeros / 500 + 100);
    let mut deflate = Compress::new(Compression::best(), false);
    deflate.compress_vec(&vec![0; zeros], &mut bytes, FlushCompress::Sync).expect("room");
    assert!(bytes.len() * 900 < zeros, "{} bytes for {zeros}", bytes.len());
    bytes
}

fn inflating(addr: SocketAddr, path: &str, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| Client::connect(addr).upgrade(path, OFFER).0.stream).collect()
}

#[test]
fn bombs_in_one_piece() {
    // 64 KiB that would be 64 MiB. A json client may go on after it, but not for ever.
    let bomb = block(16 << 20).repeat(4);
    let message = raw_frame(FIN | RSV1 | BINARY, &bomb);
    let (after, ends) = Arena::start(&["--max-errors=3"]).attack("deflate bombs, 64 MiB in 64 KiB, 12", |server| {
        let mut clients = inflating(server.addr, "/raw/t", 10);
        let mut json = inflating(server.addr, "/?room=t", 2);
        flood(&mut clients, &message, SECOND / 2);
        flood(&mut json, &message, SECOND);
        [ends(&mut clients), ends(&mut json)]
    });
    assert!(ends[0].iter().all(|(end, _)| [End::Close(1009), End::Silent].contains(end)), "{ends:?}");
    assert!(ends[1].iter().all(|(end, _)| [End::Close(1008), End::Silent].contains(end)), "{ends:?}");
    assert_eq!(after.rose("connections_closed_total reason=\"too_big\""), 10);
    assert_eq!(after.rose("connections_closed_total reason=\"policy\""), 2);
    assert!(after.rose("client_errors_total") >= 6);
}

#[test]
fn bombs_in_fragments() {
    let piece = block(4 << 20);
    let (after, ends) = Arena::start(&["--max-message=64KiB"]).attack("deflate bombs in fragments, 20", |server| {
        let mut clients = inflating(server.addr, "/raw/t", 20);
        clients.iter_mut().for_each(|client| _ = push(client, &raw_frame(RSV1 | BINARY, &piece)));
        flood(&mut clients, &raw_frame(CONTINUATION, &piece), SECOND);
        clients.iter_mut().for_each(|client| _ = push(client, &raw_frame(FIN | CONTINUATION, &piece)));
        ends(&mut clients)
    });
    assert!(ends.iter().all(|(end, _)| [End::Close(1009), End::Silent].contains(end)), "{ends:?}");
    assert_eq!(after.rose("connections_closed_total reason=\"too_big\""), 20);
}

#[test]
fn bombs_that_fit() {
    let block = block(1 << 20);
    let message = raw_frame(FIN | RSV1 | BINARY, &block[..block.len() - 4]);
    let (after, ends) = Arena::start(&BOUNDED).attack("messages of 1 MiB in 1 KiB, 20 × 1 MB/s", |server| {
        let mut clients = inflating(server.addr, "/raw/bombs?self=false", 20);
        flood(&mut clients, &message.repeat(8), SECOND);
        ends(&mut clients)
    });
    assert!(ends.iter().all(|(end, _)| [End::Close(1008), End::Silent].contains(end)), "{ends:?}");
    after.rises("connections_closed_total reason=\"too_fast\"", 20);
    assert!(after.rose("inflate_runs_total") < 20 * 5, "what is over the bound is not inflated for long");
}

#[test]
fn lengths_that_are_announced_and_never_come() {
    let (after, ends) = Arena::start(&[]).attack("frames of 2^63 - 1 bytes and the like, 300", |server| {
        let mut all = Vec::new();
        for (len, path) in [
            (u64::MAX >> 1, "/raw/t"),
            (u64::MAX >> 1, "/?room=t"),
            (u64::MAX, "/raw/t"),
            (1 << 32, "/raw/t"),
            (1 << 32, "/?room=t"),
            ((1 << 20) + 1, "/raw/t"),
        ] {
            let mut clients = upgraded(server.addr, path, 50);
            clients.iter_mut().for_each(|client| _ = push(client, &masked_header(FIN | BINARY, len)));
            all.push((len, ends(&mut clients)));
        }
        all
    });
    for (len, ends) in ends {
        let code = if len > u64::MAX >> 1 { 1002 } else { 1009 };
        assert_eq!(ends, [(End::Close(code), 50)], "{len}");
    }
    assert_eq!(after.rose("connections_closed_total reason=\"too_big\""), 250);
    assert_eq!(after.rose("connections_closed_total reason=\"protocol\""), 50);
}

/// What is said of a large message that comes is kept, but no more than has come.
#[test]
fn large_messages_that_stop() {
    let (_, kept) = Arena::start(&["--max-message=16MiB"]).attack("messages of 16 MiB that stop, 200", |server| {
        let mut clients = upgraded(server.addr, "/raw/t", 200);
        let begin = [masked_header(FIN | BINARY, 16 << 20), vec![7; 10_000]].concat();
        clients.iter_mut().for_each(|client| _ = push(client, &begin));
        std::thread::sleep(SECOND);
        assert!(server.resident() < 64 << 20, "{} bytes", server.resident());
        server.metric("memory_bytes part=\"partial_messages\"")
    });
    assert!((200 * 10_000..200 * 20_000).contains(&kept), "{kept} bytes are kept of 200 × 10,000");
}

#[test]
fn what_is_no_frame() {
    let unmasked = [FIN | TEXT, 5, b'h', b'e', b'l', b'l', b'o'];
    let long = [&[FIN | TEXT, 0x80 | 126, 0, 5][..], &[1, 2, 3, 4], b"short"].concat();
    let cases: [(&str, Vec<u8>, u16); 14] = [
        ("no mask", unmasked.to_vec(), 1002),
        ("a reserved opcode", frame(3, b"x"), 1002),
        ("a reserved control opcode", frame(11, b"x"), 1002),
        ("RSV1, agreed to by nobody", raw_frame(FIN | RSV1 | TEXT, b"x"), 1002),
        ("RSV2", raw_frame(FIN | 0x20 | TEXT, b"x"), 1002),
        ("a ping in fragments", raw_frame(PING, b"x"), 1002),
        ("a ping of 126 bytes", frame(PING, &[0; 126]), 1002),
        ("a length that is too long", long, 1002),
        ("a continuation of nothing", frame(CONTINUATION, b"x"), 1002),
        ("a message within a message", [raw_frame(TEXT, b"x"), raw_frame(TEXT, b"y")].concat(), 1002),
        ("text that is not UTF-8", frame(TEXT, b"\xc0\x80"), 1007),
        (
            "text that is not, in fragments",
            [raw_frame(TEXT, b"ok \xf4"), raw_frame(CONTINUATION, b"\x90")].concat(),
            1007,
        ),
        ("a close frame of one byte", frame(8, b"x"), 1002),
        ("a close frame whose reason is not UTF-8", frame(8, &[&close_payload(1000, "")[..], b"\xff"].concat()), 1007),
    ];
    let (after, ends) = Arena::start(&[]).attack("what is no frame, 14 kinds × 40", |server| {
        let one = |(name, bytes, code): &(&'static str, Vec<u8>, u16)| {
            let mut clients = upgraded(server.addr, "/raw/t", 40);
            clients.iter_mut().for_each(|client| _ = push(client, bytes));
            (*name, *code, ends(&mut clients))
        };
        cases.iter().map(one).collect::<Vec<_>>()
    });
    for (name, code, ends) in ends {
        assert_eq!(ends, [(End::Close(code), 40)], "{name}");
    }
    assert_eq!(after.rose("connections_closed_total reason=\"protocol\""), 11 * 40);
    assert_eq!(after.rose("connections_closed_total reason=\"payload\""), 3 * 40);
}
