//! How late a topic of few subscribers gets its messages, alone and while one message after the other goes to many.

use crate::client::{Crowd, Publisher, Subscriber, TIMEOUT, client_frame, server_frame};
use crate::peer::{Result, Server};
use crate::report::Figure;
use crate::scenario::payload;
use crate::{Pace, sys};
use std::io::Read;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

const BYSTANDERS: usize = 10;
/// The bystanders' topic is published to at this fixed rate, come what may: latency counts from when it was due.
const PERIOD: Duration = Duration::from_millis(1);
const PAYLOAD: usize = 64;
/// Receives of the crowd between two looks at the clock, some tens of microseconds.
const SWEEP: usize = 16;

/// Measures both phases.
pub fn run(server: &Server, subscribers: usize, pace: &Pace) -> Result<Vec<Figure>> {
    let mut flood = Flood::connect(server.port, subscribers)?;
    let mut few = Few::connect(server.port)?;
    // A round of each first, so that neither phase starts cold.
    measure(&mut few, Some(&mut flood), pace.warm_up)?;
    let mut quiet = measure(&mut few, None, pace.phase)?;
    flood.rounds = 0;
    let mut loud = measure(&mut few, Some(&mut flood), pace.phase)?;
    flood.crowd.check_nothing_more()?;
    let rate = f64::from(flood.rounds) / pace.phase.as_secs_f64();
    let mut figures = figures("alone", &mut quiet);
    figures.extend(self::figures("meanwhile", &mut loud));
    figures.push(Figure::new("publishes to many", "/s", rate));
    Ok(figures)
}

fn figures(name: &str, phase: &mut Phase) -> Vec<Figure> {
    let points = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];
    let latency = |(point, q)| Figure::new(format!("{name}, {point}"), "ms", quantile(&mut phase.latencies, q));
    let mut figures: Vec<Figure> = points.map(latency).into();
    figures.push(Figure::new(format!("{name}, load's lag, p99.9"), "ms", quantile(&mut phase.lags, 0.999)));
    figures
}

/// Milliseconds that the share `q` of the samples does not pass.
fn quantile(samples: &mut [Duration], q: f64) -> f64 {
    samples.sort_unstable();
    let rank = (samples.len() as f64 * q).ceil() as usize;
    samples.get(rank.saturating_sub(1)).map_or(f64::NAN, |sample| sample.as_secs_f64() * 1e3)
}

/// Publishes to the few at the fixed rate for a time, then waits for what is under way.
fn measure(few: &mut Few, mut flood: Option<&mut Flood>, time: Duration) -> Result<Phase> {
    let mut phase = Phase { start: Instant::now(), published: 0, latencies: Vec::new(), lags: Vec::new() };
    let due = (time.as_nanos() / PERIOD.as_nanos()) as u32;
    loop {
        while phase.published < due && phase.until_next().is_zero() {
            few.publish(&mut phase)?;
        }
        let publishing = phase.published < due;
        let flooding = match &mut flood {
            Some(flood) => flood.step(publishing)?,
            None => Flooding::Quiet,
        };
        if !publishing && flooding == Flooding::Quiet && phase.latencies.len() == due as usize * BYSTANDERS {
            return Ok(phase);
        }
        if phase.start.elapsed() > time + TIMEOUT {
            return Err(format!("lost: {} of {due} × {BYSTANDERS} came", phase.latencies.len()).into());
        }
        let patience = if publishing { phase.until_next() } else { TIMEOUT };
        match flooding {
            Flooding::Arrived => few.receive(&mut phase, None, Duration::ZERO)?,
            Flooding::Waiting(sample) => few.receive(&mut phase, Some(sample), patience)?,
            Flooding::Quiet => few.receive(&mut phase, None, patience)?,
        }
    }
}

/// One phase's schedule and what came of it.
struct Phase {
    start: Instant,
    published: u32,
    /// From when a message was due to when a subscriber had it.
    latencies: Vec<Duration>,
    /// From when a message was due to when the load wrote it: how far the load is itself to blame.
    lags: Vec<Duration>,
}

impl Phase {
    fn until_next(&self) -> Duration {
        (PERIOD * self.published).saturating_sub(self.start.elapsed())
    }
}

/// The bystanders' topic.
struct Few {
    publisher: Publisher,
    subscribers: Vec<Subscriber>,
    unread: Vec<Vec<u8>>,
    /// A frame as it arrives, but for the time in it.
    model: Vec<u8>,
}

