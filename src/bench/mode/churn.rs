//! `churn`: connect, shake hands, subscribe, close, and again.
//!
//! Without a rate, so many connections are always under way (closed loop). With one, each is due at its time, and its latency
//! counts from then, even if it had to wait for one of the others to end (open loop).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::bench::crew::{Crew, Gauges, Member};
use crate::bench::crowd::connect;
use crate::bench::options::{Churn, Close};
use crate::bench::refusals::Refusals;
use crate::bench::report::{Faults, Figure, Report};
use crate::bench::run::{Run, per_second};
use crate::bench::schedule::Schedule;
use crate::bench::swarm::{Attention, Event, Spec, Swarm};
use crate::bench::target::{Role, Target};
use crate::bench::timeline::{Timeline, distribution};
use crate::bench::{Result, Usage};
use crate::ring::sys;
use crate::ring::token::ConnId;
use crate::ws::client::frame::client_control;
use crate::ws::frame::Control;

/// How long a thread sleeps at most.
const LOOK_UP: Duration = Duration::from_millis(100);
/// What a client says that is done (RFC 6455 section 7.4.1).
const NORMAL_CLOSURE: u16 = 1000;
/// Lines of the plot over time.
const PERCENTILES: [f64; 2] = [50.0, 99.0];

/// What a thread came to.
struct Outcome {
    opened: u64,
    elapsed: Duration,
    ledger: Ledger,
}

/// Runs it.
pub fn run(options: &Churn) -> Result<Report> {
    if !(options.rate.is_finite() && options.rate >= 0.0) {
        return Usage::error("--rate must be 0 or more");
    }
    let mut target = Target::new(&options.common)?;
    target.spread(options.common.concurrency * u32::from(options.common.threads));
    let target = Arc::new(target);
    let mut run = Run::begin("churn", title(options), &options.common)?.counting("connections");
    let start = run.start;
    let work = {
        let options = options.clone();
        move |member: &Member| thread(&options, &target, start, member)
    };
    let crew = Crew::start(options.common.threads, &options.common.cpus, work)?;
    let outcomes = crew.conclude(|crew| run.measure(crew, options.common.threads.into(), options.time))?;
    report(options, run, outcomes)
}

fn title(options: &Churn) -> String {
    let Churn { rate, common, close, .. } = options;
    let pace = if *rate > 0.0 { format!("{rate} a second") } else { "as many as go".into() };
    let at_once = common.concurrency * u32::from(common.threads);
    let close = if *close == Close::Reset { "reset" } else { "closed" };
    format!("connections, {pace}, at most {at_once} at once, {close} when open")
}

fn thread(options: &Churn, target: &Arc<Target>, start: Instant, member: &Member) -> Result<Outcome> {
    sys::wake_on_time()?;
    let concurrency = options.common.concurrency;
    // A slot is free again one turn after its connection was closed.
    let slots = 2 * concurrency;
    let mut swarm = Swarm::new(target.clone(), slots, options.common.timeout, start)?;
    let first_n = u32::from(member.index) * concurrency;
    let first = connect(&mut swarm, std::iter::once(spec(first_n)), 1, &member.gauges)?;
    first.into_iter().for_each(|id| swarm.close(id));
    let rate = options.rate / f64::from(options.common.threads);
    let mut churning = Churning {
        swarm,
        close: options.close,
        timeout: options.common.timeout,
        concurrency,
        first_n,
        ledger: Ledger::new(slots, start),
        closing: VecDeque::new(),
    };
    member.gate()?;
    churning.run(Pace::new(churning.swarm.now(), rate, options.common.warm_up_for(options.time)), &member.gauges)?;
    member.gate()?;
    churning.ledger = Ledger::new(slots, start);
    churning.ledger.timeline = Timeline::new(churning.swarm.now(), options.time);
    let pace = Pace::new(churning.swarm.now(), rate, options.time);
    let elapsed = churning.run(pace, &member.gauges)?;
    member.gate()?;
    let ledger = churning.ledger;
    Ok(Outcome { opened: ledger.latency.len(), elapsed, ledger })
}

fn spec(n: u32) -> Spec {
    Spec { role: Role::Subscriber, topic: 0, n, attention: Attention::Watch }
}

/// When connections are due.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// As soon as there is room for one, until then; nanoseconds since the run began.
    Closed { until: u64 },
    /// At their times.
    Open(Schedule),
}

