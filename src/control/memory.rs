//! The bound on the process's memory: near it, load is shed, what is missed the least first.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Settings;
use crate::config::{Limit, MIN_MEMORY};
use crate::doctor;
use crate::ring::sys;
use crate::shard::handle::Shards;
use crate::shard::mail::{Mail, Shed};

/// How often resident memory is looked at.
const INTERVAL: Duration = Duration::from_millis(100);
/// Looks between two times that histories are halved: what was freed must be seen first.
const LOOKS_PER_HALVING: u32 = 3;
/// Looks between two lines of the log.
const LOOKS_PER_LINE: u32 = 10;

/// What is done for want of memory; each has those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    /// Nothing.
    None,
    /// Newcomers are refused, and shards give back what they keep for later.
    Newcomers,
    /// Histories are emptied, by halves, the oldest messages first.
    Histories,
    /// The connections with the largest backlogs and incomplete messages are closed.
    Backlogs,
}

/// At how many percent of what is allowed each begins, and below how many it ends: what is freed at a step must not begin it anew.
const STEPS: [(Step, u64, u64); 3] = [(Step::Newcomers, 90, 80), (Step::Histories, 95, 90), (Step::Backlogs, 98, 95)];

/// Bytes that a process may have by that limit. `auto` leaves a quarter of the machine, or of the control group, to the
/// kernel's side of connections, to files, and to others.
pub fn allowed(limit: Limit<u64>) -> Option<u64> {
    match limit {
        Limit::Off => None,
        Limit::At(bytes) => Some(bytes),
        Limit::Auto => doctor::memory_of_this_process().map(|all| (all / 4 * 3).max(MIN_MEMORY)),
    }
}

