//! The commands of `docs/HTTP_API.md` do what it says: each `curl` of a block is run, and answered with the block behind it.

use std::process::Command;

use serde_json::{Value, json};
use uproar::config::parse_history;

use super::common::{Client, TestServer, config};

const GUIDE: &str = include_str!("../../docs/HTTP_API.md");

/// Blocks of the guide: the language, and what is in it.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let parts = GUIDE.split("```").skip(1).step_by(2);
    parts.filter_map(|block| block.split_once('\n')).collect()
}

/// What a command prints, as JSON.
fn run(command: &str) -> Value {
    let output = Command::new("sh").args(["-c", command]).output().expect("there is a shell");
    let said = String::from_utf8_lossy(&[output.stdout.clone(), output.stderr].concat()).into_owned();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{command}: {said}"))
}

/// The same with every opaque string and number of the server's own replaced.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let of = |(key, value): (&String, &Value)| match key.as_str() {
                "epoch" | "members" => (key.clone(), json!("…")),
                _ => (key.clone(), shape(value)),
            };
            object.iter().map(of).collect()
        }
        Value::Array(list) => list.iter().map(shape).collect(),
        other => other.clone(),
    }
}

#[test]
fn its_commands_are_answered_as_it_says() {
    let mut config = config(2);
    config.history = parse_history("prices.* count=10 age=1h bytes=1MiB").expect("a rule");
    let server = TestServer::start(config);
    let _member = Client::json(server.addr, "game");
    let blocks = blocks();
    let mut checked = 0;
    for pair in blocks.windows(2) {
        let [("sh", command), ("json", answer)] = pair else { continue };
        if !command.starts_with("curl ") {
            continue;
        }
        let command = command.replace("127.0.0.1:8081", &server.admin);
        let answer = serde_json::from_str(answer).unwrap_or_else(|error| panic!("{answer}: {error}"));
        assert_eq!(shape(&run(&command)), shape(&answer), "{command}");
        checked += 1;
    }
    assert!(checked >= 8, "only {checked}");
}
