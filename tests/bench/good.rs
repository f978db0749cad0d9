//! Against this server.

use std::net::TcpListener;

use tempfile::TempDir;

use crate::common::tls::certificate;
use crate::common::{TestServer, config};
use crate::{Ended, bench, run, url};

const RAW: &str = "/raw/{topic}";
const FEW: [&str; 4] = ["--subscribers", "12", "--time", "150ms"];

/// Runs a mode; it must find nothing.
#[track_caller]
fn fine(server: &TestServer, mode: &str, arguments: &[&str]) -> Ended {
    let (url, publish_url) = (url(server.addr, RAW), url(server.addr, "/raw/{topic}?self=false"));
    let pid = std::process::id().to_string();
    let target = ["--url", &url, "--publish-url", &publish_url, "--server-pid", &pid];
    let ended = bench(&[&[mode], &target[..], arguments].concat());
    assert_fine(&ended);
    ended
}

#[track_caller]
fn assert_fine(ended: &Ended) {
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert!(ended.report().faults.none() && ended.report().complaint.is_none(), "{ended:?}");
}

#[test]
fn fanout_delivers() {
    let server = TestServer::start(config(2));
    for more in [
        &[][..],
        &["--topics", "3", "--burst", "4", "--window", "2", "--verify-all"],
        &["--threads", "2", "--topics", "2", "--fill", "random", "--payload", "5000", "--deflate"],
        &["--stalled", "25", "--payload", "200"],
    ] {
        let ended = fine(&server, "fanout", &[&FEW, more].concat());
        let healthy = if more.contains(&"--stalled") { 9.0 } else { 12.0 };
        let (deliveries, publications) = (ended.figure("deliveries"), ended.figure("publications"));
        assert!(deliveries >= publications * healthy / 3.0, "{ended:?}");
        assert!(ended.figure("server CPU a delivery") > 0.0);
        let bytes = ended.figure("bytes on the wire a delivery");
        match more {
            [.., "200"] => assert_eq!(bytes, 200.0 + 4.0),
            [.., "--deflate"] => assert!(bytes > 1000.0 && bytes < 5000.0, "{bytes}"),
            _ => assert_eq!(bytes, 64.0 + 2.0),
        }
        assert!(ended.times("published to delivered, of one subscriber") >= 10);
    }
}

#[test]
fn all_goes_over_tls_too() {
    let dir = TempDir::new().expect("a directory");
    let [ours, other] = ["ours", "other"].map(|name| certificate(dir.path(), name, &["localhost"]));
    let path = |path: &std::path::Path| path.display().to_string();
    let mut config = config(2);
    config.tls_listen = Some(([127, 0, 0, 1], 0).into());
    (config.tls_certificate, config.tls_key) = (vec![path(&ours.certificate)], vec![path(&ours.key)]);
    let server = TestServer::start(config);
    let port = server.running().tls_address().expect("a TLS listener").port();
    let url = format!("wss://localhost:{port}{RAW}");
    let with = |mode: &str, trust: &[&str], more: &[&str]| bench(&[&[mode, "--url", &url], trust, more].concat());
    let trusted = ["--ca", &path(&ours.certificate)];
    for (mode, more) in [
        ("fanout", &["--subscribers", "12", "--topics", "2", "--burst", "3", "--window", "2", "--time", "150ms"][..]),
        ("fanout", &["--subscribers", "12", "--payload", "5000", "--deflate", "--stalled", "25", "--time", "150ms"]),
        ("rate", &["--subscribers", "12", "--samples", "2", "--rate", "400", "--time", "300ms"]),
        ("echo", &["--connections", "4", "--time", "150ms"]),
        ("churn", &["--time", "150ms"]),
        ("storm", &["--connections", "20"]),
    ] {
        let ended = with(mode, &trusted, more);
        assert_fine(&ended);
        if more.contains(&"--burst") {
            assert_eq!(ended.figure("bytes on the wire a delivery"), 64.0 + 2.0, "those within TLS");
        }
    }
    assert_fine(&with("fanout", &["--insecure"], &FEW));
    let refused = with("fanout", &["--ca", &path(&other.certificate)], &FEW);
    assert!(refused.code != 0 && refused.stderr.contains("certificate"), "{refused:?}");
    assert_eq!(with("fanout", &["--ca", "/no/such/file"], &FEW).code, 2);
}

#[test]
fn a_url_alone_will_do() {
    let server = TestServer::start(config(1));
    for mode in ["fanout", "rate", "echo"] {
        let time = if mode == "echo" { &FEW[2..] } else { &FEW[..] };
        let ended = bench(&[&[mode, "--url", &url(server.addr, RAW)], time].concat());
        assert_fine(&ended);
    }
}