impl Few {
    fn connect(port: u16) -> Result<Few> {
        let subscribers = (0..BYSTANDERS).map(|_| Subscriber::connect(port, "few")).collect::<Result<Vec<_>>>()?;
        let publisher = Publisher::connect(port, "few")?;
        let unread = vec![Vec::new(); BYSTANDERS];
        Ok(Few { publisher, subscribers, unread, model: server_frame(&payload(PAYLOAD)) })
    }

    /// Publishes the message that is due; it carries when it was.
    fn publish(&mut self, phase: &mut Phase) -> Result<()> {
        let due = PERIOD * phase.published;
        let mut message = payload(PAYLOAD);
        message[..size_of::<u64>()].copy_from_slice(&(due.as_nanos() as u64).to_le_bytes());
        self.publisher.publish(&client_frame(&message))?;
        phase.published += 1;
        phase.lags.push(phase.start.elapsed().saturating_sub(due));
        Ok(())
    }

    /// Waits for a message, for the sample of the crowd, or until the time is over; takes the times out of what came.
    fn receive(&mut self, phase: &mut Phase, sample: Option<RawFd>, patience: Duration) -> Result<()> {
        let few = self.subscribers.iter().map(|subscriber| subscriber.stream.as_raw_fd());
        let mut fds: Vec<_> = few.chain(sample).map(sys::readable).collect();
        sys::poll(&mut fds, Some(patience))?;
        for (index, fd) in fds.iter().take(BYSTANDERS).enumerate() {
            if fd.revents != 0 {
                self.read(index, phase)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, index: usize, phase: &mut Phase) -> Result<()> {
        let mut part = [0; 4096];
        let read = self.subscribers[index].stream.read(&mut part)?;
        let now = phase.start.elapsed();
        if read == 0 {
            return Err("the server closed a bystander".into());
        }
        let mut unread = mem::take(&mut self.unread[index]);
        unread.extend(&part[..read]);
        let frames = unread.chunks_exact(self.model.len());
        self.unread[index] = frames.remainder().to_vec();
        for frame in frames {
            phase.latencies.push(now.saturating_sub(self.due(frame)?));
        }
        Ok(())
    }

    /// When the message of a frame was due.
    fn due(&self, frame: &[u8]) -> Result<Duration> {
        let time_at = self.model.len() - PAYLOAD;
        let fill_at = time_at + size_of::<u64>();
        if frame[..time_at] != self.model[..time_at] || frame[fill_at..] != self.model[fill_at..] {
            return Err("a bystander received something else than was published".into());
        }
        Ok(Duration::from_nanos(u64::from_le_bytes(frame[time_at..fill_at].try_into()?)))
    }
}

#[derive(PartialEq, Eq)]
enum Flooding {
    /// Everybody has everything and no new round was wanted.
    Quiet,
    /// The descriptor of one whose message has not come.
    Waiting(RawFd),
    /// There is, or may be, more to take.
    Arrived,
}

/// The many, and how far the current message has come.
struct Flood {
    publisher: Publisher,
    crowd: Crowd,
    message: Vec<u8>,
    frame_bytes: usize,
    /// Where the sweep goes on, and how many it found wanting since it started from the first.
    next: usize,
    missing: usize,
    rounds: u32,
}

impl Flood {
    fn connect(port: u16, subscribers: usize) -> Result<Flood> {
        let crowd = Crowd::connect(port, "many", subscribers)?;
        let publisher = Publisher::connect(port, "many")?;
        let message = client_frame(&payload(PAYLOAD));
        let frame_bytes = server_frame(&payload(PAYLOAD)).len();
        Ok(Flood { publisher, next: crowd.len(), crowd, message, frame_bytes, missing: 0, rounds: 0 })
    }

    /// A short piece of work: publishes if all have the last message and another is wanted, or takes what has come.
    fn step(&mut self, publishing: bool) -> Result<Flooding> {
        if self.next == self.crowd.len() {
            match (self.missing, publishing) {
                (0, false) => return Ok(Flooding::Quiet),
                (0, true) => {
                    self.publisher.publish(&self.message)?;
                    self.crowd.expect(self.frame_bytes);
                    self.rounds += 1;
                }
                _ => {}
            }
            (self.next, self.missing) = (0, 0);
        }
        for index in self.crowd.samples() {
            self.crowd.sweep(index..index + 1)?;
        }
        if let Some(sample) = self.crowd.missing_sample() {
            return Ok(Flooding::Waiting(sample));
        }
        let some = self.next..self.crowd.len().min(self.next + SWEEP);
        self.next = some.end;
        self.missing += self.crowd.sweep(some)?;
        Ok(Flooding::Arrived)
    }
}
