//! Streams of Server-Sent Events, over real sockets.

mod common;

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::events::Events;
use common::rng::Rng;
use common::{Client, PATIENCE, Process, SHARDS, TestServer, config, wait_until};
use serde_json::json;
use uproar::Message;
use uproar::config::{BacklogPolicy, parse_history};

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\n\
    X-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n";

fn with_history(shards: u32, rule: &str) -> TestServer {
    let mut config = config(shards);
    config.history = parse_history(rule).expect("a rule");
    TestServer::start(config)
}

/// The stream of a topic that nothing was published to yet, joined; and the topic's epoch.
#[track_caller]
fn joined(server: &TestServer, query: &str) -> (Events, String) {
    let mut events = Events::open(server.addr, query, "");
    let subscribed = events.expect("subscribed");
    let epoch = subscribed["topics"][0]["epoch"].as_str().expect("an epoch").to_owned();
    (events, epoch)
}

#[test]
fn a_stream_is_as_the_contract_has_it() {
    for shards in SHARDS {
        let server = TestServer::start(config(shards));
        let mut events = Events::ask(Client::connect(server.addr), "topic=AAPL", "");
        assert_eq!(events.part(b"\r\n\r\n").as_deref(), Some(HEAD));
        assert_eq!(events.part(b"\n\n").as_deref(), Some(": uproar\nretry: 2000\n\n"));
        let subscribed = events.part(b"\n\n").expect("an event");
        let epoch = subscribed.split('-').nth(1).expect("an epoch").to_owned();
        let (id, place) = (format!("id: 82e2e180365f-{epoch}-"), format!("\"epoch\":\"{epoch}\",\"offset\":"));
        let topics = format!("[{{\"topic\":\"AAPL\",\"ok\":true,{place}0}}]");
        let expected = format!("{id}0\nevent: subscribed\ndata: {{\"type\":\"subscribed\",\"topics\":{topics}}}\n\n");
        assert_eq!(subscribed, expected);
        assert_eq!(
            (server.metric("connections kind=\"event_stream\""), server.metric("connections kind=\"websocket\"")),
            (1, 0)
        );
        let publish = |message: Message<'_>| server.publisher().publish("AAPL", message).expect("there is room");
        publish(Message::from("{\"bid\":\r\n 189.1}"));
        publish(Message::from("not\nJSON"));
        publish(Message::from(&b"\x00\n\n"[..]));
        for (offset, data) in [
            (1, "\"data\":{\"bid\":\ndata:  189.1}}"),
            (2, "\"data\":\"not\\nJSON\"}"),
            (3, "\"encoding\":\"base64\",\"data\":\"AAoK\"}"),
        ] {
            let text = format!("{{\"type\":\"message\",\"topic\":\"AAPL\",{place}{offset},{data}");
            let expected = format!("{id}{offset}\nevent: message\ndata: {text}\n\n");
            assert_eq!(events.part(b"\n\n").as_deref(), Some(&*expected));
        }
        drop(events);
        server.wait_idle();
        assert_eq!(server.metric("connections_closed_total reason=\"peer\""), 1);
    }
}

