//! Surveys: which connections are slow or busy, and which topics are, for those who watch.
//!
//! A survey walks over all connections and topics, a slice a turn, and answers everybody who has asked meanwhile. What it has
//! found is good for a moment, so that any number of watchers cost as much as one. Messages are counted from one survey to the
//! next; when nobody has asked for a while, the counts are given back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use hashbrown::HashMap;

use crate::conn::Session;
use crate::conn::traffic::{Count, Traffic};
use crate::limits::is_topic_name;
use crate::ring::token::ConnId;
use crate::time::Tick;

use super::Core;
use super::mail::{Answer, Ask, ConnFacts, Origin, Question, TopicFacts, TopicOrder};

/// Slots of connections that one turn looks at.
const CONNS_PER_TURN: u32 = 4096;
/// Topics that one turn looks at.
const TOPICS_PER_TURN: u32 = 512;
/// How many are found in each order.
pub const MOST: usize = 100;
/// How long what was found is good.
const FRESH: Duration = Duration::from_millis(500);
/// How long messages are counted after the last question.
const PATIENCE: Duration = Duration::from_secs(30);

/// The greatest of what it is offered, [`MOST`] of them.
struct Most<T>(BinaryHeap<Reverse<T>>);

impl<T: Ord> Most<T> {
    fn new() -> Most<T> {
        Most(BinaryHeap::new())
    }

    fn offer(&mut self, one: T) {
        if self.0.len() < MOST {
            self.0.push(Reverse(one));
        } else if let Some(mut least) = self.0.peek_mut().filter(|least| one > least.0) {
            *least = Reverse(one);
        }
    }

    /// The greatest first.
    fn into_sorted(self) -> Vec<T> {
        self.0.into_sorted_vec().into_iter().map(|Reverse(one)| one).collect()
    }
}

/// A connection that was looked at, by what decides on its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    key: u64,
    index: u32,
    generation: u32,
    received: u32,
    delivered: u32,
}

/// What a topic was like when it was looked at last.
#[derive(Clone, Copy, Default)]
struct Mark {
    epoch: u32,
    /// The low half of its newest message's.
    offset: u32,
    /// Messages that were published to it between the two last looks.
    count: u32,
}

/// A walk that goes on.
struct Walk {
    conn: u32,
    topic: u32,
    conns: [Most<Seen>; 3],
    topics: [Most<(u64, u32)>; 2],
}

/// What the last walk has found.
struct Found {
    conns: [Vec<Seen>; 3],
    topics: [Vec<u32>; 2],
}

/// The surveys of a shard.
#[derive(Default)]
struct Survey {
    /// By topic.
    marks: Vec<Mark>,
    walk: Option<Walk>,
    /// With when it was found.
    found: Option<(Tick, Found)>,
    /// Those who are answered at the end of the walk.
    waiting: Vec<Ask>,
    /// When the last walk began.
    begun: Tick,
    /// Over which time messages were counted when it began, if they were.
    span: Option<Duration>,
    /// When somebody asked last.
    asked: Tick,
}

/// What a shard notes for those who watch.
pub(super) struct Watch {
    /// When each connection came, by slot.
    pub arrivals: Vec<Tick>,
    /// Since when something has waited without a break, of connections whose socket took no more; by slot.
    pub lagging: HashMap<u32, Tick>,
    /// How busy each connection is, while somebody watches.
    pub traffic: Traffic,
    survey: Survey,
}

impl Watch {
    /// For connections in the slots below `slots`.
    pub fn new(slots: u32) -> Watch {
        Watch {
            arrivals: Vec::with_capacity(slots as usize),
            lagging: HashMap::new(),
            traffic: Traffic::default(),
            survey: Survey::default(),
        }
    }
}

impl Survey {
    /// A count as a rate.
    fn rate(&self, count: u32) -> Option<f64> {
        self.span.map(|span| f64::from(count) / span.as_secs_f64())
    }
}

impl Core {
    /// Answers by what was found a moment ago, or when a walk is over.
    pub(super) fn ask_survey(&mut self, ask: Ask) {
        self.watch.survey.asked = self.now;
        let is_fresh = self.watch.survey.found.as_ref().is_some_and(|(at, _)| self.now.since(*at) < FRESH);
        if is_fresh && self.watch.survey.walk.is_none() {
            return self.answer_by_survey(&ask);
        }
        self.watch.survey.waiting.push(ask);
        if self.watch.survey.walk.is_none() {
            self.begin_survey();
        }
    }

    fn begin_survey(&mut self) {
        let was_counting = self.watch.traffic.is_counting();
        if !was_counting {
            self.watch.traffic.begin(self.conns.capacity());
        }
        let survey = &mut self.watch.survey;
        survey.span = was_counting.then(|| self.now.since(survey.begun)).filter(|span| !span.is_zero());
        survey.begun = self.now;
        let (conns, topics) = ([(); 3].map(|()| Most::new()), [(); 2].map(|()| Most::new()));
        survey.walk = Some(Walk { conn: 0, topic: 0, conns, topics });
    }

    /// Whether a survey goes on in the next turn.
    pub(super) fn has_survey(&self) -> bool {
        self.watch.survey.walk.is_some()
    }

