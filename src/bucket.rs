//! Token buckets: what may come so fast and no faster.
//!
//! A bucket is what many have in common; the level of each is with whoever is bounded.

use std::time::Duration;

use crate::config::Rate;
use crate::limits::{MAX_BYTE_RATE, MAX_MESSAGE_RATE};
use crate::time::Tick;

/// What a thing costs: a bucket is filled at every tick, of which a second has a hundred.
pub const THING: u32 = 100;
const TICKS_PER_SECOND: u32 = (1_000 / Tick::LENGTH.as_millis()) as u32;

const _: () = {
    assert!(THING == TICKS_PER_SECOND, "then a rate is what flows in with a tick");
    assert!(Rate::of(MAX_MESSAGE_RATE).burst <= i32::MAX as u32 / THING);
    assert!(Rate::of(MAX_BYTE_RATE).burst <= i32::MAX as u32);
};

/// A token bucket's size, and what flows in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket {
    full: i32,
    per_tick: u32,
}

/// What is in a bucket, and until when what flows in is counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Level {
    tokens: i32,
    filled: Tick,
}

impl Bucket {
    /// Of things, each of which takes [`THING`] tokens.
    pub fn of_things(rate: Rate) -> Bucket {
        Bucket { full: (rate.burst * THING) as i32, per_tick: rate.per_second }
    }

    /// Of bytes, each of which takes a token.
    pub fn of_bytes(rate: Rate) -> Bucket {
        Bucket { full: rate.burst as i32, per_tick: rate.per_second.div_ceil(TICKS_PER_SECOND) }
    }

    /// The tokens that it holds at most.
    pub fn full(self) -> i32 {
        self.full
    }

    /// Adds what flows in with so many ticks.
    pub fn fill(self, tokens: &mut i32, ticks: u32) {
        let now = i64::from(*tokens) + i64::from(ticks) * i64::from(self.per_tick);
        *tokens = now.min(self.full.into()) as i32;
    }

    /// The level of a bucket that nothing was taken from.
    pub fn start(self, now: Tick) -> Level {
        Level { tokens: self.full, filled: now }
    }

    /// Takes a thing's tokens, if they are there.
    pub fn take(self, level: &mut Level, now: Tick) -> bool {
        self.refill(level, now);
        let is_there = level.tokens >= THING as i32;
        if is_there {
            level.tokens -= THING as i32;
        }
        is_there
    }

    /// Takes a thing's tokens, whether they are there or not.
    pub fn charge(self, level: &mut Level, now: Tick) {
        self.refill(level, now);
        level.tokens = level.tokens.saturating_sub_unsigned(THING);
    }

    /// Whether nothing is known of a level that a new one would not say too.
    pub fn is_full(self, level: &mut Level, now: Tick) -> bool {
        self.refill(level, now);
        level.tokens == self.full
    }

    /// How long it takes until there is a thing's worth; `None` if there is.
    pub fn wait(self, level: &mut Level, now: Tick) -> Option<Duration> {
        self.refill(level, now);
        let missing = i64::from(THING) - i64::from(level.tokens);
        (missing > 0).then(|| Tick::LENGTH * missing.unsigned_abs().div_ceil(self.per_tick.into()) as u32)
    }

    /// Time of another clock, that of a shard which started later, adds nothing.
    fn refill(self, level: &mut Level, now: Tick) {
        let is_later = now.is_after(level.filled);
        self.fill(&mut level.tokens, if is_later { now.0.wrapping_sub(level.filled.0) } else { 0 });
        if is_later {
            level.filled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate { per_second: 10, burst: 20 };

    #[test]
    fn what_is_not_there_is_not_taken_and_comes_back_in_time() {
        let bucket = Bucket::of_things(RATE);
        let now = Tick(u32::MAX);
        let mut level = bucket.start(now);
        assert!(bucket.is_full(&mut level, now) && bucket.wait(&mut level, now).is_none());
        assert!((0..20).all(|_| bucket.take(&mut level, now)));
        assert!((0..20).all(|_| !bucket.take(&mut level, now)));
        assert_eq!(bucket.wait(&mut level, now), Some(Duration::from_millis(100)));
        assert!(!bucket.take(&mut level, Tick(8)), "an earlier clock, or one that is not there yet, adds nothing");
        assert!(bucket.take(&mut level, Tick(9)) && !bucket.take(&mut level, Tick(9)));
        assert!(!bucket.is_full(&mut level, Tick(208)) && bucket.is_full(&mut level, Tick(209)));
    }

    #[test]
    fn debts_are_paid() {
        let bucket = Bucket::of_things(RATE);
        let mut level = bucket.start(Tick(0));
        (0..30).for_each(|_| bucket.charge(&mut level, Tick(0)));
        assert_eq!(bucket.wait(&mut level, Tick(0)), Some(Duration::from_millis(1100)));
        assert_eq!(bucket.wait(&mut level, Tick(110)), None);
    }

    proptest! {
        /// However things come, no more are taken than a full bucket and what has flowed in; and who keeps within the rate
        /// is never refused.
        #[test]
        fn as_many_are_taken_as_may(per_second in 1..500u32, seconds in 1..5u32, gaps in prop::collection::vec(0..30u32, 1..300)) {
            let bucket = Bucket::of_things(Rate { per_second, burst: per_second * seconds });
            let start = Tick(u32::MAX - 100);
            let mut level = bucket.start(start);
            let (mut now, mut taken) = (0u32, 0u64);
            for gap in gaps {
                now += gap;
                let at = Tick(start.0.wrapping_add(now));
                let waits = bucket.wait(&mut level, at);
                let is_taken = bucket.take(&mut level, at);
                prop_assert_eq!(is_taken, waits.is_none());
                taken += u64::from(is_taken);
                let most = u64::from(per_second * seconds) + u64::from(now) * u64::from(per_second) / u64::from(TICKS_PER_SECOND);
                prop_assert!(taken <= most, "{} of {}", taken, most);
            }
        }
    }
}
