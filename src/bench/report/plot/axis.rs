//! From numbers to places on an axis, and where its ticks are.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::{Axis, Scale};
use crate::bench::report::quantity;

/// Steps between ticks of a linear axis, at most, but for rounding.
const STEPS: f64 = 8.0;

/// How far an axis reaches beyond its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Not at all; but a linear one begins at zero, if that leaves less than half of it empty, and a logarithmic one has
    /// a decade or round ends.
    Tight,
    /// To the next round number, and to zero where the data come from that side.
    Round,
}

/// An axis with its range and its ticks.
#[derive(Clone, Debug)]
pub struct Ruler {
    scale: Scale,
    low: f64,
    high: f64,
    /// Where numbers stand, and how they are written.
    major: Vec<(f64, String)>,
    /// Where only a line is.
    minor: Vec<f64>,
    /// What the numbers count, if they do not say so themselves.
    unit: String,
}

impl Scale {
    /// Whether the axis has a place for the number.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Scale::Linear => value.is_finite(),
            Scale::Log => value.is_finite() && value > 0.0,
            Scale::Percentile => (0.0..1.0).contains(&value),
        }
    }

    /// What is even along the axis.
    fn even(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Log => value.log10(),
            Scale::Percentile => -(1.0 - value).log10(),
        }
    }
}

impl Ruler {
    /// The ruler for an axis with these numbers on it. Those that the scale does not hold are passed over.
    pub fn of(axis: Axis<'_>, values: impl Iterator<Item = f64>, reach: Reach) -> Ruler {
        let held = values.filter(|&value| axis.scale.holds(value));
        let bounds = held.fold(None, |bounds: Option<(f64, f64)>, value| match bounds {
            None => Some((value, value)),
            Some((low, high)) => Some((low.min(value), high.max(value))),
        });
        match axis.scale {
            Scale::Linear => linear(axis.unit, bounds.unwrap_or((0.0, 1.0)), reach),
            Scale::Log => logarithmic(axis.unit, bounds.unwrap_or((1.0, 10.0)), reach),
            Scale::Percentile => percentiles(bounds.map_or(0.0, |(_, high)| high)),
        }
    }

    /// Where it begins.
    pub fn low(&self) -> f64 {
        self.low
    }

    /// Where it ends.
    pub fn high(&self) -> f64 {
        self.high
    }

    /// What an axis is called: its label, and the unit that its ticks are without.
    pub fn caption(&self, label: &str) -> String {
        match (label, &*self.unit) {
            (label, "") => label.into(),
            ("", unit) => unit.into(),
            (label, unit) => format!("{label}, {unit}"),
        }
    }
}

fn linear(unit: &str, (mut low, mut high): (f64, f64), reach: Reach) -> Ruler {
    if reach == Reach::Round {
        (low, high) = (low.min(0.0), high.max(0.0));
    } else if (0.0..high / 2.0).contains(&low) {
        low = 0.0;
    }
    if high <= low {
        high = low + low.abs().max(1.0);
    }
    let (size, unit) = quantity::fitting(low.abs().max(high.abs()), unit);
    let step = round_step((high - low) / size / STEPS);
    let (mut first, mut last) = (low / size / step, high / size / step);
    if reach == Reach::Round {
        (low, high) = (first.floor() * step * size, last.ceil() * step * size);
        (first, last) = (first.floor(), last.ceil());
    }
    // A tick that rounding has put a hair beyond the end is still there.
    let whole = (first - 1e-9).ceil() as i64..=(last + 1e-9).floor() as i64;
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let tick = |n: i64| (n as f64 * step * size, quantity::grouped(n as f64 * step, decimals));
    Ruler { scale: Scale::Linear, low, high, major: whole.map(tick).collect(), minor: Vec::new(), unit }
}

/// The next greater of 1, 2 or 5 times a power of ten.
fn round_step(at_least: f64) -> f64 {
    let power = 10f64.powf(at_least.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|step| step * power >= at_least * (1.0 - 1e-9)).unwrap_or(10.0);
    step * power
}

