//! Conversations in the `json` protocol, as data: `tests/transcripts/*.txt` against a running server, with one shard and
//! with three.
//!
//! | line | means |
//! |---|---|
//! | `# …` | a comment |
//! | `== NAME` | a conversation begins: new clients |
//! | `a + /path?query` | client `a` connects |
//! | `a > TEXT` | `a` sends the text |
//! | `a < JSON` | `a` receives that: members in any order, none missing, none more |
//! | `a >long N` | `a` sends a text of so many bytes |
//! | `a <= TEXT` | `a` receives exactly this text |
//! | `a >bin HEX`, `a <bin HEX` | the same for binary messages |
//! | `a ~` | `a` has nothing to receive |
//! | `a -` | `a` leaves, with code 1000 |
//! | `a ! CODE` | `a` is closed with that code |
//! | `| …` | the rest of a long line |
//!
//! In what is received, `"$x"` is any string the first time, which `$x` stands for from there on, also in what is sent, and
//! `"*"` is anything.

#[path = "../common/mod.rs"]
mod common;

use std::collections::HashMap;
use std::time::Duration;

use common::client::{BINARY, CLOSE, Client, PING, PONG, TEXT, close_payload, frame};
use common::{SHARDS, TestServer, config};
use serde_json::Value;
use uproar::Config;
use uproar::config::{Patterns, Secret};

/// What `a + /backend?key=correct-horse-battery` proves itself by.
const BACKEND_KEY: &str = "correct-horse-battery";

/// How long other shards are given to bring what a client is not to receive.
const SILENCE: Duration = Duration::from_millis(60);

#[test]
fn rooms() {
    run_all("rooms.txt", include_str!("rooms.txt"));
}

#[test]
fn topics() {
    run_all("topics.txt", include_str!("topics.txt"));
}

#[test]
fn recovery() {
    run_all("recovery.txt", include_str!("recovery.txt"));
}

#[test]
fn acknowledgements() {
    run_all("acks.txt", include_str!("acks.txt"));
}

#[test]
fn backends() {
    run_all("backend.txt", include_str!("backend.txt"));
}

#[test]
fn guarded_topics() {
    run_with("guarded.txt", include_str!("guarded.txt"), |config| {
        config.client_publish = Patterns(vec!["open.*".into()]);
        config.relay = vec!["playerMove".into()];
    });
}

#[test]
fn chat_for_a_backend() {
    run_with("chat.txt", include_str!("chat.txt"), |config| config.handover = vec!["chat".into()]);
}

fn run_all(file: &str, text: &str) {
    run_with(file, text, |_| {});
}

fn run_with(file: &str, text: &str, change: impl Fn(&mut Config)) {
    let text = text.replace("\n|", " ");
    let conversations: Vec<&str> = text.split("\n== ").skip(1).collect();
    assert!(!conversations.is_empty());
    for shards in SHARDS {
        for conversation in &conversations {
            let (name, lines) = conversation.split_once('\n').expect("a conversation has lines");
            let mut config = config(shards);
            let rules = "kept.* count=3 last_value; deep.* count=100; newest.* count=1 last_value";
            config.history = uproar::config::parse_history(rules).expect("rules");
            config.relay = vec!["chat".into(), "playerMove".into()];
            config.backend_key = vec![Secret::new(BACKEND_KEY)];
            config.presence_limit = 3;
            config.max_errors = 5;
            change(&mut config);
            let server = TestServer::start(config);
            let mut stage = Stage { server: &server, clients: HashMap::new(), names: HashMap::new() };
            for line in lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
                let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.play(line)));
                if let Err(panic) = told {
                    eprintln!("{file}, {shards} shard(s), \"{name}\", at: {line}");
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

struct Stage<'a> {
    server: &'a TestServer,
    clients: HashMap<String, Client>,
    names: HashMap<String, String>,
}

impl Stage<'_> {
    fn play(&mut self, line: &str) {
        let (who, rest) = line.split_once(' ').expect("who does what");
        let (what, argument) = rest.split_once(' ').unwrap_or((rest, ""));
        let argument = self.filled_in(argument.trim());
        if what == "+" {
            self.clients.insert(who.into(), Client::ws(self.server.addr, &argument));
            return;
        }
        let client = self.clients.get_mut(who).unwrap_or_else(|| panic!("{who} has not connected"));
        match what {
            ">" => client.text(&argument),
            ">long" => client.text(&"x".repeat(argument.parse().expect("a number"))),
            ">bin" => client.send(&frame(BINARY, &hex(&argument))),
            "<=" => assert_eq!(next_text(client), argument),
            "<" => {
                let text = next_text(client);
                let came: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
                let expected: Value = serde_json::from_str(&argument).expect("the transcript has JSON");
                assert!(agree(&expected, &came, &mut self.names), "came: {text}");
            }
            "<bin" => {
                let came = client.frame().expect("a message");
                assert_eq!((came.opcode(), came.payload), (BINARY, hex(&argument)));
            }
            "~" => silent(client),
            "!" => assert_eq!(next_close(client), argument.parse::<u16>().expect("a code")),
            "-" => {
                client.send(&frame(CLOSE, &close_payload(1000, "")));
                while client.frame().is_some_and(|frame| frame.opcode() != CLOSE) {}
                self.clients.remove(who);
            }
            other => panic!("{other} is no deed"),
        }
    }

    fn filled_in(&self, text: &str) -> String {
        let mut names: Vec<_> = self.names.iter().collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        names.into_iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${name}"), value))
    }
}

fn next_text(client: &mut Client) -> String {
    let frame = client.frame().expect("a message, not the end");
    assert_eq!(frame.opcode(), TEXT, "{frame:?}");
    frame.text().to_owned()
}

fn next_close(client: &mut Client) -> u16 {
    loop {
        let frame = client.frame().expect("a close frame");
        if frame.opcode() == CLOSE {
            return frame.code();
        }
    }
}

fn silent(client: &mut Client) {
    std::thread::sleep(SILENCE);
    client.send(&frame(PING, b"nothing?"));
    client.expect(PONG, b"nothing?");
}

/// Whether what came is what was expected, by the rules above.
fn agree(expected: &Value, came: &Value, names: &mut HashMap<String, String>) -> bool {
    match (expected, came) {
        (Value::String(any), _) if any == "*" => true,
        (Value::String(name), Value::String(value)) if name.starts_with('$') => {
            names.entry(name[1..].into()).or_insert_with(|| value.clone()) == value
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| agree(a, b, names)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| agree(a, b, names)),
        (a, b) => a == b,
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal")).collect()
}
