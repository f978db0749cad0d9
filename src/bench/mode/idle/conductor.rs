//! The thread that publishes to all, and to a topic of bystanders at a steady rate meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::bench::Result;
use crate::bench::crew::{Gauges, Member};
use crate::bench::crowd::connect;
use crate::bench::judge::{Delivery, Judge};
use crate::bench::message::{Payloads, Stamp};
use crate::bench::options::Idle;
use crate::bench::publisher::Publisher;
use crate::bench::report::Faults;
use crate::bench::schedule::Schedule;
use crate::bench::swarm::{Attention, Spec, Swarm};
use crate::bench::target::{Role, Target};
use crate::bench::timeline::distribution;
use crate::ring::sys;
use crate::ring::token::ConnId;

use super::holder::LOOK_UP;
use super::{TOPIC_OF_ALL, TOPIC_OF_BYSTANDERS};

/// Connections that come and go before memory is read: what a server allocates or compiles for the first is not the others'
/// cost.
const WARM_UP: u32 = 200;
/// How often it looks whether all have a message, while nothing else happens.
const GLANCE: Duration = Duration::from_millis(5);

/// What the bystanders felt, in nanoseconds.
pub struct Conducted {
    /// From due to delivered, while nobody else was published to.
    pub alone: Histogram<u64>,
    /// While all were.
    pub meanwhile: Histogram<u64>,
    /// From due to written: this thread's own share in those.
    pub lateness: Histogram<u64>,
    pub faults: Faults,
    /// The first thing that went wrong, in words.
    pub complaint: Option<String>,
}

/// Connections of this thread: the bystanders, two publishers, and those that warm the server up.
pub fn connections(options: &Idle) -> u32 {
    options.bystanders + 2 + WARM_UP.min(options.connections)
}

/// The life of this thread.
pub fn conduct(options: &Idle, target: &Arc<Target>, start: Instant, tag: u32, member: &Member) -> Result<Conducted> {
    sys::wake_on_time()?;
    let mut conductor = Conductor::connect(options, target, start, tag)?;
    // Until memory was read at the start, and until all connections are there and it was read again.
    for _ in 0..2 {
        conductor.serve(member)?;
    }
    conductor.hold(options, &member.gauges)?;
    // Until all know that the hold is over, and until they have closed their connections.
    for _ in 0..2 {
        conductor.serve(member)?;
    }
    Ok(conductor.finish())
}

/// A message to all that not all have.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    /// Deliveries of the crowd before it was published.
    before: u64,
    /// Deliveries when there was last news of it, and when that was, in nanoseconds since the run began.
    seen: u64,
    news: u64,
}

struct Conductor {
    swarm: Swarm,
    publisher: Publisher,
    /// Of the bystanders.
    judge: Judge,
    /// Nanoseconds.
    timeout: u64,
    /// The connections that publish to the two topics.
    publishers: [ConnId; 2],
    under_way: Option<UnderWay>,
    bystanders: Bystanders,
    lateness: Histogram<u64>,
}

impl Conductor {
    fn connect(options: &Idle, target: &Arc<Target>, start: Instant, tag: u32) -> Result<Conductor> {
        let Idle { common, payload, connections, bystanders, .. } = options;
        let payloads = Payloads::new(payload.payload, payload.fill, tag)?;
        let guests = WARM_UP.min(*connections);
        let slots = self::connections(options);
        let mut swarm = Swarm::new(target.clone(), slots, common.timeout, start)?;
        // Not the crew's: those count the crowd.
        let gauges = Gauges::default();
        let spec = |role, topic, i| Spec { role, topic, n: connections + i, attention: Attention::Watch };
        let subscribers = (0..*bystanders).map(|i| spec(Role::Subscriber, TOPIC_OF_BYSTANDERS, i));
        let subscribers = connect(&mut swarm, subscribers, common.concurrency, &gauges)?;
        let of_all = spec(Role::Publisher, TOPIC_OF_ALL, *bystanders);
        let of_bystanders = spec(Role::Publisher, TOPIC_OF_BYSTANDERS, bystanders + 1);
        let first = connect(&mut swarm, [of_all].into_iter(), 1, &gauges)?[0];
        let second = if target.one_publisher() {
            first
        } else {
            connect(&mut swarm, [of_bystanders].into_iter(), 1, &gauges)?[0]
        };
        let guests = (0..guests).map(|i| spec(Role::Subscriber, TOPIC_OF_ALL, bystanders + 2 + i));
        let guests = connect(&mut swarm, guests, common.concurrency, &gauges)?;
        guests.into_iter().for_each(|id| swarm.close(id));
        swarm.turn(Duration::ZERO, &mut |_| {})?;
        let mut judge = Judge::new(payloads.clone(), TOPIC_OF_ALL, 2, slots);
        subscribers.iter().enumerate().for_each(|(i, &id)| judge.admit(id, i, TOPIC_OF_BYSTANDERS));
        Ok(Conductor {
            swarm,
            publisher: Publisher::new(target.clone(), payloads),
            judge,
            timeout: common.timeout.as_nanos() as u64,
            publishers: [first, second],
            under_way: None,
            bystanders: Bystanders::new(),
            lateness: distribution(),
        })
    }

    /// Looks after its connections until all threads are here and were told to go on.
    fn serve(&mut self, member: &Member) -> Result<()> {
        member.arrive()?;
        while !member.is_let_go()? {
            self.turn(LOOK_UP)?;
        }
        Ok(())
    }

