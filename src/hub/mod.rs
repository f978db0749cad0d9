//! Publish/subscribe of one shard: who gets which bytes. No sockets, no clock; subscribers are numbers.
//!
//! A message is encoded once for each [`Class`] that has subscribers and appended to the topic's [`log::Log`] for it.
//! At the end of the turn what was published becomes a fan-out, which is delivered in slices: a topic with a hundred
//! thousand subscribers takes many turns, and neither the other topics nor those who come and go meanwhile notice.
//! A subscriber gets exactly what was published while it was subscribed, in order.
//!
//! Once warm, neither a publication nor a delivery allocates. Subscribing and leaving cost the same in a topic of a
//! million as in a topic of one.
//!
//! A topic is in use, and its index valid, while it has subscribers here, is pinned, has interest from elsewhere, or has
//! something in its [`History`](history::History). For a time after that, its place is still known: see
//! [`Hub::set_memory`].

mod batch;
pub mod frame;
pub mod history;
mod home;
mod invariants;
mod keeper;
pub mod log;
mod places;
pub mod presence;
mod recency;
mod subscribers;
mod topic;

pub use topic::{Position, TopicHandle};

use crate::limits::MAX_SHARED_CHUNK;
use crate::time::Moment;
use batch::{Batches, Stage};
use frame::{Class, Frames, LogId, Span};
use keeper::Keeper;
use std::collections::VecDeque;
use subscribers::{Entry, Membership, Subscribers};
use topic::Topics;

/// Deliveries of one fan-out before the next one has its turn.
const SLICE: usize = 64;
/// Logs that are looked at in a turn to see whether their readers are done.
const SETTLED_PER_TURN: usize = 64;

/// What came of a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubscribeOutcome {
    /// Index of the topic, valid while it is in use.
    pub topic: u32,
    /// It is the topic's first subscriber on this shard, and the topic is not pinned: the home shard should know.
    pub first: bool,
    /// It was subscribed before, and nothing has changed.
    pub already: bool,
}

/// What came of ending a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnsubscribeOutcome {
    /// It was the topic's last subscriber on this shard, and the topic is not pinned. Unless it is in use for another
    /// reason, its index is no longer valid: what the home shard is to be told must have been read before.
    pub last: bool,
}

/// Topics, subscribers and fan-outs of a shard.
///
/// Methods that take a topic's index panic if there is no such topic.
pub struct Hub {
    topics: Topics,
    subscribers: Subscribers,
    subscriptions: usize,
    batches: Batches,
    /// Batches that were opened in this turn.
    dirty: Vec<u32>,
    /// Batches that are being fanned out, the next one to have its slice first.
    jobs: VecDeque<u32>,
    /// Logs whose fan-out is over, but whose readers are not done.
    cooling: VecDeque<(TopicHandle, Class)>,
    keeper: Keeper,
    /// See [`Hub::served`].
    served: Vec<Served>,
}

/// Subscribers to whom what was published to a topic was delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Served {
    /// When the oldest message of those that were delivered together was received.
    pub received: Moment,
    /// How many subscribers.
    pub subscribers: u64,
}

/// What is known of a message besides itself.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// From when its way is measured, see [`Hub::served`].
    pub received: Moment,
    /// The subscriber that does not get it.
    pub exclude: Option<u32>,
}

impl Hub {
    /// A hub without topics for subscribers `0..max_subscribers`, of whom there are no more than
    /// [`MAX_CONNECTIONS_PER_SHARD`](crate::limits::MAX_CONNECTIONS_PER_SHARD). The seed, another one in each run,
    /// decides on its topics' epochs.
    pub fn new(max_subscribers: u32, seed: u64) -> Hub {
        Hub {
            topics: Topics::new(seed),
            subscribers: Subscribers::new(max_subscribers),
            subscriptions: 0,
            batches: Batches::default(),
            dirty: Vec::new(),
            jobs: VecDeque::new(),
            cooling: VecDeque::new(),
            keeper: Keeper::new(),
            served: Vec::new(),
        }
    }

    // Subscribing and leaving.

