//! Network cards: their queues, where their interrupts go, what delays them.

use std::collections::BTreeSet;

use super::numbers;
use crate::doctor::root::Root;

/// A network card that is up.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Nic {
    /// `eth0`.
    pub name: String,
    /// Queues that packets arrive in.
    pub rx_queues: usize,
    /// Whether what arrives is spread over CPUs by software (RPS).
    pub rps: bool,
    /// The CPUs that serve its interrupts; none if that is not known.
    pub irq_cpus: BTreeSet<u32>,
    /// The NUMA node that it is attached to.
    pub node: Option<u32>,
    /// Nanoseconds for which arrived packets may be held back to be joined with others.
    pub gro_flush_timeout: Option<u64>,
}

/// The cards of a machine, by name: what has a device behind it and a link.
pub fn read(root: &Root) -> Vec<Nic> {
    let dir = "/sys/class/net";
    let is_card = |name: &String| {
        let state = root.text(&format!("{dir}/{name}/operstate"));
        root.exists(&format!("{dir}/{name}/device")) && state.is_some_and(|state| state == "up")
    };
    root.names(dir).into_iter().filter(is_card).map(|name| nic(root, name)).collect()
}

fn nic(root: &Root, name: String) -> Nic {
    let dir = format!("/sys/class/net/{name}");
    let queues = root.names(&format!("{dir}/queues")).into_iter().filter(|name| name.starts_with("rx-"));
    let masks: Vec<_> = queues.map(|queue| root.text(&format!("{dir}/queues/{queue}/rps_cpus"))).collect();
    Nic {
        rx_queues: masks.len(),
        rps: masks.iter().flatten().any(|mask| mask.contains(|c: char| c.is_ascii_hexdigit() && c != '0')),
        irq_cpus: irq_cpus(root, &dir),
        node: root.parse(&format!("{dir}/device/numa_node")),
        gro_flush_timeout: root.parse(&format!("{dir}/gro_flush_timeout")),
        name,
    }
}

/// Where the interrupts of a card go. A virtio card's are those of the PCI device above it.
fn irq_cpus(root: &Root, dir: &str) -> BTreeSet<u32> {
    let places = [format!("{dir}/device/msi_irqs"), format!("{dir}/device/../msi_irqs")];
    let irqs = places.iter().map(|place| root.names(place)).find(|irqs| !irqs.is_empty()).unwrap_or_default();
    let cpus = irqs.iter().filter_map(|irq| {
        let file = |file: &str| root.text(&format!("/proc/irq/{irq}/{file}")).filter(|text| !text.is_empty());
        file("effective_affinity_list").or_else(|| file("smp_affinity_list"))
    });
    cpus.flat_map(|list| numbers(&list)).collect()
}
