//! Which topics keep a history, and how much of it: the value of the knob `history`.

use std::fmt;
use std::time::Duration;

use super::pattern::matches;
use super::value::{Grammar, parse_size, parse_time, show_size, show_time};

/// What is kept of the topics that a pattern names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryRule {
    /// A topic's name, in which `*` stands for any characters, also none.
    pub pattern: String,
    /// Messages at most.
    pub count: u32,
    /// How long a message is kept.
    pub age: Duration,
    /// Bytes of payload at most.
    pub bytes: u32,
    /// The newest message is sent to whoever subscribes, and outlives the bounds above.
    pub last_value: bool,
}

/// The rules, of which the first that names a topic counts.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HistoryRules(pub Vec<HistoryRule>);

/// What a rule that does not say it keeps.
const COUNT: u32 = 100;
const AGE: Duration = Duration::from_secs(300);
const BYTES: u32 = 1 << 20;

const MAX_COUNT: u32 = 1 << 20;
const MAX_AGE: Duration = Duration::from_secs(7 * 86_400);
const MAX_BYTES: u64 = 64 << 20;

impl HistoryRules {
    /// The rule for a topic.
    pub fn of(&self, topic: &str) -> Option<&HistoryRule> {
        self.0.iter().find(|rule| matches(&rule.pattern, topic))
    }

    /// Rules that never count, each with one before it that names all its topics.
    pub fn shadowed(&self) -> impl Iterator<Item = (&HistoryRule, &HistoryRule)> {
        self.0.iter().enumerate().filter_map(|(i, rule)| {
            // A star in what is matched is met by a star alone: so the earlier one names whatever the later one does.
            let earlier = self.0[..i].iter().find(|earlier| matches(&earlier.pattern, &rule.pattern))?;
            Some((rule, earlier))
        })
    }
}

/// The rules that a text says, as the knob has it.
///
/// # Errors
/// What the text is not.
pub fn parse_history(text: &str) -> Result<HistoryRules, &'static str> {
    History.parse(text)
}

/// `PATTERN [count=N] [age=TIME] [bytes=SIZE] [last_value]`, one rule after the other with `;` between.
pub(super) struct History;

impl Grammar for History {
    type Value = HistoryRules;

    fn parse(&self, text: &str) -> Result<HistoryRules, &'static str> {
        if text == "off" {
            return Ok(HistoryRules::default());
        }
        text.split(';').map(rule).collect::<Result<_, _>>().map(HistoryRules)
    }

    fn show(&self, value: &HistoryRules) -> String {
        let rules: Vec<String> = value.0.iter().map(HistoryRule::to_string).collect();
        if rules.is_empty() { "off".into() } else { rules.join("; ") }
    }

    fn range(&self) -> String {
        "off or PATTERN [count=N] [age=TIME] [bytes=SIZE] [last_value]; …".into()
    }

    fn form(&self) -> (&'static str, &'static str) {
        ("RULES", "as prices.* count=1 last_value; chat.* count=500 age=1h")
    }
}

fn rule(text: &str) -> Result<HistoryRule, &'static str> {
    let mut words = text.split_whitespace();
    let pattern = words.next().filter(|word| !word.contains('=')).ok_or("has a rule without a pattern")?;
    let mut rule = HistoryRule { pattern: pattern.into(), count: COUNT, age: AGE, bytes: BYTES, last_value: false };
    for word in words {
        match word.split_once('=') {
            None if word == "last_value" => rule.last_value = true,
            Some(("count", n)) => {
                rule.count = bounded(n.parse().ok(), 1, MAX_COUNT, "has a rule whose count is out of 1..1048576")?;
            }
            Some(("age", age)) => {
                let least = Duration::from_secs(1);
                rule.age = bounded(parse_time(age), least, MAX_AGE, "has a rule whose age is out of 1s..7d")?;
            }
            Some(("bytes", size)) => {
                let outside = "has a rule whose bytes are out of 1KiB..64MiB";
                rule.bytes = bounded(parse_size(size), 1 << 10, MAX_BYTES, outside)? as u32;
            }
            _ => return Err("has a rule with a word that is none of count=, age=, bytes=, last_value"),
        }
    }
    Ok(rule)
}

fn bounded<T: PartialOrd>(value: Option<T>, min: T, max: T, outside: &'static str) -> Result<T, &'static str> {
    let value = value.ok_or("has a rule with a value that cannot be read")?;
    if value >= min && value <= max { Ok(value) } else { Err(outside) }
}

impl fmt::Display for HistoryRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (age, bytes) = (show_time(self.age), show_size(self.bytes.into()));
        write!(f, "{} count={} age={age} bytes={bytes}", self.pattern, self.count)?;
        if self.last_value { f.write_str(" last_value") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_names_a_topic_counts() {
        let rules = History.parse("prices.AAPL count=5; prices.* count=1 last_value;chat").unwrap();
        let count = |topic| rules.of(topic).map(|rule| (rule.count, rule.last_value));
        assert_eq!(count("prices.AAPL"), Some((5, false)));
        assert_eq!(count("prices.MSFT"), Some((1, true)));
        assert_eq!(count("chat"), Some((100, false)));
        assert_eq!(count("chatter"), None);
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for text in [
            "off",
            "a count=1 age=1s bytes=1KiB",
            "* count=100 age=5m bytes=1MiB last_value; b* count=2 age=7d bytes=64MiB",
        ] {
            assert_eq!(History.show(&History.parse(text).unwrap()), text);
        }
    }

    #[test]
    fn rules_that_never_count_are_found() {
        for (text, shadowed) in [
            ("a; b; a*", vec![]),
            ("a count=1; a count=2", vec![("a", "a")]),
            ("*; a; b* last_value", vec![("a", "*"), ("b*", "*")]),
            ("a*; a*b; *; a*", vec![("a*b", "a*"), ("a*", "a*")]),
            ("*a; a*", vec![]),
            ("a*b*; a*bb", vec![("a*bb", "a*b*")]),
        ] {
            let rules = History.parse(text).unwrap();
            let found: Vec<_> = rules.shadowed().map(|(a, b)| (&*a.pattern, &*b.pattern)).collect();
            assert_eq!(found, shadowed, "{text}");
        }
    }

    #[test]
    fn the_bounds_of_a_rule_are_named() {
        for (text, bounds) in [
            ("a count=0", "1..1048576"),
            ("a age=8d", "1s..7d"),
            ("a bytes=1", "1KiB..64MiB"),
            ("a bytes=65MiB", "64MiB"),
        ] {
            let why = History.parse(text).unwrap_err();
            assert!(why.contains(bounds), "{text}: {why}");
        }
        let extremes = "a count=1 age=1s bytes=1KiB; b count=1048576 age=7d bytes=64MiB";
        assert_eq!(History.show(&History.parse(extremes).unwrap()), extremes);
    }

    #[test]
    fn rules_that_are_none() {
        for text in ["", "a;", "count=1", "a count", "a count=0", "a count=x", "a age=8d", "a bytes=1", "a last"] {
            assert!(History.parse(text).is_err(), "{text}");
        }
    }
}