#[test]
fn templates_speak_to_other_dialects() {
    let server = TestServer::start(config(1));
    let url = url(server.addr, "/ws");
    let arguments = [
        ["--url", &url],
        ["--subscribe", r#"{"type":"subscribe","topics":["{topic}"]}"#],
        ["--subscribed", r#""subscribed""#],
        ["--publish", r#"{"type":"publish","topic":"{topic}","data":"{payload}"}"#],
    ];
    for (mode, more) in [("fanout", &FEW[..]), ("rate", &FEW), ("echo", &FEW[2..]), ("churn", &FEW[2..])] {
        assert_fine(&bench(&[&[mode], arguments.as_flattened(), more].concat()));
    }
}

#[test]
fn rate_publishes_all_that_is_due() {
    let server = TestServer::start(config(1));
    let pace = ["--rate", "400", "--time", "500ms", "--subscribers"];
    for (more, samples) in [
        (&["12"][..], 12 * 200),
        (&["12", "--samples", "3"], 3 * 200),
        (&["40", "--samples", "20", "--topics", "4", "--threads", "2"], 20 * 50),
        (&["40", "--samples", "2", "--topics", "10", "--verify-all"], 2 * 20),
    ] {
        let ended = fine(&server, "rate", &[&pace, more].concat());
        let rate = ended.figure("publications");
        assert!(rate <= 401.0 && rate > 40.0, "{ended:?}");
        assert_eq!(ended.times("due to delivered"), samples, "{ended:?}");
        assert_eq!(ended.times("due to sent: the load's own lag"), 200);
        let series = &ended.report().series;
        assert!(series.iter().any(|series| series.name == "p99" && series.plot == "latency"), "{series:?}");
    }
}

#[test]
fn echoes_come_back() {
    let server = TestServer::start(config(1));
    let ended = fine(&server, "echo", &["--connections", "7", "--window", "3", "--threads", "2", "--time", "150ms"]);
    assert!(ended.figure("echoes") > 0.0 && ended.times("sent to received") >= 21);
}

#[test]
fn churn_makes_connections_and_leaves_none() {
    let server = TestServer::start(config(1));
    for more in
        [&["--concurrency", "5"][..], &["--concurrency", "5", "--close", "frame", "--threads", "2"], &["--rate", "200"]]
    {
        let ended = fine(&server, "churn", &[&["--time", "500ms"], more].concat());
        assert!(ended.figure("handshakes") > 0.0, "{ended:?}");
        match more.contains(&"--rate") {
            true => assert_eq!(ended.times("due to open"), 100),
            false => assert!(ended.times("begun to open") > 0),
        }
        server.wait_idle();
    }
}

#[test]
fn after_a_storm_all_are_back() {
    let server = TestServer::start(config(2));
    for more in [&["--concurrency", "50"][..], &["--threads", "2", "--topics", "5"]] {
        let ended = fine(&server, "storm", &[&["--connections", "40", "--rounds", "2"], more].concat());
        assert_eq!((ended.times("cut to back"), ended.times("begun to open")), (80, 80), "{ended:?}");
        assert!(ended.figure("server memory, most") > 0.0 && ended.figure("refused, and tried again") == 0.0);
        let rounds = ended.report().series.iter().find(|series| series.name == "all back").expect("a series");
        assert_eq!(rounds.points.len(), 2);
        server.wait_idle();
    }
}

#[test]
fn those_that_hold_and_those_that_stall_find_nothing_either() {
    let server = TestServer::start(config(1));
    fine(&server, "idle", &["--connections", "20", "--hold", "200ms", "--publishes", "2", "--bystanders", "3"]);
    fine(&server, "stalled", &["--readers", "3", "--volume", "64KiB"]);
}

#[test]
fn what_does_not_go_together_is_bad_usage() {
    for arguments in [
        &["fanout", "--topics", "2", "--subscribers", "1"][..],
        &["fanout", "--threads", "2"],
        &["fanout", "--stalled", "100"],
        &["fanout", "--burst", "0"],
        &["rate", "--rate", "0"],
        &["rate", "--rate", "inf"],
        &["rate", "--topics", "3", "--subscribers", "2"],
        &["echo", "--threads", "3", "--connections", "2"],
        &["churn", "--rate=-1"],
        &["churn", "--close", "politely"],
        &["storm", "--threads", "2"],
        &["storm", "--rounds", "0"],
        &["fanout", "--payload", "31"],
        &["fanout", "--cpus", "1023"],
        &["fanout", "--subscribers", "4294967295"],
        &["fanout", "--url", "wss://127.0.0.1/"],
        &["rate", "--publish-url", "ws://127.0.0.1/{who}"],
        &["echo", "--source", "nowhere"],
        &["churn", "--header", "Host: x"],
        &["storm", "--publish", "{topic}"],
    ] {
        let ended = bench(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert!(!ended.stderr.is_empty());
    }
}

#[test]
fn what_needs_no_connection_is_judged_before_there_is_one() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let url = url(listener.local_addr().expect("it is bound"), "/{topic}");
    let (file, cpus) = ("/no/such/directory/a", "0,1023");
    for (mode, option, value) in [
        ("fanout", "--html", file),
        ("rate", "--json", file),
        ("storm", "--html", "/"),
        ("idle", "--payload", "257MiB"),
        ("stalled", "--payload", "31"),
        ("echo", "--cpus", cpus),
        ("churn", "--server-pid", "4294967295"),
    ] {
        let ended = run(&[mode, "--quiet", "--url", &url, option, value]);
        assert_eq!(ended.code, 2, "{mode} {option}: {ended:?}");
        assert!(ended.stderr.starts_with(&format!("uproar bench: {option}")), "{ended:?}");
        assert!(listener.accept().is_err(), "{mode} {option}: it has connected");
    }
}
