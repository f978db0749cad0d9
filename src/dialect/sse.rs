//! Server-Sent Events (WHATWG HTML, section 9.2): the blocks of a stream, and the ids that say where it is.
//!
//! A block is some lines and an empty one. An id is a list of [`Cursor`]s, one for each topic of the stream, with commas
//! between them. The block of a message is the same for every stream of that topic alone: its id is one cursor. A stream
//! of more topics needs blocks with longer ids, which [`Cursors::stamp`] makes of the shared ones.

use std::fmt::Write as _;

use memchr::{memchr, memchr2};
use sha1_smol::Sha1;

use super::json::{Epoch, MAX_OFFSET, parse_epoch};
use super::{Position, Since};

/// What a stream begins with: something for proxies to pass on, and how long to wait before coming back, in milliseconds.
pub const PREAMBLE: &str = ": uproar\nretry: 2000\n\n";
/// A comment, for when there is nothing to be said.
pub const HEARTBEAT: &str = ":\n\n";
/// What tells a browser to come back so many milliseconds after the stream has ended.
pub fn retry(after_ms: u64) -> String {
    format!("retry: {after_ms}\n\n")
}

/// The name of events that carry what was published.
pub const MESSAGE: &str = "message";
/// Bytes that a topic takes in an id, with its comma as a query has it, before a thousand million messages have been
/// published to it.
pub const ID_BYTES_PER_TOPIC: usize = KEY_DIGITS + 1 + EPOCH_DIGITS + 1 + 9 + "%2C".len();

/// Digits of what stands for a topic in an id.
const KEY_DIGITS: usize = 12;
const EPOCH_DIGITS: usize = 8;
/// What the line of an id begins with.
const ID: &[u8] = b"id: ";

/// Where a stream is in one topic, as an id has it: `KEY-EPOCH-OFFSET`, all ASCII. The key is 12 hexadecimal digits of a
/// hash of the topic's name, the same in every process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor(String);

impl Cursor {
    /// That place in that topic.
    pub fn new(topic: &str, position: Position) -> Cursor {
        let mut text = key(topic);
        // Writing to a string does not fail.
        let _ = write!(text, "-{}-{}", Epoch(position.epoch), position.offset);
        Cursor(text)
    }

    /// The cursor that a client has spelled so; `None` if it had it from no server of this kind.
    fn parse(text: &str) -> Option<Cursor> {
        let (key, place) = text.split_once('-')?;
        let is_key = key.len() == KEY_DIGITS && key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (is_key && place_of(place).is_some()).then(|| Cursor(text.to_owned()))
    }

    fn key(&self) -> &str {
        self.0.get(..KEY_DIGITS).unwrap_or_default()
    }

    fn since(&self) -> Option<Since> {
        place_of(self.0.get(KEY_DIGITS + 1..)?)
    }
}

fn key(topic: &str) -> String {
    let mut digits = Sha1::from(topic).digest().to_string();
    digits.truncate(KEY_DIGITS);
    digits
}

/// `EPOCH-OFFSET`, in the one spelling that there is for it.
fn place_of(text: &str) -> Option<Since> {
    let (epoch, digits) = text.split_once('-')?;
    let epoch = parse_epoch(epoch)?;
    let canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    let offset = digits.parse().ok().filter(|&offset| canonical && offset <= MAX_OFFSET)?;
    Some(Since { epoch: Some(epoch), offset })
}

/// Where a stream is in its topics, as far as that is known.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Cursors(Vec<Cursor>);

impl Cursors {
    /// What `id`, which a client may have made up, says of these topics. What is no cursor, or of another topic, is left
    /// out; of two for one topic the first is taken.
    pub fn parse<'t>(id: &str, topics: impl Iterator<Item = &'t str>) -> Cursors {
        let known: Vec<Cursor> = id.split(',').filter_map(Cursor::parse).collect();
        let of = |topic: &str| {
            let key = key(topic);
            known.iter().find(|cursor| cursor.key() == key).cloned()
        };
        Cursors(topics.filter_map(of).collect())
    }

    /// Where the stream is in a topic, if that is known.
    pub fn since(&self, topic: &str) -> Option<Since> {
        let key = key(topic);
        self.0.iter().find(|cursor| cursor.key() == key)?.since()
    }

    /// Notes where the stream is in a topic.
    pub fn note(&mut self, cursor: Cursor) {
        match self.0.iter_mut().find(|known| known.key() == cursor.key()) {
            Some(known) => *known = cursor,
            None => self.0.push(cursor),
        }
    }

    /// Appends the line that says where the stream is in all topics; nothing if that is known of none.
    pub fn push_id(&self, out: &mut Vec<u8>) {
        for (i, cursor) in self.0.iter().enumerate() {
            out.extend_from_slice(if i == 0 { ID } else { b"," });
            out.extend_from_slice(cursor.0.as_bytes());
        }
        if !self.0.is_empty() {
            out.push(b'\n');
        }
    }

    /// Appends a block that [`push_message`] made, with the id of this stream, which is now where that message is.
    pub fn stamp(&mut self, block: &[u8], out: &mut Vec<u8>) {
        let mut rest = block;
        if let Some((cursor, behind)) = split_id(block) {
            self.note(cursor);
            self.push_id(out);
            rest = behind;
        }
        out.extend_from_slice(rest);
    }
}

