//! A client that follows topics over its connections: from each, it goes on where the last one was.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use std::collections::BTreeSet;

use super::*;

/// How far a client has followed a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trail {
    epoch: String,
    /// The offset of the next message.
    next: u64,
}

/// The topics that a client follows, by their number.
#[derive(Default)]
pub struct Trails {
    pub(super) all: BTreeMap<usize, Trail>,
    /// For each topic, what it said that it has, in the order in which it asked.
    pub(super) asked: BTreeMap<usize, VecDeque<Option<Trail>>>,
    /// Those that it was told, on this connection, it is subscribed to.
    joined: BTreeSet<usize>,
    /// Those that were forgotten, as it has still to be told.
    pub(super) anew: BTreeSet<usize>,
    pub received: usize,
    /// Messages that were passed over.
    pub missed: usize,
}

impl Trails {
    /// Of a client that is gone, for the one that goes on: what was asked for is answered to nobody.
    pub fn of_the_gone(&mut self) -> Trails {
        Trails { all: std::mem::take(&mut self.all), ..Trails::default() }
    }

    pub fn are_begun(&self) -> bool {
        !self.all.is_empty() && self.asked.values().all(VecDeque::is_empty)
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn follows(&self, topic: usize) -> bool {
        self.all.contains_key(&topic)
    }
}

impl Client {
    /// Asks for topics: each from where it is in it.
    pub(super) fn follow(&mut self, topics: &[usize], scene: &mut Scene<'_>) {
        let mut since = serde_json::Map::new();
        for topic in topics {
            // Now and then, one that it is subscribed to is asked for anew, without a word on where it is.
            let anew = self.trails.joined.contains(topic) && scene.rng.percent(30);
            let trail = self.trails.all.get(topic).filter(|_| !anew).cloned();
            if let Some(Trail { epoch, next }) = &trail {
                let name = scene.oracle.names[*topic].clone();
                since.insert(name, json!({"epoch": epoch, "offset": next - 1}));
            }
            self.trails.asked.entry(*topic).or_default().push_back(trail);
        }
        let names: Vec<_> = topics.iter().map(|&topic| &scene.oracle.names[topic]).collect();
        note(|| format!("c{} follows {topics:?} since {since:?}", self.id));
        let text = json!({"type": "subscribe", "topics": names, "recover": true, "since": since});
        self.say_message(TEXT, text.to_string().as_bytes(), scene.rng);
    }

    /// The answer, topic by topic.
    pub(super) fn follows(&mut self, event: &Value, scene: &mut Scene<'_>) {
        for result in event["topics"].as_array().expect("a list") {
            let topic = topic_of(result, scene.oracle);
            let asked = self.trails.asked.get_mut(&topic).expect("asked for");
            if result["ok"] != true {
                // A refusal does not wait for those that were asked for before.
                assert!(asked.len() > 1 && asked.pop_back().is_some(), "client {}: {event}", self.id);
                continue;
            }
            let asked = asked.pop_front().expect("asked for");
            let (epoch, newest) = (epoch_of(result), offset_of(result, "offset"));
            let lossy = scene.plan.drops();
            let before = self.trails.all.get(&topic).filter(|_| !self.trails.joined.insert(topic));
            let next = match asked {
                None => {
                    let missed = before.is_some_and(|before| before.epoch == epoch && before.next <= newest);
                    assert!(lossy || !missed, "client {} is at {before:?}: {event}", self.id);
                    newest + 1
                }
                Some(had) if had.epoch == epoch => had.next,
                // The topic was forgotten meanwhile: all that it is now is new.
                Some(_) => {
                    scene.tally.forgotten += 1;
                    self.trails.anew.insert(topic);
                    1
                }
            };
            assert!(next <= newest + 1, "client {} is told to be ahead of its topic: {event}", self.id);
            scene.tally.resumed += usize::from(next <= newest);
            self.trails.all.insert(topic, Trail { epoch, next });
        }
    }

    /// Messages are lost that were asked for.
    pub(super) fn lacks(&mut self, event: &Value, scene: &mut Scene<'_>) {
        let topic = topic_of(event, scene.oracle);
        assert_eq!(self.trails.anew.remove(&topic), event["reset"] == true, "client {}: {event}", self.id);
        scene.tally.gaps += 1;
        if event["reset"] == true && event["from"].is_null() {
            return;
        }
        let (from, to) = (offset_of(event, "from"), offset_of(event, "to"));
        let trail = self.trails.all.get_mut(&topic).expect("a topic that is followed");
        // The id of another topic's event is that of a stream which has had what was dropped meanwhile.
        let ahead = scene.plan.drops() && self.persona == Persona::Reader && from > trail.next;
        assert!(trail.epoch == epoch_of(event) && (from == trail.next || ahead), "client {}: {event}", self.id);
        assert!(from <= to);
        trail.next = to + 1;
    }

    /// A message with its place.
    pub(super) fn followed(&mut self, event: &Value, scene: &mut Scene<'_>) {
        let topic = topic_of(event, scene.oracle);
        let (epoch, offset) = (epoch_of(event), offset_of(event, "offset"));
        let data = event["data"].as_str().expect("a string");
        let message = match event["encoding"].as_str() {
            Some(_) => scene.oracle.recognise(true, &STANDARD.decode(data).expect("base64")),
            None => scene.oracle.recognise_text(data),
        };
        assert_eq!(message.topic, topic);
        assert!(!self.trails.anew.contains(&topic), "client {} is not told that its topic is another", self.id);
        let trail = self.trails.all.get_mut(&topic).expect("a topic that is followed");
        let lossy = scene.plan.drops();
        assert_eq!(trail.epoch, epoch, "client {}: {event}", self.id);
        assert!(
            if lossy { offset >= trail.next } else { offset == trail.next },
            "client {} is at {trail:?}: {event}",
            self.id
        );
        self.trails.missed += (offset - trail.next) as usize;
        self.trails.received += 1;
        trail.next = offset + 1;
        scene.oracle.place(message, epoch, offset);
        scene.tally.delivered += 1;
    }

    /// Nothing is under way any more: it has all that anybody has. Where all were there from the start (`calm`), what is
    /// missing at the end is known too, though nobody may have seen it.
    pub(super) fn check_trails(&mut self, oracle: &Oracle, lossy: bool, calm: bool) {
        assert!(self.trails.asked.values().all(VecDeque::is_empty), "client {} lacks answers", self.id);
        assert!(self.trails.anew.is_empty(), "client {} lacks gaps", self.id);
        for (&topic, trail) in &self.trails.all {
            let published = oracle.publishers(topic).map(|(_, count)| count as u64).sum();
            let newest = if calm { published } else { oracle.newest(topic, &trail.epoch) };
            assert!(lossy || newest < trail.next, "client {} is at {trail:?} of {newest}", self.id);
            self.trails.missed += (newest + 1).saturating_sub(trail.next) as usize;
        }
    }
}

fn topic_of(event: &Value, oracle: &Oracle) -> usize {
    let topic = oracle.names.iter().position(|name| event["topic"] == **name);
    topic.unwrap_or_else(|| panic!("no topic of ours: {event}"))
}

fn epoch_of(event: &Value) -> String {
    event["epoch"].as_str().expect("an epoch").to_owned()
}

fn offset_of(event: &Value, name: &str) -> u64 {
    event[name].as_u64().expect("an offset")
}