#[test]
fn what_is_said_beside_the_topic_is_for_members() {
    for shards in SHARDS {
        let server = TestServer::start(config(shards));
        let (mut events, _) = joined(&server, "topic=general&topic=other");
        events.expect("subscribed");
        let (mut speaker, mut member) = (Client::json(server.addr, "general"), Client::json(server.addr, "general"));
        speaker.text(r#"{"type":"text","receiver":"general","content":"psst"}"#);
        assert!(member.frame().expect("a message").text().contains("psst"));
        speaker.text(r#"{"type":"chat","text":"hello"}"#);
        let event = events.event().expect("a message");
        assert!(event.id.is_some());
        assert_eq!(event.json()["data"]["text"], "hello");
    }
}

#[test]
fn others_are_refused() {
    let mut config = config(1);
    config.max_topics = 20;
    let server = TestServer::start(config);
    let many = |count, len| (0..count).map(|i| format!("topic={i:0len$}")).collect::<Vec<_>>().join("&");
    let (long, too_many) = (format!("topic={}", "x".repeat(257)), many(21, 1));
    let too_large = many(20, 240).replace('0', "%30");
    for (query, status) in [
        ("", 400),
        ("topic", 400),
        ("topic=", 400),
        ("topic=a&topic=", 400),
        ("topic=%00a", 400),
        (&long, 400),
        (&too_many, 400),
        (&too_large[..7900], 431),
    ] {
        let mut client = Client::connect(server.addr);
        client.send(format!("GET /sse?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        let response = client.response();
        assert_eq!((response.status, response.field("Access-Control-Allow-Origin")), (status, Some("*")), "{query}");
    }
    assert_eq!(server.metric("handshakes_total result=\"malformed\""), 8);
    let mut twice = Events::open(server.addr, "topic=a&topic=a&x=y&topic=%61", "");
    assert_eq!(
        twice.expect("subscribed")["topics"],
        json!([{"topic": "a", "ok": true, "offset": 0,
        "epoch": twice.last_id.split('-').nth(1).expect("an epoch")}])
    );
    let mut upgrade = Client::connect(server.addr);
    upgrade.send(common::client::handshake("/sse?topic=a", "").as_bytes());
    assert_eq!(upgrade.response().status, 404);
}

#[test]
fn head_and_http_1_0() {
    let server = TestServer::start(config(1));
    let mut head = Client::connect(server.addr);
    head.send(b"HEAD /sse?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(head.head(), HEAD);
    head.expect_end();
    let mut old = Client::connect(server.addr);
    old.send(b"GET /sse?topic=a HTTP/1.0\r\n\r\n");
    assert_eq!(old.head(), HEAD);
    wait_until("it is subscribed", || server.metric("subscriptions") == 1);
    assert_eq!(server.metric("connections kind=\"event_stream\""), 1);
}

#[test]
fn what_a_reader_sends_is_ignored_and_its_end_ends_the_stream() {
    let server = TestServer::start(config(1));
    let (mut events, _) = joined(&server, "topic=a");
    for _ in 0..100 {
        events.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n\x81\x80\x00\x00\x00\x00");
        events.send(&[0x88; 10_000]);
    }
    server.publisher().publish("a", "1").expect("there is room");
    assert_eq!(events.expect("message")["data"], 1);
    assert_eq!(server.metric("messages_received_total"), 0);
    events.stream.shutdown(Shutdown::Write).expect("it was open");
    assert!(events.event().is_none());
    server.wait_idle();
}

#[test]
fn silence_is_broken_and_nothing_else() {
    let mut config = config(1);
    config.sse_heartbeat = Duration::from_secs(1);
    let server = TestServer::start(config);
    let (mut quiet, _) = joined(&server, "topic=quiet");
    let (mut busy, _) = joined(&server, "topic=busy");
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2 {
                assert_eq!(quiet.part(b"\n\n").as_deref(), Some(":\n\n"));
            }
            let took = start.elapsed();
            assert!(took > Duration::from_millis(1800), "{took:?}");
        });
        for i in 0..7 {
            thread::sleep(Duration::from_millis(300));
            server.publisher().publish("busy", &i.to_string()).expect("there is room");
            assert!(busy.part(b"\n\n").expect("an event").contains("event: message"));
        }
    });
    quiet.stream.shutdown(Shutdown::Both).expect("it was open");
    server.publisher().publish("busy", "7").expect("there is room");
    assert_eq!(busy.expect("message")["data"], 7);
}

const TOPICS: usize = 3;

/// What a reader has had of a topic: the offset, and the number in the message there; 0 of none.
type Had = BTreeMap<String, (u64, u64)>;

#[test]
fn who_is_cut_off_at_any_byte_goes_on_where_it_was() {
    for shards in SHARDS {
        let mut config = config(shards);
        config.history = parse_history("deep.* count=1000000 bytes=64MiB age=1h last_value").expect("a rule");
        config.backlog = 16 << 20;
        let server = TestServer::start(config);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| server.count_in(TOPICS, &over));
            let readers: Vec<_> = (0..6).map(|seed| (seed, &server)).collect();
            let readers: Vec<_> =
                readers.into_iter().map(|(seed, server)| scope.spawn(move || live(server, seed))).collect();
            let lived: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
            over.store(true, Ordering::Relaxed);
            lived.into_iter().for_each(|reader| reader.expect("one that missed nothing"));
        });
        assert_eq!(server.metric("recoveries_total result=\"gap\""), 0);
        assert!(server.metric("history_replayed_total") > 0);
    }
}

