//! Reports as one page that needs nothing else: no network, no script.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::plot::{self, Axis, Line, Scale};
use super::words::{escape, utc};
use super::{Latency, Report, Series, quantity};

const STYLE: &str = include_str!("page.css");

/// A page of one run, or of several beside each other: then figures of one name are in one row, and latencies and series
/// of one name in one plot.
pub fn render(reports: &[Report]) -> String {
    let names = names(reports);
    let title = escape(&title(reports));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\" />\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    );
    reports.iter().zip(&names).for_each(|(report, name)| run(&mut page, report, name, reports.len() > 1));
    figures(&mut page, reports, &names);
    latencies(&mut page, reports, &names);
    let plots = latency_plots(reports, &names).into_iter().chain(series_plots(reports, &names));
    plots.for_each(|plot| page.push_str(&format!("<figure>{plot}</figure>\n")));
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// What they have in common.
fn title(reports: &[Report]) -> String {
    match reports {
        [first, rest @ ..] if rest.iter().all(|other| other.title == first.title && other.mode == first.mode) => {
            format!("{}: {}", first.mode, first.title)
        }
        _ => format!("{} runs", reports.len()),
    }
}

/// What tells them apart: their names, titles or addresses, or numbers if none of these does. One alone need not have a
/// name.
fn names(reports: &[Report]) -> Vec<String> {
    if let [alone] = reports {
        return vec![alone.name.clone()];
    }
    let told: [fn(&Report) -> &str; 3] = [|report| &report.name, |report| &report.title, |report| &report.url];
    for tell in told {
        let names: Vec<String> = reports.iter().map(tell).map(String::from).collect();
        let different: BTreeSet<&String> = names.iter().filter(|name| !name.is_empty()).collect();
        if different.len() == reports.len() {
            return names;
        }
    }
    (1..=reports.len()).map(|n| format!("run {n}")).collect()
}

fn run(page: &mut String, report: &Report, name: &str, one_of_many: bool) {
    let complaint = report.complaint.as_ref().map_or(String::new(), |complaint| format!(": {}", escape(complaint)));
    let (class, sign) =
        if report.faults.none() && report.complaint.is_none() { ("good", "✓") } else { ("bad", "✗") };
    let name = if name.is_empty() { String::new() } else { format!("<b>{}</b> ", escape(name)) };
    let url = if report.url.is_empty() { String::new() } else { format!("<code>{}</code>", escape(&report.url)) };
    let (when, machine) = (utc(report.unix_time), escape(&report.machine.to_string()));
    let what = match one_of_many {
        true => format!("<p>{}: {}</p>\n", escape(&report.mode), escape(&report.title)),
        false => String::new(),
    };
    let notes: String = report.notes.iter().map(|note| format!("<p>{}</p>\n", escape(note))).collect();
    let _ = write!(
        page,
        "<section>\n<p class=\"what\">{name}{url}</p>\n{what}<p>{when} · {machine}</p>\n\
         <p class=\"{class}\">{sign} {}{complaint}</p>\n{notes}</section>\n",
        report.verdict(),
    );
}

fn figures(page: &mut String, reports: &[Report], names: &[String]) {
    let runs: Vec<Vec<Row<'_>>> = reports.iter().map(rows).collect();
    let cells = merged(&runs).into_iter().map(|row| {
        let of = |run: &Vec<Row<'_>>, report: &Report| {
            let figure = report.figures.get(run.iter().position(|other| *other == row)?)?;
            Some(quantity::show(figure.value, &figure.unit))
        };
        let shown = runs.iter().zip(reports).map(|(run, report)| of(run, report).unwrap_or(quantity::NONE.into()));
        [row.0.to_owned()].into_iter().chain(shown).collect()
    });
    let head = if reports.len() == 1 { ["".into()].to_vec() } else { names.to_vec() };
    table(page, [String::new()].into_iter().chain(head).collect(), cells.collect());
}

/// A figure's name, and how many of that name were before it: reports of older versions have some twice.
type Row<'a> = (&'a str, usize);

fn rows(report: &Report) -> Vec<Row<'_>> {
    let figures = report.figures.iter().enumerate();
    figures
        .map(|(n, figure)| (&*figure.name, report.figures[..n].iter().filter(|f| f.name == figure.name).count()))
        .collect()
}

/// The rows of all runs, each once, and each where its run has it.
fn merged<'a>(runs: &[Vec<Row<'a>>]) -> Vec<Row<'a>> {
    let mut all: Vec<Row<'a>> = Vec::new();
    for run in runs {
        let mut after = 0;
        for row in run {
            let at = all.iter().position(|other| other == row).unwrap_or_else(|| {
                all.insert(after, *row);
                after
            });
            after = at + 1;
        }
    }
    all
}

