//! Tokens, and an application besides.

use jsonwebtoken::{EncodingKey, Header, encode};
use uproar::config::Secret;

use super::application::Reply;
use super::*;

const SECRET: &str = "a-secret-of-more-than-16-characters";

fn token(claims: &Value) -> String {
    let token = encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("a token");
    format!("Authorization: Bearer {token}\r\n")
}

fn claims(change: Value) -> Value {
    let mut claims = json!({"sub": "ann", "exp": now() / 1000 + 60});
    change.as_object().expect("an object").iter().for_each(|(key, value)| claims[key] = value.clone());
    claims
}

fn guarded(application: &Application, events: HookEvents) -> TestServer {
    asking(application, events, 3, |config| {
        config.jwt_secret = vec![Secret::new(SECRET)];
        config.anonymous = true;
    })
}

fn enter_with(server: &TestServer, token: &str) -> (Client, Value) {
    let mut client = knock(server.addr, "/lobby", token).expect("it is let in");
    let welcome = next(&mut client);
    (client, welcome)
}

#[test]
fn the_token_is_checked_first() {
    let application = Application::kind();
    let server = guarded(&application, CONNECT);
    let bad = token(&claims(json!({"exp": 1})));
    assert_eq!(knock(server.addr, "/", &bad).err().map(|refused| refused.status), Some(401));
    assert_eq!(application.asked().len(), 0);
    let (_client, welcome) = enter_with(&server, &token(&claims(json!({}))));
    assert_eq!(welcome["user"], "ann");
    let (_anonymous, welcome) = enter_with(&server, "");
    assert_eq!(welcome["user"], Value::Null);
    let asked: Vec<_> = application.asked();
    assert_eq!((&asked[0]["user"], &asked[1]["user"]), (&json!("ann"), &Value::Null));
    assert_eq!(asked[0]["token"], Value::Null, "the server has checked it itself");
}

#[test]
fn an_answer_that_contradicts_the_token_is_none() {
    let application = Application::start(|_| Reply::ok(json!({"user": "bob"})));
    let server = guarded(&application, CONNECT);
    let refused = knock(server.addr, "/", &token(&claims(json!({})))).err().expect("it is refused");
    assert_eq!(refused.status, 503);
    assert_eq!(words(&server, "failed"), 1);
    let (_client, welcome) = enter_with(&server, &token(&claims(json!({"sub": ""}))));
    assert_eq!(welcome["user"], "bob", "a token that names nobody contradicts nobody");
}

#[test]
fn what_the_application_says_outlives_the_token() {
    let expires = now() + 20_000;
    let application =
        Application::start(move |_| Reply::ok(json!({"user": "ann", "subscribe": ["a"], "expires": expires})));
    let server = guarded(&application, CONNECT);
    let wide = claims(json!({"uproar": {"subscribe": ["*"]}}));
    let (mut client, welcome) = enter_with(&server, &token(&wide));
    assert_eq!(welcome["expires"], expires, "the earlier end counts");
    assert_eq!(ask(&mut client, &subscribe(&["b"]))["topics"][0]["error"], "not_allowed");
    let fresh = token(&claims(json!({"exp": now() / 1000 + 3600, "uproar": {"subscribe": ["*"]}})));
    let fresh = fresh.trim_start_matches("Authorization: Bearer ").trim_end();
    let refreshed = ask(&mut client, &json!({"type": "refresh", "token": fresh}));
    assert_eq!((&refreshed["type"], &refreshed["expires"]), (&json!("refreshed"), &json!(expires)));
    assert_eq!(ask(&mut client, &subscribe(&["b"]))["topics"][0]["error"], "not_allowed");
    assert_eq!(ask(&mut client, &subscribe(&["a"]))["topics"][0]["ok"], true);
}

#[test]
fn a_topic_with_a_token_of_its_own_is_asked_about_behind_what_waits() {
    let application =
        Application::start(|question| Reply::ok(json!({})).after(if question["event"] == "publish" { 150 } else { 0 }));
    let events = HookEvents { connect: false, subscribe: true, publish: true };
    let server = guarded(&application, events);
    let narrow = claims(json!({"uproar": {"subscribe": ["lobby"]}}));
    let (mut client, _) = enter_with(&server, &token(&narrow));
    let own = token(&json!({"exp": now() / 1000 + 60, "uproar": {"topic": "vip"}}));
    let own = own.trim_start_matches("Authorization: Bearer ").trim_end();
    // Its token is checked while the publication waits; both are then asked about, one after the other.
    client.text(&json!({"type": "subscribe", "topics": ["vip"], "tokens": {"vip": own}}).to_string());
    client.text(&publish("t", 1).to_string());
    let mut answers = [next(&mut client), next(&mut client)];
    answers.sort_by_key(|answer| answer["type"] != "ack");
    assert_eq!((&answers[0]["type"], &answers[1]["topics"][0]["ok"]), (&json!("ack"), &json!(true)));
    assert_eq!(ask(&mut client, &json!({"type": "ping"}))["type"], "pong");
    assert_eq!(application.most(), 1);
    wait_until("nothing is kept", || server.metric("memory_bytes part=\"partial_messages\"") == 0);
}

/// The token that allows a topic is over before the application has answered: so is the permission.
#[test]
fn a_topics_token_that_is_over_when_the_application_answers() {
    let application = Application::start(|question| {
        Reply::ok(json!({})).after(if question["event"] == "subscribe" { 1800 } else { 0 })
    });
    let events = HookEvents { connect: true, subscribe: true, publish: false };
    let server = asking(&application, events, 1, |config| {
        config.jwt_secret = vec![Secret::new(SECRET)];
        config.client_subscribe = uproar::config::Patterns(vec!["lobby".into()]);
        config.auth_hook_timeout = Duration::from_secs(5);
    });
    let (mut client, _) = enter_with(&server, &token(&claims(json!({}))));
    let own = token(&json!({"exp": now() / 1000 + 1, "uproar": {"topic": "vip"}}));
    let own = own.trim_start_matches("Authorization: Bearer ").trim_end();
    let answer = ask(&mut client, &json!({"type": "subscribe", "topics": ["vip"], "tokens": {"vip": own}}));
    assert_eq!(answer["topics"][0]["error"], "not_allowed", "{answer}");
}
