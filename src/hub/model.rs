//! The hub against a naive model: whatever happens in whatever order, everybody gets exactly what was published while
//! it was subscribed, in the class that it asked for, and no reference is lost or left over; topics remember what they
//! should, and are there as long as somebody has a use for them.

#[cfg(test)]
mod places;

use super::frame::{Class, Frames, MessageKind, Span};
use super::history::{History, Kept, Retention};
use super::keeper::TOPIC_BYTES;
use super::{Hub, Position, TopicHandle};
use crate::time::Tick;
use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

const SUBSCRIBERS: u32 = 12;
const TOPICS: [&str; 4] = ["a", "b", "c", "d"];
/// What the topics keep; the first one nothing.
const RETENTIONS: [Option<Retention>; 4] = [
    None,
    Some(Retention { count: 4, age: Tick::LENGTH.saturating_mul(6), bytes: 1500, last_value: false }),
    Some(Retention { count: 2, age: Tick::LENGTH.saturating_mul(4), bytes: 400, last_value: true }),
    Some(Retention { count: 3, age: Tick::LENGTH.saturating_mul(1000), bytes: 2000, last_value: true }),
];
/// What all histories may take; less than they would like to.
const BOUND: usize = 2200;
/// Topics whose places are known after they were in use, and how long.
const PLACES: usize = 2;
const PLACE_TIME: Duration = Tick::LENGTH.saturating_mul(8);
const REMOTE: TopicHandle = TopicHandle { index: 1, generation: 2 };
const HEADER: usize = 10;

#[derive(Clone, Debug)]
enum Step {
    Subscribe {
        sub: u32,
        topic: usize,
        class: Class,
    },
    Unsubscribe {
        sub: u32,
        topic: usize,
    },
    Close {
        sub: u32,
    },
    Publish {
        topic: usize,
        exclude: Option<u32>,
        bytes: usize,
    },
    Start,
    Deliver {
        budget: usize,
    },
    /// The kernel takes all that a subscriber was handed.
    Sent {
        sub: u32,
    },
    Interest {
        topic: usize,
        there: bool,
    },
    Pin {
        topic: usize,
        there: bool,
    },
    /// Somebody learns where a topic is.
    Tell {
        topic: usize,
    },
    Wait {
        ticks: u32,
    },
    Expire {
        budget: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sub = 0..SUBSCRIBERS;
    let topic = 0..TOPICS.len();
    let class =
        select(vec![Class::PLAIN, Class::deflate(9), Class::PLAIN.in_envelope(), Class::deflate(9).in_envelope()]);
    let bytes = prop_oneof![8 => 0..100usize, 2 => 200..5000usize, 1 => 60_000..70_000usize];
    let step = prop_oneof![
        8 => (sub.clone(), topic.clone(), class)
            .prop_map(|(sub, topic, class)| Step::Subscribe { sub, topic, class }),
        3 => (sub.clone(), topic.clone()).prop_map(|(sub, topic)| Step::Unsubscribe { sub, topic }),
        1 => sub.clone().prop_map(|sub| Step::Close { sub }),
        8 => (topic.clone(), prop::option::of(sub.clone()), bytes)
            .prop_map(|(topic, exclude, bytes)| Step::Publish { topic, exclude, bytes }),
        4 => Just(Step::Start),
        8 => (0..9usize).prop_map(|budget| Step::Deliver { budget }),
        4 => sub.prop_map(|sub| Step::Sent { sub }),
        1 => (topic.clone(), any::<bool>()).prop_map(|(topic, there)| Step::Interest { topic, there }),
        2 => (topic.clone(), any::<bool>()).prop_map(|(topic, there)| Step::Pin { topic, there }),
        2 => topic.prop_map(|topic| Step::Tell { topic }),
        2 => (0..6u32).prop_map(|ticks| Step::Wait { ticks }),
        3 => prop_oneof![0..4usize, Just(1000)].prop_map(|budget| Step::Expire { budget }),
    ];
    prop::collection::vec(step, 0..250)
}

/// Class, topic and number of a message, as its frame tells them.
type Received = (u8, u8, u32);

/// What a subscriber should get and what it got, by topic.
#[derive(Default)]
struct Subscriber {
    subscribed: BTreeMap<usize, Class>,
    expected: BTreeMap<usize, Vec<u32>>,
    received: BTreeMap<usize, Vec<u32>>,
    outbox: Vec<Span>,
}

impl Subscriber {
    /// Reads what it was handed, as late as a real one would, and gives back its references.
    fn sent(&mut self, frames: &mut Frames) {
        for span in self.outbox.drain(..) {
            for (bits, topic, number) in parse(frames.bytes(span)) {
                assert_eq!(bits, self.subscribed[&usize::from(topic)].to_bits());
                self.received.entry(topic.into()).or_default().push(number);
            }
            frames.release(span.chunk, 1);
        }
    }

