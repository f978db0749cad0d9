//! How to wait.

use std::io;
use std::time::Duration;

use crate::crowd::Crowd;
use crate::lab::{Lab, Variant};
use crate::peer::{Latencies, MESSAGE, Task};
use crate::polled::{self, Polls};
use crate::serve::{Served, Work};
use crate::uring::{SERVERS, Uring, Wait, needs};

use super::CPU;

const CONNECTIONS: usize = 64;
/// Messages a second.
const RATES: [u64; 2] = [10_000, 40_000];
/// How long a full sample takes.
const SAMPLE: Duration = Duration::from_millis(450);
const COLUMNS: [&str; 4] = [CPU, "p50 µs", "p99 µs", "messages/enter"];

/// Decides whether `Ring::enter` asks for more than one completion, with a minimum wait time.
///
/// `min_timeout` needs 6.12. Without it, waiting for several completions can only be bounded by a timeout that ends the
/// wait with nothing, too.
pub fn wait(lab: &mut Lab) -> io::Result<()> {
    let gather =
        |events, micros| (format!("{events} completions, or {micros} µs"), "6.12", Wait::Gather { events, micros });
    let one = ("one completion".to_owned(), "", Wait::One);
    let waits = [one, gather(32, 20), gather(32, 50), gather(32, 100), gather(4, 100)];
    RATES.into_iter().try_for_each(|rate| compare(lab, rate, &waits))
}

/// Decides whether there is to be a profile for the lowest latency that spins. Needs nothing newer.
///
/// That a ring looks at the network card's queue itself (`IORING_REGISTER_NAPI`, 6.9) does nothing on loopback, which
/// has no such queue: it is not measured here.
pub fn busy(lab: &mut Lab) -> io::Result<()> {
    let waits =
        [("blocks", Wait::One), ("enters again and again", Wait::EnterAgain), ("looks at the queues", Wait::Look)];
    compare(lab, RATES[0], &waits.map(|(name, wait)| (name.to_owned(), "", wait)))?;
    lab.note("IORING_REGISTER_NAPI is not measured: loopback has no device queue to poll.");
    Ok(())
}

fn compare(lab: &mut Lab, rate: u64, waits: &[(String, &'static str, Wait)]) -> io::Result<()> {
    let crowd = Crowd::connect(CONNECTIONS, lab.cpus)?;
    let messages = lab.scale(rate * SAMPLE.as_millis() as u64 / 1000);
    let interval = Duration::from_secs(1) / rate as u32;
    let variants = waits.iter().enumerate().map(|(place, (name, since, wait))| {
        let task = Task::AskAtRate { messages, interval };
        let crowd = &crowd;
        let sample = move || {
            let (served, latencies) = echo_at_rate(crowd, task, messages, *wait)?;
            let [p50, p99] = [0.5, 0.99].map(|share| quantile(&latencies, share).as_nanos() as f64 / 1000.0);
            Ok(vec![served.cost(MESSAGE)[0], p50, p99, served.batch(MESSAGE)])
        };
        Variant::new(name, sample).since(since).base(place == 0)
    });
    let title = format!("an echo of {MESSAGE} B, {rate} a second over {CONNECTIONS} connections");
    lab.compare(&title, &COLUMNS, variants.collect())
}

fn echo_at_rate(crowd: &Crowd, task: Task, messages: u64, wait: Wait) -> io::Result<(Served, Latencies)> {
    let ring = Uring::with_files(SERVERS, crowd.files())?;
    needs(!matches!(wait, Wait::Gather { .. }) || ring.raw().params().is_feature_min_timeout())?;
    crowd.peers().start(task)?;
    let work = Work { bytes: messages * MESSAGE as u64, echo: true };
    let served = polled::serve(ring, crowd.size(), Polls { wait, ..polled::SERVERS }, work)?;
    Ok((served, crowd.peers().finish()?))
}

fn quantile(ascending: &[Duration], share: f64) -> Duration {
    let at = (ascending.len() as f64 * share) as usize;
    ascending.get(at).copied().unwrap_or_default()
}
