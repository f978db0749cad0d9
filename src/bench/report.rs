//! What a run found, as data. [`text`], [`html`] and serde make something to look at of it.

pub mod html;
pub mod plot;
pub mod quantity;
pub mod text;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize};

use crate::bench;
use crate::ring::sys;

/// The outcome of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// What it is called beside others on one page: "uWebSockets". May be empty.
    pub name: String,
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
    /// The first thing that went wrong, in words.
    #[serde(default)]
    pub complaint: Option<String>,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    /// The number. JSON has no other than finite ones: it has `null` for the rest.
    #[serde(deserialize_with = "number")]
    pub value: f64,
}

/// A distribution of times, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// From what to what: "due to delivered".
    pub name: String,
    /// How many were taken.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// The greatest.
    pub max: u64,
    /// Shares, ascending from 0 to 1, and the time that so many did not exceed: enough of them for a plot, but between 0
    /// and 1 only those that at least one was beyond.
    pub quantiles: Vec<(f64, u64)>,
}

/// Something over time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Title of the plot that it is a line of, with the others of that title; if empty, it has a plot of its own.
    #[serde(default)]
    pub plot: String,
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

impl Report {
    /// Reads what [`write`] wrote as JSON.
    ///
    /// # Errors
    /// The file cannot be read, or is no report.
    pub fn read(file: &Path) -> bench::Result<Report> {
        let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: no report: {error}", file.display()).into())
    }
}

impl Faults {
    /// Nothing was wrong.
    pub fn none(&self) -> bool {
        *self == Faults::default()
    }

    /// Adds those of another part of the run.
    pub fn add(&mut self, other: &Faults) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
        self.refused += other.refused;
        self.closed += other.closed;
    }
}

impl Figure {
    /// A figure.
    pub fn new(name: impl Into<String>, unit: &str, value: f64) -> Figure {
        Figure { name: name.into(), unit: unit.into(), value }
    }
}

impl Latency {
    /// The time that this share, between 0 and 1, did not exceed: that of the next greater one that is known. 0 if there
    /// is none.
    pub fn quantile(&self, share: f64) -> u64 {
        let known = self.quantiles.iter().find(|&&(known, _)| known >= share);
        known.or(self.quantiles.last()).map_or(0, |&(_, time)| time)
    }
}

/// Tails of a distribution that a plot has points for, by their leading digits; see [`latency`].
const TAILS: [u64; 15] = [1000, 900, 800, 700, 600, 500, 450, 400, 350, 300, 250, 200, 175, 150, 125];
/// Powers of ten that they are divided by: down to 0.00001, so 99.999 %.
const DECADES: u32 = 5;

/// A distribution, from a histogram of nanoseconds.
///
/// Its shares are such as people ask for (0.5, 0.95, 0.999), and dense enough for a curve over the logarithm of what is
/// beyond them. A share that none was beyond says nothing but the greatest, so it is left out.
pub fn latency(name: &str, histogram: &Histogram<u64>) -> Latency {
    let count = histogram.len();
    if count == 0 {
        return Latency { name: name.into(), ..Latency::default() };
    }
    let shares: Vec<f64> = shares(count).collect();
    let times = histogram.value_at_quantiles(shares.iter().copied());
    let mut quantiles: Vec<(f64, u64)> = shares.iter().copied().zip(times).collect();
    quantiles.push((1.0, histogram.max()));
    Latency { name: name.into(), count, mean: histogram.mean(), max: histogram.max(), quantiles }
}

/// From 0 to below 1, ascending, as far as `count` supports them.
fn shares(count: u64) -> impl Iterator<Item = f64> {
    let whole = TAILS[0] * 10u64.pow(DECADES);
    let decades = (0..=DECADES).flat_map(|decade| TAILS.iter().map(move |tail| tail * 10u64.pow(DECADES - decade)));
    let supported = move |tail: &u64| u128::from(*tail) * u128::from(count) >= u128::from(whole);
    // Both numbers are whole: the quotient is the double next to 0.999, and so what the source text 0.999 means.
    decades.filter(|tail| *tail >= TAILS[0]).filter(supported).map(move |tail| (whole - tail) as f64 / whole as f64)
}

impl Machine {
    /// The one this runs on. What cannot be read is "unknown", or 0.
    pub fn this() -> Machine {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        let kernel = read("/proc/sys/kernel/osrelease");
        Machine {
            kernel: if kernel.is_empty() { "unknown".into() } else { kernel.trim().into() },
            cpu: cpu_model(&read("/proc/cpuinfo")).unwrap_or("unknown").into(),
            cpus: sys::allowed_cpus().map_or(0, |cpus| cpus.len()),
        }
    }
}

/// The first CPU's model, as `/proc/cpuinfo` has it; Arm's has none.
fn cpu_model(cpuinfo: &str) -> Option<&str> {
    let fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let mut models = fields.filter(|(name, _)| matches!(name.trim(), "model name" | "Model"));
    models.next().map(|(_, model)| model.trim()).filter(|model| !model.is_empty())
}

/// Writes a report to files: as JSON, where `-` is standard output, and as a page.
///
/// # Errors
/// A file cannot be written; it is named.
pub fn write(report: &Report, json: Option<&Path>, html: Option<&Path>) -> bench::Result<()> {
    if let Some(file) = json {
        let mut text = serde_json::to_string_pretty(report)?;
        text.push('\n');
        match file.to_str() {
            Some("-") => io::stdout().lock().write_all(text.as_bytes())?,
            _ => save(file, &text)?,
        }
    }
    html.map_or(Ok(()), |file| save(file, &html::render(std::slice::from_ref(report))))
}

fn save(file: &Path, text: &str) -> bench::Result<()> {
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()).into())
}

/// Reads what serde writes of a number that is not finite, too.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}
