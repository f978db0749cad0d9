//! The load generator's modes, as the binary runs them: against this server, in which there is nothing to be found, and
//! against one that does things wrong.

mod bad;
#[path = "../common/mod.rs"]
mod common;
mod faults;
mod good;
mod held;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;

use uproar::bench::report::Report;

/// What a run ended with.
#[derive(Debug)]
struct Ended {
    code: i32,
    /// None, if it came to no result.
    report: Option<Report>,
    stderr: String,
}

/// Runs a mode, with a report as JSON on standard output.
fn bench(arguments: &[&str]) -> Ended {
    run(&[arguments, &["--quiet", "--json", "-"]].concat())
}

/// Runs a mode.
fn run(arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uproar"));
    command.env_clear().arg("bench").args(arguments);
    let output = command.output().expect("the binary runs");
    let code = output.status.code().expect("it was not killed");
    let stderr = String::from_utf8(output.stderr).expect("text");
    let report = match output.stdout.is_empty() {
        true => None,
        false => Some(serde_json::from_slice(&output.stdout).expect("a report")),
    };
    report.iter().for_each(assert_names);
    Ended { code, report, stderr }
}

/// Whoever reads a report by names finds each once, and needs no other to understand it.
#[track_caller]
fn assert_names(report: &Report) {
    let figures: Vec<&str> = report.figures.iter().map(|figure| figure.name.as_str()).collect();
    let latencies: Vec<&str> = report.latencies.iter().map(|latency| latency.name.as_str()).collect();
    for names in [figures, latencies] {
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        assert!(names.iter().all(|name| name.starts_with(char::is_alphabetic)), "{names:?}");
    }
}

impl Ended {
    /// The report of a run that came to one.
    #[track_caller]
    fn report(&self) -> &Report {
        self.report.as_ref().unwrap_or_else(|| panic!("no report: {self:?}"))
    }

    /// The value of a figure.
    #[track_caller]
    fn figure(&self, name: &str) -> f64 {
        let figure = self.report().figures.iter().find(|figure| figure.name == name);
        figure.unwrap_or_else(|| panic!("no {name}: {self:?}")).value
    }

    /// How many times were taken of a distribution.
    #[track_caller]
    fn times(&self, name: &str) -> u64 {
        let latency = self.report().latencies.iter().find(|latency| latency.name == name);
        latency.unwrap_or_else(|| panic!("no {name}: {self:?}")).count
    }
}

/// `ws://…/path`.
fn url(address: SocketAddr, path: &str) -> String {
    format!("ws://{address}{path}")
}
