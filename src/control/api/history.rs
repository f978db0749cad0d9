//! `GET /history`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::body::query;
use super::message::topic;
use super::problem::{self, Problem};
use super::{Api, done};
use crate::dialect::{Since, json};
use crate::hub::frame::MessageKind;
use crate::hub::history::Kept;
use crate::shard::mail::{Answer, Past, Question};

/// Messages of an answer, unless told.
const DEFAULT_LIMIT: usize = 100;
/// Messages of an answer.
pub const MAX_LIMIT: usize = 10_000;

/// Bytes of an answer's messages, as they were published, unless one alone has more.
const MAX_BYTES: usize = 8 << 20;

/// What is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// Of which topic.
    pub topic: Option<String>,
    /// With `offset`: everything after that; the oldest of it.
    pub epoch: Option<String>,
    /// See `epoch`. Without both: the newest.
    pub offset: Option<String>,
    /// How many.
    pub limit: Option<String>,
}

/// What is kept.
#[derive(Serialize)]
pub struct Messages<'a> {
    topic: &'a str,
    /// Whether a rule of `history` names the topic: without one, it never has messages here.
    kept: bool,
    epoch: String,
    /// The newest message's.
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<Gap>,
    messages: Vec<Message>,
}

/// What was asked for and is not kept any more, the first and the last.
#[derive(Serialize)]
pub struct Gap {
    from: u64,
    to: u64,
}

/// One message.
#[derive(Serialize)]
pub struct Message {
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    data: Box<RawValue>,
}

/// `GET /history`.
pub async fn history(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Problem> {
    let asked: History = query(&uri)?;
    let topic = topic(asked.topic.as_deref())?;
    let since = since(asked.epoch.as_deref(), asked.offset.as_deref())?;
    let limit = limit(asked.limit.as_deref(), DEFAULT_LIMIT, MAX_LIMIT)?;
    match api.ask(topic, Question::History { topic: topic.into(), since, limit }).await? {
        Answer::History { kept, past } => {
            let some = few_enough(&past.messages, since.is_none(), MAX_BYTES);
            Ok(done(&messages(topic, kept, &past, some)))
        }
        _ => Err(problem::TIMEOUT),
    }
}

/// How many of something may be in an answer.
pub fn limit(asked: Option<&str>, default: usize, most: usize) -> Result<usize, Problem> {
    match asked.map_or(Ok(default), str::parse) {
        Ok(limit) if (1..=most).contains(&limit) => Ok(limit),
        _ => Err(Problem::bad("bad_limit", format!("limit is 1 to {most}"))),
    }
}

fn since(epoch: Option<&str>, offset: Option<&str>) -> Result<Option<Since>, Problem> {
    match (epoch, offset.map(str::parse)) {
        (None, None) => Ok(None),
        (Some(epoch), Some(Ok(offset))) if offset <= json::MAX_OFFSET => {
            Ok(Some(Since { epoch: json::parse_epoch(epoch), offset }))
        }
        _ => Err(problem::BAD_SINCE),
    }
}

/// The newest or the oldest of the messages that have so many bytes together, but one at least.
pub fn few_enough(messages: &[Kept], newest: bool, most: usize) -> &[Kept] {
    let mut left = most;
    let fits = |kept: &&Kept| {
        let fits = kept.payload.len() <= left;
        left = left.saturating_sub(kept.payload.len());
        fits
    };
    let fitting =
        if newest { messages.iter().rev().take_while(fits).count() } else { messages.iter().take_while(fits).count() };
    let some = fitting.max(1).min(messages.len());
    if newest { &messages[messages.len() - some..] } else { &messages[..some] }
}

fn messages<'a>(topic: &'a str, kept: bool, past: &Past, some: &[Kept]) -> Messages<'a> {
    Messages {
        topic,
        kept,
        epoch: json::epoch_text(past.now.epoch),
        offset: past.now.offset,
        gap: past.gap.map(|(from, to)| Gap { from, to }),
        messages: some.iter().filter_map(message).collect(),
    }
}

/// `None` of what is no JSON, which nothing is that the dialect writes.
fn message(kept: &Kept) -> Option<Message> {
    let mut text = Vec::new();
    json::push_data(&mut text, kept.kind, &kept.payload);
    let data = String::from_utf8(text).ok().and_then(|text| RawValue::from_string(text).ok())?;
    Some(Message { offset: kept.offset, encoding: (kept.kind == MessageKind::Binary).then_some("base64"), data })
}

/// Answers with all their fields, by the names of their schemas.
#[cfg(test)]
pub fn samples() -> Vec<(&'static str, serde_json::Value)> {
    let data = RawValue::from_string("1".into()).expect("JSON");
    let message = Message { offset: 1, encoding: Some("base64"), data };
    let gap = Some(Gap { from: 1, to: 2 });
    let messages = Messages { topic: "t", kept: true, epoch: String::new(), offset: 1, gap, messages: Vec::new() };
    [
        ("Message", serde_json::to_value(message)),
        ("Gap", serde_json::to_value(&messages.gap)),
        ("Messages", serde_json::to_value(&messages)),
    ]
    .map(|(name, value)| (name, value.expect("JSON")))
    .to_vec()
}
