//! Topics: their names, each stored once, and what a shard knows of each.

use super::frame::Class;
use super::history::History;
use super::log::Log;
use super::places::Places;
use super::subscribers::Roster;
use crate::bucket::Level;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;
use std::hash::BuildHasher;

/// A topic of some shard, for other shards to name it by: the index alone may mean another topic tomorrow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TopicHandle {
    /// Index in its hub.
    pub index: u32,
    /// Which of the index's topics.
    pub generation: u32,
}

/// Where a topic is: its incarnation, and its newest message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// The topic's incarnation.
    pub epoch: u32,
    /// The newest message's number, from 1; 0 before the first.
    pub offset: u64,
}

/// What a shard knows of one topic.
pub(super) struct Topic {
    pub name: Box<str>,
    /// Incarnation, which the home shard gives.
    pub epoch: u32,
    /// Offset of the newest message, counted at the home shard.
    pub offset: u64,
    /// The topic at its home shard, once confirmed.
    pub home: Option<TopicHandle>,
    /// Who waits for the confirmation; opaque.
    pub waiting: Vec<u64>,
    /// Other shards that have subscribers, with the topic there.
    pub interest: Vec<(u16, TopicHandle)>,
    /// How fast it is published to, at the home shard, if that is bounded.
    pub pace: Option<Level>,
    /// Whether anybody outside may know its place.
    pub told: bool,
    /// Those who are about to subscribe, or something else that the topic must not be gone for.
    pub pins: u32,
    /// What was published, at the home shard, if it is kept.
    pub history: Option<Box<History>>,
    /// The classes that have subscribers here.
    pub channels: SmallVec<[Channel; 1]>,
}

impl Topic {
    fn new(name: Box<str>, Position { epoch, offset }: Position) -> Topic {
        Topic {
            name,
            epoch,
            offset,
            home: None,
            waiting: Vec::new(),
            interest: Vec::new(),
            pace: None,
            told: false,
            pins: 0,
            history: None,
            channels: SmallVec::new(),
        }
    }

    pub fn subscribers(&self) -> usize {
        self.channels.iter().map(|channel| channel.roster.len()).sum()
    }

    pub fn channel(&mut self, class: Class) -> Option<&mut Channel> {
        self.channels.iter_mut().find(|channel| channel.class == class)
    }

    pub fn channel_or_new(&mut self, class: Class) -> &mut Channel {
        let at = self.channels.iter().position(|channel| channel.class == class).unwrap_or_else(|| {
            self.channels.push(Channel::new(class));
            self.channels.len() - 1
        });
        &mut self.channels[at]
    }

    /// Whether the home shard is to send here what is published.
    pub fn is_wanted(&self) -> bool {
        !self.channels.is_empty() || self.pins > 0
    }

    /// Whether it need not be known any more.
    pub fn is_unused(&self) -> bool {
        !self.is_wanted() && self.interest.is_empty() && self.history.as_ref().is_none_or(|history| history.is_empty())
    }
}

/// The subscribers of one topic and class, and what they are to get. It is gone with the last of them.
pub(super) struct Channel {
    pub class: Class,
    /// Whether the hub looks after the log until it settles.
    pub cooling: bool,
    /// The batch that is published to.
    pub pending: Option<u32>,
    /// The batch that is fanned out.
    pub active: Option<u32>,
    pub log: Log,
    pub roster: Roster,
}

impl Channel {
    fn new(class: Class) -> Channel {
        Channel { class, cooling: false, pending: None, active: None, log: Log::default(), roster: Roster::default() }
    }

    /// Both batches.
    pub fn batches(&self) -> impl Iterator<Item = u32> {
        self.active.into_iter().chain(self.pending)
    }
}

struct Slot {
    generation: u32,
    topic: Option<Topic>,
}

/// The topics of a shard, by index and by name.
pub(super) struct Topics {
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    names: HashTable<u32>,
    hasher: RandomState,
    /// Epoch of the newest topic.
    epoch: u32,
    /// Where topics are that are not in use, but may be known to somebody.
    pub places: Places,
}

/// From one epoch to the next: odd, so that all 2³² come before one comes again, and large, so that they look different.
const EPOCH_STEP: u32 = 0x9e37_79b9;

