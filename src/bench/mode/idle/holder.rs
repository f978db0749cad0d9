//! A thread that holds connections, and sees what they get.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::bench::Result;
use crate::bench::crew::{Gauges, Member};
use crate::bench::judge::Judge;
use crate::bench::message::Payloads;
use crate::bench::options::Idle;
use crate::bench::refusals::Refusals;
use crate::bench::report::Faults;
use crate::bench::run::share;
use crate::bench::swarm::{Attention, Event, Spec, Swarm};
use crate::bench::target::{Role, Target};
use crate::bench::timeline::distribution;

use super::TOPIC_OF_ALL;
use super::arrivals::Arrivals;

/// How often a thread looks up that has nothing to do.
pub const LOOK_UP: Duration = Duration::from_millis(100);
/// Connections of a thread that may be refused before there is no point in going on: one in so many, and no fewer than
/// this.
const FEW: u32 = 10;
const FEW_OF: u32 = 100;

/// What a thread's connections came to.
pub struct Held {
    /// Connections that were made.
    pub opened: u64,
    /// Why others were not.
    pub refusals: Refusals,
    /// When each message came.
    pub arrivals: Arrivals,
    /// From due to delivered, of every delivery, in nanoseconds.
    pub latency: Histogram<u64>,
    /// Pings that were answered.
    pub pings: u64,
    pub faults: Faults,
    /// The first thing that went wrong, in words.
    pub complaint: Option<String>,
}

impl Held {
    fn new() -> Held {
        Held {
            opened: 0,
            refusals: Refusals::default(),
            arrivals: Arrivals::default(),
            latency: distribution(),
            pings: 0,
            faults: Faults::default(),
            complaint: None,
        }
    }

    /// What all threads' connections came to.
    pub fn sum(all: impl IntoIterator<Item = Held>) -> Result<Held> {
        let mut sum = Held::new();
        for one in all {
            sum.opened += one.opened;
            sum.refusals.merge(&one.refusals);
            sum.arrivals.merge(&one.arrivals);
            sum.latency.add(&one.latency)?;
            sum.pings += one.pings;
            sum.faults.add(&one.faults);
            sum.complaint = sum.complaint.take().or(one.complaint);
        }
        Ok(sum)
    }
}

/// The life of such a thread.
pub fn hold(options: &Idle, target: &Arc<Target>, start: Instant, tag: u32, member: &Member) -> Result<Held> {
    let (first, end) = share(options.connections, member.index, options.common.threads);
    let payloads = Payloads::new(options.payload.payload, options.payload.fill, tag)?;
    let swarm = Swarm::new(target.clone(), end - first, options.common.timeout, start)?;
    let watch = Watch::new(payloads, end - first);
    let mut holder = Holder { swarm, watch, told: Told::default() };
    member.gate()?;
    holder.connect(first..end, options.common.concurrency, &member.gauges)?;
    // The conductor publishes when all threads have theirs.
    holder.watch.judge.expect(TOPIC_OF_ALL, options.publishes.into());
    // Until all are there and memory was read.
    holder.serve(member, Until::Hold)?;
    // Until the hold is over.
    holder.serve(member, Until::End)?;
    let Holder { swarm, watch, .. } = holder;
    let pings = swarm.pings();
    drop(swarm);
    member.gate()?;
    Ok(watch.finish(pings))
}

/// What a thread looks after its connections until.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The hold begins.
    Hold,
    /// It is over.
    End,
}

struct Holder {
    swarm: Swarm,
    watch: Watch,
    told: Told,
}

/// What the gauges know of this thread.
#[derive(Clone, Copy, Default)]
struct Told {
    opened: u64,
    closed: u64,
    delivered: u64,
}

impl Holder {
    /// Opens the connections with these numbers.
    ///
    /// # Errors
    /// More than a few are refused, or this machine makes no more.
    fn connect(&mut self, mut numbers: Range<u32>, concurrency: u32, gauges: &Gauges) -> Result<()> {
        let few = u64::from(FEW.max(numbers.len() as u32 / FEW_OF));
        let mut begun = 0;
        while begun > self.watch.settled() || !numbers.is_empty() {
            let room = u64::from(concurrency).saturating_sub(begun - self.watch.settled());
            for n in numbers.by_ref().take(room as usize) {
                self.swarm.open(Spec {
                    role: Role::Subscriber,
                    topic: TOPIC_OF_ALL,
                    n,
                    attention: Attention::Watch,
                })?;
                begun += 1;
            }
            self.turn(gauges, &|| false)?;
            if self.watch.refusals.total() > few {
                let reasons = self.watch.refusals.in_words().unwrap_or_default();
                return Err(format!("too many connections refused: {reasons}").into());
            }
            gauges.goes_on()?;
        }
        Ok(())
    }

    /// Looks after the connections until all threads are here and were told to go on.
    fn serve(&mut self, member: &Member, until: Until) -> Result<()> {
        member.arrive()?;
        // The others may be closing while this thread has yet to hear of it: who is closed now is no fault.
        let over = || until == Until::End && member.may_go();
        while !member.is_let_go()? {
            self.turn(&member.gauges, &over)?;
        }
        Ok(())
    }

    fn turn(&mut self, gauges: &Gauges, over: &dyn Fn() -> bool) -> Result<()> {
        let Holder { swarm, watch, told } = self;
        swarm.turn(LOOK_UP, &mut |event| {
            if !matches!(event, Event::Closed(..)) || !over() {
                watch.on(event);
            }
        })?;
        let now = Told { opened: watch.opened, closed: watch.judge.faults.closed, delivered: watch.delivered };
        Gauges::add(&gauges.opened, now.opened - told.opened);
        Gauges::sub(&gauges.opened, now.closed - told.closed);
        Gauges::add(&gauges.deliveries, now.delivered - told.delivered);
        *told = now;
        Ok(())
    }
}

/// What has come to a thread's connections.
struct Watch {
    judge: Judge,
    opened: u64,
    refusals: Refusals,
    delivered: u64,
    arrivals: Arrivals,
    latency: Histogram<u64>,
}

impl Watch {
    fn new(payloads: Payloads, slots: u32) -> Watch {
        Watch {
            judge: Judge::new(payloads, TOPIC_OF_ALL, 1, slots),
            opened: 0,
            refusals: Refusals::default(),
            delivered: 0,
            arrivals: Arrivals::default(),
            latency: distribution(),
        }
    }

    /// Connections that were opened or refused.
    fn settled(&self) -> u64 {
        self.opened + self.refusals.total()
    }

    fn on(&mut self, event: Event<'_>) {
        let Watch { judge, opened, refusals, delivered, arrivals, latency, .. } = self;
        match event {
            Event::Open(id) => {
                judge.admit(id, id.index as usize, TOPIC_OF_ALL);
                *opened += 1;
            }
            Event::Refused(_, why) => refusals.add(why),
            event => judge.on(event, |delivery| {
                // What came twice is no delivery.
                if !delivery.repeated {
                    *delivered += 1;
                    latency.saturating_record(delivery.latency());
                    arrivals.add(delivery.stamp, delivery.at);
                }
            }),
        }
    }

    /// What all of it came to.
    fn finish(mut self, pings: u64) -> Held {
        self.judge.finish_all();
        let Judge { mut faults, complaint, .. } = self.judge;
        faults.refused = self.refusals.total();
        let refused = self.refusals.in_words().map(|reasons| format!("refused: {reasons}"));
        Held {
            opened: self.opened,
            complaint: complaint.or(refused),
            refusals: self.refusals,
            arrivals: self.arrivals,
            latency: self.latency,
            pings,
            faults,
        }
    }
}
