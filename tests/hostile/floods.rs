//! Floods of what is in order by itself: subscriptions, publications, topics; and those who would be somebody else.

use std::time::Duration;

use serde_json::{Value, json};

use super::arena::Arena;
use super::common::Client;
use super::common::client::{BINARY, TEXT, frame};
use super::crowd::{End, ends, flood, upgraded};

const SECOND: Duration = Duration::from_secs(1);
const BOUNDED: [&str; 3] = ["--message-rate=500 burst=1000", "--byte-rate=64KiB burst=128KiB", "--close-timeout=500ms"];

/// A `json` client that was welcomed; the welcome.
fn welcomed(mut client: Client) -> (Client, Value) {
    let welcome = client.frame().expect("a welcome");
    (client, serde_json::from_str(welcome.text()).expect("JSON"))
}

#[track_caller]
fn too_fast(name: &str, path: &str, message: &[u8]) {
    let (after, ends) = Arena::start(&BOUNDED).attack(name, |server| {
        let mut clients = upgraded(server.addr, path, 20);
        flood(&mut clients, message, SECOND);
        ends(&mut clients)
    });
    assert!(ends.iter().all(|(end, _)| [End::Close(1008), End::Silent].contains(end)), "{ends:?}");
    after.rises("connections_closed_total reason=\"too_fast\"", 20);
    assert!(after.rose("messages_published_total") < 20 * 2000 + 1000, "{}", after.rose("messages_published_total"));
}

/// In one message and the next.
fn there_and_back(topics: usize) -> Vec<u8> {
    let names: Vec<String> = (0..topics).map(|n| format!("flood-{n}")).collect();
    ["subscribe", "unsubscribe"]
        .map(|kind| frame(TEXT, json!({"type": kind, "topics": names}).to_string().as_bytes()))
        .concat()
}

#[test]
fn floods_of_subscriptions() {
    too_fast("subscribe and unsubscribe, 20 × 1 MB/s", "/?room=flood", &there_and_back(3).repeat(20));
}

/// Nothing bounds them but that nobody reads from who does not read.
#[test]
fn floods_of_subscriptions_that_nothing_bounds() {
    let (after, _) = Arena::start(&[]).attack("500 topics there and back, 10 × 1 MB/s, no bound", |server| {
        let mut clients = upgraded(server.addr, "/?room=flood", 10);
        flood(&mut clients, &there_and_back(500), SECOND * 2);
    });
    assert!(after.rose("messages_received_total") > 100);
    assert_eq!(after.rose("connections_closed_total reason=\"too_fast\""), 0);
}

#[test]
fn floods_of_publications_by_json() {
    let publish = frame(TEXT, json!({"type": "publish", "topic": "flood", "data": 1}).to_string().as_bytes());
    too_fast("publish, json, 20 × 1 MB/s", "/?room=flood", &publish.repeat(50));
}

#[test]
fn floods_of_publications_by_raw() {
    too_fast("publish, raw, 20 × 1 MB/s", "/raw/flood?self=false", &frame(TEXT, b"x").repeat(50));
}

#[test]
fn floods_of_bytes() {
    too_fast("messages of 100 kB, 20 × 1 MB/s", "/raw/flood?self=false", &frame(BINARY, &[7; 100_000]));
}

#[test]
fn floods_of_chat_into_a_room_of_their_own() {
    let (after, _) = Arena::start(&[]).attack("chat to 30 who do not read, no bound", |server| {
        let mut clients = upgraded(server.addr, "/?room=chat", 30);
        flood(
            &mut clients,
            &frame(TEXT, json!({"type": "chat", "text": "x".repeat(200)}).to_string().as_bytes()),
            SECOND * 3 / 2,
        );
    });
    assert!(after.rose("messages_received_total") > 1000);
}

#[test]
fn floods_of_topics() {
    let (after, refused) = Arena::start(&["--ack-window=1s"]).attack("20,000 topics, by 20", |server| {
        let subscribe = |client: usize, from: usize| {
            let names: Vec<String> = (from..from + 500).map(|n| format!("{client}/{n}/{}", "x".repeat(200))).collect();
            json!({"type": "subscribe", "topics": names}).to_string()
        };
        let mut clients: Vec<Client> = (0..20).map(|n| Client::json(server.addr, &format!("room-{n}"))).collect();
        for from in [0, 500, 1000] {
            clients.iter_mut().enumerate().for_each(|(n, client)| client.text(&subscribe(n, from)));
        }
        let mut refused = 0;
        for client in &mut clients {
            let mut answered = 0;
            while answered < 1500 {
                let frame = client.frame().expect("an answer");
                let answer: Value = serde_json::from_str(frame.text()).expect("JSON");
                let topics = answer["topics"].as_array().expect("topics");
                answered += topics.len();
                refused += topics.iter().filter(|topic| topic["error"] == "too_many_topics").count();
            }
        }
        // And what nobody subscribes to is no topic for long.
        for n in 0..5000 {
            let to = &mut clients[n % 20];
            to.text(&json!({"type": "publish", "topic": format!("nobody-{n}"), "data": n}).to_string());
        }
        refused
    });
    assert_eq!(refused, 20 * (1500 - 1024));
    after.rises("messages_published_total", 5000);
}

/// A `clientId` without its token is nobody's.
#[test]
fn those_who_would_be_somebody_else() {
    let (after, impostors) = Arena::start(&[]).attack("a clientId without its token, 300", |server| {
        let (mut victim, welcome) = welcomed(server.ws("/?room=victim"));
        let (id, token) = (welcome["clientId"].as_str().expect("an id"), welcome["token"].as_str().expect("a token"));
        let (_, stranger) = welcomed(server.ws("/?room=stranger"));
        let reversed: String = token.chars().rev().collect();
        let wrong = ["", "x", &token[1..], &reversed, stranger["token"].as_str().expect("a token"), &"0".repeat(4000)];
        let impostors: Vec<_> = (0..300)
            .map(|n| welcomed(server.ws(&format!("/?room=x-{n}&clientId={id}&token={}", wrong[n % wrong.len()]))))
            .collect();
        assert!(impostors.iter().all(|(_, welcome)| welcome["clientId"] != id));
        // Who sends to it, sends to it.
        let mut sender = Client::json(server.addr, "sender");
        sender.text(&json!({"type": "text", "receiver": id, "content": "for the victim alone"}).to_string());
        assert!(victim.frame().expect("a message").text().contains("for the victim alone"));
        // Nor is it somebody's who signs so.
        sender.text(&json!({"type": "publish", "topic": "victim", "data": {"type": "chat", "from": id}}).to_string());
        assert!(sender.frame().expect("an answer").text().contains("not_allowed"));
        impostors.len()
    });
    assert_eq!(impostors, 300);
    assert_eq!(after.rose("connections_closed_total reason=\"replaced\""), 0);
}
