//! Topics across shards: the home shard orders a topic and knows which others are interested, those know the home shard.

use super::Hub;
use super::topic::{Position, TopicHandle};
use crate::bucket::Bucket;
use crate::time::Tick;
use std::time::Duration;

impl Hub {
    // At the home shard.

    /// The offset of the next message of a topic, from 1. For the topic's home shard: elsewhere it comes along.
    pub fn order(&mut self, topic: u32) -> u64 {
        let topic = self.topics.get_mut(topic);
        topic.told = true;
        topic.offset += 1;
        topic.offset
    }

    /// The same for a topic that is not in use, by its name: who knows where it was is to know that it has missed something.
    /// If nobody can know, nothing happens.
    pub fn order_unheard(&mut self, name: &str) {
        self.topics.places.count(name);
    }

    /// [`Hub::position`], for somebody who may come back and say it: see [`Hub::set_memory`].
    pub fn tell_position(&mut self, topic: u32) -> Position {
        self.topics.get_mut(topic).told = true;
        self.position(topic)
    }

    /// Where a topic is that is not in use, if that is still known.
    pub fn last_position(&self, name: &str) -> Option<Position> {
        self.topics.places.get(name)
    }

    /// How many topics' places are known after they were in use, and for how long: none, unless this is called. Of more,
    /// those go first that were not used for longest.
    pub fn set_memory(&mut self, topics: usize, time: Duration) {
        self.topics.places.set_bounds(topics, time);
    }

    /// Topics that are not in use whose places are known.
    pub fn remembered_topics(&self) -> usize {
        self.topics.places.len()
    }

    /// The time from here on: that of the end of a topic's use.
    pub fn set_now(&mut self, now: Tick) {
        self.topics.places.set_now(now);
    }

    /// Whether a topic may be published to now; if so, that is counted.
    pub fn admits(&mut self, topic: u32, bucket: Bucket, now: Tick) -> bool {
        let level = self.topics.get_mut(topic).pace.get_or_insert_with(|| bucket.start(now));
        bucket.take(level, now)
    }

    /// A topic's epoch, and the offset that [`Hub::order`] gave last, 0 if it gave none.
    ///
    /// Elsewhere the offset is always 0, and the epoch is nobody's until [`Hub::set_epoch`].
    pub fn position(&self, topic: u32) -> Position {
        let topic = self.topics.get(topic);
        Position { epoch: topic.epoch, offset: topic.offset }
    }

    /// Notes that a shard has subscribers to a topic, which it knows as `remote`. Replaces what it said before.
    pub fn add_interest(&mut self, name: &str, shard: u16, remote: TopicHandle) -> TopicHandle {
        let index = self.topics.intern(name);
        let interest = &mut self.topics.get_mut(index).interest;
        match interest.iter_mut().find(|(other, _)| *other == shard) {
            Some((_, handle)) => *handle = remote,
            None => interest.push((shard, remote)),
        }
        self.topics.handle(index)
    }

    /// Notes that a shard's topic `remote` is gone; `false` if that is not the one that the shard told of last.
    pub fn remove_interest(&mut self, topic: TopicHandle, shard: u16, remote: TopicHandle) -> bool {
        let Some(index) = self.topics.resolve(topic) else { return false };
        let interest = &mut self.topics.get_mut(index).interest;
        let Some(at) = interest.iter().position(|&told| told == (shard, remote)) else { return false };
        interest.swap_remove(at);
        self.topics.forget_unused(index);
        true
    }

    /// The shards that have subscribers to a topic, each with the topic there.
    pub fn interested(&self, topic: u32) -> &[(u16, TopicHandle)] {
        &self.topics.get(topic).interest
    }

    // Elsewhere.

    /// The topic at its home shard, if that is known yet.
    pub fn home(&self, topic: u32) -> Option<TopicHandle> {
        self.topics.get(topic).home
    }

    /// Notes the topic at its home shard.
    pub fn set_home(&mut self, topic: u32, home: TopicHandle) {
        self.topics.get_mut(topic).home = Some(home);
    }

    /// Notes the topic's epoch at its home shard.
    pub fn set_epoch(&mut self, topic: u32, epoch: u32) {
        self.topics.get_mut(topic).epoch = epoch;
    }

    /// Keeps `waiter` until the home shard confirms the topic.
    pub fn await_home(&mut self, topic: u32, waiter: u64) {
        self.topics.get_mut(topic).waiting.push(waiter);
    }

    /// Who waits for the home shard. They are forgotten with the topic.
    pub fn waiting(&self, topic: u32) -> &[u64] {
        &self.topics.get(topic).waiting
    }

    /// The home shard has confirmed a topic: returns who waited for it, `None` if the topic is gone meanwhile.
    pub fn confirm(&mut self, topic: TopicHandle, home: TopicHandle) -> Option<Vec<u64>> {
        let index = self.topics.resolve(topic)?;
        let topic = self.topics.get_mut(index);
        topic.home = Some(home);
        Some(std::mem::take(&mut topic.waiting))
    }

    // Anywhere.

    /// The index of a topic that is to be pinned or to remember something, whether or not there is one of that name.
    ///
    /// If nobody has a use for it then, the next [`Hub::expire_histories`] forgets it.
    pub fn intern(&mut self, name: &str) -> u32 {
        let index = self.topics.intern(name);
        self.doubt_if_unused(index);
        index
    }

    /// Holds a topic, for somebody who is about to subscribe to it; `true` if nobody has subscribed to it or holds it on
    /// this shard: the home shard should know, as with [`SubscribeOutcome::first`](super::SubscribeOutcome::first).
    pub fn pin(&mut self, topic: u32) -> bool {
        let topic = self.topics.get_mut(topic);
        let first = !topic.is_wanted();
        topic.pins += 1;
        first
    }

    /// Lets go of a topic, as often as it was pinned; `true` if nobody has subscribed to it or holds it any more, as with
    /// [`UnsubscribeOutcome::last`](super::UnsubscribeOutcome::last).
    pub fn unpin(&mut self, index: u32) -> bool {
        let topic = self.topics.get_mut(index);
        assert!(topic.pins > 0, "a topic is let go of as often as it was pinned");
        topic.pins -= 1;
        let last = !topic.is_wanted();
        self.topics.forget_unused(index);
        last
    }
}
