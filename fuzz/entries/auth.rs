// Tokens, and what an application answers: who somebody is, and what he may do.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::Value;
use uproar::auth::hook::Answer;
use uproar::auth::{Denied, Grant, Keys, Permissions, Said};
use uproar::config::{Patterns, Secret};
use uproar::limits::is_topic_name;

const SECRET: &str = "a secret of the fuzz targets";
/// Patterns of one kind.
const MAX_PATTERNS: usize = 256;

/// What may be done where nobody says anything.
fn defaults() -> Arc<Permissions> {
    let [rooms, subscribe, publish, presence, history] =
        ["r*", "s*", "w*", "p*", "h*"].map(|pattern| Patterns(vec![pattern.into()]));
    Arc::new(Permissions { rooms, subscribe, publish, presence, history })
}

/// `bytes` as a token, as claims that a good key has signed, and as the header before such claims.
pub fn token(bytes: &[u8]) {
    let keys = Keys::new(&[Secret::new(SECRET)], &[], (None, None)).expect("a secret is a key");
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = keys.session(text);
        let _ = keys.pass(text, "a");
    }
    let header = br#"{"alg":"HS256","typ":"JWT"}"#;
    let (own, pass) = (keys.session(&signed(header, bytes)), keys.pass(&signed(header, bytes), "a"));
    assert!(own.is_err() || pass.is_err(), "a token is for one of both");
    match own {
        Ok(said) => assert_fits(said, bytes),
        Err(denied) => assert_ne!(denied, Denied::UnknownKey, "it names no key"),
    }
    if pass.is_ok() {
        let claims: Value = serde_json::from_slice(bytes).expect("claims are JSON");
        assert!(claims["uproar"].is_array() || claims["uproar"]["topic"].is_string());
    }
    let forged = signed(header, bytes).replace('.', ".A");
    assert!(keys.session(&forged).is_err(), "what is signed is something else");
    let _ = keys.session(&signed(bytes, b"{}"));
}

fn signed(header: &[u8], claims: &[u8]) -> String {
    let encode = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("it can be signed");
    format!("{message}.{signature}")
}

/// What a token says is what its claims do, as another reader of JSON sees them.
fn assert_fits(said: Said, claims: &[u8]) {
    let grant = said.over(&defaults());
    let claims: Value = serde_json::from_slice(claims).expect("claims are JSON");
    let user = claims["sub"].as_str().filter(|user| !user.is_empty());
    assert_eq!(grant.user.as_deref(), user);
    assert!(user.is_none_or(is_topic_name));
    assert_eq!(grant.expires, claims["exp"].as_u64().map(|seconds| seconds.saturating_mul(1000)));
    // Lists without names are those of the members in their order; whoever has the key may write so.
    if !claims["uproar"].is_array() {
        assert_lists(&grant.may, &claims["uproar"]);
    }
}

/// Permissions are the lists, and the defaults where there are none.
fn assert_lists(may: &Permissions, lists: &Value) {
    let defaults = defaults();
    for (name, theirs, default) in [
        ("rooms", &may.rooms, &defaults.rooms),
        ("subscribe", &may.subscribe, &defaults.subscribe),
        ("publish", &may.publish, &defaults.publish),
        ("presence", &may.presence, &defaults.presence),
        ("history", &may.history, &defaults.history),
    ] {
        match lists[name].as_array() {
            None => assert_eq!(theirs, default, "{name}"),
            Some(list) => {
                assert!(list.len() <= MAX_PATTERNS);
                assert!(list.iter().map(Value::as_str).eq(theirs.0.iter().map(|pattern| Some(&**pattern))), "{name}");
            }
        }
    }
}

/// `bytes` as what an application answers.
pub fn hook(bytes: &[u8]) {
    let Ok(answer) = Answer::parse(bytes) else { return };
    let read: Value = match bytes.trim_ascii() {
        b"" => Value::Object(Default::default()),
        text => serde_json::from_slice(text).expect("an answer is JSON"),
    };
    const KNOWN: [&str; 7] = ["user", "expires", "rooms", "subscribe", "publish", "presence", "history"];
    assert!(read.as_object().expect("an object").keys().all(|name| KNOWN.contains(&&**name)));
    let grant = answer.over(Grant::anonymous(defaults())).expect("nobody is contradicted");
    assert_eq!(grant.user.as_deref(), read["user"].as_str());
    assert!(grant.user.as_deref().is_none_or(is_topic_name));
    assert_eq!(grant.expires, read["expires"].as_u64());
    assert_lists(&grant.may, &read);
    let known = Grant { user: Some("somebody".into()), expires: Some(7), may: defaults() };
    match answer.over(known) {
        Ok(both) => assert!(both.user.as_deref() == Some("somebody") && both.expires.is_some_and(|end| end <= 7)),
        Err(_) => assert!(grant.user.is_some_and(|user| &*user != "somebody")),
    }
}
