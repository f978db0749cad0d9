//! The embedder's trait, and how its handlers are called.
//!
//! A handler lives on one shard, is made there by the factory that the route was given, and never leaves it: it need
//! not be [`Send`], and needs no locks. A panic in it closes the connection concerned with code 1011 and nothing else.

mod backend;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::conn::peer::Peer;
use crate::conn::{HandlerSession, Session};
use crate::dialect::{Event, Refusal as TopicRefusal};
use crate::error::CloseReason;
use crate::http::request::Request;
use crate::hub::frame::MessageKind;
use crate::limits::is_close_code;
use crate::ring::token::ConnId;
use crate::shard::{Core, Notice, Publication};

pub(crate) use backend::hand_over;
pub use backend::{Backend, Client, JoinError};

/// A WebSocket message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// Text or binary.
    pub kind: MessageKind,
    /// The payload; UTF-8 if the kind is text.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// A text message.
    pub fn text(text: &'a str) -> Message<'a> {
        Message { kind: MessageKind::Text, payload: text.as_bytes() }
    }

    /// A binary message.
    pub fn binary(payload: &'a [u8]) -> Message<'a> {
        Message { kind: MessageKind::Binary, payload }
    }

    /// The text of a text message.
    pub fn as_text(&self) -> Option<&'a str> {
        match self.kind {
            MessageKind::Text => simdutf8::basic::from_utf8(self.payload).ok(),
            MessageKind::Binary => None,
        }
    }
}

impl<'a> From<&'a str> for Message<'a> {
    fn from(text: &'a str) -> Self {
        Message::text(text)
    }
}

impl<'a> From<&'a String> for Message<'a> {
    fn from(text: &'a String) -> Self {
        Message::text(text)
    }
}

impl<'a> From<&'a [u8]> for Message<'a> {
    fn from(payload: &'a [u8]) -> Self {
        Message::binary(payload)
    }
}

/// An accepted upgrade.
#[derive(Default)]
pub struct Upgrade {
    /// The subprotocol to choose, if the client offers it.
    pub protocol: Option<&'static str>,
    /// The connection's user data from the start; see [`Connection::user`].
    pub user: Option<Box<dyn Any>>,
}

/// A refused upgrade.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refuse {
    /// HTTP status, 400 to 599; another becomes 500.
    pub status: u16,
    /// A sentence for the client.
    pub reason: String,
}

/// Why [`Connection::subscribe`] did nothing.
pub type SubscribeError = TopicRefusal;

/// A connection that has ended.
pub struct Closed {
    /// As [`Connection::id`] had it.
    pub id: u64,
    /// The close code that the peer sent, or was sent; 1005 if it sent none, 1006 if there was no close frame.
    pub code: u16,
    /// Why.
    pub reason: CloseReason,
    /// The connection's user data.
    pub user: Option<Box<dyn Any>>,
}

/// What an embedder does with the connections of a route. One per shard.
pub trait Handler: 'static {
    /// A client asks for a WebSocket. The path, the query and the headers are the request's.
    ///
    /// # Errors
    /// The refusal, which is answered with its status and sentence.
    fn upgrade(&mut self, request: &Request<'_>) -> Result<Upgrade, Refuse> {
        let _ = request;
        Ok(Upgrade::default())
    }

    /// The handshake is answered; messages may be sent and topics subscribed to.
    fn open(&mut self, conn: &mut Connection<'_>) {
        let _ = conn;
    }

    /// A message has arrived.
    fn message(&mut self, conn: &mut Connection<'_>, message: Message<'_>);

    /// A connection whose socket took nothing takes bytes again.
    fn drain(&mut self, conn: &mut Connection<'_>) {
        let _ = conn;
    }

    /// The connection was subscribed to or unsubscribed from a topic that has so many subscribers on this shard now. Not
    /// called for subscriptions that end with the connection.
    fn subscription(&mut self, conn: &mut Connection<'_>, topic: &str, subscribers: usize) {
        let _ = (conn, topic, subscribers);
    }

    /// A connection has ended, in whatever way. `topics` still publishes.
    fn close(&mut self, topics: &mut Topics<'_>, closed: Closed) {
        let _ = (topics, closed);
    }
}

