//! Every example of `openapi.json` is sent to a server, and answered as it says.

use std::time::Duration;

use serde_json::{Map, Value, json};
use uproar::config::parse_history;

use super::common::{Client, SHARDS, TestServer, config};
use super::{get, post, posted};

/// The client that the examples speak of, and the epoch.
const CLIENT: &str = "c81e728d9d4c2f63";
const EPOCH: &str = "9f86d081";

/// One example: what is asked, and what is answered with which status.
struct Example {
    name: String,
    method: String,
    /// Path and query.
    target: String,
    body: Option<Value>,
    status: u16,
    answer: Value,
}

/// An example of an operation's answers.
struct Answered {
    name: String,
    status: u16,
    answer: Value,
    /// What is answered so, where that is no example of a request: `Of the body …` or `Of the query …`.
    summary: Option<String>,
}

/// The examples of an operation's answers.
fn answers(operation: &Value) -> Vec<Answered> {
    let mut found = Vec::new();
    for (status, response) in operation["responses"].as_object().expect("answers") {
        let examples = response.pointer("/content/application~1json/examples").and_then(Value::as_object);
        for (name, example) in examples.into_iter().flatten() {
            let summary = example["summary"].as_str().map(str::to_owned);
            let (status, answer) = (status.parse().expect("a status"), example["value"].clone());
            found.push(Answered { name: name.clone(), status, answer, summary });
        }
    }
    found
}

fn named<'a>(examples: &'a Value, name: &str) -> Option<&'a Value> {
    examples.get(name).map(|example| &example["value"])
}

fn query(operation: &Value, name: &str) -> String {
    let pairs = operation["parameters"].as_array().into_iter().flatten().filter_map(|parameter| {
        let value = named(&parameter["examples"], name)?;
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(format!("{}={value}", parameter["name"].as_str().expect("a name")))
    });
    pairs.collect::<Vec<_>>().join("&")
}

fn examples(path: &str, method: &str, operation: &Value) -> Vec<Example> {
    let bodies = operation.pointer("/requestBody/content/application~1json/examples");
    let mut answers = answers(operation);
    // In the order in which they are written down, as far as there is one to the bodies.
    let order: Vec<&String> = bodies.and_then(Value::as_object).into_iter().flat_map(Map::keys).collect();
    answers.sort_by_key(|answered| order.iter().position(|other| **other == answered.name).unwrap_or(usize::MAX));
    let example = |Answered { name, status, answer, summary }: Answered| {
        assert!(status != 400 || summary.is_some(), "{path}: {name} is no valid request, but an example of one");
        let said = |what: &str| summary.as_deref().and_then(|summary| summary.strip_prefix(what)).map(str::trim);
        let body = bodies.map(|bodies| match said("Of the body ") {
            Some(body) => serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {name}: {error}")),
            None => named(bodies, &name).unwrap_or_else(|| panic!("{path}: no body {name}")).clone(),
        });
        let query = said("Of the query").map_or_else(|| query(operation, &name), str::to_owned);
        let target = format!("{path}?{query}").trim_end_matches('?').to_owned();
        Example { name, method: method.to_owned(), target, body, status, answer }
    };
    let examples: Vec<_> = answers.into_iter().map(example).collect();
    assert!(order.len() <= examples.len(), "{path}: an example without an answer");
    examples
}

/// A server as the examples have it: one client in room `game`, five messages in `prices.AAPL` of which three are kept.
fn prepared(shards: u32, path: &str) -> (TestServer, Client, String) {
    let mut config = config(shards);
    config.history = parse_history("prices.* count=3 age=1h bytes=1MiB").expect("a rule");
    let server = TestServer::start(config);
    let mut client = server.ws("/?room=game");
    let welcome: Value = serde_json::from_str(client.frame().expect("a welcome").text()).expect("JSON");
    let id = welcome["clientId"].as_str().expect("an id").to_owned();
    if path == "/history" {
        for data in [json!({"bid": 189.1}), json!({"bid": 189.2}), json!({"bid": 189.3})] {
            posted(&server.admin, "/publish", &json!({"topic": "prices.AAPL", "data": data}).to_string());
        }
        posted(&server.admin, "/publish", r#"{"topic":"prices.AAPL","data":"AAECAw==","encoding":"base64"}"#);
        posted(&server.admin, "/publish", r#"{"topic":"prices.AAPL","data":"no JSON at all","encoding":"text"}"#);
    }
    (server, client, id)
}

/// An answer with the epochs of the examples.
fn with_their_epoch(mut value: Value) -> Value {
    match &mut value {
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                *value = if key == "epoch" { json!(EPOCH) } else { with_their_epoch(value.take()) };
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| *value = with_their_epoch(value.take())),
        _ => {}
    }
    value
}

/// An answer without what is another one at every look: numbers of the moment, and rates, which a first answer has not.
fn without_the_moment(path: &str, value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let lasting = object.into_iter().filter(|(key, _)| !key.ends_with("rate") && !key.ends_with("Rate"));
            let of = |(key, value): (String, Value)| match (path, key.as_str()) {
                ("/connections", "connection" | "since" | "shard") => (key, json!("…")),
                (_, "shards") => (key, without_the_moment(path, value[0].clone())),
                _ => (key, without_the_moment(path, value)),
            };
            lasting.map(of).collect()
        }
        Value::Array(list) => list.into_iter().map(|value| without_the_moment(path, value)).collect(),
        Value::Number(_) if path == "/overview" => json!(0),
        other => other,
    }
}

fn check(server: &TestServer, client: &str, epoch: &str, example: &Example) {
    let theirs = |text: &str| text.replace(CLIENT, client).replace(EPOCH, epoch);
    let (status, answer) = match &example.body {
        Some(body) => post(&server.admin, &example.target, &theirs(&body.to_string())),
        None => get(&server.admin, &theirs(&example.target)),
    };
    let answer = with_their_epoch(serde_json::from_str(&answer.to_string().replace(client, CLIENT)).expect("JSON"));
    let of = format!("{} {}, {}", example.method, example.target, example.name);
    let path = example.target.split('?').next().expect("a path");
    let [answer, said] = [answer, example.answer.clone()].map(|answer| without_the_moment(path, answer));
    assert_eq!((status, answer), (example.status, said), "{of}");
}

#[test]
fn every_example_is_true() {
    let server = TestServer::start(config(1));
    let (_, document) = get(&server.admin, "/openapi.json");
    let mut checked = 0;
    for shards in SHARDS {
        for (path, operations) in document["paths"].as_object().expect("paths") {
            for (method, operation) in operations.as_object().expect("operations") {
                let examples = examples(path, method, operation);
                assert!(examples.len() >= 2 || path == "/openapi.json" || path == "/batch", "{path} has few examples");
                let (server, _client, id) = prepared(shards, path);
                std::thread::sleep(Duration::from_millis(20));
                let (_, history) = get(&server.admin, "/history?topic=prices.AAPL");
                let epoch = history["epoch"].as_str().expect("an epoch").to_owned();
                examples.iter().for_each(|example| check(&server, &id, &epoch, example));
                checked += examples.len();
            }
        }
    }
    assert!(checked > 50, "only {checked}");
}

#[test]
fn it_is_an_openapi_document_whose_references_lead_somewhere() {
    let server = TestServer::start(config(1));
    let (_, document) = get(&server.admin, "/openapi.json");
    assert_eq!(document["openapi"], "3.1.0");
    let text = document.to_string();
    let references: Vec<_> = text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(references.len() > 20);
    for reference in references {
        assert!(document.pointer(reference).is_some_and(Value::is_object), "{reference}");
    }
}
