//! The handle that publishes from any thread.

use bytes::Bytes;

use crate::handler::Message;
use crate::hub::frame::MessageKind;
use crate::limits::{MAX_MESSAGE_BYTES, is_topic_name};
use crate::shard::handle::{Shards, Unavailable};
use crate::shard::mail;
use crate::time::Moment;

/// Publishes to topics from any thread. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    pub(super) shards: Shards,
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
    #[error("a message has at most 256 MiB")]
    TooBig,
    /// A text message is not UTF-8.
    #[error("a text message is not UTF-8")]
    BadText,
}

impl From<Unavailable> for PublishError {
    fn from(why: Unavailable) -> PublishError {
        match why {
            Unavailable::Busy => PublishError::Busy,
            Unavailable::Stopped => PublishError::Stopped,
        }
    }
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
        self.shards.available()?;
        self.shards.publish(topic, mail::Message { kind, payload, received: Moment::UNKNOWN }, None);
        Ok(())
    }

    /// Open connections.
    pub fn connections(&self) -> u64 {
        self.shards.shared().connections()
    }
}
