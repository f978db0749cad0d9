//! Reports that tests look at.

use hdrhistogram::Histogram;

use super::{Faults, Figure, Machine, Report, Series, latency};

/// A run as `fanout` has them; `slower` makes it another's.
pub fn report(name: &str, slower: f64) -> Report {
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    for n in 0..200_000u64 {
        // A long tail: one in n takes n times as long as the fastest, about.
        let tail = 200_000.0 / (n as f64 + 1.0);
        histogram.record((slower * 40_000.0 * tail.powf(0.45)) as u64).unwrap();
    }
    let seconds = (0..=80).map(|n| f64::from(n) / 16.0);
    let wave = |height: f64| seconds.clone().map(|s| (s, height * (0.92 + 0.08 * (s * 5.0).sin()))).collect();
    let series = |plot: &str, name: &str, unit: &str, height| Series {
        plot: plot.into(),
        name: name.into(),
        unit: unit.into(),
        over: "s".into(),
        points: wave(height),
    };
    Report {
        name: name.into(),
        mode: "fanout".into(),
        title: "64 B to 1000 subscribers of 1 topic, burst 1, window 1".into(),
        url: "ws://127.0.0.1:8080/raw/{topic}".into(),
        unix_time: 1_795_269_780,
        machine: Machine { kernel: "6.18.0".into(), cpu: "AMD EPYC".into(), cpus: 2 },
        figures: vec![
            Figure::new("deliveries", "/s", 256_410.0 / slower),
            Figure::new("server CPU a delivery", "ns", 3900.0 * slower),
            Figure::new("server CPU", "%", 99.6),
            Figure::new("load CPU", "%", 71.23),
            Figure::new("memory of the server", "B", 4.3e6 * slower),
            Figure::new("subscribers", "", 1000.0),
        ],
        latencies: vec![latency("due to delivered", &histogram)],
        series: vec![
            series("", "deliveries", "/s", 256_410.0 / slower),
            series("CPU", "server", "%", 99.0),
            series("CPU", "load", "%", 71.0 / slower),
        ],
        warm_at: Some(1.0),
        notes: Vec::new(),
        complaint: None,
        faults: Faults::default(),
    }
}

/// Elements that are open are closed in order, and `<`, `&` and controls are nowhere but where markup has them.
pub fn assert_well_formed(page: &str) {
    let mut open = Vec::new();
    let page = page.strip_prefix("<!DOCTYPE html>").unwrap_or(page);
    let (text, tags) = page.split_once('<').expect("an element");
    assert_eq!(text.trim(), "");
    for piece in tags.split('<') {
        let (tag, text) = piece.split_once('>').unwrap_or_else(|| panic!("{piece:?} is not ended"));
        let name = tag.split([' ', '/']).find(|part| !part.is_empty()).unwrap_or_else(|| panic!("{tag:?} has no name"));
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{name:?}");
        match tag {
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name), "{tag}"),
            _ if tag.ends_with('/') => {}
            _ => open.push(name),
        }
        assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
        for text in [tag, text] {
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
            for entity in text.split('&').skip(1) {
                let known = ["amp;", "lt;", "gt;", "quot;", "apos;", "#39;"];
                assert!(known.iter().any(|known| entity.starts_with(known)), "{entity:?}");
            }
        }
    }
    assert_eq!(open, [""; 0], "left open");
}
