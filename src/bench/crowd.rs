//! A thread's topics: their publishers, their subscribers, and what those have got.
//!
//! Subscribers that are read are judged by every message. The others are counted: of each, as many bytes must come as a
//! subscriber of the same topic that is read has got. So the load costs little, and any envelope is understood as long as all
//! subscribers of a topic are sent the same.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::hub::frame::MessageKind;
use crate::ring::token::ConnId;

use super::Result;
use super::crew::{Gauges, Member};
use super::frame;
use super::inspect::Tracker;
use super::message::{Found, Payloads, Stamp};
use super::options::Common;
use super::report::{self, Faults};
use super::swarm::{Attention, Event, Spec, Swarm};
use super::target::{Role, Target};

/// How long to leave a server alone that has not delivered everything yet, before looking again.
const BREATH: Duration = Duration::from_micros(50);
/// How long to listen for what should not come.
const AFTERMATH: Duration = Duration::from_millis(50);
/// Descriptors that a thread's ring has besides its subscribers and publishers.
const SPARE: u32 = 16;

/// What a thread's crowd is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its topics' numbers: `first_topic..first_topic + topics`.
    pub first_topic: u32,
    pub topics: u32,
    /// Its connections' numbers begin here.
    pub first_n: u32,
    pub subscribers: u32,
    /// How many of a hundred never read.
    pub stalled: f64,
    /// Subscribers of a topic that are read in full.
    pub samples: u32,
}

/// One topic, and who publishes to it.
#[derive(Debug)]
struct Topic {
    publisher: ConnId,
    published: u64,
    /// Indices into the subscribers.
    read: Vec<usize>,
    counted: Vec<usize>,
}

#[derive(Debug)]
struct Subscriber {
    id: ConnId,
    topic: usize,
    stalled: bool,
    tracker: Tracker,
}

/// What has come, and what should not have.
pub struct Judge {
    payloads: Payloads,
    subscribers: Vec<Subscriber>,
    first_topic: u32,
    /// The subscriber in a slot.
    by_slot: Vec<Option<u32>>,
    start: Instant,
    pub faults: Faults,
    /// The first thing that went wrong, in words.
    pub complaint: Option<String>,
    /// From due to delivered, of watched subscribers.
    pub latency: Histogram<u64>,
    /// Whose messages are timed: those from this slot on the list; `None`: nobody's.
    timed: Vec<bool>,
    gauges: Arc<Gauges>,
}

/// One thread's topics.
pub struct Crowd {
    pub swarm: Swarm,
    pub judge: Judge,
    target: Arc<Target>,
    topics: Vec<Topic>,
    timeout: Duration,
    kind: MessageKind,
    scratch: (Vec<u8>, Vec<u8>, Vec<u8>),
}

