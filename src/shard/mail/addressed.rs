//! What is for one client, for a user, or for the members of a room.

use bytes::Bytes;

use super::Return;

/// Something to be done to a client, to all connections of a user, or to the members of a room.
#[derive(Clone, Debug)]
pub struct Addressed {
    /// A `clientId`, a user, or a room.
    pub receiver: Box<str>,
    /// Whether it may be a room: whoever asks may not have permission to speak in it.
    pub to_room: bool,
    /// How far it has come.
    pub stage: Stage,
    /// What is to be done.
    pub act: Act,
    /// Who wants it.
    pub asker: Asker,
}

/// How far something addressed has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Nowhere yet.
    Sent,
    /// There is no user of that name: it is a room, if anything.
    NoUser,
    /// The client's connection was gone when it came there: it is on its way back.
    Failed,
}

/// What can be done to a client.
#[derive(Clone, Debug)]
pub enum Act {
    /// Send this text. The only one that is for rooms too.
    Send(Bytes),
    /// Close its connection; of a user, all connections.
    Close {
        /// The close code.
        code: u16,
        /// The reason, of 123 bytes at most.
        reason: Box<str>,
    },
    /// Make it a member of a room.
    Join(Box<str>),
    /// Take it out of a room.
    Leave(Box<str>),
    /// From now on it is a connection of this user, or of none.
    Identify(Option<Box<str>>),
}

impl Act {
    pub(super) fn weight(&self) -> usize {
        match self {
            Act::Send(payload) => payload.len(),
            Act::Close { reason, .. } => reason.len(),
            Act::Join(room) | Act::Leave(room) => room.len(),
            Act::Identify(user) => user.as_ref().map_or(0, |user| user.len()),
        }
    }
}

/// Who wants something done, and what it is told of it.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Where it is.
    pub to: Return,
    /// Its name, by which what it sends again is known. Of a backend, and where a caller gives no `id`, nothing is.
    pub client: Option<u64>,
    /// The message's `id`, as JSON text, if it has one.
    pub id: Option<Box<str>>,
    /// Whether it wants to be told that it is done.
    pub ack: bool,
}
