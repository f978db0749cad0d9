//! The HTTP API of the admin listener: publish, send, disconnect, and ask who and what is there. `docs/HTTP_API.md` is its
//! guide, `openapi.json` its contract.
//!
//! | to find | look in |
//! |---|---|
//! | how a request's body is read, and what of it is refused | `body` |
//! | messages that are published | `publish`, `message` |
//! | what is done to one client, or to a user's or a room's | `direct` |
//! | the end of the server | `drain` |
//! | another configuration | `reload` |
//! | questions | `history`, `presence`, `topics` |
//! | what is shown to those who watch | `overview`, `connections`, `topics` |
//! | how the shards are asked, and for how long | `call` |
//! | what is wrong with a request | `problem` |
//! | what is counted | `tally` |

mod body;
mod call;
mod connections;
mod direct;
mod drain;
mod history;
mod message;
mod overview;
mod presence;
mod problem;
mod publish;
mod reload;
mod tally;
#[cfg(test)]
mod tests;
mod topics;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::control::access::{Caller, Verdict};
use crate::control::{Reloader, Settings};
use crate::shard::handle::Shards;
use problem::Problem;
pub use problem::UNAUTHORIZED;
pub use tally::Tally;

/// Requests that are worked on at a time; those beyond are answered 503.
const MAX_REQUESTS: usize = 64;
/// What a publication's body may have beside its data.
const MARGIN: usize = 64 * 1024;
/// Bytes of a batch's body, unless one message may have more.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// A path of the API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// The one method that it takes.
    pub method: &'static str,
    /// Where it is.
    pub path: &'static str,
    /// What it does, in a few words.
    pub what: &'static str,
}

/// All of them.
pub const ENDPOINTS: [Endpoint; 14] = [
    Endpoint { method: "POST", path: "/publish", what: "publish a message to a topic" },
    Endpoint { method: "POST", path: "/broadcast", what: "publish a message to many topics" },
    Endpoint { method: "POST", path: "/batch", what: "publish many messages" },
    Endpoint { method: "POST", path: "/send", what: "send a message to a client, a user or a room" },
    Endpoint { method: "POST", path: "/disconnect", what: "close the connection of a client, or all of a user" },
    Endpoint { method: "POST", path: "/drain", what: "send everybody away, then end" },
    Endpoint { method: "POST", path: "/reload", what: "read the configuration again" },
    Endpoint { method: "GET", path: "/history", what: "what is kept of a topic" },
    Endpoint { method: "GET", path: "/presence", what: "who is in a room" },
    Endpoint { method: "GET", path: "/rooms", what: "the rooms with somebody in them" },
    Endpoint { method: "GET", path: "/topics", what: "the topics with subscribers" },
    Endpoint { method: "GET", path: "/overview", what: "the server at a glance" },
    Endpoint { method: "GET", path: "/connections", what: "the connections that are slow, or busy" },
    Endpoint { method: "GET", path: "/openapi.json", what: "the API, precisely (OpenAPI 3.1)" },
];

/// What the API works with.
pub struct Api {
    shards: Shards,
    /// What is configured, and how that is replaced.
    reloader: Arc<Reloader>,
    /// Whether others than this machine's user might reach it by a name of theirs.
    is_tcp: bool,
    started: Instant,
    slots: Semaphore,
    tally: Tally,
}

impl Api {
    /// For the listener of a server. `is_tcp`: it listens on TCP, so that a browser could be made to come here under any name.
    pub fn new(shards: Shards, is_tcp: bool, reloader: Arc<Reloader>) -> Api {
        let (slots, tally) = (Semaphore::new(MAX_REQUESTS), Tally::default());
        Api { shards, reloader, is_tcp, started: Instant::now(), slots, tally }
    }

    /// How long it has been there.
    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// What is configured.
    pub fn settings(&self) -> Arc<Settings> {
        self.reloader.settings()
    }

    /// How that is replaced.
    pub fn reloader(&self) -> &Reloader {
        &self.reloader
    }

    /// The shards.
    pub fn shards(&self) -> &Shards {
        &self.shards
    }

    /// How many requests there were.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Bytes that a message may have.
    fn max_message(&self) -> usize {
        self.settings().max_message
    }

    fn most_of_one(&self) -> usize {
        self.max_message().saturating_add(MARGIN)
    }

    fn most_of_many(&self) -> usize {
        self.most_of_one().max(MAX_BATCH_BYTES)
    }
}

/// The API's part of the admin listener, and the answer to what is nowhere.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/publish", post(publish::one))
        .route("/broadcast", post(publish::broadcast))
        .route("/batch", post(publish::batch))
        .route("/send", post(direct::send))
        .route("/disconnect", post(direct::disconnect))
        .route("/drain", post(drain::drain))
        .route("/reload", post(reload::reload))
        .route("/history", get(history::history))
        .route("/presence", get(presence::presence))
        .route("/rooms", get(presence::rooms))
        .route("/topics", get(topics::topics))
        .route("/overview", get(overview::overview))
        .route("/connections", get(connections::connections))
        .route("/openapi.json", get(openapi))
        .method_not_allowed_fallback(wrong_method)
        .route_layer(from_fn_with_state(api.clone(), guard))
        .fallback(async || problem::NOT_FOUND)
        .with_state(api)
}

/// The answer to another method than the one that a path takes.
pub async fn wrong_method(uri: Uri) -> impl IntoResponse {
    let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.path == uri.path());
    Problem::only(endpoint.map_or("GET", |endpoint| endpoint.method))
}

/// Lets a request in if it may come in and there is room, and counts it.
async fn guard(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let endpoint = ENDPOINTS.iter().position(|endpoint| endpoint.path == path);
    let response = if !is_for_us(&api, &request) {
        problem::MISDIRECTED.into_response()
    } else if let Ok(_slot) = api.slots.try_acquire() {
        next.run(request).await
    } else {
        problem::CROWDED.into_response()
    };
    if let Some(endpoint) = endpoint {
        api.tally.count(endpoint, response.status());
    }
    response
}

/// Whether a request is for this server, and not for one that a page has made it by giving it a name.
fn is_for_us(api: &Api, request: &Request) -> bool {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    // A page of another origin cannot have the key.
    let is_keyed = request.extensions().get() == Some(&Verdict::Keyed);
    is_keyed || !api.is_tcp || is_local(request.headers(), authority)
}

/// Keeps what is told of the server from pages in a browser on its machine. Others may ask by any name, if they may ask at all.
pub async fn show_to_no_page(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let comes_from_here = request.extensions().get() == Some(&Caller::Here);
    if comes_from_here && !is_for_us(&api, &request) {
        return problem::MISDIRECTED.into_response();
    }
    next.run(request).await
}

/// Whether every name that the request has for this server is an address or `localhost`. A page can make a browser take a
/// name of its own for this machine's, and would then be let read what is answered.
fn is_local(headers: &HeaderMap, authority: Option<&str>) -> bool {
    let hosts = headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
    hosts.chain(authority).all(|authority| {
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => host,
            _ => authority,
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
    })
}

async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], include_str!("openapi.json"))
}

/// An answer. What it says is of this moment, and is not to be taken for anything but JSON.
fn answer(status: StatusCode, value: &impl Serialize) -> Response {
    // Of our own types, whose maps have strings for keys.
    let text = serde_json::to_vec(value).unwrap_or_default();
    let fields = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, fields, text).into_response()
}

/// An answer to what went well.
fn done(value: &impl Serialize) -> Response {
    answer(StatusCode::OK, value)
}