impl Crowd {
    /// Connects all of a plan's subscribers, then its publishers.
    ///
    /// # Errors
    /// A connection is refused: what is left would not be what was asked for.
    pub fn connect(
        target: &Arc<Target>,
        common: &Common,
        payloads: Payloads,
        plan: &Plan,
        start: Instant,
        member: &Member,
    ) -> Result<Crowd> {
        let slots = plan.subscribers + plan.topics + SPARE;
        let mut swarm = Swarm::new(target.clone(), slots, common.timeout, start)?;
        let subscriber = |i: u32| Spec {
            role: Role::Subscriber,
            topic: plan.first_topic + i % plan.topics,
            n: plan.first_n + i,
            attention: if is_stalled(i, plan.stalled) { Attention::Ignore } else { Attention::Read },
        };
        let ids = connect(&mut swarm, (0..plan.subscribers).map(subscriber), common.concurrency, &member.gauges)?;
        let publishers = if target.one_publisher() { plan.topics.min(1) } else { plan.topics };
        let publisher = |i: u32| Spec {
            role: Role::Publisher,
            topic: plan.first_topic + i,
            n: plan.first_n + plan.subscribers + i,
            attention: Attention::Watch,
        };
        let publishers = connect(&mut swarm, (0..publishers).map(publisher), common.concurrency, &member.gauges)?;

        let mut by_slot = vec![None; slots as usize];
        ids.iter().zip(0..).for_each(|(id, i)| by_slot[id.index as usize] = Some(i));
        let topic_of = |i: u32| (i % plan.topics) as usize;
        let subscribers = ids.iter().zip(0..).map(|(&id, i)| Subscriber {
            id,
            topic: topic_of(i),
            stalled: is_stalled(i, plan.stalled),
            tracker: Tracker::default(),
        });
        let subscribers: Vec<_> = subscribers.collect();
        let topics = (0..plan.topics as usize).map(|topic| {
            let healthy = subscribers.iter().enumerate().filter(|(_, s)| s.topic == topic && !s.stalled);
            let read = healthy.map(|(i, _)| i).collect();
            Topic { publisher: publishers[topic % publishers.len()], published: 0, read, counted: Vec::new() }
        });
        let topics = topics.collect();
        let judge = Judge {
            payloads,
            timed: vec![false; subscribers.len()],
            subscribers,
            first_topic: plan.first_topic,
            by_slot,
            start,
            faults: Faults::default(),
            complaint: None,
            latency: report::histogram(),
            gauges: member.gauges.clone(),
        };
        let kind = if target.publishes_text() { MessageKind::Text } else { MessageKind::Binary };
        let target = target.clone();
        Ok(Crowd { swarm, judge, target, topics, timeout: common.timeout, kind, scratch: Default::default() })
    }

    /// Healthy subscribers of all topics.
    pub fn healthy(&self) -> usize {
        self.topics.iter().map(|topic| topic.read.len() + topic.counted.len()).sum()
    }

    /// Publishes so many messages to one topic, in one write.
    pub fn publish(&mut self, topic: usize, burst: u32, due: u64) {
        let (payload, message, frames) = &mut self.scratch;
        frames.clear();
        let number = self.judge.first_topic + topic as u32;
        let topic = &mut self.topics[topic];
        for _ in 0..burst {
            payload.clear();
            message.clear();
            self.judge.payloads.write(Stamp { topic: number, seq: topic.published, due }, payload);
            self.target.publication(number, payload, message);
            frame::client_frame(self.kind, message, frames);
            topic.published += 1;
        }
        self.swarm.send(topic.publisher, frames);
    }

    /// Publishes so many messages to every topic.
    pub fn publish_to_all(&mut self, burst: u32) {
        let now = self.swarm.now();
        (0..self.topics.len()).for_each(|topic| self.publish(topic, burst, now));
    }

    /// Messages that were published to every topic, at least.
    pub fn published(&self) -> u64 {
        self.topics.iter().map(|topic| topic.published).min().unwrap_or(0)
    }

    /// Reads in full only so many subscribers of each topic from now on, the last ones, and counts the others. To be
    /// called when all have everything.
    pub fn count_all_but(&mut self, samples: u32) {
        for topic in &mut self.topics {
            let counted = topic.read.len().saturating_sub(samples.max(1) as usize);
            topic.counted = topic.read.drain(..counted).collect();
            for &i in &topic.counted {
                self.swarm.attend(self.judge.subscribers[i].id, Attention::Count);
            }
        }
    }

    /// Wakes this thread for some of those that are read, and times their messages: the last of each topic, or all.
    pub fn watch(&mut self, which: Which) {
        let watched: Vec<usize> = match which {
            Which::LastOfAll => {
                self.topics.iter().filter_map(|topic| topic.read.last().copied()).next_back().into_iter().collect()
            }
            Which::EveryRead => self.topics.iter().flat_map(|topic| topic.read.iter().copied()).collect(),
        };
        for i in watched {
            self.judge.timed[i] = true;
            self.swarm.attend(self.judge.subscribers[i].id, Attention::Watch);
        }
    }

