//! `idle` and `stalled`: connections that are held, and readers that do not read.

use std::time::Duration;

use uproar::Config;
use uproar::bench::report::Faults;

use crate::bad::{Fault, Wrong, serve};
use crate::common::{TestServer, config};
use crate::{Ended, bench, url};

/// `idle` connects its two publishers first, then as many as it holds for a warm-up, which come and go.
const FIRST_HELD: usize = 2 + 5;
const LATENCIES: [&str; 3] = [
    "published to delivered, of all",
    "bystanders, alone: due to delivered",
    "bystanders, while all are published to: due to delivered",
];

/// A configuration with changes.
fn with(shards: u32, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = config(shards);
    change(&mut config);
    config
}

/// How many times were taken of a distribution; of none there is nothing in the report.
fn times(ended: &Ended, name: &str) -> u64 {
    ended.report().latencies.iter().find(|latency| latency.name == name).map_or(0, |latency| latency.count)
}

fn against(fault: Fault, mode: &str, arguments: &[&str]) -> Ended {
    let address = serve(fault);
    let (topic, publish) = (url(address, "/topic/{topic}"), url(address, "/publish/{topic}"));
    let target = ["--url", &topic, "--publish-url", &publish, "--concurrency", "1", "--timeout", "1500ms"];
    bench(&[&[mode], &target[..], arguments].concat())
}

/// Enough messages for one to go wrong.
fn idle(fault: Fault) -> Ended {
    against(fault, "idle", &["--connections", "5", "--hold", "900ms", "--publishes", "9"])
}

#[test]
fn connections_are_held_pinged_and_published_to() {
    let server = TestServer::start(with(2, |config| {
        config.ping_interval = Some(Duration::from_secs(1));
        config.ping_timeout = Duration::from_millis(500);
    }));
    let (url, pid) = (url(server.addr, "/raw/{topic}"), std::process::id().to_string());
    let many = ["--connections", "61", "--threads", "3", "--hold", "1s", "--publishes", "4", "--bystanders", "3"];
    let ended = bench(&[&["idle", "--url", &url, "--server-pid", &pid], &many[..]].concat());
    assert_eq!((ended.code, ended.report().faults), (0, Faults::default()), "{ended:?}");
    assert_eq!((ended.figure("connections"), times(&ended, LATENCIES[0])), (61.0, 4 * 61));
    // At a hundred a second.
    let bystanders = times(&ended, LATENCIES[1]) + times(&ended, LATENCIES[2]);
    assert!(bystanders >= 3 * 95 && bystanders.is_multiple_of(3), "{bystanders}: {ended:?}");
    assert!(ended.figure("pings answered") >= 61.0 && ended.figure("connections opened") > 0.0);
    let (first, last) = (
        ended.figure("published to the first delivery, slowest publish"),
        ended.figure("published to the last delivery, slowest publish"),
    );
    assert!(0.0 < first && first < last, "{ended:?}");
    let curve =
        ended.report().series.iter().find(|series| series.name == "server, resident" && series.over == "connections");
    let curve = curve.expect("a curve");
    assert_eq!((curve.over.as_str(), curve.points.first()), ("connections", Some(&(0.0, 0.0))));
    server.wait_idle();
}

#[test]
fn what_goes_wrong_with_one_of_many_is_found() {
    let victim = FIRST_HELD + 3;
    let message = |wrong| idle(Fault::Message(victim, wrong));
    for (wrong, expected) in [
        (Wrong::Lost, Faults { lost: 1, ..Faults::default() }),
        (Wrong::Repeated, Faults { duplicated: 1, ..Faults::default() }),
        (Wrong::Late, Faults { reordered: 1, ..Faults::default() }),
        (Wrong::Changed, Faults { corrupted: 1, lost: 1, ..Faults::default() }),
        (Wrong::Dropped, Faults { closed: 1, ..Faults::default() }),
    ] {
        let ended = message(wrong);
        assert_eq!((ended.code, ended.report().faults), (1, expected), "{wrong:?}: {ended:?}");
    }
}

