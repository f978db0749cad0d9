// Messages of the `json` dialect: each is answered with one command, and what is published is the text that was sent.

use uproar::dialect::{Command, json as dialect};
use uproar::hub::frame::MessageKind;

/// Takes `bytes` as a text message, as the dialect is given them: only if they are UTF-8.
pub fn json(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut scratch = Vec::new();
    let commands = dialect::message(MessageKind::Text, text.as_bytes(), &mut scratch);
    assert_eq!(commands.len(), 1);
    for command in commands {
        match command {
            Command::Publish { payload, .. } => {
                let data = std::str::from_utf8(payload).expect("cut at characters");
                assert!(text.contains(data) && !data.is_empty() && data.trim() == data);
                assert_is_json(data);
            }
            Command::Subscribe(topics) | Command::Unsubscribe(topics) => assert!(!topics.is_empty()),
            Command::Reply(reply) => assert_is_json(&reply),
            Command::Broadcast { .. } => panic!("the dialect has no topic of its own"),
        }
    }
}

fn assert_is_json(text: &str) {
    let mut copy = text.as_bytes().to_vec();
    assert!(simd_json::to_tape(&mut copy).is_ok(), "{text}");
}
