//! What the server says of itself, and what follows from two of its answers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::words::Plain;

/// Two answers that are closer to each other say nothing about rates. In seconds.
const LEAST_SPAN: f64 = 0.25;

/// The server at a glance: `GET /overview`.
#[derive(Clone, Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    pub version: Plain,
    pub standing: Plain,
    /// Seconds.
    pub uptime: f64,
    /// Milliseconds since 1970.
    pub timestamp: u64,
    pub max_connections: u64,
    pub memory: Memory,
    /// Seconds: the upper bounds of the times that shards count.
    pub bounds: Vec<f64>,
    pub shards: Vec<Shard>,
}

/// Where memory is, in bytes.
#[derive(Clone, Deserialize, Debug)]
pub struct Memory {
    pub resident: u64,
    pub limit: Option<u64>,
    pub parts: BTreeMap<Plain, u64>,
}

/// What a shard has, and what it has done since the server began.
#[derive(Clone, Default, Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Shard {
    pub connections: u64,
    pub topics: u64,
    pub subscriptions: u64,
    pub backlogged: u64,
    pub backlog: u64,
    pub accepted: u64,
    pub received: u64,
    pub delivered: u64,
    pub sent_bytes: u64,
    pub dropped: u64,
    /// Deliveries by how long they took: within each of the bounds, and above all.
    pub latency: Vec<u64>,
    /// Turns of its loop, likewise.
    pub turn_times: Vec<u64>,
}

/// `GET /connections`.
#[derive(Clone, Deserialize, Debug)]
pub struct Connections {
    pub connections: Vec<Connection>,
}

/// A connection.
#[derive(Clone, Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    pub connection: Plain,
    pub kind: Plain,
    pub peer: Plain,
    pub client_id: Option<Plain>,
    pub user: Option<Plain>,
    pub topics: u64,
    /// Bytes.
    pub backlog: u64,
    /// Milliseconds.
    pub behind: u64,
    /// Messages a second.
    pub received_rate: Option<f64>,
    /// Messages a second.
    pub delivered_rate: Option<f64>,
}

/// `GET /topics`.
#[derive(Clone, Deserialize, Debug)]
pub struct Topics {
    pub topics: Vec<Topic>,
}

/// A topic.
#[derive(Clone, Deserialize, Debug)]
pub struct Topic {
    pub topic: Plain,
    pub subscribers: u64,
    /// Messages a second.
    pub rate: Option<f64>,
}

/// All that is shown at a time.
#[derive(Clone, Debug)]
pub struct Look {
    pub overview: Overview,
    pub topics: Vec<Topic>,
    pub connections: Vec<Connection>,
}

/// What a shard does, each so many times a second; and how long that took.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Rates {
    pub accepted: f64,
    pub received: f64,
    pub delivered: f64,
    pub sent_bytes: f64,
    pub dropped: f64,
    /// Deliveries between the two looks, by how long they took.
    pub latency: Vec<u64>,
    /// Turns, likewise.
    pub turn_times: Vec<u64>,
}

impl Rates {
    /// Of all of them together.
    pub fn sum(all: &[Rates]) -> Rates {
        let sum = |of: fn(&Rates) -> f64| all.iter().map(of).sum();
        Rates {
            accepted: sum(|rates| rates.accepted),
            received: sum(|rates| rates.received),
            delivered: sum(|rates| rates.delivered),
            sent_bytes: sum(|rates| rates.sent_bytes),
            dropped: sum(|rates| rates.dropped),
            latency: all.iter().fold(Vec::new(), |sum, rates| add(sum, &rates.latency)),
            turn_times: all.iter().fold(Vec::new(), |sum, rates| add(sum, &rates.turn_times)),
        }
    }
}

impl Overview {
    /// What each shard has done a second since another look; `None` if that was of another process, or too short ago.
    pub fn rates_since(&self, before: &Overview) -> Option<Vec<Rates>> {
        let span = self.timestamp.checked_sub(before.timestamp)? as f64 / 1000.0;
        let is_same = self.uptime >= before.uptime && self.shards.len() == before.shards.len();
        (is_same && span >= LEAST_SPAN).then(|| {
            let pairs = self.shards.iter().zip(&before.shards);
            pairs.map(|(now, then)| rates(now, then, span)).collect()
        })
    }

