//! What of another configuration a server that runs can take up, and what is different.

use std::fmt;

use serde::Serialize;

use super::{Config, KNOBS, Knob};

/// What it takes for another value of a knob to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    /// A reload.
    Live,
    /// A restart: a reload leaves the value as it is, and says so.
    Restart,
}

impl Takes {
    /// What is said of a knob beside its default; nothing of most.
    pub fn hint(self) -> &'static str {
        match self {
            Takes::Live => "",
            Takes::Restart => "; takes a restart",
        }
    }
}

/// A knob that has another value than before. Of a secret, there are no values here.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Changed {
    /// Its name.
    pub knob: &'static str,
    /// The value before, as in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The value now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl Changed {
    fn new(knob: &Knob, from: &Config, to: &Config) -> Changed {
        let shown = |config: &Config| (!(knob.is_secret)()).then(|| (knob.show)(config));
        Changed { knob: knob.name, from: shown(from), to: shown(to) }
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{}: {from} -> {to}", self.knob),
            _ => write!(f, "{}: changed", self.knob),
        }
    }
}

/// What came of a reload.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Debug)]
#[non_exhaustive]
pub struct ReloadReport {
    /// The knobs whose new values hold from now on.
    pub changed: Vec<Changed>,
    /// The knobs whose new values hold after a restart.
    pub restart: Vec<Changed>,
    /// What else an operator should know, a sentence each.
    pub notes: Vec<String>,
}

impl ReloadReport {
    /// Its knobs in one line, as the log has them.
    pub(crate) fn line(changes: &[Changed]) -> String {
        if changes.is_empty() {
            return "nothing".into();
        }
        changes.iter().map(Changed::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl Config {
    /// This configuration as far as a server can take it up that runs with another: with that one's values of the knobs that
    /// take a restart. And what is different.
    pub(crate) fn onto(&self, running: &Config) -> (Config, ReloadReport) {
        let (mut merged, mut report) = (self.clone(), ReloadReport::default());
        for knob in KNOBS.iter().filter(|knob| !(knob.is_same)(running, self)) {
            let change = Changed::new(knob, running, self);
            match knob.takes {
                Takes::Live => report.changed.push(change),
                Takes::Restart => {
                    report.restart.push(change);
                    (knob.copy)(running, &mut merged);
                }
            }
        }
        (merged, report)
    }

    /// Sixteen hexadecimal digits that are the same for two configurations that differ in secrets at most.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hash = sha1_smol::Sha1::new();
        for knob in KNOBS.iter().filter(|knob| !(knob.is_secret)()) {
            hash.update(format!("{} = {}\n", knob.name, (knob.show)(self)).as_bytes());
        }
        let mut digits = hash.digest().to_string();
        digits.truncate(16);
        digits
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Inputs, Secret, load};
    use super::*;

    fn config(file: &str) -> Config {
        load(&Inputs { file: Some(("x".into(), file.into())), ..Inputs::default() }).unwrap().config
    }

    #[test]
    fn what_takes_a_restart_stays_and_is_told() {
        let running = config("backlog = '1KiB'\nshards = 2\nlisten = '127.0.0.1:1'");
        let (merged, report) = config("backlog = '2KiB'\nshards = 3\nlisten = '127.0.0.1:1'").onto(&running);
        assert_eq!((merged.backlog, merged.shards), (2048, 2));
        assert_eq!(ReloadReport::line(&report.changed), "backlog: 1KiB -> 2KiB");
        assert_eq!(ReloadReport::line(&report.restart), "shards: 2 -> 3");
        let (same, report) = merged.onto(&merged);
        assert_eq!((same, report), (merged, ReloadReport::default()));
    }

    #[test]
    fn every_knob_is_either_and_copied_alone() {
        assert!(KNOBS.iter().any(|knob| knob.takes == Takes::Restart));
        let defaults = Config::default();
        let other = config("listen = '[::1]:1'\nshards = 7\nsend_buffer = '8KiB'\nbacklog = 4096\nmax_head = 2048");
        for knob in KNOBS {
            let mut copy = defaults.clone();
            (knob.copy)(&other, &mut copy);
            assert!((knob.is_same)(&copy, &other), "{}", knob.name);
            let others = KNOBS.iter().filter(|other| other.name != knob.name);
            assert!(others.into_iter().all(|other| (other.is_same)(&copy, &defaults)), "{}", knob.name);
        }
    }

    #[test]
    fn a_secret_is_in_neither_report_nor_fingerprint() {
        const KEY: &str = "correct-horse-battery";
        let defaults = Config::default();
        let keyed = Config { admin_key: vec![Secret::new(KEY)], ..Config::default() };
        let (merged, report) = keyed.onto(&defaults);
        assert_eq!(merged.admin_key, keyed.admin_key);
        assert_eq!(ReloadReport::line(&report.changed), "admin_key: changed");
        assert_eq!(serde_json::to_string(&report.changed).unwrap(), r#"[{"knob":"admin_key"}]"#);
        assert_eq!(keyed.fingerprint(), defaults.fingerprint());
        assert_ne!(config("backlog = 4096").fingerprint(), defaults.fingerprint());
        assert_eq!(defaults.fingerprint().len(), 16);
    }
}
