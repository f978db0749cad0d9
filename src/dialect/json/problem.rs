//! Why messages are refused.

use std::borrow::Cow;

use super::text::{Message, Quoted};

/// What is wrong with a message.
#[derive(Debug)]
pub struct Problem {
    /// For programs.
    code: &'static str,
    /// For people.
    message: Cow<'static, str>,
}

pub(super) const INVALID: Problem = Problem::new("invalid_json", "Invalid JSON");
pub(super) const NO_TYPE: Problem = Problem::new("no_type", "Expected \"type\", a string");
pub(super) const NO_ID: Problem = Problem::new("bad_id", "Expected \"id\" with \"ack\"");
pub(super) const BAD_ID: Problem = Problem::new("bad_id", "An id is a string of 1 to 128 bytes, or an integer");
pub(super) const BAD_TOPIC: Problem = Problem::new("bad_topic", "A topic is 1 to 256 bytes, the first not U+0000");
pub(super) const BAD_SINCE: Problem =
    Problem::new("bad_since", "Expected \"since\" to be an object of {\"epoch\",\"offset\"}");
pub(super) const BAD_CODE: Problem = Problem::new("bad_code", "Expected \"code\" to be 1000, or 3000 to 4999");
pub(super) const BAD_REASON: Problem = Problem::new("bad_reason", "Expected \"reason\", a string");
pub(super) const BAD_USER: Problem =
    Problem::new("bad_user", "Expected \"user\" to be null, or 1 to 256 bytes, the first not U+0000");
pub(super) const BAD_TOKEN: Problem = Problem::new("bad_token", "The token is not valid, or another user's");
pub(super) const NO_TOKEN: Problem = Problem::new("bad_token", "Expected \"token\", a string");
pub(super) const BAD_TOKENS: Problem = Problem::new("bad_token", "Expected \"tokens\" to be an object of strings");
pub(super) const NO_CLIENT: Problem = Problem::new("no_receiver", "Expected \"clientId\", a string");
pub(super) const NOWHERE: Problem = Problem::new("no_receiver", "Expected \"clientId\" or \"room\"");
pub(super) const NO_DATA: Problem = Problem::new("no_data", "Expected \"data\"");
pub(super) const NO_RECEIVER: Problem = Problem::new("no_receiver", "Expected \"receiver\", a string");
pub(super) const NO_TOPIC: Problem = Problem::new("no_topic", "Expected \"topic\", a string");
pub(super) const NO_TOPICS: Problem = Problem::new("no_topic", "Expected \"topic\" or \"topics\", of strings");
pub(super) const TOO_FAST: Problem = Problem::new("too_fast", "Too many messages, or too much, at once: wait a moment");
pub(super) const TOO_MANY_TOPICS: Problem = Problem::new("too_many_topics", "At most 1024 topics in one message");

/// The code of what clients may not say.
pub(super) const NOT_ALLOWED: &str = "not_allowed";

impl Problem {
    const fn new(code: &'static str, message: &'static str) -> Problem {
        Problem { code, message: Cow::Borrowed(message) }
    }

    /// One that is told in words of its own.
    pub(super) fn told(code: &'static str, message: String) -> Problem {
        Problem { code, message: Cow::Owned(message) }
    }

    /// A member is there twice: some readers take the first and others the last.
    pub(super) fn twice(name: &str) -> Problem {
        Problem::told("invalid_json", format!("Invalid JSON: \"{name}\" is there twice"))
    }

    /// A message of more bytes than one may have.
    pub(super) fn too_large(most: u32) -> Problem {
        Problem::told("too_large", format!("Message too large: at most {most} bytes"))
    }

    /// The same as the body of a response.
    pub fn body(&self) -> String {
        format!(r#"{{"code":"{}","message":{}}}"#, self.code, Quoted(&self.message))
    }

    /// The status of that response.
    pub fn status(&self) -> u16 {
        if self.code == NOT_ALLOWED { 403 } else { 400 }
    }

    /// The text for the client. `id` is JSON text, of the message that has the problem.
    pub(super) fn text(&self, id: Option<&str>) -> String {
        let error = Message::new("error").string("message", &self.message).string("code", self.code);
        match id {
            Some(id) => error.value("id", id).end(),
            None => error.end(),
        }
    }
}
