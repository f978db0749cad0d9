//! Commands → hub: who is subscribed to what, and what that means for other shards.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::conn::{Session, outbox};
use crate::dialect::{Command, Event, Refusal, json};
use crate::hub::frame::{Frames, MessageKind, Span};
use crate::hub::{Hub, TopicHandle};
use crate::limits::is_topic_name;
use crate::ring::token::ConnId;

use super::mailbox::{Mail, TopicRef};
use super::shared::Shared;
use super::{Core, Notice};

impl Core {
    /// Carries out what a client's message asks for. Says whether other shards may have work of it, as the topics' homes.
    pub(super) fn execute(&mut self, id: ConnId, command: Command<'_>) -> bool {
        match command {
            Command::Subscribe(topics) => {
                self.subscribe_all(id, topics);
                return true;
            }
            Command::Unsubscribe(topics) => {
                self.unsubscribe_all(id, topics);
                return true;
            }
            Command::Publish { topic, kind, payload } => {
                if !self.publish(&topic, kind, payload, Some(id), true) {
                    self.tell(id, Event::BadTopic);
                }
                return true;
            }
            Command::Broadcast { kind, payload } => {
                if let Some(&Session::Raw { topic, own }) = self.conns.get(id).map(|conn| &conn.session) {
                    self.publish_joined(topic, kind, payload, id, own);
                }
                return true;
            }
            Command::Reply(text) => {
                self.send(id, MessageKind::Text, text.as_bytes());
            }
        }
        false
    }

    fn subscribe_all(&mut self, id: ConnId, topics: Vec<Cow<'_, str>>) {
        let results: Vec<_> = topics
            .into_iter()
            .map(|topic| {
                let result = self.subscribe(id, &topic).map(|_| ());
                (topic, result)
            })
            .collect();
        self.tell(id, Event::Subscribed(&results));
    }

    fn unsubscribe_all(&mut self, id: ConnId, topics: Vec<Cow<'_, str>>) {
        let results: Vec<_> = topics
            .into_iter()
            .map(|topic| {
                let was_joined = self.unsubscribe(id, &topic);
                (topic, was_joined)
            })
            .collect();
        self.tell(id, Event::Unsubscribed(&results));
    }

    /// Tells a `json` client what came of its command, or what happened to its messages.
    pub(crate) fn tell(&mut self, id: ConnId, event: Event<'_>) {
        if matches!(self.conns.get(id).map(|conn| &conn.session), Some(Session::Json { .. })) {
            self.send(id, MessageKind::Text, json::event(event).as_bytes());
        }
    }

    /// Subscribes a connection; the local topic. Until the topic's home shard knows of it, the connection is held.
    pub(crate) fn subscribe(&mut self, id: ConnId, topic: &str) -> Result<u32, Refusal> {
        if !is_topic_name(topic) {
            return Err(Refusal::BadName);
        }
        let Some(conn) = self.conns.get_mut(id) else { return Err(Refusal::BadName) };
        if let Some(local) = self.hub.find(topic).filter(|&local| self.hub.is_subscribed(id.index, local)) {
            return Ok(local);
        }
        if self.hub.topics_of(id.index).len() >= self.settings.max_topics as usize {
            return Err(Refusal::TooMany);
        }
        conn.flags.set_subscriber(true);
        let outcome = self.hub.subscribe(id.index, conn.class, topic);
        let home = self.shared.home(topic);
        if home != self.id {
            self.await_home(id, outcome.topic, home, outcome.first);
        }
        Ok(outcome.topic)
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
        self.post(shard, Mail::Confirm { topic, home });
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
    pub(super) fn confirmed(&mut self, topic: TopicHandle, home: TopicHandle) {
        let waiting = self.hub.confirm(topic, home).unwrap_or_default();
        self.release_held(&waiting);
    }

    /// Lets go of those who were held until a home shard confirmed, or until nobody wanted that any more.
    fn release_held(&mut self, waiting: &[u64]) {
        for &waiter in waiting {
            let id = unpack(waiter);
            if let Some(conn) = self.conns.get_mut(id) {
                conn.held = conn.held.saturating_sub(1);
                self.mark_dirty(id.index);
            }
        }
    }

    /// Unsubscribes a connection; `false` if it was not subscribed. What was published before still reaches it.
    pub(crate) fn unsubscribe(&mut self, id: ConnId, topic: &str) -> bool {
        let Some(local) = self.hub.find(topic).filter(|&local| self.hub.is_subscribed(id.index, local)) else {
            return false;
        };
        let mut deliveries = std::mem::take(&mut self.deliveries);
        // Asked for before: the topic vanishes with its last subscriber.
        let alone = self.hub.subscribers(local) == 1;
        let farewell = alone.then(|| farewell(&self.hub, &self.shared, self.id, local)).flatten();
        let mut out = |_: &mut Frames, subscriber, span| deliveries.push((subscriber, span));
        let outcome = self.hub.unsubscribe(id.index, local, &mut self.frames, &mut out);
        self.place(&mut deliveries);
        self.deliveries = deliveries;
        if outcome.is_some_and(|outcome| outcome.last)
            && let Some(farewell) = farewell
        {
            self.bid(farewell);
        }
        true
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
            conn.outbox.push(&mut self.frames, span);
            if conn.flags.blocked() {
                self.enforce_backlog(id);
            } else if !conn.flags.dirty() {
                conn.flags.set_dirty(true);
                self.dirty.push(subscriber);
            }
        }
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
