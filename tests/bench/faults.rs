//! Against a server that does one thing wrong. Each has to be found, and called by its name.

use std::net::TcpListener;
use std::time::Duration;

use uproar::bench::report::Faults;

use crate::bad::{Fault, Wrong, serve};
use crate::{Ended, bench, url};

/// Subscribers, in the order in which they connect, and who of them is read in full and who is counted.
const SUBSCRIBERS: &str = "40";
const READ: usize = 39;
const COUNTED: usize = 0;

/// Runs a mode against a fault.
fn against(fault: Fault, mode: &str, arguments: &[&str]) -> Ended {
    let address = serve(fault);
    let (topic, publish, echo) =
        (url(address, "/topic/{topic}"), url(address, "/publish/{topic}"), url(address, "/echo/{topic}"));
    let target = if mode == "echo" { vec!["--url", &echo] } else { vec!["--url", &topic, "--publish-url", &publish] };
    let patience = ["--concurrency", "1", "--timeout", "1500ms"];
    bench(&[&[mode], &target[..], &patience, arguments].concat())
}

fn fanout(victim: usize, wrong: Wrong) -> Ended {
    let few = ["--subscribers", SUBSCRIBERS, "--burst", "4", "--time", "150ms"];
    against(Fault::Message(victim, wrong), "fanout", &few)
}

/// The run is over with code 1, and there are such faults.
#[track_caller]
fn found(ended: &Ended, what: impl Fn(&Faults) -> u64) {
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(what(&ended.report().faults) > 0, "{ended:?}");
}

/// Whose complaint says this.
#[track_caller]
fn complains(ended: &Ended, words: &str) {
    assert_eq!(ended.code, 1, "{ended:?}");
    let complaint = ended.report().complaint.as_deref().unwrap_or_default();
    assert!(complaint.contains(words), "{words}: {ended:?}");
}

/// There is no result, and this is why.
#[track_caller]
fn no_result(ended: &Ended, words: &str) {
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.report.is_none() && ended.stderr.contains(words), "{words}: {ended:?}");
}

#[test]
fn a_good_one_of_this_kind_passes() {
    for (mode, arguments) in [
        ("fanout", &["--subscribers", SUBSCRIBERS, "--burst", "4", "--time", "150ms"][..]),
        ("rate", &["--subscribers", SUBSCRIBERS, "--rate", "100", "--time", "150ms"]),
        ("echo", &["--connections", "3", "--time", "150ms"]),
        ("churn", &["--close", "frame", "--time", "150ms"]),
        ("storm", &["--connections", "10", "--rounds", "1"]),
    ] {
        let ended = against(Fault::None, mode, arguments);
        assert!(ended.code == 0 && ended.report().faults.none(), "{ended:?}");
    }
}

#[test]
fn wrong_messages_are_found_where_messages_are_read() {
    let lost = fanout(READ, Wrong::Lost);
    found(&lost, |faults| faults.lost);
    complains(&lost, "did not get everything");
    found(&fanout(READ, Wrong::Repeated), |faults| faults.duplicated);
    found(&fanout(READ, Wrong::Late), |faults| faults.reordered);
    found(&fanout(READ, Wrong::Changed), |faults| faults.corrupted);
    found(&fanout(READ, Wrong::Cut), |faults| faults.corrupted);
}

#[test]
fn missing_and_repeated_messages_are_found_where_bytes_are_counted() {
    let lost = fanout(COUNTED, Wrong::Lost);
    assert_eq!((lost.code, lost.report().faults.lost, lost.report().faults.duplicated), (1, 1, 0), "{lost:?}");
    complains(&lost, "did not get everything");
    let repeated = fanout(COUNTED, Wrong::Repeated);
    let faults = repeated.report().faults;
    assert_eq!((repeated.code, faults.duplicated, faults.lost), (1, 1, 0), "{repeated:?}");
    complains(&fanout(COUNTED, Wrong::Cut), "did not get everything");
}

/// Nobody else is accused of what one that is read has lost, or got twice.
#[test]
fn only_those_are_accused_who_did_it() {
    for (wrong, expected) in [
        (Wrong::Lost, Faults { lost: 1, ..Faults::default() }),
        (Wrong::Repeated, Faults { duplicated: 1, ..Faults::default() }),
    ] {
        let ended = fanout(READ, wrong);
        assert_eq!(ended.report().faults, expected, "{wrong:?}: {ended:?}");
    }
}

#[test]
fn connections_that_end_are_found() {
    let only_closed = Faults { closed: 1, ..Faults::default() };
    for victim in [READ, COUNTED] {
        for (wrong, words) in [(Wrong::Dropped, "a subscriber: "), (Wrong::Closed, "")] {
            let ended = fanout(victim, wrong);
            assert_eq!(ended.report().faults, only_closed, "a close frame is no message: {ended:?}");
            complains(&ended, words);
        }
    }
    complains(&fanout(READ, Wrong::Closed), "closed with code 1011");
    let broken = fanout(READ, Wrong::NoFrame);
    found(&broken, |faults| faults.closed);
    complains(&broken, "broke the protocol");
}