    /// The sum over all shards.
    pub fn sum(&self, of: fn(&Shard) -> u64) -> u64 {
        self.shards.iter().map(of).sum()
    }
}

fn rates(now: &Shard, then: &Shard, span: f64) -> Rates {
    let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / span;
    Rates {
        accepted: rate(now.accepted, then.accepted),
        received: rate(now.received, then.received),
        delivered: rate(now.delivered, then.delivered),
        sent_bytes: rate(now.sent_bytes, then.sent_bytes),
        dropped: rate(now.dropped, then.dropped),
        latency: take(&now.latency, &then.latency),
        turn_times: take(&now.turn_times, &then.turn_times),
    }
}

fn take(now: &[u64], then: &[u64]) -> Vec<u64> {
    now.iter().zip(then).map(|(now, then)| now.saturating_sub(*then)).collect()
}

fn add(mut sum: Vec<u64>, more: &[u64]) -> Vec<u64> {
    sum.resize(sum.len().max(more.len()), 0);
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
    sum
}

/// The time that a share of what was counted is within. In a bucket, times are taken to be spread evenly; above all bounds, it is the
/// last one.
pub fn quantile(bounds: &[f64], counts: &[u64], share: f64) -> Option<Duration> {
    let rank = share * counts.iter().map(|&count| count as f64).sum::<f64>();
    let (mut below, mut lower) = (0.0, 0.0);
    for (&count, &upper) in counts.iter().zip(bounds) {
        let within = count as f64;
        if within > 0.0 && below + within >= rank {
            let seconds = lower + (upper - lower) * ((rank - below) / within).clamp(0.0, 1.0);
            return Duration::try_from_secs_f64(seconds).ok();
        }
        (below, lower) = (below + within, upper);
    }
    (rank > 0.0).then(|| Duration::try_from_secs_f64(lower).ok())?
}

#[cfg(test)]
mod tests {
    use super::super::samples::overview;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// By another way: of times that are spread evenly over their buckets, that one at the rank.
        #[test]
        fn a_quantile_is_in_the_bucket_of_its_rank(counts in prop::collection::vec(0..20u64, 5), share in 0.01..1.0f64) {
            let bounds = [0.1, 0.2, 0.5, 1.0];
            let all: Vec<usize> = (0..5).flat_map(|at| vec![at; counts[at] as usize]).collect();
            let rank = (share * all.len() as f64).ceil() as usize;
            let found = quantile(&bounds, &counts, share).map(|time| time.as_secs_f64());
            let expected = rank.checked_sub(1).and_then(|rank| all.get(rank));
            prop_assert_eq!(found.is_some(), expected.is_some());
            if let (Some(found), Some(&bucket)) = (found, expected) {
                let lower = if bucket == 0 { 0.0 } else { bounds[bucket - 1] };
                let upper = bounds.get(bucket).copied().unwrap_or(lower);
                prop_assert!((lower - 1e-6..=upper + 1e-6).contains(&found), "{} in {}..{}", found, lower, upper);
            }
        }
    }

    #[test]
    fn rates_are_differences_by_the_servers_own_clock() {
        let (before, mut after) = (overview(2, 10.0), overview(2, 12.0));
        after.shards[1].delivered += 3000;
        after.shards[0].dropped += 1;
        after.shards[0].latency[1] += 98;
        after.shards[1].latency[2] += 2;
        let rates = after.rates_since(&before).expect("two seconds");
        assert_eq!((rates[1].delivered, rates[0].dropped), (1500.0, 0.5));
        let sum = Rates::sum(&rates);
        assert_eq!((sum.delivered, sum.dropped, sum.received), (1500.0, 0.5, 0.0));
        assert_eq!(quantile(&after.bounds, &sum.latency, 0.5).map(|time| time.as_micros()), Some(559));
        assert_eq!(quantile(&after.bounds, &sum.latency, 0.99).map(|time| time.as_micros()), Some(5500));
        assert_eq!(quantile(&after.bounds, &sum.turn_times, 0.99), None);
        assert_eq!(overview(2, 10.1).rates_since(&before), None, "too short ago");
        assert_eq!(overview(3, 12.0).rates_since(&before), None, "another configuration");
        let mut restarted = overview(2, 12.0);
        restarted.uptime = 1.0;
        assert_eq!(restarted.rates_since(&before), None, "another process");
        assert_eq!(before.rates_since(&after), None, "the clock was set back");
    }
}
