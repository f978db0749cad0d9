//! `idle`: many connections that do nothing, but for a message to all of them now and then. What do they cost, and what
//! does a publish to all do to others?

mod arrivals;
mod conductor;
mod holder;
mod memory;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::crew::{Crew, Gauges, Member};
use crate::bench::options::Idle;
use crate::bench::report::{Figure, Report};
use crate::bench::run::{Run, per_second};
use crate::bench::target::Target;
use crate::bench::{Result, Usage};

use arrivals::Arrival;
use conductor::Conducted;
use holder::Held;
use memory::{Curve, Memory};

const TOPIC_OF_ALL: u32 = 0;
const TOPIC_OF_BYSTANDERS: u32 = 1;

/// Between the last connection, or the end of the last, and the reading of memory.
const SETTLE: Duration = Duration::from_secs(2);
/// How often to look whether the server has noticed that all connections are closed, and after how many looks without a
/// change it is taken to have.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOKS: u32 = 8;

/// What the growth of a server's memory is worth.
const FRESH: &str = "memory that the server's allocator has kept from before the run is used again and shows as no growth: \
                     measure on a server that has just been started";

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
    target.spread(conductor::connections(options) + options.connections);
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
    report(run, seen.ok_or("nobody has seen the run")?, outcomes)
}

fn check(options: &Idle) -> Result<()> {
    if options.connections < options.common.threads.into() {
        return Usage::error("every thread has connections of its own: threads ≤ connections");
    }
    if !(options.bystander_rate > 0.0 && options.bystander_rate <= 1e6) {
        return Usage::error("--bystander-rate must be above 0, and at most 1,000,000");
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

/// Reads memory when the threads are ready, while they connect, when all are connected, and when all are closed.
fn lead(options: &Idle, run: &mut Run, crew: &Crew<Outcome>) -> Result<Seen> {
    run.phase("getting ready", 0, "");
    crew.gather(|gauges| run.tick(0, gauges))?;
    thread::sleep(SETTLE);
    let start = Memory::now(run.server)?;

    let (curve, opening) = connect(options, run, crew, &start)?;
    thread::sleep(SETTLE);
    let held = Memory::now(run.server)?;

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

fn connect(options: &Idle, run: &mut Run, crew: &Crew<Outcome>, start: &Memory) -> Result<(Curve, Duration)> {
    let mut curve = Curve::new(options.connections, start);
    run.phase("connecting", options.connections.into(), "connections");
    crew.go();
    let begin = Instant::now();
    let mut read = Ok(());
    crew.gather(|gauges| {
        let opened = Gauges::get(&gauges.opened);
        run.tick(opened, gauges);
        if read.is_ok() && curve.wants(opened) {
            read = Memory::now(run.server).map(|now| curve.add(opened, &now));
        }
    })?;
    read.map(|()| (curve, begin.elapsed()))
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
    let (mut held, mut conducted) = (Vec::new(), None);
    for outcome in outcomes {
        match outcome {
            Outcome::Held(one) => held.push(one),
            Outcome::Conducted(one) => conducted = Some(one),
        }
    }
    let (crowd, conducted) = (Held::sum(held)?, conducted.ok_or("nobody has published")?);
    let Seen { start, curve, opening, held, closed } = seen;
    let mut figures = vec![
        Figure::new("connections", "", crowd.opened as f64),
        Figure::new("connections opened", "/s", per_second(crowd.opened, opening)),
    ];
    figures.extend(memory::each(crowd.opened, &start, &held));
    figures.extend(crowd.arrivals.slowest().map(times).into_iter().flatten());
    figures.push(Figure::new("pings answered", "", crowd.pings as f64));
    figures.extend(run.cost_each("delivery", 0));
    figures.extend(memory::left(&start, &held, &closed));
    let mut faults = crowd.faults;
    faults.add(&conducted.faults);
    let latencies = [
        ("published to delivered, of all", &crowd.latency),
        ("bystanders, alone: due to delivered", &conducted.alone),
        ("bystanders, while all are published to: due to delivered", &conducted.meanwhile),
        ("the load's share in that: due to written", &conducted.lateness),
    ];
    let complaint = crowd.complaint.or(conducted.complaint);
    let mut report = run.finish(figures, &latencies, faults, complaint)?;
    report.notes.extend(start.server.map(|_| FRESH.into()));
    report.series.extend(curve.series());
    Ok(report)
}

/// Of the message that took longest to reach all.
fn times(slowest: Arrival) -> [Figure; 3] {
    let ms = |name: &str, from: u64, to: u64| Figure::new(name, "ms", to.saturating_sub(from) as f64 / 1e6);
    let Arrival { due, first, last, .. } = slowest;
    [
        ms("published to the first delivery, slowest publish", due, first),
        ms("published to the last delivery, slowest publish", due, last),
        ms("first delivery to the last, slowest publish", first, last),
    ]
}
