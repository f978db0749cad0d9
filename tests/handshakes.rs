//! HTTP heads, end to end but for the socket: a table of them, and properties that hold for all.

use proptest::prelude::*;
use uproar::http::request::{Request, parse};
use uproar::http::response::Response;
use uproar::http::route::{Route, route};
use uproar::ws::handshake;

#[path = "../fuzz/entries/head.rs"]
mod fuzz_entry;

const MAX_HEAD: usize = 8 * 1024;
const VECTORS: &str = include_str!("vectors/handshakes.txt");
const RFC_FIELDS: &str = "Host: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

struct Case {
    name: &'static str,
    head: Vec<u8>,
    expected: &'static str,
}

fn cases() -> Vec<Case> {
    let blocks = VECTORS.split("\n\n").map(|block| block.trim_start_matches('\n'));
    blocks.filter(|block| !block.starts_with('#') && !block.is_empty()).map(case).collect()
}

fn case(block: &'static str) -> Case {
    let mut lines = block.lines();
    let mut case = Case { name: lines.next().unwrap(), head: Vec::new(), expected: "" };
    let mut last = ' ';
    for line in lines {
        let (mark, text) = line.split_at(1);
        match (mark, text.strip_prefix(' ').unwrap_or(text)) {
            ("@", "") => case.head.extend(RFC_FIELDS.bytes()),
            ("+", text) => case.head.extend(unescape(text)),
            (">", text) => {
                case.head.extend(unescape(text));
                case.head.extend(b"\r\n");
            }
            ("=", text) => {
                case.expected = text;
                if last != '+' {
                    case.head.extend(b"\r\n");
                }
            }
            _ => panic!("{}: {line}", case.name),
        }
        last = line.chars().next().unwrap();
    }
    assert_ne!(case.expected, "", "{}", case.name);
    case
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (byte, false) => byte,
            _ => match rest.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'\\' => b'\\',
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => panic!("\\{}", other as char),
            },
        });
    }
    bytes
}

/// What becomes of a head, in the words of the table.
fn outcome(head: &[u8]) -> String {
    match parse(head, MAX_HEAD) {
        Ok(None) => "incomplete".into(),
        Err(error) => String::from_utf8(Response::from(error).body.into_owned()).unwrap(),
        Ok(Some(request)) => answer(&request),
    }
}

fn answer(request: &Request<'_>) -> String {
    let dialect = match route(request.path, request.wants_websocket()) {
        Route::Raw { .. } => "raw",
        Route::Json => "json",
        Route::Backend => "backend",
        Route::Events => return "events".into(),
        Route::Publish => return "publish".into(),
        Route::Probe(probe) => return format!("{probe:?}").to_lowercase(),
        Route::Page(_) => return "page".into(),
        Route::UpgradeRequired => return "426".into(),
        Route::BadTopic => return "400 topic".into(),
        Route::NotFound => return "404".into(),
    };
    match handshake::check(request.method.as_str(), request.minor_version, request.headers(), &[]) {
        Ok(handshake) => format!("101 {} {dialect}", std::str::from_utf8(handshake.accept.as_bytes()).unwrap()),
        Err(refusal) => format!("{} {refusal}", refusal.status()),
    }
}

fn agrees(outcome: &str, expected: &str) -> bool {
    let (status, part) = expected.split_once(' ').unwrap_or((expected, ""));
    outcome.starts_with(status) && outcome.contains(part)
}

#[test]
fn every_head_of_the_table_ends_as_it_says() {
    let cases = cases();
    assert!(cases.len() >= 50, "{} cases were read", cases.len());
    for Case { name, head, expected } in &cases {
        let outcome = outcome(head);
        assert!(agrees(&outcome, expected), "{name}: expected {expected}, got {outcome}");
    }
}

#[test]
fn a_head_of_the_table_is_incomplete_until_it_is_decided() {
    for Case { name, head, .. } in cases() {
        let whole = outcome(&head);
        let first = (0..=head.len()).find(|&len| outcome(&head[..len]) != "incomplete");
        for len in first.unwrap_or(head.len())..=head.len() {
            assert_eq!(outcome(&head[..len]), whole, "{name}, cut at {len}");
        }
    }
}

#[test]
fn a_good_head_is_incomplete_to_its_last_byte() {
    let head = format!("GET /raw/x HTTP/1.1\r\n{RFC_FIELDS}\r\n");
    for len in 0..head.len() {
        assert_eq!(outcome(&head.as_bytes()[..len]), "incomplete", "{len}");
    }
    assert!(outcome(head.as_bytes()).starts_with("101 "));
}

/// Pieces that heads are made of, so that random ones get past the first line.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    const KNOWN: [&str; 16] = [
        "GET / HTTP/1.1\r\n",
        "GET /raw/%41?x=%2",
        " HTTP/1.0\r\n",
        "HEAD /raw HTTP/1.1\r\n",
        "POST ",
        "Host: a\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Upgrade: websocket\r\n",
        "Connection: upgrade, close\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Sec-WebSocket-Version: 13\r\n",
        "X: y\n",
        "\r\n",
        "\r",
        " ",
    ];
    prop_oneof![
        8 => proptest::sample::select(&KNOWN[..]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ]
}

proptest! {
    #[test]
    fn any_bytes_have_one_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz_entry::head(&bytes);
    }

    #[test]
    fn anything_like_a_head_has_one_answer(pieces in proptest::collection::vec(piece(), 0..24)) {
        fuzz_entry::head(&pieces.concat());
    }

    #[test]
    fn a_good_head_with_any_extra_fields_is_accepted(
        names in proptest::collection::vec("X-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}", 0..20),
        value in "[ -~\t]{0,60}",
    ) {
        let extra: String = names.iter().map(|name| format!("{name}: {value}\r\n")).collect();
        let outcome = outcome(format!("GET /raw/x HTTP/1.1\r\n{extra}{RFC_FIELDS}\r\n").as_bytes());
        prop_assert_eq!(outcome, "101 s3pPLMBiTxaQ9kYGzzhZRbK+xOo= raw");
    }
}
