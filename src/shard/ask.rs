//! Questions, at the shard that knows.

use crate::dialect::{Position, Since};
use crate::hub;
use crate::hub::history::Replay;
use crate::limits::is_topic_name;

use super::Core;
use super::mail::{Answer, Ask, Mail, Past, Question, TopicList};

impl Core {
    /// Asks the shard that knows of a name.
    pub(super) fn ask(&mut self, name: &str, ask: Ask) {
        let home = self.shared.home(name);
        if home == self.id { self.asked(ask) } else { self.post(home, Mail::Ask(Box::new(ask))) }
    }

    /// Answers.
    pub(super) fn asked(&mut self, ask: Ask) {
        let answer = match ask.question {
            Question::Connections { .. } | Question::BusyTopics { .. } => return self.ask_survey(ask),
            Question::TopicFacts(names) => Answer::TopicFacts(self.topic_facts(&names)),
            Question::Presence(room) => {
                let state = self.rooms.get(&*room);
                let (count, members) = state.map_or((0, Some(Vec::new())), |state| (state.count(), state.members()));
                Answer::Presence { room, count, members: members.map(Vec::into_boxed_slice) }
            }
            Question::Rooms => {
                Answer::Rooms(self.rooms.iter().map(|(name, room)| (name.clone(), room.count())).collect())
            }
            Question::Topics { prefix, after, limit } => Answer::Topics(self.subscribed_topics(&prefix, &after, limit)),
            Question::History { topic, since, limit } => {
                let kept = self.settings.history.of(&topic).is_some();
                Answer::History { kept, past: self.kept_of(&topic, since, limit) }
            }
        };
        self.inform(&ask.to, answer);
    }

    /// The first topics by name that have subscribers here, but for the server's own.
    fn subscribed_topics(&self, prefix: &str, after: &str, limit: usize) -> TopicList {
        let all = self.hub.subscribed_topics();
        let wanted = |name: &str| is_topic_name(name) && name.starts_with(prefix) && name > after;
        let mut found: Vec<_> = all.filter(|(name, _)| wanted(name)).collect();
        let goes_on = found.len() > limit;
        if goes_on {
            found.select_nth_unstable(limit);
            found.truncate(limit);
        }
        found.sort_unstable();
        TopicList { topics: found.into_iter().map(|(name, count)| (name.into(), count)).collect(), goes_on }
    }

    /// What is kept of a topic: the oldest messages after a place, or the newest.
    fn kept_of(&mut self, topic: &str, since: Option<Since>, limit: usize) -> Past {
        let local = self.hub.find(topic);
        let position = match local {
            Some(local) => Some(self.hub.tell_position(local)),
            None => self.hub.last_position(topic),
        };
        let hub::Position { epoch, offset } = position.unwrap_or(hub::Position { epoch: 0, offset: 0 });
        let had = since.filter(|since| since.epoch == Some(epoch)).map_or(0, |since| since.offset);
        let replay = match local {
            Some(local) => self.hub.replay(local, hub::Position { epoch, offset: had }),
            None => Replay::lost(had, offset),
        };
        let gap = replay.gap.filter(|_| since.is_some());
        let more = replay.messages.len().saturating_sub(limit);
        let skipped = if since.is_some() { 0 } else { more };
        let messages = replay.messages.skip(skipped).take(limit).cloned().collect();
        Past { now: Position { epoch, offset }, reset: false, gap, messages, snapshot: false }
    }
}
