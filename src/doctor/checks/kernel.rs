//! The kernel, and whether it lets us use io_uring.

use crate::doctor::finding::Verdict;
use crate::doctor::machine::Machine;
use crate::doctor::wanted::Wanted;
use crate::ring::{KTLS_KERNEL, MIN_KERNEL};

const DISABLED: &str = "kernel.io_uring_disabled";
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
    let disabled = machine.number(DISABLED).unwrap_or(0);
    let group = machine.number("kernel.io_uring_group");
    match (&machine.io_uring, disabled) {
        (Some(Ok(features)), 0) => Verdict::fine(format!("a ring can be made: {features}")),
        (None, 0) => {
            Verdict::unknown(format!("not switched off by {DISABLED}; whether a ring can be made was not tried"))
        }
        (Some(Err(why)), 0) => Verdict::must(why.clone())
            .wanted("a ring that can be made")
            .why("The server does not start.")
            .advice("see what the message names; in a container, see seccomp as well"),
        (Some(Ok(_)), 1) => match group {
            Some(group) => Verdict::fine(format!("only for group {group}, in which the server's user has to be")),
            None => permit(Verdict::should(format!("a ring can be made here, but not by every user: {DISABLED} is 1"))),
        },
        (_, disabled) => permit(Verdict::must(format!("{DISABLED} is {disabled}"))),
    }
}

/// It is a decision about everybody on the machine, so it is not made by itself, and a group comes first.
fn permit(verdict: Verdict) -> Verdict {
    verdict
        .wanted("1 and a group for the server's user, or 0")
        .why("The server does not start as a user without privileges, as which it should run.")
        .command(format!(
            "groupadd -f uproar; sysctl -w {DISABLED}=1 kernel.io_uring_group=\"$(getent group uproar | cut -d: -f3)\""
        ))
        .advice("and SupplementaryGroups=uproar in the unit, or docker run --group-add")
        .advice(format!("or for everybody on the machine: sysctl -w {DISABLED}=0"))
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

/// Whether the kernel seals what TLS connections are sent. Without it the server does that itself, so nothing has to be changed.
pub fn tls(machine: &Machine, _: &Wanted) -> Verdict {
    const LOAD: &str = "modprobe tls; echo tls > /etc/modules-load.d/60-uproar.conf";
    let (major, minor) = KTLS_KERNEL;
    Verdict::fine(match (machine.kernel(), machine.kernel_tls) {
        (Some(kernel), _) if kernel < KTLS_KERNEL => {
            format!("not used: it needs Linux {major}.{minor} or newer; the server seals TLS itself")
        }
        (_, true) => "its module is there: the kernel seals what TLS connections are sent".to_owned(),
        (_, false) => format!("its module is not loaded: the server seals TLS itself, unless you {LOAD}"),
    })
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
