//! Coarse time of a shard, and its timers.
//!
//! Both are circular: a tick is 10 ms and 2³² of them are 497 days, after which they start again. Nothing is compared
//! over more than half of that, so a shard may run for years as long as no deadline is further ahead than
//! [`Tick::MAX_AHEAD`].

use std::time::Duration;

const TICK_NANOS: u128 = 10_000_000;

/// A point in time, in ticks of 10 ms since the shard's start, modulo 2³².
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Tick(pub u32);

impl Tick {
    /// Length of a tick.
    pub const LENGTH: Duration = Duration::from_nanos(TICK_NANOS as u64);
    /// The furthest that a deadline can lie ahead: 2³⁰ ticks, 124 days.
    pub const MAX_AHEAD: u32 = 1 << 30;

    /// The tick that is going on so long after the shard's start.
    pub fn at(since_start: Duration) -> Tick {
        Tick((since_start.as_nanos() / TICK_NANOS) as u32)
    }

    /// The tick `duration` later, rounded up, and no more than [`Tick::MAX_AHEAD`] ahead.
    pub fn after(self, duration: Duration) -> Tick {
        let ticks = duration.as_nanos().div_ceil(TICK_NANOS).min(u128::from(Tick::MAX_AHEAD));
        Tick(self.0.wrapping_add(ticks as u32))
    }

    /// From `earlier` to this tick; zero if `earlier` is the later one.
    pub fn since(self, earlier: Tick) -> Duration {
        if self.is_after(earlier) { Tick::LENGTH * self.0.wrapping_sub(earlier.0) } else { Duration::ZERO }
    }

    /// Whether this tick comes after `other`; they must be less than 2³¹ ticks apart.
    #[inline]
    pub fn is_after(self, other: Tick) -> bool {
        (self.0.wrapping_sub(other.0) as i32) > 0
    }
}

/// A point in time for measuring what takes less than a tick: nanoseconds of a clock that all threads of the process share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// Not known.
    pub const UNKNOWN: Moment = Moment(0);

    /// Nanoseconds from `earlier` to this moment; 0 if `earlier` is the later one.
    #[inline]
    pub fn since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment; if it is not known, the other.
    #[inline]
    pub fn or(self, other: Moment) -> Moment {
        if self == Moment::UNKNOWN { other } else { self }
    }

    /// The earlier one of two that are known.
    #[inline]
    pub fn min(self, other: Moment) -> Moment {
        Moment(self.0.min(other.0))
    }
}

const LEVELS: u32 = 4;
const BITS: u32 = u8::BITS;
const SLOTS: u32 = 1 << BITS;
/// Nodes that are the heads of the slots' lists; the node of index `i` is `HEADS + i`.
const HEADS: u32 = LEVELS * SLOTS;
/// Not in a list.
const UNSET: u32 = u32::MAX;

const _: () = {
    assert!(size_of::<Node>() == 12);
    assert!(LEVELS * BITS == u32::BITS);
};

/// An element of a circular doubly linked list.
#[derive(Clone, Copy)]
struct Node {
    prev: u32,
    next: u32,
    deadline: Tick,
}

/// One deadline for each index: a timing wheel of four levels of 256 slots.
///
/// A slot of level 0 is one tick, one of level `n` 256ⁿ ticks. A deadline lies on the level of the highest byte in
/// which it differs from the wheel's time, in the slot that this byte names. When the time reaches a slot of a level
/// above 0, its entries move down, each at most three times. Empty slots are skipped with bitmaps, so that neither
/// an idle hour nor a million entries cost anything when nothing is due. 12 bytes an index; setting and cancelling
/// are O(1).
pub struct Wheel {
    /// [`HEADS`] list heads, then the entries.
    nodes: Vec<Node>,
    /// A bit for each slot whose list is not empty.
    occupied: [[u64; (SLOTS / u64::BITS) as usize]; LEVELS as usize],
    /// Deadlines before this are done; those at this tick may be in the middle of it.
    time: Tick,
}

impl Wheel {
    /// Bytes of the entries that were ever used, and of the wheel's lists.
    pub fn bytes(&self) -> usize {
        self.nodes.len() * size_of::<Node>()
    }

