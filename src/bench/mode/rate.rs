//! `rate`: publish at a fixed rate, whatever becomes of it (open loop).
//!
//! Every message is stamped with when it was due, and latency counts from then: if the server, or this load, holds up one
//! message, those that had to wait behind it show it. A message that could not be sent in time is sent as soon as possible;
//! none is left out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::bench::crew::{Crew, Gauges, Member};
use crate::bench::crowd::{Crowd, Plan, spread};
use crate::bench::message::Payloads;
use crate::bench::options::Rate;
use crate::bench::report::{Faults, Figure, Report};
use crate::bench::run::{Run, per_second, share};
use crate::bench::schedule::Schedule;
use crate::bench::target::Target;
use crate::bench::timeline::{Timeline, distribution};
use crate::bench::{Result, Usage};
use crate::ring::sys;

/// Subscribers that are asked for what has come between two looks at the clock: some ten microseconds.
const SWEEP: usize = 16;
/// Those that nothing wakes the thread for are asked all of them so often, or when so many bytes are due to each.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
const SWEEP_BYTES: f64 = 32768.0;
/// How many bytes may wait for the server to take them. Messages that are due wait beyond that too, but not as bytes.
const MAX_UNSENT: usize = 1 << 20;
/// Lines of the plot over time.
const PERCENTILES: [f64; 3] = [50.0, 99.0, 99.9];

/// What a thread's crowd came to.
struct Outcome {
    faults: Faults,
    complaint: Option<String>,
    phase: Phase,
    latency: Histogram<u64>,
    timeline: Timeline,
}

/// Runs it.
pub fn run(options: &Rate) -> Result<Report> {
    check(options)?;
    let mut target = Target::new(&options.common)?;
    target.spread(options.subscribers + options.topics);
    let target = Arc::new(target);
    let mut run = Run::begin("rate", title(options), &options.common)?;
    let (start, tag) = (run.start, run.tag());
    let work = {
        let options = options.clone();
        move |member: &Member| thread(&options, &target, start, tag, member)
    };
    let crew = Crew::start(options.common.threads, &options.common.cpus, work)?;
    let outcomes = crew.conclude(|crew| run.measure(crew, options.subscribers, options.time))?;
    report(run, outcomes)
}

fn check(options: &Rate) -> Result<()> {
    let Rate { subscribers, topics, rate, common, .. } = options;
    if u32::from(common.threads) > *topics || topics > subscribers {
        return Usage::error(
            "every thread has topics of its own, and every topic a subscriber: --threads ≤ --topics ≤ --subscribers",
        );
    }
    if !(rate.is_finite() && *rate > 0.0) {
        return Usage::error("--rate must be more than 0");
    }
    Ok(())
}

fn title(options: &Rate) -> String {
    let Rate { payload, subscribers, topics, rate, .. } = options;
    let topics = if *topics == 1 { "1 topic".into() } else { format!("{topics} topics") };
    format!("{} B to {subscribers} subscribers of {topics}, {rate} messages a second", payload.payload)
}

/// One thread's part: its topics, and their share of the rate.
fn thread(options: &Rate, target: &Arc<Target>, start: Instant, tag: u32, member: &Member) -> Result<Outcome> {
    sys::wake_on_time()?;
    let threads = options.common.threads;
    let plan = plan(options, member.index);
    let rate = options.rate * f64::from(plan.topics) / f64::from(options.topics);
    let payloads = Payloads::new(options.payload.payload, options.payload.fill, tag)?;
    let mut crowd = Crowd::connect(target, &options.common, payloads, &plan, start, member)?;
    member.gate()?;
    // Everybody is read in full once.
    crowd.publish_to_all(1);
    let mut fine = crowd.await_all(0)?;
    let (first, end) = share(options.samples, member.index, threads);
    choose(&mut crowd, (end - first) as usize, options.common.verify_all);
    fine = fine
        && Publishing::begin(&mut crowd, options, rate, options.common.warm_up_for(options.time))?.run(member)?.fine;
    member.gate()?;
    let time = if fine { options.time } else { Duration::ZERO };
    let mut phase = Publishing::begin(&mut crowd, options, rate, time)?.run(member)?;
    member.gate()?;
    crowd.finish()?;
    let Crowd { judge, times, .. } = crowd;
    phase.deliveries = phase.deliveries.saturating_sub(judge.faults.lost);
    Ok(Outcome {
        faults: judge.faults,
        complaint: judge.complaint,
        phase,
        latency: times.latency,
        timeline: times.timeline,
    })
}

