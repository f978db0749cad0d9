//! Reading machines, whatever they say; the files of `tuning/`; how findings are shown.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::finding::{Mend, Verdict, bytes, grouped};
use super::machine::Limit;
use super::sysctl::{BASES, Kind, LATENCY, parse_assignments, parse_rules};
use super::*;

fn tree<T: AsRef<[u8]>>(files: &[(&str, T)]) -> (TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new(dir.path().to_owned());
    for (path, text) in files {
        fs::create_dir_all(root.path(path).parent().unwrap()).unwrap();
        fs::write(root.path(path), text).unwrap();
    }
    (dir, root)
}

fn read(files: &[(&str, &str)]) -> Machine {
    let (_dir, root) = tree(files);
    Machine::read(&root, &["net.ipv4.tcp_mem", "net.core.somaxconn"], "self")
}

#[test]
fn a_process_and_its_machine_are_read() {
    let machine = read(&[
        ("/proc/sys/kernel/osrelease", "6.1.0-13-amd64\n"),
        ("/proc/sys/net/ipv4/tcp_mem", "100\t200\t300\n"),
        (
            "/proc/self/limits",
            "Limit       Soft Limit  Hard Limit  Units\nMax open files   1024     524288   files \nMax locked memory  8388608  unlimited  bytes\n",
        ),
        ("/proc/self/status", "Name:\tx\nCapEff:\t0000000000004000\nSeccomp:\t2\n"),
        ("/proc/meminfo", "MemTotal:       24602812 kB\nMemAvailable:   23000000 kB\n"),
        ("/proc/77/comm", "irqbalance\n"),
        ("/sys/devices/system/cpu/online", "0-1,4\n"),
        ("/sys/devices/system/node/online", "0-1\n"),
        ("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
        ("/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n"),
        ("/sys/devices/system/cpu/cpu4/cpufreq/scaling_governor", "performance\n"),
        ("/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", "intel_pstate\n"),
        ("/sys/devices/system/cpu/cpu4/cpuidle/state1/latency", "2\n"),
        ("/sys/devices/system/cpu/cpu4/cpuidle/state1/name", "C1\n"),
        ("/sys/devices/system/cpu/cpu4/cpuidle/state2/latency", "133\n"),
        ("/sys/devices/system/cpu/cpu4/cpuidle/state2/name", "C6\n"),
        ("/sys/devices/system/cpu/cpu4/cpuidle/state2/disable", "1\n"),
        ("/sys/devices/system/cpu/vulnerabilities/meltdown", "Not affected\n"),
        ("/sys/devices/system/cpu/vulnerabilities/spectre_v2", "Mitigation: Retpolines\n"),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
        (
            "/etc/security/limits.d/60-uproar.conf",
            "# x\n* hard nofile 5564\nroot hard nofile 5564\n* - memlock nonsense\n",
        ),
        ("/run/.containerenv", ""),
    ]);
    assert_eq!(machine.kernel(), Some((6, 1)));
    assert_eq!(machine.sysctls.into_iter().collect::<Vec<_>>(), [("net.ipv4.tcp_mem".into(), "100 200 300".into())]);
    assert_eq!(machine.process.nofile, Some(Limit { soft: 1024, hard: 524_288 }));
    assert_eq!(machine.process.memlock, Some(Limit { soft: 8 << 20, hard: u64::MAX }));
    assert_eq!((machine.process.ipc_lock, machine.process.filtered), (Some(true), Some(true)));
    assert_eq!(machine.memory.map(|memory| memory.total), Some(24_602_812 << 10));
    assert_eq!((machine.irqbalance, machine.nodes, machine.container.as_deref()), (true, Some(2), Some("podman")));
    assert_eq!(machine.cpus.online, [0, 1, 4]);
    assert_eq!(
        machine.cpus.governors.into_iter().collect::<Vec<_>>(),
        [("performance".into(), 1), ("powersave".into(), 2)]
    );
    assert_eq!(machine.cpus.deepest_idle.map(|state| state.name).as_deref(), Some("C1"), "the deeper one is disabled");
    assert_eq!(machine.vulnerabilities.into_keys().collect::<Vec<_>>(), ["spectre_v2"]);
    assert_eq!(machine.huge_pages.as_deref(), Some("madvise"));
    assert_eq!(machine.limits_file.into_iter().collect::<Vec<_>>(), [("nofile".into(), 5564)]);
}

#[test]
fn a_process_has_the_memory_of_its_machine_or_of_its_group() {
    let machine = ("/proc/meminfo", "MemTotal: 100 kB\nMemAvailable: 5 kB\n");
    let group = [("/proc/self/cgroup", "0::/x\n"), ("/sys/fs/cgroup/x/memory.max", "1000\n")];
    let wide = [("/proc/self/cgroup", "0::/x\n"), ("/sys/fs/cgroup/x/memory.max", "1000000\n")];
    for (files, bytes) in [
        (vec![machine], Some(102_400)),
        ([&[machine], &group[..]].concat(), Some(1000)),
        ([&[machine], &wide[..]].concat(), Some(102_400)),
        (group.to_vec(), Some(1000)),
        (vec![], None),
    ] {
        let (_dir, root) = tree(&files);
        assert_eq!(machine::memory_of(&root, "self"), bytes, "{files:?}");
    }
}

#[test]
fn the_tightest_limit_of_a_group_counts_in_both_versions() {
    let second = read(&[
        ("/proc/self/cgroup", "0::/system.slice/uproar.service\n"),
        ("/sys/fs/cgroup/system.slice/memory.max", "1000000\n"),
        ("/sys/fs/cgroup/system.slice/uproar.service/memory.max", "max\n"),
        ("/sys/fs/cgroup/system.slice/uproar.service/cpu.max", "max 100000\n"),
        ("/sys/fs/cgroup/system.slice/cpu.max", "150000 100000\n"),
        ("/sys/fs/cgroup/system.slice/uproar.service/cpu.stat", "usage_usec 5\nnr_periods 100\nnr_throttled 7\n"),
        ("/sys/fs/cgroup/system.slice/uproar.service/pids.max", "100\n"),
        ("/sys/fs/cgroup/system.slice/uproar.service/pids.current", "3\n"),
    ]);
    let cgroup = second.cgroup.expect("a group");
    assert_eq!((cgroup.memory_max, cgroup.cpu_quota), (Some(1_000_000), Some(1500)));
    assert_eq!((cgroup.throttled, cgroup.pids), (Some((7, 100)), Some((100, 3))));

    let first = read(&[
        ("/proc/self/cgroup", "9:name=systemd:/\n4:memory:/docker/0123\n8:pids:/\n1:cpu,cpuacct:/docker/0123\n0::/\n"),
        // The path is the host's; what is mounted is the container's own.
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
        ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ("/sys/fs/cgroup/unified/cgroup.procs", "1\n"),
        ("/sys/fs/cgroup/pids/pids.max", "max\n"),
        ("/sys/fs/cgroup/pids/pids.current", "3\n"),
    ]);
    let cgroup = first.cgroup.expect("a group");
    assert_eq!((cgroup.memory_max, cgroup.cpu_quota, cgroup.pids), (Some(512 << 20), None, None));
    let unlimited = read(&[
        ("/proc/self/cgroup", "4:memory:/\n"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
    ]);
    assert_eq!(unlimited.cgroup.expect("a group").memory_max, None);
}

#[test]
fn cards_are_devices_that_are_up() {
    let (_dir, root) = tree(&[
        ("/sys/class/net/lo/operstate", "unknown"),
        ("/sys/class/net/eth1/operstate", "down"),
        ("/sys/class/net/eth1/device/vendor", "x"),
        ("/sys/class/net/eth0/operstate", "up"),
        ("/sys/class/net/eth0/gro_flush_timeout", "20000"),
        ("/sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,00000000"),
        ("/sys/class/net/eth0/queues/rx-1/rps_cpus", "00000000,00000003"),
        ("/sys/class/net/eth0/queues/tx-0/xps_cpus", "1"),
        ("/sys/devices/pci0/msi_irqs/40", "msix"),
        ("/sys/devices/pci0/msi_irqs/41", "msix"),
        ("/sys/devices/pci0/virtio3/numa_node", "-1"),
        ("/proc/irq/40/effective_affinity_list", "0"),
        ("/proc/irq/41/smp_affinity_list", "1-2"),
    ]);
    // A virtio card's interrupts are those of the PCI device above it.
    std::os::unix::fs::symlink("../../../devices/pci0/virtio3", root.path("/sys/class/net/eth0/device")).unwrap();
    let machine = Machine::read(&root, &[], "self");
    let [nic] = &machine.nics[..] else { panic!("{:?}", machine.nics) };
    assert_eq!((nic.name.as_str(), nic.rx_queues, nic.rps, nic.node), ("eth0", 2, true, None));
    assert_eq!(nic.irq_cpus, BTreeSet::from([0, 1, 2]));
    assert_eq!(nic.gro_flush_timeout, Some(20_000));
}

#[test]
fn files_of_sysctls_are_read_in_the_order_of_their_names() {
    let machine = read(&[
        ("/usr/lib/sysctl.d/50-default.conf", "net.core.somaxconn = 1"),
        ("/usr/lib/sysctl.d/99-hidden.conf", "net.core.somaxconn = 2"),
        ("/etc/sysctl.d/99-hidden.conf", "# nothing"),
        ("/etc/sysctl.d/10-first.conf", "-net/core/somaxconn=3\n;no.key=1\nnet.*.x = 1\nnonsense\n = 4\n"),
        ("/etc/sysctl.d/readme", "net.core.somaxconn = 5"),
        ("/etc/sysctl.conf", "net.ipv4.tcp_mem = 1   2\t3\n"),
    ]);
    let files: Vec<_> = machine.sysctl_files.iter().map(|file| (file.path.as_str(), file.values.len())).collect();
    let expected = [
        ("/etc/sysctl.d/10-first.conf", 1),
        ("/usr/lib/sysctl.d/50-default.conf", 1),
        ("/etc/sysctl.d/99-hidden.conf", 0),
        ("/etc/sysctl.conf", 1),
    ];
    assert_eq!(files, expected);
    assert_eq!(machine.sysctl_files[0].values["net.core.somaxconn"], "3");
    assert_eq!(machine.sysctl_files[3].values["net.ipv4.tcp_mem"], "1 2 3");
}

/// What the checks read, as a machine has it.
const READ: [&str; 28] = [
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/io_uring_disabled",
    "/proc/sys/net/ipv4/tcp_mem",
    "/proc/sys/net/netfilter/nf_conntrack_buckets",
    "/proc/sys/net/netfilter/nf_conntrack_max",
    "/proc/sys/net/ipv4/ip_local_port_range",
    "/proc/sys/net/ipv4/ip_local_reserved_ports",
    "/proc/sys/net/netfilter/nf_conntrack_max",
    "/proc/self/limits",
    "/proc/self/status",
    "/proc/self/cgroup",
    "/proc/meminfo",
    "/proc/irq/1/smp_affinity_list",
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/cpu.max",
    "/sys/fs/cgroup/cpu.stat",
    "/sys/fs/cgroup/pids.max",
    "/sys/fs/cgroup/pids.current",
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "/sys/devices/system/cpu/cpu0/cpuidle/state0/latency",
    "/sys/devices/system/cpu/vulnerabilities/x",
    "/sys/devices/system/node/online",
    "/sys/class/net/e/operstate",
    "/sys/class/net/e/device/msi_irqs/1",
    "/sys/class/net/e/queues/rx-0/rps_cpus",
    "/etc/sysctl.d/99-x.conf",
    "/etc/security/limits.d/60-uproar.conf",
];

/// Near to what is expected, and far from it.
fn nonsense() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        "(max|up|0::/|[0-9]{1,20}|-| |\\.|,|Max open files|Seccomp:|MemTotal: |kB|\n){0,8}"
            .prop_map(String::into_bytes),
        "[0-9]{1,25}([-, ][0-9]{1,25}){0,3}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the files say, there is something to be said, in both forms, and a plan.
    #[test]
    fn nonsense_is_survived(texts in proptest::collection::vec(nonsense(), READ.len())) {
        let files: Vec<_> = READ.into_iter().zip(&texts).collect();
        let (_dir, root) = tree(&files);
        for wanted in [Wanted::new(1, 1, 0, false), Wanted::new(most(), 256, u16::MAX, true)] {
            let machine = Machine::read(&root, &checks::sysctls(&wanted), "self");
            let findings = checks::all(&machine, &wanted);
            let report = Report { machine: &machine, wanted: &wanted, findings: &findings };
            prop_assert!(findings.len() > checks::CHECKS.len());
            prop_assert!(report.text(true).contains("cannot be told"));
            let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
            prop_assert_eq!(json["findings"].as_array().map(Vec::len), Some(findings.len()));
            Plan::mending(&root, &findings).expect("no file of ours is there");
        }
    }
}

#[test]
fn the_files_of_sysctls_say_of_each_key_why_and_how_it_is_compared() {
    for text in BASES.iter().map(|(_, text)| *text).chain([LATENCY]) {
        let rules = parse_rules(text);
        let all: BTreeSet<_> = parse_assignments(text).into_keys().collect();
        let explained: BTreeSet<_> = rules.iter().map(|rule| rule.key.clone()).collect();
        assert_eq!(explained, all, "a reason and `# min`, `# max`, `# exact` or `# at-least-each` above each key");
        assert_eq!(rules.len(), explained.len(), "a key stands there once");
        for rule in rules {
            assert!(rule.why.ends_with('.') && rule.why.len() > 20, "{}: {}", rule.key, rule.why);
            assert_eq!(rule.kind.satisfied(&rule.value, &rule.value), Some(true), "{}: {}", rule.key, rule.value);
        }
    }
}

#[test]
fn more_connections_never_want_less() {
    for pair in BASES.windows(2) {
        let [(fewer, small), (more, large)] = pair else { unreachable!("windows of two") };
        assert!(fewer < more);
        let large = parse_rules(large);
        for rule in parse_rules(small) {
            let other = large.iter().find(|other| other.key == rule.key).unwrap_or_else(|| panic!("{}", rule.key));
            assert_eq!(other.kind, rule.kind, "{}", rule.key);
            assert_eq!(rule.kind.satisfied(&other.value, &rule.value), Some(true), "{}: {}", rule.key, other.value);
        }
    }
}

#[test]
fn the_file_that_fits_is_chosen_and_latency_comes_on_top() {
    let value = |connections, latency: bool, key: &str| {
        let rules = sysctl::wanted(connections, latency);
        rules.into_iter().find(|rule| rule.key == key).map(|rule| rule.value)
    };
    for (connections, base) in [(1, 0), (10_000, 0), (10_001, 1), (100_000, 1), (1_000_000, 2), (5_000_000, 2)] {
        let rules = parse_rules(BASES[base].1);
        assert_eq!(sysctl::wanted(connections, false), rules, "{connections}");
    }
    for rule in parse_rules(LATENCY) {
        assert_eq!(value(1_000_000, true, &rule.key).as_ref(), Some(&rule.value));
    }
    let all = sysctl::wanted(1_000_000, true);
    assert_eq!(all.iter().map(|rule| &rule.key).collect::<BTreeSet<_>>().len(), all.len());
}

#[test]
fn values_are_compared_as_their_kind_says() {
    for (kind, current, wanted, satisfied, merged) in [
        (Kind::Min, "4096", "4096", Some(true), "4096"),
        (Kind::Min, "128", "4096", Some(false), "4096"),
        (Kind::Min, "9223372036854775807", "75536", Some(true), "9223372036854775807"),
        (Kind::Min, "lots", "4096", None, "4096"),
        (Kind::Min, "1 2", "4096", None, "4096"),
        (Kind::Exact, "cubic", "bbr", Some(false), "bbr"),
        (Kind::Exact, "2", "1", Some(false), "1"),
        (Kind::AtLeastEach, "5 1 9", "2 2 2", Some(false), "5 2 9"),
        (Kind::AtLeastEach, "5 2 9", "2 2 2", Some(true), "5 2 9"),
        (Kind::AtLeastEach, "", "2 2 2", None, "2 2 2"),
    ] {
        assert_eq!(kind.satisfied(current, wanted), satisfied, "{kind:?} {current} {wanted}");
        assert_eq!(kind.merge(current, wanted), merged, "{kind:?} {current} {wanted}");
    }
}

/// The guide explains everything that is looked at, where the findings say that it does.
#[test]
fn every_check_is_in_the_guide() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wanted = Wanted::new(1_000_000, 2, 8080, true);
    let base = Wanted::new(1, 1, 8080, false);
    for wanted in [wanted, base] {
        for finding in checks::all(&Machine::default(), &wanted) {
            let (path, anchor) = finding.see.split_once('#').expect("a path and an anchor");
            let text = fs::read_to_string(package.join(path))
                .unwrap_or_else(|error| panic!("{}: {path}: {error}", finding.id));
            assert!(text.contains(&format!("`{}`", finding.id)), "{path} does not name `{}`", finding.id);
            assert!(anchors(&text).contains(anchor), "{path} has no heading #{anchor}: {:?}", anchors(&text));
        }
    }
}