    /// One turn: waits at most so long.
    pub fn turn(&mut self, wait: Duration) -> Result<()> {
        let Crowd { swarm, judge, .. } = self;
        swarm.turn(wait, &mut |event| judge.on(event))
    }

    /// Waits until the one that is watched has so many messages.
    pub fn await_watched(&mut self, count: u64) -> Result<bool> {
        let Some(sentinel) = self.topics.iter().filter_map(|topic| topic.read.last().copied()).next_back() else {
            return Ok(true);
        };
        let deadline = Instant::now() + self.timeout;
        while self.judge.subscribers[sentinel].tracker.received() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.judge.complaint.is_some() {
                return Ok(false);
            }
            self.turn(left)?;
        }
        Ok(true)
    }

    /// Waits until all that are read have so many messages of their topic, and all that are counted as many bytes as
    /// those. `false`: they have not in time.
    pub fn await_all(&mut self, count: u64) -> Result<bool> {
        let read = self.topics.iter().flat_map(|topic| topic.read.iter().copied()).collect();
        if !self.catch_up(
            read,
            |crowd, i| crowd.lacks_messages(i, count),
            |crowd, i| {
                crowd.swarm.read(crowd.judge.subscribers[i].id);
            },
        )? {
            return Ok(false);
        }
        let owed = self.topics.iter().map(|topic| self.owed(topic)).collect::<Vec<_>>();
        let counted = self.topics.iter().flat_map(|topic| topic.counted.iter().copied()).collect();
        let due = |crowd: &Crowd, i: usize| {
            let subscriber = &crowd.judge.subscribers[i];
            owed[subscriber.topic].saturating_sub(crowd.swarm.received(subscriber.id))
        };
        self.catch_up(
            counted,
            |crowd, i| due(crowd, i) > 0,
            |crowd, i| {
                let bytes = due(crowd, i);
                crowd.swarm.discard(crowd.judge.subscribers[i].id, bytes);
            },
        )
    }

    fn lacks_messages(&self, subscriber: usize, count: u64) -> bool {
        self.judge.subscribers[subscriber].tracker.received() < count
    }

    /// Bytes that every subscriber of a topic must have by now: those that the ones that are read all have.
    fn owed(&self, topic: &Topic) -> u64 {
        let received = topic.read.iter().map(|&i| self.swarm.received(self.judge.subscribers[i].id));
        received.min().unwrap_or(0)
    }

    /// Asks for the bytes of those that lack some, again and again until none does.
    fn catch_up(
        &mut self,
        mut behind: Vec<usize>,
        lacks: impl Fn(&Crowd, usize) -> bool,
        ask: impl Fn(&mut Crowd, usize),
    ) -> Result<bool> {
        let deadline = Instant::now() + self.timeout;
        behind.retain(|&i| lacks(self, i));
        while !behind.is_empty() {
            behind.iter().for_each(|&i| ask(self, i));
            self.turn(Duration::ZERO)?;
            let before = behind.len();
            behind.retain(|&i| lacks(self, i));
            if self.judge.complaint.is_some() || Instant::now() > deadline {
                return Ok(false);
            }
            if behind.len() == before {
                self.turn(BREATH)?;
            }
        }
        Ok(true)
    }

    /// Listens for a while to what should not come, then counts what never came.
    pub fn finish(&mut self) -> Result<()> {
        let owed = self.topics.iter().map(|topic| self.owed(topic)).collect::<Vec<_>>();
        let deadline = Instant::now() + AFTERMATH;
        while Instant::now() < deadline {
            self.turn(AFTERMATH)?;
        }
        for topic in 0..self.topics.len() {
            self.settle(topic, owed[topic])?;
        }
        Ok(())
    }

    fn settle(&mut self, topic: usize, owed: u64) -> Result<()> {
        let Topic { published, read, counted, .. } = &self.topics[topic];
        for &i in read {
            self.swarm.read(self.judge.subscribers[i].id);
        }
        for &i in counted {
            self.swarm.discard(self.judge.subscribers[i].id, u64::MAX);
        }
        let Crowd { swarm, judge, .. } = self;
        swarm.turn(Duration::ZERO, &mut |event| judge.on(event))?;
        let Judge { subscribers, faults, .. } = judge;
        for &i in read {
            subscribers[i].tracker.finish(*published, faults);
        }
        let per_message = owed.checked_div(*published).unwrap_or(0).max(1);
        for &i in counted {
            let received = swarm.received(subscribers[i].id);
            faults.lost += owed.saturating_sub(received).div_ceil(per_message);
            faults.duplicated += received.saturating_sub(owed).div_ceil(per_message);
        }
        Ok(())
    }
}