fn latencies(page: &mut String, reports: &[Report], names: &[String]) {
    let mut rows = Vec::new();
    for name in in_order(reports.iter().flat_map(|report| &report.latencies).map(|latency| latency.name.as_str())) {
        for (report, run) in reports.iter().zip(names) {
            let found = report.latencies.iter().filter(|latency| latency.name == name);
            rows.extend(found.map(|latency| [vec![line_name(name, run, reports)], latency.row()].concat()));
        }
    }
    table(page, ["latency"].into_iter().chain(Latency::columns()).map(String::from).collect(), rows);
}

/// What a line of one run is called among those of several.
fn line_name(name: &str, run: &str, reports: &[Report]) -> String {
    if reports.len() == 1 { name.into() } else { format!("{run}: {name}") }
}

/// A table; the first column is of names, the others of numbers.
fn table(page: &mut String, head: Vec<String>, rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let row = |tag: &str, cells: &[String]| -> String {
        cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect()
    };
    let head =
        if head.iter().all(String::is_empty) { String::new() } else { format!("<tr>{}</tr>\n", row("th", &head)) };
    let _ = write!(page, "<div class=\"wide\"><table>\n{head}");
    rows.iter().for_each(|cells| page.push_str(&format!("<tr>{}</tr>\n", row("td", cells))));
    page.push_str("</table></div>\n");
}

/// Each once, in the order in which they come first.
fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(*name)).collect()
}

fn latency_plots(reports: &[Report], names: &[String]) -> Vec<String> {
    let across = Axis { label: "share of all that took no longer", unit: "", scale: Scale::Percentile };
    let up = Axis { label: "", unit: "ns", scale: Scale::Log };
    let titles = in_order(reports.iter().flat_map(|report| &report.latencies).map(|latency| latency.name.as_str()));
    let plot = |title: &&str| {
        let runs = reports.iter().zip(names);
        let of_run = |(report, run): (&'_ Report, &String)| {
            let found = report.latencies.iter().find(|latency| latency.name == *title && latency.count > 0)?;
            let points = found.quantiles.iter().map(|&(share, time)| (share, time as f64)).collect();
            Some(Line { name: run.clone(), points })
        };
        let lines: Vec<Line> = runs.filter_map(of_run).collect();
        if lines.is_empty() {
            String::new()
        } else {
            plot::lines(&format!("{title}: latency by percentile"), across, up, &lines)
        }
    };
    titles.iter().map(plot).filter(|plot| !plot.is_empty()).collect()
}

impl Series {
    /// The title of its plot.
    fn title(&self) -> &str {
        if self.plot.is_empty() { &self.name } else { &self.plot }
    }
}