/// The shard's topics, for a handler that publishes without a connection.
pub struct Topics<'a> {
    core: &'a mut Core,
}

impl Topics<'_> {
    /// Publishes to all subscribers of a topic, on all shards; `false` if the name is empty or longer than 256 bytes, or the
    /// message larger than 256 MiB.
    pub fn publish<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) -> bool {
        let message = message.into();
        self.core.publish(topic, Publication::new(message.kind, message.payload))
    }

    /// Subscribers of a topic on this shard.
    pub fn subscribers(&self, topic: &str) -> usize {
        self.core.subscribers(topic)
    }
}

/// A connection, for the time of a handler's call.
pub struct Connection<'a> {
    core: &'a mut Core,
    id: ConnId,
    session: &'a mut HandlerSession,
}

impl Connection<'_> {
    /// A number that no other connection of the process has, or has had in a long time.
    pub fn id(&self) -> u64 {
        self.core.public_id(self.id)
    }

    /// Sends a message to this client; `false` if the connection is closing. A client that reads so slowly that the
    /// backlog passes its bound by more than a message is closed with 1013.
    pub fn send<'m>(&mut self, message: impl Into<Message<'m>>) -> bool {
        let message = message.into();
        self.core.send(self.id, message.kind, message.payload)
    }

    /// Subscribes to a topic. What is published from here on arrives as messages of the client.
    ///
    /// # Errors
    /// The name is empty or too long, or the connection has as many topics as the configuration allows.
    pub fn subscribe(&mut self, topic: &str) -> Result<(), SubscribeError> {
        self.core.subscribe(self.id, topic)?;
        self.core.notify_subscription(self.id, topic);
        Ok(())
    }

    /// Ends a subscription; `false` if there was none.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        let was_subscribed = self.core.unsubscribe(self.id, topic);
        if was_subscribed {
            self.core.notify_subscription(self.id, topic);
        }
        was_subscribed
    }

    /// Publishes to all subscribers of a topic, on all shards, this connection too if it is one; `false` as for
    /// [`Topics::publish`].
    pub fn publish<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) -> bool {
        let message = message.into();
        self.core.publish(topic, Publication::new(message.kind, message.payload))
    }

    /// Publishes to all subscribers of a topic but this connection; `false` as for [`Topics::publish`].
    pub fn publish_to_others<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) -> bool {
        let message = message.into();
        self.core.publish(topic, Publication::new(message.kind, message.payload).but(Some(self.id)))
    }

    /// Starts the close handshake. Codes that may not be sent (RFC 6455 section 7.4) become 1011; the reason is cut to
    /// 123 bytes.
    pub fn close(&mut self, code: u16, reason: &str) {
        self.core.close(self.id, closable(code), reason, CloseReason::Application);
    }

    /// Where the client comes from.
    pub fn peer(&self) -> Peer {
        self.core.peer(self.id)
    }

    /// Bytes that the client has still to be sent.
    pub fn backlog(&self) -> u32 {
        self.core.backlog(self.id)
    }

    /// Subscribers of a topic on this shard.
    pub fn subscribers(&self, topic: &str) -> usize {
        self.core.subscribers(topic)
    }

    /// The connection's user data, if there is some and it is a `T`.
    pub fn user<T: 'static>(&mut self) -> Option<&mut T> {
        self.session.user.as_mut()?.downcast_mut()
    }

    /// Replaces the connection's user data.
    pub fn set_user<T: 'static>(&mut self, user: T) {
        self.session.user = Some(Box::new(user));
    }
}

/// A close code that may be sent (RFC 6455 section 7.4).
fn closable(code: u16) -> u16 {
    if is_close_code(code) { code } else { 1011 }
}

/// The handlers of a shard by path.
#[derive(Default)]
pub struct Routes {
    entries: Vec<(String, Box<dyn Handler>)>,
    backend: Option<Box<dyn Backend>>,
    /// Whether the built-in dialects are served on the other paths.
    pub(crate) dialects: bool,
}

