//! The plan: all that was asked for is in it, and the load generator understands it.

use clap::{Args, Command, FromArgMatches};
use std::collections::BTreeSet;

use crate::plan::{Cell, Pace, Part, all, short, thousands};

#[test]
fn cells_are_told_apart() {
    for pace in [Pace::FULL, Pace::QUICK] {
        let cells = all(pace);
        let ids: BTreeSet<_> = cells.iter().map(Cell::id).collect();
        assert_eq!(ids.len(), cells.len());
        let loads: BTreeSet<_> = cells.iter().map(|cell| (&cell.load, cell.part.title())).collect();
        assert_eq!(loads.len(), cells.len());
    }
}

#[test]
fn every_size_crowd_and_burst_is_there_and_every_part() {
    let cells = all(Pace::FULL);
    let fan_outs = cells.iter().filter(|cell| matches!(cell.part, Part::Fanout { .. }));
    assert_eq!(fan_outs.count(), 3 * 3 * 3 - 1, "bursts of 5 GB are left out");
    for part in Part::ALL {
        assert!(cells.iter().any(|cell| cell.part == part), "{part:?}");
        assert!(!part.metrics().is_empty());
    }
    assert!(cells.iter().all(|cell| Part::ALL.contains(&cell.part)));
}

#[test]
fn the_load_generator_understands_every_cell() {
    for cell in all(Pace::FULL).into_iter().chain(short(Pace::CALM)) {
        let command = uproar::bench::Options::augment_args(Command::new("bench"));
        let words = ["bench"].into_iter().chain(cell.load.iter().map(String::as_str));
        let matches = command.try_get_matches_from(words).unwrap_or_else(|error| panic!("{}: {error}", cell.id()));
        uproar::bench::Options::from_arg_matches(&matches).expect("options");
    }
}

#[test]
fn numbers_are_grouped() {
    let shown = [0, 999, 1_000, 12_345, 1_000_000].map(thousands);
    assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,000,000"]);
}
