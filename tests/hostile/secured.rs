//! TLS: what is none, handshakes that stop, floods of whole ones, and what a session may be asked again and again.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, SupportedProtocolVersion};
use tempfile::TempDir;

use super::arena::Arena;
use super::common::client::{TEXT, frame};
use super::common::tls::{Certificate, TlsClient, certificate, trusting};
use super::common::{Client, Process};
use super::crowd::{End, connect, ends, for_a_while, push};
use super::healthy::Entrance;

const SECOND: Duration = Duration::from_secs(1);

/// A server with a TLS listener, and how to come in there.
struct Secured {
    addr: SocketAddr,
    certificate: Certificate,
    _dir: TempDir,
}

impl Secured {
    /// Healthy clients are of both kinds.
    fn arena(args: &[&str]) -> (Secured, Arena) {
        let dir = TempDir::new().expect("a directory");
        let certificate = certificate(dir.path(), "c", &["localhost"]);
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let tls = [
            format!("--tls-listen={free}"),
            format!("--tls-certificate={}", certificate.certificate.display()),
            format!("--tls-key={}", certificate.key.display()),
            "--shards=2".into(),
        ];
        let all: Vec<&str> = tls.iter().map(String::as_str).chain(args.iter().copied()).collect();
        let secured = Secured { addr: free, certificate, _dir: dir };
        let healthy =
            (0..4).map(|n| TlsClient::connect(secured.addr, "localhost", &secured.client([&TLS12, &TLS13][n % 2])));
        let server = Process::start(&all);
        let arena = Arena::on(server, &Entrance::default(), healthy.collect());
        (secured, arena)
    }

    fn client(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        trusting(&[&self.certificate], &[version])
    }

    fn hello(&self, version: &'static SupportedProtocolVersion) -> Vec<u8> {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut session = ClientConnection::new(self.client(version), name).expect("a session");
        let mut hello = Vec::new();
        session.write_tls(&mut hello).expect("a hello");
        hello
    }
}

#[test]
fn what_is_no_hello() {
    let (secured, arena) = Secured::arena(&["--head-timeout=1s"]);
    let (after, ends) = arena.attack("garbage instead of a ClientHello, 5 kinds × 60", |_| {
        let endless = [&[0x16, 3, 3, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &[0; 0x4000 - 4]].concat();
        let mut cut = secured.hello(&TLS13);
        cut.iter_mut().skip(40).step_by(7).for_each(|byte| *byte ^= 0x55);
        let kinds =
            [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), vec![0x17; 400], vec![0; 5], endless.repeat(6), cut];
        let mut all = connect(secured.addr, 300);
        all.iter_mut().enumerate().for_each(|(n, stream)| _ = push(stream, &kinds[n % 5]));
        ends(&mut all)
    });
    assert_eq!(ends, [(End::Silent, 300)]);
    assert!(after.rose("tls_handshakes_total result=\"failed\"") >= 200);
    assert_eq!(after.rose("tls_handshakes_total result=\"ok\""), 0);
}

#[test]
fn hellos_and_then_nothing() {
    let (secured, arena) = Secured::arena(&["--head-timeout=1s"]);
    let (after, ends) = arena.attack("a ClientHello and then nothing, 300", |_| {
        let hellos = [secured.hello(&TLS12), secured.hello(&TLS13)];
        let mut all = connect(secured.addr, 300);
        for (n, stream) in all.iter_mut().enumerate() {
            let hello = &hellos[n % 2];
            // All of it, or all but its end.
            push(stream, &hello[..hello.len() - (n / 2) % 2]);
        }
        ends(&mut all)
    });
    assert_eq!(ends, [(End::Silent, 300)]);
    after.rises("connections_closed_total reason=\"head_timeout\"", 300);
    assert_eq!(after.rose("tls_handshakes_total result=\"ok\""), 0);
}

#[test]
fn floods_of_handshakes() {
    let (secured, arena) = Secured::arena(&[]);
    let (after, made) = arena.attack("whole handshakes, two at a time, all that goes", |_| {
        let flood = |version| {
            let mut made = 0;
            let config = secured.client(version);
            for_a_while(SECOND * 2, Duration::ZERO, |_| {
                // A session without tickets each time.
                let mut fresh = (*config).clone();
                fresh.resumption = rustls::client::Resumption::disabled();
                let mut client = TlsClient::connect(secured.addr, "localhost", &Arc::new(fresh));
                made += u64::from(client.stream.conn.complete_io(&mut client.stream.sock).is_ok());
            });
            made
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| flood(&TLS12));
            flood(&TLS13) + other.join().expect("no panic")
        })
    });
    assert!(made > 100, "{made} are no flood");
    after.rises("tls_handshakes_total result=\"ok\"", made / 2);
}

