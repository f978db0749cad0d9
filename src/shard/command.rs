//! Commands → hub: who is subscribed to what, and what that means for other shards.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::conn::Session;
use crate::dialect::{Command, Event, Refusal, json};
use crate::hub::frame::MessageKind;
use crate::hub::{Delivery, TopicHandle};
use crate::limits::MAX_TOPIC_BYTES;
use crate::ring::token::ConnId;

use super::Core;
use super::mailbox::{Mail, TopicRef};

impl Core {
    /// Carries out what a client's message asks for. Says whether something was published.
    pub(super) fn execute(&mut self, id: ConnId, command: Command<'_>) -> bool {
        match command {
            Command::Subscribe(topics) => self.subscribe_all(id, topics),
            Command::Unsubscribe(topics) => self.unsubscribe_all(id, topics),
            Command::Publish { topic, kind, payload } => {
                self.publish(&topic, kind, payload, Some(id), true);
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
    pub(super) fn tell(&mut self, id: ConnId, event: Event<'_>) {
        if matches!(self.conns.get(id).map(|conn| &conn.session), Some(Session::Json)) {
            self.send(id, MessageKind::Text, json::event(event).as_bytes());
        }
    }

    /// Subscribes a connection; the local topic. Until the topic's home shard knows of it, the connection is held.
    pub(crate) fn subscribe(&mut self, id: ConnId, topic: &str) -> Result<u32, Refusal> {
        if topic.is_empty() || topic.len() > MAX_TOPIC_BYTES {
            return Err(Refusal::BadName);
        }
        let Some(conn) = self.conns.get_mut(id) else { return Err(Refusal::BadName) };
        if let Some(local) = self.hub.find(topic).filter(|&local| self.hub.is_subscribed(id.index, local)) {
            return Ok(local);
        }
        if self.hub.topics_of(id.index).count() >= self.settings.max_topics as usize {
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
            conn.held += 1;
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
            TopicRef::Handle(handle) => self.hub.resolve(handle),
            TopicRef::Name(name) => self.hub.find(&name),
        };
        if let Some(topic) = topic {
            self.hub.remove_interest(topic, shard, local);
        }
    }

    /// The home shard sends us what is published from now on: those who waited for that may be told.
    pub(super) fn confirmed(&mut self, topic: TopicHandle, home: TopicHandle) {
        for waiter in self.hub.confirm(topic, home) {
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
        let farewell = self.farewell(local);
        let outcome = self.hub.unsubscribe(id.index, local, &mut self.frames, &mut deliveries);
        self.place(&mut deliveries);
        self.deliveries = deliveries;
        if outcome.last
            && let Some((home, mail)) = farewell
        {
            self.post(home, mail);
        }
        true
    }

    /// Takes an ended connection out of all its topics.
    pub(super) fn leave_all(&mut self, index: u32) {
        let topics: SmallVec<[u32; 8]> = self.hub.topics_of(index).collect();
        for topic in topics {
            let farewell = self.farewell(topic);
            let outcome = self.hub.remove(index, topic, &mut self.frames);
            if outcome.last
                && let Some((home, mail)) = farewell
            {
                self.post(home, mail);
            }
        }
    }

    /// What to tell the home shard, should the topic lose its last local subscriber: asked for before, since the topic
    /// vanishes with it.
    fn farewell(&self, topic: u32) -> Option<(u16, Mail)> {
        let name = self.hub.name(topic);
        let home = self.shared.home(name);
        if home == self.id || self.hub.subscribers(topic) > 1 {
            return None;
        }
        let known = self.hub.home(topic);
        let reference = known.map_or_else(|| TopicRef::Name(name.into()), TopicRef::Handle);
        Some((home, Mail::Disinterest { topic: reference, shard: self.id, local: self.hub.handle(topic) }))
    }

    /// Puts deliveries into outboxes.
    pub(super) fn place(&mut self, deliveries: &mut Vec<Delivery>) {
        self.counters.deliveries.add(deliveries.len() as u64);
        for Delivery { subscriber, span } in deliveries.drain(..) {
            let Some((id, conn)) = self.conns.by_index(subscriber) else {
                self.frames.release(span.chunk, 1);
                continue;
            };
            if !conn.is_open() {
                self.frames.release(span.chunk, 1);
                continue;
            }
            conn.outbox.push(&mut self.frames, span);
            if conn.flags.blocked() {
                self.enforce_backlog(id);
            } else if !conn.flags.dirty() {
                conn.flags.set_dirty(true);
                self.dirty.push(subscriber);
            }
        }
    }
}

fn pack(id: ConnId) -> u64 {
    u64::from(id.generation) << 32 | u64::from(id.index)
}

fn unpack(bits: u64) -> ConnId {
    ConnId { index: bits as u32, generation: (bits >> 32) as u32 }
}
