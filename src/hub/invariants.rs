//! What always holds in a hub, checked in tests.

use super::Hub;
use super::batch::Stage;
use super::frame::Frames;
use super::keeper::footprint;
use super::subscribers::Membership;
use std::collections::HashMap;

impl Hub {
    /// Panics unless every link leads back to where it came from and all counts agree. For tests.
    pub fn invariants(&self, frames: &Frames) {
        self.topics.invariants();
        self.batches.invariants();
        self.check_memberships();
        self.check_queues();
        self.check_histories();
        for (chunk, held) in self.references() {
            assert!(frames.refs(chunk) >= held, "chunk {chunk} has fewer references than the hub holds");
        }
    }

    /// References that the hub holds, by chunk.
    pub(super) fn references(&self) -> HashMap<u32, u32> {
        let channels = self.topics.iter().flat_map(|(_, topic)| &topic.channels);
        let tails = channels.filter_map(|channel| channel.log.tail());
        let spans = self.batches.iter().flat_map(|(_, batch)| batch.chunks());
        let mut held = HashMap::new();
        tails.chain(spans).for_each(|chunk| *held.entry(chunk).or_default() += 1);
        held
    }

    fn check_memberships(&self) {
        let mut entries = 0;
        for (index, topic) in self.topics.iter() {
            for channel in &topic.channels {
                channel.roster.invariants();
                assert_ne!(channel.roster.len(), 0, "an empty channel is removed");
                for (place, entry) in channel.roster.entries().iter().enumerate() {
                    let membership = self.subscribers.get(entry.sub).as_slice()[entry.slot as usize];
                    assert_eq!(membership, Membership::new(index, channel.class, place as u32));
                    entries += 1;
                }
            }
        }
        let memberships: usize = self.subscribers.iter().map(|(_, memberships)| memberships.as_slice().len()).sum();
        assert_eq!((entries, memberships), (self.subscriptions, self.subscriptions));
    }

    fn check_histories(&self) {
        let mut bytes = 0;
        for (index, topic) in self.topics.iter() {
            let doubtful = self.keeper.doubtful.contains(&self.topics.handle(index));
            assert!(doubtful || !topic.is_unused(), "{} is of no use", topic.name);
            let recencies = self.keeper.recency.iter().filter(|&recent| recent == index).count();
            let deadline = self.keeper.deadlines.deadline(index);
            let Some(history) = topic.history.as_deref().filter(|history| !history.is_empty()) else {
                assert_eq!((recencies, deadline), (0, None), "nothing is kept of {}", topic.name);
                continue;
            };
            history.invariants();
            bytes += footprint(history);
            assert_eq!(recencies, 1);
            assert!(deadline.is_some() || history.deadline().is_none(), "{} is looked at in time", topic.name);
        }
        self.keeper.deadlines.invariants();
        assert_eq!(bytes, self.keeper.bytes);
        let histories = self.topics.iter().filter(|(_, topic)| topic.history.as_ref().is_some_and(|h| !h.is_empty()));
        assert_eq!(histories.count(), self.keeper.recency.iter().count());
    }

    fn check_queues(&self) {
        let channel = |(topic, class)| {
            let mut channels = self.topics.get(topic).channels.iter();
            channels.find(|channel| channel.class == class).expect("a batch's owner is there")
        };
        for (id, batch) in self.batches.iter() {
            let on = |queued: usize| assert_eq!(queued, 1, "batch {id} is on its list once");
            match batch.stage {
                Stage::Spare => assert!(batch.owner.is_none()),
                Stage::Dirty => on(self.dirty.iter().filter(|&&dirty| dirty == id).count()),
                Stage::Waiting => assert!(batch.owner.is_some_and(|owner| channel(owner).active.is_some())),
                Stage::Active => on(self.jobs.iter().filter(|&&job| job == id).count()),
            }
            if let Some(owner) = batch.owner {
                let channel = channel(owner);
                let expected = if batch.stage == Stage::Active { channel.active } else { channel.pending };
                assert_eq!(expected, Some(id));
            }
        }
        for (_, topic) in self.topics.iter() {
            for channel in &topic.channels {
                let stages = (channel.active, channel.pending);
                let stage = |id: Option<u32>| id.map_or(Stage::Spare, |id| self.batches.get(id).stage);
                assert!(matches!(stage(stages.0), Stage::Spare | Stage::Active));
                assert!(matches!(stage(stages.1), Stage::Spare | Stage::Dirty | Stage::Waiting));
                assert!(channel.active.is_some() || channel.roster.is_through(), "no fan-out, no regions");
            }
        }
        let live = self.batches.iter().filter(|(_, batch)| matches!(batch.stage, Stage::Dirty | Stage::Active)).count();
        assert_eq!(live, self.dirty.len() + self.jobs.len());
    }
}
