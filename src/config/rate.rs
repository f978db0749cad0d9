//! So many a second, and so many at once: the value of the knobs that bound how fast something comes.

use super::value::{Count, Grammar, Size};

/// A bound of how fast something comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// How many may come in a second, second after second.
    pub per_second: u32,
    /// How many may come at once after a pause; no fewer than in a second.
    pub burst: u32,
}

impl Rate {
    /// What may come at once where nothing is said of it: what may come in two seconds.
    pub const fn of(per_second: u32) -> Rate {
        Rate { per_second, burst: per_second.saturating_mul(2) }
    }
}

/// `N` or `N burst=N`, in the grammar of a count or a size.
pub(super) struct PerSecond<G>(pub G);

/// Things a second.
pub(super) const fn count_per_second(max: u32) -> PerSecond<Count> {
    PerSecond(Count { min: 1, max })
}

/// Bytes a second.
pub(super) const fn bytes_per_second(min: u32, max: u32) -> PerSecond<Size<u32>> {
    PerSecond(Size { min, max })
}

impl<G: Grammar<Value = u32>> Grammar for PerSecond<G> {
    type Value = Rate;

    fn parse(&self, text: &str) -> Result<Rate, &'static str> {
        let mut words = text.split_whitespace();
        let rate = Rate::of(self.0.parse(words.next().unwrap_or_default())?);
        match (words.next().map(|word| word.split_once('=')), words.next()) {
            (None, _) => Ok(rate),
            (Some(Some(("burst", burst))), None) => match self.0.parse(burst)? {
                burst if burst < rate.per_second => Err("has a burst of less than a second"),
                burst => Ok(Rate { burst, ..rate }),
            },
            _ => Err("has a word that is not burst="),
        }
    }

    fn show(&self, value: &Rate) -> String {
        let per_second = self.0.show(&value.per_second);
        if *value == Rate::of(value.per_second) {
            return per_second;
        }
        format!("{per_second} burst={}", self.0.show(&value.burst))
    }

    fn range(&self) -> String {
        self.0.range()
    }

    fn form(&self) -> (&'static str, &'static str) {
        ("RATE", "a second, as 100, or with what may come at once after a pause, as 100 burst=500")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_shown() {
        let rate = count_per_second(1000);
        for (text, value) in [
            ("10", Rate { per_second: 10, burst: 20 }),
            ("10 burst=10", Rate { per_second: 10, burst: 10 }),
            ("1000", Rate { per_second: 1000, burst: 2000 }),
        ] {
            assert_eq!(rate.parse(text), Ok(value));
            assert_eq!(rate.show(&value), text);
        }
        assert_eq!(bytes_per_second(1 << 10, 1 << 30).parse("1KiB burst=1MiB").unwrap().burst, 1 << 20);
        for text in ["", "0", "1001", "10 burst=9", "10 burst", "10 bust=20", "10 burst=20 x", "10/s"] {
            assert!(rate.parse(text).is_err(), "{text}");
        }
    }
}
