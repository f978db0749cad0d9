//! `POST /drain`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::problem::Problem;
use super::{Api, answer};
use crate::control;

/// There is nothing to be said of how: the configuration does.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {}

/// It has begun.
#[derive(Serialize)]
pub struct Draining {
    /// Connections that are open.
    connections: u64,
}

/// `POST /drain`.
pub async fn drain(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let Drain {} = Body::read(request, api.most_of_one()).await?.parse()?;
    control::drain(&api.shards, api.settings().drain, "POST /drain");
    Ok(answer(StatusCode::ACCEPTED, &Draining { connections: api.shards.shared().connections() }))
}

/// Answers, for tests.
#[cfg(test)]
pub fn samples() -> Vec<(&'static str, serde_json::Value)> {
    vec![("Draining", serde_json::to_value(Draining { connections: 1 }).expect("JSON"))]
}
