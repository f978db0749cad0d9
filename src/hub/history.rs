//! What a topic's home shard keeps of what was published, for those who come late or come back.
//!
//! A history is the newest messages of a topic, without a hole: what is missing is always what came before its first.

use super::frame::MessageKind;
use crate::time::Tick;
use bytes::Bytes;
use std::collections::{VecDeque, vec_deque};
use std::time::Duration;

/// How much of a topic is kept: what exceeds any of the three bounds goes, the oldest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Messages.
    pub count: u32,
    /// How long each is kept; up to 124 days ([`Tick::MAX_AHEAD`]), in ticks.
    pub age: Duration,
    /// What they take together, as [`History::bytes`] counts it.
    pub bytes: u32,
    /// The newest message stays whatever its size and age, until the next one comes.
    pub last_value: bool,
}

/// A message that is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Its number in the topic's epoch, from 1.
    pub offset: u64,
    /// Text or binary.
    pub kind: MessageKind,
    /// What was published.
    pub payload: Bytes,
    /// When.
    pub at: Tick,
}

impl Kept {
    /// What a message takes besides its payload.
    pub const OVERHEAD: usize = size_of::<Kept>();

    fn bytes(&self) -> usize {
        self.payload.len() + Kept::OVERHEAD
    }
}

const _: () = assert!(Kept::OVERHEAD == 48);

/// What a subscriber that comes back is to be sent before what is published from now on.
#[derive(Clone, Debug)]
pub struct Replay<'a> {
    /// The first and last offset of what it has missed and is not kept; all of it comes before `messages`.
    pub gap: Option<(u64, u64)>,
    /// What is kept of what it has missed, without a hole.
    pub messages: vec_deque::Iter<'a, Kept>,
}

impl Replay<'_> {
    /// Of messages `after + 1` to `newest`, none is kept.
    pub fn lost(after: u64, newest: u64) -> Replay<'static> {
        Replay { gap: (after < newest).then(|| (after + 1, newest)), messages: vec_deque::Iter::default() }
    }
}

/// The newest messages of one topic.
#[derive(Debug)]
pub struct History {
    retention: Retention,
    /// Offsets count up by one, times do not go back.
    kept: VecDeque<Kept>,
    bytes: usize,
    /// The only message has exceeded its age, and is there as the last value. Its time means nothing any more: it may be
    /// longer ago than ticks can tell.
    stale: bool,
}

impl History {
    /// Lists below this capacity are not shrunk.
    const SMALL: usize = 64;

    /// Nothing kept yet.
    pub fn new(retention: Retention) -> History {
        History { retention, kept: VecDeque::new(), bytes: 0, stale: false }
    }

    /// Keeps a message as the newest, and drops what exceeds number and bytes.
    ///
    /// Offsets count up by one. If one is left out, what was before it is dropped.
    pub fn push(&mut self, now: Tick, offset: u64, kind: MessageKind, payload: Bytes) {
        let follows = self.newest().is_some_and(|last| last.offset.checked_add(1) == Some(offset));
        if self.stale || !follows {
            self.clear();
        }
        let message = Kept { offset, kind, payload, at: now };
        self.bytes += message.bytes();
        self.kept.push_back(message);
        self.drop_excess();
    }

    /// Bounds it otherwise from now on, and drops what exceeds number and bytes. What exceeds the age goes with the next
    /// [`History::expire`].
    pub fn set_retention(&mut self, retention: Retention) {
        self.retention = retention;
        if self.stale && !retention.last_value {
            self.clear();
        }
        self.drop_excess();
    }

    fn drop_excess(&mut self) {
        let Retention { count, bytes, last_value, .. } = self.retention;
        let exceeded = |history: &History| history.len() > count as usize || history.bytes > bytes as usize;
        while self.len() > usize::from(last_value) && exceeded(self) {
            self.drop_oldest();
        }
    }

