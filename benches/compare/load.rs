//! The load: a run of `uproar bench` against a server, and what it found.

use std::process::{Command, Output};

use uproar::bench::report::{Faults, Figure, Latency, Report};

use crate::Result;
use crate::contender::{LOAD_CORE, Server, UPROAR};
use crate::plan::{Cell, Metric, Part};

/// Seconds after which a run is given up.
const GIVE_UP: &str = "180";
/// For what is compiled while it runs.
const WARM_UP: &str = "700ms";
/// How long the load waits for a message of a server that has much to do.
const PATIENCE: &str = "30s";
const MISSING: &str = "missing, of all stalled ones";
/// How much of the time others may keep its server from its core, in percent. What is more has disturbed what was measured.
const MOST_RUN_DELAY: f64 = 5.0;
const RUN_DELAY: &str = "run delay, server, by others at least";
/// How often a disturbed run is made again at most.
const AGAIN: usize = 2;
/// The shares of a latency that become figures.
const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// What a run came to.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Outcome {
    /// The report's, and the shares of its latencies.
    pub figures: Vec<Figure>,
    pub latencies: Vec<Latency>,
}

impl Outcome {
    /// Without the latencies that are not compared. Their shares are among the figures all the same.
    fn of_part(mut self, part: Part) -> Outcome {
        let compared: Vec<&str> = part.metrics().iter().filter_map(Metric::distribution).collect();
        self.latencies.retain(|latency| compared.contains(&latency.name.as_str()));
        self
    }

    /// For how much of the time others kept its server from its core, in percent, if that was too long.
    pub fn disturbed(&self) -> Option<f64> {
        let delay = self.figures.iter().find(|figure| figure.name == RUN_DELAY)?.value;
        (delay > MOST_RUN_DELAY).then_some(delay)
    }
}

/// Measures, and does it again if that was disturbed, at most twice: what was disturbed is thrown out, but for the last.
/// Gives back too for how long the servers of those that were disturbed have waited.
pub fn undisturbed(mut measure: impl FnMut() -> Result<Outcome>) -> (Result<Outcome>, Vec<f64>) {
    let mut waited = Vec::new();
    loop {
        let outcome = measure();
        match outcome.as_ref().ok().and_then(Outcome::disturbed) {
            Some(delay) => waited.push(delay),
            // A run that failed is not made again, and neither is one that nothing disturbed.
            None => return (outcome, waited),
        }
        if waited.len() > AGAIN {
            return (outcome, waited);
        }
    }
}

/// Loads a server, and judges what came of it.
pub fn run(cell: &Cell, server: &mut Server) -> Result<Outcome> {
    let outcome = judge(&bench(cell, server)?).map(|outcome| outcome.of_part(cell.part));
    match (outcome, server.ended()) {
        (outcome, None) => outcome,
        (Ok(_), Some(how)) => Err(how.into()),
        (Err(error), Some(how)) => Err(format!("{how}; {error}").into()),
    }
}

fn bench(cell: &Cell, server: &Server) -> Result<Output> {
    let (path, publish_path) = cell.part.paths(server.contender);
    let scheme = if server.tls { "wss" } else { "ws" };
    let url = |path: &str| format!("{scheme}://127.0.0.1:{}{path}", server.port);
    let mut command = Command::new("timeout");
    command.args(["--signal", "KILL", GIVE_UP, UPROAR, "bench"]).args(&cell.load);
    command.args(["--url", &url(path), "--cpus", LOAD_CORE, "--timeout", PATIENCE]);
    command.args(["--server-pid", &server.pid().to_string(), "--json", "-", "--quiet"]);
    if server.tls {
        command.arg("--insecure");
    }
    if server.contender.warms_up() {
        command.args(["--warm-up", WARM_UP]);
    }
    if let Some(path) = publish_path {
        command.args(["--publish-url", &url(path)]);
    }
    Ok(command.output()?)
}

/// The outcome, or why there is none: the load generator found a fault, or came to no result.
pub fn judge(output: &Output) -> Result<Outcome> {
    match serde_json::from_slice::<Report>(&output.stdout) {
        Ok(report) if report.faults.none() && report.complaint.is_none() => nothing_saved_by_dropping(reduce(report)),
        Ok(report) => Err(complaint(&report).into()),
        Err(_) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let why: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).take(3).collect();
            Err(format!("no report ({}): {}", output.status, why.join(", ")).into())
        }
    }
}

/// In `stalled`, the load generator does not mind what those who read nothing never get. A comparison of memory does.
fn nothing_saved_by_dropping(outcome: Outcome) -> Result<Outcome> {
    match outcome.figures.iter().find(|figure| figure.name == MISSING && figure.value > 0.0) {
        Some(missing) => Err(format!("{} bytes were dropped", missing.value).into()),
        None => Ok(outcome),
    }
}

/// What the server did that it should not have done, in words.
fn complaint(report: &Report) -> String {
    let Faults { lost, duplicated, reordered, corrupted, refused, closed } = report.faults;
    let counts = [
        ("lost", lost),
        ("duplicated", duplicated),
        ("reordered", reordered),
        ("corrupted", corrupted),
        ("connections refused", refused),
        ("connections closed", closed),
    ];
    let found = counts.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}"));
    found.chain(report.complaint.clone()).collect::<Vec<_>>().join(", ")
}

/// What is kept of a report.
fn reduce(report: Report) -> Outcome {
    let shares = |latency: &Latency| {
        let figure = |(share, of)| Figure::new(format!("{}, {share}", latency.name), "ns", latency.quantile(of) as f64);
        let mut figures: Vec<Figure> = SHARES.map(figure).into();
        figures.push(Figure::new(format!("{}, max", latency.name), "ns", latency.max as f64));
        figures
    };
    let latencies: Vec<Latency> = report.latencies.into_iter().filter(|latency| latency.count > 0).collect();
    let figures = report.figures.into_iter().chain(latencies.iter().flat_map(shares)).collect();
    Outcome { figures, latencies }
}
