//! The embedder's trait, against a server with handlers of its own.

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::client::{BINARY, CLOSE, TEXT, close_payload, frame, handshake};
use common::{Client, SHARDS, TestServer, config, wait_until};
use uproar::{CloseReason, Closed, Connection, Handler, Message, Refuse, Request, Server, Topics, Upgrade};

/// What callbacks were called, by any shard, in the order of each connection.
type Log = Arc<Mutex<Vec<String>>>;

/// Tells a log of everything. Not `Send`: it counts in an `Rc`.
struct Telltale {
    log: Log,
    messages: Rc<RefCell<usize>>,
}

impl Telltale {
    fn tell(&self, what: String) {
        self.log.lock().expect("no test has failed").push(what);
    }
}

impl Handler for Telltale {
    fn upgrade(&mut self, request: &Request<'_>) -> Result<Upgrade, Refuse> {
        let name = request.query_value("name").ok_or(Refuse { status: 403, reason: "Who are you?".into() })?;
        assert_ne!(name, "panic upgrade");
        Ok(Upgrade { protocol: Some("chat.v2"), user: Some(Box::new(name.into_owned())) })
    }

    fn open(&mut self, conn: &mut Connection<'_>) {
        let name = conn.user::<String>().cloned().expect("it was set");
        self.tell(format!("open {name}"));
        assert_ne!(name, "panic open");
        assert_eq!(conn.user::<u32>(), None);
        conn.subscribe("room").expect("a good name");
        let refused: Box<dyn std::error::Error> = conn.subscribe("").expect_err("no name").into();
        assert_eq!(refused.to_string(), "a topic's name has 1 to 256 bytes");
        conn.send(&format!("welcome {name}"));
    }

    fn message(&mut self, conn: &mut Connection<'_>, message: Message<'_>) {
        *self.messages.borrow_mut() += 1;
        match message.as_text() {
            Some("panic") => panic!("as asked"),
            Some("panic after send") => {
                conn.send("sent before the panic");
                panic!("as asked");
            }
            Some("leave") => assert!(conn.unsubscribe("room") && !conn.unsubscribe("room")),
            Some("count") => {
                let count = *self.messages.borrow();
                conn.set_user(count);
                let count = conn.user::<usize>().copied();
                conn.send(&format!("{count:?}"));
                conn.set_user("counted".to_owned());
            }
            Some("others") => assert!(conn.publish_to_others("room", "to others")),
            Some("close") => {
                conn.close(4001, "bye");
                assert!(!conn.send("too late"));
            }
            Some(_) => assert!(conn.publish("room", message)),
            None => {
                conn.send(message);
            }
        }
    }

    fn subscription(&mut self, conn: &mut Connection<'_>, topic: &str, subscribers: usize) {
        assert_eq!(subscribers, conn.subscribers(topic));
        self.tell(format!("subscription {topic}"));
    }

    fn drain(&mut self, conn: &mut Connection<'_>) {
        self.tell("drain".into());
        conn.send("drained");
    }

    fn close(&mut self, topics: &mut Topics<'_>, closed: Closed) {
        let user = closed.user.and_then(|user| user.downcast::<String>().ok()).expect("it was set");
        assert_ne!(*user, "panic close");
        self.tell(format!("close {user} {} {:?}", closed.code, closed.reason));
        topics.publish("room", &format!("{user} has left"));
    }
}

fn serve(shards: u32) -> (TestServer, Log) {
    let log = Log::default();
    let told = log.clone();
    let factory = move || Telltale { log: told.clone(), messages: Rc::default() };
    let mut config = config(shards);
    config.close_timeout = Duration::from_millis(200);
    (TestServer::serve(Server::new(config).route("/room", factory).dialects()), log)
}

fn enter(server: &TestServer, name: &str) -> Client {
    let mut client = server.ws(&format!("/room?name={name}"));
    client.expect_text(&format!("welcome {}", name.replace('+', " ")));
    client
}

#[track_caller]
fn wait_told(log: &Log, what: &str) {
    wait_until(what, || log.lock().expect("no panic").iter().any(|line| line == what));
}

