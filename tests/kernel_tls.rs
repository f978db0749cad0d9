//! Connections whose records the kernel seals and opens, where it has kernel TLS; else the same of sessions. Whoever sets
//! `UPROAR_TEST_KERNEL_TLS` is sure that it has (`tests/kernels/run.sh`).

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::client::{BINARY, CLOSE, close_payload, frame, handshake};
use common::tls::{Certificate, TlsClient, certificate, trusting};
use common::{Process, TestServer, config, wait_until};
use rustls::crypto::ring::cipher_suite as suites;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedCipherSuite, SupportedProtocolVersion};
use tempfile::TempDir;
use uproar::config::TlsKernel;
use uproar::ring::ktls::{KernelTls, probe};
use uproar::ring::{Ring, Setup, WakeFd, sys};
use uproar::shard::accept::Door;
use uproar::shard::mail::Mail;
use uproar::shard::mailbox::mailbox;
use uproar::shard::settings::Settings;
use uproar::shard::shared::Shared;
use uproar::shard::{Aides, Parts, Shard, worker};
use uproar::tls::{Handshakes, certificates};
use uproar::{Config, Routes};

/// Every cipher that a server of ours takes, one of each sort of certificate's.
const SUITES: [(&SupportedProtocolVersion, SupportedCipherSuite); 6] = [
    (&TLS12, suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    (&TLS12, suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    (&TLS12, suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    (&TLS13, suites::TLS13_AES_128_GCM_SHA256),
    (&TLS13, suites::TLS13_AES_256_GCM_SHA384),
    (&TLS13, suites::TLS13_CHACHA20_POLY1305_SHA256),
];

/// What the kernel can do, if it can.
fn kernel() -> Option<KernelTls> {
    let found = probe().ok();
    let is_sure = std::env::var_os("UPROAR_TEST_KERNEL_TLS").is_some();
    assert!(found.is_some() || !is_sure, "there is no kernel TLS: {:?}", probe());
    found
}

struct Secured {
    server: TestServer,
    addr: SocketAddr,
    certificate: Certificate,
    _dir: TempDir,
}

fn secured(shards: u32, change: impl FnOnce(&mut Config)) -> Secured {
    let dir = TempDir::new().expect("a directory");
    let certificate = certificate(dir.path(), "c", &["localhost"]);
    let mut config = config(shards);
    config.tls_listen = Some(([127, 0, 0, 1], 0).into());
    config.tls_certificate = vec![certificate.certificate.display().to_string()];
    config.tls_key = vec![certificate.key.display().to_string()];
    change(&mut config);
    let server = TestServer::start(config);
    let addr = server.running().tls_address().expect("a TLS listener");
    Secured { server, addr, certificate, _dir: dir }
}

/// A client's configuration with this cipher only.
fn only(
    certificate: &Certificate,
    version: &'static SupportedProtocolVersion,
    suite: SupportedCipherSuite,
) -> Arc<ClientConfig> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites = vec![suite];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der.clone()).expect("a certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[version]);
    Arc::new(builder.expect("a version").with_root_certificates(roots).with_no_client_auth())
}

impl Secured {
    fn with(&self, (version, suite): (&'static SupportedProtocolVersion, SupportedCipherSuite)) -> TlsClient {
        TlsClient::connect(self.addr, "localhost", &only(&self.certificate, version, suite))
    }

    fn connect(&self, version: &'static SupportedProtocolVersion) -> TlsClient {
        TlsClient::connect(self.addr, "localhost", &trusting(&[&self.certificate], &[version]))
    }

    /// Waits until so many connections are the kernel's, or none, if it has no TLS.
    #[track_caller]
    fn wait_kernel(&self, count: u64) {
        let count = if kernel().is_some() { count } else { 0 };
        wait_until("the kernel has them", || self.server.metric("tls_kernel_connections") == count);
    }
}

#[test]
fn every_cipher_carries_messages_of_every_size_both_ways() {
    let it = secured(2, |_| {});
    let mut clients: Vec<TlsClient> = SUITES.map(|suite| it.with(suite).upgrade("/raw/t")).into();
    let mut plain = it.server.ws("/raw/t");
    it.server.wait_subscriptions(SUITES.len() as u64 + 1);
    it.wait_kernel(SUITES.len() as u64);
    for size in [0, 1, 125, 16_384 - 4, 16_384, 50_000, 700_000] {
        for sender in 0..if size > 20_000 { 1 } else { clients.len() } {
            let text = format!("{sender}{}", "x".repeat(size));
            clients[sender].text(&text);
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.frame().text(), text, "{size} bytes from {sender} to {number}");
            }
            plain.expect_text(&text);
        }
    }
    for client in &mut clients {
        client.send(&frame(CLOSE, &close_payload(1000, "")));
        assert_eq!(client.frame().code(), 1000);
        client.expect_end();
    }
    plain.close(1000);
    plain.close_code();
    it.server.wait_idle();
    it.wait_kernel(0);
    assert_eq!(it.server.metric("tls_kernel_takeovers_total result=\"failed\""), 0);
}

#[test]
fn compressed_messages_and_event_streams_are_the_kernels_too() {
    let it = secured(1, |_| {});
    let mut deflated = it.connect(&TLS13);
    deflated.send(handshake("/raw/t", "Sec-WebSocket-Extensions: permessage-deflate\r\n").as_bytes());
    assert!(deflated.head().contains("permessage-deflate"));
    let mut stream = it.connect(&TLS12);
    stream.send(b"GET /sse?topic=t HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(stream.head().contains("text/event-stream"));
    let mut other = it.connect(&TLS13).upgrade("/raw/t?self=false");
    it.server.wait_subscriptions(3);
    it.wait_kernel(3);
    let text = "the same again and again ".repeat(1000);
    for _ in 0..50 {
        other.text(&text);
        let frame = deflated.frame();
        assert_eq!(frame.first, 0xc1, "compressed");
        assert!(frame.payload.len() < text.len() / 10);
    }
    let mut seen = Vec::new();
    while seen.windows(text.len()).filter(|window| *window == text.as_bytes()).count() < 1 {
        let mut bytes = [0; 4096];
        let count = stream.stream.read(&mut bytes).expect("the stream goes on");
        seen.extend_from_slice(&bytes[..count]);
    }
}

#[test]
fn an_end_is_told_in_both_directions() {
    let it = secured(1, |_| {});
    for (version, suite) in SUITES {
        let mut told = it.with((version, suite)).upgrade("/raw/t");
        let cut = it.with((version, suite)).upgrade("/raw/t");
        let mut both = it.with((version, suite)).upgrade("/raw/t");
        it.wait_kernel(3);
        told.stream.conn.send_close_notify();
        told.stream.flush().expect("the server takes bytes");
        cut.stream.sock.shutdown(Shutdown::Write).expect("it was open");
        // Data and the end in one write: the end is behind the data.
        both.stream.conn.writer().write_all(&frame(BINARY, b"last words")).expect("room");
        both.stream.conn.send_close_notify();
        both.stream.flush().expect("the server takes bytes");
        wait_until("all are gone", || it.server.metric("tls_connections") == 0);
    }
    assert_eq!(it.server.metric("messages_received_total"), SUITES.len() as u64);
    it.server.wait_idle();
}

#[test]
fn a_slow_reader_gets_its_backlog_and_then_the_end() {
    let it = secured(1, |config| {
        config.send_buffer = Some(16 * 1024);
        config.backlog = 4 << 20;
        config.close_timeout = Duration::from_secs(30);
    });
    let mut slow: Vec<TlsClient> =
        SUITES.iter().cycle().take(12).map(|&suite| it.with(suite).upgrade("/raw/t")).collect();
    it.server.wait_subscriptions(12);
    it.wait_kernel(12);
    for n in 0..60u32 {
        it.server
            .publisher()
            .publish("t", format!("{n:0>8}{}", "z".repeat(10_000 + n as usize * 7)).as_str())
            .expect("room");
    }
    wait_until("sockets are full", || it.server.metric("backlogged_connections") == 12);
    for client in &mut slow {
        client.send(&frame(CLOSE, &close_payload(1000, "")));
    }
    for client in &mut slow {
        for n in 0..60u32 {
            assert_eq!(client.frame().text()[..8].parse::<u32>(), Ok(n));
            thread::sleep(Duration::from_micros(500));
        }
        assert_eq!(client.frame().code(), 1000);
        client.expect_end();
    }
    it.server.wait_idle();
}

/// A rustls client that asks for new keys asks for the server's too.
#[test]
fn keys_change_where_the_kernel_can_change_them() {
    let it = secured(1, |_| {});
    let mut client = it.connect(&TLS13).upgrade("/raw/t");
    it.wait_kernel(1);
    let lives = kernel().is_none_or(|kernel| kernel.rekeys);
    for n in 0..20 {
        client.stream.conn.refresh_traffic_keys().expect("TLS 1.3");
        let text = format!("{n}{}", "k".repeat(n * 3000));
        let sent = client.stream.write_all(&frame(common::client::TEXT, text.as_bytes()));
        if lives {
            sent.and_then(|()| client.stream.flush()).expect("the server takes bytes");
            assert_eq!(client.frame().text(), text);
        } else {
            let told = client.stream.flush().and_then(|()| client.stream.read(&mut [0; 100]));
            assert!(told.is_err(), "an alert, or a reset: {told:?}");
            wait_until("it is gone", || it.server.metric("tls_connections") == 0);
            assert_eq!(it.server.metric("tls_kernel_key_updates_total result=\"closed\""), 1);
            return;
        }
    }
    let changes = if kernel().is_some() { 20 } else { 0 };
    wait_until("all are counted", || it.server.metric("tls_kernel_key_updates_total result=\"ok\"") >= changes);
    client.send(&frame(CLOSE, &close_payload(1000, "")));
    assert_eq!(client.frame().code(), 1000);
    client.expect_end();
}

#[test]
fn what_is_no_record_ends_its_connection_only() {
    let it = secured(1, |_| {});
    for version in [&TLS12, &TLS13] {
        let mut good = it.connect(version).upgrade("/raw/t");
        for garbage in [&[0x17, 3, 3, 0, 32, 7, 7, 7, 7, 7, 7, 7, 7][..], &[0x99; 40], &[0x17, 3, 3, 0xff, 0xff, 0]] {
            let mut bad = it.connect(version).upgrade("/raw/t");
            it.wait_kernel(2);
            bad.stream.sock.write_all(garbage).expect("the server takes bytes");
            let _ = bad.stream.sock.write_all(&[7; 64]);
            assert!(bad.stream.read(&mut [0; 100]).is_err(), "{garbage:?}");
            wait_until("it is gone", || it.server.metric("tls_connections") == 1);
        }
        good.text("still here");
        assert_eq!(good.frame().text(), "still here");
        drop(good);
        wait_until("it is gone", || it.server.metric("tls_connections") == 0);
    }
}

#[test]
fn many_come_and_go() {
    let it = secured(2, |_| {});
    for _ in 0..3 {
        let config = trusting(&[&it.certificate], &[&TLS13]);
        let mut clients: Vec<TlsClient> =
            (0..60).map(|_| TlsClient::connect(it.addr, "localhost", &config).upgrade("/raw/t")).collect();
        it.server.wait_subscriptions(60);
        it.wait_kernel(60);
        clients.drain(..20).for_each(drop);
        it.wait_kernel(40);
        clients[0].text("hello");
        clients.iter_mut().for_each(|client| assert_eq!(client.frame().text(), "hello"));
        drop(clients);
        it.server.wait_idle();
        it.wait_kernel(0);
    }
}

#[test]
fn off_is_off() {
    let it = secured(1, |config| config.tls_kernel = TlsKernel::Off);
    let mut client = it.connect(&TLS13).upgrade("/raw/t");
    client.text("x");
    client.frame();
    assert_eq!(it.server.metric("tls_kernel_connections"), 0);
    assert_eq!(it.server.metric("tls_kernel_takeovers_total"), 0);
}

/// A shard that believes in kernel TLS, on a socket that the kernel attaches or refuses.
#[test]
fn a_session_goes_on_where_the_kernel_refuses() {
    let dir = TempDir::new().expect("a directory");
    let certificate = certificate(dir.path(), "c", &["localhost"]);
    let tls = certificates::configure(&[(certificate.certificate.clone(), certificate.key.clone())]).expect("good");
    let listener: TcpListener = sys::listen(([127, 0, 0, 1], 0).into(), 16, false).expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let wake = Arc::new(WakeFd::new().expect("an eventfd"));
    let (postbox, mailbox) = mailbox(wake.clone());
    let done = postbox.clone();
    let handshakes = Handshakes::start(1, Arc::new(tls), move |_, shaken| {
        done.post(Mail::Shaken(Box::new(shaken)));
        done.wake();
    })
    .expect("a thread");
    let shared = Arc::new(Shared::new(1));
    shared.set_max_connections(100);
    let (mail, counters) = (postbox.clone(), shared.counters(0).clone());
    let body = move || {
        let ring = Ring::new(Setup { slots: 64, listeners: vec![listener], wake }).expect("a ring");
        let shard = Shard::new(Parts {
            id: 0,
            doors: vec![Door::Tls],
            aides: Aides {
                handshakes: Some(handshakes),
                kernel_tls: Some(KernelTls::everything()),
                ..Aides::default()
            },
            slots: 64,
            settings: Settings::try_from(&config(1)).expect("valid"),
            shared,
            mailbox,
            postboxes: vec![postbox],
            routes: Routes::new(Vec::new(), true),
            seed: 1,
        });
        worker::run(shard, ring)
    };
    let worker = thread::spawn(body);
    for version in [&TLS12, &TLS13] {
        let config = trusting(&[&certificate], &[version]);
        let mut client = TlsClient::connect(addr, "localhost", &config).upgrade("/raw/t");
        for n in 0..100 {
            client.text(&format!("{n}"));
            assert_eq!(client.frame().text(), format!("{n}"));
        }
        client.send(&frame(CLOSE, &close_payload(1000, "")));
        assert_eq!(client.frame().code(), 1000);
        client.expect_end();
    }
    let tried = (counters.tls_kernel_ok.get(), counters.tls_kernel_refused.get());
    assert_eq!(tried, if probe().is_ok() { (2, 0) } else { (0, 2) });
    mail.post(Mail::Shutdown { within_ms: 0, drained: false });
    mail.wake();
    worker.join().expect("no panic").expect("the ring works");
    assert!(std::net::TcpStream::connect(addr).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused));
}

/// Kibibytes of `MemAvailable`.
fn available() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("it is there");
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("kibibytes")
}

