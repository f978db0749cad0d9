//! RFC 6455 and RFC 7692 over a socket: what is refused, and how; what is echoed, and how it ends.

mod common;

use common::client::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, RSV1, TEXT, close_payload, frame, masked_header, raw_frame,
};
use common::{Client, SHARDS, TestServer, config};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use uproar::{Connection, Handler, Message, Server};

const MIB: usize = 1 << 20;
const RSV2: u8 = 0x20;
const RSV3: u8 = 0x10;
const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// Sends what is forbidden and checks that the server says so and ends, whatever still comes.
#[track_caller]
fn refused(mut client: Client, bytes: &[u8], code: u16) {
    client.send(bytes);
    client.send_anyway(&frame(TEXT, b"not to be listened to"));
    assert_eq!(client.close_code(), code, "{:02x?}", &bytes[..bytes.len().min(16)]);
    client.expect_end();
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| b'a' + (i % 26) as u8).collect()
}

#[test]
fn reserved_bits_and_opcodes_end_with_1002() {
    for shards in SHARDS {
        let server = TestServer::start(config(shards));
        let open = |fields: &str| Client::connect(server.addr).upgrade("/raw/x", fields).0;
        for bits in [RSV1, RSV2, RSV3, RSV1 | RSV2 | RSV3] {
            refused(open(""), &raw_frame(FIN | bits | TEXT, b"x"), 1002);
            refused(open(DEFLATE), &raw_frame(FIN | bits | PING, b"x"), 1002);
            if bits != RSV1 {
                refused(open(DEFLATE), &raw_frame(FIN | bits | TEXT, b"x"), 1002);
            }
        }
        let fragments = [raw_frame(TEXT, b"x"), raw_frame(FIN | RSV1 | CONTINUATION, b"x")].concat();
        refused(open(DEFLATE), &fragments, 1002);
        for opcode in (3..8).chain(11..16) {
            refused(open(""), &frame(opcode, b""), 1002);
        }
        server.wait_idle();
        assert_eq!(server.metric("messages_received_total"), 0);
    }
}

#[test]
fn malformed_frames_end_with_1002() {
    let server = TestServer::start(config(1));
    let long_ping = frame(PING, &payload(126));
    let mut not_minimal = masked_header(FIN | TEXT, 126);
    not_minimal[2..4].copy_from_slice(&125u16.to_be_bytes());
    let negative = masked_header(FIN | BINARY, 1 << 63);
    let second_start = [raw_frame(TEXT, b"a"), frame(TEXT, b"b")].concat();
    for bytes in [
        &b"\x81\x02hi"[..],
        &raw_frame(PING, b"fragmented"),
        &raw_frame(CLOSE, b""),
        &long_ping,
        &long_ping[..2],
        &not_minimal,
        &negative,
        &frame(CONTINUATION, b"of nothing"),
        &second_start,
        &frame(CLOSE, b"\x03"),
    ] {
        refused(server.ws("/raw/x"), bytes, 1002);
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        refused(server.ws("/raw/x"), &frame(CLOSE, &close_payload(code, "")), 1002);
    }
    server.wait_idle();
    assert_eq!(server.metric("connections_closed_total reason=\"protocol\""), 23);
}

#[test]
fn every_allowed_close_code_is_echoed() {
    let server = TestServer::start(config(1));
    for code in (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]) {
        let mut client = server.ws("/raw/x");
        client.send(&frame(CLOSE, &close_payload(code, "a reason")));
        assert_eq!(client.close_code(), code);
        client.expect_end();
    }
    let mut client = server.ws("/raw/x");
    client.send(&frame(CLOSE, b""));
    client.expect(CLOSE, b"");
    client.expect_end();
    server.wait_idle();
}

#[test]
fn bad_text_ends_with_1007_as_soon_as_it_is_seen() {
    let server = TestServer::start(config(1));
    let open = || server.ws("/raw/x");
    for bad in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"] {
        refused(open(), &frame(TEXT, bad), 1007);
        refused(open(), &frame(CLOSE, &[&close_payload(1000, ""), bad].concat()), 1007);
    }
    // Three bytes of a hundred, of the first fragment of a message: that is enough.
    let started = &raw_frame(TEXT, &[b"ok\xff".as_slice(), &payload(97)].concat())[..9];
    let mut client = open();
    client.send(started);
    assert_eq!(client.close_code(), 1007);
    client.expect_end();
    // A character may be cut by fragments, but not by the end.
    let cut = [raw_frame(TEXT, b"\xe2\x82"), frame(CONTINUATION, b"\xac")].concat();
    let mut client = open();
    client.send(&cut);
    client.expect_text("€");
    refused(open(), &[raw_frame(TEXT, b"\xe2\x82"), frame(CONTINUATION, b"")].concat(), 1007);
    // Binary may be anything.
    let mut client = open();
    client.send(&frame(BINARY, b"\xff\xc0"));
    client.expect(BINARY, b"\xff\xc0");
}

