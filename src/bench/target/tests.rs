use super::*;
use crate::http::request;
use crate::ws::deflate::{Policy, negotiate};
use crate::ws::handshake;
use clap::Parser;
use proptest::prelude::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    common: Common,
}

/// The target of a command line's options.
fn parsed(options: &[&str]) -> crate::bench::Result<Target> {
    Target::new(&Line::parse_from([&["bench"], options].concat()).common)
}

fn target(options: &[&str]) -> Target {
    parsed(options).expect("options in order")
}

fn error(options: &[&str]) -> String {
    parsed(options).expect_err("something is wrong").to_string()
}

fn request(target: &Target, role: Role, topic: u32, n: u32) -> String {
    let mut out = Vec::new();
    target.handshake(role, topic, n, &mut out);
    String::from_utf8(out).expect("text")
}

fn first_line(target: &Target, role: Role) -> String {
    request(target, role, 3, 4).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn publishers_go_where_they_do_not_hear_themselves_unless_told() {
    for (options, subscribers, publishers, one) in [
        (&[][..], "/raw/t3", "/raw/t3?self=false", false),
        (&["--url", "ws://127.0.0.1:9/raw/{topic}"], "/raw/t3", "/raw/t3", false),
        (&["--url", "ws://127.0.0.1:9?id={n}"], "/?id=4", "/?id=4", true),
        (&["--publish-url", "ws://127.0.0.1:9"], "/raw/t3", "/", true),
        (&["--url", "ws://[::1]/{topic}", "--publish-url", "ws://[::1]/p?n={n}"], "/t3", "/p?n=4", true),
    ] {
        let target = target(options);
        assert_eq!(first_line(&target, Role::Subscriber), format!("GET {subscribers} HTTP/1.1"));
        assert_eq!(first_line(&target, Role::Publisher), format!("GET {publishers} HTTP/1.1"));
        assert_eq!(target.one_publisher(), one, "{options:?}");
    }
    assert_eq!(without_own("ws://h/?a=b"), "ws://h/?a=b&self=false");
    assert_eq!(Line::parse_from(["bench"]).common.url, DEFAULT_URL);
}

#[test]
fn addresses_are_those_of_the_urls() {
    let target = target(&["--url", "ws://localhost:81/", "--publish-url", "ws://[::1]"]);
    assert_eq!(target.address(Role::Subscriber), "127.0.0.1:81".parse().unwrap());
    assert_eq!(target.address(Role::Publisher), "[::1]:80".parse().unwrap());
    assert!(request(&target, Role::Publisher, 0, 0).contains("\r\nHost: [::1]\r\n"));
    assert!(request(&target, Role::Subscriber, 0, 0).contains("\r\nHost: localhost:81\r\n"));
}

#[test]
fn urls_that_cannot_be_are_refused_in_words() {
    for (url, why) in [
        ("http://127.0.0.1/", "a URL begins with ws:// or wss://"),
        ("wss://:80/", "expected ws://host:port/path"),
        ("wss://127..0.1/", "this host has no certificate"),
        ("ws://", "expected ws://host:port/path"),
        ("ws://:80/", "expected ws://host:port/path"),
        ("ws://127.0.0.1:99999/", "expected ws://host:port/path"),
        ("ws://user@127.0.0.1/", "expected ws://host:port/path"),
        ("ws://127.0.0.1/a b", "blanks, # and what is not ASCII are percent-encoded"),
        ("ws://127.0.0.1/\r\nX: y", "blanks, # and what is not ASCII are percent-encoded"),
        ("ws://127.0.0.1/#x", "blanks, # and what is not ASCII are percent-encoded"),
    ] {
        assert_eq!(error(&["--url", url]), format!("--url {url}: {why}"));
        assert_eq!(error(&["--publish-url", url]), format!("--publish-url {url}: {why}"));
    }
    assert!(error(&["--url", "ws://host.invalid/"]).starts_with("--url ws://host.invalid/: "));
    assert_eq!(error(&["--url", "ws://127.0.0.1/{who}"]), "--url has {who}, but knows only {topic} and {n}");
}

#[test]
fn the_server_takes_the_handshake_and_its_answer_is_accepted() {
    for (options, deflate) in [(&[][..], false), (&["--deflate", "--header", "Sec-WebSocket-Protocol: a, chat"], true)]
    {
        let target = target(options);
        let text = request(&target, Role::Subscriber, 0, 0);
        let head = request::parse(text.as_bytes(), 8192).expect("in order").expect("whole");
        assert_eq!((head.head_len, head.path), (text.len(), "/raw/t0"));
        let shaken = handshake::check("GET", head.minor_version, head.headers(), &["chat"]).expect("in order");
        let offers = head.values("Sec-WebSocket-Extensions").map(|value| std::str::from_utf8(value).unwrap());
        let agreed = negotiate(offers, Policy { window_bits: 12, client_takeover: true });
        let mut answer = Vec::new();
        shaken.write_response(agreed.as_ref().map(|agreed| &agreed.response[..]), &mut answer);
        assert_eq!(target.accepts(&answer), Ok(Some((answer.len(), deflate))));
        assert!(target.accepts(&answer[1..]).is_err());
    }
}

#[test]
fn headers_are_sent_as_they_are_unless_the_handshake_has_them() {
    let target = target(&["--header", "X-A: b: c ", "--header", "Origin:"]);
    assert!(request(&target, Role::Publisher, 0, 0).ends_with("\r\nX-A: b: c\r\nOrigin: \r\n\r\n"));
    assert_eq!(error(&["--header", "nothing"]), "--header nothing: expected \"Name: value\"");
    assert_eq!(error(&["--header", "a b: c"]), "--header a b: c: this is no header");
    assert_eq!(error(&["--header", "a: b\nc: d"]), "--header a: b\nc: d: this is no header");
    assert_eq!(error(&["--header", "host: x"]), "--header host: x: the handshake has its own host");
}

#[test]
fn templates_say_what_is_sent() {
    let publish = r#"{"type":"publish","topic":"{topic}","data":"{payload}"}"#;
    let subscribe = r#"{"type":"subscribe","topics":["{topic}"],"id":{n}}"#;
    let target = target(&["--publish", publish, "--subscribe", subscribe, "--subscribed", "\"ok\":true"]);
    let mut out = b"before".to_vec();
    target.publication(5, b"abc", &mut out);
    assert_eq!(out, br#"before{"type":"publish","topic":"t5","data":"abc"}"#);
    let expected = r#"{"type":"subscribe","topics":["t5"],"id":9}"#;
    assert_eq!(target.subscription(5, 9).as_deref(), Some(expected));
    assert!(target.publishes_text());
    assert!(target.is_subscribed(br#"{"topic":"t5","ok":true}"#) && !target.is_subscribed(br#"{"ok":false}"#));
    assert_eq!(error(&["--publish", "{topic}"]), "--publish has no {payload}");
    assert_eq!(error(&["--publish", "{payload}{n}"]), "--publish has {n}, but knows only {topic} and {payload}");
    assert_eq!(topic_name(5), "t5");
}

#[test]
fn without_templates_the_payload_is_the_message() {
    let (plain, text) = (target(&[]), target(&["--text"]));
    let mut out = Vec::new();
    plain.publication(5, b"abc", &mut out);
    assert_eq!((&out[..], plain.subscription(5, 9)), (&b"abc"[..], None));
    assert_eq!((plain.publishes_text(), text.publishes_text()), (false, true));
    assert!(plain.is_subscribed(b"anything"));
}

#[test]
fn sources_take_turns() {
    let range = target(&["--source", "127.0.1.254-127.0.2.1"]);
    let last = |n| range.source(n).map(|ip| ip.to_string());
    let expected = ["127.0.1.254", "127.0.1.255", "127.0.2.0", "127.0.2.1", "127.0.1.254"];
    assert_eq!([0, 1, 2, 3, 4].map(last), expected.map(|ip| Some(ip.to_owned())));
    let one = target(&["--url", "ws://[::1]/", "--source", "::1"]);
    assert_eq!(one.source(u32::MAX), Some("::1".parse().unwrap()));
    for source in ["", "x", "127.0.0.1-", "127.0.0.2-127.0.0.1", "::1-::2"] {
        let expected = format!("--source {source}: expected an address, or a range as 127.0.1.1-127.0.1.60");
        assert_eq!(error(&["--source", source]), expected);
    }
    assert_eq!(error(&["--source", "10.0.0.0-10.1.0.0"]), "--source 10.0.0.0-10.1.0.0: at most 65536 addresses");
    assert!(error(&["--source", "::1"]).starts_with("--source ::1 does not reach the target"));
}

#[test]
fn many_connections_are_spread_over_loopback() {
    let spread = |options: &[&str], connections| {
        let mut target = target(options);
        target.spread(connections);
        [0, 11_999, 12_000, 1_000_000].map(|n| target.source(n).map(|ip| ip.to_string()))
    };
    let none = [None, None, None, None];
    assert_eq!(spread(&[], 12_000), none);
    let expected = ["127.0.1.1", "127.0.1.1", "127.0.1.2", "127.0.1.84"];
    assert_eq!(spread(&[], 1_000_001), expected.map(|ip| Some(ip.to_owned())));
    assert_eq!(spread(&["--url", "ws://[::1]/"], 1_000_001), none);
    assert_eq!(spread(&["--url", "ws://192.0.2.1/"], 1_000_001), none);
    let given = spread(&["--source", "127.0.0.9"], 1_000_001);
    assert!(given.iter().all(|source| source.as_deref() == Some("127.0.0.9")));
}

proptest! {
    #[test]
    fn no_option_breaks_the_request(url in "ws://127.0.0.1/[ -~]{0,20}", header in "[A-Za-z-]{1,9}: ?[ -~]{0,20}") {
        let Ok(target) = parsed(&[&format!("--url={url}"), &format!("--header={header}")]) else { return Ok(()) };
        let text = request(&target, Role::Subscriber, 0, 0);
        let count = text.matches("\r\n").count();
        prop_assert!(text.ends_with("\r\n\r\n") && count == 8 && text.matches('\n').count() == count, "{}", text);
        prop_assert!(matches!(request::parse(text.as_bytes(), 8192), Ok(Some(_)) | Err(_)));
    }
}
