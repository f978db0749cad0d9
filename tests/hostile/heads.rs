//! Heads: two requests in one, addresses that are forged, more fields than anybody needs, and targets that lead out of the house.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::arena::Arena;
use super::common::{Client, wait_until};
use super::crowd::push;
use super::healthy::Entrance;

const PROXY: &str = "127.0.0.2";
const TRUSTED: &str = "--trusted-proxies=127.0.0.2";
/// A request that must never be answered: it is in the body, or behind the end, of another. If it were, the healthy would see it.
const SMUGGLED: &str = "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 38\r\n\r\n{\"topic\":\"pulse\",\"data\":{\"n\":0,\"t\":0}}";

/// All that comes, until the end or for a second.
fn answer(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a time-out");
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(len @ 1..) = std::io::Read::read(stream, &mut chunk) {
        bytes.extend_from_slice(&chunk[..len]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Asks from an address.
fn ask(from: &str, addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = Client::connect_from(from, addr).stream;
    let _ = stream.write_all(bytes);
    answer(&mut stream)
}

/// What a proxy and the server could read as different requests, with fields of a head and the status that it is answered with.
const AMBIGUOUS: [(&str, u16); 16] = [
    ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
    ("Content-Length: 5\r\nContent-Length: 160", 400),
    ("Content-Length: 5, 160", 400),
    ("Content-Length: +5", 400),
    ("Content-Length: 0x5", 400),
    ("Content-Length: 5\r\n 0", 400),
    ("Content-Length:\r\n 5", 400),
    ("Content-Length : 5", 400),
    ("Content-Length: 5\nTransfer-Encoding: chunked", 400),
    ("Content-Length: 5\rTransfer-Encoding: chunked", 400),
    ("Content-Length: 5\r\nTransfer-Encoding\u{b}: chunked", 400),
    ("Transfer-Encoding: chunked", 411),
    ("Transfer-Encoding: xchunked", 411),
    ("Host: b\r\nContent-Length: 5", 400),
    ("X: a\r\n\u{0}Content-Length: 5", 400),
];

#[test]
fn two_requests_in_one() {
    let (after, answers) =
        Arena::start(&[TRUSTED]).attack("requests smuggled behind a proxy, 16 kinds × 20", |server| {
            let one = |(fields, status): (&'static str, u16)| {
                let head = format!("POST /publish HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n{fields}\r\n\r\n");
                let bytes = format!("{head}0\r\n\r\n{SMUGGLED}");
                let answers: Vec<_> = (0..20).map(|_| ask(PROXY, server.addr, bytes.as_bytes())).collect();
                (fields, status, answers)
            };
            AMBIGUOUS.into_iter().map(one).collect::<Vec<_>>()
        });
    for (fields, status, answers) in answers {
        for answer in answers {
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{fields:?}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{fields:?}: a second answer: {answer}");
            assert!(answer.contains("Connection: close\r\n"), "{fields:?}: {answer}");
        }
    }
    assert_eq!(after.rose("http_errors_total"), 16 * 20);
    assert_eq!(after.rose("http_requests_total"), 0, "nothing was published but by the healthy");
}

#[test]
fn addresses_that_are_forged_in_fields() {
    let args = [TRUSTED, "--address-connections=40"];
    let (after, switched) = Arena::start(&args).attack("X-Forwarded-For forged by a client, 400", |server| {
        let fields = |n: usize| match n % 3 {
            0 => format!("X-Forwarded-For: 192.0.2.{}\r\n", n % 250),
            1 => format!("Forwarded: for=192.0.2.{}\r\n", n % 250),
            _ => format!("X-Forwarded-For: 10.0.0.1, 192.0.2.{}\r\nX-Real-IP: 192.0.2.9\r\n", n % 250),
        };
        let head = |n| format!("GET /raw/t HTTP/1.1\r\nHost: a\r\n{}", fields(n));
        let mut held: Vec<TcpStream> =
            (0..400).map(|_| Client::connect_from("127.0.0.3", server.addr).stream).collect();
        // From elsewhere than the proxy it is as if nothing had been said: forty are waited for, and that is it.
        held.iter_mut().enumerate().for_each(|(n, stream)| _ = push(stream, head(n).as_bytes()));
        let refused = || server.metric("connections_refused_total reason=\"address_connections\"");
        wait_until("all but forty are refused", || refused() >= 360);
        // What a client writes into the list that its proxy appends to is not looked at either.
        let through = |n: usize| {
            let lies = format!("X-Forwarded-For: 127.0.0.1, 198.51.100.{}\r\nX-Forwarded-For: 192.0.2.7\r\n", n % 250);
            let mut client = Client::connect_from(PROXY, server.addr);
            client.send_anyway(super::common::client::handshake("/raw/t", &lies).as_bytes());
            client
        };
        let mut by_proxy: Vec<Client> = (0..60).map(through).collect();
        by_proxy.iter_mut().map(Client::head).filter(|head| head.starts_with("HTTP/1.1 101 ")).count()
    });
    assert_eq!(switched, 40);
    assert_eq!(after.rose("connections_refused_total reason=\"address_connections\""), 360 + 20);
}

#[test]
fn addresses_that_are_forged_in_proxy_headers() {
    const REAL: &str = "PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n";
    let healthy = Entrance { from: Some(PROXY), prelude: REAL.into(), ..Entrance::default() };
    let args = [TRUSTED, "--proxy-protocol=v1v2", "--address-connections=60"];
    let (after, statuses) = Arena::with(&args, &healthy).attack("PROXY headers forged, 4 kinds × 60", |server| {
        let request = "GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let forged = "PROXY TCP4 198.51.100.1 127.0.0.1 1 2\r\n";
        let endless = format!("PROXY TCP4 {}", "1".repeat(5000));
        let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff";
        let kinds: [(&str, Vec<u8>); 4] = [
            ("127.0.0.3", [REAL, request].concat().into_bytes()),
            // The first is the proxy's own; a second is the client's, and no request.
            (PROXY, [REAL, forged, request].concat().into_bytes()),
            (PROXY, endless.into_bytes()),
            (PROXY, [&v2[..], &[7; 5000]].concat()),
        ];
        kinds.map(|(from, bytes)| {
            let answers = (0..60).map(|_| ask(from, server.addr, &bytes));
            let mut statuses: Vec<_> = answers.map(|answer| answer.get(9..12).map(str::to_owned)).collect();
            statuses.sort();
            statuses.dedup();
            statuses
        })
    });
    let expected = ["403", "400", "400", "400"].map(|status| vec![Some(status.to_owned())]);
    assert_eq!(statuses, expected);
    assert_eq!(
        after.rose("connections_refused_total reason=\"proxy\""),
        180,
        "those with a good header were served, and wrong in what follows"
    );
}

#[test]
fn more_head_than_anybody_needs() {
    let (after, answers) = Arena::start(&[]).attack("heads of many fields and many bytes, 5 kinds × 60", |server| {
        let head = |line: &str, fields: &str| format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let kinds = [
            (head("GET /health", &"X: y\r\n".repeat(64)), "431"),
            (head("GET /health", &format!("X: {}\r\n", "y".repeat(9000))), "431"),
            (head(&format!("GET /{}", "y".repeat(9000)), ""), "431"),
            (head("GET /health", &"\u{e9}: y\r\n".repeat(10)), "400"),
            ("GET ".to_owned() + &" ".repeat(100_000), "4"),
        ];
        let ask = |(bytes, status): (String, &'static str)| {
            let answers = (0..60).map(|_| ask("127.0.0.1", server.addr, bytes.as_bytes()));
            (status, answers.filter(|answer| answer[9..].starts_with(status)).count())
        };
        kinds.map(ask)
    });
    assert!(answers.iter().all(|(_, count)| *count == 60), "{answers:?}");
    assert_eq!(after.rose("http_errors_total"), 300);
}

#[test]
fn targets_that_lead_out_of_the_house() {
    const TARGETS: [&str; 12] = [
        "/../../../../etc/passwd",
        "/demo/../../../etc/passwd",
        "/demo/%2e%2e/%2e%2e/etc/passwd",
        "/demo/..%2f..%2fetc%2fpasswd",
        "/demo//etc/passwd",
        "/demo/\\..\\etc\\passwd",
        "/demo/%00",
        "//etc/passwd",
        "/metrics",
        "/drain",
        "http://evil.example/metrics",
        "*",
    ];
    let (_, answers) = Arena::start(&[]).attack("targets that lead elsewhere, 12 kinds × 40", |server| {
        let one = |target: &'static str| {
            let bytes = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            (target, (0..40).map(|_| ask("127.0.0.1", server.addr, bytes.as_bytes())).collect::<Vec<_>>())
        };
        TARGETS.map(one)
    });
    for (target, answers) in answers {
        for answer in answers {
            assert!(["400", "404"].contains(&&answer[9..12]), "{target}: {answer}");
            assert!(!answer.contains("root:") && !answer.contains("uproar_"), "{target}: {answer}");
        }
    }
}
