//! Where it was measured, and of which versions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};
use uproar::bench::report;

use crate::Result;
use crate::contender::{bun, peers_dir};

/// A machine, and what was installed there.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// When: 2026-11-21.
    pub date: String,
    #[serde(flatten)]
    pub machine: report::Machine,
    /// MiB of memory.
    pub memory: u64,
    /// Of the contenders, and of what they run on.
    pub versions: BTreeMap<String, String>,
}

impl Machine {
    /// This one, now.
    pub fn this() -> Machine {
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap_or_default();
        let packages = fs::read_to_string(peers_dir().join("package-lock.json")).unwrap_or_default();
        let versions = [
            ("uproar", Some(uproar())),
            ("rustc", output("rustc", &["--version"])),
            ("bun", bun().ok().and_then(|bun| output(&bun.display().to_string(), &["--version"]))),
            ("node", output("node", &["--version"])),
            ("ws", npm_version(&packages, "ws")),
            ("tokio", crate_version(&lock, "tokio")),
            ("tokio-tungstenite", crate_version(&lock, "tokio-tungstenite")),
        ];
        let known = versions.into_iter().filter_map(|(name, version)| Some((name.to_owned(), version?)));
        Machine {
            date: output("date", &["+%F"]).unwrap_or_default(),
            machine: report::Machine::this(),
            memory: memory.and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) / 1024,
            versions: known.collect(),
        }
    }

    /// "2 cores, AMD EPYC, Linux 6.18, 2026-11-21".
    pub fn summary(&self) -> String {
        let report::Machine { kernel, cpu, cpus } = &self.machine;
        format!("{cpus} cores, {cpu}, Linux {kernel}, {}", self.date)
    }

    /// The version of one of the contenders, with a space before it, or nothing.
    pub fn version(&self, name: &str) -> String {
        self.versions.get(name).map_or(String::new(), |version| format!(" {}", version.trim_start_matches('v')))
    }
}

/// The version, and the commit that it was built of.
fn uproar() -> String {
    let commit = output("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]);
    [env!("CARGO_PKG_VERSION").to_owned(), commit.map_or(String::new(), |commit| format!(" ({commit})"))].concat()
}

/// The first line that a command prints, if it succeeds.
fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()?.lines().next().map(|line| line.trim().to_owned())
}

/// The version of a package that an npm lock file names.
pub fn npm_version(lock: &str, name: &str) -> Option<String> {
    let lock: serde_json::Value = serde_json::from_str(lock).ok()?;
    lock["packages"][format!("node_modules/{name}")]["version"].as_str().map(str::to_owned)
}

/// The version of a crate that a Cargo lock file names; the newest, if there are several.
pub fn crate_version(lock: &str, name: &str) -> Option<String> {
    let start = format!("name = \"{name}\"\nversion = \"");
    lock.rsplit_once(&start)?.1.split_once('"').map(|(version, _)| version.to_owned())
}

/// Fails unless the server and the load can have a core each.
pub fn check_cores(needed: &[&str]) -> Result<()> {
    let allowed = uproar::ring::sys::allowed_cpus()?;
    let missing = needed.iter().find(|core| !allowed.iter().any(|allowed| allowed.to_string() == **core));
    missing.map_or(Ok(()), |core| Err(format!("core {core} is needed, and this process may not use it").into()))
}
