//! What is looked at: pure functions of a machine and of what is wanted of it.
//!
//! Every check has an id, and a place in the guide that explains it; a test holds that it is there.

mod cpu;
mod kernel;
mod limits;
mod memory;
mod network;
mod sysctls;
#[cfg(test)]
mod tests;

use crate::doctor::finding::{Finding, Verdict};
use crate::doctor::machine::Machine;
use crate::doctor::sysctl;
use crate::doctor::wanted::Wanted;

/// A check: its id, the chapter of the guide that explains it, and the check itself.
type Check = (&'static str, &'static str, fn(&Machine, &Wanted) -> Verdict);

/// All but the sysctls, in the order in which they are shown.
pub const CHECKS: [Check; 26] = [
    ("kernel", "containers", kernel::version),
    ("io_uring", "containers", kernel::io_uring),
    ("seccomp", "containers", kernel::seccomp),
    ("container", "containers", kernel::container),
    ("kernel-tls", "kernel-tls", kernel::tls),
    ("nofile", "limits", limits::nofile),
    ("memlock", "limits", limits::memlock),
    ("cgroup-pids", "containers", limits::cgroup_pids),
    ("memory", "limits", memory::available),
    ("cgroup-memory", "containers", memory::cgroup),
    ("thp", "limits", memory::huge_pages),
    ("net.ipv4.tcp_mem", "tcp-memory", memory::queues),
    ("fs.file-max", "limits", sysctls::file_max),
    ("sysctl-files", "README", sysctls::files),
    ("conntrack", "ports", network::conntrack),
    ("conntrack-buckets", "ports", network::buckets),
    ("ports", "ports", network::ports),
    ("rps", "interrupts", network::rps),
    ("irq", "interrupts", network::irq),
    ("offload", "interrupts", network::offload),
    ("cgroup-cpu", "containers", cpu::quota),
    ("governor", "cpu", cpu::governor),
    ("cstates", "cpu", cpu::idle_states),
    ("numa", "numa", cpu::nodes),
    ("clocksource", "cpu", cpu::clocksource),
    ("mitigations", "cpu", cpu::mitigations),
];

/// Sysctls that checks look at, besides those that the files of `tuning/sysctl.d/` name.
const SYSCTLS: [&str; 10] = [
    "fs.file-max",
    "fs.nr_open",
    "kernel.io_uring_disabled",
    "kernel.io_uring_group",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_mem",
    "net.netfilter.nf_conntrack_buckets",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
];

/// The sysctls that have to be read for the checks.
pub fn sysctls(wanted: &Wanted) -> Vec<&str> {
    wanted.rules.iter().map(|rule| &*rule.key).chain(SYSCTLS).collect()
}

/// Whether a sysctl is one that `--apply` may set.
pub fn may_set(key: &str) -> bool {
    let files = sysctl::BASES.iter().map(|&(_, text)| text).chain([sysctl::LATENCY]);
    SYSCTLS.contains(&key) || files.flat_map(sysctl::parse_rules).any(|rule| rule.key == key)
}

/// Everything that is to be said of a machine.
pub fn all(machine: &Machine, wanted: &Wanted) -> Vec<Finding> {
    let checks = CHECKS.into_iter().map(|(id, chapter, check)| finding(id, chapter, check(machine, wanted)));
    // A sysctl that depends on more than the profile has a check of its own.
    let rules = wanted.rules.iter().filter(|rule| CHECKS.iter().all(|(id, ..)| rule.key != *id));
    let rules = rules.map(|rule| finding(&rule.key, chapter_of(&rule.key), sysctls::rule(rule, machine, wanted)));
    checks.chain(rules).collect()
}

fn finding(id: &str, chapter: &str, verdict: Verdict) -> Finding {
    Finding { id: id.to_owned(), see: format!("tuning/{chapter}.md#{}", anchor(id)), verdict }
}

/// The anchor of an id in its chapter: its heading's, as Markdown renderers make it.
pub fn anchor(id: &str) -> String {
    id.chars().filter(|c| *c != '.').collect()
}

/// The chapter that explains a sysctl of the profiles.
fn chapter_of(key: &str) -> &'static str {
    match key.strip_prefix("net.ipv4.tcp_") {
        Some("rmem" | "wmem" | "notsent_lowat") => "tcp-memory",
        Some("syncookies") => "accept",
        Some(_) => "congestion",
        None if key == "net.core.somaxconn" => "accept",
        None => "limits",
    }
}