fn logarithmic(unit: &str, (mut low, mut high): (f64, f64), reach: Reach) -> Ruler {
    let powers = low.log10().floor() as i32 - 1..=high.log10().ceil() as i32 + 1;
    let steps = |digits: Range<u8>| {
        powers.clone().flat_map(move |power| digits.clone().map(move |digit| f64::from(digit) * 10f64.powi(power)))
    };
    let round: Vec<f64> = steps(1..10).filter(|step| matches!(leading_digit(*step), 1 | 2 | 5)).collect();
    // Within a decade there might be no tick but at its ends.
    if reach == Reach::Round || high < low * 10.0 {
        low = round.iter().copied().rfind(|step| *step <= low * (1.0 - 1e-9)).unwrap_or(low);
        high = round.iter().copied().find(|step| *step >= high * (1.0 + 1e-9)).unwrap_or(high);
    }
    let within = |step: &f64| (low * (1.0 - 1e-9)..=high * (1.0 + 1e-9)).contains(step);
    let labelled: Vec<f64> = match high / low {
        ratio if ratio <= 5.0 => steps(1..10).collect(),
        ratio if ratio < 100.0 => round,
        _ => round.into_iter().filter(|step| leading_digit(*step) == 1).collect(),
    };
    let major = labelled.into_iter().filter(within).map(|step| (step, quantity::tick(step, unit))).collect();
    Ruler { scale: Scale::Log, low, high, major, minor: steps(2..10).filter(within).collect(), unit: String::new() }
}

fn leading_digit(number: f64) -> u8 {
    (number / 10f64.powf((number.log10() + 1e-9).floor())).round() as u8
}

fn percentiles(highest: f64) -> Ruler {
    // As far as 90 % at least, or there would be nothing to read it by.
    let high = highest.max(0.9);
    let nines = Scale::Percentile.even(high).ceil() as i32;
    let share = |digit: u8, nines: i32| 1.0 - f64::from(digit) * 10f64.powi(-nines);
    let within = |share: &f64| *share <= high * (1.0 + 1e-12);
    let half = [(0.0, "0 %".to_owned()), (0.5, "50 %".to_owned())];
    let labelled = (1..=nines).map(|nines| (share(1, nines), percent(nines))).filter(|(at, _)| within(at));
    // At 95 %, 99.5 % and so on.
    let minor = (2..=nines).map(|nines| share(5, nines)).filter(within);
    let (scale, unit) = (Scale::Percentile, String::new());
    Ruler { scale, low: 0.0, high, major: half.into_iter().chain(labelled).collect(), minor: minor.collect(), unit }
}

/// "90 %", "99 %", "99.9 %": as many nines.
fn percent(nines: i32) -> String {
    match nines {
        1 => "90 %".into(),
        2 => "99 %".into(),
        more => format!("99.{} %", "9".repeat(more as usize - 2)),
    }
}

