//! Where topics are that nobody uses: so who comes back to one soon enough finds it as it was, and knows what it has missed.

use super::recency::Recency;
use super::topic::Position;
use crate::time::Tick;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::time::Duration;

/// Tables of so many places are kept for the next ones.
const SMALL: usize = 64;

/// A topic that nobody uses.
struct Place {
    name: Box<str>,
    position: Position,
    /// When it may be forgotten.
    until: Tick,
}

/// The places of such topics: as many as may be, each for a time after it was last used.
pub(super) struct Places {
    slots: Vec<Option<Place>>,
    vacant: Vec<u32>,
    names: HashTable<u32>,
    hasher: RandomState,
    /// By when they were used, and so by when they may be forgotten.
    recency: Recency,
    max: usize,
    time: Duration,
    now: Tick,
}

impl Places {
    /// None, and none will be kept before [`Places::set_bounds`].
    pub fn new() -> Places {
        Places {
            slots: Vec::new(),
            vacant: Vec::new(),
            names: HashTable::new(),
            hasher: RandomState::default(),
            recency: Recency::new(),
            max: 0,
            time: Duration::ZERO,
            now: Tick(0),
        }
    }

    /// How many are kept, and how long each. None of those that are there is kept longer than a new one.
    pub fn set_bounds(&mut self, max: usize, time: Duration) {
        (self.max, self.time) = (max, time);
        let latest = self.now.after(time);
        for place in self.slots.iter_mut().flatten().filter(|place| place.until.is_after(latest)) {
            place.until = latest;
        }
        self.forget_excess();
    }

    /// The time at which a topic is used from here on.
    pub fn set_now(&mut self, now: Tick) {
        self.now = now;
    }

    /// Keeps the place of a topic that is not among them. If there are too many, the one that was not used for longest goes.
    pub fn put(&mut self, name: Box<str>, position: Position) {
        if self.max == 0 {
            return;
        }
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        let hash = self.hasher.hash_one(&*name);
        self.slots[index as usize] = Some(Place { name, position, until: self.now.after(self.time) });
        let Places { slots, names, hasher, recency, .. } = self;
        names.insert_unique(hash, index, |&index| hasher.hash_one(name_of(slots, index)));
        recency.touch(index);
        self.forget_excess();
    }

    /// Takes out a topic that is used again.
    pub fn take(&mut self, name: &str) -> Option<(Box<str>, Position)> {
        let index = self.find(name)?;
        self.remove(index).map(|place| (place.name, place.position))
    }

    /// Where a topic is, if it is among them.
    pub fn get(&self, name: &str) -> Option<Position> {
        self.slots[self.find(name)? as usize].as_ref().map(|place| place.position)
    }

    /// Counts a message of a topic, if it is among them: that uses it.
    pub fn count(&mut self, name: &str) {
        let Some(index) = self.find(name) else { return };
        if let Some(place) = &mut self.slots[index as usize] {
            place.position.offset += 1;
            place.until = self.now.after(self.time);
            self.recency.touch(index);
        }
    }

    /// Forgets those whose time is over, `budget` at most.
    pub fn expire(&mut self, now: Tick, budget: usize) {
        for _ in 0..budget {
            match self.recency.first().filter(|&first| self.until(first).is_some_and(|until| !until.is_after(now))) {
                Some(first) => drop(self.remove(first)),
                None => return,
            }
        }
    }

