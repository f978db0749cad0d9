//! Who is subscribed to what, from both sides: each list entry knows its membership, each membership its list entry.

use super::frame::Class;
use crate::limits::MAX_CONNECTIONS_PER_SHARD;

/// One subscriber in a topic's list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub sub: u32,
    /// Index of the topic among the subscriber's memberships.
    pub slot: u32,
}

/// One topic of a subscriber, and how it is to come: a subscriber may have one topic as it is and another in envelopes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Membership {
    pub topic: u32,
    /// Index of the subscriber in the topic's list for its class, [`PLACE_BITS`] of them, and the class above.
    packed: u32,
}

/// Bits of an index in a topic's list.
const PLACE_BITS: u32 = 24;

impl Membership {
    pub fn new(topic: u32, class: Class, place: u32) -> Membership {
        debug_assert!(place < 1 << PLACE_BITS);
        Membership { topic, packed: u32::from(class.to_bits()) << PLACE_BITS | place }
    }

    pub fn class(self) -> Class {
        Class::from_bits((self.packed >> PLACE_BITS) as u8)
    }

    pub fn place(self) -> u32 {
        self.packed & ((1 << PLACE_BITS) - 1)
    }
}

/// All topics of a subscriber. Most have one, which is kept without an allocation.
#[derive(Default)]
pub(super) enum Memberships {
    #[default]
    None,
    One(Membership),
    #[expect(clippy::box_collection, reason = "a Vec is three words, this is one; it is there for few subscribers")]
    Many(Box<Vec<Membership>>),
}

const _: () = {
    assert!(size_of::<Entry>() == 8);
    assert!(size_of::<Membership>() == 8);
    assert!(size_of::<Memberships>() == 16);
    assert!(PLACE_BITS + 8 * size_of::<Class>() as u32 == u32::BITS);
    assert!(MAX_CONNECTIONS_PER_SHARD <= 1 << PLACE_BITS, "as long as a list can be");
};

impl Memberships {
    pub fn as_slice(&self) -> &[Membership] {
        match self {
            Memberships::None => &[],
            Memberships::One(membership) => std::slice::from_ref(membership),
            Memberships::Many(list) => list,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Membership] {
        match self {
            Memberships::None => &mut [],
            Memberships::One(membership) => std::slice::from_mut(membership),
            Memberships::Many(list) => list,
        }
    }

    fn push(&mut self, membership: Membership) {
        match self {
            Memberships::None => *self = Memberships::One(membership),
            Memberships::One(first) => *self = Memberships::Many(Box::new(vec![*first, membership])),
            Memberships::Many(list) => list.push(membership),
        }
    }

    /// Removes the membership at `slot`, which the last one moves to.
    fn swap_remove(&mut self, slot: usize) {
        match self {
            Memberships::Many(list) if list.len() > 1 => _ = list.swap_remove(slot),
            _ => *self = Memberships::None,
        }
    }
}

/// The memberships of all subscribers, by their number.
pub(super) struct Subscribers {
    /// Allocated whole and never moved; pages that no subscriber has reached yet are not resident.
    table: Vec<Memberships>,
}

impl Subscribers {
    pub fn new(max_subscribers: u32) -> Subscribers {
        assert!(max_subscribers <= MAX_CONNECTIONS_PER_SHARD);
        Subscribers { table: Vec::with_capacity(max_subscribers as usize) }
    }

    pub fn table_bytes(&self) -> usize {
        self.table.len() * size_of::<Memberships>()
    }

    pub fn get(&self, sub: u32) -> &Memberships {
        self.table.get(sub as usize).unwrap_or(&Memberships::None)
    }

    /// A subscriber's membership in a topic, and its slot.
    pub fn find(&self, sub: u32, topic: u32) -> Option<(u32, Membership)> {
        let list = self.get(sub).as_slice();
        let slot = list.iter().position(|membership| membership.topic == topic)?;
        Some((slot as u32, list[slot]))
    }

