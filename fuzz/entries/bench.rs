// What the load generator reads of a server: whatever the bytes, the outcome does not depend on how they were cut.

use super::wire::server::{Seen, read};
use uproar::ws::client::answer::{Asked, judge};

/// Bytes before the wire's in an input of [`reader`].
const READER_PREFIX: usize = 4;

/// The input of [`reader`] that reads `bytes` with a limit that fits 24 bits.
pub fn reader_input(deflate: bool, max_message: u32, bytes: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = max_message.to_be_bytes();
    [&[u8::from(deflate), a, b, c], bytes].concat()
}

/// A server's frames. Reading itself asserts that no more memory is held than bytes have come.
pub fn reader(data: &[u8]) {
    let Some((&[deflate, a, b, c], bytes)) = data.split_first_chunk::<READER_PREFIX>() else { return };
    let (deflate, max_message) = (deflate % 2 == 1, u32::from_be_bytes([0, a, b, c]));
    let whole = read(deflate, max_message, [bytes]);
    for len in [1, 2, 3, 7, 64] {
        let pieces = read(deflate, max_message, bytes.chunks(len));
        // Of what a receive held after a violation nothing is kept.
        assert!(pieces.seen == whole.seen && pieces.violation == whole.violation, "in pieces of {len}");
    }
    for seen in &whole.seen {
        match seen {
            Seen::Message(message) => assert!(message.len() <= max_message as usize),
            Seen::Ping(payload) | Seen::Pong(payload) => assert!(payload.len() <= 125),
            Seen::Close(code) => assert!(code.is_none_or(|code| (1000..5000).contains(&code))),
        }
    }
}

/// The answer to a handshake: what is judged stays so when more comes, and what is accepted is a head.
pub fn answer(bytes: &[u8]) {
    let protocols = ["chat".to_owned()];
    for deflate in [false, true] {
        let asked = Asked { accept: b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", deflate, protocols: &protocols };
        let whole = judge(bytes, asked);
        let settled = (0..bytes.len()).find(|&len| judge(&bytes[..len], asked) != Ok(None)).unwrap_or(bytes.len());
        for len in settled..bytes.len() {
            assert_eq!(judge(&bytes[..len], asked), whole, "at {len}");
        }
        if let Ok(Some((len, agreed))) = whole {
            let head = bytes[..len].trim_ascii_start();
            assert!(head.starts_with(b"HTTP/1.1 101") && head.ends_with(b"\n") && (deflate || !agreed));
        }
    }
}
