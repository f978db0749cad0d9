//! When things are due, come what may.

use std::time::Duration;

/// So many at even distances, the first at once.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// When the first is due, in nanoseconds since the run began.
    pub begin: u64,
    /// How many there are.
    pub count: u64,
    /// Nanoseconds between two.
    period: f64,
}

impl Schedule {
    /// So many a second for a time.
    pub fn new(begin: u64, rate: f64, time: Duration) -> Schedule {
        Schedule { begin, period: 1e9 / rate, count: (rate * time.as_secs_f64()).ceil() as u64 }
    }

    /// When one is due, in nanoseconds since the run began; `None`: there is none.
    pub fn due(&self, nth: u64) -> Option<u64> {
        (nth < self.count).then(|| self.at(nth))
    }

    /// When one more would be due, in nanoseconds since the run began.
    pub fn end(&self) -> u64 {
        self.at(self.count)
    }

    fn at(&self, nth: u64) -> u64 {
        self.begin + (nth as f64 * self.period) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_even_and_do_not_drift() {
        let schedule = Schedule::new(1000, 3.0, Duration::from_secs(1000));
        assert_eq!((schedule.count, schedule.due(0), schedule.end()), (3000, Some(1000), 1_000_000_001_000));
        assert_eq!(schedule.due(2999), Some(999_666_667_666), "a third of a second before the end");
        assert_eq!(schedule.due(3000), None);
    }

    #[test]
    fn what_is_begun_counts() {
        let count = |rate, millis| Schedule::new(0, rate, Duration::from_millis(millis)).count;
        assert_eq!([count(0.1, 1000), count(1.0, 1500), count(100.0, 0)], [1, 2, 0]);
    }
}