fn plan(options: &Rate, index: u16) -> Plan {
    let threads = options.common.threads;
    let (first_topic, end_topic) = share(options.topics, index, threads);
    let (first, end) = share(options.subscribers, index, threads);
    Plan {
        first_topic,
        topics: end_topic - first_topic,
        first_n: first + first_topic,
        subscribers: end - first,
        stalled: 0.0,
    }
}

/// Chooses who is timed, spread over the topics and over each topic's subscribers in the order in which they connected. They
/// are read in full, one of each topic is at least, and the others are counted.
fn choose(crowd: &mut Crowd, samples: usize, read_all: bool) {
    let topics = crowd.topics();
    let (mut kept, mut timed) = (Vec::new(), Vec::new());
    for topic in 0..topics {
        let wanted = samples * (topic + 1) / topics - samples * topic / topics;
        let readers = crowd.readers(topic);
        let chosen = spread(wanted.max(1), readers.len(), topic, topics).into_iter().map(|at| readers[at]);
        kept.extend(chosen.clone());
        timed.extend(chosen.take(wanted));
    }
    if !read_all {
        crowd.count_all_but(&kept);
    }
    crowd.watch(&timed);
}

/// What a phase came to.
struct Phase {
    fine: bool,
    published: u64,
    /// Until the last was sent, or the next would have been due.
    publishing: Duration,
    deliveries: u64,
    /// Until the last was delivered.
    delivering: Duration,
    /// From due to sent, as far as this load is to blame and not a server that did not take what was before.
    lag: Histogram<u64>,
}

/// A phase under way.
struct Publishing<'a> {
    crowd: &'a mut Crowd,
    schedule: Schedule,
    timeout: Duration,
    sent: u64,
    /// When the server last began to take bytes again, in nanoseconds since the run began.
    released: u64,
    sweep_every: Duration,
    swept: Instant,
    lag: Histogram<u64>,
    /// Subscribers that are timed, and how many deliveries were told of.
    samples: u64,
    told: u64,
}

