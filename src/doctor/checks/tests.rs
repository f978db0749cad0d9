//! Every check, on machines that differ from a good one in one thing.

use std::collections::BTreeMap;

use super::*;
use crate::doctor::finding::Mend;
use crate::doctor::finding::Severity::{self, Fine, Must, Should, Unknown};
use crate::doctor::machine::{Cgroup, IdleState, Limit, Memory, Nic, SysctlFile};
use crate::doctor::sysctl::Kind;

mod firewall;
mod hardware;
mod memory;

/// A machine that is fit for 10,000 connections on 2 shards.
fn good() -> Machine {
    let limit = |value| Some(Limit { soft: value, hard: value });
    let sysctl = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let mut machine = Machine {
        release: Some("6.12.0-1-amd64".into()),
        io_uring: Some(Ok("all that is needed".into())),
        memory: Some(Memory { total: 8 << 30, available: 6 << 30 }),
        cgroup: Some(Cgroup::default()),
        nodes: Some(1),
        clocksource: Some("tsc".into()),
        huge_pages: Some("always".into()),
        ..Machine::default()
    };
    machine.process.nofile = limit(524_288);
    machine.process.memlock = limit(8 << 20);
    machine.process.ipc_lock = Some(false);
    machine.process.filtered = Some(false);
    machine.cpus.online = vec![0, 1];
    machine.sysctls.extend(
        [
            ("fs.file-max", "75536"),
            ("fs.nr_open", "1048576"),
            ("kernel.io_uring_disabled", "0"),
            ("kernel.io_uring_group", "-1"),
            ("net.ipv4.ip_local_port_range", "32768 60999"),
            ("net.ipv4.ip_local_reserved_ports", ""),
            ("net.ipv4.tcp_mem", "7500 10000 15000"),
        ]
        .map(sysctl),
    );
    machine.sysctls.extend(ten_thousand().rules.iter().map(|rule| (rule.key.clone(), rule.value.clone())));
    machine
}

fn ten_thousand() -> Wanted {
    Wanted::new(10_000, 2, 8080, false)
}

fn hundred_thousand() -> Wanted {
    Wanted::new(100_000, 2, 8080, false)
}

fn latency() -> Wanted {
    Wanted::new(10_000, 2, 8080, true)
}

/// What one check says of a good machine after a change, for what is wanted.
fn verdict(id: &str, wanted: &Wanted, change: impl FnOnce(&mut Machine)) -> Verdict {
    let mut machine = good();
    change(&mut machine);
    all(&machine, wanted).into_iter().find(|finding| finding.id == id).expect("a check of that id").verdict
}

/// Everything that a verdict says.
fn words(verdict: &Verdict) -> String {
    let steps = verdict.mend.iter().flat_map(Mend::lines);
    let parts = [Some(verdict.found.clone()), verdict.wanted.clone(), verdict.why.clone()].into_iter().flatten();
    parts.chain(steps).collect::<Vec<_>>().join("\n")
}

type Change = fn(&mut Machine);

/// Runs a table of one check: what is wanted, what is different, how bad that is, and what is said of it.
fn table(id: &str, rows: &[(Wanted, Change, Severity, &[&str])]) {
    for (row, (wanted, change, severity, said)) in rows.iter().enumerate() {
        let verdict = verdict(id, wanted, change);
        let words = words(&verdict);
        assert_eq!(verdict.severity, *severity, "{id}, row {row}: {words}");
        for said in *said {
            assert!(words.contains(said), "{id}, row {row}: {said:?} in\n{words}");
        }
        if verdict.severity >= Should {
            assert!(verdict.wanted.is_some(), "{id}, row {row}: what is wanted?\n{words}");
            assert!(
                verdict.why.is_some() && !verdict.mend.is_empty(),
                "{id}, row {row}: why, and what mends it?\n{words}"
            );
        }
    }
}

#[test]
fn a_good_machine_is_fine() {
    for finding in all(&good(), &ten_thousand()) {
        assert_eq!(finding.verdict.severity, Fine, "{}: {}", finding.id, words(&finding.verdict));
        assert!(finding.verdict.mend.is_empty(), "{}", finding.id);
    }
}

#[test]
fn of_a_machine_of_which_nothing_is_known_nothing_is_demanded() {
    for finding in all(&Machine::default(), &latency()) {
        assert!(finding.verdict.severity <= Unknown, "{}: {}", finding.id, words(&finding.verdict));
    }
}

