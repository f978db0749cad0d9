//! Topics by pattern: the language that the knobs `history` and `client_publish` share.

use serde::Deserialize;

use super::value::Grammar;

/// Bytes of a pattern: as many as a topic's name has at most.
const MAX_PATTERN_BYTES: usize = 256;

/// Topics, named by patterns: those that any of them stands for.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Patterns(pub Vec<String>);

impl Patterns {
    /// Every topic.
    pub fn all() -> Patterns {
        Patterns(vec!["*".into()])
    }

    /// Whether a topic is among them.
    pub fn includes(&self, topic: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern, topic))
    }
}

/// Whether a text is what a pattern stands for, in which `*` is any characters, also none, and everything else itself. Takes
/// no longer than the product of both lengths.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last star was, and what it stands for so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            // Whatever is left.
            Some(b'*') if p + 1 == pattern.len() => return true,
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, t) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// `PATTERN,PATTERN`, or `none`.
pub(super) struct PatternList;

impl Grammar for PatternList {
    type Value = Patterns;

    fn parse(&self, text: &str) -> Result<Patterns, &'static str> {
        let patterns = || text.split(',').map(str::trim);
        match text {
            "none" | "off" => Ok(Patterns(Vec::new())),
            _ if patterns().any(|pattern| pattern.is_empty() || pattern.len() > MAX_PATTERN_BYTES) => {
                Err("has an empty pattern, or one of more than 256 bytes")
            }
            _ => Ok(Patterns(patterns().map(String::from).collect())),
        }
    }

    fn show(&self, value: &Patterns) -> String {
        if value.0.is_empty() { "none".into() } else { value.0.join(",") }
    }

    fn range(&self) -> String {
        "none or patterns of topics with commas between".into()
    }

    fn form(&self) -> (&'static str, &'static str) {
        ("PATTERNS", "in which * is any characters, as chat.*,lobby")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_topic_is_named_by_any_of_the_patterns() {
        let patterns = PatternList.parse("chat.*, lobby").unwrap();
        assert_eq!(PatternList.show(&patterns), "chat.*,lobby");
        for (topic, named) in [("chat.a", true), ("chat.", true), ("lobby", true), ("lobby2", false), ("game", false)] {
            assert_eq!(patterns.includes(topic), named, "{topic}");
        }
        assert!(Patterns::all().includes("game") && Patterns::all().includes(""));
        assert_eq!(PatternList.parse("off"), PatternList.parse("none"));
        assert!(!PatternList.parse("none").unwrap().includes("none"));
    }

    /// The definition, by recursion.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => naive(rest, text) || !text.is_empty() && naive(pattern, &text[1..]),
            (Some((a, pattern)), Some((b, text))) => a == b && naive(pattern, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn stars_stand_for_anything(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &text), naive(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
