//! What Prometheus reads: the shards' counters and histograms, and what the process knows besides.

mod format;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::api::Api;
use crate::counters::histogram::Snapshot;
use crate::counters::{Part, Sample, Sort};
use crate::log;
use crate::ring::sys;
use crate::shard::shared::{Shared, Standing};
pub use format::Format;

/// The metrics of this moment. No shard is stopped for it.
pub fn text(api: &Arc<Api>, format: Format) -> String {
    let mut registry = Registry::with_prefix("uproar");
    registry.register_collector(Box::new(Shards(api.shards().shared().clone())));
    registry.register_collector(Box::new(Process(api.shards().shared().clone())));
    registry.register_collector(Box::new(Requests(api.clone())));
    registry.register_collector(Box::new(Configuration(api.clone())));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    match format {
        Format::OpenMetrics => text,
        Format::Text => format::older(&text),
    }
}

struct Shards(Arc<Shared>);

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shards")
    }
}

impl Collector for Shards {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let shards: Vec<Vec<Sample>> = self.0.all_counters().iter().map(|counters| counters.samples()).collect();
        let Some(first) = shards.first() else { return Ok(()) };
        let mut at = 0;
        for metric in first.chunk_by(|a, b| a.name == b.name) {
            let series = at..at + metric.len();
            at = series.end;
            let of_shards = shards.iter().map(|samples| &samples[series.clone()]);
            encode_metric(&mut encoder, of_shards)?;
        }
        self.encode_histograms(&mut encoder)?;
        self.encode_cpu(&mut encoder)
    }
}

