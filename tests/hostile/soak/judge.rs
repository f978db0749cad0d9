//! Whether what was sampled is flat.

use std::fmt::Write;

use super::super::healthy::Findings;
use super::samples::{Row, column};

/// What an allocator may keep more of at one time than at another, beyond what the samples scatter by.
const SLACK: f64 = 4.0 * 1024.0 * 1024.0;
/// What one third may have more than another.
const TOLERANCE: f64 = 0.1;

/// A line through points by least squares: its slope, and how far the points are from it (standard deviation).
fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let slope = if variance > 0.0 { covariance / variance } else { 0.0 };
    let rest: f64 = points.iter().map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum();
    (slope, (rest / count).sqrt())
}

/// The least number that 95 % are not above.
fn p95(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * 95).div_ceil(100).max(1) - 1]
}

/// What the numbers grow by, along the line through the last two thirds of them; and what is taken for noise.
fn growth(times: &[f64], numbers: &[f64], slack: f64) -> (f64, f64) {
    let from = numbers.len() / 3;
    let points: Vec<_> = times.iter().copied().zip(numbers.iter().copied()).skip(from).collect();
    let (slope, scatter) = line(&points);
    let span = points.last().expect("samples").0 - points[0].0;
    (slope * span, 2.0 * scatter + slack)
}

/// p95 of the first third, and of the last.
fn thirds(numbers: &[f64]) -> (f64, f64) {
    let third = (numbers.len() / 3).max(1);
    (p95(&numbers[..third]), p95(&numbers[numbers.len() - third..]))
}

/// Topics whose histories have no age: those with a last value, and that of the healthy clients.
const LASTING_TOPICS: f64 = 51.0;

/// Whether all is well, and why or why not, a line for each thing that was looked at.
pub fn verdict(rows: &[Row], end: &Row, findings: &Findings) -> (bool, String) {
    let (mut well, mut text) = (true, String::new());
    let mut say = |good: bool, what: String| {
        well &= good;
        let _ = writeln!(text, "{} {what}", if good { "ok  " } else { "BAD " });
    };
    let times = column(rows, "seconds");
    for (name, slack, unit) in
        [("resident_bytes", SLACK, 1e6), ("descriptors", 1.0, 1.0), ("history_bytes", SLACK, 1e6)]
    {
        let numbers = column(rows, name);
        let (grown, noise) = growth(&times, &numbers, slack);
        say(
            grown <= noise,
            format!("{name}: {:+.1} over the last two thirds, noise {:.1}", grown / unit, noise / unit),
        );
        let (first, last) = thirds(&numbers);
        let most = first * (1.0 + TOLERANCE) + slack;
        say(
            last <= most,
            format!("{name}: p95 {:.1} in the first third, {:.1} in the last", first / unit, last / unit),
        );
    }
    left_behind(end, &mut say);
    let samples = &findings.attacked;
    let [p50, p99] = [0.5, 0.99].map(|quantile| samples.value_at_quantile(quantile) as f64 / 1000.0);
    let (max, sent) = (samples.max() as f64 / 1000.0, findings.published);
    say(
        max < 2000.0,
        format!("healthy clients: {sent} messages to each, p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms"),
    );
    let problems = &findings.problems;
    say(
        problems.is_empty(),
        format!("healthy clients: {} problems {:?}", problems.len(), &problems[..problems.len().min(5)]),
    );
    (well, text)
}

/// Judges what is there when all have gone, and that something has happened.
fn left_behind(end: &Row, say: &mut impl FnMut(bool, String)) {
    let at_end = |name: &str| column(std::slice::from_ref(end), name)[0];
    for name in [
        "connections kind=\"websocket\"",
        "connections kind=\"event_stream\"",
        "subscriptions",
        "memory_bytes part=\"frames\"",
        "memory_bytes part=\"partial_messages\"",
    ] {
        say(at_end(name) == 0.0, format!("{name}: {} when all have gone", at_end(name)));
    }
    let topics = at_end("topics");
    say(
        topics <= LASTING_TOPICS,
        format!("topics: {topics} when all have gone, {LASTING_TOPICS} of which have histories that last"),
    );
    say(at_end("handler_panics_total") == 0.0, "no handler has panicked".into());
    for name in [
        "connections_accepted_total",
        "messages_published_total",
        "deliveries_total",
        "history_replayed_total",
        "messages_dropped_total",
        "client_errors_total",
    ] {
        say(at_end(name) > 0.0, format!("{name}: {}", at_end(name)));
    }
}

#[test]
fn what_is_flat_is_told_from_what_grows() {
    let times: Vec<f64> = (0..90).map(f64::from).collect();
    let noise = |n: f64| (n * 7.7).sin() * 10.0 * 1024.0 * 1024.0;
    let flat: Vec<f64> = times.iter().map(|n| 1e8 + noise(*n)).collect();
    let (grown, allowed) = growth(&times, &flat, SLACK);
    assert!(grown.abs() < allowed, "{grown} {allowed}");
    // A start that grows is none of its concern; a leak of a megabyte a sample is.
    let started: Vec<f64> =
        flat.iter().enumerate().map(|(n, bytes)| if n < 25 { bytes / 30.0 * n as f64 } else { *bytes }).collect();
    assert!(growth(&times, &started, SLACK).0 < allowed);
    let leaking: Vec<f64> = flat.iter().zip(&times).map(|(bytes, n)| bytes + n * 1e6).collect();
    let (grown, allowed) = growth(&times, &leaking, SLACK);
    assert!(grown > allowed, "{grown} {allowed}");
    let (first, last) = thirds(&leaking);
    assert!(last > first * (1.0 + TOLERANCE) + SLACK);
    assert_eq!(p95(&(1..=100).map(f64::from).collect::<Vec<_>>()), 95.0);
    assert_eq!(line(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]), (2.0, 0.0));
}
