//! `fanout`: publish, wait until all have it, and again (closed loop).

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::bench::crew::{Crew, Gauges, Member};
use crate::bench::crowd::{Crowd, Plan, spread};
use crate::bench::message::Payloads;
use crate::bench::options::Fanout;
use crate::bench::report::{Faults, Figure, Report};
use crate::bench::run::{Run, per_second, share};
use crate::bench::target::Target;
use crate::bench::timeline::distribution;
use crate::bench::{Result, Usage};

/// A phase has no fewer rounds than these.
const LEAST_ROUNDS: u64 = 3;
/// Subscribers of a topic that are read in full: of one topic among few, and of one among many.
const SAMPLES: (usize, usize) = (16, 1);
const FEW_TOPICS: usize = 16;

/// What a thread's crowd came to.
struct Outcome {
    faults: Faults,
    complaint: Option<String>,
    rounds: u64,
    deliveries: u64,
    elapsed: Duration,
    latency: Histogram<u64>,
    /// Of those that are read.
    bytes_and_messages: (u64, u64),
}

/// Runs it.
pub fn run(options: &Fanout) -> Result<Report> {
    check(options)?;
    let mut target = Target::new(&options.common)?;
    target.spread(options.subscribers + options.topics);
    let target = Arc::new(target);
    let mut run = Run::begin("fanout", title(options), &options.common)?;
    let (start, tag) = (run.start, run.tag());
    let work = {
        let options = options.clone();
        move |member: &Member| thread(&options, &target, start, tag, member)
    };
    let crew = Crew::start(options.common.threads, &options.common.cpus, work)?;
    let outcomes = crew.conclude(|crew| run.measure(crew, options.subscribers, options.time))?;
    report(options, run, outcomes)
}

fn check(options: &Fanout) -> Result<()> {
    let threads = u32::from(options.common.threads);
    if options.topics < threads || options.subscribers < options.topics {
        return Usage::error(
            "every thread has topics of its own, and every topic a subscriber: --threads ≤ --topics ≤ --subscribers",
        );
    }
    if !(0.0..100.0).contains(&options.stalled) {
        return Usage::error("--stalled is a percentage below 100");
    }
    Ok(())
}

fn title(options: &Fanout) -> String {
    let Fanout { payload, subscribers, topics, burst, window, stalled, .. } = options;
    let topics = if *topics == 1 { "1 topic".into() } else { format!("{topics} topics") };
    let stalled = if *stalled > 0.0 { format!(", {stalled} % of them stalled") } else { String::new() };
    format!("{} B to {subscribers} subscribers of {topics}{stalled}, burst {burst}, window {window}", payload.payload)
}

/// One thread's part.
fn thread(options: &Fanout, target: &Arc<Target>, start: Instant, tag: u32, member: &Member) -> Result<Outcome> {
    let plan = plan(options, member.index);
    let payloads = Payloads::new(options.payload.payload, options.payload.fill, tag)?;
    let mut crowd = Crowd::connect(target, &options.common, payloads, &plan, start, member)?;
    member.gate()?;
    // Everybody is read in full once.
    crowd.publish_to_all(options.burst);
    let mut fine = crowd.await_all(0)?;
    let kept = samples(&crowd);
    if !options.common.verify_all {
        crowd.count_all_but(&kept);
    }
    let sentinel = *kept.last().ok_or("every subscriber is stalled")?;
    crowd.watch(&[sentinel]);
    fine = fine && rounds(&mut crowd, sentinel, options, options.common.warm_up_for(options.time), member)?.fine;
    member.gate()?;
    crowd.times.latency.reset();
    let phase = if fine { rounds(&mut crowd, sentinel, options, options.time, member)? } else { Phase::default() };
    member.gate()?;
    let bytes_and_messages = crowd.bytes_and_messages();
    crowd.finish()?;
    let deliveries = phase.rounds * u64::from(options.burst) * crowd.healthy() as u64;
    let Crowd { judge, times, .. } = crowd;
    Ok(Outcome {
        faults: judge.faults,
        complaint: judge.complaint,
        rounds: phase.rounds,
        deliveries,
        elapsed: phase.elapsed,
        latency: times.latency,
        bytes_and_messages,
    })
}

/// What this thread has of topics and subscribers: shares that differ by one at most.
fn plan(options: &Fanout, index: u16) -> Plan {
    let threads = options.common.threads;
    let (first_topic, end_topic) = share(options.topics, index, threads);
    let (first, end) = share(options.subscribers, index, threads);
    Plan {
        first_topic,
        topics: end_topic - first_topic,
        first_n: first + first_topic,
        subscribers: end - first,
        stalled: options.stalled,
    }
}

/// Who is read in full once all are known to be there; the last is the last of all.
fn samples(crowd: &Crowd) -> Vec<usize> {
    let topics = crowd.topics();
    let each = if topics <= FEW_TOPICS { SAMPLES.0 } else { SAMPLES.1 };
    let of = |topic: usize| {
        let readers = crowd.readers(topic);
        spread(each, readers.len(), 0, 1).into_iter().map(|at| readers[at])
    };
    (0..topics).flat_map(of).collect()
}

#[derive(Default)]
struct Phase {
    rounds: u64,
    elapsed: Duration,
    fine: bool,
}

/// Rounds for a time, and no fewer than three: one to 10,000 may take longer than the time.
fn rounds(crowd: &mut Crowd, sentinel: usize, options: &Fanout, time: Duration, member: &Member) -> Result<Phase> {
    let burst = u64::from(options.burst);
    let deliveries = burst * crowd.healthy() as u64;
    let begin = Instant::now();
    let (mut published, mut fine) = (0, true);
    while fine && (published < LEAST_ROUNDS || begin.elapsed() < time) {
        crowd.publish_to_all(options.burst);
        published += 1;
        let under_way = burst * published.min(u64::from(options.window) - 1);
        fine = crowd.await_one(sentinel, under_way)? && crowd.await_all(under_way)?;
        Gauges::add(&member.gauges.deliveries, deliveries);
        crowd.stay_alive();
        member.gauges.goes_on()?;
    }
    fine = fine && crowd.await_all(0)?;
    Ok(Phase { rounds: published, elapsed: begin.elapsed(), fine })
}

fn report(options: &Fanout, run: Run, outcomes: Vec<Outcome>) -> Result<Report> {
    let deliveries: u64 = outcomes.iter().map(|outcome| outcome.deliveries).sum();
    let elapsed = outcomes.iter().map(|outcome| outcome.elapsed).max().unwrap_or_default();
    let rounds: u64 = outcomes.iter().map(|outcome| outcome.rounds).sum();
    let mut latency = distribution();
    let mut faults = Faults::default();
    for outcome in &outcomes {
        latency.add(&outcome.latency)?;
        faults.add(&outcome.faults);
    }
    let (bytes, messages) = outcomes.iter().fold((0, 0), |(bytes, messages), outcome| {
        (bytes + outcome.bytes_and_messages.0, messages + outcome.bytes_and_messages.1)
    });
    let complaint = outcomes.into_iter().find_map(|outcome| outcome.complaint);
    let mut figures = vec![Figure::new("deliveries", "/s", per_second(deliveries, elapsed))];
    figures.extend(run.cost_each("delivery", deliveries));
    figures.push(Figure::new("publications", "/s", per_second(rounds * u64::from(options.burst), elapsed)));
    if messages > 0 {
        figures.push(Figure::new("bytes on the wire a delivery", "B", bytes as f64 / messages as f64));
    }
    run.finish(figures, &[("published to delivered, of one subscriber", &latency)], faults, complaint)
}
