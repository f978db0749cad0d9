//! A circuit breaker: who fails again and again is left alone for a while, and then asked once whether it is well again.

use std::time::{Duration, Instant};

/// Failures one after the other that open it.
pub const FAILURES: u32 = 5;
/// How long it is open at first; twice as long each time that the probe fails too.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long it is open at most.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whether questions go through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// All do.
    Closed,
    /// None does, and one is under way to see whether they would be answered.
    HalfOpen,
    /// None does, for a while.
    Open {
        /// Until when.
        until: Instant,
    },
}

impl State {
    /// Its number in the metrics: the more, the worse.
    pub fn number(self) -> u64 {
        match self {
            State::Closed => 0,
            State::HalfOpen => 1,
            State::Open { .. } => 2,
        }
    }
}

/// Leave to ask; what came of it is to be [noted](Breaker::note).
#[derive(PartialEq, Eq, Debug)]
pub enum Permit {
    /// As one of many.
    Plain,
    /// As the one on which it depends whether others are asked again.
    Probe,
}

/// A circuit breaker.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    /// In a row.
    failures: u32,
    /// How long it is open the next time.
    pause: Duration,
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker { state: State::Closed, failures: 0, pause: FIRST_PAUSE }
    }
}

impl Breaker {
    /// Whether questions go through.
    pub fn state(&self) -> State {
        self.state
    }

    /// Leave to ask.
    ///
    /// # Errors
    /// It is open: for so long, as far as can be said.
    pub fn permit(&mut self, now: Instant) -> Result<Permit, Duration> {
        match self.state {
            State::Closed => Ok(Permit::Plain),
            State::Open { until } if until <= now => {
                self.state = State::HalfOpen;
                Ok(Permit::Probe)
            }
            State::Open { until } => Err(until - now),
            State::HalfOpen => Err(FIRST_PAUSE),
        }
    }

    /// Notes what came of a question. Those that were asked before it opened say nothing any more.
    pub fn note(&mut self, permit: Permit, answered: bool, now: Instant) {
        match (permit, answered, self.state) {
            (Permit::Probe, true, _) => *self = Breaker::default(),
            (Permit::Probe, false, _) => self.open(now),
            (Permit::Plain, true, State::Closed) => self.failures = 0,
            (Permit::Plain, false, State::Closed) => {
                self.failures += 1;
                if self.failures >= FAILURES {
                    self.open(now);
                }
            }
            (Permit::Plain, _, State::HalfOpen | State::Open { .. }) => {}
        }
    }

    fn open(&mut self, now: Instant) {
        self.state = State::Open { until: now + self.pause };
        self.failures = 0;
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            let permit = breaker.permit(now).expect("it is closed");
            breaker.note(permit, false, now);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_probe_closes_it() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!(breaker.state(), State::Open { until: start + FIRST_PAUSE });
        assert_eq!(breaker.permit(start + SECOND / 4), Err(3 * SECOND / 4));
        let later = start + FIRST_PAUSE;
        assert_eq!(breaker.permit(later), Ok(Permit::Probe));
        assert_eq!((breaker.state(), breaker.permit(later)), (State::HalfOpen, Err(FIRST_PAUSE)));
        breaker.note(Permit::Plain, true, later);
        assert_eq!(breaker.state(), State::HalfOpen, "what was asked before says nothing");
        breaker.note(Permit::Probe, true, later);
        assert_eq!((breaker.state(), breaker.permit(later)), (State::Closed, Ok(Permit::Plain)));
    }

    #[test]
    fn an_answer_between_failures_keeps_it_closed() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for turn in 0..10 * FAILURES {
            breaker.note(Permit::Plain, turn % FAILURES == 0, now);
        }
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn it_is_open_for_longer_and_longer_while_probes_fail() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            let State::Open { until } = breaker.state() else { panic!("{breaker:?}") };
            assert_eq!(until - now, seconds * SECOND);
            now = until;
            let probe = breaker.permit(now).expect("it is time");
            breaker.note(probe, false, now);
        }
        now += LONGEST_PAUSE;
        let probe = breaker.permit(now).expect("it is time");
        breaker.note(probe, true, now);
        assert_eq!(opened(now).state(), State::Open { until: now + FIRST_PAUSE }, "it begins anew");
    }

    proptest! {
        /// However questions overlap: never two probes at a time, and nothing but probes from when it opens until one is
        /// answered.
        #[test]
        fn one_probe_at_a_time(steps in prop::collection::vec((0..3_u8, any::<bool>(), 0..3000_u64), 1..300)) {
            let (mut breaker, mut now) = (Breaker::default(), Instant::now());
            let mut under_way: Vec<Permit> = Vec::new();
            for (step, answered, ms) in steps {
                if step < 2 {
                    let before = breaker.state();
                    match breaker.permit(now) {
                        Ok(Permit::Plain) => {
                            prop_assert_eq!(before, State::Closed);
                            under_way.push(Permit::Plain);
                        }
                        Ok(Permit::Probe) => {
                            let was_due = matches!(before, State::Open { until } if until <= now);
                            prop_assert!(was_due, "{:?}", before);
                            prop_assert!(!under_way.contains(&Permit::Probe));
                            under_way.push(Permit::Probe);
                        }
                        Err(wait) => prop_assert!(before != State::Closed && !wait.is_zero() && wait <= LONGEST_PAUSE),
                    }
                } else if !under_way.is_empty() {
                    breaker.note(under_way.remove(ms as usize % under_way.len()), answered, now);
                }
                prop_assert_eq!(breaker.state() == State::HalfOpen, under_way.contains(&Permit::Probe));
                now += Duration::from_millis(ms);
            }
        }
    }
}