    fn has_all(&self, topic: usize) -> bool {
        self.expected.get(&topic).map_or(&[][..], |list| list) == self.received.get(&topic).map_or(&[][..], |list| list)
    }

    fn has_a_prefix(&self) -> bool {
        self.received.iter().all(|(topic, received)| self.expected[topic].starts_with(received))
    }
}

fn header(class: Class, topic: usize, number: u32, bytes: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    (header[0], header[1]) = (class.to_bits(), topic as u8);
    header[2..6].copy_from_slice(&number.to_le_bytes());
    header[6..].copy_from_slice(&(bytes as u32).to_le_bytes());
    header
}

fn parse(mut bytes: &[u8]) -> Vec<Received> {
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (number, len) = (word(&bytes[2..6]), word(&bytes[6..HEADER]) as usize);
        let (message, rest) = bytes.split_at(HEADER + len);
        assert!(message[HEADER..].iter().all(|&byte| byte == number as u8), "a frame was overwritten");
        messages.push((message[0], message[1], number));
        bytes = rest;
    }
    messages
}

/// A topic besides its subscribers.
struct Topic {
    interest: Option<TopicHandle>,
    pins: u32,
    /// While it is there, or known.
    epoch: Option<u32>,
    offset: u64,
    told: bool,
    /// It is not in use, and may be known until then.
    known_until: Option<Tick>,
    /// What should be kept. Histories have a model of their own.
    history: History,
}

struct Model {
    hub: Hub,
    frames: Frames,
    subs: Vec<Subscriber>,
    topics: Vec<Topic>,
    epochs: BTreeSet<u32>,
    /// Topics with something in their history, the one published to last at the end.
    recent: Vec<usize>,
    evicted: u64,
    published: u32,
    now: Tick,
}

impl Model {
    fn new() -> Model {
        let subs = (0..SUBSCRIBERS).map(|_| Subscriber::default()).collect();
        let nothing = Retention { count: 0, age: Tick::LENGTH, bytes: 0, last_value: false };
        let topic = |retention: &Option<Retention>| Topic {
            interest: None,
            pins: 0,
            epoch: None,
            offset: 0,
            told: false,
            known_until: None,
            history: History::new(retention.unwrap_or(nothing)),
        };
        let (mut hub, frames) = (Hub::new(SUBSCRIBERS, 5), Frames::new());
        hub.set_history_bound(BOUND);
        hub.set_memory(PLACES, PLACE_TIME);
        Model {
            hub,
            frames,
            subs,
            topics: RETENTIONS.iter().map(topic).collect(),
            epochs: BTreeSet::new(),
            recent: Vec::new(),
            evicted: 0,
            published: 0,
            now: Tick(0),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Subscribe { sub, topic, class } => self.subscribe(sub, topic, class),
            Step::Unsubscribe { sub, topic } => self.unsubscribe(sub, topic),
            Step::Close { sub } => self.close(sub),
            Step::Publish { topic, exclude, bytes } => self.publish(topic, exclude, bytes),
            Step::Start => self.hub.start_fanouts(&mut self.frames),
            Step::Deliver { budget } => _ = self.deliver(budget),
            Step::Sent { sub } => self.subs[sub as usize].sent(&mut self.frames),
            Step::Interest { topic, there } => self.interest(topic, there),
            Step::Pin { topic, there } => self.pin(topic, there),
            Step::Tell { topic } => self.tell(topic),
            Step::Wait { ticks } => {
                self.now.0 += ticks;
                self.hub.set_now(self.now);
            }
            Step::Expire { budget } => self.expire(budget),
        }
    }

    fn audience(&self, topic: usize) -> usize {
        self.subs.iter().filter(|sub| sub.subscribed.contains_key(&topic)).count()
    }

    fn is_wanted(&self, topic: usize) -> bool {
        self.audience(topic) > 0 || self.topics[topic].pins > 0
    }

    fn is_in_use(&self, topic: usize) -> bool {
        let Topic { interest, history, .. } = &self.topics[topic];
        self.is_wanted(topic) || interest.is_some() || !history.is_empty()
    }

    fn subscribe(&mut self, sub: u32, topic: usize, class: Class) {
        let wanted = self.is_wanted(topic);
        let outcome = self.hub.subscribe(sub, class, TOPICS[topic]);
        let model = &mut self.subs[sub as usize];
        assert_eq!(outcome.already, model.subscribed.contains_key(&topic));
        let class = *model.subscribed.entry(topic).or_insert(class);
        assert_eq!(self.hub.class_of(sub, outcome.topic), Some(class));
        assert_eq!(outcome.first, !wanted);
        assert_eq!(self.hub.find(TOPICS[topic]), Some(outcome.topic));
    }

