//! `GET /presence` and `/rooms`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::body::query;
use super::history::limit;
use super::problem::{self, Problem};
use super::{Api, done};
use crate::dialect::json;
use crate::limits::is_topic_name;
use crate::shard::mail::{Answer, Question};

/// Rooms of an answer, unless told.
const DEFAULT_LIMIT: usize = 1000;
/// Rooms of an answer.
pub const MAX_LIMIT: usize = 10_000;

/// Whose members are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presence {
    /// The room.
    pub room: Option<String>,
}

/// Who is in a room.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Members<'a> {
    room: &'a str,
    user_count: usize,
    /// Left out where they are many.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<String>>,
}

/// Which rooms are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rooms {
    /// Those that begin like this.
    #[serde(default)]
    pub prefix: String,
    /// How many.
    pub limit: Option<String>,
}

/// The first of the rooms by name.
#[derive(Serialize)]
pub struct Listed {
    rooms: Vec<Room>,
    /// How many there are.
    total: usize,
}

/// A room.
#[derive(Serialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    room: Box<str>,
    user_count: usize,
}

/// `GET /presence`.
pub async fn presence(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Problem> {
    let asked: Presence = query(&uri)?;
    let room = asked.room.as_deref().ok_or(problem::NO_ROOM)?;
    if !is_topic_name(room) {
        return Err(problem::BAD_TOPIC);
    }
    match api.ask(room, Question::Presence(room.into())).await? {
        Answer::Presence { count, members, .. } => {
            let members = members.map(|members| members.iter().map(|&client| json::client_id_text(client)).collect());
            Ok(done(&Members { room, user_count: count, members }))
        }
        _ => Err(problem::TIMEOUT),
    }
}

/// `GET /rooms`.
pub async fn rooms(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Problem> {
    let asked: Rooms = query(&uri)?;
    let limit = limit(asked.limit.as_deref(), DEFAULT_LIMIT, MAX_LIMIT)?;
    let answers = api.ask_all(|| Question::Rooms).await?.into_iter();
    let rooms = answers.flat_map(|answer| if let Answer::Rooms(rooms) = answer { rooms } else { Vec::new() });
    Ok(done(&first(rooms.collect(), &asked.prefix, limit)))
}

/// The first rooms by name, of those that begin so.
pub fn first(mut rooms: Vec<(Box<str>, usize)>, prefix: &str, limit: usize) -> Listed {
    rooms.retain(|(name, _)| name.starts_with(prefix));
    let total = rooms.len();
    rooms.sort_unstable();
    rooms.truncate(limit);
    let rooms = rooms.into_iter().map(|(room, user_count)| Room { room, user_count }).collect();
    Listed { rooms, total }
}

/// Answers with all their fields, by the names of their schemas.
#[cfg(test)]
pub fn samples() -> Vec<(&'static str, serde_json::Value)> {
    let room = Room { room: "r".into(), user_count: 1 };
    [
        ("Members", serde_json::to_value(Members { room: "r", user_count: 1, members: Some(Vec::new()) })),
        ("Room", serde_json::to_value(&room)),
        ("Listed", serde_json::to_value(Listed { rooms: vec![room], total: 1 })),
    ]
    .map(|(name, value)| (name, value.expect("JSON")))
    .to_vec()
}
