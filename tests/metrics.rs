//! What `/metrics` tells: in which form, how it is documented, and that the dashboard and the rules ask for what there is.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use regex::Regex;
use serde_json::Value;
use uproar::Config;
use uproar::config::Limit;

use common::client::Client;
use common::{TestServer, config, scrape_as, wait_until};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A family of series: its type, and its labels without a histogram's own.
#[derive(PartialEq, Eq, Debug)]
struct Family {
    kind: String,
    labels: BTreeSet<String>,
}

type Families = BTreeMap<String, Family>;

/// The usual configuration, changed.
fn with(shards: u32, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = config(shards);
    change(&mut config);
    config
}

fn text(server: &TestServer) -> String {
    let scrape = || scrape_as(&server.admin, "*/*");
    // A shard's thread says which it is when it has begun.
    wait_until("the shards run", || scrape().contains("\nuproar_cpu_seconds_total{"));
    scrape()
}

fn families(text: &str) -> Families {
    let label = Regex::new(r#"([a-z_]+)="[^"]*""#).unwrap();
    let mut found = Families::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            found.insert(name.into(), Family { kind: kind.into(), labels: BTreeSet::new() });
        } else if line.starts_with("uproar_") {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let family = family_of(&mut found, name).unwrap_or_else(|| panic!("{line} is of no family"));
            let labels = label.captures_iter(line).map(|found| found[1].to_owned());
            family.labels.extend(labels.filter(|label| label != "le"));
        }
    }
    assert!(found.len() > 50, "{text}");
    found
}

/// The family that a series belongs to.
fn family_of<'a>(families: &'a mut Families, name: &str) -> Option<&'a mut Family> {
    let stem = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    let stem = stem.filter(|stem| families.get(*stem).is_some_and(|family| family.kind == "histogram"));
    families.get_mut(stem.unwrap_or(name))
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("readable")
}

/// Every metric that an expression names is there, and so are the labels that it selects by.
fn check_expression(families: &mut Families, expression: &str) {
    let selector = Regex::new(r#"(?-u:\b)(uproar_[a-z0-9_]+)(?:\{([^}]*)\})?"#).unwrap();
    let matcher = Regex::new(r#"([a-z_]+)(?:=|!=|=~|!~)""#).unwrap();
    for found in selector.captures_iter(expression) {
        let family = family_of(families, &found[1]).unwrap_or_else(|| panic!("no {} in: {expression}", &found[1]));
        for label in matcher.captures_iter(found.get(2).map_or("", |matchers| matchers.as_str())) {
            let is_there = ["instance", "job", "le"].contains(&&label[1]) || family.labels.contains(&label[1]);
            assert!(is_there, "{} has no label {}: {expression}", &found[1], &label[1]);
        }
    }
}

#[test]
fn the_form_is_the_one_that_is_asked_for() {
    let server = TestServer::start(config(1));
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    for (accept, media_type, end) in [("*/*", TEXT, "\n"), (prometheus, OPEN_METRICS, "# EOF\n")] {
        let response = scrape_as(&server.admin, accept);
        assert!(response.to_ascii_lowercase().contains(&format!("\r\ncontent-type: {media_type}\r\n")), "{response}");
        assert!(response.to_ascii_lowercase().contains("\r\nvary: accept\r\n"), "{response}");
        assert_eq!((response.ends_with(end), response.contains("# EOF")), (true, media_type == OPEN_METRICS));
    }
}

#[test]
fn every_metric_is_documented_as_it_is() {
    let row = Regex::new(r"^\| `(uproar_[a-z0-9_]+)` \| (\w+) \| ([^|]*) \| [^|]+ \|$").unwrap();
    let document = read("docs/OPERATIONS.md");
    let rows: Vec<_> = document.lines().filter_map(|line| row.captures(line)).collect();
    let documented: Families = rows
        .iter()
        .map(|row| {
            let labels = row[3].split('`').skip(1).step_by(2).map(str::to_owned).collect();
            (row[1].to_owned(), Family { kind: row[2].to_owned(), labels })
        })
        .collect();
    assert_eq!(documented.len(), rows.len(), "a metric is there twice");
    let server = TestServer::start(config(2));
    // A shard's thread is known once it runs.
    wait_until("both shards run", || text(&server).matches("uproar_cpu_seconds_total{").count() == 2);
    let told = families(&text(&server));
    for (name, family) in &told {
        assert_eq!(documented.get(name), Some(family), "{name} in docs/OPERATIONS.md");
    }
    let gone: Vec<_> = documented.keys().filter(|name| !told.contains_key(*name)).collect();
    assert!(gone.is_empty(), "documented, and not there: {gone:?}");
}

#[test]
fn names_are_by_the_rules() {
    for (name, family) in families(&text(&TestServer::start(config(1)))) {
        assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name}");
        let units = ["_ms", "_millis", "_micros", "_nanos", "_kib", "_mib", "_percent"];
        assert!(!units.iter().any(|unit| name.contains(unit)), "{name} is in no base unit");
        assert!(family.kind != "histogram" || name.ends_with("_seconds"), "{name}");
        let few = ["shard", "reason", "result", "kind", "part", "route", "status", "version", "hash"];
        assert!(family.labels.iter().all(|label| few.contains(&&**label)), "{name} has {:?}", family.labels);
    }
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let mut families = families(&text(&TestServer::start(config(1))));
    let dashboard: Value = serde_json::from_str(&read("tuning/grafana/uproar.json")).expect("JSON");
    let variables: Vec<_> = dashboard["templating"]["list"].as_array().unwrap().iter().map(|v| &v["name"]).collect();
    assert_eq!(variables, ["datasource", "instance"]);
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "ids are their own");
    let (rows, panels): (Vec<_>, Vec<_>) = panels.iter().partition(|panel| panel["type"] == "row");
    assert!(rows.len() >= 6 && panels.len() >= 20, "{} rows, {} panels", rows.len(), panels.len());
    for panel in panels {
        let title = panel["title"].as_str().unwrap_or_default();
        assert!(!title.is_empty(), "{panel}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].as_str().is_some_and(|unit| !unit.is_empty()), "{title}");
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expression = target["expr"].as_str().expect("an expression");
            assert!(expression.contains(r#"instance=~"$instance""#), "{title}: {expression}");
            check_expression(&mut families, expression);
        }
    }
}

#[test]
fn the_rules_ask_for_what_there_is_and_each_is_tested() {
    let mut families = families(&text(&TestServer::start(config(1))));
    let (rules, tests) = (read("tuning/prometheus/alerts.yml"), read("tuning/prometheus/alerts.test.yml"));
    // Comments and words for people may name anything else.
    let code =
        |text: &str| text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    check_expression(&mut families, &code(&rules));
    let series = Regex::new("series: '([^']+)'").unwrap();
    series.captures_iter(&tests).for_each(|found| check_expression(&mut families, &found[1]));
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 12, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(&format!("alertname=\"{alert}\", alertstate=\"firing\"")), "{alert} is not tested");
    }
}

