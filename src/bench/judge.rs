//! What has come to a thread's subscribers, and what is wrong with it.

use crate::ring::token::ConnId;

use super::message::{Found, Payloads, Stamp};
use super::report::Faults;
use super::swarm::Event;
use super::tracker::Tracker;

/// Knows who is to get which messages, judges each that comes, and counts what is wrong: what was lost, repeated,
/// reordered or corrupted, and who was closed.
#[derive(Debug)]
pub struct Judge {
    /// What is held against the server.
    pub faults: Faults,
    /// The first thing that went wrong, in words.
    pub complaint: Option<String>,
    /// What became of those that are excused.
    pub excused: Excused,
    payloads: Payloads,
    /// The number of this thread's first topic.
    first_topic: u32,
    /// Messages that were published, or are expected, of each topic.
    published: Vec<u64>,
    /// By the slot of its connection.
    subscribers: Vec<Option<Judged>>,
}

/// What became of those that never read.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Excused {
    /// Connections that the server has closed.
    pub closed: u64,
    /// Messages that they did not get.
    pub lost: u64,
}

/// A subscriber, as its judge knows it.
#[derive(Debug)]
struct Judged {
    id: ConnId,
    number: u32,
    topic: u32,
    excused: bool,
    closed: bool,
    tracker: Tracker,
}

/// There may be a million on one machine.
const _: () = assert!(size_of::<Option<Judged>>() <= 72);

/// A message that came to a subscriber it was meant for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The number of the subscriber.
    pub subscriber: usize,
    /// Which message.
    pub stamp: Stamp,
    /// When it was there, in nanoseconds since the run began.
    pub at: u64,
    /// It had come before, so that this is no delivery but a fault.
    pub repeated: bool,
}

impl Delivery {
    /// From due to delivered, in nanoseconds: at least one.
    pub fn latency(&self) -> u64 {
        // A stamp is no secret: it may say anything.
        self.at.saturating_sub(self.stamp.due).max(1)
    }
}

impl Judge {
    /// Of so many topics from a number on, and of nobody yet. `slots`: those of the thread's connections.
    pub fn new(payloads: Payloads, first_topic: u32, topics: u32, slots: u32) -> Judge {
        Judge {
            faults: Faults::default(),
            complaint: None,
            excused: Excused::default(),
            payloads,
            first_topic,
            published: vec![0; topics as usize],
            subscribers: (0..slots).map(|_| None).collect(),
        }
    }

    /// A connection is the subscriber of that number from now on, and must get what is published to the topic next.
    pub fn admit(&mut self, id: ConnId, number: usize, topic: u32) {
        let tracker = Tracker::from(self.published(topic));
        let judged = Judged { id, number: number as u32, topic, excused: false, closed: false, tracker };
        self.subscribers[id.index as usize] = Some(judged);
    }

    /// What a subscriber does not get, and that it is closed, is not held against the server: it never reads.
    pub fn excuse(&mut self, id: ConnId) {
        self.judged_mut(id).into_iter().for_each(|judged| judged.excused = true);
    }

    /// A connection is no subscriber any more, because we ended it.
    pub fn dismiss(&mut self, id: ConnId) {
        if self.judged(id).is_some() {
            self.subscribers[id.index as usize] = None;
        }
    }

    /// The number of the next message to a topic. It is published: whoever is there must get it.
    pub fn next(&mut self, topic: u32) -> u64 {
        let published = &mut self.published[(topic - self.first_topic) as usize];
        *published += 1;
        *published - 1
    }

    /// So many messages are published to a topic, by another thread: the subscribers must get them all.
    pub fn expect(&mut self, topic: u32, messages: u64) {
        self.published[(topic - self.first_topic) as usize] = messages;
    }

    /// Messages that were published to a topic.
    pub fn published(&self, topic: u32) -> u64 {
        self.published[(topic - self.first_topic) as usize]
    }

    /// The number of the subscriber that a connection is: none, if it is a publisher's.
    pub fn who(&self, id: ConnId) -> Option<usize> {
        self.judged(id).map(|judged| judged.number as usize)
    }

