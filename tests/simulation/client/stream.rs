//! A client that reads a stream of Server-Sent Events, over its connections: each goes on from the last id of the one before.

use super::follow::Trail;
use super::*;
use crate::simulation::script::after_pages;

/// Topics of one stream at most: as many as any plan lets a client have.
const TOPICS: usize = 3;

/// Where a reader is: an id, and what came before it and with it.
#[derive(Clone, Default)]
pub struct Place {
    id: String,
    trails: BTreeMap<usize, Trail>,
}

/// The stream of a reader.
#[derive(Default)]
pub struct Stream {
    /// The topics that it has asked for.
    topics: Vec<usize>,
    /// Those that it was told of.
    told: usize,
    /// What every stream begins with has come.
    begun: bool,
    /// Of the last event that had an id, on this connection or one before.
    place: Place,
}

impl Stream {
    pub fn has_place(&self) -> bool {
        !self.place.trails.is_empty()
    }

    /// Of a reader that is gone, for the one that goes on.
    pub fn take_place(&mut self) -> Place {
        std::mem::take(&mut self.place)
    }
}

/// One event.
struct Block<'a> {
    id: Option<&'a str>,
    name: &'a str,
    data: Value,
}

impl Block<'_> {
    /// Reads the lines of a block; `None` if there is no event in it.
    fn parse(text: &str) -> Option<Block<'_>> {
        let (mut id, mut name, mut data) = (None, None, Vec::new());
        for line in text.trim_end_matches('\n').split('\n').filter(|line| !line.starts_with(':')) {
            match line.split_once(": ") {
                Some(("id", value)) => assert_eq!(id.replace(value), None, "two ids: {text:?}"),
                Some(("event", value)) => assert_eq!(name.replace(value), None, "two names: {text:?}"),
                Some(("data", value)) => data.push(value),
                _ => panic!("a line that is none of an event: {text:?}"),
            }
        }
        let name = name.or_else(|| {
            assert!(id.is_none() && data.is_empty(), "an event without a name: {text:?}");
            None
        })?;
        Some(Block { id, name, data: serde_json::from_str(&data.join("\n")).expect("JSON") })
    }
}

impl Client {
    /// Asks for a stream: from a place, if it is one, of the same topics or others.
    pub fn ask_for_stream(&mut self, place: Place, plan: &Plan, oracle: &Oracle, rng: &mut Rng) {
        let same = !place.trails.is_empty() && rng.percent(75);
        let mut topics: Vec<usize> = match same {
            true => place.trails.keys().copied().collect(),
            false => (0..rng.between(1, TOPICS)).map(|_| rng.below(plan.topics)).collect(),
        };
        topics.sort_unstable();
        topics.dedup();
        for &topic in &topics {
            let trail = place.trails.get(&topic).cloned();
            self.trails.all.extend(trail.clone().map(|trail| (topic, trail)));
            self.trails.asked.entry(topic).or_default().push_back(trail);
        }
        note(|| format!("c{} reads {topics:?} from {:?}", self.id, place.id));
        let request = request(&topics, &place.id, oracle, rng);
        let opening = after_pages(rng, request, 200);
        (self.outgoing, self.expected) = (opening.bytes.into_bytes().into(), opening.expected.into());
        self.stream = Stream { topics, place, ..Stream::default() };
    }

    /// What comes on a stream.
    pub(super) fn read_block(&mut self, block: &str, scene: &mut Scene<'_>) {
        note(|| format!("c{} reads {block:?}", self.id));
        if !std::mem::replace(&mut self.stream.begun, true) {
            assert_eq!(block, ": uproar\nretry: 2000\n\n");
            scene.tally.continued += usize::from(self.stream.has_place());
            return;
        }
        assert!(self.away.hint.is_none(), "client {} was told to come back: {block:?}", self.id);
        if let Some(millis) = block.strip_prefix("retry: ") {
            return self.retries(millis, scene);
        }
        let Some(Block { id, name, data }) = Block::parse(block) else {
            assert_eq!(block, ":\n\n", "a comment");
            scene.tally.comments += 1;
            return;
        };
        assert_eq!(data["type"], name);
        let has_id = match name {
            "subscribed" => {
                self.stream.told += data["topics"].as_array().map_or(0, Vec::len);
                self.follows(&data, scene);
                self.stream.told == self.stream.topics.len()
            }
            "message" => {
                self.followed(&data, scene);
                true
            }
            "gap" if data["topic"].is_null() => {
                self.told += data["dropped"].as_u64().expect("a count") as usize;
                false
            }
            "gap" => {
                self.lacks(&data, scene);
                true
            }
            _ => panic!("no event of a stream: {block:?}"),
        };
        // Of what several topics are told, one that is not the last may have an id too.
        assert!(id.is_some() == has_id || id.is_some() && name == "subscribed", "client {}: {block:?}", self.id);
        if let Some(id) = id {
            // In another epoch it is when it was told that it is another.
            let before = std::mem::take(&mut self.stream.place.trails);
            let mut trails = self.trails.all.clone();
            trails.extend(before.into_iter().filter(|(topic, _)| self.trails.anew.contains(topic)));
            self.stream.place = Place { id: id.to_owned(), trails };
        }
    }

    /// Whether its stream may end, though nobody wants it to: it is too slow, or has lived long enough.
    pub(super) fn stream_may_be_ended(&self, scene: &Scene<'_>) -> bool {
        let sent_away = self.away.hint.is_some() || self.may_be_dismissed(scene);
        let lives_on = scene.plan.settings.max_lifetime.is_none() && !scene.stopping && !sent_away;
        scene.net[self.socket].tight || !lives_on
    }
}

/// The request for a stream. An id is in a header, as browsers have it, or in the query; if there are both, the header counts.
fn request(topics: &[usize], id: &str, oracle: &Oracle, rng: &mut Rng) -> String {
    let names: Vec<_> = topics.iter().map(|&topic| format!("topic={}", oracle.names[topic])).collect();
    let query = names.join("&");
    let in_query = |id: &str| format!("&lastEventId={}", id.replace(',', "%2C"));
    let made_up = rng.pick(&["", "", "7", "0123456789ab-00000000-1,,-"]);
    let id = if id.is_empty() { made_up } else { id };
    let header = format!("Last-Event-ID: {id}\r\n");
    let (more, field) = match rng.below(3) {
        0 => (in_query(id), String::new()),
        1 => (String::new(), header),
        _ if id.is_empty() => (String::new(), String::new()),
        _ => (in_query("0123456789ab-00000000-1"), header),
    };
    format!("GET /sse?{query}{more} HTTP/1.1\r\nHost: a\r\n{field}\r\n")
}
