//! When what a burst has needed is given back. The allocator would keep it until it is needed again, which may be never.

use std::time::Duration;

use crate::time::Tick;

/// Bytes that are given back at once.
const MUCH: usize = 8 << 20;
/// Bytes that are worth the time that giving them back takes, once.
const LITTLE: usize = 256 << 10;
/// How long little is kept: whoever needs it soon again has it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The most that was held since memory was given back.
#[derive(Default)]
pub struct Peak {
    bytes: usize,
    /// When the little that has been freed since is given back.
    due: Option<Tick>,
}

impl Peak {
    /// So many bytes are held now; whether what else was is to be given back: most of it, so that what goes up and down does not
    /// pay for that each time.
    pub fn is_past(&mut self, held: usize, now: Tick) -> bool {
        self.bytes = self.bytes.max(held);
        let freed = self.bytes - held;
        if freed < LITTLE.max(self.bytes / 2) {
            self.due = None;
            return false;
        }
        let due = *self.due.get_or_insert_with(|| now.after(PATIENCE));
        let past = freed >= MUCH || !due.is_after(now);
        if past {
            *self = Peak { bytes: held, due: None };
        }
        past
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
            assert!(!peak.is_past(top, at(0)));
            assert_eq!(peak.is_past(held, at(1)), past, "{top} {held}");
        }
    }

    #[test]
    fn what_is_left_of_it_is_given_back_after_a_while() {
        let mut peak = Peak::default();
        assert!(!peak.is_past(2 * MIB, at(0)) && peak.due().is_none());
        assert!(!peak.is_past(0, at(10)) && !peak.is_past(0, at(500)));
        assert!(peak.due().is_some_and(|due| !due.is_after(at(1100)) && peak.is_past(0, due)));
        assert!(peak.due().is_none() && !peak.is_past(0, at(9000)), "once");
    }

    #[test]
    fn what_is_needed_again_is_kept() {
        let mut peak = Peak::default();
        for ms in (0..5000).step_by(100) {
            assert!(!peak.is_past(2 * MIB, at(ms)) && !peak.is_past(0, at(ms + 50)));
        }
    }
}
