//! Distributions of times, in all and over time.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::report::Series;

/// Intervals at most; the longer the run, the longer they are.
const MOST: u32 = 300;
/// An interval at least.
const LEAST: Duration = Duration::from_secs(1);
/// The longest time that a distribution tells from longer ones.
const LONGEST: Duration = Duration::from_secs(3600);
/// Significant digits of a time: in all; and in an interval, where they take an eighth of the memory.
const DIGITS: u8 = 3;
const DIGITS_OF_INTERVAL: u8 = 2;

/// A distribution of times in nanoseconds, for [`Histogram::saturating_record`].
pub fn distribution() -> Histogram<u64> {
    bounded(DIGITS)
}

fn bounded(digits: u8) -> Histogram<u64> {
    Histogram::new_with_max(LONGEST.as_nanos() as u64, digits).expect("bounds and digits are constants, and valid")
}

/// Distributions, one for each interval from a beginning on. That of a thread is added to those of others that have the
/// same intervals.
#[derive(Clone, Default, Debug)]
pub struct Timeline {
    /// Nanoseconds since the run began.
    begin: u64,
    /// Nanoseconds; 0: nothing is kept.
    interval: u64,
    intervals: Vec<Histogram<u64>>,
}

impl Timeline {
    /// Of a phase that begins so many nanoseconds after the run, and is to last so long.
    pub fn new(begin: u64, lasting: Duration) -> Timeline {
        let interval = LEAST.max(lasting / MOST).as_nanos() as u64;
        Timeline { begin, interval, intervals: Vec::new() }
    }

    /// Takes a time that belongs to an instant; both in nanoseconds.
    pub fn record(&mut self, at: u64, time: u64) {
        let Some(index) = at.checked_sub(self.begin).and_then(|since| since.checked_div(self.interval)) else { return };
        while self.intervals.len() as u64 <= index {
            self.intervals.push(bounded(DIGITS_OF_INTERVAL));
        }
        self.intervals[index as usize].saturating_record(time);
    }

    /// Adds another thread's: its first interval to the first, and so on.
    pub fn add(&mut self, other: &Timeline) {
        if self.interval == 0 {
            (self.begin, self.interval) = (other.begin, other.interval);
        }
        for (index, histogram) in other.intervals.iter().enumerate() {
            match self.intervals.get_mut(index) {
                Some(mine) => mine.add(histogram).expect("of the same bounds"),
                None => self.intervals.push(histogram.clone()),
            }
        }
    }

    /// Lines of a plot: what so many per cent of an interval's times did not exceed.
    pub fn series(&self, plot: &str, percentiles: &[f64]) -> Vec<Series> {
        let at = |index: usize| (self.begin + index as u64 * self.interval) as f64 / 1e9;
        let line = |&percentile: &f64| {
            let taken = self.intervals.iter().enumerate().filter(|(_, histogram)| !histogram.is_empty());
            let points = taken.map(|(i, times)| (at(i), times.value_at_percentile(percentile) as f64)).collect();
            Series { plot: plot.into(), name: format!("p{percentile}"), unit: "ns".into(), over: "s".into(), points }
        };
        percentiles.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn times_are_kept_by_when_they_were_due() {
        let mut timeline = Timeline::new(5 * SECOND, Duration::from_secs(10));
        timeline.record(4 * SECOND, 1);
        for (at, time) in [(5 * SECOND, 100), (6 * SECOND - 1, 120), (8 * SECOND, 40)] {
            timeline.record(at, time);
        }
        let [p50, p100] = &timeline.series("latency", &[50.0, 100.0])[..] else { panic!("two lines") };
        assert_eq!((p50.name.as_str(), p50.unit.as_str()), ("p50", "ns"));
        assert_eq!(p50.points, [(5.0, 100.0), (8.0, 40.0)], "an interval without any has no point");
        assert_eq!(p100.points, [(5.0, 120.0), (8.0, 40.0)]);
    }

    #[test]
    fn threads_add_up() {
        let phase = |begin: u64| Timeline::new(begin, Duration::from_secs(600));
        let (mut all, mut a, mut b) = (Timeline::default(), phase(100), phase(200));
        a.record(150, 10);
        b.record(250, 20);
        b.record(250 + 2 * SECOND, 30);
        all.add(&a);
        all.add(&b);
        let [line] = &all.series("latency", &[100.0])[..] else { panic!("one line") };
        assert_eq!(line.points.iter().map(|&(_, time)| time).collect::<Vec<_>>(), [20.0, 30.0]);
    }

    #[test]
    fn without_a_phase_nothing_is_kept() {
        let mut timeline = Timeline::default();
        timeline.record(7, 7);
        assert!(timeline.series("latency", &[50.0])[0].points.is_empty());
    }
}
