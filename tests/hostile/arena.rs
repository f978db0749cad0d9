//! Where an attack takes place: a server of its own, healthy clients, and what is looked at before and after.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::common::tls::TlsClient;
use super::common::{Process, scrape, sum, wait_until};
use super::healthy::{Entrance, Findings, Healthy};

/// How long the healthy clients are alone at first.
const QUIET: Duration = Duration::from_millis(500);
/// How long they are looked at from the begin of an attack on, at least.
const LEAST: Duration = Duration::from_secs(1);
/// What no more than one in a hundred messages may be late by, and what none may be: far above what is usual, since the machine
/// that runs the tests has other things to do.
const MAX_P99: Duration = Duration::from_millis(500);
const MAX_STALL: Duration = Duration::from_secs(2);
/// What the server's memory may have grown by when an attack is over: what an allocator keeps.
const MAX_GROWTH: u64 = 24 << 20;

pub struct Arena {
    pub server: Process,
    healthy: Healthy,
}

/// What a server holds.
#[derive(Clone, Copy, Debug)]
struct Vitals {
    resident: u64,
    descriptors: usize,
}

impl Vitals {
    fn of(server: &Process) -> Vitals {
        Vitals { resident: server.resident(), descriptors: server.descriptors() }
    }
}

impl Arena {
    /// A server of two shards with these options, and its healthy clients.
    pub fn start(args: &[&str]) -> Arena {
        Arena::with(args, &Entrance::default())
    }

    /// The same, where clients have to come in some way.
    pub fn with(args: &[&str], entrance: &Entrance) -> Arena {
        Arena::on(Process::start(&[&["--shards=2"], args].concat()), entrance, Vec::new())
    }

    /// A server that is there.
    pub fn on(server: Process, entrance: &Entrance, secured: Vec<TlsClient>) -> Arena {
        let healthy = Healthy::start(server.addr, entrance, secured);
        Arena { server, healthy }
    }

    /// Lets the healthy clients be alone for a while, then attacks, then sees to it that nothing is left of it.
    #[track_caller]
    pub fn attack<T>(self, name: &str, attack: impl FnOnce(&Process) -> T) -> (Aftermath, T) {
        thread::sleep(QUIET);
        let before = Vitals::of(&self.server);
        let metrics = scrape(&self.server.admin);
        self.healthy.attacked();
        let begin = Instant::now();
        let outcome = attack(&self.server);
        let lasted = begin.elapsed();
        thread::sleep(LEAST.saturating_sub(lasted));
        let Arena { server, healthy } = self;
        wait_until("the attackers are gone", || server.metric("connections") == healthy.connections);
        let growth = || server.resident().saturating_sub(before.resident);
        let most = growth();
        wait_until(&format!("memory is given back: {most} bytes more"), || growth() < MAX_GROWTH);
        let findings = healthy.finish();
        report(name, &findings, lasted, growth());
        judge(&findings);
        settle(&server, before.descriptors);
        (Aftermath { server, before: metrics }, outcome)
    }
}

/// What is left when the healthy clients have gone too: nothing.
#[track_caller]
fn settle(server: &Process, descriptors: usize) {
    wait_until("all are gone", || server.metric("connections") == 0);
    for gauge in [
        "connections kind=\"websocket\"",
        "connections kind=\"event_stream\"",
        "subscriptions",
        "topics",
        "memory_bytes part=\"partial_messages\"",
        "memory_bytes part=\"frames\"",
    ] {
        wait_until(&format!("{gauge} is 0"), || server.metric(gauge) == 0);
    }
    wait_until("descriptors are closed", || server.descriptors() <= descriptors);
}

#[track_caller]
fn judge(findings: &Findings) {
    assert!(
        findings.problems.is_empty(),
        "healthy clients: {:#?}",
        &findings.problems[..findings.problems.len().min(20)]
    );
    let samples = &findings.attacked;
    assert!(samples.len() > 100, "the attack was too short to say anything: {}", samples.len());
    let (p99, max) = (samples.value_at_quantile(0.99), samples.max());
    assert!(u128::from(p99) < MAX_P99.as_micros(), "p99 of healthy clients' latency: {p99} µs");
    assert!(u128::from(max) < MAX_STALL.as_micros(), "healthy clients were stalled for {max} µs");
}

/// Says what healthy clients felt; also in the file that `HOSTILE_TABLE` names.
fn report(name: &str, findings: &Findings, lasted: Duration, growth: u64) {
    let figures = |samples: &Histogram<u64>| {
        let [p50, p99] = [0.5, 0.99].map(|quantile| samples.value_at_quantile(quantile) as f64 / 1000.0);
        format!("{p50:.1} | {p99:.1} | {:.1}", samples.max() as f64 / 1000.0)
    };
    let (quiet, attacked) = (figures(&findings.quiet), figures(&findings.attacked));
    let row = format!("| {name} | {:.1} | {quiet} | {attacked} | {:.1} |\n", lasted.as_secs_f32(), growth as f64 / 1e6);
    print!("{row}");
    if let Some(path) = std::env::var_os("HOSTILE_TABLE") {
        let mut file = OpenOptions::new().append(true).create(true).open(&path).expect("the table");
        if fs::metadata(&path).is_ok_and(|file| file.len() == 0) {
            let head = "| attack | s | alone: p50, ms | p99 | max | attacked: p50, ms | p99 | max | MB more |\n";
            file.write_all(format!("{head}|---|---|---|---|---|---|---|---|---|\n").as_bytes()).expect("the table");
        }
        file.write_all(row.as_bytes()).expect("the table");
    }
}

/// A server that was attacked.
pub struct Aftermath {
    pub server: Process,
    /// The metrics before the attack.
    before: String,
}

impl Aftermath {
    /// By how much a counter has risen.
    #[track_caller]
    pub fn rose(&self, series: &str) -> u64 {
        self.server.metric(series) - sum(&self.before, series)
    }

    /// As [`Aftermath::rose`], once it is as much.
    #[track_caller]
    pub fn rises(&self, series: &str, at_least: u64) {
        let mut last = 0;
        wait_until(&format!("{series} rises by {at_least}"), || {
            last = self.rose(series);
            last >= at_least
        });
    }
}