impl Shards {
    /// The kernel is asked, which knows it also of a shard that sleeps. Of a thread that is not there, there is no series.
    fn encode_cpu(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "CPU time of the shard's thread, in user space and in the kernel";
        let mut family = encoder.encode_descriptor("cpu_seconds", help, None, MetricType::Counter)?;
        for (shard, counters) in self.0.all_counters().iter().enumerate() {
            let thread = u32::try_from(counters.thread.get()).unwrap_or(0);
            if let Ok(time) = sys::cpu_time_of(thread) {
                let labels = [("shard", shard.to_string())];
                ConstCounter::new(time.as_secs_f64()).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn encode_histograms(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let shards: Vec<_> = self.0.all_counters().iter().map(|counters| counters.histograms()).collect();
        let Some(first) = shards.first() else { return Ok(()) };
        for (i, (name, help, _)) in first.iter().enumerate() {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for (shard, histograms) in shards.iter().enumerate() {
                let labels = [("shard", shard.to_string())];
                encode_histogram(&histograms[i].2.snapshot(), family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// What is not a shard's own.
struct Process(Arc<Shared>);

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Process")
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (shared, process) = (&self.0, self.0.process());
        let mut gauge = |name, help, value: u64| {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value.cast_signed()).encode(family)
        };
        gauge("addresses", "Addresses whose connections are counted", shared.admission().totals().0 as u64)?;
        gauge("connections_limit", "Connections that are served at most", shared.max_connections())?;
        let draining = u64::from(shared.standing() == Standing::Draining);
        gauge("draining", "Whether clients are being sent away: 1 from the begin of a drain to the end", draining)?;
        let pressure = u64::from(shared.memory_pressure());
        gauge("memory_pressure", "Whether newcomers are refused for want of memory", pressure)?;
        gauge("memory_limit_bytes", "What max_memory allows; 0: there is no bound", process.memory_limit.get())?;
        let resident = sys::resident_bytes().unwrap_or(0);
        gauge("resident_memory_bytes", "Resident memory of the process", resident)?;
        let help = "When the first of the TLS certificates in use expires, in seconds since 1970; 0: there is none";
        gauge("tls_certificate_expiry_timestamp_seconds", help, process.certificate_expiry.get())?;
        let help = "When the set of keys at jwks_url was last fetched, in seconds since 1970; 0: never";
        gauge("jwks_last_success_timestamp_seconds", help, process.jwks_fetched_at.get())?;
        let help = "Circuit breaker before the application that is asked about clients: 0 closed, 1 half open, 2 open";
        gauge("auth_hook_breaker_state", help, process.hook_breaker.get())?;
        encode_memory(&mut encoder, shared, resident)?;
        let mut family = encoder.encode_descriptor("jwks_fetches", "Fetches of jwks_url", None, MetricType::Counter)?;
        for (result, count) in [("ok", &process.jwks_ok), ("failed", &process.jwks_failed)] {
            ConstCounter::new(count.get()).encode(family.encode_family(&[("result", result)])?)?;
        }
        let help = "1, with the server's version";
        let mut family = encoder.encode_descriptor("build_info", help, None, MetricType::Gauge)?;
        ConstGauge::new(1_i64).encode(family.encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?)
    }
}

/// What resident memory is for; the rest is what no shard knows of, or more than it does.
fn encode_memory(encoder: &mut DescriptorEncoder<'_>, shared: &Shared, resident: u64) -> fmt::Result {
    let of = |part| shared.all_counters().iter().map(|counters| counters.memory(part)).sum::<u64>();
    let parts = Part::ALL.map(|part| (part.label(), of(part)));
    let known: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    let help = "Memory of the process by what it is for; rest: resident memory without the other parts";
    let mut family = encoder.encode_descriptor("memory_bytes", help, None, MetricType::Gauge)?;
    for (part, bytes) in parts.into_iter().chain([("rest", resident.saturating_sub(known))]) {
        ConstGauge::new(bytes.cast_signed()).encode(family.encode_family(&[("part", part)])?)?;
    }
    Ok(())
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

struct Configuration(Arc<Api>);

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Configuration")
    }
}

impl Collector for Configuration {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let tally = self.0.reloader().tally();
        let help = "Reloads of the configuration";
        let mut family = encoder.encode_descriptor("config_reloads", help, None, MetricType::Counter)?;
        for (result, count) in [("ok", &tally.done), ("refused", &tally.refused)] {
            ConstCounter::new(count.get()).encode(family.encode_family(&[("result", result)])?)?;
        }
        let log = log::counts().unwrap_or_default();
        let help = "Lines of the log; those that were lost, because they came faster than they were read; and events that became \
                    none, as there were too many of their kind";
        let mut family = encoder.encode_descriptor("log_lines", help, None, MetricType::Counter)?;
        for (result, count) in [("written", log.lines), ("lost", log.lost), ("repeated", log.repeated)] {
            ConstCounter::new(count).encode(family.encode_family(&[("result", result)])?)?;
        }
        let help = "When the configuration in force was taken up, in seconds since 1970";
        let family = encoder.encode_descriptor("config_taken_up_timestamp_seconds", help, None, MetricType::Gauge)?;
        ConstGauge::new(tally.at.get().cast_signed()).encode(family)?;
        let help = "The configuration in force: of two servers whose hash is the same, secrets are different at most";
        let info = encoder.encode_descriptor("config", help, None, MetricType::Info)?;
        let hash = self.0.settings().fingerprint.clone();
        Info::new([("hash", hash)]).encode(info)
    }
}

/// Encodes one metric, given its series shard by shard.
fn encode_metric<'a>(encoder: &mut DescriptorEncoder<'_>, shards: impl Iterator<Item = &'a [Sample]>) -> fmt::Result {
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

fn encode_sample(sample: &Sample, encoder: MetricEncoder<'_>) -> fmt::Result {
    match sample.sort {
        Sort::Counter => ConstCounter::new(sample.value).encode(encoder),
        Sort::Gauge => ConstGauge::new(sample.value.cast_signed()).encode(encoder),
    }
}

fn encode_histogram(snapshot: &Snapshot, mut encoder: MetricEncoder<'_>) -> fmt::Result {
    let buckets: Vec<_> = snapshot.buckets().collect();
    encoder.encode_histogram::<NoLabelSet>(snapshot.sum_seconds(), snapshot.count(), &buckets, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::control::{Base, Reloader};
    use crate::shard::Aides;

    #[test]
    fn every_counter_of_every_shard_is_there() {
        let shared = Arc::new(Shared::new(2));
        shared.counters(0).deliveries.add(5);
        shared.counters(1).deliveries.add(7);
        shared.counters(1).dropped_newest.add(3);
        shared.counters(0).history_evicted.set(11);
        shared.counters(0).connections.set(2);
        shared.counters(1).thread.set(sys::thread_id().into());
        shared.counters(1).delivery_latency.record(20_000, 3);
        shared.counters(0).memory[Part::History as usize].set(5);
        shared.counters(1).memory[Part::History as usize].set(6);
        let shards = crate::shard::handle::Shards::new(shared, Vec::new());
        let base = Base { refuses_strangers: true, capacity: 1, ..Base::default() };
        let reloader = Reloader::new(Config::default(), Aides::default(), shards.clone(), base);
        let api = Arc::new(Api::new(shards, true, Arc::new(reloader)));
        api.tally().count(0, axum::http::StatusCode::NOT_FOUND);
        api.tally().refuse();
        api.tally().turn_away(crate::control::access::Caller::Here);
        let text = text(&api, Format::OpenMetrics);
        for line in [
            "uproar_deliveries_total{shard=\"0\"} 5",
            "uproar_deliveries_total{shard=\"1\"} 7",
            "uproar_messages_dropped_total{shard=\"1\",reason=\"drop_newest\"} 3",
            "uproar_connections{shard=\"0\",kind=\"http\"} 2",
            "uproar_history_evicted_total{shard=\"0\",reason=\"history_memory\"} 11",
            "uproar_connections_closed_total{shard=\"0\",reason=\"ping_timeout\"} 0",
            "# TYPE uproar_messages_dropped counter",
            "uproar_api_requests_total{route=\"/publish\",status=\"4xx\"} 1",
            "uproar_draining 0",
            "uproar_delivery_latency_seconds_bucket{le=\"0.00001\",shard=\"1\"} 0",
            "uproar_delivery_latency_seconds_bucket{le=\"0.000025\",shard=\"1\"} 3",
            "uproar_delivery_latency_seconds_count{shard=\"1\"} 3",
            "uproar_memory_bytes{part=\"history\"} 11",
            "uproar_admin_refused_total 1",
            "uproar_admin_unauthorized_total 1",
            "uproar_config_reloads_total{result=\"refused\"} 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let cpu = |shard| text.contains(&format!("\nuproar_cpu_seconds_total{{shard=\"{shard}\"}} "));
        assert!(!cpu(0) && cpu(1), "one has no thread");
        assert_eq!(text.matches("# TYPE uproar_messages_dropped counter").count(), 1);
    }
}
