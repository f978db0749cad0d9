//! What a backend's message asks for.

use std::borrow::Cow;

use simd_json::prelude::*;
use simd_json::tape::Value;

use super::fields::{Field, Fields, parse};
use super::ids::parse_client_id;
use super::problem::{
    BAD_CODE, BAD_REASON, BAD_TOPIC, BAD_USER, INVALID, NO_CLIENT, NO_DATA, NO_ID, NO_RECEIVER, NO_TOPIC, NO_TYPE,
    NOWHERE, Problem,
};
use super::request::id_text;
use super::text::no_receiver;
use crate::dialect::{Deed, Instruction, Receipt};
use crate::hub::frame::MessageKind;
use crate::limits::{is_application_close, is_topic_name};

/// The close code of a backend that names none.
const NORMAL: u16 = 1000;

/// The instruction of a message. Parsing writes into `scratch`, so that parts of `payload` can be lent untouched.
pub fn instruction<'a>(kind: MessageKind, payload: &'a [u8], scratch: &mut Vec<u8>) -> Instruction<'a> {
    scratch.clear();
    let tape = if kind == MessageKind::Text { parse(payload, scratch) } else { None };
    let Some(value) = tape.as_ref().map(|tape| tape.as_value()) else { return refused(&INVALID, None) };
    let fields = match Fields::of(payload, value) {
        Ok(fields) => fields,
        Err(problem) => return refused(&problem, None),
    };
    let id = match fields.id.map(id_text).transpose() {
        Ok(id) => id,
        Err(problem) => return refused(&problem, None),
    };
    let ack = fields.ack.is_some_and(Field::is_true);
    if ack && id.is_none() {
        return refused(&NO_ID, None);
    }
    let receipt = id.clone().map(|id| Receipt { id, ack });
    let message = Message { fields, value };
    message.instruction(receipt).unwrap_or_else(|problem| refused(&problem, id.as_deref()))
}

fn refused<'a>(problem: &Problem, id: Option<&str>) -> Instruction<'a> {
    Instruction::Error(problem.text(id))
}

struct Message<'a, 't> {
    fields: Fields<'a, 't>,
    /// The object.
    value: Value<'t, 't>,
}

impl<'a> Message<'a, '_> {
    fn instruction(&self, receipt: Option<Receipt<'a>>) -> Result<Instruction<'a>, Problem> {
        let kind = self.fields.kind.and_then(|kind| kind.value.into_string()).ok_or(NO_TYPE)?;
        if let Some(name) = ["clientId", "room", "user"].into_iter().find(|name| self.fields.has_twice(name)) {
            return Err(Problem::twice(name));
        }
        match kind {
            "publish" => self.publish(receipt),
            "send" => {
                let receiver = self.fields.receiver.and_then(Field::string).ok_or(NO_RECEIVER)?;
                let deed = Deed::Send(self.fields.data.ok_or(NO_DATA)?.text.into());
                Ok(Instruction::Act { receiver, deed, receipt })
            }
            "join" => self.act(Deed::Join(self.room()?), receipt),
            "leave" => self.act(Deed::Leave(self.room()?), receipt),
            "identify" => self.act(Deed::Identify(self.user()?), receipt),
            "close" => self.act(self.close()?, receipt),
            "presence" => Ok(Instruction::Presence { room: self.topic()? }),
            "ping" => Ok(Instruction::Ping),
            _ if self.has("clientId") => self.act(Deed::Send(self.without("clientId").into()), receipt),
            _ if self.has("room") => {
                let payload = self.without("room").into();
                Ok(Instruction::Publish { topic: self.room()?, payload, place: false, receipt })
            }
            _ => Err(NOWHERE),
        }
    }

    fn publish(&self, receipt: Option<Receipt<'a>>) -> Result<Instruction<'a>, Problem> {
        let payload = self.fields.data.ok_or(NO_DATA)?.text.into();
        Ok(Instruction::Publish { topic: self.topic()?, payload, place: true, receipt })
    }

    /// Something to be done to the client that is named.
    fn act(&self, deed: Deed<'a>, receipt: Option<Receipt<'a>>) -> Result<Instruction<'a>, Problem> {
        let receiver = self.string("clientId").ok_or(NO_CLIENT)?;
        // What is no `clientId` would be taken for a user, or a room.
        match parse_client_id(&receiver) {
            Some(_) => Ok(Instruction::Act { receiver, deed, receipt }),
            None => Err(no_receiver(&receiver)),
        }
    }

    fn close(&self) -> Result<Deed<'a>, Problem> {
        let code = self.value.get("code").map_or(Some(NORMAL), |code| code.as_u16());
        let code = code.filter(|&code| is_application_close(code)).ok_or(BAD_CODE)?;
        let reason = if self.has("reason") { self.string("reason").ok_or(BAD_REASON)? } else { Cow::Borrowed("") };
        Ok(Deed::Close { code, reason })
    }

    fn topic(&self) -> Result<Cow<'a, str>, Problem> {
        let topic = self.fields.topic.and_then(Field::string).ok_or(NO_TOPIC)?;
        if is_topic_name(&topic) { Ok(topic) } else { Err(BAD_TOPIC) }
    }

    fn room(&self) -> Result<Cow<'a, str>, Problem> {
        self.string("room").filter(|room| is_topic_name(room)).ok_or(BAD_TOPIC)
    }

    fn user(&self) -> Result<Option<Cow<'a, str>>, Problem> {
        match self.value.get("user").ok_or(BAD_USER)? {
            user if user.is_null() => Ok(None),
            _ => self.string("user").filter(|user| is_topic_name(user)).map(Some).ok_or(BAD_USER),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.value.get(name).is_some()
    }

    fn string(&self, name: &str) -> Option<Cow<'a, str>> {
        self.value.get(name)?.into_string().map(|string| Cow::Owned(string.to_owned()))
    }

    /// The object as it goes on: without the member that says to whom, and without what is asked of the server.
    fn without(&self, name: &'static str) -> Vec<u8> {
        let mut object = self.fields.without(&["ack", name]);
        object.push(b'}');
        object
    }
}