/// Comes back behind the last whole event, with one topic or three, and checks that each message is the next one.
fn live(server: &TestServer, seed: u64) {
    let mut rng = Rng::new(seed);
    let topics: Vec<String> =
        (0..if seed.is_multiple_of(2) { 1 } else { TOPICS }).map(|topic| format!("deep.{topic}")).collect();
    let query: Vec<String> = topics.iter().map(|topic| format!("topic={topic}")).collect();
    let (mut last_id, mut had) = (String::new(), Had::new());
    for _ in 0..40 {
        let mut events = Events::open(server.addr, &query.join("&"), &last_id);
        events.budget = rng.below(6000);
        while let Some(event) = events.event() {
            let places = event.id.as_ref().map_or(0, |id| id.split(',').count());
            let least = usize::from(event.name != "subscribed");
            assert!((least..=topics.len()).contains(&places), "{event:?}");
            take(&event.json(), &mut had);
        }
        last_id.clone_from(&events.last_id);
        if rng.below(2) == 0 {
            events.reset();
        }
    }
    assert!(topics.iter().all(|topic| had.get(topic).is_some_and(|(offset, _)| *offset > 0)), "{had:?}");
}

fn take(message: &serde_json::Value, had: &mut Had) {
    if message["type"] == "subscribed" {
        return;
    }
    assert_eq!(message["type"], "message", "{message}");
    let (offset, number) =
        (message["offset"].as_u64().expect("an offset"), message["data"].as_u64().expect("a number"));
    let last = had.insert(message["topic"].as_str().expect("a topic").to_owned(), (offset, number));
    assert!(last.is_none_or(|last| (offset, number) == (last.0 + 1, last.1 + 1)), "{message} after {last:?}");
}

#[test]
fn other_topics_by_then() {
    for shards in SHARDS {
        let server = with_history(shards, "* count=100");
        let publish = |topic: &str, data: &str| server.publisher().publish(topic, data).expect("there is room");
        let (mut first, _) = joined(&server, "topic=a&topic=b");
        first.expect("subscribed");
        publish("a", "1");
        assert_eq!(first.expect("message")["data"], 1);
        let id = first.last_id.clone();
        drop(first);
        publish("a", "2");
        publish("c", "3");
        // The address's id counts where there is no header.
        let query = format!("topic=a&topic=c&lastEventId={}", id.replace(',', "%2C"));
        let mut second = Events::open(server.addr, &query, "");
        let mut data = Vec::new();
        for _ in 0..3 {
            let event = second.event().expect("an event");
            data.extend(event.json()["data"].as_u64());
        }
        assert_eq!(data, [2], "of a what was missed, of c what is new");
        publish("c", "4");
        assert_eq!(second.expect("message")["data"], 4);
        let own: Vec<&str> = second.last_id.split(',').collect();
        assert!(own.len() == 2 && id.split(',').any(|cursor| cursor[..12] == own[0][..12]), "{own:?} after {id}");
    }
}

