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
    match kind {
        MessageKind::Binary => {
            let _ = write!(out, r#","encoding":"base64","data":"{}"}}"#, Base64Display::new(payload, &STANDARD));
        }
        MessageKind::Text => {
            out.extend_from_slice(br#","data":"#);
            push_text(out, payload);
            out.push(b'}');
        }
    }
}

fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    let start = out.len();
    // For the parser to write into.
    let is_json = parse(text, out).is_some() && scan::is_value(text);
    out.truncate(start);
    if is_json {
        out.extend_from_slice(text);
    } else {
        let _ = write!(out, "{}", Quoted(&String::from_utf8_lossy(text)));
    }
}
