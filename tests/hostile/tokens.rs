//! Tokens that are forged, over and malformed, by the thousand, while the healthy come in with good ones.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::arena::Arena;
use super::common::Client;
use super::healthy::Entrance;

const SECRET: &str = "a-secret-of-more-than-16-characters";
const RSA: &str = include_str!("../keys/rsa.key");
const RSA_PUBLIC: &str = include_str!("../keys/rsa.pub");
const EACH: usize = 150;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn signed(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, key).expect("a token")
}

/// A token that is not what its header says, or that nobody has signed.
fn unsigned(header: &Value, claims: &Value, signature: &str) -> String {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{header}.{claims}.{signature}")
}

/// Handshakes with these tokens, each on a connection of its own; how many were not refused with 401.
fn not_refused(addr: SocketAddr, tokens: &[String]) -> Vec<String> {
    let handshake = |n: usize, token: &String| {
        let mut client = Client::connect(addr);
        let field = if n.is_multiple_of(2) {
            format!("Authorization: Bearer {token}\r\n")
        } else {
            format!("Sec-WebSocket-Protocol: bearer, {token}\r\n")
        };
        let _ = client.stream.write_all(super::common::client::handshake("/raw/t", &field).as_bytes());
        client.head()
    };
    let heads = (0..EACH).flat_map(|n| tokens.iter().map(move |token| (n, token)));
    heads.map(|(n, token)| handshake(n, token)).filter(|head| !head.starts_with("HTTP/1.1 401 ")).collect()
}

/// A configuration in a file, which secrets want.
fn file(dir: &Path, text: &str) -> String {
    let path = dir.join("uproar.toml");
    std::fs::write(&path, text).expect("a file");
    format!("--config={}", path.display())
}

fn healthy(token: String) -> Entrance {
    Entrance { token, ..Entrance::default() }
}

#[test]
fn forged_where_a_secret_signs() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = file(dir.path(), &format!("jwt_secret = \"{SECRET}\"\n"));
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    let claims = json!({"sub": "ann", "exp": now() + 600});
    let good = signed(Algorithm::HS256, &secret, &claims);
    let (head, tail) = good.split_at(good.len() - 10);
    let forged = [
        signed(Algorithm::HS256, &EncodingKey::from_secret(b"another secret of some length"), &claims),
        signed(Algorithm::HS256, &EncodingKey::from_secret(b""), &claims),
        signed(Algorithm::HS512, &secret, &claims),
        signed(Algorithm::HS256, &secret, &json!({"sub": "ann", "exp": now() - 120})),
        signed(Algorithm::HS256, &secret, &json!({"sub": "ann", "exp": now() + 600, "nbf": now() + 300})),
        signed(Algorithm::HS256, &secret, &json!({"sub": "ann", "exp": "never"})),
        signed(Algorithm::HS256, &secret, &json!({"sub": "ann", "exp": now() + 600, "uproar": {"topic": "t"}})),
        signed(Algorithm::HS256, &secret, &json!({"sub": "ann", "exp": now() + 600, "nbf": "2000-01-01"})),
        unsigned(&json!({"alg": "none", "typ": "JWT"}), &claims, ""),
        unsigned(&json!({"alg": "NoNe"}), &claims, "AAAA"),
        unsigned(&json!({"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}}), &claims, "AAAA"),
        format!("{head}{}", tail.chars().rev().collect::<String>()),
        head.to_owned(),
        "x".repeat(7000),
        format!("{}.{}.{}", "e30".repeat(500), "e30".repeat(500), "e30".repeat(500)),
        ".".repeat(100),
    ];
    let arena = Arena::with(&[&config], &healthy(good));
    let (after, passed) =
        arena.attack("forged tokens, HS256, 16 kinds × 150", |server| not_refused(server.addr, &forged));
    assert!(passed.is_empty(), "{passed:?}");
    assert_eq!(
        after.rose("authentications_total result=\"denied\"") + after.rose("authentications_total result=\"shed\""),
        16 * EACH as u64
    );
    assert_eq!(after.rose("authentications_total result=\"granted\""), 0);
}

/// What a public key checks, no secret has signed, whatever the token says.
#[test]
fn forged_where_a_public_key_checks() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = dir.path().join("rsa.pub");
    std::fs::write(&key, RSA_PUBLIC).expect("a file");
    let config = file(dir.path(), &format!("jwt_public_key = \"{}\"\n", key.display()));
    let private = EncodingKey::from_rsa_pem(RSA.as_bytes()).expect("a key");
    let claims = json!({"sub": "ann", "exp": now() + 600});
    let good = signed(Algorithm::RS256, &private, &claims);
    let signature = good.rsplit('.').next().expect("a signature");
    let trimmed = EncodingKey::from_secret(RSA_PUBLIC.trim().as_bytes());
    let forged = [
        signed(Algorithm::HS256, &EncodingKey::from_secret(RSA_PUBLIC.as_bytes()), &claims),
        signed(Algorithm::HS256, &trimmed, &claims),
        signed(Algorithm::RS512, &private, &claims),
        signed(Algorithm::PS256, &private, &claims),
        signed(Algorithm::RS256, &private, &json!({"sub": "ann", "exp": now() - 120})),
        unsigned(&json!({"alg": "none"}), &claims, ""),
        unsigned(&json!({"alg": "RS256"}), &json!({"sub": "root", "exp": now() + 600}), signature),
        unsigned(&json!({"alg": "RS256", "jku": "http://127.0.0.1:1/"}), &claims, signature),
        unsigned(&json!({"alg": "RS256", "kid": "../../../dev/null"}), &claims, "AAAA"),
    ];
    let arena = Arena::with(&[&config], &healthy(good));
    let (after, passed) =
        arena.attack("forged tokens, RS256, 9 kinds × 150", |server| not_refused(server.addr, &forged));
    assert!(passed.is_empty(), "{passed:?}");
    assert_eq!(
        after.rose("authentications_total result=\"denied\"") + after.rose("authentications_total result=\"shed\""),
        9 * EACH as u64
    );
}

/// All at once: more tokens than may wait to be checked are refused without being looked at.
#[test]
fn more_tokens_than_can_be_checked() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = file(dir.path(), &format!("jwt_secret = \"{SECRET}\"\n"));
    let good = signed(Algorithm::HS256, &EncodingKey::from_secret(SECRET.as_bytes()), &json!({"exp": now() + 600}));
    let bad = format!("{good}A");
    let (after, answered) =
        Arena::with(&[&config], &healthy(good)).attack("forged tokens, pipelined, 100 × 20", |server| {
            let request =
                format!("GET /sse?topic=t HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {bad}\r\n\r\n").repeat(20);
            let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(server.addr)).collect();
            clients.iter_mut().for_each(|client| client.send_anyway(request.as_bytes()));
            clients.iter_mut().map(Client::head).filter(|head| head.starts_with("HTTP/1.1 401 ")).count()
        });
    assert_eq!(answered, 100);
    assert!(after.rose("authentications_total result=\"denied\"") >= 100);
    assert_eq!(after.rose("authentications_total result=\"granted\""), 0);
}
