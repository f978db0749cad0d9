//! What clients speak on top of their transport.
//!
//! A dialect is pure: it turns a client's message into [`Command`]s, which the shard carries out on the hub, and what
//! came of them ([`Event`]) into text for the client. It knows no socket, no hub and no clock.

pub mod json;
pub mod raw;

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::hub::frame::MessageKind;

/// What a client's message asks for. Payloads are lent from the read buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Join topics; answered by [`Event::Subscribed`].
    Subscribe(Vec<Cow<'a, str>>),
    /// Leave topics; answered by [`Event::Unsubscribed`].
    Unsubscribe(Vec<Cow<'a, str>>),
    /// Publish to a topic by name.
    Publish {
        /// Topic name.
        topic: Cow<'a, str>,
        /// Text or binary.
        kind: MessageKind,
        /// What subscribers of the topic receive.
        payload: &'a [u8],
    },
    /// Publish to the topic that the connection's path named.
    Broadcast {
        /// Text or binary.
        kind: MessageKind,
        /// What subscribers receive.
        payload: &'a [u8],
    },
    /// Answer the client with a text message.
    Reply(Cow<'a, str>),
}

/// The commands of one message; hardly ever more than one.
pub type Commands<'a> = SmallVec<[Command<'a>; 1]>;

/// Why a topic was not joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The name is empty or longer than [`crate::limits::MAX_TOPIC_BYTES`].
    #[error("a topic's name has 1 to 256 bytes")]
    BadName,
    /// The connection has as many topics as it may have.
    #[error("the connection has as many topics as it may have")]
    TooMany,
}

impl Refusal {
    /// A word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Refusal::BadName => "bad_topic",
            Refusal::TooMany => "too_many_topics",
        }
    }
}

/// What came of a command.
#[derive(Debug)]
pub enum Event<'a> {
    /// Of [`Command::Subscribe`], topic by topic.
    Subscribed(&'a [(Cow<'a, str>, Result<(), Refusal>)]),
    /// Of [`Command::Unsubscribe`]: `true` where the topic had been joined.
    Unsubscribed(&'a [(Cow<'a, str>, bool)]),
    /// Of [`Command::Publish`]: the name is empty or longer than [`crate::limits::MAX_TOPIC_BYTES`].
    BadTopic,
    /// Messages on the connection's topics were dropped because it reads too slowly.
    Dropped(u32),
}
