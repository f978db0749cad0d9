//! A subscription that begins in a topic's past, and its answer.

use crate::dialect::{Position, Since};
use crate::hub::TopicHandle;
use crate::hub::history::Kept;
use crate::ring::token::ConnId;

use super::Origin;

/// What somebody wants of a topic's past.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Everything after this.
    pub since: Option<Since>,
    /// In an envelope.
    pub recover: bool,
}

/// A subscription that begins in a topic's past.
#[derive(Debug)]
pub struct Recover {
    /// The topic's name.
    pub name: Box<str>,
    /// The subscriber's shard's handle, for deliveries.
    pub topic: TopicHandle,
    /// The subscriber.
    pub from: Origin,
    /// What it wants.
    pub wanted: Wanted,
}

/// What there is of a topic's past for a subscriber.
#[derive(Debug)]
pub struct Past {
    /// Where the topic is: what is delivered from here on comes after it.
    pub now: Position,
    /// The place that was named is none of the topic's epoch: it was forgotten since.
    pub reset: bool,
    /// The first and last message that was wanted and is not kept.
    pub gap: Option<(u64, u64)>,
    /// What is kept, up to now.
    pub messages: Vec<Kept>,
    /// That is the newest message, for one who knows nothing.
    pub snapshot: bool,
}

impl Past {
    /// Where somebody is before it is sent any of this.
    pub fn start(&self) -> u64 {
        let oldest = self.messages.first().map(|message| message.offset);
        self.gap.map(|(from, _)| from).or(oldest).map_or(self.now.offset, |first| first.saturating_sub(1))
    }
}

/// The answer to [`Recover`].
#[derive(Debug)]
pub struct Recovered {
    /// The subscriber's shard's handle.
    pub topic: TopicHandle,
    /// The home shard's handle.
    pub home: TopicHandle,
    /// The subscriber.
    pub to: ConnId,
    /// In an envelope.
    pub recover: bool,
    /// What it gets.
    pub past: Past,
}
