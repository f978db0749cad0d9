//! A thread that holds connections, and sees what they get.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::bench::Result;
use crate::bench::crew::{Gauges, Member};
use crate::bench::crowd::connect;
use crate::bench::inspect::Tracker;
use crate::bench::message::{Found, Payloads};
use crate::bench::options::Idle;
use crate::bench::report::Faults;
use crate::bench::run::share;
use crate::bench::swarm::{Attention, Event, Spec, Swarm};
use crate::bench::target::{Role, Target};
use crate::bench::timeline::distribution;

use super::TOPIC_OF_ALL;

/// How often a thread looks up that has nothing to do.
pub const LOOK_UP: Duration = Duration::from_millis(100);
/// Connections that come and go before memory is read.
const WARM_UP: u32 = 200;
/// Connections that may be refused before there is no point in going on: so many, or so many in a hundred.
const FEW: u32 = 10;
const FEW_PERCENT: u32 = 1;

/// What a thread's connections came to.
#[derive(Default)]
pub struct Held {
    /// Connections that were made.
    pub opened: u64,
    /// Why others were not, and how many.
    pub refusals: BTreeMap<String, u64>,
    /// When each message came, in nanoseconds since the run's start.
    pub arrivals: Vec<Option<Arrivals>>,
    /// From due to delivered, of every delivery.
    pub latency: Option<Histogram<u64>>,
    pub pings: u64,
    pub faults: Faults,
    pub complaint: Option<String>,
}

/// When one message reached its subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrivals {
    /// When it was due.
    pub due: u64,
    pub first: u64,
    pub last: u64,
    pub count: u64,
}

impl Arrivals {
    fn at(due: u64, now: u64) -> Arrivals {
        Arrivals { due, first: now, last: now, count: 1 }
    }

    /// Of the same message, elsewhere too.
    pub fn and(self, other: Arrivals) -> Arrivals {
        Arrivals {
            due: self.due,
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            count: self.count + other.count,
        }
    }
}

/// The life of such a thread.
pub fn hold(options: &Idle, target: &Arc<Target>, start: Instant, tag: u32, member: &Member) -> Result<Held> {
    let (first, end) = share(options.connections, member.index, options.common.threads);
    let payloads = Payloads::new(options.payload.payload, options.payload.fill, tag)?;
    let swarm = Swarm::new(target.clone(), end - first, options.common.timeout, start)?;
    let watch = Watch::new(payloads, end - first, options.publishes, start)?;
    let mut holder = Holder { swarm, watch };
    if member.index == 0 {
        holder.warm_up(options, end - first)?;
    }
    member.gate()?;
    holder.connect(first..end, options.common.concurrency, member)?;
    // All are there, and memory was read; the hold is over.
    for _ in 0..2 {
        holder.serve(member)?;
    }
    let Holder { swarm, watch } = holder;
    let held = watch.finish(swarm.pings(), options.publishes.into());
    drop(swarm);
    member.gate()?;
    Ok(held)
}

struct Holder {
    swarm: Swarm,
    watch: Watch,
}

impl Holder {
    /// Opens a few connections and closes them: what a server allocates or compiles for the first is not the others' cost.
    fn warm_up(&mut self, options: &Idle, slots: u32) -> Result<()> {
        let spec = |n| Spec { role: Role::Subscriber, topic: TOPIC_OF_ALL, n, attention: Attention::Watch };
        let few = (0..slots.min(WARM_UP)).map(spec);
        let opened = connect(&mut self.swarm, few, options.common.concurrency, &Gauges::default())?;
        opened.into_iter().for_each(|id| self.swarm.close(id));
        self.swarm.turn(Duration::ZERO, &mut |_| {})
    }

    /// Opens the connections with these numbers.
    ///
    /// # Errors
    /// More than a few are refused, or this machine makes no more.
    fn connect(&mut self, mut numbers: std::ops::Range<u32>, concurrency: u32, member: &Member) -> Result<()> {
        let few = FEW.max(numbers.len() as u32 * FEW_PERCENT / 100);
        let mut pending = 0;
        while pending > 0 || !numbers.is_empty() {
            for n in numbers.by_ref().take((concurrency - pending) as usize) {
                let attention = Attention::Watch;
                self.swarm.open(Spec { role: Role::Subscriber, topic: TOPIC_OF_ALL, n, attention })?;
                pending += 1;
            }
            let (opened, refused) = (self.watch.opened, self.watch.refused);
            self.turn(LOOK_UP)?;
            let opened = self.watch.opened - opened;
            pending -= opened as u32 + (self.watch.refused - refused);
            Gauges::add(&member.gauges.opened, opened);
            if self.watch.refused > few {
                return Err(format!("{} connections refused: {}", self.watch.refused, self.watch.reasons()).into());
            }
        }
        Ok(())
    }

