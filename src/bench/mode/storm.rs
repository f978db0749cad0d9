//! `storm`: all connections are cut at once, and come back as fast as they can.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::bench::crew::{Crew, Gauges, Member};
use crate::bench::crowd::{Crowd, Plan};
use crate::bench::message::Payloads;
use crate::bench::observe::Process;
use crate::bench::options::Storm;
use crate::bench::refusals::Refusals;
use crate::bench::report::{Faults, Figure, Report, Series};
use crate::bench::run::{Run, per_second, share};
use crate::bench::swarm::Event;
use crate::bench::target::Target;
use crate::bench::timeline::distribution;
use crate::bench::{Result, Usage};

/// How long one that was refused waits before it tries again.
const BACKOFF: Duration = Duration::from_millis(20);
/// How long a thread sleeps at most.
const LOOK_UP: Duration = Duration::from_millis(10);

/// What came of it.
struct Outcome {
    /// From the cut until all were back, of each round, in nanoseconds.
    rounds: Vec<u64>,
    /// From the cut until a connection was back.
    back: Histogram<u64>,
    /// From the beginning of a connection until it was open.
    connecting: Histogram<u64>,
    refusals: Refusals,
    faults: Faults,
    complaint: Option<String>,
}

impl Outcome {
    fn new() -> Outcome {
        Outcome {
            rounds: Vec::new(),
            back: distribution(),
            connecting: distribution(),
            refusals: Refusals::default(),
            faults: Faults::default(),
            complaint: None,
        }
    }

    /// Adds another thread's. All are back when those of the slowest are.
    fn add(&mut self, other: Outcome) -> Result<()> {
        self.rounds.resize(self.rounds.len().max(other.rounds.len()), 0);
        self.rounds.iter_mut().zip(&other.rounds).for_each(|(slowest, time)| *slowest = (*slowest).max(*time));
        self.back.add(&other.back)?;
        self.connecting.add(&other.connecting)?;
        self.refusals.merge(&other.refusals);
        self.faults.add(&other.faults);
        self.complaint = self.complaint.take().or(other.complaint);
        Ok(())
    }
}

/// Runs it.
pub fn run(options: &Storm) -> Result<Report> {
    if u32::from(options.common.threads) > options.topics || options.topics > options.connections {
        return Usage::error(
            "every thread has topics of its own, and every topic a connection: --threads ≤ --topics ≤ --connections",
        );
    }
    let mut target = Target::new(&options.common)?;
    target.spread(options.connections + options.topics);
    let target = Arc::new(target);
    let Storm { connections, rounds, .. } = options;
    let title = format!("{connections} connections, all cut at once, {rounds} times");
    let mut run = Run::begin("storm", title, &options.common)?.counting("reconnects");
    let (start, tag) = (run.start, run.tag());
    let work = {
        let options = options.clone();
        move |member: &Member| thread(&options, &target, start, tag, member)
    };
    let crew = Crew::start(options.common.threads, &options.common.cpus, work)?;
    let mut peak = Peak { server: run.server, bytes: 0 };
    let outcomes = crew.conclude(|crew| lead(options, &mut run, &mut peak, crew))?;
    report(options, run, peak, outcomes)
}

/// The most memory that the server was seen to have.
struct Peak {
    server: Option<Process>,
    bytes: u64,
}

impl Peak {
    fn look(&mut self) {
        // A server that has ended shows in its connections.
        let now = self.server.and_then(|server| server.resident().ok());
        self.bytes = self.bytes.max(now.unwrap_or_default());
    }
}

/// All are connected; then, round after round: all have a message, all are back. At last, all have a message.
fn lead(options: &Storm, run: &mut Run, peak: &mut Peak, crew: &Crew<Outcome>) -> Result<()> {
    let opened = |gauges: &Gauges| Gauges::get(&gauges.opened);
    run.phase("connecting", options.connections.into(), "connections");
    crew.gather(|gauges| run.tick(opened(gauges), gauges))?;
    crew.go();
    for round in 1..=options.rounds {
        crew.gather(|gauges| run.tick(0, gauges))?;
        run.phase(&format!("round {round} of {}", options.rounds), options.connections.into(), "connections");
        run.measure_from_here()?;
        crew.go();
        crew.gather(|gauges| {
            run.tick(opened(gauges), gauges);
            peak.look();
        })?;
        run.measure_to_here()?;
        crew.go();
    }
    Ok(())
}