/// CPU of a delivery and memory of an idle connection, of plain connections, of sessions, and of the kernel's TLS.
#[test]
#[ignore = "a measurement, which prints what it finds"]
fn what_it_costs() {
    const SUBSCRIBERS: usize = 50;
    const IDLE: usize = 300;
    let dir = TempDir::new().expect("a directory");
    let certificate = certificate(dir.path(), "c", &["localhost"]);
    let trust = trusting(&[&certificate], &[&TLS13]);
    for tls_kernel in ["off", "auto"] {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let server = Process::start(&[
            &format!("--tls-listen={free}"),
            &format!("--tls-certificate={}", certificate.certificate.display()),
            &format!("--tls-key={}", certificate.key.display()),
            &format!("--tls-kernel={tls_kernel}"),
            "--shards=1",
        ]);
        let mut readers: Vec<TlsClient> =
            (0..SUBSCRIBERS).map(|_| TlsClient::connect(free, "localhost", &trust).upgrade("/raw/t")).collect();
        // The records are read and not opened: the load costs the same in both runs.
        let sockets = readers.iter_mut().map(|client| client.stream.sock.try_clone().expect("a descriptor"));
        let threads: Vec<_> = sockets
            .map(|mut socket| thread::spawn(move || while socket.read(&mut [0; 65536]).is_ok_and(|count| count > 0) {}))
            .collect();
        let mut publisher = server.ws("/raw/t");
        for (size, count) in [(64, 400), (1024, 400), (16_000, 200), (200_000, 40)] {
            let text = "m".repeat(size);
            let begin = server.cpu_ticks();
            for _ in 0..count {
                publisher.text(&text);
                publisher.expect_text(&text);
            }
            let nanos = (server.cpu_ticks() - begin) * 10_000_000 / (count * SUBSCRIBERS) as u64;
            println!("MEASURED tls_kernel={tls_kernel} {size} bytes: {nanos} ns of CPU a delivery");
        }
        let sealed = server.metric("tls_kernel_connections");
        let before = (server.resident() as i64, available());
        let idle: Vec<TlsClient> =
            (0..IDLE).map(|_| TlsClient::connect(free, "localhost", &trust).upgrade("/raw/idle")).collect();
        thread::sleep(Duration::from_secs(2));
        let resident = (server.resident() as i64 - before.0) / IDLE as i64;
        let all = (before.1 - available()) * 1024 / IDLE as i64;
        println!(
            "MEASURED tls_kernel={tls_kernel}: {resident} B of the server and {all} B of the machine an idle connection"
        );
        assert_eq!(sealed as usize, if tls_kernel == "auto" && kernel().is_some() { SUBSCRIBERS } else { 0 });
        drop((idle, readers, server));
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    }
}