fn series_plots(reports: &[Report], names: &[String]) -> Vec<String> {
    let titles = in_order(reports.iter().flat_map(|report| &report.series).map(Series::title));
    // As far as all of them were warming up.
    let warm_at = reports.iter().map(|report| report.warm_at).reduce(|a, b| a.zip(b).map(|(a, b)| a.min(b))).flatten();
    let plot = |title: &str| {
        let mut lines = Vec::new();
        let mut axes = ("s", "");
        for (report, run) in reports.iter().zip(names) {
            for series in report.series.iter().filter(|series| series.title() == title) {
                axes = (&series.over, &series.unit);
                let name = if series.name == title { run.clone() } else { line_name(&series.name, run, reports) };
                lines.push(Line { name, points: series.points.clone() });
            }
        }
        let (label, unit, shaded) = match (axes.0, warm_at) {
            ("s", Some(_)) => ("time since the start (grey: warming up)", "s", warm_at),
            ("s", None) => ("time since the start", "s", None),
            (over, _) => (over, "", None),
        };
        let across = Axis { label, unit, scale: Scale::Linear };
        let up = Axis { label: "", unit: axes.1, scale: Scale::Linear };
        plot::lines_after(title, across, up, &lines, shaded)
    };
    titles.into_iter().map(plot).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::bench::report::{Figure, Machine};
    use proptest::prelude::*;

    #[test]
    fn a_page_shows_what_a_report_has() {
        let page = render(&[sample::report("Uproar", 1.0)]);
        sample::assert_well_formed(&page);
        for shown in
            ["<b>Uproar</b>", "256 k/s", "3.90 µs", "54.7 µs", "99.999 %", "2026-11-21", "nothing was lost", "k/s"]
        {
            assert!(page.contains(shown), "{shown}");
        }
        assert_eq!(page.matches("<svg ").count(), 3, "latency, deliveries, and CPU in one");
        assert!(
            !page.contains("http://")
                || page.matches("http").count() == page.matches("http://www.w3.org/2000/svg").count()
        );
        assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("url("), "it needs nothing else");
    }

    #[test]
    fn runs_are_beside_each_other() {
        let mut others = sample::report("Bun", 1.7);
        others.figures.push(Figure::new("only here", "", 7.0));
        others.faults.lost = 3;
        let page = render(&[sample::report("Uproar", 1.0), others]);
        sample::assert_well_formed(&page);
        assert!(page.contains("<tr><th></th><th>Uproar</th><th>Bun</th></tr>"));
        assert!(page.contains("<td>only here</td><td>–</td><td>7</td>"));
        assert!(page.contains("<td>Bun: due to delivered</td>"));
        assert!(page.contains("✗ messages: 3 lost"));
        assert_eq!(page.matches("<svg ").count(), 3);
        assert!(page.contains("Bun: load"), "a line of the plot of CPU");
    }

    #[test]
    fn rows_of_one_name_are_told_apart_and_stay_where_they_are() {
        let report = |names: &[&str]| {
            let figures = names.iter().enumerate().map(|(n, name)| Figure::new(*name, "", n as f64)).collect();
            Report { figures, ..Report::default() }
        };
        let reports =
            [report(&["a", "… after", "b", "… after"]), report(&["a", "… before", "… after", "b", "… after"])];
        let runs: Vec<Vec<Row<'_>>> = reports.iter().map(rows).collect();
        assert_eq!(merged(&runs), [("a", 0), ("… before", 0), ("… after", 0), ("b", 0), ("… after", 1)]);
        let page = render(&reports);
        assert!(
            page.contains("<td>… after</td><td>1</td><td>2</td>")
                && page.contains("<td>… after</td><td>3</td><td>4</td>")
        );
        assert!(page.contains("<td>… before</td><td>–</td><td>1</td>"));
    }

    #[test]
    fn runs_are_called_what_tells_them_apart() {
        let [mut one, mut two] = ["a", "a"].map(|name| sample::report(name, 1.0));
        let mut called = |change: fn(&mut Report, &mut Report)| {
            change(&mut one, &mut two);
            names(&[one.clone(), two.clone()]).join(", ")
        };
        assert_eq!(called(|_, _| ()), "run 1, run 2");
        assert_eq!(called(|one, two| (one.url, two.url) = ("ws://a".into(), "ws://b".into())), "ws://a, ws://b");
        assert_eq!(called(|one, two| (one.title, two.title) = ("1 KiB".into(), "64 B".into())), "1 KiB, 64 B");
        assert_eq!(called(|_, two| two.name = "b".into()), "a, b");
        assert_eq!(called(|one, _| one.name.clear()), "1 KiB, 64 B", "an empty name is none");
    }

    #[test]
    fn a_page_of_nothing_is_a_page() {
        sample::assert_well_formed(&render(&[]));
        sample::assert_well_formed(&render(&[Report::default()]));
        let (latencies, series) = (vec![Latency::default()], vec![Series::default()]);
        sample::assert_well_formed(&render(&[Report { latencies, series, ..Report::default() }]));
    }

    #[test]
    fn what_was_warm_up_is_grey_in_what_is_over_time() {
        let [mut one, mut two] = ["a", "b"].map(|name| sample::report(name, 1.0));
        let grey = |reports: &[Report]| render(reports).matches("(grey: warming up), s").count();
        one.series[0].over = "connections".into();
        assert_eq!((grey(&[one.clone()]), grey(&[two.clone()])), (1, 2), "two plots, of which one is over connections");
        assert_eq!(grey(&[two.clone(), two.clone()]), 2);
        two.warm_at = None;
        assert_eq!((grey(&[two.clone()]), grey(&[one, two])), (0, 0), "not what only one of them was");
    }

    /// A report that says the text wherever it can.
    fn saying(text: &str) -> Report {
        let mut report = sample::report(text, 1.0);
        report.machine = Machine { kernel: text.into(), cpu: text.into(), cpus: 1 };
        (report.mode, report.title, report.url) = (text.into(), text.into(), text.into());
        report.notes.push(text.into());
        report.figures.iter_mut().for_each(|figure| (figure.name, figure.unit) = (text.into(), text.into()));
        report.latencies.iter_mut().for_each(|latency| latency.name = text.into());
        for (n, series) in report.series.iter_mut().enumerate() {
            (series.name, series.unit, series.over) = (format!("{text}{n}"), text.into(), text.into());
        }
        report
    }

    #[test]
    fn text_from_outside_is_only_text() {
        for hostile in [
            "<script>alert('&')</script>",
            "\"><svg onload=\"x\">",
            "--></style><b>",
            "&lt; &#0;",
            "\0\u{1b}[2J\u{ffff}",
        ] {
            let page = render(&[saying(hostile), saying(hostile)]);
            sample::assert_well_formed(&page);
            assert!(!page.contains(hostile), "{hostile}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_text_leaves_a_page_well_formed(text in any::<String>()) {
            sample::assert_well_formed(&render(&[saying(&text)]));
        }
    }
}
