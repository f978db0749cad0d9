//! Commands → hub: who is subscribed to what, and what that means for other shards.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::conn::Session;
use crate::dialect::{Command, Event, Refusal, json};
use crate::hub::frame::{Frames, MessageKind, Span};
use crate::hub::{Hub, TopicHandle};
use crate::limits::MAX_TOPIC_BYTES;
use crate::ring::token::ConnId;

use super::mailbox::{Mail, TopicRef};
use super::shared::Shared;
use super::{Core, Notice};

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
    pub(crate) fn tell(&mut self, id: ConnId, event: Event<'_>) {
        if matches!(self.conns.get(id).map(|conn| &conn.session), Some(Session::Json { .. })) {
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
            TopicRef::Handle(handle) => Some(handle),
            TopicRef::Name(name) => self.hub.find(&name).map(|topic| self.hub.handle(topic)),
        };
        if let Some(topic) = topic {
            self.hub.remove_interest(topic, shard, local);
        }
    }

    /// The home shard sends us what is published from now on: those who waited for that may be told.
    pub(super) fn confirmed(&mut self, topic: TopicHandle, home: TopicHandle) {
        let waiters = self.hub.confirm(topic, home).unwrap_or_default();
        self.release(&waiters);
    }

    /// Those who waited for a home shard need not wait for it any more.
    fn release(&mut self, waiters: &[u64]) {
        for &waiter in waiters {
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
        let waiters = if alone { self.hub.waiting(local).to_vec() } else { Vec::new() };
        let mut out = |_: &mut Frames, subscriber, span| deliveries.push((subscriber, span));
        let outcome = self.hub.unsubscribe(id.index, local, &mut self.frames, &mut out);
        self.place(&mut deliveries);
        self.deliveries = deliveries;
        if outcome.is_some_and(|outcome| outcome.last)
            && let Some((home, mail)) = farewell
        {
            self.post(home, mail);
        }
        self.release(&waiters);
        true
    }

    /// Takes an ended connection out of all its topics.
    pub(super) fn leave_all(&mut self, index: u32) {
        let Core { hub, frames, shared, id, .. } = self;
        let mut mails: SmallVec<[(u16, Mail); 1]> = SmallVec::new();
        let mut waiters: SmallVec<[u64; 1]> = SmallVec::new();
        hub.close(index, frames, |hub, topic, last| {
            if last {
                mails.extend(farewell(hub, shared, *id, topic));
                waiters.extend_from_slice(hub.waiting(topic));
            }
        });
        self.release(&waiters);
        for (home, mail) in mails {
            self.post(home, mail);
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
        self.counters.deliveries.add(deliveries.len() as u64);
        for (subscriber, span) in deliveries.drain(..) {
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

/// What to tell the home shard of a topic that has lost its last local subscriber, if the home shard is another.
fn farewell(hub: &Hub, shared: &Shared, shard: u16, topic: u32) -> Option<(u16, Mail)> {
    let name = hub.name(topic);
    let home = shared.home(name);
    if home == shard {
        return None;
    }
    let topic_ref = hub.home(topic).map_or_else(|| TopicRef::Name(name.into()), TopicRef::Handle);
    Some((home, Mail::Disinterest { topic: topic_ref, shard, local: hub.handle(topic) }))
}

fn pack(id: ConnId) -> u64 {
    u64::from(id.generation) << 32 | u64::from(id.index)
}

fn unpack(bits: u64) -> ConnId {
    ConnId { index: bits as u32, generation: (bits >> 32) as u32 }
}
