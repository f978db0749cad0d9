//! The figures side by side: a cell for the terminal, a record as a page, and the part of it that is in the README.

use std::fmt::Write;

use uproar::bench::report::quantity;

use crate::contender::Contender;
use crate::plan::{Better, Cell, Metric, Part, thousands};
use crate::plots;
use crate::record::{Disturbance, Record, Series};

/// A figure in which a peer did better, or a cell that Uproar failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loss {
    pub cell: String,
    /// What happened: "CPU a delivery is 1.13 × bun's".
    pub what: String,
}

/// Where Uproar loses to the best of its peers, and how many comparisons there were.
pub fn losses(record: &Record) -> (Vec<Loss>, usize) {
    let mut losses = Vec::new();
    let mut comparisons = 0;
    for cell in record.cells() {
        let id = cell.id();
        if let Some(failure) = record.failure(&id, Contender::Uproar) {
            losses.push(Loss { cell: id.clone(), what: format!("uproar failed: {}", failure.reason) });
        }
        for metric in cell.part.metrics() {
            let Some((ratio, best)) = against_best(record, &id, metric) else { continue };
            comparisons += 1;
            if is_lost(ratio) {
                let verb = if metric.better == Better::Less { "is" } else { "are fewer:" };
                let what = format!("{} {verb} {ratio:.2} × {}", metric.title, best.contender);
                losses.push(Loss { cell: id.clone(), what });
            }
        }
    }
    (losses, comparisons)
}

/// What Uproar costs of what the best of its peers does.
fn against_best<'a>(record: &'a Record, cell: &str, metric: &Metric) -> Option<(f64, &'a Series)> {
    let best = record.best_peer(cell, metric.figure, metric.better)?;
    let ratio = record.series(cell, Contender::Uproar, metric.figure)?.ratio(best, metric.better)?;
    Some((ratio, best))
}

/// Where a part's first figure is more than a tenth above the ring floor's, and by what factor; and how many cells have a
/// floor.
pub fn above_floor(record: &Record) -> (Vec<(String, f64)>, usize) {
    let ratio = |cell: &Cell| {
        let metric = &cell.part.metrics()[0];
        let of = |contender| record.series(&cell.id(), contender, metric.figure);
        Some((cell.id(), of(Contender::Uproar)?.ratio(of(Contender::Floor)?, metric.better)?))
    };
    let ratios: Vec<_> = record.cells().iter().filter_map(ratio).collect();
    let cells = ratios.len();
    (ratios.into_iter().filter(|(_, ratio)| *ratio >= FAR_ABOVE).collect(), cells)
}

/// What is shown as more than 1.10.
const FAR_ABOVE: f64 = 1.105;

/// As it is shown, with two decimals.
pub fn is_lost(ratio: f64) -> bool {
    ratio >= 1.005
}

/// One cell for a terminal: of each figure and contender the median and the range, and what it costs of what the floor
/// and the best peer do.
pub fn terminal(record: &Record, cell: &Cell) -> String {
    let id = cell.id();
    let mut table = format!("\n{id}\n{:<46}{:<12}{:>10}{:>24}", "", "", "median", "least … most");
    let _ = writeln!(table, "{:>12}{:>14}", ": floor", ": best peer");
    for metric in cell.part.metrics() {
        let best = record.best_peer(&id, metric.figure, metric.better);
        let floor = record.series(&id, Contender::Floor, metric.figure);
        let of = |contender| record.series(&id, contender, metric.figure);
        for series in CONTENDERS.into_iter().filter_map(of) {
            let ratio = |base: Option<&Series>| {
                base.and_then(|base| series.ratio(base, metric.better))
                    .map_or("–".into(), |ratio| format!("{ratio:.2}"))
            };
            let (least, most) = series.range();
            let range = format!("{} … {}", number(least, metric), number(most, metric));
            let name = format!("{}, {}", metric.title, metric.unit);
            let median = number(series.median(), metric);
            let _ = write!(table, "{name:<46}{:<12}{median:>10}{range:>24}", series.contender);
            let _ = writeln!(table, "{:>12}{:>14}", ratio(floor), ratio(best));
        }
    }
    for failure in record.failures.iter().filter(|failure| failure.cell == id) {
        let _ = writeln!(table, "{}: failed: {}", failure.contender, failure.reason);
    }
    table + disturbances(record, &[cell]).trim_start()
}

