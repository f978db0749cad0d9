//! `idle`: many connections that do nothing, but for a message to all of them now and then. What do they cost, and what
//! does a publish to all do to others?

mod conductor;
mod holder;
mod memory;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::bench::Result;
use crate::bench::crew::{Crew, Gauges, Member};
use crate::bench::options::Idle;
use crate::bench::report::{Figure, Report};
use crate::bench::run::Run;
use crate::bench::target::Target;
use crate::bench::timeline::distribution;

use conductor::Conducted;
use holder::{Arrivals, Held};
use memory::{Curve, Memory};

const TOPIC_OF_ALL: u32 = 0;
const TOPIC_OF_BYSTANDERS: u32 = 1;

/// Between the last connection, or the end of the last, and the reading of memory.
const SETTLE: Duration = Duration::from_secs(2);
/// How often to look whether the server has noticed that all connections are closed, and after how many looks without a
/// change it is taken to have.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOKS: u32 = 8;

/// What a thread came to.
enum Outcome {
    Held(Held),
    Conducted(Conducted),
}

/// What was seen from outside.
struct Seen {
    start: Memory,
    curve: Curve,
    /// How long it took to open all.
    opening: Duration,
    held: Memory,
    closed: Memory,
}

/// Runs it.
pub fn run(options: &Idle) -> Result<Report> {
    check(options)?;
    let mut target = Target::new(&options.common)?;
    target.spread(options.connections + options.bystanders + 2);
    let target = Arc::new(target);
    let mut run = Run::begin("idle", title(options), &options.common)?;
    let (start, tag) = (run.start, run.tag());
    let work = {
        let options = options.clone();
        move |member: &Member| thread(&options, &target, start, tag, member)
    };
    let crew = Crew::start(options.common.threads + 1, &options.common.cpus, work)?;
    let mut seen = None;
    let outcomes = crew.conclude(|crew| {
        seen = Some(lead(options, &mut run, crew)?);
        Ok(())
    })?;
    let seen = seen.ok_or("nobody has seen the run")?;
    report(run, seen, outcomes)
}

fn check(options: &Idle) -> Result<()> {
    if options.connections < options.common.threads.into() {
        return Err("--connections must be no fewer than --threads".into());
    }
    if !(options.bystander_rate > 0.0 && options.bystander_rate <= 1e6) {
        return Err("--bystander-rate must be above 0, and at most 1,000,000".into());
    }
    Ok(())
}

fn title(options: &Idle) -> String {
    let Idle { payload, connections, hold, publishes, bystanders, .. } = options;
    let bystanders = if *bystanders > 0 { format!(", {bystanders} bystanders") } else { String::new() };
    let (seconds, bytes) = (hold.as_secs_f64(), payload.payload);
    format!("{connections} connections held for {seconds} s, {publishes} × {bytes} B to all{bystanders}")
}

/// The last of the threads publishes, the others hold connections.
fn thread(options: &Idle, target: &Arc<Target>, start: Instant, tag: u32, member: &Member) -> Result<Outcome> {
    if member.index == options.common.threads {
        conductor::conduct(options, target, start, tag, member).map(Outcome::Conducted)
    } else {
        holder::hold(options, target, start, tag, member).map(Outcome::Held)
    }
}

fn lead(options: &Idle, run: &mut Run, crew: &Crew<Outcome>) -> Result<Seen> {
    run.phase("getting ready", 0, "");
    crew.gather(|gauges| run.tick(0, gauges))?;
    thread::sleep(SETTLE);
    let start = Memory::now(run.server)?;
    let mut curve = Curve::new(options.connections, &start);

    run.phase("connecting", options.connections.into(), "connections");
    crew.go();
    let begin = Instant::now();
    let mut failed = None;
    crew.gather(|gauges| {
        let opened = Gauges::get(&gauges.opened);
        run.tick(opened, gauges);
        if curve.wants(opened) {
            match Memory::now(run.server) {
                Ok(now) => curve.add(opened, &now),
                Err(error) => failed = Some(error),
            }
        }
    })?;
    failed.map_or(Ok(()), Err)?;
    let opening = begin.elapsed();
    thread::sleep(SETTLE);
    let held = Memory::now(run.server)?;
    curve.add(Gauges::get(&crew.gauges.opened), &held);

    run.phase("holding", options.hold.as_millis() as u64, "ms");
    run.measure_from_here()?;
    crew.go();
    let begin = Instant::now();
    crew.gather(|gauges| run.tick(begin.elapsed().as_millis() as u64, gauges))?;
    run.measure_to_here()?;

    run.phase("closing", 0, "");
    crew.go();
    crew.gather(|gauges| run.tick(0, gauges))?;
    let closed = await_closed(run, crew, &start)?;
    crew.go();
    Ok(Seen { start, curve, opening, held, closed })
}

