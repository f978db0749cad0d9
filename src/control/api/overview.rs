//! `GET /overview`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::body::query;
use super::problem::Problem;
use super::{Api, done};
use crate::counters::histogram::{BOUNDS, Snapshot};
use crate::counters::{Counters, Part};
use crate::ring::sys;
use crate::shard::shared::{Shared, Standing};

/// It takes no parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The server at a glance.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    version: &'static str,
    standing: &'static str,
    uptime: f64,
    timestamp: u64,
    max_connections: u64,
    memory: Memory,
    drops: BTreeMap<&'static str, u64>,
    refused: BTreeMap<&'static str, u64>,
    closed: BTreeMap<&'static str, u64>,
    bounds: Vec<f64>,
    shards: Vec<Shard>,
}

/// Where memory is, in bytes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    resident: u64,
    /// What `max_memory` allows, unless that is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    parts: BTreeMap<&'static str, u64>,
}

/// What a shard has, and what it has done since the server began.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shard {
    connections: u64,
    websockets: u64,
    event_streams: u64,
    backends: u64,
    topics: u64,
    subscriptions: u64,
    backlogged: u64,
    backlog: u64,
    accepted: u64,
    received: u64,
    received_bytes: u64,
    published: u64,
    delivered: u64,
    sent_bytes: u64,
    dropped: u64,
    turns: u64,
    latency: Vec<u64>,
    turn_times: Vec<u64>,
}

/// `GET /overview`. It reads counters, and asks no shard.
pub async fn overview(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Problem> {
    let Nothing {} = query(&uri)?;
    Ok(done(&of(api.shards().shared(), api.uptime())))
}

fn of(shared: &Shared, uptime: Duration) -> Overview {
    let all = shared.all_counters();
    let bytes = |part: Part| all.iter().map(|counters| counters.memory(part)).sum();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Overview {
        version: env!("CARGO_PKG_VERSION"),
        standing: match shared.standing() {
            Standing::Serving => "serving",
            Standing::Draining => "draining",
            Standing::Stopping => "stopping",
        },
        uptime: (uptime.as_secs_f64() * 10.0).round() / 10.0,
        timestamp: now.as_millis() as u64,
        max_connections: shared.max_connections(),
        memory: Memory {
            resident: sys::resident_bytes().unwrap_or(0),
            limit: Some(shared.process().memory_limit.get()).filter(|&limit| limit > 0),
            parts: Part::ALL.into_iter().map(|part| (part.label(), bytes(part))).collect(),
        },
        drops: by_label(all, "messages_dropped"),
        refused: by_label(all, "connections_refused"),
        closed: by_label(all, "connections_closed"),
        bounds: BOUNDS.map(|nanos| nanos as f64 / 1e9).to_vec(),
        shards: all.iter().map(|counters| shard(counters)).collect(),
    }
}

/// The series of one metric, of all shards together.
fn by_label(all: &[Arc<Counters>], name: &str) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    for sample in all.iter().flat_map(|counters| counters.samples()).filter(|sample| sample.name == name) {
        if let Some((_, value)) = sample.label {
            *sums.entry(value).or_insert(0) += sample.value;
        }
    }
    sums
}

fn shard(counters: &Counters) -> Shard {
    let counts = |times: Snapshot| times.buckets().map(|(_, count)| count).collect();
    let (latency, turns) = (counters.delivery_latency.snapshot(), counters.turn_time.snapshot());
    let dropped = counters.samples().into_iter().filter(|sample| sample.name == "messages_dropped");
    Shard {
        connections: counters.connections.get(),
        websockets: counters.websockets.get(),
        event_streams: counters.event_streams.get(),
        backends: counters.backends.get(),
        topics: counters.topics.get(),
        subscriptions: counters.subscriptions.get(),
        backlogged: counters.backlogged.get(),
        backlog: counters.backlog_bytes.get(),
        accepted: counters.accepted.get(),
        received: counters.messages_in.get(),
        received_bytes: counters.bytes_in.get(),
        published: counters.published.get(),
        delivered: counters.deliveries.get(),
        sent_bytes: counters.bytes_out.get(),
        dropped: dropped.map(|sample| sample.value).sum(),
        turns: turns.count(),
        latency: counts(latency),
        turn_times: counts(turns),
    }
}

/// Answers with all their fields, by the names of their schemas.
#[cfg(test)]
pub fn samples() -> Vec<(&'static str, serde_json::Value)> {
    let overview = {
        let shared = Shared::new(1);
        shared.process().memory_limit.set(1);
        of(&shared, Duration::ZERO)
    };
    [
        ("Memory", serde_json::to_value(&overview.memory)),
        ("Shard", serde_json::to_value(&overview.shards[0])),
        ("Overview", serde_json::to_value(&overview)),
    ]
    .map(|(name, value)| (name, value.expect("JSON")))
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_summed_over_the_shards() {
        let shared = Shared::new(2);
        shared.counters(0).dropped_newest.add(3);
        shared.counters(1).dropped_newest.add(4);
        shared.counters(1).dropped_gone.add(2);
        let overview = of(&shared, Duration::from_millis(1234));
        let some: Vec<_> = overview.drops.iter().filter(|(_, count)| **count > 0).map(|(&k, &v)| (k, v)).collect();
        assert_eq!(some, [("connection_ended", 2), ("drop_newest", 7)]);
        assert_eq!([overview.shards[0].dropped, overview.shards[1].dropped], [3, 6]);
        assert_eq!((overview.uptime, overview.standing), (1.2, "serving"));
    }
}
