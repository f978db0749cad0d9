//! What was published, and whether what subscribers saw agrees with that and with each other.

use std::collections::{BTreeMap, BTreeSet};

use super::guard::Guard;
use super::ledger::Ledger;

/// A message: who published it, where, and as the how-manieth there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Message {
    pub publisher: usize,
    pub topic: usize,
    /// From 1.
    pub seq: usize,
}

/// How a message was published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Text,
    Binary,
    /// As the `data` of a `json` client: a JSON string.
    Data,
    /// As an object of a backend, for its room.
    State,
}

/// What a [`Form::State`] begins with.
const STATE: &str = r#"{"type":"state","data":""#;

pub struct Oracle {
    /// Topics' names.
    pub names: Vec<String>,
    /// Form and padding of each message, by publisher and topic.
    published: BTreeMap<(usize, usize), Vec<(Form, usize)>>,
    /// By message: those that some subscriber saw next.
    next: BTreeMap<Message, BTreeSet<Message>>,
    /// By topic and epoch: the messages that were seen with their offset.
    places: BTreeMap<(usize, String), BTreeMap<u64, Message>>,
    /// The one place of each message of which it is known.
    place_of: BTreeMap<Message, (String, u64)>,
    /// What went between clients and backends.
    pub ledger: Ledger,
    /// What clients may do.
    pub guard: Guard,
}

impl Oracle {
    /// Nothing was published yet to the topics of these names.
    pub fn new(names: Vec<String>, guard: Guard) -> Oracle {
        Oracle {
            names,
            published: BTreeMap::new(),
            next: BTreeMap::new(),
            places: BTreeMap::new(),
            place_of: BTreeMap::new(),
            ledger: Ledger::default(),
            guard,
        }
    }

    /// Takes note of a publication; the payload that subscribers are to receive.
    pub fn publish(&mut self, publisher: usize, topic: usize, form: Form, padding: usize) -> Vec<u8> {
        let all = self.published.entry((publisher, topic)).or_default();
        all.push((form, padding));
        let seq = all.len();
        self.payload(Message { publisher, topic, seq }).expect("it was published")
    }

    /// Messages of a publisher on a topic.
    pub fn count(&self, publisher: usize, topic: usize) -> usize {
        self.published.get(&(publisher, topic)).map_or(0, Vec::len)
    }

    /// Everyone who has published to a topic, with how much.
    pub fn publishers(&self, topic: usize) -> impl Iterator<Item = (usize, usize)> {
        self.published.iter().filter(move |((_, other), _)| *other == topic).map(|((who, _), all)| (*who, all.len()))
    }

    fn form(&self, message: Message) -> Option<(Form, usize)> {
        self.published.get(&(message.publisher, message.topic))?.get(message.seq.checked_sub(1)?).copied()
    }

    pub fn payload(&self, message: Message) -> Option<Vec<u8>> {
        let Message { publisher, topic, seq } = message;
        let (form, padding) = self.form(message)?;
        let text = format!("{publisher} {topic} {seq} {}", "x".repeat(padding));
        Some(match form {
            Form::Text | Form::Binary => text.into_bytes(),
            Form::Data => format!("\"{text}\"").into_bytes(),
            Form::State => format!("{STATE}{text}\"}}").into_bytes(),
        })
    }

    /// The message that a payload is, which must be just as it was published.
    pub fn recognise(&self, binary: bool, payload: &[u8]) -> Message {
        let text = std::str::from_utf8(payload).expect("a payload is text");
        let data = text.strip_prefix(STATE).and_then(|data| data.strip_suffix("\"}"));
        let mut numbers =
            data.unwrap_or(text.trim_matches('"')).split(' ').map(|number| number.parse().expect("a number"));
        let mut number = || numbers.next().expect("three numbers");
        let message = Message { publisher: number(), topic: number(), seq: number() };
        assert!(self.payload(message).expect("it was published") == payload, "{message:?} is not as it was published");
        assert_eq!(binary, self.form(message).is_some_and(|(form, _)| form == Form::Binary), "text or binary");
        message
    }

    /// The message that a text without quotes is.
    pub fn recognise_text(&self, text: &str) -> Message {
        let mut numbers = text.split(' ').map(|number| number.parse().expect("a number"));
        let mut number = || numbers.next().expect("three numbers");
        let message = Message { publisher: number(), topic: number(), seq: number() };
        match self.form(message).map(|(form, _)| form) {
            Some(Form::Data) => self.recognise(false, format!("\"{text}\"").as_bytes()),
            _ => self.recognise(false, text.as_bytes()),
        }
    }

