//! The decoder on `tests/vectors/frames.txt`: whole, cut in two anywhere, and a byte at a time.

mod wire;

use wire::vectors::{Case, frames};
use wire::{Outcome, decode};

/// Longer inputs are cut near their beginning and end only: their middle is payload.
const CUT_EVERYWHERE: usize = 1024;

fn check(case: &Case, how: &str, outcome: &Outcome) {
    let fails = outcome.violation.map(|violation| (violation.code, violation.reason));
    let expected = case.fails.as_ref().map(|fails| (fails.code, fails.reason.as_str()));
    assert_eq!(outcome.seen, case.seen, "{}, {how}", case.name);
    assert_eq!(fails, expected, "{}, {how}", case.name);
}

#[test]
fn the_file_has_its_cases_and_each_has_a_name_of_its_own() {
    let cases = frames();
    assert!(cases.len() >= 120, "only {} cases", cases.len());
    for (i, case) in cases.iter().enumerate() {
        assert!(cases[..i].iter().all(|other| other.name != case.name), "{} is there twice", case.name);
    }
}

#[test]
fn whole() {
    for case in frames() {
        let outcome = decode(case.settings, [&case.input[..]]);
        check(&case, "whole", &outcome);
        let closed = matches!(outcome.seen.last(), Some(wire::Seen::Close(..)));
        if outcome.violation.is_none() && !closed {
            assert_eq!(outcome.idle, !case.pending, "{}: memory is kept while it is needed, no longer", case.name);
        }
    }
}

#[test]
fn cut_in_two_anywhere() {
    for case in frames() {
        let len = case.input.len();
        let cuts = (0..=len).filter(|&at| len <= CUT_EVERYWHERE || at < 300 || at > len - 100);
        for at in cuts {
            let (head, tail) = case.input.split_at(at);
            check(&case, &format!("cut at {at}"), &decode(case.settings, [head, tail]));
        }
    }
}

#[test]
fn a_byte_at_a_time_and_violations_show_with_the_byte_they_name() {
    for case in frames() {
        check(&case, "a byte at a time", &decode(case.settings, case.input.chunks(1)));
        if let Some(fails) = &case.fails {
            let (before, after) = (&case.input[..fails.at - 1], &case.input[..fails.at]);
            assert_eq!(decode(case.settings, [before]).violation, None, "{}: fails too soon", case.name);
            assert!(decode(case.settings, [after]).violation.is_some(), "{}: fails too late", case.name);
        }
    }
}
