//! The kernel's memory for sockets, from `/proc`: of the whole machine, so the load's sockets count too.

use std::collections::BTreeMap;
use std::fs;

use crate::ring::sys;

/// Slab caches that sockets use, or what their names begin with. The kernel lets caches of one size share one, under the
/// name of the first: what a name holds may differ from machine to machine (here, `eventpoll_epi` has other objects of
/// 128 bytes too).
const CACHES: [&str; 16] = [
    "TCP",
    "sock_inode_cache",
    "filp",
    "dentry",
    "lsm_inode_cache",
    "lsm_file_cache",
    "eventpoll_",
    "ep_head",
    "io_kiocb",
    "io_buffer",
    "skbuff_",
    "request_sock_TCP",
    "tw_sock_TCP",
    "tcp_bind",
    "inet_",
    "kmalloc-",
];

/// What the kernel has for sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelMemory {
    /// Bytes of pages of each slab cache that sockets use. Only root may see them.
    pub slab: Option<BTreeMap<String, u64>>,
    /// Bytes of all slab caches, so of much else too.
    pub slab_total: u64,
    /// Bytes of what TCP sockets have queued, to be sent or to be read, and of what they reserved for it.
    pub buffers: u64,
    /// TCP sockets that are connected or listen, of this network namespace.
    pub inuse: u64,
    /// TCP sockets that no process has any more.
    pub orphan: u64,
    /// Connections in TIME_WAIT.
    pub tw: u64,
    /// Bytes that could be had without swapping.
    pub available: u64,
}

/// Reads it all. What cannot be read is 0, and `slab` is nothing.
pub fn kernel_memory() -> KernelMemory {
    let slab = fs::read_to_string("/proc/slabinfo").ok().map(|text| parse_slab(&text, sys::page_size()));
    KernelMemory { slab, ..without_caches() }
}

/// Reads all but the single slab caches.
pub fn without_caches() -> KernelMemory {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let (meminfo, sockstat, sockstat6) =
        (read("/proc/meminfo"), read("/proc/net/sockstat"), read("/proc/net/sockstat6"));
    let tcp = |name| parse_sockstat(&sockstat, "TCP:", name).unwrap_or(0);
    KernelMemory {
        slab: None,
        slab_total: kibibytes(&meminfo, "Slab:").unwrap_or(0),
        buffers: tcp("mem").saturating_mul(sys::page_size()),
        inuse: tcp("inuse").saturating_add(parse_sockstat(&sockstat6, "TCP6:", "inuse").unwrap_or(0)),
        orphan: tcp("orphan"),
        tw: tcp("tw"),
        available: kibibytes(&meminfo, "MemAvailable:").unwrap_or(0),
    }
}

/// Bytes of pages of the caches that sockets use, from `/proc/slabinfo` (slabinfo(5)). A line that is none is passed over.
fn parse_slab(text: &str, page: u64) -> BTreeMap<String, u64> {
    text.lines().filter_map(|line| parse_cache(line, page)).collect()
}

/// `name active_objs num_objs objsize objperslab pagesperslab : tunables … : slabdata active_slabs num_slabs …`
fn parse_cache(line: &str, page: u64) -> Option<(String, u64)> {
    let name = line.split_whitespace().next()?;
    CACHES.iter().find(|cache| name.starts_with(*cache))?;
    let pages: u64 = line.split(':').next()?.split_whitespace().nth(5)?.parse().ok()?;
    let slabs: u64 = line.split_once("slabdata")?.1.split_whitespace().nth(1)?.parse().ok()?;
    Some((name.into(), slabs.checked_mul(pages)?.checked_mul(page)?))
}

/// `mem` of `TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 411`.
fn parse_sockstat(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut fields = text.lines().find_map(|line| line.strip_prefix(protocol))?.split_whitespace();
    fields.find(|field| *field == name)?;
    fields.next()?.parse().ok()
}

