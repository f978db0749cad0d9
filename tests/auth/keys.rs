//! The keys that tokens are checked with: of files, and of a set at an address.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use tempfile::TempDir;

use super::*;

const RSA: &str = include_str!("../keys/rsa.key");
const RSA_PUBLIC: &str = include_str!("../keys/rsa.pub");

#[test]
fn public_keys_of_every_kind() {
    let dir = TempDir::new().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let ed = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let files = vec![file("rsa", RSA_PUBLIC), file("p256", &p256.public_key_pem()), file("ed", &ed.public_key_pem())];
    let server = guarded(1, |config| {
        config.jwt_secret = Vec::new();
        config.jwt_public_key = files;
    });
    let claims = json!({"sub": "ann", "exp": now() + 60});
    for (algorithm, key) in [
        (Algorithm::RS256, EncodingKey::from_rsa_pem(RSA.as_bytes())),
        (Algorithm::ES256, EncodingKey::from_ec_pem(p256.serialize_pem().as_bytes())),
        (Algorithm::EdDSA, EncodingKey::from_ed_pem(ed.serialize_pem().as_bytes())),
    ] {
        let token = encode(&Header::new(algorithm), &claims, &key.expect("a key")).expect("a token");
        assert_eq!(status(server.addr, "/", &bearer(&token)), 101, "{algorithm:?}");
    }
    // A public key is no secret: what is signed with it as if it were one is refused.
    let forged =
        encode(&Header::default(), &claims, &EncodingKey::from_secret(RSA_PUBLIC.as_bytes())).expect("a token");
    assert_eq!(status(server.addr, "/", &bearer(&forged)), 401);
}

/// A redirect may lead anywhere, and so is not followed; nor is what is no success taken for keys.
#[test]
fn keys_are_taken_from_the_address_alone() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let (elsewhere, served) = serve_keys(Arc::new(std::sync::Mutex::new(key_set(&[("first", &key)]))));
    for status in [format!("302 Found\r\nLocation: {elsewhere}"), "500 Internal Server Error".into()] {
        let body = key_set(&[("first", &key)]);
        let (address, asked) = serve(move || (status.clone(), body.clone()));
        let server = guarded(1, |config| {
            config.jwt_secret = Vec::new();
            config.jwks_url = Some(format!("{address}?key=of-the-issuer"));
        });
        wait_until("it is asked", || asked.load(Ordering::Relaxed) >= 1);
        wait_until("that is counted", || {
            let text = common::scrape(&server.admin);
            text.lines()
                .any(|line| line.starts_with("uproar_jwks_fetches_total{result=\"failed\"}") && !line.ends_with(" 0"))
        });
        assert_eq!(served.load(Ordering::Relaxed), 0);
        let unready = readiness(server.addr);
        assert_eq!((unready.status, unready.body.contains("\"keys\"")), (503, true), "{unready:?}");
    }
}

/// Whether newcomers are told to come.
fn readiness(addr: SocketAddr) -> Response {
    let mut client = Client::connect(addr);
    client.send(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.response()
}

/// While one secret takes another's place, both are good.
#[test]
fn several_secrets() {
    const NEXT: &str = "another-secret-of-more-than-16-characters";
    let server = guarded(1, |config| config.jwt_secret = vec![Secret::new(NEXT), Secret::new(SECRET)]);
    let claims = json!({"sub": "ann", "exp": now() + 60});
    let made_with = |secret: &str| {
        let key = EncodingKey::from_secret(secret.as_bytes());
        bearer(&encode(&Header::default(), &claims, &key).expect("a token"))
    };
    for (secret, expected) in [(SECRET, 101), (NEXT, 101), ("a third of more than 16 characters", 401)] {
        assert_eq!(status(server.addr, "/", &made_with(secret)), expected, "{secret}");
    }
}

/// Serves what `set` has at the moment, and counts how often.
fn serve_keys(set: Arc<std::sync::Mutex<String>>) -> (String, Arc<AtomicUsize>) {
    serve(move || ("200 OK".into(), set.lock().expect("no panic").clone()))
}

/// Serves a status, with fields, and a body.
fn serve(answer: impl Fn() -> (String, String) + Send + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}/jwks.json", listener.local_addr().expect("an address"));
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    thread::spawn(move || {
        for stream in listener.incoming().take(20).flatten() {
            let mut lines = BufReader::new(&stream).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            count.fetch_add(1, Ordering::Relaxed);
            let (status, body) = answer();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = (&stream).write_all((head + &body).as_bytes());
        }
    });
    (address, served)
}

fn key_set(keys: &[(&str, &KeyPair)]) -> String {
    use base64::Engine;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let keys: Vec<Value> = keys
        .iter()
        .map(|(id, key)| {
            // An uncompressed point: 4, x, y.
            let point = key.public_key_raw();
            json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": id, "x": encode(&point[1..33]), "y": encode(&point[33..])})
        })
        .collect();
    json!({"keys": keys}).to_string()
}

#[test]
fn keys_are_fetched_and_fetched_again_for_one_that_is_not_known() {
    let [first, second] = [0, 1].map(|_| KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key"));
    let set = Arc::new(std::sync::Mutex::new(key_set(&[("first", &first)])));
    let (address, served) = serve_keys(set.clone());
    let server = guarded(1, |config| {
        config.jwt_secret = Vec::new();
        config.jwks_url = Some(address);
        config.jwks_refresh = Duration::from_secs(1);
    });
    let made_by = |key: &KeyPair, id: &str| {
        let header = Header { kid: Some(id.into()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).expect("a key");
        encode(&header, &json!({"sub": "ann", "exp": now() + 60}), &key).expect("a token")
    };
    wait_until("the keys are there", || status(server.addr, "/", &bearer(&made_by(&first, "first"))) == 101);
    assert_eq!(readiness(server.addr).status, 200);
    assert_eq!(status(server.addr, "/", &bearer(&made_by(&second, "first"))), 401);
    assert_eq!(status(server.addr, "/", &bearer(&made_by(&second, "second"))), 401);
    // What is no set of keys changes nothing.
    *set.lock().expect("no panic") = "<html>".into();
    let before = served.load(Ordering::Relaxed);
    wait_until("it is fetched again", || served.load(Ordering::Relaxed) > before);
    assert_eq!(status(server.addr, "/", &bearer(&made_by(&first, "first"))), 101);
    *set.lock().expect("no panic") = key_set(&[("second", &second)]);
    wait_until("the new key is known", || status(server.addr, "/", &bearer(&made_by(&second, "second"))) == 101);
    wait_until("the old one is not", || status(server.addr, "/", &bearer(&made_by(&first, "first"))) == 401);
}
