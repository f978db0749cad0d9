//! What comes back.

use crate::dialect::{Event, Failure, Position};

use super::{ConnFacts, Past, TopicFacts};

/// What came of something that a client did, to be told where its connection is.
#[derive(Debug)]
pub enum Answer {
    /// The message is ordered.
    Ack {
        /// Its `id`.
        id: Box<str>,
        /// Where, of a publication.
        place: Option<(Box<str>, Position)>,
    },
    /// There is no such client, user or room.
    NoReceiver {
        /// Its name.
        receiver: Box<str>,
        /// The message's `id`.
        id: Option<Box<str>>,
    },
    /// It was not done.
    Failed {
        /// Why.
        why: Failure,
        /// The message's `id`.
        id: Option<Box<str>>,
    },
    /// For a backend: somebody has come to one of its rooms.
    Came {
        /// Who.
        client: u64,
        /// Which room.
        room: Box<str>,
    },
    /// For a backend: somebody has left one of its rooms.
    Went {
        /// Who.
        client: u64,
        /// Which room.
        room: Box<str>,
    },
    /// Who is in a room.
    Presence {
        /// Which.
        room: Box<str>,
        /// How many they are.
        count: usize,
        /// Who they are, if they are few.
        members: Option<Box<[u64]>>,
    },
    /// What is kept of a topic. For a [`Return::Caller`](super::Return::Caller) only.
    History {
        /// Whether the topic is one that keeps anything.
        kept: bool,
        /// What it keeps.
        past: Past,
    },
    /// Topics with subscribers. For a [`Return::Caller`](super::Return::Caller) only.
    Topics(TopicList),
    /// Rooms, and how many are in them. For a [`Return::Caller`](super::Return::Caller) only.
    Rooms(Vec<(Box<str>, usize)>),
    /// Connections, the first in an order first. For a [`Return::Caller`](super::Return::Caller) only.
    Connections(Vec<ConnFacts>),
    /// Names of topics, likewise. For a [`Return::Caller`](super::Return::Caller) only.
    BusyTopics(Vec<Box<str>>),
    /// What is known of the topics that were asked for, in their order. For a [`Return::Caller`](super::Return::Caller) only.
    TopicFacts(Vec<TopicFacts>),
}

/// The first topics by name, of those that have subscribers on a shard.
#[derive(Debug)]
pub struct TopicList {
    /// Each with how many they are on this shard, by name.
    pub topics: Vec<(Box<str>, usize)>,
    /// There are more behind them.
    pub goes_on: bool,
}

impl Answer {
    /// As the dialect tells it; `None` of what no client can ask for.
    pub fn event(&self) -> Option<Event<'_>> {
        Some(match self {
            Answer::Ack { id, place } => {
                Event::Ack { id, place: place.as_ref().map(|(topic, position)| (&**topic, *position)) }
            }
            Answer::NoReceiver { receiver, id } => Event::NoReceiver { receiver, id: id.as_deref() },
            Answer::Failed { why, id } => Event::Failed { why: *why, id: id.as_deref() },
            Answer::Came { client, room } => Event::Came { client: *client, room },
            Answer::Went { client, room } => Event::Went { client: *client, room },
            Answer::Presence { room, count, members } => {
                Event::Presence { room, count: *count, members: members.as_deref() }
            }
            Answer::History { .. } | Answer::Topics(_) | Answer::Rooms(_) => return None,
            Answer::Connections(_) | Answer::BusyTopics(_) | Answer::TopicFacts(_) => return None,
        })
    }

    pub(super) fn weight(&self) -> usize {
        match self {
            Answer::Ack { id, place } => id.len() + place.as_ref().map_or(0, |(topic, _)| topic.len()),
            Answer::NoReceiver { receiver, id } => receiver.len() + id.as_ref().map_or(0, |id| id.len()),
            Answer::Failed { id, .. } => id.as_ref().map_or(0, |id| id.len()),
            Answer::Came { room, .. } | Answer::Went { room, .. } => room.len(),
            Answer::Presence { room, members, .. } => room.len() + members.as_ref().map_or(0, |all| all.len() * 8),
            // Not for shards.
            Answer::History { .. } | Answer::Topics(_) | Answer::Rooms(_) => 0,
            Answer::Connections(_) | Answer::BusyTopics(_) | Answer::TopicFacts(_) => 0,
        }
    }
}
