//! What is looked at while the server is soaked.

use super::super::common::{Process, scrape, sum};

/// Gauges and counters of the metrics page, summed over shards.
const SERIES: [&str; 22] = [
    "connections",
    "connections kind=\"websocket\"",
    "connections kind=\"event_stream\"",
    "tls_connections",
    "topics",
    "topics_remembered",
    "subscriptions",
    "history_bytes",
    "memory_bytes part=\"frames\"",
    "memory_bytes part=\"partial_messages\"",
    "backlogged_connections",
    "connections_accepted_total",
    "messages_received_total",
    "messages_published_total",
    "deliveries_total",
    "history_replayed_total",
    "presence_notices_total",
    "messages_dropped_total",
    "connections_refused_total",
    "client_errors_total",
    "messages_refused_total reason=\"too_fast\"",
    "handler_panics_total",
];

/// What one moment shows: numbers in the order of [`columns`].
pub type Row = Vec<f64>;

/// The names of a row's numbers.
pub fn columns() -> Vec<&'static str> {
    [&["seconds", "resident_bytes", "descriptors", "cpu_seconds"], &SERIES[..]].concat()
}

/// The numbers of one column.
pub fn column(rows: &[Row], name: &str) -> Vec<f64> {
    let at = columns().iter().position(|column| *column == name).expect("a column");
    rows.iter().map(|row| row[at]).collect()
}

pub struct Sampler<'a> {
    server: &'a Process,
}

impl<'a> Sampler<'a> {
    pub fn new(server: &'a Process) -> Sampler<'a> {
        Sampler { server }
    }

    /// Looks, so many seconds after the begin.
    pub fn row(&self, seconds: f64) -> Row {
        let page = scrape(&self.server.admin);
        let process = [
            seconds,
            self.server.resident() as f64,
            self.server.descriptors() as f64,
            self.server.cpu_ticks() as f64 / 100.0,
        ];
        process.into_iter().chain(SERIES.iter().map(|series| sum(&page, series) as f64)).collect()
    }
}

/// All rows, and what was left at the end.
pub fn csv(rows: &[Row], end: &Row) -> String {
    let line = |row: &Row| row.iter().map(|number| format!("{number:.1}")).collect::<Vec<_>>().join(",") + "\n";
    let lines: String = rows.iter().chain([end]).map(line).collect();
    // A series is named as one word: memory_bytes_frames.
    let word =
        |name: &str| name.replace(['=', '"'], "").replace(" part", "_").replace(" kind", "_").replace(" reason", "_");
    let names: Vec<String> = columns().into_iter().map(word).collect();
    format!("{}\n{lines}", names.join(","))
}