    fn unsubscribe(&mut self, sub: u32, topic: usize) {
        let Some(index) = self.hub.find(TOPICS[topic]) else { return };
        let Model { hub, frames, subs, .. } = self;
        let model = &mut subs[sub as usize];
        let outcome = hub.unsubscribe(sub, index, frames, &mut |_, to, span| {
            assert_eq!(to, sub);
            model.outbox.push(span);
        });
        model.sent(frames);
        assert_eq!(outcome.is_some(), model.subscribed.remove(&topic).is_some());
        assert!(model.has_all(topic), "what was published before it left came before it left");
        let last = outcome.map(|outcome| outcome.last);
        assert!(last.is_none_or(|last| last != self.is_wanted(topic)));
    }

    fn close(&mut self, sub: u32) {
        let mut gone = std::mem::take(&mut self.subs[sub as usize]);
        let mut left = BTreeMap::new();
        self.hub.close(sub, &mut self.frames, |hub, topic, last| _ = left.insert(hub.name(topic).to_owned(), last));
        let expected = gone.subscribed.keys().map(|&topic| (TOPICS[topic].to_owned(), !self.is_wanted(topic)));
        assert_eq!(left, expected.collect());
        gone.sent(&mut self.frames);
        assert!(gone.has_a_prefix());
    }

    fn publish(&mut self, topic: usize, exclude: Option<u32>, bytes: usize) {
        let index = match self.hub.find(TOPICS[topic]) {
            Some(index) => index,
            None if RETENTIONS[topic].is_some() => self.hub.intern(TOPICS[topic]),
            None => return self.publish_unheard(topic),
        };
        self.published += 1;
        let number = self.published;
        let payload = vec![number as u8; bytes];
        self.appear(topic, index);
        self.topics[topic].offset += 1;
        self.topics[topic].told = true;
        assert_eq!(self.hub.order(index), self.topics[topic].offset);
        if let Some(retention) = RETENTIONS[topic] {
            self.hub.keep(index, retention);
            self.remember(topic, index, &payload);
        }
        self.hub.publish(index, &mut self.frames, exclude, |class, append| {
            append(&[&header(class, topic, number, bytes), &payload]);
        });
        for (sub, model) in self.subs.iter_mut().enumerate() {
            if model.subscribed.contains_key(&topic) && exclude != Some(sub as u32) {
                model.expected.entry(topic).or_default().push(number);
            }
        }
    }

    fn deliver(&mut self, budget: usize) -> bool {
        let subs = &mut self.subs;
        self.hub.deliver(&mut self.frames, budget, &mut |_, sub, span| subs[sub as usize].outbox.push(span))
    }

    fn remember(&mut self, topic: usize, index: u32, payload: &[u8]) {
        let (offset, kind, payload) = (self.topics[topic].offset, MessageKind::Binary, Bytes::copy_from_slice(payload));
        self.hub.remember(index, self.now, offset, kind, payload.clone());
        let history = &mut self.topics[topic].history;
        if payload.len() + Kept::OVERHEAD + TOPIC_BYTES > BOUND {
            self.evicted += 1 + history.clear() as u64;
            return;
        }
        history.push(self.now, offset, kind, payload);
        self.recent.retain(|&other| other != topic);
        self.recent.push(topic);
        while self.history_bytes() > BOUND {
            self.recent.retain(|&topic| !self.topics[topic].history.is_empty());
            assert!(self.topics[self.recent[0]].history.drop_oldest());
            self.evicted += 1;
        }
    }

    fn history_bytes(&self) -> usize {
        let kept = self.topics.iter().map(|topic| &topic.history).filter(|history| !history.is_empty());
        kept.map(|history| history.bytes() + TOPIC_BYTES).sum()
    }

    fn expire(&mut self, budget: usize) {
        self.hub.expire_histories(self.now, budget);
        self.expire_places(budget);
        let mut dropped = 0;
        for (name, topic) in TOPICS.iter().zip(&mut self.topics) {
            let history = self.hub.find(name).and_then(|index| self.hub.history(index));
            let gone = topic.history.len() - history.map_or(0, History::len);
            assert_eq!(topic.history.expire(self.now, gone), gone, "what is gone was due");
            if budget == 1000 || history.and_then(History::deadline) != topic.history.deadline() {
                assert_eq!(topic.history.expire(self.now, 1), 0, "nothing is due but a last value");
            }
            dropped += gone;
        }
        assert!(dropped <= budget);
        let idle = |topic: &usize| self.hub.find(TOPICS[*topic]).is_some() && !self.is_in_use(*topic);
        assert!(budget < 1000 || (0..TOPICS.len()).filter(idle).count() == 0, "what is of no use is forgotten");
    }

