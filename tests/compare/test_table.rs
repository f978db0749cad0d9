//! Tables: what is shown, and what is said of where Uproar loses.

use uproar::bench::report::Figure;

use crate::contender::Contender;
use crate::load::Outcome;
use crate::machine::Machine;
use crate::plan::Metric;
use crate::plan::{Pace, Part, all};
use crate::record::{Disturbance, Record};
use crate::table::{BEGIN, END, HEADLINES, Loss, in_readme, is_lost, losses, marked, number, page, readme, terminal};

const CELL: &str = "single, 64 B to 1,000";
const README: &str = "# Uproar\n\nBefore.\n";

fn add(record: &mut Record, contender: Contender, values: &[f64]) {
    for (repetition, value) in values.iter().enumerate() {
        let figures = vec![Figure::new("server CPU a delivery", "ns", *value)];
        record.add(CELL, contender, repetition, Ok(Outcome { figures, latencies: Vec::new() }));
    }
}

/// Uproar at 4 µs, the floor at 3.2, and Bun at so many.
fn record(bun: f64) -> Record {
    let mut record =
        Record { machine: Machine { date: "2026-01-31".into(), ..Machine::default() }, ..Record::default() };
    add(&mut record, Contender::Floor, &[3_000.0, 3_200.0, 3_400.0]);
    add(&mut record, Contender::Uproar, &[4_000.0, 4_000.0, 4_000.0]);
    add(&mut record, Contender::Bun, &[bun, bun, bun]);
    record.add(CELL, Contender::Ws, 0, Err("3 lost".into()));
    record
}

#[test]
fn the_page_has_medians_ratios_and_failures() {
    let page = page(&record(5_000.0));
    assert!(
        page.contains("| CPU a delivery, ns | floor | uproar | bun | ws | uproar : floor | uproar : best peer |"),
        "{page}"
    );
    let row = "| 64 B to 1,000 | 3,200 ± 6 % | 4,000 ± 0 % | 5,000 ± 0 % | failed | 1.25 | 0.80 |";
    assert!(page.contains(row), "{page}");
    assert!(page.contains("- 64 B to 1,000, ws failed: 3 lost\n"), "{page}");
    assert!(page.contains("nowhere, in 1 comparisons"), "{page}");
    assert!(!page.contains('▲'.to_string().as_str()) || page.matches('▲').count() == 1, "the legend alone: {page}");
}

#[test]
fn what_is_lost_is_said() {
    let page = page(&record(3_200.0));
    assert!(page.contains("| **1.25 ▲** |"), "{page}");
    assert!(page.contains("in 1 of 1 comparisons"), "{page}");
    assert!(page.contains("above the floor: in 1 of 1 cells:\n\n- single, 64 B to 1,000: 1.25\n"), "{page}");
    assert!(page.contains("- single, 64 B to 1,000: CPU a delivery is 1.25 × bun"), "{page}");
    let mut failed = record(5_000.0);
    failed.add(CELL, Contender::Uproar, 3, Err("closed".into()));
    assert_eq!(losses(&failed).0, [Loss { cell: CELL.into(), what: "uproar failed: closed".into() }]);
}

