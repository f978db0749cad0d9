//! Messages that the application is asked about. Of a connection that is open, the message waits that is asked about, and what comes
//! behind it is not decoded: so what a client sends keeps its order.

use std::borrow::Cow;
use std::collections::VecDeque;

use crate::auth::Grant;
use crate::auth::hook::{Answer, Event as Asked, Refusal as Word};
use crate::conn::{Phase, Session};
use crate::dialect::{Event, Failure, Receipt, Refusal};
use crate::error::CloseReason;
use crate::hub::frame::MessageKind;
use crate::ring::token::ConnId;
use crate::time::Tick;

use super::Core;
use super::hook::{BUSY, includes};
use super::publish::Publication;
use super::subscribe::Wish;

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

    /// What the application has said of the message that waits first.
    pub(super) fn decided_inside(&mut self, id: ConnId, result: Result<Answer, Word>) {
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
}