/// The one cursor that a block begins with, and what is behind its line.
fn split_id(block: &[u8]) -> Option<(Cursor, &[u8])> {
    let text = block.strip_prefix(ID)?;
    let (cursor, rest) = text.split_at_checked(memchr(b'\n', text)?)?;
    Some((Cursor(std::str::from_utf8(cursor).ok()?.to_owned()), rest.get(1..)?))
}

/// Appends the block of a message, for streams of its topic alone: `data` is its text, in an envelope.
pub fn push_message(out: &mut Vec<u8>, topic: &str, position: Position, data: &[u8]) {
    Cursors(vec![Cursor::new(topic, position)]).push_id(out);
    push_event(out, MESSAGE, data);
}

/// Appends an event, without an id. `data` is text; every line of it becomes one of the block, so that no block has an
/// empty line but the last.
pub fn push_event(out: &mut Vec<u8>, name: &str, data: &[u8]) {
    out.reserve(data.len() + name.len() + 16);
    for part in ["event: ", name, "\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let mut rest = Some(data);
    while let Some(lines) = rest {
        let (line, next) = split_line(lines);
        for part in [&b"data: "[..], line, b"\n"] {
            out.extend_from_slice(part);
        }
        rest = next;
    }
    out.push(b'\n');
}

/// The first line, and what follows if it does not end the text. Lines end in CR, LF, or both, as a reader has it.
fn split_line(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some((line, end)) = memchr2(b'\r', b'\n', text).and_then(|end| text.split_at_checked(end)) else {
        return (text, None);
    };
    (line, end.strip_prefix(b"\r\n").or_else(|| end.get(1..)))
}

/// Bytes of the block that `bytes` begin with; `None` if its end is not there.
pub fn first_len(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\n\n").map(|at| at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::json::envelope;
    use crate::hub::frame::MessageKind;
    use proptest::prelude::*;

    const A: Position = Position { epoch: 0x9f86_d081, offset: 41 };

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_block_is_as_the_contract_has_it() {
        let block = text(|out| push_message(out, "AAPL", A, b"{}"));
        assert_eq!(block, "id: 82e2e180365f-9f86d081-41\nevent: message\ndata: {}\n\n");
        assert_eq!(text(|out| push_event(out, MESSAGE, b"{}")), "event: message\ndata: {}\n\n");
        assert_eq!(text(|out| push_event(out, "gap", b"")), "event: gap\ndata: \n\n");
        assert_eq!(text(|out| Cursors::default().push_id(out)), "");
    }

    #[test]
    fn lines_end_as_a_reader_has_it() {
        for (data, lines) in [
            ("a\nb", "data: a\ndata: b\n"),
            ("a\r\nb\rc", "data: a\ndata: b\ndata: c\n"),
            ("\n\r", "data: \ndata: \ndata: \n"),
            ("a\r\n", "data: a\ndata: \n"),
        ] {
            assert_eq!(text(|out| push_event(out, "x", data.as_bytes())), format!("event: x\n{lines}\n"), "{data:?}");
        }
    }

    #[test]
    fn a_byte_of_a_message_becomes_seven_at_most() {
        const BYTES: usize = 10_000;
        let control = "\u{1}".repeat(BYTES);
        let ends = format!("[{}]", "\n".repeat(BYTES - 2));
        for (kind, payload, least) in [
            (MessageKind::Text, control.as_bytes(), 6),
            (MessageKind::Text, ends.as_bytes(), 6),
            (MessageKind::Binary, &[255; BYTES], 1),
        ] {
            let (mut data, mut block) = (Vec::new(), Vec::new());
            envelope(&mut data, "t", A, kind, payload, true);
            push_message(&mut block, "t", A, &data);
            assert!(data.len() <= block.len() && (least * BYTES..7 * BYTES + 1024).contains(&block.len()));
        }
        const { assert!(7 * crate::limits::MAX_MESSAGE_BYTES < crate::limits::MAX_FRAME_BYTES) };
    }

    #[test]
    fn what_is_no_cursor_is_left_out() {
        let good = Cursor::new("a", A);
        let key = key("a");
        for bad in [
            "",
            "-",
            "--",
            &key,
            &format!("{key}-"),
            &format!("{key}-9f86d081"),
            &format!("{key}-9f86d081-"),
            &format!("{key}-9f86d081-041"),
            &format!("{key}-9f86d081-+1"),
            &format!("{key}-9F86D081-1"),
            &format!("{key}-9f86d08-1"),
            &format!("{key}-9f86d081-1-2"),
            &format!("{key}-9f86d081-9007199254740992"),
            &format!("{}-9f86d081-1", key.to_uppercase()),
            &format!("{key}-9f86d081-1\n"),
            "é23456789012-9f86d081-1",
        ] {
            assert_eq!(Cursor::parse(bad), None, "{bad:?}");
            let id = format!("{bad},{},{bad}", good.0);
            assert_eq!(Cursors::parse(&id, ["a", "b"].into_iter()).0, std::slice::from_ref(&good), "{id}");
        }
    }

    #[test]
    fn a_topic_that_is_not_in_the_request_is_forgotten() {
        let mut cursors = Cursors::default();
        for topic in ["a", "b", "c"] {
            cursors.note(Cursor::new(topic, A));
        }
        let id = text(|out| cursors.push_id(out));
        let id = id.strip_prefix("id: ").and_then(|id| id.strip_suffix('\n')).expect("a line");
        let again = Cursors::parse(id, ["c", "x", "a"].into_iter());
        assert_eq!(again.0, [Cursor::new("c", A), Cursor::new("a", A)]);
        assert_eq!(again.since("a"), Some(Since { epoch: Some(A.epoch), offset: A.offset }));
        assert_eq!((again.since("b"), again.since("x")), (None, None));
    }

    #[test]
    fn a_stamped_block_differs_in_its_id_alone() {
        let mut cursors = Cursors(vec![Cursor::new("a", A), Cursor::new("b", A)]);
        let next = Position { offset: 42, ..A };
        let shared = text(|out| push_message(out, "b", next, b"{\n}"));
        let stamped = text(|out| cursors.stamp(shared.as_bytes(), out));
        let id = format!("id: {},{}\n", Cursor::new("a", A).0, Cursor::new("b", next).0);
        assert_eq!(stamped, id + "event: message\ndata: {\ndata: }\n\n");
        let notice = text(|out| push_event(out, MESSAGE, b"id: "));
        assert_eq!(text(|out| cursors.stamp(notice.as_bytes(), out)), notice);
    }

    /// The events of a stream, as the standard has them read: id, name, data.
    fn read(stream: &str) -> Vec<(Option<String>, String, String)> {
        let (mut events, mut id, mut name, mut data) = (Vec::new(), None, String::new(), Vec::new());
        for line in stream.replace("\r\n", "\n").replace('\r', "\n").split_terminator('\n') {
            match line.split_once(": ") {
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("event", value)) => name = value.to_owned(),
                Some(("data", value)) => data.push(value.to_owned()),
                _ if line.is_empty() => {
                    let data = std::mem::take(&mut data).join("\n");
                    events.push((id.take(), std::mem::take(&mut name), data));
                }
                _ => panic!("{line:?}"),
            }
        }
        events
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(data in prop::collection::vec("[\r\na: \u{e9}{}\"]{0,20}", 1..10), offset in 0..=MAX_OFFSET) {
            let mut stream = Vec::new();
            let mut lens = Vec::new();
            let place = Position { offset, ..A };
            for (i, data) in data.iter().enumerate() {
                let start = stream.len();
                match i % 2 {
                    0 => push_message(&mut stream, "t", place, data.as_bytes()),
                    _ => push_event(&mut stream, MESSAGE, data.as_bytes()),
                }
                lens.push(stream.len() - start);
            }
            let mut rest = &stream[..];
            for len in lens {
                prop_assert_eq!(first_len(rest), Some(len));
                prop_assert_eq!(first_len(&rest[..len - 1]), None);
                rest = &rest[len..];
            }
            let events = read(std::str::from_utf8(&stream).expect("text"));
            prop_assert_eq!(events.len(), data.len());
            for (i, ((id, name, read), data)) in events.into_iter().zip(&data).enumerate() {
                prop_assert_eq!(id, (i % 2 == 0).then(|| Cursor::new("t", place).0));
                prop_assert_eq!(name, MESSAGE);
                prop_assert_eq!(read, data.replace("\r\n", "\n").replace('\r', "\n"));
            }
        }

        #[test]
        fn places_come_back(places: Vec<(u32, u32)>) {
            let topics: Vec<String> = (0..places.len()).map(|i| format!("t{i}")).collect();
            let mut cursors = Cursors::default();
            for (topic, &(epoch, offset)) in topics.iter().zip(&places) {
                cursors.note(Cursor::new(topic, Position { epoch, offset: offset.into() }));
            }
            let line = text(|out| cursors.push_id(out));
            let again = Cursors::parse(line.trim_start_matches("id: ").trim_end(), topics.iter().map(|topic| &**topic));
            for (topic, &(epoch, offset)) in topics.iter().zip(&places) {
                prop_assert_eq!(again.since(topic), Some(Since { epoch: Some(epoch), offset: offset.into() }));
            }
            prop_assert!(line.len() <= 5 + places.len() * (ID_BYTES_PER_TOPIC + 1));
        }
    }
}
