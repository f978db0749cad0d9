//! What a client's message asks for.

use std::borrow::Cow;
use std::collections::HashMap;

use simd_json::prelude::*;
use simd_json::tape::Value;

use super::fields::{Field, Fields, parse};
use super::ids::{MAX_OFFSET, parse_epoch};
use super::problem::{
    BAD_ID, BAD_SINCE, BAD_TOKENS, BAD_TOPIC, INVALID, NO_DATA, NO_ID, NO_RECEIVER, NO_TOKEN, NO_TOPIC, NO_TOPICS,
    NO_TYPE, NOT_ALLOWED, Problem, TOO_MANY_TOPICS,
};
use super::text::{Quoted, shortened};
use super::types::{Destination, Types, is_addressed, is_servers};
use crate::dialect::{Command, Commands, Credential, Receipt, Since};
use crate::hub::frame::MessageKind;
use crate::limits::is_topic_name;

/// Topics that one message may name: its answer names them all again.
const MAX_TOPICS_PER_MESSAGE: usize = 1024;
/// Bytes of an id that is a string.
pub const MAX_ID_BYTES: usize = 128;
/// What the server says of the sender of a message that is handed over.
const PLACE: [&str; 4] = ["clientId", "room", "timestamp", "user"];
/// Characters of an unknown type that its error quotes.
const MAX_TYPE_CHARS: usize = 64;

/// The commands of a message: one. Parsing writes into `scratch`, so that parts of `payload` can be lent untouched.
pub fn message<'a>(kind: MessageKind, payload: &'a [u8], types: &Types, scratch: &mut Vec<u8>) -> Commands<'a> {
    Commands::from_iter([match kind {
        MessageKind::Text => text(payload, types, scratch),
        MessageKind::Binary => Command::Broadcast { kind, payload },
    }])
}

fn text<'a>(payload: &'a [u8], types: &Types, scratch: &mut Vec<u8>) -> Command<'a> {
    scratch.clear();
    let Some(tape) = parse(payload, scratch) else { return refused(&INVALID, None) };
    let fields = match Fields::of(payload, tape.as_value()) {
        Ok(fields) => fields,
        Err(problem) => return refused(&problem, None),
    };
    let id = match fields.id.map(id_text).transpose() {
        Ok(id) => id,
        Err(problem) => return refused(&problem, None),
    };
    let (message, ack) = match (fields.kind, &id, fields.data) {
        // An envelope: `data` is the message.
        (None, Some(_), Some(data)) if data.value.is_object() => (Fields::of(data.text, data.value), true),
        _ => {
            let ack = fields.ack.is_some_and(Field::is_true);
            (if ack && id.is_none() { Err(NO_ID) } else { Ok(fields) }, ack)
        }
    };
    let receipt = id.clone().map(|id| Receipt { id, ack });
    let command = message.and_then(|message| command(&message, receipt, types));
    command.unwrap_or_else(|problem| refused(&problem, id.as_deref()))
}

/// The id of a text message, as JSON text, if it has one that is good.
pub fn id_of(payload: &[u8], scratch: &mut Vec<u8>) -> Option<String> {
    scratch.clear();
    let tape = parse(payload, scratch)?;
    let id = Fields::of(payload, tape.as_value()).ok()?.id?;
    id_text(id).ok().map(Cow::into_owned)
}

fn refused<'a>(problem: &Problem, id: Option<&str>) -> Command<'a> {
    Command::Error(problem.text(id))
}

/// The id as JSON text, one spelling for one id: what is sent again is known by it.
pub(super) fn id_text<'a>(id: Field<'a, '_>) -> Result<Cow<'a, str>, Problem> {
    let text = std::str::from_utf8(id.text).map_err(|_| INVALID)?;
    match id.value.into_string() {
        Some(string) if !(1..=MAX_ID_BYTES).contains(&string.len()) => Err(BAD_ID),
        Some(string) if text.contains('\\') => Ok(Cow::Owned(Quoted(string).to_string())),
        None if id.value.as_i64().is_none() && id.value.as_u64().is_none() => Err(BAD_ID),
        _ => Ok(Cow::Borrowed(text)),
    }
}

fn command<'a>(message: &Fields<'a, '_>, receipt: Option<Receipt<'a>>, types: &Types) -> Result<Command<'a>, Problem> {
    let kind = message.kind.and_then(|kind| kind.value.into_string()).ok_or(NO_TYPE)?;
    match kind {
        "subscribe" => subscribe(message),
        "unsubscribe" => Ok(Command::Unsubscribe(topics(message)?)),
        "publish" => publish(message, receipt, types),
        "presence" => presence(message),
        "refresh" => {
            let token = message.token.and_then(Field::string).ok_or(NO_TOKEN)?;
            Ok(Command::Refresh { token: Credential(token), id: receipt.map(|receipt| receipt.id) })
        }
        "ping" | "heartbeat" => Ok(Command::Ping),
        kind if is_addressed(kind) => address(message, receipt),
        kind => match types.destination(kind) {
            Some(Destination::Room) => Ok(Command::Relay { object: message.without(&["from", "timestamp"]), receipt }),
            Some(Destination::Backend) => Ok(Command::HandOver { object: message.without(&PLACE), receipt }),
            None => {
                let message = format!("Unknown type: {}", shortened(kind, MAX_TYPE_CHARS));
                Err(Problem::told("unknown_type", message))
            }
        },
    }
}