    /// When the time of the first is over.
    pub fn next_expiry(&self) -> Option<Tick> {
        self.until(self.recency.first()?)
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    fn until(&self, index: u32) -> Option<Tick> {
        self.slots[index as usize].as_ref().map(|place| place.until)
    }

    fn find(&self, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        self.names.find(hash, |&index| name_of(&self.slots, index) == name).copied()
    }

    fn forget_excess(&mut self) {
        while self.len() > self.max
            && let Some(first) = self.recency.first()
        {
            self.remove(first);
        }
    }

    fn remove(&mut self, index: u32) -> Option<Place> {
        let hash = self.hasher.hash_one(name_of(&self.slots, index));
        if let Ok(entry) = self.names.find_entry(hash, |&other| other == index) {
            entry.remove();
        }
        self.recency.remove(index);
        self.vacant.push(index);
        let place = self.slots[index as usize].take();
        if self.names.is_empty() && self.slots.len() > SMALL {
            // What many took at once is given back.
            (self.slots, self.vacant) = (Vec::new(), Vec::new());
            (self.names, self.recency) = (HashTable::new(), Recency::new());
        }
        place
    }

    /// Every name with its place, and when it may be forgotten, the one first that was not used for longest.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Position, Tick)> {
        let places = self.recency.iter().filter_map(|index| self.slots[index as usize].as_ref());
        places.map(|place| (&*place.name, place.position, place.until))
    }

    pub fn invariants(&self) {
        assert!(self.len() <= self.max.max(1));
        assert_eq!(self.len() + self.vacant.len(), self.slots.len());
        assert_eq!(self.iter().count(), self.len());
        assert!(self.iter().all(|(name, position, _)| self.get(name) == Some(position)));
        assert!(self.iter().map(|(.., until)| until).is_sorted_by(|a, b| !a.is_after(*b)));
    }
}

/// The name at an index that is known to be in use.
fn name_of(slots: &[Option<Place>], index: u32) -> &str {
    slots[index as usize].as_ref().map_or("", |place| &place.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    fn at(offset: u64) -> Position {
        Position { epoch: 7, offset }
    }

    fn places(max: usize) -> Places {
        let mut places = Places::new();
        places.set_bounds(max, TIME);
        places
    }

    fn names(places: &Places) -> Vec<&str> {
        places.invariants();
        places.iter().map(|(name, ..)| name).collect()
    }

    #[test]
    fn a_place_is_kept_for_a_time_after_its_topic_was_used() {
        let mut places = places(10);
        places.put("a".into(), at(1));
        let later = Tick(0).after(TIME / 2);
        places.set_now(later);
        places.put("b".into(), at(2));
        places.count("a");
        places.count("c");
        assert_eq!((names(&places), places.get("a")), (vec!["b", "a"], Some(at(2))));
        assert_eq!(places.next_expiry(), Some(later.after(TIME)));
        places.expire(Tick(0).after(TIME), 10);
        assert_eq!(places.take("b"), Some(("b".into(), at(2))));
        assert_eq!((places.take("b"), names(&places)), (None, vec!["a"]));
        places.expire(later.after(TIME), 10);
        assert_eq!((places.len(), places.next_expiry()), (0, None));
    }

    #[test]
    fn of_too_many_the_one_that_was_not_used_for_longest_goes() {
        let mut places = places(2);
        ["a", "b", "c"].into_iter().for_each(|name| places.put(name.into(), at(0)));
        assert_eq!(names(&places), ["b", "c"]);
        places.count("b");
        places.put("d".into(), at(0));
        assert_eq!(names(&places), ["b", "d"]);
        places.set_bounds(0, TIME);
        places.put("e".into(), at(0));
        assert_eq!(places.len(), 0);
    }

    #[test]
    fn many_come_and_go() {
        let mut places = places(1000);
        for i in 0..5000 {
            places.put(format!("one-shot/{i}").into(), at(i));
        }
        assert_eq!(
            (places.len(), places.get("one-shot/4000"), places.get("one-shot/3999")),
            (1000, Some(at(4000)), None)
        );
        assert!(places.slots.len() <= 1001);
        places.invariants();
        places.expire(Tick(0).after(TIME), 999);
        assert_eq!(names(&places), ["one-shot/4999"]);
        places.expire(Tick(0).after(TIME), 1);
        assert_eq!((places.len(), places.slots.capacity()), (0, 0), "what they took is given back");
    }
}
