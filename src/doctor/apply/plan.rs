//! What is to be changed: files with their old and new text, sysctls with their old and new value.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use super::{ApplyError, SYSCTL_FILE, State, UNIT_FILE, diff, failed};
use crate::doctor::finding::{Finding, LimitName, Mend};
use crate::doctor::machine::LIMITS_FILE;
use crate::doctor::machine::process::Process;
use crate::doctor::root::Root;
use crate::doctor::sysctl::{self, Kind};

/// Where the unit is whose limits the drop-in goes before; the first that is there.
const UNITS: [&str; 3] = [
    "/etc/systemd/system/uproar.service",
    "/usr/lib/systemd/system/uproar.service",
    "/lib/systemd/system/uproar.service",
];
const HEADER: &str =
    "# Written by `uproar doctor --apply`; `uproar doctor --revert` puts back what was there before.\n";

/// Changes of a machine; none, if it is empty.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Files to be written or removed.
    pub files: Vec<FileChange>,
    /// Sysctls to be set.
    pub sysctls: Vec<SysctlChange>,
    /// What is left as it is, and why.
    pub left: Vec<String>,
}

/// A file's text before and after; `None` where there is no such file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileChange {
    /// Its absolute path.
    pub path: String,
    /// What there is.
    pub before: Option<String>,
    /// What there is to be.
    pub after: Option<String>,
}

/// A sysctl's value before and after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SysctlChange {
    /// Its name.
    pub key: String,
    /// What it is.
    pub before: String,
    /// What it is to be.
    pub after: String,
}

impl Plan {
    /// What mends the findings, as far as it can be done by itself.
    ///
    /// # Errors
    /// A file of ours is there and cannot be read.
    pub fn mending(root: &Root, findings: &[Finding]) -> Result<Plan, ApplyError> {
        let steps: Vec<&Mend> = findings.iter().flat_map(|finding| &finding.verdict.mend).collect();
        let mut plan = Plan::default();
        plan.set_sysctls(root, &steps)?;
        plan.raise_limits(root, &steps)?;
        Ok(plan)
    }

    /// What takes back what the state says was done.
    ///
    /// # Errors
    /// A file of ours is there and cannot be read.
    pub fn reverting(root: &Root, state: &State) -> Result<Plan, ApplyError> {
        let mut plan = Plan::default();
        for file in &state.files {
            match current(root, &file.path)? {
                now if now == file.before => {}
                now if now == file.after => {
                    plan.files.push(FileChange { path: file.path.clone(), before: now, after: file.before.clone() });
                }
                _ => plan.left.push(format!("{} was changed since: it stays as it is", file.path)),
            }
        }
        for sysctl in &state.sysctls {
            match root.sysctl(&sysctl.key) {
                Some(now) if now == sysctl.before => {}
                Some(now) if now == sysctl.after => {
                    let after = sysctl.before.clone();
                    plan.sysctls.push(SysctlChange { key: sysctl.key.clone(), before: now, after });
                }
                _ => plan.left.push(format!("{} was changed since: it stays as it is", sysctl.key)),
            }
        }
        Ok(plan)
    }

