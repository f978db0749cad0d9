//! TLS over real sockets, beside plain connections of the same server.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use common::client::{CLOSE, TEXT, close_payload, frame, raw_frame};
use common::rng::Rng;
use common::tls::{Certificate, TlsClient, certificate, trusting};
use common::{Client, PATIENCE, Process, SHARDS, TestServer, config, wait_until};
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, SupportedProtocolVersion};
use serde_json::Value;
use tempfile::TempDir;
use uproar::config::BacklogPolicy;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A server with a TLS listener beside the plain one, and its certificates.
struct Secured {
    server: TestServer,
    addr: SocketAddr,
    certificates: Vec<Certificate>,
    _dir: TempDir,
}

fn secured(shards: u32, hosts: &[&[&str]], change: impl FnOnce(&mut uproar::Config)) -> Secured {
    let dir = TempDir::new().expect("a directory");
    let name = |(i, hosts): (usize, &&[&str])| certificate(dir.path(), &format!("c{i}"), hosts);
    let certificates: Vec<Certificate> = hosts.iter().enumerate().map(name).collect();
    let mut config = config(shards);
    config.tls_listen = Some(([127, 0, 0, 1], 0).into());
    config.tls_certificate = certificates.iter().map(|one| one.certificate.display().to_string()).collect();
    config.tls_key = certificates.iter().map(|one| one.key.display().to_string()).collect();
    config.close_timeout = Duration::from_secs(2);
    config.tls_kernel = common::tls::kernel();
    change(&mut config);
    let server = TestServer::start(config);
    let addr = server.running().tls_address().expect("a TLS listener");
    Secured { server, addr, certificates, _dir: dir }
}

impl Secured {
    fn connect(&self, version: &'static SupportedProtocolVersion) -> TlsClient {
        let trusted: Vec<&Certificate> = self.certificates.iter().collect();
        TlsClient::connect(self.addr, "localhost", &trusting(&trusted, &[version]))
    }
}

#[test]
fn plain_and_secured_clients_meet_in_a_topic() {
    for shards in SHARDS {
        let it = secured(shards, &[&["localhost"]], |_| {});
        let mut plain = it.server.ws("/raw/t");
        let mut secured: Vec<TlsClient> = VERSIONS.map(|version| it.connect(version).upgrade("/raw/t")).into();
        it.server.wait_subscriptions(3);
        for message in ["from plain", &"x".repeat(100_000)] {
            plain.text(message);
            plain.expect_text(message);
            for client in &mut secured {
                assert_eq!(client.frame().text(), message);
            }
        }
        secured[0].text("from TLS");
        plain.expect_text("from TLS");
        for client in &mut secured {
            assert_eq!(client.frame().text(), "from TLS");
        }
        assert_eq!(it.server.metric("tls_connections"), 2);
        assert_eq!(it.server.metric("tls_handshakes_total result=\"ok\""), 2);
        for client in &mut secured {
            client.send(&frame(CLOSE, &close_payload(1000, "")));
            assert_eq!(client.frame().code(), 1000);
            client.expect_end();
        }
        plain.close(1000);
        plain.close_code();
        it.server.wait_idle();
    }
}

