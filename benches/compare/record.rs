//! What was measured, as it is kept in files, and what it comes to: medians, and ratios within each repetition.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uproar::bench::report::Latency;

use crate::Result;
use crate::contender::Contender;
use crate::load::Outcome;
use crate::machine::Machine;
use crate::plan::{self, Better, Cell, Pace};

/// The files of a record.
const FIGURES: &str = "figures.json";
const LATENCIES: &str = "latencies.json";
const MACHINE: &str = "machine.json";

/// Everything measured in one run.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Record {
    pub machine: Machine,
    pub series: Vec<Series>,
    pub failures: Vec<Failure>,
    pub disturbances: Vec<Disturbance>,
    pub latencies: Vec<Distribution>,
}

/// A contender's values of one figure in one cell, one for each repetition; `None` where it failed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Series {
    pub cell: String,
    pub contender: Contender,
    pub figure: String,
    pub unit: String,
    pub values: Vec<Option<f64>>,
}

/// A run that came to nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    pub cell: String,
    pub contender: Contender,
    pub repetition: usize,
    pub reason: String,
}

/// A repetition whose server had to wait for its core, so that it was measured again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Disturbance {
    pub cell: String,
    pub contender: Contender,
    pub repetition: usize,
    /// For how much of the time each run's server waited, in percent.
    pub waited: Vec<f64>,
    /// The last of them was not measured again: it is what the figures are of.
    pub kept: bool,
}

/// How a contender's times were distributed in one repetition.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Distribution {
    pub cell: String,
    pub contender: Contender,
    pub repetition: usize,
    pub name: String,
    /// Shares, and the nanoseconds that so many did not exceed.
    pub quantiles: Vec<(f64, u64)>,
}

impl Record {
    /// Notes what one repetition came to.
    pub fn add(&mut self, cell: &str, contender: Contender, repetition: usize, outcome: Result<Outcome>) {
        let cell = cell.to_owned();
        match outcome {
            Ok(outcome) => {
                // A number that is none has no place in JSON, nor in a median.
                for figure in outcome.figures.into_iter().filter(|figure| figure.value.is_finite()) {
                    let series = self.series_mut(&cell, contender, &figure.name, &figure.unit);
                    series.values.resize(repetition, None);
                    series.values.push(Some(rounded(figure.value)));
                }
                let kept = |Latency { name, quantiles, .. }| Distribution {
                    cell: cell.clone(),
                    contender,
                    repetition,
                    name,
                    quantiles,
                };
                self.latencies.extend(outcome.latencies.into_iter().map(kept));
            }
            Err(error) => self.failures.push(Failure { cell, contender, repetition, reason: error.to_string() }),
        }
    }

    /// Notes that runs of a repetition were disturbed, and for how long their servers waited, in percent.
    pub fn note_disturbances(
        &mut self,
        cell: &str,
        contender: Contender,
        repetition: usize,
        outcome: &Result<Outcome>,
        waited: Vec<f64>,
    ) {
        if !waited.is_empty() {
            let kept = outcome.as_ref().is_ok_and(|outcome| outcome.disturbed().is_some());
            let waited = waited.into_iter().map(rounded).collect();
            self.disturbances.push(Disturbance { cell: cell.into(), contender, repetition, waited, kept });
        }
    }

    fn series_mut(&mut self, cell: &str, contender: Contender, figure: &str, unit: &str) -> &mut Series {
        let at = self.position(cell, contender, figure).unwrap_or_else(|| {
            let (cell, figure, unit) = (cell.to_owned(), figure.to_owned(), unit.to_owned());
            self.series.push(Series { cell, contender, figure, unit, values: Vec::new() });
            self.series.len() - 1
        });
        &mut self.series[at]
    }

    fn position(&self, cell: &str, contender: Contender, figure: &str) -> Option<usize> {
        let same = |s: &Series| s.cell == cell && s.contender == contender && s.figure == figure;
        self.series.iter().position(same)
    }

    /// A contender's values, if there are any.
    pub fn series(&self, cell: &str, contender: Contender, figure: &str) -> Option<&Series> {
        self.position(cell, contender, figure).map(|at| &self.series[at])
    }

    /// Why a contender has no figures of a cell, or not of every repetition.
    pub fn failure(&self, cell: &str, contender: Contender) -> Option<&Failure> {
        self.failures.iter().find(|failure| failure.cell == cell && failure.contender == contender)
    }