/// Waits until the server has closed its ends too, as far as that shows, and reads memory.
fn await_closed(run: &mut Run, crew: &Crew<Outcome>, start: &Memory) -> Result<Memory> {
    let (mut least, mut looks) = (u64::MAX, 0);
    while least > start.kernel.inuse && looks < LOOKS {
        run.tick(0, &crew.gauges);
        thread::sleep(LOOK_EVERY);
        let inuse = Memory::now(run.server)?.kernel.inuse;
        looks = if inuse < least { 0 } else { looks + 1 };
        least = least.min(inuse);
    }
    thread::sleep(SETTLE);
    Memory::now(run.server)
}

fn report(run: Run, seen: Seen, outcomes: Vec<Outcome>) -> Result<Report> {
    let (mut crowd, mut conducted) = (Held::default(), Conducted::default());
    let mut delivered = distribution();
    for outcome in outcomes {
        match outcome {
            Outcome::Held(held) => crowd.add(held, &mut delivered)?,
            Outcome::Conducted(outcome) => conducted = outcome,
        }
    }
    let rate = crowd.opened as f64 / seen.opening.as_secs_f64();
    let mut figures =
        vec![Figure::new("connections", "", crowd.opened as f64), Figure::new("connections opened", "/s", rate)];
    figures.extend(memory::each(crowd.opened, &seen.start, &seen.held));
    figures.extend(times(&crowd.arrivals));
    figures.push(Figure::new("pings answered", "", crowd.pings as f64));
    figures.extend(run.cost_each("delivery", 0));
    figures.extend(memory::left(&seen.start, &seen.held, &seen.closed));
    figures.extend(refusals(&crowd.refusals));
    let mut faults = crowd.faults;
    faults.add(&conducted.faults);
    let latencies = [
        ("published to delivered, of all", Some(delivered)),
        ("bystanders, alone: due to delivered", conducted.alone),
        ("bystanders, while all are published to: due to delivered", conducted.meanwhile),
        ("the load's share in that: due to written", conducted.lateness),
    ];
    let latencies: Vec<_> = latencies.iter().filter_map(|(name, taken)| Some((*name, taken.as_ref()?))).collect();
    let complaint = crowd.complaint.or(conducted.complaint);
    let mut report = run.finish(figures, &latencies, faults, complaint)?;
    report.series.extend(seen.curve.series());
    Ok(report)
}

impl Held {
    /// Adds what another thread came to.
    fn add(&mut self, other: Held, delivered: &mut Histogram<u64>) -> Result<()> {
        self.opened += other.opened;
        self.pings += other.pings;
        self.faults.add(&other.faults);
        self.complaint = self.complaint.take().or(other.complaint);
        for (why, count) in other.refusals {
            *self.refusals.entry(why).or_default() += count;
        }
        let messages = self.arrivals.len().max(other.arrivals.len());
        self.arrivals.resize(messages, None);
        for (known, more) in self.arrivals.iter_mut().zip(other.arrivals) {
            *known = match (*known, more) {
                (Some(known), Some(more)) => Some(known.and(more)),
                (known, more) => known.or(more),
            };
        }
        other.latency.map_or(Ok(()), |latency| delivered.add(&latency))?;
        Ok(())
    }
}

/// Of the message that took longest to reach all: when the first had it, and the last.
fn times(arrivals: &[Option<Arrivals>]) -> Vec<Figure> {
    let Some(slowest) = arrivals.iter().flatten().max_by_key(|arrivals| arrivals.last - arrivals.due) else {
        return Vec::new();
    };
    let ms = |name: &str, time: u64, from: u64| Figure::new(name, "ms", time.saturating_sub(from) as f64 / 1e6);
    vec![
        ms("published to the first delivery, slowest publish", slowest.first, slowest.due),
        ms("… to the last", slowest.last, slowest.due),
        ms("first delivery to the last", slowest.last, slowest.first),
    ]
}

fn refusals(refusals: &BTreeMap<String, u64>) -> Vec<Figure> {
    refusals.iter().map(|(why, &count)| Figure::new(format!("refused: {why}"), "", count as f64)).collect()
}
