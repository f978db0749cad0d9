//! Counters as text that Prometheus reads (OpenMetrics 1.0).

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::api::Api;
use crate::counters::{Sample, Sort};
use crate::ring::sys;
use crate::shard::shared::{Shared, Standing};

/// The text's media type.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of this moment. No shard is stopped for it.
pub fn text(api: &Arc<Api>) -> String {
    let mut registry = Registry::with_prefix("uproar");
    registry.register_collector(Box::new(Shards(api.shards().shared().clone())));
    registry.register_collector(Box::new(Requests(api.clone())));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

struct Shards(Arc<Shared>);

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shards")
    }
}

impl Collector for Shards {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let shards: Vec<Vec<Sample<'_>>> = self.0.all_counters().iter().map(|counters| counters.samples()).collect();
        let Some(first) = shards.first() else { return Ok(()) };
        let mut at = 0;
        for metric in first.chunk_by(|a, b| a.name == b.name) {
            let series = at..at + metric.len();
            at = series.end;
            let of_shards = shards.iter().map(|samples| &samples[series.clone()]);
            encode_metric(&mut encoder, of_shards)?;
        }
        let help = "Addresses whose connections are counted";
        let family = encoder.encode_descriptor("addresses", help, None, MetricType::Gauge)?;
        ConstGauge::new(self.0.admission().totals().0 as i64).encode(family)?;
        let draining = i64::from(self.0.standing() == Standing::Draining);
        let help = "Whether clients are being sent away: 1 from the begin of a drain to the end";
        let family = encoder.encode_descriptor("draining", help, None, MetricType::Gauge)?;
        ConstGauge::new(draining).encode(family)?;
        let resident = sys::resident_bytes().unwrap_or(0);
        let family = encoder.encode_descriptor("resident_memory_bytes", "Resident memory", None, MetricType::Gauge)?;
        ConstGauge::new(resident.cast_signed()).encode(family)
    }
}

struct Requests(Arc<Api>);

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Requests")
    }
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests of the HTTP API on the admin listener";
        let mut family = encoder.encode_descriptor("api_requests", help, None, MetricType::Counter)?;
        for (route, status, count) in self.0.tally().samples() {
            let labels = [("route", route), ("status", status)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Connections to the admin listener that were closed at once, as there were too many";
        let refused = encoder.encode_descriptor("admin_refused", help, None, MetricType::Counter)?;
        ConstCounter::new(self.0.tally().refused()).encode(refused)?;
        let help = "Requests to the admin listener that were refused for their key, or for want of one";
        let turned_away = encoder.encode_descriptor("admin_unauthorized", help, None, MetricType::Counter)?;
        ConstCounter::new(self.0.tally().turned_away()).encode(turned_away)
    }
}

/// Encodes one metric, given its series shard by shard.
fn encode_metric<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    shards: impl Iterator<Item = &'a [Sample<'a>]>,
) -> fmt::Result {
    let mut shards = shards.enumerate().peekable();
    let Some((_, [first, ..])) = shards.peek() else { return Ok(()) };
    let sort = match first.sort {
        Sort::Counter => MetricType::Counter,
        Sort::Gauge => MetricType::Gauge,
    };
    let mut family = encoder.encode_descriptor(first.name, first.help, None, sort)?;
    for (shard, samples) in shards {
        for sample in samples {
            let mut labels = vec![("shard", shard.to_string())];
            labels.extend(sample.label.map(|(name, value)| (name, value.to_owned())));
            encode_sample(sample, family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn encode_sample(sample: &Sample<'_>, encoder: MetricEncoder<'_>) -> fmt::Result {
    match sample.sort {
        Sort::Counter => ConstCounter::new(sample.cell.get()).encode(encoder),
        Sort::Gauge => ConstGauge::new(sample.cell.get().cast_signed()).encode(encoder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::control::Drain;
    use crate::control::access::Access;

    #[test]
    fn every_counter_of_every_shard_is_there() {
        let shared = Arc::new(Shared::new(2));
        shared.counters(0).deliveries.add(5);
        shared.counters(1).deliveries.add(7);
        shared.counters(1).dropped_newest.add(3);
        shared.counters(0).history_evicted.set(11);
        shared.counters(0).connections.set(2);
        let shards = crate::shard::handle::Shards::new(shared, Vec::new());
        let api = Arc::new(Api::new(shards, 1 << 20, true, Access::default(), Drain::from(&Config::default())));
        api.tally().count(0, axum::http::StatusCode::NOT_FOUND);
        api.tally().refuse();
        api.tally().turn_away();
        let text = text(&api);
        for line in [
            "uproar_deliveries_total{shard=\"0\"} 5",
            "uproar_deliveries_total{shard=\"1\"} 7",
            "uproar_dropped_total{shard=\"1\",reason=\"drop_newest\"} 3",
            "uproar_connections{shard=\"0\"} 2",
            "uproar_history_evicted_total{shard=\"0\"} 11",
            "uproar_connections_closed_total{shard=\"0\",reason=\"ping_timeout\"} 0",
            "# TYPE uproar_dropped counter",
            "uproar_api_requests_total{route=\"/publish\",status=\"4xx\"} 1",
            "uproar_draining 0",
            "uproar_admin_refused_total 1",
            "uproar_admin_unauthorized_total 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("# TYPE uproar_dropped counter").count(), 1);
    }
}
