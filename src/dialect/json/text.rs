//! What clients are told.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};

use super::ids::{ClientId, Epoch};
use super::problem::{BAD_TOKEN, BAD_TOPIC, Problem, TOO_FAST};
use crate::dialect::{Event, Position, Subscribed};
use crate::limits::MAX_TOPIC_BYTES;

/// The text for the client of what came of its command, or of what happened on its topics.
pub fn event(event: Event<'_>) -> String {
    let message = match event {
        Event::Connected { client, room, token, user, expires, now } => {
            let welcome = Message::new("connected").client("clientId", client);
            let welcome = welcome.string("room", room).string("token", token);
            let welcome = user.into_iter().fold(welcome, |welcome, user| welcome.string("user", user));
            let welcome = expires.into_iter().fold(welcome, |welcome, at| welcome.value("expires", at));
            welcome.value("timestamp", now)
        }
        Event::Refreshed { expires } => {
            expires.into_iter().fold(Message::new("refreshed"), |message, at| message.value("expires", at))
        }
        Event::BadToken => return BAD_TOKEN.text(None),
        Event::Ready { now } => Message::new("connected").value("backend", true).value("timestamp", now),
        Event::Came { client, room } => Message::new("client_joined").client("clientId", client).string("room", room),
        Event::Went { client, room } => Message::new("client_left").client("clientId", client).string("room", room),
        Event::Subscribed(results) => Message::new("subscribed").list("topics", results, subscribed),
        Event::Unsubscribed(results) => Message::new("unsubscribed").list("topics", results, unsubscribed),
        Event::TokensExpired(topics) => {
            Message::new("unsubscribed").list("topics", topics, |out, topic| expired(out, topic))
        }
        Event::BadTopic { id } => return BAD_TOPIC.text(id),
        Event::Ack { id, place } => {
            let ack = Message::new("ack").value("id", id);
            match place {
                Some((topic, position)) => ack.string("topic", topic).position(position),
                None => ack,
            }
        }
        Event::NoReceiver { receiver, id } => return no_receiver(receiver).text(id),
        Event::TooLarge { most } => return Problem::too_large(most).text(None),
        Event::TooFast { id } => return TOO_FAST.text(id),
        Event::Failed { why, id } => return Problem::told(why.code(), why.to_string()).text(id),
        Event::Presence { room, count, members } => {
            let presence = Message::new("presence").string("topic", room).value("userCount", count);
            match members {
                Some(members) => presence.list("members", members, client),
                None => presence,
            }
        }
        Event::Joined { room, client, count } => moved("user_joined", room, client, count),
        Event::Left { room, client, count } => moved("user_left", room, client, count),
        Event::Moved { room, joined, left, count } => {
            let presence = Message::new("presence").string("topic", room).list("joined", joined, client);
            presence.list("left", left, client).value("userCount", count)
        }
        Event::Dropped(count) => Message::new("gap").value("dropped", count),
        Event::Gap { topic, epoch, reset, lost } => {
            let gap = Message::new("gap").string("topic", topic).epoch(epoch);
            let gap = if reset { gap.value("reset", true) } else { gap };
            match lost {
                Some((from, to)) => gap.value("from", from).value("to", to),
                None => gap,
            }
        }
        Event::Reconnect { after } => Message::new("reconnect").value("after", after),
        Event::Pong { now } => Message::new("pong").value("timestamp", now),
    };
    message.end()
}

/// Where a publication went, as an object.
pub fn placed_at(topic: &str, position: Position) -> String {
    format!(r#"{{"topic":{},{}}}"#, Quoted(topic), Place(position))
}

/// The type of a text that [`event`] has made.
pub fn type_of(text: &str) -> &str {
    text.split('"').nth(3).unwrap_or_default()
}

fn moved(kind: &str, room: &str, client: u64, count: usize) -> Message {
    Message::new(kind).client("clientId", client).value("userCount", count).string("room", room)
}

pub(super) fn no_receiver(name: &str) -> Problem {
    Problem::told("no_receiver", format!("No such receiver: {}", shortened(name, MAX_TOPIC_BYTES)))
}

fn subscribed(out: &mut String, (topic, result): &Subscribed<'_>) {
    match result {
        Ok(None) => topic_result(out, topic, r#""ok":true"#),
        Ok(Some(position)) => topic_result(out, topic, format_args!(r#""ok":true,{}"#, Place(*position))),
        Err(refusal) => topic_result(out, topic, format_args!(r#""ok":false,"error":"{}""#, refusal.code())),
    }
}

fn unsubscribed(out: &mut String, (topic, was_joined): &(Cow<'_, str>, bool)) {
    topic_result(out, topic, if *was_joined { r#""ok":true"# } else { r#""ok":false,"error":"not_subscribed""# });
}

fn expired(out: &mut String, topic: &str) {
    topic_result(out, topic, r#""ok":true,"code":"token_expired""#);
}

/// `result` is more members of the object.
fn topic_result(out: &mut String, topic: &str, result: impl Display) {
    let _ = write!(out, r#"{{"topic":{},{result}}}"#, Quoted(shortened(topic, MAX_TOPIC_BYTES)));
}

fn client(out: &mut String, client: &u64) {
    let _ = write!(out, r#""{}""#, ClientId(*client));
}

/// At most so many characters: an answer must not be an echo of any size.
pub(super) fn shortened(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}

/// A message under way: an object that lacks its closing brace. Names of members have nothing that would be escaped, and
/// writing to a string does not fail.
pub(super) struct Message(String);

impl Message {
    pub(super) fn new(kind: &str) -> Message {
        Message(format!(r#"{{"type":"{kind}""#))
    }

    /// A member whose value is JSON text when it is displayed.
    pub(super) fn value(mut self, name: &str, value: impl Display) -> Message {
        let _ = write!(self.0, r#","{name}":{value}"#);
        self
    }

    pub(super) fn string(self, name: &str, value: &str) -> Message {
        self.value(name, Quoted(value))
    }

    fn client(self, name: &str, client: u64) -> Message {
        self.value(name, format_args!(r#""{}""#, ClientId(client)))
    }

    fn epoch(self, epoch: u32) -> Message {
        self.value("epoch", format_args!(r#""{}""#, Epoch(epoch)))
    }

    fn position(mut self, position: Position) -> Message {
        let _ = write!(self.0, ",{}", Place(position));
        self
    }

    /// A list of what `each` writes.
    fn list<T>(mut self, name: &str, items: &[T], each: impl Fn(&mut String, &T)) -> Message {
        let _ = write!(self.0, r#","{name}":["#);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.0.push(',');
            }
            each(&mut self.0, item);
        }
        self.0.push(']');
        self
    }

    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// A position as members of an object.
pub(super) struct Place(pub Position);

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#""epoch":"{}","offset":{}"#, Epoch(self.0.epoch), self.0.offset)
    }
}

/// A string as JSON text: in quotes, and with escapes for what a string cannot hold as it is (RFC 8259 section 7).
pub(super) struct Quoted<'a>(pub &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = 0;
        f.write_str("\"")?;
        for (at, special) in self.0.match_indices(|c: char| c < ' ' || c == '"' || c == '\\') {
            f.write_str(&self.0[rest..at])?;
            match special {
                "\"" | "\\" => write!(f, "\\{special}")?,
                "\n" => f.write_str("\\n")?,
                control => control.bytes().try_for_each(|byte| write!(f, "\\u{byte:04x}"))?,
            }
            rest = at + special.len();
        }
        f.write_str(&self.0[rest..])?;
        f.write_str("\"")
    }
}
