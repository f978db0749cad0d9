//! How long things take, as counts by duration: written by one thread without a lock, read by any.

use std::iter::Sum;
use std::ops::{Add, Sub};
use std::time::Duration;

use super::Cell;

/// Upper bounds of the buckets, in nanoseconds: 10 µs to 5 s, three a decade. What takes longer is in one more bucket.
///
/// Round numbers, so that a rule such as "99 % within 100 ms" is a bucket's share and no interpolation.
pub const BOUNDS: [u64; 18] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
];

/// Durations, counted by bucket. Only the thread that owns it may record; see [`Cell::add`].
#[derive(Default, Debug)]
pub struct Histogram {
    buckets: [Cell; BOUNDS.len() + 1],
    sum_nanos: Cell,
}

impl Histogram {
    /// Counts a duration in nanoseconds, `weight` times. A search of five steps, and two additions.
    #[inline]
    pub fn record(&self, nanos: u64, weight: u64) {
        self.buckets[BOUNDS.partition_point(|&bound| bound < nanos)].add(weight);
        self.sum_nanos.add(nanos.saturating_mul(weight));
    }

    /// What was recorded so far.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { buckets: std::array::from_fn(|i| self.buckets[i].get()), sum_nanos: self.sum_nanos.get() }
    }
}

/// A histogram as it was at a moment. Those of several shards can be added, and an earlier one be taken off.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Snapshot {
    buckets: [u64; BOUNDS.len() + 1],
    sum_nanos: u64,
}

impl Snapshot {
    /// How many durations there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Seconds of all of them.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_nanos as f64 / 1e9
    }

    /// Upper bound in seconds (the last: infinite) and how many durations are in the bucket.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS.iter().map(|&nanos| nanos as f64 / 1e9).chain([f64::MAX]);
        bounds.zip(self.buckets)
    }

    /// The duration that a share `q` of all are within, `q` from 0 to 1; `None` if there are none.
    ///
    /// Within a bucket, durations are taken to be spread evenly, as Prometheus does (`histogram_quantile`). Beyond the last
    /// bound, it is that bound.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * count as f64;
        let (mut below, mut lower) = (0, 0);
        for (&upper, &within) in BOUNDS.iter().zip(&self.buckets) {
            if within > 0 && (below + within) as f64 >= rank {
                let share = ((rank - below as f64) / within as f64).max(0.0);
                return Some(Duration::from_nanos(lower + ((upper - lower) as f64 * share) as u64));
            }
            (below, lower) = (below + within, upper);
        }
        Some(Duration::from_nanos(lower))
    }

    fn combine(self, other: Snapshot, by: impl Fn(u64, u64) -> u64) -> Snapshot {
        let buckets = std::array::from_fn(|i| by(self.buckets[i], other.buckets[i]));
        Snapshot { buckets, sum_nanos: by(self.sum_nanos, other.sum_nanos) }
    }
}

impl Add for Snapshot {
    type Output = Snapshot;

    fn add(self, other: Snapshot) -> Snapshot {
        self.combine(other, u64::wrapping_add)
    }
}

/// What was recorded since an earlier snapshot of the same histograms.
impl Sub for Snapshot {
    type Output = Snapshot;

    fn sub(self, earlier: Snapshot) -> Snapshot {
        self.combine(earlier, u64::saturating_sub)
    }
}

impl Sum for Snapshot {
    fn sum<I: Iterator<Item = Snapshot>>(snapshots: I) -> Snapshot {
        snapshots.fold(Snapshot::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bound_is_within_its_bucket() {
        let histogram = Histogram::default();
        for nanos in [0, 10_000, 10_001, 5_000_000_000, 5_000_000_001, u64::MAX / 2] {
            histogram.record(nanos, 1);
        }
        let filled: Vec<_> = histogram.snapshot().buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.000_01, 2), (0.000_025, 1), (5.0, 1), (f64::MAX, 2)]);
    }

    #[test]
    fn a_quantile_is_interpolated_and_beyond_the_bounds_it_is_the_last() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().quantile(0.5), None);
        histogram.record(60_000, 10);
        let micros = |q| histogram.snapshot().quantile(q).expect("there are some").as_micros();
        assert_eq!([micros(0.0), micros(0.5), micros(1.0)], [50, 75, 100]);
        histogram.record(9_000_000_000, 10);
        assert_eq!(micros(1.0), 5_000_000);
    }

    proptest! {
        /// Against all values, sorted: the quantile is in the bucket of the value at that rank.
        #[test]
        fn a_quantile_is_in_the_bucket_of_the_value_that_it_stands_for(
            mut values in prop::collection::vec((0_u64..6_000_000_000, 1_u64..5), 1..60), q in 0.0..=1.0_f64,
        ) {
            let histogram = Histogram::default();
            values.iter().for_each(|&(nanos, weight)| histogram.record(nanos, weight));
            let snapshot = histogram.snapshot();
            values.sort_unstable();
            let all: Vec<u64> = values.iter().flat_map(|&(nanos, weight)| vec![nanos; weight as usize]).collect();
            prop_assert_eq!(snapshot.count(), all.len() as u64);
            let sum: u64 = all.iter().sum();
            prop_assert!((snapshot.sum_seconds() - sum as f64 / 1e9).abs() < 1e-6);
            let rank = (q * all.len() as f64).ceil().max(1.0) as usize;
            let bucket = BOUNDS.partition_point(|&bound| bound < all[rank - 1]);
            let found = snapshot.quantile(q).expect("there are some").as_nanos() as u64;
            let lower = if bucket == 0 { 0 } else { BOUNDS[bucket - 1] };
            let upper = BOUNDS.get(bucket).copied().unwrap_or(lower);
            prop_assert!((lower..=upper).contains(&found), "{found} is not in {lower}..={upper}");
        }

        #[test]
        fn what_was_recorded_since_is_the_difference(before: [u32; 8], since: [u32; 8]) {
            let (histogram, other) = (Histogram::default(), Histogram::default());
            before.iter().for_each(|&nanos| histogram.record(nanos.into(), 1));
            let earlier = histogram.snapshot();
            since.iter().for_each(|&nanos| [&histogram, &other].iter().for_each(|one| one.record(nanos.into(), 2)));
            prop_assert_eq!(histogram.snapshot() - earlier, other.snapshot());
            prop_assert_eq!([earlier, other.snapshot()].into_iter().sum::<Snapshot>(), histogram.snapshot());
        }
    }
}
