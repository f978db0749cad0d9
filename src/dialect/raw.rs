//! The `raw` dialect: every data message is broadcast, as it is, to the topic that the path names. No envelope.

use super::{Command, Commands};
use crate::hub::frame::MessageKind;

/// The commands of a message.
pub fn message(kind: MessageKind, payload: &[u8]) -> Commands<'_> {
    Commands::from_iter([Command::Broadcast { kind, payload }])
}
