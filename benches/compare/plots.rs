//! The figures as pictures.

use std::fs;
use std::path::Path;

use uproar::bench::report::plot::{self, Axis, Bars, Line, Scale};

use crate::Result;
use crate::contender::Contender;
use crate::plan::{Cell, Part};
use crate::record::{Distribution, Record};

/// Who is shown, in this order.
const SHOWN: [Contender; 5] =
    [Contender::Floor, Contender::Uproar, Contender::Bun, Contender::Tungstenite, Contender::Ws];

/// Writes the pictures of a record into a directory: bars of each part's first figure, and lines of the latencies of
/// those parts that are about them.
pub fn write(record: &Record, dir: &Path) -> Result<()> {
    for (file, picture) in pictures(record) {
        fs::write(dir.join(file), picture)?;
    }
    Ok(())
}

/// The names of the files that a part has.
pub fn files(record: &Record, part: Part) -> Vec<String> {
    let cells: Vec<Cell> = record.cells().into_iter().filter(|cell| cell.part == part).collect();
    match part {
        _ if cells.is_empty() => Vec::new(),
        Part::Rate | Part::Bystander => cells.iter().map(|cell| file(&cell.id())).collect(),
        part => vec![file(&part.word())],
    }
}

/// "burst-of-32.svg" of "burst of 32".
pub fn file(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-") + ".svg"
}

fn pictures(record: &Record) -> Vec<(String, String)> {
    let cells = record.cells();
    let mut pictures = Vec::new();
    for part in Part::ALL {
        let rows: Vec<&Cell> = cells.iter().filter(|cell| cell.part == part).collect();
        let drawn: Vec<String> = match part {
            _ if rows.is_empty() => continue,
            Part::Rate | Part::Bystander => rows.iter().map(|cell| latencies(record, cell)).collect(),
            part => vec![bars(record, part, &rows)],
        };
        pictures.extend(files(record, part).into_iter().zip(drawn));
    }
    pictures
}

fn bars(record: &Record, part: Part, rows: &[&Cell]) -> String {
    let metric = &part.metrics()[0];
    let groups: Vec<&str> = rows.iter().map(|cell| cell.name.as_str()).collect();
    let of = |contender: Contender| {
        let value = |cell: &&Cell| Some(record.series(&cell.id(), contender, metric.figure)?.median() / metric.scale);
        Bars { name: contender.to_string(), values: rows.iter().map(value).collect() }
    };
    let bars: Vec<Bars> = SHOWN.map(of).into_iter().filter(|bars| bars.values.iter().any(Option::is_some)).collect();
    // What differs by a factor of a hundred is compared by its ratios.
    let scale = if matches!(part, Part::Fanout { burst: 2.. }) { Scale::Log } else { Scale::Linear };
    plot::bars(&part.title(), Axis { label: metric.title, unit: metric.unit, scale }, &groups, &bars)
}

/// Which times of a cell are drawn: those that its first figure is of.
fn latencies(record: &Record, cell: &Cell) -> String {
    let figure = cell.part.metrics()[0].figure;
    let name = figure.split_once(',').map_or(figure, |(name, _)| name);
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
