//! The log of a server: lines that programs read, few of a kind, no secrets; and a reader that does not read stops nobody.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::common::client::handshake;
use super::common::{Client, PATIENCE, Process, wait_until};
use super::reload::{Configured, reload};

fn lines(log: &str) -> Vec<Value> {
    let parsed = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}")));
    parsed.collect()
}

/// How many events of a kind there were, as lines and as numbers in lines.
fn events(lines: &[Value], message: &str) -> (u64, u64) {
    let whole = lines.iter().filter(|line| line["message"] == message).count() as u64;
    let like = lines.iter().filter(|line| line["message"].as_str().is_some_and(|text| text.starts_with(message)));
    (whole, like.filter_map(|line| line["repeated"].as_u64()).sum())
}

const HOSTILE: &str = "a%0A%0DERROR%20forged%1B%5B2J";

#[test]
fn json_lines_say_which_connection_it_was() {
    let it = Configured::start("shards = 2\nlog = 'debug'\nlog_format = 'json'\nclient_rooms = 'general'\n");
    let mut client = it.server.ws("/raw/t");
    client.close(1000);
    client.close_code();
    let mut refused = Client::connect(it.server.addr);
    refused.send(handshake(&format!("/?room={HOSTILE}"), "").as_bytes());
    assert_eq!(refused.response().status, 403);
    drop(refused);
    wait_until("both are over", || events(&lines(&it.log()), "a connection has ended").0 == 2);
    let log = lines(&it.log());
    let ended = log.iter().find(|line| line["reason"] == "peer").expect("the first");
    assert!(ended["conn"].as_str().is_some_and(|conn| conn.starts_with("0x")), "{ended}");
    assert!(ended["shard"].as_u64().is_some_and(|shard| shard < 2) && ended["peer"] == "127.0.0.1", "{ended}");
    assert_eq!((&ended["level"], &ended["code"]), (&"DEBUG".into(), &1000.into()));
}

#[test]
fn a_line_of_text_is_one_whatever_a_client_says() {
    let it = Configured::start("shards = 1\nlog = 'debug'\nclient_subscribe = 'good'\n");
    let mut client = Client::json(it.server.addr, "room");
    client.text(r#"{"type":"subscribe","topic":"a\n2026-01-01T00:00:00Z ERROR forged \u001b[2J\u0085"}"#);
    client.frame().expect("an answer");
    wait_until("it is told", || it.log().contains("was not allowed"));
    let log = it.log();
    assert!(log.contains("topic=\"a\\n2026") || log.contains("\\nERROR") || log.contains("\\n2026"), "{log}");
    assert!(!log.lines().any(|line| line.contains(|char: char| char.is_control()) || line.starts_with("2026-01-01")));
}

#[test]
fn a_flood_is_counted_and_adds_up() {
    const FLOOD: u64 = 600;
    let it = Configured::start("shards = 2\nlog = 'debug'\nlog_format = 'json'\n");
    for _ in 0..FLOOD {
        let mut client = Client::connect(it.server.addr);
        client.send(b"GET /nowhere/at/all HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        client.response();
    }
    let closed = || it.server.metric("connections_closed_total");
    wait_until("all are over", || closed() == FLOOD);
    let sum = || {
        let (whole, repeated) = events(&lines(&it.log()), "a connection has ended");
        (whole + repeated, whole)
    };
    wait_until("the rest is told", || sum().0 == FLOOD);
    assert!(sum().1 < FLOOD / 2, "{} lines", sum().1);
    assert!(it.server.metric("log_lines_total result=\"repeated\"") >= FLOOD - sum().1);
    assert_eq!(it.server.metric("log_lines_total result=\"lost\""), 0);
}

#[test]
fn a_reader_who_does_not_read_stops_nothing() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    // It is full before the server begins.
    let mut filler = writer.try_clone().expect("a descriptor");
    let filling = thread::spawn(move || drop(filler.write_all(&[b'x'; 1 << 20])));
    thread::sleep(Duration::from_millis(100));
    let mut command =
        Process::command(&["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--shards=1", "--log=debug"]);
    command.stderr(writer);
    let mut server = Process::launch(command);
    let begin = Instant::now();
    for number in 0..300 {
        let mut client = server.ws("/raw/t");
        client.text(&number.to_string());
        client.expect_text(&number.to_string());
        client.close(1000);
        client.close_code();
    }
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    assert!(server.metric("log_lines_total result=\"written\"") > 0);
    assert_eq!(reload(&server.admin, None).0, 200);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "not for ever");
    drop(reader);
    drop(filling.join());
}

#[test]
fn secrets_are_nowhere_in_it() {
    const SECRETS: [(&str, &str); 3] = [
        ("UPROAR_ADMIN_KEY", "admin-0123456789abcdef"),
        ("UPROAR_BACKEND_KEY", "backend-0123456789abcdef"),
        ("UPROAR_JWT_SECRET", "tokens-0123456789abcdef"),
    ];
    for format in ["text", "json"] {
        let it = Configured::start_with(&format!("shards = 1\nlog = 'debug'\nlog_format = '{format}'\n"), |command| {
            command.envs(SECRETS);
        });
        let key = jsonwebtoken::EncodingKey::from_secret(SECRETS[2].1.as_bytes());
        let claims = serde_json::json!({"sub": "ann"});
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token");
        for target in [
            format!("/raw/t?access_token={token}"),
            format!("/raw/t?access_token={token}broken"),
            format!("/backend?key={}", SECRETS[1].1),
            format!("/backend?key={}wrong", SECRETS[1].1),
        ] {
            let mut client = Client::connect(it.server.addr);
            client.send(handshake(&target, "").as_bytes());
            client.head();
        }
        assert_eq!(reload(&it.server.admin, Some("wrong-0123456789")).0, 401);
        assert_eq!(reload(&it.server.admin, Some(SECRETS[0].1)).0, 200);
        it.write("backend_key = 'too-short'\n");
        let (status, answer) = reload(&it.server.admin, Some(SECRETS[0].1));
        assert!(status == 422 && !answer.to_string().contains("too-short"), "{answer}");
        wait_until("it is told", || it.log().contains("not reloaded") && it.log().contains("a token was refused"));
        let log = it.log();
        let words = SECRETS.map(|(_, key)| key).into_iter().chain(["too-short", &*token, "wrong-0123456789"]);
        words.into_iter().for_each(|word| assert!(!log.contains(word), "{word} in {log}"));
    }
}
