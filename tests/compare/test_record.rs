//! Records: what they come to, and that they are read as they were written.

use std::fs;

use uproar::bench::report::{Figure, Latency};

use crate::Result;
use crate::contender::Contender;
use crate::load::Outcome;
use crate::plan::Better;
use crate::record::{Record, newest, rounded};

fn outcome(value: f64) -> Result<Outcome> {
    let quantiles = vec![(0.5, 3), (1.0, 9)];
    let latencies = vec![Latency { name: "a".into(), count: 9, mean: 4.0, max: 9, quantiles }];
    Ok(Outcome { figures: vec![Figure::new("f", "ns", value)], latencies })
}

/// Uproar, and Bun, which failed in the second repetition.
fn record() -> Record {
    let mut record = Record::default();
    for (repetition, (uproar, bun)) in [(10.0, 20.0), (30.0, f64::NAN), (20.0, 10.0)].into_iter().enumerate() {
        record.add("c", Contender::Uproar, repetition, outcome(uproar));
        let bun = if bun.is_nan() { Err("lost".into()) } else { outcome(bun) };
        record.add("c", Contender::Bun, repetition, bun);
    }
    record
}

#[test]
fn repetitions_stay_in_step_when_one_fails() {
    let record = record();
    let bun = record.series("c", Contender::Bun, "f").expect("a series");
    assert_eq!(bun.values, [Some(20.0), None, Some(10.0)]);
    let uproar = record.series("c", Contender::Uproar, "f").expect("a series");
    assert_eq!((uproar.median(), uproar.range()), (20.0, (10.0, 30.0)));
    assert_eq!(bun.median(), 15.0);
    assert_eq!(uproar.ratio(bun, Better::Less), Some(1.25), "the median of 0.5 and 2");
    assert_eq!(uproar.ratio(bun, Better::More), Some(1.25), "the median of 2 and 0.5");
    assert_eq!(record.failure("c", Contender::Bun).map(|failure| failure.repetition), Some(1));
    assert_eq!(record.failure("c", Contender::Uproar), None);
    assert!(record.knows("c") && !record.knows("d"));
}

#[test]
fn the_best_peer_is_found_either_way() {
    let mut record = record();
    record.add("c", Contender::Ws, 0, outcome(12.0));
    let best = |better| record.best_peer("c", "f", better).map(|series| series.contender);
    assert_eq!(best(Better::Less), Some(Contender::Ws));
    assert_eq!(best(Better::More), Some(Contender::Bun));
    assert_eq!(record.best_peer("d", "f", Better::Less), None);
}

#[test]
fn nothing_in_common_has_no_ratio() {
    let mut record = Record::default();
    record.add("c", Contender::Uproar, 0, outcome(1.0));
    record.add("c", Contender::Bun, 1, outcome(1.0));
    let of = |contender| record.series("c", contender, "f").expect("a series");
    assert_eq!(of(Contender::Uproar).ratio(of(Contender::Bun), Better::Less), None);
}

/// Memory that has not grown is no fraction of one that has, nor the other way round.
#[test]
fn what_is_not_above_zero_has_no_ratio() {
    for (uproar, bun) in [(-1.0, 2.0), (2.0, -1.0), (-1.0, -2.0), (0.0, 2.0), (2.0, 0.0), (0.0, 0.0)] {
        let mut record = Record::default();
        for (repetition, (uproar, bun)) in [(1.0, 2.0), (uproar, bun)].into_iter().enumerate() {
            record.add("c", Contender::Uproar, repetition, outcome(uproar));
            record.add("c", Contender::Bun, repetition, outcome(bun));
        }
        let of = |contender| record.series("c", contender, "f").expect("a series");
        for better in [Better::Less, Better::More] {
            assert_eq!(of(Contender::Uproar).ratio(of(Contender::Bun), better), None, "{uproar} to {bun}");
        }
    }
}

#[test]
fn what_is_no_number_is_not_recorded() {
    let mut record = Record::default();
    for (repetition, value) in [f64::NAN, 3.0, f64::INFINITY, 5.0].into_iter().enumerate() {
        record.add("c", Contender::Uproar, repetition, outcome(value));
    }
    let series = record.series("c", Contender::Uproar, "f").expect("a series");
    assert_eq!((&series.values[..], series.median()), (&[None, Some(3.0), None, Some(5.0)][..], 4.0));
}

#[test]
fn disturbances_are_noted_with_what_became_of_them() {
    let mut record = Record::default();
    let disturbed = || {
        Ok(Outcome {
            figures: vec![Figure::new("run delay, server, by others at least", "%", 7.0)],
            ..Outcome::default()
        })
    };
    record.note_disturbances("c", Contender::Bun, 0, &outcome(1.0), Vec::new());
    record.note_disturbances("c", Contender::Bun, 1, &outcome(1.0), vec![8.0]);
    record.note_disturbances("c", Contender::Bun, 2, &disturbed(), vec![9.0, 8.0, 7.0]);
    let noted: Vec<_> = record.disturbances.iter().map(|d| (d.repetition, d.waited.len(), d.kept)).collect();
    assert_eq!(noted, [(1, 1, false), (2, 3, true)]);
    let dir = tempfile::tempdir().expect("a directory");
    record.write(dir.path()).expect("written");
    assert_eq!(Record::read(dir.path()).expect("read"), record);
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let (older, newer) = (dir.path().join("2026-01-31"), dir.path().join("2026-02-01"));
    record().write(&newer).expect("written");
    Record::default().write(&older).expect("written");
    fs::create_dir(dir.path().join("2026-03-01")).expect("made");
    assert_eq!(newest(dir.path()).as_deref(), Some(&*newer));
    assert_eq!(Record::read(&newer).expect("read"), record());
    assert_eq!(Record::read(&older).expect("read"), Record::default());
}

#[test]
fn values_are_rounded_by_their_digits() {
    assert_eq!([123_456.0, 1.234_567, 0.0, -0.000_123_456].map(rounded), [123_460.0, 1.2346, 0.0, -0.000_123_46]);
}
