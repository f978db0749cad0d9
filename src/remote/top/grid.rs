//! The tables, as text: what is drawn, and what `--once` prints.

use std::cmp::Reverse;
use std::time::Duration;

use super::facts::{Connection, Memory, Rates, Shard, Topic, quantile};
use super::state::State;
use super::words::{bytes, count, rate, time};

/// Parts of memory that are named.
const PARTS: usize = 3;

/// A column.
pub struct Column {
    /// Its head.
    pub name: &'static str,
    /// Characters, if no cell has more; `None`: what the others leave.
    pub width: Option<u16>,
    /// Whether it is of numbers, which end where their head ends.
    pub is_number: bool,
}

const fn number(name: &'static str, width: u16) -> Column {
    Column { name, width: Some(width), is_number: true }
}

const fn text(name: &'static str, width: u16) -> Column {
    Column { name, width: Some(width), is_number: false }
}

const fn rest(name: &'static str) -> Column {
    Column { name, width: None, is_number: false }
}

/// A row.
pub struct Row {
    /// As many as there are columns.
    pub cells: Vec<String>,
    /// Whether somebody should look at it.
    pub is_alarming: bool,
}

/// A table.
pub struct Grid {
    /// From left to right.
    pub columns: &'static [Column],
    /// From top to bottom.
    pub rows: Vec<Row>,
}

static SHARDS: [Column; 10] = [
    text("SHARD", 5),
    number("CONNS", 7),
    number("TOPICS", 7),
    number("IN/S", 7),
    number("OUT/S", 9),
    number("BYTES/S", 8),
    number("BACKLOG", 8),
    number("SLOW", 5),
    number("99%", 7),
    number("TURN99%", 7),
];
static TOPICS: [Column; 3] = [rest("TOPIC"), number("SUBSCRIBERS", 12), number("MESSAGES/S", 11)];
static CONNECTIONS: [Column; 9] = [
    text("CONNECTION", 12),
    text("KIND", 7),
    text("PEER", 15),
    rest("CLIENT"),
    number("TOPICS", 6),
    number("BACKLOG", 8),
    number("BEHIND", 6),
    number("IN/S", 5),
    number("OUT/S", 5),
];

impl Grid {
    /// Characters of the longest cell of a column, or of its head.
    pub fn longest(&self, at: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.cells.get(at)).map(|cell| cell.chars().count());
        let head = self.columns.get(at).map(|column| column.name.len());
        cells.chain(head).max().unwrap_or(0)
    }
}

/// The shards.
pub fn shards(state: &State) -> Grid {
    let shards = state.look.iter().flat_map(|look| &look.overview.shards).enumerate();
    let bounds = state.look.as_ref().map_or(&[][..], |look| &look.overview.bounds);
    let rows = shards.map(|(at, shard)| {
        let rates = state.rates.as_ref().and_then(|rates| rates.get(at));
        let of = |of: fn(&Rates) -> f64| rates.map_or("-".to_owned(), |rates| rate(of(rates)));
        Row {
            cells: vec![
                at.to_string(),
                count(shard.connections),
                count(shard.topics),
                of(|rates| rates.received),
                of(|rates| rates.delivered),
                rates.map_or("-".to_owned(), |rates| bytes(rates.sent_bytes.round() as u64)),
                bytes(shard.backlog),
                count(shard.backlogged),
                within(bounds, rates.map(|rates| &*rates.latency)),
                within(bounds, rates.map(|rates| &*rates.turn_times)),
            ],
            is_alarming: rates.is_some_and(|rates| rates.dropped > 0.0),
        }
    });
    Grid { columns: &SHARDS, rows: rows.collect() }
}

/// The time that 99 % of what was counted are within.
fn within(bounds: &[f64], counts: Option<&[u64]>) -> String {
    counts.and_then(|counts| quantile(bounds, counts, 0.99)).map_or("-".to_owned(), time)
}

/// The topics.
pub fn topics(state: &State) -> Grid {
    let row = |topic: &Topic| Row {
        cells: vec![topic.topic.to_string(), count(topic.subscribers), topic.rate.map_or("-".to_owned(), rate)],
        is_alarming: false,
    };
    Grid { columns: &TOPICS, rows: state.look.iter().flat_map(|look| &look.topics).map(row).collect() }
}

/// The connections.
pub fn connections(state: &State) -> Grid {
    let rows = state.look.iter().flat_map(|look| &look.connections).map(connection);
    Grid { columns: &CONNECTIONS, rows: rows.collect() }
}

fn connection(connection: &Connection) -> Row {
    let name = connection.user.as_ref().or(connection.client_id.as_ref());
    let rate_of = |of: Option<f64>| of.map_or("-".to_owned(), rate);
    Row {
        cells: vec![
            connection.connection.to_string(),
            connection.kind.to_string(),
            connection.peer.to_string(),
            name.map_or(String::new(), ToString::to_string),
            count(connection.topics),
            bytes(connection.backlog),
            time(Duration::from_millis(connection.behind)),
            rate_of(connection.received_rate),
            rate_of(connection.delivered_rate),
        ],
        is_alarming: connection.behind > 0,
    }
}

