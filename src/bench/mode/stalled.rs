//! `stalled`: some subscribers never read while they are published to. What does that cost the server, and what do they
//! get when they read on?

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bench::crew::{Crew, Gauges, Member};
use crate::bench::crowd::connect;
use crate::bench::frame::client_frame;
use crate::bench::inspect::Tracker;
use crate::bench::message::{Found, Payloads, Stamp};
use crate::bench::observe::{Process, without_caches};
use crate::bench::options::{Fill, Stalled};
use crate::bench::report::{Faults, Figure, Report};
use crate::bench::run::{Run, per_second};
use crate::bench::swarm::{Attention, Event, Spec, Swarm};
use crate::bench::target::{Role, Target};
use crate::bench::{Result, Usage};
use crate::hub::frame::MessageKind;
use crate::ring::token::ConnId;

/// Before memory is read: a server may have something to tidy up.
const SETTLE: Duration = Duration::from_millis(200);
/// How often memory is read meanwhile, for its peak.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Those who read on have what they get when nothing has come for so long. A sender that finds a window closed asks again
/// after 200 ms, then 400, and so on (RFC 9293 section 3.8.6.1).
const QUIET: Duration = Duration::from_secs(1);

/// The topic's one and only.
const TOPIC: u32 = 0;

/// One subscriber, and what it has got.
#[derive(Debug)]
struct Reader {
    id: ConnId,
    tracker: Tracker,
    closed: bool,
}

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
    /// Stalled ones that were closed.
    closed: u64,
    /// Messages that the stalled ones did not get.
    missing: u64,
    /// What happened to the healthy one, and what should have happened to none.
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
    std::thread::sleep(SETTLE);
    let before = Memory::now(server)?;
    member.gate()?;
    let begin = Instant::now();
    let peak = topic.publish_all(messages(options), server, member)?;
    let elapsed = begin.elapsed();
    std::thread::sleep(SETTLE);
    let after = Memory::now(server)?;
    member.gate()?;
    topic.read_on(member)?;
    member.gate()?;
    Ok(Outcome { before, peak: peak.or(after), after, elapsed, ..topic.outcome() })
}

/// The topic, its publisher, and its subscribers: those that never read, and the last one, which does.
struct Topic {
    swarm: Swarm,
    target: Arc<Target>,
    payloads: Payloads,
    publisher: ConnId,
    published: u64,
    readers: Vec<Reader>,
    by_slot: Vec<Option<usize>>,
    timeout: Duration,
    faults: Faults,
    complaint: Option<String>,
}

impl Topic {
    fn connect(options: &Stalled, target: &Arc<Target>, start: Instant, tag: u32, member: &Member) -> Result<Topic> {
        let Stalled { common, readers, payload, .. } = options;
        let payloads = Payloads::new(*payload, Fill::Ticks, tag)?;
        let mut swarm = Swarm::new(target.clone(), readers + 2, common.timeout, start)?;
        let subscriber = |n| Spec {
            role: Role::Subscriber,
            topic: TOPIC,
            n,
            attention: if n < *readers { Attention::Ignore } else { Attention::Watch },
        };
        let ids = connect(&mut swarm, (0..=*readers).map(subscriber), common.concurrency, &member.gauges)?;
        let publisher = Spec { role: Role::Publisher, topic: TOPIC, n: readers + 1, attention: Attention::Watch };
        let publishers = connect(&mut swarm, std::iter::once(publisher), 1, &member.gauges)?;
        let mut by_slot = vec![None; *readers as usize + 2];
        ids.iter().enumerate().for_each(|(i, id)| by_slot[id.index as usize] = Some(i));
        let reader = |id| Reader { id, tracker: Tracker::default(), closed: false };
        Ok(Topic {
            swarm,
            target: target.clone(),
            payloads,
            publisher: publishers[0],
            published: 0,
            readers: ids.into_iter().map(reader).collect(),
            by_slot,
            timeout: common.timeout,
            faults: Faults::default(),
            complaint: None,
        })
    }

    /// Publishes so many messages, each when the healthy one has the one before. Returns the greatest memory seen.
    fn publish_all(&mut self, messages: u64, server: Option<Process>, member: &Member) -> Result<Memory> {
        let (mut peak, mut looked) = (Memory::default(), Instant::now());
        let mut frame = Vec::new();
        while self.published < messages && self.complaint.is_none() {
            frame.clear();
            self.next_frame(&mut frame);
            self.swarm.send(self.publisher, &frame);
            self.await_healthy()?;
            Gauges::add(&member.gauges.deliveries, 1);
            if looked.elapsed() > LOOK_EVERY {
                peak = peak.or(Memory::now(server)?);
                looked = Instant::now();
            }
        }
        Ok(peak)
    }

