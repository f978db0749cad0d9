//! Tokens: where they may be, who has made them, what they allow, and when they are over. Over real sockets.

#[path = "../common/mod.rs"]
mod common;

mod keys;
mod topics;

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::client::{Response, TEXT, ask, handshake, knock, next, speak_early};
use common::{Client, SHARDS, TestServer, config, wait_until};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use uproar::Config;
use uproar::config::{Patterns, Secret};

const SECRET: &str = "a-secret-of-more-than-16-characters";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A token that the secret has made.
fn token(claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("a token")
}

fn ann() -> String {
    token(&json!({"sub": "ann", "exp": now() + 60}))
}

fn guarded(shards: u32, change: impl FnOnce(&mut Config)) -> TestServer {
    let mut config = config(shards);
    config.jwt_secret = vec![Secret::new(SECRET)];
    config.close_timeout = Duration::from_millis(300);
    change(&mut config);
    TestServer::start(config)
}

fn status(addr: SocketAddr, path: &str, fields: &str) -> u16 {
    knock(addr, path, fields).map_or_else(|refused| refused.status, |_| 101)
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A client that is welcomed.
#[track_caller]
fn enter(addr: SocketAddr, path: &str, token: &str) -> Client {
    let mut client = knock(addr, path, &bearer(token)).expect("it is let in");
    assert_eq!(next(&mut client)["type"], "connected");
    client
}

#[test]
fn a_token_may_be_in_any_of_its_places() {
    for shards in SHARDS {
        let server = guarded(shards, |config| config.auth_cookie = Some("session".into()));
        let token = ann();
        for path in ["/raw/t", "/", "/chat"] {
            assert_eq!(status(server.addr, path, ""), 401);
            assert_eq!(status(server.addr, path, &bearer(&token)), 101);
            assert_eq!(status(server.addr, &format!("{path}?access_token={token}"), ""), 101);
            assert_eq!(status(server.addr, path, &format!("Cookie: a=b; session={token}\r\n")), 101);
            let fields = format!("Sec-WebSocket-Protocol: bearer, {token}\r\n");
            let mut client = Client::connect(server.addr);
            client.send(handshake(path, &fields).as_bytes());
            assert!(client.switched().contains("Sec-WebSocket-Protocol: bearer\r\n"), "a browser wants one agreed to");
        }
        let refused = knock(server.addr, "/", "").err().expect("no token");
        assert_eq!(refused.field("WWW-Authenticate"), Some("Bearer"));
        // What is not for clients needs none.
        let mut client = Client::connect(server.addr);
        client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(client.response().status, 200);
        wait_until("all are gone", || server.metric("connections kind=\"websocket\"") == 0);
    }
}

#[test]
fn a_handshake_waits_with_what_comes_behind_it() {
    let server = guarded(3, |_| {});
    (0..50).for_each(|n| speak_early(server.addr, &bearer(&ann()), &format!("early {n}")));
    server.wait_idle();
}

#[test]
fn what_is_no_good_token_is_refused_and_no_more_is_said() {
    let server = guarded(1, |config| {
        config.jwt_issuer = Some("https://issuer".into());
        config.jwt_audience = Some("uproar".into());
    });
    let claims = |change: Value| {
        let mut claims = json!({"sub": "ann", "exp": now() + 60, "iss": "https://issuer", "aud": "uproar"});
        for (key, value) in change.as_object().expect("an object") {
            match value {
                Value::Null => drop(claims.as_object_mut().expect("an object").remove(key)),
                value => claims[key] = value.clone(),
            }
        }
        claims
    };
    let good = token(&claims(json!({})));
    assert_eq!(status(server.addr, "/", &bearer(&good)), 101);
    let other_key = encode(&Header::default(), &claims(json!({})), &EncodingKey::from_secret(b"another secret"));
    let longer =
        encode(&Header::new(Algorithm::HS512), &claims(json!({})), &EncodingKey::from_secret(SECRET.as_bytes()));
    let payload = good.split('.').nth(1).expect("three parts");
    let mut last_changed = good.clone().into_bytes();
    let last = last_changed.len() - 3;
    last_changed[last] = if last_changed[last] == b'A' { b'B' } else { b'A' };
    for bad in [
        "x".to_owned(),
        "a.b.c".into(),
        good[..good.len() - 1].into(),
        String::from_utf8(last_changed).expect("ASCII"),
        // {"alg":"none","typ":"JWT"}
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}."),
        other_key.expect("a token"),
        longer.expect("a token"),
        token(&claims(json!({"exp": now() - 60}))),
        token(&claims(json!({"nbf": now() + 60}))),
        token(&claims(json!({"iss": "https://other"}))),
        token(&claims(json!({"iss": null}))),
        token(&claims(json!({"aud": "other"}))),
        token(&claims(json!({"aud": null}))),
        token(&claims(json!({"sub": "\u{0}user"}))),
        token(&claims(json!({"uproar": {"subscribe": "not a list"}}))),
        token(&claims(json!({"uproar": {"subscrybe": []}}))),
        token(&claims(json!({"nbf": "1"}))),
        token(&claims(json!({"uproar": {"topic": "vip"}}))),
        token(&claims(json!({"uproar": {"topic": "*"}}))),
    ] {
        let refused = knock(server.addr, "/", &bearer(&bad)).err().expect("it is refused");
        assert_eq!(refused.status, 401, "{bad}");
        assert!(!refused.head.contains("exp") && !refused.head.contains("issuer"), "{}", refused.head);
    }
    assert_eq!(server.metric("authentications_total result=\"granted\""), 1);
    assert_eq!(server.metric("authentications_total result=\"denied\""), 19);
}

