//! What clients send faster than they may: it is refused, and whoever goes on is closed.

use crate::conn::meter::Pace;
use crate::conn::{Conn, Session};
use crate::dialect::{Event, Failure, json};
use crate::error::CloseReason;
use crate::http::response::Response;
use crate::ring::token::ConnId;

use super::Core;
use super::mail::{Answer, Receipt};

const TOO_FAST: &str = "too fast";

impl Core {
    /// Whether a message may be acted upon. One that may not is answered where its dialect has a word for that; other
    /// clients would take it for delivered, and are closed.
    pub(super) fn admits_message(&mut self, id: ConnId, payload: &[u8], scratch: &mut Vec<u8>) -> bool {
        match (self.pace_of(id), self.conns.get(id).map(|conn| &conn.session)) {
            (Pace::Good, _) => return true,
            (Pace::TooFast, Some(Session::Json { .. })) => {
                let name = json::id_of(payload, scratch);
                self.counters.client_errors.add(1);
                self.tell(id, Event::TooFast { id: name.as_deref() });
            }
            _ => self.close_too_fast(id),
        }
        self.counters.too_fast.add(1);
        false
    }

    /// Whether a ping is answered. One that comes too fast need not be: a later one is (RFC 6455 section 5.5.3).
    pub(super) fn admits_ping(&mut self, id: ConnId) -> bool {
        let pace = self.pace_of(id);
        match pace {
            Pace::Good => return true,
            Pace::TooFast => {}
            Pace::Persistent => self.close_too_fast(id),
        }
        self.counters.too_fast.add(1);
        false
    }

    /// The response to a request that comes too fast.
    pub(super) fn refusal_of_request(&mut self, id: ConnId) -> Option<Response<'static>> {
        if self.pace_of(id) == Pace::Good {
            return None;
        }
        self.counters.too_fast.add(1);
        Some(Response::too_many(1, "There are too many requests, or too much in them: wait a moment."))
    }

    /// Whether so many bytes have come, whatever they are, that the connection is closed. What never becomes a message, pongs or
    /// fragments without an end, is found here alone.
    pub(super) fn floods(&mut self, id: ConnId, pace: Pace) -> bool {
        let is_client = |conn: &Conn| conn.is_open() && !conn.is_backend();
        if pace != Pace::Persistent || !self.conns.get(id).is_some_and(is_client) {
            return false;
        }
        self.counters.too_fast.add(1);
        self.fail(id, 1008, TOO_FAST, CloseReason::TooFast);
        true
    }

    /// A backend is as fast as it likes.
    fn pace_of(&mut self, id: ConnId) -> Pace {
        match self.meters.charge_message(id.index, self.now) {
            Pace::TooFast | Pace::Persistent if self.conns.get(id).is_some_and(Conn::is_backend) => Pace::Good,
            pace => pace,
        }
    }

    /// A publication that comes too fast for its topic is nobody's; its sender is told, if it can be.
    pub(super) fn refuse_too_fast(&mut self, receipt: Option<&Receipt>) {
        self.counters.topic_too_fast.add(1);
        if let Some(receipt) = receipt {
            let id = Some(receipt.id.clone()).filter(|id| !id.is_empty());
            self.inform(&receipt.to, Answer::Failed { why: Failure::TooFast, id });
        }
    }

    /// Tells the sender, in its dialect; one that has no word for it is closed.
    pub(super) fn tell_answer(&mut self, to: ConnId, answer: &Answer) {
        if self.answer_posted(to, answer) {
            return;
        }
        let is_raw = self.conns.get(to).is_some_and(|conn| matches!(conn.session, Session::Raw { .. }));
        match answer.event() {
            Some(Event::Failed { why: Failure::TooFast, .. }) if is_raw => self.close_too_fast(to),
            Some(event) => self.tell(to, event),
            None => {}
        }
    }

    fn close_too_fast(&mut self, id: ConnId) {
        self.close(id, 1008, TOO_FAST, CloseReason::TooFast);
    }
}