impl Pace {
    fn new(now: u64, rate: f64, time: Duration) -> Pace {
        match rate > 0.0 {
            true => Pace::Open(Schedule::new(now, rate, time)),
            false => Pace::Closed { until: now + time.as_nanos() as u64 },
        }
    }

    /// When the next one is due, after so many were; `None`: there are no more.
    fn due(&self, nth: u64, now: u64) -> Option<u64> {
        match self {
            Pace::Closed { until } => (now < *until).then_some(now),
            Pace::Open(schedule) => schedule.due(nth),
        }
    }
}

/// A thread's connections.
struct Churning {
    swarm: Swarm,
    close: Close,
    timeout: Duration,
    concurrency: u32,
    /// The number of its first connection; they are used again and again.
    first_n: u32,
    ledger: Ledger,
    /// Those that said that they close, and until when the server has to have answered.
    closing: VecDeque<(ConnId, Instant)>,
}

impl Churning {
    /// Makes all that are due, and waits for the end of the last. Returns how long that took.
    fn run(&mut self, pace: Pace, gauges: &Gauges) -> Result<Duration> {
        let begin = Instant::now();
        let mut begun = 0;
        loop {
            let wait = self.open_due(pace, &mut begun)?;
            if wait.is_none() && self.ledger.under_way == 0 {
                return Ok(begin.elapsed());
            }
            let opened = self.ledger.latency.len();
            let Churning { swarm, ledger, .. } = self;
            swarm.turn(wait.unwrap_or(LOOK_UP).min(LOOK_UP), &mut |event| ledger.on(event))?;
            self.close_open();
            self.give_up();
            Gauges::add(&gauges.deliveries, self.ledger.latency.len() - opened);
            gauges.goes_on()?;
        }
    }

    /// Begins those that are due, as far as there is room. Returns how long until the next is, or that there is none.
    fn open_due(&mut self, pace: Pace, begun: &mut u64) -> Result<Option<Duration>> {
        let now = self.swarm.now();
        while let Some(due) = pace.due(*begun, now) {
            if due > now {
                return Ok(Some(Duration::from_nanos(due - now)));
            }
            if self.ledger.under_way == self.concurrency {
                return Ok(Some(LOOK_UP));
            }
            let n = self.first_n + (*begun % u64::from(self.concurrency)) as u32;
            let id = self.swarm.open(spec(n))?;
            self.ledger.begin(id, due);
            *begun += 1;
        }
        Ok(None)
    }

    /// Closes those that were open in this turn.
    fn close_open(&mut self) {
        for id in std::mem::take(&mut self.ledger.open) {
            match self.close {
                Close::Reset => {
                    self.swarm.close(id);
                    self.ledger.end(id);
                }
                Close::Frame => {
                    let mut frame = Vec::new();
                    client_control(Control::Close, &NORMAL_CLOSURE.to_be_bytes(), &mut frame);
                    self.swarm.send(id, &frame);
                    self.ledger.slots[id.index as usize].closing = true;
                    self.closing.push_back((id, Instant::now() + self.timeout));
                }
            }
        }
    }

    /// Cuts those whose close was not answered in time.
    fn give_up(&mut self) {
        while let Some(&(id, deadline)) = self.closing.front() {
            let pending = self.ledger.slots[id.index as usize].id == Some(id);
            if pending && Instant::now() < deadline {
                break;
            }
            self.closing.pop_front();
            if pending {
                self.swarm.close(id);
                self.ledger.end(id);
                self.ledger.faults.closed += 1;
                self.ledger.complaint.get_or_insert_with(|| "a close frame was not answered in time".into());
            }
        }
    }
}

/// Who is under way, and what became of the others.
struct Ledger {
    slots: Vec<Slot>,
    under_way: u32,
    /// Those that were open in this turn.
    open: Vec<ConnId>,
    /// From due to open.
    latency: Histogram<u64>,
    timeline: Timeline,
    refusals: Refusals,
    faults: Faults,
    complaint: Option<String>,
    start: Instant,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    id: Option<ConnId>,
    /// Nanoseconds since the run began.
    due: u64,
    closing: bool,
}

