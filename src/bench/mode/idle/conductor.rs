//! The thread that publishes to all, and to a topic of bystanders at a steady rate meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::bench::Result;
use crate::bench::crew::{Gauges, Member};
use crate::bench::crowd::connect;
use crate::bench::frame::client_frame;
use crate::bench::inspect::Tracker;
use crate::bench::message::{Found, Payloads, Stamp};
use crate::bench::options::Idle;
use crate::bench::report::Faults;
use crate::bench::swarm::{Attention, Event, Spec, Swarm};
use crate::bench::target::{Role, Target};
use crate::bench::timeline::distribution;
use crate::hub::frame::MessageKind;
use crate::ring::token::ConnId;

use super::holder::LOOK_UP;
use super::{TOPIC_OF_ALL, TOPIC_OF_BYSTANDERS};

/// How often it looks whether all have a message, while nothing else happens.
const GLANCE: Duration = Duration::from_millis(5);

/// What the bystanders felt.
#[derive(Default)]
pub struct Conducted {
    /// From due to delivered, while nobody else was published to.
    pub alone: Option<Histogram<u64>>,
    /// While all were.
    pub meanwhile: Option<Histogram<u64>>,
    /// From due to written, by this thread: its own share in those.
    pub lateness: Option<Histogram<u64>>,
    pub faults: Faults,
    pub complaint: Option<String>,
}

/// The life of this thread.
pub fn conduct(options: &Idle, target: &Arc<Target>, start: Instant, tag: u32, member: &Member) -> Result<Conducted> {
    let mut conductor = Conductor::connect(options, target, start, tag)?;
    // Ready, and memory was read; all connections are there, and it was read again.
    for _ in 0..2 {
        conductor.serve(member)?;
    }
    conductor.hold(options, &member.gauges)?;
    // The hold is over; all connections are closed.
    for _ in 0..2 {
        conductor.serve(member)?;
    }
    Ok(conductor.finish())
}

/// Messages at a steady rate, due whether or not those before have come.
#[derive(Clone, Copy, Debug)]
struct Beat {
    next: u64,
    every: u64,
}

impl Beat {
    /// The first is due one interval after `now`.
    fn from(now: u64, every: u64) -> Beat {
        Beat { next: now + every, every }
    }

    /// When the next message was due, if that is not after `now`.
    fn due(&mut self, now: u64) -> Option<u64> {
        let due = self.next;
        (due <= now).then(|| self.next += self.every).map(|()| due)
    }
}

/// A message to all that not all have.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    /// Deliveries of the crowd when all have it.
    wanted: u64,
    /// Deliveries when there was last news of it, and when that was.
    seen: u64,
    news: u64,
}

struct Conductor {
    swarm: Swarm,
    target: Arc<Target>,
    kind: MessageKind,
    timeout: u64,
    /// The publisher of each of the two topics, and how many messages it has published.
    publishers: [ConnId; 2],
    published: [u64; 2],
    under_way: Option<UnderWay>,
    bystanders: Bystanders,
    lateness: Histogram<u64>,
}

/// What has come to the bystanders.
struct Bystanders {
    payloads: Payloads,
    start: Instant,
    /// By slot.
    trackers: Vec<Option<Tracker>>,
    /// All are being published to.
    disturbed: bool,
    /// Messages that were due before may have been held up.
    disturbed_until: u64,
    alone: Histogram<u64>,
    meanwhile: Histogram<u64>,
    faults: Faults,
    complaint: Option<String>,
}

