//! The network: connection tracking, ports, and how packets reach the CPUs.

use crate::doctor::finding::{Severity, Verdict, bytes, grouped};
use crate::doctor::machine::{Machine, Nic};
use crate::doctor::sysctl::Kind;
use crate::doctor::wanted::Wanted;

const CONNTRACK_MAX: &str = "net.netfilter.nf_conntrack_max";
const CONNTRACK_BUCKETS: &str = "net.netfilter.nf_conntrack_buckets";
/// Entries for each bucket that a full table of connections may have: what kernels before 5.15 had by default.
const CROWDED: u64 = 4;
const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";
/// Connections from which one CPU for all packets that arrive is thought too little.
const MANY: u64 = 10_000;

/// Whether a firewall's table of connections is large enough.
pub fn conntrack(machine: &Machine, wanted: &Wanted) -> Verdict {
    let Some(most) = machine.number(CONNTRACK_MAX) else {
        return Verdict::fine("connections are not tracked");
    };
    let now = machine.number("net.netfilter.nf_conntrack_count").unwrap_or(0);
    // The module may be loaded without a rule that makes it track.
    let idle = if now == 0 { ": nothing is tracked at present" } else { "" };
    let found = format!("{} of {} entries are taken{idle}", grouped(now), grouped(most));
    let needed = wanted.tracked();
    if most >= needed || most == 0 {
        return Verdict::fine(found);
    }
    let severity = if most < wanted.connections && now > 0 { Severity::Must } else { Severity::Should };
    Verdict::new(severity, found)
        .wanted(format!("{}: each connection, and a quarter more for those that are closed", grouped(needed)))
        .why("When the table is full, packets of new connections are dropped without an answer.")
        .sysctl(Kind::Min, CONNTRACK_MAX, needed.to_string())
        .command("echo nf_conntrack > /etc/modules-load.d/60-uproar.conf")
        .advice("or keep the server's port out of the table, with notrack: it costs nothing then")
}

/// Whether a firewall finds a connection in its table without walking along many others.
pub fn buckets(machine: &Machine, wanted: &Wanted) -> Verdict {
    let (Some(buckets), Some(most)) = (machine.number(CONNTRACK_BUCKETS), machine.number(CONNTRACK_MAX)) else {
        return Verdict::fine("connections are not tracked");
    };
    let needed = wanted.tracked().max(most.div_ceil(CROWDED));
    let found = format!("{} for at most {} entries", grouped(buckets), grouped(most));
    if buckets >= needed {
        return Verdict::fine(found);
    }
    // Each entry is in the table twice: by the packets of one direction, and of the other.
    let walk = most.max(wanted.tracked()).saturating_mul(2) / buckets.max(1);
    Verdict::should(found)
        .wanted(format!("{}: one for each connection, and one for every four entries", grouped(needed)))
        .why(format!("When the table is full, every packet walks along {} entries to find its own.", grouped(walk)))
        .sysctl(Kind::Min, CONNTRACK_BUCKETS, needed.to_string())
        .advice(format!("it takes {} of memory", bytes(needed.saturating_mul(8))))
}

/// Whether an outgoing connection can take the port that is listened to.
pub fn ports(machine: &Machine, wanted: &Wanted) -> Verdict {
    let range = machine.sysctls.get("net.ipv4.ip_local_port_range").and_then(|text| {
        let (first, last) = text.split_once(' ')?;
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    });
    let Some(range) = range else {
        return Verdict::unknown("the range of ports for outgoing connections cannot be read");
    };
    let reserved = machine.sysctls.get(RESERVED).map_or("", |list| list);
    let found = format!("outgoing connections take ports {} to {}", range.start(), range.end());
    if !range.contains(&wanted.port) {
        return Verdict::fine(format!("{found}; {} is not among them", wanted.port));
    }
    if is_in(reserved, wanted.port) {
        return Verdict::fine(format!("{found}; {} is among them, and reserved", wanted.port));
    }
    let list = if reserved.is_empty() { wanted.port.to_string() } else { format!("{reserved},{}", wanted.port) };
    Verdict::should(format!("{found}; {} is among them", wanted.port))
        .wanted(format!("{} reserved", wanted.port))
        .why("An outgoing connection may hold the port when the server starts again, and it cannot listen then.")
        .sysctl(Kind::Exact, RESERVED, list)
}

/// Whether a port is in a list such as `80,8000-8100`.
fn is_in(list: &str, port: u16) -> bool {
    let mut parts = list.split(',').map(|part| part.trim().split_once('-').unwrap_or((part.trim(), part.trim())));
    let parse = |text: &str| text.parse::<u16>().ok();
    parts.any(|(first, last)| parse(first).is_some_and(|first| first <= port) && parse(last) >= Some(port))
}

