//! Commands → hub: who is subscribed to what, and what that means for other shards.

use smallvec::SmallVec;

use crate::auth::hook::Event as Asked;
use crate::conn::{Awaited, Session, outbox};
use crate::dialect::{self, Command, Event, Failure, Refusal, json};
use crate::error::CloseReason;
use crate::hub::frame::{Class, Frames, MessageKind, Span};
use crate::hub::{Hub, TopicHandle};
use crate::limits::is_topic_name;
use crate::ring::token::ConnId;

use super::events::Copies;
use super::hook_message::Draft;
use super::mail::{Ask, Mail, Origin, Question, Receipt, Return, TopicRef};
use super::publish::Publication;
use super::shared::Shared;
use super::{Core, NO_TOPIC, Notice};

impl Core {
    /// Carries out what a client's message asks for. Says whether other shards may have work of it, as the topics' homes.
    pub(super) fn execute(&mut self, id: ConnId, command: Command<'_>) -> bool {
        self.count_errors(id, matches!(command, Command::Error(_)));
        match command {
            Command::Subscribe { topics, recover, tokens } => self.subscribe_all(id, topics, recover, &tokens),
            Command::Refresh { token, id: message } => self.refresh(id, &token.0, message.as_deref()),
            Command::Unsubscribe(topics) => self.unsubscribe_all(id, topics),
            Command::Publish { topic, kind, payload, receipt } => self.publish_for(id, &topic, kind, payload, receipt),
            Command::Broadcast { kind, payload } => self.broadcast(id, kind, payload),
            Command::Relay { object, receipt } => self.relay(id, object, receipt),
            Command::HandOver { object, receipt } => self.hand_over(id, object, receipt),
            Command::Address { receiver, object, receipt } => self.address(id, &receiver, object, receipt),
            Command::Presence { room } => self.ask_who_is_in(id, room.as_deref()),
            Command::Ping => {
                self.tell(id, Event::Pong { now: self.unix_ms });
                return false;
            }
            Command::Error(text) => {
                self.counters.client_errors.add(1);
                self.send(id, MessageKind::Text, text.as_bytes());
                return false;
            }
        }
        true
    }

    /// Closes a `json` connection that does nothing but wrong.
    pub(super) fn count_errors(&mut self, id: ConnId, is_error: bool) {
        let max = self.settings.max_errors;
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Session::Json { more, .. } = &mut conn.session else { return };
        if !is_error && more.is_none() {
            return;
        }
        let more = more.get_or_insert_with(Default::default);
        more.errors = if is_error { more.errors + 1 } else { 0 };
        if more.errors > max {
            self.close(id, 1008, "too many errors", CloseReason::Policy);
        }
    }

    fn publish_for(
        &mut self,
        id: ConnId,
        topic: &str,
        kind: MessageKind,
        payload: &[u8],
        receipt: Option<dialect::Receipt<'_>>,
    ) {
        let name = receipt.as_ref().map(|receipt| receipt.id.clone());
        if !self.permissions(id).publish.includes(topic) {
            return self.not_allowed(id, name.as_deref());
        }
        if self.asks_about(Asked::Publish) && is_topic_name(topic) {
            let receipt = receipt.map(dialect::Receipt::into_owned);
            return self.ask_to_publish(id, Draft { receipt, ..Draft::new(topic, kind, payload) });
        }
        let receipt = self.receipt(id, receipt, true);
        if !self.publish(topic, Publication { receipt, ..Publication::new(kind, payload) }) {
            self.tell(id, Event::BadTopic { id: name.as_deref() });
        }
    }

    fn broadcast(&mut self, id: ConnId, kind: MessageKind, payload: &[u8]) {
        let (topic, own) = match self.conns.get(id).map(|conn| &conn.session) {
            Some(&Session::Raw { topic, own }) => (topic, own),
            Some(&Session::Json { room: NO_TOPIC, .. }) => return self.not_in_a_room(id, None),
            Some(&Session::Json { room, .. }) => (room, true),
            _ => return,
        };
        if !self.permissions(id).publish.includes(self.hub.name(topic)) {
            return self.not_allowed(id, None);
        }
        if self.asks_about(Asked::Publish) {
            let draft = Draft::new(self.hub.name(topic), kind, payload);
            return self.ask_to_publish(id, Draft { but_own: !own, ..draft });
        }
        let receipt = self.receipt(id, None, false);
        let publication = Publication::new(kind, payload).but((!own).then_some(id));
        self.publish_joined(topic, Publication { receipt, ..publication });
    }

