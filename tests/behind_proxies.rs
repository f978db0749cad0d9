//! Whom a connection is from when a proxy speaks for it: by header fields, and by the PROXY protocol. The proxies and the clients
//! are addresses of 127.0.0.0/8, or are only said to be.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::client::{TEXT, frame, handshake};
use common::tls::{Certificate, TlsClient, certificate, trusting};
use common::{Client, SHARDS, TestServer, config, wait_until};
use rustls::version::TLS13;
use uproar::config::{Limit, Network, Networks, ProxyProtocol, Rate};
use uproar::{Config, Connection, Handler, Message, Server};

/// Says where a connection comes from.
struct Where;

impl Handler for Where {
    fn message(&mut self, conn: &mut Connection<'_>, _: Message<'_>) {
        conn.send(&conn.peer().to_string());
    }
}

/// A server behind the proxy 127.0.0.2, whose clients may have two connections each.
fn server(shards: u32, change: impl FnOnce(&mut Config)) -> TestServer {
    let mut config = config(shards);
    config.trusted_proxies =
        Networks(vec![Network::parse("127.0.0.2").unwrap(), Network::parse("10.0.0.0/8").unwrap()]);
    config.address_connections = Limit::At(2);
    config.address_connect_rate = Limit::Off;
    change(&mut config);
    TestServer::serve(Server::new(config).dialects().route("/where", || Where))
}

fn by_headers(shards: u32) -> TestServer {
    server(shards, |_| {})
}

fn by_protocol(shards: u32) -> TestServer {
    server(shards, |config| config.proxy_protocol = ProxyProtocol::V1V2)
}

const PROXY: &str = "127.0.0.2";

/// Asks an open WebSocket where it comes from.
fn place(client: &mut Client) -> String {
    client.text("?");
    client.frame().expect("an answer").text().to_owned()
}

/// The status of a request with these fields.
fn status(client: &mut Client, fields: &str) -> u16 {
    client.send_anyway(format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").as_bytes());
    client.response().status
}

#[test]
fn a_trusted_proxy_is_believed_and_nobody_else() {
    let server = by_headers(1);
    for (from, fields, expected) in [
        (PROXY, "X-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7"),
        (PROXY, "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 192.0.2.8, 10.1.1.1\r\n", "192.0.2.8"),
        (PROXY, "Forwarded: for=192.0.2.9;proto=https\r\n", "192.0.2.9"),
        (PROXY, "Forwarded: for=\"[2001:db8::1]:4711\"\r\n", "2001:db8::/64"),
        (PROXY, "X-Forwarded-For: 192.0.2.7, unknown\r\n", "127.0.0.2"),
        (PROXY, "", "127.0.0.2"),
        ("127.0.0.3", "X-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.9\r\n", "127.0.0.3"),
    ] {
        let (mut client, _) = Client::connect_from(from, server.addr).upgrade("/where", fields);
        assert_eq!(place(&mut client), expected, "{fields}");
    }
    let mut client = Client::connect_from(PROXY, server.addr);
    assert_eq!(status(&mut client, "X-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.9\r\n"), 400);
    client.expect_end();
    assert_eq!(server.metric("connections_refused_total reason=\"proxy\""), 1);
}

#[test]
fn limits_hold_for_clients_and_not_for_their_proxy() {
    for shards in SHARDS {
        let server = by_headers(shards);
        let connect = |client: &str| {
            let fields = format!("X-Forwarded-For: {client}\r\n");
            let mut connection = Client::connect_from(PROXY, server.addr);
            connection.send(handshake("/raw/t", &fields).as_bytes());
            connection
        };
        let mut open = Vec::new();
        for n in 0..20 {
            for _ in 0..2 {
                let mut client = connect(&format!("192.0.2.{n}"));
                client.switched();
                open.push(client);
            }
            let mut third = connect(&format!("192.0.2.{n}"));
            let response = third.response();
            assert_eq!((response.status, response.field("Retry-After")), (429, Some("10")));
            third.expect_end();
        }
        assert_eq!(server.metric("connections_refused_total reason=\"address_connections\""), 20);
        drop(open);
        server.wait_idle();
        assert!(common::scrape(&server.admin).contains("\nuproar_addresses 0\n"));
    }
}

#[test]
fn a_connection_of_a_pool_is_whoevers_request_came_last() {
    let server = by_headers(1);
    let mut pool: Vec<Client> = (0..3).map(|_| Client::connect_from(PROXY, server.addr)).collect();
    let from = |client: &str| format!("X-Forwarded-For: {client}\r\n");
    for n in 0..10 {
        for connection in &mut pool[..2] {
            assert_eq!(status(connection, &from(&format!("192.0.2.{n}"))), 200);
            assert_eq!(status(connection, &from(&format!("192.0.2.{n}"))), 200, "counted once");
        }
    }
    assert_eq!(status(&mut pool[2], &from("192.0.2.8")), 200);
    assert_eq!(status(&mut pool[2], &from("192.0.2.9")), 429);
    let text = common::scrape(&server.admin);
    assert!(text.contains("\nuproar_addresses 1\n"), "{text}");
}

#[test]
fn clients_elsewhere_are_bounded_by_default_and_their_proxy_is_not() {
    let server = server(1, |config| config.address_connections = Limit::Auto);
    let (mut client, _) =
        Client::connect_from(PROXY, server.addr).upgrade("/raw/t?self=false", "X-Forwarded-For: 192.0.2.1\r\n");
    let (mut local, _) = Client::connect_from(PROXY, server.addr).upgrade("/raw/t?self=false", "");
    server.wait_subscriptions(2);
    // More than 1000 a second and a burst of 5000.
    let flood = frame(TEXT, b"x").repeat(500);
    for _ in 0..40 {
        local.send(&flood);
        client.send_anyway(&flood);
    }
    wait_until("it is closed", || server.metric("connections_closed_total reason=\"too_fast\"") == 1);
    local.send(&frame(9, b"still here"));
    let pong = std::iter::from_fn(|| local.frame()).find(|frame| frame.opcode() == 10).expect("a pong");
    assert_eq!(pong.payload, b"still here");
}

fn v2(command: u8, source: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, 0x11, 0, 12]);
    header.extend(source);
    header.extend([127, 0, 0, 1, 1, 2, 3, 4]);
    header
}

