//! What is measured of one freshly started server.

use crate::client::{Crowd, Publisher, client_frame, server_frame};
use crate::peer::{Contender, Result, Server, kernel_objects};
use crate::report::Figure;
use crate::{Pace, bystander};
use std::fmt;
use std::time::{Duration, Instant};

/// Between the last arrival and the reading of a server's clock or memory.
const SETTLE: Duration = Duration::from_millis(5);
const SETTLE_MEMORY: Duration = Duration::from_secs(2);
/// A fan-out is measured over no fewer rounds than these.
const LEAST_ROUNDS: u32 = 10;
const STALLED_READERS: usize = 30;
const STALLED_PAYLOAD: usize = 1024;
/// Connections that warm a server up before its memory is read.
const WARM_UP_CONNECTIONS: usize = 100;
const TOPIC: &str = "crowd";

/// One thing to measure.
#[derive(Clone, Copy, Debug)]
pub enum Scenario {
    /// A publisher sends `burst` messages in one write, waits until all have come, and again.
    FanOut { subscribers: usize, payload: usize, burst: usize },
    /// Subscribed connections that do nothing.
    Idle { connections: usize },
    /// Subscribers that read nothing while so many bytes are published to them and to one that does.
    Stalled { published: usize },
    /// What a topic of few subscribers feels of publications to many.
    Bystander { subscribers: usize },
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Scenario::FanOut { subscribers, payload, burst: 1 } => write!(f, "single, {payload} B to {subscribers}"),
            Scenario::FanOut { subscribers, payload, burst } => {
                write!(f, "burst of {burst}, {payload} B to {subscribers}")
            }
            Scenario::Idle { connections } => write!(f, "idle, {connections} connections"),
            Scenario::Stalled { published } => write!(f, "stalled, {STALLED_READERS} readers, {} MiB", published >> 20),
            Scenario::Bystander { subscribers } => write!(f, "bystander, 64 B to {subscribers} meanwhile"),
        }
    }
}

impl Scenario {
    /// Whether the contender can be measured so: a floor has neither memory to speak of nor topics.
    pub fn suits(&self, contender: Contender) -> bool {
        matches!(self, Scenario::FanOut { .. }) || !contender.is_floor()
    }

    /// Descriptors that a server needs, and the load as well.
    pub fn connections(&self) -> usize {
        let spare = 64;
        spare
            + match *self {
                Scenario::FanOut { subscribers, .. } | Scenario::Bystander { subscribers } => subscribers,
                Scenario::Idle { connections } => connections,
                Scenario::Stalled { .. } => STALLED_READERS,
            }
    }

    /// Bytes that are under way at most, in the kernel.
    pub fn bytes_in_flight(&self) -> usize {
        match *self {
            Scenario::FanOut { subscribers, payload, burst } => subscribers * payload * burst,
            Scenario::Stalled { published } => STALLED_READERS * published,
            Scenario::Idle { .. } | Scenario::Bystander { .. } => 0,
        }
    }

    /// Starts the contender, measures, and stops it.
    pub fn run(&self, contender: Contender, pace: &Pace) -> Result<Vec<Figure>> {
        let more: &[&str] = match (self, contender) {
            (Scenario::Stalled { .. }, Contender::Uproar) => &["--backlog", "64MiB"],
            _ => &[],
        };
        let mut server = Server::start(contender, self.connections() as u32, more)?;
        match *self {
            Scenario::FanOut { subscribers, payload, burst } => fan_out(&mut server, subscribers, payload, burst, pace),
            Scenario::Idle { connections } => idle(&server, connections),
            Scenario::Stalled { published } => stalled(&server, published),
            Scenario::Bystander { subscribers } => bystander::run(&server, subscribers, pace),
        }
    }
}

/// A payload that is not all the same.
pub fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| i as u8).collect()
}

fn fan_out(server: &mut Server, count: usize, bytes: usize, burst: usize, pace: &Pace) -> Result<Vec<Figure>> {
    let mut crowd = Crowd::connect(server.port, TOPIC, count)?;
    let mut publisher = Publisher::connect(server.port, TOPIC)?;
    let published = client_frame(&payload(bytes)).repeat(burst);
    let delivered = server_frame(&payload(bytes)).repeat(burst);
    publisher.publish(&published)?;
    crowd.await_exactly(&delivered)?;

    let mut rounds = |time: Duration| -> Result<(u32, Duration)> {
        let (mut rounds, mut reaching) = (0, Duration::ZERO);
        let start = Instant::now();
        while rounds < LEAST_ROUNDS || start.elapsed() < time {
            let publishing = Instant::now();
            publisher.publish(&published)?;
            crowd.expect(delivered.len());
            crowd.await_samples()?;
            reaching += publishing.elapsed();
            crowd.await_all()?;
            rounds += 1;
        }
        std::thread::sleep(SETTLE);
        Ok((rounds, reaching))
    };
    rounds(pace.warm_up)?;
    let before = server.cpu()?;
    let (rounds, reaching) = rounds(pace.measure)?;
    let cpu = server.cpu()? - before;
    crowd.check_nothing_more()?;

    let per_delivery = cpu.as_nanos() as f64 / (f64::from(rounds) * (count * burst) as f64);
    let per_round = reaching.as_secs_f64() * 1e3 / f64::from(rounds);
    Ok(vec![Figure::new("CPU a delivery", "ns", per_delivery), Figure::new("until samples have it", "ms", per_round)])
}

fn idle(server: &Server, connections: usize) -> Result<Vec<Figure>> {
    drop(Crowd::connect(server.port, TOPIC, WARM_UP_CONNECTIONS)?);
    std::thread::sleep(SETTLE_MEMORY);
    let (user, kernel) = (server.resident()?, kernel_objects());
    let mut crowd = Crowd::connect(server.port, TOPIC, connections)?;
    std::thread::sleep(SETTLE_MEMORY);
    let each = |now: u64, before: u64| (now as f64 - before as f64) / connections as f64;
    let mut figures = vec![Figure::new("resident a connection", "B", each(server.resident()?, user))];
    if let (Some(now), Some(before)) = (kernel_objects(), kernel) {
        figures.push(Figure::new("kernel's, both ends", "B", each(now, before)));
    }
    // They were all subscribed, or the memory is of something else.
    Publisher::connect(server.port, TOPIC)?.publish(&client_frame(&payload(64)))?;
    crowd.await_exactly(&server_frame(&payload(64)))?;
    Ok(figures)
}

fn stalled(server: &Server, published: usize) -> Result<Vec<Figure>> {
    let mut stalled = Crowd::connect(server.port, TOPIC, STALLED_READERS)?;
    let mut healthy = Crowd::connect(server.port, TOPIC, 1)?;
    let mut publisher = Publisher::connect(server.port, TOPIC)?;
    let sent = client_frame(&payload(STALLED_PAYLOAD));
    let delivered = server_frame(&payload(STALLED_PAYLOAD));
    let before = server.resident()?;
    for _ in 0..published / STALLED_PAYLOAD {
        publisher.publish(&sent)?;
        healthy.expect(delivered.len());
        healthy.await_all()?;
        stalled.expect(delivered.len());
    }
    std::thread::sleep(SETTLE);
    let growth = server.resident()? as f64 - before as f64;
    // Nothing was dropped to save the memory.
    stalled.await_all()?;
    stalled.check_nothing_more()?;
    Ok(vec![Figure::new("resident growth", "MiB", growth / f64::from(1 << 20))])
}
