//! `/health`, `/live` and `/ready`, on both listeners.

use std::net::SocketAddr;

use super::common::client::Response;
use super::common::{Client, TestServer, config};

/// What is at a path.
pub fn get(to: SocketAddr, path: &str) -> Response {
    let mut client = Client::connect(to);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes());
    client.response()
}

#[test]
fn a_server_that_serves_is_live_and_ready_and_says_for_how_many() {
    let server = TestServer::start(config(2));
    let _client = server.ws("/raw/t");
    for (listener, connections) in [(server.addr, 2), (server.admin.parse().expect("an address"), 1)] {
        for (path, body) in [
            ("/live", r#"{"status":"live"}"#.to_owned()),
            ("/ready", r#"{"status":"ready"}"#.to_owned()),
            ("/health", format!(r#"{{"status":"ok","connections":{connections}}}"#)),
        ] {
            let response = get(listener, path);
            assert_eq!((response.status, response.body.trim_end()), (200, &*body), "{path}");
            assert_eq!(response.field("Content-Type"), Some("application/json"), "{path}");
            // That of the probe before has ended.
            super::common::wait_until("the probe is gone", || server.publisher().connections() == 1);
        }
    }
    let (_, head) = Client::connect(server.addr).upgrade("/live", "");
    assert!(head.contains("101"), "a room may have that name");
}

#[test]
fn a_server_that_is_full_is_live_but_not_ready() {
    let mut config = config(1);
    config.max_connections = Some(1);
    let server = TestServer::start(config);
    let admin = server.admin.parse().expect("an address");
    let client = server.ws("/raw/t");
    let ready = get(admin, "/ready");
    assert_eq!((ready.status, ready.body.trim_end()), (503, r#"{"status":"unready","reason":"full"}"#));
    assert_eq!(ready.field("Retry-After"), Some("1"));
    assert_eq!((get(admin, "/live").status, get(admin, "/health").status), (200, 200));
    assert_eq!(get(server.addr, "/ready").status, 503, "a probe is a newcomer");
    client.reset();
    super::common::wait_until("there is room again", || get(admin, "/ready").status == 200);
}