    /// Adds a membership, whose slot is the number of those before it.
    pub fn push(&mut self, sub: u32, membership: Membership) {
        let index = sub as usize;
        if index >= self.table.len() {
            assert!(index < self.table.capacity(), "more subscribers than the hub was made for");
            self.table.resize_with(index + 1, Memberships::default);
        }
        self.table[index].push(membership);
    }

    /// Removes the membership at `slot`, and returns the one that took its slot.
    pub fn swap_remove(&mut self, sub: u32, slot: u32) -> Option<Membership> {
        let memberships = &mut self.table[sub as usize];
        memberships.swap_remove(slot as usize);
        memberships.as_slice().get(slot as usize).copied()
    }

    pub fn take(&mut self, sub: u32) -> Memberships {
        self.table.get_mut(sub as usize).map(std::mem::take).unwrap_or_default()
    }

    /// Notes that an entry is at another place of its list now.
    pub fn moved(&mut self, entry: Entry, place: u32) {
        let membership = &mut self.table[entry.sub as usize].as_mut_slice()[entry.slot as usize];
        *membership = Membership::new(membership.topic, membership.class(), place);
    }

    /// Every subscriber with its memberships.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Memberships)> {
        self.table.iter().enumerate().map(|(sub, memberships)| (sub as u32, memberships))
    }
}

/// The subscribers of one topic and class, dense, in three regions while a fan-out is under way:
/// `..cursor` were served, `cursor..end` are to be, `end..` came after it had started.
#[derive(Default, Debug)]
pub(super) struct Roster {
    entries: Vec<Entry>,
    cursor: usize,
    end: usize,
}

impl Roster {
    /// Lists below this capacity are not shrunk.
    const SMALL: usize = 64;

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Appends an entry, and returns its place.
    pub fn push(&mut self, entry: Entry) -> u32 {
        self.entries.push(entry);
        self.entries.len() as u32 - 1
    }

    /// Removes the entry at `place`. The last entry of its region and of each one behind it moves up, and `moved` is
    /// told its new place.
    pub fn remove(&mut self, place: u32, mut moved: impl FnMut(Entry, u32)) {
        let mut hole = place as usize;
        if hole < self.cursor {
            self.cursor -= 1;
            hole = self.fill(hole, self.cursor, &mut moved);
        }
        if hole < self.end {
            self.end -= 1;
            hole = self.fill(hole, self.end, &mut moved);
        }
        self.fill(hole, self.entries.len() - 1, &mut moved);
        self.entries.pop();
        let capacity = self.entries.capacity();
        if capacity > Self::SMALL && self.entries.len() < capacity / 4 {
            self.entries.shrink_to(capacity / 2);
        }
    }

    /// Moves the entry at `from` into the hole, and returns the hole that it leaves.
    fn fill(&mut self, hole: usize, from: usize, moved: &mut impl FnMut(Entry, u32)) -> usize {
        if hole != from {
            self.entries[hole] = self.entries[from];
            moved(self.entries[hole], hole as u32);
        }
        from
    }

    /// Starts a fan-out to all who are in the list now.
    pub fn begin(&mut self) {
        (self.cursor, self.end) = (0, self.entries.len());
    }

    /// The next of the fan-out, `n` at most, which count as served from here on.
    pub fn advance(&mut self, n: usize) -> &[Entry] {
        let from = self.cursor;
        self.cursor = self.end.min(from + n);
        &self.entries[from..self.cursor]
    }

    /// Whether the fan-out, if there is one, has yet to come to `place`.
    pub fn is_ahead(&self, place: u32) -> bool {
        (self.cursor..self.end).contains(&(place as usize))
    }

    /// Whether the fan-out has served everybody, or there is none.
    pub fn is_through(&self) -> bool {
        self.cursor == self.end
    }

    /// Ends the fan-out.
    pub fn finish(&mut self) {
        (self.cursor, self.end) = (0, 0);
    }

    /// The entry at `place`, whose slot is to change.
    pub fn set_slot(&mut self, place: u32, slot: u32) {
        self.entries[place as usize].slot = slot;
    }

