//! What a run found, as data. [`text`], [`html`] and serde make something to look at of it.

pub mod html;
pub mod plot;
pub mod quantity;
pub mod text;
mod words;

#[cfg(test)]
mod sample;

use std::fmt;
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
    /// Seconds since the run began at which the server was warm: what was before is in the series and in nothing else.
    /// `None`: it was not warmed up, or all of the run was looked at.
    pub warm_at: Option<f64>,
    /// What a reader of the figures should know, each one sentence.
    pub notes: Vec<String>,
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

impl Report {
    /// What is held against the server, in words. In `stalled`, that concerns those that read.
    pub fn verdict(&self) -> String {
        let but = if self.mode == "stalled" { "apart from the stalled ones: " } else { "" };
        format!("{but}{}", self.faults)
    }
}

/// In words: "messages: 3 lost, 1 reordered; connections: 2 refused".
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.none() {
            return f
                .write_str("nothing was lost, reordered, repeated or corrupted; no connection was refused or closed");
        }
        let messages = [
            (self.lost, "lost"),
            (self.reordered, "reordered"),
            (self.duplicated, "repeated"),
            (self.corrupted, "corrupted"),
        ];
        let connections = [(self.refused, "refused"), (self.closed, "closed by the server")];
        let kinds = [("messages", &messages[..]), ("connections", &connections)].map(|(what, counts)| {
            let counts: Vec<String> = counts
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("{} {what}", quantity::show(*count as f64, "")))
                .collect();
            (what, counts.join(", "))
        });
        let some = kinds.iter().filter(|(_, counts)| !counts.is_empty());
        f.write_str(&some.map(|(what, counts)| format!("{what}: {counts}")).collect::<Vec<_>>().join("; "))
    }
}

impl Figure {
    /// A figure.
    pub fn new(name: impl Into<String>, unit: &str, value: f64) -> Figure {
        Figure { name: name.into(), unit: unit.into(), value }
    }
}

impl Latency {
    /// Shares that tables show.
    const SHOWN: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

    /// The row of a table: the times at [`Latency::SHOWN`], greatest, mean, count.
    fn row(&self) -> Vec<String> {
        let time = |time: f64| quantity::show(time, "ns");
        let known = |share: f64| self.quantiles.iter().find(|&&(known, _)| known == share);
        let shown = Latency::SHOWN.iter().map(|&(_, share)| known(share).map_or(f64::NAN, |&(_, t)| t as f64));
        let rest = [self.max as f64, if self.count == 0 { f64::NAN } else { self.mean }];
        shown.chain(rest).map(time).chain([quantity::show(self.count as f64, "")]).collect()
    }

