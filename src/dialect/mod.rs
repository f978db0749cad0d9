//! What clients speak on top of their transport.
//!
//! A dialect is pure: it turns a client's message into [`Command`]s, which the shard carries out on the hub, and what
//! came of them ([`Event`]) into text for the client. It knows no socket, no hub and no clock.

pub mod json;
pub mod raw;
pub mod sse;

use std::borrow::Cow;
use std::fmt;

use smallvec::SmallVec;

use crate::hub::frame::MessageKind;

/// What a client proves something by. It is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential<'a>(pub Cow<'a, str>);

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// What a client's message asks for. Payloads are lent from the read buffer where they go on as they are.
#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Join topics; answered by [`Event::Subscribed`], topic by topic.
    Subscribe {
        /// Each topic, and where the client was in it.
        topics: Vec<(Cow<'a, str>, Option<Since>)>,
        /// Messages are to come in an envelope that says where in the topic they are.
        recover: bool,
        /// Topics, and the tokens that allow them.
        tokens: Vec<(Cow<'a, str>, Credential<'a>)>,
    },
    /// Stay, by a new token; answered by [`Event::Refreshed`].
    Refresh {
        /// The token.
        token: Credential<'a>,
        /// The message's `id`, for an error.
        id: Option<Cow<'a, str>>,
    },
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
        /// The acknowledgement that is wanted.
        receipt: Option<Receipt<'a>>,
    },
    /// Publish to the topic that the connection's path named: its `raw` topic, or its room.
    Broadcast {
        /// Text or binary.
        kind: MessageKind,
        /// What subscribers receive.
        payload: &'a [u8],
    },
    /// Publish to the connection's room, under the sender's name and with the time; see [`json::signed`].
    Relay {
        /// The client's object without its closing brace, and without `from` and `timestamp`.
        object: Vec<u8>,
        /// The acknowledgement that is wanted.
        receipt: Option<Receipt<'a>>,
    },
    /// Give to a backend, under the sender's name and with its room and the time; see [`json::placed`].
    HandOver {
        /// The client's object without its closing brace, and without what the server will add.
        object: Vec<u8>,
        /// The message's `id`, for an error, and the acknowledgement that is wanted.
        receipt: Option<Receipt<'a>>,
    },
    /// Send to one client, to all connections of a user, or to the other members of a room, under the sender's name; see
    /// [`json::signed`].
    Address {
        /// A `clientId`, a user or a room.
        receiver: Cow<'a, str>,
        /// The client's object without its closing brace, and without `from`.
        object: Vec<u8>,
        /// The message's `id`, for an error, and the acknowledgement that is wanted.
        receipt: Option<Receipt<'a>>,
    },
    /// Tell who is in a room; answered by [`Event::Presence`].
    Presence {
        /// Which; `None`: the connection's own.
        room: Option<Cow<'a, str>>,
    },
    /// Tell the time; answered by [`Event::Pong`].
    Ping,
    /// What the client sent is no good. Answer it so; too many in a row, and it is closed.
    Error(String),
}

/// What a backend's message asks for. A backend is trusted: nothing that it says is the server's alone.
#[derive(Debug, PartialEq, Eq)]
pub enum Instruction<'a> {
    /// Publish to a topic, or in a room.
    Publish {
        /// Topic name.
        topic: Cow<'a, str>,
        /// What subscribers of the topic receive.
        payload: Cow<'a, [u8]>,
        /// Whether an acknowledgement says where in the topic it is.
        place: bool,
        /// The message's `id`, for an error, and the acknowledgement that is wanted.
        receipt: Option<Receipt<'a>>,
    },
    /// Do something to a client; or send something to one, to a user, or to the members of a room.
    Act {
        /// A `clientId`; of [`Deed::Send`] also a user, or a room.
        receiver: Cow<'a, str>,
        /// What is to be done.
        deed: Deed<'a>,
        /// The message's `id`, for an error, and the acknowledgement that is wanted.
        receipt: Option<Receipt<'a>>,
    },
    /// Tell who is in a room; answered by [`Event::Presence`].
    Presence {
        /// Which.
        room: Cow<'a, str>,
    },
    /// Tell the time; answered by [`Event::Pong`].
    Ping,
    /// What the backend sent is no good. Answer it so.
    Error(String),
}

