//! Who is in a crowd, and where in it samples are taken.

use crate::bench::swarm::{Attention, Spec};
use crate::bench::target::Role;

/// What a thread's crowd is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its topics' numbers: `first_topic..first_topic + topics`.
    pub first_topic: u32,
    pub topics: u32,
    /// Its connections' numbers begin here.
    pub first_n: u32,
    pub subscribers: u32,
    /// How many of a hundred never read.
    pub stalled: f64,
}

impl Plan {
    /// The `i`-th subscriber's topic, within the thread.
    pub fn topic(&self, i: u32) -> u32 {
        i % self.topics
    }

    /// What the `i`-th subscriber is.
    pub fn subscriber(&self, i: u32) -> Spec {
        let attention = if self.is_stalled(i) { Attention::Ignore } else { Attention::Read };
        let topic = self.first_topic + self.topic(i);
        Spec { role: Role::Subscriber, topic, n: self.first_n + i, attention }
    }

    /// Whether the `i`-th subscriber never reads: so many of a hundred, evenly spread.
    pub fn is_stalled(&self, i: u32) -> bool {
        let until = |i: f64| (i * self.stalled / 100.0).floor();
        until(f64::from(i) + 1.0) > until(f64::from(i))
    }
}

/// Positions of so many samples among so many: the last, and others at even distances before it. One of each of several
/// groups is at a different place in each.
pub fn spread(samples: usize, among: usize, group: usize, groups: usize) -> Vec<usize> {
    let samples = samples.min(among);
    let at = |sample: usize| ((sample * groups + group + 1) * among).div_ceil(samples * groups) - 1;
    (0..samples).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan(stalled: f64) -> Plan {
        Plan { first_topic: 30, topics: 4, first_n: 500, subscribers: 100, stalled }
    }

    #[test]
    fn subscribers_take_turns_at_the_topics() {
        let specs: Vec<_> = (0..6).map(|i| plan(0.0).subscriber(i)).map(|spec| (spec.topic, spec.n)).collect();
        assert_eq!(specs, [(30, 500), (31, 501), (32, 502), (33, 503), (30, 504), (31, 505)]);
        assert_eq!(plan(100.0).subscriber(0).attention, Attention::Ignore);
        assert_eq!(plan(0.0).subscriber(0).attention, Attention::Read);
    }

    #[test]
    fn samples_are_spread_and_end_with_the_last() {
        assert_eq!(spread(4, 10, 0, 1), [2, 4, 7, 9]);
        assert_eq!(spread(20, 3, 0, 1), [0, 1, 2], "no more than there are");
        assert_eq!(spread(3, 0, 0, 1), [0; 0]);
        let one_of_each: Vec<_> = (0..4).flat_map(|group| spread(1, 8, group, 4)).collect();
        assert_eq!(one_of_each, [1, 3, 5, 7], "elsewhere in each group");
    }

    proptest! {
        #[test]
        fn so_many_of_a_hundred_never_read(stalled in 0u32..=100, hundreds in 1u32..20) {
            let plan = plan(stalled.into());
            let count = (0..100 * hundreds).filter(|&i| plan.is_stalled(i)).count();
            prop_assert_eq!(count as u32, stalled * hundreds);
        }

        #[test]
        fn samples_are_different_ones(samples in 0usize..50, among in 0usize..200, groups in 1usize..20, group in 0usize..20) {
            let at = spread(samples, among, group % groups, groups);
            prop_assert_eq!(at.len(), samples.min(among));
            prop_assert!(at.is_sorted_by(|a, b| a < b) && at.last().is_none_or(|&last| last < among));
        }
    }
}
