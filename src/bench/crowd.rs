//! A thread's topics: their publishers, their subscribers, and what those have got.
//!
//! Subscribers that are read are judged by every message. The others are counted: of each, as many bytes must come as a
//! subscriber of the same topic that is read has got. So the load costs little, and any envelope is understood as long as all
//! subscribers of a topic are sent the same.

mod judge;
mod plan;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::hub::frame::MessageKind;
use crate::ring::token::ConnId;
use crate::ws::frame::Control;

use super::Result;
use super::crew::{Gauges, Member};
use super::frame;
use super::message::{Payloads, Stamp};
use super::options::Common;
use super::swarm::{Attention, Event, Spec, Swarm};
use super::target::{Role, Target};
pub use judge::{Judge, Subscriber};
pub use plan::{Plan, spread};

/// How long to leave a server alone that has not delivered everything yet, before looking again.
const BREATH: Duration = Duration::from_micros(50);
/// Subscribers that one turn surely reads.
const READ_AT_ONCE: usize = 1024;
/// How long to listen for what should not come.
const AFTERMATH: Duration = Duration::from_millis(50);
/// Descriptors that a thread's ring has besides its subscribers and publishers.
const SPARE: u32 = 16;
/// Whoever is counted cannot answer pings, so it sends pongs that nobody asked for (RFC 6455 section 5.5.3): first after so
/// long, as no server is less patient at the beginning, and then ever so often.
const FIRST_PONG: Duration = Duration::from_secs(12);
const NEXT_PONG: Duration = Duration::from_secs(4);

/// One topic, and who publishes to it.
#[derive(Debug)]
struct Topic {
    publisher: ConnId,
    published: u64,
    /// What was published before bytes were counted.
    base: u64,
    /// Indices into the subscribers.
    read: Vec<usize>,
    counted: Vec<usize>,
}

/// One thread's topics.
pub struct Crowd {
    pub swarm: Swarm,
    pub judge: Judge,
    plan: Plan,
    target: Arc<Target>,
    topics: Vec<Topic>,
    timeout: Duration,
    kind: MessageKind,
    scratch: (Vec<u8>, Vec<u8>, Vec<u8>),
    sweep: Sweep,
    next_pong: Instant,
}

/// How far those that nothing wakes the thread for have been looked at.
#[derive(Default, Debug)]
struct Sweep {
    /// Who is still to be looked at in this pass.
    left: Vec<usize>,
    /// They send a pong besides.
    pong: bool,
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
        let specs = (0..plan.subscribers).map(|i| plan.subscriber(i));
        let ids = connect(&mut swarm, specs, common.concurrency, &member.gauges)?;
        let publishers = if target.one_publisher() { plan.topics.min(1) } else { plan.topics };
        let publisher = |i: u32| Spec {
            role: Role::Publisher,
            topic: plan.first_topic + i,
            n: plan.first_n + plan.subscribers + i,
            attention: Attention::Watch,
        };
        let publishers = connect(&mut swarm, (0..publishers).map(publisher), common.concurrency, &member.gauges)?;