#[test]
fn requests_and_streams_are_served_over_tls() {
    let it = secured(1, &[&["localhost"]], |_| {});
    for version in VERSIONS {
        let mut client = it.connect(version);
        for _ in 0..3 {
            client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"));
            let mut body = [0; 32];
            client.stream.read_exact(&mut body).expect("a body");
            assert_eq!(&body[..15], b"{\"status\":\"ok\",");
        }
        let mut client = it.connect(version);
        client.send(b"GET /sse?topic=t HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(client.head().contains("text/event-stream"));
    }
}

#[test]
fn a_json_client_lives_on_through_much_in_small_pieces() {
    let it = secured(3, &[&["localhost"]], |_| {});
    let mut rng = Rng::new(7);
    for (room, version) in VERSIONS.into_iter().enumerate() {
        let mut client = it.connect(version).upgrade(&format!("/?room={room}"));
        let welcome: Value = serde_json::from_str(client.frame().text()).expect("JSON");
        assert_eq!(welcome["type"], "connected");
        for n in 0..200 {
            let text = format!("{{\"type\":\"chat\",\"n\":{n},\"text\":\"{}\"}}", "y".repeat(rng.below(3000)));
            let bytes = frame(TEXT, text.as_bytes());
            let (first, second) = bytes.split_at(rng.below(bytes.len()));
            client.send(first);
            client.send(second);
            let answer: Value = serde_json::from_str(client.frame().text()).expect("JSON");
            assert_eq!(answer["n"], n);
        }
    }
}

#[test]
fn records_may_come_byte_by_byte() {
    let it = secured(1, &[&["localhost"]], |_| {});
    for version in VERSIONS {
        let mut client = it.connect(version).upgrade("/raw/t");
        // What the session would send goes to the socket in pieces of one byte.
        let mut records = Vec::new();
        client.stream.conn.writer().write_all(&frame(TEXT, b"drip")).expect("room");
        client.stream.conn.write_tls(&mut records).expect("a vector takes it");
        for byte in records {
            client.stream.sock.write_all(&[byte]).expect("the server takes bytes");
        }
        assert_eq!(client.frame().text(), "drip");
    }
}

#[test]
fn the_certificate_is_that_of_the_name() {
    let hosts: [&[&str]; 3] = [&["localhost"], &["a.example", "b.example"], &["*.wild.example"]];
    let it = secured(1, &hosts, |_| {});
    for (host, which) in
        [("localhost", 0), ("a.example", 1), ("B.example", 1), ("x.wild.example", 2), ("other.example", 0)]
    {
        // That it is trusted for the name is left out where it is not for that name.
        let trusted: Vec<&Certificate> = it.certificates.iter().collect();
        let mut client = TlsClient::connect(it.addr, host, &trusting(&trusted, &[&TLS13]));
        let outcome = client.stream.conn.complete_io(&mut client.stream.sock);
        assert_eq!(outcome.is_ok(), host != "other.example", "{host}: {outcome:?}");
        if outcome.is_ok() {
            let shown = client.stream.conn.peer_certificates().expect("certificates");
            assert_eq!(shown[0], it.certificates[which].der, "{host}");
        }
    }
    wait_until("the refused one is counted", || it.server.metric("tls_connections") == 0);
}

#[test]
fn sessions_are_resumed_by_tickets() {
    let it = secured(1, &[&["localhost"]], |_| {});
    for version in VERSIONS {
        let config = trusting(&[&it.certificates[0]], &[version]);
        let kind = |_| {
            let mut client = TlsClient::connect(it.addr, "localhost", &config).upgrade("/raw/t");
            // A ticket of TLS 1.3 comes with the first bytes.
            client.text("x");
            client.frame();
            client.stream.conn.handshake_kind()
        };
        assert_eq!([0, 1].map(kind), [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)], "{version:?}");
    }
}

#[test]
fn what_is_no_tls_is_answered_with_an_alert_and_closed() {
    let it = secured(1, &[&["localhost"]], |config| config.head_timeout = Duration::from_millis(300));
    for garbage in [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], &[0x16, 3, 1, 0, 4, 9, 9, 9, 9], &[0x17; 400]] {
        let mut client = Client::connect(it.addr);
        client.send_anyway(garbage);
        assert!(client.ends());
    }
    assert_eq!(it.server.metric("tls_handshakes_total result=\"failed\""), 3);
    // A hello that does not go on, and none at all.
    for start in [&[0x16, 3, 1, 2][..], &[]] {
        let mut client = Client::connect(it.addr);
        client.send_anyway(start);
        assert!(client.ends());
    }
    // A record whose length is more than one may have, a handshake message that never ends.
    let mut client = Client::connect(it.addr);
    client.send_anyway(&[0x16, 3, 3, 0xff, 0xff]);
    assert!(client.ends());
    let mut client = Client::connect(it.addr);
    let endless = [&[0x16, 3, 3, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &[0; 0x4000 - 4]].concat();
    for _ in 0..8 {
        client.send_anyway(&endless);
    }
    assert!(client.ends());
    it.server.wait_idle();
}

#[test]
fn a_broken_record_ends_the_connection_and_only_that() {
    let it = secured(1, &[&["localhost"]], |_| {});
    for version in VERSIONS {
        let mut good = it.connect(version).upgrade("/raw/t");
        let mut bad = it.connect(version).upgrade("/raw/t");
        bad.stream.sock.write_all(&[0x17, 3, 3, 0, 32]).expect("the server takes bytes");
        bad.stream.sock.write_all(&[7; 32]).expect("the server takes bytes");
        // Our alert makes it an error, not an end.
        assert!(bad.stream.read(&mut [0; 100]).is_err());
        good.text("still here");
        assert_eq!(good.frame().text(), "still here");
    }
}

