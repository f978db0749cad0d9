//! Numbers with units, in the unit that suits their size: 12,345 ns are 12.3 µs.

/// Units of one kind, ascending, and how many of the first each is.
type Ladder = [(&'static str, f64)];

const TIMES: [(&str, f64); 4] = [("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
const BYTES: [(&str, f64); 5] =
    [("B", 1.0), ("KiB", 1024.0), ("MiB", 1048576.0), ("GiB", 1073741824.0), ("TiB", 1099511627776.0)];
const THOUSANDS: [(&str, f64); 4] = [("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9)];

/// What stands for a number that there is none of.
pub const NONE: &str = "–";

/// A number and its unit: "12.3 µs".
pub fn show(value: f64, unit: &str) -> String {
    let (number, unit) = split(value, unit);
    join(&number, &unit)
}

/// The two parts of what [`show`] shows, for tables. The unit may be empty.
pub fn split(value: f64, unit: &str) -> (String, String) {
    if !value.is_finite() {
        return (NONE.into(), String::new());
    }
    let (size, scaled) = fitting(value, unit);
    let number = value / size;
    // What was counted was not measured with three digits.
    let counted = size == 1.0 && number.fract() == 0.0;
    (if counted { grouped(number, 0) } else { significant(number) }, scaled)
}

/// A number and its unit with the digits that a round number needs: "100 µs", "0.5 s".
pub fn tick(value: f64, unit: &str) -> String {
    let (size, scaled) = fitting(value, unit);
    let number = significant(value / size);
    let short = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    join(short, &scaled)
}

fn join(number: &str, unit: &str) -> String {
    let space = if unit.is_empty() { "" } else { " " };
    format!("{number}{space}{unit}")
}

/// The unit of the same kind that leaves a number of one to three digits before the point, and how many of `unit` it is.
/// A unit of no known kind suits everything, and every unit suits nothing.
pub fn fitting(value: f64, unit: &str) -> (f64, String) {
    let (base, per) = match unit.strip_suffix("/s") {
        Some(base) => (base, "/s"),
        None => (unit, ""),
    };
    // A plain count is shown in full; how many there are in a second is not.
    let ladder: &Ladder = match base {
        "" if per.is_empty() => &THOUSANDS[..1],
        _ if has(&TIMES, base) => &TIMES,
        _ if has(&BYTES, base) => &BYTES,
        _ => &THOUSANDS,
    };
    let Some(&(_, size)) = ladder.iter().find(|(name, _)| *name == base && value != 0.0) else {
        return (1.0, unit.into());
    };
    let fits = |(_, larger): &&(&str, f64)| rounded(value * size / larger).abs() >= 1.0;
    let &(name, larger) = ladder.iter().rev().find(fits).unwrap_or(&ladder[0]);
    (larger / size, format!("{name}{per}"))
}

fn has(ladder: &Ladder, unit: &str) -> bool {
    ladder.iter().any(|(name, _)| *name == unit)
}

/// To three digits.
fn rounded(number: f64) -> f64 {
    let ten = 10f64.powi(2 - magnitude(number));
    if ten.is_finite() { (number * ten).round() / ten } else { number }
}

/// The power of ten that a number begins with.
fn magnitude(number: f64) -> i32 {
    if number == 0.0 { 0 } else { number.abs().log10().floor() as i32 }
}

/// Three digits, or all those before the point.
fn significant(number: f64) -> String {
    let decimals = 2 - magnitude(rounded(number));
    match decimals {
        _ if number == 0.0 => "0".into(),
        10.. => format!("{number:.2e}"),
        _ => grouped(number, decimals.max(0) as usize),
    }
}

/// With a comma between thousands: "1,234.5".
pub fn grouped(number: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", number.abs());
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let negative = number < 0.0 && text.contains(|digit: char| matches!(digit, '1'..='9'));
    format!("{}{grouped}{fraction}", if negative { "−" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_are_in_the_unit_that_suits_them() {
        for (value, unit, shown) in [
            (12_345.0, "ns", "12.3 µs"),
            (999.6, "ns", "1.00 µs"),
            (999.4, "ns", "999 ns"),
            (850.0, "ns", "850 ns"),
            (0.1234, "µs", "123 ns"),
            (90e9, "ns", "90.0 s"),
            (5400.0, "s", "5,400 s"),
            (4.12 * 1048576.0, "B", "4.12 MiB"),
            (1023.9, "KiB", "1.00 MiB"),
            (1020.0, "KiB", "1,020 KiB"),
            (113.0, "B", "113 B"),
            (412_345.0, "/s", "412 k/s"),
            (31.5, "/s", "31.5 /s"),
            (2.0 * 1048576.0, "B/s", "2.00 MiB/s"),
            (1_000_000.0, "", "1,000,000"),
            (0.012345, "", "0.0123"),
            (97.26, "%", "97.3 %"),
            (-3.5 * 1048576.0, "B", "−3.50 MiB"),
            (0.0, "s", "0 s"),
            (7.0, "a connection", "7 a connection"),
            (f64::NAN, "ns", "–"),
            (f64::INFINITY, "/s", "–"),
        ] {
            assert_eq!(show(value, unit), shown, "{value} {unit}");
        }
    }

    #[test]
    fn ticks_have_no_digits_to_spare() {
        let shown = [(100e3, "ns"), (1e6, "ns"), (0.5, "s"), (2500.0, "/s")].map(|(value, unit)| tick(value, unit));
        assert_eq!(shown, ["100 µs", "1 ms", "500 ms", "2.5 k/s"]);
    }

    #[test]
    fn thousands_are_told_apart() {
        let shown = [(0.0, 0), (999.0, 0), (1000.0, 0), (1234567.89, 1), (-0.04, 1), (-1000.0, 0)];
        assert_eq!(
            shown.map(|(number, decimals)| grouped(number, decimals)),
            ["0", "999", "1,000", "1,234,567.9", "0.0", "−1,000"]
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_is_the_number_within_half_of_its_third_digit(value in -1e15..1e15f64, unit in "(ns|µs|ms|s|B|KiB|/s||%)") {
            let (number, shown) = split(value, &unit);
            let (size, _) = fitting(value, &unit);
            let read: f64 = number.replace(',', "").replace('−', "-").parse().unwrap();
            prop_assert!((read * size - value).abs() <= value.abs() * 0.00501, "{value} {unit} as {number} {shown}");
        }
    }
}
