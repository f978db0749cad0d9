//! What is made of the load generator's report.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Output};

use crate::load::judge;

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
    let dropping = RECORDED.replace("server CPU a delivery", "bytes missing, of all stalled ones");
    assert_eq!(reason(output(0, &dropping, "")), "3859.5 bytes were dropped");
}