    fn turn(&mut self, wait: Duration) -> Result<()> {
        let Conductor { swarm, judge, bystanders, .. } = self;
        swarm.turn(wait, &mut |event| judge.on(event, |delivery| bystanders.record(&delivery)))
    }

    /// Publishes to all, so often and evenly spread, and to the bystanders at their rate. It is over when all have
    /// everything, or there is no news of what they lack.
    fn hold(&mut self, options: &Idle, gauges: &Gauges) -> Result<()> {
        let (begin, publishes) = (self.swarm.now(), u64::from(options.publishes));
        let hold = options.hold.as_nanos() as u64;
        // While one is under way, the next has to wait.
        let due = |nth: u64| begin + hold / (publishes + 1) * (nth + 1);
        let steady = (options.bystanders > 0).then(|| Schedule::new(begin, options.bystander_rate, Duration::MAX));
        loop {
            self.publish_to_bystanders(steady);
            self.look_around(gauges);
            let (now, done) = (self.swarm.now(), self.judge.published(TOPIC_OF_ALL));
            match self.under_way {
                None if done == publishes && now >= begin + hold => break,
                None if done < publishes && now >= due(done) => self.publish_to_all(gauges),
                _ => {}
            }
            gauges.goes_on()?;
            self.turn(self.until_next(steady).min(GLANCE))?;
        }
        self.await_bystanders()
    }

    fn publish_to_bystanders(&mut self, steady: Option<Schedule>) {
        let now = self.swarm.now();
        let next = |nth| steady.and_then(|steady| steady.due(nth)).filter(|&due| due <= now);
        while let Some(due) = next(self.judge.published(TOPIC_OF_BYSTANDERS)) {
            self.publish(TOPIC_OF_BYSTANDERS, due);
            self.lateness.saturating_record((now - due).max(1));
        }
    }

    /// Until the next message to the bystanders is due.
    fn until_next(&self, steady: Option<Schedule>) -> Duration {
        let due = steady.and_then(|steady| steady.due(self.judge.published(TOPIC_OF_BYSTANDERS)));
        due.map_or(GLANCE, |due| Duration::from_nanos(due.saturating_sub(self.swarm.now())))
    }

    fn publish_to_all(&mut self, gauges: &Gauges) {
        let (now, before) = (self.swarm.now(), Gauges::get(&gauges.deliveries));
        self.under_way = Some(UnderWay { before, seen: before, news: now });
        self.bystanders.disturbed = true;
        self.publish(TOPIC_OF_ALL, now);
    }

    /// Whether all that are open have what was published to them, or there has been no news of it for too long. What is
    /// missing then is found where it is missing.
    fn look_around(&mut self, gauges: &Gauges) {
        let Some(under_way) = &mut self.under_way else { return };
        let (now, seen) = (self.swarm.now(), Gauges::get(&gauges.deliveries));
        if seen > under_way.seen {
            (under_way.seen, under_way.news) = (seen, now);
        }
        let all = seen - under_way.before >= Gauges::get(&gauges.opened);
        if all || now - under_way.news > self.timeout {
            self.under_way = None;
            self.bystanders.disturbed = false;
            self.bystanders.disturbed_until = now;
        }
    }

    fn publish(&mut self, topic: u32, due: u64) {
        let mut frame = Vec::new();
        self.publisher.write(Stamp { topic, seq: self.judge.next(topic), due }, &mut frame);
        self.swarm.send(self.publishers[topic as usize], &frame);
    }

    /// Waits for what is still to come.
    fn await_bystanders(&mut self) -> Result<()> {
        let deadline = self.swarm.now() + self.timeout;
        while self.judge.anyone_lacks() && self.swarm.now() < deadline {
            self.turn(GLANCE)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Conducted {
        self.judge.finish_all();
        let (Judge { faults, complaint, .. }, Bystanders { alone, meanwhile, .. }) = (self.judge, self.bystanders);
        Conducted { alone, meanwhile, lateness: self.lateness, faults, complaint }
    }
}

/// What the bystanders feel.
struct Bystanders {
    /// All are being published to.
    disturbed: bool,
    /// Until then they were: what was due before may have been held up. In nanoseconds since the run began.
    disturbed_until: u64,
    alone: Histogram<u64>,
    meanwhile: Histogram<u64>,
}

impl Bystanders {
    fn new() -> Bystanders {
        Bystanders { disturbed: false, disturbed_until: 0, alone: distribution(), meanwhile: distribution() }
    }

    /// Takes the time of a message by whether any of it was while all were published to.
    fn record(&mut self, delivery: &Delivery) {
        let held_up = self.disturbed || delivery.stamp.due < self.disturbed_until;
        let latency = if held_up { &mut self.meanwhile } else { &mut self.alone };
        latency.saturating_record(delivery.latency());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_apart_by_whether_all_were_published_to() {
        let delivery = |due, at| {
            let stamp = Stamp { topic: TOPIC_OF_BYSTANDERS, seq: 0, due };
            Delivery { subscriber: 0, stamp, at, repeated: false }
        };
        let mut bystanders = Bystanders::new();
        bystanders.record(&delivery(100, 110));
        bystanders.disturbed = true;
        bystanders.record(&delivery(120, 150));
        (bystanders.disturbed, bystanders.disturbed_until) = (false, 200);
        bystanders.record(&delivery(199, 260));
        bystanders.record(&delivery(200, 204));
        let times = |taken: &Histogram<u64>| taken.iter_recorded().map(|v| v.value_iterated_to()).collect::<Vec<_>>();
        assert_eq!((times(&bystanders.alone), times(&bystanders.meanwhile)), (vec![4, 10], vec![30, 61]));
    }
}
