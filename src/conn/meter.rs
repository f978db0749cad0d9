//! How fast connections send: two token buckets for each, of messages and of bytes.
//!
//! A bucket may go into debt, down to what it holds when it is full. What comes while it is in debt is refused, and is paid
//! for all the same: so whoever goes on is found out, and whoever pauses is heard again.

use crate::config::Rate;
use crate::limits::{MAX_BYTE_RATE, MAX_MESSAGE_RATE};
use crate::time::Tick;

/// What a message costs: a bucket is filled at every tick, of which a second has a hundred.
const MESSAGE: u32 = 100;
const TICKS_PER_SECOND: u32 = (1_000 / Tick::LENGTH.as_millis()) as u32;

const _: () = {
    assert!(MESSAGE == TICKS_PER_SECOND, "then a rate is what flows in with a tick");
    assert!(Rate::of(MAX_MESSAGE_RATE).burst <= i32::MAX as u32 / MESSAGE);
    assert!(Rate::of(MAX_BYTE_RATE).burst <= i32::MAX as u32);
    assert!(size_of::<Meter>() == 12, "of the memory budget of a connection");
};

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

/// A token bucket of one kind, for all connections.
#[derive(Clone, Copy)]
struct Bucket {
    /// What it holds when it is full; it is never further in debt.
    full: i32,
    /// What flows in with a tick.
    per_tick: u32,
}

impl Bucket {
    fn of_messages(rate: Rate) -> Bucket {
        Bucket { full: (rate.burst * MESSAGE) as i32, per_tick: rate.per_second }
    }

    fn of_bytes(rate: Rate) -> Bucket {
        Bucket { full: rate.burst as i32, per_tick: rate.per_second.div_ceil(TICKS_PER_SECOND) }
    }

    fn fill(self, level: &mut i32, ticks: u32) {
        let level_now = i64::from(*level) + i64::from(ticks) * i64::from(self.per_tick);
        *level = level_now.min(self.full.into()) as i32;
    }

    fn take(self, level: &mut i32, tokens: u32) {
        *level = level.saturating_sub_unsigned(tokens).max(-self.full);
    }

    fn pace(self, level: i32) -> Pace {
        match level {
            0.. => Pace::Good,
            level if level > -self.full => Pace::TooFast,
            _ => Pace::Persistent,
        }
    }
}

/// What is left to a connection.
#[derive(Clone, Copy, Default)]
struct Meter {
    messages: i32,
    bytes: i32,
    /// Until when what flows in is counted.
    filled: Tick,
}

/// The meters of a shard's connections, by slot. There are none where nothing is bounded.
#[derive(Default)]
pub struct Meters {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    meters: Vec<Meter>,
}

impl Meters {
    /// Bounds of what one connection sends, where there are any.
    pub fn new(messages: Option<Rate>, bytes: Option<Rate>) -> Meters {
        let (messages, bytes) = (messages.map(Bucket::of_messages), bytes.map(Bucket::of_bytes));
        Meters { messages, bytes, meters: Vec::new() }
    }

    /// A connection begins, with full buckets.
    pub fn start(&mut self, index: u32, now: Tick) {
        let full = |bucket: Option<Bucket>| bucket.map_or(0, |bucket| bucket.full);
        if self.messages.is_some() || self.bytes.is_some() {
            let index = index as usize;
            self.meters.resize(self.meters.len().max(index + 1), Meter::default());
            self.meters[index] = Meter { messages: full(self.messages), bytes: full(self.bytes), filled: now };
        }
    }

    /// Bytes have come from a connection.
    #[inline]
    pub fn charge_bytes(&mut self, index: u32, bytes: usize, now: Tick) {
        let (Some(bucket), Some(meter)) = (self.bytes, self.filled(index, now)) else { return };
        bucket.take(&mut meter.bytes, u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// A message, a ping or a request has come from a connection, whose bytes are charged.
    #[inline]
    pub fn charge_message(&mut self, index: u32, now: Tick) -> Pace {
        let (messages, bytes) = (self.messages, self.bytes);
        let Some(meter) = self.filled(index, now) else { return Pace::Good };
        if let Some(bucket) = messages {
            bucket.take(&mut meter.messages, MESSAGE);
        }
        let paces = [messages.map(|bucket| bucket.pace(meter.messages)), bytes.map(|bucket| bucket.pace(meter.bytes))];
        paces.into_iter().flatten().find(|pace| *pace != Pace::Good).unwrap_or(Pace::Good)
    }

    /// A connection's meter, filled until now.
    #[inline]
    fn filled(&mut self, index: u32, now: Tick) -> Option<&mut Meter> {
        let meter = self.meters.get_mut(index as usize)?;
        if now.is_after(meter.filled) {
            let ticks = now.0.wrapping_sub(meter.filled.0);
            self.messages.inspect(|bucket| bucket.fill(&mut meter.messages, ticks));
            self.bytes.inspect(|bucket| bucket.fill(&mut meter.bytes, ticks));
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
        let mut meters = Meters::new(messages, bytes);
        meters.start(3, Tick(u32::MAX));
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
        meters.charge_bytes(3, 2000, Tick(0));
        assert_eq!(meters.charge_message(3, Tick(0)), Pace::Good);
        meters.charge_bytes(3, 1, Tick(0));
        assert_eq!(meters.charge_message(3, Tick(0)), Pace::TooFast);
        meters.charge_bytes(3, usize::MAX, Tick(0));
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
                debt = (debt - i64::from(gap * per_second)).max(0) + i64::from(MESSAGE);
                within &= debt <= i64::from(rate.burst * MESSAGE);
                let pace = meters.charge_message(3, Tick(u32::MAX.wrapping_add(now)));
                prop_assert!(!within || pace == Pace::Good);
                passed += u64::from(pace == Pace::Good);
                let most = u64::from(rate.burst) + u64::from(now) * u64::from(per_second) / u64::from(TICKS_PER_SECOND);
                prop_assert!(passed <= most, "{} of {}", passed, most);
            }
        }
    }
}