/// The anchors of a Markdown text: those of its headings, and those that it sets itself.
fn anchors(text: &str) -> BTreeSet<String> {
    let slug = |heading: &str| {
        let kept = heading.trim().to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || ['-', '_'].contains(c)).collect::<String>()
    };
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| slug(line.trim_start_matches('#')));
    let set = text.split("<a id=\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()));
    headings.chain(set).collect()
}

#[test]
fn findings_are_shown_the_worst_last() {
    let wanted = Wanted::new(10_000, 2, 8080, false);
    let machine = Machine { release: Some("6.1.0".into()), ..Machine::default() };
    let finding = |id: &str, verdict| Finding { id: id.into(), see: format!("tuning/x.md#{id}"), verdict };
    let findings = [
        finding("bad", Verdict::must("1").wanted("2").why("It breaks.").command("mend it")),
        finding("net.good", Verdict::fine("3")),
        finding("odd", Verdict::unknown("who knows")),
        finding("slow", Verdict::should("4").why("Slow.").sysctl(Kind::Min, "a.b", "5 6").advice("or wait")),
    ];
    let report = Report { machine: &machine, wanted: &wanted, findings: &findings };
    let expected = "\
Linux 6.1.0, CPUs: 0, memory: unknown; for 10,000 connections, shards: 2

fine    net.good  3
?       odd       who knows
should  slow      4
                  why     Slow.
                  mend    sysctl -w a.b=\"5 6\"
                  mend    or wait
                  see     tuning/x.md#slow
MUST    bad       1
                  wanted  2
                  why     It breaks.
                  mend    mend it
                  see     tuning/x.md#bad

1 must be changed, 1 should be; 1 are fine, 1 cannot be told.
--apply changes 1 of them by itself, as root, and shows first how.
What it sets with `sysctl -w` it also writes into /etc/sysctl.d/60-uproar.conf, for later starts.
";
    assert_eq!(report.text(false), expected);
    assert_eq!(report.severity(), Severity::Must);
    assert!(report.text(true).contains("\x1b[1;31mMUST  \x1b[0m  bad"));
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(json["severity"], "must");
    assert_eq!(json["findings"][3]["mend"][0]["sysctl"], serde_json::json!({"key": "a.b", "value": "5 6"}));
    assert_eq!(json["findings"][0]["mend"], serde_json::json!([{"command": "mend it"}]));
    assert_eq!(json["findings"][1].as_object().map(|finding| finding.len()), Some(4), "{}", json["findings"][1]);
}

#[test]
fn numbers_are_for_people() {
    for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_048_576, "1,048,576")] {
        assert_eq!(grouped(number), text);
    }
    for (number, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (24 << 30, "24.0 GiB")] {
        assert_eq!(bytes(number), text);
    }
    let limit = Mend::Limit { name: finding::LimitName::Memlock, value: 1_048_577 };
    let text = limit.lines().join("\n");
    assert!(text.contains("* - memlock 1025\\n") && text.contains("LimitMEMLOCK=1048577\\n"), "{text}");
}
