//! What came from elsewhere is not to end a line and begin another, nor to tell a terminal what to do.

/// Escapes the control characters of a line but the end of it.
pub fn all(line: &str) -> String {
    escape(line, |_| false)
}

/// Escapes them all but those of colours.
pub fn all_but_colours(line: &str) -> String {
    escape(line, begins_colour)
}

/// Leaves a line as it is.
pub fn nothing(line: &str) -> String {
    line.to_owned()
}

/// Whether a text begins with `ESC [ 1 ; 31 m` or its like (SGR, ECMA-48): that changes how what follows looks, and nothing else.
fn begins_colour(text: &str) -> bool {
    let parameters = text.strip_prefix("\u{1b}[");
    let rest = parameters.map(|text| text.trim_start_matches(|char: char| char.is_ascii_digit() || char == ';'));
    rest.is_some_and(|rest| rest.starts_with('m'))
}

fn escape(line: &str, stays: impl Fn(&str) -> bool) -> String {
    let text = line.strip_suffix('\n').unwrap_or(line);
    let mut escaped = String::with_capacity(line.len());
    for (at, char) in text.char_indices() {
        // The last two are a line's and a paragraph's end (Zl, Zp), where somebody takes them for that.
        let is_control = char.is_control() || matches!(char, '\u{2028}' | '\u{2029}');
        match is_control && !stays(&text[at..]) {
            true => escaped.extend(char.escape_default()),
            false => escaped.push(char),
        }
    }
    escaped.push('\n');
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_one_line() {
        for (line, escaped) in [
            ("plain, även åäö 🦀\n", "plain, även åäö 🦀\n"),
            ("a\n2026-01-01 ERROR forged\n", "a\\n2026-01-01 ERROR forged\n"),
            ("a\r\u{1b}[2J\u{9b}1m\u{2028}\t\0\u{7f}", "a\\r\\u{1b}[2J\\u{9b}1m\\u{2028}\\t\\u{0}\\u{7f}\n"),
        ] {
            assert_eq!(all(line), escaped);
        }
        let coloured = "\u{1b}[1;31mred\u{1b}[0m";
        assert_eq!(all_but_colours(coloured), format!("{coloured}\n"));
        assert_eq!(all_but_colours("\u{1b}[2J\u{1b}]0;x\u{7}\u{1b}"), "\\u{1b}[2J\\u{1b}]0;x\\u{7}\\u{1b}\n");
    }

    proptest! {
        #[test]
        fn nothing_but_the_end_is_a_control_character(line in ".{0,40}|[\\x00-\\x20\\x7f-\\x9f]{0,40}") {
            let escaped = all(&line);
            prop_assert!(!escaped.trim_end_matches('\n').contains(|char: char| char.is_control()));
            prop_assert_eq!(escaped.matches('\n').count(), 1);
        }
    }
}