#[test]
fn a_few_refusals_are_told_and_many_are_too_many() {
    const BUSY: &str = "HTTP/1.1 503 Busy\r\n\r\n";
    let few = idle(Fault::Answer(FIRST_HELD + 1..FIRST_HELD + 3, BUSY));
    assert_eq!((few.code, few.report().faults.refused, few.figure("connections")), (1, 2, 3.0), "{few:?}");
    assert_eq!(few.report().complaint.as_deref(), Some("refused: answered 503 Busy (2)"));
    let fault = Fault::Answer(2 + 40..1_000_000, BUSY);
    let many = against(fault, "idle", &["--connections", "40", "--threads", "2"]);
    assert_eq!((many.code, many.report.is_none()), (3, true), "{many:?}");
    assert!(many.stderr.contains("too many connections refused: answered 503 Busy (11)"), "{many:?}");
}

#[test]
fn those_that_did_not_read_get_it_all_when_they_do() {
    let server = TestServer::start(with(1, |config| config.backlog = 64 << 20));
    let (url, pid) = (url(server.addr, "/raw/{topic}"), std::process::id().to_string());
    let target = ["stalled", "--url", &url, "--server-pid", &pid];
    let ended = bench(&[&target[..], &["--readers", "3", "--volume", "8MiB", "--payload", "16KiB"]].concat());
    assert_eq!((ended.code, ended.report().faults), (0, Faults::default()), "{ended:?}");
    assert_eq!(ended.figure("published to each"), 8.0);
    assert_eq!(ended.figure("missing, of all stalled ones"), 0.0);
    assert_eq!(ended.figure("stalled ones closed by the server"), 0.0);
    assert!(
        ended.figure("resident growth of the server, at its peak") >= ended.figure("resident growth of the server")
    );
    server.wait_idle();
}

#[test]
fn those_that_did_not_read_may_be_closed() {
    let server = TestServer::start(with(1, |config| config.send_buffer = Some(4096)));
    let url = url(server.addr, "/raw/{topic}");
    let ended = bench(&["stalled", "--url", &url, "--readers", "3", "--volume", "1MiB"]);
    // That is not a fault: it is what is asked for.
    assert_eq!((ended.code, ended.report().faults), (0, Faults::default()), "{ended:?}");
    assert_eq!(ended.figure("stalled ones closed by the server"), 3.0, "{ended:?}");
    assert!(ended.figure("missing, of all stalled ones") > (1 << 20) as f64, "{ended:?}");
    server.wait_idle();
}

#[test]
fn only_the_one_that_reads_is_judged() {
    let stalled = |victim, wrong| {
        let arguments = ["--readers", "2", "--volume", "16KiB", "--payload", "1KiB"];
        against(Fault::Message(victim, wrong), "stalled", &arguments)
    };
    // The first is the one that reads, the second publishes.
    let lost = stalled(2, Wrong::Lost);
    assert_eq!((lost.code, lost.figure("missing, of all stalled ones")), (0, 1024.0), "{lost:?}");
    let dropped = stalled(2, Wrong::Dropped);
    assert_eq!((dropped.code, dropped.figure("stalled ones closed by the server")), (0, 1.0), "{dropped:?}");
    let healthy = stalled(0, Wrong::Lost);
    assert_eq!((healthy.code, healthy.report().faults.lost), (1, 1), "{healthy:?}");
    assert!(healthy.report().complaint.as_deref().unwrap_or_default().contains("did not come in time"), "{healthy:?}");
}

/// The seventh message is lost. One is asked for, so it is lost in the warm-up, if there is one.
#[test]
fn some_messages_warm_the_server_up_and_do_not_count() {
    let one = |warm_up| {
        let arguments = ["--readers", "2", "--volume", "1KiB", "--payload", "1KiB", "--warm-up", warm_up];
        against(Fault::Message(0, Wrong::Lost), "stalled", &arguments)
    };
    let (cold, warm) = (one("0ms"), one("5s"));
    assert_eq!((cold.code, cold.figure("published to each")), (0, 1.0 / 1024.0), "{cold:?}");
    assert_eq!((warm.code, warm.figure("published to each")), (1, 0.0), "{warm:?}");
}

#[test]
fn what_cannot_be_held_is_bad_usage() {
    for arguments in [
        &["idle", "--threads", "3", "--connections", "2"][..],
        &["idle", "--bystander-rate", "0"],
        &["idle", "--bystander-rate", "nan"],
        &["idle", "--payload", "31"],
        &["idle", "--connections", "4294967295", "--bystanders", "4294967295"],
        &["stalled", "--readers", "0"],
        &["stalled", "--threads", "2"],
        &["stalled", "--payload", "31"],
        &["stalled", "--readers", "4294967295"],
    ] {
        assert_eq!(bench(arguments).code, 2, "{arguments:?}");
    }
}
