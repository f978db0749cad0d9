//! Messages on their way to a backend.
//!
//! The home shard of the sender's room decides which backend gets it, and keeps to that while somebody is in the room and the
//! backend is connected. So all messages of a room, from whatever shard, go to one backend, and what one client sends keeps
//! its order. The home shard also knows what was handed over under an `id`: so a message that comes again is not handed over
//! again, whichever backend has the room by then.

use crate::conn::Session;
use crate::dialect::{Failure, Position, Receipt, json};
use crate::ring::token::ConnId;

use super::mail::{Answer, Asker, Backend, HandedOver, Handing, Mail, Origin};
use super::{Core, NO_ROOM, NOWHERE};

/// Of a message that is on its way, and may be refused yet.
const UNDER_WAY: Position = Position { epoch: 0, offset: u64::MAX };

impl Core {
    /// Sends a client's message on its way to the backend of its room.
    pub(super) fn hand_over(&mut self, id: ConnId, object: Vec<u8>, receipt: Option<Receipt<'_>>) {
        let Some(Session::Json { room, .. }) = self.conns.get(id).map(|conn| &conn.session) else { return };
        let (room, client) = (*room, self.client_of(id));
        let asker = self.asker(id, client, receipt);
        let Some(client) = client.filter(|_| room != NO_ROOM) else { return self.failed(asker, Failure::NoRoom) };
        let room: Box<str> = self.hub.name(room).into();
        let payload = json::placed(object, client, &room, self.user_of(id), self.unix_ms).into();
        let home = self.shared.home(&room);
        self.forward(home, HandedOver { room, payload, asker, stage: Handing::Sent });
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
            Failure::NoRoom | Failure::TooManyRooms => {}
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
