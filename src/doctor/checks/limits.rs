//! Limits of the process: descriptors, locked memory, threads.

use crate::doctor::finding::{LimitName, Mend, Severity, Verdict, bytes, grouped};
use crate::doctor::machine::Machine;
use crate::doctor::sysctl::Kind;
use crate::doctor::wanted::Wanted;
use crate::limits::MAX_CONNECTIONS_PER_SHARD;

/// Rings were charged to `RLIMIT_MEMLOCK` until 5.11, and are again since this version.
const MEMLOCK_KERNEL: (u32, u32) = (6, 14);
const NR_OPEN: &str = "fs.nr_open";

/// Whether the shards' tables can be large enough. The server raises its soft limit to the hard one by itself.
pub fn nofile(machine: &Machine, wanted: &Wanted) -> Verdict {
    let Some(limit) = machine.process.nofile else {
        return Verdict::unknown("the process's limits cannot be read");
    };
    let needed = wanted.nofile();
    let room = wanted.capacity(limit.hard);
    let found = format!("{}: room for {} connections on {}", hard(limit.hard), grouped(room), shards(wanted.shards));
    if limit.hard >= needed && needed <= MAX_CONNECTIONS_PER_SHARD.into() {
        return Verdict::fine(found);
    }
    let severity = if room < wanted.connections { Severity::Must } else { Severity::Should };
    let verdict = Verdict::new(severity, found).why(match severity {
        Severity::Must => "A shard whose table is full answers newcomers with 503.",
        _ => "The kernel spreads connections unevenly: the fullest shard answers newcomers with 503 before the others.",
    });
    let fitting =
        |bound: u64| wanted.shards_for(bound).map(|shards| format!("start the server with --shards {shards}"));
    if needed > MAX_CONNECTIONS_PER_SHARD.into() {
        let verdict = verdict
            .wanted(format!("{} a shard at most, with a tenth to spare", grouped(MAX_CONNECTIONS_PER_SHARD.into())));
        return fitting(MAX_CONNECTIONS_PER_SHARD.into()).into_iter().fold(verdict, Verdict::advice);
    }
    let verdict = verdict.wanted(format!("{}: {}", grouped(needed), wanted.nofile_purpose()));
    let pending = machine.limits_file.get(LimitName::Nofile.item()).is_some_and(|&value| value >= needed);
    let verdict = match pending {
        true => verdict.advice("the limits file grants it already: log in again"),
        false => raise(verdict, machine, needed),
    };
    let verdict = of_container(verdict, machine, LimitName::Nofile, needed);
    match fitting(limit.hard) {
        Some(advice) => verdict.advice(format!("or keep the limit, which holds for each shard's table: {advice}")),
        None => verdict,
    }
}

/// The limit, and before it the sysctl that bounds it, or whoever logs in is turned away.
fn raise(verdict: Verdict, machine: &Machine, needed: u64) -> Verdict {
    let verdict = match machine.number(NR_OPEN) {
        Some(most) if most < needed => verdict.sysctl(Kind::Min, NR_OPEN, needed.to_string()),
        _ => verdict,
    };
    verdict.mend(Mend::Limit { name: LimitName::Nofile, value: needed })
}

/// Whether the rings may be made by a user without `CAP_IPC_LOCK`, on kernels that count them as locked memory.
pub fn memlock(machine: &Machine, wanted: &Wanted) -> Verdict {
    let (Some(limit), Some(kernel)) = (machine.process.memlock, machine.kernel()) else {
        return Verdict::unknown("the process's limits cannot be read");
    };
    let needed = wanted.locked();
    if kernel < MEMLOCK_KERNEL {
        return Verdict::fine("the rings are not charged to it before Linux 6.14, but to the control group's memory");
    }
    if limit.soft >= needed {
        return Verdict::fine(format!("{}; {} take {}", size(limit.soft), shards(wanted.shards), bytes(needed)));
    }
    if machine.process.ipc_lock == Some(true) {
        let found = format!("{}, from which this process is exempt (CAP_IPC_LOCK)", size(limit.soft));
        return Verdict::fine(format!("{found}; one that is not needs {}", bytes(needed)));
    }
    let verdict = Verdict::must(size(limit.soft))
        .wanted(format!("{} for the rings of {}", bytes(needed), shards(wanted.shards)))
        .why("The server does not start: Linux 6.14 and newer charge rings to it, all those of one user together.");
    let verdict = match machine.limits_file.get(LimitName::Memlock.item()) {
        Some(&value) if LimitName::Memlock.to_own_unit(value) >= needed => {
            verdict.advice("the limits file grants it already: log in again")
        }
        _ => verdict.mend(Mend::Limit { name: LimitName::Memlock, value: needed }),
    };
    of_container(verdict, machine, LimitName::Memlock, needed)
}

/// Nobody logs in to a container: its limits are those that it was started with.
fn of_container(verdict: Verdict, machine: &Machine, name: LimitName, value: u64) -> Verdict {
    match machine.container {
        Some(_) => {
            verdict.advice(format!("in a container, none of these: docker run --ulimit {}={value}", name.item()))
        }
        None => verdict,
    }
}

/// Whether the control group takes the server's threads.
pub fn cgroup_pids(machine: &Machine, wanted: &Wanted) -> Verdict {
    let Some(cgroup) = &machine.cgroup else {
        return Verdict::unknown("the process's control groups cannot be read");
    };
    let Some((most, now)) = cgroup.pids else {
        return Verdict::fine("not limited");
    };
    let found = format!("{} of {} are taken", grouped(now), grouped(most));
    if most.saturating_sub(now) >= wanted.threads() {
        return Verdict::fine(found);
    }
    let needed = now + wanted.threads();
    Verdict::must(found)
        .wanted(format!(
            "{} more: threads of {} and the kernel's workers for them",
            wanted.threads(),
            shards(wanted.shards)
        ))
        .why("A shard's thread cannot be started, and the server ends.")
        .advice(format!("TasksMax={needed} in the unit, or docker run --pids-limit {needed}"))
}

fn hard(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".to_owned() } else { grouped(limit) }
}

fn size(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".to_owned() } else { bytes(limit) }
}

fn shards(number: u64) -> String {
    if number == 1 { "1 shard".to_owned() } else { format!("{number} shards") }
}
