//! The admin listener: pages in the operator's browser that would use it, and whoever on this machine occupies it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::arena::Arena;
use super::common::{Client, Process, wait_until};
use super::crowd::push;

const EACH: usize = 30;
/// Were it published, the healthy would see it.
const BODY: &str = r#"{"topic":"pulse","data":{"n":0,"t":0}}"#;

fn admin(server: &Process) -> SocketAddr {
    server.admin.parse().expect("an address")
}

/// The status of a request, and all that was answered.
fn ask(addr: SocketAddr, bytes: &[u8]) -> (u16, String) {
    let mut stream = Client::connect(addr).stream;
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(len @ 1..) = stream.read(&mut chunk) {
        answer.extend_from_slice(&chunk[..len]);
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    (text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0), text)
}

/// What a page can make a browser send without asking first, and by a name of its own that leads here: with the status.
fn forged() -> Vec<(String, u16)> {
    let post = |path: &str, host: &str, fields: &str| {
        let len = BODY.len();
        format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}Content-Length: {len}\r\n\r\n{BODY}"
        )
    };
    let origin = "Origin: https://evil.example\r\n";
    let json = "Content-Type: application/json\r\n";
    vec![
        (post("/publish", "localhost", &format!("{origin}Content-Type: text/plain\r\n")), 415),
        (post("/publish", "localhost", &format!("{origin}Content-Type: application/x-www-form-urlencoded\r\n")), 415),
        (post("/publish", "localhost", &format!("{origin}Content-Type: multipart/form-data; boundary=x\r\n")), 415),
        (post("/publish", "localhost", origin), 415),
        (post("/publish", "evil.example:8081", json), 421),
        (post("/publish", "localhost.evil.example", json), 421),
        (post("/drain", "evil.example", json), 421),
        (post("/disconnect", "localhost", &format!("{origin}Content-Type: text/plain\r\n")), 415),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".into(), 421),
        (
            format!(
                "OPTIONS /publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{origin}Access-Control-Request-Method: POST\r\n\r\n"
            ),
            405,
        ),
        ("GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".into(), 404),
        ("GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".into(), 404),
        (
            format!(
                "GET /rooms HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
                "x".repeat(4000)
            ),
            401,
        ),
    ]
}

#[test]
fn pages_that_forge_requests() {
    let (after, answers) = Arena::start(&[]).attack("forged requests to the admin listener, 13 kinds × 30", |server| {
        let one = |(request, status): (String, u16)| {
            let answers: Vec<_> = (0..EACH).map(|_| ask(admin(server), request.as_bytes())).collect();
            (request, status, answers)
        };
        forged().into_iter().map(one).collect::<Vec<_>>()
    });
    for (request, status, answers) in answers {
        for (answered, text) in answers {
            assert_eq!(answered, status, "{request}: {text}");
            assert!(!text.to_lowercase().contains("access-control"), "no page may read it: {text}");
            assert!(!text.contains("root:"), "{text}");
        }
    }
    // All that the healthy clients got was published by one of them: the arena has seen to that.
    assert_eq!(after.rose("http_errors_total"), 0, "nothing of it was on the public listener");
}

#[test]
fn bodies_that_are_too_large() {
    let (_, statuses) = Arena::start(&[]).attack("large bodies to the admin listener, 40", |server| {
        let head = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        let announced = format!("{head}Content-Length: 99999999999\r\n\r\n{{");
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(40));
        let bodies = (0..20).flat_map(|_| [&announced, &chunked]);
        bodies.map(|bytes| ask(admin(server), bytes.as_bytes()).0).collect::<Vec<_>>()
    });
    // Who goes on sending may have the answer taken away by the reset.
    assert!(statuses.iter().all(|status| [413, 0].contains(status)), "{statuses:?}");
    assert!(statuses.iter().step_by(2).all(|status| *status == 413), "{statuses:?}");
}

#[test]
fn connections_that_occupy_it() {
    Arena::start(&[]).attack("slow requests to the admin listener, 300", |server| {
        let mut slow: Vec<TcpStream> = (0..300).map(|_| Client::connect(admin(server)).stream).collect();
        for round in 0..30 {
            slow.iter_mut().for_each(|stream| _ = push(stream, &b"POST /publish HTTP/1.1\r\nHost: a"[round..=round]));
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(slow);
        let health = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        wait_until("there is room again", || ask(admin(server), health).0 == 200);
    });
}
