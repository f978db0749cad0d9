//! `POST /reload`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::problem::{self, Problem};
use super::{Api, answer, done};
use crate::control::reload::in_background;

/// There is nothing to be said of what: the configuration's sources do.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reload {}

/// Nothing has changed.
#[derive(Serialize)]
pub struct BadConfiguration<'a> {
    /// For programs.
    code: &'static str,
    /// For people.
    message: &'static str,
    /// What is wrong with the configuration, all of it.
    problems: &'a [String],
}

impl BadConfiguration<'_> {
    fn new(problems: &[String]) -> BadConfiguration<'_> {
        let message = "the configuration is not valid; nothing has changed";
        BadConfiguration { code: "bad_configuration", message, problems }
    }
}

/// `POST /reload`.
pub async fn reload(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let Reload {} = Body::read(request, api.most_of_one()).await?.parse()?;
    match in_background(&api.reloader, "POST /reload").await {
        Some(Ok(report)) => Ok(done(&report)),
        Some(Err(error)) => Ok(answer(StatusCode::UNPROCESSABLE_ENTITY, &BadConfiguration::new(error.problems()))),
        None => Err(problem::STOPPED),
    }
}

/// Answers, for tests.
#[cfg(test)]
pub fn samples() -> Vec<(&'static str, serde_json::Value)> {
    use crate::config::{Changed, ReloadReport};
    let changed = Changed { knob: "backlog", from: Some("64KiB".into()), to: Some("1MiB".into()) };
    let mut report = ReloadReport::default();
    (report.changed, report.notes) = (vec![changed], vec!["a note".into()]);
    let json = |value: serde_json::Result<serde_json::Value>| value.expect("JSON");
    vec![
        ("ReloadReport", json(serde_json::to_value(&report))),
        ("BadConfiguration", json(serde_json::to_value(BadConfiguration::new(&["a problem".into()])))),
    ]
}
