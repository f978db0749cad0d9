//! What a run found, as data. [`text`], [`html`] and serde make something to look at of it.

use serde::{Deserialize, Serialize};

/// The outcome of one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// `fanout`, `rate`, …
    pub mode: String,
    /// One line that says what was done: "64 B to 1000 subscribers of 1 topic, burst 1, window 1".
    pub title: String,
    /// Where the connections went.
    pub url: String,
    /// When it began, in seconds since 1970.
    pub unix_time: u64,
    /// Of the machine that made the load.
    pub machine: Machine,
    /// The outcome in numbers, the most telling ones first.
    pub figures: Vec<Figure>,
    /// Distributions of times.
    pub latencies: Vec<Latency>,
    /// What changed in the course of the run.
    pub series: Vec<Series>,
    /// What the server did that it should not have done.
    pub faults: Faults,
}

/// A machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: String,
    /// Model of the CPU.
    pub cpu: String,
    /// CPUs that the process may use.
    pub cpus: usize,
}

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is: "server CPU a delivery".
    pub name: String,
    /// "ns", "µs", "ms", "/s", "B", "MiB", "".
    pub unit: String,
    /// The number.
    pub value: f64,
}

/// A distribution of times, in nanoseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    /// From what to what: "due to delivered".
    pub name: String,
    /// How many were taken.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// The greatest.
    pub max: u64,
    /// Shares, ascending from 0 to 1, and the time that so many did not exceed: enough of them for a plot.
    pub quantiles: Vec<(f64, u64)>,
}

/// Something over time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// What: "deliveries".
    pub name: String,
    /// "/s", "MiB", …
    pub unit: String,
    /// What the points' first number is: "s" since the run began, if nothing else ("connections").
    pub over: String,
    /// Ascending in the first.
    pub points: Vec<(f64, f64)>,
}

/// Counts of what the server did that it should not have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Messages that did not come.
    pub lost: u64,
    /// Messages that came twice.
    pub duplicated: u64,
    /// Messages that came after one that was published later.
    pub reordered: u64,
    /// Messages that were changed, and frames that are none.
    pub corrupted: u64,
    /// Connections that could not be made.
    pub refused: u64,
    /// Connections that the server ended.
    pub closed: u64,
}

impl Faults {
    /// Nothing was wrong.
    pub fn none(&self) -> bool {
        *self == Faults::default()
    }
}

impl Figure {
    /// A figure.
    pub fn new(name: impl Into<String>, unit: &str, value: f64) -> Figure {
        Figure { name: name.into(), unit: unit.into(), value }
    }
}
