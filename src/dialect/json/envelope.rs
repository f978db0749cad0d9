//! Messages with their place in the topic, for subscribers that recover.

use std::io::Write as _;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;

use super::fields::parse;
use super::scan;
use super::text::{Place, Quoted};
use crate::dialect::Position;
use crate::hub::frame::MessageKind;

/// Appends the message to `out` as a text that says which of the topic's it is. `payload` is its `data`: as it is where it
/// is one JSON value, as a string where it is another text, in base64 where it is binary. A `snapshot` is the newest
/// message at the time of subscribing.
pub fn envelope(out: &mut Vec<u8>, topic: &str, position: Position, kind: MessageKind, payload: &[u8], snapshot: bool) {
    // Writing to a vector does not fail.
    let _ = write!(out, r#"{{"type":"message","topic":{},{}"#, Quoted(topic), Place(position));
    if snapshot {
        out.extend_from_slice(br#","snapshot":true"#);
    }
    if kind == MessageKind::Binary {
        out.extend_from_slice(br#","encoding":"base64""#);
    }
    out.extend_from_slice(br#","data":"#);
    push_data(out, kind, payload);
    out.push(b'}');
}

/// Appends a message as one JSON value: as it is where it is one, as a string where it is another text, as a string of base64
/// where it is binary.
pub fn push_data(out: &mut Vec<u8>, kind: MessageKind, payload: &[u8]) {
    // Writing to a vector does not fail.
    match kind {
        MessageKind::Binary => drop(write!(out, "\"{}\"", Base64Display::new(payload, &STANDARD))),
        MessageKind::Text if is_value(payload, out) => out.extend_from_slice(payload),
        MessageKind::Text => drop(write!(out, "{}", Quoted(&String::from_utf8_lossy(payload)))),
    }
}

/// Whether a text is one JSON value, as this dialect has it. `scratch` is written to, and is then as it was.
pub fn is_value(text: &[u8], scratch: &mut Vec<u8>) -> bool {
    let start = scratch.len();
    let is_value = parse(text, scratch).is_some() && scan::is_value(text);
    scratch.truncate(start);
    is_value
}
