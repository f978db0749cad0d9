//! Backends: who may be one, who gets which message, and that none is lost or comes twice, while backends come and go.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::client::{CLOSE, TEXT, handshake, next};
use common::{Client, SHARDS, TestServer, config, wait_until};
use serde_json::{Value, json};
use uproar::config::Secret;
use uproar::ws::deflate::{Arena, Inflater};
use uproar::{Backend, JoinError, Server, Topics};

const KEY: &str = "correct-horse-battery";

fn server(shards: u32) -> TestServer {
    let mut config = config(shards);
    config.backend_key = vec![Secret::new(KEY)];
    TestServer::start(config)
}

/// A backend that was welcomed.
fn backend(server: &TestServer, query: &str) -> Client {
    let mut backend = server.ws(&format!("/backend?key={KEY}{query}"));
    assert_eq!(next(&mut backend)["backend"], true);
    backend
}

/// A client that was welcomed, and its `clientId`.
fn client(server: &TestServer, room: &str) -> (Client, String) {
    let mut client = server.ws(&format!("/?room={room}"));
    let id = next(&mut client)["clientId"].as_str().expect("a welcome").to_owned();
    (client, id)
}

/// The next message of one of these types.
#[track_caller]
fn next_of(client: &mut Client, types: &[&str]) -> Value {
    loop {
        let message = next(client);
        if types.iter().any(|kind| message["type"] == *kind) {
            return message;
        }
    }
}

/// Reads everything to the end in a thread of its own; `name` comes with each message.
fn read_all(mut client: Client, name: usize, to: Sender<(usize, Value)>) -> JoinHandle<()> {
    thread::spawn(move || {
        while let Some(frame) = client.frame().filter(|frame| frame.opcode() != CLOSE) {
            if frame.opcode() == TEXT && to.send((name, serde_json::from_str(frame.text()).expect("JSON"))).is_err() {
                return;
            }
        }
    })
}

