//! Rooms: who is in them, at the home shard of the room's topic, and what the others are told.

use crate::dialect::{Event, json};
use crate::hub::presence::{Notice, Room};
use crate::time::Tick;

use super::Core;
use super::mail::{Mail, Origin, RoomEvent, RoomMail};

impl Core {
    /// Tells a room's home shard what has happened.
    pub(super) fn post_room(&mut self, mail: RoomMail) {
        let home = self.shared.home(&mail.room);
        if home == self.id { self.room(mail) } else { self.post(home, Mail::Room(Box::new(mail))) }
    }

    /// What happens in a room that is at home here.
    pub(super) fn room(&mut self, mail: RoomMail) {
        let RoomMail { room, client, from, what } = mail;
        match what {
            RoomEvent::Join => {
                let rules = self.settings.presence;
                let state = self.rooms.entry_ref(&*room).or_insert_with(|| Room::new(rules));
                let was_due = state.due();
                let before = state.count();
                let notice = state.join(client, self.now);
                let is_another = state.count() > before;
                let due = state.due().filter(|_| was_due.is_none());
                self.announce(&room, notice, due, Some(from));
                if is_another && !self.backends.is_empty() {
                    self.introduce_newcomer(&room, client);
                }
            }
            RoomEvent::Leave => {
                let Some(state) = self.rooms.get_mut(&*room) else { return };
                let was_due = state.due();
                let before = state.count();
                let notice = state.leave(client, self.now);
                let is_fewer = state.count() < before;
                let due = state.due().filter(|_| was_due.is_none());
                let is_empty = state.is_empty();
                if is_fewer && !self.backends.is_empty() {
                    self.introduce_leaver(&room, client);
                }
                if is_empty {
                    self.rooms.remove(&*room);
                    self.served.remove(&*room);
                } else {
                    self.announce(&room, notice, due, None);
                }
            }
        }
    }

    /// Tells the members of a room, but for the one who knows; `due` is when they are told, if that is put off.
    fn announce(&mut self, room: &str, notice: Option<Notice>, due: Option<Tick>, but: Option<Origin>) {
        self.crowded.extend(due.map(|due| (due, room.into())));
        match notice {
            Some(Notice::Joined { id, count }) => self.say(room, Event::Joined { room, client: id, count }, but),
            Some(Notice::Left { id, count }) => self.say(room, Event::Left { room, client: id, count }, but),
            None => {}
        }
    }

    /// Tells rooms what was put together for them.
    pub(super) fn announce_together(&mut self) {
        while self.crowded.front().is_some_and(|(due, _)| !due.is_after(self.now)) {
            let Some((_, room)) = self.crowded.pop_front() else { return };
            let Some(moved) = self.rooms.get_mut(&*room).and_then(|state| state.flush(self.now)) else { continue };
            let (joined, left, count) = (&moved.joined[..], &moved.left[..], moved.count);
            self.say(&room, Event::Moved { room: &room, joined, left, count }, None);
        }
    }

    fn say(&mut self, room: &str, event: Event<'_>, but: Option<Origin>) {
        self.counters.presence_notices.add(1);
        if let Some(topic) = self.hub.find(room) {
            self.notify(topic, json::event(event), but);
        }
    }
}
