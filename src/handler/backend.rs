//! A backend that is a part of the process.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::dialect::{Receipt, json};
use crate::error::CloseReason;
use crate::hub::frame::MessageKind;
use crate::limits::is_topic_name;
use crate::ring::token::ConnId;
use crate::shard::{Core, Publication};

use super::{Message, Routes, Topics, closable};

/// What an embedder does with the messages of `json` clients that the configuration's `handover` names. One per shard, for
/// the clients of that shard; where there is one, backends that connect get none of them.
///
/// A message that is to be acknowledged is when the call is over. When its `id` comes again it is acknowledged again, and not
/// passed on again; but a client that comes back to another shard in between is not known there.
pub trait Backend: 'static {
    /// A client has sent a message: a JSON object, with the `clientId`, `room`, `user` and `timestamp` that the server has
    /// put into it.
    fn message(&mut self, client: &mut Client<'_>, text: &str);

    /// A client's connection has ended. `topics` still publishes.
    fn left(&mut self, topics: &mut Topics<'_>, client: &str) {
        let _ = (topics, client);
    }
}

/// Why a client was not made a member of a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JoinError {
    /// A name is 1 to 256 bytes, of which the first is not NUL.
    #[error("a name has 1 to 256 bytes")]
    BadName,
    /// The client is in as many rooms as it may be.
    #[error("the client is in as many rooms as it may be")]
    TooMany,
}

/// A client of the `json` dialect, for the time of a backend's call.
pub struct Client<'a> {
    core: &'a mut Core,
    conn: ConnId,
    /// Its name.
    id: String,
}

impl Client<'_> {
    /// Its `clientId`, which is the same when it comes back with its token.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The room that it has been in the longest; `None` if it is in none any more.
    pub fn room(&self) -> Option<&str> {
        self.core.room_of(self.conn)
    }

    /// The user that it was said to be a connection of.
    pub fn user(&self) -> Option<&str> {
        self.core.user_of(self.conn)
    }

    /// Sends it a text, which should be a JSON object with a `type`; `false` if its connection is closing. One that reads so
    /// slowly that the backlog passes its bound by more than a message is closed with 1013.
    pub fn send(&mut self, text: &str) -> bool {
        self.core.send(self.conn, MessageKind::Text, text.as_bytes())
    }

    /// Publishes to all subscribers of a topic, and so to all members of a room, on all shards; `false` as for
    /// [`Topics::publish`].
    pub fn publish<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) -> bool {
        let message = message.into();
        self.core.publish(topic, Publication::new(message.kind, message.payload))
    }

    /// Makes it a member of a room. It is told.
    ///
    /// # Errors
    /// The name cannot be one, or the client is in [`MAX_ROOMS`](crate::limits::MAX_ROOMS) rooms besides its own.
    pub fn join(&mut self, room: &str) -> Result<(), JoinError> {
        if !is_topic_name(room) {
            return Err(JoinError::BadName);
        }
        self.core.join_room(self.conn, room).map_err(|_| JoinError::TooMany)
    }

    /// Takes it out of a room, also the one that it connected to. It is told.
    pub fn leave(&mut self, room: &str) {
        self.core.leave_room(self.conn, room);
    }

    /// From now on it is a connection of this user, or of none.
    ///
    /// # Errors
    /// The name cannot be one.
    pub fn identify(&mut self, user: Option<&str>) -> Result<(), JoinError> {
        if user.is_some_and(|user| !is_topic_name(user)) {
            return Err(JoinError::BadName);
        }
        self.core.identify(self.conn, user);
        Ok(())
    }

    /// Starts the close handshake, as [`Connection::close`](super::Connection::close) does.
    pub fn close(&mut self, code: u16, reason: &str) {
        self.core.close(self.conn, closable(code), reason, CloseReason::Application);
    }
}

/// Calls the shard's backend with a client's message.
pub(crate) fn hand_over(
    core: &mut Core,
    routes: &mut Routes,
    conn: ConnId,
    object: Vec<u8>,
    receipt: Option<Receipt<'_>>,
) {
    let Some(backend) = routes.backend.as_deref_mut() else { return };
    let Some(message) = core.begin_here(conn, object, receipt) else { return };
    let (Some(client), Ok(text)) = (core.client_of(conn), std::str::from_utf8(&message.payload)) else { return };
    let mut client = Client { core, conn, id: json::client_id_text(client) };
    let done = catch_unwind(AssertUnwindSafe(|| backend.message(&mut client, text)));
    match done {
        Ok(()) => core.had_here(message),
        Err(_) => {
            core.counters().handler_panics.add(1);
            core.fail(conn, 1011, "internal error", CloseReason::Panic);
        }
    }
}

/// Tells the shard's backend that a client has gone.
pub(super) fn left(core: &mut Core, routes: &mut Routes, client: u64) {
    let Some(backend) = routes.backend.as_deref_mut() else { return };
    let mut topics = Topics { core };
    let client = json::client_id_text(client);
    if catch_unwind(AssertUnwindSafe(|| backend.left(&mut topics, &client))).is_err() {
        core.counters().handler_panics.add(1);
    }
}