    /// A client has published where it may not. Its dialect has a word for that, or else it would take it for published.
    pub(super) fn not_allowed(&mut self, id: ConnId, message: Option<&str>) {
        self.counters.not_allowed.add(1);
        match self.conns.get(id).map(|conn| &conn.session) {
            Some(Session::Json { .. }) => self.tell(id, Event::Failed { why: Failure::NotAllowed, id: message }),
            _ => self.close(id, 1008, "not allowed", CloseReason::Policy),
        }
    }

    /// Publishes a client's message to its room, under its name.
    fn relay(&mut self, id: ConnId, object: Vec<u8>, receipt: Option<dialect::Receipt<'_>>) {
        let Some(&Session::Json { room, .. }) = self.conns.get(id).map(|conn| &conn.session) else { return };
        let Some(client) = self.client_of(id) else { return };
        if room == NO_TOPIC {
            return self.not_in_a_room(id, receipt.as_ref().map(|receipt| &*receipt.id));
        }
        let object = json::signed(object, client, Some(self.unix_ms));
        let receipt = self.receipt(id, receipt, false);
        self.publish_joined(room, Publication { receipt, ..Publication::new(MessageKind::Text, &object) });
    }

    fn not_in_a_room(&mut self, id: ConnId, message: Option<&str>) {
        self.tell(id, Event::Failed { why: Failure::NoRoom, id: message });
    }

    /// The acknowledgement that a message wants, on its way to where that is ordered. Where that may be refused, the sender of a
    /// message that wants none is at least told so.
    pub(super) fn receipt(
        &self,
        id: ConnId,
        receipt: Option<dialect::Receipt<'_>>,
        place: bool,
    ) -> Option<Box<Receipt>> {
        let quiet = !receipt.as_ref().is_some_and(|receipt| receipt.ack);
        if quiet && self.settings.topic_publish_rate.is_none() {
            return None;
        }
        let to = Return::Conn(Origin { shard: self.id, conn: id });
        let client = if quiet { None } else { self.client_of(id) };
        let message = receipt.map_or("".into(), |receipt| receipt.id.into());
        Some(Box::new(Receipt { to, client, id: message, place, quiet }))
    }

    fn ask_who_is_in(&mut self, id: ConnId, room: Option<&str>) {
        let Some(&Session::Json { room: own, .. }) = self.conns.get(id).map(|conn| &conn.session) else { return };
        let room: Box<str> = match room {
            Some(room) => room.into(),
            None if own == NO_TOPIC => return self.not_in_a_room(id, None),
            None => self.hub.name(own).into(),
        };
        if !self.permissions(id).presence.includes(&room) {
            return self.not_allowed(id, None);
        }
        let to = Return::Conn(Origin { shard: self.id, conn: id });
        let question = Question::Presence(room.clone());
        self.ask(&room, Ask { question, to });
    }

    /// Tells a client what came of its command, or what happened to its messages.
    pub(crate) fn tell(&mut self, id: ConnId, event: Event<'_>) {
        // Of these alone it is known where a stream is: of one topic, nobody counts what it is delivered.
        let placed = match event {
            // The last one says it, for all topics of the stream.
            Event::Subscribed(_) => self.conns.get(id).is_some_and(|conn| conn.session.awaited().is_empty()),
            Event::Gap { .. } => true,
            _ => false,
        };
        let text = json::event(event);
        match self.conns.get(id) {
            Some(conn) if conn.is_backend() => self.tell_backend(id, &text),
            _ => self.tell_text(id, placed, text.as_bytes(), json::type_of(&text)),
        }
    }

    /// The same in words that are there already; `name` and `placed` as for [`Core::send_event`].
    pub(super) fn tell_text(&mut self, id: ConnId, placed: bool, text: &[u8], name: &str) {
        match self.conns.get(id).map(|conn| &conn.session) {
            Some(Session::Json { .. }) => drop(self.send(id, MessageKind::Text, text)),
            Some(Session::Events(_)) => drop(self.send_event(id, name, placed, text)),
            _ => {}
        }
    }

    /// Subscribes a connection; the local topic. Until the topic's home shard knows of it, the connection is held.
    pub(crate) fn subscribe(&mut self, id: ConnId, topic: &str) -> Result<u32, Refusal> {
        if !is_topic_name(topic) {
            return Err(Refusal::BadName);
        }
        // What it waits for is no topic more.
        let known = self.hub.find(topic);
        let joined = known.is_some_and(|local| self.hub.is_subscribed(id.index, local) || self.awaits(id, local));
        if !joined && self.has_all_topics(id) {
            return Err(Refusal::TooMany);
        }
        let Some(class) = self.class_of(id, topic) else { return Err(Refusal::BadName) };
        let local = self.enlist(id, topic, class);
        self.cancel_waits(id, topic);
        Ok(local)
    }

