//! Loss, order and repetition, from the numbers of the messages that came.

use std::ops::Range;

use crate::bench::report::Faults;

/// Gaps that a tracker remembers. With more, what the oldest lacks is taken for lost.
const MAX_GAPS: usize = 1024;

/// What a subscriber of one topic has got of messages 0, 1, 2, …
#[derive(Clone, Default, Debug)]
pub struct Tracker {
    /// The first that is judged.
    first: u64,
    /// One more than the highest that came.
    next: u64,
    received: u64,
    /// What lies between those that came: ascending, none empty, none touching another.
    gaps: Vec<Range<u64>>,
}

impl Tracker {
    /// Of a subscriber that was there when message `next` was published. Of messages before that one it may have got some
    /// or none.
    pub fn from(next: u64) -> Tracker {
        Tracker { first: next, next, ..Tracker::default() }
    }

    /// Takes a message that came.
    pub fn take(&mut self, seq: u64, faults: &mut Faults) {
        if seq < self.first {
            return;
        }
        if seq < self.next {
            return self.late(seq, faults);
        }
        if seq > self.next {
            self.skip(self.next..seq, faults);
        }
        self.next = seq + 1;
        self.received += 1;
    }

    /// A message came that others have overtaken, or that was there already.
    fn late(&mut self, seq: u64, faults: &mut Faults) {
        let at = self.gaps.partition_point(|gap| gap.end <= seq);
        let Some(gap) = self.gaps.get_mut(at).filter(|gap| gap.contains(&seq)) else {
            faults.duplicated += 1;
            return;
        };
        faults.reordered += 1;
        self.received += 1;
        let after = seq + 1..gap.end;
        gap.end = seq;
        let keeps_beginning = !gap.is_empty();
        match (keeps_beginning, after.is_empty()) {
            (true, true) => {}
            (true, false) => self.gaps.insert(at + 1, after),
            (false, false) => self.gaps[at] = after,
            (false, true) => drop(self.gaps.remove(at)),
        }
        self.forget(faults);
    }

    fn skip(&mut self, gap: Range<u64>, faults: &mut Faults) {
        self.gaps.push(gap);
        self.forget(faults);
    }

    /// Keeps the memory bounded. Should a message of a forgotten gap come after all, it counts as one that came twice.
    fn forget(&mut self, faults: &mut Faults) {
        if self.gaps.len() > MAX_GAPS {
            let oldest = self.gaps.remove(0);
            faults.lost += oldest.end - oldest.start;
        }
    }

    /// Whether not all messages have come that are numbered below `end`, nor as many.
    pub fn lacks(&self, end: u64) -> bool {
        self.received < end.saturating_sub(self.first)
    }

    /// Messages that came, each counted once.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Adds what never came of messages that were numbered below `published`. To be called once, at the end.
    pub fn finish(&self, published: u64, faults: &mut Faults) {
        let within = self.gaps.iter().map(|gap| gap.end.min(published).saturating_sub(gap.start)).sum::<u64>();
        faults.lost += within + published.saturating_sub(self.next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Faults by all that came, in order.
    fn naive(first: u64, came: &[u64], published: u64) -> Faults {
        let mut faults = Faults::default();
        for (i, seq) in came.iter().enumerate().filter(|(_, seq)| **seq >= first) {
            let before = &came[..i];
            if before.contains(seq) {
                faults.duplicated += 1;
            } else if before.iter().any(|earlier| earlier > seq) {
                faults.reordered += 1;
            }
        }
        faults.lost = (first..published).filter(|seq| !came.contains(seq)).count() as u64;
        faults
    }

    fn track(first: u64, came: &[u64], published: u64) -> (Tracker, Faults) {
        let (mut tracker, mut faults) = (Tracker::from(first), Faults::default());
        came.iter().for_each(|&seq| tracker.take(seq, &mut faults));
        tracker.finish(published, &mut faults);
        (tracker, faults)
    }

    /// What can become of messages in order: some lost, some twice, some later.
    fn disturbed() -> impl Strategy<Value = Vec<u64>> {
        let fate = (0u64..60, 0usize..10, 0usize..20);
        proptest::collection::vec(fate, 0..80).prop_map(|fates| {
            let mut came: Vec<(usize, u64)> = Vec::new();
            for (i, (jump, copies, delay)) in fates.into_iter().enumerate() {
                let seq = if jump == 0 { 3 * i } else { i } as u64;
                let copies = [0, 2, 1].get(copies).copied().unwrap_or(1);
                came.extend((0..copies).map(|copy| (i + copy + if delay < 5 { delay } else { 0 }, seq)));
            }
            came.sort_by_key(|&(at, _)| at);
            came.into_iter().map(|(_, seq)| seq).collect()
        })
    }

    #[test]
    fn a_gap_that_is_filled_is_no_loss() {
        for (came, expected) in [
            (&[0, 1, 2][..], Faults::default()),
            (&[0, 2], Faults { lost: 1, ..Faults::default() }),
            (&[0, 2, 1], Faults { reordered: 1, ..Faults::default() }),
            (&[2, 0, 1, 1], Faults { reordered: 2, duplicated: 1, ..Faults::default() }),
            (&[0, 1], Faults { lost: 1, ..Faults::default() }),
            (&[], Faults { lost: 3, ..Faults::default() }),
        ] {
            assert_eq!(track(0, came, 3).1, expected, "{came:?}");
        }
    }

    #[test]
    fn what_was_published_before_is_not_judged() {
        let (tracker, faults) = track(5, &[3, 4, 4, 5, 6], 7);
        assert!(faults.none() && tracker.received() == 2 && !tracker.lacks(7) && tracker.lacks(8));
        assert!(track(5, &[], 3).1.none());
    }

    #[test]
    fn memory_is_bounded_and_nothing_goes_uncounted() {
        let (mut tracker, mut faults) = (Tracker::default(), Faults::default());
        let all = 10 * MAX_GAPS as u64;
        (0..all).for_each(|seq| tracker.take(2 * seq + 1, &mut faults));
        assert!(tracker.gaps.len() == MAX_GAPS && tracker.gaps.capacity() <= 2 * MAX_GAPS);
        // One in the middle of a wide gap makes two of it.
        tracker.take(2 * all + 100, &mut faults);
        tracker.take(2 * all + 50, &mut faults);
        assert_eq!((tracker.gaps.len(), tracker.received()), (MAX_GAPS, all + 2));
        tracker.finish(2 * all + 101, &mut faults);
        assert_eq!(faults, Faults { lost: all + 99, reordered: 1, ..Faults::default() });
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_of_all_that_came(came in disturbed(), first in 0u64..10, published in 0u64..100) {
            let published = came.iter().map(|seq| seq + 1).max().unwrap_or(0).max(published);
            let (tracker, faults) = track(first, &came, published);
            prop_assert_eq!(faults, naive(first, &came, published));
            let all: std::collections::BTreeSet<_> = came.iter().filter(|seq| **seq >= first).collect();
            prop_assert_eq!(tracker.received(), all.len() as u64);
            let gaps = &tracker.gaps;
            prop_assert!(gaps.iter().all(|gap| !gap.is_empty()) && gaps.windows(2).all(|two| two[0].end < two[1].start));
        }

        #[test]
        fn agrees_whatever_comes(came in proptest::collection::vec(0u64..50, 0..60)) {
            prop_assert_eq!(track(0, &came, 50).1, naive(0, &came, 50));
        }
    }
}
