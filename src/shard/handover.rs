//! Messages on their way to a backend.
//!
//! The home shard of the sender's room decides which backend gets it, and keeps to that while somebody is in the room and the
//! backend is connected. So all messages of a room, from whatever shard, go to one backend, and what one client sends keeps
//! its order. The home shard also knows what was handed over under an `id`: so a message that comes again is not handed over
//! again, whichever backend has the room by then.

use bytes::Bytes;

use crate::dialect::{Failure, Position, Receipt, json};
use crate::ring::token::ConnId;

use super::mail::{Answer, Asker, Mail, Origin};
use super::{Core, NOWHERE};

/// A client's message on its way to a backend.
#[derive(Debug)]
pub struct HandedOver {
    /// The sender's room, whose home shard knows which backend.
    pub room: Box<str>,
    /// What the backend receives.
    pub payload: Bytes,
    /// The sender.
    pub asker: Asker,
    /// How far it has come.
    pub stage: Handing,
}

/// How far a message to a backend has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handing {
    /// To the room's home shard.
    Sent,
    /// To the shard of this backend.
    Given(ConnId),
    /// Back to the room's home shard: the backend has it, or why it has not.
    Back(Result<(), Failure>),
}

/// A backend, as every shard knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backend {
    /// Its connection.
    pub at: Origin,
    /// Whether it is told who comes and goes.
    pub presence: bool,
}

/// Of a message that is on its way, and may be refused yet.
const UNDER_WAY: Position = Position { epoch: 0, offset: u64::MAX };

impl Core {
    /// Sends a client's message on its way to the backend of its room.
    pub(super) fn hand_over(&mut self, id: ConnId, object: Vec<u8>, receipt: Option<Receipt<'_>>) {
        if let Some(message) = self.begin(id, object, receipt) {
            self.forward(self.shared.home(&message.room), message);
        }
    }

    /// The message that a backend gets of a client's object. A client that is in no room is told so.
    fn begin(&mut self, id: ConnId, object: Vec<u8>, receipt: Option<Receipt<'_>>) -> Option<HandedOver> {
        let client = self.client_of(id)?;
        let asker = self.asker(id, Some(client), receipt);
        let Some(room) = self.room_of(id) else {
            self.failed(asker, Failure::NoRoom);
            return None;
        };
        let payload = json::placed(object, client, room, self.user_of(id), self.unix_ms).into();
        Some(HandedOver { room: room.into(), payload, asker, stage: Handing::Sent })
    }

    /// The same for an embedder's backend of this shard: the message, unless it came before. What this shard alone has
    /// noted, no other knows.
    pub(crate) fn begin_here(
        &mut self,
        id: ConnId,
        object: Vec<u8>,
        receipt: Option<Receipt<'_>>,
    ) -> Option<HandedOver> {
        let message = self.begin(id, object, receipt)?;
        if let Some((client, to, id)) = self.repeatable(&message.room, &message.asker) {
            if self.window.find(self.now, client, &to, id).is_some() {
                self.counters.repeated.add(1);
                self.confirm_to(&message.asker);
                return None;
            }
            self.window.note(self.now, client, &to, id, NOWHERE);
        }
        Some(message)
    }

    /// An embedder's backend has had a message.
    pub(crate) fn had_here(&mut self, message: HandedOver) {
        self.counters.handed_over.add(1);
        self.confirm_to(&message.asker);
    }

    fn forward(&mut self, shard: u16, message: HandedOver) {
        if shard == self.id { self.handed_over(message) } else { self.post(shard, Mail::HandOver(Box::new(message))) }
    }

    /// A message at the next shard of its way.
    pub(super) fn handed_over(&mut self, message: HandedOver) {
        match message.stage {
            Handing::Sent => self.choose_backend(message),
            Handing::Given(backend) => self.give(backend, message),
            Handing::Back(outcome) => self.given(&message.room, message.asker, outcome),
        }
    }

