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
