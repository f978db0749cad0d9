//! What the application is asked about before a client may do it.
//!
//! A request waits as one does whose token is checked. Of a connection that is open, the message waits that is asked about, and
//! what comes behind it is not decoded: so what a client sends keeps its order, and no client has more than one question under
//! way.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::auth::hook::{Answer, Cause, Contradiction, Event as Asked, Outcome, Question, Refusal as Word};
use crate::auth::{Grant, token};
use crate::config::Patterns;
use crate::conn::{Phase, Session};
use crate::dialect::{Event, Failure, Receipt, Refusal, json};
use crate::error::CloseReason;
use crate::http::request::Request;
use crate::http::response::{ALLOW_ORIGIN, Framing, Response};
use crate::http::route::Route;
use crate::hub::frame::MessageKind;
use crate::ring::token::ConnId;
use crate::time::Tick;

use super::inbound::Next;
use super::publish::Publication;
use super::subscribe::Wish;
use super::upgrade::room_of;
use super::{Core, NO_TOPIC};

/// What is said where there are too many questions.
const BUSY: Word = Word::Undecided(Cause::Busy, Duration::from_secs(1));

/// A message that waits for the application's word.
pub(super) enum Waiting {
    /// Topics to subscribe to, which the client may have as far as its token goes.
    Subscribe(Vec<(Box<str>, Wish)>),
    /// A publication that it may make as far as its token goes.
    Publish(Box<Draft>),
}

/// A publication, kept.
pub(super) struct Draft {
    pub topic: Box<str>,
    pub kind: MessageKind,
    pub payload: Box<[u8]>,
    /// The publisher is not to get it, if it is subscribed.
    pub but_own: bool,
    /// The acknowledgement that is wanted.
    pub receipt: Option<Receipt<'static>>,
}

impl Draft {
    /// One that everybody is to get, and that nobody need be told of.
    pub(super) fn new(topic: &str, kind: MessageKind, payload: &[u8]) -> Draft {
        Draft { topic: topic.into(), kind, payload: payload.into(), but_own: false, receipt: None }
    }
}

impl Waiting {
    /// Bytes that are kept for it; topics are in its question too.
    fn bytes(&self) -> usize {
        match self {
            Waiting::Subscribe(topics) => topics.iter().map(|(topic, _)| 2 * topic.len()).sum(),
            Waiting::Publish(draft) => 2 * draft.topic.len() + draft.payload.len(),
        }
    }

    fn event(&self) -> Asked {
        match self {
            Waiting::Subscribe(_) => Asked::Subscribe,
            Waiting::Publish(_) => Asked::Publish,
        }
    }

    fn topics(&self) -> Vec<Box<str>> {
        match self {
            Waiting::Subscribe(topics) => topics.iter().map(|(topic, _)| topic.clone()).collect(),
            Waiting::Publish(draft) => vec![draft.topic.clone()],
        }
    }
}

/// What waits of a connection: the message whose question is under way, those that came by when a token was checked, and what was
/// read behind them.
pub(super) struct Queue {
    messages: VecDeque<Waiting>,
    rest: Vec<u8>,
    /// When the first of it came.
    pub since: Tick,
}

impl Queue {
    fn new(since: Tick) -> Queue {
        Queue { messages: VecDeque::new(), rest: Vec::new(), since }
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.messages.iter().map(Waiting::bytes).sum::<usize>() + self.rest.len()
    }
}

impl Core {
    /// Whether the application is asked about such things.
    pub(super) fn asks_about(&self, event: Asked) -> bool {
        let events = self.settings.hook_events;
        self.aides.hook.is_some()
            && match event {
                Asked::Connect => events.connect,
                Asked::Subscribe => events.subscribe,
                Asked::Publish => events.publish,
            }
    }

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

    /// What is asked of a connection, whatever it is about to do.
    fn question(&self, id: ConnId, event: Asked, topics: Vec<Box<str>>) -> Question {
        Question {
            event,
            client_id: self.client_of(id).map(json::client_id_text),
            user: self.granted_user(id).map(Into::into),
            room: self.own_room(id).map(Into::into),
            topics,
            address: self.peers.get(id.index).to_string(),
            path: None,
            token: None,
            headers: BTreeMap::new(),
        }
    }