#[test]
fn a_backend_needs_the_key() {
    let guarded = server(1);
    let unguarded = TestServer::start(config(1));
    for (server, path, field) in [
        (&guarded, "/backend", ""),
        (&guarded, "/backend?key=", ""),
        (&guarded, "/backend?key=correct-horse-batterx", ""),
        (&guarded, "/backend", "Authorization: Bearer correct-horse\r\n"),
        (&guarded, "/backend", "Authorization: Basic correct-horse-battery\r\n"),
        (&unguarded, "/backend", ""),
        (&unguarded, "/backend?key=", ""),
        (&unguarded, "/backend?key=off", ""),
    ] {
        let mut client = Client::connect(server.addr);
        client.send(handshake(path, field).as_bytes());
        let response = client.response();
        assert_eq!((response.status, response.field("WWW-Authenticate")), (401, Some("Bearer")), "{path} {field}");
    }
    assert_eq!(guarded.metric("handshakes_total result=\"backend_key\""), 5);
    let by_header =
        Client::connect(guarded.addr).upgrade("/backend", "Authorization: bearer correct-horse-battery\r\n");
    let by_query = backend(&guarded, "");
    wait_until("both are there", || guarded.metric("connections kind=\"backend\"") == 2);
    drop((by_header, by_query));
    wait_until("none is there", || guarded.metric("connections kind=\"backend\"") == 0);
    let mut client = Client::connect(guarded.addr);
    client.send(b"GET /backend HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.response().status, 426);
}

#[test]
fn what_is_handed_over_is_compressed_if_the_backend_wants_it() {
    let server = server(1);
    let fields = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n";
    let (mut backend, _) = Client::connect(server.addr).upgrade(&format!("/backend?key={KEY}"), fields);
    assert_eq!(next(&mut backend)["type"], "connected");
    let (mut client, id) = client(&server, "r");
    client.text(&json!({"type": "prompt", "text": "again and ".repeat(100)}).to_string());
    let frame = backend.frame().expect("the message");
    assert!(frame.first & 0x40 != 0 && frame.payload.len() < 300, "{frame:?}");
    let mut arena = Arena::default();
    let text = Inflater::new().inflate(&frame.payload, &mut arena, 1 << 16).expect("deflated");
    assert_eq!(serde_json::from_slice::<Value>(text).expect("JSON")["clientId"], id);
}

/// Sends a message of each room, and waits until each is acknowledged; which backend got that of which room.
fn spread(clients: &mut [Client], round: usize, seen: &Receiver<(usize, Value)>) -> BTreeMap<String, usize> {
    for client in clients.iter_mut() {
        client.text(&json!({"type": "prompt", "id": round, "ack": true}).to_string());
        assert_eq!(next_of(client, &["ack", "error"])["type"], "ack");
    }
    let each = seen.iter().take(clients.len());
    each.map(|(backend, message)| (message["room"].as_str().expect("a room").to_owned(), backend)).collect()
}

#[test]
fn a_room_has_one_backend_while_that_is_connected() {
    for shards in SHARDS {
        let server = server(shards);
        let (to, seen) = channel();
        let mut streams = Vec::new();
        let mut add = |name| {
            let backend = backend(&server, "");
            streams.push(backend.stream.try_clone().expect("another handle"));
            read_all(backend, name, to.clone());
        };
        add(0);
        add(1);
        let mut clients: Vec<_> = (0..60).map(|i| client(&server, &format!("room-{i}")).0).collect();
        let first = spread(&mut clients, 1, &seen);
        let of_first = first.values().filter(|&&backend| backend == 0).count();
        assert!((10..=50).contains(&of_first), "evenly: {of_first} of 60");
        add(2);
        assert_eq!(spread(&mut clients, 2, &seen), first, "nothing moves to a new backend");
        streams[0].shutdown(std::net::Shutdown::Both).expect("it was open");
        wait_until("one has gone", || server.metric("connections kind=\"backend\"") == 2);
        let second = spread(&mut clients, 3, &seen);
        assert_eq!(second.len(), 60);
        for (room, backend) in &first {
            let now = second[room];
            assert!(if *backend == 0 { now != 0 } else { now == *backend }, "{room}: {backend}, then {now}");
        }
        assert!(second.values().any(|&backend| backend == 2));
    }
}

/// Sends numbered messages, each again until it is acknowledged; how often it had to be.
fn insist(mut client: Client, count: u64) -> u64 {
    let mut refused = 0;
    for n in 0..count {
        loop {
            client.text(&json!({"type": "prompt", "id": n, "ack": true, "n": n}).to_string());
            let answer = next(&mut client);
            assert_eq!(answer["id"], n);
            if answer["type"] == "ack" {
                break;
            }
            assert!(answer["code"] == "no_backend" || answer["code"] == "busy", "{answer}");
            refused += 1;
            thread::sleep(Duration::from_millis(1));
        }
    }
    refused
}

#[test]
fn every_acknowledged_message_comes_to_one_backend_while_they_come_and_go() {
    const CLIENTS: usize = 8;
    const MESSAGES: u64 = 400;
    for shards in SHARDS {
        let server = server(shards);
        let (to, seen) = channel();
        let lasting = backend(&server, "");
        let lasting_stream = lasting.stream.try_clone().expect("another handle");
        let mut readers = vec![read_all(lasting, 0, to.clone())];
        let senders: Vec<_> = (0..CLIENTS)
            .map(|i| {
                let (client, _) = client(&server, &format!("room-{i}"));
                thread::spawn(move || insist(client, MESSAGES))
            })
            .collect();
        let mut name = 0;
        while senders.iter().any(|sender| !sender.is_finished()) {
            name += 1;
            let passing = backend(&server, "");
            let mut goodbye = Client::from(passing.stream.try_clone().expect("another handle"));
            passing.stream.set_nodelay(true).expect("no delay");
            readers.push(read_all(passing, name, to.clone()));
            thread::sleep(Duration::from_millis(15));
            // It leaves in good order, and reads what was handed over before that.
            goodbye.close(1000);
        }
        let refused: u64 = senders.into_iter().map(|sender| sender.join().expect("all is acknowledged")).sum();
        let mut goodbye = Client::from(lasting_stream);
        goodbye.close(1000);
        readers.into_iter().for_each(|reader| reader.join().expect("a backend reads"));
        drop(to);
        let mut came: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (_, message) in seen {
            let client = message["clientId"].as_str().expect("a sender").to_owned();
            came.entry(client).or_default().push(message["n"].as_u64().expect("a number"));
        }
        assert_eq!(came.len(), CLIENTS);
        for mut numbers in came.into_values() {
            numbers.sort_unstable();
            assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>(), "{name} backends, {refused} refused");
        }
        assert_eq!(server.metric("handed_over_total"), CLIENTS as u64 * MESSAGES);
    }
}

