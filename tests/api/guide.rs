//! The commands of `docs/HTTP_API.md` do what it says: each of its blocks is run, in order, and prints the block behind it.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use uproar::config::parse_history;

use super::common::{TestServer, config, wait_until};
use super::get;

const GUIDE: &str = include_str!("../../docs/HTTP_API.md");

/// Blocks of the guide: the language, and what is in it.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let parts = GUIDE.split("```").skip(1).step_by(2);
    parts.filter_map(|block| block.split_once('\n')).collect()
}

/// What a command prints.
fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().expect("there is a shell");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    assert!(output.status.success(), "{command}: {}", text(output.stderr));
    text(output.stdout)
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
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

/// A command that goes on beside the others; it is killed when this is dropped.
struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command, as it is run against this server.
fn here(command: &str, server: &TestServer) -> String {
    let (public, binary) = (server.addr.to_string(), env!("CARGO_BIN_EXE_uproar"));
    let command = command.trim().replace("127.0.0.1:8081", &server.admin).replace("127.0.0.1:8080", &public);
    match command.strip_prefix("uproar ") {
        Some(rest) if rest.starts_with("publish") => format!("{binary} {rest} --admin {}", server.admin),
        Some(rest) if !rest.contains("--url") => format!("{binary} {rest} --url {public}"),
        Some(rest) => format!("{binary} {rest}"),
        None => command,
    }
}

/// Compares what is printed with what the guide says; only epochs and clients may be others.
fn check(command: &str, language: &str, printed: &str, said: &str) {
    match language {
        "json" => assert_eq!(shape(&parsed(printed)), shape(&parsed(said)), "{command}"),
        _ if command.contains(" publish ") => {
            let offset = |text: &str| text.trim().split_once(' ').map(|(_, offset)| offset.to_owned());
            assert!(offset(said).is_some() && offset(printed) == offset(said), "{command}: {printed}");
        }
        _ => assert_eq!(printed, said, "{command}"),
    }
}

#[test]
fn its_commands_print_what_it_says() {
    let blocks = blocks();
    let Some((("sh", first), rest)) = blocks.split_first() else { panic!("it begins with the server") };
    let history = first.trim().strip_prefix("uproar --history \"").and_then(|history| history.strip_suffix('"'));
    let mut config = config(2);
    config.history = parse_history(history.expect("a history and nothing else")).expect("a rule");
    let server = TestServer::start(config);
    let (mut beside, mut checked) = (Vec::new(), 0);
    for (at, (_, command)) in rest.iter().enumerate().filter(|(_, (language, _))| *language == "sh") {
        let command = here(command, &server);
        match rest.get(at + 1) {
            Some((language @ ("json" | "text"), said)) => check(&command, language, &run(&command), said),
            _ => {
                let child = Command::new("sh").args(["-c", &format!("exec {command}")]).stdout(Stdio::null()).spawn();
                beside.push(Beside(child.expect("there is a shell")));
                wait_until("it is in its room", || get(&server.admin, "/rooms?prefix=game").1["total"] == 1);
            }
        }
        checked += 1;
    }
    assert_eq!((beside.len(), checked), (1, 14), "commands that go on, and all");
}
