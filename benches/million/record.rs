//! Makes something to look at of what `benches/million.sh` has measured: `million-record DIR` reads `million.json` and
//! `settings.txt` there, and writes `million.md` and `memory.svg`.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use uproar::bench::report::plot::{self, Axis, Line, Scale};
use uproar::bench::report::quantity::show;
use uproar::bench::report::{Latency, Report, Series};

/// The plot of the report that is a picture by itself too.
const MEMORY: &str = "Memory against connections";

/// Shares of a latency that have a column.
const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

fn read_report(file: &Path) -> Result<Report, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).ok_or("usage: million-record DIR")?;
    let dir = Path::new(&dir);
    let report = read_report(&dir.join("million.json"))?;
    let settings = fs::read_to_string(dir.join("settings.txt"))?;
    fs::write(dir.join("memory.svg"), memory(&report))?;
    fs::write(dir.join("million.md"), document(&report, &settings))?;
    Ok(())
}

fn memory(report: &Report) -> String {
    let series: Vec<&Series> = report.series.iter().filter(|series| series.plot == MEMORY).collect();
    let line = |series: &&Series| Line { name: series.name.clone(), points: series.points.clone() };
    let lines: Vec<Line> = series.iter().map(line).collect();
    let unit = series.first().map_or("", |series| &series.unit);
    let x = Axis { label: "connections", unit: "", scale: Scale::Linear };
    let y = Axis { label: "grown by", unit, scale: Scale::Linear };
    plot::lines(MEMORY, x, y, &lines)
}

fn document(report: &Report, settings: &str) -> String {
    let mut text = format!("# {}\n\n{}; `uproar bench {}`\n", report.title, report.machine, report.mode);
    let complaint = report.complaint.as_ref().map_or(String::new(), |complaint| format!(" ({complaint})"));
    // Writing to a string does not fail.
    let _ = writeln!(text, "\n**{}**{complaint}\n", report.faults);
    text.push_str("| | |\n|---|---:|\n");
    for figure in &report.figures {
        let _ = writeln!(text, "| {} | {} |", figure.name, show(figure.value, &figure.unit));
    }
    let _ = writeln!(text, "\n| |{} max | count |", SHARES.map(|(name, _)| format!(" {name} |")).concat());
    let _ = writeln!(text, "|---|{}---:|---:|", "---:|".repeat(SHARES.len()));
    report.latencies.iter().for_each(|latency| text.push_str(&row(latency)));
    let _ =
        writeln!(text, "\n![{MEMORY}](memory.svg)\n\nMore plots: [million.html](million.html)\n\n```\n{settings}```");
    text
}

fn row(latency: &Latency) -> String {
    let time = |time: u64| show(time as f64, "ns");
    let shares = SHARES.map(|(_, share)| format!(" {} |", time(latency.quantile(share)))).concat();
    format!("| {} |{shares} {} | {} |\n", latency.name, time(latency.max), show(latency.count as f64, ""))
}