/// Bytes of a field of `/proc/meminfo` or `/proc/PID/status`, as `RssAnon:    1234 kB`.
pub(super) fn kibibytes(text: &str, field: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{TcpListener, TcpStream};

    const SLABINFO: &str = "\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
ext4_inode_cache  162820 162820   1128   14    4 : tunables    0    0    0 : slabdata  11630  11630      0
MPTCPv6                0      0   2112   15    8 : tunables    0    0    0 : slabdata      0      0      0
tw_sock_TCP          128    208    256   16    1 : tunables    0    0    0 : slabdata     13     13      0
TCP                  105    156   2368   13    8 : tunables    0    0    0 : slabdata     12     12      0
sock_inode_cache     204    266    832   19    4 : tunables    0    0    0 : slabdata     14     14      0
kmalloc-rcl-192      230    336    192   21    1 : tunables    0    0    0 : slabdata     16     16      0
";
    const SOCKSTAT: &str = "sockets: used 18\nTCP: inuse 12 orphan 3 tw 8 alloc 13 mem 411\nUDP: inuse 0 mem 7\n";

    fn caches(caches: &[(&str, u64)]) -> BTreeMap<String, u64> {
        caches.iter().map(|&(name, bytes)| (name.into(), bytes)).collect()
    }

    #[test]
    fn caches_of_sockets_are_counted_in_pages() {
        let expected = caches(&[
            ("TCP", 12 * 8 * 4096),
            ("kmalloc-rcl-192", 16 * 4096),
            ("sock_inode_cache", 14 * 4 * 4096),
            ("tw_sock_TCP", 13 * 4096),
        ]);
        assert_eq!(parse_slab(SLABINFO, 4096), expected);
    }

    #[test]
    fn lines_that_are_none_are_passed_over() {
        for line in [
            "",
            "TCP",
            "TCP 1 2 3 4 5 : tunables 0 0 0 :",
            "TCP 1 2 3 4 x : tunables 0 0 0 : slabdata 1 1 0",
            "TCP 1 2 3 4 5 : tunables 0 0 0 : slabdata 1",
            "TCP 1 2 3 4 18446744073709551615 : tunables 0 0 0 : slabdata 1 2 0",
        ] {
            assert_eq!(parse_slab(line, 4096), BTreeMap::new(), "{line:?}");
        }
    }

    #[test]
    fn sockets_are_counted() {
        let counts = ["inuse", "orphan", "tw", "mem"].map(|name| parse_sockstat(SOCKSTAT, "TCP:", name));
        assert_eq!(counts, [Some(12), Some(3), Some(8), Some(411)]);
        assert_eq!(parse_sockstat("TCP6: inuse 5\n", "TCP6:", "inuse"), Some(5));
        for garbage in ["", "TCP:", "TCP: mem", "TCP: mem x", "TCP: mem -1", "UDP: mem 3"] {
            assert_eq!(parse_sockstat(garbage, "TCP:", "mem"), None, "{garbage:?}");
        }
    }

    #[test]
    fn fields_are_of_kibibytes() {
        let meminfo = "MemTotal:       24684084 kB\nMemAvailable:   23671860 kB\nHugePages_Total:       0\n";
        assert_eq!(kibibytes(meminfo, "MemAvailable:"), Some(23_671_860 << 10));
        for field in ["HugePages_Total:", "MemFree:", ""] {
            assert_eq!(kibibytes(meminfo, field), None, "{field}");
        }
        assert_eq!(kibibytes("Slab: 18446744073709551615 kB", "Slab:"), None);
    }

    #[test]
    fn this_kernel_counts_sockets() {
        let memory = kernel_memory();
        assert!(memory.slab_total > 0 && memory.available > 0, "{memory:?}");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let held: Vec<_> =
            (0..20).map(|_| (TcpStream::connect(address).unwrap(), listener.accept().unwrap())).collect();
        assert!(kernel_memory().inuse >= 2 * held.len() as u64);
        // Root sees the caches, and TCP has one.
        assert!(kernel_memory().slab.is_none_or(|caches| caches.get("TCP").is_some_and(|&bytes| bytes > 0)));
    }

    proptest! {
        #[test]
        fn no_text_of_the_system_panics(text in "(?s).{0,200}", numbers in "(TCP|Slab:)( ?[0-9]{0,25}){0,16}( : slabdata)?( [0-9]{1,25}){0,4} kB") {
            for text in [&text, &numbers] {
                parse_slab(text, 4096);
                parse_sockstat(text, "TCP:", "mem");
                kibibytes(text, "Slab:");
            }
        }
    }
}