    fn own_room(&self, id: ConnId) -> Option<&str> {
        match self.conns.get(id)?.session {
            Session::Json { room, .. } if room != NO_TOPIC => Some(self.hub.name(room)),
            _ => None,
        }
    }

    fn ask_application(&mut self, id: ConnId, question: Question) -> bool {
        let asked = self.aides.hook.as_ref().is_some_and(|hook| hook.ask(self.id, id, question));
        self.counters.hook_waiting.add(u64::from(asked));
        asked
    }

    /// Keeps a publication until the application has said whether it may be made.
    pub(super) fn ask_to_publish(&mut self, id: ConnId, draft: Draft) {
        self.wait_for_word(id, Waiting::Publish(Box::new(draft)));
    }

    /// Keeps a message until the application has said whether it may be acted upon.
    pub(super) fn wait_for_word(&mut self, id: ConnId, waiting: Waiting) {
        // Who came in before anybody was asked about anything has nothing yet.
        if self.admissions.get(id).is_none() {
            self.admissions.insert(id.index, Grant::anonymous(self.settings.permissions.clone()));
        }
        let bytes = waiting.bytes();
        if !self.ask_next(id, &waiting) {
            self.count_word(Some(BUSY));
            return self.conclude(id, waiting, &Err(BUSY));
        }
        let Some(admission) = self.admissions.get_mut(id) else { return };
        let queue = admission.queue.get_or_insert_with(|| Box::new(Queue::new(self.now)));
        queue.messages.push_back(waiting);
        self.partial_bytes += bytes;
        if let Some(conn) = self.conns.get_mut(id) {
            conn.flags.set_asking(true);
        }
    }

    /// Asks about a message, unless another of its connection is asked about: then it has its turn later.
    fn ask_next(&mut self, id: ConnId, waiting: &Waiting) -> bool {
        match self.admissions.get(id) {
            None => false,
            Some(admission) if admission.queue.as_ref().is_some_and(|queue| !queue.messages.is_empty()) => true,
            Some(_) => self.ask_application(id, self.question(id, waiting.event(), waiting.topics())),
        }
    }

    /// Keeps what was read behind a message that waits.
    pub(super) fn keep_behind(&mut self, id: ConnId, rest: &[u8]) {
        if let Some(queue) = self.admissions.get_mut(id).and_then(|admission| admission.queue.as_mut()) {
            queue.rest.extend_from_slice(rest);
            self.partial_bytes += rest.len();
        }
    }

