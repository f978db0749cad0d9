//! The load: a run of `uproar bench` against a server, and what it found.

use std::process::{Command, Output};

use uproar::bench::report::{Faults, Figure, Latency, Report};

use crate::Result;
use crate::contender::{LOAD_CORE, Server, UPROAR};
use crate::plan::Cell;

/// Seconds after which a run is given up.
const GIVE_UP: &str = "180";
/// How long the load waits for a message of a server that has much to do.
const PATIENCE: &str = "30s";
/// The shares of a latency that become figures.
const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// What a run came to.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Outcome {
    /// The report's, and the shares of its latencies.
    pub figures: Vec<Figure>,
    pub latencies: Vec<Latency>,
}

/// Loads a server, and judges what came of it.
pub fn run(cell: &Cell, server: &mut Server) -> Result<Outcome> {
    let outcome = judge(&bench(cell, server)?);
    match (outcome, server.ended()) {
        (outcome, None) => outcome,
        (Ok(_), Some(how)) => Err(how.into()),
        (Err(error), Some(how)) => Err(format!("{how}; {error}").into()),
    }
}

fn bench(cell: &Cell, server: &Server) -> Result<Output> {
    let (path, publish_path) = cell.part.paths(server.contender);
    let url = |path: &str| format!("ws://127.0.0.1:{}{path}", server.port);
    let mut command = Command::new("timeout");
    command.args(["--signal", "KILL", GIVE_UP, UPROAR, "bench"]).args(&cell.load);
    command.args(["--url", &url(path), "--cpus", LOAD_CORE, "--timeout", PATIENCE]);
    command.args(["--server-pid", &server.pid().to_string(), "--json", "-", "--quiet"]);
    if let Some(path) = publish_path {
        command.args(["--publish-url", &url(path)]);
    }
    Ok(command.output()?)
}

/// The outcome, or why there is none: the load generator found a fault, or came to no result.
fn judge(output: &Output) -> Result<Outcome> {
    match serde_json::from_slice::<Report>(&output.stdout) {
        Ok(report) if report.faults.none() => Ok(reduce(report)),
        Ok(report) => Err(faults(&report.faults).into()),
        Err(_) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let why = said.lines().rev().find(|line| !line.trim().is_empty());
            Err(why.map_or_else(|| format!("the load ended without a report ({})", output.status), str::to_owned).into())
        }
    }
}

fn faults(faults: &Faults) -> String {
    let Faults { lost, duplicated, reordered, corrupted, refused, closed } = *faults;
    let counts = [
        ("lost", lost),
        ("duplicated", duplicated),
        ("reordered", reordered),
        ("corrupted", corrupted),
        ("connections refused", refused),
        ("connections closed", closed),
    ];
    let found = counts.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}"));
    found.collect::<Vec<_>>().join(", ")
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn output(code: i32, stdout: &str, stderr: &str) -> Output {
        Output { status: ExitStatus::from_raw(code << 8), stdout: stdout.into(), stderr: stderr.into() }
    }

    const RECORDED: &str = r#"{"mode":"rate","title":"t","url":"ws://x","unix_time":1,
        "machine":{"kernel":"6.18","cpu":"c","cpus":2},
        "figures":[{"name":"server CPU a delivery","unit":"ns","value":3859.5}],
        "latencies":[{"name":"due to delivered","count":2000,"mean":5.0,"max":90,
            "quantiles":[[0.5,4],[0.99,20],[0.999,70],[1.0,90]]},
            {"name":"nothing","count":0,"mean":0.0,"max":0,"quantiles":[]}],
        "series":[],"faults":{"lost":0,"duplicated":0,"reordered":0,"corrupted":0,"refused":0,"closed":0}}"#;

    #[test]
    fn a_report_becomes_figures() {
        let outcome = judge(&output(0, RECORDED, "")).expect("an outcome");
        let figures: Vec<_> = outcome.figures.iter().map(|f| (f.name.as_str(), f.unit.as_str(), f.value)).collect();
        let expected = [
            ("server CPU a delivery", "ns", 3859.5),
            ("due to delivered, p50", "ns", 4.0),
            ("due to delivered, p99", "ns", 20.0),
            ("due to delivered, p99.9", "ns", 70.0),
            ("due to delivered, max", "ns", 90.0),
        ];
        assert_eq!(figures, expected);
        assert_eq!(outcome.latencies.len(), 1);
    }

    #[test]
    fn faults_and_silence_are_failures() {
        let faulty = RECORDED.replace(r#""lost":0"#, r#""lost":3"#).replace(r#""closed":0"#, r#""closed":1"#);
        let reason = |output| judge(&output).expect_err("a failure").to_string();
        assert_eq!(reason(output(1, &faulty, "")), "3 lost, 1 connections closed");
        assert_eq!(reason(output(3, "", "uproar: connecting\nno such host\n\n")), "no such host");
        assert!(reason(output(3, "{", "")).contains("exit status: 3"));
    }
}
