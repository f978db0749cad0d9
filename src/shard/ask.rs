//! Questions, at the shard that knows.

use crate::dialect::Position;
use crate::hub;

use super::Core;
use super::mail::{Answer, Ask, Mail, Past, Question};

impl Core {
    /// Asks the shard that knows of a name.
    pub(super) fn ask(&mut self, name: &str, ask: Ask) {
        let home = self.shared.home(name);
        if home == self.id { self.asked(ask) } else { self.post(home, Mail::Ask(Box::new(ask))) }
    }

    /// Answers.
    pub(super) fn asked(&mut self, ask: Ask) {
        let answer = match ask.question {
            Question::Presence(room) => {
                let state = self.rooms.get(&*room);
                let (count, members) = state.map_or((0, Some(Vec::new())), |state| (state.count(), state.members()));
                Answer::Presence { room, count, members: members.map(Vec::into_boxed_slice) }
            }
            Question::Rooms => {
                Answer::Rooms(self.rooms.iter().map(|(name, room)| (name.clone(), room.count())).collect())
            }
            Question::History { topic, since, limit } => {
                let Some(local) = self.hub.find(&topic) else {
                    let now = Position { epoch: 0, offset: 0 };
                    let nothing = Past { now, gap: None, messages: Vec::new(), snapshot: false };
                    return self.inform(&ask.to, Answer::History(nothing));
                };
                let hub::Position { epoch, offset } = self.hub.position(local);
                let had = since.filter(|since| since.epoch == Some(epoch)).map_or(0, |since| since.offset);
                let replay = self.hub.replay(local, hub::Position { epoch, offset: had });
                let gap = replay.gap.filter(|_| since.is_some());
                let more = replay.messages.len().saturating_sub(limit);
                let skipped = if since.is_some() { 0 } else { more };
                let messages = replay.messages.skip(skipped).take(limit).cloned().collect();
                Answer::History(Past { now: Position { epoch, offset }, gap, messages, snapshot: false })
            }
        };
        self.inform(&ask.to, answer);
    }
}
