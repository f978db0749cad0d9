//! An application with a hook: it notes what it is asked, and answers as a test wants.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// An answer.
#[derive(Clone)]
pub struct Reply {
    pub status: u16,
    pub body: String,
    /// How long it takes.
    pub after: Duration,
    pub location: Option<String>,
}

impl Reply {
    pub fn ok(body: Value) -> Reply {
        Reply { body: body.to_string(), ..Reply::status(200) }
    }

    pub fn status(status: u16) -> Reply {
        Reply { status, body: String::new(), after: Duration::ZERO, location: None }
    }

    pub fn after(self, millis: u64) -> Reply {
        Reply { after: Duration::from_millis(millis), ..self }
    }
}

type Decide = Box<dyn FnMut(&Value) -> Reply + Send>;

struct State {
    asked: Mutex<Vec<Value>>,
    times: Mutex<Vec<Instant>>,
    decide: Mutex<Decide>,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

pub struct Application {
    pub url: String,
    state: Arc<State>,
    /// What serves; when it is dropped, nothing does.
    _runtime: Runtime,
}

impl Application {
    pub fn start(decide: impl FnMut(&Value) -> Reply + Send + 'static) -> Application {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let state = Arc::new(State {
            asked: Mutex::default(),
            times: Mutex::default(),
            decide: Mutex::new(Box::new(decide)),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let shared = state.clone();
        let handler = move |headers: HeaderMap, body: Bytes| answer(shared.clone(), headers, body);
        let router = Router::new().route("/hook", post(handler));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        runtime.spawn(async { axum::serve(listener, router).await });
        Application { url, state, _runtime: runtime }
    }

    /// One that allows everything, and says nothing of anybody.
    pub fn kind() -> Application {
        Application::start(|_| Reply::ok(json!({})))
    }

    pub fn decide(&self, decide: impl FnMut(&Value) -> Reply + Send + 'static) {
        *self.state.decide.lock().expect("no panic") = Box::new(decide);
    }

    /// What it was asked, in order; `authorization` is what came with it.
    pub fn asked(&self) -> Vec<Value> {
        self.state.asked.lock().expect("no panic").clone()
    }

    /// When it was asked.
    pub fn times(&self) -> Vec<Instant> {
        self.state.times.lock().expect("no panic").clone()
    }

    /// The most questions that were under way at one time.
    pub fn most(&self) -> usize {
        self.state.most.load(Ordering::SeqCst)
    }
}

async fn answer(state: Arc<State>, headers: HeaderMap, body: Bytes) -> Response<String> {
    let under_way = state.under_way.fetch_add(1, Ordering::SeqCst) + 1;
    state.most.fetch_max(under_way, Ordering::SeqCst);
    assert_eq!(headers["content-type"], "application/json");
    let mut question: Value = serde_json::from_slice(&body).expect("a question is JSON");
    let reply = (state.decide.lock().expect("no panic"))(&question);
    if let Some(authorization) = headers.get("authorization") {
        question["authorization"] = authorization.to_str().expect("text").into();
    }
    state.times.lock().expect("no panic").push(Instant::now());
    state.asked.lock().expect("no panic").push(question);
    tokio::time::sleep(reply.after).await;
    state.under_way.fetch_sub(1, Ordering::SeqCst);
    let mut response = Response::builder().status(reply.status);
    if let Some(location) = reply.location {
        response = response.header("Location", location);
    }
    response.body(reply.body).expect("a response")
}
