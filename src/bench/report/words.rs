//! Words in documents: dates, and text from outside.

/// A time in seconds since 1970 as "2026-11-21 14:03 UTC".
pub fn utc(unix_time: u64) -> String {
    let (days, minutes) = (unix_time / 86_400, unix_time % 86_400 / 60);
    // Years that begin in March have their odd day at the end; 400 of them have 146,097 days, and 0000-03-01 is 719,468
    // days before 1970.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let (month, next) = if march_month < 10 { (march_month + 3, 0) } else { (march_month - 9, 1) };
    let year = era * 400 + year + next;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

/// Text from outside, as it may stand in HTML and SVG: their special characters escaped, and those that no document may
/// have replaced.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(printable(c)),
        }
    }
    escaped
}

/// Text from outside, as a terminal and a picture may have it.
pub fn plain(text: &str) -> String {
    text.chars().map(printable).collect()
}

/// The character, or what stands for one that commands a terminal, or that XML does not have.
fn printable(c: char) -> char {
    match c {
        '\n' | '\t' | '\r' => ' ',
        c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix_time, date) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_795_269_780, "2026-11-21 14:03 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(utc(unix_time), date);
        }
    }

    #[test]
    fn text_from_outside_commands_nothing() {
        assert_eq!(
            escape("<a href=\"x\">'&'\n\0</a>"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39; \u{fffd}&lt;/a&gt;"
        );
        assert_eq!(plain("µ <\u{1b}[2J\r\n\u{9b}"), "µ <\u{fffd}[2J  \u{fffd}");
    }
}
