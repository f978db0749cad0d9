//! A message as a request has it, and as the shards take it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::problem::{self, Problem};
use crate::dialect::json;
use crate::hub::frame::MessageKind;
use crate::limits::is_topic_name;
use crate::shard::mail::Message;
use crate::time::Moment;

/// A message to be published.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish<'a> {
    /// Where.
    pub topic: Option<String>,
    /// What.
    #[serde(borrow, default, deserialize_with = "present")]
    pub data: Option<&'a RawValue>,
    /// How `data` is to be read.
    #[serde(default)]
    pub encoding: Encoding,
    /// By which it is known when it comes again.
    pub id: Option<Value>,
}

/// What `data` says.
#[derive(Deserialize, Clone, Copy, Default, PartialEq, Eq, Debug)]
#[serde(try_from = "String")]
pub enum Encoding {
    /// The text to be published, as it is spelled.
    #[default]
    Json,
    /// A string that is the text to be published.
    Text,
    /// A string of the bytes to be published, as a binary message.
    Base64,
}

impl TryFrom<String> for Encoding {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Encoding, &'static str> {
        match name.as_str() {
            "json" => Ok(Encoding::Json),
            "text" => Ok(Encoding::Text),
            "base64" => Ok(Encoding::Base64),
            _ => Err("encoding is json, text or base64"),
        }
    }
}

/// Also `null` is data.
pub fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The name of the topic, if it can be one.
pub fn topic(name: Option<&str>) -> Result<&str, Problem> {
    let name = name.ok_or(problem::NO_TOPIC)?;
    if is_topic_name(name) { Ok(name) } else { Err(problem::BAD_TOPIC) }
}

/// The message that `data` is, of at most so many bytes.
pub fn message(data: Option<&RawValue>, encoding: Encoding, most: usize) -> Result<Message, Problem> {
    let data = data.ok_or(problem::NO_DATA)?.get();
    let bad = |what: &str| Problem::bad("bad_data", format!("data is {what}"));
    let string = || serde_json::from_str::<String>(data).map_err(|_| bad("not a string, as its encoding wants it"));
    let (kind, payload) = match encoding {
        Encoding::Json if !json::is_value(data.as_bytes(), &mut Vec::new()) => {
            return Err(bad("half of a surrogate pair, or a number that is too large for a double, somewhere"));
        }
        Encoding::Json => (MessageKind::Text, data.as_bytes().to_vec()),
        Encoding::Text => (MessageKind::Text, string()?.into_bytes()),
        Encoding::Base64 => (MessageKind::Binary, STANDARD.decode(string()?).map_err(|_| bad("not base64"))?),
    };
    if payload.len() > most {
        return Err(Problem::too_large("data", most));
    }
    Ok(Message { kind, payload: payload.into(), received: Moment::UNKNOWN })
}

/// What a message is known by when it comes again: its own `id`, or else the request's key and its number there. As JSON
/// text, as clients' ids are; a key is none, so the two are never the same.
pub fn known_by(id: Option<&Value>, key: Option<&str>, index: usize) -> Result<Option<Box<str>>, Problem> {
    match (id, key) {
        (Some(Value::String(id)), _) if (1..=json::MAX_ID_BYTES).contains(&id.len()) => {
            Ok(Some(Value::from(id.as_str()).to_string().into()))
        }
        (Some(Value::Number(id)), _) if id.is_i64() || id.is_u64() => Ok(Some(id.to_string().into())),
        (Some(_), _) => Err(problem::BAD_ID),
        (None, Some(key)) => Ok(Some(format!("key {index} {key}").into())),
        (None, None) => Ok(None),
    }
}