impl Topics {
    /// No topics. Epochs begin where `seed` says, so that those of another run are hardly ever taken for ours.
    pub fn new(seed: u64) -> Topics {
        Topics {
            slots: Vec::new(),
            vacant: Vec::new(),
            names: HashTable::new(),
            hasher: RandomState::default(),
            epoch: (seed ^ seed >> 32) as u32,
            places: Places::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn table_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.names.capacity() * size_of::<u32>()
    }

    /// The topic at an index that is known to be in use.
    pub fn get(&self, index: u32) -> &Topic {
        self.slots[index as usize].topic.as_ref().expect("a topic in use")
    }

    pub fn get_mut(&mut self, index: u32) -> &mut Topic {
        self.slots[index as usize].topic.as_mut().expect("a topic in use")
    }

    /// The index that a handle names, if its topic is still there.
    pub fn resolve(&self, handle: TopicHandle) -> Option<u32> {
        let slot = self.slots.get(handle.index as usize)?;
        (slot.generation == handle.generation && slot.topic.is_some()).then_some(handle.index)
    }

    pub fn handle(&self, index: u32) -> TopicHandle {
        TopicHandle { index, generation: self.slots[index as usize].generation }
    }

    pub fn find(&self, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        self.names.find(hash, |&index| &*self.get(index).name == name).copied()
    }

    /// The index of a name, which is new if nobody used it; but one whose place is still known goes on from there.
    pub fn intern(&mut self, name: &str) -> u32 {
        if let Some(index) = self.find(name) {
            return index;
        }
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, topic: None });
            u32::try_from(self.slots.len() - 1).expect("fewer than 2³² topics")
        });
        let topic = match self.places.take(name) {
            Some((name, position)) => Topic { told: true, ..Topic::new(name, position) },
            None => {
                self.epoch = self.epoch.wrapping_add(EPOCH_STEP);
                Topic::new(name.into(), Position { epoch: self.epoch, offset: 0 })
            }
        };
        self.slots[index as usize].topic = Some(topic);
        let Topics { slots, names, hasher, .. } = self;
        let hash_of =
            |index: &u32| hasher.hash_one(slots[*index as usize].topic.as_ref().map_or("", |topic| &topic.name));
        names.insert_unique(hash_of(&index), index, hash_of);
        index
    }

    /// Forgets a topic that nobody is interested in any more, and that has nothing to remember; but not its place, if that
    /// may be known to somebody.
    pub fn forget_unused(&mut self, index: u32) {
        let topic = self.get(index);
        if !topic.is_unused() {
            return;
        }
        let hash = self.hasher.hash_one(&*topic.name);
        if let Ok(entry) = self.names.find_entry(hash, |&other| other == index) {
            entry.remove();
        }
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.vacant.push(index);
        if let Some(Topic { name, epoch, offset, .. }) = slot.topic.take().filter(|topic| topic.told) {
            self.places.put(name, Position { epoch, offset });
        }
    }

    /// The topic at any index, if there is one.
    pub fn at(&self, index: u32) -> Option<&Topic> {
        self.slots.get(index as usize)?.topic.as_ref()
    }

    /// One more than the greatest index that a topic has, or has had.
    pub fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Every topic with its index.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Topic)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| Some((index as u32, slot.topic.as_ref()?)))
    }

    pub fn invariants(&self) {
        self.places.invariants();
        assert!(self.places.iter().all(|(name, ..)| self.find(name).is_none()), "a topic is in use or not");
        assert_eq!(self.iter().count(), self.names.len());
        assert_eq!(self.names.len() + self.vacant.len(), self.slots.len());
        for (index, topic) in self.iter() {
            assert_eq!(self.find(&topic.name), Some(index));
            assert_eq!(self.resolve(self.handle(index)), Some(index));
            for (i, channel) in topic.channels.iter().enumerate() {
                assert!(topic.channels[..i].iter().all(|other| other.class != channel.class));
            }
            for (i, (shard, _)) in topic.interest.iter().enumerate() {
                assert!(topic.interest[..i].iter().all(|(other, _)| other != shard));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_name_is_interned_once_and_its_slot_reused_under_another_generation() {
        let mut topics = Topics::new(0);
        let a = topics.intern("a");
        let b = topics.intern("b");
        assert_eq!((topics.intern("a"), topics.find("b"), topics.find("c"), topics.len()), (a, Some(b), None, 2));
        let handle = topics.handle(a);
        topics.forget_unused(a);
        assert_eq!((topics.resolve(handle), topics.find("a")), (None, None));
        assert_eq!(topics.intern("c"), a);
        assert_eq!(topics.resolve(handle), None);
        assert_ne!(topics.handle(a), handle);
        assert_eq!(topics.resolve(TopicHandle { index: 99, generation: 0 }), None);
    }

    #[test]
    fn no_epoch_comes_twice_and_another_seed_gives_others() {
        let epochs = |seed| {
            let mut topics = Topics::new(seed);
            let mut next = || {
                let index = topics.intern("t");
                let epoch = topics.get(index).epoch;
                topics.forget_unused(index);
                epoch
            };
            (0..1000).map(|_| next()).collect::<BTreeSet<_>>()
        };
        let (ours, others) = (epochs(1), epochs(0x1234_5678_9abc_def0));
        assert_eq!((ours.len(), others.len()), (1000, 1000));
        assert!(ours.is_disjoint(&others));
    }

    #[test]
    fn many_names_survive_growth() {
        let mut topics = Topics::new(0);
        let indexes: Vec<_> = (0..1000).map(|i| topics.intern(&format!("room/{i}"))).collect();
        for (i, &index) in indexes.iter().enumerate() {
            assert_eq!(topics.find(&format!("room/{i}")), Some(index));
        }
        indexes.iter().for_each(|&index| topics.forget_unused(index));
        assert_eq!(topics.len(), 0);
        topics.invariants();
    }
}
