//! All histories of a hub: what they take together, and which of their messages are too old.

use super::Hub;
use super::frame::MessageKind;
use super::history::{History, Kept, Replay, Retention};
use super::recency::Recency;
use super::topic::{Position, TopicHandle};
use crate::time::{Tick, Wheel};
use bytes::Bytes;

/// What a topic with something in its history counts for besides its messages: about what its tables, its name and the
/// history's list take.
pub(super) const TOPIC_BYTES: usize = 512;
/// What all histories may take unless the hub is told otherwise.
const DEFAULT_BOUND: usize = 256 << 20;

/// What a hub knows of its histories. The histories themselves are with their topics.
pub(super) struct Keeper {
    /// When the oldest message of a topic will be too old, or earlier.
    pub deadlines: Wheel,
    /// Topics with something in their history, by their newest message.
    pub recency: Recency,
    pub bytes: usize,
    pub messages: usize,
    bound: usize,
    evicted: u64,
    /// Topics that may be of no use. All that are of none are among them.
    pub doubtful: Vec<TopicHandle>,
    /// Scratch space.
    due: Vec<u32>,
}

impl Keeper {
    pub fn new() -> Keeper {
        Keeper {
            deadlines: Wheel::new(0),
            recency: Recency::new(),
            bytes: 0,
            messages: 0,
            bound: DEFAULT_BOUND,
            evicted: 0,
            doubtful: Vec::new(),
            due: Vec::new(),
        }
    }
}

/// What a history counts for.
pub(super) fn footprint(history: &History) -> usize {
    if history.is_empty() { 0 } else { TOPIC_BYTES + history.bytes() }
}

impl Hub {
    /// Makes a topic, at its home shard, keep what it is given to remember. A topic that does already goes on as it did.
    pub fn keep(&mut self, topic: u32, retention: Retention) {
        self.topics.get_mut(topic).history.get_or_insert_with(|| Box::new(History::new(retention)));
    }

    /// Keeps a message, which [`Hub::order`] gave its offset, if the topic keeps any.
    ///
    /// If all histories take too much then, the topics that were published to the longest ago lose their oldest
    /// messages. A message that is too large for the bound alone costs only its own topic's history.
    pub fn remember(&mut self, topic: u32, now: Tick, offset: u64, kind: MessageKind, payload: Bytes) {
        if TOPIC_BYTES + Kept::OVERHEAD + payload.len() > self.keeper.bound {
            let dropped = self.change_history(topic, |history| history.clear() + 1).unwrap_or(0);
            self.keeper.evicted += dropped as u64;
            return;
        }
        let kept = self.change_history(topic, |history| {
            history.push(now, offset, kind, payload);
            !history.is_empty()
        });
        if kept == Some(true) {
            self.keeper.recency.touch(topic);
            self.evict();
        }
    }

    /// Asks of every topic that keeps messages how it is to do so from now on, by its name; `None`: not at all, and what it has
    /// is dropped.
    pub fn keep_otherwise(&mut self, rule: impl Fn(&str) -> Option<Retention>) {
        let keeping = self.topics.iter().filter(|(_, topic)| topic.history.is_some());
        let rules: Vec<_> = keeping.map(|(index, topic)| (index, rule(&topic.name))).collect();
        for (topic, retention) in rules {
            // What is set may be later than the new age has it.
            self.keeper.deadlines.cancel(topic);
            match retention {
                Some(retention) => drop(self.change_history(topic, |history| history.set_retention(retention))),
                None => {
                    self.change_history(topic, History::clear);
                    self.topics.get_mut(topic).history = None;
                }
            }
        }
    }

    /// What a topic keeps, if it is one that does.
    pub fn history(&self, topic: u32) -> Option<&History> {
        self.topics.get(topic).history.as_deref()
    }

