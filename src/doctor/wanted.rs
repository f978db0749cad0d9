//! What the machine is to be fit for, and what a connection costs.

use super::finding::grouped;
use super::sysctl::{self, Rule};
use crate::limits::{MAX_CONNECTIONS_PER_SHARD, MAX_SHARDS, SPARE_SLOTS};

/// Bytes of user space that an idle, subscribed connection takes (measured: `benches/README.md`).
const USER_BYTES: u64 = 115;
/// Bytes of the kernel's for it: socket, inode, dentry, file, an armed poll (measured: `tuning/tcp-memory.md`).
const KERNEL_BYTES: u64 = 4_100;
/// Bytes of a page: what a socket with anything queued counts at least, and the unit of `tcp_mem`.
pub const PAGE: u64 = 4096;
/// Bytes of a shard at work: its read buffers above all.
const SHARD_BYTES: u64 = 3 << 20;
/// Bytes of the rest of the process.
const BASE_BYTES: u64 = 32 << 20;
/// Descriptors of a shard in the process's own table (ring, listener, eventfd), with one to spare.
const SHARD_DESCRIPTORS: u64 = 4;
/// Descriptors of the rest of the process: the control thread's, standard streams, the admin listener's connections.
const BASE_DESCRIPTORS: u64 = 64;
/// Bytes of a shard's ring, which newer kernels count as locked memory (measured: `tuning/limits.md`; some to spare).
const RING_BYTES: u64 = 176 << 10;
/// The same of the control thread's ring.
const CONTROL_RING_BYTES: u64 = 64 << 10;

/// What the machine is to be fit for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Connections.
    pub connections: u64,
    /// Shards that share them.
    pub shards: u64,
    /// The port listened to.
    pub port: u16,
    /// Whether latency counts more than throughput and economy.
    pub latency: bool,
    /// The sysctls for it.
    pub rules: Vec<Rule>,
}

impl Wanted {
    /// So many connections on so many shards; at least one shard.
    pub fn new(connections: u64, shards: u64, port: u16, latency: bool) -> Wanted {
        Wanted { connections, shards: shards.max(1), port, latency, rules: sysctl::wanted(connections, latency) }
    }

    /// Descriptors that the process must be allowed: the bound of each shard's table of connections.
    ///
    /// The kernel spreads connections over the shards by a hash, so unevenly: a tenth is added for that.
    pub fn nofile(&self) -> u64 {
        table(self.connections, self.shards).max(own_descriptors(self.shards))
    }

    /// What they are for.
    pub fn nofile_purpose(&self) -> String {
        if table(self.connections, self.shards) < own_descriptors(self.shards) {
            return format!("{SHARD_DESCRIPTORS} of each shard's own, {BASE_DESCRIPTORS} for the rest of the server");
        }
        let share = grouped(self.connections.div_ceil(self.shards));
        let uneven = if self.shards > 1 { ", a tenth more" } else { "" };
        format!("{share} a shard{uneven}, {SPARE_SLOTS} to spare")
    }

    /// Connections that there is room for if the process is allowed so many descriptors.
    pub fn capacity(&self, nofile: u64) -> u64 {
        let table = nofile.min(MAX_CONNECTIONS_PER_SHARD.into());
        table.saturating_sub(SPARE_SLOTS.into()) * self.shards
    }

    /// The fewest shards for which so many descriptors suffice; `None` if no number of shards does.
    pub fn shards_for(&self, nofile: u64) -> Option<u64> {
        let most = nofile.min(MAX_CONNECTIONS_PER_SHARD.into());
        (1..=MAX_SHARDS as u64).find(|&shards| table(self.connections, shards).max(own_descriptors(shards)) <= most)
    }

    /// Bytes of memory that the idle connections take, in user space and in the kernel.
    pub fn memory(&self) -> u64 {
        let connections = self.connections.saturating_mul(USER_BYTES + KERNEL_BYTES);
        connections.saturating_add(self.shards * SHARD_BYTES + BASE_BYTES)
    }

    /// The same when each of them has something queued, were it a byte.
    pub fn memory_queued(&self) -> u64 {
        self.memory().saturating_add(self.connections.saturating_mul(PAGE))
    }

    /// Pages that the queues of all sockets may hold at most: half of the memory that the idle connections leave, or the
    /// kernel's own default, 3/32 of all, where that is more.
    pub fn queue_pages(&self, memory: u64) -> u64 {
        (memory.saturating_sub(self.memory()) / 2).max(memory / 32 * 3) / PAGE
    }

    /// Bytes of locked memory that the rings are charged with.
    pub fn locked(&self) -> u64 {
        self.shards * RING_BYTES + CONTROL_RING_BYTES
    }

    /// Threads of the process, with the kernel's workers for the rings.
    pub fn threads(&self) -> u64 {
        5 * self.shards + 8
    }

    /// Entries of a connection tracking table: a quarter more, for those that have been closed.
    pub fn tracked(&self) -> u64 {
        self.connections + self.connections.div_ceil(4)
    }
}

/// Slots of a shard's table of connections.
fn table(connections: u64, shards: u64) -> u64 {
    let share = connections.div_ceil(shards);
    let uneven = if shards > 1 { share.div_ceil(10) } else { 0 };
    share + uneven + u64::from(SPARE_SLOTS)
}

/// Descriptors in the process's own table.
fn own_descriptors(shards: u64) -> u64 {
    SHARD_DESCRIPTORS * shards + BASE_DESCRIPTORS
}