/// Who of those that are read is watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// One of all topics: a thread that waits for one is woken once a round.
    LastOfAll,
    /// Everyone.
    EveryRead,
}

fn is_stalled(i: u32, percent: f64) -> bool {
    let until = |i: f64| (i * percent / 100.0).floor();
    until(f64::from(i) + 1.0) > until(f64::from(i))
}

/// Opens connections, so many at once, and waits until all are open.
///
/// # Errors
/// One is refused.
pub fn connect(
    swarm: &mut Swarm,
    specs: impl Iterator<Item = Spec>,
    concurrency: u32,
    gauges: &Gauges,
) -> Result<Vec<ConnId>> {
    let mut ids = Vec::new();
    let (mut open, mut refused) = (0, None);
    let mut specs: VecDeque<Spec> = specs.collect();
    while open < ids.len() || !specs.is_empty() {
        while ids.len() - open < concurrency as usize
            && let Some(spec) = specs.pop_front()
        {
            ids.push(swarm.open(spec)?);
        }
        let before = open;
        swarm.turn(Duration::from_millis(100), &mut |event| match event {
            Event::Open(_) => open += 1,
            Event::Refused(_, why) | Event::Closed(_, why) => drop(refused.get_or_insert(why)),
            Event::Message(..) | Event::CaughtUp(_) => {}
        })?;
        Gauges::add(&gauges.opened, (open - before) as u64);
        if let Some(why) = refused {
            return Err(format!("connection {} of {}: {why}", open + 1, ids.len() + specs.len()).into());
        }
    }
    Ok(ids)
}

impl Judge {
    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Message(id, message) => self.message(id, message),
            Event::Closed(id, why) => self.closed(id, why),
            Event::Open(_) | Event::CaughtUp(_) | Event::Refused(..) => {}
        }
    }

    fn message(&mut self, id: ConnId, message: &[u8]) {
        let Some(i) = self.by_slot.get(id.index as usize).copied().flatten() else { return };
        let subscriber = &mut self.subscribers[i as usize];
        match self.payloads.find(message) {
            Found::Ours(stamp) if stamp.topic == self.first_topic + subscriber.topic as u32 => {
                subscriber.tracker.take(stamp.seq, &mut self.faults);
                if self.timed[i as usize] {
                    let now = self.start.elapsed().as_nanos() as u64;
                    let latency = now.saturating_sub(stamp.due);
                    self.latency.saturating_record(latency.max(1));
                    self.gauges.latency.store(latency, std::sync::atomic::Ordering::Relaxed);
                }
            }
            Found::Ours(_) | Found::Corrupt => self.faults.corrupted += 1,
            // Welcomes, heartbeats, and what others publish.
            Found::Foreign => {}
        }
    }

    fn closed(&mut self, id: ConnId, why: String) {
        let subscriber = self.by_slot.get(id.index as usize).copied().flatten().map(|i| &self.subscribers[i as usize]);
        match subscriber {
            Some(subscriber) if subscriber.stalled => {}
            Some(_) => {
                self.faults.closed += 1;
                self.complaint.get_or_insert(format!("a subscriber: {why}"));
            }
            None => {
                self.faults.closed += 1;
                self.complaint.get_or_insert(format!("a publisher: {why}"));
            }
        }
    }
}