impl Conductor {
    fn connect(options: &Idle, target: &Arc<Target>, start: Instant, tag: u32) -> Result<Conductor> {
        let Idle { common, payload, connections, bystanders, .. } = options;
        let payloads = Payloads::new(payload.payload, payload.fill, tag)?;
        let slots = bystanders + 2;
        let mut swarm = Swarm::new(target.clone(), slots, common.timeout, start)?;
        // Those of the crowd are counted there.
        let gauges = Gauges::default();
        let spec = |role, topic, i| Spec { role, topic, n: connections + i, attention: Attention::Watch };
        let subscribers = (0..*bystanders).map(|i| spec(Role::Subscriber, TOPIC_OF_BYSTANDERS, i));
        let subscribers = connect(&mut swarm, subscribers, common.concurrency, &gauges)?;
        let topics = if target.one_publisher() { 1 } else { 2 };
        let publishers = (0..topics).map(|topic| spec(Role::Publisher, topic, bystanders + topic));
        let publishers = connect(&mut swarm, publishers, common.concurrency, &gauges)?;
        let mut trackers = vec![None; slots as usize];
        subscribers.iter().for_each(|id| trackers[id.index as usize] = Some(Tracker::default()));
        Ok(Conductor {
            swarm,
            kind: if target.publishes_text() { MessageKind::Text } else { MessageKind::Binary },
            target: target.clone(),
            timeout: common.timeout.as_nanos() as u64,
            publishers: [publishers[0], *publishers.last().unwrap_or(&publishers[0])],
            published: [0; 2],
            under_way: None,
            bystanders: Bystanders::new(payloads, start, trackers)?,
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
        let Conductor { swarm, bystanders, .. } = self;
        swarm.turn(wait, &mut |event| bystanders.on(event))
    }

    /// Publishes to all, so often and evenly spread, and to the bystanders at their rate.
    fn hold(&mut self, options: &Idle, gauges: &Gauges) -> Result<()> {
        let begin = self.swarm.now();
        let hold = options.hold.as_nanos() as u64;
        let mut all = Beat::from(begin, hold / (u64::from(options.publishes) + 1));
        let mut steady = (options.bystanders > 0).then(|| Beat::from(begin, (1e9 / options.bystander_rate) as u64));
        loop {
            let now = self.swarm.now();
            while let Some(due) = steady.as_mut().and_then(|beat| beat.due(now)) {
                self.publish(TOPIC_OF_BYSTANDERS, due);
                self.lateness.saturating_record((now - due).max(1));
            }
            self.look_around(gauges);
            let left = u64::from(options.publishes) - self.published[TOPIC_OF_ALL as usize];
            if self.under_way.is_none() {
                match left {
                    0 if now >= begin + hold => break,
                    0 => {}
                    _ if all.due(now).is_some() => self.publish_to_all(gauges),
                    _ => {}
                }
            }
            let next = steady.map_or(u64::MAX, |beat| beat.next).saturating_sub(self.swarm.now());
            self.turn(GLANCE.min(Duration::from_nanos(next)))?;
        }
        self.await_bystanders()
    }

    fn publish_to_all(&mut self, gauges: &Gauges) {
        let (now, seen) = (self.swarm.now(), Gauges::get(&gauges.deliveries));
        self.under_way = Some(UnderWay { wanted: seen + Gauges::get(&gauges.opened), seen, news: now });
        self.bystanders.disturbed = true;
        self.publish(TOPIC_OF_ALL, now);
    }

    /// Whether all have what was published to them, or there has been no news of it for too long. What is missing then is
    /// found where it is missing.
    fn look_around(&mut self, gauges: &Gauges) {
        let Some(under_way) = &mut self.under_way else { return };
        let (now, seen) = (self.swarm.now(), Gauges::get(&gauges.deliveries));
        if seen > under_way.seen {
            (under_way.seen, under_way.news) = (seen, now);
        }
        if seen >= under_way.wanted || now - under_way.news > self.timeout {
            self.under_way = None;
            self.bystanders.disturbed = false;
            self.bystanders.disturbed_until = now;
        }
    }

    fn publish(&mut self, topic: u32, due: u64) {
        let seq = &mut self.published[topic as usize];
        let (mut payload, mut message, mut frame) = (Vec::new(), Vec::new(), Vec::new());
        self.bystanders.payloads.write(Stamp { topic, seq: *seq, due }, &mut payload);
        self.target.publication(topic, &payload, &mut message);
        client_frame(self.kind, &message, &mut frame);
        *seq += 1;
        self.swarm.send(self.publishers[topic as usize], &frame);
    }

    /// Waits for what is still to come.
    fn await_bystanders(&mut self) -> Result<()> {
        let wanted = self.published[TOPIC_OF_BYSTANDERS as usize];
        let deadline = self.swarm.now() + self.timeout;
        while self.bystanders.lack(wanted) && self.swarm.now() < deadline {
            self.turn(GLANCE)?;
        }
        Ok(())
    }

    fn finish(self) -> Conducted {
        let Bystanders { trackers, alone, meanwhile, mut faults, complaint, .. } = self.bystanders;
        for tracker in trackers.iter().flatten() {
            tracker.finish(self.published[TOPIC_OF_BYSTANDERS as usize], &mut faults);
        }
        let (alone, meanwhile, lateness) = (Some(alone), Some(meanwhile), Some(self.lateness));
        Conducted { alone, meanwhile, lateness, faults, complaint }
    }
}

impl Bystanders {
    fn new(payloads: Payloads, start: Instant, trackers: Vec<Option<Tracker>>) -> Result<Bystanders> {
        Ok(Bystanders {
            payloads,
            start,
            trackers,
            disturbed: false,
            disturbed_until: 0,
            alone: distribution(),
            meanwhile: distribution(),
            faults: Faults::default(),
            complaint: None,
        })
    }

    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Message(id, message) => self.message(id.index as usize, message),
            Event::Closed(id, why) => {
                let bystander = self.trackers[id.index as usize].take().is_some();
                let who = if bystander { "a bystander" } else { "a publisher" };
                self.faults.closed += 1;
                self.complaint.get_or_insert(format!("{who}: {why}"));
            }
            Event::Open(_) | Event::Refused(..) | Event::CaughtUp(_) => {}
        }
    }

    fn message(&mut self, slot: usize, message: &[u8]) {
        let Some(tracker) = &mut self.trackers[slot] else { return };
        match self.payloads.find(message) {
            Found::Ours(stamp) if stamp.topic == TOPIC_OF_BYSTANDERS => {
                tracker.take(stamp.seq, &mut self.faults);
                let now = self.start.elapsed().as_nanos() as u64;
                let disturbed = self.disturbed || stamp.due < self.disturbed_until;
                let latency = if disturbed { &mut self.meanwhile } else { &mut self.alone };
                latency.saturating_record(now.saturating_sub(stamp.due).max(1));
            }
            Found::Foreign => {}
            Found::Ours(_) | Found::Corrupt => self.faults.corrupted += 1,
        }
    }

    fn lack(&self, wanted: u64) -> bool {
        self.trackers.iter().flatten().any(|tracker| tracker.received() < wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_that_was_missed_is_still_due() {
        let mut beat = Beat::from(100, 10);
        assert_eq!(beat.due(109), None);
        assert_eq!(
            [beat.due(135), beat.due(135), beat.due(135), beat.due(135)],
            [Some(110), Some(120), Some(130), None]
        );
        assert_eq!(beat.next, 140);
    }
}
