//! What a process may do: its limits, its capabilities, its system call filter.

use std::collections::BTreeMap;

use crate::doctor::root::Root;

/// `CAP_IPC_LOCK`, which exempts from `RLIMIT_MEMLOCK`.
const CAP_IPC_LOCK: u32 = 14;

/// A process: this one, or one that was named.
#[derive(Clone, Default, Debug)]
pub struct Process {
    /// Descriptors: `RLIMIT_NOFILE`.
    pub nofile: Option<Limit>,
    /// Bytes of locked memory: `RLIMIT_MEMLOCK`.
    pub memlock: Option<Limit>,
    /// Whether it has `CAP_IPC_LOCK`.
    pub ipc_lock: Option<bool>,
    /// Whether its system calls are filtered (seccomp).
    pub filtered: Option<bool>,
}

/// A resource limit; [`u64::MAX`] is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// What is enforced. The process may raise it to `hard`.
    pub soft: u64,
    /// The most that the process may ask for.
    pub hard: u64,
}

impl Process {
    /// Reads what `/proc` says of it.
    pub fn read(root: &Root, process: &str) -> Process {
        let limits = root.text(&format!("/proc/{process}/limits")).unwrap_or_default();
        let status = root.text(&format!("/proc/{process}/status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let capabilities = field("CapEff").and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        Process {
            nofile: limit(&limits, "Max open files"),
            memlock: limit(&limits, "Max locked memory"),
            ipc_lock: capabilities.map(|set| set >> CAP_IPC_LOCK & 1 == 1),
            filtered: field("Seccomp").map(|mode| mode.trim() != "0"),
        }
    }
}

/// A line of `/proc/self/limits`.
fn limit(limits: &str, name: &str) -> Option<Limit> {
    let mut fields = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
    let mut number = || match fields.next()? {
        "unlimited" => Some(u64::MAX),
        digits => digits.parse().ok(),
    };
    Some(Limit { soft: number()?, hard: number()? })
}

/// What a file in the form of `limits.conf(5)` gives to all users: item → value.
pub fn limits_file(root: &Root, path: &str) -> BTreeMap<String, u64> {
    let text = root.text(path).unwrap_or_default();
    let entry = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["*", "-" | "hard", item, value] => Some((item.to_owned(), value.parse().ok()?)),
        _ => None,
    };
    text.lines().filter_map(entry).collect()
}