/// The order of columns.
pub const CONTENDERS: [Contender; 6] =
    [Contender::Floor, Contender::Send, Contender::Uproar, Contender::Bun, Contender::Tungstenite, Contender::Ws];

/// The whole record as a page: a table for each part and figure.
pub fn page(record: &Record) -> String {
    let machine = &record.machine;
    let mut page = format!("# Uproar, the floors and its peers\n\n{}.\n\n", machine.summary());
    machine.versions.iter().for_each(|(name, version)| {
        let _ = writeln!(page, "- {name}: {version}");
    });
    page += "\nMedians of the repetitions, ± half of what lies between the least and the most. A ratio is the median of \
             the ratios\nwithin each repetition; above 1 the other is better, and for a peer it is marked ▲.\n";
    let _ = write!(page, "\nWhere Uproar loses: {}", loss_list(record));
    let _ = write!(page, "\nMore than 10 % above the floor: {}", floor_list(record));
    let cells = record.cells();
    for part in Part::ALL {
        let rows: Vec<&Cell> = cells.iter().filter(|cell| cell.part == part).collect();
        if !rows.is_empty() {
            let _ = write!(page, "\n## {}\n", part.title());
            part.metrics().iter().for_each(|metric| page += &part_table(record, &rows, metric));
            page += &failures(record, &rows);
            page += &disturbances(record, &rows);
            plots::of_part(record, part).iter().for_each(|(file, _)| {
                let _ = write!(page, "\n![]({file})\n");
            });
        }
    }
    page
}

fn loss_list(record: &Record) -> String {
    let (losses, comparisons) = losses(record);
    if losses.is_empty() {
        return format!("nowhere, in {comparisons} comparisons with the best of its peers.\n");
    }
    let lines = losses.iter().map(|Loss { cell, what }| format!("- {cell}: {what}\n"));
    let fewer = format!("in {} of {comparisons} comparisons with the best of its peers:\n\n", losses.len());
    [fewer].into_iter().chain(lines).collect()
}

fn floor_list(record: &Record) -> String {
    let (above, cells) = above_floor(record);
    if above.is_empty() {
        return format!("nowhere, in {cells} cells.\n");
    }
    let lines = above.iter().map(|(cell, ratio)| format!("- {cell}: {ratio:.2}\n"));
    [format!("in {} of {cells} cells:\n\n", above.len())].into_iter().chain(lines).collect()
}

/// A table: a row for each cell, a column for each contender that was measured so.
fn part_table(record: &Record, rows: &[&Cell], metric: &Metric) -> String {
    let known = |row: &&Cell| CONTENDERS.iter().any(|&c| record.series(&row.id(), c, metric.figure).is_some());
    // Older records do not have every figure.
    if metric.figure != rows[0].part.metrics()[0].figure && !rows.iter().any(known) {
        return String::new();
    }
    let measured = |contender: &Contender| {
        rows.iter().any(|row| {
            let id = row.id();
            record.series(&id, *contender, metric.figure).is_some() || record.failure(&id, *contender).is_some()
        })
    };
    let columns: Vec<Contender> = CONTENDERS.into_iter().filter(measured).collect();
    let has_floor = columns.contains(&Contender::Floor);
    let mut table = format!("\n| {}, {} |", metric.title, metric.unit);
    columns.iter().for_each(|contender| {
        let _ = write!(table, " {contender} |");
    });
    table += if has_floor { " uproar : floor | uproar : best peer |\n" } else { " uproar : best peer |\n" };
    let _ = writeln!(table, "|---|{}", "--:|".repeat(columns.len() + 1 + usize::from(has_floor)));
    for row in rows {
        let id = row.id();
        let _ = write!(table, "| {} |", row.name);
        columns.iter().for_each(|&contender| {
            let _ = write!(table, " {} |", entry(record, &id, contender, metric));
        });
        if has_floor {
            let _ = write!(table, " {} |", against_floor(record, &id, metric));
        }
        let ratio = against_best(record, &id, metric).map(|(ratio, _)| ratio);
        let _ = writeln!(table, " {} |", ratio.map_or("–".into(), marked));
    }
    table
}

