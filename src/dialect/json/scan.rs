//! Where things stand in a JSON text, byte by byte.
//!
//! The parser sees to it that brackets, commas and colons are where JSON has them. What stands between them it takes too
//! lightly: a long integer is one for it whatever follows the digits, a NUL ends any number, and half of a surrogate pair
//! is a character. So what is passed on is read here once more, and exactly. Nothing here recurses.

use std::ops::Range;

/// A member of an object, as positions in it.
pub(super) struct Member {
    /// From behind the `{` or `,` before it, up to the `,` or `}` behind it.
    pub whole: Range<usize>,
    /// Its value, without white space around it.
    pub value: Range<usize>,
}

/// The members of the object that a text is, in order. The last is followed by `None`; but so is one that is not JSON.
pub(super) struct Members<'a> {
    /// The text from its `{` on.
    object: &'a [u8],
    /// Where the `{` or `,` before the next member stands, or the `}` behind the last one.
    at: usize,
}

impl<'a> Members<'a> {
    /// The parser has found the text to be an object.
    pub(super) fn of(text: &'a [u8]) -> Members<'a> {
        Members { object: text.get(skip_space(text, 0)..).unwrap_or_default(), at: 0 }
    }

    /// The text of a part of the object.
    pub(super) fn part(&self, part: Range<usize>) -> Option<&'a [u8]> {
        self.object.get(part)
    }

    /// The object from its `{` to the last member that was asked for, with the white space behind that.
    pub(super) fn passed(&self) -> Option<&'a [u8]> {
        self.object.get(..self.at.max(1))
    }
}

impl Iterator for Members<'_> {
    type Item = Member;

    fn next(&mut self) -> Option<Member> {
        let start = self.at + 1;
        let colon = skip_space(self.object, string_end(self.object, skip_space(self.object, start))?);
        if *self.object.get(colon)? != b':' {
            return None;
        }
        let value = skip_space(self.object, colon + 1);
        let value = value..value_end(self.object, value)?;
        self.at = skip_space(self.object, value.end);
        matches!(self.object.get(self.at)?, b',' | b'}').then_some(Member { whole: start..self.at, value })
    }
}

/// Whether a text that the parser has found to be one JSON value is one.
pub(super) fn is_value(text: &[u8]) -> bool {
    value_end(text, skip_space(text, 0)).is_some_and(|end| skip_space(text, end) == text.len())
}

/// The first byte from `from` on that is not white space (RFC 8259 section 2).
fn skip_space(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    from + rest.iter().position(|&byte| !is_space(byte)).unwrap_or(rest.len())
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// One past the last byte of the value that starts at `from`; `None` if a string, number or word in it is none.
fn value_end(text: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = from;
    loop {
        match *text.get(at)? {
            b'"' => at = string_end(text, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b',' | b':' if depth > 0 => at += 1,
            byte if is_space(byte) && depth > 0 => at += 1,
            _ => at = scalar_end(text, at)?,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// One past the last byte of the number or word that starts at `from`.
fn scalar_end(text: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    let ends = |&byte: &u8| matches!(byte, b',' | b':' | b'"' | b'{' | b'}' | b'[' | b']') || is_space(byte);
    let len = rest.iter().position(ends).unwrap_or(rest.len());
    let scalar = &rest[..len];
    (matches!(scalar, b"true" | b"false" | b"null") || is_number(scalar)).then_some(from + len)
}

/// RFC 8259 section 6.
fn is_number(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.iter().position(|&byte| byte == b'.') {
        Some(at) => (&mantissa[..at], Some(&mantissa[at + 1..])),
        None => (mantissa, None),
    };
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let signless = |text: &[u8]| digits(text.strip_prefix(b"+").or(text.strip_prefix(b"-")).unwrap_or(text));
    digits(whole) && (whole == b"0" || whole[0] != b'0') && fraction.is_none_or(digits) && exponent.is_none_or(signless)
}

/// One past the closing quote of the string that starts at `from`.
fn string_end(text: &[u8], from: usize) -> Option<usize> {
    if *text.get(from)? != b'"' {
        return None;
    }
    let mut at = from + 1;
    loop {
        let rest = text.get(at..)?;
        let special = rest.iter().position(|&byte| byte < b' ' || byte == b'"' || byte == b'\\')?;
        at += special;
        match rest[special] {
            b'"' => return Some(at + 1),
            b'\\' => at += escape_len(&rest[special..])?,
            _ => return None,
        }
    }
}

/// Bytes of the escape, or of the two that stand for one character beyond U+FFFF (RFC 8259 section 7).
fn escape_len(text: &[u8]) -> Option<usize> {
    match *text.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => match utf16_unit(text)? {
            0xd800..0xdc00 => matches!(utf16_unit(text.get(6..)?)?, 0xdc00..0xe000).then_some(12),
            0xdc00..0xe000 => None,
            _ => Some(6),
        },
        _ => None,
    }
}

/// What the `\uXXXX` stands for that the text begins with.
fn utf16_unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, &digit| Some((unit << 4) | char::from(digit).to_digit(16)? as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_the_rfc_has_them() {
        for good in ["0", "-0", "10", "0.5", "-1.50e3", "1E+9", "2e-07", "123456789012345678901234567890"] {
            assert!(is_value(good.as_bytes()), "{good}");
        }
        for bad in ["", "-", "01", "1.", ".5", "1e", "1e+", "+1", "1.2.3", "1e2e3", "0x1", "1a", "--1", "NaN", "1\0"] {
            assert!(!is_value(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn strings_are_as_the_rfc_has_them_and_of_characters() {
        for good in
            [r#""""#, r#""\"\\\/\b\f\n\r\t""#, r#""\u0000\uD7ff\ue000\uFFFF""#, r#""\ud83d\ude00""#, "\"\u{7f}é😀\""]
        {
            assert!(is_value(good.as_bytes()), "{good}");
        }
        for bad in [
            r#"""#,
            r#""\"#,
            r#""\""#,
            r#""\x""#,
            r#""\u""#,
            r#""\u123""#,
            r#""\u12g4""#,
            r#""\u+123""#,
            r#""\ud800""#,
            r#""\ud800x""#,
            r#""\ud800\n""#,
            r#""\ud800\ud800""#,
            r#""\ud800\ue000""#,
            r#""\udc00""#,
            "\"\n\"",
            "\"\0\"",
        ] {
            assert!(!is_value(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn members_are_found_with_what_is_around_them() {
        let mut members = Members::of(br#"  { "a" : [1, {"b":2}] ,"c":"}" }  "#);
        for (whole, value) in [(r#" "a" : [1, {"b":2}] "#, r#"[1, {"b":2}]"#), (r#""c":"}" "#, r#""}""#)] {
            let member = members.next().expect("a member");
            assert_eq!(members.part(member.whole), Some(whole.as_bytes()));
            assert_eq!(members.part(member.value), Some(value.as_bytes()));
        }
        assert_eq!(members.passed(), Some(&br#"{ "a" : [1, {"b":2}] ,"c":"}" "#[..]));
        assert!(members.next().is_none());
        assert_eq!(Members::of(b" { } ").passed(), Some(&b"{"[..]));
    }

    #[test]
    fn a_member_that_is_not_json_is_none() {
        for bad in
            ["{1:2}", "{\"a\"}", "{\"a\":}", "{\"a\":1", "{\"a\":01}", "{\"a\":\"\\ud800\"}", "{", "", "x", "{\"a\" 1}"]
        {
            assert!(Members::of(bad.as_bytes()).next().is_none(), "{bad}");
        }
    }
}