    /// An empty wheel at tick 0, with room reserved for the indices below `capacity`.
    pub fn new(capacity: u32) -> Wheel {
        Wheel::starting(Tick(0), capacity)
    }

    fn starting(time: Tick, capacity: u32) -> Wheel {
        let mut nodes = Vec::with_capacity((HEADS + capacity) as usize);
        nodes.extend((0..HEADS).map(|head| Node { prev: head, next: head, deadline: Tick(0) }));
        Wheel { nodes, occupied: Default::default(), time }
    }

    /// Sets the deadline of an index, in place of any earlier one. A deadline in the past is due at once.
    ///
    /// It must lie no more than [`Tick::MAX_AHEAD`] ahead.
    pub fn set(&mut self, index: u32, deadline: Tick) {
        let node = HEADS + index;
        if node as usize >= self.nodes.len() {
            self.nodes.resize(node as usize + 1, Node { prev: UNSET, next: UNSET, deadline: Tick(0) });
        }
        self.unlink(node);
        let past = self.time.is_after(deadline);
        self.nodes[node as usize].deadline = if past { self.time } else { deadline };
        self.link(node);
    }

    /// Removes the deadline of an index, if it has one.
    pub fn cancel(&mut self, index: u32) {
        if self.deadline(index).is_some() {
            self.unlink(HEADS + index);
        }
    }

    /// When an index is due.
    pub fn deadline(&self, index: u32) -> Option<Tick> {
        let node = self.nodes.get((HEADS + index) as usize)?;
        (node.prev != UNSET).then_some(node.deadline)
    }

    /// Advances to `now` and appends the indices that are due to `due`; they have no deadline any more.
    ///
    /// Handles at most `max` entries, due ones and those that move a level down, so that no call takes long. If it
    /// stopped for that, [`Wheel::next`] says `now`, and the next call goes on. To be called at every turn, at any rate
    /// once in [`Tick::MAX_AHEAD`].
    pub fn expire(&mut self, now: Tick, max: usize, due: &mut Vec<u32>) {
        let mut budget = max;
        while let Some((at, slot)) = self.earliest().filter(|(at, _)| !at.is_after(now)) {
            self.time = at;
            while self.nodes[slot as usize].next != slot {
                if budget == 0 {
                    return;
                }
                budget -= 1;
                self.handle_first(slot, due);
            }
        }
        if now.is_after(self.time) {
            self.time = now;
        }
    }

    /// A tick until which nothing is due, `now` at the earliest; `None` if no deadline is set. May be early, never late.
    pub fn next(&self, now: Tick) -> Option<Tick> {
        self.earliest().map(|(at, _)| if at.is_after(now) { at } else { now })
    }

    /// Takes the first entry out of a slot whose time has come: it is due, or moves to a lower level.
    fn handle_first(&mut self, slot: u32, due: &mut Vec<u32>) {
        let node = self.nodes[slot as usize].next;
        self.unlink(node);
        if slot < SLOTS {
            due.push(node - HEADS);
        } else {
            self.link(node);
        }
    }

    /// The slot whose time comes first, and that time.
    fn earliest(&self) -> Option<(Tick, u32)> {
        let candidates = (0..LEVELS).filter_map(|level| {
            let shift = level * BITS;
            let from = (self.time.0 >> shift) % SLOTS;
            let distance = first_set(&self.occupied[level as usize], from)?;
            let at = Tick((self.time.0 >> shift << shift).wrapping_add(distance << shift));
            let at = if distance == 0 { self.time } else { at };
            Some((at, level * SLOTS + (from + distance) % SLOTS))
        });
        candidates.min_by_key(|(at, _)| at.0.wrapping_sub(self.time.0))
    }

    /// Appends a node to the slot of its deadline.
    fn link(&mut self, node: u32) {
        let deadline = self.nodes[node as usize].deadline;
        let slot = slot_of(deadline, self.time);
        let last = self.nodes[slot as usize].prev;
        self.nodes[node as usize] = Node { prev: last, next: slot, deadline };
        self.nodes[last as usize].next = node;
        self.nodes[slot as usize].prev = node;
        self.mark(slot, true);
    }

