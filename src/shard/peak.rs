//! When what a burst has needed is given back. The allocator would keep it until it is needed again, which may be never.

use std::time::Duration;

use crate::time::Tick;

/// Bytes that are given back at once.
const MUCH: usize = 8 << 20;
/// Bytes that are worth the time that giving them back takes, once.
const LITTLE: usize = 256 << 10;
/// How long little is kept: whoever needs it soon again has it. And the least time between two times that anything is given back,
/// which takes milliseconds: whoever sends large messages, one after the other, cannot have it done for each.
const PAUSE: Duration = Duration::from_secs(1);

/// Who has freed what is to be given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freed {
    /// The shard itself: some of it may be of others' heaps, which are to give it back too.
    Here,
    /// Another shard.
    Elsewhere,
}

/// The most that was held since memory was given back.
#[derive(Default)]
pub struct Peak {
    bytes: usize,
    /// Another shard has freed some of this one's heap.
    elsewhere: bool,
    /// When what has been freed is given back.
    due: Option<Tick>,
    /// When anything may be again.
    again: Option<Tick>,
}

impl Peak {
    /// Another shard has freed much.
    pub fn freed_elsewhere(&mut self) {
        self.elsewhere = true;
    }

    /// So many bytes are held now; whether what else was is to be given back: most of it, so that what goes up and down does not
    /// pay for that each time.
    pub fn past(&mut self, held: usize, now: Tick) -> Option<Freed> {
        self.bytes = self.bytes.max(held);
        self.again = self.again.filter(|again| again.is_after(now));
        let (freed, most) = (self.bytes - held, self.bytes / 2);
        let wanted = match freed {
            _ if self.elsewhere || freed >= MUCH.max(most) => now,
            _ if freed >= LITTLE.max(most) => self.due.unwrap_or_else(|| now.after(PAUSE)),
            _ => {
                self.due = None;
                return None;
            }
        };
        let due = self.again.unwrap_or(wanted);
        self.due = Some(due);
        if due.is_after(now) {
            return None;
        }
        let whose = if freed >= LITTLE.max(most) { Freed::Here } else { Freed::Elsewhere };
        *self = Peak { bytes: held, again: Some(now.after(PAUSE)), ..Peak::default() };
        Some(whose)
    }

    /// When to look again, whatever happens.
    pub fn due(&self) -> Option<Tick> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn at(ms: u64) -> Tick {
        Tick(0).after(Duration::from_millis(ms))
    }

    #[test]
    fn most_of_a_large_peak_is_given_back_at_once() {
        for (top, held, past) in [
            (0, 0, false),
            (7 * MIB, 0, false),
            (8 * MIB, 0, true),
            (20 * MIB, 11 * MIB, false),
            (20 * MIB, 10 * MIB, true),
            (1000 * MIB, 900 * MIB, false),
        ] {
            let mut peak = Peak::default();
            assert_eq!(peak.past(top, at(0)), None);
            assert_eq!(peak.past(held, at(10)), past.then_some(Freed::Here), "{top} {held}");
        }
    }

    #[test]
    fn what_is_left_of_it_is_given_back_after_a_while() {
        let mut peak = Peak::default();
        assert!(peak.past(2 * MIB, at(0)).is_none() && peak.due().is_none());
        assert!(peak.past(0, at(10)).is_none() && peak.past(0, at(500)).is_none());
        assert_eq!(peak.due(), Some(at(1010)));
        assert_eq!(peak.past(0, at(1010)), Some(Freed::Here));
        assert!(peak.due().is_none() && peak.past(0, at(9000)).is_none(), "once");
    }

    #[test]
    fn what_is_needed_again_is_kept() {
        let mut peak = Peak::default();
        for ms in (0..5000).step_by(100) {
            assert!(peak.past(2 * MIB, at(ms)).is_none() && peak.past(0, at(ms + 50)).is_none());
        }
    }

    #[test]
    fn who_holds_much_for_a_moment_again_and_again_has_it_given_back_once_a_second() {
        let mut peak = Peak::default();
        let times = (0..10_000).step_by(20).filter(|&ms| {
            let before = peak.past(16 * MIB, at(ms));
            before.or(peak.past(0, at(ms + 10))).is_some()
        });
        assert_eq!(times.count(), 10);
        assert!(peak.due().is_some(), "and what is left, once its time has come");
    }

    #[test]
    fn what_others_have_freed_is_given_back_and_nobody_told() {
        let mut peak = Peak::default();
        peak.freed_elsewhere();
        assert_eq!(peak.past(0, at(0)), Some(Freed::Elsewhere));
        peak.freed_elsewhere();
        assert_eq!((peak.past(0, at(10)), peak.due()), (None, Some(at(1000))));
        assert_eq!(peak.past(0, at(1000)), Some(Freed::Elsewhere));
        assert_eq!((peak.past(0, at(5000)), peak.due()), (None, None));
    }
}