#[test]
fn each_of_many_streams_is_told_where_it_is_itself() {
    for shards in SHARDS {
        let server = with_history(shards, "* count=100");
        let publish =
            |topic: &str, n: usize| server.publisher().publish(topic, &*n.to_string()).expect("there is room");
        let topics_of = |stream: usize| &["a", "b", "c"][stream % 2..2 + stream % 2];
        let query = |topics: &[&str]| topics.iter().map(|topic| format!("topic={topic}&")).collect::<String>();
        // They come one after the other, so they are at different places at first.
        let mut streams = Vec::new();
        for stream in 0..8 {
            let mut events = Events::open(server.addr, &query(topics_of(stream)), "");
            events.expect("subscribed");
            events.expect("subscribed");
            streams.push((topics_of(stream), events));
            publish(["a", "b", "c"][stream % 3], stream);
        }
        (8..40).for_each(|n| publish(["a", "b", "c"][n % 3], n));
        for (stream, (topics, mut events)) in streams.into_iter().enumerate() {
            let expected = (stream..40).filter(|n| topics.contains(&["a", "b", "c"][n % 3]));
            // Topics have no order among each other. Who goes on half way is sent what it has not had.
            let half = numbers(&mut events, 10);
            let rest: Vec<usize> = expected.filter(|n| !half.contains(n)).collect();
            let mut again = Events::open(server.addr, &query(topics), &events.last_id);
            assert_eq!(
                numbers(&mut again, rest.len()),
                rest,
                "stream {stream} of {topics:?}, behind {}",
                events.last_id
            );
            assert_eq!(numbers(&mut events, rest.len()), rest);
        }
    }
}

/// What the next messages of a stream say, sorted.
fn numbers(events: &mut Events, count: usize) -> Vec<usize> {
    let messages = std::iter::from_fn(|| events.event()).filter(|event| event.name == "message");
    let mut numbers: Vec<_> = messages.map(|event| event.json()["data"].as_u64()).take(count).collect();
    numbers.sort_unstable();
    numbers.into_iter().map(|number| number.expect("a number") as usize).collect()
}

#[test]
fn a_past_that_is_larger_than_a_backlog_comes_in_as_many_streams_as_it_takes() {
    let server = with_history(1, "* count=100 bytes=64MiB");
    let text = "x".repeat(200_000);
    for _ in 0..60 {
        while server.publisher().publish("a", &text).is_err() {
            thread::sleep(Duration::from_millis(1));
        }
    }
    wait_until("they are ordered", || server.metric("messages_published_total") == 60);
    let mut id = String::new();
    let (mut next, mut streams) = (1, 0);
    let epoch = joined(&server, "topic=a").1;
    while next <= 60 {
        let since = if id.is_empty() { format!("86f7e437faa5-{epoch}-0") } else { id.clone() };
        let mut events = Events::open(server.addr, "topic=a", &since);
        events.expect("subscribed");
        while next <= 60
            && let Some(event) = events.event()
        {
            assert_eq!(event.json()["offset"], next);
            next += 1;
        }
        id.clone_from(&events.last_id);
        streams += 1;
    }
    assert!((2..10).contains(&streams), "{streams}");
}

/// A stream that was not read while so many messages were published; what of them is read now, and the drops told.
fn stalled(policy: BacklogPolicy, query: &str) -> (TestServer, Vec<u64>, u64, Option<Events>) {
    let mut config = config(1);
    config.backlog_policy = policy;
    config.history = parse_history("* count=100000 bytes=64MiB").expect("a rule");
    let server = TestServer::start(config);
    let mut events = Events::ask(Client::connect_small(server.addr), query, "");
    wait_until("it is subscribed", || server.metric("subscriptions") == query.split('&').count() as u64);
    let text = "x".repeat(1000);
    let mut count = 0;
    while server.metric("messages_dropped_total") < 50 {
        for _ in 0..32 {
            server.publisher().publish("a", &format!("[{count},\"{text}\"]")).expect("there is room");
            count += 1;
        }
        wait_until("they are placed", || server.metric("messages_published_total") == count);
    }
    events.part(b"retry: 2000\n\n").expect("a head");
    let (mut numbers, mut told, mut ended) = (Vec::new(), 0, false);
    let last = if policy == BacklogPolicy::DropNewest { u64::MAX } else { count - 1 };
    while numbers.last() != Some(&last) || told == 0 {
        let Some(event) = events.event() else {
            ended = true;
            break;
        };
        match &*event.name {
            "gap" => {
                assert!(event.id.is_none());
                told += event.json()["dropped"].as_u64().expect("a count");
            }
            "message" => numbers.push(event.json()["data"][0].as_u64().expect("a number")),
            name => assert_eq!(name, "subscribed"),
        }
        if policy == BacklogPolicy::DropNewest && told > 0 {
            break;
        }
    }
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    (server, numbers, told, (!ended).then_some(events))
}

