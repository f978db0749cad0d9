//! The sysctls that a number of connections wants: read from `tuning/sysctl.d/`, the one place where they are written.
//!
//! Each key has a comment above it that says why, and as the last line of it how a machine is compared with the value:
//!
//! ```text
//! # A reason, in one sentence that may go on
//! # over lines.
//! # min
//! net.core.somaxconn = 4096
//! ```

use std::collections::BTreeMap;

use serde::Serialize;

/// The files by the connections that they are for, fewest first.
pub const BASES: [(u64, &str); 3] = [
    (10_000, include_str!("../../tuning/sysctl.d/uproar-10k.conf")),
    (100_000, include_str!("../../tuning/sysctl.d/uproar-100k.conf")),
    (1_000_000, include_str!("../../tuning/sysctl.d/uproar-1m.conf")),
];
/// What the latency profile wants besides.
pub const LATENCY: &str = include_str!("../../tuning/sysctl.d/uproar-latency.conf");

/// How a machine's value is compared with the one wanted.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One number, which may be larger.
    Min,
    /// The same words.
    Exact,
    /// A list of numbers, each of which may be larger.
    AtLeastEach,
    /// One number, which may be smaller.
    Max,
}

/// A sysctl that is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Its name: `net.core.somaxconn`.
    pub key: String,
    /// The value wanted, its fields one space apart.
    pub value: String,
    /// How a machine is compared with it.
    pub kind: Kind,
    /// Why.
    pub why: String,
}

/// What the file for that many connections wants, with the latency profile's keys on top if it is asked for.
pub fn wanted(connections: u64, latency: bool) -> Vec<Rule> {
    let fits = BASES.iter().find(|&&(most, _)| connections <= most).or(BASES.last());
    let mut rules = fits.map(|(_, text)| parse_rules(text)).unwrap_or_default();
    for rule in parse_rules(if latency { LATENCY } else { "" }) {
        rules.retain(|other| other.key != rule.key);
        rules.push(rule);
    }
    rules
}

/// The rules of a file. A key without a reason and a kind above it is left out: a test holds the files to both.
pub fn parse_rules(text: &str) -> Vec<Rule> {
    let mut comment: Vec<&str> = Vec::new();
    let mut rules = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        if let Some((key, value)) = assignment(line)
            && let Some((kind, why)) = comment.split_last()
            && let Some(kind) = Kind::named(kind)
        {
            rules.push(Rule { key, value, kind, why: why.join(" ") });
        }
        comment.clear();
    }
    rules
}

/// The assignments of any file in the form of `sysctl.d(5)`; of a key's, the last.
pub fn parse_assignments(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(|line| assignment(line.trim())).collect()
}

/// `-net/core/somaxconn=  1   2` → `net.core.somaxconn`, `1 2`. Comments and patterns are none.
fn assignment(line: &str) -> Option<(String, String)> {
    let (key, value) = line.strip_prefix('-').unwrap_or(line).split_once('=')?;
    let key = key.trim().replace('/', ".");
    let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
    (!key.is_empty() && !key.starts_with(['#', ';']) && !key.contains('*')).then_some((key, value))
}

impl Kind {
    fn named(name: &str) -> Option<Kind> {
        match name {
            "min" => Some(Kind::Min),
            "exact" => Some(Kind::Exact),
            "at-least-each" => Some(Kind::AtLeastEach),
            "max" => Some(Kind::Max),
            _ => None,
        }
    }

    /// Whether a machine's value will do; `None` if it cannot be compared.
    pub fn satisfied(self, current: &str, wanted: &str) -> Option<bool> {
        if self == Kind::Exact {
            return Some(current == wanted);
        }
        let (current, wanted) = (numbers(current)?, numbers(wanted)?);
        let fits = |(has, needs): (&i64, &i64)| if self == Kind::Max { has <= needs } else { has >= needs };
        (current.len() == wanted.len()).then(|| current.iter().zip(&wanted).all(fits))
    }

    /// The value that satisfies both: nothing that is large enough is lowered, nor raised what is small enough.
    pub fn merge(self, current: &str, wanted: &str) -> String {
        match (self, numbers(current), numbers(wanted)) {
            (Kind::Min | Kind::AtLeastEach, Some(current), Some(wanted)) if current.len() == wanted.len() => {
                let larger = current.iter().zip(&wanted).map(|(has, needs)| has.max(needs).to_string());
                larger.collect::<Vec<_>>().join(" ")
            }
            (Kind::Max, Some(current), Some(wanted)) if current < wanted => current[0].to_string(),
            _ => wanted.to_owned(),
        }
    }
}

/// Numbers one space apart.
fn numbers(text: &str) -> Option<Vec<i64>> {
    let numbers: Option<Vec<_>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
    numbers.filter(|numbers| !numbers.is_empty())
}
