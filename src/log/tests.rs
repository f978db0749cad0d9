//! The whole way of an event, but that it ends in a buffer.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tracing::dispatcher::with_default;

use super::*;

/// Where lines end up, after a while.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log of its own for what is logged in `body`; what was written, and what was counted.
fn logged(format: LogFormat, body: impl FnOnce()) -> (Vec<String>, Counts) {
    let sink = Sink::default();
    let queue = Queue::start(sink.clone()).unwrap();
    let subscriber =
        tracing_subscriber::registry().with(Repeats::new(queue.clone())).with(lines(format, false, queue.clone()));
    let events = Dispatch::new(subscriber);
    queue.speak_through(&events);
    with_default(&events, body);
    queue.flush();
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    (text.lines().map(str::to_owned).collect(), queue.counts())
}

const HOSTILE: &str = "a\nFAKE \u{1b}[2J\r\u{9b}\"{}\\\u{2028}";

#[test]
fn json_is_an_object_a_line_whatever_is_in_it() {
    let (lines, counts) = logged(LogFormat::Json, || {
        tracing::info!(conn = %"0x10", shard = 3, topic = HOSTILE, "it is {HOSTILE}");
    });
    assert_eq!((lines.len(), counts), (1, Counts { lines: 1, ..Counts::default() }));
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((&line["level"], &line["conn"], &line["shard"]), (&"INFO".into(), &"0x10".into(), &3.into()));
    assert_eq!((&line["topic"], &line["message"]), (&HOSTILE.into(), &format!("it is {HOSTILE}").into()));
    assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
}

#[test]
fn text_is_one_line_whatever_is_in_it() {
    let (lines, _) = logged(LogFormat::Text, || tracing::warn!(topic = %HOSTILE, "it is {HOSTILE}"));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(!lines[0].contains(|char: char| char.is_control()), "{lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("\\nFAKE"), "{lines:?}");
}

#[test]
fn a_flood_is_a_few_lines_and_a_number_and_they_add_up() {
    const FLOOD: u64 = 5_000;
    let (lines, counts) = logged(LogFormat::Json, || {
        for number in 0..FLOOD {
            tracing::info!(number, "again");
        }
        tracing::info!("something else");
    });
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let again = lines.iter().filter(|line| line["message"] == "again").count() as u64;
    let repeated: u64 = lines.iter().filter_map(|line| line["repeated"].as_u64()).sum();
    assert_eq!(again + repeated, FLOOD, "{lines:?}");
    assert_eq!((counts.repeated, counts.lost), (repeated, 0));
    assert!((MOST_LINES..=5 * MOST_LINES).contains(&again), "{again} lines of one kind");
    assert!(lines.iter().any(|line| line["message"] == "something else"));
    let told = lines.iter().find(|line| line["repeated"].is_u64()).unwrap();
    assert_eq!((&told["level"], told["thread"].is_string()), (&"INFO".into(), true));
    assert!(told["message"].as_str().is_some_and(|text| text.starts_with("again: ")), "{told}");
}

const MOST_LINES: u64 = repeats::MOST as u64;

/// Takes nothing until it is told to.
struct Stuck(flume::Receiver<()>, Sink);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn nobody_waits_for_a_reader_who_does_not_read_and_what_is_lost_is_counted() {
    const LINES: u64 = 50_000;
    let (open, opened) = flume::bounded::<()>(0);
    let sink = Sink::default();
    let queue = Queue::start(Stuck(opened, sink.clone())).unwrap();
    let subscriber = tracing_subscriber::registry().with(lines(LogFormat::Json, false, queue.clone()));
    let begin = Instant::now();
    let events = Dispatch::new(subscriber);
    queue.speak_through(&events);
    with_default(&events, || (0..LINES).for_each(|number| tracing::info!(number, "a line")));
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let lost = queue.counts().lost;
    assert!(lost > 0 && queue.counts().lines + lost == LINES, "{:?}", queue.counts());
    let begin = Instant::now();
    queue.flush();
    assert!(begin.elapsed() < Duration::from_secs(3), "a flush has an end");
    drop(open);
    queue.flush();
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().filter(|line| line["message"] == "a line").count() as u64 + lost, LINES);
}
