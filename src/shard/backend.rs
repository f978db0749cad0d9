//! The connection of a backend: who may have one, what it is sent, and what it asks for.

use crate::auth::token::bearer;
use crate::config::Secret;
use crate::conn::Session;
use crate::dialect::{Deed, Event, Failure, Instruction, Receipt};
use crate::http::request::Request;
use crate::hub::frame::{LogId, MessageKind};
use crate::limits::{MAX_BACKEND_BACKLOG, MAX_SHARED_CHUNK};
use crate::ring::token::ConnId;

use super::Core;
use super::handover::Backend;
use super::mail::{Act, Addressed, Ask, Mail, Origin, Question, Return, Stage};
use super::publish::Publication;

impl Core {
    /// Which of the keys of backends a request has, if it has one: as a bearer token (RFC 6750 section 2.1), or as `key` in its query.
    pub(super) fn backend_key_of(&self, request: &Request<'_>) -> Option<usize> {
        let token = request.header("Authorization").and_then(bearer);
        let given = request.query_value("key");
        let keys = &self.settings.backend_key;
        let by = |given: &[u8]| Secret::position(keys, given);
        token.and_then(by).or_else(|| given.and_then(|given| by(given.as_bytes())))
    }

    /// Begins to serve a backend whose handshake is answered.
    pub(super) fn welcome_backend(&mut self, id: ConnId) {
        self.counters.backends.add(1);
        self.tell(id, Event::Ready { now: self.unix_ms });
        self.tell_of_backend(id, false);
    }

    /// If a connection that is not open any more is a backend's, it gets no more messages.
    pub(super) fn backend_closes(&mut self, id: ConnId) {
        let at = Origin { shard: self.id, conn: id };
        if !self.backends.is_empty() && self.backends.iter().any(|backend| backend.at == at) {
            self.counters.backends.sub(1);
            self.tell_of_backend(id, true);
        }
    }

    /// Tells every shard that a backend of this shard has come or gone.
    fn tell_of_backend(&mut self, id: ConnId, gone: bool) {
        let Some(&Session::Backend { presence }) = self.conns.get(id).map(|conn| &conn.session) else { return };
        let backend = Backend { at: Origin { shard: self.id, conn: id }, presence };
        for shard in 0..self.postboxes.len() as u16 {
            if shard != self.id {
                self.post(shard, Mail::Backend { backend, gone });
            }
        }
        self.backend_news(backend, gone);
    }

    /// Puts a client's message into the outbox of a backend of this shard.
    pub(super) fn put_before_backend(&mut self, id: ConnId, text: &[u8]) -> Result<(), Failure> {
        self.put(id, text, MAX_BACKEND_BACKLOG)
    }

    /// Tells a backend something that it must not miss. One that does not read is closed.
    pub(super) fn tell_backend(&mut self, id: ConnId, text: &str) {
        if self.put(id, text.as_bytes(), 2 * MAX_BACKEND_BACKLOG) == Err(Failure::Busy) {
            self.close_overrun(id);
        }
    }

    fn put(&mut self, id: ConnId, text: &[u8], bound: u32) -> Result<(), Failure> {
        let Core { conns, encoder, frames, backend_logs, .. } = self;
        let conn = conns.get_mut(id).filter(|conn| conn.is_open() && conn.is_backend()).ok_or(Failure::NoBackend)?;
        let waiting = u64::from(conn.outbox.len_bytes()) + text.len() as u64;
        if !conn.outbox.is_empty() && waiting > u64::from(bound) {
            return Err(Failure::Busy);
        }
        let (header, body) = encoder.encode(conn.class, MessageKind::Text, text);
        let log = backend_logs.entry(id.index).or_default();
        let span = log.append(frames, LogId::NONE, MAX_SHARED_CHUNK, &[header.as_slice(), body]);
        frames.retain(span.chunk, 1);
        conn.outbox.push(frames, span);
        encoder.trim();
        self.mark_dirty(id.index);
        Ok(())
    }

    /// Lets go of what backends of this shard have been sent.
    pub(super) fn settle_backends(&mut self) {
        for log in self.backend_logs.values_mut() {
            log.settle(&mut self.frames);
        }
    }

    /// The same of one that has ended, for good.
    pub(super) fn drop_backend_log(&mut self, id: ConnId) {
        if let Some(mut log) = self.backend_logs.remove(&id.index) {
            log.close(&mut self.frames);
        }
    }

    /// Carries out what a backend's message asks for. Says whether other shards may have work of it.
    pub(super) fn carry_out(&mut self, id: ConnId, instruction: Instruction<'_>) -> bool {
        self.counters.instructions.add(1);
        match instruction {
            Instruction::Publish { topic, payload, place, receipt } => {
                let name = receipt.as_ref().map(|receipt| receipt.id.clone());
                let receipt = self.receipt(id, receipt, place);
                if !self.publish(&topic, Publication { receipt, ..Publication::new(MessageKind::Text, &payload) }) {
                    self.tell(id, Event::BadTopic { id: name.as_deref() });
                }
            }
            Instruction::Act { receiver, deed, receipt } => self.act_for(id, &receiver, deed, receipt),
            Instruction::Presence { room } => {
                let to = Return::Conn(Origin { shard: self.id, conn: id });
                self.ask(&room, Ask { question: Question::Presence(room.as_ref().into()), to });
            }
            Instruction::Ping => {
                self.tell(id, Event::Pong { now: self.unix_ms });
                return false;
            }
            Instruction::Error(text) => {
                self.counters.client_errors.add(1);
                self.tell_backend(id, &text);
                return false;
            }
        }
        true
    }

    fn act_for(&mut self, id: ConnId, receiver: &str, deed: Deed<'_>, receipt: Option<Receipt<'_>>) {
        let act = match deed {
            Deed::Send(payload) => Act::Send(payload.into_owned().into()),
            Deed::Close { code, reason } => Act::Close { code, reason: reason.into() },
            Deed::Join(room) => Act::Join(room.into()),
            Deed::Leave(room) => Act::Leave(room.into()),
            Deed::Identify(user) => Act::Identify(user.map(Into::into)),
        };
        let asker = self.asker(id, None, receipt);
        self.pass_on(Addressed { receiver: receiver.into(), to_room: true, stage: Stage::Sent, act, asker });
    }
}