#[test]
fn a_backend_that_does_not_read_is_busy_and_nobody_is_closed() {
    const MESSAGES: u64 = 400;
    for shards in SHARDS {
        let mut config = config(shards);
        config.backend_key = vec![Secret::new(KEY)];
        config.send_buffer = Some(64 << 10);
        let server = TestServer::start(config);
        let mut slow = Client::ws_small(server.addr, &format!("/backend?key={KEY}"));
        let (mut client, _) = client(&server, "r");
        let filler = "x".repeat(48 << 10);
        let mut acked = Vec::new();
        for n in 0..MESSAGES {
            client.text(&json!({"type": "prompt", "id": n, "ack": true, "filler": filler}).to_string());
            let answer = next(&mut client);
            match answer["code"].as_str() {
                None => acked.push(answer["id"].as_u64().expect("an ack")),
                Some(code) => assert_eq!((code, &answer["id"]), ("busy", &json!(n))),
            }
        }
        let bytes = acked.len() * filler.len();
        assert!((7 << 20..12 << 20).contains(&bytes), "{bytes} bytes were taken");
        assert_eq!(server.metric("not_handed_over_total reason=\"busy\""), MESSAGES - acked.len() as u64);
        assert_eq!(next(&mut slow)["type"], "connected");
        let read: Vec<_> = acked.iter().map(|_| next(&mut slow)["id"].as_u64().expect("a message")).collect();
        assert_eq!(read, acked, "what was acknowledged comes, in order");
        client.text(r#"{"type":"prompt","id":"at last","ack":true}"#);
        assert_eq!(next(&mut client)["type"], "ack");
        assert_eq!(next(&mut slow)["id"], "at last");
    }
}

#[test]
fn answers_stream_in_order() {
    const CLIENTS: usize = 6;
    const PROMPTS: u64 = 20;
    const PIECES: u64 = 50;
    for shards in SHARDS {
        let server = server(shards);
        let mut storyteller = backend(&server, "");
        let mut clients: Vec<_> = (0..CLIENTS).map(|i| client(&server, &format!("room-{}", i % 2)).0).collect();
        for id in 0..PROMPTS {
            clients.iter_mut().for_each(|client| client.text(&json!({"type": "prompt", "id": id}).to_string()));
        }
        let teller = thread::spawn(move || {
            for _ in 0..CLIENTS as u64 * PROMPTS {
                let prompt = next(&mut storyteller);
                for piece in 0..PIECES {
                    let to = &prompt["clientId"];
                    let answer = json!({"type": "stream", "clientId": to, "id": prompt["id"], "piece": piece});
                    storyteller.text(&answer.to_string());
                }
            }
            storyteller
        });
        for client in &mut clients {
            for (id, piece) in (0..PROMPTS).flat_map(|id| (0..PIECES).map(move |piece| (id, piece))) {
                assert_eq!(next_of(client, &["stream"]), json!({"type": "stream", "id": id, "piece": piece}));
            }
        }
        drop(teller.join().expect("the backend goes on"));
    }
}

#[test]
fn a_backend_gets_to_know_a_large_room_that_it_takes_over() {
    const MEMBERS: usize = 700;
    for shards in SHARDS {
        let server = server(shards);
        let mut members: Vec<_> = (0..MEMBERS).map(|_| client(&server, "arena")).collect();
        let known = |backend: &mut Client| -> BTreeSet<String> {
            let joined = (0..MEMBERS).map(|_| next(backend));
            joined
                .map(|message| {
                    assert_eq!((&message["type"], &message["room"]), (&json!("client_joined"), &json!("arena")));
                    message["clientId"].as_str().expect("a client").to_owned()
                })
                .collect()
        };
        let ids: BTreeSet<_> = members.iter().map(|(_, id)| id.clone()).collect();
        let mut first = backend(&server, "&presence=true");
        assert_eq!(known(&mut first), ids);
        let mut second = backend(&server, "&presence=true");
        first.close(1000);
        assert_eq!(known(&mut second), ids);
        let (client, gone) = members.pop().expect("a member");
        drop(client);
        assert_eq!(next(&mut second), json!({"type": "client_left", "clientId": gone, "room": "arena"}));
    }
}

/// Does what it is told in a message's `do`.
struct Puppet;

impl Backend for Puppet {
    fn message(&mut self, client: &mut uproar::Client<'_>, text: &str) {
        let message: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(message["clientId"], client.id());
        match message["do"].as_str() {
            Some("echo") => assert!(client.send(text)),
            Some("panic") => panic!("as asked"),
            Some("close") => client.close(4000, "as asked"),
            Some("move") => {
                assert_eq!(client.join(""), Err(JoinError::BadName));
                client.join("game").expect("a good name");
                client.leave("lobby");
                client.identify(Some("ann")).expect("a good name");
                assert_eq!((client.room(), client.user()), (Some("game"), Some("ann")));
            }
            _ => drop(client.publish("said", text)),
        }
    }

    fn left(&mut self, topics: &mut Topics<'_>, client: &str) {
        topics.publish("gone", client);
    }
}

#[test]
fn a_backend_may_be_a_part_of_the_process() {
    for shards in SHARDS {
        let mut config = config(shards);
        config.backend_key = vec![Secret::new(KEY)];
        let server = TestServer::serve(Server::new(config).dialects().backend(|| Puppet));
        let mut outside = backend(&server, "");
        let (mut watcher, _) = client(&server, "watchers");
        watcher.text(r#"{"type":"subscribe","topics":["said","gone"]}"#);
        assert_eq!(next(&mut watcher)["type"], "subscribed");
        let (mut client, id) = client(&server, "lobby");
        for _ in 0..2 {
            client.text(r#"{"type":"prompt","do":"say","id":1,"ack":true}"#);
            assert_eq!(next(&mut client), json!({"type": "ack", "id": 1}));
        }
        client.text(r#"{"type":"prompt","do":"move"}"#);
        assert_eq!(
            [next(&mut client)["type"].clone(), next(&mut client)["type"].clone()],
            ["subscribed", "unsubscribed"]
        );
        client.text(r#"{"type":"prompt","do":"echo"}"#);
        let echo = next(&mut client);
        assert_eq!((&echo["room"], &echo["user"]), (&json!("game"), &json!("ann")));
        outside.text(r#"{"type":"send","receiver":"ann","data":1}"#);
        client.expect_text("1");
        client.text(r#"{"type":"prompt","do":"close"}"#);
        assert_eq!(client.close_code(), 4000);
        drop(client);
        assert_eq!(next(&mut watcher)["id"], 1);
        watcher.expect_text(&id);
        let (mut other, _) = self::client(&server, "lobby");
        other.text(r#"{"type":"prompt","do":"panic"}"#);
        assert_eq!(other.close_code(), 1011);
        assert_eq!(server.metric("handler_panics_total"), 1);
        assert_eq!(server.metric("handed_over_total"), 4, "what came twice was handed over once");
    }
}