    /// Subscribes `sub` to what is published to a topic from here on, in that class. Other topics may come to it in
    /// other classes.
    pub fn subscribe(&mut self, sub: u32, class: Class, name: &str) -> SubscribeOutcome {
        let index = self.topics.intern(name);
        if self.subscribers.find(sub, index).is_some() {
            return SubscribeOutcome { topic: index, first: false, already: true };
        }
        let slot = self.subscribers.get(sub).as_slice().len() as u32;
        let topic = self.topics.get_mut(index);
        let first = !topic.is_wanted();
        let channel = topic.channel_or_new(class);
        let place = channel.roster.push(Entry { sub, slot });
        if let Some(pending) = channel.pending {
            self.batches.skip(pending, sub, 0);
        }
        self.subscribers.push(sub, Membership::new(index, class, place));
        self.subscriptions += 1;
        SubscribeOutcome { topic: index, first, already: false }
    }

    /// The class in which one is subscribed to a topic.
    pub fn class(&self, sub: u32, topic: u32) -> Option<Class> {
        self.subscribers.find(sub, topic).map(|(_, membership)| membership.class())
    }

    /// Ends a subscription, after `out` got what was published before; `None` if there was none.
    pub fn unsubscribe(
        &mut self,
        sub: u32,
        topic: u32,
        frames: &mut Frames,
        out: &mut impl FnMut(&mut Frames, u32, Span),
    ) -> Option<UnsubscribeOutcome> {
        let (slot, membership) = self.subscribers.find(sub, topic)?;
        self.catch_up(sub, membership, frames, out);
        if let Some(moved) = self.subscribers.swap_remove(sub, slot)
            && let Some(channel) = self.topics.get_mut(moved.topic).channel(moved.class())
        {
            channel.roster.set_slot(moved.place(), slot);
        }
        let last = self.leave(membership, frames);
        self.topics.forget_unused(topic);
        Some(UnsubscribeOutcome { last })
    }

    /// Ends all subscriptions of `sub`, whose number may have another bearer from here on.
    ///
    /// `left` is told each topic, still there to be read, and whether that was its last subscriber on this shard, as in
    /// [`UnsubscribeOutcome::last`].
    pub fn close(&mut self, sub: u32, frames: &mut Frames, mut left: impl FnMut(&Hub, u32, bool)) {
        let memberships = self.subscribers.take(sub);
        for &membership in memberships.as_slice() {
            let last = self.leave(membership, frames);
            left(self, membership.topic, last);
            self.topics.forget_unused(membership.topic);
        }
    }

    /// Delivers to one subscriber what the fan-outs have not brought it yet.
    fn catch_up(
        &self,
        sub: u32,
        membership: Membership,
        frames: &mut Frames,
        out: &mut impl FnMut(&mut Frames, u32, Span),
    ) {
        let channels = &self.topics.get(membership.topic).channels;
        let Some(channel) = channels.iter().find(|channel| channel.class == membership.class()) else { return };
        let active = channel.active.filter(|_| channel.roster.is_ahead(membership.place()));
        for batch in active.into_iter().chain(channel.pending) {
            // Whoever leaves is not measured.
            let _ = self.batches.get(batch).deliver_to(sub, frames, out);
        }
    }

    /// Takes an entry off its topic's list; `true` if nobody else wants the topic here.
    fn leave(&mut self, membership: Membership, frames: &mut Frames) -> bool {
        self.subscriptions -= 1;
        let class = membership.class();
        let topic = self.topics.get_mut(membership.topic);
        let Some(at) = topic.channels.iter().position(|channel| channel.class == class) else { return false };
        let channel = &mut topic.channels[at];
        channel.roster.remove(membership.place(), |entry, place| self.subscribers.moved(entry, place));
        if channel.roster.len() == 0 {
            channel.batches().for_each(|batch| self.batches.disown(batch, frames));
            channel.log.close(frames);
            topic.channels.swap_remove(at);
        }
        !topic.is_wanted()
    }

    // Publishing.

    /// Publishes a message to all subscribers that a topic has here, but for `exclude`.
    ///
    /// `encode` is called once for each class in use, and passes the parts of the message's frame for that class,
    /// header and payload for instance, to the function that it is given.
    pub fn publish(
        &mut self,
        topic: u32,
        frames: &mut Frames,
        exclude: Option<u32>,
        encode: impl FnMut(Class, &mut dyn FnMut(&[&[u8]])),
    ) {
        self.publish_to(topic, frames, Published { received: Moment::UNKNOWN, exclude }, |_| true, encode);
    }

