//! Requests that the application is asked about. One waits as one does whose token is checked.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::auth::hook::{Answer, Cause, Contradiction, Event as Asked, Question, Refusal as Word};
use crate::auth::token;
use crate::dialect::json;
use crate::error::CloseReason;
use crate::http::request::Request;
use crate::http::response::{ALLOW_ORIGIN, Framing, Response};
use crate::http::route::Route;
use crate::ring::token::ConnId;

use super::Core;
use super::hook::{BUSY, includes};
use super::inbound::Next;
use super::upgrade::room_of;

impl Core {
    /// Asks about a request, once: `None` if there is nothing to ask, or the application has said that it may be answered. A
    /// publication is asked about when its topic is known.
    pub(super) fn ask_at_the_door(&mut self, id: ConnId, route: &Route<'_>, request: &Request<'_>) -> Option<Next> {
        self.aides.hook.as_ref()?;
        let is_post = matches!(route, Route::Publish);
        let event = match (self.asks_about(Asked::Connect), is_post) {
            (_, true) if self.asks_about(Asked::Publish) => return None,
            (true, _) => Asked::Connect,
            (false, false) if self.asks_about(Asked::Subscribe) => Asked::Subscribe,
            (false, _) => return None,
        };
        // What cannot be is refused later, and needs no leave.
        let topics: Vec<Box<str>> = match route {
            Route::Raw { topic } => vec![topic.as_ref().into()],
            Route::Json => vec![room_of(request)?.into()],
            Route::Events => self.topics_of_stream(request)?.into_iter().map(Into::into).collect(),
            _ => Vec::new(),
        };
        if let Some(answer) = self.admissions.get(id).and_then(|admission| admission.answer.as_ref()) {
            let all = topics.iter().all(|topic| includes(&answer.allowed.subscribe, topic));
            return (event == Asked::Subscribe && !all).then(|| self.not_permitted(id, request));
        }
        let room = topics.first().filter(|_| matches!(route, Route::Json)).cloned();
        Some(self.ask_about_request(id, request, event, room, topics))
    }

    /// Asks about a publication by HTTP, once, as [`Core::ask_at_the_door`] does.
    pub(super) fn ask_to_post(&mut self, id: ConnId, request: &Request<'_>, topic: &str) -> Option<Next> {
        let has_word = self.admissions.get(id).is_some_and(|admission| admission.answer.is_some());
        if !self.asks_about(Asked::Publish) || has_word {
            return None;
        }
        Some(self.ask_about_request(id, request, Asked::Publish, None, vec![topic.into()]))
    }

    fn ask_about_request(
        &mut self,
        id: ConnId,
        request: &Request<'_>,
        event: Asked,
        room: Option<Box<str>>,
        topics: Vec<Box<str>>,
    ) -> Next {
        let client = room.is_some().then(|| self.client_named(id, self.claimed(request)));
        let token = token::of(request, self.settings.auth_cookie.as_deref()).filter(|_| self.aides.gate.is_none());
        let question = Question {
            client_id: client.map(json::client_id_text),
            room,
            path: Some(request.path.into()),
            token: token.map(Cow::into_owned),
            headers: passed_on(request, &self.settings.hook_headers),
            ..self.question(id, event, topics)
        };
        if self.ask_application(id, question) {
            return Next::Wait;
        }
        self.count_word(Some(BUSY));
        let response = Response::unavailable(1, "There are too many questions to the application.");
        self.answer(id, request, &response.header(ALLOW_ORIGIN, "*"))
    }

    /// What the application has said of a request.
    pub(super) fn decided_at_the_door(&mut self, id: ConnId, result: Result<Answer, Word>) {
        let unix_ms = self.unix_ms;
        let result = match (result, self.admissions.get_mut(id)) {
            (Ok(answer), Some(admission)) => match answer.over(admission.grant.clone()) {
                Ok(grant) if grant.expires.is_some_and(|end| end <= unix_ms) => Err(Word::Refused(401)),
                Ok(grant) => {
                    admission.grant = grant;
                    admission.answer = Some(Box::new(answer));
                    Ok(())
                }
                Err(Contradiction) => Err(Word::Undecided(Cause::Contradiction, Duration::from_secs(1))),
            },
            (Err(word), _) => Err(word),
            (Ok(_), None) => return,
        };
        self.count_word(result.as_ref().err().copied());
        let Some(bytes) = self.take_asked(id) else { return };
        if let Err(why) = result {
            log_conn!(self, id, ?why, "the application has not allowed a request");
        }
        let response = match result {
            Ok(()) => return self.take_up(id, bytes),
            Err(Word::Refused(status)) => Response::error(status, "The application does not allow this."),
            Err(Word::Undecided(_, pause)) => Response::unavailable(
                whole_seconds(pause),
                "The application that decides has not answered as it should.",
            ),
        };
        self.counters.http_errors.add(1);
        self.respond(id, &response.header(ALLOW_ORIGIN, "*"), Framing::CLOSE, CloseReason::Http);
    }
}

/// The fields of a request that the application is told. Those of one name are one list (RFC 9110 section 5.3), of cookies
/// (RFC 6265 section 5.4).
fn passed_on(request: &Request<'_>, names: &[String]) -> BTreeMap<String, String> {
    let value = |name: &String| {
        let values: Vec<_> = request.values(name).map(String::from_utf8_lossy).collect();
        let separator = if name == "cookie" { "; " } else { ", " };
        (!values.is_empty()).then(|| (name.clone(), values.join(separator)))
    };
    names.iter().filter_map(value).collect()
}

/// Seconds, of which a part is one.
fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::parse;

    #[test]
    fn the_fields_that_are_named_are_passed_on() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\nX-A: 1\r\nORIGIN: o\r\ncookie: b=2\r\nx-a: 2\r\nX-B: 3\r\n\r\n";
        let request = parse(head, 8192).expect("a head").expect("whole");
        let names = ["cookie", "origin", "x-a", "user-agent"].map(String::from);
        let passed: Vec<_> = passed_on(&request, &names).into_iter().collect();
        let expected = [("cookie", "a=1; b=2"), ("origin", "o"), ("x-a", "1, 2")];
        assert_eq!(passed, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_pause_is_told_in_whole_seconds() {
        for (ms, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (29_500, 30)] {
            assert_eq!(whole_seconds(Duration::from_millis(ms)), seconds);
        }
    }
}
