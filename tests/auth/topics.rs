//! Topics that have tokens of their own.

use super::*;

/// What lets whoever it is for subscribe to a topic.
fn pass(user: Option<&str>, topic: &str, seconds: u64) -> String {
    let mut claims = json!({"exp": now() + seconds, "uproar": {"topic": topic}});
    if let Some(user) = user {
        claims["sub"] = user.into();
    }
    token(&claims)
}

fn with_token(topic: &str, token: &str) -> Value {
    json!({"type": "subscribe", "topics": [topic], "tokens": {topic: token}})
}

#[test]
fn a_topic_may_have_a_token_of_its_own() {
    let server = guarded(3, |config| config.client_subscribe = Patterns(vec!["open.*".into()]));
    let mut client = enter(server.addr, "/?room=a", &ann());
    let with = |token: &str| json!({"type": "subscribe", "topics": ["open.x", "shut"], "tokens": {"shut": token}});
    let own = token(&json!({"sub": "ann", "exp": now() + 60, "uproar": {"subscribe": ["shut"]}}));
    for bad in [pass(Some("bob"), "shut", 60), pass(Some("ann"), "other", 60), pass(None, "shut", 0), own, "x".into()] {
        let answers = [ask(&mut client, &with(&bad)), next(&mut client)];
        let shut = answers.iter().find(|answer| answer["topics"][0]["topic"] == "shut").expect("an answer");
        assert_eq!(shut["topics"][0]["error"], "not_allowed");
    }
    assert_eq!(server.metric("authentications_total result=\"denied\""), 5);
    let answers = [ask(&mut client, &with(&pass(Some("ann"), "shut", 60))), next(&mut client)];
    let shut = answers.iter().find(|answer| answer["topics"][0]["topic"] == "shut").expect("an answer");
    assert_eq!(shut["topics"][0]["ok"], true);
    server.publisher().publish("shut", "news").expect("it is published");
    client.expect_text("news");
    // One for many topics, and for whoever has it.
    assert_eq!(ask(&mut client, &with_token("vip.7", &pass(None, "vip.*", 60)))["topics"][0]["ok"], true);
}

/// A topic's token lets its user do one thing more, and changes nothing else.
#[test]
fn a_topics_token_is_good_for_nothing_else() {
    let server = guarded(1, |_| {});
    let narrow = token(&json!({"sub": "ann", "exp": now() + 60, "uproar": {
        "rooms": ["lobby"], "subscribe": [], "publish": [], "presence": [], "history": []}}));
    let mut client = enter(server.addr, "/?room=lobby", &narrow);
    let vip = pass(Some("ann"), "vip", 600);
    for path in ["/?room=lobby", "/raw/vip", "/?room=vip"] {
        assert_eq!(status(server.addr, path, &bearer(&vip)), 401, "{path}");
    }
    let refused = ask(&mut client, &json!({"type": "refresh", "token": vip}));
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("bad_token")));
    assert_eq!(server.metric("authentications_total result=\"denied\""), 4);
    assert_eq!(ask(&mut client, &with_token("vip", &vip))["topics"][0]["ok"], true);
    for topic in ["vip", "other"] {
        let publish = json!({"type": "publish", "topic": topic, "data": 1});
        assert_eq!(ask(&mut client, &publish)["code"], "not_allowed", "{topic}");
    }
    assert_eq!(ask(&mut client, &json!({"type": "presence"}))["code"], "not_allowed");
    let past = json!({"type": "subscribe", "topics": ["vip"], "recover": true});
    assert_eq!(ask(&mut client, &past)["topics"][0]["error"], "not_allowed");
    let other = json!({"type": "subscribe", "topics": ["other"]});
    assert_eq!(ask(&mut client, &other)["topics"][0]["error"], "not_allowed");
}