/// Hellos as fast as they can be written: the work is the server's alone. What waits is bounded.
#[test]
fn floods_of_hellos() {
    let (secured, arena) = Secured::arena(&["--head-timeout=1s"]);
    let (after, made) = arena.attack("ClientHellos, reset at once, all that goes", |_| {
        let hello = secured.hello(&TLS13);
        let mut made = 0;
        for_a_while(SECOND * 3 / 2, Duration::ZERO, |_| {
            let mut client = Client::connect(secured.addr);
            client.send_anyway(&hello);
            client.reset();
            made += 1;
        });
        made
    });
    assert!(made > 200, "{made} are no flood");
    assert_eq!(after.rose("tls_handshakes_total result=\"ok\""), 0);
}

/// New keys, again and again, each of which the server would answer with its own.
#[test]
fn floods_of_key_updates() {
    let (secured, arena) = Secured::arena(&["--close-timeout=500ms"]);
    let (_, closed) = arena.attack("key updates, 10 × 10,000", |_| {
        let mut clients: Vec<TlsClient> = (0..10)
            .map(|_| TlsClient::connect(secured.addr, "localhost", &secured.client(&TLS13)).upgrade("/raw/t"))
            .collect();
        let begin = Instant::now();
        for client in &mut clients {
            for _ in 0..10_000 {
                if client.stream.conn.refresh_traffic_keys().is_err() || client.stream.flush().is_err() {
                    break;
                }
            }
        }
        std::thread::sleep(SECOND.saturating_sub(begin.elapsed()));
        clients.iter_mut().map(is_over).filter(|is_over| *is_over).count()
    });
    assert_eq!(closed, 10);
}

/// Whether the session has ended, or ends, whatever comes before.
fn is_over(client: &mut TlsClient) -> bool {
    let mut sink = [0; 4096];
    loop {
        match client.stream.read(&mut sink) {
            Ok(1..) => {}
            Ok(0) => return true,
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Whether there is `openssl`, which can ask for another handshake within a session of TLS 1.2.
fn has_openssl() -> bool {
    Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[test]
fn handshakes_within_a_session() {
    if !has_openssl() {
        return println!("skipped: there is no openssl(1)");
    }
    let (secured, arena) = Secured::arena(&[]);
    let (after, outcomes) = arena.attack("renegotiation in TLS 1.2, 10", |_| {
        let ask = |_| {
            let mut child = Command::new("openssl")
                .args(["s_client", "-tls1_2", "-legacy_renegotiation", "-connect", &secured.addr.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("it is there");
            let mut input = child.stdin.take().expect("it is piped");
            std::thread::spawn(move || {
                for _ in 0..4 {
                    std::thread::sleep(Duration::from_millis(250));
                    let _ = input.write_all(b"R\n");
                }
            });
            child
        };
        let children: Vec<_> = (0..10).map(ask).collect();
        let outputs = children.into_iter().map(|child| child.wait_with_output().expect("it ends"));
        outputs
            .map(|output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
            .collect::<Vec<_>>()
    });
    assert!(outcomes.iter().all(|said| said.contains("RENEGOTIATING")), "{}", outcomes[0]);
    assert_eq!(after.rose("tls_handshakes_total result=\"ok\""), 10, "the first of each, and no other");
}

/// Records that are good, with one byte in each.
#[test]
fn records_of_a_byte() {
    let (secured, arena) = Secured::arena(&[]);
    let (after, sent) = arena.attack("records of a byte, 8", |_| {
        let mut clients: Vec<TlsClient> = (0..8)
            .map(|n| {
                TlsClient::connect(secured.addr, "localhost", &secured.client(&TLS13))
                    .upgrade(&format!("/raw/drip-{n}?self=false"))
            })
            .collect();
        let message = frame(TEXT, b"x");
        let mut sent = 0;
        for_a_while(SECOND * 3 / 2, Duration::ZERO, |_| {
            for client in &mut clients {
                message.iter().for_each(|byte| client.send(&[*byte]));
                sent += 1;
            }
        });
        sent
    });
    assert!(sent > 500, "{sent} messages are no flood");
    after.rises("messages_received_total", sent);
}