    /// As [`Hub::publish`], to the subscribers of some classes.
    pub fn publish_to(
        &mut self,
        topic: u32,
        frames: &mut Frames,
        published: Published,
        whom: impl Fn(Class) -> bool,
        mut encode: impl FnMut(Class, &mut dyn FnMut(&[&[u8]])),
    ) {
        let Hub { topics, subscribers, batches, dirty, .. } = self;
        let Published { received, exclude } = published;
        let excluded = exclude.and_then(|sub| Some((sub, subscribers.find(sub, topic)?.1.class())));
        for channel in topics.get_mut(topic).channels.iter_mut().filter(|channel| whom(channel.class)) {
            let batch = *channel.pending.get_or_insert_with(|| {
                let batch = batches.open(topic, channel.class, received);
                dirty.push(batch);
                batch
            });
            let start = batches.get(batch).bytes();
            encode(channel.class, &mut |parts| {
                let span = channel.log.append(frames, LogId(topic), MAX_SHARED_CHUNK, parts);
                batches.push(batch, frames, span, received);
            });
            if let Some((sub, _)) = excluded.filter(|&(_, class)| class == channel.class) {
                batches.skip(batch, sub, start);
            }
        }
    }

    /// Makes fan-outs of what was published, at the end of every turn, also one in which nothing was: logs settle here.
    ///
    /// What is published to a topic whose last fan-out is not through follows when it is.
    pub fn start_fanouts(&mut self, frames: &mut Frames) {
        self.settle(frames);
        for i in 0..self.dirty.len() {
            let batch = self.dirty[i];
            let Some((topic, class)) = self.batches.get(batch).owner else {
                self.batches.recycle(batch, frames);
                continue;
            };
            match self.topics.get_mut(topic).channel(class) {
                Some(channel) if channel.active.is_none() => self.activate(batch),
                _ => self.batches.wait(batch),
            }
        }
        self.dirty.clear();
    }

    /// Goes on with the fan-outs, `budget` deliveries or a few more; `true` if there is more to do.
    ///
    /// With each span that `out` gets comes a reference to its chunk, which is the subscriber's to release.
    pub fn deliver(
        &mut self,
        frames: &mut Frames,
        budget: usize,
        out: &mut impl FnMut(&mut Frames, u32, Span),
    ) -> bool {
        let mut left = budget;
        while left > 0
            && let Some(batch) = self.jobs.pop_front()
        {
            left = left.saturating_sub(self.deliver_slice(batch, left.min(SLICE), frames, out));
        }
        !self.jobs.is_empty()
    }

    /// Goes on with one fan-out, and returns how many deliveries that took.
    fn deliver_slice(
        &mut self,
        id: u32,
        budget: usize,
        frames: &mut Frames,
        out: &mut impl FnMut(&mut Frames, u32, Span),
    ) -> usize {
        let batch = self.batches.get(id);
        let Some((topic, class)) = batch.owner else {
            self.batches.recycle(id, frames);
            return 0;
        };
        let Some(channel) = self.topics.get_mut(topic).channel(class) else { return 0 };
        let each = batch.deliveries().max(1);
        let receivers = channel.roster.advance((budget / each).max(1));
        let served = batch.deliver(receivers, frames, out);
        note_served(&mut self.served, batch.received(), served);
        let deliveries = receivers.len() * each;
        match channel.roster.is_through() {
            true => self.finish(id, topic, class, frames),
            false => self.jobs.push_back(id),
        }
        deliveries
    }

    /// Makes a fan-out of a batch: the one that its channel publishes to, while there is no other fan-out of it.
    fn activate(&mut self, batch: u32) {
        self.batches.activate(batch);
        let Some((topic, class)) = self.batches.get(batch).owner else { return };
        let Some(channel) = self.topics.get_mut(topic).channel(class) else { return };
        channel.active = channel.pending.take();
        channel.roster.begin();
        self.jobs.push_back(batch);
    }

    /// Ends a fan-out, and starts the one that waits for it.
    fn finish(&mut self, batch: u32, topic: u32, class: Class, frames: &mut Frames) {
        self.batches.recycle(batch, frames);
        let handle = self.topics.handle(topic);
        let Some(channel) = self.topics.get_mut(topic).channel(class) else { return };
        channel.active = None;
        channel.roster.finish();
        match channel.pending {
            Some(next) if self.batches.get(next).stage == Stage::Waiting => self.activate(next),
            Some(_) => {}
            None if channel.cooling || channel.log.settle(frames) => {}
            None => {
                channel.cooling = true;
                self.cooling.push_back((handle, class));
            }
        }
    }

