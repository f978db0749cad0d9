//! A report for a terminal.

use std::fmt::Write;

use super::words::{plain, utc};
use super::{Latency, Report, quantity};

/// The report as lines of text: what was done, its figures, latencies in one table, and what was wrong.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}: {}", plain(&report.mode), plain(&report.title));
    let _ = writeln!(text, "{}, {}", plain(&report.url), utc(report.unix_time));
    let _ = writeln!(text, "{}", plain(&report.machine.to_string()));
    for table in [figures(report), latencies(report)].into_iter().filter(|table| !table.is_empty()) {
        text.push('\n');
        text.push_str(&table);
    }
    for (n, note) in report.notes.iter().enumerate() {
        let _ = writeln!(text, "{}note: {}", if n == 0 { "\n" } else { "" }, plain(note));
    }
    let _ = writeln!(text, "\n{}", report.verdict());
    if let Some(complaint) = &report.complaint {
        let _ = writeln!(text, "{}", plain(complaint));
    }
    text
}

/// Names, numbers below each other, units.
fn figures(report: &Report) -> String {
    let parts = report.figures.iter().map(|figure| quantity::split(figure.value, &figure.unit));
    let width = parts.clone().map(|(number, _)| number.chars().count()).max().unwrap_or(0);
    let rows = report.figures.iter().zip(parts);
    let rows =
        rows.map(|(figure, (number, unit))| vec![plain(&figure.name), format!("{number:>width$} {}", plain(&unit))]);
    table(rows.collect(), |_| false)
}

fn latencies(report: &Report) -> String {
    if report.latencies.is_empty() {
        return String::new();
    }
    let head = ["latency"].into_iter().chain(Latency::columns()).map(String::from).collect();
    let rows = report.latencies.iter().map(|latency| [vec![plain(&latency.name)], latency.row()].concat());
    table([head].into_iter().chain(rows).collect(), |column| column > 0)
}

/// Lines of columns, each as wide as its widest cell.
fn table(rows: Vec<Vec<String>>, right: impl Fn(usize) -> bool) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match right(column) {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Figure, sample};
    use super::*;

    #[test]
    fn a_report_reads_as_a_table() {
        let mut report = sample::report("", 1.0);
        report.latencies[0].name = "due".into();
        let expected = "\
fanout: 64 B to 1000 subscribers of 1 topic, burst 1, window 1
ws://127.0.0.1:8080/raw/{topic}, 2026-11-21 14:03 UTC
Linux 6.18.0, AMD EPYC, 2 CPUs

  deliveries               256 k/s
  server CPU a delivery   3.90 µs
  server CPU              99.6 %
  load CPU                71.2 %
  memory of the server    4.10 MiB
  subscribers            1,000

  latency      p50     p90     p99   p99.9   p99.99      max     mean    count
  due      54.7 µs  113 µs  318 µs  894 µs  2.47 ms  9.72 ms  72.7 µs  200,000

nothing was lost, reordered, repeated or corrupted; no connection was refused or closed
";
        assert_eq!(render(&report), expected);
    }

    #[test]
    fn faults_are_named_and_what_is_not_known_is_left_open() {
        let mut report = sample::report("", 1.0);
        report.figures = vec![Figure::new("server CPU a delivery", "ns", f64::NAN)];
        report.latencies[0].count = 0;
        report.latencies[0].quantiles.retain(|&(share, _)| share < 0.99);
        report.faults.lost = 1234;
        report.notes = vec!["one".into(), "another".into()];
        let text = render(&report);
        assert!(text.contains("\n\nnote: one\nnote: another\n\nmessages"), "{text}");
        assert!(text.contains("server CPU a delivery  –\n"), "{text}");
        assert!(text.contains("113 µs    –      –       –"), "{text}");
        assert!(text.ends_with("\nmessages: 1,234 lost\n"), "{text}");
    }

    #[test]
    fn nothing_in_a_report_commands_the_terminal() {
        let report = Report { title: "a\u{1b}[2J\nb".into(), ..Report::default() };
        assert!(render(&report).starts_with(": a\u{fffd}[2J b\n"));
    }
}