fn thread(options: &Storm, target: &Arc<Target>, start: Instant, tag: u32, member: &Member) -> Result<Outcome> {
    let plan = plan(options, member.index);
    let payloads = Payloads::new(options.payload.payload, options.payload.fill, tag)?;
    let crowd = Crowd::connect(target, &options.common, payloads, &plan, start, member)?;
    let mut storm = Storming {
        concurrency: options.common.concurrency as usize,
        timeout: options.common.timeout,
        begun: vec![0; plan.subscribers as usize],
        start,
        crowd,
        fine: true,
        outcome: Outcome::new(),
    };
    member.gate()?;
    storm.check()?;
    for _ in 0..options.rounds {
        member.gate()?;
        storm.round(&member.gauges)?;
        member.gate()?;
        storm.check()?;
    }
    storm.crowd.finish()?;
    let Storming { crowd, mut outcome, .. } = storm;
    outcome.faults.add(&crowd.judge.faults);
    outcome.complaint = outcome.complaint.or(crowd.judge.complaint);
    Ok(outcome)
}

fn plan(options: &Storm, index: u16) -> Plan {
    let threads = options.common.threads;
    let (first_topic, end_topic) = share(options.topics, index, threads);
    let (first, end) = share(options.connections, index, threads);
    Plan {
        first_topic,
        topics: end_topic - first_topic,
        first_n: first + first_topic,
        subscribers: end - first,
        stalled: 0.0,
    }
}

/// A thread's connections.
struct Storming {
    crowd: Crowd,
    concurrency: usize,
    timeout: Duration,
    /// When each connection was last begun, in nanoseconds since the run began.
    begun: Vec<u64>,
    start: Instant,
    /// All are there, and have everything.
    fine: bool,
    outcome: Outcome,
}

/// Who is not back yet.
#[derive(Default)]
struct Away {
    /// Whose turn it is to connect.
    waiting: VecDeque<usize>,
    /// Who was refused, and when to try again.
    backing_off: VecDeque<(Instant, usize)>,
    under_way: usize,
}

impl Away {
    fn count(&self) -> usize {
        self.waiting.len() + self.backing_off.len() + self.under_way
    }

    /// Who is to connect next, if there is room.
    fn next(&mut self, now: Instant, concurrency: usize) -> Option<usize> {
        while let Some(&(_, i)) = self.backing_off.front().filter(|(until, _)| *until <= now) {
            self.backing_off.pop_front();
            self.waiting.push_back(i);
        }
        let next = (self.under_way < concurrency).then(|| self.waiting.pop_front()).flatten();
        self.under_way += usize::from(next.is_some());
        next
    }

    /// One that was under way is not to be had now.
    fn refused(&mut self, i: usize, now: Instant) {
        self.under_way -= 1;
        self.backing_off.push_back((now + BACKOFF, i));
    }
}

impl Storming {
    /// Publishes to all, and waits until all have it.
    fn check(&mut self) -> Result<()> {
        if self.fine {
            self.crowd.publish_to_all(1);
            self.fine = self.crowd.await_all(0)?;
        }
        Ok(())
    }

    /// Cuts all, and makes them again until all are back, or none has come back for too long.
    fn round(&mut self, gauges: &Gauges) -> Result<()> {
        if !self.fine {
            return Ok(());
        }
        let all = self.begun.len();
        Gauges::sub(&gauges.opened, all as u64);
        let cut = self.crowd.swarm.now();
        self.crowd.cut()?;
        let mut away = Away { waiting: (0..all).collect(), ..Away::default() };
        let mut heard = Instant::now();
        while away.count() > 0 && heard.elapsed() < self.timeout && self.crowd.judge.complaint.is_none() {
            while let Some(i) = away.next(Instant::now(), self.concurrency) {
                self.begun[i] = self.crowd.swarm.now();
                self.crowd.reopen(i)?;
            }
            let back = self.turn(&mut away, cut)?;
            if back > 0 {
                heard = Instant::now();
                Gauges::add(&gauges.opened, back);
                Gauges::add(&gauges.deliveries, back);
            }
            gauges.goes_on()?;
        }
        self.outcome.rounds.push(self.crowd.swarm.now() - cut);
        self.miss(away.count());
        Ok(())
    }