    /// Looks after logs whose readers were not done when the fan-out was.
    fn settle(&mut self, frames: &mut Frames) {
        for _ in 0..self.cooling.len().min(SETTLED_PER_TURN) {
            let Some((handle, class)) = self.cooling.pop_front() else { return };
            let Some(topic) = self.topics.resolve(handle) else { continue };
            let Some(channel) = self.topics.get_mut(topic).channel(class) else { continue };
            let busy = channel.batches().next().is_some();
            channel.cooling = !busy && !channel.log.settle(frames);
            if channel.cooling {
                self.cooling.push_back((handle, class));
            }
        }
    }

    /// Whom the fan-outs have served since the last call.
    pub fn served(&mut self) -> impl Iterator<Item = Served> {
        self.served.drain(..)
    }

    // Looking.

    /// The topic of a name.
    pub fn find(&self, name: &str) -> Option<u32> {
        self.topics.find(name)
    }

    /// The topic that a handle names, unless it is gone.
    pub fn resolve(&self, handle: TopicHandle) -> Option<u32> {
        self.topics.resolve(handle)
    }

    /// What other shards may know a topic by.
    pub fn handle(&self, topic: u32) -> TopicHandle {
        self.topics.handle(topic)
    }

    /// A topic's name.
    pub fn name(&self, topic: u32) -> &str {
        &self.topics.get(topic).name
    }

    /// The name of the topic at an index below [`Hub::slots`], if there is one: so a walk over all can be done a slice at a
    /// time.
    pub fn name_in(&self, slot: u32) -> Option<&str> {
        self.topics.at(slot).map(|topic| &*topic.name)
    }

    /// Indices that topics have, or have had.
    pub fn slots(&self) -> u32 {
        self.topics.slots()
    }

    /// The classes of a topic's subscribers.
    pub fn classes(&self, topic: u32) -> impl Iterator<Item = Class> {
        self.topics.get(topic).channels.iter().map(|channel| channel.class)
    }

    /// Subscribers of a topic.
    pub fn subscribers(&self, topic: u32) -> usize {
        self.topics.get(topic).subscribers()
    }

    /// The topics that have subscribers, each with how many, in no order.
    pub fn subscribed_topics(&self) -> impl Iterator<Item = (&str, usize)> {
        let all = self.topics.iter().map(|(_, topic)| (&*topic.name, topic.subscribers()));
        all.filter(|(_, subscribers)| *subscribers > 0)
    }

    /// The subscribers of a topic, in no order.
    pub fn subscribers_of(&self, topic: u32) -> impl Iterator<Item = u32> {
        let entries = self.topics.get(topic).channels.iter().flat_map(|channel| channel.roster.entries());
        entries.map(|entry| entry.sub)
    }

    /// Topics in use, and those that were interned, or lost the last of their history, since
    /// [`Hub::expire_histories`].
    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// What topics and subscriptions take, without names, histories and what a few have on the heap.
    pub fn table_bytes(&self) -> usize {
        self.topics.table_bytes() + self.subscribers.table_bytes() + self.subscriptions * size_of::<Entry>()
    }

    /// Subscriptions of all subscribers.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Whether `sub` is subscribed to a topic.
    pub fn is_subscribed(&self, sub: u32, topic: u32) -> bool {
        self.subscribers.find(sub, topic).is_some()
    }

    /// The class in which a topic comes to `sub`, if it is subscribed to it.
    pub fn class_of(&self, sub: u32, topic: u32) -> Option<Class> {
        self.subscribers.find(sub, topic).map(|(_, membership)| membership.class())
    }

    /// The topics of a subscriber.
    pub fn topics_of(&self, sub: u32) -> impl ExactSizeIterator<Item = u32> {
        self.subscribers.get(sub).as_slice().iter().map(|membership| membership.topic)
    }

    /// Bytes of a topic's frames that are published and not yet fanned out, counted once for each class.
    pub fn pending_bytes(&self, topic: u32) -> u64 {
        let channels = self.topics.get(topic).channels.iter();
        channels.flat_map(|channel| channel.batches()).map(|batch| self.batches.get(batch).bytes()).sum()
    }

    /// [`Hub::pending_bytes`] of all topics.
    pub fn queued_bytes(&self) -> u64 {
        self.batches.bytes()
    }
}

/// Adds to the list; to its last entry where that is of the same time, as it mostly is.
fn note_served(list: &mut Vec<Served>, received: Moment, subscribers: u64) {
    match list.last_mut() {
        _ if subscribers == 0 || received == Moment::UNKNOWN => {}
        Some(last) if last.received == received => last.subscribers += subscribers,
        _ => list.push(Served { received, subscribers }),
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
