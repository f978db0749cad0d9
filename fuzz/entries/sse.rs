// Server-Sent Events: what a client says its place is, what it posts, and the blocks of what was published.

use uproar::dialect::json::{Types, envelope, posted};
use uproar::dialect::sse::{self, Cursors};
use uproar::dialect::{Position, Since};
use uproar::hub::frame::MessageKind;

use super::json_dialect::assert_is_json;

const TOPICS: [&str; 3] = ["a", "b", "c"];

/// Takes `bytes` as the id of the last event: what is taken of it is as a server would have said it, and comes back. Then
/// as what was published.
pub fn events(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let cursors = Cursors::parse(text, TOPICS.into_iter());
    let mut line = Vec::new();
    cursors.push_id(&mut line);
    let line = String::from_utf8(line).expect("a line is text");
    let id = line.strip_prefix("id: ").and_then(|id| id.strip_suffix('\n')).unwrap_or_default();
    assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-,".contains(&byte)), "{id}");
    assert!(id.split(',').all(|cursor| text.contains(cursor)));
    let again = Cursors::parse(id, TOPICS.into_iter());
    for topic in TOPICS {
        assert_eq!(again.since(topic), cursors.since(topic));
        assert!(cursors.since(topic).is_none_or(|Since { epoch, offset }| epoch.is_some() && offset < 1 << 53));
    }
    blocks(text, cursors);
}

/// What was published is one block, whatever is in it, and so is its copy for a stream of several topics.
fn blocks(text: &str, mut cursors: Cursors) {
    let position = Position { epoch: 1, offset: 2 };
    let (mut data, mut block, mut stamped) = (Vec::new(), Vec::new(), Vec::new());
    envelope(&mut data, "a", position, MessageKind::Text, text.as_bytes(), false);
    sse::push_message(&mut block, Some(("a", position)), &data);
    sse::push_event(&mut block, "notice", text.as_bytes());
    let len = sse::first_len(&block).expect("two blocks");
    assert_eq!(sse::first_len(&block[len..]), Some(block.len() - len));
    cursors.stamp(&block[..len], &mut stamped);
    assert_eq!(sse::first_len(&stamped), Some(stamped.len()));
    assert_eq!(cursors.since("a"), Some(Since { epoch: Some(1), offset: 2 }));
    let body = block[..len].iter().position(|&byte| byte == b'\n').expect("lines");
    assert!(stamped.ends_with(&block[body..len]));
}

/// Takes `bytes` as what was posted.
pub fn publish(bytes: &[u8]) {
    match posted(bytes, &Types::default(), &mut Vec::new()) {
        Ok(posted) => {
            assert_is_json(bytes);
            assert_is_json(posted.data);
            assert!((1..=256).contains(&posted.topic.len()));
            posted.id.iter().for_each(|id| assert_is_json(id.as_bytes()));
        }
        Err(problem) => {
            assert!([400, 403].contains(&problem.status()));
            assert_is_json(problem.body().as_bytes());
        }
    }
}
