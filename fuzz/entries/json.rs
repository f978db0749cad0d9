// Messages of the `json` dialect: each is answered with one command, and what is passed on of it is JSON.

use serde::de::IgnoredAny;
use uproar::dialect::json::{self as dialect, Types};
use uproar::dialect::{Command, Position, Receipt};
use uproar::hub::frame::MessageKind;

/// Takes `bytes` as a text message, as the dialect is given them, only if they are UTF-8; then as what was published.
pub fn json(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let types = Types::new(&["chat", "move"], &["prompt"]).expect("types of their own");
    let commands = dialect::message(MessageKind::Text, text.as_bytes(), &types, &mut Vec::new());
    assert_eq!(commands.len(), 1);
    for command in commands {
        check(text, command);
    }
    let mut out = Vec::new();
    dialect::envelope(&mut out, text, Position { epoch: 1, offset: 2 }, MessageKind::Text, bytes, false);
    assert_is_json(&out);
}

fn check(text: &str, command: Command<'_>) {
    if let Command::Error(error) = command {
        return assert_is_json(error.as_bytes());
    }
    assert_is_json(text.as_bytes());
    match command {
        Command::Refresh { token, .. } => assert!(token.0.len() <= text.len()),
        Command::Publish { payload, receipt, .. } => {
            let data = std::str::from_utf8(payload).expect("cut at characters");
            assert!(text.contains(data) && !data.is_empty() && data.trim() == data);
            assert_is_json(payload);
            check_receipt(receipt);
        }
        Command::Relay { object, receipt } => {
            assert_is_json(&dialect::signed(object, 1, Some(2)));
            check_receipt(receipt);
        }
        Command::HandOver { object, receipt } => {
            assert_is_json(&dialect::placed(object, 1, text, Some(text), 2));
            check_receipt(receipt);
        }
        Command::Address { object, receipt, .. } => {
            assert_is_json(&dialect::signed(object, 1, None));
            check_receipt(receipt);
        }
        Command::Subscribe { topics, .. } => assert!(!topics.is_empty()),
        Command::Unsubscribe(topics) => assert!(!topics.is_empty()),
        Command::Presence { .. } | Command::Ping => {}
        Command::Broadcast { .. } | Command::Error(_) => panic!("not of a text message"),
    }
}

fn check_receipt(receipt: Option<Receipt<'_>>) {
    if let Some(Receipt { id, .. }) = receipt {
        assert!(id.len() <= 2 + 6 * 128);
        assert_is_json(id.as_bytes());
    }
}

/// `serde_json` does not recurse where it keeps nothing.
pub(super) fn assert_is_json(text: &[u8]) {
    let result = serde_json::from_slice::<IgnoredAny>(text);
    assert!(result.is_ok(), "{result:?}: {}", String::from_utf8_lossy(text));
}