#[test]
fn an_upgrade_may_be_refused_and_may_choose_a_protocol() {
    for shards in SHARDS {
        let (server, log) = serve(shards);
        let mut client = Client::connect(server.addr);
        client.send(handshake("/room", "").as_bytes());
        let refused = client.response();
        assert_eq!((refused.status, refused.body.as_str()), (403, "403 Forbidden\nWho are you?\n"));
        // The connection is as good as before.
        let fields = "Sec-WebSocket-Protocol: chat.v1, chat.v2\r\n";
        let (mut client, head) = client.upgrade("/room?name=ann", fields);
        assert!(head.contains("Sec-WebSocket-Protocol: chat.v2\r\n"), "{head}");
        client.expect_text("welcome ann");
        let (_client, head) = Client::connect(server.addr).upgrade("/room?name=bob", "");
        assert!(!head.contains("Sec-WebSocket-Protocol"), "{head}");
        let mut plain = Client::connect(server.addr);
        plain.send(b"GET /room HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(plain.response().status, 426);
        wait_told(&log, "open bob");
    }
}

#[test]
fn callbacks_come_in_order_with_what_they_need() {
    let (server, log) = serve(1);
    let mut ann = enter(&server, "ann");
    let mut bob = enter(&server, "bob");
    ann.text("hello");
    [&mut ann, &mut bob].into_iter().for_each(|client| client.expect_text("hello"));
    ann.text("others");
    bob.expect_text("to others");
    ann.send(&frame(BINARY, b"\x00\xff"));
    ann.expect(BINARY, b"\x00\xff");
    ann.text("leave");
    ann.text("count");
    ann.expect_text("Some(5)");
    bob.text("close");
    let close = bob.frame().expect("a close frame");
    assert_eq!((close.code(), &close.payload[2..]), (4001, &b"bye"[..]));
    bob.close(4001);
    bob.expect_end();
    ann.send(&frame(CLOSE, &close_payload(3000, "")));
    assert_eq!(ann.close_code(), 3000);
    server.wait_idle();
    let expected = [
        "open ann",
        "subscription room",
        "open bob",
        "subscription room",
        "subscription room",
        "close bob 4001 Application",
        "close counted 3000 Peer",
    ];
    wait_told(&log, expected[6]);
    assert_eq!(*log.lock().expect("no panic"), expected);
}

#[test]
fn what_a_close_publishes_reaches_those_who_are_left() {
    for shards in SHARDS {
        let (server, log) = serve(shards);
        let mut staying: Vec<_> = (0..6).map(|i| enter(&server, &format!("s{i}"))).collect();
        for i in 0..10 {
            let name = format!("leaver{i}");
            let leaver = enter(&server, &name);
            let ending = if i % 2 == 0 { Client::reset } else { drop };
            ending(leaver);
            staying.iter_mut().for_each(|client| client.expect_text(&format!("{name} has left")));
            wait_told(&log, &format!("close {name} 1006 {:?}", CloseReason::Lost));
        }
    }
}

#[test]
fn a_panic_costs_only_the_connection_concerned() {
    for shards in SHARDS {
        let (server, log) = serve(shards);
        let mut others: Vec<_> = (0..6).map(|i| enter(&server, &format!("o{i}"))).collect();
        let mut refused = Client::connect(server.addr);
        refused.send(handshake("/room?name=panic+upgrade", "").as_bytes());
        assert_eq!(refused.response().status, 500);
        let mut unwelcome = server.ws("/room?name=panic+open");
        assert_eq!(unwelcome.close_code(), 1011);
        unwelcome.expect_end();
        drop(unwelcome);
        others.iter_mut().for_each(|client| client.expect_text("panic open has left"));
        for (message, before) in [("panic", None), ("panic after send", Some("sent before the panic"))] {
            let mut victim = enter(&server, "victim");
            // What comes after it in the same write is not handled any more.
            victim.send(&[frame(TEXT, message.as_bytes()), frame(TEXT, b"published by the dead")].concat());
            before.into_iter().for_each(|text| victim.expect_text(text));
            assert_eq!(victim.close_code(), 1011);
            victim.expect_end();
            drop(victim);
            others.iter_mut().for_each(|client| client.expect_text("victim has left"));
        }
        wait_told(&log, "close victim 1011 Panic");
        enter(&server, "panic+close").reset();
        others[0].text("alive");
        others.iter_mut().for_each(|client| client.expect_text("alive"));
        wait_until("the panics are counted", || server.metric("handler_panics_total") == 5);
        assert_eq!(server.metric("connections_closed_total reason=\"panic\""), 3);
    }
}

#[test]
fn a_slow_reader_is_told_when_it_may_go_on() {
    let (server, log) = serve(1);
    let mut slow = Client::connect_small(server.addr);
    slow.send(handshake("/room?name=slow", "").as_bytes());
    slow.switched();
    slow.expect_text("welcome slow");
    // Until the socket takes no more: each message is within the backlog, and the handler's answers are throttled.
    let large = vec![b'x'; 60_000];
    let mut sent = 0;
    while server.metric("backlogged_connections") == 0 {
        slow.send(&frame(BINARY, &large));
        sent += 1;
    }
    let (mut echoes, mut drained) = (0, false);
    while echoes < sent || !drained {
        match slow.frame().expect("a message") {
            frame if frame.opcode() == BINARY => echoes += usize::from(frame.payload == large),
            frame => drained |= frame.text() == "drained",
        }
    }
    wait_told(&log, "drain");
}

#[test]
fn a_stop_that_cuts_connections_off_tells_of_their_end() {
    for shards in SHARDS {
        let (server, log) = serve(shards);
        // They do not answer the close frame, and are not waited for.
        let silent: Vec<_> = (0..6).map(|i| enter(&server, &format!("silent{i}"))).collect();
        drop(server);
        let log = log.lock().expect("no panic");
        let told = log.iter().filter(|line| line.ends_with(" 1006 Shutdown") && line.starts_with("close silent"));
        assert_eq!(told.count(), silent.len(), "{log:?}");
    }
}

/// On a path that ends in `*`, after one that is more special.
struct Path(&'static str);

impl Handler for Path {
    fn message(&mut self, conn: &mut Connection<'_>, _message: Message<'_>) {
        conn.send(self.0);
    }
}

#[test]
fn the_first_route_that_fits_is_taken_and_dialects_are_only_served_if_asked_for() {
    let routes = |server: Server| {
        server.route("/a/b", || Path("exact")).route("/a/*", || Path("below")).route("/raw/mine", || Path("mine"))
    };
    let server = TestServer::serve(routes(Server::new(config(1))));
    for (path, answer) in [("/a/b", "exact"), ("/a/b?q=1", "exact"), ("/a/c", "below"), ("/a/", "below")] {
        let mut client = server.ws(path);
        client.text("?");
        client.expect_text(answer);
    }
    for path in ["/a", "/raw/x", "/"] {
        let mut client = Client::connect(server.addr);
        client.send(handshake(path, "").as_bytes());
        assert_eq!(client.response().status, 404, "{path}");
    }
    let server = TestServer::serve(routes(Server::new(config(1)).dialects()));
    let (mut mine, mut raw) = (server.ws("/raw/mine"), server.ws("/raw/other"));
    mine.text("?");
    mine.expect_text("mine");
    raw.text("broadcast");
    raw.expect_text("broadcast");
}

/// Says where a connection comes from.
struct Where;

impl Handler for Where {
    fn message(&mut self, conn: &mut Connection<'_>, _message: Message<'_>) {
        conn.send(&format!("{} {}", conn.peer(), conn.peer().is_loopback()));
    }
}

#[test]
fn a_connection_knows_where_it_comes_from() {
    for shards in SHARDS {
        let server = TestServer::serve(Server::new(config(shards)).route("/where", || Where));
        let mut clients: Vec<_> = (1..8)
            .map(|n| {
                let address = format!("127.0.0.{n}");
                let fields = "X-Forwarded-For: 192.0.2.1\r\n";
                (Client::connect_from(&address, server.addr).upgrade("/where", fields).0, address)
            })
            .collect();
        for (client, address) in &mut clients {
            client.text("?");
            client.expect_text(&format!("{address} true"));
        }
    }
}