    /// Takes a node out of its list, if it is in one.
    fn unlink(&mut self, node: u32) {
        let Node { prev, next, .. } = self.nodes[node as usize];
        if prev == UNSET {
            return;
        }
        self.nodes[prev as usize].next = next;
        self.nodes[next as usize].prev = prev;
        self.nodes[node as usize].prev = UNSET;
        if prev == next {
            // Only the head is left.
            self.mark(prev, false);
        }
    }

    fn mark(&mut self, slot: u32, occupied: bool) {
        let word = &mut self.occupied[(slot / SLOTS) as usize][(slot % SLOTS / u64::BITS) as usize];
        let bit = 1 << (slot % u64::BITS);
        *word = if occupied { *word | bit } else { *word & !bit };
    }

    /// Panics unless every entry is in one list, linked both ways, and the bitmaps tell which lists are empty.
    /// For tests.
    pub fn invariants(&self) {
        let mut listed = 0;
        for slot in 0..HEADS {
            let (mut node, mut prev) = (self.nodes[slot as usize].next, slot);
            while node != slot {
                assert_eq!(self.nodes[node as usize].prev, prev);
                assert!(node >= HEADS && !self.time.is_after(self.nodes[node as usize].deadline));
                (node, prev) = (self.nodes[node as usize].next, node);
                listed += 1;
            }
            let word = self.occupied[(slot / SLOTS) as usize][(slot % SLOTS / u64::BITS) as usize];
            assert_eq!(word >> (slot % u64::BITS) & 1 == 1, prev != slot);
        }
        assert_eq!(listed, self.nodes[HEADS as usize..].iter().filter(|node| node.prev != UNSET).count());
    }
}

/// The list of a deadline, as seen from `time`, which is not after it.
fn slot_of(deadline: Tick, time: Tick) -> u32 {
    let differing = deadline.0 ^ time.0;
    let level = differing.checked_ilog2().unwrap_or(0) / BITS;
    level * SLOTS + (deadline.0 >> (level * BITS)) % SLOTS
}

