// HTTP heads: whatever the bytes, the answer does not depend on how they were cut, and what is accepted is in order.

use uproar::http::request::{Method, PUBLISH, Request, parse};
use uproar::http::route::{Route, route};
use uproar::limits::{MAX_HEADERS, MAX_TOPIC_BYTES};
use uproar::ws::handshake;

/// Small enough for a fuzzer to find the limit.
const MAX_HEAD: usize = 1024;

/// Parses `bytes` as a head, whole and in every prefix; panics where a property does not hold.
pub fn head(bytes: &[u8]) {
    let whole = outcome(bytes);
    // Up to a first answer every prefix is incomplete, and from there on each has the answer of the whole.
    let settled = (0..bytes.len()).find(|&len| outcome(&bytes[..len]).is_some()).unwrap_or(bytes.len());
    for len in settled..bytes.len() {
        assert_eq!(outcome(&bytes[..len]), whole, "at {len}");
    }
    if let Ok(Some(request)) = parse(bytes, MAX_HEAD) {
        assert!(request.head_len <= MAX_HEAD && bytes[..request.head_len].ends_with(b"\r\n\r\n"));
        assert!(request.headers().len() <= MAX_HEADERS);
        assert!(request.path.starts_with('/') && !request.path.contains('?'));
        let may_post = request.path == PUBLISH;
        assert!(may_post || matches!(request.method, Method::Get | Method::Head) && request.body_len == 0);
        assert!(request.values("Host").count() <= 1 && request.values("Transfer-Encoding").count() == 0);
        use_request(&request);
    }
}

/// `None`: more bytes are needed. Otherwise the error, or the length of the head.
fn outcome(bytes: &[u8]) -> Option<Result<usize, u16>> {
    match parse(bytes, MAX_HEAD) {
        Ok(None) => None,
        Ok(Some(request)) => Some(Ok(request.head_len)),
        Err(error) => Some(Err(error.status())),
    }
}

/// What a connection does with a request.
fn use_request(request: &Request<'_>) {
    let _ = (request.keep_alive(), request.query_value("topic"));
    let upgrade = request.wants_websocket();
    match route(request.path, upgrade) {
        Route::Raw { topic } => assert!(upgrade && (1..=MAX_TOPIC_BYTES).contains(&topic.len())),
        Route::Json | Route::Backend | Route::BadTopic => assert!(upgrade),
        Route::Probe(_) | Route::Page(_) | Route::Events | Route::Publish | Route::UpgradeRequired => {
            assert!(!upgrade)
        }
        Route::NotFound => {}
    }
    let method = request.method.as_str();
    if let Ok(handshake) = handshake::check(method, request.minor_version, request.headers(), &["chat"]) {
        assert!(upgrade && request.values("Sec-WebSocket-Key").count() == 1);
        let mut response = Vec::new();
        handshake.write_response(None, &mut response);
        assert!(response.ends_with(b"\r\n\r\n") && response.starts_with(b"HTTP/1.1 101 "));
    }
}
