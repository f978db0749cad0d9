//! Numbers as people read them, and text from the network as a terminal may be shown it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Text of the server's or of its clients, in which nothing is left that a terminal would act upon: what is no letter, digit,
/// sign or space of its line is spelled out, as `\u{1b}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Plain(String);

impl Plain {
    /// Makes it so.
    pub fn new(text: &str) -> Plain {
        let mut plain = String::with_capacity(text.len());
        for c in text.chars() {
            if acts(c) { plain.extend(c.escape_unicode()) } else { plain.push(c) }
        }
        Plain(plain)
    }

    /// As a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Plain, D::Error> {
        String::deserialize(deserializer).map(|text| Plain::new(&text))
    }
}

/// Whether a character is not only shown: a control character (escape sequences begin with one), an end of line, or one that
/// changes where others are shown or hides between them (Unicode's Bidi_Control, and the invisible ones).
fn acts(c: char) -> bool {
    let is_hidden = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    c.is_control() || is_hidden
}

/// 1234567 as `1.23M`; below a million, every digit.
pub fn count(number: u64) -> String {
    match number {
        0..1_000_000 => grouped(number),
        1_000_000..1_000_000_000 => format!("{:.2}M", number as f64 / 1e6),
        _ => format!("{:.2}G", number as f64 / 1e9),
    }
}

/// With a comma before every three digits.
fn grouped(number: u64) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", grouped(number / 1000), number % 1000) }
}

/// So many a second.
pub fn rate(rate: f64) -> String {
    match rate {
        rate if rate > 0.0 && rate < 9.95 => format!("{rate:.1}"),
        rate => count(rate.max(0.0).round() as u64),
    }
}

/// 1536 as `1.5 KiB`.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 999.5 {
            let digits = usize::from(unit != "B" && value < 99.95);
            return format!("{value:.digits$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// The two largest units of a time.
pub fn time(time: Duration) -> String {
    match (time.as_secs(), time.as_millis()) {
        (0, 0) if time.is_zero() => "0".to_owned(),
        (0, 0) => format!("{} µs", time.as_micros()),
        (0, millis @ 1..10) => format!("{millis}.{} ms", time.as_micros() % 1000 / 100),
        (0, millis) => format!("{millis} ms"),
        (seconds @ 1..60, millis) => format!("{seconds}.{} s", millis % 1000 / 100),
        (seconds @ 60..3600, _) => format!("{}m {:02}s", seconds / 60, seconds % 60),
        (seconds @ 3600..86_400, _) => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        (seconds, _) => format!("{}d {:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([0, 999, 1000, 999_999, 1_000_000].map(count), ["0", "999", "1,000", "999,999", "1.00M"]);
        assert_eq!(count(1_002_003_004), "1.00G");
        assert_eq!([0.0, 0.04, 9.94, 9.96, 1234.4, -1.0].map(rate), ["0", "0.0", "9.9", "10", "1,234", "0"]);
        assert_eq!([0, 999, 1000, 1536, 102_400].map(bytes), ["0 B", "999 B", "1.0 KiB", "1.5 KiB", "100 KiB"]);
        assert_eq!([1 << 20, 3 << 30, 5 << 40].map(bytes), ["1.0 MiB", "3.0 GiB", "5.0 TiB"]);
        let times = [0, 12, 4200, 62_000, 3_725_000, 90_061_000].map(|millis| time(Duration::from_millis(millis)));
        assert_eq!(
            [450, 1234, 12_345].map(|micros| time(Duration::from_micros(micros))),
            ["450 µs", "1.2 ms", "12 ms"]
        );
        assert_eq!(times, ["0", "12 ms", "4.2 s", "1m 02s", "1h 02m", "1d 01h"]);
    }

    #[test]
    fn what_a_terminal_would_act_upon_is_spelled_out() {
        assert_eq!(Plain::new("a\u{1b}[2J\r\nb").as_str(), "a\\u{1b}[2J\\u{d}\\u{a}b");
        assert_eq!(Plain::new("\u{9b}31m\u{202e}x\u{200b}").as_str(), "\\u{9b}31m\\u{202e}x\\u{200b}");
        assert_eq!(Plain::new("prices.EURUSD é 価格").as_str(), "prices.EURUSD é 価格");
        let parsed: Plain = serde_json::from_str("\"\\u001b]0;x\\u0007\"").expect("a string");
        assert_eq!(parsed.as_str(), "\\u{1b}]0;x\\u{7}");
    }

    proptest! {
        #[test]
        fn nothing_is_left_of_control_characters(text: String) {
            prop_assert!(!Plain::new(&text).as_str().chars().any(acts));
        }
    }
}