/// What is true of the whole server, in four lines.
pub fn summary(state: &State) -> [String; 4] {
    let Some(look) = &state.look else { return Default::default() };
    let overview = &look.overview;
    let total = state.rates.as_deref().map(Rates::sum);
    let of = |of: fn(&Rates) -> f64| total.as_ref().map_or("-".to_owned(), |rates| rate(of(rates)));
    let sum = |of: fn(&Shard) -> u64| count(overview.sum(of));
    let sent = total.as_ref().map_or("-".to_owned(), |rates| bytes(rates.sent_bytes.round() as u64));
    let latency = within(&overview.bounds, total.as_ref().map(|rates| &*rates.latency));
    let (connections, most) = (sum(|shard| shard.connections), count(overview.max_connections));
    [
        format!("connections {connections} of {most}   new {}/s   slow {}", of(|r| r.accepted), sum(|s| s.backlogged)),
        format!("topics {}   subscriptions {}", sum(|shard| shard.topics), sum(|shard| shard.subscriptions))
            + &format!("   dropped {}/s, {} in all", of(|rates| rates.dropped), sum(|shard| shard.dropped)),
        format!("messages in {}/s   out {}/s, {sent}/s", of(|rates| rates.received), of(|rates| rates.delivered))
            + &format!(", 99% within {latency}"),
        where_memory_is(&overview.memory),
    ]
}

/// The whole, and its largest parts.
fn where_memory_is(memory: &Memory) -> String {
    let limit = memory.limit.map_or(String::new(), |limit| format!(" of {}", bytes(limit)));
    let mut parts: Vec<_> = memory.parts.iter().filter(|(_, bytes)| **bytes > 0).collect();
    parts.sort_by_key(|(_, bytes)| Reverse(**bytes));
    let largest = parts
        .iter()
        .take(PARTS)
        .map(|(part, size)| format!("   {} {}", part.as_str().replace('_', " "), bytes(**size)));
    format!("memory {}{limit}{}", bytes(memory.resident), largest.collect::<String>())
}

/// What it is a picture of.
pub fn title(state: &State) -> String {
    match &state.look {
        Some(look) => {
            let overview = &look.overview;
            let uptime = time(Duration::from_secs_f64(overview.uptime.clamp(0.0, 1e12)));
            format!("uproar {}  {}  {}  up {uptime}", overview.version, state.place, overview.standing)
        }
        None => format!("uproar  {}", state.place),
    }
}

/// Everything as text, for pipes and scripts: columns end where the longest of their cells does.
pub fn print(state: &State) -> String {
    let mut out = format!("{}\n{}\n", title(state), summary(state).join("\n"));
    for grid in [shards(state), topics(state), connections(state)] {
        out.push('\n');
        let widths: Vec<usize> = (0..grid.columns.len()).map(|at| grid.longest(at)).collect();
        let heads = grid.columns.iter().map(|column| column.name.to_owned()).collect();
        for cells in std::iter::once(&heads).chain(grid.rows.iter().map(|row| &row.cells)) {
            let padded = cells.iter().zip(grid.columns).zip(&widths).map(|((cell, column), &width)| {
                if column.is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            out.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::samples::look;
    use super::*;

    #[test]
    fn a_snapshot_is_columns_of_plain_text() {
        let mut state = State::new("http://127.0.0.1:8081", "1s".to_owned());
        state.hear(Ok(Box::new(look(2, 3661.0))));
        let mut second = look(2, 3662.0);
        second.overview.shards[1].delivered += 1500;
        second.overview.shards[1].latency[1] += 1500;
        state.hear(Ok(Box::new(second)));
        let printed = print(&state);
        assert!(!printed.chars().any(|c| c.is_control() && c != '\n'), "{printed:?}");
        for line in [
            "uproar 0.1.0  http://127.0.0.1:8081  serving  up 1h 01m",
            "connections 12,346 of 20,416   new 0/s   slow 2",
            "topics 320   subscriptions 12,400   dropped 0/s, 0 in all",
            "messages in 0/s   out 1,500/s, 0 B/s, 99% within 991 µs",
            "memory 345 MiB of 1.0 GiB   history 12.0 MiB   frames 3.0 MiB   topics 4.9 KiB",
            "SHARD  CONNS  TOPICS  IN/S  OUT/S  BYTES/S  BACKLOG  SLOW     99%  TURN99%",
            "1      6,173     160     0  1,500      0 B  1.5 MiB     1  991 µs        -",
            "TOPIC          SUBSCRIBERS  MESSAGES/S",
            "prices.EURUSD        6,100          99",
            "evil\\u{1b}[2J            3           -",
        ] {
            assert!(printed.lines().any(|found| found == line), "{line} is not in\n{printed}");
        }
        let slow = printed.lines().find(|line| line.starts_with("0x7000100003")).expect("a connection");
        assert_eq!(
            slow.split_whitespace().collect::<Vec<_>>(),
            ["0x7000100003", "raw", "192.0.2.7", "1", "1.0", "MiB", "4.2", "s", "0", "99"]
        );
    }

    #[test]
    fn before_anything_was_heard_there_is_nothing_but_heads() {
        let printed = print(&State::new("unix:/run/x", "1s".to_owned()));
        assert!(printed.starts_with("uproar  unix:/run/x\n") && printed.contains("CONNECTION"), "{printed}");
    }
}