        let mut judge = Judge::new(payloads, plan.first_topic, slots, start, member.gauges.clone());
        for (i, &id) in (0..).zip(&ids) {
            let stalled = plan.is_stalled(i);
            judge.subscribers.push(Subscriber::new(id, plan.topic(i) as usize, stalled, 0));
            judge.seat(i as usize);
        }
        judge.published = vec![0; plan.topics as usize];
        let topic = |topic: usize| {
            let healthy = judge.subscribers.iter().enumerate().filter(|(_, s)| s.topic == topic && !s.stalled);
            let read = healthy.map(|(i, _)| i).collect();
            Topic { publisher: publishers[topic % publishers.len()], published: 0, base: 0, read, counted: Vec::new() }
        };
        Ok(Crowd {
            topics: (0..plan.topics as usize).map(topic).collect(),
            swarm,
            judge,
            plan: plan.clone(),
            target: target.clone(),
            timeout: common.timeout,
            kind: if target.publishes_text() { MessageKind::Text } else { MessageKind::Binary },
            scratch: Default::default(),
            sweep: Sweep::default(),
            next_pong: Instant::now() + FIRST_PONG,
        })
    }

    /// How many topics there are.
    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// Healthy subscribers of all topics.
    pub fn healthy(&self) -> usize {
        (0..self.topics.len()).map(|topic| self.healthy_of(topic)).sum()
    }

    /// Healthy subscribers of one topic.
    pub fn healthy_of(&self, topic: usize) -> usize {
        self.topics[topic].read.len() + self.topics[topic].counted.len()
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
        self.judge.published[(number - self.judge.first_topic) as usize] = topic.published;
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

    /// Messages that were published to a topic.
    pub fn published_to(&self, topic: usize) -> u64 {
        self.topics[topic].published
    }

    /// Bytes that the server has not taken yet of what was published to a topic.
    pub fn unsent(&self, topic: usize) -> usize {
        self.swarm.unsent(self.topics[topic].publisher)
    }

    /// The subscribers of a topic that are read, in the order in which they connected.
    pub fn readers(&self, topic: usize) -> &[usize] {
        &self.topics[topic].read
    }

    /// Reads in full only these subscribers from now on, and counts the others. To be called when all have everything; there
    /// has to be one of each topic.
    pub fn count_all_but(&mut self, kept: &[usize]) {
        let kept: BTreeSet<usize> = kept.iter().copied().collect();
        for topic in &mut self.topics {
            topic.base = topic.published;
            let subscribers = topic.counted.drain(..).chain(topic.read.drain(..));
            (topic.read, topic.counted) = subscribers.partition(|i| kept.contains(i));
            assert!(
                topic.counted.is_empty() || !topic.read.is_empty(),
                "one who is read is the measure of those that are counted"
            );
            for &i in &topic.counted {
                self.swarm.attend(self.judge.subscribers[i].id, Attention::Count);
            }
            for &i in topic.counted.iter().chain(&topic.read) {
                // Whatever came before, as a welcome, may have come to one before and to the other after it was open.
                self.judge.subscribers[i].messages = 0;
                self.swarm.forget_received(self.judge.subscribers[i].id);
            }
        }
    }

    /// Wakes this thread for these, which are read, and times their messages.
    pub fn watch(&mut self, watched: &[usize]) {
        for &i in watched {
            self.judge.subscribers[i].timed = true;
            self.swarm.attend(self.judge.subscribers[i].id, Attention::Watch);
        }
    }

    /// One turn: waits at most so long.
    pub fn turn(&mut self, wait: Duration) -> Result<()> {
        self.turn_and(wait, &mut |_| {})
    }

    /// One turn, whose events are shown to another one too.
    pub fn turn_and(&mut self, wait: Duration, on: &mut dyn FnMut(&Event<'_>)) -> Result<()> {
        let Crowd { swarm, judge, .. } = self;
        swarm.turn(wait, &mut |event| {
            on(&event);
            judge.on(event);
        })
    }

    /// Cuts all subscribers. To be called when all are read, and have everything.
    pub fn cut(&mut self) -> Result<()> {
        self.judge.subscribers.iter().for_each(|subscriber| self.swarm.close(subscriber.id));
        // Their slots are free after that.
        self.turn(Duration::ZERO)
    }

    /// Begins to connect a subscriber that was cut, or was refused since. It must get what is published from now on.
    ///
    /// # Errors
    /// This machine has no socket or port left.
    pub fn reopen(&mut self, i: usize) -> Result<()> {
        let id = self.swarm.open(self.plan.subscriber(i as u32))?;
        let topic = self.plan.topic(i as u32) as usize;
        self.judge.subscribers[i] = Subscriber::new(id, topic, false, self.topics[topic].published);
        self.judge.seat(i);
        Ok(())
    }

    /// Asks, with the next turn, for what has come to a few of those that nothing wakes the thread for. Returns whether there
    /// are more in this pass over them.
    pub fn sweep(&mut self, few: usize) -> bool {
        let few = self.sweep.left.split_off(self.sweep.left.len().saturating_sub(few));
        for i in few {
            self.ask(i, u64::MAX);
            if self.sweep.pong {
                self.pong(i);
            }
        }
        !self.sweep.left.is_empty()
    }

    /// Begins a pass over all that nothing wakes the thread for.
    pub fn begin_sweep(&mut self) {
        let (topics, subscribers) = (&self.topics, &self.judge.subscribers);
        let all = topics.iter().flat_map(|topic| topic.read.iter().chain(&topic.counted));
        self.sweep.left.clear();
        self.sweep.left.extend(all.filter(|&&i| !subscribers[i].timed));
        self.sweep.pong = self.pong_is_due();
    }

    fn pong_is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = now >= self.next_pong;
        if due {
            self.next_pong = now + NEXT_PONG;
        }
        due
    }

    /// Shows a server that those who are counted are alive, if it is time to.
    pub fn stay_alive(&mut self) {
        if self.pong_is_due() {
            let counted: Vec<usize> = self.topics.iter().flat_map(|topic| topic.counted.iter().copied()).collect();
            counted.into_iter().for_each(|i| self.pong(i));
        }
    }

    fn pong(&mut self, subscriber: usize) {
        let mut pong = Vec::new();
        frame::client_control(Control::Pong, b"", &mut pong);
        self.swarm.send(self.judge.subscribers[subscriber].id, &pong);
    }

    /// Asks, with the next turn, for what has come to a subscriber: so many bytes, if it is counted.
    fn ask(&mut self, subscriber: usize, bytes: u64) {
        let id = self.judge.subscribers[subscriber].id;
        match self.swarm.attention(id) {
            Attention::Count => self.swarm.discard(id, bytes),
            Attention::Read | Attention::Watch => self.swarm.read(id),
            Attention::Ignore => {}
        }
    }

    /// Waits until one who is watched has all but so many of the messages of its topic. `false`: it has not in time.
    pub fn await_one(&mut self, subscriber: usize, behind: u64) -> Result<bool> {
        let end = self.topics[self.judge.subscribers[subscriber].topic].published.saturating_sub(behind);
        let deadline = Instant::now() + self.timeout;
        while self.judge.subscribers[subscriber].lacks(end) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.judge.complaint.is_some() {
                return Ok(self.give_up());
            }
            self.turn(left)?;
        }
        Ok(true)
    }

    /// Waits until all that are read have all but so many of the messages of their topic, and all that are counted as many
    /// bytes as those. `false`: they have not in time.
    pub fn await_all(&mut self, behind: u64) -> Result<bool> {
        let end: Vec<u64> = self.topics.iter().map(|topic| topic.published.saturating_sub(behind)).collect();
        let read = self.topics.iter().flat_map(|topic| topic.read.iter().copied()).collect();
        let lacks = |crowd: &Crowd, i: usize| {
            let subscriber = &crowd.judge.subscribers[i];
            u64::from(subscriber.lacks(end[subscriber.topic]))
        };
        if !self.catch_up(read, lacks)? {
            return Ok(false);
        }
        let received = |&i: &usize| self.swarm.received(self.judge.subscribers[i].id);
        let owed: Vec<u64> =
            self.topics.iter().map(|topic| topic.read.iter().map(received).min().unwrap_or(0)).collect();
        let counted = self.topics.iter().flat_map(|topic| topic.counted.iter().copied()).collect();
        let lacks = |crowd: &Crowd, i: usize| {
            let subscriber = &crowd.judge.subscribers[i];
            owed[subscriber.topic].saturating_sub(crowd.swarm.received(subscriber.id))
        };
        self.catch_up(counted, lacks)
    }

    /// Asks for the bytes of those that lack some, again and again until none does.
    fn catch_up(&mut self, mut behind: Vec<usize>, lacks: impl Fn(&Crowd, usize) -> u64) -> Result<bool> {
        let deadline = Instant::now() + self.timeout;
        behind.retain(|&i| lacks(self, i) > 0);
        while !behind.is_empty() {
            for &i in &behind {
                let bytes = lacks(self, i);
                self.ask(i, bytes);
            }
            self.turn(Duration::ZERO)?;
            let before = behind.len();
            behind.retain(|&i| lacks(self, i) > 0);
            if self.judge.complaint.is_some() || Instant::now() > deadline {
                return Ok(self.give_up());
            }
            if behind.len() == before {
                self.turn(BREATH)?;
            }
        }
        Ok(true)
    }

    /// What was waited for is not going to come: that is a complaint, if there is none yet.
    fn give_up(&mut self) -> bool {
        let why = || format!("a subscriber did not get everything within {:?}", self.timeout);
        self.judge.complaint.get_or_insert_with(why);
        false
    }

    /// Listens for a while to what should not come, then counts what never came.
    pub fn finish(&mut self) -> Result<()> {
        let deadline = Instant::now() + AFTERMATH;
        while Instant::now() < deadline {
            self.turn(AFTERMATH)?;
        }
        for first in (0..self.judge.subscribers.len()).step_by(READ_AT_ONCE) {
            let end = self.judge.subscribers.len().min(first + READ_AT_ONCE);
            (first..end).for_each(|i| self.ask(i, u64::MAX));
            self.turn(Duration::ZERO)?;
        }
        let Crowd { topics, judge, swarm, .. } = self;
        for topic in topics {
            settle(topic, judge, swarm);
        }
        Ok(())
    }
}

/// Counts what did not come, or came twice: by number for those that are read, by their bytes for the others.
fn settle(topic: &Topic, judge: &mut Judge, swarm: &Swarm) {
    let Judge { subscribers, faults, .. } = judge;
    for &i in &topic.read {
        subscribers[i].tracker.finish(topic.published, faults);
    }
    let read = topic.read.iter().map(|&i| &subscribers[i]).max_by_key(|subscriber| subscriber.messages);
    let Some(read) = read.filter(|subscriber| subscriber.messages > 0) else { return };
    let each = swarm.received(read.id) as f64 / read.messages as f64;
    let due = topic.published - topic.base;
    for &i in &topic.counted {
        // Some may have been sent a ping that others have not: bytes count as a message from half of one on.
        let messages = (swarm.received(subscribers[i].id) as f64 / each).round() as u64;
        faults.lost += due.saturating_sub(messages);
        faults.duplicated += messages.saturating_sub(due);
    }
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
        gauges.goes_on()?;
    }
    Ok(ids)
}