    fn next_frame(&mut self, frame: &mut Vec<u8>) {
        let (mut payload, mut message) = (Vec::new(), Vec::new());
        let stamp = Stamp { topic: TOPIC, seq: self.published, due: self.swarm.now() };
        self.payloads.write(stamp, &mut payload);
        self.target.publication(TOPIC, &payload, &mut message);
        let kind = if self.target.publishes_text() { MessageKind::Text } else { MessageKind::Binary };
        client_frame(kind, &message, frame);
        self.published += 1;
    }

    fn await_healthy(&mut self) -> Result<()> {
        let healthy = self.readers.len() - 1;
        let deadline = Instant::now() + self.timeout;
        while self.readers[healthy].tracker.received() < self.published && self.complaint.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.complaint = Some("a message did not come in time to the one that reads".into());
            }
            self.turn(left)?;
        }
        Ok(())
    }

    /// Lets those that have never read do it, until all have everything, are closed, or get no more.
    fn read_on(&mut self, member: &Member) -> Result<()> {
        let ids: Vec<ConnId> = self.readers.iter().map(|reader| reader.id).collect();
        for id in ids {
            self.swarm.attend(id, Attention::Watch);
            self.swarm.read(id);
        }
        let (mut before, mut heard) = (self.received(), Instant::now());
        while self.readers.iter().any(|reader| self.is_owed(reader)) && heard.elapsed() < QUIET {
            self.turn(QUIET / 10)?;
            let received = self.received();
            if received > before {
                Gauges::add(&member.gauges.deliveries, received - before);
                (before, heard) = (received, Instant::now());
            }
        }
        Ok(())
    }

    fn is_owed(&self, reader: &Reader) -> bool {
        !reader.closed && reader.tracker.received() < self.published
    }

    fn received(&self) -> u64 {
        self.readers.iter().map(|reader| reader.tracker.received()).sum()
    }

    fn turn(&mut self, wait: Duration) -> Result<()> {
        let Topic { swarm, payloads, publisher, readers, by_slot, faults, complaint, .. } = self;
        let healthy = readers.len() - 1;
        swarm.turn(wait, &mut |event| match event {
            Event::Message(id, message) => {
                let Some(i) = by_slot[id.index as usize] else { return };
                match payloads.find(message) {
                    Found::Ours(stamp) => readers[i].tracker.take(stamp.seq, faults),
                    Found::Corrupt => faults.corrupted += 1,
                    Found::Foreign => {}
                }
            }
            Event::Closed(id, why) | Event::Refused(id, why) => match by_slot[id.index as usize] {
                Some(i) if i != healthy => readers[i].closed = true,
                _ => {
                    faults.closed += 1;
                    let who = if id == *publisher { "the publisher" } else { "the one that reads" };
                    complaint.get_or_insert(format!("{who}: {why}"));
                }
            },
            Event::Open(_) | Event::CaughtUp(_) => {}
        })
    }

    /// What everybody got. That a stalled one lacks something is no fault: it did not read.
    fn outcome(mut self) -> Outcome {
        let mut missing = Faults::default();
        if let Some((healthy, stalled)) = self.readers.split_last() {
            healthy.tracker.finish(self.published, &mut self.faults);
            stalled.iter().for_each(|reader| reader.tracker.finish(self.published, &mut missing));
        }
        Outcome {
            published: self.published,
            closed: self.readers.iter().filter(|reader| reader.closed).count() as u64,
            missing: missing.lost,
            faults: self.faults,
            complaint: self.complaint,
            ..Outcome::default()
        }
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
    let Outcome { before, peak, after, published, elapsed, closed, missing, .. } = outcome;
    let grown = |now: u64, before: u64| (now as f64 - before as f64) / f64::from(1 << 20);
    let mut figures = Vec::new();
    if let (Some(before), Some(peak), Some(after)) = (before.resident, peak.resident, after.resident) {
        figures.push(Figure::new("resident growth of the server", "MiB", grown(after, before)));
        figures.push(Figure::new("… at its peak", "MiB", grown(peak, before)));
    }
    let sockets = grown(peak.sockets, before.sockets);
    figures.push(Figure::new("growth of the kernel's socket buffers, both ends, at their peak", "MiB", sockets));
    figures.push(Figure::new(
        "published to each",
        "MiB",
        (published * options.payload as u64) as f64 / f64::from(1 << 20),
    ));
    figures.push(Figure::new("messages published", "/s", per_second(*published, *elapsed)));
    figures.push(Figure::new("stalled ones closed by the server", "", *closed as f64));
    figures.push(Figure::new("bytes missing, of all stalled ones", "B", (missing * options.payload as u64) as f64));
    figures
}
