//! What is asked about of those who are in.

use super::application::Reply;
use super::common::SHARDS;
use super::common::client::{BINARY, frame};
use super::*;

const MESSAGES: HookEvents = HookEvents { connect: false, subscribe: true, publish: true };

/// Allows all but what is called secret, and some of what is called half.
fn choosy(question: &Value) -> Reply {
    let has = |name: &str| question["topics"].as_array().is_some_and(|topics| topics.iter().any(|topic| topic == name));
    match question {
        _ if has("secret") => Reply::status(403),
        _ if has("broken") => Reply::status(500),
        _ if has("half") => Reply::ok(json!({"subscribe": ["half"], "publish": ["other"]})),
        _ => Reply::ok(json!({})),
    }
}

#[test]
fn topics_are_subscribed_to_as_the_application_says() {
    for shards in SHARDS {
        let application = Application::start(choosy);
        let server = asking(&application, SUBSCRIBE, shards, |config| {
            config.client_subscribe = uproar::config::Patterns(vec!["*a*".into(), "*e*".into(), "*o*".into()]);
        });
        let (mut client, welcome) = enter(server.addr, "/lobby");
        let results = |client: &mut Client, topics: &[&str]| -> Vec<Value> {
            let answer = ask(client, &subscribe(topics));
            assert_eq!(answer["type"], "subscribed");
            let all = answer["topics"].as_array().expect("a list").iter();
            all.map(|one| if one["ok"] == true { one["topic"].clone() } else { one["error"].clone() }).collect()
        };
        assert_eq!(results(&mut client, &["a", "b-a"]), ["a", "b-a"]);
        let expected = json!({"event": "subscribe", "clientId": welcome["clientId"], "room": "lobby",
            "topics": ["a", "b-a"], "address": "127.0.0.1"});
        assert_eq!(application.asked().last(), Some(&expected));
        assert_eq!(results(&mut client, &["secret", "aa"]), ["not_allowed", "not_allowed"]);
        assert_eq!(results(&mut client, &["half", "aaa"]), ["half", "not_allowed"]);
        assert_eq!(results(&mut client, &["broken"]), ["busy"]);
        let asked = application.asked().len();
        assert_eq!(results(&mut client, &["x"]), ["not_allowed"]);
        assert_eq!(application.asked().len(), asked, "what its own permissions forbid is not asked about");
        // Part is answered at once, part when the application has spoken.
        client.text(&subscribe(&["x", "ae"]).to_string());
        assert_eq!(next(&mut client)["topics"][0]["error"], "not_allowed");
        assert_eq!(next(&mut client)["topics"][0], json!({"topic": "ae", "ok": true}));
        let _ = server.publisher().publish("b-a", "1");
        client.expect_text("1");
    }
}

