//! `echo`: connections that each wait for their own message and send the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::bench::crew::{Crew, Gauges, Member};
use crate::bench::crowd::connect;
use crate::bench::frame::client_frame;
use crate::bench::inspect::Tracker;
use crate::bench::message::{Found, Payloads, Stamp};
use crate::bench::options::Echo;
use crate::bench::report::{Faults, Figure, Report};
use crate::bench::run::{Run, per_second, share};
use crate::bench::swarm::{Attention, Event, Spec, Swarm};
use crate::bench::target::{Role, Target};
use crate::bench::timeline::distribution;
use crate::bench::{Result, Usage};
use crate::hub::frame::MessageKind;
use crate::ring::token::ConnId;

/// A connection, and how its messages went.
struct Caller {
    id: ConnId,
    sent: u64,
    tracker: Tracker,
}

/// One thread's connections.
struct Callers {
    swarm: Swarm,
    target: Arc<Target>,
    payloads: Payloads,
    /// The number of the first.
    first: u32,
    callers: Vec<Caller>,
    by_slot: Vec<usize>,
    latency: Histogram<u64>,
    faults: Faults,
    complaint: Option<String>,
    timeout: Duration,
}

/// What a thread came to.
struct Outcome {
    echoes: u64,
    elapsed: Duration,
    latency: Histogram<u64>,
    faults: Faults,
    complaint: Option<String>,
}

/// Runs it.
pub fn run(options: &Echo) -> Result<Report> {
    let threads = u32::from(options.common.threads);
    if options.connections < threads {
        return Usage::error("every thread has connections of its own: threads ≤ connections");
    }
    let mut target = Target::new(&options.common)?;
    target.spread(options.connections);
    let target = Arc::new(target);
    let Echo { payload, connections, window, .. } = options;
    let title = format!("{} B, {connections} connections, window {window}", payload.payload);
    let mut run = Run::begin("echo", title, &options.common)?;
    let (start, tag) = (run.start, run.tag());
    let work = {
        let options = options.clone();
        move |member: &Member| thread(&options, &target, start, tag, member)
    };
    let crew = Crew::start(options.common.threads, &options.common.cpus, work)?;
    let outcomes = crew.conclude(|crew| run.measure(crew, options.connections, options.time))?;

    let (mut latency, mut faults) = (distribution(), Faults::default());
    for outcome in &outcomes {
        latency.add(&outcome.latency)?;
        faults.add(&outcome.faults);
    }
    let echoes: u64 = outcomes.iter().map(|outcome| outcome.echoes).sum();
    let elapsed = outcomes.iter().map(|outcome| outcome.elapsed).max().unwrap_or_default();
    let mut figures = vec![Figure::new("echoes", "/s", per_second(echoes, elapsed))];
    figures.extend(run.cost_each("message", echoes));
    let complaint = outcomes.into_iter().find_map(|outcome| outcome.complaint);
    run.finish(figures, &[("sent to received", &latency)], faults, complaint)
}

fn thread(options: &Echo, target: &Arc<Target>, start: Instant, tag: u32, member: &Member) -> Result<Outcome> {
    let (first, end) = share(options.connections, member.index, options.common.threads);
    let payloads = Payloads::new(options.payload.payload, options.payload.fill, tag)?;
    let mut swarm = Swarm::new(target.clone(), end - first, options.common.timeout, start)?;
    let spec = |n| Spec { role: Role::Subscriber, topic: n, n, attention: Attention::Watch };
    let ids = connect(&mut swarm, (first..end).map(spec), options.common.concurrency, &member.gauges)?;
    let mut by_slot = vec![0; ids.len()];
    ids.iter().enumerate().for_each(|(i, id)| by_slot[id.index as usize] = i);
    let callers = ids.into_iter().map(|id| Caller { id, sent: 0, tracker: Tracker::default() }).collect();
    let mut callers = Callers {
        swarm,
        target: target.clone(),
        payloads,
        first,
        callers,
        by_slot,
        latency: distribution(),
        faults: Faults::default(),
        complaint: None,
        timeout: options.common.timeout,
    };
    member.gate()?;
    callers.call(options.window, options.common.warm_up_for(options.time), member)?;
    member.gate()?;
    callers.latency.reset();
    let (echoes, elapsed) = callers.call(options.window, options.time, member)?;
    member.gate()?;
    let Callers { callers, mut faults, complaint, latency, .. } = callers;
    callers.iter().for_each(|caller| caller.tracker.finish(caller.sent, &mut faults));
    Ok(Outcome { echoes, elapsed, latency, faults, complaint })
}

impl Callers {
    /// Keeps so many messages of each connection under way for a time, then waits for the last. Returns how many came
    /// back, in which time.
    fn call(&mut self, window: u32, time: Duration, member: &Member) -> Result<(u64, Duration)> {
        let begin = Instant::now();
        for _ in 0..window {
            (0..self.callers.len()).for_each(|i| self.send(i));
        }
        let (mut echoes, mut under_way) = (0, self.callers.len() as u64 * u64::from(window));
        let mut heard = Instant::now();
        while under_way > 0 && self.complaint.is_none() {
            let back = self.turn()?;
            if !back.is_empty() {
                heard = Instant::now();
            } else if heard.elapsed() > self.timeout {
                self.complaint = Some("an echo did not come in time".into());
            }
            echoes += back.len() as u64;
            under_way -= (back.len() as u64).min(under_way);
            Gauges::add(&member.gauges.deliveries, back.len() as u64);
            if begin.elapsed() < time {
                under_way += back.len() as u64;
                back.into_iter().for_each(|i| self.send(i));
            }
        }
        Ok((echoes, begin.elapsed()))
    }

    fn send(&mut self, i: usize) {
        let due = self.swarm.now();
        let caller = &mut self.callers[i];
        let topic = self.first + i as u32;
        let (mut payload, mut message, mut frame) = (Vec::new(), Vec::new(), Vec::new());
        self.payloads.write(Stamp { topic, seq: caller.sent, due }, &mut payload);
        self.target.publication(topic, &payload, &mut message);
        let kind = if self.target.publishes_text() { MessageKind::Text } else { MessageKind::Binary };
        client_frame(kind, &message, &mut frame);
        caller.sent += 1;
        self.swarm.send(caller.id, &frame);
    }

    /// One turn; returns whose messages came back.
    fn turn(&mut self) -> Result<Vec<usize>> {
        let start = self.swarm.start();
        let Callers { swarm, payloads, first, callers, by_slot, latency, faults, complaint, timeout, .. } = self;
        let mut back = Vec::new();
        swarm.turn(*timeout, &mut |event| match event {
            Event::Message(id, message) => {
                let i = by_slot[id.index as usize];
                match payloads.find(message) {
                    Found::Ours(stamp) if stamp.topic == *first + i as u32 => {
                        let tracker = &mut callers[i].tracker;
                        let before = tracker.received();
                        tracker.take(stamp.seq, faults);
                        if tracker.received() > before {
                            let now = start.elapsed().as_nanos() as u64;
                            latency.saturating_record(now.saturating_sub(stamp.due).max(1));
                            back.push(i);
                        }
                    }
                    Found::Foreign => {}
                    Found::Ours(_) | Found::Corrupt => faults.corrupted += 1,
                }
            }
            Event::Closed(_, why) | Event::Refused(_, why) => {
                faults.closed += 1;
                complaint.get_or_insert(why);
            }
            Event::Open(_) | Event::CaughtUp(_) => {}
        })?;
        Ok(back)
    }
}
