//! What the kernel offers, found out when a ring is made; and in words, what stands in the way if none can be made.

use std::fmt;
use std::fs;
use std::io;

use io_uring::{IoUring, Probe, opcode};

use super::{Sizes, sys};
use crate::limits::MAX_CONNECTIONS_PER_SHARD;

/// The oldest kernel that works, for `IORING_SETUP_DEFER_TASKRUN`.
pub const MIN_KERNEL: (u32, u32) = (6, 1);

/// The oldest kernel whose kernel TLS is used, for `SOCKET_URING_OP_SETSOCKOPT`.
pub const KTLS_KERNEL: (u32, u32) = (6, 7);

/// Kernel threads of a ring, of each sort. They only shut sockets down, which takes microseconds.
const WORKERS: u32 = 2;

/// The operations that a shard needs.
const OPCODES: [(u8, &str); 8] = [
    (opcode::AcceptMulti::CODE, "ACCEPT"),
    (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
    (opcode::Close::CODE, "CLOSE"),
    (opcode::PollAdd::CODE, "POLL_ADD"),
    (opcode::PollRemove::CODE, "POLL_REMOVE"),
    (opcode::Recv::CODE, "RECV"),
    (opcode::Send::CODE, "SEND"),
    (opcode::Shutdown::CODE, "SHUTDOWN"),
];

/// What the kernel offers and a ring uses. Displays as one line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
    /// Submissions without the index array (`IORING_SETUP_NO_SQARRAY`, 6.6).
    pub no_sqarray: bool,
    /// Waits that do not show as I/O wait in the system's load (`IORING_ENTER_NO_IOWAIT`, 6.15).
    pub no_iowait: bool,
    /// Entries of the registered-file table.
    pub slots: u32,
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.kernel;
        write!(f, "io_uring of Linux {major}.{minor}: {} connections a shard", self.slots)?;
        for (has, name) in [(self.no_sqarray, "no_sqarray"), (self.no_iowait, "no_iowait")] {
            write!(f, ", {}{name}", if has { "" } else { "without " })?;
        }
        Ok(())
    }
}

/// Why a ring could not be made, and what to do about it.
#[derive(thiserror::Error, Debug)]
#[error("{message}")]
pub struct SetupError {
    message: String,
    source: io::Error,
}

/// Makes a ring with the newest set of features that the kernel has, and registers a sparse table of `slots` files,
/// or as many as `RLIMIT_NOFILE` allows.
pub(super) fn build(sizes: Sizes, slots: u32) -> Result<(IoUring, Features), SetupError> {
    let facts = Facts::gather();
    let failed = |step| move |source| SetupError { message: explain(step, &source, &facts), source };

    let (uring, no_sqarray) = set_up(sizes).map_err(failed(Step::SetUp))?;
    let submitter = uring.submitter();
    let mut probe = Probe::new();
    submitter.register_probe(&mut probe).map_err(failed(Step::Probe))?;
    if let Some((_, name)) = OPCODES.into_iter().find(|&(code, _)| !probe.is_supported(code)) {
        return Err(failed(Step::Opcode(name))(io::ErrorKind::Unsupported.into()));
    }
    let slots = u64::from(slots.min(MAX_CONNECTIONS_PER_SHARD)).min(facts.nofile) as u32;
    submitter.register_files_sparse(slots).map_err(failed(Step::Files(slots)))?;
    submitter.register_iowq_max_workers(&mut [WORKERS; 2]).map_err(failed(Step::Workers))?;

    let no_iowait = uring.params().is_feature_no_iowait();
    Ok((uring, Features { kernel: facts.kernel, no_sqarray, no_iowait, slots }))
}

/// The ring, and whether it does without the submission queue's index array.
fn set_up(sizes: Sizes) -> io::Result<(IoUring, bool)> {
    let mut builder = IoUring::builder();
    builder
        .dontfork()
        .setup_clamp()
        .setup_cqsize(sizes.completions)
        .setup_submit_all()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_defer_taskrun();
    match builder.clone().setup_no_sqarray().build(sizes.submissions) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok((builder.build(sizes.submissions)?, false)),
        built => Ok((built?, true)),
    }
}

/// The part of making a ring that failed.
#[derive(Clone, Copy, Debug)]
enum Step {
    SetUp,
    Probe,
    Opcode(&'static str),
    Files(u32),
    Workers,
}

/// What an errno of io_uring depends on.
#[derive(Clone, Copy, Debug)]
struct Facts {
    /// 0.0 if unknown.
    kernel: (u32, u32),
    /// `kernel.io_uring_disabled`, where there is such a sysctl (6.6).
    disabled: Option<i64>,
    /// `kernel.io_uring_group`.
    group: Option<i64>,
    nofile: u64,
    memlock: u64,
}

impl Facts {
    fn gather() -> Facts {
        let sysctl = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok();
        Facts {
            kernel: sys::kernel_version().unwrap_or((0, 0)),
            disabled: sysctl("io_uring_disabled"),
            group: sysctl("io_uring_group"),
            nofile: sys::nofile().unwrap_or(0),
            memlock: sys::memlock().unwrap_or(0),
        }
    }

