//! `stalled`: some subscribers never read while they are published to. What does that cost the server, and what do they
//! get when they read on?

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bench::crew::{Crew, Gauges, Member};
use crate::bench::crowd::connect;
use crate::bench::judge::{Excused, Judge};
use crate::bench::message::{Payloads, Stamp};
use crate::bench::observe::{Process, without_caches};
use crate::bench::options::{Fill, Stalled};
use crate::bench::publisher::Publisher;
use crate::bench::report::{Faults, Figure, Report};
use crate::bench::run::{Run, per_second};
use crate::bench::swarm::{Attention, Spec, Swarm};
use crate::bench::target::{Role, Target};
use crate::bench::{Result, Usage};
use crate::ring::token::ConnId;

/// How long to publish before anybody stalls, unless told.
const WARM_UP: Duration = Duration::from_millis(500);
/// Before memory is read: a server may have something to tidy up.
const SETTLE: Duration = Duration::from_millis(200);
/// How often memory is read meanwhile, for its peak.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Those who read on have what they get when nothing has come for so long. A sender that finds a window closed asks again
/// after 200 ms, then 400, and so on (RFC 9293 section 3.8.6.1).
const QUIET: Duration = Duration::from_secs(1);

/// The topic's one and only.
const TOPIC: u32 = 0;

/// Memory at some moment, as far as it can be seen.
#[derive(Clone, Copy, Default, Debug)]
struct Memory {
    /// Bytes of the server's that are resident.
    resident: Option<u64>,
    /// Bytes in the queues of all sockets of the machine.
    sockets: u64,
}

/// What a phase of the run left behind.
#[derive(Default, Debug)]
struct Outcome {
    before: Memory,
    peak: Memory,
    after: Memory,
    /// Messages to each.
    published: u64,
    elapsed: Duration,
    /// What became of the stalled ones. That is no fault: they did not read.
    stalled: Excused,
    /// What happened to the one that reads, and what should have happened to none.
    faults: Faults,
    complaint: Option<String>,
}

/// Runs it.
pub fn run(options: &Stalled) -> Result<Report> {
    if options.common.threads != 1 {
        return Usage::error("--threads must be 1: the one that reads sets the pace of all");
    }
    let mut target = Target::new(&options.common)?;
    target.spread(options.readers + 2);
    let target = Arc::new(target);
    let Stalled { readers, payload, volume, .. } = options;
    let title = format!("{readers} that never read, {} MiB to each in messages of {payload} B", volume >> 20);
    let mut run = Run::begin("stalled", title, &options.common)?;
    let (server, start, tag) = (run.server, run.start, run.tag());
    let work = {
        let options = options.clone();
        move |member: &Member| thread(&options, &target, server, start, tag, member)
    };
    let crew = Crew::start(1, &options.common.cpus, work)?;
    let outcomes = crew.conclude(|crew| lead(options, &mut run, crew))?;
    let outcome = outcomes.into_iter().next().unwrap_or_default();
    let mut figures = figures(options, &outcome);
    figures.extend(run.cost_each("message published", outcome.published));
    run.finish(figures, &[], outcome.faults, outcome.complaint)
}

fn lead(options: &Stalled, run: &mut Run, crew: &Crew<Outcome>) -> Result<()> {
    run.phase("connecting", u64::from(options.readers) + 2, "connections");
    crew.gather(|gauges| run.tick(Gauges::get(&gauges.opened), gauges))?;
    run.is_warm();
    run.measure_from_here()?;
    crew.go();
    run.phase("publishing", messages(options), "messages");
    crew.gather(|gauges| run.tick(Gauges::get(&gauges.deliveries), gauges))?;
    run.measure_to_here()?;
    crew.go();
    let all = messages(options) * (u64::from(options.readers) + 1);
    run.phase("reading on", all, "messages");
    crew.gather(|gauges| run.tick(Gauges::get(&gauges.deliveries), gauges))?;
    crew.go();
    Ok(())
}

fn messages(options: &Stalled) -> u64 {
    (options.volume / options.payload.max(1)).max(1) as u64
}

fn thread(
    options: &Stalled,
    target: &Arc<Target>,
    server: Option<Process>,
    start: Instant,
    tag: u32,
    member: &Member,
) -> Result<Outcome> {
    let mut topic = Topic::connect(options, target, start, tag, member)?;
    topic.warm_up(options.common.warm_up.unwrap_or(WARM_UP))?;
    topic.connect_stalled(options, member)?;
    std::thread::sleep(SETTLE);
    let before = Memory::now(server)?;
    member.gate()?;
    let begin = Instant::now();
    let (published, peak) = topic.publish_all(messages(options), server, member)?;
    let elapsed = begin.elapsed();
    std::thread::sleep(SETTLE);
    let after = Memory::now(server)?;
    member.gate()?;
    topic.read_on(member)?;
    member.gate()?;
    let mut judge = topic.judge;
    judge.finish_all();
    let Judge { faults, complaint, excused: stalled, .. } = judge;
    Ok(Outcome { before, peak: peak.or(after), after, published, elapsed, stalled, faults, complaint })
}

/// The topic, its publisher, and its subscribers: one that reads, and those that never do.
struct Topic {
    swarm: Swarm,
    publisher: Publisher,
    judge: Judge,
    /// The connection that publishes, and the one that reads.
    publishing: ConnId,
    reading: ConnId,
    stalled: Vec<ConnId>,
    timeout: Duration,
}