    /// Whether what a connection has sent is not to be decoded before the application has said something: also one that is not
    /// asked any more, since a reload.
    pub(super) fn awaits_word(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.flags.asking())
    }

    /// The application has said something, or has not.
    pub(super) fn decided(&mut self, outcome: Outcome) {
        let Outcome { conn: id, result } = outcome;
        self.counters.hook_waiting.sub(1);
        match self.conns.get(id).map(|conn| &conn.session) {
            Some(Session::Asked(_)) => self.decided_at_the_door(id, result),
            Some(_) => {
                self.count_word(result.as_ref().err().copied());
                self.decided_inside(id, result);
            }
            None => self.count_word(result.as_ref().err().copied()),
        }
    }

    fn decided_at_the_door(&mut self, id: ConnId, result: Result<Answer, Word>) {
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

    fn decided_inside(&mut self, id: ConnId, result: Result<Answer, Word>) {
        let mut result = result;
        while let Some(waiting) = self.next_in_queue(id) {
            self.partial_bytes -= waiting.bytes();
            self.conclude(id, waiting, &result);
            let next = self.admissions.get(id).and_then(|admission| admission.queue.as_ref()?.messages.front());
            let Some(next) = next else { break };
            let question = self.question(id, next.event(), next.topics());
            if self.ask_application(id, question) {
                return;
            }
            self.count_word(Some(BUSY));
            result = Err(BUSY);
        }
        self.go_on_reading(id);
    }

    fn next_in_queue(&mut self, id: ConnId) -> Option<Waiting> {
        self.admissions.get_mut(id)?.queue.as_mut()?.messages.pop_front()
    }

    /// Nothing waits any more: what came behind it is decoded.
    fn go_on_reading(&mut self, id: ConnId) {
        let Some(queue) = self.admissions.get_mut(id).and_then(|admission| admission.queue.take()) else { return };
        self.partial_bytes -= queue.rest.len();
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.flags.set_asking(false);
        self.pace(id, true);
        match queue.rest.is_empty() {
            true => self.want_read(id),
            false => self.take_up(id, queue.rest),
        }
    }

    /// Acts on a message that was decided, or not.
    fn conclude(&mut self, id: ConnId, waiting: Waiting, result: &Result<Answer, Word>) {
        if !self.conns.get(id).is_some_and(|conn| conn.phase == Phase::Open) {
            return;
        }
        match waiting {
            Waiting::Subscribe(topics) => self.conclude_subscribe(id, topics, result),
            Waiting::Publish(draft) => self.conclude_publish(id, *draft, result),
        }
    }

    fn conclude_subscribe(&mut self, id: ConnId, topics: Vec<(Box<str>, Wish)>, result: &Result<Answer, Word>) {
        let mut results = Vec::new();
        for (topic, wish) in topics {
            let allowed = match result {
                Ok(answer) if includes(&answer.allowed.subscribe, &topic) => Ok(()),
                Ok(_) | Err(Word::Refused(_)) => Err(Refusal::NotAllowed),
                Err(Word::Undecided(..)) => Err(Refusal::Undecided),
            };
            self.counters.not_allowed.add(u64::from(allowed == Err(Refusal::NotAllowed)));
            // The token that allowed it may be over by now.
            let allowed = allowed.and_then(|()| self.may_join(id, &topic, wish));
            match allowed.and_then(|()| self.join(id, &topic, wish)) {
                Ok(true) => results.push((Cow::Owned(topic.into()), Ok(None))),
                Ok(false) => {}
                Err(refusal) => {
                    self.drop_unused_pass(id, &topic);
                    results.push((Cow::Owned(topic.into()), Err(refusal)));
                }
            }
        }
        if !results.is_empty() {
            self.tell(id, Event::Subscribed(&results));
        }
    }

    fn conclude_publish(&mut self, id: ConnId, draft: Draft, result: &Result<Answer, Word>) {
        let Draft { topic, kind, payload, but_own, receipt } = draft;
        let name = receipt.as_ref().map(|receipt| receipt.id.clone());
        match result {
            Ok(answer) if includes(&answer.allowed.publish, &topic) => {
                let receipt = self.receipt(id, receipt, true);
                let publication = Publication::new(kind, &payload).but(but_own.then_some(id));
                self.publish(&topic, Publication { receipt, ..publication });
            }
            Ok(_) | Err(Word::Refused(_)) => self.not_allowed(id, name.as_deref()),
            Err(Word::Undecided(..)) => self.undecided(id, name.as_deref()),
        }
    }

    /// Nobody knows whether a client may publish what it has published. Where its dialect has no word for that, it would take it for
    /// published.
    fn undecided(&mut self, id: ConnId, message: Option<&str>) {
        match self.conns.get(id).map(|conn| &conn.session) {
            Some(Session::Json { .. }) => self.tell(id, Event::Failed { why: Failure::Undecided, id: message }),
            _ => self.close(id, 1013, "try again later", CloseReason::Policy),
        }
    }

    fn count_word(&self, refusal: Option<Word>) {
        let counter = match refusal {
            None => &self.counters.hook_ok,
            Some(Word::Refused(_)) => &self.counters.hook_refused,
            Some(Word::Undecided(Cause::Failed | Cause::Contradiction, _)) => &self.counters.hook_failed,
            Some(Word::Undecided(Cause::Timeout, _)) => &self.counters.hook_timeout,
            Some(Word::Undecided(Cause::Open, _)) => &self.counters.hook_open,
            Some(Word::Undecided(Cause::Busy, _)) => &self.counters.hook_busy,
        };
        counter.add(1);
    }
}

/// Whether a list of an answer, if there is one, has a topic.
fn includes(list: &Option<Patterns>, topic: &str) -> bool {
    list.as_ref().is_none_or(|list| list.includes(topic))
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
