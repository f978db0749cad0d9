//! `POST /publish`, `/broadcast` and `/batch`.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::body::{Body, object};
use super::call::{Call, Deadline};
use super::message::{Encoding, Publish, known_by, message, present, topic};
use super::problem::Problem;
use super::{Api, done};
use crate::dialect::{Position, json};

/// Messages of one batch, and topics of one broadcast.
pub const MAX_MESSAGES: usize = 1000;

/// A message to be published to many topics.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broadcast<'a> {
    /// Where.
    pub topics: Vec<String>,
    /// What.
    #[serde(borrow, default, deserialize_with = "present")]
    pub data: Option<&'a RawValue>,
    /// How `data` is to be read.
    #[serde(default)]
    pub encoding: Encoding,
    /// By which it is known when it comes again.
    pub id: Option<Value>,
}

/// Messages to be published, in this order.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch<'a> {
    /// The messages, each a [`Publish`].
    #[serde(borrow)]
    pub messages: Vec<&'a RawValue>,
}

/// Where a message is.
#[derive(Serialize)]
pub struct Place<'a> {
    topic: &'a str,
    epoch: String,
    offset: u64,
}

/// What became of a message.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Outcome<'a> {
    /// It is published.
    Placed(Place<'a>),
    /// It is not.
    Refused {
        /// Where it should have gone.
        topic: Option<&'a str>,
        /// Why not, for programs.
        code: &'static str,
        /// Why not, for people.
        message: Cow<'static, str>,
    },
}

/// What became of many, in their order.
#[derive(Serialize)]
pub struct Outcomes<'a> {
    results: Vec<Outcome<'a>>,
}

/// A message under way, and its topic's name as it was given.
type UnderWay<'a> = (Option<&'a str>, Result<Call, Problem>);

/// `POST /publish`.
pub async fn one(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let body = Body::read(request, api.most_of_one()).await?;
    let asked: Publish<'_> = body.parse()?;
    let topic = topic(asked.topic.as_deref())?;
    let call = api.post(&asked, body.key.as_deref(), 0)?;
    let position = call.place(Deadline::begin()).await?;
    Ok(done(&place(topic, position)))
}

/// `POST /broadcast`.
pub async fn broadcast(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let body = Body::read(request, api.most_of_many()).await?;
    let asked: Broadcast<'_> = body.parse()?;
    check_number("topics", asked.topics.len())?;
    api.shards.available()?;
    let payload = message(asked.data, asked.encoding, api.max_message())?;
    let key = body.key.as_deref();
    let post = |(index, name): (usize, &String)| {
        let id = known_by(asked.id.as_ref(), key, index)?;
        Ok(api.publish(topic(Some(name))?, payload.clone(), id))
    };
    let named = asked.topics.iter().map(|topic| Some(topic.as_str()));
    let calls: Vec<_> = named.zip(asked.topics.iter().enumerate().map(post)).collect();
    Ok(done(&outcomes(&calls).await))
}

/// `POST /batch`.
pub async fn batch(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let body = Body::read(request, api.most_of_many()).await?;
    let asked: Batch<'_> = body.parse()?;
    check_number("messages", asked.messages.len())?;
    let messages: Vec<_> = asked.messages.iter().enumerate().map(element).collect::<Result<_, _>>()?;
    api.shards.available()?;
    let key = body.key.as_deref();
    let post = |(index, asked): (usize, &Publish<'_>)| api.post(asked, key, index);
    let named = messages.iter().map(|message| message.topic.as_deref());
    let calls: Vec<_> = named.zip(messages.iter().enumerate().map(post)).collect();
    Ok(done(&outcomes(&calls).await))
}

impl Api {
    /// Publishes what was asked for, the `index`-th of its request.
    fn post(&self, asked: &Publish<'_>, key: Option<&str>, index: usize) -> Result<Call, Problem> {
        let topic = topic(asked.topic.as_deref())?;
        let message = message(asked.data, asked.encoding, self.max_message())?;
        let id = known_by(asked.id.as_ref(), key, index)?;
        self.shards.available()?;
        Ok(self.publish(topic, message, id))
    }
}

/// The `index`-th message of a batch.
fn element<'a>((index, text): (usize, &&'a RawValue)) -> Result<Publish<'a>, Problem> {
    let wrong = |wrong| Problem::bad("invalid_json", format!("messages[{index}]: {wrong}"));
    object(text.get().as_bytes()).map_err(wrong)
}

fn check_number(what: &str, number: usize) -> Result<(), Problem> {
    if (1..=MAX_MESSAGES).contains(&number) {
        return Ok(());
    }
    Err(Problem::bad("bad_number", format!("{what} has {number} elements; allowed: 1 to {MAX_MESSAGES}")))
}

/// What becomes of messages that were posted together. All have the same time.
async fn outcomes<'a>(calls: &'a [UnderWay<'a>]) -> Outcomes<'a> {
    let deadline = Deadline::begin();
    let mut results = Vec::with_capacity(calls.len());
    for (topic, call) in calls {
        let position = match call {
            Ok(call) => call.place(deadline).await,
            Err(problem) => Err(problem.clone()),
        };
        results.push(outcome(*topic, position));
    }
    Outcomes { results }
}

fn outcome(topic: Option<&str>, position: Result<Position, Problem>) -> Outcome<'_> {
    match position {
        Ok(position) => Outcome::Placed(place(topic.unwrap_or_default(), position)),
        Err(Problem { code, message, .. }) => Outcome::Refused { topic, code, message },
    }
}

pub fn place(topic: &str, position: Position) -> Place<'_> {
    Place { topic, epoch: json::epoch_text(position.epoch), offset: position.offset }
}

/// Answers with all their fields, by the names of their schemas.
#[cfg(test)]
pub fn samples() -> Vec<(&'static str, Value)> {
    let position = Position { epoch: 1, offset: 1 };
    let refused = outcome(Some("t"), Err(super::problem::NO_DATA));
    let outcomes = Outcomes { results: Vec::new() };
    [
        ("Place", serde_json::to_value(place("t", position))),
        ("Refused", serde_json::to_value(refused)),
        ("Outcomes", serde_json::to_value(outcomes)),
    ]
    .map(|(name, value)| (name, value.expect("JSON")))
    .to_vec()
}