#[test]
fn an_open_loop_finds_them_too() {
    let rate = |victim, wrong| {
        let arguments = ["--subscribers", SUBSCRIBERS, "--rate", "100", "--time", "500ms", "--samples", "2"];
        against(Fault::Message(victim, wrong), "rate", &arguments)
    };
    for victim in [READ, COUNTED] {
        found(&rate(victim, Wrong::Lost), |faults| faults.lost);
        found(&rate(victim, Wrong::Repeated), |faults| faults.duplicated);
        found(&rate(victim, Wrong::Dropped), |faults| faults.closed);
    }
    found(&rate(READ, Wrong::Late), |faults| faults.reordered);
    found(&rate(READ, Wrong::Changed), |faults| faults.corrupted);
}

/// Twenty messages warm up, and one shows that all are there.
#[test]
fn a_pause_is_charged_with_all_that_was_due_meanwhile() {
    let pause = Fault::Pause(50, Duration::from_millis(300));
    let ended = against(pause, "rate", &["--subscribers", "3", "--rate", "100", "--time", "1s"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let latency =
        ended.report().latencies.iter().find(|latency| latency.name == "due to delivered").expect("it is timed");
    assert_eq!(latency.count, 300);
    // Of those that were due within the pause, the first waited for all of it, and four of five for 60 ms at least.
    assert!(latency.max >= 295_000_000 && latency.quantile(0.8) >= 40_000_000, "{latency:?}");
}

#[test]
fn a_server_that_does_not_take_what_is_due_is_complained_of() {
    let arguments = ["--subscribers", "2", "--rate", "500", "--payload", "60000", "--time", "20s"];
    complains(&against(Fault::DeafAfter(1), "rate", &arguments), "more slowly than they are due");
}

#[test]
fn wrong_echoes_are_found() {
    let echo = |wrong| against(Fault::Message(1, wrong), "echo", &["--connections", "3", "--time", "100ms"]);
    let lost = echo(Wrong::Lost);
    found(&lost, |faults| faults.lost);
    complains(&lost, "an echo did not come in time");
    found(&echo(Wrong::Repeated), |faults| faults.duplicated);
    found(&echo(Wrong::Changed), |faults| faults.corrupted);
    found(&echo(Wrong::Dropped), |faults| faults.closed);
}

#[test]
fn without_connections_there_is_no_result() {
    const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    const WRONG_KEY: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n";
    for mode in ["fanout", "rate", "echo", "churn", "storm"] {
        no_result(&against(Fault::Answer(0..1, UNAVAILABLE), mode, &[]), "answered 503 Service Unavailable");
    }
    no_result(&against(Fault::Answer(0..1, WRONG_KEY), "fanout", &[]), "Sec-WebSocket-Accept is wrong");
    no_result(&against(Fault::Answer(0..1, "no HTTP\r\n\r\n"), "fanout", &[]), "the answer is no HTTP");
    no_result(&against(Fault::Answer(0..1, ""), "fanout", &[]), "no answer in time");
    // The second thread's fails: the first must not go on alone.
    let two = ["--subscribers", "2", "--topics", "2", "--threads", "2", "--time", "60s"];
    no_result(&against(Fault::Answer(1..2, UNAVAILABLE), "fanout", &two), "answered 503");
}

#[test]
fn a_port_where_nobody_listens_is_no_result() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let ended = bench(&["fanout", "--url", &url(address, "/{topic}")]);
    no_result(&ended, &format!("{address}: Connection refused"));
}

#[test]
fn refusals_are_counted_by_reason() {
    const BUSY: &str = "HTTP/1.1 503 Busy\r\n\r\n";
    let churn = |refused| against(Fault::Answer(refused, BUSY), "churn", &["--rate", "100", "--time", "300ms"]);
    // The first of all is to see whether there is a server, and a fifth of the time is to warm up.
    assert_eq!(churn(3..5).code, 0, "what was refused before it counts does not count");
    let refused = churn(10..12);
    found(&refused, |faults| faults.refused);
    complains(&refused, "answered 503 Busy (2)");
    let deaf = against(Fault::DeafToClose, "churn", &["--close", "frame", "--time", "100ms"]);
    found(&deaf, |faults| faults.closed);
    complains(&deaf, "a close frame was not answered in time");
}

#[test]
fn whoever_is_refused_in_a_storm_tries_again() {
    const BUSY: &str = "HTTP/1.1 503 Busy\r\n\r\n";
    let storm = |fault| against(fault, "storm", &["--connections", "10", "--rounds", "1"]);
    // Ten and a publisher, and then the storm.
    let again = storm(Fault::Answer(13..17, BUSY));
    assert_eq!((again.code, again.figure("refused, and tried again")), (0, 4.0), "{again:?}");
    let never = storm(Fault::Answer(13..1_000_000, BUSY));
    assert_eq!(never.report().faults.refused, 8, "{never:?}");
    complains(&never, "8 connections did not come back: answered 503 Busy");
    let forgotten = storm(Fault::Forget(13..14));
    assert_eq!((forgotten.code, forgotten.report().faults.lost), (1, 1), "{forgotten:?}");
}
