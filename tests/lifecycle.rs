//! Time and the process: pings, lifetimes, signals, exit codes, limits, the admin listener.

mod common;

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use common::client::{PING, PONG, frame};
use common::{Client, Process, SHARDS, TestServer, config, metric, scrape, wait_until};

const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn who_does_not_answer_a_ping_is_closed_and_who_does_is_not() {
    for shards in SHARDS {
        let mut config = config(shards);
        config.ping_interval = Some(Duration::from_secs(1));
        config.ping_timeout = Duration::from_millis(400);
        config.close_timeout = Duration::from_millis(100);
        let server = TestServer::start(config);
        let (mut mute, mut alive, mut busy) = (server.ws("/raw/a"), server.ws("/raw/b"), server.ws("/raw/c"));
        thread::scope(|scope| {
            scope.spawn(|| {
                mute.expect(PING, b"");
                assert_eq!(mute.close_code(), 1001);
                mute.expect_end();
            });
            scope.spawn(|| {
                for _ in 0..2 {
                    alive.expect(PING, b"");
                    alive.send(&frame(PONG, b""));
                }
            });
            // Whatever is sent is a sign of life.
            scope.spawn(|| {
                for _ in 0..2 {
                    busy.expect(PING, b"");
                    busy.text("here");
                    busy.expect_text("here");
                }
            });
        });
        [&mut alive, &mut busy].into_iter().for_each(|client| client.text("alive"));
        [&mut alive, &mut busy].into_iter().for_each(|client| client.expect_text("alive"));
        assert!(server.metric("pings_sent_total") >= 5);
        assert_eq!(server.metric("connections_closed_total reason=\"ping_timeout\""), 1);
        assert_eq!(server.metric("close_timeouts_total"), 1);
        assert_eq!(server.publisher().connections(), 2);
    }
}

#[test]
fn a_lifetime_ends_and_varies() {
    let mut config = config(1);
    config.max_lifetime = Some(Duration::from_secs(1));
    config.lifetime_jitter = 60;
    let server = TestServer::start(config);
    let start = Instant::now();
    let clients: Vec<_> = (0..20).map(|_| server.ws("/raw/mortal")).collect();
    let ages: Vec<_> = thread::scope(|scope| {
        let ends = clients.into_iter().map(|mut client| {
            scope.spawn(move || {
                let close = client.frame().expect("a close frame");
                assert_eq!((close.code(), &close.payload[2..]), (1001, &b"lifetime"[..]));
                client.close(1001);
                client.expect_end();
                start.elapsed()
            })
        });
        let ends: Vec<_> = ends.collect();
        ends.into_iter().map(|end| end.join().expect("it was closed")).collect()
    });
    let (first, last) = (ages.iter().min().expect("20"), ages.iter().max().expect("20"));
    assert!(*first >= Duration::from_millis(390), "{first:?}");
    assert!(*last - *first > Duration::from_millis(20), "all at once");
    server.wait_idle();
    assert_eq!(server.metric("connections_closed_total reason=\"lifetime\""), 20);
}

