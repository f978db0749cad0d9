//! Reads `tests/vectors/frames.txt`, which says what its lines mean.

use super::Seen;
use uproar::hub::frame::MessageKind;
use uproar::ws::message::{Compression, Settings};

/// A violation that shows with the input's byte `at`, counted from 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fails {
    pub code: u16,
    pub at: usize,
    pub reason: String,
}

#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub settings: Settings,
    pub input: Vec<u8>,
    pub seen: Vec<Seen>,
    pub fails: Option<Fails>,
    pub pending: bool,
}

/// All cases of the file.
pub fn frames() -> Vec<Case> {
    let text = include_str!("../vectors/frames.txt");
    text.split("\n\n").filter(|block| block.contains("name:")).map(case).collect()
}

fn case(block: &str) -> Case {
    let settings = Settings { max_message: 100_000, max_skipped: 0, compression: Compression::Off };
    let mut case =
        Case { name: String::new(), settings, input: Vec::new(), seen: Vec::new(), fails: None, pending: false };
    for line in block.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("no key: {line}"));
        let value = value.trim();
        match key {
            "name" => case.name = value.to_owned(),
            "max" => case.settings.max_message = value.parse().expect("a number of bytes"),
            "compression" => case.settings.compression = compression(value),
            "in" => case.input.extend(bytes(value)),
            "out" => outcome(&mut case, value),
            _ => panic!("unknown key: {line}"),
        }
    }
    case
}

fn compression(value: &str) -> Compression {
    match value {
        "off" => Compression::Off,
        "message" => Compression::PerMessage,
        "takeover" => Compression::Takeover,
        _ => panic!("unknown compression: {value}"),
    }
}

fn outcome(case: &mut Case, value: &str) {
    let (what, rest) = value.split_once(' ').unwrap_or((value, ""));
    match what {
        "text" => case.seen.push(Seen::Message(MessageKind::Text, bytes(rest))),
        "binary" => case.seen.push(Seen::Message(MessageKind::Binary, bytes(rest))),
        "ping" => case.seen.push(Seen::Ping(bytes(rest))),
        "pong" => case.seen.push(Seen::Pong(bytes(rest))),
        "close" => {
            let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
            let reason = String::from_utf8(bytes(reason)).expect("a reason is text");
            case.seen.push(Seen::Close(code.parse().ok(), reason));
        }
        "fail" => {
            let mut words = rest.splitn(3, ' ');
            let code = words.next().and_then(|code| code.parse().ok()).expect("a close code");
            let at = words.next().and_then(|at| at.strip_prefix('@')?.parse().ok()).expect("@ and a position");
            case.fails = Some(Fails { code, at, reason: words.next().expect("a reason").to_owned() });
        }
        "pending" => case.pending = true,
        _ => panic!("unknown outcome: {value}"),
    }
}

/// Bytes as the file writes them.
fn bytes(mut text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    // Where the masked bytes begin, if within brackets.
    let mut masked = None;
    while let Some(first) = text.chars().next() {
        match first {
            ' ' => text = &text[1..],
            '"' => {
                let (quoted, rest) = text[1..].split_once('"').expect("a closing quote");
                out.extend_from_slice(quoted.as_bytes());
                text = rest;
            }
            '[' => {
                out.extend(hex(&text[1..9]));
                masked = Some(out.len());
                text = &text[9..];
            }
            ']' => {
                let start: usize = masked.take().expect("an opening bracket");
                for i in start..out.len() {
                    out[i] ^= out[start - 4 + (i - start) % 4];
                }
                text = &text[1..];
            }
            _ => {
                let end = text.find([' ', ']', '[', '"']).unwrap_or(text.len());
                match text[..end].split_once('*') {
                    Some((byte, times)) => {
                        out.extend(hex(byte).repeat(times.parse().expect("a number of times")));
                    }
                    None => out.extend(hex(&text[..end])),
                }
                text = &text[end..];
            }
        }
    }
    assert!(masked.is_none(), "a bracket is not closed");
    out
}

fn hex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "an odd number of digits: {digits}");
    let byte = |i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap_or_else(|_| panic!("no hex: {digits}"));
    (0..digits.len()).step_by(2).map(byte).collect()
}
