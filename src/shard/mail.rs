//! What shards and other threads tell a shard.

use bytes::Bytes;

use crate::dialect::{Event, Position, Since};
use crate::hub::TopicHandle;
use crate::hub::frame::MessageKind;
use crate::hub::history::Kept;
use crate::ring::token::ConnId;

/// A publication on its way between shards: the one copy that all of them read.
#[derive(Clone, Debug)]
pub struct Message {
    /// Text or binary.
    pub kind: MessageKind,
    /// The payload.
    pub payload: Bytes,
}

/// A connection anywhere in the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Its shard.
    pub shard: u16,
    /// Which one there.
    pub conn: ConnId,
}

/// A topic as the sender of a mail knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TopicRef {
    /// By the handle that its home shard has given out.
    Handle(TopicHandle),
    /// By name: the sender is not subscribed, or the home shard has not answered yet.
    Name(Box<str>),
}

/// Who is to be told that a message is ordered, and under which name.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The sender's connection.
    pub to: Origin,
    /// The sender.
    pub client: u64,
    /// The message's `id`, as JSON text.
    pub id: Box<str>,
    /// Whether the sender is told where in the topic the message is.
    pub place: bool,
}

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
    /// The first and last message that was wanted and is not kept.
    pub gap: Option<(u64, u64)>,
    /// What is kept, up to now.
    pub messages: Vec<Kept>,
    /// That is the newest message, for one who knows nothing.
    pub snapshot: bool,
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

/// What happens in a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RoomEvent {
    /// A client has come.
    Join,
    /// A client has gone.
    Leave,
    /// Somebody asks who is there.
    Ask,
}

/// News of a room, for its home shard.
#[derive(Debug)]
pub struct RoomMail {
    /// The room's name.
    pub room: Box<str>,
    /// The client.
    pub client: u64,
    /// The client's connection.
    pub from: Origin,
    /// What happened.
    pub what: RoomEvent,
}

/// A message for one client or room.
#[derive(Clone, Debug)]
pub struct Addressed {
    /// The client or room.
    pub receiver: Box<str>,
    /// The whole text.
    pub payload: Bytes,
    /// Who sent it.
    pub sender: u64,
    /// The sender's connection.
    pub from: Origin,
    /// The message's `id`, as JSON text, if it has one.
    pub id: Option<Box<str>>,
    /// Whether the sender wants to be told that it went out.
    pub ack: bool,
}

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
    /// There is no such client or room.
    NoReceiver {
        /// Its name.
        receiver: Box<str>,
        /// The message's `id`.
        id: Option<Box<str>>,
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
}

impl Answer {
    /// As the dialect tells it.
    pub fn event(&self) -> Event<'_> {
        match self {
            Answer::Ack { id, place } => {
                Event::Ack { id, place: place.as_ref().map(|(topic, position)| (&**topic, *position)) }
            }
            Answer::NoReceiver { receiver, id } => Event::NoReceiver { receiver, id: id.as_deref() },
            Answer::Presence { room, count, members } => {
                Event::Presence { room, count: *count, members: members.as_deref() }
            }
        }
    }

    fn weight(&self) -> usize {
        match self {
            Answer::Ack { id, place } => id.len() + place.as_ref().map_or(0, |(topic, _)| topic.len()),
            Answer::NoReceiver { receiver, id } => receiver.len() + id.as_ref().map_or(0, |id| id.len()),
            Answer::Presence { room, members, .. } => room.len() + members.as_ref().map_or(0, |all| all.len() * 8),
        }
    }
}

/// One mail.
#[derive(Debug)]
pub enum Mail {
    /// To the home shard: order this message and send it on.
    Publish {
        /// Which topic.
        topic: TopicRef,
        /// What.
        message: Message,
        /// A subscriber that is not to get it.
        exclude: Option<Origin>,
        /// The acknowledgement that is wanted.
        receipt: Option<Box<Receipt>>,
    },
    /// From the home shard: deliver this message to the local subscribers.
    Deliver {
        /// The receiving shard's handle.
        topic: TopicHandle,
        /// The message's position in the topic.
        offset: u64,
        /// What.
        message: Message,
        /// A subscriber of the receiving shard that is not to get it.
        exclude: Option<ConnId>,
    },
    /// To the home shard: the sender has its first subscriber.
    Interest {
        /// The topic's name.
        name: Box<str>,
        /// The sender.
        shard: u16,
        /// The sender's handle, for deliveries.
        topic: TopicHandle,
    },
    /// From the home shard: from now on, deliveries come.
    Confirm {
        /// The receiving shard's handle.
        topic: TopicHandle,
        /// The home shard's handle.
        home: TopicHandle,
        /// The topic's incarnation.
        epoch: u32,
    },
    /// To the home shard: the sender's last subscriber has gone.
    Disinterest {
        /// Which topic.
        topic: TopicRef,
        /// The sender.
        shard: u16,
        /// The sender's handle that is no more.
        local: TopicHandle,
    },
    /// To the home shard: the same, and what somebody has missed is asked for.
    Recover(Box<Recover>),
    /// From the home shard: what was missed; from now on, deliveries come.
    Recovered(Box<Recovered>),
    /// To the home shard of a room: somebody has come, gone or asked.
    Room(Box<RoomMail>),
    /// To the shard that a client's name leads to, or to a room's home shard: a message for that one.
    Address(Box<Addressed>),
    /// A text message for a client of the receiving shard.
    Send {
        /// The client's connection.
        to: ConnId,
        /// The text.
        payload: Bytes,
    },
    /// To the shard that a client's name leads to: the client has connected anew, or that connection is gone.
    Claim {
        /// The client.
        client: u64,
        /// Its connection.
        by: Origin,
        /// Whether it is gone.
        gone: bool,
    },
    /// The client of this connection has connected anew.
    Replaced {
        /// The connection.
        conn: ConnId,
    },
    /// What came of something that a client of the receiving shard did.
    Answer {
        /// The client's connection.
        to: ConnId,
        /// What.
        answer: Box<Answer>,
    },
    /// Memory is short: give back what is kept for later.
    Trim,
    /// Stop accepting, say goodbye to all, end within so many milliseconds.
    Shutdown {
        /// Bound on the time it takes.
        within_ms: u32,
    },
}

impl Mail {
    /// Bytes that count against the queue's bound.
    pub(super) fn weight(&self) -> usize {
        let topic = |topic: &TopicRef| match topic {
            TopicRef::Handle(_) => 0,
            TopicRef::Name(name) => name.len(),
        };
        MAIL_BYTES
            + match self {
                Mail::Publish { topic: name, message, .. } => topic(name) + message.payload.len(),
                Mail::Deliver { message, .. } => message.payload.len(),
                Mail::Interest { name, .. } => name.len(),
                Mail::Disinterest { topic: name, .. } => topic(name),
                Mail::Recover(mail) => mail.name.len(),
                Mail::Recovered(mail) => mail.past.messages.iter().map(|kept| kept.payload.len()).sum(),
                Mail::Room(mail) => mail.room.len(),
                Mail::Address(mail) => mail.receiver.len() + mail.payload.len(),
                Mail::Send { payload, .. } => payload.len(),
                Mail::Answer { answer, .. } => answer.weight(),
                Mail::Confirm { .. }
                | Mail::Claim { .. }
                | Mail::Replaced { .. }
                | Mail::Trim
                | Mail::Shutdown { .. } => 0,
            }
    }
}

/// What a mail takes beside its names and payload.
const MAIL_BYTES: usize = size_of::<Mail>();
const _: () = assert!(MAIL_BYTES <= 96);
