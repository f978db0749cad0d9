//! Sysctls: what they are, and what they will be when the machine has started again.

use crate::config::Config;
use crate::doctor::apply::SYSCTL_FILE;
use crate::doctor::finding::{Severity, Verdict, grouped};
use crate::doctor::machine::{Machine, SYSCTL_CONF, SysctlFile};
use crate::doctor::sysctl::{Kind, Rule};
use crate::doctor::wanted::Wanted;

const FILE_MAX: &str = "fs.file-max";
/// File handles of everything else on a machine.
const OTHER_HANDLES: u64 = 65_536;

/// Compares a sysctl with what is wanted of it.
pub fn rule(rule: &Rule, machine: &Machine, wanted: &Wanted) -> Verdict {
    let Some(current) = machine.sysctls.get(&rule.key) else {
        return Verdict::unknown("not to be seen: this kernel, or this network namespace, has it not");
    };
    match rule.kind.satisfied(current, &rule.value) {
        None => Verdict::unknown(format!("{current:?} cannot be compared with {}", rule.value)),
        Some(true) => Verdict::fine(format!("{current}{}", note(rule))),
        Some(false) => Verdict::new(severity(rule, machine, wanted), current.clone())
            .wanted(match rule.kind {
                Kind::Exact => rule.value.clone(),
                Kind::Min => format!("at least {}{}", rule.value, note(rule)),
                Kind::AtLeastEach => format!("each at least as in {}", rule.value),
                Kind::Max => format!("at most {}", rule.value),
            })
            .why(&rule.why)
            .sysctl(rule.kind, &rule.key, rule.kind.merge(current, &rule.value)),
    }
}

/// They cost speed; but without handles there cannot be so many connections.
fn severity(rule: &Rule, machine: &Machine, wanted: &Wanted) -> Severity {
    let handles = (rule.key == FILE_MAX).then(|| machine.number(FILE_MAX)).flatten();
    if handles.is_some_and(|handles| handles < wanted.connections) { Severity::Must } else { Severity::Should }
}

/// Whether the system has file handles enough: every socket is one, in whatever table its descriptor is. The default is a
/// tenth of the memory, in KiB; profiles whose connections that always suffices for do not name it.
pub fn file_max(machine: &Machine, wanted: &Wanted) -> Verdict {
    let named = wanted.rules.iter().find(|rule| rule.key == FILE_MAX).cloned();
    let needed = || Rule {
        key: FILE_MAX.to_owned(),
        value: (wanted.connections + OTHER_HANDLES).to_string(),
        kind: Kind::Min,
        why: "Every socket is a file handle; when there are no more, nothing on the machine can open a file."
            .to_owned(),
    };
    rule(&named.unwrap_or_else(needed), machine, wanted)
}

/// What else bounds the same thing.
fn note(rule: &Rule) -> String {
    let asked = u64::from(Config::default().accept_backlog);
    match &*rule.key {
        "net.core.somaxconn" if rule.value.parse().is_ok_and(|value: u64| value > asked) => {
            format!("; the server asks for {}, unless --accept-backlog says more", grouped(asked))
        }
        _ => String::new(),
    }
}

/// Whether a file sets at every start what is not wanted.
pub fn files(machine: &Machine, wanted: &Wanted) -> Verdict {
    let spoils = |rule: &Rule| {
        let (file, value) = last(&machine.sysctl_files, &rule.key)?;
        let bad = rule.kind.satisfied(value, &rule.value) == Some(false);
        bad.then(|| (file.path.clone(), rule.clone(), value.clone()))
    };
    let found: Vec<_> = wanted.rules.iter().filter_map(spoils).collect();
    if found.is_empty() {
        return Verdict::fine("none sets what is not wanted when the machine starts");
    }
    let each = found.iter().map(|(path, rule, value)| format!("{path} sets {} = {value}", rule.key));
    let verdict = Verdict::should(each.collect::<Vec<_>>().join("; "))
        .wanted("no such lines, or a file after it that sets what is wanted")
        .why("These values come back when the machine starts, whatever they are now.");
    found.into_iter().fold(verdict, |verdict, (path, rule, value)| match is_before_ours(&path) {
        true => {
            let current = machine.sysctls.get(&rule.key).unwrap_or(&value);
            verdict.sysctl(rule.kind, &rule.key, rule.kind.merge(current, &rule.value))
        }
        false => verdict.command(comment_out(&path, &rule.key)),
    })
}

/// A package's file comes back with its next version, unless one of the same name below `/etc` takes its place.
fn comment_out(path: &str, key: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let (copy, path) = match path.starts_with("/etc/") {
        true => (String::new(), path.to_owned()),
        false => (format!("cp {path} /etc/sysctl.d/{name} && "), format!("/etc/sysctl.d/{name}")),
    };
    format!("{copy}sed -i '/^[ -]*{}[ =]/s/^/# /' {path}", key.replace('.', "[./]"))
}

/// Whether what `--apply` writes is read after that file, or into it.
fn is_before_ours(path: &str) -> bool {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    path != SYSCTL_CONF && name(path) <= name(SYSCTL_FILE)
}

/// The file that has the last word on a key, and the value there.
fn last<'a>(files: &'a [SysctlFile], key: &str) -> Option<(&'a SysctlFile, &'a String)> {
    files.iter().rev().find_map(|file| Some((file, file.values.get(key)?)))
}