    /// Whether a subscriber has not got all messages that are numbered below `end`, or as many.
    pub fn lacks(&self, id: ConnId, end: u64) -> bool {
        self.judged(id).is_some_and(|judged| judged.tracker.lacks(end))
    }

    /// Whether a subscriber that is not closed has not got everything.
    pub fn anyone_lacks(&self) -> bool {
        let mut open = self.subscribers.iter().flatten().filter(|judged| !judged.closed);
        open.any(|judged| judged.tracker.lacks(self.published(judged.topic)))
    }

    /// Whether the server has closed a subscriber.
    pub fn is_closed(&self, id: ConnId) -> bool {
        self.judged(id).is_some_and(|judged| judged.closed)
    }

    /// Takes what happened in a turn, and tells of every message that came to whom it was meant for.
    pub fn on(&mut self, event: Event<'_>, delivered: impl FnMut(Delivery)) {
        match event {
            Event::Message(id, message, at) => self.message(id, message, at, delivered),
            Event::Closed(id, why) => self.closed(id, &why),
            Event::Open(_) | Event::CaughtUp(_) | Event::Refused(..) => {}
        }
    }

    fn message(&mut self, id: ConnId, message: &[u8], at: u64, mut delivered: impl FnMut(Delivery)) {
        let Judge { payloads, first_topic, published, subscribers, faults, .. } = self;
        let judged = subscribers.get_mut(id.index as usize).and_then(Option::as_mut).filter(|judged| judged.id == id);
        // Publishers may be sent what they publish.
        let Some(judged) = judged else { return };
        let end = published[(judged.topic - *first_topic) as usize];
        // What has no stamp of ours is a welcome, a heartbeat, or what others publish.
        for found in payloads.each(message) {
            match found {
                Found::Ours(stamp) if stamp.topic == judged.topic && stamp.seq < end => {
                    let before = judged.tracker.received();
                    judged.tracker.take(stamp.seq, faults);
                    let repeated = judged.tracker.received() == before;
                    delivered(Delivery { subscriber: judged.number as usize, stamp, at, repeated });
                }
                // Of another topic, or one that nobody has published yet: a stamp is no secret.
                _ => faults.corrupted += 1,
            }
        }
    }

    fn closed(&mut self, id: ConnId, why: &str) {
        let judged = self.judged_mut(id);
        let excused = judged.as_ref().is_some_and(|judged| judged.excused);
        let who = if judged.is_some() { "a subscriber" } else { "a publisher" };
        judged.into_iter().for_each(|judged| judged.closed = true);
        if excused {
            self.excused.closed += 1;
            return;
        }
        self.faults.closed += 1;
        self.complaint.get_or_insert_with(|| format!("{who}: {why}"));
    }

    /// Counts what a subscriber never got. To be called once for each, at the end. Whoever was closed lacks the connection,
    /// and that has been counted.
    pub fn finish(&mut self, id: ConnId) {
        if let Some(judged) =
            self.subscribers.get_mut(id.index as usize).and_then(|judged| judged.take_if(|j| j.id == id))
        {
            self.settle(&judged);
        }
    }

    /// Does so for all.
    pub fn finish_all(&mut self) {
        let all = std::mem::take(&mut self.subscribers);
        all.iter().flatten().for_each(|judged| self.settle(judged));
    }

    fn settle(&mut self, judged: &Judged) {
        let mut missing = Faults::default();
        judged.tracker.finish(self.published(judged.topic), &mut missing);
        match (judged.excused, judged.closed) {
            (true, _) => self.excused.lost += missing.lost,
            (false, true) => {}
            (false, false) => self.faults.add(&missing),
        }
    }

    fn judged(&self, id: ConnId) -> Option<&Judged> {
        self.subscribers.get(id.index as usize)?.as_ref().filter(|judged| judged.id == id)
    }