impl Ranged for Ruler {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let even = |value| self.scale.even(value);
        let share = (even(*value) - even(self.low)) / (even(self.high) - even(self.low));
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight().allow_light_points() {
            true => self.minor.clone(),
            false => self.major.iter().map(|&(at, _)| at).collect(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Ruler {
    fn format_ext(&self, value: &f64) -> String {
        self.major.iter().find(|(at, _)| at == value).map_or(String::new(), |(_, label)| label.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ruler(scale: Scale, unit: &str, values: &[f64], reach: Reach) -> Ruler {
        Ruler::of(Axis { label: "", unit, scale }, values.iter().copied(), reach)
    }

    fn labels(ruler: &Ruler) -> Vec<&str> {
        ruler.major.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn a_linear_axis_counts_in_the_unit_that_suits_its_end() {
        let rates = ruler(Scale::Linear, "/s", &[0.0, 412_000.0], Reach::Round);
        assert_eq!(labels(&rates), ["0", "100", "200", "300", "400", "500"]);
        assert_eq!((rates.low, rates.high, &*rates.caption("deliveries")), (0.0, 500_000.0, "deliveries, k/s"));
        let seconds = ruler(Scale::Linear, "s", &[0.0, 0.5, 4.9], Reach::Tight);
        assert_eq!(labels(&seconds), ["0", "1", "2", "3", "4"]);
        assert_eq!((seconds.high, &*seconds.caption("")), (4.9, "s"));
        let [soon, late] = [2.0, 3.0].map(|first| ruler(Scale::Linear, "s", &[first, 5.0], Reach::Tight).low);
        assert_eq!((soon, late), (0.0, 3.0));
        let small = ruler(Scale::Linear, "%", &[0.25, 1.0], Reach::Round);
        assert_eq!(labels(&small), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
    }

    #[test]
    fn an_axis_below_zero_reaches_it() {
        let change = ruler(Scale::Linear, "MiB", &[-6.0, 2.5], Reach::Round);
        assert_eq!(labels(&change), ["−6", "−4", "−2", "0", "2", "4"]);
    }

    #[test]
    fn a_logarithmic_axis_has_a_unit_at_every_tick() {
        let wide = ruler(Scale::Log, "ns", &[12_345.0, 8_000_000.0], Reach::Round);
        assert_eq!(labels(&wide), ["10 µs", "100 µs", "1 ms", "10 ms"]);
        let narrow = ruler(Scale::Log, "ns", &[12_345.0, 80_000.0], Reach::Round);
        assert_eq!(labels(&narrow), ["10 µs", "20 µs", "50 µs", "100 µs"]);
        assert_eq!(narrow.minor.len(), 8, "20 to 90 µs");
        let narrowest = ruler(Scale::Log, "ns", &[3.93e9, 3.94e9], Reach::Round);
        assert_eq!(labels(&narrowest), ["2 s", "3 s", "4 s", "5 s"]);
    }

    #[test]
    fn percentiles_end_with_the_data() {
        let far = ruler(Scale::Percentile, "", &[0.0, 0.9993, 1.0], Reach::Tight);
        assert_eq!(labels(&far), ["0 %", "50 %", "90 %", "99 %", "99.9 %"]);
        assert_eq!(far.high, 0.9993);
        assert_eq!(labels(&ruler(Scale::Percentile, "", &[0.0], Reach::Tight)), ["0 %", "50 %", "90 %"]);
        let last = ruler(Scale::Percentile, "", &[0.99999], Reach::Tight);
        assert_eq!(labels(&last).last(), Some(&"99.999 %"));
    }

    #[test]
    fn an_axis_without_data_or_with_one_number_is_still_one() {
        for scale in [Scale::Linear, Scale::Log, Scale::Percentile] {
            for values in [&[][..], &[0.5], &[0.931, 0.932], &[f64::NAN, f64::INFINITY, -1.0]] {
                for reach in [Reach::Tight, Reach::Round] {
                    let ruler = ruler(scale, "ns", values, reach);
                    assert!(ruler.low < ruler.high && !ruler.major.is_empty(), "{scale:?} {values:?} {ruler:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn every_number_has_its_place_in_order(
            scale in prop_oneof![Just(Scale::Linear), Just(Scale::Log)],
            values in prop::collection::vec(1e-6..1e12f64, 1..20),
            round: bool,
        ) {
            let ruler = ruler(scale, "ns", &values, if round { Reach::Round } else { Reach::Tight });
            let mut values = values;
            values.sort_by(f64::total_cmp);
            let places: Vec<i32> = values.iter().map(|value| ruler.map(value, (0, 1000))).collect();
            prop_assert!(places.is_sorted() && places.iter().all(|place| (0..=1000).contains(place)), "{places:?}");
            prop_assert!(ruler.major.len() <= 30, "{:?}", ruler.major);
            prop_assert!(ruler.major.iter().all(|(at, _)| (0..=1000).contains(&ruler.map(at, (0, 1000)))));
        }
    }
}