/// Distance from bit `from` to the first bit that is set, going round.
fn first_set(words: &[u64; 4], from: u32) -> Option<u32> {
    let (word, bit) = ((from / u64::BITS) as usize, from % u64::BITS);
    let ahead = words[word] >> bit;
    if ahead != 0 {
        return Some(ahead.trailing_zeros());
    }
    (1..=words.len()).find_map(|step| {
        let next = words[(word + step) % words.len()];
        (next != 0).then(|| step as u32 * u64::BITS - bit + next.trailing_zeros())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn expired(wheel: &mut Wheel, now: Tick) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.expire(now, usize::MAX, &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn durations_are_rounded_up_and_the_present_down() {
        assert_eq!(Tick::at(Duration::from_micros(19_999)), Tick(1));
        assert_eq!(Tick(1).after(Duration::ZERO), Tick(1));
        assert_eq!(Tick(1).after(Duration::from_nanos(1)), Tick(2));
        assert_eq!(Tick(1).after(Duration::from_secs(1)), Tick(101));
        assert_eq!(Tick(1).after(Duration::MAX), Tick(1 + Tick::MAX_AHEAD));
        assert_eq!(Tick(3).since(Tick(1)), Duration::from_millis(20));
        assert_eq!(Tick(1).since(Tick(3)), Duration::ZERO);
    }

    #[test]
    fn ticks_go_round() {
        let late = Tick::at(Tick::LENGTH * u32::MAX);
        assert_eq!(late, Tick(u32::MAX));
        assert_eq!(Tick::at(Tick::LENGTH * u32::MAX + Tick::LENGTH * 2), Tick(1));
        assert!(Tick(1).is_after(late) && !late.is_after(Tick(1)) && !late.is_after(late));
        assert_eq!(Tick(1).since(late), Duration::from_millis(20));
    }

    #[test]
    fn thirty_days_pass_in_few_steps() {
        let mut wheel = Wheel::new(1);
        let deadline = Tick(0).after(Duration::from_secs(30 * 24 * 3600));
        wheel.set(0, deadline);
        let (mut looks, mut now) = (0, Tick(0));
        while wheel.deadline(0).is_some() {
            now = wheel.next(now).unwrap();
            expired(&mut wheel, now);
            looks += 1;
        }
        assert_eq!(now, deadline);
        assert!(looks <= LEVELS, "one look a level, not {looks}");
    }

    #[test]
    fn a_call_handles_no_more_than_it_may_and_the_next_goes_on() {
        let mut wheel = Wheel::new(1000);
        (0..1000).for_each(|index| wheel.set(index, Tick(300 + index % 2)));
        let now = Tick(1000);
        let (mut due, mut calls) = (Vec::new(), 0);
        while wheel.next(now) == Some(now) {
            let before = due.len();
            wheel.expire(now, 100, &mut due);
            assert!(due.len() - before <= 100);
            wheel.invariants();
            calls += 1;
        }
        assert_eq!((due.len(), calls), (1000, 20), "each entry moves down once, and is due once");
        assert_eq!(wheel.next(now), None);
    }

    #[test]
    fn the_past_is_due_at_once() {
        let mut wheel = Wheel::new(1);
        expired(&mut wheel, Tick(70_000));
        wheel.set(0, Tick(5));
        assert_eq!(wheel.next(Tick(70_000)), Some(Tick(70_000)));
        assert_eq!(expired(&mut wheel, Tick(70_000)), [0]);
        assert_eq!(wheel.deadline(0), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set { index: u32, ahead: u32 },
        Cancel { index: u32 },
        Expire { advance: u32, max: usize },
        Follow,
    }

    fn ticks() -> impl Strategy<Value = u32> {
        prop_oneof![0u32..4, 0u32..600, 0u32..200_000, 0u32..=30 * 24 * 3600 * 100, Just(Tick::MAX_AHEAD)]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u32..20, ticks()).prop_map(|(index, ahead)| Step::Set { index, ahead }),
            1 => (0u32..20).prop_map(|index| Step::Cancel { index }),
            2 => (ticks(), 0usize..6).prop_map(|(advance, max)| Step::Expire { advance, max }),
            2 => Just(Step::Follow),
        ]
    }

    /// Deadlines by index, in ticks that do not go round.
    type Model = BTreeMap<u32, u64>;

    fn collect(wheel: &mut Wheel, model: &mut Model, now: u64, max: usize) -> Result<(), TestCaseError> {
        let mut due = Vec::new();
        wheel.expire(Tick(now as u32), max, &mut due);
        prop_assert!(due.len() <= max);
        for index in due {
            let deadline = model.remove(&index);
            prop_assert!(deadline.is_some_and(|deadline| deadline <= now), "{index} was due at {deadline:?}");
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_wheel_is_a_map_of_deadlines(
            start in prop_oneof![Just(0u32), any::<u32>(), Just(u32::MAX - 500)],
            steps in prop::collection::vec(step(), 1..150),
        ) {
            let mut now = u64::from(start);
            let mut wheel = Wheel::starting(Tick(start), 8);
            let mut model = Model::new();
            for step in steps {
                match step {
                    Step::Set { index, ahead } => {
                        wheel.set(index, Tick(now as u32).after(Tick::LENGTH * ahead));
                        model.insert(index, now + u64::from(ahead));
                    }
                    Step::Cancel { index } => {
                        wheel.cancel(index);
                        model.remove(&index);
                    }
                    Step::Expire { advance, max } => {
                        // What is left of one call is done before time goes on: see `Wheel::expire`.
                        let left = wheel.next(Tick(now as u32)) == Some(Tick(now as u32));
                        now += u64::from(if left { 0 } else { advance });
                        collect(&mut wheel, &mut model, now, max)?;
                    }
                    Step::Follow => if let Some(next) = wheel.next(Tick(now as u32)) {
                        now += u64::from(next.0.wrapping_sub(now as u32));
                        collect(&mut wheel, &mut model, now, usize::MAX)?;
                        prop_assert!(model.values().all(|&deadline| deadline > now), "nothing that is due is left");
                    },
                }
                wheel.invariants();
                for index in 0..20 {
                    let deadline = model.get(&index).map(|&deadline| Tick(deadline as u32));
                    prop_assert_eq!(wheel.deadline(index), deadline);
                }
                match wheel.next(Tick(now as u32)) {
                    None => prop_assert!(model.is_empty()),
                    Some(next) => {
                        let next = now + u64::from(next.0.wrapping_sub(now as u32));
                        prop_assert!(model.values().all(|&deadline| deadline.max(now) >= next), "never late");
                    }
                }
            }
        }
    }
}