    fn judged_mut(&mut self, id: ConnId) -> Option<&mut Judged> {
        self.subscribers.get_mut(id.index as usize)?.as_mut().filter(|judged| judged.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::options::Fill;

    const TOPIC: u32 = 5;

    fn id(index: u32) -> ConnId {
        ConnId { index, generation: 1 }
    }

    fn payloads() -> Payloads {
        Payloads::new(40, Fill::Ticks, 1).expect("a size in order")
    }

    /// Of two topics, 4 and 5, and of three subscribers in slots 0, 1 and 2, of which the last is excused.
    fn judge() -> Judge {
        let mut judge = Judge::new(payloads(), TOPIC - 1, 2, 4);
        (0..3).for_each(|i| judge.admit(id(i), 10 + i as usize, TOPIC));
        judge.excuse(id(2));
        judge
    }

    /// So many messages are published, and these come in one message of the server's.
    fn come(judge: &mut Judge, to: ConnId, stamps: &[(u32, u64)]) -> Vec<(usize, u64, bool)> {
        let mut message = Vec::new();
        stamps.iter().for_each(|&(topic, seq)| payloads().write(Stamp { topic, seq, due: 100 }, &mut message));
        let mut deliveries = Vec::new();
        judge.on(Event::Message(to, &message, 130), |delivery| {
            assert_eq!(delivery.latency(), 30);
            deliveries.push((delivery.subscriber, delivery.stamp.seq, delivery.repeated));
        });
        deliveries
    }

    #[test]
    fn each_message_is_judged_by_whom_it_came_to() {
        let mut judge = judge();
        assert_eq!([judge.next(TOPIC), judge.next(TOPIC), judge.published(TOPIC)], [0, 1, 2]);
        assert_eq!(come(&mut judge, id(0), &[(TOPIC, 0), (TOPIC, 1)]), [(10, 0, false), (10, 1, false)]);
        assert!(judge.faults.none() && !judge.lacks(id(0), 2) && judge.lacks(id(1), 2));
        assert_eq!(come(&mut judge, id(1), &[(TOPIC, 1), (TOPIC, 1)]), [(11, 1, false), (11, 1, true)]);
        assert_eq!(come(&mut judge, id(1), &[(TOPIC - 1, 0), (TOPIC, 2)]), [], "another topic's, and none");
        assert_eq!(come(&mut judge, id(3), &[(TOPIC, 0)]), [], "a publisher's");
        judge.finish_all();
        assert_eq!(judge.faults, Faults { lost: 1, duplicated: 1, corrupted: 2, ..Faults::default() });
        assert_eq!(judge.excused, Excused { closed: 0, lost: 2 });
    }

    #[test]
    fn whoever_is_closed_is_closed_and_nothing_else() {
        let mut judge = judge();
        judge.next(TOPIC);
        assert!(judge.anyone_lacks());
        come(&mut judge, id(1), &[(TOPIC, 0)]);
        for i in [0, 2, 3] {
            judge.on(Event::Closed(id(i), "closed with code 1011".into()), |_| panic!("no delivery"));
        }
        assert!(judge.is_closed(id(0)) && !judge.is_closed(id(1)) && !judge.anyone_lacks());
        judge.finish_all();
        assert_eq!(judge.faults, Faults { closed: 2, ..Faults::default() });
        assert_eq!(judge.excused, Excused { closed: 1, lost: 1 });
        assert_eq!(judge.complaint.as_deref(), Some("a subscriber: closed with code 1011"));
    }

    #[test]
    fn whoever_comes_later_is_owed_what_is_published_then() {
        let mut judge = judge();
        judge.next(TOPIC);
        judge.dismiss(id(0));
        let again = ConnId { index: 0, generation: 2 };
        judge.admit(again, 10, TOPIC);
        judge.dismiss(id(0));
        assert_eq!((judge.who(id(0)), judge.who(again)), (None, Some(10)), "the slot has another tenant");
        assert!(!judge.lacks(again, 1) && judge.lacks(again, 2));
        judge.expect(TOPIC, 3);
        judge.finish(again);
        judge.finish(again);
        assert_eq!(judge.faults, Faults { lost: 2, ..Faults::default() });
    }
}