    /// Looks after the connections until all threads are here and were told to go on.
    fn serve(&mut self, member: &Member) -> Result<()> {
        member.arrive()?;
        while !member.is_let_go()? {
            let (delivered, closed) = (self.watch.delivered, self.watch.faults.closed);
            self.turn(LOOK_UP)?;
            Gauges::add(&member.gauges.deliveries, self.watch.delivered - delivered);
            Gauges::sub(&member.gauges.opened, self.watch.faults.closed - closed);
        }
        Ok(())
    }

    fn turn(&mut self, wait: Duration) -> Result<()> {
        let Holder { swarm, watch } = self;
        swarm.turn(wait, &mut |event| watch.on(event))
    }
}

/// What has come to a thread's connections.
struct Watch {
    payloads: Payloads,
    /// Messages that are published in all.
    publishes: u64,
    start: Instant,
    /// By slot; `None` where no connection is open.
    trackers: Vec<Option<Tracker>>,
    opened: u64,
    refused: u32,
    refusals: BTreeMap<String, u64>,
    delivered: u64,
    arrivals: Vec<Option<Arrivals>>,
    latency: Histogram<u64>,
    faults: Faults,
    complaint: Option<String>,
}

impl Watch {
    fn new(payloads: Payloads, slots: u32, publishes: u32, start: Instant) -> Result<Watch> {
        Ok(Watch {
            payloads,
            publishes: publishes.into(),
            start,
            trackers: vec![None; slots as usize],
            opened: 0,
            refused: 0,
            refusals: BTreeMap::new(),
            delivered: 0,
            arrivals: Vec::new(),
            latency: distribution(),
            faults: Faults::default(),
            complaint: None,
        })
    }

    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Open(id) => {
                self.opened += 1;
                self.trackers[id.index as usize] = Some(Tracker::default());
            }
            Event::Message(id, message) => self.message(id.index as usize, message),
            Event::Refused(_, why) => {
                self.refused += 1;
                self.faults.refused += 1;
                *self.refusals.entry(why).or_default() += 1;
            }
            Event::Closed(id, why) => {
                self.faults.closed += 1;
                self.trackers[id.index as usize] = None;
                self.complaint.get_or_insert(format!("a subscriber: {why}"));
            }
            Event::CaughtUp(_) => {}
        }
    }

    fn message(&mut self, slot: usize, message: &[u8]) {
        let stamp = match self.payloads.find(message) {
            Found::Ours(stamp) if stamp.topic == TOPIC_OF_ALL && stamp.seq < self.publishes => stamp,
            Found::Foreign => return,
            Found::Ours(_) | Found::Corrupt => return self.faults.corrupted += 1,
        };
        let Some(tracker) = &mut self.trackers[slot] else { return };
        let before = tracker.received();
        tracker.take(stamp.seq, &mut self.faults);
        if tracker.received() == before {
            return;
        }
        let now = self.start.elapsed().as_nanos() as u64;
        self.delivered += 1;
        self.latency.saturating_record(now.saturating_sub(stamp.due).max(1));
        let arrival = Arrivals::at(stamp.due, now);
        let seq = stamp.seq as usize;
        if self.arrivals.len() <= seq {
            self.arrivals.resize(seq + 1, None);
        }
        let known = &mut self.arrivals[seq];
        *known = Some(known.map_or(arrival, |known| known.and(arrival)));
    }

    fn reasons(&self) -> String {
        let reasons: Vec<String> = self.refusals.iter().map(|(why, count)| format!("{why} ({count} times)")).collect();
        reasons.join("; ")
    }

    /// What all of it came to, if so many messages were published. Those that were closed lack nothing more than that.
    fn finish(mut self, pings: u64, published: u64) -> Held {
        for tracker in self.trackers.iter().flatten() {
            tracker.finish(published, &mut self.faults);
        }
        let complaint = self.complaint.take().or_else(|| (self.refused > 0).then(|| self.reasons()));
        Held {
            opened: self.opened,
            refusals: self.refusals,
            arrivals: self.arrivals,
            latency: Some(self.latency),
            pings,
            faults: self.faults,
            complaint,
        }
    }
}