/// Whether one CPU has to take in all packets.
pub fn rps(machine: &Machine, wanted: &Wanted) -> Verdict {
    let cpus = &machine.cpus.online;
    if machine.nics.is_empty() {
        return Verdict::fine("no network card: loopback, or virtual devices, take packets in where they were sent");
    }
    let narrow: Vec<&Nic> = machine.nics.iter().filter(|nic| nic.rx_queues == 1 && !nic.rps).collect();
    let found = machine.nics.iter().map(|nic| {
        let rps = if nic.rps { ", spread by RPS" } else { "" };
        format!("{}: {} receive queue{}{rps}", nic.name, nic.rx_queues, if nic.rx_queues == 1 { "" } else { "s" })
    });
    let found = found.collect::<Vec<_>>().join("; ");
    if narrow.is_empty() || cpus.len() < 2 {
        return Verdict::fine(found);
    }
    if wanted.connections <= MANY {
        return Verdict::fine(format!("{found}; enough for {} connections", grouped(wanted.connections)));
    }
    let verdict = Verdict::should(found)
        .wanted(format!("as many queues as CPUs ({}), or RPS over them", cpus.len()))
        .why("One CPU takes in all packets, acknowledgements above all, while the shard on it waits.");
    narrow.iter().fold(verdict, |verdict, nic| {
        let name = &nic.name;
        verdict.command(format!("echo {} > /sys/class/net/{name}/queues/rx-0/rps_cpus", mask(cpus))).advice(format!(
            "for later starts, in /etc/udev/rules.d/60-uproar.rules: ACTION==\"add\", SUBSYSTEM==\"net\", \
                 KERNEL==\"{name}\", ATTR{{queues/rx-0/rps_cpus}}=\"{}\"",
            mask(cpus)
        ))
    })
}

/// `[0, 1, 33]` → `2,00000003`: the bits of the CPUs, in words of 32 with the highest first.
pub fn mask(cpus: &[u32]) -> String {
    let words = cpus.iter().max().map_or(0, |most| most / 32);
    let word =
        |index: u32| cpus.iter().filter(|&&cpu| cpu / 32 == index).fold(0u32, |bits, cpu| bits | 1 << (cpu % 32));
    let lower = (0..words).rev().map(|index| format!(",{:08x}", word(index)));
    format!("{:x}{}", word(words), lower.collect::<String>())
}

/// Whether the interrupts of a card with many queues all go to one CPU, or are moved about.
pub fn irq(machine: &Machine, wanted: &Wanted) -> Verdict {
    let several: Vec<&Nic> = machine.nics.iter().filter(|nic| nic.rx_queues > 1).collect();
    if several.is_empty() {
        return Verdict::fine("no card with several queues: nothing to be spread");
    }
    let places = several.iter().map(|nic| match nic.irq_cpus.len() {
        0 => format!("{}: where its interrupts go cannot be read", nic.name),
        cpus => format!(
            "{}: {} queues, interrupts on {cpus} CPU{}",
            nic.name,
            nic.rx_queues,
            if cpus == 1 { "" } else { "s" }
        ),
    });
    let found = places.collect::<Vec<_>>().join("; ");
    let crowded = several.iter().find(|nic| nic.irq_cpus.len() == 1 && machine.cpus.online.len() > 1);
    if let Some(nic) = crowded {
        return Verdict::should(found)
            .wanted("the interrupts of each queue on a CPU of its own")
            .why("One CPU takes in the packets of all queues.")
            .command("systemctl enable --now irqbalance")
            .advice(format!("or by hand, each of the interrupts of {} in /proc/interrupts: echo CPU > /proc/irq/N/smp_affinity_list", nic.name));
    }
    if wanted.latency && machine.irqbalance {
        return Verdict::should(format!("{found}; irqbalance runs"))
            .wanted("each interrupt always on the same CPU")
            .why("An interrupt that moves to another CPU finds cold caches there, and may move onto a busy shard.")
            .command("systemctl disable --now irqbalance");
    }
    if several.iter().all(|nic| nic.irq_cpus.is_empty()) { Verdict::unknown(found) } else { Verdict::fine(found) }
}

/// Whether a card holds packets back to join them. What `/sys` does not show, `ethtool` does.
pub fn offload(machine: &Machine, wanted: &Wanted) -> Verdict {
    if machine.nics.is_empty() {
        return Verdict::fine("no network card");
    }
    let holding = machine.nics.iter().find(|nic| nic.gro_flush_timeout.unwrap_or(0) > 0);
    match holding {
        Some(nic) if wanted.latency => {
            let timeout = nic.gro_flush_timeout.unwrap_or(0);
            Verdict::should(format!("{}: gro_flush_timeout is {} ns", nic.name, grouped(timeout)))
                .wanted("0")
                .why("What arrives may be held back for so long, to be joined with what comes next.")
                .command(format!("echo 0 > /sys/class/net/{}/gro_flush_timeout", nic.name))
        }
        _ => {
            let names = machine.nics.iter().map(|nic| format!("ethtool -k {}", nic.name)).collect::<Vec<_>>();
            Verdict::fine(format!("nothing is held back; whether GRO and TSO are on says {}", names.join(", ")))
        }
    }
}
