//! The bound on the process's memory: near it, load is shed, what is missed the least first.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Settings;
use crate::config::{Limit, MIN_MEMORY};
use crate::doctor;
use crate::ring::sys;
use crate::shard::handle::Shards;
use crate::shard::mail::{Mail, Shed};

/// How often resident memory is looked at while less than half of what is allowed is resident.
const SELDOM: Duration = Duration::from_millis(100);
/// How often from there on: what comes between two looks comes on top.
const OFTEN: Duration = Duration::from_millis(10);
/// Time between two orders of one step: what was freed for the first must be seen by then.
const BETWEEN_ORDERS: Duration = Duration::from_millis(100);
/// Orders between two times that histories are halved.
const ORDERS_PER_HALVING: u32 = 3;
/// Time between two lines of the log.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

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
    let begin = Instant::now();
    loop {
        let bytes = match sys::resident_bytes() {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        shedding.look(bytes, begin.elapsed());
        shards.shared().set_memory_pressure(shedding.step >= Step::Newcomers);
        if let Some(step) = shedding.news() {
            tell(step, bytes, shedding.max);
        }
        if let Some(order) = shedding.order(shards.postboxes().len() as u64) {
            for postbox in shards.postboxes() {
                postbox.post(order.mail());
                postbox.wake();
            }
        }
        tokio::time::sleep(if bytes < shedding.percent(50) { SELDOM } else { OFTEN }).await;
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

/// What each shard is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Trim,
    Shed(Shed),
}

impl Order {
    fn mail(self) -> Mail {
        match self {
            Order::Trim => Mail::Trim,
            Order::Shed(what) => Mail::Shed(what),
        }
    }
}

/// Where the process is between enough memory and none.
struct Shedding {
    max: u64,
    step: Step,
    /// Resident at the last look.
    bytes: u64,
    /// When that was.
    now: Duration,
    /// The last order's step, and when it was given, unless there was enough since.
    ordered: Option<(Step, Duration)>,
    /// Orders since the first with which histories were to be emptied.
    halving: u32,
    /// The step that the log was told of, and until when it is told nothing.
    told: (Step, Duration),
}

impl Shedding {
    fn new(max: u64) -> Shedding {
        let (step, now) = (Step::None, Duration::ZERO);
        Shedding { max, step, bytes: 0, now, ordered: None, halving: 0, told: (step, now) }
    }

    /// So many bytes are resident now.
    fn look(&mut self, bytes: u64, now: Duration) {
        (self.bytes, self.now) = (bytes, now);
        let begun = STEPS.into_iter().filter(|(_, begins, _)| bytes >= self.percent(*begins));
        let held = STEPS.into_iter().filter(|(step, _, ends)| *step <= self.step && bytes >= self.percent(*ends));
        self.step = begun.chain(held).map(|(step, ..)| step).max().unwrap_or(Step::None);
    }

    fn percent(&self, percent: u64) -> u64 {
        self.max / 100 * percent
    }

    /// The step, if it is another than the log knows, and enough time has passed since that was told.
    fn news(&mut self) -> Option<Step> {
        let (told, silent) = self.told;
        if self.step == told || self.now < silent {
            return None;
        }
        self.told = (self.step, self.now + BETWEEN_LINES);
        Some(self.step)
    }

    /// What each of so many shards is to do now: at once where it is more than was ordered last, else after a while.
    fn order(&mut self, shards: u64) -> Option<Order> {
        let due = self.ordered.is_none_or(|(step, at)| self.step > step || self.now >= at + BETWEEN_ORDERS);
        if self.step == Step::None || !due {
            self.ordered = self.ordered.filter(|_| self.step > Step::None);
            return None;
        }
        self.ordered = Some((self.step, self.now));
        self.halving = if self.step >= Step::Histories { self.halving + 1 } else { 0 };
        let excess = self.bytes.saturating_sub(self.percent(95));
        Some(match self.step {
            Step::None | Step::Newcomers => Order::Trim,
            step => Order::Shed(Shed {
                histories: self.halving % ORDERS_PER_HALVING == 1,
                backlogs: if step == Step::Backlogs { excess.div_ceil(shards.max(1)) } else { 0 },
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: u64 = 100_000;

    /// When the look of that number is.
    fn at(look: usize) -> Duration {
        BETWEEN_ORDERS * look as u32
    }

    fn after(readings: &[u64]) -> Shedding {
        let mut shedding = Shedding::new(MAX);
        readings.iter().enumerate().for_each(|(n, &bytes)| shedding.look(bytes, at(n)));
        shedding
    }

    /// The orders to four shards with these looks.
    fn orders(looks: &[(u64, Duration)]) -> Vec<Option<Order>> {
        let mut shedding = Shedding::new(MAX);
        let order = |&(bytes, now): &(u64, Duration)| {
            shedding.look(bytes, now);
            shedding.order(4)
        };
        looks.iter().map(order).collect()
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
        let last = |readings: &[u64]| {
            let looks: Vec<_> = readings.iter().enumerate().map(|(n, &bytes)| (bytes, at(n))).collect();
            orders(&looks).pop().flatten()
        };
        let shed = |histories, backlogs| Some(Order::Shed(Shed { histories, backlogs }));
        assert_eq!(last(&[1]), None);
        assert_eq!(last(&[91_000]), Some(Order::Trim));
        let halvings = [1, 2, 3, 4].map(|looks| last(&[96_000; 4][..looks]));
        assert_eq!(halvings, [shed(true, 0), shed(false, 0), shed(false, 0), shed(true, 0)]);
        assert_eq!(last(&[99_000]), shed(true, 1000));
        assert_eq!(last(&[99_000, 95_001]), shed(false, 1));
    }

    #[test]
    fn more_is_ordered_at_once_and_the_same_after_a_while() {
        let looks = [(91_000, 0), (92_000, 10), (96_000, 20), (97_000, 30), (99_000, 40), (99_000, 130), (99_000, 140)];
        let given = orders(&looks.map(|(bytes, ms)| (bytes, Duration::from_millis(ms))));
        assert_eq!(
            given.iter().map(Option::is_some).collect::<Vec<_>>(),
            [true, false, true, false, true, false, true]
        );
        // Where there was enough meanwhile, it begins anew.
        let looks = [(91_000, 0), (1, 10), (91_000, 20)].map(|(bytes, ms)| (bytes, Duration::from_millis(ms)));
        assert_eq!(orders(&looks), [Some(Order::Trim), None, Some(Order::Trim)]);
    }

    #[test]
    fn the_log_is_told_once_and_not_too_often() {
        let mut shedding = Shedding::new(MAX);
        let mut lines = Vec::new();
        for look in 0..1000 {
            // To and fro, then for good.
            let bytes = if look < 500 { 70_000 + look % 2 * 29_000 } else { 94_000 };
            shedding.look(bytes, OFTEN * look as u32);
            lines.extend(shedding.news());
        }
        assert!(lines.len() <= 7 && lines.last() == Some(&Step::Histories), "{lines:?}");
    }

    proptest! {
        /// Between where a step ends and where it begins, it stays as it was; beyond either, there is no doubt.
        #[test]
        fn what_was_read_before_counts_between_the_bounds_alone(readings in prop::collection::vec(70_000..110_000u64, 1..60)) {
            let mut shedding = Shedding::new(MAX);
            for (n, bytes) in readings.into_iter().enumerate() {
                let before = shedding.step;
                shedding.look(bytes, at(n));
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
