//! A thread's topics: their publishers, their subscribers, and what those have got.
//!
//! Subscribers that are read are judged by every message. The others are counted: of each, as many bytes must come as a
//! subscriber of the same topic that is read has got. So the load costs little, and any envelope is understood as long as all
//! subscribers of a topic are sent the same.

mod plan;
mod subscriber;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ring::token::ConnId;
use crate::ws::client::frame;
use crate::ws::frame::Control;

use super::Result;
use super::crew::{Gauges, Member};
use super::judge::Judge;
use super::message::{Payloads, Stamp};
use super::options::Common;
use super::publisher::Publisher;
use super::swarm::{Attention, Event, Spec, Swarm};
use super::target::{Role, Target};
pub use plan::{Plan, spread};
pub use subscriber::{Subscriber, Times};

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
    pub subscribers: Vec<Subscriber>,
    pub times: Times,
    plan: Plan,
    publisher: Publisher,
    topics: Vec<Topic>,
    timeout: Duration,
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

        let mut judge = Judge::new(payloads.clone(), plan.first_topic, plan.topics, slots);
        let mut subscribers = Vec::new();
        for (i, &id) in (0..).zip(&ids) {
            judge.admit(id, i as usize, plan.first_topic + plan.topic(i));
            if plan.is_stalled(i) {
                judge.excuse(id);
            }
            subscribers.push(Subscriber::new(id, plan.topic(i) as usize, plan.is_stalled(i)));
        }
        let topic = |topic: usize| {
            let healthy = subscribers.iter().enumerate().filter(|(_, s)| s.topic == topic && !s.stalled);
            let read = healthy.map(|(i, _)| i).collect();
            Topic { publisher: publishers[topic % publishers.len()], base: 0, read, counted: Vec::new() }
        };
        Ok(Crowd {
            topics: (0..plan.topics as usize).map(topic).collect(),
            swarm,
            judge,
            subscribers,
            times: Times::new(member.gauges.clone()),
            plan: plan.clone(),
            publisher: Publisher::new(target.clone(), payloads),
            timeout: common.timeout,
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
        let number = self.plan.first_topic + topic as u32;
        let mut frames = Vec::new();
        for _ in 0..burst {
            let seq = self.judge.next(number);
            self.publisher.write(Stamp { topic: number, seq, due }, &mut frames);
        }
        self.swarm.send(self.topics[topic].publisher, &frames);
    }

    /// Publishes so many messages to every topic.
    pub fn publish_to_all(&mut self, burst: u32) {
        let now = self.swarm.now();
        (0..self.topics.len()).for_each(|topic| self.publish(topic, burst, now));
    }

    /// Messages that were published to a topic.
    pub fn published_to(&self, topic: usize) -> u64 {
        self.judge.published(self.plan.first_topic + topic as u32)
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
        for (number, topic) in (self.plan.first_topic..).zip(&mut self.topics) {
            topic.base = self.judge.published(number);
            let subscribers = topic.counted.drain(..).chain(topic.read.drain(..));
            (topic.read, topic.counted) = subscribers.partition(|i| kept.contains(i));
            assert!(
                topic.counted.is_empty() || !topic.read.is_empty(),
                "one who is read is the measure of those that are counted"
            );
            for &i in &topic.counted {
                self.swarm.attend(self.subscribers[i].id, Attention::Count);
            }
            for &i in topic.counted.iter().chain(&topic.read) {
                // Whatever came before, as a welcome, may have come to one before and to the other after it was open.
                self.subscribers[i].messages = 0;
                self.swarm.forget_received(self.subscribers[i].id);
            }
        }
    }

    /// Wakes this thread for these, which are read, and times their messages.
    pub fn watch(&mut self, watched: &[usize]) {
        for &i in watched {
            self.subscribers[i].timed = true;
            self.swarm.attend(self.subscribers[i].id, Attention::Watch);
        }
    }

    /// One turn: waits at most so long.
    pub fn turn(&mut self, wait: Duration) -> Result<()> {
        self.turn_and(wait, &mut |_| {})
    }

    /// One turn, whose events are shown to another one too.
    pub fn turn_and(&mut self, wait: Duration, on: &mut dyn FnMut(&Event<'_>)) -> Result<()> {
        let Crowd { swarm, judge, subscribers, times, .. } = self;
        swarm.turn(wait, &mut |event| {
            on(&event);
            judge.on(event, |delivery| {
                let subscriber = &mut subscribers[delivery.subscriber];
                subscriber.messages += 1;
                // What came twice is no delivery.
                if subscriber.timed && !delivery.repeated {
                    times.take(&delivery);
                }
            });
        })
    }

    /// Cuts all subscribers. To be called when all are read, and have everything.
    pub fn cut(&mut self) -> Result<()> {
        for subscriber in &self.subscribers {
            self.judge.dismiss(subscriber.id);
            self.swarm.close(subscriber.id);
        }
        // Their slots are free after that.
        self.turn(Duration::ZERO)
    }

    /// Begins to connect a subscriber that was cut, or was refused since. It must get what is published from now on.
    ///
    /// # Errors
    /// This machine has no socket or port left.
    pub fn reopen(&mut self, i: usize) -> Result<()> {
        let spec = self.plan.subscriber(i as u32);
        let id = self.swarm.open(spec)?;
        self.judge.dismiss(self.subscribers[i].id);
        self.judge.admit(id, i, spec.topic);
        self.subscribers[i] = Subscriber::new(id, self.plan.topic(i as u32) as usize, false);
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

    /// Begins a pass over all that nothing wakes the thread for, if the one before is over.
    pub fn begin_sweep(&mut self) {
        if !self.sweep.left.is_empty() {
            return;
        }
        let (topics, subscribers) = (&self.topics, &self.subscribers);
        let all = topics.iter().flat_map(|topic| topic.read.iter().chain(&topic.counted));
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
        self.swarm.send(self.subscribers[subscriber].id, &pong);
    }

    /// Asks, with the next turn, for what has come to a subscriber: so many bytes, if it is counted.
    fn ask(&mut self, subscriber: usize, bytes: u64) {
        let id = self.subscribers[subscriber].id;
        match self.swarm.attention(id) {
            Attention::Count => self.swarm.discard(id, bytes),
            Attention::Read | Attention::Watch => self.swarm.read(id),
            Attention::Ignore => {}
        }
    }

    /// Waits until one who is watched has all but so many of the messages of its topic. `false`: it has not in time.
    pub fn await_one(&mut self, subscriber: usize, behind: u64) -> Result<bool> {
        let Subscriber { id, topic, .. } = self.subscribers[subscriber];
        let end = self.published_to(topic).saturating_sub(behind);
        let deadline = Instant::now() + self.timeout;
        while self.judge.lacks(id, end) {
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
        let end: Vec<u64> =
            (0..self.topics.len()).map(|topic| self.published_to(topic).saturating_sub(behind)).collect();
        let read = self.topics.iter().flat_map(|topic| topic.read.iter().copied()).collect();
        let lacks = |crowd: &Crowd, i: usize| {
            let subscriber = &crowd.subscribers[i];
            u64::from(crowd.judge.lacks(subscriber.id, end[subscriber.topic]))
        };
        if !self.catch_up(read, lacks)? {
            return Ok(false);
        }
        let received = |&i: &usize| self.swarm.received(self.subscribers[i].id);
        let owed: Vec<u64> =
            self.topics.iter().map(|topic| topic.read.iter().map(received).min().unwrap_or(0)).collect();
        let counted = self.topics.iter().flat_map(|topic| topic.counted.iter().copied()).collect();
        let lacks = |crowd: &Crowd, i: usize| {
            let subscriber = &crowd.subscribers[i];
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

    /// Bytes that those who are read have received, since others are counted, and of how many messages: their frames, as
    /// they were on the wire. None of those that are closed.
    pub fn bytes_and_messages(&self) -> (u64, u64) {
        let read = self.topics.iter().flat_map(|topic| &topic.read).map(|&i| &self.subscribers[i]);
        let open = read.filter(|subscriber| !self.judge.is_closed(subscriber.id));
        open.fold((0, 0), |(bytes, messages), s| (bytes + self.swarm.received(s.id), messages + s.messages))
    }

    /// Listens for a while to what should not come, then counts what never came.
    pub fn finish(&mut self) -> Result<()> {
        let deadline = Instant::now() + AFTERMATH;
        while Instant::now() < deadline {
            self.turn(AFTERMATH)?;
        }
        for first in (0..self.subscribers.len()).step_by(READ_AT_ONCE) {
            let end = self.subscribers.len().min(first + READ_AT_ONCE);
            (first..end).for_each(|i| self.ask(i, u64::MAX));
            self.turn(Duration::ZERO)?;
        }
        (0..self.topics.len()).for_each(|topic| self.settle(topic));
        Ok(())
    }

    /// Counts what did not come, or came twice: by number for those that are read, by their bytes for the others. Whoever
    /// was closed has a close frame among its bytes, and lacks what came after: it is closed, and that is all.
    fn settle(&mut self, topic: usize) {
        let Crowd { topics, judge, swarm, subscribers, .. } = self;
        let due = judge.published(self.plan.first_topic + topic as u32) - topics[topic].base;
        let Topic { read, counted, .. } = &topics[topic];
        let open = |judge: &Judge, i: usize| !judge.is_closed(subscribers[i].id);
        let measure = read.iter().copied().filter(|&i| open(judge, i)).max_by_key(|&i| subscribers[i].messages);
        read.iter().for_each(|&i| judge.finish(subscribers[i].id));
        let Some(measure) = measure.map(|i| &subscribers[i]).filter(|subscriber| subscriber.messages > 0) else {
            return;
        };
        let each = swarm.received(measure.id) as f64 / measure.messages as f64;
        for &i in counted {
            if !open(judge, i) {
                continue;
            }
            // Some may have been sent a ping that others have not: bytes count as a message from half of one on.
            let messages = (swarm.received(subscribers[i].id) as f64 / each).round() as u64;
            judge.faults.lost += due.saturating_sub(messages);
            judge.faults.duplicated += messages.saturating_sub(due);
        }
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