#[test]
fn a_signal_closes_all_and_loses_nothing_that_was_queued() {
    for (shards, signal) in [("--shards=1", "TERM"), ("--shards=3", "INT")] {
        let mut server = Process::start(&[
            shards,
            "--backlog=16MiB",
            "--max-message=8MiB",
            "--shutdown-timeout=10s",
            "--drain-time=0",
        ]);
        let mut slow = Client::ws_small(server.addr, "/raw/slow");
        let mut idle = server.ws("/raw/idle");
        let mut between = Client::connect(server.addr);
        between.send(HEALTH);
        assert_eq!(between.response().status, 200);
        let mut amid_head = Client::connect(server.addr);
        amid_head.send(&HEALTH[..20]);
        let text = "x".repeat(8 << 20);
        let mut publisher = server.ws("/raw/slow?self=false");
        publisher.text(&text);
        wait_until("it waits", || server.metric("backlogged_connections") == 1);
        server.signal(signal);
        for client in [&mut idle, &mut publisher] {
            let close = client.frame().expect("a close frame");
            assert_eq!((close.code(), &close.payload[2..]), (1001, &b"server shutdown"[..]));
            client.close(1001);
            client.expect_end();
        }
        between.expect_end();
        amid_head.expect_end();
        // Nobody is served any more.
        if let Ok(stream) = TcpStream::connect(server.addr) {
            let mut late = Client::from(stream);
            late.send_anyway(HEALTH);
            assert!(server_says_nothing(&mut late, &mut slow, &text));
        } else {
            slow.expect_text(&text);
        }
        assert_eq!(slow.close_code(), 1001);
        slow.close(1001);
        slow.expect_end();
        assert_eq!(server.wait().code(), Some(0));
        assert!(server.rest_of_output().ends_with("uproar has stopped\n"));
    }
}

/// The late client gets no answer while the slow one gets all of its own.
fn server_says_nothing(late: &mut Client, slow: &mut Client, text: &str) -> bool {
    slow.expect_text(text);
    late.stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    let mut byte = [0];
    !matches!(std::io::Read::read(&mut late.stream, &mut byte), Ok(1..))
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let mut server = Process::start(&["--shards=2", "--shutdown-timeout=10m", "--close-timeout=10m", "--drain-time=0"]);
    let mut stubborn = server.ws("/raw/stubborn");
    server.signal("TERM");
    assert_eq!(stubborn.close_code(), 1001);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(143));
}