    fn interest(&mut self, topic: usize, there: bool) {
        match there {
            true => self.topics[topic].interest = Some(self.hub.add_interest(TOPICS[topic], 1, REMOTE)),
            false => {
                if let Some(handle) = self.topics[topic].interest.take() {
                    assert!(self.hub.remove_interest(handle, 1, REMOTE));
                }
            }
        }
    }

    fn pin(&mut self, topic: usize, there: bool) {
        let wanted = self.is_wanted(topic);
        if there {
            let index = self.hub.intern(TOPICS[topic]);
            assert_eq!(self.hub.pin(index), !wanted);
            self.topics[topic].pins += 1;
        } else if self.topics[topic].pins > 0 {
            self.topics[topic].pins -= 1;
            let index = self.hub.find(TOPICS[topic]).expect("what is pinned is there");
            assert_eq!(self.hub.unpin(index), !self.is_wanted(topic));
        }
    }

    fn check(&mut self) {
        self.hub.invariants(&self.frames);
        self.frames.invariants();
        self.vanish();
        (0..TOPICS.len()).for_each(|topic| self.check_topic(topic));
        assert_eq!((self.hub.history_bytes(), self.hub.evicted_messages()), (self.history_bytes(), self.evicted));
        let found = TOPICS.iter().filter(|name| self.hub.find(name).is_some()).count();
        assert_eq!(self.hub.topics(), found);
        let mut held: HashMap<u32, u32> = self.hub.references();
        self.subs.iter().flat_map(|sub| &sub.outbox).for_each(|span| *held.entry(span.chunk).or_default() += 1);
        let mut bytes = 0;
        for (chunk, held) in held {
            assert_eq!(self.frames.refs(chunk), held);
            bytes += self.frames.capacity(chunk);
        }
        assert_eq!(self.frames.live_bytes(), bytes, "no chunk is held by nobody");
        assert_eq!(self.hub.subscriptions(), self.subs.iter().map(|sub| sub.subscribed.len()).sum::<usize>());
    }

    fn check_topic(&mut self, topic: usize) {
        let in_use = self.is_in_use(topic);
        let next = self.hub.next_expiry(self.now);
        let model = &self.topics[topic];
        let Some(index) = self.hub.find(TOPICS[topic]) else {
            assert!(!in_use);
            let known = model.known_until.and(model.epoch).map(|epoch| Position { epoch, offset: model.offset });
            assert_eq!(self.hub.last_position(TOPICS[topic]), known);
            let due = model.known_until.map(|due| if due.is_after(self.now) { due } else { self.now });
            assert!(due.is_none_or(|due| next.is_some_and(|next| !next.is_after(due))), "the shard wakes in time");
            return;
        };
        self.appear(topic, index);
        let model = &mut self.topics[topic];
        let Position { epoch, offset } = self.hub.position(index);
        assert_eq!((model.epoch, model.offset), (Some(epoch), offset));
        for after in [0, offset.saturating_sub(2), offset] {
            let replay = self.hub.replay(index, Position { epoch, offset: after });
            let expected = model.history.since(after, offset);
            assert_eq!(replay.gap, expected.gap);
            assert!(replay.messages.eq(expected.messages));
        }
        assert_eq!(self.hub.history(index).and_then(History::deadline), model.history.deadline());
        let due = model.history.deadline().map(|due| if due.is_after(self.now) { due } else { self.now });
        let due = if in_use { due } else { Some(self.now) };
        assert!(due.is_none_or(|due| next.is_some_and(|next| !next.is_after(due))), "the shard wakes in time");
    }

    fn finish(mut self) {
        self.hub.start_fanouts(&mut self.frames);
        while self.deliver(7) {
            self.check();
        }
        assert_eq!(self.hub.queued_bytes(), 0);
        self.subs.iter_mut().for_each(|sub| sub.sent(&mut self.frames));
        assert!(self.subs.iter().all(|sub| (0..TOPICS.len()).all(|topic| sub.has_all(topic))));
        self.hub.start_fanouts(&mut self.frames);
        assert_eq!(self.frames.live_bytes(), 0, "idle topics hold nothing");
        (0..SUBSCRIBERS).for_each(|sub| self.close(sub));
        for topic in 0..TOPICS.len() {
            self.interest(topic, false);
            (0..self.topics[topic].pins).for_each(|_| self.pin(topic, false));
            self.topics[topic].history.clear();
        }
        self.hub.set_history_bound(0);
        self.hub.set_memory(0, PLACE_TIME);
        self.hub.expire_histories(self.now, usize::MAX);
        assert_eq!((self.hub.history_bytes(), self.hub.topics(), self.hub.next_expiry(self.now)), (0, 0, None));
        self.hub.invariants(&self.frames);
    }
}

proptest! {
    #[test]
    fn everybody_gets_exactly_what_was_published_meanwhile(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
            model.check();
        }
        model.finish();
    }
}
