//! Who is in a room, and what the others are told of it.
//!
//! Each who comes or goes is announced by a notice. When there are more of those in a second than the room may have, the
//! next ones are put together for a second: what is left of them, without those who both came and went, is one notice.

use crate::time::Tick;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use std::time::Duration;

/// The time that a rate refers to, and that notices are put together for.
const SECOND: Duration = Duration::from_secs(1);
/// Bytes that a set may take for each member, and in any case, before it is shrunk.
const SPARSE: usize = 80;
const SMALL: usize = 2048;

/// What is told of a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Whether there are notices at all.
    pub notices: bool,
    /// A room with more members has no notices and no list.
    pub limit: u32,
    /// Notices a second that are sent one by one; with 0, all are put together.
    pub rate: u32,
}

/// What the other members are to be told at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A member has come.
    Joined {
        /// Who.
        id: u64,
        /// How many there are now.
        count: usize,
    },
    /// A member has gone.
    Left {
        /// Who.
        id: u64,
        /// How many there are now.
        count: usize,
    },
}

/// What the members are to be told of a second in which too many came and went to tell one by one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// Who was not there before and is now, in ascending order.
    pub joined: Vec<u64>,
    /// Who was there before and is not now, in ascending order.
    pub left: Vec<u64>,
    /// How many there are now.
    pub count: usize,
}

/// The members of a room, at its home shard. 10 to 21 bytes a member, while they do not leave in crowds.
pub struct Room {
    rules: Rules,
    members: HashSet<u64, RandomState>,
    /// Connections of members that have more than one: their number besides the first.
    doubles: HashMap<u64, u32, RandomState>,
    /// Who has come or gone while notices are put together, without those who did both. No more than have been members
    /// of a room of no more than the limit.
    moved: HashSet<u64, RandomState>,
    /// When the notices that are put together are due, while they are.
    due: Option<Tick>,
    /// Start of the present second.
    second: Tick,
    /// Notices sent one by one in it.
    sent: u32,
    /// Notices put together.
    gathered: u32,
}

impl Room {
    /// An empty room.
    pub fn new(rules: Rules) -> Room {
        Room {
            rules,
            members: HashSet::default(),
            doubles: HashMap::default(),
            moved: HashSet::default(),
            due: None,
            second: Tick(0),
            sent: 0,
            gathered: 0,
        }
    }