    /// What of the topic's messages up to `newest`, its last, comes after offset `after`, 0 for all.
    pub fn since(&self, after: u64, newest: u64) -> Replay<'_> {
        let (Some(first), Some(last)) = (self.kept.front(), self.kept.back()) else {
            return Replay::lost(after, newest);
        };
        if last.offset != newest {
            // What was published last was not kept: then what was before does not help, as there may be no hole.
            return Replay::lost(after, newest);
        }
        let known = after.saturating_add(1).saturating_sub(first.offset).min(self.kept.len() as u64);
        let missing = Replay::lost(after, first.offset.saturating_sub(1));
        Replay { gap: missing.gap, messages: self.kept.range(known as usize..) }
    }

    /// The newest message, if it is kept.
    pub fn newest(&self) -> Option<&Kept> {
        self.kept.back()
    }

    /// What a new subscriber is to be sent first: the newest message, if the topic keeps a last value.
    pub fn last_value(&self) -> Option<&Kept> {
        self.newest().filter(|_| self.retention.last_value)
    }

    /// Drops messages that have exceeded their age, `max` at most, and returns how many.
    pub fn expire(&mut self, now: Tick, max: usize) -> usize {
        let mut dropped = 0;
        while dropped < max && self.deadline().is_some_and(|deadline| !deadline.is_after(now)) {
            if self.len() == 1 && self.retention.last_value {
                self.stale = true;
                break;
            }
            self.drop_oldest();
            dropped += 1;
        }
        dropped
    }

    /// When the oldest message will have exceeded its age; `None` if nothing is kept but a last value that has.
    pub fn deadline(&self) -> Option<Tick> {
        self.kept.front().filter(|_| !self.stale).map(|oldest| oldest.at.after(self.retention.age))
    }

    /// Drops the oldest message, even if it is the last value; `false` if there is none.
    pub fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.kept.pop_front() else { return false };
        self.bytes -= oldest.bytes();
        self.stale = false;
        let capacity = self.kept.capacity();
        if capacity > Self::SMALL && self.kept.len() < capacity / 4 {
            self.kept.shrink_to(capacity / 2);
        }
        true
    }

    /// Drops everything, and returns how many messages that were.
    pub fn clear(&mut self) -> usize {
        let dropped = self.kept.len();
        (self.kept, self.bytes, self.stale) = (VecDeque::new(), 0, false);
        dropped
    }

    /// Messages kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// What the messages take: their payloads, and [`Kept::OVERHEAD`] for each.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What bounds it.
    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// Panics unless what is kept has no hole and the counts agree. For tests.
    pub fn invariants(&self) {
        assert_eq!(self.bytes, self.kept.iter().map(Kept::bytes).sum::<usize>());
        assert!(self.kept.iter().zip(self.kept.iter().skip(1)).all(|(a, b)| a.offset + 1 == b.offset));
        assert!(self.kept.iter().is_sorted_by(|a, b| !a.at.is_after(b.at)));
        let Retention { count, bytes, last_value, .. } = self.retention;
        let bounded = self.len() <= count as usize && self.bytes <= bytes as usize;
        assert!(bounded || (last_value && self.len() == 1));
        assert!(!self.stale || (last_value && self.len() == 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: MessageKind = MessageKind::Text;
    const AMPLE: Retention = Retention { count: 100, age: Duration::from_secs(60), bytes: u32::MAX, last_value: false };

    fn ticks(n: u32) -> Duration {
        Tick::LENGTH * n
    }

    fn offsets(replay: Replay<'_>) -> Vec<u64> {
        replay.messages.map(|message| message.offset).collect()
    }

    fn history(retention: Retention, messages: u64) -> History {
        let mut history = History::new(retention);
        (1..=messages).for_each(|offset| history.push(Tick(0), offset, TEXT, Bytes::new()));
        history
    }

    #[test]
    fn a_replay_begins_behind_what_the_client_has() {
        let history = history(Retention { count: 3, ..AMPLE }, 5);
        for (after, gap, expected) in [
            (0, Some((1, 2)), vec![3, 4, 5]),
            (1, Some((2, 2)), vec![3, 4, 5]),
            (2, None, vec![3, 4, 5]),
            (4, None, vec![5]),
            (5, None, vec![]),
            (9, None, vec![]),
            (u64::MAX, None, vec![]),
        ] {
            let replay = history.since(after, 5);
            assert_eq!((replay.gap, offsets(replay)), (gap, expected), "after {after}");
        }
    }

    #[test]
    fn what_was_not_kept_is_a_gap() {
        let empty = History::new(AMPLE);
        assert_eq!((empty.since(0, 0).gap, empty.since(3, 5).gap, empty.since(5, 5).gap), (None, Some((4, 5)), None));
        let mut history = history(AMPLE, 3);
        let replay = history.since(1, 4);
        assert_eq!((replay.gap, offsets(replay)), (Some((2, 4)), vec![]), "the fourth was not kept");
        history.push(Tick(0), 6, TEXT, Bytes::new());
        let replay = history.since(1, 6);
        assert_eq!((replay.gap, offsets(replay)), (Some((2, 5)), vec![6]), "nor the fifth");
        history.invariants();
    }

    #[test]
    fn a_last_value_stays_until_the_next_one() {
        let nothing_else = Retention { count: 0, age: Duration::ZERO, bytes: 0, last_value: true };
        let mut history = history(nothing_else, 7);
        assert_eq!(history.last_value().map(|message| message.offset), Some(7));
        assert_eq!(history.expire(Tick(1_000_000), 10), 0);
        assert_eq!((history.deadline(), history.since(5, 7).gap), (None, Some((6, 6))));
        assert_eq!(offsets(history.since(5, 7)), [7]);
        history.invariants();
        assert_eq!(super::History::new(AMPLE).last_value(), None);
    }

    #[test]
    fn a_stale_last_value_goes_with_the_next_message_however_long_ago_it_was() {
        let mut history = history(Retention { last_value: true, ..AMPLE }, 1);
        assert_eq!(history.expire(Tick(6000), 1), 0);
        history.push(Tick(1 << 31), 2, TEXT, Bytes::new());
        assert_eq!(offsets(history.since(0, 2)), [2]);
        assert_eq!(history.deadline(), Some(Tick((1 << 31) + 6000)));
        assert!(history.drop_oldest() && !history.drop_oldest());
    }

    #[test]
    fn expiry_takes_as_many_as_it_may() {
        let mut history = history(AMPLE, 10);
        assert_eq!((history.expire(Tick(5999), 4), history.expire(Tick(6000), 4), history.len()), (0, 4, 6));
        assert_eq!((history.expire(Tick(6000), 100), history.bytes()), (6, 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push { bytes: usize, skipped: bool },
        Wait { ticks: u32 },
        Expire,
        DropOldest,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..200usize, prop::bool::weighted(0.05)).prop_map(|(bytes, skipped)| Step::Push { bytes, skipped }),
            4 => (0..20u32).prop_map(|ticks| Step::Wait { ticks }),
            3 => Just(Step::Expire),
            1 => Just(Step::DropOldest),
        ]
    }

    fn retention() -> impl Strategy<Value = Retention> {
        (0..20u32, 0..60u32, 0..2000u32, any::<bool>()).prop_map(|(count, age, bytes, last_value)| Retention {
            count,
            age: ticks(age),
            bytes,
            last_value,
        })
    }

    /// Everything that was ever published, how much of it is gone, and of how much the age was exceeded.
    struct Model {
        retention: Retention,
        all: Vec<Kept>,
        gone: usize,
        expired: usize,
    }

    impl Model {
        /// What is left is the longest rest that may be kept.
        fn trim(&mut self) {
            let Retention { count, bytes, last_value, .. } = self.retention;
            let fits = |&from: &usize| {
                let rest = &self.all[from..];
                let size = rest.iter().map(|message| message.payload.len() + 48).sum::<usize>();
                let only = last_value && rest.len() == 1;
                only || (from >= self.expired && rest.len() <= count as usize && size <= bytes as usize)
            };
            self.gone = (self.gone..=self.all.len()).find(fits).expect("nothing at all always fits");
        }

        fn push(&mut self, message: Kept) {
            if self.all.last().is_some_and(|last| last.offset + 1 != message.offset) {
                self.gone = self.all.len();
            }
            self.all.push(message);
            self.trim();
        }

        fn expire(&mut self, now: Tick) {
            let old = |message: &Kept| now.since(message.at) >= self.retention.age;
            self.expired += self.all[self.expired..].iter().take_while(|message| old(message)).count();
            self.trim();
        }
    }

    proptest! {
        #[test]
        fn a_history_is_what_the_bounds_leave_of_everything(
            retention in retention(),
            steps in prop::collection::vec(step(), 0..150),
            start in prop_oneof![Just(0u32), Just(u32::MAX - 100)],
        ) {
            let mut history = History::new(retention);
            let mut model = Model { retention, all: Vec::new(), gone: 0, expired: 0 };
            let (mut now, mut offset) = (Tick(start), 0);
            for step in steps {
                match step {
                    Step::Push { bytes, skipped } => {
                        offset += 1 + u64::from(skipped);
                        let payload = Bytes::from(vec![offset as u8; bytes]);
                        history.push(now, offset, TEXT, payload.clone());
                        model.push(Kept { offset, kind: TEXT, payload, at: now });
                    }
                    Step::Wait { ticks } => now = Tick(now.0.wrapping_add(ticks)),
                    Step::Expire => {
                        history.expire(now, usize::MAX);
                        model.expire(now);
                    }
                    Step::DropOldest => {
                        prop_assert_eq!(history.drop_oldest(), model.gone < model.all.len());
                        model.gone = model.all.len().min(model.gone + 1);
                    }
                }
                history.invariants();
                for after in [0, offset.saturating_sub(3), offset] {
                    let replay = history.since(after, offset);
                    let rest = &model.all[model.gone..];
                    let expected = rest.iter().filter(|message| message.offset > after);
                    let first = rest.first().map_or(offset + 1, |message| message.offset);
                    prop_assert_eq!(replay.gap, (after + 1 < first).then(|| (after + 1, first - 1)));
                    prop_assert!(replay.messages.eq(expected));
                }
            }
        }
    }
}