#[test]
fn permissions_are_what_the_token_says() {
    let server = guarded(3, |config| {
        config.history = uproar::config::parse_history("* count=10").expect("a rule");
    });
    let token = token(&json!({"sub": "ann", "exp": now() + 60, "uproar": {
        "rooms": ["lobby", "game-*"], "subscribe": ["prices.*", "chat"], "publish": ["chat"],
        "presence": ["lobby"], "history": ["prices.*"]}}));
    for (path, let_in) in [("/?room=lobby", true), ("/game-7", true), ("/?room=vip", false), ("/", false)] {
        assert_eq!(status(server.addr, path, &bearer(&token)), if let_in { 101 } else { 403 }, "{path}");
    }
    assert_eq!(status(server.addr, "/raw/prices.A", &bearer(&token)), 101);
    assert_eq!(status(server.addr, "/raw/secret", &bearer(&token)), 403);
    let mut client = enter(server.addr, "/?room=lobby", &token);
    let answer = ask(&mut client, &json!({"type": "subscribe", "topics": ["prices.A", "secret", "chat"]}));
    let results: Vec<_> =
        answer["topics"].as_array().expect("a list").iter().map(|one| (&one["ok"], &one["error"])).collect();
    assert_eq!(results[0].0, &json!(true));
    assert_eq!(results[1], (&json!(false), &json!("not_allowed")));
    assert_eq!(results[2].0, &json!(true));
    let past = |topic: &str| json!({"type": "subscribe", "topics": [topic], "recover": true});
    assert_eq!(ask(&mut client, &past("prices.B"))["topics"][0]["ok"], true);
    assert_eq!(ask(&mut client, &past("chat"))["topics"][0]["error"], "not_allowed");
    let publish = |topic: &str| json!({"type": "publish", "topic": topic, "data": 1, "id": "p", "ack": true});
    let refused = ask(&mut client, &publish("prices.A"));
    assert_eq!((&refused["code"], &refused["id"]), (&json!("not_allowed"), &json!("p")));
    let mut answers = [ask(&mut client, &publish("chat")), next(&mut client)];
    answers.sort_by_key(|answer| answer["type"] != "ack");
    assert_eq!((&answers[0]["topic"], &answers[1]), (&json!("chat"), &json!(1)));
    assert_eq!(ask(&mut client, &json!({"type": "presence"}))["type"], "presence");
    assert_eq!(ask(&mut client, &json!({"type": "presence", "topic": "vip"}))["code"], "not_allowed");
    // A room that it may not enter is none that it may speak in.
    let _vip = enter(server.addr, "/?room=vip", &ann());
    let _game = enter(server.addr, "/?room=game-1", &ann());
    let to = |room: &str| json!({"type": "text", "receiver": room, "content": "x", "id": "a", "ack": true});
    assert_eq!(ask(&mut client, &to("vip"))["code"], "no_receiver");
    assert_eq!(ask(&mut client, &to("game-1"))["type"], "ack");
    // What a raw client may not publish ends it.
    let mut raw = knock(server.addr, "/raw/prices.A", &bearer(&token)).expect("it is let in");
    raw.text("1");
    assert_eq!(raw.close_code(), 1008);
}

