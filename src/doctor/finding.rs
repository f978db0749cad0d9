//! What a check says.

use serde::Serialize;

use super::apply::UNIT_FILE;
use super::machine::LIMITS_FILE;
use super::sysctl::Kind;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be, or of no consequence.
    Fine,
    /// It cannot be told from here.
    Unknown,
    /// It works, but costs speed, latency or safety.
    Should,
    /// The connections that are wanted are impossible with it.
    Must,
}

/// What was found of one thing, before it has a name.
#[derive(Clone, Serialize, Debug)]
pub struct Verdict {
    /// How bad it is.
    pub severity: Severity,
    /// What there is.
    pub found: String,
    /// What there should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    /// What it costs if it stays so, or what the change is for: a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What mends it, step by step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mend: Vec<Mend>,
}

/// What was found of one thing.
#[derive(Clone, Serialize, Debug)]
pub struct Finding {
    /// The thing: a sysctl's name, or a word.
    pub id: String,
    /// Where the guide explains it: `tuning/limits.md#nofile`.
    pub see: String,
    /// The rest.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// A step that mends something.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Mend {
    /// Set a sysctl, now and in a file for later starts. `--apply` does it.
    Sysctl {
        /// Its name.
        key: String,
        /// Its value.
        value: String,
        /// How it is put together with another value for the same key.
        #[serde(skip)]
        kind: Kind,
    },
    /// Raise a limit of processes to come. `--apply` does it.
    Limit {
        /// Which.
        name: LimitName,
        /// To how much, in the limit's own unit: descriptors, bytes.
        value: u64,
    },
    /// Run this, as root.
    Command(String),
    /// Do what cannot be said as a command.
    Advice(String),
}

/// A resource limit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Debug)]
#[serde(rename_all = "lowercase")]
pub enum LimitName {
    /// Open descriptors.
    Nofile,
    /// Locked memory, in bytes.
    Memlock,
}

impl LimitName {
    /// Its name in `limits.conf(5)`.
    pub fn item(self) -> &'static str {
        match self {
            LimitName::Nofile => "nofile",
            LimitName::Memlock => "memlock",
        }
    }

    /// Which of the two limits is set for those who log in. The server raises its descriptors to the hard limit by
    /// itself; other programs are better off with the soft limit that they are used to.
    pub fn kind(self) -> &'static str {
        match self {
            LimitName::Nofile => "hard",
            LimitName::Memlock => "-",
        }
    }

    /// Its letter in the shell's `ulimit`.
    fn flag(self) -> char {
        match self {
            LimitName::Nofile => 'n',
            LimitName::Memlock => 'l',
        }
    }

    /// Its name in a systemd unit.
    pub fn directive(self) -> &'static str {
        match self {
            LimitName::Nofile => "LimitNOFILE",
            LimitName::Memlock => "LimitMEMLOCK",
        }
    }

    /// The value as `limits.conf(5)` has it: KiB for memory.
    pub fn conf_value(self, value: u64) -> u64 {
        match self {
            LimitName::Nofile => value,
            LimitName::Memlock => value.div_ceil(1024),
        }
    }

    /// The way back from [`LimitName::conf_value`].
    pub fn to_own_unit(self, value: u64) -> u64 {
        match self {
            LimitName::Nofile => value,
            LimitName::Memlock => value.saturating_mul(1024),
        }
    }
}

impl Verdict {
    /// Nothing to be done.
    pub fn fine(found: impl Into<String>) -> Verdict {
        Verdict::new(Severity::Fine, found)
    }

    /// It cannot be told, for that reason.
    pub fn unknown(why: impl Into<String>) -> Verdict {
        Verdict::new(Severity::Unknown, why)
    }

    /// It should be changed.
    pub fn should(found: impl Into<String>) -> Verdict {
        Verdict::new(Severity::Should, found)
    }

    /// It must be changed.
    pub fn must(found: impl Into<String>) -> Verdict {
        Verdict::new(Severity::Must, found)
    }

    /// A verdict of that severity.
    pub fn new(severity: Severity, found: impl Into<String>) -> Verdict {
        Verdict { severity, found: found.into(), wanted: None, why: None, mend: Vec::new() }
    }

    /// With what there should be.
    pub fn wanted(mut self, wanted: impl Into<String>) -> Verdict {
        self.wanted = Some(wanted.into());
        self
    }

    /// With what it costs if it stays so, or what the change is for.
    pub fn why(mut self, why: impl Into<String>) -> Verdict {
        self.why = Some(why.into());
        self
    }

    /// With a step that mends it.
    pub fn mend(mut self, step: Mend) -> Verdict {
        self.mend.push(step);
        self
    }

    /// With a command that mends it.
    pub fn command(self, command: impl Into<String>) -> Verdict {
        self.mend(Mend::Command(command.into()))
    }

    /// With advice.
    pub fn advice(self, advice: impl Into<String>) -> Verdict {
        self.mend(Mend::Advice(advice.into()))
    }

    /// With a sysctl that mends it.
    pub fn sysctl(self, kind: Kind, key: &str, value: impl Into<String>) -> Verdict {
        self.mend(Mend::Sysctl { key: key.to_owned(), value: value.into(), kind })
    }
}

impl Mend {
    /// Whether `--apply` does it.
    pub fn is_automatic(&self) -> bool {
        matches!(self, Mend::Sysctl { .. } | Mend::Limit { .. })
    }

    /// The step in words, or as a command: a line each.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Mend::Sysctl { key, value, .. } if value.is_empty() || value.contains(' ') => {
                vec![format!("sysctl -w {key}=\"{value}\"")]
            }
            Mend::Sysctl { key, value, .. } => vec![format!("sysctl -w {key}={value}")],
            Mend::Limit { name, value } => {
                let (item, conf, directive) = (name.item(), name.conf_value(*value), name.directive());
                let (kind, flag) = (name.kind(), name.flag());
                let dir = UNIT_FILE.rsplit_once('/').map_or("", |(dir, _)| dir);
                vec![
                    format!(
                        "printf '* {kind} {item} {conf}\\nroot {kind} {item} {conf}\\n' >> {LIMITS_FILE}    \
                         # log in again; root's shell, at once: ulimit -{flag} {conf}"
                    ),
                    format!("mkdir -p {dir}; printf '[Service]\\n{directive}={value}\\n' >> {UNIT_FILE}"),
                    "systemctl daemon-reload; systemctl restart uproar    # if it runs as a service".to_owned(),
                ]
            }
            Mend::Command(command) => vec![command.clone()],
            Mend::Advice(advice) => vec![advice.clone()],
        }
    }
}

/// `1048576` → `1,048,576`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `4939212390` → `4.6 GiB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.into_iter().find(|&(_, size)| number >= size) {
        Some((unit, size)) => format!("{:.1} {unit}", number as f64 / size as f64),
        None => format!("{number} B"),
    }
}
