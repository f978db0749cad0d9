//! How fast connections send: two token buckets for each, of messages and of bytes.
//!
//! A bucket may go into debt, down to what it holds when it is full. What comes while it is in debt is refused, and is paid
//! for all the same: so whoever goes on is found out, and whoever pauses is heard again.

use crate::bucket::{Bucket, THING};
use crate::config::{AUTO_BYTE_RATE, AUTO_MESSAGE_RATE, Limit, Rate};
use crate::time::Tick;

const _: () = assert!(size_of::<Meter>() == 12, "of the memory budget of a connection");

/// What is to be done about what a connection has sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// Nothing.
    Good,
    /// It is refused.
    TooFast,
    /// It is refused, and so was what could have come before: the connection is to be closed.
    Persistent,
}

/// Takes tokens; no bucket is further in debt than it holds when it is full.
fn take(bucket: Bucket, level: &mut i32, tokens: u32) {
    if *level != UNBOUNDED {
        *level = level.saturating_sub_unsigned(tokens).max(-bucket.full());
    }
}

fn pace(bucket: Bucket, level: i32) -> Pace {
    match level {
        0.. => Pace::Good,
        level if level > -bucket.full() => Pace::TooFast,
        _ => Pace::Persistent,
    }
}

/// The level of what is not bounded; no bucket is as large.
const UNBOUNDED: i32 = i32::MAX;

/// What is left to a connection.
#[derive(Clone, Copy, PartialEq)]
struct Meter {
    messages: i32,
    bytes: i32,
    /// Until when what flows in is counted.
    filled: Tick,
}

impl Meter {
    const UNBOUNDED: Meter = Meter { messages: UNBOUNDED, bytes: UNBOUNDED, filled: Tick(0) };
}

/// A bound of one kind, for all connections, or for those from elsewhere.
#[derive(Clone, Copy)]
struct Bound {
    bucket: Bucket,
    holds_here: bool,
}

impl Bound {
    fn new(limit: Limit<Rate>, auto: Rate, bucket: fn(Rate) -> Bucket) -> Option<Bound> {
        let holds_here = limit.of(auto, true).is_some();
        limit.of(auto, false).map(|rate| Bound { bucket: bucket(rate), holds_here })
    }

    fn start(self, is_loopback: bool) -> i32 {
        if is_loopback && !self.holds_here { UNBOUNDED } else { self.bucket.full() }
    }

    fn fill(self, level: &mut i32, ticks: u32) {
        if *level != UNBOUNDED {
            self.bucket.fill(level, ticks);
        }
    }
}

/// The meters of a shard's connections, by slot. Connections that nothing bounds take no memory, as long as there are no others.
#[derive(Default)]
pub struct Meters {
    messages: Option<Bound>,
    bytes: Option<Bound>,
    meters: Vec<Meter>,
}

impl Meters {
    /// Bounds of what one connection sends.
    pub fn new(messages: Limit<Rate>, bytes: Limit<Rate>) -> Meters {
        Meters {
            messages: Bound::new(messages, AUTO_MESSAGE_RATE, Bucket::of_things),
            bytes: Bound::new(bytes, AUTO_BYTE_RATE, Bucket::of_bytes),
            meters: Vec::new(),
        }
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        self.meters.capacity() * size_of::<Meter>()
    }

    /// A connection begins, with full buckets; or it is known better where it comes from.
    pub fn start(&mut self, index: u32, is_loopback: bool, now: Tick) {
        let full = |bound: Option<Bound>| bound.map_or(UNBOUNDED, |bound| bound.start(is_loopback));
        let meter = Meter { messages: full(self.messages), bytes: full(self.bytes), filled: now };
        let index = index as usize;
        if index >= self.meters.len() && (meter.messages, meter.bytes) != (UNBOUNDED, UNBOUNDED) {
            self.meters.resize(index + 1, Meter::UNBOUNDED);
        }
        if let Some(known) = self.meters.get_mut(index) {
            *known = meter;
        }
    }

    /// Bytes have come from a connection, or were inflated for it.
    #[inline]
    pub fn charge_bytes(&mut self, index: u32, bytes: usize, now: Tick) -> Pace {
        let (Some(Bound { bucket, .. }), Some(meter)) = (self.bytes, self.filled(index, now)) else {
            return Pace::Good;
        };
        take(bucket, &mut meter.bytes, u32::try_from(bytes).unwrap_or(u32::MAX));
        pace(bucket, meter.bytes)
    }

    /// A message, a ping or a request has come from a connection, whose bytes are charged.
    #[inline]
    pub fn charge_message(&mut self, index: u32, now: Tick) -> Pace {
        let (messages, bytes) = (self.messages, self.bytes);
        let Some(meter) = self.filled(index, now) else { return Pace::Good };
        if let Some(Bound { bucket, .. }) = messages {
            take(bucket, &mut meter.messages, THING);
        }
        let pace = |bound: Option<Bound>, level| bound.map(|Bound { bucket, .. }| pace(bucket, level));
        let paces = [pace(messages, meter.messages), pace(bytes, meter.bytes)];
        paces.into_iter().flatten().find(|pace| *pace != Pace::Good).unwrap_or(Pace::Good)
    }

