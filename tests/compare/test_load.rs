//! What is made of the load generator's report.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Output};

use uproar::bench::report::Figure;

use crate::load::{Outcome, judge, undisturbed};

fn output(code: i32, stdout: &str, stderr: &str) -> Output {
    Output { status: ExitStatus::from_raw(code << 8), stdout: stdout.into(), stderr: stderr.into() }
}

const RECORDED: &str = r#"{"mode":"rate","title":"t","url":"ws://x","unix_time":1,
    "machine":{"kernel":"6.18","cpu":"c","cpus":2},
    "figures":[{"name":"server CPU a delivery","unit":"ns","value":3859.5}],
    "latencies":[{"name":"due to delivered","count":2000,"mean":5.0,"max":90,
        "quantiles":[[0.5,4],[0.99,20],[0.999,70],[1.0,90]]},
        {"name":"nothing","count":0,"mean":0.0,"max":0,"quantiles":[]}],
    "series":[],"faults":{"lost":0,"duplicated":0,"reordered":0,"corrupted":0,"refused":0,"closed":0}}"#;

#[test]
fn a_report_becomes_figures() {
    let outcome = judge(&output(0, RECORDED, "")).expect("an outcome");
    let figures: Vec<_> = outcome.figures.iter().map(|f| (f.name.as_str(), f.unit.as_str(), f.value)).collect();
    let expected = [
        ("server CPU a delivery", "ns", 3859.5),
        ("due to delivered, p50", "ns", 4.0),
        ("due to delivered, p99", "ns", 20.0),
        ("due to delivered, p99.9", "ns", 70.0),
        ("due to delivered, max", "ns", 90.0),
    ];
    assert_eq!(figures, expected);
    assert_eq!(outcome.latencies.len(), 1);
}

#[test]
fn faults_and_silence_are_failures() {
    let faulty = RECORDED.replace(r#""lost":0"#, r#""lost":3"#).replace(r#""closed":0"#, r#""closed":1"#);
    let complaining = RECORDED.replace(r#""mode":"rate""#, r#""mode":"rate","complaint":"too slow""#);
    let reason = |output| judge(&output).expect_err("a failure").to_string();
    assert_eq!(reason(output(1, &complaining, "")), "too slow");
    assert_eq!(reason(output(1, &faulty, "")), "3 lost, 1 connections closed");
    assert_eq!(reason(output(3, "", "no such\n\n host\n")), "no report (exit status: 3): no such, host");
    let dropping = RECORDED.replace("server CPU a delivery", "missing, of all stalled ones");
    assert_eq!(reason(output(0, &dropping, "")), "3859.5 bytes were dropped");
}

#[test]
fn what_was_disturbed_is_measured_again_at_most_twice() {
    let measured = |delays: &[Option<f64>]| {
        let mut delays = delays.iter();
        let mut runs = 0;
        let (outcome, waited) = undisturbed(|| {
            runs += 1;
            let delay = delays.next().copied().flatten().ok_or("lost")?;
            Ok(Outcome {
                figures: vec![Figure::new("run delay, server, by others at least", "%", delay)],
                ..Outcome::default()
            })
        });
        (runs, outcome.ok().map(|outcome| outcome.figures[0].value), waited)
    };
    assert_eq!(measured(&[Some(5.0)]), (1, Some(5.0), vec![]));
    assert_eq!(measured(&[Some(5.1), Some(0.2)]), (2, Some(0.2), vec![5.1]));
    assert_eq!(measured(&[Some(9.0), Some(8.0), Some(7.0), Some(0.0)]), (3, Some(7.0), vec![9.0, 8.0, 7.0]));
    assert_eq!(measured(&[None]), (1, None, vec![]), "a failure is not measured again");
    assert_eq!(measured(&[Some(9.0), None]), (2, None, vec![9.0]));
    let (outcome, waited) = undisturbed(|| Ok(Outcome::default()));
    assert!(outcome.is_ok() && waited.is_empty(), "an older kernel does not tell");
}
