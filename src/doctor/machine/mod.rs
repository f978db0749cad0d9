//! What is known of a machine: a plain value, read once. What could not be read or understood is `None`, or left out.

mod cgroup;
mod cpu;
mod net;
pub mod process;

use std::collections::BTreeMap;

use crate::doctor::root::Root;
use crate::doctor::sysctl;
use crate::ring::sys;

pub use cgroup::Cgroup;
pub use cpu::Cpus;
#[cfg(test)]
pub use cpu::IdleState;
pub use net::Nic;
#[cfg(test)]
pub use process::Limit;
pub use process::Process;

/// Where sysctl files are, the first first: a file there hides those of the same name elsewhere.
const SYSCTL_DIRS: [&str; 5] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];
/// Read after all of them.
pub const SYSCTL_CONF: &str = "/etc/sysctl.conf";
/// The limits that `--apply` writes for those who log in.
pub const LIMITS_FILE: &str = "/etc/security/limits.d/60-uproar.conf";

/// A machine, or the part of it that a container shows.
#[derive(Clone, Default, Debug)]
pub struct Machine {
    /// The kernel's release: `6.1.0-13-amd64`.
    pub release: Option<String>,
    /// Whether a ring could be made, and what is known of it; or why not. `None` if that was not tried.
    pub io_uring: Option<Result<String, String>>,
    /// Whether the module `tls` is loaded, or built in.
    pub kernel_tls: bool,
    /// The sysctls that were asked for and are there; their fields one space apart.
    pub sysctls: BTreeMap<String, String>,
    /// The files that set sysctls when the machine starts, in the order in which they are read.
    pub sysctl_files: Vec<SysctlFile>,
    /// The process looked at.
    pub process: Process,
    /// What the limits file of `--apply` will give to those who log in: `nofile` as a number, `memlock` in KiB.
    pub limits_file: BTreeMap<String, u64>,
    /// Its memory.
    pub memory: Option<Memory>,
    /// What its control groups allow the process.
    pub cgroup: Option<Cgroup>,
    /// Its CPUs.
    pub cpus: Cpus,
    /// Its network cards that are up; not loopback and other devices that are only software.
    pub nics: Vec<Nic>,
    /// NUMA nodes.
    pub nodes: Option<usize>,
    /// The clock source in use: `tsc`.
    pub clocksource: Option<String>,
    /// Weaknesses of the CPU and what is done about each.
    pub vulnerabilities: BTreeMap<String, String>,
    /// The setting of transparent huge pages: `madvise`.
    pub huge_pages: Option<String>,
    /// What kind of container this is: `docker`.
    pub container: Option<String>,
    /// Whether `irqbalance` runs.
    pub irqbalance: bool,
}

/// Memory in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// What there is.
    pub total: u64,
    /// What programs can get without swapping.
    pub available: u64,
}

/// A file in the form of `sysctl.d(5)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SysctlFile {
    /// Its path.
    pub path: String,
    /// What it sets.
    pub values: BTreeMap<String, String>,
}

impl Machine {
    /// Reads a machine: the sysctls of those names, and everything else as it concerns a process (`self`, or its number).
    pub fn read(root: &Root, sysctls: &[&str], process: &str) -> Machine {
        let sysctl = |key: &&str| Some(((*key).to_owned(), root.sysctl(key)?));
        Machine {
            release: root.text("/proc/sys/kernel/osrelease"),
            io_uring: None,
            kernel_tls: root.exists("/proc/net/tls_stat"),
            sysctls: sysctls.iter().filter_map(sysctl).collect(),
            sysctl_files: sysctl_files(root),
            process: Process::read(root, process),
            limits_file: process::limits_file(root, LIMITS_FILE),
            memory: memory(root),
            cgroup: Cgroup::read(root, process),
            cpus: Cpus::read(root),
            nics: net::read(root),
            nodes: root.text("/sys/devices/system/node/online").map(|list| numbers(&list).len()),
            clocksource: root.text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            vulnerabilities: cpu::vulnerabilities(root),
            huge_pages: root.text("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|text| chosen(&text)),
            container: container(root),
            irqbalance: runs(root, "irqbalance"),
        }
    }

    /// Major and minor version of the kernel.
    pub fn kernel(&self) -> Option<(u32, u32)> {
        sys::parse_release(self.release.as_ref()?)
    }

    /// A sysctl, if it is one number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.sysctls.get(key)?.parse().ok()
    }
}

/// Bytes of memory that a process (`self`, or its number) can have: all of the machine's, or what its control groups allow.
pub fn memory_of(root: &Root, process: &str) -> Option<u64> {
    let machine = memory(root).map(|memory| memory.total);
    let group = Cgroup::read(root, process).and_then(|group| group.memory_max);
    machine.into_iter().chain(group).min()
}

fn memory(root: &Root) -> Option<Memory> {
    let text = root.text("/proc/meminfo")?;
    let bytes = |name: &str| -> Option<u64> {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Memory { total: bytes("MemTotal")?, available: bytes("MemAvailable")? })
}

/// All of them, by name, wherever they are.
fn sysctl_files(root: &Root) -> Vec<SysctlFile> {
    let mut paths = BTreeMap::new();
    for dir in SYSCTL_DIRS {
        for name in root.names(dir).into_iter().filter(|name| name.ends_with(".conf")) {
            let path = format!("{dir}/{name}");
            paths.entry(name).or_insert(path);
        }
    }
    let read = |path: String| Some(SysctlFile { values: sysctl::parse_assignments(&root.text(&path)?), path });
    paths.into_values().chain([SYSCTL_CONF.to_owned()]).filter_map(read).collect()
}

fn container(root: &Root) -> Option<String> {
    if root.exists("/.dockerenv") {
        return Some("docker".to_owned());
    }
    if root.exists("/run/.containerenv") {
        return Some("podman".to_owned());
    }
    if root.exists("/var/run/secrets/kubernetes.io") {
        return Some("kubernetes".to_owned());
    }
    root.text("/run/systemd/container").filter(|name| !name.is_empty())
}

/// Whether a process of that name runs.
fn runs(root: &Root, name: &str) -> bool {
    let processes = root.names("/proc").into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    processes.into_iter().any(|pid| root.text(&format!("/proc/{pid}/comm")).is_some_and(|comm| comm == name))
}

/// `0-2,8` → `[0, 1, 2, 8]`. What makes no sense is left out.
fn numbers(list: &str) -> Vec<u32> {
    const MOST: u32 = 1 << 16;
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u32>> {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (last < MOST).then_some(first..=last)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// `always [madvise] never` → `madvise`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}