    /// How a connection gets the messages of a topic that it is plainly subscribed to.
    pub(super) fn class_of(&self, id: ConnId, topic: &str) -> Option<Class> {
        let class = self.conns.get(id)?.class;
        Some(if self.is_member(id, topic) { class.of_member() } else { class })
    }

    /// Subscribes a connection to a topic in a class, or changes its class there, whatever the name and however many it has;
    /// the local topic.
    pub(super) fn enlist(&mut self, id: ConnId, topic: &str, class: Class) -> u32 {
        let Some(conn) = self.conns.get_mut(id) else { return NO_TOPIC };
        conn.flags.set_subscriber(true);
        let known = self.hub.find(topic).and_then(|local| Some((local, self.hub.class(id.index, local)?)));
        if let Some((local, before)) = known {
            if before != class {
                self.hub.pin(local);
                self.unsubscribe(id, topic);
                self.hub.subscribe(id.index, class, topic);
                self.unpin(local);
            }
            return local;
        }
        let outcome = self.hub.subscribe(id.index, class, topic);
        let home = self.shared.home(topic);
        if home != self.id {
            self.await_home(id, outcome.topic, home, outcome.first);
        }
        outcome.topic
    }

    /// Whether a connection has as many topics as it may have. Its rooms and its user are none of them.
    pub(super) fn has_all_topics(&self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(id) else { return false };
        let others = match &conn.session {
            Session::Json { room, more } => {
                let given = more.as_ref().map_or(0, |more| more.rooms.len() + usize::from(more.user.is_some()));
                given + usize::from(*room != NO_TOPIC)
            }
            _ => 0,
        };
        let is_new = |awaited: &&Awaited| !self.hub.is_subscribed(id.index, awaited.topic);
        let topics = self.hub.topics_of(id.index).len() + conn.session.awaited().iter().filter(is_new).count();
        topics >= self.settings.max_topics as usize + others
    }

    fn await_home(&mut self, id: ConnId, topic: u32, home: u16, first: bool) {
        if first {
            let handle = self.hub.handle(topic);
            self.post(home, Mail::Interest { name: self.hub.name(topic).into(), shard: self.id, topic: handle });
        }
        if self.hub.home(topic).is_none()
            && let Some(conn) = self.conns.get_mut(id)
        {
            conn.held = conn.held.saturating_add(1);
            self.hub.await_home(topic, pack(id));
        }
    }

    /// A shard has its first subscriber of a topic that is ordered here.
    pub(super) fn interest(&mut self, name: &str, shard: u16, topic: TopicHandle) {
        let home = self.hub.add_interest(name, shard, topic);
        let epoch = self.hub.resolve(home).map_or(0, |local| self.hub.position(local).epoch);
        self.post(shard, Mail::Confirm { topic, home, epoch });
    }

    /// A shard has lost its last subscriber of a topic that is ordered here.
    pub(super) fn disinterest(&mut self, topic: TopicRef, shard: u16, local: TopicHandle) {
        let topic = match topic {
            TopicRef::Handle(handle) => Some(handle),
            TopicRef::Name(name) => self.hub.find(&name).map(|topic| self.hub.handle(topic)),
        };
        if let Some(topic) = topic {
            self.hub.remove_interest(topic, shard, local);
        }
    }

    /// The home shard sends us what is published from now on: those who waited for that may be told.
    pub(super) fn confirmed(&mut self, topic: TopicHandle, home: TopicHandle, epoch: u32) {
        if let Some(local) = self.hub.resolve(topic) {
            self.hub.set_epoch(local, epoch);
        }
        let waiting = self.hub.confirm(topic, home).unwrap_or_default();
        self.release_held(&waiting);
    }

    /// Lets go of those who were held until a home shard confirmed, or until nobody wanted that any more.
    fn release_held(&mut self, waiting: &[u64]) {
        for &waiter in waiting {
            self.release(unpack(waiter));
        }
    }

    /// Unsubscribes a connection; `false` if it was not subscribed. What was published before still reaches it.
    pub(crate) fn unsubscribe(&mut self, id: ConnId, topic: &str) -> bool {
        let Some(local) = self.hub.find(topic).filter(|&local| self.hub.is_subscribed(id.index, local)) else {
            return false;
        };
        let mut deliveries = std::mem::take(&mut self.scratch.deliveries);
        self.leave_topic(local, |core| {
            let mut out = |_: &mut Frames, subscriber, span| deliveries.push((subscriber, span));
            let outcome = core.hub.unsubscribe(id.index, local, &mut core.frames, &mut out);
            outcome.is_some_and(|outcome| outcome.last)
        });
        self.place(&mut deliveries);
        self.scratch.deliveries = deliveries;
        true
    }

