//! Pictures: which lines are drawn, and the files' names.

use crate::contender::Contender;
use crate::plots::{file, median_of};
use crate::record::Distribution;

fn distribution(quantiles: &[(f64, u64)]) -> Distribution {
    let (cell, name) = (String::new(), String::new());
    Distribution { cell, contender: Contender::Bun, repetition: 0, name, quantiles: quantiles.to_vec() }
}

#[test]
fn a_line_is_the_median_of_the_shares_that_all_have() {
    let all = [
        distribution(&[(0.5, 10), (0.9, 100), (0.99, 500), (1.0, 600)]),
        distribution(&[(0.5, 30), (0.9, 90), (1.0, 95)]),
        distribution(&[(0.5, 20), (0.9, 110), (0.99, 300), (1.0, 300)]),
    ];
    assert_eq!(median_of(all.iter()), [(0.5, 20.0), (0.9, 100.0)]);
    assert_eq!(median_of([].iter()), []);
}

#[test]
fn names_of_files_are_plain() {
    assert_eq!(file("rate, 64 B to 1,000, 50 a second"), "rate-64-B-to-1-000-50-a-second.svg");
    assert_eq!(file("burst of 32"), "burst-of-32.svg");
}
