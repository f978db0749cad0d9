//! What a path asks for.

use std::borrow::Cow;

use super::pages::{Page, page};
use super::request::{EVENTS, PUBLISH, percent_decode};
use crate::limits::is_topic_name;

/// The answer to a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Route<'a> {
    /// A WebSocket of the `raw` dialect.
    Raw {
        /// The topic that its messages go to and come from: 1 to [`crate::limits::MAX_TOPIC_BYTES`] bytes, decoded.
        topic: Cow<'a, str>,
    },
    /// A WebSocket of the `json` dialect.
    Json,
    /// A stream of Server-Sent Events.
    Events,
    /// Where messages are posted to.
    Publish,
    /// A WebSocket of a backend.
    Backend,
    /// What a balancer or a supervisor asks.
    Probe(Probe),
    /// A page, or a part of one: the playground at `/`, the demos below `/demo/`.
    Page(&'static Page),
    /// A WebSocket endpoint that was asked for without an upgrade (426).
    UpgradeRequired,
    /// A topic that cannot be (400): empty, too long, or not percent-encoded UTF-8.
    BadTopic,
    /// Nothing is there (404).
    NotFound,
}

/// What a balancer or a supervisor asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe {
    /// `GET /health`: how the server is.
    Health,
    /// `GET /live`: whether the process runs.
    Live,
    /// `GET /ready`: whether newcomers are taken.
    Ready,
}

/// Paths that are no WebSocket endpoints of the `json` dialect: they belong to other endpoints, there or to come.
const RESERVED: [&str; 7] = [PUBLISH, EVENTS, "/socket.io", "/app", "/backend", "/health", "/metrics"];

/// What the percent-encoded `path` asks for; `upgrade` is whether the request asks for a WebSocket.
pub fn route(path: &str, upgrade: bool) -> Route<'_> {
    match (below(path, "/raw"), upgrade) {
        (Some(topic), true) => raw(topic),
        (Some(_), false) => Route::UpgradeRequired,
        (None, true) if path == "/backend" => Route::Backend,
        (None, false) if path == "/backend" => Route::UpgradeRequired,
        (None, true) if RESERVED.into_iter().any(|reserved| below(path, reserved).is_some()) => Route::NotFound,
        (None, true) => Route::Json,
        (None, false) if path == "/health" => Route::Probe(Probe::Health),
        (None, false) if path == "/live" => Route::Probe(Probe::Live),
        (None, false) if path == "/ready" => Route::Probe(Probe::Ready),
        (None, false) if path == EVENTS => Route::Events,
        (None, false) if path == PUBLISH => Route::Publish,
        (None, false) => page(path).map_or(Route::NotFound, Route::Page),
    }
}

/// What follows `prefix/` in `path`; nothing for the prefix itself, `None` for another path.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

fn raw(encoded: &str) -> Route<'_> {
    match percent_decode(encoded) {
        Some(topic) if is_topic_name(&topic) => Route::Raw { topic },
        _ => Route::BadTopic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_TOPIC_BYTES;

    fn raw_topic(topic: &str) -> Route<'_> {
        Route::Raw { topic: topic.into() }
    }

    #[test]
    fn websockets() {
        let longest = format!("/raw/{}", "%61".repeat(MAX_TOPIC_BYTES));
        let topic = "a".repeat(MAX_TOPIC_BYTES);
        let too_long = format!("{longest}a");
        for (path, expected) in [
            ("/raw/x", raw_topic("x")),
            ("/raw/a/b%2Fc", raw_topic("a/b/c")),
            ("/raw//", raw_topic("/")),
            ("/raw/caf%C3%A9", raw_topic("café")),
            (&longest, raw_topic(&topic)),
            (&too_long, Route::BadTopic),
            ("/raw", Route::BadTopic),
            ("/raw/", Route::BadTopic),
            ("/raw/%FF", Route::BadTopic),
            ("/raw/100%", Route::BadTopic),
            ("/", Route::Json),
            ("/game", Route::Json),
            ("/demo/chat", Route::Json),
            ("/rawhide", Route::Json),
            ("/application", Route::Json),
            ("/backend", Route::Backend),
            ("/backend/", Route::NotFound),
            ("/backends", Route::Json),
            ("/sse", Route::NotFound),
            ("/socket.io/", Route::NotFound),
            ("/publish", Route::NotFound),
            ("/app/key", Route::NotFound),
            ("/health", Route::NotFound),
            ("/metrics", Route::NotFound),
        ] {
            assert_eq!(route(path, true), expected, "{path}");
        }
    }

    #[test]
    fn plain_requests() {
        for (path, expected) in [
            ("/", Route::Page(page("/").unwrap())),
            ("/demo/chat", Route::Page(page("/demo/chat").unwrap())),
            ("/demo/chat/", Route::NotFound),
            ("/health", Route::Probe(Probe::Health)),
            ("/live", Route::Probe(Probe::Live)),
            ("/ready", Route::Probe(Probe::Ready)),
            ("/health/", Route::NotFound),
            ("/sse", Route::Events),
            ("/publish", Route::Publish),
            ("/publish/", Route::NotFound),
            ("/sse/", Route::NotFound),
            ("/raw/x", Route::UpgradeRequired),
            ("/raw", Route::UpgradeRequired),
            ("/backend", Route::UpgradeRequired),
            ("/backend/", Route::NotFound),
            ("/game", Route::NotFound),
            ("/metrics", Route::NotFound),
            ("/favicon.ico", Route::NotFound),
        ] {
            assert_eq!(route(path, false), expected, "{path}");
        }
    }
}
