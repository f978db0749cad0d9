//! The admin listener's key.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};

use uproar::config::{AdminListen, Secret};

use super::common::client::Response;
use super::common::{Client, Process, TestServer, config, metric};

const KEY: &str = "0123456789abcdef";
const OLD: &str = "fedcba9876543210";
const WRONG: &str = "0123456789abcdeg";

/// An address of this machine that is not loopback, if there is one. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

/// A server whose admin listener is everywhere, and its port.
fn keyed() -> (TestServer, u16) {
    let mut config = config(1);
    config.admin_listen = AdminListen::Tcp(([0, 0, 0, 0], 0).into());
    config.admin_key = vec![Secret::new(KEY), Secret::new(OLD)];
    let server = TestServer::start(config);
    let port = server.admin.parse::<SocketAddr>().expect("an address").port();
    (server, port)
}

fn ask(to: SocketAddr, line: &str, host: &str, key: Option<&str>) -> Response {
    let key = key.map_or(String::new(), |key| format!("Authorization: Bearer {key}\r\n"));
    let mut client = Client::connect(to);
    client.send(format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{key}\r\n").as_bytes());
    client.response()
}

#[test]
fn strangers_need_the_key_and_whoever_has_it_needs_no_name() {
    let (_server, port) = keyed();
    let loopback: SocketAddr = ([127, 0, 0, 1], port).into();
    let status = |to, line, host, key| ask(to, line, host, key).status;
    assert_eq!(status(loopback, "GET /rooms", "localhost", None), 200);
    assert_eq!(status(loopback, "GET /rooms", "uproar:8081", None), 421);
    assert_eq!(status(loopback, "GET /rooms", "uproar:8081", Some(KEY)), 200);
    for line in ["GET /rooms", "GET /metrics", "GET /", "GET /nowhere", "POST /publish", "PUT /rooms"] {
        let refused = ask(loopback, line, "localhost", Some(WRONG));
        assert_eq!((refused.status, refused.field("www-authenticate")), (401, Some("Bearer")), "{line}");
        assert!(refused.body.contains("unauthorized") && !refused.body.contains(KEY), "{}", refused.body);
    }
    assert_eq!(metric_of(loopback), 6);
    let Some(ip) = own_address() else { return eprintln!("this machine has no address but loopback") };
    let elsewhere = SocketAddr::new(ip, port);
    for line in ["GET /rooms", "GET /metrics", "GET /", "GET /nowhere", "POST /publish"] {
        assert_eq!(status(elsewhere, line, "localhost", None), 401, "{line}");
        assert_eq!(status(elsewhere, line, "localhost", Some(WRONG)), 401, "{line}");
        assert_ne!(status(elsewhere, line, "uproar:8081", Some(KEY)), 401, "{line}");
        assert_ne!(status(elsewhere, line, "uproar:8081", Some(OLD)), 401, "{line}");
    }
    assert_eq!(status(elsewhere, "GET /health", "uproar", None), 200);
    assert_eq!(metric_of(loopback), 16);
}

/// A browser that opens a page sends no key, and no name that is ours: the page says nothing, and what it asks for is guarded.
#[test]
fn the_page_is_open_and_what_it_shows_is_not() {
    let (_server, port) = keyed();
    let html = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    let get = |to: SocketAddr, target: &str, fields: &str| {
        let mut client = Client::connect(to);
        client.send(
            format!("GET {target} HTTP/1.1\r\nHost: uproar:8081\r\nConnection: close\r\n{fields}\r\n").as_bytes(),
        );
        client.response()
    };
    let ip = own_address().unwrap_or([127, 0, 0, 1].into());
    let to = SocketAddr::new(ip, port);
    let page = get(to, "/", html);
    assert_eq!((page.status, page.field("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.body.contains("/page.js") && !page.body.contains(env!("CARGO_PKG_VERSION")), "nothing of this server");
    let policy = page.field("content-security-policy").expect("a policy");
    assert!(
        policy.contains("default-src 'none'")
            && policy.contains("frame-ancestors 'none'")
            && !policy.contains("unsafe")
    );
    assert_eq!(page.field("set-cookie"), None);
    for (part, kind) in [("/page.js", "text/javascript"), ("/page.css", "text/css")] {
        let part = get(to, part, "");
        assert_eq!(part.status, 200);
        assert!(part.field("content-type").is_some_and(|found| found.starts_with(kind)));
    }
    for target in ["/overview", "/connections", "/topics?sort=rate", "/nowhere"] {
        let refused = get(to, target, html).status;
        assert!(refused == if ip.is_loopback() { 421 } else { 401 } || target == "/nowhere", "{target}: {refused}");
    }
}

/// A page elsewhere can have a browser send what a form can, and that is not taken; for more, the browser asks, and is not allowed.
#[test]
fn pages_of_other_origins_can_do_nothing() {
    let (_server, port) = keyed();
    let form = "Content-Type: text/plain\r\nContent-Length: 24\r\nOrigin: http://elsewhere.example\r\n\r\n{\"topic\":\"t\",\"data\":1}  ";
    let mut client = Client::connect(([127, 0, 0, 1], port).into());
    client.send(format!("POST /publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{form}").as_bytes());
    assert_eq!(client.response().status, 415);
    let mut client = Client::connect(([127, 0, 0, 1], port).into());
    let asks = "OPTIONS /publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: http://elsewhere.example\r\n\
        Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n\r\n";
    client.send(asks.as_bytes());
    let asked = client.response();
    assert_eq!((asked.status, asked.field("access-control-allow-origin")), (405, None));
}

fn metric_of(admin: SocketAddr) -> u64 {
    let text = super::common::scrape(&admin.to_string());
    let value = text.lines().find_map(|line| line.strip_prefix("uproar_admin_unauthorized_total "));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no such metric in {text}"))
}

#[test]
fn without_a_key_only_this_machine_may_come() {
    let everywhere = "--admin-listen=0.0.0.0:0";
    let refused = Process::command(&[everywhere]).stderr(Stdio::piped()).output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(3) && said.contains("UPROAR_ADMIN_KEY"), "{said}");
    let server = Process::start(&[everywhere, "--insecure-open", "--shards=1"]);
    let port = server.admin.parse::<SocketAddr>().expect("an address").port();
    let here = ([127, 0, 0, 1], port).into();
    assert_eq!(ask(here, "GET /rooms", "localhost", None).status, 200);
    assert_eq!(ask(here, "GET /rooms", "localhost", Some(KEY)).status, 401, "there is none, so this is wrong");
    let Some(ip) = own_address() else { return };
    assert_eq!(ask(SocketAddr::new(ip, port), "GET /rooms", "localhost", None).status, 200, "as it was told");
}

#[test]
fn commands_bring_the_key_from_the_environment_or_a_file() {
    let (server, port) = keyed();
    let admin = format!("http://127.0.0.1:{port}");
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    writeln!(file, "{OLD}").expect("room for it");
    let publish = |env: Option<&str>, args: &[&str]| {
        let mut command: Command = Process::command(&[&["publish", "t", "1", "--admin", &admin], args].concat());
        let output = command.envs(env.map(|key| ("UPROAR_ADMIN_KEY", key))).stderr(Stdio::piped()).output();
        let output = output.expect("the binary runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let from_file = ["--admin-key-file", file.path().to_str().expect("UTF-8")];
    assert_eq!(publish(None, &[]).0, Some(0), "it is loopback");
    assert_eq!(publish(Some(&format!("{KEY},{OLD}")), &[]).0, Some(0));
    assert_eq!(publish(Some(WRONG), &from_file).0, Some(0), "the file is more deliberate");
    let (code, said) = publish(Some(WRONG), &[]);
    assert!(code == Some(1) && said.contains("--admin-key-file") && !said.contains(WRONG), "{said}");
    assert_eq!(publish(None, &["--admin-key-file", "/no/such"]).0, Some(2));
    assert_eq!(metric(&format!("127.0.0.1:{port}"), "messages_published_total"), 3);
    drop(server);
}