impl Topic {
    /// Connects the one that reads, and the publisher.
    fn connect(options: &Stalled, target: &Arc<Target>, start: Instant, tag: u32, member: &Member) -> Result<Topic> {
        let Stalled { common, readers, payload, .. } = options;
        let payloads = Payloads::new(*payload, Fill::Ticks, tag)?;
        let slots = readers + 2;
        let mut swarm = Swarm::new(target.clone(), slots, common.timeout, start)?;
        let spec = |role, n| Spec { role, topic: TOPIC, n, attention: Attention::Watch };
        let two = [spec(Role::Subscriber, 0), spec(Role::Publisher, 1)];
        let ids = connect(&mut swarm, two.into_iter(), 1, &member.gauges)?;
        let mut judge = Judge::new(payloads.clone(), TOPIC, 1, slots);
        judge.admit(ids[0], 0, TOPIC);
        Ok(Topic {
            swarm,
            publisher: Publisher::new(target.clone(), payloads),
            judge,
            publishing: ids[1],
            reading: ids[0],
            stalled: Vec::new(),
            timeout: common.timeout,
        })
    }

    /// Publishes for a while before anybody stalls, so that what a server allocates or compiles for the first messages is
    /// not charged to those who do.
    fn warm_up(&mut self, time: Duration) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < time && self.judge.complaint.is_none() {
            self.publish_one()?;
        }
        Ok(())
    }

    /// Connects those that never read. They are owed what is published from now on.
    fn connect_stalled(&mut self, options: &Stalled, member: &Member) -> Result<()> {
        let spec = |i| Spec { role: Role::Subscriber, topic: TOPIC, n: 2 + i, attention: Attention::Ignore };
        let specs = (0..options.readers).map(spec);
        self.stalled = connect(&mut self.swarm, specs, options.common.concurrency, &member.gauges)?;
        for (i, &id) in (1..).zip(&self.stalled) {
            self.judge.admit(id, i, TOPIC);
            self.judge.excuse(id);
        }
        Ok(())
    }

    /// Publishes so many messages, each when the one that reads has the one before. Returns how many it did publish, and
    /// the greatest memory seen.
    fn publish_all(&mut self, messages: u64, server: Option<Process>, member: &Member) -> Result<(u64, Memory)> {
        let (mut peak, mut looked, mut published) = (Memory::default(), Instant::now(), 0);
        while published < messages && self.judge.complaint.is_none() {
            self.publish_one()?;
            published += 1;
            Gauges::add(&member.gauges.deliveries, 1);
            if looked.elapsed() > LOOK_EVERY {
                peak = peak.or(Memory::now(server)?);
                looked = Instant::now();
            }
        }
        Ok((published, peak))
    }

    /// Publishes a message, and waits until the one that reads has it.
    fn publish_one(&mut self) -> Result<()> {
        let (seq, due, mut frame) = (self.judge.next(TOPIC), self.swarm.now(), Vec::new());
        self.publisher.write(Stamp { topic: TOPIC, seq, due }, &mut frame);
        self.swarm.send(self.publishing, &frame);
        let deadline = Instant::now() + self.timeout;
        while self.judge.lacks(self.reading, seq + 1) && self.judge.complaint.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.judge.complaint = Some("a message did not come in time to the one that reads".into());
            }
            self.turn(left)?;
        }
        Ok(())
    }

    /// Lets those that have never read do it, until all have everything, are closed, or get no more.
    fn read_on(&mut self, member: &Member) -> Result<()> {
        for &id in &self.stalled {
            self.swarm.attend(id, Attention::Watch);
            self.swarm.read(id);
        }
        let mut heard = Instant::now();
        while self.judge.anyone_lacks() && heard.elapsed() < QUIET {
            let came = self.turn(QUIET / 10)?;
            if came > 0 {
                Gauges::add(&member.gauges.deliveries, came);
                heard = Instant::now();
            }
        }
        Ok(())
    }

    /// Returns how many messages have come to somebody.
    fn turn(&mut self, wait: Duration) -> Result<u64> {
        let Topic { swarm, judge, .. } = self;
        let mut came = 0;
        swarm.turn(wait, &mut |event| judge.on(event, |delivery| came += u64::from(!delivery.repeated)))?;
        Ok(came)
    }
}

impl Memory {
    fn now(server: Option<Process>) -> Result<Memory> {
        let resident = server.map(|process| process.resident()).transpose()?;
        Ok(Memory { resident, sockets: without_caches().buffers })
    }

    /// The greater of each.
    fn or(self, other: Memory) -> Memory {
        Memory { resident: self.resident.max(other.resident), sockets: self.sockets.max(other.sockets) }
    }
}

fn figures(options: &Stalled, outcome: &Outcome) -> Vec<Figure> {
    let Outcome { before, peak, after, published, elapsed, stalled, .. } = outcome;
    let grown = |now: u64, before: u64| (now as f64 - before as f64) / f64::from(1 << 20);
    let mut figures = Vec::new();
    if let (Some(before), Some(peak), Some(after)) = (before.resident, peak.resident, after.resident) {
        figures.push(Figure::new("resident growth of the server", "MiB", grown(after, before)));
        figures.push(Figure::new("resident growth of the server, at its peak", "MiB", grown(peak, before)));
    }
    let sockets = grown(peak.sockets, before.sockets);
    figures.push(Figure::new("growth of the kernel's socket buffers, both ends, at their peak", "MiB", sockets));
    figures.push(Figure::new(
        "published to each",
        "MiB",
        (published * options.payload as u64) as f64 / f64::from(1 << 20),
    ));
    figures.push(Figure::new("messages published", "/s", per_second(*published, *elapsed)));
    figures.push(Figure::new("stalled ones closed by the server", "", stalled.closed as f64));
    let missing = (stalled.lost * options.payload as u64) as f64;
    figures.push(Figure::new("missing, of all stalled ones", "B", missing));
    figures
}