    /// A connection's meter, filled until now.
    #[inline]
    fn filled(&mut self, index: u32, now: Tick) -> Option<&mut Meter> {
        let meter = self.meters.get_mut(index as usize)?;
        if now.is_after(meter.filled) {
            let ticks = now.0.wrapping_sub(meter.filled.0);
            self.messages.inspect(|bound| bound.fill(&mut meter.messages, ticks));
            self.bytes.inspect(|bound| bound.fill(&mut meter.bytes, ticks));
            meter.filled = now;
        }
        Some(meter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meters(messages: Option<Rate>, bytes: Option<Rate>) -> Meters {
        let set = |rate: Option<Rate>| rate.map_or(Limit::Off, Limit::At);
        let mut meters = Meters::new(set(messages), set(bytes));
        meters.start(3, true, Tick(u32::MAX));
        meters
    }

    #[test]
    fn a_burst_then_errors_then_the_end() {
        let mut meters = meters(Some(Rate { per_second: 10, burst: 20 }), None);
        let now = Tick(u32::MAX);
        let mut paces = || meters.charge_message(3, now);
        assert!((0..20).all(|_| paces() == Pace::Good));
        assert!((0..19).all(|_| paces() == Pace::TooFast));
        assert_eq!(paces(), Pace::Persistent);
        // After two seconds the debt is paid, and one token is there a tenth of a second later; the clock has gone round.
        assert_eq!(meters.charge_message(3, Tick(199 - 10)), Pace::TooFast);
        assert_eq!(meters.charge_message(3, Tick(199 + 20)), Pace::Good);
    }

    #[test]
    fn bytes_are_charged_before_the_message_that_they_end() {
        let mut meters = meters(None, Some(Rate { per_second: 1000, burst: 2000 }));
        assert_eq!(meters.charge_bytes(3, 2000, Tick(0)), Pace::Good);
        assert_eq!(meters.charge_message(3, Tick(0)), Pace::Good);
        assert_eq!(meters.charge_bytes(3, 1, Tick(0)), Pace::TooFast);
        assert_eq!(meters.charge_message(3, Tick(0)), Pace::TooFast);
        assert_eq!(meters.charge_bytes(3, usize::MAX, Tick(0)), Pace::Persistent);
        assert_eq!(meters.charge_message(3, Tick(0)), Pace::Persistent);
        assert_eq!(meters.charge_message(3, Tick(200)), Pace::Good);
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_bounded() {
        let mut meters = meters(None, None);
        meters.charge_bytes(3, usize::MAX, Tick(0));
        assert_eq!(meters.charge_message(3, Tick(0)), Pace::Good);
        assert!(meters.meters.is_empty());
    }

    #[test]
    fn the_default_is_for_others_and_each_slot_is_its_tenants() {
        let mut meters = Meters::new(Limit::Auto, Limit::Auto);
        meters.start(7, true, Tick(0));
        assert!(meters.meters.is_empty());
        let passed = |meters: &mut Meters, index| {
            (0..20_000).filter(|_| meters.charge_message(index, Tick(0)) == Pace::Good).count()
        };
        meters.start(7, false, Tick(0));
        meters.start(5, true, Tick(0));
        let most = AUTO_MESSAGE_RATE.burst as usize;
        assert_eq!([5, 6, 7, 8].map(|index| passed(&mut meters, index)), [20_000, 20_000, most, 20_000]);
        meters.start(7, true, Tick(0));
        assert_eq!(passed(&mut meters, 7), 20_000);
    }

    proptest! {
        /// However the messages lie, no more pass than a full bucket and what has flowed in; and who keeps within the rate
        /// is never refused.
        #[test]
        fn as_many_pass_as_may(
            per_second in 1..500u32,
            seconds in 1..5u32,
            gaps in prop::collection::vec(0..30u32, 1..300),
        ) {
            let rate = Rate { per_second, burst: per_second * seconds };
            let mut meters = meters(Some(rate), None);
            let (mut now, mut passed, mut within, mut debt) = (0u32, 0u64, true, 0i64);
            for gap in gaps {
                now += gap;
                debt = (debt - i64::from(gap * per_second)).max(0) + i64::from(THING);
                within &= debt <= i64::from(rate.burst * THING);
                let pace = meters.charge_message(3, Tick(u32::MAX.wrapping_add(now)));
                prop_assert!(!within || pace == Pace::Good);
                passed += u64::from(pace == Pace::Good);
                let most = u64::from(rate.burst) + u64::from(now) * u64::from(per_second) / 100;
                prop_assert!(passed <= most, "{} of {}", passed, most);
            }
        }
    }
}
