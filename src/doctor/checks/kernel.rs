//! The kernel, and whether it lets us use io_uring.

use crate::doctor::finding::Verdict;
use crate::doctor::machine::Machine;
use crate::doctor::sysctl::Kind;
use crate::doctor::wanted::Wanted;
use crate::ring::MIN_KERNEL;

const SYSCALLS: &str = "io_uring_setup, io_uring_enter and io_uring_register";

/// Whether the kernel is new enough.
pub fn version(machine: &Machine, _: &Wanted) -> Verdict {
    let (Some(release), Some(version)) = (&machine.release, machine.kernel()) else {
        return Verdict::unknown("the kernel does not tell its version");
    };
    if version >= MIN_KERNEL {
        return Verdict::fine(format!("Linux {release}"));
    }
    let (major, minor) = MIN_KERNEL;
    Verdict::must(format!("Linux {release}"))
        .wanted(format!("Linux {major}.{minor} or newer"))
        .why("The server does not start: completions run within its own calls only since then (DEFER_TASKRUN).")
        .advice(format!("boot a kernel of version {major}.{minor} or newer: Debian 12 and Ubuntu 24.04 have one"))
}

/// Whether a ring can be made: by trying, and by what the sysctl says of other users.
pub fn io_uring(machine: &Machine, _: &Wanted) -> Verdict {
    let disabled = machine.number("kernel.io_uring_disabled").unwrap_or(0);
    let group = machine.sysctls.get("kernel.io_uring_group").map_or("-1", |group| group);
    match (&machine.io_uring, disabled) {
        (Some(Ok(features)), 0) => Verdict::fine(format!("a ring can be made: {features}")),
        (None, 0) => {
            Verdict::unknown("not switched off by kernel.io_uring_disabled; whether a ring can be made was not tried")
        }
        (Some(Err(why)), 0) => Verdict::must(why.clone())
            .why("The server does not start.")
            .advice("see what the message names; in a container, see seccomp as well"),
        (_, 1) => {
            let found = format!("kernel.io_uring_disabled is 1, kernel.io_uring_group is {group}");
            let verdict = match machine.io_uring {
                Some(Ok(_)) => Verdict::should(format!("{found}: a ring can be made here, but not by every user")),
                _ => Verdict::must(found),
            };
            verdict
                .wanted("0, or the server's user in that group")
                .why("The server starts only with CAP_SYS_ADMIN, which it should not have, or in that group.")
                .sysctl(Kind::Exact, "kernel.io_uring_disabled", "0")
        }
        (_, disabled) => Verdict::must(format!("kernel.io_uring_disabled is {disabled}"))
            .wanted("0")
            .why("The server does not start: nobody may use io_uring.")
            .sysctl(Kind::Exact, "kernel.io_uring_disabled", "0"),
    }
}

/// Whether a system call filter is in the way.
pub fn seccomp(machine: &Machine, _: &Wanted) -> Verdict {
    match (machine.process.filtered, &machine.io_uring) {
        (Some(false), _) => Verdict::fine("no filter of system calls"),
        (Some(true), Some(Ok(_))) => Verdict::fine("system calls are filtered, and io_uring is let through"),
        (Some(true), Some(Err(_))) => Verdict::must("system calls are filtered, and no ring can be made")
            .wanted(format!("a filter that allows {SYSCALLS}"))
            .why("The server does not start.")
            .command("docker run --security-opt seccomp=tuning/seccomp/uproar.json …")
            .advice(format!("elsewhere, allow {SYSCALLS} in the profile of the pod or container")),
        (Some(true), None) => {
            Verdict::unknown("system calls are filtered; whether io_uring is let through was not tried")
        }
        (None, _) => Verdict::unknown("the kernel does not tell whether system calls are filtered"),
    }
}

/// Whether this is a container, where part of what is seen is the host's.
pub fn container(machine: &Machine, _: &Wanted) -> Verdict {
    Verdict::fine(match &machine.container {
        Some(kind) => format!(
            "{kind}: net.* sysctls are set when the container is started (docker run --sysctl), all others on its host"
        ),
        None => "none".to_owned(),
    })
}