#[test]
fn a_subscription_ends_with_its_topics_token_unless_there_is_another() {
    for shards in SHARDS {
        let server = guarded(shards, |config| config.client_subscribe = Patterns(vec!["open".into()]));
        let mut client = enter(server.addr, "/?room=room", &ann());
        let begun = std::time::Instant::now();
        for (topic, seconds) in [("brief", 3), ("renewed", 3), ("long", 60)] {
            let answer = ask(&mut client, &with_token(topic, &pass(Some("ann"), topic, seconds)));
            assert_eq!(answer["topics"][0]["ok"], true, "{topic}");
        }
        assert_eq!(ask(&mut client, &with_token("renewed", &pass(None, "renewed", 60)))["topics"][0]["ok"], true);
        let over = next(&mut client);
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        let expected = json!({"topic": "brief", "ok": true, "code": "token_expired"});
        assert_eq!(over, json!({"type": "unsubscribed", "topics": [expected]}));
        for topic in ["brief", "renewed", "long"] {
            server.publisher().publish(topic, topic).expect("it is published");
        }
        let mut heard = [client.frame(), client.frame()].map(|frame| frame.expect("a message").text().to_owned());
        heard.sort();
        assert_eq!(heard, ["long", "renewed"]);
        let again = json!({"type": "subscribe", "topics": ["brief"]});
        assert_eq!(ask(&mut client, &again)["topics"][0]["error"], "not_allowed");
        // The same topic by another token, and then without a word of anybody: what is left is given back.
        assert_eq!(ask(&mut client, &with_token("brief", &pass(None, "brief", 60)))["topics"][0]["ok"], true);
        let left = ask(&mut client, &json!({"type": "unsubscribe", "topics": ["brief", "renewed", "long"]}));
        assert!(left["topics"].as_array().expect("a list").iter().all(|topic| topic["ok"] == true));
        assert_eq!(ask(&mut client, &again)["topics"][0]["error"], "not_allowed", "it went with the subscription");
    }
}

/// What its own token allows by then, and where it is by another's word, ends with no topic's token.
#[test]
fn what_is_allowed_otherwise_by_then_stays() {
    let server = guarded(1, |config| config.client_subscribe = Patterns(Vec::new()));
    let mut client = enter(server.addr, "/?room=room", &ann());
    for topic in ["vip", "room"] {
        assert_eq!(ask(&mut client, &with_token(topic, &pass(None, topic, 2)))["topics"][0]["ok"], true);
    }
    let wide = token(&json!({"sub": "ann", "exp": now() + 60, "uproar": {"subscribe": ["vip"]}}));
    assert_eq!(ask(&mut client, &json!({"type": "refresh", "token": wide}))["type"], "refreshed");
    thread::sleep(Duration::from_millis(2500));
    for topic in ["vip", "room"] {
        server.publisher().publish(topic, topic).expect("it is published");
        client.expect_text(topic);
    }
}

#[test]
fn topics_tokens_in_force_are_as_many_as_topics_may_be() {
    let server = guarded(1, |config| {
        config.client_subscribe = Patterns(Vec::new());
        config.max_topics = 3;
    });
    let mut client = enter(server.addr, "/?room=room", &ann());
    for round in 0..3 {
        for topic in ["a", "b", "c"] {
            let answer = ask(&mut client, &with_token(topic, &pass(None, topic, 60)));
            assert_eq!(answer["topics"][0]["ok"], true, "{round} {topic}");
        }
        assert_eq!(ask(&mut client, &with_token("d", &pass(None, "d", 60)))["topics"][0]["error"], "too_many_topics");
        ask(&mut client, &json!({"type": "unsubscribe", "topics": ["a", "b", "c"]}));
    }
}

/// One connection has so many tokens checked at a time; those beyond are told to come later, under their own names.
#[test]
fn checks_under_way_are_bounded_for_a_connection() {
    let server = guarded(1, |config| config.client_subscribe = Patterns(Vec::new()));
    let mut client = enter(server.addr, "/?room=room", &ann());
    let topics: Vec<String> = (0..40).map(|n| format!("t{n}")).collect();
    let tokens: Value = topics.iter().map(|topic| (topic.clone(), Value::from(pass(None, topic, 60)))).collect();
    // Whole before any of it is acted upon: no verdict comes between.
    client.text(&json!({"type": "subscribe", "topics": topics, "tokens": tokens}).to_string());
    let (mut joined, mut busy) = (0, 0);
    while joined + busy < 40 {
        for result in next(&mut client)["topics"].as_array().expect("a list") {
            match (&result["ok"], &result["error"]) {
                (Value::Bool(true), _) => joined += 1,
                (_, error) => {
                    assert_eq!(error, "busy");
                    busy += 1;
                }
            }
        }
    }
    assert_eq!((joined, busy), (16, 24));
    assert_eq!(server.metric("authentications_total result=\"shed\""), 24);
    let refreshes: Vec<u8> = (0..3)
        .flat_map(|n| {
            let message = json!({"type": "refresh", "id": n, "token": ann()}).to_string();
            common::client::frame(TEXT, message.as_bytes())
        })
        .collect();
    client.send(&refreshes);
    let mut answers = [next(&mut client), next(&mut client), next(&mut client)];
    answers.sort_by_key(|answer| (answer["type"] != "refreshed", answer["id"].as_u64()));
    assert_eq!(answers[0]["type"], "refreshed");
    for (answer, id) in answers[1..].iter().zip([1, 2]) {
        assert_eq!((&answer["code"], &answer["id"]), (&json!("busy"), &json!(id)));
    }
    assert_eq!(ask(&mut client, &json!({"type": "refresh", "token": ann()}))["type"], "refreshed");
}
