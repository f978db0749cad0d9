//! An application that is asked over HTTP whether clients may do what they are about to do. Over real sockets.

#[path = "../common/mod.rs"]
mod common;

mod application;
mod breaker;
mod door;
mod messages;
mod reloads;
mod tokens;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use uproar::Config;
use uproar::config::HookEvents;

use application::Application;
use common::client::{Response, TEXT, ask, handshake, knock, next};
use common::{Client, TestServer, config, wait_until};

const CONNECT: HookEvents = HookEvents::CONNECT;
const SUBSCRIBE: HookEvents = HookEvents { connect: false, subscribe: true, publish: false };
const PUBLISH: HookEvents = HookEvents { connect: false, subscribe: false, publish: true };

/// A server that asks an application.
fn asking(application: &Application, events: HookEvents, shards: u32, change: impl FnOnce(&mut Config)) -> TestServer {
    let mut config = config(shards);
    config.auth_hook = Some(application.url.clone());
    config.auth_hook_events = events;
    config.close_timeout = Duration::from_millis(300);
    change(&mut config);
    TestServer::start(config)
}

/// Milliseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

fn status(addr: SocketAddr, path: &str) -> u16 {
    knock(addr, path, "").map_or_else(|refused| refused.status, |_| 101)
}

/// A client that is welcomed, and its welcome.
#[track_caller]
fn enter(addr: SocketAddr, path: &str) -> (Client, Value) {
    let mut client = knock(addr, path, "").expect("it is let in");
    let welcome = next(&mut client);
    assert_eq!(welcome["type"], "connected");
    (client, welcome)
}

fn subscribe(topics: &[&str]) -> Value {
    json!({"type": "subscribe", "topics": topics})
}

fn publish(topic: &str, data: impl Into<Value>) -> Value {
    json!({"type": "publish", "topic": topic, "data": data.into(), "id": "p", "ack": true})
}

/// The status of a request.
fn request(addr: SocketAddr, head: &str, body: &str) -> Response {
    let mut client = Client::connect(addr);
    let len = body.len();
    client.send(
        format!("{head} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n{body}")
            .as_bytes(),
    );
    client.response()
}

fn words(server: &TestServer, result: &str) -> u64 {
    server.metric(&format!("auth_hook_decisions_total result=\"{result}\""))
}