fn against_floor(record: &Record, cell: &str, metric: &Metric) -> String {
    let of = |contender| record.series(cell, contender, metric.figure);
    let ratio =
        of(Contender::Uproar).zip(of(Contender::Floor)).and_then(|(uproar, floor)| uproar.ratio(floor, metric.better));
    ratio.map_or("–".into(), |ratio| format!("{ratio:.2}"))
}

pub fn marked(ratio: f64) -> String {
    if is_lost(ratio) { format!("**{ratio:.2} ▲**") } else { format!("{ratio:.2}") }
}

/// "3,611 ± 4 %", and in how many repetitions it failed.
fn entry(record: &Record, cell: &str, contender: Contender, metric: &Metric) -> String {
    let failed = record.failures.iter().filter(|f| f.cell == cell && f.contender == contender).count();
    match (record.series(cell, contender, metric.figure), failed) {
        (None, 0) => String::new(),
        (None, _) => "failed".into(),
        (Some(series), 0) => format!("{}{}", number(series.median(), metric), spread(series)),
        (Some(series), failed) => {
            format!("{}{}, {failed} failed", number(series.median(), metric), spread(series))
        }
    }
}

/// " ± 4 %", or nothing of a single value.
fn spread(series: &Series) -> String {
    let (least, most) = series.range();
    let percent = (most - least) / 2.0 / series.median().abs() * 100.0;
    if series.values.iter().flatten().count() < 2 || !percent.is_finite() {
        return String::new();
    }
    format!(" ± {percent:.0} %")
}

fn failures(record: &Record, rows: &[&Cell]) -> String {
    let mut lines = Vec::new();
    for (row, contender) in rows.iter().flat_map(|row| CONTENDERS.map(|contender| (row, contender))) {
        if let Some(failure) = record.failure(&row.id(), contender) {
            lines.push(format!("- {}, {contender} failed: {}\n", row.name, failure.reason));
        }
    }
    if lines.is_empty() { String::new() } else { format!("\n{}", lines.concat()) }
}