#[test]
fn the_proxy_protocol_says_where_a_connection_comes_from() {
    for shards in SHARDS {
        let server = by_protocol(shards);
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n".to_vec(), "192.0.2.7"),
            (b"PROXY TCP6 2001:db8::5 ::1 4711 80\r\n".to_vec(), "2001:db8::/64"),
            (b"PROXY UNKNOWN\r\n".to_vec(), PROXY),
            (v2(1, [192, 0, 2, 8]), "192.0.2.8"),
            (v2(0, [192, 0, 2, 8]), PROXY),
        ] {
            for piece in [1, 7, 1000] {
                let mut client = Client::connect_from(PROXY, server.addr);
                let bytes = [&header[..], handshake("/where", "").as_bytes()].concat();
                for piece in bytes.chunks(piece) {
                    client.send(piece);
                }
                client.switched();
                assert_eq!(place(&mut client), expected, "{header:?}");
            }
        }
        // A proxy behind the proxy.
        let mut client = Client::connect_from(PROXY, server.addr);
        client.send(b"PROXY TCP4 10.0.0.9 127.0.0.1 1 2\r\n");
        client.send(handshake("/where", "X-Forwarded-For: 192.0.2.77\r\n").as_bytes());
        client.switched();
        assert_eq!(place(&mut client), "192.0.2.77");
        // Whom the proxy names is no proxy.
        let mut client = Client::connect_from(PROXY, server.addr);
        client.send(b"PROXY TCP4 192.0.2.78 127.0.0.1 1 2\r\n");
        client.send(handshake("/where", "X-Forwarded-For: 192.0.2.79\r\n").as_bytes());
        client.switched();
        assert_eq!(place(&mut client), "192.0.2.78");
    }
}

#[test]
fn with_the_proxy_protocol_nothing_else_is_let_in() {
    let server = by_protocol(1);
    let mut direct = Client::connect_from("127.0.0.3", server.addr);
    assert_eq!(direct.response().status, 403);
    direct.expect_end();
    for bytes in
        [&b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"PROXY TCP4 nobody\r\n", b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\0"]
    {
        let mut client = Client::connect_from(PROXY, server.addr);
        client.send(bytes);
        assert_eq!(client.response().status, 400);
        client.expect_end();
    }
    let connect = || {
        let mut client = Client::connect_from(PROXY, server.addr);
        client.send(b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n");
        client
    };
    let mut open = [connect(), connect()];
    assert_eq!(open.each_mut().map(|client| status(client, "")), [200, 200]);
    assert_eq!(connect().response().status, 429);
    assert_eq!(server.metric("connections_refused_total reason=\"proxy\""), 4);
    assert_eq!(server.metric("connections_refused_total reason=\"address_connections\""), 1);
}

#[test]
fn a_header_that_does_not_come_is_waited_for_as_a_head_is() {
    let server = server(1, |config| {
        config.proxy_protocol = ProxyProtocol::V1V2;
        config.head_timeout = Duration::from_millis(300);
    });
    for start in ["", "PROXY TCP4 192.0.2.7", "PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n"] {
        let mut client = Client::connect_from(PROXY, server.addr);
        client.send(start.as_bytes());
        client.expect_end();
    }
    wait_until("all are counted", || server.metric("connections_closed_total reason=\"head_timeout\"") == 3);
}

#[test]
fn the_header_comes_before_tls() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let certificate: Certificate = certificate(dir.path(), "c", &["localhost"]);
    let server = server(2, |config| {
        config.proxy_protocol = ProxyProtocol::V1V2;
        config.address_connect_rate = Limit::At(Rate { per_second: 1, burst: 1 });
        config.tls_listen = Some(([127, 0, 0, 1], 0).into());
        config.tls_certificate = vec![certificate.certificate.display().to_string()];
        config.tls_key = vec![certificate.key.display().to_string()];
    });
    let connect = |source: u8| {
        let stream = Client::connect_from(PROXY, server.running().tls_address().expect("a TLS listener")).stream;
        (&stream).write_all(&v2(1, [192, 0, 2, source])).expect("it takes bytes");
        stream
    };
    for source in 1..4 {
        let stream: TcpStream = connect(source);
        let mut client = TlsClient::over(stream, "localhost", &trusting(&[&certificate], &[&TLS13])).upgrade("/where");
        client.text("?");
        assert_eq!(client.frame().text(), format!("192.0.2.{source}"));
    }
    // The second of an address is closed without a word.
    let mut refused = connect(3);
    assert_eq!(refused.read(&mut [0; 16]).unwrap_or(0), 0);
    assert_eq!(server.metric("connections_refused_total reason=\"address_rate\""), 1);
    let mut direct =
        TcpStream::connect(server.running().tls_address().expect("a TLS listener")).expect("it is accepted");
    assert_eq!(direct.read(&mut [0; 16]).unwrap_or(0), 0);
    assert_eq!(server.metric("tls_handshakes_total result=\"ok\""), 3);
}