    /// Whether anything is known of the cell.
    pub fn knows(&self, cell: &str) -> bool {
        self.series.iter().any(|s| s.cell == cell) || self.failures.iter().any(|failure| failure.cell == cell)
    }

    /// The cells that something is known of, in the order of the plan.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = plan::all(Pace::FULL);
        let quick = plan::all(Pace::QUICK).into_iter().filter(|cell| cells.iter().all(|full| full.id() != cell.id()));
        cells.extend(quick.collect::<Vec<_>>());
        cells.retain(|cell| self.knows(&cell.id()));
        cells
    }

    /// The peer that did best in a figure, by its median.
    pub fn best_peer(&self, cell: &str, figure: &str, better: Better) -> Option<&Series> {
        let peers = Contender::PEERS.into_iter().filter_map(|peer| self.series(cell, peer, figure));
        let cost = |series: &Series| match better {
            Better::Less => series.median(),
            Better::More => -series.median(),
        };
        peers.min_by(|a, b| cost(a).total_cmp(&cost(b)))
    }

    /// Reads what [`Record::write`] wrote into a directory.
    pub fn read(dir: &Path) -> Result<Record> {
        let Figures { failures, disturbances, series } = read(&dir.join(FIGURES))?;
        let (machine, latencies) = (read(&dir.join(MACHINE))?, read(&dir.join(LATENCIES))?);
        Ok(Record { machine, series, failures, disturbances, latencies })
    }

    /// Writes everything into a directory, which it makes if it is not there.
    pub fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join(MACHINE), serde_json::to_string_pretty(&self.machine)? + "\n")?;
        fs::write(dir.join(LATENCIES), format!("[\n{}\n]\n", lines(&self.latencies)?))?;
        let (failures, series) = (lines(&self.failures)?, lines(&self.series)?);
        let disturbances = lines(&self.disturbances)?;
        let figures = format!(
            "{{\"failures\":[\n{failures}\n],\"disturbances\":[\n{disturbances}\n],\"series\":[\n{series}\n]}}\n"
        );
        Ok(fs::write(dir.join(FIGURES), figures)?)
    }
}

#[derive(Deserialize)]
struct Figures {
    failures: Vec<Failure>,
    /// Older records have none.
    #[serde(default)]
    disturbances: Vec<Disturbance>,
    series: Vec<Series>,
}

/// JSON with a line for each, so that a difference between two records can be read.
fn lines<T: Serialize>(all: &[T]) -> Result<String> {
    Ok(all.iter().map(serde_json::to_string).collect::<std::result::Result<Vec<_>, _>>()?.join(",\n"))
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()).into())
}

/// The newest record: the last directory in the order of names, which are dates, that has one.
pub fn newest(records: &Path) -> Option<PathBuf> {
    let dirs = fs::read_dir(records).into_iter().flatten().flatten().map(|entry| entry.path());
    dirs.filter(|dir| dir.join(FIGURES).exists()).max()
}

impl Series {
    /// Of the repetitions that did not fail, of which there is one at least.
    pub fn median(&self) -> f64 {
        median(self.values.iter().flatten().copied().collect())
    }

    /// The least and the greatest.
    pub fn range(&self) -> (f64, f64) {
        let values = || self.values.iter().flatten().copied();
        (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max))
    }

    /// What this costs of what the other does: the median of the ratios within each repetition. Above 1, the other is
    /// better, whichever way the figure goes. `None` if they have no repetition in common, or if in one of those a figure is
    /// not above zero: what the machine did meanwhile may have made a growth of memory a loss, and there is no ratio to that.
    pub fn ratio(&self, other: &Series, better: Better) -> Option<f64> {
        let both = |(mine, others): (&Option<f64>, &Option<f64>)| Some(((*mine)?, (*others)?));
        let ratio = |(mine, others): (f64, f64)| {
            let ratio = if better == Better::Less { mine / others } else { others / mine };
            (mine > 0.0 && others > 0.0).then_some(ratio)
        };
        let ratios: Option<Vec<f64>> = self.values.iter().zip(&other.values).filter_map(both).map(ratio).collect();
        ratios.filter(|ratios| !ratios.is_empty()).map(median)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// To five significant digits: more are noise, and bytes of the repository.
pub fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}