#[test]
fn what_was_disturbed_is_said() {
    let mut record = record(5_000.0);
    let kept = Disturbance {
        cell: CELL.into(),
        contender: Contender::Bun,
        repetition: 1,
        waited: vec![9.1, 8.0, 7.2],
        kept: true,
    };
    let again = Disturbance { contender: Contender::Uproar, waited: vec![6.0], kept: false, ..kept.clone() };
    record.disturbances = vec![kept, again];
    let shown = page(&record);
    for line in [
        "- 64 B to 1,000, bun, repetition 2, disturbed: its server waited for its core 9 %, 8 %, 7 % of the time; the last is shown all the same\n",
        "- 64 B to 1,000, uproar, repetition 2, disturbed: its server waited for its core 6 % of the time\n",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
}

/// Memory that a peer has not used is nothing to be better than.
#[test]
fn a_growth_that_is_none_is_no_win() {
    let mut record = Record::default();
    let cell = "stalled, 16 MiB in messages of 1 KiB";
    for (contender, growth) in [(Contender::Uproar, 3.0), (Contender::Bun, -2.0), (Contender::Ws, 400.0)] {
        let figures = vec![Figure::new("resident growth of the server", "MiB", growth)];
        record.add(cell, contender, 0, Ok(Outcome { figures, latencies: Vec::new() }));
    }
    assert_eq!(losses(&record), (Vec::new(), 0));
    assert!(page(&record).contains("| 3.00 | −2.00 | 400 | – |"), "{}", page(&record));
}

#[test]
fn what_an_older_record_does_not_know_has_no_table() {
    let mut record = Record::default();
    let cell = "deflate, 1 KiB ticks to 1,000";
    let mut add = |figures: &[(&str, &str, f64)]| {
        let figures = figures.iter().map(|&(name, unit, value)| Figure::new(name, unit, value)).collect();
        record.add(cell, Contender::Uproar, 0, Ok(Outcome { figures, latencies: Vec::new() }));
        page(&record)
    };
    let old = add(&[("server CPU a delivery", "ns", 4000.0)]);
    assert!(old.contains("| CPU a delivery, ns |") && !old.contains("bytes on the wire"), "{old}");
    let new = add(&[("bytes on the wire a delivery", "B", 321.0)]);
    assert!(new.contains("| bytes on the wire a delivery, B | uproar |"), "{new}");
}

#[test]
fn what_is_shown_as_equal_is_not_lost() {
    assert!(!is_lost(1.0) && !is_lost(1.0049) && is_lost(1.005));
    assert_eq!((marked(1.0049), marked(1.005)), ("1.00".into(), "**1.00 ▲**".into()));
}

#[test]
fn the_terminal_shows_all_contenders() {
    let cell = all(Pace::FULL).into_iter().find(|cell| cell.id() == CELL).expect("the cell");
    let shown = terminal(&record(5_000.0), &cell);
    let uproar: Vec<_> = shown.lines().filter(|line| line.contains("uproar")).collect();
    let words: Vec<_> = uproar[0].split_whitespace().collect();
    assert_eq!(words, ["CPU", "a", "delivery,", "ns", "uproar", "4,000", "4,000", "…", "4,000", "1.25", "0.80"]);
    assert!(shown.contains("ws: failed: 3 lost"), "{shown}");
}

#[test]
fn the_readme_is_changed_between_the_marks_only() {
    let table = readme(&record(5_000.0), "benches/record/2026-01-31");
    assert!(table.contains("| CPU a delivery, 64 B to 1,000 | "), "{table}");
    assert!(table.contains("(benches/record/2026-01-31/table.md)"), "{table}");
    assert_eq!(in_readme(README, &table), None);
    let marked = [README, BEGIN, "old\n", END, "After.\n"].concat();
    let made = in_readme(&marked, &table).expect("a place for it");
    assert_eq!(made, [README, BEGIN, &table, END, "After.\n"].concat());
    assert_eq!(in_readme(&made, &table).as_ref(), Some(&made));
}

#[test]
fn headlines_are_of_the_plan() {
    let cells = all(Pace::FULL);
    for (name, id, figure) in HEADLINES {
        let cell = cells.iter().find(|cell| cell.id() == id).unwrap_or_else(|| panic!("{name}: no cell {id:?}"));
        assert!(cell.part.metrics().iter().any(|metric| metric.figure == figure), "{name}: {figure:?}");
    }
}

#[test]
fn numbers_have_the_digits_that_tell() {
    let metric = |scale| Metric { scale, ..Part::Crowd.metrics()[0] };
    let shown = [(0.123_4, 1.0), (12.34, 1.0), (1_234.4, 1.0), (-1_234.4, 1.0), (3_400_000.0, 1e6)];
    assert_eq!(shown.map(|(value, scale)| number(value, &metric(scale))), ["0.12", "12.3", "1,234", "−1,234", "3.40"]);
}