    /// From now on, its members are told by other rules. What was put together is told if there still are notices.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        if !rules.notices || self.is_crowded() {
            (self.due, self.moved) = (None, HashSet::default());
        }
    }

    /// A connection of member `id` has come. Only the first one is of interest to the others.
    pub fn join(&mut self, id: u64, now: Tick) -> Option<Notice> {
        if !self.members.insert(id) {
            *self.doubles.entry(id).or_default() += 1;
            return None;
        }
        let count = self.count();
        self.tell(id, now).then_some(Notice::Joined { id, count })
    }

    /// A connection of member `id` has gone. Only the last one is of interest to the others.
    pub fn leave(&mut self, id: u64, now: Tick) -> Option<Notice> {
        if let Some(more) = self.doubles.get_mut(&id) {
            *more -= 1;
            if *more == 0 {
                self.doubles.remove(&id);
            }
            return None;
        }
        if !self.members.remove(&id) {
            return None;
        }
        if self.members.allocation_size() > SMALL.max(SPARSE * self.count()) {
            self.members.shrink_to(2 * self.count());
        }
        let count = self.count();
        self.tell(id, now).then_some(Notice::Left { id, count })
    }

    /// What has been put together, if its second is over: see [`Room::due`].
    pub fn flush(&mut self, now: Tick) -> Option<Moved> {
        self.due.take_if(|due| !due.is_after(now))?;
        // As busy as that, the next ones are put together too.
        self.sent = if self.gathered > self.rules.rate { self.rules.rate } else { 0 };
        self.second = now;
        let moved = std::mem::take(&mut self.moved);
        let (mut joined, mut left): (Vec<_>, Vec<_>) = moved.into_iter().partition(|id| self.members.contains(id));
        if joined.is_empty() && left.is_empty() {
            return None;
        }
        joined.sort_unstable();
        left.sort_unstable();
        Some(Moved { joined, left, count: self.count() })
    }

    /// When there is something to [`Room::flush`].
    pub fn due(&self) -> Option<Tick> {
        self.due
    }

    /// Members, each counted once.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members in ascending order; `None` if they are more than the limit.
    pub fn members(&self) -> Option<Vec<u64>> {
        if self.is_crowded() {
            return None;
        }
        let mut members: Vec<_> = self.members.iter().copied().collect();
        members.sort_unstable();
        Some(members)
    }

    /// The members, in no order.
    pub fn everyone(&self) -> impl Iterator<Item = u64> + '_ {
        self.members.iter().copied()
    }

    /// Whether somebody is a member.
    pub fn has(&self, id: u64) -> bool {
        self.members.contains(&id)
    }

    fn is_crowded(&self) -> bool {
        self.count() > self.rules.limit as usize
    }

    /// Whether the others are to be told at once that `id` has come or gone.
    fn tell(&mut self, id: u64, now: Tick) -> bool {
        if !self.rules.notices || self.is_crowded() {
            // What was put together would be told to nobody.
            if self.due.take().is_some() {
                self.moved = HashSet::default();
            }
            return false;
        }
        if self.due.is_none() {
            if now.since(self.second) >= SECOND {
                (self.second, self.sent) = (now, 0);
            }
            if self.sent < self.rules.rate {
                self.sent += 1;
                return true;
            }
            (self.due, self.gathered) = (Some(now.after(SECOND)), 0);
        }
        self.gathered = self.gathered.saturating_add(1);
        if !self.moved.remove(&id) {
            self.moved.insert(id);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const RULES: Rules = Rules { notices: true, limit: 4, rate: 3 };

    fn room(rules: Rules, members: u64) -> Room {
        let mut room = Room::new(rules);
        (0..members).for_each(|id| _ = room.join(id, Tick(0)));
        room
    }

    #[test]
    fn a_second_connection_of_a_member_is_nobody_new() {
        let mut room = Room::new(RULES);
        assert_eq!(room.join(7, Tick(0)), Some(Notice::Joined { id: 7, count: 1 }));
        assert_eq!((room.join(7, Tick(1)), room.join(7, Tick(1)), room.count()), (None, None, 1));
        assert_eq!((room.leave(7, Tick(1)), room.leave(7, Tick(1)), room.count()), (None, None, 1));
        assert_eq!(room.leave(7, Tick(2)), Some(Notice::Left { id: 7, count: 0 }));
        assert_eq!((room.leave(7, Tick(3)), room.is_empty()), (None, true));
    }

    #[test]
    fn what_exceeds_the_rate_is_put_together() {
        let mut room = room(RULES, 2);
        assert_eq!((room.due(), room.leave(0, Tick(9))), (None, Some(Notice::Left { id: 0, count: 1 })));
        assert_eq!((room.join(5, Tick(10)), room.join(6, Tick(20)), room.leave(6, Tick(50))), (None, None, None));
        assert_eq!((room.leave(1, Tick(60)), room.due(), room.flush(Tick(109))), (None, Some(Tick(110)), None));
        assert_eq!(room.flush(Tick(110)), Some(Moved { joined: vec![5], left: vec![1], count: 1 }));
        assert_eq!((room.due(), room.flush(Tick(111))), (None, None));
        assert_eq!(room.join(8, Tick(150)), None, "there were four in the second before");
        assert_eq!(room.flush(Tick(250)), Some(Moved { joined: vec![8], left: vec![], count: 2 }));
        assert!(room.join(9, Tick(260)).is_some(), "there was one");
    }

    #[test]
    fn who_only_passes_is_not_mentioned() {
        let mut room = room(RULES, 3);
        assert_eq!((room.join(9, Tick(1)), room.leave(9, Tick(2))), (None, None));
        assert_eq!((room.leave(0, Tick(3)), room.join(0, Tick(4))), (None, None));
        assert_eq!((room.flush(Tick(500)), room.due()), (None, None));
    }

    #[test]
    fn a_crowd_is_counted_and_not_told() {
        let mut room = room(Rules { rate: 9, ..RULES }, 4);
        assert_eq!(room.members(), Some(vec![0, 1, 2, 3]));
        assert_eq!((room.join(4, Tick(0)), room.count(), room.members()), (None, 5, None));
        assert_eq!(room.leave(1, Tick(0)), Some(Notice::Left { id: 1, count: 4 }));
        let mut silent = Room::new(Rules { notices: false, ..RULES });
        assert_eq!((silent.join(1, Tick(0)), silent.due(), silent.members()), (None, None, Some(vec![1])));
    }

    #[test]
    fn a_member_takes_some_ten_to_twenty_bytes() {
        let mut room = room(RULES, 0);
        for id in 0..100_000u64 {
            room.join(id.wrapping_mul(0x9e37_79b9_7f4a_7c15), Tick(0));
            let each = room.members.allocation_size() as f64 / room.count() as f64;
            assert!(room.count() < 1000 || each < 21.0, "{each} bytes for each of {}", room.count());
        }
        for id in 0..100_000u64 {
            room.leave(id.wrapping_mul(0x9e37_79b9_7f4a_7c15), Tick(0));
            assert!(room.members.allocation_size() <= SMALL.max(SPARSE * room.count()));
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Join(u64),
        Leave(u64),
        Wait(u32),
        Flush,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let id = 0..8u64;
        let step = prop_oneof![
            6 => id.clone().prop_map(Step::Join),
            6 => id.prop_map(Step::Leave),
            2 => (0..60u32).prop_map(Step::Wait),
            1 => (90..300u32).prop_map(Step::Wait),
            3 => Just(Step::Flush),
        ];
        prop::collection::vec(step, 0..150)
    }

    /// Lists instead of sets: who is there, connection by connection, and who was when the batch was begun.
    struct Model {
        rules: Rules,
        connections: Vec<u64>,
        before: Option<(Tick, BTreeSet<u64>)>,
        batched: usize,
        /// Of notices sent one by one; those of a second that is over do not matter.
        sent: Vec<Tick>,
        second: Tick,
    }

    impl Model {
        fn members(&self) -> BTreeSet<u64> {
            self.connections.iter().copied().collect()
        }

        /// Whether a change is told at once.
        fn change(&mut self, now: Tick, change: impl FnOnce(&mut Vec<u64>)) -> bool {
            let was = self.members();
            change(&mut self.connections);
            if was == self.members() {
                return false;
            }
            if !self.rules.notices || self.members().len() > self.rules.limit as usize {
                self.before = None;
                return false;
            }
            if self.before.is_none() && now.0 - self.second.0 >= 100 {
                (self.second, self.sent) = (now, Vec::new());
            }
            if self.before.is_none() && self.sent.len() < self.rules.rate as usize {
                self.sent.push(now);
                return true;
            }
            if self.before.is_none() {
                (self.before, self.batched) = (Some((now, was)), 0);
            }
            self.batched += 1;
            false
        }

        fn flush(&mut self, now: Tick) -> Option<Moved> {
            let (_, before) = self.before.take_if(|(began, _)| now.0 - began.0 >= 100)?;
            let busy = self.batched > self.rules.rate as usize;
            self.sent = if busy { vec![now; self.rules.rate as usize] } else { Vec::new() };
            self.second = now;
            let there = self.members();
            let joined: Vec<_> = there.difference(&before).copied().collect();
            let left: Vec<_> = before.difference(&there).copied().collect();
            (joined.len() + left.len() > 0).then_some(Moved { joined, left, count: there.len() })
        }
    }

    fn rules() -> impl Strategy<Value = Rules> {
        (prop::bool::weighted(0.9), 0..10u32, 0..5u32).prop_map(|(notices, limit, rate)| Rules { notices, limit, rate })
    }

    proptest! {
        #[test]
        fn a_room_says_what_lists_say(rules in rules(), steps in steps()) {
            let mut room = Room::new(rules);
            let (connections, second) = (Vec::new(), Tick(0));
            let mut model = Model { rules, connections, before: None, batched: 0, sent: Vec::new(), second };
            let mut now = Tick(0);
            for step in steps {
                match step {
                    Step::Join(id) => {
                        let told = model.change(now, |connections| connections.push(id));
                        let count = model.members().len();
                        prop_assert_eq!(room.join(id, now), told.then_some(Notice::Joined { id, count }));
                    }
                    Step::Leave(id) => {
                        let told = model.change(now, |connections| {
                            let at = connections.iter().position(|&other| other == id);
                            at.map(|at| connections.swap_remove(at));
                        });
                        let count = model.members().len();
                        prop_assert_eq!(room.leave(id, now), told.then_some(Notice::Left { id, count }));
                    }
                    Step::Wait(ticks) => now.0 += ticks,
                    Step::Flush => prop_assert_eq!(room.flush(now), model.flush(now)),
                }
                let members = model.members();
                prop_assert_eq!(room.count(), members.len());
                prop_assert_eq!(room.due().is_some(), model.before.is_some());
                let listed = members.len() <= rules.limit as usize;
                prop_assert_eq!(room.members(), listed.then(|| members.into_iter().collect()));
            }
        }

        /// Who believes the notices knows who is there, and is not told too often.
        #[test]
        fn notices_add_up_to_the_members(rate in 0..5u32, steps in steps()) {
            let mut room = Room::new(Rules { notices: true, limit: 100, rate });
            let (mut believed, mut told, mut now) = (BTreeSet::new(), Vec::new(), Tick(0));
            for step in steps {
                let notice = match step {
                    Step::Join(id) => room.join(id, now),
                    Step::Leave(id) => room.leave(id, now),
                    Step::Wait(ticks) => {
                        now.0 += ticks;
                        None
                    }
                    Step::Flush => None,
                };
                let moved = room.flush(now);
                told.extend(notice.map(|_| now));
                told.extend(moved.as_ref().map(|_| now));
                match notice {
                    Some(Notice::Joined { id, .. }) => prop_assert!(believed.insert(id)),
                    Some(Notice::Left { id, .. }) => prop_assert!(believed.remove(&id)),
                    None => {}
                }
                for id in moved.iter().flat_map(|moved| &moved.joined) {
                    prop_assert!(believed.insert(*id));
                }
                for id in moved.iter().flat_map(|moved| &moved.left) {
                    prop_assert!(believed.remove(id));
                }
                if room.due().is_none() {
                    prop_assert_eq!(room.members(), Some(believed.iter().copied().collect()));
                }
            }
            for &at in &told {
                let within = told.iter().filter(|other| at.0 <= other.0 && other.0 < at.0 + 100).count();
                prop_assert!(within <= 2 * rate as usize + 2, "{} notices in a second", within);
            }
        }
    }
}