/// Which repetitions were measured again, as their servers waited for their core.
fn disturbances(record: &Record, rows: &[&Cell]) -> String {
    let of = |row: &Cell| record.disturbances.iter().filter(|d| d.cell == row.id()).collect::<Vec<_>>();
    let line = |(row, Disturbance { contender, repetition, waited, kept, .. }): (&Cell, &Disturbance)| {
        let shares: Vec<String> = waited.iter().map(|percent| format!("{percent:.0} %")).collect();
        let kept = if *kept { "; the last is shown all the same" } else { "" };
        let waits = format!("its server waited for its core {} of the time", shares.join(", "));
        format!("- {}, {contender}, repetition {}, disturbed: {waits}{kept}\n", row.name, repetition + 1)
    };
    let lines: String = rows.iter().flat_map(|&row| of(row).into_iter().map(move |d| (row, d))).map(line).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// A number of a table, of no more digits than tell something.
pub fn number(value: f64, metric: &Metric) -> String {
    let value = value / metric.scale;
    let sign = if value < 0.0 { "−" } else { "" };
    match value.abs() {
        large @ 100.0.. => format!("{sign}{}", thousands(large.round() as u64)),
        medium @ 10.0.. => format!("{sign}{medium:.1}"),
        small => format!("{sign}{small:.2}"),
    }
}

const DELIVERY: &str = "server CPU a delivery";
const CROWD: &str = "crowd, 15,000 subscribers";
const MEANWHILE_P50: &str = "bystanders, while all are published to: due to delivered, p50";
const MEANWHILE_P999: &str = "bystanders, while all are published to: due to delivered, p99.9";

/// The README's rows: what they are called there, and the cell and the figure that they show.
pub const HEADLINES: [(&str, &str, &str); 18] = [
    ("CPU a delivery, 64 B to 1,000", "single, 64 B to 1,000", DELIVERY),
    ("… to 10,000", "single, 64 B to 10,000", DELIVERY),
    ("… 1 KiB to 1,000", "single, 1 KiB to 1,000", DELIVERY),
    ("… 16 KiB to 1,000", "single, 16 KiB to 1,000", DELIVERY),
    ("… 64 B to 1,000, bursts of 32", "burst of 32, 64 B to 1,000", DELIVERY),
    ("… 1 KiB to 1,000, bursts of 32", "burst of 32, 1 KiB to 1,000", DELIVERY),
    ("… 64 B, 1,000 topics of 10", "topics, 64 B", DELIVERY),
    ("… 1 KiB to 1,000, compressed", "deflate, 1 KiB ticks to 1,000", DELIVERY),
    ("… 1 KiB to 1,000, 1 % of them stalled", "some stalled, 1 KiB to 1,000", DELIVERY),
    ("CPU of an echo, 64 B", "echo, 64 B over 1,000 connections", "server CPU a message"),
    ("CPU of a connection that comes and goes", "churn, handshake, close", "server CPU a handshake"),
    ("handshakes a second", "churn, handshake, close", "handshakes"),
    ("memory of an idle subscriber, of 15,000", CROWD, "server's resident memory a connection"),
    ("memory for 30 stalled subscribers", "stalled, 16 MiB in messages of 1 KiB", "resident growth of the server"),
    ("latency at 100 a second to 1,000, p50", "rate, 64 B to 1,000, 100 a second", "due to delivered, p50"),
    ("… p99.9", "rate, 64 B to 1,000, 100 a second", "due to delivered, p99.9"),
    ("latency of a topic of 10 while another goes to 15,000, p50", CROWD, MEANWHILE_P50),
    ("… p99.9", CROWD, MEANWHILE_P999),
];

/// Where the README's part begins and ends.
pub const BEGIN: &str = "<!-- Made by `cargo bench --bench compare -- --readme`: -->\n";
pub const END: &str = "<!-- Up to here. -->\n";

/// A README with its table made anew; `None` if it has no place for it.
pub fn in_readme(readme: &str, table: &str) -> Option<String> {
    let (before, rest) = readme.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some([before, BEGIN, table, END, after].concat())
}

/// The README's table of a record, which is in that directory, and what Uproar loses.
pub fn readme(record: &Record, dir: &str) -> String {
    let machine = &record.machine;
    let column = |name: &str, of: &str| format!("{name}{}", machine.version(of));
    let (bun, tungstenite) = (column("Bun", "bun"), column("`tokio-tungstenite`", "tokio-tungstenite"));
    let ws = column("`ws`", "ws");
    let mut table =
        format!("{}.\n\n| | Uproar | floor | {bun} | {tungstenite} | {ws} | Uproar : best peer |\n", machine.summary());
    table += "|---|--:|--:|--:|--:|--:|--:|\n";
    let shown = [Contender::Uproar, Contender::Floor, Contender::Bun, Contender::Tungstenite, Contender::Ws];
    for (name, id, figure) in HEADLINES {
        let Some(metric) = metric_of(record, id, figure) else { continue };
        let values = shown.map(|contender| match record.series(id, contender, figure) {
            Some(series) => quantity::show(series.median(), &series.unit),
            None if record.failure(id, contender).is_some() => "failed".into(),
            None => String::new(),
        });
        let ratio = against_best(record, id, metric).map_or("–".into(), |(ratio, _)| marked(ratio));
        let _ = writeln!(table, "| {name} | {} | {ratio} |", values.join(" | "));
    }
    let _ = write!(table, "\nWhere Uproar loses: {}", loss_list(record));
    let (above, cells) = above_floor(record);
    let _ = writeln!(table, "\nIt is more than 10 % above the floor in {} of {cells} cells.", above.len());
    let _ = writeln!(table, "\n[Everything that was measured, with plots]({dir}/table.md).");
    table
}

fn metric_of(record: &Record, id: &str, figure: &str) -> Option<&'static Metric> {
    let cell = record.cells().into_iter().find(|cell| cell.id() == id)?;
    cell.part.metrics().iter().find(|metric| metric.figure == figure)
}