    pub fn invariants(&self) {
        assert!(self.cursor <= self.end && self.end <= self.entries.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, HashMap};

    #[test]
    fn a_membership_packs_any_class_with_any_place() {
        for class in [Class::PLAIN, Class::deflate(9), Class::deflate(15), Class::deflate(15).in_envelope()] {
            for place in [0, 1, MAX_CONNECTIONS_PER_SHARD - 1] {
                let membership = Membership::new(7, class, place);
                assert_eq!((membership.topic, membership.class(), membership.place()), (7, class, place));
            }
        }
    }

    #[test]
    fn memberships_allocate_for_the_second_topic() {
        let mut subscribers = Subscribers::new(4);
        let membership = |topic| Membership::new(topic, Class::PLAIN.in_envelope(), 0);
        subscribers.push(3, membership(5));
        assert!(matches!(subscribers.get(3), Memberships::One(..)));
        subscribers.push(3, membership(6));
        subscribers.push(3, membership(7));
        assert_eq!(subscribers.find(3, 7), Some((2, membership(7))));
        assert_eq!(subscribers.swap_remove(3, 0), Some(membership(7)));
        subscribers.moved(Entry { sub: 3, slot: 0 }, 9);
        assert_eq!(subscribers.find(3, 7), Some((0, Membership::new(7, Class::PLAIN.in_envelope(), 9))));
        assert_eq!(subscribers.swap_remove(3, 1), None);
        assert_eq!(subscribers.get(3).as_slice().len(), 1);
        assert_eq!(subscribers.swap_remove(3, 0), None);
        assert!(matches!(subscribers.get(3), Memberships::None));
        assert!(matches!(subscribers.get(1_000), Memberships::None), "never seen");
    }

    #[test]
    #[should_panic(expected = "more subscribers")]
    fn the_table_never_grows() {
        let mut subscribers = Subscribers::new(4);
        let beyond = subscribers.table.capacity() as u32;
        subscribers.push(beyond, Membership::new(0, Class::PLAIN, 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        Remove(prop::sample::Index),
        Begin,
        Advance(usize),
        Finish,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Push),
            3 => any::<prop::sample::Index>().prop_map(Step::Remove),
            1 => Just(Step::Begin),
            2 => (0..5usize).prop_map(Step::Advance),
            1 => Just(Step::Finish),
        ]
    }

    proptest! {
        /// A fan-out serves exactly those who were there when it began and are still there, each once.
        #[test]
        fn a_fan_out_serves_whom_it_should(steps in prop::collection::vec(step(), 0..200)) {
            let mut roster = Roster::default();
            let mut places = HashMap::new();
            let (mut todo, mut next) = (BTreeSet::new(), 0);
            for step in steps {
                match step {
                    Step::Push => {
                        places.insert(next, roster.push(Entry { sub: next, slot: 0 }));
                        next += 1;
                    }
                    Step::Remove(which) if !places.is_empty() => {
                        let sub = roster.entries()[which.index(roster.len())].sub;
                        let place = places.remove(&sub).expect("the model has it");
                        prop_assert_eq!(roster.is_ahead(place), todo.remove(&sub));
                        roster.remove(place, |entry, place| _ = places.insert(entry.sub, place));
                    }
                    Step::Remove(_) => {}
                    Step::Begin => {
                        roster.begin();
                        todo = places.keys().copied().collect();
                    }
                    Step::Advance(n) => {
                        let served = roster.advance(n);
                        prop_assert_eq!(served.len(), n.min(todo.len()));
                        for entry in served {
                            prop_assert!(todo.remove(&entry.sub));
                        }
                        prop_assert_eq!(roster.is_through(), todo.is_empty());
                    }
                    Step::Finish => {
                        roster.finish();
                        todo.clear();
                    }
                }
                roster.invariants();
                prop_assert_eq!(roster.len(), places.len());
                for (&sub, &place) in &places {
                    prop_assert_eq!(roster.entries()[place as usize].sub, sub);
                }
            }
        }
    }
}
