//! Memory: whether the connections fit.

use crate::doctor::finding::{Severity, Verdict, bytes, grouped};
use crate::doctor::machine::Machine;
use crate::doctor::wanted::Wanted;

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

/// Transparent huge pages, which the server switches off for itself.
pub fn huge_pages(machine: &Machine, _: &Wanted) -> Verdict {
    Verdict::fine(match &machine.huge_pages {
        Some(mode) => {
            format!("{mode}; the server switches them off for itself: one would be resident for a connection's page")
        }
        None => "this kernel has none".to_owned(),
    })
}
