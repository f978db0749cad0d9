//! Figures of the contenders side by side.

use crate::peer::{Contender, Result};
use serde::Serialize;
use std::path::Path;
use std::time::SystemTime;

/// One measured number.
pub struct Figure {
    pub metric: String,
    pub unit: &'static str,
    pub value: f64,
}

impl Figure {
    pub fn new(metric: impl Into<String>, unit: &'static str, value: f64) -> Figure {
        Figure { metric: metric.into(), unit, value }
    }
}

/// A contender's figures of one metric, one for each repetition; `None` where it failed.
#[derive(Serialize)]
struct Series {
    scenario: String,
    metric: String,
    unit: &'static str,
    contender: Contender,
    values: Vec<Option<f64>>,
}

/// Everything measured in one run.
#[derive(Default, Serialize)]
pub struct Report {
    series: Vec<Series>,
    failures: Vec<String>,
}

impl Report {
    /// Notes a contender's figures of one repetition.
    pub fn add(&mut self, scenario: &str, contender: Contender, repetition: usize, figures: Vec<Figure>) {
        for Figure { metric, unit, value } in figures {
            let same = |s: &&mut Series| s.scenario == scenario && s.metric == metric && s.contender == contender;
            let values = match self.series.iter_mut().find(same) {
                Some(series) => &mut series.values,
                None => {
                    let scenario = scenario.to_owned();
                    self.series.push(Series { scenario, metric, unit, contender, values: Vec::new() });
                    &mut self.series.last_mut().expect("just pushed").values
                }
            };
            values.resize(repetition, None);
            values.push(Some(value));
        }
    }

    /// Notes that a contender could not be measured.
    pub fn fail(&mut self, failure: String) {
        self.failures.push(failure);
    }

    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// The table of one scenario: the median of each contender, its spread, and the medians of its ratios to the floor
    /// and to Bun, each taken within one repetition.
    pub fn table(&self, scenario: &str) -> String {
        let here: Vec<&Series> = self.series.iter().filter(|s| s.scenario == scenario).collect();
        let mut metrics: Vec<&str> = here.iter().map(|s| s.metric.as_str()).collect();
        let mut seen = std::collections::HashSet::new();
        metrics.retain(|metric| seen.insert(*metric));
        let mut table = format!("\n{scenario}\n{:<32}{:<10}{:>10}{:>22}", "", "", "median", "min … max");
        table += &format!("{:>6}{:>10}{:>10}\n", "", "× floor", "× bun");
        for metric in metrics {
            let of = |contender| here.iter().find(|s| s.metric == metric && s.contender == contender).copied();
            for series in here.iter().filter(|s| s.metric == metric) {
                let ratio = |base| of(base).map_or("–".into(), |base| format!("{:.2}", ratio(series, base)));
                let (floor, bun) = (ratio(Contender::Floor), ratio(Contender::Bun));
                table += &format!("{metric:<32}{:<10}{}{floor:>10}{bun:>10}\n", series.contender, spread(series));
            }
        }
        table
    }

    /// Writes everything as JSON.
    pub fn write(&self, file: &Path) -> Result<()> {
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let report = serde_json::json!({ "unix_time": time, "kernel": kernel.trim(), "report": self });
        std::fs::write(file, serde_json::to_string_pretty(&report)?)?;
        Ok(())
    }
}

fn spread(series: &Series) -> String {
    let values = || series.values.iter().flatten().copied();
    let number = |value: f64| if value.abs() < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") };
    let (least, most) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
    let range = format!("{} … {}", number(least), number(most));
    format!("{:>10}{range:>22} {:<5}", number(median(values().collect())), series.unit)
}

fn ratio(series: &Series, base: &Series) -> f64 {
    let pairs = series.values.iter().zip(&base.values);
    median(pairs.filter_map(|(value, base)| Some((*value)? / (*base)?)).collect())
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
