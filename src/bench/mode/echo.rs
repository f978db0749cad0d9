//! `echo`: connections that each wait for their own message and send the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::bench::crew::{Crew, Gauges, Member};
use crate::bench::crowd::connect;
use crate::bench::judge::Judge;
use crate::bench::message::{Payloads, Stamp};
use crate::bench::options::Echo;
use crate::bench::publisher::Publisher;
use crate::bench::report::{Faults, Figure, Report};
use crate::bench::run::{Run, per_second, share};
use crate::bench::swarm::{Attention, Spec, Swarm};
use crate::bench::target::{Role, Target};
use crate::bench::timeline::distribution;
use crate::bench::{Result, Usage};
use crate::ring::token::ConnId;

/// One thread's connections: each alone on a topic, of which it is subscriber and publisher.
struct Callers {
    swarm: Swarm,
    publisher: Publisher,
    judge: Judge,
    /// The number of the first, and of its topic.
    first: u32,
    callers: Vec<ConnId>,
    latency: Histogram<u64>,
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
    let mut judge = Judge::new(payloads.clone(), first, end - first, end - first);
    (first..).zip(&ids).enumerate().for_each(|(i, (topic, &id))| judge.admit(id, i, topic));
    let mut callers = Callers {
        swarm,
        publisher: Publisher::new(target.clone(), payloads),
        judge,
        first,
        callers: ids,
        latency: distribution(),
        timeout: options.common.timeout,
    };
    member.gate()?;
    callers.call(options.window, options.common.warm_up_for(options.time), member)?;
    member.gate()?;
    callers.latency.reset();
    let (echoes, elapsed) = callers.call(options.window, options.time, member)?;
    member.gate()?;
    let Callers { mut judge, latency, .. } = callers;
    judge.finish_all();
    Ok(Outcome { echoes, elapsed, latency, faults: judge.faults, complaint: judge.complaint })
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
        while under_way > 0 && self.judge.complaint.is_none() {
            let back = self.turn()?;
            if !back.is_empty() {
                heard = Instant::now();
            } else if heard.elapsed() > self.timeout {
                self.judge.complaint = Some("an echo did not come in time".into());
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
        let (topic, due) = (self.first + i as u32, self.swarm.now());
        let mut frame = Vec::new();
        self.publisher.write(Stamp { topic, seq: self.judge.next(topic), due }, &mut frame);
        self.swarm.send(self.callers[i], &frame);
    }

    /// One turn; returns whose messages came back.
    fn turn(&mut self) -> Result<Vec<usize>> {
        let Callers { swarm, judge, latency, timeout, .. } = self;
        let mut back = Vec::new();
        swarm.turn(*timeout, &mut |event| {
            judge.on(event, |delivery| {
                if !delivery.repeated {
                    latency.saturating_record(delivery.latency());
                    back.push(delivery.subscriber);
                }
            });
        })?;
        Ok(back)
    }
}
