//! What the application is asked about before a client may do it: a request, or a message of a connection that is open. No client has
//! more than one question under way.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::auth::hook::{Cause, Event as Asked, Outcome, Question, Refusal as Word};
use crate::config::Patterns;
use crate::conn::Session;
use crate::dialect::json;
use crate::ring::token::ConnId;

use super::{Core, NO_TOPIC};

/// What is said where there are too many questions.
pub(super) const BUSY: Word = Word::Undecided(Cause::Busy, Duration::from_secs(1));

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

    /// What is asked of a connection, whatever it is about to do.
    pub(super) fn question(&self, id: ConnId, event: Asked, topics: Vec<Box<str>>) -> Question {
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

    /// Asks; `false` if there are too many questions.
    pub(super) fn ask_application(&mut self, id: ConnId, question: Question) -> bool {
        let asked = self.aides.hook.as_ref().is_some_and(|hook| hook.ask(self.id, id, question));
        self.counters.hook_waiting.add(u64::from(asked));
        asked
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

    /// Counts what came of a question.
    pub(super) fn count_word(&self, refusal: Option<Word>) {
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
pub(super) fn includes(list: &Option<Patterns>, topic: &str) -> bool {
    list.as_ref().is_none_or(|list| list.includes(topic))
}
