//! Topics that have a token of their own: until when a connection may have them.

use std::time::Duration;

use hashbrown::HashMap;

use crate::auth::hook::Event as Asked;
use crate::auth::{Denied, Pass, Purpose};
use crate::dialect::{Event, Refusal};
use crate::limits::is_topic_name;
use crate::ring::token::ConnId;

use super::Core;
use super::hook_message::Waiting;
use super::subscribe::Wish;

/// Topics' tokens of one connection that may be under way to be checked.
const CHECKS: usize = 16;

/// What a connection has by topics' tokens.
#[derive(Default)]
pub(super) struct Passes {
    /// Topics that it may subscribe to, and milliseconds since 1970 until which.
    held: HashMap<Box<str>, Option<u64>>,
    /// Topics whose tokens are being checked, and what is wanted of them.
    wishes: Vec<(Box<str>, Wish)>,
}

impl Passes {
    /// Whether one for this topic is in force.
    pub(super) fn includes(&self, topic: &str, unix_ms: u64) -> bool {
        self.held.get(topic).is_some_and(|end| end.is_none_or(|end| end > unix_ms))
    }

    /// Notes that a token for a topic is to be checked.
    fn begin(&mut self, topic: &str, wish: Wish, max_topics: usize) -> Result<(), Refusal> {
        if !self.held.contains_key(topic) && self.held.len() + self.wishes.len() >= max_topics {
            return Err(Refusal::TooMany);
        }
        if self.wishes.len() >= CHECKS {
            return Err(Refusal::Undecided);
        }
        self.wishes.push((topic.into(), wish));
        Ok(())
    }

    /// A token for a topic is checked: what was wanted first of those that are under way for it.
    fn finish(&mut self, topic: &str) -> Option<Wish> {
        let at = self.wishes.iter().position(|(name, _)| **name == *topic)?;
        Some(self.wishes.remove(at).1)
    }

    /// Takes those out whose time is over.
    fn take_ended(&mut self, unix_ms: u64) -> Vec<Box<str>> {
        self.held.extract_if(|_, end| end.is_some_and(|end| end <= unix_ms)).map(|(topic, _)| topic).collect()
    }

    /// When the first of them ends, in milliseconds since 1970.
    fn next_end(&self) -> Option<u64> {
        self.held.values().copied().flatten().min()
    }
}

impl Core {
    /// Has the token for a topic checked.
    pub(super) fn ask_to_subscribe(&mut self, id: ConnId, topic: &str, wish: Wish, token: &str) -> Result<(), Refusal> {
        if !is_topic_name(topic) {
            return Err(Refusal::BadName);
        }
        let max_topics = self.settings.max_topics as usize;
        let (Some(gate), Some(admission)) = (&self.aides.gate, self.admissions.get_mut(id)) else {
            return Err(Refusal::NotAllowed);
        };
        let passes = admission.passes.get_or_insert_default();
        let begun = passes.begin(topic, wish, max_topics).and_then(|()| {
            if gate.ask(self.id, id, Purpose::Subscribe(topic.into()), token) {
                return Ok(());
            }
            passes.wishes.pop();
            Err(Refusal::Undecided)
        });
        self.counters.auth_shed.add(u64::from(begun == Err(Refusal::Undecided)));
        begun
    }

    /// The token for a topic is checked.
    pub(super) fn judged_to_subscribe(&mut self, id: ConnId, topic: Box<str>, outcome: Result<Pass, Denied>) {
        if !self.conns.get(id).is_some_and(|conn| conn.is_open()) {
            return;
        }
        let unix_ms = self.unix_ms;
        let Some(admission) = self.admissions.get_mut(id) else { return };
        let Some(passes) = &mut admission.passes else { return };
        let Some(wish) = passes.finish(&topic) else { return };
        let user = &admission.grant.user;
        let is_good = |pass: &Pass| {
            let is_theirs = pass.user.is_none() || pass.user == *user;
            is_theirs && pass.expires.is_none_or(|end| end > unix_ms)
        };
        let pass = outcome.ok().filter(is_good);
        let result = if pass.is_some() { &self.counters.auth_granted } else { &self.counters.auth_denied };
        result.add(1);
        if let Some(pass) = pass {
            passes.held.insert(topic.clone(), pass.expires);
            self.await_end_of_pass(id);
        }
        let result = match self.may_join(id, &topic, wish) {
            Ok(()) if self.asks_about(Asked::Subscribe) => {
                return self.wait_for_word(id, Waiting::Subscribe(vec![(topic, wish)]));
            }
            allowed => allowed.and_then(|()| self.join(id, &topic, wish)),
        };
        let result = match result {
            Ok(true) => Ok(None),
            Ok(false) => return,
            Err(refusal) => {
                self.drop_unused_pass(id, &topic);
                Err(refusal)
            }
        };
        self.tell(id, Event::Subscribed(&[((*topic).into(), result)]));
    }

