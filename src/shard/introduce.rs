//! Telling backends who is in their rooms, if they asked for that.
//!
//! The home shard of a room tells its backend at once who comes and who goes. Where a room gets a backend, those who are in it
//! already are introduced: a slice a turn, and the next when the backend has read. A client may be told twice that way, once as
//! one who comes and once as one who is there; but what is told last of it is so.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::limits::MAX_BACKEND_BACKLOG;
use crate::ring::token::ConnId;

use super::Core;
use super::mail::{Answer, Mail, Origin, Return};

/// Clients that are introduced in one turn.
const CLIENTS_PER_TURN: usize = 256;
/// Topics of one turn that are looked at for rooms without a backend.
const TOPICS_PER_TURN: u32 = 1024;
/// Rooms that wait to have their members introduced before no more are looked for.
const ROOMS_WAITING: usize = 64;
/// What a backend may have to read when it is told of more.
const READ_ENOUGH: u32 = MAX_BACKEND_BACKLOG / 4;

/// A room's members, for its backend.
struct Introduction {
    to: Origin,
    room: Box<str>,
    /// Those who are still to be told of; `None`: not begun.
    members: Option<Vec<u64>>,
}

/// Everything that is under way.
#[derive(Default)]
pub(super) struct Introductions {
    queue: VecDeque<Introduction>,
    /// Backends that have not read yet what they were told last.
    reading: Vec<Origin>,
    /// The topic that the search for rooms without a backend has come to, while it goes on.
    search: Option<u32>,
    /// Backends of this shard that have much to read, and the shards that are to know when they have read.
    watched: Vec<(ConnId, u16)>,
}

impl Core {
    /// The backends are others than before: rooms that have none any more get one, and it gets to know them.
    pub(super) fn look_for_rooms(&mut self) {
        let backends = &self.backends;
        self.introductions.reading.retain(|at| backends.iter().any(|backend| backend.at == *at));
        if backends.iter().any(|backend| backend.presence) {
            self.introductions.search = Some(0);
        }
    }

    /// Tells a room's backend that somebody has come to a room that is at home here.
    pub(super) fn introduce_newcomer(&mut self, room: &str, client: u64) {
        let is_first = self.rooms.get(room).is_some_and(|room| room.count() == 1);
        let Some((at, is_new)) = self.assign(room) else { return };
        if is_new && !is_first {
            // It is among those who are introduced.
            return self.introduce_all(room, at);
        }
        if self.wants_presence(at) {
            self.inform(&Return::Conn(at), Answer::Came { client, room: room.into() });
        }
    }

    /// Tells a room's backend that somebody has left.
    pub(super) fn introduce_leaver(&mut self, room: &str, client: u64) {
        if let Some(&at) = self.served.get(room).filter(|&&at| self.wants_presence(at)) {
            self.inform(&Return::Conn(at), Answer::Went { client, room: room.into() });
        }
    }

    /// A room has a backend that does not know who is there.
    pub(super) fn introduce_all(&mut self, room: &str, to: Origin) {
        if self.wants_presence(to) {
            self.introductions.queue.push_back(Introduction { to, room: room.into(), members: None });
        }
    }

    fn wants_presence(&self, at: Origin) -> bool {
        self.backends.iter().any(|backend| backend.at == at && backend.presence)
    }

    /// Goes on with it.
    pub(super) fn introduce(&mut self) {
        self.search_rooms();
        self.tell_who_waits();
        let mut left = CLIENTS_PER_TURN;
        let mut told: SmallVec<[Origin; 2]> = SmallVec::new();
        for _ in 0..self.introductions.queue.len() {
            if left == 0 {
                break;
            }
            let Some(next) = self.introductions.queue.pop_front() else { break };
            if self.introductions.reading.contains(&next.to) {
                self.introductions.queue.push_back(next);
            } else if self.served.get(&*next.room) == Some(&next.to) && self.wants_presence(next.to) {
                left = left.saturating_sub(self.introduce_some(&mut told, next, left));
            }
        }
        for at in told {
            self.introductions.reading.push(at);
            match at.shard == self.id {
                true => self.when_read(at.conn, self.id),
                false => self.post(at.shard, Mail::WhenRead { backend: at.conn, shard: self.id }),
            }
        }
    }

    /// Tells a backend of some members of a room, and how many were looked at.
    fn introduce_some(&mut self, told: &mut SmallVec<[Origin; 2]>, next: Introduction, most: usize) -> usize {
        let Introduction { to, room, members } = next;
        let Some(state) = self.rooms.get(&*room) else { return 1 };
        let mut rest = members.unwrap_or_else(|| state.everyone().collect());
        let some = rest.split_off(rest.len().saturating_sub(most));
        let present: Vec<_> = some.iter().copied().filter(|&client| state.has(client)).collect();
        for client in present {
            self.inform(&Return::Conn(to), Answer::Came { client, room: room.clone() });
        }
        if !told.contains(&to) {
            told.push(to);
        }
        if !rest.is_empty() {
            self.introductions.queue.push_front(Introduction { to, room, members: Some(rest) });
        }
        some.len().max(1)
    }

    /// Gives backends to rooms that have none: those that were there before the first backend, and those whose backend has
    /// gone.
    fn search_rooms(&mut self) {
        let Some(from) = self.introductions.search else { return };
        if self.introductions.queue.len() >= ROOMS_WAITING {
            return;
        }
        let to = from.saturating_add(TOPICS_PER_TURN);
        let rooms: Vec<Box<str>> = (from..to)
            .filter_map(|slot| self.hub.name_in(slot))
            .filter(|name| self.rooms.contains_key(*name))
            .map(Box::from)
            .collect();
        for room in rooms {
            if let Some((at, true)) = self.assign(&room) {
                self.introduce_all(&room, at);
            }
        }
        self.introductions.search = (to < self.hub.slots()).then_some(to);
    }

    /// At a backend's shard: `shard` is to know when the backend has read enough of what it was told.
    pub(super) fn when_read(&mut self, backend: ConnId, shard: u16) {
        self.introductions.watched.push((backend, shard));
        self.tell_who_waits();
    }

    fn tell_who_waits(&mut self) {
        let mut watched = std::mem::take(&mut self.introductions.watched);
        watched.retain(|&(conn, shard)| {
            if self.backlog(conn) > READ_ENOUGH {
                return true;
            }
            let backend = Origin { shard: self.id, conn };
            match shard == self.id {
                true => self.has_read(backend),
                false => self.post(shard, Mail::HasRead { backend }),
            }
            false
        });
        self.introductions.watched = watched;
    }

    /// A backend has read what it was told.
    pub(super) fn has_read(&mut self, backend: Origin) {
        self.introductions.reading.retain(|&at| at != backend);
    }

    /// Whether the next turn has something to tell.
    pub(super) fn has_introductions(&self) -> bool {
        let Introductions { queue, reading, search, .. } = &self.introductions;
        search.is_some() && queue.len() < ROOMS_WAITING || queue.iter().any(|next| !reading.contains(&next.to))
    }
}
