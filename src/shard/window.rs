//! Messages that were acknowledged a short while ago, so that one that comes again is acknowledged again and not delivered.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::quality::RandomState;
use hashbrown::HashMap;

use crate::dialect::Position;
use crate::time::Tick;

/// Messages that are known at most; beyond them, the oldest is forgotten.
const MAX_KNOWN: usize = 1 << 16;

/// A client's message: the client, and a hash of where it went and of its `id`.
type Key = (u64, u64);

/// The messages that a shard has ordered.
pub(super) struct Window {
    /// Where each went, and when it is forgotten.
    known: HashMap<Key, (Position, Tick)>,
    /// In the order in which they are forgotten. Some are no more known, or known for longer.
    ends: VecDeque<(Tick, Key)>,
    length: Duration,
    hasher: RandomState,
}

impl Window {
    pub(super) fn new(length: Duration) -> Window {
        Window { known: HashMap::new(), ends: VecDeque::new(), length, hasher: RandomState::default() }
    }

    /// What is noted from now on is known for so long; what is known already, for as long as it was.
    pub(super) fn set_length(&mut self, length: Duration) {
        self.length = length;
    }

    /// Where the message went when it came before, if it did.
    pub(super) fn find(&mut self, now: Tick, client: u64, to: &str, id: &str) -> Option<Position> {
        self.forget_old(now);
        self.known.get(&self.key(client, to, id)).map(|(position, _)| *position)
    }

    /// Forgets a message that went nowhere.
    pub(super) fn forget(&mut self, client: u64, to: &str, id: &str) {
        self.known.remove(&self.key(client, to, id));
    }

    /// Notes where a message went. It is known for the whole length from now.
    pub(super) fn note(&mut self, now: Tick, client: u64, to: &str, id: &str, position: Position) {
        let (key, end) = (self.key(client, to, id), now.after(self.length));
        let before = self.known.insert(key, (position, end));
        if before.is_none_or(|(_, before)| before != end) {
            self.ends.push_back((end, key));
        }
        while self.known.len() > MAX_KNOWN || self.ends.len() > 2 * MAX_KNOWN {
            self.drop_oldest();
        }
    }

    fn forget_old(&mut self, now: Tick) {
        while self.ends.front().is_some_and(|(end, _)| !end.is_after(now)) {
            self.drop_oldest();
        }
        if self.known.is_empty() && self.known.capacity() > 64 {
            (self.known, self.ends) = (HashMap::new(), VecDeque::new());
        }
    }

    fn drop_oldest(&mut self) {
        let Some((end, key)) = self.ends.pop_front() else { return };
        if self.known.get(&key).is_some_and(|(_, known_until)| *known_until == end) {
            self.known.remove(&key);
        }
    }

    fn key(&self, client: u64, to: &str, id: &str) -> Key {
        (client, self.hasher.hash_one((to, id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);
    const FIRST: Position = Position { epoch: 1, offset: 1 };

    #[test]
    fn a_message_is_known_by_client_place_and_id_for_a_while() {
        let mut window = Window::new(LENGTH);
        let start = Tick(0);
        window.note(start, 1, "a", "7", FIRST);
        assert_eq!(window.find(start, 1, "a", "7"), Some(FIRST));
        for (client, to, id) in [(2, "a", "7"), (1, "b", "7"), (1, "a", "8"), (1, "a7", "")] {
            assert_eq!(window.find(start, client, to, id), None);
        }
        assert_eq!(window.find(start.after(LENGTH - Duration::from_millis(20)), 1, "a", "7"), Some(FIRST));
        assert_eq!(window.find(start.after(LENGTH), 1, "a", "7"), None);
    }

    #[test]
    fn what_went_nowhere_and_comes_again_is_known_for_the_whole_time() {
        let mut window = Window::new(LENGTH);
        let later = Tick(0).after(LENGTH - Duration::from_millis(100));
        window.note(Tick(0), 1, "a", "7", FIRST);
        window.forget(1, "a", "7");
        assert_eq!(window.find(Tick(0), 1, "a", "7"), None);
        window.note(later, 1, "a", "7", FIRST);
        window.note(later, 1, "a", "7", FIRST);
        assert_eq!(window.find(Tick(0).after(LENGTH), 1, "a", "7"), Some(FIRST));
        assert_eq!(window.find(later.after(LENGTH), 1, "a", "7"), None);
        assert!(window.ends.is_empty());
    }

    #[test]
    fn it_is_bounded_and_given_back() {
        let mut window = Window::new(LENGTH);
        for client in 0..=MAX_KNOWN as u64 {
            window.note(Tick(0), client, "a", "1", FIRST);
        }
        assert_eq!((window.known.len(), window.ends.len()), (MAX_KNOWN, MAX_KNOWN));
        assert_eq!(window.find(Tick(0), 0, "a", "1"), None, "the oldest went");
        assert_eq!(window.find(Tick(0).after(LENGTH), 1, "a", "1"), None);
        assert_eq!(window.known.capacity(), 0);
    }
}