fn subscribe<'a>(message: &Fields<'a, '_>) -> Result<Command<'a>, Problem> {
    let topics = topics(message)?;
    let since = message.since.map_or_else(|| Some(HashMap::new()), since).ok_or(BAD_SINCE)?;
    let with_since = |topic: Cow<'a, str>| {
        let since = since.get(&*topic).copied();
        (topic, since)
    };
    let topics = topics.into_iter().map(with_since).collect();
    let tokens = message.tokens.map_or_else(|| Some(Vec::new()), tokens).ok_or(BAD_TOKENS)?;
    Ok(Command::Subscribe { topics, recover: message.recover.is_some_and(Field::is_true), tokens })
}

/// The tokens of topics; `None` if that is not what this says.
fn tokens<'a>(field: Field<'_, '_>) -> Option<Vec<(Cow<'a, str>, Credential<'a>)>> {
    let entry = |(topic, token): (&str, Value<'_, '_>)| {
        Some((Cow::Owned(topic.to_owned()), Credential(Cow::Owned(token.into_string()?.to_owned()))))
    };
    field.value.as_object()?.iter().map(entry).collect()
}

/// The topics that a message names, in any of the spellings.
fn topics<'a>(message: &Fields<'a, '_>) -> Result<Vec<Cow<'a, str>>, Problem> {
    let mut topics = Vec::new();
    if let Some(topic) = message.topic {
        topics.push(topic.string().ok_or(NO_TOPICS)?);
    }
    for list in [message.topics, message.symbols].into_iter().flatten() {
        let list = list.value.as_array().ok_or(NO_TOPICS)?;
        if topics.len() + list.len() > MAX_TOPICS_PER_MESSAGE {
            return Err(TOO_MANY_TOPICS);
        }
        for topic in list.iter() {
            topics.push(Cow::Owned(topic.into_string().ok_or(NO_TOPICS)?.to_owned()));
        }
    }
    if topics.is_empty() { Err(NO_TOPICS) } else { Ok(topics) }
}

/// Where the client is in its topics; `None` if that is not what this says. A table, so that many topics are looked up in
/// no more time than they take to be sent.
fn since<'t>(field: Field<'_, 't>) -> Option<HashMap<&'t str, Since>> {
    let object = field.value.as_object()?;
    let entry = |(topic, place): (&'t str, Value<'t, 't>)| {
        let place = place.as_object()?;
        let epoch = parse_epoch(place.get("epoch")?.into_string()?);
        let offset = place.get("offset")?.as_u64().filter(|&offset| offset <= MAX_OFFSET)?;
        Some((topic, Since { epoch, offset }))
    };
    object.iter().map(entry).collect()
}

pub(super) fn publish<'a>(
    message: &Fields<'a, '_>,
    receipt: Option<Receipt<'a>>,
    types: &Types,
) -> Result<Command<'a>, Problem> {
    let topic = message.topic.and_then(Field::string).ok_or(NO_TOPIC)?;
    let data = message.data.ok_or(NO_DATA)?;
    match forged_type(data.value, types) {
        Some(kind) => Err(Problem::told(NOT_ALLOWED, format!("Messages of type {kind} are the server's"))),
        None => Ok(Command::Publish { topic, kind: MessageKind::Text, payload: data.text, receipt }),
    }
}

/// The type that some reader would take this for, as a message of the server's own, or one that the server has signed.
fn forged_type<'t>(data: Value<'t, 't>, types: &Types) -> Option<&'t str> {
    let data = data.as_object()?;
    let signed = data.iter().any(|(name, _)| name == "from");
    let kinds = data.iter().filter(|(name, _)| *name == "type").filter_map(|(_, kind)| kind.into_string());
    kinds.into_iter().find(|kind| is_servers(kind) || signed && types.is_signed(kind))
}

fn presence<'a>(message: &Fields<'a, '_>) -> Result<Command<'a>, Problem> {
    let Some(room) = message.topic else { return Ok(Command::Presence { room: None }) };
    let room = room.string().filter(|name| is_topic_name(name)).ok_or(BAD_TOPIC)?;
    Ok(Command::Presence { room: Some(room) })
}

fn address<'a>(message: &Fields<'a, '_>, receipt: Option<Receipt<'a>>) -> Result<Command<'a>, Problem> {
    let receiver = message.receiver.and_then(Field::string).ok_or(NO_RECEIVER)?;
    Ok(Command::Address { receiver, object: message.without(&["from"]), receipt })
}
