//! Memory: whether the connections fit.

use super::sysctls;
use crate::doctor::finding::{Severity, Verdict, bytes, grouped};
use crate::doctor::machine::{Machine, Memory};
use crate::doctor::sysctl::{Kind, Rule};
use crate::doctor::wanted::{PAGE, Wanted};

const TCP_MEM: &str = "net.ipv4.tcp_mem";

/// Whether there is memory for so many connections, idle, and with something queued for each.
pub fn available(machine: &Machine, wanted: &Wanted) -> Verdict {
    let Some(memory) = machine.memory else {
        return Verdict::unknown("/proc/meminfo cannot be read");
    };
    let found = format!("{} available of {}", bytes(memory.available), bytes(memory.total));
    compare(wanted, memory.available, found)
}

/// Whether the control group has memory for them. What the kernel holds for a connection is charged to it too.
pub fn cgroup(machine: &Machine, wanted: &Wanted) -> Verdict {
    let Some(cgroup) = &machine.cgroup else {
        return Verdict::unknown("the process's control groups cannot be read");
    };
    let Some(most) = cgroup.memory_max else {
        return Verdict::fine("not limited");
    };
    let verdict = compare(wanted, most, format!("limited to {}", bytes(most)));
    if verdict.severity == Severity::Fine {
        return verdict;
    }
    let enough = wanted.memory_queued();
    verdict.advice(format!("MemoryMax={enough} in the unit, or docker run --memory {enough}"))
}

fn compare(wanted: &Wanted, there_is: u64, found: String) -> Verdict {
    let (idle, queued) = (wanted.memory(), wanted.memory_queued());
    let purpose = format!("{} for {} idle connections", bytes(idle), grouped(wanted.connections));
    let purpose = format!("{purpose}, {} with a page queued for each", bytes(queued));
    if idle > there_is {
        return Verdict::must(found)
            .wanted(purpose)
            .why("The kernel ends the server when memory is used up, and all connections with it.")
            .advice("more memory, or fewer connections: --max-connections, --max-memory");
    }
    if queued > there_is {
        return Verdict::should(found)
            .wanted(purpose)
            .why("A message to all that many are slow to read uses up the memory, and the kernel ends the server.")
            .advice("more memory, or fewer connections (--max-connections)");
    }
    Verdict::fine(format!("{found}; {purpose}"))
}

/// Whether the queues of all sockets may hold what the connections need, and no more than the machine has.
pub fn queues(machine: &Machine, wanted: &Wanted) -> Verdict {
    let rule = queue_rule(wanted);
    let verdict = sysctls::rule(&rule, machine, wanted);
    let (Some(now), Some(needed), Some(memory)) =
        (marks(machine.sysctls.get(TCP_MEM)), marks(Some(&rule.value)), machine.memory)
    else {
        return verdict;
    };
    let most = wanted.queue_pages(memory.total);
    if now[2] > most {
        return too_much(now, needed, most, memory, wanted);
    }
    if verdict.severity >= Severity::Should && needed[2] > most {
        // To raise it would be to promise memory that is not there.
        return Verdict { mend: Vec::new(), ..verdict }.advice(format!(
            "more memory, or fewer connections (--max-connections): {} is more than half of what they leave of {}",
            pages(needed[2]),
            bytes(memory.total)
        ));
    }
    verdict
}

/// The marks at which connections with a page queued each do not meet pressure, in the kernel's own proportions; those of
/// the profile, if it names larger ones.
fn queue_rule(wanted: &Wanted) -> Rule {
    let n = wanted.connections;
    let value = format!("{} {n} {}", n - n / 4, n + n / 2);
    let named = wanted.rules.iter().find(|rule| rule.key == TCP_MEM);
    Rule {
        key: TCP_MEM.to_owned(),
        value: named.map_or(value.clone(), |rule| rule.kind.merge(&value, &rule.value)),
        kind: Kind::AtLeastEach,
        why: named.map_or_else(
            || "Pages of socket buffers: under pressure, windows shrink and buffers grow no more.".to_owned(),
            |rule| rule.why.clone(),
        ),
    }
}

/// Lowered to what the machine can hold, but not below what the connections need if that fits.
fn too_much(now: [u64; 3], needed: [u64; 3], most: u64, memory: Memory, wanted: &Wanted) -> Verdict {
    let bound = [most / 2, most / 3 * 2, most];
    let least = if needed[2] <= most { needed } else { [0; 3] };
    let [low, pressure, high] = std::array::from_fn(|mark| now[mark].min(bound[mark]).max(least[mark]));
    Verdict::should(format!("{} {} {}: queues of up to {}", now[0], now[1], now[2], pages(now[2])))
        .wanted(format!(
            "{most} ({}) at most as the last: half of what {} idle connections leave of {}",
            pages(most),
            grouped(wanted.connections),
            bytes(memory.total)
        ))
        .why("Slow readers use up the memory before TCP says no, and the kernel ends the server.")
        .sysctl(Kind::Exact, TCP_MEM, format!("{low} {pressure} {high}"))
}

/// Low, pressure and high, in pages.
fn marks(text: Option<&String>) -> Option<[u64; 3]> {
    let numbers: Option<Vec<u64>> = text?.split(' ').map(|number| number.parse().ok()).collect();
    numbers?.try_into().ok()
}

fn pages(number: u64) -> String {
    bytes(number.saturating_mul(PAGE))
}

/// Transparent huge pages, which the server switches off for itself.
pub fn huge_pages(machine: &Machine, _: &Wanted) -> Verdict {
    Verdict::fine(match &machine.huge_pages {
        Some(mode) => {
            format!("{mode}; the server switches them off for itself: one would be resident for a connection's page")
        }
        None => "this kernel has none".to_owned(),
    })
}
