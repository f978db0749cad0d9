//! What a backend makes of a client: which rooms it is in, and which user it is.
//!
//! The room of a client is the one that it has been in the longest, at first the one that it connected to. What it says goes
//! there. It is a member of the others as well: it gets what is said in them, and is counted. All of them are topics that its
//! connection is subscribed to, and end with the connection; so does the topic of its user.

use std::borrow::Cow;

use crate::conn::{JsonMore, Session};
use crate::dialect::{Event, Failure};
use crate::limits::MAX_ROOMS;
use crate::ring::token::ConnId;

use super::address::user_topic;
use super::mail::{Act, Addressed, Answer, Asker, Mail, Origin, Return, RoomEvent, RoomMail, Stage};
use super::{Core, NO_TOPIC};

impl Core {
    /// Changes the rooms or the user of a client of this shard, as a backend wants it.
    pub(super) fn change_membership(&mut self, id: ConnId, what: Addressed) {
        if !self.is_open_client(id) {
            return self.pass_on(Addressed { stage: Stage::Failed, ..what });
        }
        let topic = match &what.act {
            Act::Join(room) => self.join_room(id, room).map(|()| room.clone()),
            Act::Leave(room) => {
                self.leave_room(id, room);
                Ok(room.clone())
            }
            Act::Identify(user) => {
                self.identify(id, user.as_deref());
                Ok(user_topic(user.as_deref().unwrap_or_default()).into())
            }
            Act::Send(_) | Act::Close { .. } => return,
        };
        match topic {
            Ok(topic) => self.done_behind(&topic, what.asker),
            Err(why) => self.failed(what.asker, why),
        }
    }

    /// Acknowledges by way of a topic's home shard. That knows by then of the subscription: who publishes when it has the
    /// acknowledgement reaches the client.
    fn done_behind(&mut self, topic: &str, asker: Asker) {
        self.counters.addressed.add(1);
        let Some(id) = asker.id.filter(|_| asker.ack) else { return };
        let answer = Answer::Ack { id, place: None };
        match self.shared.home(topic) {
            home if home == self.id => self.inform(&asker.to, answer),
            home => self.post(home, Mail::Inform(Box::new((asker.to, answer)))),
        }
    }

    /// Makes a client a member of a room.
    pub(crate) fn join_room(&mut self, id: ConnId, room: &str) -> Result<(), Failure> {
        if self.is_member(id, room) {
            return Ok(());
        }
        if self.extra_rooms(id) >= MAX_ROOMS {
            return Err(Failure::TooManyRooms);
        }
        // One that it waits for, with what it has missed, is subscribed to when that comes.
        let known = self.hub.find(room);
        let local = match known.filter(|&local| self.awaits(id, local)) {
            Some(awaited) => awaited,
            None => {
                let Some(conn) = self.conns.get(id) else { return Ok(()) };
                let before = known.and_then(|local| self.hub.class(id.index, local));
                self.enlist(id, room, before.unwrap_or(conn.class).of_member())
            }
        };
        match self.session_of(id) {
            Some((own, _)) if *own == NO_TOPIC => *own = local,
            Some((_, more)) => more.get_or_insert_default().rooms.push(local),
            None => return Ok(()),
        }
        self.tell(id, Event::Subscribed(&[(Cow::Borrowed(room), Ok(None))]));
        self.tell_room(id, room, RoomEvent::Join);
        Ok(())
    }

    /// Takes a client out of a room, if it is in it.
    pub(crate) fn leave_room(&mut self, id: ConnId, room: &str) {
        let Some(local) = self.hub.find(room).filter(|_| self.is_member(id, room)) else { return };
        let Some((own, more)) = self.session_of(id) else { return };
        let rooms = more.as_mut().map(|more| &mut more.rooms);
        match rooms {
            Some(rooms) if *own == local && !rooms.is_empty() => *own = rooms.remove(0),
            _ if *own == local => *own = NO_TOPIC,
            Some(rooms) => rooms.retain(|&other| other != local),
            None => {}
        }
        self.give_up(id, room);
        self.tell(id, Event::Unsubscribed(&[(Cow::Borrowed(room), true)]));
        self.tell_room(id, room, RoomEvent::Leave);
    }

    pub(super) fn tell_room(&mut self, id: ConnId, room: &str, what: RoomEvent) {
        let Some(client) = self.client_of(id) else { return };
        self.post_room(RoomMail { room: room.into(), client, from: Origin { shard: self.id, conn: id }, what });
    }

    /// From now on a client is a connection of this user.
    pub(crate) fn identify(&mut self, id: ConnId, user: Option<&str>) {
        let Some((_, more)) = self.session_of(id) else { return };
        let before = match more {
            Some(more) => std::mem::replace(&mut more.user, user.map(Into::into)),
            None => {
                let user = user.map(Into::into);
                *more = Some(Box::new(JsonMore { user, ..JsonMore::default() }));
                None
            }
        };
        if before.as_deref() == user {
            return;
        }
        if let Some(before) = before {
            self.unsubscribe(id, &user_topic(&before));
        }
        if let Some((user, conn)) = user.zip(self.conns.get(id)) {
            let class = conn.class.of_member();
            self.enlist(id, &user_topic(user), class);
        }
    }

    /// Whether a connection is a client's, and open.
    pub(super) fn is_open_client(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.is_open() && matches!(conn.session, Session::Json { .. }))
    }

    /// Whether a connection is a member of a room.
    pub(super) fn is_member(&self, id: ConnId, room: &str) -> bool {
        let Some(local) = self.hub.find(room) else { return false };
        match self.conns.get(id).map(|conn| &conn.session) {
            Some(Session::Json { room, more }) => {
                *room == local || more.as_ref().is_some_and(|more| more.rooms.contains(&local))
            }
            _ => false,
        }
    }

    /// The rooms that a connection is a member of besides its own.
    fn extra_rooms(&self, id: ConnId) -> usize {
        match self.conns.get(id).map(|conn| &conn.session) {
            Some(Session::Json { more: Some(more), .. }) => more.rooms.len(),
            _ => 0,
        }
    }

    /// The room of a `json` connection, and what else it has.
    fn session_of(&mut self, id: ConnId) -> Option<(&mut u32, &mut Option<Box<JsonMore>>)> {
        match &mut self.conns.get_mut(id)?.session {
            Session::Json { room, more } => Some((room, more)),
            _ => None,
        }
    }

    /// The room of a `json` connection, if it is in one.
    pub(crate) fn room_of(&self, id: ConnId) -> Option<&str> {
        match self.conns.get(id)?.session {
            Session::Json { room, .. } if room != NO_TOPIC => Some(self.hub.name(room)),
            _ => None,
        }
    }

    /// The user that a connection is one of.
    pub(crate) fn user_of(&self, id: ConnId) -> Option<&str> {
        match &self.conns.get(id)?.session {
            Session::Json { more: Some(more), .. } => more.user.as_deref(),
            _ => None,
        }
    }

    /// Passes an answer on to whom it is for.
    pub(super) fn inform_further(&mut self, (to, answer): (Return, Answer)) {
        self.inform(&to, answer);
    }
}