/// What a backend can do to a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Deed<'a> {
    /// Send it this text.
    Send(Cow<'a, [u8]>),
    /// Close its connection.
    Close {
        /// The close code, 1000 or 3000 to 4999.
        code: u16,
        /// The reason.
        reason: Cow<'a, str>,
    },
    /// Make it a member of a room.
    Join(Cow<'a, str>),
    /// Take it out of a room.
    Leave(Cow<'a, str>),
    /// From now on it is a connection of this user, or of none.
    Identify(Option<Cow<'a, str>>),
}

/// The commands of one message; hardly ever more than one.
pub type Commands<'a> = SmallVec<[Command<'a>; 1]>;

/// Where a client was in a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Since {
    /// The topic's incarnation; `None` if the client was given it by no server of this kind, so that it is another one.
    pub epoch: Option<u32>,
    /// The newest message that the client has; 0 if it has none.
    pub offset: u64,
}

/// A client's name for a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt<'a> {
    /// The `id` as JSON text: a string with its quotes, or an integer.
    pub id: Cow<'a, str>,
    /// Whether the client wants to be told that the message is ordered.
    pub ack: bool,
}

impl Receipt<'_> {
    /// One that needs the message no more.
    pub fn into_owned(self) -> Receipt<'static> {
        Receipt { id: Cow::Owned(self.id.into_owned()), ack: self.ack }
    }
}

/// Why a topic was not joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The name is no topic's name; see [`crate::limits::is_topic_name`].
    #[error("a topic's name has 1 to 256 bytes")]
    BadName,
    /// The connection has as many topics as it may have.
    #[error("the connection has as many topics as it may have")]
    TooMany,
    /// The client has no permission.
    #[error("the client may not have it")]
    NotAllowed,
    /// The application that decides it could not be asked.
    #[error("whether the client may have it could not be found out")]
    Undecided,
    /// It was given up before the topic was joined.
    #[error("the subscription was given up")]
    GivenUp,
}

impl Refusal {
    /// A word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Refusal::BadName => "bad_topic",
            Refusal::TooMany => "too_many_topics",
            Refusal::NotAllowed => "not_allowed",
            Refusal::Undecided => "busy",
            Refusal::GivenUp => "unsubscribed",
        }
    }
}

/// Why something was not done that was asked for in good form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// There is no backend, or the one that it was on its way to has gone.
    #[error("There is no backend")]
    NoBackend,
    /// The backend has more to read than it may.
    #[error("The backend has too much to read")]
    Busy,
    /// The sender is in no room.
    #[error("Not in a room")]
    NoRoom,
    /// Clients may not publish to that topic.
    #[error("Clients may not publish to this topic")]
    NotAllowed,
    /// The application that decides whether they may could not be asked.
    #[error("Whether this is allowed could not be found out: try again later")]
    Undecided,
    /// The client is in as many rooms as a backend may bring it into.
    #[error("The client is in too many rooms")]
    TooManyRooms,
    /// More is published to the topic than may be.
    #[error("The topic is published to too fast: wait a moment")]
    TooFast,
}

impl Failure {
    /// A word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Failure::NoBackend => "no_backend",
            Failure::Busy | Failure::Undecided => "busy",
            Failure::NoRoom => "no_room",
            Failure::NotAllowed => "not_allowed",
            Failure::TooManyRooms => "too_many_rooms",
            Failure::TooFast => "too_fast",
        }
    }
}

/// Where a topic is: its incarnation, and its newest message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// The topic's incarnation.
    pub epoch: u32,
    /// The newest message's number, from 1; 0 before the first.
    pub offset: u64,
}

/// What came of a subscription: where the topic is, if the client wants to know; or why there is none.
pub type Subscribed<'a> = (Cow<'a, str>, Result<Option<Position>, Refusal>);