#[test]
fn what_a_slow_reader_is_not_sent_is_told() {
    for policy in [BacklogPolicy::DropOldest, BacklogPolicy::DropNewest, BacklogPolicy::Latest] {
        for query in ["topic=a", "topic=a&topic=b"] {
            let (server, numbers, told, events) = stalled(policy, query);
            let count = server.metric("messages_published_total");
            assert!(told > 0, "{policy:?}");
            assert_eq!(
                (numbers.len() as u64 + told, server.metric("messages_dropped_total")),
                (count, told),
                "{policy:?}"
            );
            // It is served as ever now that it reads.
            server.publisher().publish("a", "[true]").expect("there is room");
            assert_eq!(events.expect("it goes on").expect("message")["data"], json!([true]));
        }
    }
}

#[test]
fn a_slow_reader_whose_stream_ended_goes_on_where_it_was() {
    for query in ["topic=a", "topic=a&topic=b"] {
        let mut config = config(1);
        config.history = parse_history("* count=100000 bytes=64MiB").expect("a rule");
        config.close_timeout = PATIENCE;
        let server = TestServer::start(config);
        let mut events = Events::ask(Client::connect_small(server.addr), query, "");
        wait_until("it is subscribed", || server.metric("subscriptions") == query.split('&').count() as u64);
        let text = "x".repeat(1000);
        let mut count = 0;
        while server.metric("messages_dropped_total reason=\"backlog_close\"") == 0 {
            count += 1;
            server.publisher().publish("a", &format!("[{count},\"{text}\"]")).expect("there is room");
            wait_until("it is placed", || server.metric("messages_published_total") == count);
        }
        events.part(b"retry: 2000\n\n").expect("a head");
        let mut next = 1;
        for _ in 0..20 {
            while next <= count
                && let Some(event) = events.event()
            {
                if event.name == "message" {
                    assert_eq!(event.json()["data"][0], next);
                    next += 1;
                }
            }
            events = Events::open(server.addr, query, &events.last_id);
        }
        assert_eq!(next, count + 1);
        assert_eq!(server.metric("connections_closed_total reason=\"backlog\""), 1);
    }
}

#[test]
fn who_takes_nothing_for_long_is_given_up() {
    let mut config = config(1);
    config.backlog_policy = BacklogPolicy::Latest;
    config.sse_heartbeat = Duration::from_secs(1);
    config.ping_timeout = Duration::from_millis(200);
    config.close_timeout = Duration::from_millis(100);
    let server = TestServer::start(config);
    let events = Events::ask(Client::connect_small(server.addr), "topic=a", "");
    wait_until("it is subscribed", || server.metric("subscriptions") == 1);
    let text = "x".repeat(100_000);
    wait_until("it is given up", || {
        let _ = server.publisher().publish("a", &text);
        server.metric("connections_closed_total reason=\"ping_timeout\"") == 1
    });
    server.wait_idle();
    drop(events);
}

#[test]
fn a_lifetime_ends_a_stream_and_so_does_the_server() {
    let mut mortal = config(1);
    mortal.max_lifetime = Some(Duration::from_secs(1));
    let server = TestServer::start(mortal);
    let (mut events, _) = joined(&server, "topic=a");
    assert!(events.event().is_none());
    wait_until("it is counted", || server.metric("connections_closed_total reason=\"lifetime\"") == 1);

    let mut process = Process::start(&["--shards=2", "--shutdown-timeout=10s", "--drain-time=0"]);
    let mut streams: Vec<_> = (0..4).map(|_| Events::open(process.addr, "topic=a&topic=b", "")).collect();
    for stream in &mut streams {
        (0..2).for_each(|_| drop(stream.expect("subscribed")));
    }
    process.signal("TERM");
    for mut stream in streams {
        assert!(stream.event().is_none());
    }
    assert!(process.wait().success());
}