    /// Whether there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.sysctls.is_empty()
    }

    /// The changes as a person reads them: a diff of each file, a line for each sysctl.
    pub fn show(&self) -> String {
        let files = self.files.iter().map(diff::unified);
        let sysctls = self.sysctls.iter().map(|change| {
            let lines =
                Mend::Sysctl { key: change.key.clone(), value: change.after.clone(), kind: Kind::Exact }.lines();
            let now = if change.before.is_empty() { "empty" } else { &change.before };
            format!("{}    # now {now}\n", lines.join("\n"))
        });
        let left = self.left.iter().map(|why| format!("# {why}\n"));
        files.chain(sysctls).chain(left).collect()
    }

    /// Sets what is named, and writes it into the file besides what is in it.
    fn set_sysctls(&mut self, root: &Root, steps: &[&Mend]) -> Result<(), ApplyError> {
        let before = current(root, SYSCTL_FILE)?;
        let mut values = sysctl::parse_assignments(before.as_deref().unwrap_or_default());
        let mut set: BTreeMap<&str, String> = BTreeMap::new();
        for step in steps {
            let Mend::Sysctl { key, value, kind } = step else { continue };
            let merged = |old: Option<&String>| old.map_or(value.clone(), |old| kind.merge(old, value));
            let (in_file, to_set) = (merged(values.get(key)), merged(set.get(&**key)));
            values.insert(key.clone(), in_file);
            set.insert(key, to_set);
        }
        for (key, after) in &set {
            if let Some(before) = root.sysctl(key).filter(|before| before != after) {
                self.sysctls.push(SysctlChange { key: (*key).to_owned(), before, after: after.clone() });
            }
        }
        if !set.is_empty() {
            self.write(SYSCTL_FILE, before, sysctl_file(&values));
        }
        Ok(())
    }

    /// Writes the limits into the files for those who log in and for the service, if there is a systemd to read it.
    fn raise_limits(&mut self, root: &Root, steps: &[&Mend]) -> Result<(), ApplyError> {
        let mut limits: BTreeMap<LimitName, u64> = BTreeMap::new();
        for step in steps {
            let Mend::Limit { name, value } = step else { continue };
            let most = limits.entry(*name).or_default();
            *most = (*most).max(*value).max(granted(root, *name));
        }
        if limits.is_empty() {
            return Ok(());
        }
        let before = current(root, LIMITS_FILE)?;
        let text = limits_file(&with_old(&limits, before.as_deref(), |name, line| {
            let value = line.strip_prefix(&format!("* {} {} ", name.kind(), name.item()))?;
            Some(name.to_own_unit(value.trim().parse().ok()?))
        }));
        self.write(LIMITS_FILE, before, text);
        if root.exists("/run/systemd/system") {
            let before = current(root, UNIT_FILE)?;
            let directive =
                |name: LimitName, line: &str| line.strip_prefix(name.directive())?.strip_prefix('=')?.parse().ok();
            let unit = UNITS.iter().find_map(|path| root.text(path));
            let limits = with_old(&limits, unit.as_deref(), directive);
            let text = unit_file(&with_old(&limits, before.as_deref(), directive));
            self.write(UNIT_FILE, before, text);
        }
        Ok(())
    }

    fn write(&mut self, path: &str, before: Option<String>, text: String) {
        if before.as_ref() != Some(&text) {
            self.files.push(FileChange { path: path.to_owned(), before, after: Some(text) });
        }
    }
}

/// What the first process may have, and so whoever logs in if no file says otherwise: ours must not lower it.
fn granted(root: &Root, name: LimitName) -> u64 {
    let process = Process::read(root, "1");
    let limit = match name {
        LimitName::Nofile => process.nofile,
        LimitName::Memlock => process.memlock,
    };
    // Who has no limit there and one here was given it on purpose.
    limit.map(|limit| limit.hard).filter(|&hard| hard != u64::MAX).unwrap_or(0)
}

/// A file's text; `None` if there is no such file.
pub(super) fn current(root: &Root, path: &str) -> Result<Option<String>, ApplyError> {
    match fs::read_to_string(root.path(path)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("cannot read", path)(error)),
    }
}

/// The limits, and those that the file has already; of each the larger.
fn with_old(
    limits: &BTreeMap<LimitName, u64>,
    text: Option<&str>,
    value: impl Fn(LimitName, &str) -> Option<u64>,
) -> BTreeMap<LimitName, u64> {
    let mut all = limits.clone();
    for line in text.unwrap_or_default().lines() {
        for name in [LimitName::Nofile, LimitName::Memlock] {
            if let Some(old) = value(name, line) {
                let most = all.entry(name).or_default();
                *most = (*most).max(old);
            }
        }
    }
    all
}

fn sysctl_file(values: &BTreeMap<String, String>) -> String {
    let line = |(key, value): (&String, &String)| {
        // The module of that key may not be loaded yet when the file is read; that is not to be an error.
        let optional = if key.starts_with("net.netfilter.") { "-" } else { "" };
        format!("{optional}{key} = {value}\n")
    };
    format!("{HEADER}# Why: tuning/README.md.\n{}", values.iter().map(line).collect::<String>())
}

fn limits_file(limits: &BTreeMap<LimitName, u64>) -> String {
    let lines = limits.iter().map(|(name, &value)| {
        let (kind, item, value) = (name.kind(), name.item(), name.conf_value(value));
        format!("* {kind} {item} {value}\nroot {kind} {item} {value}\n")
    });
    format!("{HEADER}# From the next login on. The star does not stand for root.\n{}", lines.collect::<String>())
}

fn unit_file(limits: &BTreeMap<LimitName, u64>) -> String {
    let lines = limits.iter().map(|(name, value)| format!("{}={value}\n", name.directive()));
    format!(
        "{HEADER}# In force after: systemctl daemon-reload && systemctl restart uproar\n[Service]\n{}",
        lines.collect::<String>()
    )
}