#[test]
fn a_server_that_nobody_listens_to_stops_as_well_as_any() {
    let mut server = Process::start(&["--shards=1"]);
    server.hang_up();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_stop_takes_no_longer_than_it_may() {
    for shards in ["--shards=1", "--shards=3"] {
        let mut server = Process::start(&[
            shards,
            "--shutdown-timeout=300ms",
            "--close-timeout=10m",
            "--backlog=16MiB",
            "--drain-time=0",
        ]);
        let _silent: Vec<_> = (0..5).map(|_| server.ws("/raw/silent")).collect();
        let _stalled = Client::ws_small(server.addr, "/raw/stalled");
        let mut publisher = server.ws("/raw/stalled?self=false");
        let text = "x".repeat(1 << 20);
        (0..8).for_each(|_| publisher.text(&text));
        wait_until("it waits", || server.metric("backlogged_connections") == 1);
        server.signal("TERM");
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn a_port_that_is_taken_ends_the_process_with_4() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let running = Process::start(&["--shards=1"]);
    let listen = |address: &str| format!("--listen={address}");
    let admin = |address: &str| format!("--admin-listen={address}");
    for (args, knob) in [
        ([listen(&running.addr.to_string()), admin("off")], "listen"),
        ([listen("127.0.0.1:0"), admin(&running.admin)], "admin_listen"),
        ([listen("127.0.0.1:0"), admin("unix:/no/such/directory/socket")], "admin_listen"),
        ([listen("192.0.2.1:80"), admin("off")], "listen"),
    ] {
        let args = [&*args[0], &*args[1], "--insecure-open"];
        let output = Process::command(&args).stderr(std::process::Stdio::piped()).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{args:?}: {text}");
        assert!(text.contains(&format!("the value of {knob}")), "{text}");
    }
    drop(taken);
}

#[test]
fn near_its_memorys_bound_new_connections_are_refused_and_others_served() {
    let server = Process::start(&["--shards=1", "--max-memory=64MiB", "--backlog=512MiB"]);
    let stalled = Client::ws_small(server.addr, "/raw/stalled");
    let mut publisher = server.ws("/raw/stalled?self=false");
    let text = "x".repeat(1 << 20);
    let refused = || {
        let mut client = Client::connect(server.addr);
        client.send_anyway(HEALTH);
        client.response()
    };
    let mut response = refused();
    assert_eq!(response.status, 200);
    for _ in 0..200 {
        publisher.text(&text);
        publisher.send(&frame(PING, b"served"));
        publisher.expect(PONG, b"served");
        response = refused();
        if response.status != 200 {
            break;
        }
    }
    assert_eq!((response.status, response.field("Retry-After")), (503, Some("1")));
    let mut probe = Client::connect(server.admin.parse().expect("an address"));
    probe.send(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let ready = probe.response();
    assert!(ready.status == 503 && ready.body.contains("\"memory\""), "{ready:?}");
    assert!(server.metric("connections_refused_total reason=\"memory\"") > 0);
    assert_eq!(server.metric("connections_refused_total reason=\"full\""), 0);
    publisher.send(&frame(PING, b"still served"));
    publisher.expect(PONG, b"still served");
    stalled.reset();
    wait_until("there is memory again", || refused().status == 200);
}

#[test]
fn a_full_table_costs_no_processor_time_and_is_got_over() {
    let server = Process::start(&["--shards=1", "--max-connections=4"]);
    let inside: Vec<_> = (0..4).map(|_| server.ws("/raw/full")).collect();
    let ticks = server.cpu_ticks();
    let start = Instant::now();
    // They are told 503 and do not go, so that they take the spare slots too.
    let mut outside = Vec::new();
    wait_until("there is no slot left", || {
        outside.extend((0..10).filter_map(|_| TcpStream::connect(server.addr).ok()));
        server.metric("accept_pauses_total reason=\"resources\"") > 0
    });
    thread::sleep(Duration::from_millis(500));
    let (ticks, elapsed) = (server.cpu_ticks() - ticks, start.elapsed());
    assert!(u128::from(ticks) * 10 < elapsed.as_millis() / 2, "{ticks} ticks in {elapsed:?}");
    drop((inside, outside));
    wait_until("the places are free", || {
        let mut client = Client::connect(server.addr);
        client.send_anyway(HEALTH);
        let mut status = [0; 12];
        std::io::Read::read_exact(&mut client.stream, &mut status).is_ok() && status.ends_with(b"200")
    });
}

#[test]
fn metrics_are_served_on_tcp() {
    let server = TestServer::start(config(2));
    let mut client = server.ws("/raw/x");
    client.text("counted");
    client.expect_text("counted");
    let text = scrape(&server.admin);
    assert!(text.contains("text/plain; version=0.0.4") && text.contains("# TYPE uproar_connections gauge"), "{text}");
    assert_eq!((server.metric("connections kind=\"websocket\""), server.metric("messages_received_total")), (1, 1));
    // The public listener does not have them.
    let mut outside = Client::connect(server.addr);
    outside.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(outside.response().status, 404);
}

#[test]
fn a_unix_socket_is_private_replaced_when_stale_and_removed_at_the_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("admin");
    let admin = format!("unix:{}", path.display());
    let flag = format!("--admin-listen={admin}");
    let server = Process::start(&[&flag, "--shards=1"]);
    assert_eq!(server.admin, admin);
    let mode = path.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut client = server.ws("/raw/x");
    client.text("x");
    client.expect_text("x");
    assert_eq!(metric(&admin, "connections kind=\"websocket\""), 1);
    // One that is in use is not taken over.
    let second = Process::command(&[&flag, "--listen=127.0.0.1:0"]).output().expect("it runs");
    assert_eq!(second.status.code(), Some(4));
    // Killed, it leaves the file; the next one replaces it, and removes it at its end.
    drop(server);
    assert!(path.exists());
    let mut server = Process::start(&[&flag, "--shards=1"]);
    assert_eq!(metric(&admin, "connections kind=\"websocket\""), 0);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    assert!(!path.exists());
    // What is no socket is not replaced.
    std::fs::write(&path, "precious").expect("it is written");
    let output = Process::command(&[&flag, "--listen=127.0.0.1:0"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "precious");
}
