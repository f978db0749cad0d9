//! The CPUs: how many, how fast they are allowed to be, how deep they sleep, what protects them.

use std::collections::BTreeMap;

use super::numbers;
use crate::doctor::root::Root;

const CPUS: &str = "/sys/devices/system/cpu";

/// What is known of the CPUs.
#[derive(Clone, Default, Debug)]
pub struct Cpus {
    /// The numbers of those that are in use.
    pub online: Vec<u32>,
    /// Frequency governors, with how many CPUs have each; empty where the frequency cannot be governed.
    pub governors: BTreeMap<String, usize>,
    /// What sets the frequency: `intel_pstate`.
    pub driver: Option<String>,
    /// The deepest idle state that a CPU may enter.
    pub deepest_idle: Option<IdleState>,
}

/// A state in which an idle CPU rests.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct IdleState {
    /// Microseconds to wake from it.
    pub latency: u64,
    /// Its name: `C6`.
    pub name: String,
}

impl Cpus {
    /// Reads what `/sys` says.
    pub fn read(root: &Root) -> Cpus {
        let online = root.text(&format!("{CPUS}/online")).map(|list| numbers(&list)).unwrap_or_default();
        let mut governors = BTreeMap::new();
        for cpu in &online {
            if let Some(governor) = root.text(&format!("{CPUS}/cpu{cpu}/cpufreq/scaling_governor")) {
                *governors.entry(governor).or_default() += 1;
            }
        }
        let driver = online.first().and_then(|cpu| root.text(&format!("{CPUS}/cpu{cpu}/cpufreq/scaling_driver")));
        let deepest_idle = online.iter().flat_map(|cpu| idle_states(root, *cpu)).max();
        Cpus { online, governors, driver, deepest_idle }
    }
}

/// The states that a CPU may enter.
fn idle_states(root: &Root, cpu: u32) -> Vec<IdleState> {
    let dir = format!("{CPUS}/cpu{cpu}/cpuidle");
    let state = |name: String| {
        let file = |file: &str| format!("{dir}/{name}/{file}");
        let enabled = root.text(&file("disable")).is_none_or(|text| text == "0");
        let latency = root.parse(&file("latency"))?;
        enabled.then_some(IdleState { latency, name: root.text(&file("name"))? })
    };
    root.names(&dir).into_iter().filter(|name| name.starts_with("state")).filter_map(state).collect()
}

/// Weakness → what is done about it, of those that the CPUs have.
pub fn vulnerabilities(root: &Root) -> BTreeMap<String, String> {
    let dir = format!("{CPUS}/vulnerabilities");
    let read = |name: String| Some((root.text(&format!("{dir}/{name}"))?, name));
    let all = root.names(&dir).into_iter().filter_map(read);
    all.filter(|(text, _)| text != "Not affected").map(|(text, name)| (name, text)).collect()
}