#[test]
fn ids_are_distinct() {
    let wanted = Wanted::new(1_000_000, 64, 8080, true);
    let mut ids: Vec<_> = all(&good(), &wanted).into_iter().map(|finding| finding.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn the_kernel_is_new_enough() {
    table(
        "kernel",
        &[
            (ten_thousand(), |m| m.release = Some("6.1.0-13-amd64".into()), Fine, &["Linux 6.1.0-13-amd64"]),
            (
                ten_thousand(),
                |m| m.release = Some("5.15.0".into()),
                Must,
                &["Linux 5.15.0", "6.1 or newer", "does not start"],
            ),
            (ten_thousand(), |m| m.release = Some("linux".into()), Unknown, &["does not tell"]),
        ],
    );
}

#[test]
fn io_uring_is_allowed() {
    const DISABLED: &str = "kernel.io_uring_disabled";
    table(
        "io_uring",
        &[
            (ten_thousand(), |m| m.io_uring = Some(Err("forbidden".into())), Must, &["forbidden", "does not start"]),
            (ten_thousand(), |m| m.io_uring = None, Unknown, &["not tried"]),
            (ten_thousand(), |m| set(m, DISABLED, "1"), Should, &["is 1", "not by every user", "groupadd -f uproar"]),
            (
                ten_thousand(),
                |m| {
                    set(m, DISABLED, "1");
                    set(m, "kernel.io_uring_group", "997");
                },
                Fine,
                &["only for group 997"],
            ),
            (
                ten_thousand(),
                |m| {
                    set(m, DISABLED, "1");
                    m.io_uring = Some(Err("forbidden".into()));
                },
                Must,
                &["sysctl -w kernel.io_uring_disabled=1 kernel.io_uring_group="],
            ),
            (ten_thousand(), |m| set(m, DISABLED, "2"), Must, &["is 2", "sysctl -w kernel.io_uring_disabled=0"]),
            // A kernel before 6.6 has no such key.
            (ten_thousand(), |m| drop(m.sysctls.remove(DISABLED)), Fine, &["can be made"]),
        ],
    );
    // A decision about everybody on the machine is not made by itself.
    let off = verdict("io_uring", &ten_thousand(), |machine| set(machine, DISABLED, "2"));
    assert!(!off.mend.iter().any(Mend::is_automatic), "{:?}", off.mend);
}

#[test]
fn filters_and_containers_are_known() {
    table(
        "seccomp",
        &[
            (ten_thousand(), |m| m.process.filtered = Some(true), Fine, &["let through"]),
            (
                ten_thousand(),
                |m| {
                    m.process.filtered = Some(true);
                    m.io_uring = Some(Err("forbidden".into()));
                },
                Must,
                &["io_uring_enter", "--security-opt seccomp="],
            ),
            (ten_thousand(), |m| m.process.filtered = None, Unknown, &["not tell"]),
        ],
    );
    table("container", &[(ten_thousand(), |m| m.container = Some("podman".into()), Fine, &["podman", "--sysctl"])]);
}

fn set(machine: &mut Machine, key: &str, value: &str) {
    machine.sysctls.insert(key.to_owned(), value.to_owned());
}

#[test]
fn descriptors_are_counted_for_each_shard() {
    fn nofile(machine: &mut Machine, soft: u64, hard: u64) {
        machine.process.nofile = Some(Limit { soft, hard });
    }
    table(
        "nofile",
        &[
            // 5,000 a shard, 500 more for the uneven spread, 64 to tell the others that it is full.
            (ten_thousand(), |m| nofile(m, 1024, 5_564), Fine, &["room for 11,000 connections on 2 shards"]),
            (ten_thousand(), |m| nofile(m, 5_563, 5_563), Should, &["5,563: room for 10,998", "5,564", "unevenly"]),
            (
                ten_thousand(),
                |m| nofile(m, 1024, 5_063),
                Must,
                &["room for 9,998", "503", "nofile 5564", "LimitNOFILE=5564"],
            ),
            (ten_thousand(), |m| nofile(m, 1024, 1024), Must, &["--shards 12"]),
            (Wanted::new(10_000, 1, 80, false), |m| nofile(m, 1024, 10_064), Fine, &["10,000 connections on 1 shard"]),
            // Each of 256 shards needs some for itself.
            (Wanted::new(100, 256, 80, false), |m| nofile(m, 1000, 1000), Should, &["1,088: 4 of each shard's own"]),
            (ten_thousand(), |m| nofile(m, u64::MAX, u64::MAX), Fine, &["unlimited"]),
            (
                Wanted::new(4_000_000, 2, 80, false),
                |m| nofile(m, u64::MAX, u64::MAX),
                Must,
                &["1,048,576 a shard", "--shards 5"],
            ),
            (ten_thousand(), |m| m.process.nofile = None, Unknown, &["cannot be read"]),
            (
                ten_thousand(),
                |m| {
                    nofile(m, 1024, 4096);
                    m.limits_file.insert("nofile".into(), 5_564);
                },
                Must,
                &["log in again"],
            ),
            (
                ten_thousand(),
                |m| {
                    nofile(m, 1024, 4096);
                    m.container = Some("docker".into());
                },
                Must,
                &["docker run --ulimit nofile=5564"],
            ),
        ],
    );
}

#[test]
fn the_sysctl_comes_before_the_limit_that_it_bounds() {
    let low = verdict("nofile", &ten_thousand(), |machine| {
        machine.process.nofile = Some(Limit { soft: 1024, hard: 4096 });
        set(machine, "fs.nr_open", "4096");
    });
    let raise = Mend::Sysctl { key: "fs.nr_open".into(), value: "5564".into(), kind: Kind::Min };
    assert_eq!(low.mend.first(), Some(&raise), "before the limit, or nobody could log in any more");
}

#[test]
fn rings_are_locked_memory_on_new_kernels() {
    fn on(machine: &mut Machine, release: &str, bytes: u64) {
        machine.release = Some(release.to_owned());
        machine.process.memlock = Some(Limit { soft: bytes, hard: u64::MAX });
    }
    let fifty = || Wanted::new(1_000_000, 50, 8080, false);
    table(
        "memlock",
        &[
            (ten_thousand(), |m| on(m, "6.1.0", 0), Fine, &["not charged", "6.14"]),
            (ten_thousand(), |m| on(m, "6.13.9", 0), Fine, &["not charged"]),
            (
                ten_thousand(),
                |m| on(m, "6.14.0", 64 << 10),
                Must,
                &["64.0 KiB", "416.0 KiB for the rings of 2 shards", "memlock 416"],
            ),
            (ten_thousand(), |m| on(m, "6.18.0", 8 << 20), Fine, &["8.0 MiB; 2 shards take"]),
            (fifty(), |m| on(m, "6.18.0", 8 << 20), Must, &["8.7 MiB", "LimitMEMLOCK=9076736", "memlock 8864"]),
            (
                fifty(),
                |m| {
                    on(m, "6.18.0", 8 << 20);
                    m.process.ipc_lock = Some(true);
                },
                Fine,
                &["exempt", "8.7 MiB"],
            ),
            (
                fifty(),
                |m| {
                    on(m, "6.18.0", 8 << 20);
                    m.limits_file.insert("memlock".into(), 8864);
                },
                Must,
                &["log in again"],
            ),
        ],
    );
}

#[test]
fn control_groups_leave_room() {
    fn pids(machine: &mut Machine, most: u64, now: u64) {
        machine.cgroup = Some(Cgroup { pids: Some((most, now)), ..Cgroup::default() });
    }
    table(
        "cgroup-pids",
        &[
            (ten_thousand(), |m| pids(m, 20, 2), Fine, &["2 of 20"]),
            (ten_thousand(), |m| pids(m, 19, 2), Must, &["TasksMax=20", "--pids-limit 20"]),
        ],
    );
    fn cpu(machine: &mut Machine, quota: u64, stopped: u64) {
        machine.cgroup = Some(Cgroup { cpu_quota: Some(quota), throttled: Some((stopped, 1000)), ..Cgroup::default() });
    }
    table(
        "cgroup-cpu",
        &[
            (ten_thousand(), |m| cpu(m, 2000, 10), Fine, &["2.000 CPUs, used up in 10 of 1000"]),
            (ten_thousand(), |m| cpu(m, 2000, 11), Should, &["11 of 1000"]),
            (ten_thousand(), |m| cpu(m, 1500, 0), Should, &["1.500 CPUs", "at least 2 CPUs", "100 ms"]),
            (latency(), |m| cpu(m, 4000, 0), Should, &["no quota", "--cpuset-cpus"]),
            (latency(), |_| {}, Fine, &["not limited"]),
        ],
    );
}

#[test]
fn the_port_is_not_taken_by_others() {
    const RANGE: &str = "net.ipv4.ip_local_port_range";
    const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";
    table(
        "ports",
        &[
            (ten_thousand(), |m| set(m, RANGE, "8081 60999"), Fine, &["8080 is not among them"]),
            (
                ten_thousand(),
                |m| set(m, RANGE, "1024 60999"),
                Should,
                &["sysctl -w net.ipv4.ip_local_reserved_ports=8080"],
            ),
            (
                ten_thousand(),
                |m| {
                    set(m, RANGE, "1024 60999");
                    set(m, RESERVED, "22,8000-8079");
                },
                Should,
                &["reserved_ports=22,8000-8079,8080"],
            ),
            (
                ten_thousand(),
                |m| {
                    set(m, RANGE, "1024 60999");
                    set(m, RESERVED, "22,8000-8080");
                },
                Fine,
                &["and reserved"],
            ),
            (ten_thousand(), |m| set(m, RANGE, "60999"), Unknown, &["cannot be read"]),
        ],
    );
}

#[test]
fn sysctls_are_compared_and_never_lowered() {
    const MEM: &str = "net.ipv4.tcp_mem";
    let rule = hundred_thousand().rules.into_iter().find(|rule| rule.key == MEM).expect("a rule of it");
    let wanted: Vec<u64> = rule.value.split(' ').map(|number| number.parse().unwrap()).collect();
    let low = format!("1 2 {}", wanted[2] + 1);
    let said = verdict(MEM, &hundred_thousand(), |machine| set(machine, MEM, &low));
    let value = format!("{} {} {}", wanted[0], wanted[1], wanted[2] + 1);
    assert_eq!(said.severity, Should);
    assert_eq!(said.mend, [Mend::Sysctl { key: MEM.into(), value, kind: Kind::AtLeastEach }]);
    assert_eq!(said.why.as_deref(), Some(&*rule.why));

    let garbage = verdict(MEM, &hundred_thousand(), |machine| set(machine, MEM, "many"));
    assert_eq!(garbage.severity, Unknown, "{}", garbage.found);
    let absent = verdict(MEM, &hundred_thousand(), |machine| drop(machine.sysctls.remove(MEM)));
    assert_eq!(absent.severity, Unknown, "{}", absent.found);
}

#[test]
fn there_are_handles_for_every_socket() {
    const KEY: &str = "fs.file-max";
    table(
        KEY,
        &[
            (ten_thousand(), |m| set(m, KEY, "9223372036854775807"), Fine, &["9223372036854775807"]),
            (ten_thousand(), |m| set(m, KEY, "75535"), Should, &["at least 75536", "sysctl -w fs.file-max=75536"]),
            (ten_thousand(), |m| set(m, KEY, "9999"), Must, &["file handle"]),
            (Wanted::new(1_000_000, 2, 80, false), |m| set(m, KEY, "999999"), Must, &["sysctl -w fs.file-max="]),
        ],
    );
}

#[test]
fn files_that_take_it_back_are_named() {
    fn file(machine: &mut Machine, path: &str, value: &str) {
        let values = BTreeMap::from([("net.core.somaxconn".to_owned(), value.to_owned())]);
        machine.sysctl_files.push(SysctlFile { path: path.to_owned(), values });
    }
    table(
        "sysctl-files",
        &[
            (ten_thousand(), |m| file(m, "/etc/sysctl.d/99-web.conf", "65535"), Fine, &["none"]),
            (
                ten_thousand(),
                |m| file(m, "/etc/sysctl.d/99-web.conf", "128"),
                Should,
                &[
                    "99-web.conf sets net.core.somaxconn = 128",
                    "sed -i '/^[ -]*net[./]core[./]somaxconn[ =]/s/^/# /' /etc/",
                ],
            ),
            (
                ten_thousand(),
                |m| file(m, "/usr/lib/sysctl.d/50-default.conf", "128"),
                Should,
                &["sysctl -w net.core.somaxconn="],
            ),
            (ten_thousand(), |m| file(m, "/etc/sysctl.conf", "128"), Should, &["sed -i"]),
            (
                ten_thousand(),
                |m| {
                    file(m, "/usr/lib/sysctl.d/50-default.conf", "128");
                    file(m, "/etc/sysctl.d/60-uproar.conf", "65535");
                },
                Fine,
                &["none"],
            ),
        ],
    );
}