    fn too_old(&self) -> bool {
        self.kernel != (0, 0) && self.kernel < MIN_KERNEL
    }
}

/// What went wrong and which knob mends it.
fn explain(step: Step, error: &io::Error, facts: &Facts) -> String {
    let ((major, minor), (min_major, min_minor)) = (facts.kernel, MIN_KERNEL);
    match (error.raw_os_error(), step) {
        (Some(libc::EINVAL | libc::ENOSYS), _) if facts.too_old() => {
            format!("Linux {major}.{minor} is too old: {min_major}.{min_minor} or newer is needed")
        }
        (None, Step::Opcode(name)) => format!("this kernel's io_uring has no operation {name}"),
        (Some(libc::ENOSYS), _) => format!(
            "Linux {major}.{minor} has no io_uring here: it was built without CONFIG_IO_URING, \
             or a container's seccomp profile hides it; allow io_uring_setup, io_uring_enter and io_uring_register"
        ),
        (Some(libc::EPERM), _) => forbidden(facts),
        (Some(libc::EACCES), _) => "a security module (SELinux, AppArmor) forbids io_uring to this process; \
             its audit log names the rule"
            .to_owned(),
        (Some(libc::ENOMEM), _) => format!(
            "no memory for the ring: raise RLIMIT_MEMLOCK, which is {} KiB (ulimit -l, LimitMEMLOCK=), \
             or the memory limit of the container",
            facts.memlock / 1024
        ),
        (Some(libc::EMFILE), Step::Files(slots)) => format!(
            "a table of {slots} connections is more than RLIMIT_NOFILE allows, which is {}: raise it \
             (ulimit -n, LimitNOFILE=), or accept fewer connections",
            facts.nofile
        ),
        (Some(libc::EMFILE), _) => {
            format!("out of descriptors: raise RLIMIT_NOFILE, which is {} (ulimit -n, LimitNOFILE=)", facts.nofile)
        }
        (Some(libc::ENFILE), _) => "the system is out of file handles: raise sysctl fs.file-max".to_owned(),
        _ => format!("io_uring of Linux {major}.{minor} failed to {}", step.action()),
    }
}

/// Who forbids io_uring: the sysctl, or a seccomp profile.
fn forbidden(facts: &Facts) -> String {
    match facts.disabled {
        Some(1) => format!(
            "sysctl kernel.io_uring_disabled is 1: only CAP_SYS_ADMIN and members of the group in \
             kernel.io_uring_group, which is {}, may use io_uring; set it to 0, or join that group",
            facts.group.filter(|&group| group >= 0).map_or("none".to_owned(), |group| group.to_string())
        ),
        Some(disabled) if disabled != 0 => {
            format!("sysctl kernel.io_uring_disabled is {disabled}: nobody may use io_uring; set it to 0")
        }
        _ => "io_uring is forbidden to this process, most likely by a container's seccomp profile (Docker's default \
             one does): allow io_uring_setup, io_uring_enter and io_uring_register in it"
            .to_owned(),
    }
}

impl Step {
    fn action(self) -> &'static str {
        match self {
            Step::SetUp => "make a ring",
            Step::Probe | Step::Opcode(_) => "tell its operations",
            Step::Files(_) => "make a table of registered files",
            Step::Workers => "bound its worker threads",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts { kernel: (6, 12), disabled: Some(0), group: Some(-1), nofile: 1024, memlock: 8 << 20 };

    #[test]
    fn every_errno_names_its_knob() {
        let old = Facts { kernel: (5, 15), disabled: None, group: None, ..FACTS };
        let unknown = Facts { kernel: (0, 0), ..FACTS };
        let grouped = Facts { disabled: Some(1), group: Some(997), ..FACTS };
        let ungrouped = Facts { disabled: Some(1), ..FACTS };
        let off = Facts { disabled: Some(2), ..FACTS };
        for (step, errno, facts, words) in [
            (Step::SetUp, libc::EINVAL, old, "Linux 5.15 is too old: 6.1"),
            (Step::SetUp, libc::ENOSYS, old, "Linux 5.15 is too old: 6.1"),
            (Step::SetUp, libc::EINVAL, FACTS, "io_uring of Linux 6.12 failed to make a ring"),
            (Step::SetUp, libc::EINVAL, unknown, "failed to make a ring"),
            (Step::SetUp, libc::ENOSYS, FACTS, "CONFIG_IO_URING"),
            (Step::SetUp, libc::ENOSYS, FACTS, "seccomp"),
            (Step::SetUp, libc::EPERM, FACTS, "seccomp"),
            (Step::SetUp, libc::EPERM, old, "seccomp"),
            (Step::SetUp, libc::EPERM, grouped, "kernel.io_uring_group, which is 997"),
            (Step::SetUp, libc::EPERM, ungrouped, "kernel.io_uring_group, which is none"),
            (Step::SetUp, libc::EPERM, off, "kernel.io_uring_disabled is 2"),
            (Step::SetUp, libc::EACCES, FACTS, "SELinux"),
            (Step::SetUp, libc::ENOMEM, FACTS, "RLIMIT_MEMLOCK, which is 8192 KiB"),
            (Step::SetUp, libc::EMFILE, FACTS, "RLIMIT_NOFILE, which is 1024"),
            (Step::SetUp, libc::ENFILE, FACTS, "fs.file-max"),
            (Step::Files(5000), libc::EMFILE, FACTS, "table of 5000 connections"),
            (Step::Files(5000), libc::EBUSY, FACTS, "failed to make a table"),
            (Step::Workers, libc::EINVAL, FACTS, "bound its worker threads"),
        ] {
            let message = explain(step, &io::Error::from_raw_os_error(errno), &facts);
            assert!(message.contains(words), "{step:?} {errno} {facts:?}: {message}");
        }
    }

    #[test]
    fn a_missing_operation_is_named() {
        let message = explain(Step::Opcode("SEND"), &io::ErrorKind::Unsupported.into(), &FACTS);
        assert_eq!(message, "this kernel's io_uring has no operation SEND");
    }

    #[test]
    fn features_are_one_line() {
        let features = Features { kernel: (6, 8), no_sqarray: true, no_iowait: false, slots: 20_000 };
        let line = "io_uring of Linux 6.8: 20000 connections a shard, no_sqarray, without no_iowait";
        assert_eq!(features.to_string(), line);
    }
}
