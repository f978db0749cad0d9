// Messages of backends: each is one instruction, and what is passed on of it is JSON.

use serde::de::IgnoredAny;
use uproar::dialect::json;
use uproar::dialect::{Deed, Instruction};
use uproar::hub::frame::MessageKind;
use uproar::limits::is_topic_name;

/// Takes `bytes` as a text message, as the dialect is given them, only if they are UTF-8.
pub fn backend(bytes: &[u8]) {
    if std::str::from_utf8(bytes).is_err() {
        return;
    }
    match json::instruction(MessageKind::Text, bytes, &mut Vec::new()) {
        Instruction::Publish { topic, payload, place, .. } => {
            assert!(is_topic_name(&topic));
            assert!(place || payload.len() < bytes.len(), "the room is cut out");
            assert_is_json(&payload);
        }
        Instruction::Act { deed: Deed::Send(payload), .. } => {
            assert!(payload.len() < bytes.len());
            assert_is_json(&payload);
        }
        Instruction::Act { receiver, deed, .. } => {
            assert!(json::parse_client_id(&receiver).is_some());
            match deed {
                Deed::Join(name) | Deed::Leave(name) | Deed::Identify(Some(name)) => assert!(is_topic_name(&name)),
                Deed::Close { code, .. } => assert!(matches!(code, 1000 | 3000..=4999)),
                Deed::Send(_) | Deed::Identify(None) => {}
            }
        }
        Instruction::Presence { room } => assert!(is_topic_name(&room)),
        Instruction::Ping => {}
        Instruction::Error(text) => assert_is_json(text.as_bytes()),
    }
}

/// `serde_json` does not recurse where it keeps nothing.
fn assert_is_json(text: &[u8]) {
    let result = serde_json::from_slice::<IgnoredAny>(text);
    assert!(result.is_ok(), "{result:?}: {}", String::from_utf8_lossy(text));
}
