//! What has come to a thread's subscribers, and what should not have.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::bench::crew::Gauges;
use crate::bench::inspect::Tracker;
use crate::bench::message::{Found, Payloads};
use crate::bench::report::Faults;
use crate::bench::swarm::Event;
use crate::bench::timeline::{Timeline, distribution};
use crate::ring::token::ConnId;

/// One who is sent messages.
#[derive(Debug)]
pub struct Subscriber {
    pub id: ConnId,
    /// Index of its topic within the thread.
    pub topic: usize,
    /// It never reads, and is not judged.
    pub stalled: bool,
    /// Its messages are timed.
    pub timed: bool,
    /// The number of the first message of its topic that it must get.
    pub since: u64,
    /// Messages that came, repeated ones too, since bytes are compared.
    pub messages: u64,
    pub tracker: Tracker,
}

impl Subscriber {
    /// One that was there before message `since` of its topic was published.
    pub fn new(id: ConnId, topic: usize, stalled: bool, since: u64) -> Subscriber {
        Subscriber { id, topic, stalled, timed: false, since, messages: 0, tracker: Tracker::from(since) }
    }

    /// Whether it has not got all messages that are numbered below `end`, or as many.
    pub fn lacks(&self, end: u64) -> bool {
        self.tracker.received() < end.saturating_sub(self.since)
    }
}

/// Judges every message that is read, and keeps times.
pub struct Judge {
    pub payloads: Payloads,
    pub subscribers: Vec<Subscriber>,
    /// The number of the thread's first topic.
    pub first_topic: u32,
    /// Messages that were published, of each topic.
    pub published: Vec<u64>,
    pub faults: Faults,
    /// The first thing that went wrong, in words.
    pub complaint: Option<String>,
    /// From due to delivered, of those that are timed.
    pub latency: Histogram<u64>,
    /// The same, over time.
    pub timeline: Timeline,
    /// The subscriber in a slot.
    by_slot: Vec<Option<u32>>,
    start: Instant,
    gauges: Arc<Gauges>,
}

impl Judge {
    /// Nobody is there yet. Times count from `start`.
    pub fn new(payloads: Payloads, first_topic: u32, slots: u32, start: Instant, gauges: Arc<Gauges>) -> Judge {
        Judge {
            payloads,
            subscribers: Vec::new(),
            first_topic,
            published: Vec::new(),
            faults: Faults::default(),
            complaint: None,
            latency: distribution(),
            timeline: Timeline::default(),
            by_slot: vec![None; slots as usize],
            start,
            gauges,
        }
    }

    /// A subscriber is in its slot from now on.
    pub fn seat(&mut self, i: usize) {
        let slot = self.subscribers[i].id.index as usize;
        self.by_slot[slot] = Some(i as u32);
    }

    /// Takes what happened in a turn.
    pub fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Message(id, message) => self.message(id, message),
            Event::Closed(id, why) => self.closed(id, why),
            Event::Open(_) | Event::CaughtUp(_) | Event::Refused(..) => {}
        }
    }

    /// Which subscriber a connection is: none, if it is a publisher's.
    pub fn who(&self, id: ConnId) -> Option<usize> {
        let i = self.by_slot.get(id.index as usize).copied().flatten()? as usize;
        (self.subscribers[i].id == id).then_some(i)
    }

    fn message(&mut self, id: ConnId, message: &[u8]) {
        // Publishers may be sent what they publish.
        let Some(i) = self.who(id) else { return };
        // What has no stamp of ours is a welcome, a heartbeat, or what others publish.
        let Judge { payloads, subscribers, faults, .. } = self;
        let (subscriber, mut timed) = (&mut subscribers[i], None);
        for found in payloads.each(message) {
            match found {
                Found::Ours(stamp)
                    if self.published.get(subscriber.topic).is_some_and(|&end| stamp.seq < end)
                        && stamp.topic == self.first_topic + subscriber.topic as u32 =>
                {
                    subscriber.messages += 1;
                    subscriber.tracker.take(stamp.seq, faults);
                    timed = Some(stamp.due).filter(|_| subscriber.timed).or(timed);
                }
                // Of another topic, or one that nobody has published yet: a stamp is no secret.
                _ => faults.corrupted += 1,
            }
        }
        timed.into_iter().for_each(|due| self.time(due));
    }

    fn time(&mut self, due: u64) {
        let now = self.start.elapsed().as_nanos() as u64;
        let due = due.min(now);
        let latency = now.saturating_sub(due).max(1);
        self.latency.saturating_record(latency);
        self.timeline.record(due, latency);
        self.gauges.latency.store(latency, Ordering::Relaxed);
    }

    fn closed(&mut self, id: ConnId, why: String) {
        let who = match self.who(id).map(|i| self.subscribers[i].stalled) {
            Some(true) => return,
            Some(false) => "a subscriber",
            None => "a publisher",
        };
        self.faults.closed += 1;
        self.complaint.get_or_insert_with(|| format!("{who}: {why}"));
    }
}
