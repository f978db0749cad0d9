//! When a message that goes to many reached the first of them, and the last.

use crate::bench::message::Stamp;

/// Messages of one topic, by number.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Arrivals {
    messages: Vec<Option<Arrival>>,
}

/// One message. All times are nanoseconds since the run began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// When it was published.
    pub due: u64,
    /// When the first of its subscribers had it.
    pub first: u64,
    /// When the last had it.
    pub last: u64,
    /// How many have it.
    pub count: u64,
}

impl Arrivals {
    /// A subscriber has it.
    pub fn add(&mut self, stamp: Stamp, now: u64) {
        let Stamp { seq, due, .. } = stamp;
        self.put(seq as usize, Arrival { due, first: now, last: now, count: 1 });
    }

    /// Subscribers elsewhere have them too.
    pub fn merge(&mut self, other: &Arrivals) {
        for (seq, arrival) in other.messages.iter().enumerate() {
            arrival.iter().for_each(|&arrival| self.put(seq, arrival));
        }
    }

    fn put(&mut self, seq: usize, more: Arrival) {
        if self.messages.len() <= seq {
            self.messages.resize(seq + 1, None);
        }
        let known = &mut self.messages[seq];
        *known = Some(known.map_or(more, |known| Arrival {
            due: known.due,
            first: known.first.min(more.first),
            last: known.last.max(more.last),
            count: known.count + more.count,
        }));
    }

    /// The message that took longest to reach the last.
    pub fn slowest(&self) -> Option<Arrival> {
        self.messages.iter().flatten().copied().max_by_key(|arrival| arrival.last.saturating_sub(arrival.due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(seq: u64, due: u64) -> Stamp {
        Stamp { topic: 0, seq, due }
    }

    #[test]
    fn threads_see_parts_of_the_same_messages() {
        let (mut one, mut other, mut all) = (Arrivals::default(), Arrivals::default(), Arrivals::default());
        for (seq, due, now) in [(1, 200, 260), (1, 200, 230), (0, 100, 190)] {
            one.add(stamp(seq, due), now);
            all.add(stamp(seq, due), now);
        }
        for (seq, due, now) in [(1, 200, 210), (3, 400, 401)] {
            other.add(stamp(seq, due), now);
            all.add(stamp(seq, due), now);
        }
        one.merge(&other);
        assert_eq!(one, all);
        assert_eq!(one.messages[1], Some(Arrival { due: 200, first: 210, last: 260, count: 3 }));
        assert_eq!(one.messages[2], None);
        assert_eq!(one.slowest(), Some(Arrival { due: 100, first: 190, last: 190, count: 1 }));
        assert_eq!(Arrivals::default().slowest(), None);
    }
}