impl Routes {
    /// Handlers by path; a path that ends in `*` stands for all that begin like it. The first that fits is taken.
    pub fn new(entries: Vec<(String, Box<dyn Handler>)>, dialects: bool) -> Routes {
        assert!(entries.len() <= usize::from(u16::MAX));
        Routes { entries, backend: None, dialects }
    }

    /// The same with a backend for the clients of the shard.
    pub fn with_backend(self, backend: Option<Box<dyn Backend>>) -> Routes {
        Routes { backend, ..self }
    }

    pub(crate) fn has_backend(&self) -> bool {
        self.backend.is_some()
    }

    pub(crate) fn find(&self, path: &str) -> Option<u16> {
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => path == pattern,
        };
        self.entries.iter().position(|(pattern, _)| fits(pattern)).map(|index| index as u16)
    }

    fn handler(&mut self, index: u16) -> &mut dyn Handler {
        &mut *self.entries[usize::from(index)].1
    }
}

pub(crate) fn upgrade(core: &Core, routes: &mut Routes, index: u16, request: &Request<'_>) -> Result<Upgrade, Refuse> {
    let handler = routes.handler(index);
    catch_unwind(AssertUnwindSafe(|| handler.upgrade(request))).unwrap_or_else(|_| {
        core.counters().handler_panics.add(1);
        Err(Refuse { status: 500, reason: "The handler failed.".into() })
    })
}

pub(crate) fn open(core: &mut Core, routes: &mut Routes, id: ConnId) {
    call(core, routes, id, |handler, conn| handler.open(conn));
}

pub(crate) fn message(core: &mut Core, routes: &mut Routes, id: ConnId, message: Message<'_>) {
    call(core, routes, id, |handler, conn| handler.message(conn, message));
}

/// Calls the connection's handler. Its session is out of the table meanwhile, so that the handler may have both.
fn call(core: &mut Core, routes: &mut Routes, id: ConnId, call: impl FnOnce(&mut dyn Handler, &mut Connection<'_>)) {
    let Some(mut session) = core.take_session(id) else { return };
    let handler = routes.handler(session.route);
    let mut conn = Connection { core, id, session: &mut session };
    let done = catch_unwind(AssertUnwindSafe(|| call(handler, &mut conn)));
    core.put_session(id, session);
    if done.is_err() {
        core.counters().handler_panics.add(1);
        core.fail(id, 1011, "internal error", CloseReason::Panic);
    }
}

/// Tells handlers and clients what has happened while the shard was busy with its own state.
pub(crate) fn notify(core: &mut Core, routes: &mut Routes) {
    while let Some(notices) = core.take_notices() {
        for notice in notices {
            match notice {
                Notice::Drained(id) => {
                    core.tell_dropped(id);
                    call(core, routes, id, |handler, conn| handler.drain(conn));
                }
                Notice::Subscription { id, topic, subscribers } => {
                    call(core, routes, id, |handler, conn| handler.subscription(conn, &topic, subscribers));
                }
                Notice::Parted { client } => backend::left(core, routes, client),
                Notice::Closed { id, session, code, reason } => {
                    let closed = Closed { id: core.public_id(id), code, reason, user: session.user };
                    let handler = routes.handler(session.route);
                    let mut topics = Topics { core };
                    if catch_unwind(AssertUnwindSafe(|| handler.close(&mut topics, closed))).is_err() {
                        core.counters().handler_panics.add(1);
                    }
                }
            }
        }
    }
}

/// The bridge from handlers to the shard's state.
impl Core {
    fn tell_dropped(&mut self, id: ConnId) {
        if let Some(count) = self.take_dropped(id) {
            self.tell(id, Event::Dropped(count));
        }
    }

    fn take_session(&mut self, id: ConnId) -> Option<Box<HandlerSession>> {
        let session = &mut self.conn_mut(id)?.session;
        if !matches!(session, Session::Handler(_)) {
            return None;
        }
        match std::mem::replace(session, Session::Called) {
            Session::Handler(session) => Some(session),
            _ => None,
        }
    }

    fn put_session(&mut self, id: ConnId, session: Box<HandlerSession>) {
        if let Some(conn) = self.conn_mut(id) {
            conn.session = Session::Handler(session);
        }
    }
}
