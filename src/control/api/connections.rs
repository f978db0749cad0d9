//! `GET /connections`.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::body::query;
use super::history::limit;
use super::problem::Problem;
use super::{Api, done};
use crate::dialect::json;
use crate::shard::mail::{Answer, ConnFacts, ConnOrder, Origin, Question};
use crate::shard::survey::MOST;

/// Connections of an answer, unless told.
const DEFAULT_LIMIT: usize = 20;
/// Connections of an answer.
pub const MAX_LIMIT: usize = MOST;

/// Which connections are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connections {
    /// Which come first.
    #[serde(default)]
    pub sort: Sort,
    /// How many.
    pub limit: Option<String>,
}

/// Which come first.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// Those with the most to be sent.
    #[default]
    Backlog,
    /// Those for whom something has waited the longest.
    Age,
    /// Those with the most messages.
    Rate,
}

/// The first connections in an order.
#[derive(Serialize)]
pub struct Found {
    connections: Vec<Connection>,
    /// How many there are.
    total: u64,
}

/// A connection.
#[derive(Serialize, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    connection: String,
    shard: u16,
    kind: &'static str,
    peer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Box<str>>,
    topics: usize,
    backlog: u32,
    behind: u64,
    since: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered_rate: Option<f64>,
}

/// `GET /connections`.
pub async fn connections(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Problem> {
    let Connections { sort, limit: wanted } = query(&uri)?;
    let limit = limit(wanted.as_deref(), DEFAULT_LIMIT, MAX_LIMIT)?;
    let order = match sort {
        Sort::Backlog => ConnOrder::Backlog,
        Sort::Age => ConnOrder::Age,
        Sort::Rate => ConnOrder::Rate,
    };
    let answers = api.ask_all(|| Question::Connections { order, limit }).await?.into_iter();
    let facts = answers.flat_map(|answer| if let Answer::Connections(some) = answer { some } else { Vec::new() });
    let connections = first(facts.collect(), sort, limit);
    Ok(done(&Found { connections, total: api.shards().shared().connections() }))
}

/// The first of what all shards have named.
fn first(mut facts: Vec<ConnFacts>, sort: Sort, limit: usize) -> Vec<Connection> {
    let rate = |facts: &ConnFacts| facts.rates.map_or(0.0, |(received, delivered)| received + delivered);
    match sort {
        Sort::Backlog => facts.sort_by_key(|facts| Reverse((facts.backlog, facts.behind))),
        Sort::Age => facts.sort_by_key(|facts| Reverse((facts.behind, facts.backlog))),
        Sort::Rate => facts.sort_by(|a, b| rate(b).total_cmp(&rate(a))),
    }
    facts.truncate(limit);
    facts.into_iter().map(connection).collect()
}

fn connection(facts: ConnFacts) -> Connection {
    Connection {
        connection: number_text(facts.number),
        shard: Origin::numbered(facts.number).shard,
        kind: facts.kind,
        peer: facts.peer.to_string(),
        client_id: facts.client.map(json::client_id_text),
        user: facts.user,
        topics: facts.topics,
        backlog: facts.backlog,
        behind: facts.behind.as_millis() as u64,
        since: facts.since_ms,
        received_rate: facts.rates.map(|(received, _)| tenths(received)),
        delivered_rate: facts.rates.map(|(_, delivered)| tenths(delivered)),
    }
}

/// A rate, as exactly as anybody needs it.
pub fn tenths(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

/// A connection's number as the log has it. In JSON it is a string: some readers have 53 bits for numbers.
fn number_text(number: u64) -> String {
    format!("{number:#x}")
}

/// The connection that is meant; `None` for what [`number_text`] never writes.
pub fn parse_number(text: &str) -> Option<Origin> {
    let number = u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()?;
    let at = Origin::numbered(number);
    (number_text(at.number()) == text).then_some(at)
}

/// Answers with all their fields, by the names of their schemas.
#[cfg(test)]
pub fn samples() -> Vec<(&'static str, serde_json::Value)> {
    let sample = connection(tests::facts(1, 1, 1));
    [
        ("Connection", serde_json::to_value(&sample)),
        ("Connections", serde_json::to_value(Found { connections: vec![sample], total: 1 })),
    ]
    .map(|(name, value)| (name, value.expect("JSON")))
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::peer::Peer;
    use proptest::prelude::*;
    use std::time::Duration;

    pub(super) fn facts(backlog: u32, behind: u64, rate: u32) -> ConnFacts {
        ConnFacts {
            number: 1 << 20,
            peer: Peer::LOCAL,
            kind: "json",
            client: Some(1),
            user: Some("ann".into()),
            topics: 1,
            backlog,
            behind: Duration::from_millis(behind),
            since_ms: 7,
            rates: Some((f64::from(rate), 0.0)),
        }
    }

    #[test]
    fn the_first_of_all_shards_are_told() {
        let all = || vec![facts(1, 30, 7), facts(3, 10, 8), facts(2, 20, 9)];
        let backlogs = |sort| first(all(), sort, 2).into_iter().map(|found| found.backlog).collect::<Vec<_>>();
        assert_eq!([Sort::Backlog, Sort::Age, Sort::Rate].map(backlogs), [[3, 2], [1, 2], [2, 3]]);
        let one = connection(facts(5, 1500, 2));
        assert_eq!((&*one.connection, one.shard, one.behind, one.received_rate), ("0x100000", 1, 1500, Some(2.0)));
    }

    #[test]
    fn what_is_no_connection_is_none() {
        for text in ["", "0x", "100000", "0x0100000", "0xFF", "0x1ffffffffffffffff", "-0x1", "0x+1"] {
            assert_eq!(parse_number(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_number_has_one_spelling(number in 0..1u64 << 60) {
            prop_assert_eq!(parse_number(&number_text(number)).map(Origin::number), Some(number));
        }
    }
}
