//! The CPUs: how much of them, how fast, how soon awake.

use crate::doctor::finding::Verdict;
use crate::doctor::machine::Machine;
use crate::doctor::wanted::Wanted;

/// Microseconds to wake from an idle state beyond which a message notices.
const LONG_WAKE: u64 = 10;
/// Clock sources that a program reads without a system call.
const FAST_CLOCKS: [&str; 5] =
    ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "arch_mem_counter"];
/// Those that take a system call and the reading of a slow device.
const SLOW_CLOCKS: [&str; 5] = ["hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"];

/// Whether the control group stops the process when it has used up its share.
pub fn quota(machine: &Machine, wanted: &Wanted) -> Verdict {
    let Some(cgroup) = &machine.cgroup else {
        return Verdict::unknown("the process's control groups cannot be read");
    };
    let Some(quota) = cgroup.cpu_quota else {
        return Verdict::fine("not limited");
    };
    let (stopped, periods) = cgroup.throttled.unwrap_or((0, 0));
    let found = format!("{}.{:03} CPUs, used up in {stopped} of {periods} periods", quota / 1000, quota % 1000);
    let scarce = quota < wanted.shards.saturating_mul(1000) || stopped > periods / 100;
    if !scarce && !wanted.latency {
        return Verdict::fine(found);
    }
    Verdict::should(found)
        .wanted(match wanted.latency {
            true => "no quota: whole CPUs instead (a cpuset)".to_owned(),
            false => format!("at least {} CPUs, one for each shard, or no quota", wanted.shards),
        })
        .why("A shard that has used up the quota stands still until the period ends, up to 100 ms, with all its connections.")
        .advice("AllowedCPUs= instead of CPUQuota= in the unit; docker run --cpuset-cpus instead of --cpus")
}

/// Whether the CPUs run slower than they could.
pub fn governor(machine: &Machine, wanted: &Wanted) -> Verdict {
    let cpus = &machine.cpus;
    if cpus.governors.is_empty() {
        return Verdict::fine("the frequency is not for this system to set: a virtual machine, or the firmware does");
    }
    let each = cpus.governors.iter().map(|(governor, number)| format!("{governor} on {number}"));
    let driver = cpus.driver.as_deref().unwrap_or("unknown");
    let found = format!("{} ({driver})", each.collect::<Vec<_>>().join(", "));
    // Where the CPU chooses its frequency itself, that governor is only a hint; elsewhere it is the lowest frequency.
    let hints = ["intel_pstate", "amd-pstate-epp"].contains(&driver);
    let slowest = !hints && cpus.governors.contains_key("powersave");
    let steady = cpus.governors.keys().all(|governor| governor == "performance");
    if steady || (!wanted.latency && !slowest) {
        return Verdict::fine(found);
    }
    Verdict::should(found)
        .wanted("performance on all")
        .why(match slowest {
            true => "The CPUs run at their lowest frequency: everything takes two to four times as long.",
            false => "A CPU that has slowed down serves the first messages of a burst slowly, until it speeds up.",
        })
        .command("cpupower frequency-set -g performance")
}

/// Whether an idle CPU sleeps so deep that a message has to wait for it.
pub fn idle_states(machine: &Machine, wanted: &Wanted) -> Verdict {
    let Some(deepest) = &machine.cpus.deepest_idle else {
        return Verdict::fine("idle states are not for this system to set");
    };
    let found = format!("the deepest is {}, {} µs to wake from", deepest.name, deepest.latency);
    if !wanted.latency || deepest.latency <= LONG_WAKE {
        return Verdict::fine(found);
    }
    Verdict::should(found)
        .wanted(format!("none of more than {LONG_WAKE} µs"))
        .why("A message that finds its shard's CPU asleep waits for so long.")
        .command(format!("cpupower idle-set -D {LONG_WAKE}"))
        .advice("or cpuidle.off=1 on the kernel's command line, if power does not matter at all")
}

/// Whether memory may be at the other end of the machine.
pub fn nodes(machine: &Machine, wanted: &Wanted) -> Verdict {
    let Some(nodes) = machine.nodes else {
        return Verdict::fine("one node: this kernel knows no others");
    };
    if nodes < 2 {
        return Verdict::fine("one node");
    }
    let cards = machine.nics.iter().filter_map(|nic| Some(format!(", {} at node {}", nic.name, nic.node?)));
    let found = format!("{nodes} nodes{}", cards.collect::<String>());
    if !wanted.latency {
        return Verdict::fine(format!("{found}; each shard's memory is on its own node"));
    }
    let node = machine.nics.iter().find_map(|nic| nic.node).unwrap_or(0);
    Verdict::should(found)
        .wanted("all shards on the network card's node")
        .why("A shard at another node reads every packet across the link between them, some 100 ns for each line of cache.")
        .command(format!("numactl --cpunodebind={node} --membind={node} uproar"))
}

/// Whether reading the time is cheap.
pub fn clocksource(machine: &Machine, _: &Wanted) -> Verdict {
    let Some(source) = &machine.clocksource else {
        return Verdict::unknown("the clock source cannot be read");
    };
    if FAST_CLOCKS.contains(&&**source) {
        return Verdict::fine(source.clone());
    }
    if !SLOW_CLOCKS.contains(&&**source) {
        return Verdict::unknown(format!("{source}: not known to be fast or slow"));
    }
    Verdict::should(source.clone())
        .wanted("tsc")
        .why("Each reading of the clock is a system call and up to a microsecond; a shard reads it every turn.")
        .command("echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource")
        .advice("if the kernel has marked tsc unstable (dmesg), find out why before tsc=reliable overrules it")
}

/// What protects the CPUs: said, not judged. The server makes few system calls for what it delivers.
pub fn mitigations(machine: &Machine, _: &Wanted) -> Verdict {
    let open = machine.vulnerabilities.iter().filter(|(_, state)| state.starts_with("Vulnerable"));
    let open: Vec<_> = open.map(|(name, _)| name.as_str()).collect();
    let guarded = machine.vulnerabilities.len() - open.len();
    let rest = if open.is_empty() { String::new() } else { format!(", open to {}", open.join(", ")) };
    Verdict::fine(format!(
        "{guarded} in force{rest}; a batch of sends is one system call, so they cost little: leave them"
    ))
}
