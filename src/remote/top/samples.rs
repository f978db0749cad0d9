//! Answers of a server, for tests.

use serde_json::json;

use super::facts::{Connections, Look, Overview, Topics};

/// Of a server with so many shards, so many seconds after 1970.
pub fn overview(shards: usize, seconds: f64) -> Overview {
    let shard = json!({
        "connections": 6173, "topics": 160, "subscriptions": 6200, "backlogged": 1, "backlog": 1_572_864, "accepted": 7000,
        "received": 1000, "delivered": 500_000, "sentBytes": 50_000_000, "dropped": 0,
        "latency": [7, 0, 0, 0], "turnTimes": [9000, 0, 0, 0]
    });
    let overview = json!({
        "version": "0.1.0", "standing": "serving", "uptime": seconds, "timestamp": (seconds * 1000.0) as u64,
        "maxConnections": 20_416,
        "memory": {"resident": 361_758_720_u64, "limit": 1_u64 << 30, "parts": {"history": 12_582_912, "frames": 3_145_728, "tls": 0, "pool": 4096, "topics": 5000}},
        "bounds": [0.0001, 0.001, 0.01],
        "shards": vec![shard; shards]
    });
    serde_json::from_value(overview).expect("an overview")
}

/// The whole of what is shown, with names that would clear a terminal's screen.
pub fn look(shards: usize, seconds: f64) -> Look {
    let topics = json!({"topics": [
        {"topic": "prices.EURUSD", "subscribers": 6100, "rate": 98.7},
        {"topic": "evil\u{1b}[2J", "subscribers": 3}
    ]});
    let connections = json!({"connections": [
        {"connection": "0x7000100003", "kind": "raw", "peer": "192.0.2.7", "topics": 1, "backlog": 1_048_576,
         "behind": 4200, "receivedRate": 0.0, "deliveredRate": 98.7},
        {"connection": "0x3", "kind": "json", "peer": "2001:db8:1:2::/64", "clientId": "c81e728d9d4c2f63", "user": "ann\u{7}",
         "topics": 2, "backlog": 0, "behind": 0}
    ]});
    let topics: Topics = serde_json::from_value(topics).expect("topics");
    let connections: Connections = serde_json::from_value(connections).expect("connections");
    Look { overview: overview(shards, seconds), topics: topics.topics, connections: connections.connections }
}