#[test]
fn streams_and_posts_want_a_token_too() {
    let server = guarded(1, |_| {});
    let limited = token(&json!({"exp": now() + 60, "uproar": {"subscribe": ["a"], "publish": ["a"]}}));
    let get = |target: &str, fields: &str| {
        let mut client = Client::connect(server.addr);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").as_bytes());
        client.head().split(' ').nth(1).expect("a status").to_owned()
    };
    assert_eq!(get("/sse?topic=a", ""), "401");
    assert_eq!(get("/sse?topic=a", &bearer(&limited)), "200");
    assert_eq!(get("/sse?topic=a&topic=b", &bearer(&limited)), "403");
    let mut client = Client::connect(server.addr);
    for (fields, topic, status) in [
        (bearer(&limited), "a", 200),
        (bearer(&limited), "b", 403),
        (bearer(&ann()), "b", 200),
        (String::new(), "a", 401),
    ] {
        let body = json!({"topic": topic, "data": 1}).to_string();
        let len = body.len();
        let head = format!(
            "POST /publish HTTP/1.1\r\nHost: a\r\n{fields}Content-Type: application/json\r\nContent-Length: {len}\r\n\r\n"
        );
        client.send((head + &body).as_bytes());
        assert_eq!(client.response().status, status, "{topic}");
    }
}

#[test]
fn a_connection_ends_with_its_token_unless_that_is_refreshed() {
    let server = guarded(3, |_| {});
    let for_seconds = |seconds: u64, user: &str| token(&json!({"sub": user, "exp": now() + seconds}));
    let mut stays = enter(server.addr, "/?room=a", &for_seconds(2, "ann"));
    let mut goes = knock(server.addr, "/?room=b", &bearer(&for_seconds(2, "ann"))).expect("it is let in");
    let welcome = next(&mut goes);
    let expires = welcome["expires"].as_u64().expect("milliseconds");
    assert!((expires / 1000).abs_diff(now() + 2) <= 1, "{welcome}");
    let refresh = |token: &str| json!({"type": "refresh", "token": token});
    for bad in [&for_seconds(60, "bob"), "x", &for_seconds(0, "ann")] {
        let answer = ask(&mut stays, &refresh(bad));
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("bad_token")), "{bad}");
    }
    let answer = ask(&mut stays, &refresh(&for_seconds(60, "ann")));
    assert_eq!(answer["type"], "refreshed");
    assert!(answer["expires"].as_u64().expect("milliseconds") / 1000 >= now() + 58);
    assert_eq!(goes.close_code(), 1008);
    wait_until("the reason is counted", || server.metric("connections_closed_total reason=\"expired\"") == 1);
    assert_eq!(ask(&mut stays, &json!({"type": "ping"}))["type"], "pong");
}

/// What a token does not say is what the configuration says when it is taken up, and changes with that.
#[test]
fn what_a_token_does_not_say_is_what_the_configuration_says_by_now() {
    let server = guarded(3, |config| config.client_publish = Patterns(Vec::new()));
    let mut clients: Vec<Client> = (0..6).map(|n| enter(server.addr, &format!("/?room=r{n}"), &ann())).collect();
    let publish = json!({"type": "publish", "topic": "t", "data": 1, "id": "p", "ack": true});
    let mut config = server.running().config().clone();
    for allowed in [true, false, true] {
        // While the configuration changes, tokens are on their way, of newcomers and of those who stay.
        let addr = server.addr;
        let newcomers = thread::spawn(move || -> Vec<Client> {
            (0..50).map(|n| enter(addr, &format!("/?room=n{n}"), &ann())).collect()
        });
        let refresh = json!({"type": "refresh", "token": ann()}).to_string();
        clients.iter_mut().for_each(|client| client.text(&refresh));
        config.client_publish = Patterns(if allowed { vec!["*".into()] } else { Vec::new() });
        server.running().reload(config.clone()).expect("it can be taken up");
        clients.iter_mut().for_each(|client| assert_eq!(next(client)["type"], "refreshed"));
        let mut newcomers = newcomers.join().expect("all are let in");
        for client in clients.iter_mut().chain(&mut newcomers) {
            let answer = ask(client, &publish);
            let expected = if allowed { json!("ack") } else { json!("error") };
            assert_eq!(answer["type"], expected, "{answer}");
        }
    }
}