    /// Takes somebody out of a topic. If `leave` says that it was the last, the home shard is told.
    pub(super) fn leave_topic(&mut self, topic: u32, leave: impl FnOnce(&mut Core) -> bool) {
        // Asked for before: the topic vanishes with its last subscriber.
        let alone = self.hub.subscribers(topic) <= 1;
        let farewell = alone.then(|| farewell(&self.hub, &self.shared, self.id, topic)).flatten();
        if leave(self)
            && let Some(farewell) = farewell
        {
            self.bid(farewell);
        }
    }

    fn bid(&mut self, farewell: Farewell) {
        self.release_held(&farewell.waiting);
        self.post(farewell.home, farewell.mail);
    }

    /// Takes an ended connection out of all its topics.
    pub(super) fn leave_all(&mut self, index: u32) {
        let Core { hub, frames, shared, id, .. } = self;
        let mut farewells: SmallVec<[Farewell; 1]> = SmallVec::new();
        hub.close(index, frames, |hub, topic, last| {
            farewells.extend(last.then(|| farewell(hub, shared, *id, topic)).flatten());
        });
        for farewell in farewells {
            self.bid(farewell);
        }
    }

    /// Tells a handler of its connection's subscription, once the call that made it is over.
    pub(crate) fn notify_subscription(&mut self, id: ConnId, topic: &str) {
        let subscribers = self.subscribers(topic);
        self.notices.push(Notice::Subscription { id, topic: topic.into(), subscribers });
    }

    /// Subscribers of a topic on this shard.
    pub(crate) fn subscribers(&self, topic: &str) -> usize {
        self.hub.find(topic).map_or(0, |topic| self.hub.subscribers(topic))
    }

    /// Puts deliveries into outboxes.
    pub(super) fn place(&mut self, deliveries: &mut Vec<(u32, Span)>) {
        let mut messages = 0;
        // Those of a fan-out are the same span over and over: its messages are counted once.
        let mut counted = (Span { chunk: 0, start: 0, end: 0 }, 0);
        let mut copies = Copies::default();
        for (subscriber, span) in deliveries.drain(..) {
            let Some((id, conn)) = self.conns.by_index(subscriber) else {
                self.frames.release(span.chunk, 1);
                continue;
            };
            if counted.0 != span {
                counted = (span, u64::from(outbox::count(&self.frames, span)));
            }
            if !conn.is_open() {
                self.counters.dropped_gone.add(counted.1);
                self.frames.release(span.chunk, 1);
                continue;
            }
            messages += counted.1;
            self.watch.traffic.deliver(subscriber, counted.1 as u32);
            let span = match conn.flags.stamped() {
                true => copies.of(&mut self.frames, conn, span, &mut self.scratch.block),
                false => span,
            };
            conn.outbox.push(&mut self.frames, span);
            if conn.flags.blocked() {
                self.enforce_backlog(id);
            } else if !conn.flags.dirty() {
                conn.flags.set_dirty(true);
                self.dirty.push(subscriber);
            }
        }
        copies.release(&mut self.frames);
        self.counters.deliveries.add(messages);
    }
}

/// What follows when a topic whose home shard is another loses its last local subscriber.
struct Farewell {
    home: u16,
    mail: Mail,
    /// Those who have left before the home shard confirmed, and are still held: no confirmation finds them any more.
    waiting: SmallVec<[u64; 1]>,
}

fn farewell(hub: &Hub, shared: &Shared, shard: u16, topic: u32) -> Option<Farewell> {
    let name = hub.name(topic);
    let home = shared.home(name);
    if home == shard {
        return None;
    }
    let topic_ref = hub.home(topic).map_or_else(|| TopicRef::Name(name.into()), TopicRef::Handle);
    let mail = Mail::Disinterest { topic: topic_ref, shard, local: hub.handle(topic) };
    Some(Farewell { home, mail, waiting: SmallVec::from_slice(hub.waiting(topic)) })
}

fn pack(id: ConnId) -> u64 {
    u64::from(id.generation) << 32 | u64::from(id.index)
}

fn unpack(bits: u64) -> ConnId {
    ConnId { index: bits as u32, generation: (bits >> 32) as u32 }
}
