//! What connections still have to be sent.

use std::collections::{HashMap, VecDeque};

use crate::hub::frame::{Frames, Span};
use crate::ring::op::Op;
use crate::ring::token::ConnId;

/// The outboxes of those that have something to be sent. There are few: publishers, and whoever shakes hands or answers a
/// ping just now.
#[derive(Default)]
pub struct Outboxes {
    waiting: HashMap<ConnId, Outbox>,
    /// Whose first span is submitted with the next enter, and over when that returns.
    ready: Vec<ConnId>,
    sending: Vec<ConnId>,
}

#[derive(Default)]
struct Outbox {
    spans: VecDeque<Span>,
    /// The socket took less than it was given; a poll tells when it takes more.
    blocked: bool,
}

impl Outboxes {
    /// Adds a span, whose reference is given along.
    pub fn push(&mut self, id: ConnId, span: Span) {
        let outbox = self.waiting.entry(id).or_default();
        outbox.spans.push_back(span);
        if outbox.spans.len() == 1 && !outbox.blocked {
            self.ready.push(id);
        }
    }

    /// Whether one enter does not do for all that may be sent.
    pub fn have_more(&self) -> bool {
        self.ready.iter().any(|id| self.waiting.get(id).is_some_and(|outbox| outbox.spans.len() > 1))
    }

    /// Bytes that wait.
    pub fn bytes(&self, id: ConnId) -> usize {
        self.waiting.get(&id).map_or(0, |outbox| outbox.spans.iter().map(|span| span.len() as usize).sum())
    }

    /// Asks for one send for each connection that may send.
    pub fn submit(&mut self, ops: &mut Vec<Op>) {
        for id in self.ready.drain(..) {
            if let Some(&span) = self.waiting.get(&id).and_then(|outbox| outbox.spans.front()) {
                ops.push(Op::Send { conn: id, span });
                self.sending.push(id);
            }
        }
    }

    /// A send took only so many bytes, or none: the rest waits for [`Outboxes::retry`].
    pub fn sent(&mut self, id: ConnId, bytes: u32) {
        if let Some(outbox) = self.waiting.get_mut(&id) {
            outbox.blocked = true;
            if let Some(span) = outbox.spans.front_mut() {
                span.start += bytes;
            }
        }
    }

    /// Once the enter has returned and [`Outboxes::sent`] has been told what fell short: all else was sent whole.
    pub fn settle(&mut self, frames: &mut Frames) {
        for id in std::mem::take(&mut self.sending) {
            let Some(outbox) = self.waiting.get_mut(&id).filter(|outbox| !outbox.blocked) else { continue };
            if let Some(span) = outbox.spans.pop_front() {
                frames.release(span.chunk, 1);
            }
            match outbox.spans.is_empty() {
                true => drop(self.waiting.remove(&id)),
                false => self.ready.push(id),
            }
        }
    }

    /// The socket takes bytes again.
    pub fn retry(&mut self, id: ConnId) {
        if let Some(outbox) = self.waiting.get_mut(&id).filter(|outbox| outbox.blocked) {
            outbox.blocked = false;
            self.ready.push(id);
        }
    }

    /// The connection is over.
    pub fn forget(&mut self, id: ConnId, frames: &mut Frames) {
        self.ready.retain(|&other| other != id);
        self.sending.retain(|&other| other != id);
        let spans = self.waiting.remove(&id).map(|outbox| outbox.spans).unwrap_or_default();
        spans.into_iter().for_each(|span| frames.release(span.chunk, 1));
    }
}