    /// At the room's home shard: unless it was handed over before, it goes to the room's backend.
    fn choose_backend(&mut self, message: HandedOver) {
        let HandedOver { room, asker, .. } = &message;
        if let Some((client, to, id)) = self.repeatable(room, asker) {
            match self.window.find(self.now, client, &to, id) {
                Some(UNDER_WAY) => return self.failed(message.asker, Failure::Busy),
                Some(_) => {
                    self.counters.repeated.add(1);
                    return self.confirm_to(asker);
                }
                None => self.window.note(self.now, client, &to, id, UNDER_WAY),
            }
        }
        match self.backend_of(room) {
            Some(at) => self.forward(at.shard, HandedOver { stage: Handing::Given(at.conn), ..message }),
            None => self.given(&message.room, message.asker, Err(Failure::NoBackend)),
        }
    }

    /// At the backend's shard: puts it into the outbox. The home shard is told of it, if it has to know.
    fn give(&mut self, backend: ConnId, message: HandedOver) {
        let outcome = self.put_before_backend(backend, &message.payload);
        match outcome {
            Ok(()) if !message.asker.ack => self.counters.handed_over.add(1),
            _ => {
                let home = self.shared.home(&message.room);
                let back = HandedOver { payload: Default::default(), stage: Handing::Back(outcome), ..message };
                self.forward(home, back);
            }
        }
    }

    /// At the room's home shard: the backend has it, or it has not.
    fn given(&mut self, room: &str, asker: Asker, outcome: Result<(), Failure>) {
        if let Some((client, to, id)) = self.repeatable(room, &asker) {
            match outcome {
                Ok(()) => self.window.note(self.now, client, &to, id, NOWHERE),
                Err(_) => self.window.forget(client, &to, id),
            }
        }
        match outcome {
            Ok(()) => {
                self.counters.handed_over.add(1);
                self.confirm_to(&asker);
            }
            Err(why) => self.failed(asker, why),
        }
    }

    /// By what a message is known when it comes again: the client, where it went, and its `id`.
    fn repeatable<'a>(&self, room: &str, asker: &'a Asker) -> Option<(u64, String, &'a str)> {
        // A name that no topic, user or room has.
        let id = asker.id.as_deref().filter(|_| asker.ack)?;
        Some((asker.client?, format!("\0backend:{room}"), id))
    }

    /// Tells whoever asked that it was not done.
    pub(super) fn failed(&mut self, asker: Asker, why: Failure) {
        match why {
            Failure::NoBackend => self.counters.not_handed_over_none.add(1),
            Failure::Busy => self.counters.not_handed_over_busy.add(1),
            Failure::NoRoom | Failure::NotAllowed | Failure::Undecided => {}
            Failure::TooManyRooms | Failure::TooFast => {}
        }
        self.inform(&asker.to, Answer::Failed { why, id: asker.id });
    }

    /// The backend of a room that is at home here: as long as there is somebody in the room, the same.
    fn backend_of(&mut self, room: &str) -> Option<Origin> {
        let (at, is_new) = self.assign(room)?;
        if is_new {
            self.introduce_all(room, at);
        }
        Some(at)
    }

    /// The same, and whether it has the room only now: then it does not know who is there.
    pub(super) fn assign(&mut self, room: &str) -> Option<(Origin, bool)> {
        let earlier = self.served.get(room).copied();
        if let Some(at) = earlier.filter(|&at| self.backends.iter().any(|backend| backend.at == at)) {
            return Some((at, false));
        }
        let best = self.backends.iter().max_by_key(|backend| self.shared.rank(room, backend.at))?.at;
        let is_room = self.rooms.contains_key(room);
        if is_room {
            self.served.insert(room.into(), best);
        }
        Some((best, is_room))
    }

    /// A backend has connected, or that connection is no longer open.
    pub(super) fn backend_news(&mut self, backend: Backend, gone: bool) {
        if gone {
            self.backends.retain(|other| other.at != backend.at);
        } else {
            self.backends.push(backend);
        }
        if self.backends.is_empty() {
            self.served = Default::default();
        }
        self.look_for_rooms();
    }
}