#[test]
fn a_message_may_have_a_mebibyte_and_no_more() {
    for shards in SHARDS {
        let server = TestServer::start(config(shards));
        let largest = payload(MIB);
        let mut client = server.ws("/raw/large");
        client.send(&frame(BINARY, &largest));
        client.expect(BINARY, &largest);
        let mut fragments = raw_frame(TEXT, &largest[..MIB / 2]);
        fragments.extend(raw_frame(CONTINUATION, &largest[MIB / 2..MIB - 1]));
        client.send(&fragments);
        client.send(&frame(CONTINUATION, b"z"));
        client.expect(TEXT, &[&largest[..MIB - 1], b"z"].concat());
        // One more byte is too much at the header already, of the message or of the fragment that goes too far.
        let header = |first, len: usize| masked_header(first, len as u64);
        refused(server.ws("/raw/large"), &header(FIN | BINARY, MIB + 1), 1009);
        refused(server.ws("/raw/large"), &header(FIN | BINARY, usize::MAX >> 1), 1009);
        let late = [raw_frame(TEXT, &largest[..MIB / 2]), header(FIN | CONTINUATION, MIB / 2 + 1)].concat();
        refused(server.ws("/raw/large"), &late, 1009);
    }
}

#[test]
fn frames_may_come_a_byte_at_a_time() {
    let server = TestServer::start(config(1));
    let mut client = server.ws("/raw/drip");
    let mut drip = |bytes: &[u8], opcode, echo: &[u8]| {
        bytes.iter().for_each(|byte| client.send(&[*byte]));
        client.expect(opcode, echo);
    };
    drip(&frame(TEXT, "héllo".as_bytes()), TEXT, "héllo".as_bytes());
    // A ping between the fragments of a message is answered before the message has come.
    drip(&[raw_frame(BINARY, &payload(150)), frame(PING, b"between")].concat(), PONG, b"between");
    let whole = [&payload(150)[..], b"end"].concat();
    drip(&[raw_frame(CONTINUATION, b""), frame(CONTINUATION, b"end")].concat(), BINARY, &whole);
    drip(&frame(TEXT, b""), TEXT, b"");
}

#[test]
fn pings_are_answered_with_what_they_brought() {
    let server = TestServer::start(config(1));
    let mut client = server.ws("/raw/ping");
    client.send(&frame(PONG, b"nobody asked"));
    for len in [0, 1, 125] {
        client.send(&frame(PING, &payload(len)));
        client.expect(PONG, &payload(len));
    }
    for (opcode, len) in [(TEXT, 0), (BINARY, 0), (TEXT, 125), (TEXT, 126), (BINARY, 65535), (BINARY, 65536)] {
        client.send(&frame(opcode, &payload(len)));
        client.expect(opcode, &payload(len));
    }
}

/// Closes with 4000 whoever sends `close`, with a code of its choice whoever sends a number, and echoes the rest.
struct Closer;

impl Handler for Closer {
    fn message(&mut self, conn: &mut Connection<'_>, message: Message<'_>) {
        match message.as_text() {
            Some("close") => conn.close(4000, "as you wish"),
            Some(text) if text.parse::<u16>().is_ok() => conn.close(text.parse().unwrap_or(0), &"é".repeat(100)),
            _ => {
                conn.send(message);
            }
        }
    }
}

#[test]
fn either_side_may_close_and_both_at_once() {
    for shards in SHARDS {
        let server = TestServer::serve(Server::new(config(shards)).route("/closer", || Closer));
        let mut client = server.ws("/closer");
        client.text("close");
        let close = client.frame().expect("a close frame");
        assert_eq!((close.code(), &close.payload[2..]), (4000, &b"as you wish"[..]));
        // What comes between the close frames is not acted upon; a ping need not be answered either.
        client.send(&[frame(TEXT, b"late"), frame(PING, b"late")].concat());
        client.close(4000);
        client.expect_end();
        // Both at once: each has sent its close frame before it saw the other's.
        let mut client = server.ws("/closer");
        client.send(&[frame(TEXT, b"close"), frame(CLOSE, &close_payload(1001, ""))].concat());
        assert_eq!(client.close_code(), 4000);
        client.expect_end();
        // Codes that may not be sent become 1011, reasons are cut at a character.
        for (asked, sent) in [(1000, 1000), (1005, 1011), (1006, 1011), (999, 1011), (4999, 4999), (5000, 1011)] {
            let mut client = server.ws("/closer");
            client.text(&asked.to_string());
            let close = client.frame().expect("a close frame");
            assert_eq!((close.code(), &close.payload[2..]), (sent, "é".repeat(61).as_bytes()));
            client.close(sent);
            client.expect_end();
        }
        server.wait_idle();
        assert_eq!(server.metric("connections_closed_total reason=\"application\""), 8);
    }
}

fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 1024);
    let mut stream = Compress::new(Compression::new(6), false);
    stream.compress_vec(payload, &mut out, FlushCompress::Sync).expect("it compresses");
    out.truncate(out.len() - 4);
    out
}

fn inflate(payload: &[u8], window_bits: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * MIB);
    let mut stream = Decompress::new_with_window_bits(false, window_bits);
    let input = [payload, &[0, 0, 0xff, 0xff]].concat();
    stream.decompress_vec(&input, &mut out, FlushDecompress::Sync).expect("it inflates");
    out
}

#[test]
fn compression_is_negotiated_and_used_both_ways() {
    const BOTH: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let server = TestServer::start(config(1));
    let bits9 = format!("{BOTH}; server_max_window_bits=9");
    for (offer, answer, bits) in [
        ("permessage-deflate", BOTH, 15),
        ("permessage-deflate; client_max_window_bits", BOTH, 15),
        ("permessage-deflate; server_max_window_bits=9", &bits9, 9),
        ("permessage-deflate; foo=1, permessage-deflate; server_max_window_bits=9, permessage-deflate", &bits9, 9),
        ("x-webkit-deflate-frame, permessage-deflate", BOTH, 15),
    ] {
        let fields = format!("Sec-WebSocket-Extensions: {offer}\r\n");
        let (mut client, head) = Client::connect(server.addr).upgrade("/raw/z", &fields);
        assert!(head.contains(&format!("\r\nSec-WebSocket-Extensions: {answer}\r\n")), "{offer}: {head}");
        let text = "0123456789abcdef".repeat(400) + offer;
        for first in [RSV1 | FIN | TEXT, RSV1 | FIN | BINARY] {
            client.send(&raw_frame(first, &deflate(text.as_bytes())));
            let echo = client.frame().expect("an echo");
            assert_eq!(echo.first, first, "{offer}");
            assert!(echo.payload.len() < text.len() / 4);
            assert_eq!(inflate(&echo.payload, bits), text.as_bytes());
        }
        // Uncompressed messages are allowed still; short ones are not compressed; an empty one is a message too.
        client.text("short");
        client.expect_text("short");
        client.send(&raw_frame(RSV1 | FIN | TEXT, &[0]));
        client.expect_text("");
        // Fragments of a compressed message have the bit once.
        let deflated = deflate(text.as_bytes());
        let (head, tail) = deflated.split_at(deflated.len() / 2);
        client.send(&[raw_frame(RSV1 | TEXT, head), frame(CONTINUATION, tail)].concat());
        assert_eq!(inflate(&client.frame().expect("an echo").payload, bits), text.as_bytes());
    }
    for fields in ["", "Sec-WebSocket-Extensions: foo\r\n", "Sec-WebSocket-Extensions: permessage-deflate; foo\r\n"] {
        let (_client, head) = Client::connect(server.addr).upgrade("/raw/z", fields);
        assert!(!head.contains("Sec-WebSocket-Extensions"), "{fields}: {head}");
    }
}

#[test]
fn what_does_not_inflate_ends_with_1007() {
    let server = TestServer::start(config(1));
    let open = || Client::connect(server.addr).upgrade("/raw/z", DEFLATE).0;
    refused(open(), &raw_frame(RSV1 | FIN | BINARY, b"\xff\xff\xff\xff"), 1007);
    refused(open(), &raw_frame(RSV1 | FIN | TEXT, &deflate(b"\xff is no text")), 1007);
    let deflated = deflate(&payload(1000));
    refused(open(), &raw_frame(RSV1 | FIN | BINARY, &deflated[..deflated.len() / 2]), 1007);
}

#[test]
fn a_deflate_bomb_ends_with_1009_and_takes_no_memory() {
    let server = common::Process::start(&["--shards=1"]);
    let bomb = raw_frame(RSV1 | FIN | BINARY, &deflate(&vec![0; 64 * MIB]));
    assert!(bomb.len() < MIB / 8);
    let before = server.resident();
    for _ in 0..8 {
        refused(Client::connect(server.addr).upgrade("/raw/z", DEFLATE).0, &bomb, 1009);
    }
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 16 * MIB as u64, "{grown} bytes");
}
