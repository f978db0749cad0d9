//! How many connections an address has and how fast it makes them, over real sockets: all of 127.0.0.0/8 are addresses of this
//! machine, and each is another one.

mod common;

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::tls::certificate;
use common::{Client, SHARDS, TestServer, config, wait_until};
use uproar::Config;
use uproar::config::{Limit, Rate};

const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn server(shards: u32, change: impl FnOnce(&mut Config)) -> TestServer {
    let mut config = config(shards);
    change(&mut config);
    TestServer::start(config)
}

/// Whether a connection is served; if it is not, how long to wait.
fn outcome(client: &mut Client) -> Result<(), String> {
    client.send_anyway(HEALTH);
    let response = client.response();
    match response.status {
        200 => Ok(()),
        429 => Err(response.field("Retry-After").expect("a time").to_owned()),
        status => panic!("{status}: {}", response.body),
    }
}

#[test]
fn an_address_has_so_many_connections_on_all_shards_together() {
    for shards in SHARDS {
        let server = server(shards, |config| config.address_connections = Limit::At(20));
        let connect = |from| Client::connect_from(from, server.addr);
        let mut first: Vec<Client> = (0..20).map(|_| connect("127.0.0.1")).collect();
        first.iter_mut().for_each(|client| outcome(client).expect("within the bound"));
        for _ in 0..3 {
            let mut client = connect("127.0.0.1");
            assert_eq!(outcome(&mut client), Err("10".into()));
            client.expect_end();
        }
        let mut other = connect("127.0.0.2");
        outcome(&mut other).expect("another address");
        assert_eq!(server.metric("connections_refused_total reason=\"address_connections\""), 3);
        // Each that goes makes room for one, whichever shard either is on; also a WebSocket.
        for _ in 0..20 {
            drop(first.pop());
            wait_until("it is gone", || server.publisher().connections() == 20);
            let (mut client, _) = connect("127.0.0.1").upgrade("/raw/t", "");
            assert_eq!(outcome(&mut connect("127.0.0.1")), Err("10".into()));
            client.text("x");
            client.expect_text("x");
            first.insert(0, client);
            wait_until("who was refused is gone", || server.publisher().connections() == 21);
        }
        drop((first, other));
        server.wait_idle();
        let text = common::scrape(&server.admin);
        assert!(text.contains("\nuproar_addresses 0\n"), "nothing is kept of who has gone: {text}");
    }
}

#[test]
fn an_address_makes_so_many_connections_at_once() {
    for shards in SHARDS {
        let rate = Rate { per_second: 1, burst: 10 };
        let server = server(shards, |config| config.address_connect_rate = Limit::At(rate));
        let start = Instant::now();
        let outcomes: Vec<_> = (0..30).map(|_| outcome(&mut Client::connect_from("127.0.0.9", server.addr))).collect();
        let served = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let most = 10 + start.elapsed().as_secs() as usize + 1;
        assert!((10..=most).contains(&served) && outcomes[..10].iter().all(Result::is_ok), "{outcomes:?}");
        assert!(outcomes.iter().flat_map(|outcome| outcome.as_ref().err()).all(|after| after == "1"));
        assert_eq!(server.metric("connections_refused_total reason=\"address_rate\""), 30 - served as u64);
        outcome(&mut Client::connect_from("127.0.0.10", server.addr)).expect("another address");
    }
}

#[test]
fn who_comes_too_fast_to_the_server_waits_in_the_queue() {
    for shards in SHARDS {
        let rate = Rate { per_second: 50, burst: 50 };
        let server = server(shards, |config| config.connect_rate = Some(rate));
        let start = Instant::now();
        let mut clients: Vec<Client> = (0..200).map(|_| Client::connect(server.addr)).collect();
        clients.iter_mut().for_each(|client| outcome(client).expect("late, but served"));
        // Those for which accepts were under way already come at once: 16 a shard.
        let at_once = u64::from(50 + 16 * shards);
        let least = Duration::from_millis((200 - at_once) * 1000 / 50);
        assert!(start.elapsed() >= least, "{:?} is less than {least:?}", start.elapsed());
        assert!(server.metric("accept_pauses_total reason=\"connect_rate\"") >= 1);
        assert_eq!((server.metric("connections_refused_total"), server.metric("connections_accepted_total")), (0, 200));
    }
}

#[test]
fn tls_clients_are_turned_away_without_a_handshake() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let certificate = certificate(dir.path(), "c", &["localhost"]);
    let server = server(1, |config| {
        config.tls_listen = Some(([127, 0, 0, 1], 0).into());
        config.tls_certificate = vec![certificate.certificate.display().to_string()];
        config.tls_key = vec![certificate.key.display().to_string()];
        config.address_connections = Limit::At(1);
    });
    let _first = TcpStream::connect(server.running().tls_address().expect("a TLS listener")).expect("it is accepted");
    wait_until("it is counted", || server.publisher().connections() == 1);
    let mut second = TcpStream::connect(server.running().tls_address().expect("a TLS listener")).expect("queued");
    second.set_read_timeout(Some(common::PATIENCE)).expect("a time-out");
    match second.read(&mut [0; 16]) {
        Ok(len) => assert_eq!(len, 0, "nothing is said"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert_eq!(server.metric("connections_refused_total reason=\"address_connections\""), 1);
    assert_eq!(server.metric("tls_handshakes_total"), 0);
}

#[test]
fn by_default_this_machine_is_not_bounded() {
    let server = server(1, |_| {});
    let mut clients: Vec<Client> = (0..1100).map(|_| Client::connect(server.addr)).collect();
    clients.iter_mut().for_each(|client| outcome(client).expect("no bound"));
    assert!(common::scrape(&server.admin).contains("\nuproar_addresses 0\n"));
}