/// What came of a command, or happened on the connection's topics.
#[derive(Debug)]
pub enum Event<'a> {
    /// The connection is open.
    Connected {
        /// The client's name for others.
        client: u64,
        /// Its room.
        room: &'a str,
        /// What proves that it is that client.
        token: &'a str,
        /// Who its own token says that it is.
        user: Option<&'a str>,
        /// Until when that holds, in milliseconds since 1970.
        expires: Option<u64>,
        /// Milliseconds since 1970.
        now: u64,
    },
    /// The connection of a backend is open.
    Ready {
        /// Milliseconds since 1970.
        now: u64,
    },
    /// For a backend: somebody has come to one of its rooms.
    Came {
        /// Who.
        client: u64,
        /// Which room.
        room: &'a str,
    },
    /// For a backend: somebody has left one of its rooms.
    Went {
        /// Who.
        client: u64,
        /// Which room.
        room: &'a str,
    },
    /// Of [`Command::Subscribe`], topic by topic.
    Subscribed(&'a [Subscribed<'a>]),
    /// Of [`Command::Unsubscribe`]: `true` where the topic had been joined.
    Unsubscribed(&'a [(Cow<'a, str>, bool)]),
    /// Topics are left whose tokens are over.
    TokensExpired(&'a [Box<str>]),
    /// Of [`Command::Publish`]: that is no topic's name.
    BadTopic {
        /// The message's `id`, if it had one.
        id: Option<&'a str>,
    },
    /// The message is ordered.
    Ack {
        /// The message's `id`.
        id: &'a str,
        /// Where, of a publication.
        place: Option<(&'a str, Position)>,
    },
    /// There is no such client, user or room.
    NoReceiver {
        /// The name.
        receiver: &'a str,
        /// The message's `id`, if it had one.
        id: Option<&'a str>,
    },
    /// Of [`Command::Refresh`].
    Refreshed {
        /// Until when the new token holds, in milliseconds since 1970.
        expires: Option<u64>,
    },
    /// Of [`Command::Refresh`]: the token is none, or not the same user's.
    BadToken,
    /// The message is larger than one may be.
    TooLarge {
        /// Bytes that one may have.
        most: u32,
    },
    /// Messages come faster than they may.
    TooFast {
        /// The message's `id`, if it had one.
        id: Option<&'a str>,
    },
    /// It was not done.
    Failed {
        /// Why.
        why: Failure,
        /// The message's `id`, if it had one.
        id: Option<&'a str>,
    },
    /// Who is in a room; no list where they are too many for one.
    Presence {
        /// The room.
        room: &'a str,
        /// How many they are.
        count: usize,
        /// Who they are.
        members: Option<&'a [u64]>,
    },
    /// Somebody else has come to the room.
    Joined {
        /// The room.
        room: &'a str,
        /// Who.
        client: u64,
        /// How many there are now.
        count: usize,
    },
    /// Somebody has left the room.
    Left {
        /// The room.
        room: &'a str,
        /// Who.
        client: u64,
        /// How many there are now.
        count: usize,
    },
    /// Many have come and gone.
    Moved {
        /// The room.
        room: &'a str,
        /// Who has come, and is still there.
        joined: &'a [u64],
        /// Who has gone, and was there before.
        left: &'a [u64],
        /// How many there are now.
        count: usize,
    },
    /// Messages on the connection's topics were dropped because it reads too slowly.
    Dropped(u32),
    /// Messages that the client asked for are not in the topic's history any more, or may not be.
    Gap {
        /// The topic.
        topic: &'a str,
        /// Its incarnation.
        epoch: u32,
        /// Where the client was, is of another epoch: what it missed of that nobody knows.
        reset: bool,
        /// The first and the last one lost of this epoch.
        lost: Option<(u64, u64)>,
    },
    /// The server is about to close the connection, and the client is to come back.
    Reconnect {
        /// Milliseconds to wait before that.
        after: u64,
    },
    /// Of [`Command::Ping`].
    Pong {
        /// Milliseconds since 1970.
        now: u64,
    },
}