#[test]
fn publications_keep_their_order_whatever_the_application_takes() {
    for shards in SHARDS {
        let mut count = 0_u64;
        let application = Application::start(move |_| {
            count += 1;
            // The first takes the longest; every fourth is refused.
            let reply = if count.is_multiple_of(4) { Reply::status(403) } else { Reply::ok(json!({})) };
            reply.after(60_u64.saturating_sub(20 * count))
        });
        let server = asking(&application, PUBLISH, shards, |_| {});
        let mut reader = server.ws("/raw/t");
        let (mut writer, _) = enter(server.addr, "/lobby");
        let mut bytes = Vec::new();
        for n in 1..=40 {
            let message = json!({"type": "publish", "topic": "t", "data": n, "id": n, "ack": true});
            bytes.extend(frame(TEXT, message.to_string().as_bytes()));
        }
        bytes.extend(frame(TEXT, br#"{"type":"ping"}"#));
        writer.send(&bytes);
        let allowed = (1..=40).filter(|n| n % 4 != 0);
        allowed.clone().for_each(|n| reader.expect_text(&n.to_string()));
        let (mut acks, mut refused) = (Vec::new(), Vec::new());
        loop {
            let answer = next(&mut writer);
            match answer["type"].as_str() {
                Some("ack") => acks.push(answer["id"].as_i64().expect("a number")),
                Some("error") if answer["code"] == "not_allowed" => refused.push(answer["id"].clone()),
                Some("pong") => break,
                _ => panic!("{answer}"),
            }
        }
        while acks.len() < 30 {
            acks.push(next(&mut writer)["id"].as_i64().expect("an ack"));
        }
        assert_eq!(acks, allowed.collect::<Vec<i64>>());
        assert_eq!(refused, (1..=10).map(|n| json!(4 * n)).collect::<Vec<_>>());
        assert_eq!(application.most(), 1, "a connection has one question under way");
    }
}

#[test]
fn nothing_overtakes_a_message_that_waits() {
    let application = Application::start(|question| {
        Reply::ok(json!({})).after(if question["topics"] == json!(["slow"]) { 100 } else { 0 })
    });
    let server = asking(&application, MESSAGES, 3, |_| {});
    let (mut client, _) = enter(server.addr, "/lobby");
    let messages = [
        subscribe(&["slow"]),
        json!({"type": "unsubscribe", "topics": ["slow"]}),
        subscribe(&["quick"]),
        publish("quick", "here"),
        json!({"type": "ping"}),
    ];
    let bytes: Vec<u8> = messages.iter().flat_map(|message| frame(TEXT, message.to_string().as_bytes())).collect();
    client.send(&bytes);
    assert_eq!(next(&mut client), json!({"type": "subscribed", "topics": [{"topic": "slow", "ok": true}]}));
    assert_eq!(next(&mut client), json!({"type": "unsubscribed", "topics": [{"topic": "slow", "ok": true}]}));
    assert_eq!(next(&mut client)["topics"][0], json!({"topic": "quick", "ok": true}));
    let mut rest: Vec<_> = (0..3).map(|_| next(&mut client)).collect();
    rest.sort_by_key(|message| message["type"].as_str().map(str::to_owned));
    assert_eq!((&rest[0], &rest[1]["type"], &rest[2]["type"]), (&json!("here"), &json!("ack"), &json!("pong")));
    wait_until("nothing is kept", || server.metric("memory_bytes part=\"partial_messages\"") == 0);
}

#[test]
fn a_refused_publication_is_told_or_ends_the_connection() {
    let application = Application::start(choosy);
    let server = asking(&application, PUBLISH, 1, |_| {});
    let (mut client, _) = enter(server.addr, "/secret");
    let refused = ask(&mut client, &publish("half", 1));
    assert_eq!((&refused["code"], &refused["id"]), (&json!("not_allowed"), &json!("p")));
    let undecided = ask(&mut client, &publish("broken", 1));
    assert_eq!((&undecided["code"], &undecided["id"]), (&json!("busy"), &json!("p")));
    client.send(&frame(BINARY, b"to the room"));
    assert_eq!(next(&mut client)["code"], "not_allowed");
    let bad = ask(&mut client, &publish(&"t".repeat(300), 1));
    assert_eq!(bad["code"], "bad_topic");
    let asked = application.asked().len();
    assert_eq!(ask(&mut client, &json!({"type": "chat", "text": "hello"}))["text"], "hello");
    assert_eq!(application.asked().len(), asked, "what is relayed is not asked about");
    for (topic, code) in [("secret", 1008), ("broken", 1013)] {
        let mut raw = server.ws(&format!("/raw/{topic}"));
        raw.text("1");
        assert_eq!(raw.close_code(), code, "{topic}");
    }
    let mut raw = server.ws("/raw/free?self=false");
    let mut other = server.ws("/raw/free");
    raw.text("1");
    other.expect_text("1");
    other.text("2");
    other.expect_text("2");
    raw.expect_text("2");
}

#[test]
fn what_is_posted_is_asked_about_with_its_topic() {
    for events in [PUBLISH, HookEvents { connect: true, publish: true, subscribe: false }] {
        let application = Application::start(choosy);
        let server = asking(&application, events, 3, |_| {});
        let mut reader = server.ws("/raw/free");
        let asked = application.asked().len();
        let post = |topic: &str| {
            let body = json!({"topic": topic, "data": "posted"}).to_string();
            request(server.addr, "POST /publish", &body).status
        };
        assert_eq!([post("free"), post("secret"), post("half"), post("broken")], [200, 403, 403, 503]);
        reader.expect_text("\"posted\"");
        let questions: Vec<_> = application.asked().split_off(asked);
        let topics: Vec<_> = questions.iter().map(|question| (&question["event"], &question["topics"])).collect();
        let event = json!("publish");
        let expected = [json!(["free"]), json!(["secret"]), json!(["half"]), json!(["broken"])];
        assert_eq!(topics, expected.iter().map(|topics| (&event, topics)).collect::<Vec<_>>());
    }
}

#[test]
fn two_posts_on_one_connection_are_two_questions() {
    let application = Application::start(choosy);
    let server = asking(&application, PUBLISH, 1, |_| {});
    let mut client = Client::connect(server.addr);
    for (topic, status) in [("free", 200), ("secret", 403)] {
        let body = json!({"topic": topic, "data": 1}).to_string();
        let head = "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
        client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        assert_eq!(client.response().status, status, "{topic}");
    }
}

#[test]
fn whoever_goes_while_a_message_waits_leaves_nothing_behind() {
    let application = Application::start(|_| Reply::ok(json!({})).after(150));
    let server = asking(&application, PUBLISH, 3, |_| {});
    for reset in [true, false] {
        for n in 0..10 {
            let (mut client, _) = enter(server.addr, &format!("/{n}"));
            let big = "x".repeat(10_000);
            (0..10).for_each(|_| client.text(&publish("t", big.as_str()).to_string()));
            if reset { client.reset() } else { client.shut_write() }
        }
    }
    wait_until("all questions are answered", || server.metric("auth_hook_waiting") == 0);
    server.wait_idle();
    wait_until("nothing is kept", || server.metric("memory_bytes part=\"partial_messages\"") == 0);
}

#[test]
fn the_server_ends_though_the_application_does_not_answer() {
    let application = Application::start(|_| Reply::ok(json!({})).after(1500));
    let server = asking(&application, PUBLISH, 3, |_| {});
    let (mut client, _) = enter(server.addr, "/a");
    client.text(&publish("t", 1).to_string());
    wait_until("it is asked", || application.asked().len() == 1);
    server.running().shutdown(Duration::from_millis(200));
    let frame = client.frame().expect("a goodbye");
    assert_eq!(frame.code(), 1001);
}
