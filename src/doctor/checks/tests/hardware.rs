//! The checks of network cards and CPUs.

use super::*;
use crate::doctor::checks::network::mask;

fn nic(machine: &mut Machine, rx_queues: usize, rps: bool, irq_cpus: &[u32]) {
    let irq_cpus = irq_cpus.iter().copied().collect();
    machine.nics.push(Nic { name: "eth0".into(), rx_queues, rps, irq_cpus, ..Nic::default() });
}

#[test]
fn packets_reach_all_cpus() {
    table(
        "rps",
        &[
            (hundred_thousand(), |_| {}, Fine, &["no network card"]),
            (ten_thousand(), |m| nic(m, 1, false, &[0]), Fine, &["enough for 10,000"]),
            (
                hundred_thousand(),
                |m| nic(m, 1, false, &[0]),
                Should,
                &["echo 3 > /sys/class/net/eth0/queues/rx-0/rps_cpus"],
            ),
            (hundred_thousand(), |m| nic(m, 1, true, &[0]), Fine, &["spread by RPS"]),
            (hundred_thousand(), |m| nic(m, 2, false, &[0, 1]), Fine, &["2 receive queues"]),
            (
                hundred_thousand(),
                |m| {
                    nic(m, 1, false, &[0]);
                    m.cpus.online = vec![0];
                },
                Fine,
                &["1 receive queue"],
            ),
        ],
    );
}

#[test]
fn interrupts_are_spread() {
    table(
        "irq",
        &[
            (ten_thousand(), |m| nic(m, 1, false, &[0]), Fine, &["nothing to be spread"]),
            (ten_thousand(), |m| nic(m, 2, false, &[0, 1]), Fine, &["interrupts on 2 CPUs"]),
            (ten_thousand(), |m| nic(m, 2, false, &[1]), Should, &["interrupts on 1 CPU", "irqbalance"]),
            (ten_thousand(), |m| nic(m, 2, false, &[]), Unknown, &["cannot be read"]),
            (
                latency(),
                |m| {
                    nic(m, 2, false, &[0, 1]);
                    m.irqbalance = true;
                },
                Should,
                &["systemctl disable --now irqbalance"],
            ),
        ],
    );
}

#[test]
fn packets_are_not_held_back() {
    fn holding(machine: &mut Machine, nanoseconds: u64) {
        nic(machine, 1, false, &[]);
        machine.nics[0].gro_flush_timeout = Some(nanoseconds);
    }
    table(
        "offload",
        &[
            (latency(), |m| holding(m, 0), Fine, &["ethtool -k eth0"]),
            (ten_thousand(), |m| holding(m, 200_000), Fine, &["ethtool"]),
            (
                latency(),
                |m| holding(m, 200_000),
                Should,
                &["200,000 ns", "echo 0 > /sys/class/net/eth0/gro_flush_timeout"],
            ),
        ],
    );
}

#[test]
fn masks_are_words_of_32_cpus() {
    for (cpus, text) in
        [(&[0, 1][..], "3"), (&[0, 31], "80000001"), (&[0, 1, 33], "2,00000003"), (&[64], "1,00000000,00000000")]
    {
        assert_eq!(mask(cpus), text, "{cpus:?}");
    }
}

#[test]
fn cpus_run_at_full_speed() {
    fn governors(machine: &mut Machine, driver: &str, names: &[&str]) {
        machine.cpus.driver = Some(driver.to_owned());
        machine.cpus.governors = names.iter().map(|name| ((*name).to_owned(), 2)).collect::<BTreeMap<_, _>>();
    }
    table(
        "governor",
        &[
            (latency(), |_| {}, Fine, &["virtual machine"]),
            (latency(), |m| governors(m, "acpi-cpufreq", &["performance"]), Fine, &["performance on 2"]),
            (
                latency(),
                |m| governors(m, "acpi-cpufreq", &["performance", "schedutil"]),
                Should,
                &["cpupower frequency-set -g performance"],
            ),
            (ten_thousand(), |m| governors(m, "acpi-cpufreq", &["schedutil"]), Fine, &["schedutil"]),
            (ten_thousand(), |m| governors(m, "acpi-cpufreq", &["powersave"]), Should, &["lowest frequency"]),
            (
                ten_thousand(),
                |m| governors(m, "intel_pstate", &["powersave"]),
                Fine,
                &["powersave on 2 (intel_pstate)"],
            ),
        ],
    );
}

#[test]
fn idle_cpus_wake_soon() {
    fn sleeps(machine: &mut Machine, latency: u64) {
        machine.cpus.deepest_idle = Some(IdleState { latency, name: "C6".into() });
    }
    table(
        "cstates",
        &[
            (latency(), |_| {}, Fine, &["not for this system"]),
            (latency(), |m| sleeps(m, 10), Fine, &["C6, 10 µs"]),
            (latency(), |m| sleeps(m, 133), Should, &["cpupower idle-set -D 10"]),
            (ten_thousand(), |m| sleeps(m, 133), Fine, &["133 µs"]),
        ],
    );
}

#[test]
fn memory_is_near() {
    fn two_nodes(machine: &mut Machine) {
        machine.nodes = Some(2);
        machine.nics.push(Nic { name: "eth0".into(), node: Some(1), ..Nic::default() });
    }
    table(
        "numa",
        &[
            (ten_thousand(), two_nodes, Fine, &["2 nodes, eth0 at node 1"]),
            (latency(), two_nodes, Should, &["numactl --cpunodebind=1 --membind=1 uproar"]),
            (latency(), |m| m.nodes = None, Fine, &["one node"]),
        ],
    );
}

#[test]
fn the_clock_is_cheap() {
    table(
        "clocksource",
        &[
            (ten_thousand(), |m| m.clocksource = Some("kvm-clock".into()), Fine, &["kvm-clock"]),
            (ten_thousand(), |m| m.clocksource = Some("hpet".into()), Should, &["echo tsc >"]),
            (ten_thousand(), |m| m.clocksource = Some("xen".into()), Unknown, &["xen"]),
            (ten_thousand(), |m| m.clocksource = None, Unknown, &["cannot be read"]),
        ],
    );
}

#[test]
fn kernel_tls_is_told_and_not_judged() {
    table(
        "kernel-tls",
        &[
            (ten_thousand(), |m| m.kernel_tls = true, Fine, &["the kernel seals"]),
            (ten_thousand(), |_| {}, Fine, &["not loaded", "modprobe tls"]),
            (ten_thousand(), |m| m.release = Some("6.1.0-1".into()), Fine, &["not used", "6.7"]),
        ],
    );
}

#[test]
fn mitigations_are_told_and_not_judged() {
    let states = [("spectre_v2", "Mitigation: Retpolines"), ("spec_store_bypass", "Vulnerable")];
    let states = states.map(|(name, state)| (name.to_owned(), state.to_owned()));
    let said = verdict("mitigations", &latency(), |machine| machine.vulnerabilities.extend(states));
    assert_eq!((said.severity, said.found.starts_with("1 in force, open to spec_store_bypass;")), (Fine, true));
}