    /// A message was seen with its place: for everybody it is the same one.
    pub fn place(&mut self, message: Message, epoch: String, offset: u64) {
        let one = self.place_of.entry(message).or_insert_with(|| (epoch.clone(), offset));
        assert_eq!((&one.0, one.1), (&epoch, offset), "two places of {message:?}");
        let places = self.places.entry((message.topic, epoch)).or_default();
        let known = *places.entry(offset).or_insert(message);
        assert_eq!(known, message, "two messages at offset {offset}");
        let before = places.range(..offset).next_back().map(|(_, &before)| before);
        let after = places.range(offset + 1..).next().map(|(_, &after)| after);
        for (from, to) in [(before, Some(message)), (Some(message), after)] {
            if let (Some(from), Some(to)) = (from, to) {
                self.next.entry(from).or_default().insert(to);
            }
        }
    }

    /// The newest offset that was seen of a topic's epoch; 0 if none was.
    pub fn newest(&self, topic: usize, epoch: &str) -> u64 {
        let places = self.places.get(&(topic, epoch.to_owned()));
        places.and_then(|places| places.last_key_value()).map_or(0, |(&offset, _)| offset)
    }

    /// Panics if no order of all messages agrees with what everybody saw.
    pub fn check_order(&self) {
        let mut incoming: BTreeMap<Message, usize> = BTreeMap::new();
        self.next.values().flatten().for_each(|&to| *incoming.entry(to).or_default() += 1);
        let mut free: Vec<_> = self.next.keys().copied().filter(|from| !incoming.contains_key(from)).collect();
        while let Some(from) = free.pop() {
            for to in self.next.get(&from).into_iter().flatten() {
                let left = incoming.get_mut(to).expect("counted above");
                *left -= 1;
                if *left == 0 {
                    free.push(*to);
                }
            }
        }
        let cyclic: Vec<_> = incoming.into_iter().filter(|&(_, left)| left > 0).take(10).collect();
        assert!(cyclic.is_empty(), "subscribers saw these in different orders, or after them: {cyclic:?}");
    }
}

/// What a subscriber has seen of a topic, from when it was told that it is subscribed.
pub struct View {
    subscriber: usize,
    topic: usize,
    /// Whether it gets what it publishes itself.
    own: bool,
    /// What each had published when this began.
    base: BTreeMap<usize, usize>,
    /// The last of each that was seen.
    seen: BTreeMap<usize, usize>,
    last: Option<Message>,
    pub received: usize,
    /// Messages that were passed over.
    pub missed: usize,
}

impl View {
    pub fn new(oracle: &Oracle, subscriber: usize, topic: usize, own: bool) -> View {
        let base = oracle.publishers(topic).collect();
        View { subscriber, topic, own, base, seen: BTreeMap::new(), last: None, received: 0, missed: 0 }
    }

    /// The same, if the publisher had published no more than this when it knew of the subscription.
    pub fn not_after(mut self, publisher: usize, published: Option<usize>) -> View {
        if let (Some(base), Some(published)) = (self.base.get_mut(&publisher), published) {
            *base = published.min(*base);
        }
        self
    }

    pub fn see(&mut self, message: Message, oracle: &mut Oracle, lossy: bool) {
        let Message { publisher, seq, .. } = message;
        assert!(self.own || publisher != self.subscriber, "{message:?} came back to its publisher");
        let base = self.base.get(&publisher).copied().unwrap_or(0);
        let due = match self.seen.insert(publisher, seq) {
            Some(last) => {
                assert!(seq > last, "{message:?} after {last} of the same publisher");
                last + 1
            }
            None => seq.min(base + 1),
        };
        assert!(lossy || seq == due, "{message:?} where {due} was due, at client {}", self.subscriber);
        self.missed += seq - due;
        self.received += 1;
        if let Some(last) = self.last.replace(message) {
            oracle.next.entry(last).or_default().insert(message);
        }
    }

    /// The last of a publisher that was seen, or was there before.
    pub fn last_of(&self, publisher: usize) -> usize {
        let base = self.base.get(&publisher).copied().unwrap_or(0);
        self.seen.get(&publisher).copied().unwrap_or(base)
    }

    /// Takes note that nothing more is under way of the publishers that `is_done` tells of.
    pub fn finish(&mut self, oracle: &Oracle, is_done: impl Fn(usize) -> bool, lossy: bool) {
        for (publisher, count) in oracle.publishers(self.topic) {
            if !is_done(publisher) || publisher == self.subscriber && !self.own {
                continue;
            }
            let last = self.last_of(publisher);
            let who = self.subscriber;
            assert!(
                lossy || last >= count,
                "client {who} lacks {publisher}'s of topic {}: {last} of {count}",
                self.topic
            );
            self.missed += count.saturating_sub(last);
        }
    }
}
