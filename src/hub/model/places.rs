//! The model's topics that are not in use: which of them are known, where they are, and how long.

use super::{Model, PLACE_TIME, PLACES, Position, TOPICS, Topic};

impl Model {
    /// Who knows where the topic was will know that it has missed something.
    pub(super) fn publish_unheard(&mut self, topic: usize) {
        self.hub.order_unheard(TOPICS[topic]);
        if let Some(until) = &mut self.topics[topic].known_until {
            *until = self.now.after(PLACE_TIME);
            self.topics[topic].offset += 1;
        }
    }

    pub(super) fn tell(&mut self, topic: usize) {
        let Some(index) = self.hub.find(TOPICS[topic]) else { return };
        let Position { epoch, offset } = self.hub.tell_position(index);
        let model = &mut self.topics[topic];
        assert_eq!((model.epoch, model.offset), (Some(epoch), offset));
        model.told = true;
    }

    /// A topic that is there is a new one, or goes on where it was.
    pub(super) fn appear(&mut self, topic: usize, index: u32) {
        let epoch = self.hub.position(index).epoch;
        let model = &mut self.topics[topic];
        assert!(model.epoch.is_some() || self.epochs.insert(epoch), "a new topic has a new epoch");
        model.epoch.get_or_insert(epoch);
        model.known_until = None;
    }

    /// Topics that have vanished are known if somebody may ask for them, but not more of them than may be.
    pub(super) fn vanish(&mut self) {
        let (hub, now) = (&self.hub, self.now);
        for (name, model) in TOPICS.iter().zip(&mut self.topics) {
            if hub.find(name).is_some() {
                model.known_until = None;
            } else if model.epoch.is_some() && model.known_until.is_none() {
                let until = now.after(PLACE_TIME);
                (model.epoch, model.offset) = if model.told { (model.epoch, model.offset) } else { (None, 0) };
                model.known_until = model.told.then_some(until);
            }
        }
        let known = |topic: &usize| self.topics[*topic].known_until.is_some();
        let (kept, gone): (Vec<_>, Vec<_>) =
            (0..TOPICS.len()).filter(known).partition(|&topic| hub.last_position(TOPICS[topic]).is_some());
        assert!(gone.is_empty() || kept.len() == PLACES, "none goes without need");
        let until = |topic: &usize| self.topics[*topic].known_until.map(|until| until.0);
        assert!(gone.iter().map(until).max() <= kept.iter().map(until).min() || gone.is_empty());
        assert_eq!(hub.remembered_topics(), kept.len());
        gone.into_iter().for_each(|topic| self.unknow(topic));
    }

    fn unknow(&mut self, topic: usize) {
        let model = &mut self.topics[topic];
        (model.epoch, model.offset, model.told, model.known_until) = (None, 0, false, None);
    }

    pub(super) fn expire_places(&mut self, budget: usize) {
        let due = |model: &Topic| model.known_until.is_some_and(|until| !until.is_after(self.now));
        let due: Vec<_> = (0..TOPICS.len()).filter(|&topic| due(&self.topics[topic])).collect();
        let gone = due.iter().filter(|&&topic| self.hub.last_position(TOPICS[topic]).is_none());
        let gone: Vec<_> = gone.copied().collect();
        assert!(gone.len() == due.len() || gone.len() == budget, "as many as may go");
        gone.into_iter().for_each(|topic| self.unknow(topic));
    }
}