    /// Goes on with a survey; or gives back what was counted for those who have gone.
    pub(super) fn keep_surveying(&mut self) {
        if let Some(mut walk) = self.watch.survey.walk.take() {
            self.look_at_conns(&mut walk);
            self.look_at_topics(&mut walk);
            if walk.conn < self.conns.slots() || walk.topic < self.hub.slots() {
                self.watch.survey.walk = Some(walk);
                return;
            }
            let topics = walk.topics.map(|most| most.into_sorted().into_iter().map(|(_, topic)| topic).collect());
            self.watch.survey.found = Some((self.now, Found { conns: walk.conns.map(Most::into_sorted), topics }));
            for ask in std::mem::take(&mut self.watch.survey.waiting) {
                self.answer_by_survey(&ask);
            }
        } else if self.watch.traffic.is_counting() && self.now.since(self.watch.survey.asked) > PATIENCE {
            self.watch.traffic.end();
            self.watch.survey = Survey::default();
        }
    }

    fn look_at_conns(&mut self, walk: &mut Walk) {
        let until = walk.conn.saturating_add(CONNS_PER_TURN).min(self.conns.slots());
        for index in std::mem::replace(&mut walk.conn, until)..until {
            let Some((ConnId { generation, .. }, conn)) = self.conns.by_index(index) else { continue };
            let (backlog, lags) = (conn.outbox.len_bytes(), conn.flags.lagging());
            let Count { received, delivered } = self.watch.traffic.take(index);
            let behind = if lags { self.behind(index).as_millis() as u64 } else { 0 };
            let keys = [u64::from(backlog), behind, u64::from(received) + u64::from(delivered)];
            for (most, key) in walk.conns.iter_mut().zip(keys) {
                most.offer(Seen { key, index, generation, received, delivered });
            }
        }
    }

    fn look_at_topics(&mut self, walk: &mut Walk) {
        let until = walk.topic.saturating_add(TOPICS_PER_TURN).min(self.hub.slots());
        self.watch.survey.marks.resize(self.hub.slots() as usize, Mark::default());
        for topic in std::mem::replace(&mut walk.topic, until)..until {
            let Some(name) = self.hub.name_in(topic).filter(|name| is_topic_name(name)) else { continue };
            let Some(mark) = self.watch.survey.marks.get_mut(topic as usize) else { continue };
            let subscribers = self.hub.subscribers(topic) as u64;
            if self.shared.home(name) == self.id {
                let position = self.hub.position(topic);
                let (epoch, offset) = (position.epoch, position.offset as u32);
                let count = if mark.epoch == epoch { offset.wrapping_sub(mark.offset) } else { 0 };
                *mark = Mark { epoch, offset, count };
                walk.topics[TopicOrder::Rate as usize].offer((count.into(), topic));
            }
            if subscribers > 0 {
                walk.topics[TopicOrder::Subscribers as usize].offer((subscribers, topic));
            }
        }
    }

    fn answer_by_survey(&mut self, ask: &Ask) {
        let Some((_, found)) = &self.watch.survey.found else { return };
        let answer = match ask.question {
            Question::Connections { order, limit } => {
                let seen = found.conns[order as usize].iter().take(limit);
                Answer::Connections(seen.filter_map(|seen| self.conn_facts(seen)).collect())
            }
            Question::BusyTopics { order, limit } => {
                let topics = found.topics[order as usize].iter().take(limit);
                Answer::BusyTopics(topics.filter_map(|&topic| self.hub.name_in(topic)).map(Into::into).collect())
            }
            _ => return,
        };
        self.inform(&ask.to, answer);
    }

    /// What is known of a connection, unless it is gone.
    fn conn_facts(&self, seen: &Seen) -> Option<ConnFacts> {
        let id = ConnId { index: seen.index, generation: seen.generation };
        let conn = self.conns.get(id)?;
        let named = match &conn.session {
            Session::Json { more: Some(more), .. } => more.user.as_deref(),
            _ => None,
        };
        let since = self.watch.arrivals.get(id.index as usize).map_or(Duration::ZERO, |&at| self.now.since(at));
        let is_subscriber = conn.flags.subscriber();
        Some(ConnFacts {
            number: Origin { shard: self.id, conn: id }.number(),
            peer: self.peers.get(id.index),
            kind: conn.session.kind(),
            client: self.client_of(id),
            user: named.or_else(|| self.granted_user(id)).map(Into::into),
            topics: if is_subscriber { self.hub.topics_of(id.index).len() } else { 0 },
            backlog: conn.outbox.len_bytes(),
            behind: self.behind(id.index),
            since_ms: self.unix_ms.saturating_sub(since.as_millis() as u64),
            rates: self.watch.survey.rate(seen.received).zip(self.watch.survey.rate(seen.delivered)),
        })
    }

    /// How long something has waited for a connection without a break.
    fn behind(&self, index: u32) -> Duration {
        self.watch.lagging.get(&index).map_or(Duration::ZERO, |&since| self.now.since(since))
    }

    /// What is known here of topics, in their order.
    pub(super) fn topic_facts(&self, names: &[Box<str>]) -> Vec<TopicFacts> {
        let facts = |name: &str| {
            let Some(topic) = self.hub.find(name) else { return TopicFacts::default() };
            let is_home = self.shared.home(name) == self.id;
            let epoch = self.hub.position(topic).epoch;
            let mark = self.watch.survey.marks.get(topic as usize).filter(|mark| is_home && mark.epoch == epoch);
            let rate = mark.and_then(|mark| self.watch.survey.rate(mark.count));
            TopicFacts { subscribers: self.hub.subscribers(topic), rate }
        };
        names.iter().map(|name| facts(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn most_are_the_greatest(numbers in prop::collection::vec(0..1000u32, 0..400)) {
            let mut most = Most::new();
            numbers.iter().for_each(|&number| most.offer(number));
            let mut sorted = numbers;
            sorted.sort_unstable_by_key(|&number| Reverse(number));
            sorted.truncate(MOST);
            prop_assert_eq!(most.into_sorted(), sorted);
        }
    }
}
