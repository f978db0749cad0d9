//! `POST /send` and `/disconnect`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::body::Body;
use super::connections::parse_number;
use super::message::{Encoding, known_by, message, present};
use super::problem::{self, Problem};
use super::{Api, done};
use crate::dialect::json;
use crate::limits::{MAX_CONTROL_PAYLOAD, is_application_close, is_topic_name};
use crate::shard::mail::Act;

/// The close code of a connection that ends because it is over (RFC 6455 section 7.4.1).
const NORMAL: u16 = 1000;
/// Bytes of a close frame's reason, which comes after its code.
const MAX_REASON: usize = MAX_CONTROL_PAYLOAD - 2;

/// A message for a client, a user or a room.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send<'a> {
    /// For whom.
    pub receiver: String,
    /// The text that is sent, as it is spelled.
    #[serde(borrow, default, deserialize_with = "present")]
    pub data: Option<&'a RawValue>,
    /// By which it is known when it comes again.
    pub id: Option<Value>,
}

/// A client to be sent away, a user with all its connections, or a connection.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Disconnect {
    /// Which client.
    pub client_id: Option<String>,
    /// Which user.
    pub user: Option<String>,
    /// Which connection, of whatever kind.
    pub connection: Option<String>,
    /// What its connection is closed with.
    #[serde(default = "normal")]
    pub code: Value,
    /// Why, in words for it.
    #[serde(default)]
    pub reason: String,
}

/// It is done; there is nothing to be said of it.
#[derive(Serialize)]
pub struct Done {}

fn normal() -> Value {
    NORMAL.into()
}

/// `POST /send`.
pub async fn send(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let body = Body::read(request, api.most_of_one()).await?;
    let asked: Send<'_> = body.parse()?;
    if !is_topic_name(&asked.receiver) {
        return Err(problem::BAD_RECEIVER);
    }
    let message = message(asked.data, Encoding::Json, api.max_message())?;
    let id = known_by(asked.id.as_ref(), body.key.as_deref(), 0)?;
    api.shards.available()?;
    api.act(&asked.receiver, Act::Send(message.payload), id).await?;
    Ok(done(&Done {}))
}

/// `POST /disconnect`.
pub async fn disconnect(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let body = Body::read(request, api.most_of_one()).await?;
    let asked: Disconnect = body.parse()?;
    let code = asked.code.as_u64().and_then(|code| u16::try_from(code).ok());
    let code = code.filter(|&code| is_application_close(code)).ok_or(problem::BAD_CLOSE)?;
    if asked.reason.len() > MAX_REASON {
        return Err(problem::BAD_CLOSE);
    }
    // A name that is spelled as a clientId is a client's, and no other.
    let act = Act::Close { code, reason: asked.reason.into() };
    let (receiver, is_one) = match (asked.client_id, asked.user, asked.connection) {
        (Some(client), None, None) => (client, true),
        (None, Some(user), None) => (user, false),
        (None, None, Some(name)) => {
            let at = parse_number(&name).ok_or_else(|| Problem::no_receiver(&name))?;
            api.act_on(at, &name, act).await?;
            return Ok(done(&Done {}));
        }
        _ => return Err(problem::ONE_RECEIVER),
    };
    if json::parse_client_id(&receiver).is_some() != is_one || !is_topic_name(&receiver) {
        return Err(Problem::no_receiver(&receiver));
    }
    api.act(&receiver, act, None).await?;
    Ok(done(&Done {}))
}
