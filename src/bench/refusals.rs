//! Why connections could not be made, and how many.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Reasons that are told.
const TOLD: usize = 3;

/// Counts by reason.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Refusals {
    by_reason: BTreeMap<String, u64>,
}

impl Refusals {
    /// One more.
    pub fn add(&mut self, why: String) {
        *self.by_reason.entry(why).or_default() += 1;
    }

    /// Those of another thread too.
    pub fn merge(&mut self, other: &Refusals) {
        for (why, count) in &other.by_reason {
            *self.by_reason.entry(why.clone()).or_default() += count;
        }
    }

    /// How many.
    pub fn total(&self) -> u64 {
        self.by_reason.values().sum()
    }

    /// "answered 503 (10), no answer in time (2)": the most frequent reasons; `None` if there was no refusal.
    pub fn in_words(&self) -> Option<String> {
        let mut reasons: Vec<_> = self.by_reason.iter().collect();
        reasons.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        let told: Vec<_> = reasons.iter().take(TOLD).map(|(why, count)| format!("{why} ({count})")).collect();
        let mut words = told.join(", ");
        let others: u64 = reasons.iter().skip(TOLD).map(|(_, count)| *count).sum();
        if others > 0 {
            // Writing to a string does not fail.
            let _ = write!(words, ", other reasons ({others})");
        }
        (!words.is_empty()).then_some(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusals(reasons: &[(&str, u64)]) -> Refusals {
        Refusals { by_reason: reasons.iter().map(|(why, count)| ((*why).into(), *count)).collect() }
    }

    #[test]
    fn the_most_frequent_reasons_are_told_first() {
        let mut all = refusals(&[("a", 1), ("b", 30), ("c", 2), ("d", 2), ("e", 5)]);
        all.add("a".into());
        assert_eq!((all.total(), all.in_words().as_deref()), (41, Some("b (30), e (5), a (2), other reasons (4)")));
        assert_eq!((Refusals::default().total(), Refusals::default().in_words()), (0, None));
    }

    #[test]
    fn threads_add_up() {
        let mut all = refusals(&[("a", 1)]);
        all.merge(&refusals(&[("a", 2), ("b", 1)]));
        assert_eq!(all, refusals(&[("a", 3), ("b", 1)]));
    }
}