    /// A subscription is over: so is the pass for it.
    pub(super) fn drop_pass(&mut self, id: ConnId, topic: &str) {
        if let Some(passes) = self.admissions.get_mut(id).and_then(|admission| admission.passes.as_mut()) {
            passes.held.remove(topic);
        }
    }

    /// The same of one that has come to nothing, unless there is an earlier one.
    pub(super) fn drop_unused_pass(&mut self, id: ConnId, topic: &str) {
        let local = self.hub.find(topic);
        if !local.is_some_and(|local| self.hub.is_subscribed(id.index, local) || self.awaits(id, local)) {
            self.drop_pass(id, topic);
        }
    }

    /// Ends the subscriptions of a connection whose topics' tokens are over.
    pub(super) fn pass_over(&mut self, index: u32) {
        let open = self.conns.by_index(index).filter(|(_, conn)| conn.is_open()).map(|(id, _)| id);
        open.into_iter().for_each(|id| self.end_passes_of(id));
    }

    fn end_passes_of(&mut self, id: ConnId) {
        let unix_ms = self.unix_ms;
        let passes = self.admissions.get_mut(id).and_then(|admission| admission.passes.as_mut());
        let mut ended = passes.map_or_else(Vec::new, |passes| passes.take_ended(unix_ms));
        // Its own token may allow it by now; and who was brought into a room is in it by another's word.
        ended.retain(|topic| !self.may_subscribe(id, topic) && !self.is_member(id, topic) && self.give_up(id, topic));
        if !ended.is_empty() {
            ended.sort_unstable();
            self.tell(id, Event::TokensExpired(&ended));
        }
        self.await_end_of_pass(id);
    }

    fn await_end_of_pass(&mut self, id: ConnId) {
        let passes = self.admissions.get(id).and_then(|admission| admission.passes.as_ref());
        if let Some(end) = passes.and_then(|passes| passes.next_end()) {
            let left = Duration::from_millis(end.saturating_sub(self.unix_ms));
            self.pass_ends.set(id.index, self.now.after(left));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WISH: Wish = Wish { since: None, recover: false };

    #[test]
    fn checks_are_bounded_and_so_are_topics() {
        let mut passes = Passes::default();
        for topic in 0..CHECKS {
            assert_eq!(passes.begin(&topic.to_string(), WISH, 20), Ok(()));
        }
        assert_eq!(passes.begin("x", WISH, 20), Err(Refusal::Undecided));
        for topic in 0..CHECKS {
            assert!(passes.finish(&topic.to_string()).is_some());
            passes.held.insert(topic.to_string().into(), None);
        }
        assert!(passes.finish("0").is_none(), "it was checked");
        for topic in ["a", "b", "c", "d"] {
            assert_eq!(passes.begin(topic, WISH, 20), Ok(()));
        }
        assert_eq!(passes.begin("e", WISH, 20), Err(Refusal::TooMany));
        assert_eq!(passes.begin("0", WISH, 20), Ok(()), "one for a topic that it has is no topic more");
    }

    proptest! {
        /// What is in force at a time is what was given until later, and has not been taken out.
        #[test]
        fn they_end_at_their_time(given in prop::collection::vec((0..6_u8, prop::option::of(0..50_u64)), 0..20), now in 0..50_u64) {
            let mut passes = Passes::default();
            let mut naive: Vec<(u8, Option<u64>)> = Vec::new();
            for &(topic, end) in &given {
                passes.held.insert(topic.to_string().into(), end);
                naive.retain(|(other, _)| *other != topic);
                naive.push((topic, end));
            }
            let goes_on = |end: &Option<u64>| end.is_none_or(|end| end > now);
            for topic in 0..6 {
                let expected = naive.iter().any(|(other, end)| *other == topic && goes_on(end));
                prop_assert_eq!(passes.includes(&topic.to_string(), now), expected);
            }
            let mut ended = passes.take_ended(now);
            ended.sort();
            naive.sort_unstable();
            let over: Vec<Box<str>> =
                naive.iter().filter(|(_, end)| !goes_on(end)).map(|(topic, _)| topic.to_string().into()).collect();
            prop_assert_eq!(ended, over);
            let next = naive.iter().filter(|(_, end)| goes_on(end)).filter_map(|(_, end)| *end).min();
            prop_assert_eq!(passes.next_end(), next);
        }
    }
}
