//! What is wrong with a request: a status for HTTP, a word for programs, a sentence for people.

use std::borrow::Cow;

use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::shard::handle::Unavailable;

/// A refusal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    status: StatusCode,
    /// As programs know it.
    pub code: &'static str,
    /// As people read it.
    pub message: Cow<'static, str>,
}

/// As it is told.
#[derive(Serialize)]
pub struct Told<'a> {
    /// For programs.
    pub code: &'a str,
    /// For people.
    pub message: &'a str,
}

const fn problem(status: StatusCode, code: &'static str, message: &'static str) -> Problem {
    Problem { status, code, message: Cow::Borrowed(message) }
}

// What goes wrong with a request, whatever it asks for.

pub const NOT_FOUND: Problem = problem(StatusCode::NOT_FOUND, "not_found", "nothing is here; GET / lists what is");
pub const MISDIRECTED: Problem = problem(
    StatusCode::MISDIRECTED_REQUEST,
    "bad_host",
    "the Host must be localhost or an IP address: a page could give this server any other name",
);
pub const UNAUTHORIZED: Problem = problem(
    StatusCode::UNAUTHORIZED,
    "unauthorized",
    "this needs the server's admin_key, in the header Authorization: Bearer KEY",
);
pub const MEDIA_TYPE: Problem =
    problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", "the Content-Type must be application/json");
pub const NO_LENGTH: Problem = problem(StatusCode::LENGTH_REQUIRED, "no_length", "the request has no body");
pub const SLOW: Problem =
    problem(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not come in time; nothing was done");
pub const CUT: Problem = problem(StatusCode::BAD_REQUEST, "bad_body", "the body did not come whole; nothing was done");
pub const CROWDED: Problem = problem(
    StatusCode::SERVICE_UNAVAILABLE,
    "busy",
    "as many requests are under way as may be; nothing was done: try again later",
);
pub const TIMEOUT: Problem = problem(
    StatusCode::GATEWAY_TIMEOUT,
    "timeout",
    "the server did not get to it in time, and may still do it; with an id it can be sent again",
);
pub const TOO_FAST: Problem = problem(
    StatusCode::TOO_MANY_REQUESTS,
    "too_fast",
    "the topic is published to faster than topic_publish_rate allows; nothing was done: try again in a moment",
);
pub const STOPPED: Problem = problem(StatusCode::SERVICE_UNAVAILABLE, "stopped", "the server is stopping");

// What is wrong with what it asks for.

pub const NO_TOPIC: Problem = bad("no_topic", "there is no topic");
pub const BAD_TOPIC: Problem =
    bad("bad_topic", "the name of a topic or room has 1 to 256 bytes and does not begin with U+0000");
pub const NO_DATA: Problem = bad("no_data", "there is no data");
pub const NO_ROOM: Problem = bad("no_room", "there is no room");
pub const BAD_ID: Problem =
    bad("bad_id", "an id is a string of 1 to 128 bytes, or an integer of 64 bits without . and e");
pub const BAD_KEY: Problem =
    bad("bad_id", "an Idempotency-Key has 1 to 128 visible ASCII characters, and is there once");
pub const BAD_SINCE: Problem =
    bad("bad_since", "epoch and offset come together; an offset is an integer from 0, below 2\u{2075}\u{b3}");
pub const ONE_ORDER: Problem = bad("bad_query", "prefix and after are for topics that are sorted by name");
pub const BAD_RECEIVER: Problem = bad("bad_receiver", "receiver is a clientId, a user or a room, of 1 to 256 bytes");
pub const ONE_RECEIVER: Problem = bad("bad_receiver", "one of clientId, user and connection says who is meant");
pub const BAD_CLOSE: Problem =
    bad("bad_close", "code is 1000 or 3000 to 4999, and reason has at most 123 bytes of UTF-8");

const fn bad(code: &'static str, message: &'static str) -> Problem {
    problem(StatusCode::BAD_REQUEST, code, message)
}

impl Problem {
    /// A 400 in words.
    pub fn bad(code: &'static str, message: String) -> Problem {
        Problem { status: StatusCode::BAD_REQUEST, code, message: message.into() }
    }

    /// A 405: something is there, for the one method.
    pub fn only(method: &str) -> Problem {
        let (status, message) = (StatusCode::METHOD_NOT_ALLOWED, format!("Only {method}"));
        Problem { status, code: "method_not_allowed", message: message.into() }
    }

    /// A 413.
    pub fn too_large(what: &str, most: usize) -> Problem {
        let message = format!("{what} has more than {most} bytes");
        Problem { status: StatusCode::PAYLOAD_TOO_LARGE, code: "too_large", message: message.into() }
    }

    /// A 404.
    pub fn no_receiver(name: &str) -> Problem {
        let message = format!("No such receiver: {name}");
        Problem { status: StatusCode::NOT_FOUND, code: "no_receiver", message: message.into() }
    }
}

impl From<Unavailable> for Problem {
    fn from(why: Unavailable) -> Problem {
        match why {
            Unavailable::Busy => problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "more is waiting to go out than may wait; nothing was done: try again later",
            ),
            Unavailable::Stopped => STOPPED,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = super::answer(self.status, &Told { code: self.code, message: &self.message });
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}
