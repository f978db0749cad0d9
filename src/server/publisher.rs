//! The handle that publishes from any thread.

use std::sync::Arc;

use bytes::Bytes;

use crate::handler::Message;
use crate::hub::frame::MessageKind;
use crate::limits::{MAX_MESSAGE_BYTES, is_topic_name};
use crate::shard::mail::{self, Mail, TopicRef};
use crate::shard::mailbox::Postbox;
use crate::shard::shared::Shared;

/// Payload bytes in some shard's mailbox beyond which [`Publisher::publish`] says that it is busy.
const BOUND: usize = 16 << 20;

/// Publishes to topics from any thread. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    pub(super) shared: Arc<Shared>,
    pub(super) postboxes: Vec<Postbox>,
}

/// Why a message was not published.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// More is waiting to go out than may wait: try again later.
    #[error("the server is busy: try again later")]
    Busy,
    /// The server has stopped.
    #[error("the server has stopped")]
    Stopped,
    /// The topic's name is empty or longer than [`crate::limits::MAX_TOPIC_BYTES`].
    #[error("a topic's name has 1 to 256 bytes")]
    BadTopic,
    /// The payload is larger than [`MAX_MESSAGE_BYTES`].
    #[error("a message has at most 1 GiB")]
    TooBig,
    /// A text message is not UTF-8.
    #[error("a text message is not UTF-8")]
    BadText,
}

impl Publisher {
    /// Publishes to all subscribers of a topic. The payload of a text message must be UTF-8.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing was published then.
    pub fn publish<'m>(&self, topic: &str, message: impl Into<Message<'m>>) -> Result<(), PublishError> {
        let message = message.into();
        self.publish_bytes(topic, message.kind, Bytes::copy_from_slice(message.payload))
    }

    /// As [`Publisher::publish`], of bytes that need not be copied.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing was published then.
    pub fn publish_bytes(&self, topic: &str, kind: MessageKind, payload: Bytes) -> Result<(), PublishError> {
        if !is_topic_name(topic) {
            return Err(PublishError::BadTopic);
        }
        if payload.len() as u64 > MAX_MESSAGE_BYTES {
            return Err(PublishError::TooBig);
        }
        if kind == MessageKind::Text && simdutf8::basic::from_utf8(&payload).is_err() {
            return Err(PublishError::BadText);
        }
        let home = &self.postboxes[usize::from(self.shared.home(topic))];
        if home.is_closed() {
            return Err(PublishError::Stopped);
        }
        // Every shard's, not only the home's: that passes on what it takes.
        if self.postboxes.iter().any(|postbox| postbox.weight() > BOUND) {
            return Err(PublishError::Busy);
        }
        let message = mail::Message { kind, payload };
        home.post(Mail::Publish { topic: TopicRef::Name(topic.into()), message, exclude: None, receipt: None });
        home.wake();
        Ok(())
    }

    /// Open connections.
    pub fn connections(&self) -> u64 {
        self.shared.connections()
    }
}