impl<'a> Publishing<'a> {
    /// Begins a phase of so many messages a second for some time. Latencies are kept of this phase only.
    fn begin(crowd: &'a mut Crowd, options: &Rate, rate: f64, time: Duration) -> Result<Publishing<'a>> {
        let schedule = Schedule::new(crowd.swarm.now(), rate, time);
        crowd.times.latency.reset();
        crowd.times.timeline = Timeline::new(schedule.begin, time);
        let samples = crowd.subscribers.iter().filter(|subscriber| subscriber.timed).count() as u64;
        let bytes_a_second = options.payload.payload as f64 * rate / crowd.topics() as f64;
        Ok(Publishing {
            crowd,
            schedule,
            timeout: options.common.timeout,
            sent: 0,
            released: 0,
            sweep_every: SWEEP_EVERY
                .min(Duration::try_from_secs_f64(SWEEP_BYTES / bytes_a_second).unwrap_or(SWEEP_EVERY)),
            swept: Instant::now(),
            lag: distribution(),
            samples: samples.max(1),
            told: 0,
        })
    }

    /// Publishes all that is due, then waits until it has been delivered.
    fn run(mut self, member: &Member) -> Result<Phase> {
        let before: Vec<u64> = (0..self.crowd.topics()).map(|topic| self.crowd.published_to(topic)).collect();
        let Schedule { begin, .. } = self.schedule;
        let end = self.schedule.end();
        // One that was given up took no longer than it did.
        let since = |now: u64, whole: bool| Duration::from_nanos(if whole { now.max(end) } else { now } - begin);
        while self.sent < self.schedule.count && self.crowd.judge.complaint.is_none() {
            self.step()?;
            self.tell(member);
            member.gauges.goes_on()?;
        }
        let whole = self.sent == self.schedule.count;
        let publishing = since(self.crowd.swarm.now(), whole);
        let fine = self.crowd.await_all(0)?;
        let delivering = since(self.crowd.swarm.now(), whole);
        let of = |(topic, &before): (usize, &u64)| {
            (self.crowd.published_to(topic) - before) * self.crowd.healthy_of(topic) as u64
        };
        let deliveries = before.iter().enumerate().map(of).sum();
        Ok(Phase { fine, published: self.sent, publishing, deliveries, delivering, lag: self.lag })
    }

    /// Sends what is due, then makes use of the time until something else is.
    fn step(&mut self) -> Result<()> {
        let wait = self.publish_due();
        if self.swept.elapsed() >= self.sweep_every {
            self.swept = Instant::now();
            self.crowd.begin_sweep();
        }
        let sweeping = self.crowd.sweep(SWEEP);
        self.crowd.turn(if sweeping { Duration::ZERO } else { wait.min(self.sweep_every) })
    }

    /// Says how many deliveries there were, as far as those that are timed stand for all.
    fn tell(&mut self, member: &Member) {
        let told = self.crowd.times.latency.len() * self.crowd.healthy() as u64 / self.samples;
        Gauges::add(&member.gauges.deliveries, told - self.told);
        self.told = told;
    }

    /// Returns how long nothing is due.
    fn publish_due(&mut self) -> Duration {
        let now = self.crowd.swarm.now();
        while let Some(due) = self.schedule.due(self.sent) {
            if due > now {
                return Duration::from_nanos(due - now);
            }
            let topic = (self.sent % self.crowd.topics() as u64) as usize;
            if self.crowd.unsent(topic) > MAX_UNSENT {
                self.hold(now, due);
                break;
            }
            self.crowd.publish(topic, 1, due);
            self.lag.saturating_record((now - due.max(self.released).min(now)).max(1));
            self.sent += 1;
        }
        self.sweep_every
    }

    /// The server does not take what was published before.
    fn hold(&mut self, now: u64, due: u64) {
        self.released = now;
        if Duration::from_nanos(now - due) > self.timeout {
            let complaint =
                "the server takes messages more slowly than they are due: one waited for longer than --timeout";
            self.crowd.judge.complaint.get_or_insert_with(|| complaint.into());
        }
    }
}

fn report(run: Run, outcomes: Vec<Outcome>) -> Result<Report> {
    let (mut latency, mut lag) = (distribution(), distribution());
    let (mut timeline, mut faults) = (Timeline::default(), Faults::default());
    for outcome in &outcomes {
        latency.add(&outcome.latency)?;
        lag.add(&outcome.phase.lag)?;
        timeline.add(&outcome.timeline);
        faults.add(&outcome.faults);
    }
    let sum = |of: fn(&Phase) -> u64| outcomes.iter().map(|outcome| of(&outcome.phase)).sum();
    let longest = |of: fn(&Phase) -> Duration| outcomes.iter().map(|outcome| of(&outcome.phase)).max();
    let (deliveries, published): (u64, u64) = (sum(|phase| phase.deliveries), sum(|phase| phase.published));
    let delivering = longest(|phase| phase.delivering).unwrap_or_default();
    let publishing = longest(|phase| phase.publishing).unwrap_or_default();
    // A run that was given up before it was measured has no rates, which is not the same as rates of nothing.
    let rates = [("publications", published, publishing), ("deliveries", deliveries, delivering)];
    let measured = rates.into_iter().filter(|(_, _, time)| !time.is_zero());
    let mut figures: Vec<Figure> =
        measured.map(|(name, count, time)| Figure::new(name, "/s", per_second(count, time))).collect();
    figures.extend(run.cost_each("delivery", deliveries));
    let complaint = outcomes.into_iter().find_map(|outcome| outcome.complaint);
    let latencies = [("due to delivered", &latency), ("due to sent: the load's own lag", &lag)];
    let mut report = run.finish(figures, &latencies, faults, complaint)?;
    report.series.extend(timeline.series("latency", &PERCENTILES));
    Ok(report)
}