    /// What heads the columns of [`Latency::row`].
    fn columns() -> impl Iterator<Item = &'static str> {
        Latency::SHOWN.into_iter().map(|(name, _)| name).chain(["max", "mean", "count"])
    }

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

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.cpus == 1 { "" } else { "s" };
        write!(f, "Linux {}, {}, {} CPU{plural}", self.kernel, self.cpu, self.cpus)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histogram(times: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        times.iter().for_each(|&time| histogram.record(time).unwrap());
        histogram
    }

    #[test]
    fn a_report_is_what_was_written_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (json, html) = (dir.path().join("a.json"), dir.path().join("a.html"));
        let mut report = sample::report("ours", 1.0);
        report.faults = Faults { lost: 1, duplicated: 2, reordered: 3, corrupted: 4, refused: 5, closed: u64::MAX };
        write(&report, Some(&json), Some(&html)).unwrap();
        let read: Report = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
        // Numbers of seventeen digits may differ in the last.
        assert!((read.latencies[0].mean / report.latencies[0].mean - 1.0).abs() < 1e-15);
        assert_eq!(read.latencies[0].quantiles, report.latencies[0].quantiles);
        assert_eq!((read.faults, &read.machine, &read.title), (report.faults, &report.machine, &report.title));
        assert_eq!(read.series.len(), report.series.len());
        assert_eq!(read.figures, report.figures);
        assert!(fs::read_to_string(&html).unwrap().contains("</html>"));
    }

    #[test]
    fn a_number_that_json_does_not_have_is_none() {
        let text = serde_json::to_string(&Figure::new("a ratio", "", f64::INFINITY)).unwrap();
        assert!(serde_json::from_str::<Figure>(&text).unwrap().value.is_nan());
    }

    #[test]
    fn errors_name_the_file() {
        let nowhere = Path::new("/no/such/directory/a.json");
        for (json, html) in [(Some(nowhere), None), (None, Some(nowhere))] {
            let error = write(&Report::default(), json, html).unwrap_err().to_string();
            assert!(error.starts_with("/no/such/directory/a.json: No such file"), "{error}");
        }
    }

    #[test]
    fn a_report_of_an_older_version_is_one() {
        assert_eq!(serde_json::from_str::<Report>("{}").unwrap(), Report::default());
    }

    #[test]
    fn a_distribution_says_only_what_its_count_supports() {
        let latency = latency("a", &histogram(&(1..=1000).collect::<Vec<_>>()));
        assert_eq!(
            (latency.count, latency.max, latency.quantiles.first(), latency.quantiles.last()),
            (1000, 1000, Some(&(0.0, 1)), Some(&(1.0, 1000)))
        );
        let shares: Vec<f64> = latency.quantiles.iter().map(|quantile| quantile.0).collect();
        assert!(shares.iter().is_sorted_by(|a, b| a < b));
        assert_eq!(shares[shares.len() - 2], 0.999, "one in a thousand is beyond");
        assert_eq!([0.5, 0.9, 0.99, 0.999, 0.9999].map(|share| latency.quantile(share)), [500, 900, 990, 999, 1000]);
        assert_eq!((latency.mean, latency.quantile(0.0), latency.quantile(2.0)), (500.5, 1, 1000));
        assert!(super::latency("", &histogram(&[])).quantiles.is_empty());
        assert_eq!(Latency::default().quantile(0.5), 0);
    }

    #[test]
    fn shares_are_dense_enough_for_a_curve() {
        let shares: Vec<f64> = shares(u64::MAX).collect();
        assert_eq!((shares.len(), shares.last()), (76, Some(&0.99999)));
        for named in [0.0, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999] {
            assert!(shares.contains(&named), "{named}");
        }
        let steps = shares.windows(2).map(|pair| ((1.0 - pair[0]) / (1.0 - pair[1])).log10());
        assert!(steps.fold(0.0, f64::max) < 0.101, "a tenth of a decade");
        assert_eq!(super::shares(1).collect::<Vec<_>>(), [0.0]);
    }

    proptest! {
        #[test]
        fn a_quantile_is_what_so_many_did_not_exceed(mut times in prop::collection::vec(1..10_000_000_000u64, 1..500)) {
            let latency = latency("", &histogram(&times));
            times.sort_unstable();
            for &(share, time) in &latency.quantiles {
                // Rounding may make ⌈share × count⌉ one more.
                let rank = |slack: f64| ((share * times.len() as f64 + slack).ceil() as usize).clamp(1, times.len());
                let (low, high) = (times[rank(-1e-9) - 1] as f64, times[rank(1e-9) - 1] as f64);
                prop_assert!((low * 0.999..=high * 1.001 + 1.0).contains(&(time as f64)), "{share}: {time}, {low} to {high}");
            }
            prop_assert!(latency.quantiles.is_sorted());
        }
    }

    #[test]
    fn this_machine_is_one() {
        let machine = Machine::this();
        assert!(machine.cpus >= 1 && machine.kernel.starts_with(|c: char| c.is_ascii_digit()), "{machine:?}");
        assert!(!machine.cpu.is_empty());
    }

    #[test]
    fn models_of_cpus_are_found() {
        for (cpuinfo, model) in [
            (
                "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC 9654\nprocessor\t: 1\nmodel name\t: B\n",
                Some("AMD EPYC 9654"),
            ),
            ("processor\t: 0\nCPU part\t: 0xd0c\nModel\t\t: Raspberry Pi 5\n", Some("Raspberry Pi 5")),
            ("processor\t: 0\nCPU part\t: 0xd0c\n", None),
            ("model name\t:\n", None),
            ("\0\u{ff}:::", None),
            ("", None),
        ] {
            assert_eq!(cpu_model(cpuinfo), model, "{cpuinfo:?}");
        }
    }

    #[test]
    fn faults_are_told_by_kind() {
        let none = "nothing was lost, reordered, repeated or corrupted; no connection was refused or closed";
        assert_eq!(Faults::default().to_string(), none);
        let all = Faults { lost: 1000, duplicated: 2, reordered: 3, corrupted: 4, refused: 5, closed: 6 };
        let told = "messages: 1,000 lost, 3 reordered, 2 repeated, 4 corrupted; connections: 5 refused, 6 closed by the server";
        assert_eq!(all.to_string(), told);
        assert_eq!(Faults { refused: 1, ..Faults::default() }.to_string(), "connections: 1 refused");
    }
}