/// Watches resident memory for as long as the runtime runs and there is a bound. What is below the first step is room for what
/// comes between two looks.
pub async fn watch(shards: Shards, mut settings: watch::Receiver<Arc<Settings>>) {
    let mut shedding = Shedding::new(u64::MAX);
    loop {
        let max = allowed(settings.borrow_and_update().max_memory);
        shards.shared().process().memory_limit.set(max.unwrap_or(0));
        let changed = match max {
            Some(max) => {
                shedding.max = max;
                tokio::select! {
                    changed = settings.changed() => changed,
                    error = keep_within(&mut shedding, &shards) => {
                        return tracing::error!("memory cannot be read, so max_memory has no effect: {error}");
                    }
                }
            }
            None => {
                shedding = Shedding::new(u64::MAX);
                shards.shared().set_memory_pressure(false);
                settings.changed().await
            }
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Sheds load near the bound, for as long as memory can be read.
async fn keep_within(shedding: &mut Shedding, shards: &Shards) -> io::Error {
    loop {
        let bytes = match sys::resident_bytes() {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        shedding.look(bytes);
        shards.shared().set_memory_pressure(shedding.step >= Step::Newcomers);
        if let Some(step) = shedding.news() {
            tell(step, bytes, shedding.max);
        }
        for postbox in shards.postboxes() {
            if let Some(mail) = shedding.mail(shards.postboxes().len() as u64) {
                postbox.post(mail);
                postbox.wake();
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn tell(step: Step, bytes: u64, max: u64) {
    let what = match step {
        Step::None => return tracing::info!(resident_mib = bytes >> 20, "memory: new connections are accepted again"),
        Step::Newcomers => "new connections are refused",
        Step::Histories => "new connections are refused, and histories emptied",
        Step::Backlogs => {
            "connections with the largest backlogs and incomplete messages are closed, histories emptied, and new ones refused"
        }
    };
    tracing::warn!(resident_mib = bytes >> 20, allowed_mib = max >> 20, "memory: {what}");
}

/// Where the process is between enough memory and none.
struct Shedding {
    max: u64,
    step: Step,
    /// Resident at the last look.
    bytes: u64,
    /// Looks since the first at which histories were to be emptied.
    halving: u32,
    /// The step that the log was told of.
    told: Step,
    /// Looks until it may be told again.
    silence: u32,
}

impl Shedding {
    fn new(max: u64) -> Shedding {
        Shedding { max, step: Step::None, bytes: 0, halving: 0, told: Step::None, silence: 0 }
    }

    /// So many bytes are resident now.
    fn look(&mut self, bytes: u64) {
        self.bytes = bytes;
        let begun = STEPS.into_iter().filter(|(_, begins, _)| bytes >= self.percent(*begins));
        let held = STEPS.into_iter().filter(|(step, _, ends)| *step <= self.step && bytes >= self.percent(*ends));
        self.step = begun.chain(held).map(|(step, ..)| step).max().unwrap_or(Step::None);
        self.halving = if self.step >= Step::Histories { self.halving + 1 } else { 0 };
        self.silence = self.silence.saturating_sub(1);
    }

    fn percent(&self, percent: u64) -> u64 {
        self.max / 100 * percent
    }

    /// The step, if it is another than the log knows, and enough time has passed since that was told.
    fn news(&mut self) -> Option<Step> {
        if self.step == self.told || self.silence > 0 {
            return None;
        }
        (self.told, self.silence) = (self.step, LOOKS_PER_LINE);
        Some(self.step)
    }

    /// What each of so many shards is to do now.
    fn mail(&self, shards: u64) -> Option<Mail> {
        let excess = self.bytes.saturating_sub(self.percent(95));
        match self.step {
            Step::None => None,
            Step::Newcomers => Some(Mail::Trim),
            step => Some(Mail::Shed(Shed {
                histories: self.halving % LOOKS_PER_HALVING == 1,
                backlogs: if step == Step::Backlogs { excess.div_ceil(shards.max(1)) } else { 0 },
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: u64 = 100_000;

    fn after(readings: &[u64]) -> Shedding {
        let mut shedding = Shedding::new(MAX);
        readings.iter().for_each(|&bytes| shedding.look(bytes));
        shedding
    }

    #[test]
    fn steps_begin_in_order_and_end_later() {
        for (readings, step) in [
            (&[0][..], Step::None),
            (&[89_999], Step::None),
            (&[90_000], Step::Newcomers),
            (&[90_000, 80_000], Step::Newcomers),
            (&[90_000, 79_999], Step::None),
            (&[90_000, 94_999], Step::Newcomers),
            (&[95_000], Step::Histories),
            (&[95_000, 90_000], Step::Histories),
            (&[95_000, 89_999], Step::Newcomers),
            (&[95_000, 79_999], Step::None),
            (&[98_000], Step::Backlogs),
            (&[200_000, 95_000], Step::Backlogs),
            (&[98_000, 94_999], Step::Histories),
            (&[98_000, 94_999, 97_999], Step::Histories),
            (&[98_000, 89_999], Step::Newcomers),
        ] {
            assert_eq!(after(readings).step, step, "{readings:?}");
        }
    }

    #[test]
    fn each_step_has_its_orders() {
        let orders = |readings: &[u64]| match after(readings).mail(4) {
            None => (false, false, 0),
            Some(Mail::Shed(Shed { histories, backlogs })) => (true, histories, backlogs),
            Some(mail) => {
                assert!(matches!(mail, Mail::Trim));
                (true, false, 0)
            }
        };
        assert_eq!(orders(&[1]), (false, false, 0));
        assert_eq!(orders(&[91_000]), (true, false, 0));
        assert_eq!([1, 2, 3, 4].map(|looks| orders(&[96_000; 4][..looks]).1), [true, false, false, true]);
        assert_eq!(orders(&[99_000]), (true, true, 1000));
        assert_eq!(orders(&[99_000, 95_001]), (true, false, 1));
    }

    #[test]
    fn the_log_is_told_once_and_not_too_often() {
        let mut shedding = Shedding::new(MAX);
        let mut lines = Vec::new();
        for look in 0..100 {
            // To and fro, then for good.
            shedding.look(if look < 50 { 70_000 + look % 2 * 29_000 } else { 94_000 });
            lines.extend(shedding.news());
        }
        assert!(lines.len() <= 6 && lines.last() == Some(&Step::Histories), "{lines:?}");
    }

    proptest! {
        /// Between where a step ends and where it begins, it stays as it was; beyond either, there is no doubt.
        #[test]
        fn what_was_read_before_counts_between_the_bounds_alone(readings in prop::collection::vec(70_000..110_000u64, 1..60)) {
            let mut shedding = Shedding::new(MAX);
            for bytes in readings {
                let before = shedding.step;
                shedding.look(bytes);
                for (step, begins, ends) in STEPS {
                    let expected = match bytes {
                        bytes if bytes >= begins * 1000 => true,
                        bytes if bytes < ends * 1000 => false,
                        _ => before >= step,
                    };
                    prop_assert_eq!(shedding.step >= step, expected, "{:?} at {}", step, bytes);
                }
            }
        }
    }
}