#[test]
fn the_user_of_a_token_is_one_of_the_receivers() {
    let server = guarded(3, |_| {});
    let mut ann_at_home = enter(server.addr, "/?room=a", &ann());
    let mut ann_on_the_way = enter(server.addr, "/?room=b", &ann());
    let mut bob = enter(server.addr, "/?room=c", &token(&json!({"sub": "bob", "exp": now() + 60})));
    bob.text(&json!({"type": "text", "receiver": "ann", "content": "hello"}).to_string());
    for client in [&mut ann_at_home, &mut ann_on_the_way] {
        assert_eq!(next(client)["content"], "hello");
    }
}

#[test]
fn clients_without_a_token_are_let_in_where_that_is_wanted() {
    let server = guarded(1, |config| {
        config.anonymous = true;
        config.client_publish = Patterns(Vec::new());
    });
    let mut reader = Client::json(server.addr, "a");
    let refused = ask(&mut reader, &json!({"type": "publish", "topic": "t", "data": 1}));
    assert_eq!(refused["code"], "not_allowed");
    assert_eq!(status(server.addr, "/", &bearer("x")), 401, "a bad token is worse than none");
    let writer = token(&json!({"exp": now() + 60, "uproar": {"publish": ["t"]}}));
    let mut writer = enter(server.addr, "/?room=b", &writer);
    let answer = ask(&mut writer, &json!({"type": "publish", "topic": "t", "data": 1, "id": 1, "ack": true}));
    assert_eq!(answer["type"], "ack");
}

#[test]
fn pages_of_other_origins_are_kept_out() {
    let mut config = config(1);
    config.allowed_origins = Patterns(vec!["https://*.example.org".into(), "https://example.org".into()]);
    let server = TestServer::start(config);
    for (origin, let_in) in [
        ("https://example.org", true),
        ("https://app.example.org", true),
        ("http://example.org", false),
        ("https://example.org.evil.net", false),
        ("null", false),
    ] {
        let expected = if let_in { 101 } else { 403 };
        assert_eq!(status(server.addr, "/raw/t", &format!("Origin: {origin}\r\n")), expected, "{origin}");
    }
    assert_eq!(status(server.addr, "/raw/t", ""), 101, "what is no page says no origin");
    let two = "Origin: https://example.org\r\nOrigin: https://evil.net\r\n";
    assert_eq!(status(server.addr, "/raw/t", two), 400, "one of both is not the page's");
}

#[test]
fn a_body_is_not_waited_for_before_its_token_is_known_to_be_good() {
    let server = guarded(1, |_| {});
    let body = r#"{"topic":"t","data":1}"#;
    let head = |fields: &str, len| {
        let fields = format!("Host: a\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n{fields}\r\n");
        format!("POST /publish HTTP/1.1\r\n{fields}")
    };
    let over = token(&json!({"sub": "ann", "exp": now() - 600}));
    for fields in [String::new(), bearer("a.b.c"), bearer("x"), bearer(&over)] {
        let mut client = Client::connect(server.addr);
        client.send(head(&fields, 1_000_000).as_bytes());
        assert_eq!(client.response().status, 401, "{fields}");
        client.expect_end();
    }
    let mut client = Client::connect(server.addr);
    for _ in 0..2 {
        client.send(head(&format!("{}Expect: 100-continue\r\n", bearer(&ann())), body.len()).as_bytes());
        assert!(client.head().starts_with("HTTP/1.1 100 "), "once it is admitted");
        client.send(&body.as_bytes()[..10]);
        client.send(&body.as_bytes()[10..]);
        assert_eq!(client.response().status, 200);
    }
    // What one request was granted is not for the next.
    client.send(head("", body.len()).as_bytes());
    assert_eq!(client.response().status, 401);
}
