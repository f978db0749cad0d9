//! The figures as pictures.

use std::fs;
use std::path::Path;

use uproar::bench::report::plot::{self, Axis, Bars, Line, Scale};

use crate::Result;
use crate::contender::Contender;
use crate::plan::{Cell, Metric, Part};
use crate::record::{Distribution, Record};

/// Who is shown. Those who are missing in some pictures come last, so that each has the same colour in all.
const SHOWN: [Contender; 5] =
    [Contender::Uproar, Contender::Bun, Contender::Ws, Contender::Tungstenite, Contender::Floor];

/// Writes the pictures of a record into a directory.
pub fn write(record: &Record, dir: &Path) -> Result<()> {
    for (file, picture) in Part::ALL.into_iter().flat_map(|part| of_part(record, part)) {
        fs::write(dir.join(file), picture)?;
    }
    Ok(())
}

/// The pictures of a part, with the names of their files: bars of its first figure, unless that is a share of a latency,
/// and of each cell with a latency the lines.
pub fn of_part(record: &Record, part: Part) -> Vec<(String, String)> {
    let cells: Vec<Cell> = record.cells().into_iter().filter(|cell| cell.part == part).collect();
    let metrics = part.metrics();
    let bars = (metrics[0].distribution().is_none() && !cells.is_empty())
        .then(|| (file(&part.word()), bars(record, part, &cells)));
    let latency = metrics.iter().find_map(Metric::distribution);
    let lines = latency.into_iter().flat_map(|name| {
        cells.iter().map(move |cell| (file(&[&cell.id(), " latency"].concat()), latencies(record, cell, name)))
    });
    bars.into_iter().chain(lines).collect()
}

/// "burst-of-32.svg" of "burst of 32".
pub fn file(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-") + ".svg"
}

fn bars(record: &Record, part: Part, rows: &[Cell]) -> String {
    let metric = &part.metrics()[0];
    let groups: Vec<&str> = rows.iter().map(|cell| cell.name.as_str()).collect();
    let of = |contender: Contender| {
        let value = |cell: &Cell| Some(record.series(&cell.id(), contender, metric.figure)?.median() / metric.scale);
        Bars { name: contender.to_string(), values: rows.iter().map(value).collect() }
    };
    let bars: Vec<Bars> = SHOWN.map(of).into_iter().filter(|bars| bars.values.iter().any(Option::is_some)).collect();
    // What differs by a factor of a hundred is compared by its ratios.
    let scale = if matches!(part, Part::Fanout { burst: 2.. }) { Scale::Log } else { Scale::Linear };
    plot::bars(&part.title(), Axis { label: metric.title, unit: metric.unit, scale }, &groups, &bars)
}

/// The times of that name, by share.
fn latencies(record: &Record, cell: &Cell, name: &str) -> String {
    let of = |contender: Contender| {
        let points = median_of(
            record.latencies.iter().filter(|l| l.cell == cell.id() && l.contender == contender && l.name == name),
        );
        (!points.is_empty()).then(|| Line { name: contender.to_string(), points })
    };
    let lines: Vec<Line> = SHOWN.into_iter().filter_map(of).collect();
    let x = Axis { label: "share of the messages", unit: "", scale: Scale::Percentile };
    let y = Axis { label: name, unit: "ns", scale: Scale::Log };
    plot::lines(&format!("{}: {}", cell.part.title(), cell.name), x, y, &lines)
}

/// The median over the repetitions, share by share, of those shares that all have.
pub fn median_of<'a>(repetitions: impl Iterator<Item = &'a Distribution>) -> Vec<(f64, f64)> {
    let all: Vec<&Distribution> = repetitions.collect();
    let Some((first, others)) = all.split_first() else { return Vec::new() };
    let time =
        |quantiles: &[(f64, u64)], share: f64| quantiles.iter().find(|known| known.0 == share).map(|known| known.1);
    let point = |&(share, time_in_first): &(f64, u64)| {
        let mut times = vec![time_in_first];
        for other in others {
            times.push(time(&other.quantiles, share)?);
        }
        times.sort_unstable();
        // The last share is 1, which has no place on such an axis.
        (share < 1.0).then(|| (share, times[times.len() / 2] as f64))
    };
    first.quantiles.iter().filter_map(point).collect()
}