    /// What comes after `since` up to the topic's present [`Hub::position`], at its home shard: all of its epoch, if
    /// `since` is of another one.
    pub fn replay(&self, topic: u32, since: Position) -> Replay<'_> {
        let Position { epoch, offset } = self.position(topic);
        let after = if since.epoch == epoch { since.offset } else { 0 };
        self.history(topic).map_or_else(|| Replay::lost(after, offset), |history| history.since(after, offset))
    }

    /// Bounds what all histories take, as [`Hub::history_bytes`] counts it. What is too much now goes at once.
    pub fn set_history_bound(&mut self, bytes: usize) {
        self.keeper.bound = bytes;
        self.evict();
    }

    /// Drops messages, the oldest of the topics that were published to the longest ago, until all histories take no more than
    /// so many bytes, and `most` messages at most; how many were dropped. The bound stays what it is.
    pub fn shrink_histories(&mut self, bytes: usize, most: usize) -> u64 {
        let mut dropped = 0;
        while self.keeper.bytes > bytes
            && dropped < most as u64
            && let Some(topic) = self.keeper.recency.first()
        {
            self.change_history(topic, History::drop_oldest);
            dropped += 1;
        }
        dropped
    }

    /// Messages in all histories.
    pub fn history_messages(&self) -> usize {
        self.keeper.messages
    }

    /// What all histories take: their [`History::bytes`], and half a kibibyte for each that is not empty.
    pub fn history_bytes(&self) -> usize {
        self.keeper.bytes
    }

    /// Messages that were not kept, or not as long as their topics' histories have it, because of the bound on all.
    pub fn evicted_messages(&self) -> u64 {
        self.keeper.evicted
    }

    /// Drops messages that have exceeded their age, and forgets topics that are of no use any more, and places that were
    /// known for long enough; `budget` of each at most. To be called in every turn; [`Hub::next_expiry`] says when the next one is needed.
    pub fn expire_histories(&mut self, now: Tick, budget: usize) {
        let mut due = std::mem::take(&mut self.keeper.due);
        self.keeper.deadlines.expire(now, budget, &mut due);
        let mut left = budget;
        for topic in due.drain(..) {
            // One that is not through with it has a deadline that has passed: it is due again at once.
            left -= self.change_history(topic, |history| history.expire(now, left)).unwrap_or(0);
        }
        self.keeper.due = due;
        for _ in 0..budget.min(self.keeper.doubtful.len()) {
            if let Some(index) = self.keeper.doubtful.pop().and_then(|handle| self.topics.resolve(handle)) {
                self.topics.forget_unused(index);
            }
        }
        self.topics.places.expire(now, budget);
    }

    /// When there is something for [`Hub::expire_histories`] to do, `now` at the earliest. May be early, never late.
    pub fn next_expiry(&self, now: Tick) -> Option<Tick> {
        if !self.keeper.doubtful.is_empty() {
            return Some(now);
        }
        let earlier = |a: Tick, b: Tick| if a.is_after(b) { b } else { a };
        let next = [self.keeper.deadlines.next(now), self.topics.places.next_expiry()].into_iter().flatten();
        next.reduce(earlier).map(|next| if next.is_after(now) { next } else { now })
    }

    /// Has a topic looked at by the next [`Hub::expire_histories`], unless it is in use.
    pub(super) fn doubt_if_unused(&mut self, topic: u32) {
        if self.topics.get(topic).is_unused() {
            self.keeper.doubtful.push(self.topics.handle(topic));
        }
    }

    /// Drops messages until the histories take no more than they may.
    fn evict(&mut self) {
        self.keeper.evicted += self.shrink_histories(self.keeper.bound, usize::MAX);
    }

    /// Changes a topic's history, if it has one, and sees to what follows from that for the others.
    fn change_history<T>(&mut self, topic: u32, change: impl FnOnce(&mut History) -> T) -> Option<T> {
        let Hub { topics, keeper, .. } = self;
        let history = topics.get_mut(topic).history.as_deref_mut()?;
        let before = (footprint(history), history.len());
        let outcome = change(history);
        keeper.bytes = keeper.bytes - before.0 + footprint(history);
        keeper.messages = keeper.messages - before.1 + history.len();
        match history.deadline() {
            _ if history.is_empty() => {
                keeper.deadlines.cancel(topic);
                keeper.recency.remove(topic);
                self.doubt_if_unused(topic);
            }
            Some(deadline) if keeper.deadlines.deadline(topic).is_none() => keeper.deadlines.set(topic, deadline),
            // What is set is earlier, if anything.
            _ => {}
        }
        Some(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_are_shrunk_once_and_not_bounded_by_that() {
        let mut hub = Hub::new(1, 7);
        let retention =
            Retention { count: 100, age: std::time::Duration::from_secs(9), bytes: 1 << 20, last_value: true };
        let remember = |hub: &mut Hub, name: &str| {
            let topic = hub.intern(name);
            hub.keep(topic, retention);
            let offset = hub.order(topic);
            hub.remember(topic, Tick(0), offset, MessageKind::Text, Bytes::from_static(&[7; 1000]));
            topic
        };
        let [old, new] = ["old", "new"].map(|name| (0..10).map(|_| remember(&mut hub, name)).last().unwrap());
        let len = |hub: &Hub, topic| hub.history(topic).map_or(0, History::len);
        assert_eq!(hub.shrink_histories(hub.history_bytes() / 2, 3), 3);
        assert_eq!((len(&hub, old), len(&hub, new)), (7, 10));
        let half = hub.history_bytes() / 2;
        hub.shrink_histories(half, usize::MAX);
        assert!(hub.history_bytes() <= half && len(&hub, old) == 0 && (7..10).contains(&len(&hub, new)));
        assert_eq!(
            (hub.shrink_histories(0, usize::MAX) > 0, hub.history_bytes(), hub.evicted_messages()),
            (true, 0, 0)
        );
        for _ in 0..10 {
            remember(&mut hub, "new");
        }
        assert_eq!(len(&hub, hub.find("new").unwrap()), 10);
    }
}