#[test]
fn deliveries_are_timed_on_every_shard_from_where_they_came() {
    const SUBSCRIBERS: u64 = 20;
    for shards in [1, 3] {
        let server = TestServer::start(config(shards));
        let mut subscribers: Vec<Client> = (0..SUBSCRIBERS).map(|_| server.ws("/raw/timed")).collect();
        wait_until("they are subscribed", || server.metric("subscriptions") == SUBSCRIBERS);
        subscribers[0].text("from a client");
        subscribers.iter_mut().for_each(|client| client.expect_text("from a client"));
        server.publisher().publish("timed", "from a thread").expect("there is room");
        subscribers.iter_mut().for_each(|client| client.expect_text("from a thread"));
        let count = || server.metric("delivery_latency_seconds_count");
        wait_until("each was timed", || count() == 2 * SUBSCRIBERS);
        let within = |bound: &str| server.metric(&format!("delivery_latency_seconds_bucket le=\"{bound}\""));
        assert_eq!((within("+Inf"), within("5.0")), (2 * SUBSCRIBERS, 2 * SUBSCRIBERS), "nothing takes so long");
        assert!(server.metric("turn_seconds_count") > 0 && server.metric("ring_enters_total") > 0);
        assert!(server.metric("ring_submissions_total") >= server.metric("sends_total"));
    }
}

#[test]
fn what_a_reader_does_not_take_is_backlog() {
    let server = TestServer::start(with(1, |config| (config.backlog, config.send_buffer) = (1 << 20, Some(8192))));
    let stalled = server.ws("/raw/much");
    wait_until("it is subscribed", || server.metric("subscriptions") == 1);
    wait_until("the socket is full, and more is queued", || {
        let _ = server.publisher().publish("much", &"x".repeat(60_000));
        server.metric("backlogged_connections") == 1 && server.metric("backlog_bytes") > 100_000
    });
    let (backlog, frames) = (server.metric("backlog_bytes"), server.metric("memory_bytes part=\"frames\""));
    assert!(backlog < 3 << 20 && frames >= backlog, "{backlog} of {frames}");
    drop(stalled);
    server.wait_idle();
    drop(server.ws("/raw/else"));
    wait_until("nothing is left", || server.metric("backlog_bytes") == 0);
}

#[test]
fn the_parts_of_memory_are_no_more_than_it_is() {
    let server = TestServer::start(with(2, |config| config.max_memory = Limit::At(1 << 40)));
    let clients: Vec<Client> = (0..50).map(|i| server.ws(&format!("/raw/topic-{i}"))).collect();
    wait_until("they are there", || server.metric("connections kind=\"websocket\"") == 50);
    let part = |name: &str| server.metric(&format!("memory_bytes part=\"{name}\""));
    assert!(part("connections") >= 50 * 64 && part("topics") > 50 * 8 && part("read_buffers") == 4 << 20);
    let text = text(&server);
    let gauge = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).expect("the gauge");
        line.parse::<u64>().expect("a whole number")
    };
    assert_eq!(gauge("uproar_memory_limit_bytes"), 1 << 40);
    let parts = text.lines().filter(|line| line.starts_with("uproar_memory_bytes{"));
    let sum: u64 = parts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(sum, gauge("uproar_resident_memory_bytes"), "the rest makes up for what no shard knows of");
    drop(clients);
}

#[test]
fn who_comes_back_is_counted_by_what_there_is_for_him() {
    let server = TestServer::start(with(1, |config| config.ping_interval = Some(Duration::from_secs(60))));
    for (query, result) in [("", "new"), ("?clientId=0123456789abcdef&token=wrong", "unproven")] {
        let _client = server.ws(&format!("/ws{query}"));
        let series = format!("client_sessions_total result=\"{result}\"");
        wait_until("it is counted", || server.metric(&series) == 1);
    }
    assert_eq!(server.metric("client_sessions_total result=\"resumed\""), 0);
}
