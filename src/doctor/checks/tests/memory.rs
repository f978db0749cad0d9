//! The memory of the machine, and what the kernel may take of it.

use super::*;

#[test]
fn memory_is_enough_for_the_connections() {
    // 10,000 × 4,215 B, two shards of 3 MiB and 32 MiB: 78.2 MiB; 117.3 MiB with a page for each.
    fn available(machine: &mut Machine, mib: u64) {
        machine.memory = Some(Memory { total: 1 << 30, available: mib << 20 });
    }
    table(
        "memory",
        &[
            (ten_thousand(), |m| available(m, 118), Fine, &["78.2 MiB for 10,000 idle connections, 117.3 MiB"]),
            (ten_thousand(), |m| available(m, 117), Should, &["117.0 MiB available of 1.0 GiB", "--max-connections"]),
            (ten_thousand(), |m| available(m, 78), Must, &["--max-memory"]),
            (ten_thousand(), |m| m.memory = None, Unknown, &["meminfo"]),
        ],
    );
    fn limited(machine: &mut Machine, mib: u64) {
        machine.cgroup = Some(Cgroup { memory_max: Some(mib << 20), ..Cgroup::default() });
    }
    table(
        "cgroup-memory",
        &[
            (ten_thousand(), |m| limited(m, 118), Fine, &["limited to 118.0 MiB"]),
            (ten_thousand(), |m| limited(m, 117), Should, &["MemoryMax="]),
            (ten_thousand(), |m| limited(m, 78), Must, &["docker run --memory"]),
            (ten_thousand(), |m| m.cgroup = None, Unknown, &["cannot be read"]),
        ],
    );
    table("thp", &[(ten_thousand(), |m| m.huge_pages = None, Fine, &["has none"])]);
}

/// What is said of the marks `low pressure high` on a machine with that much memory.
fn queues(wanted: &Wanted, marks: &str, gib: u64) -> Verdict {
    verdict("net.ipv4.tcp_mem", wanted, |machine| {
        set(machine, "net.ipv4.tcp_mem", marks);
        machine.memory = Some(Memory { total: gib << 30, available: gib << 30 });
    })
}

/// What it is to be set to; empty if nothing mends it by itself.
fn set_to(verdict: &Verdict) -> &str {
    let mut values = verdict.mend.iter().filter_map(|step| match step {
        Mend::Sysctl { value, .. } => Some(&**value),
        _ => None,
    });
    values.next_back().unwrap_or_default()
}

#[test]
fn queues_take_a_page_of_every_connection() {
    let fine = queues(&ten_thousand(), "7500 10000 15000", 8);
    assert_eq!((fine.severity, set_to(&fine)), (Fine, ""));
    let low = queues(&ten_thousand(), "7500 9999 15001", 8);
    assert_eq!((low.severity, set_to(&low)), (Should, "7500 10000 15001"));
    // Beyond the largest profile: what the connections need.
    let low = queues(&Wanted::new(2_000_000, 4, 8080, false), "750000 1000000 1500000", 64);
    assert_eq!((low.severity, set_to(&low)), (Should, "1500000 2000000 3000000"));
}

#[test]
fn queues_take_no_more_than_the_machine_has() {
    // 8 GiB, of which 10,000 idle connections take 78 MiB: half of the rest is 1,038,566 pages.
    let fine = queues(&ten_thousand(), "500000 700000 1038566", 8);
    assert_eq!(fine.severity, Fine, "{}", words(&fine));
    let high = queues(&ten_thousand(), "500000 700000 1038567", 8);
    assert_eq!((high.severity, set_to(&high)), (Should, "500000 692376 1038566"), "{}", words(&high));
    let all = queues(&ten_thousand(), "9000000 9000000 9000000", 8);
    assert_eq!((all.severity, set_to(&all)), (Should, "519283 692376 1038566"));
    for part in ["queues of up to 34.3 GiB", "1038566 (4.0 GiB) at most", "of 8.0 GiB", "before TCP says no"] {
        assert!(words(&all).contains(part), "{part} in\n{}", words(&all));
    }
    // One mark too high, and the others too low.
    let both = queues(&ten_thousand(), "1 2 9000000", 8);
    assert_eq!(set_to(&both), "7500 10000 1038566");
}

#[test]
fn what_is_mended_is_fine() {
    for gib in [1, 2, 8, 64] {
        for connections in [1, 10_000, 100_000, 1_000_000] {
            let wanted = Wanted::new(connections, 2, 8080, false);
            for marks in ["0 0 0", "1 2 3", "9000000 1 1", "90000000 90000000 90000000"] {
                let before = queues(&wanted, marks, gib);
                let after = queues(&wanted, set_to(&before), gib);
                let fits = connections * 3 / 2 <= wanted.queue_pages(gib << 30);
                if fits && before.severity != Fine {
                    assert_eq!(after.severity, Fine, "{connections} on {gib} GiB, {marks}: {}", words(&after));
                } else if !fits {
                    // It takes a larger machine, and is not raised beyond what this one has.
                    assert!(words(&before).contains("GiB") && before.severity == Should, "{}", words(&before));
                }
            }
        }
    }
}

#[test]
fn a_machine_that_is_too_small_is_not_told_to_promise_more() {
    let million = Wanted::new(1_000_000, 2, 8080, false);
    let small = queues(&million, "90000 120000 180000", 8);
    assert_eq!((small.severity, set_to(&small)), (Should, ""), "{}", words(&small));
    assert!(words(&small).contains("more memory, or fewer connections"), "{}", words(&small));
    let large = queues(&million, "90000 120000 180000", 16);
    assert_eq!(set_to(&large), "750000 1000000 1500000");
    // What the kernel takes by itself is never too much.
    let default = queues(&million, "24576 32768 49152", 2);
    assert!(!words(&default).contains("at most as the last"), "{}", words(&default));
}
