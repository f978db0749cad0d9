//! The hub against a naive model: whatever happens in whatever order, everybody gets exactly what was published while
//! it was subscribed, and no reference is lost or left over.

use super::frame::{Class, Frames, Span};
use super::{Hub, TopicHandle};
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::{BTreeMap, BTreeSet, HashMap};

const SUBSCRIBERS: u32 = 12;
const TOPICS: [&str; 3] = ["a", "b", "c"];
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
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sub = 0..SUBSCRIBERS;
    let topic = 0..TOPICS.len();
    let class = select(vec![Class::PLAIN, Class::deflate(9), Class::deflate(15)]);
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
        1 => (topic, any::<bool>()).prop_map(|(topic, there)| Step::Interest { topic, there }),
    ];
    prop::collection::vec(step, 0..250)
}

/// Class, topic and number of a message, as its frame tells them.
type Received = (Option<u8>, u8, u32);

/// What a subscriber should get and what it got, by topic.
#[derive(Default)]
struct Subscriber {
    class: Option<Class>,
    subscribed: BTreeSet<usize>,
    expected: BTreeMap<usize, Vec<u32>>,
    received: BTreeMap<usize, Vec<u32>>,
    outbox: Vec<Span>,
}

impl Subscriber {
    /// Reads what it was handed, as late as a real one would, and gives back its references.
    fn sent(&mut self, frames: &mut Frames) {
        for span in self.outbox.drain(..) {
            for (bits, topic, number) in parse(frames.bytes(span)) {
                assert_eq!(bits, self.class.expect("only subscribers get messages").window_bits());
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
    (header[0], header[1]) = (class.window_bits().unwrap_or(0), topic as u8);
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
        messages.push(((message[0] != 0).then_some(message[0]), message[1], number));
        bytes = rest;
    }
    messages
}

struct Model {
    hub: Hub,
    frames: Frames,
    subs: Vec<Subscriber>,
    interest: BTreeMap<usize, TopicHandle>,
    published: u32,
}

impl Model {
    fn new() -> Model {
        let subs = (0..SUBSCRIBERS).map(|_| Subscriber::default()).collect();
        let (hub, frames) = (Hub::new(SUBSCRIBERS), Frames::new());
        Model { hub, frames, subs, interest: BTreeMap::new(), published: 0 }
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
        }
    }

    fn audience(&self, topic: usize) -> usize {
        self.subs.iter().filter(|sub| sub.subscribed.contains(&topic)).count()
    }

    fn subscribe(&mut self, sub: u32, topic: usize, class: Class) {
        let audience = self.audience(topic);
        let outcome = self.hub.subscribe(sub, class, TOPICS[topic]);
        let model = &mut self.subs[sub as usize];
        model.class.get_or_insert(class);
        assert_eq!(outcome.already, !model.subscribed.insert(topic));
        assert_eq!(outcome.first, audience == 0);
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
        assert_eq!(outcome.is_some(), model.subscribed.remove(&topic));
        model.sent(frames);
        assert!(model.has_all(topic), "what was published before it left came before it left");
        if model.subscribed.is_empty() {
            model.class = None;
        }
        let last = outcome.map(|outcome| outcome.last);
        assert!(last.is_none_or(|last| last == (self.audience(topic) == 0)));
    }

    fn close(&mut self, sub: u32) {
        let mut gone = std::mem::take(&mut self.subs[sub as usize]);
        let mut left = BTreeMap::new();
        self.hub.close(sub, &mut self.frames, |hub, topic, last| _ = left.insert(hub.name(topic).to_owned(), last));
        let expected = gone.subscribed.iter().map(|&topic| (TOPICS[topic].to_owned(), self.audience(topic) == 0));
        assert_eq!(left, expected.collect());
        gone.sent(&mut self.frames);
        assert!(gone.has_a_prefix());
    }

    fn publish(&mut self, topic: usize, exclude: Option<u32>, bytes: usize) {
        let Some(index) = self.hub.find(TOPICS[topic]) else { return };
        self.published += 1;
        let number = self.published;
        let payload = vec![number as u8; bytes];
        self.hub.publish(index, &mut self.frames, exclude, |class, append| {
            append(&[&header(class, topic, number, bytes), &payload]);
        });
        for (sub, model) in self.subs.iter_mut().enumerate() {
            if model.subscribed.contains(&topic) && exclude != Some(sub as u32) {
                model.expected.entry(topic).or_default().push(number);
            }
        }
    }

    fn deliver(&mut self, budget: usize) -> bool {
        let subs = &mut self.subs;
        self.hub.deliver(&mut self.frames, budget, &mut |_, sub, span| subs[sub as usize].outbox.push(span))
    }

    fn interest(&mut self, topic: usize, there: bool) {
        match there {
            true => _ = self.interest.insert(topic, self.hub.add_interest(TOPICS[topic], 1, REMOTE)),
            false => {
                if let Some(handle) = self.interest.remove(&topic) {
                    assert!(self.hub.remove_interest(handle, 1, REMOTE));
                }
            }
        }
    }

    fn check(&self) {
        self.hub.invariants(&self.frames);
        self.frames.invariants();
        let mut held: HashMap<u32, u32> = self.hub.references();
        self.subs.iter().flat_map(|sub| &sub.outbox).for_each(|span| *held.entry(span.chunk).or_default() += 1);
        let mut bytes = 0;
        for (chunk, held) in held {
            assert_eq!(self.frames.refs(chunk), held);
            bytes += self.frames.capacity(chunk);
        }
        assert_eq!(self.frames.live_bytes(), bytes, "no chunk is held by nobody");
        assert_eq!(self.hub.subscriptions(), self.subs.iter().map(|sub| sub.subscribed.len()).sum::<usize>());
        let in_use = (0..TOPICS.len()).filter(|topic| self.audience(*topic) > 0 || self.interest.contains_key(topic));
        assert_eq!(self.hub.topics(), in_use.count());
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
        (0..TOPICS.len()).for_each(|topic| self.interest(topic, false));
        self.check();
        assert_eq!(self.hub.topics(), 0);
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