impl Ledger {
    fn new(slots: u32, start: Instant) -> Ledger {
        Ledger {
            slots: vec![Slot::default(); slots as usize],
            under_way: 0,
            open: Vec::new(),
            latency: distribution(),
            timeline: Timeline::default(),
            refusals: Refusals::default(),
            faults: Faults::default(),
            complaint: None,
            start,
        }
    }

    fn begin(&mut self, id: ConnId, due: u64) {
        self.slots[id.index as usize] = Slot { id: Some(id), due, closing: false };
        self.under_way += 1;
    }

    fn end(&mut self, id: ConnId) {
        let slot = &mut self.slots[id.index as usize];
        if slot.id.take_if(|tenant| *tenant == id).is_some() {
            self.under_way -= 1;
        }
    }

    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Open(id) => {
                let now = self.start.elapsed().as_nanos() as u64;
                let due = self.slots[id.index as usize].due;
                let latency = now.saturating_sub(due).max(1);
                self.latency.saturating_record(latency);
                self.timeline.record(due, latency);
                self.open.push(id);
            }
            Event::Refused(id, why) => {
                self.refusals.add(why);
                self.end(id);
            }
            Event::Closed(id, why) => {
                if !self.slots[id.index as usize].closing {
                    self.faults.closed += 1;
                    self.complaint.get_or_insert(why);
                }
                self.open.retain(|&open| open != id);
                self.end(id);
            }
            // Welcomes, and what others publish.
            Event::Message(..) | Event::CaughtUp(_) => {}
        }
    }
}

fn report(options: &Churn, run: Run, outcomes: Vec<Outcome>) -> Result<Report> {
    let (mut latency, mut timeline) = (distribution(), Timeline::default());
    let (mut faults, mut refusals) = (Faults::default(), Refusals::default());
    for Outcome { ledger, .. } in &outcomes {
        latency.add(&ledger.latency)?;
        timeline.add(&ledger.timeline);
        faults.add(&ledger.faults);
        refusals.merge(&ledger.refusals);
    }
    faults.refused = refusals.total();
    let opened: u64 = outcomes.iter().map(|outcome| outcome.opened).sum();
    let elapsed = outcomes.iter().map(|outcome| outcome.elapsed).max().unwrap_or_default();
    let mut figures = vec![Figure::new("handshakes", "/s", per_second(opened, elapsed))];
    figures.extend(run.cost_each("handshake", opened));
    let refused = refusals.in_words().map(|reasons| format!("refused: {reasons}"));
    let complaint = outcomes.into_iter().find_map(|outcome| outcome.ledger.complaint).or(refused);
    let times = if options.rate > 0.0 { "due to open" } else { "begun to open" };
    let mut report = run.finish(figures, &[(times, &latency)], faults, complaint)?;
    report.series.extend(timeline.series("latency", &PERCENTILES));
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn without_a_rate_the_next_is_due_at_once_until_time_is_up() {
        let pace = Pace::new(5 * SECOND, 0.0, Duration::from_secs(1));
        assert_eq!(pace.due(0, 5 * SECOND), Some(5 * SECOND));
        assert_eq!(pace.due(1000, 6 * SECOND - 1), Some(6 * SECOND - 1));
        assert_eq!(pace.due(1000, 6 * SECOND), None);
    }

    #[test]
    fn with_a_rate_it_is_due_at_its_time_however_late_it_is() {
        let pace = Pace::new(5 * SECOND, 10.0, Duration::from_secs(1));
        assert_eq!(pace.due(0, 5 * SECOND), Some(5 * SECOND));
        assert_eq!(pace.due(9, 60 * SECOND), Some(5 * SECOND + 900_000_000));
        assert_eq!(pace.due(10, 5 * SECOND), None);
    }

    #[test]
    fn a_connection_ends_once() {
        let mut ledger = Ledger::new(4, Instant::now());
        let (old, new) = (ConnId { index: 2, generation: 1 }, ConnId { index: 2, generation: 2 });
        ledger.begin(old, 0);
        ledger.on(Event::Open(old));
        ledger.on(Event::Closed(old, "closed with code 1001".into()));
        assert!(ledger.under_way == 0 && ledger.open.is_empty() && ledger.faults.closed == 1);
        ledger.begin(new, 0);
        ledger.end(old);
        assert_eq!(ledger.under_way, 1, "the slot has another tenant");
        ledger.on(Event::Refused(new, "answered 503".into()));
        assert_eq!((ledger.under_way, ledger.refusals.total()), (0, 1));
    }
}