    /// Takes what has happened to those that are under way. Returns how many are back.
    fn turn(&mut self, away: &mut Away, cut: u64) -> Result<u64> {
        let (start, mut news) = (self.start, Vec::new());
        self.crowd.turn_and(LOOK_UP, &mut |event| match event {
            Event::Open(id) => news.push((*id, Ok(start.elapsed().as_nanos() as u64))),
            Event::Refused(id, why) => news.push((*id, Err(why.clone()))),
            // Of those that were back, the judge keeps the faults.
            Event::Closed(..) | Event::Message(..) | Event::CaughtUp(_) => {}
        })?;
        let Outcome { back, connecting, refusals, .. } = &mut self.outcome;
        let before = back.len();
        for (id, what) in news {
            let Some(i) = self.crowd.judge.who(id) else { continue };
            match what {
                Ok(now) => {
                    away.under_way -= 1;
                    back.saturating_record(now - cut);
                    connecting.saturating_record(now - self.begun[i]);
                }
                Err(why) => {
                    refusals.add(why);
                    away.refused(i, Instant::now());
                }
            }
        }
        Ok(back.len() - before)
    }

    /// So many have not come back.
    fn miss(&mut self, count: usize) {
        if count > 0 {
            self.fine = false;
            self.outcome.faults.refused += count as u64;
            let reasons = self.outcome.refusals.in_words().unwrap_or_else(|| "no answer".into());
            self.outcome.complaint.get_or_insert_with(|| format!("{count} connections did not come back: {reasons}"));
        }
    }
}

fn report(options: &Storm, run: Run, peak: Peak, outcomes: Vec<Outcome>) -> Result<Report> {
    let mut all = Outcome::new();
    for outcome in outcomes {
        all.add(outcome)?;
    }
    let slowest = all.rounds.iter().copied().max().unwrap_or_default();
    let together = Duration::from_nanos(all.rounds.iter().sum());
    let mut figures = vec![
        Figure::new(format!("all back, slowest of {} rounds", all.rounds.len()), "ns", slowest as f64),
        Figure::new("reconnects", "/s", per_second(all.back.len(), together)),
    ];
    figures.extend(run.cost_each("reconnect", all.back.len()));
    if peak.bytes > 0 {
        figures.push(Figure::new("server memory, most", "B", peak.bytes as f64));
    }
    figures.push(Figure::new("refused, and tried again", "", all.refusals.total() as f64));
    figures.push(Figure::new("connections", "", f64::from(options.connections)));
    let latencies = [("cut to back", &all.back), ("begun to open", &all.connecting)];
    let mut report = run.finish(figures, &latencies, all.faults, all.complaint)?;
    let points = (1u32..).zip(&all.rounds).map(|(round, &time)| (f64::from(round), time as f64)).collect();
    let (name, unit, over) = ("all back".into(), "ns".into(), "round".into());
    report.series.push(Series { plot: String::new(), name, unit, over, points });
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_refused_waits_and_then_takes_its_turn() {
        let now = Instant::now();
        let mut away = Away { waiting: (0..3).collect(), ..Away::default() };
        assert_eq!([away.next(now, 2), away.next(now, 2), away.next(now, 2)], [Some(0), Some(1), None]);
        away.refused(0, now);
        assert_eq!((away.count(), away.next(now, 2), away.next(now, 2)), (3, Some(2), None));
        away.under_way -= 1;
        assert_eq!(away.next(now, 2), None, "it is not time yet");
        assert_eq!((away.next(now + BACKOFF, 2), away.count()), (Some(0), 2));
    }

    #[test]
    fn all_are_back_when_the_slowest_thread_is() {
        let of = |rounds: &[u64]| Outcome { rounds: rounds.to_vec(), ..Outcome::new() };
        let mut all = Outcome::new();
        for rounds in [&[10, 20][..], &[30, 5], &[1]] {
            all.add(of(rounds)).unwrap();
        }
        assert_eq!(all.rounds, [30, 20]);
    }
}