#[test]
fn a_client_that_ends_its_session_or_its_socket_is_gone() {
    let it = secured(1, &[&["localhost"]], |_| {});
    for version in VERSIONS {
        let mut told = it.connect(version).upgrade("/raw/t");
        told.stream.conn.send_close_notify();
        told.stream.flush().expect("the server takes bytes");
        let cut = it.connect(version).upgrade("/raw/t");
        cut.stream.sock.shutdown(Shutdown::Write).expect("it was open");
        wait_until("both are gone", || it.server.metric("tls_connections") == 0);
    }
    it.server.wait_idle();
}

#[test]
fn slow_readers_are_bounded_as_on_plain_connections() {
    let it = secured(1, &[&["localhost"]], |config| {
        config.backlog = 64 * 1024;
        config.backlog_policy = BacklogPolicy::Latest;
        config.send_buffer = Some(16 * 1024);
    });
    let mut slow: Vec<TlsClient> = (0..3).map(|_| it.connect(&TLS13).upgrade("/raw/t")).collect();
    let mut publisher = it.server.ws("/raw/t?self=false");
    it.server.wait_subscriptions(4);
    for n in 0..3000u32 {
        publisher.text(&format!("{n:0>8}{}", "z".repeat(4000)));
    }
    wait_until("messages are dropped", || it.server.metric("messages_dropped_total reason=\"conflated\"") > 100);
    wait_until("all are published", || it.server.metric("messages_published_total") == 3000);
    assert!(
        it.server.metric("memory_bytes part=\"frames\"") < 4 << 20,
        "nothing is held for slow readers but their backlogs"
    );
    for client in &mut slow {
        let mut last = None;
        while last != Some(2999) {
            let number = client.frame().text()[..8].parse::<u32>().expect("a number");
            assert!(last < Some(number), "{number} after {last:?}");
            last = Some(number);
        }
    }
}

#[test]
fn fragments_and_large_messages_cross_the_borders_of_records() {
    let it = secured(1, &[&["localhost"]], |_| {});
    let mut client = it.connect(&TLS12).upgrade("/raw/t");
    let whole = "0123456789".repeat(80_000);
    let (first, second) = whole.split_at(300_001);
    client.send(&raw_frame(TEXT, first.as_bytes()));
    client.send(&raw_frame(0x80, second.as_bytes()));
    assert_eq!(client.frame().text(), whole);
}

#[test]
fn new_files_are_for_new_connections_and_drop_none() {
    let dir = TempDir::new().expect("a directory");
    let old = certificate(dir.path(), "c", &["localhost"]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let addr: SocketAddr = ([127, 0, 0, 1], port).into();
    let (certificate_file, key_file) = (old.certificate.display(), old.key.display());
    let server = Process::start(&[
        &format!("--tls-listen={addr}"),
        &format!("--tls-certificate={certificate_file}"),
        &format!("--tls-key={key_file}"),
    ]);
    let mut before = TlsClient::connect(addr, "localhost", &trusting(&[&old], &[&TLS13])).upgrade("/raw/t");
    // What cannot be used changes nothing.
    std::fs::write(&old.certificate, "half a file").expect("a file");
    server.signal("HUP");
    std::thread::sleep(Duration::from_millis(200));
    TlsClient::connect(addr, "localhost", &trusting(&[&old], &[&TLS13])).upgrade("/raw/t");
    let new = certificate(dir.path(), "c", &["localhost"]);
    server.signal("HUP");
    let shown = || {
        let mut client = TlsClient::connect(addr, "localhost", &trusting(&[&old, &new], &[&TLS13]));
        client.stream.conn.complete_io(&mut client.stream.sock).expect("one of the two");
        client.stream.conn.peer_certificates().expect("certificates")[0].clone()
    };
    wait_until("the new certificate is shown", || shown() == new.der);
    before.text("still here");
    assert_eq!(before.frame().text(), "still here");
    drop(TcpStream::connect_timeout(&addr, PATIENCE));
}
