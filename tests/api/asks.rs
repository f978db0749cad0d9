//! Questions: history, presence, rooms, and what is there at all.

use std::time::Duration;

use serde_json::{Value, json};
use uproar::config::{AdminListen, parse_history};

use super::common::{Client, SHARDS, TestServer, config, wait_until};
use super::{exchange, get, post, posted, refused};

fn start(shards: u32) -> TestServer {
    let mut config = config(shards);
    config.history = parse_history("kept.* count=5 age=1h bytes=1MiB").expect("a rule");
    config.presence_limit = 3;
    TestServer::start(config)
}

#[track_caller]
fn got(server: &TestServer, target: &str) -> Value {
    let (status, value) = get(&server.admin, target);
    assert_eq!(status, 200, "{target}: {value}");
    value
}

#[test]
fn history_is_what_is_kept() {
    for shards in SHARDS {
        let server = start(shards);
        let nothing = got(&server, "/history?topic=kept.a");
        assert_eq!((&nothing["offset"], &nothing["messages"]), (&json!(0), &json!([])));
        for n in 1..=6 {
            posted(&server.admin, "/publish", &format!(r#"{{"topic":"kept.a","data":{{"n": {n}}}}}"#));
        }
        posted(&server.admin, "/publish", r#"{"topic":"kept.a","data":"plain","encoding":"text"}"#);
        posted(&server.admin, "/publish", r#"{"topic":"kept.a","data":"AAE=","encoding":"base64"}"#);
        let all = got(&server, "/history?topic=kept.a");
        let epoch = all["epoch"].as_str().expect("an epoch").to_owned();
        let n = |n: u64| json!({"offset": n, "data": {"n": n}});
        let (text, binary) =
            (json!({"offset": 7, "data": "plain"}), json!({"offset": 8, "encoding": "base64", "data": "AAE="}));
        let answer = |messages: &[&Value]| json!({"topic": "kept.a", "kept": true, "epoch": epoch, "offset": 8, "messages": messages});
        assert_eq!(all, answer(&[&n(4), &n(5), &n(6), &text, &binary]), "no gap: nothing was asked for");
        assert_eq!(got(&server, "/history?topic=kept.a&limit=2"), answer(&[&text, &binary]), "the newest");
        let since = |epoch: &str, offset: u64, more: &str| {
            got(&server, &format!("/history?topic=kept.a&epoch={epoch}&offset={offset}{more}"))
        };
        assert_eq!(since(&epoch, 4, "&limit=2"), answer(&[&n(5), &n(6)]), "the oldest after it, to go on from there");
        assert_eq!(since(&epoch, 8, ""), answer(&[]));
        let lost = since("another", 8, "&limit=1");
        assert_eq!((&lost["gap"], &lost["messages"]), (&json!({"from": 1, "to": 3}), &json!([n(4)])));
        assert_eq!(got(&server, "/history?topic=%6bept.none")["messages"], json!([]));
        posted(&server.admin, "/publish", r#"{"topic":"other","data":1}"#);
        let other = got(&server, "/history?topic=other");
        assert_eq!((&other["kept"], &other["offset"], &other["messages"]), (&json!(false), &json!(1), &json!([])));
    }
}

#[test]
fn questions_that_make_no_sense_are_refused() {
    let server = start(1);
    for (target, code) in [
        ("/history", "no_topic"),
        ("/history?topic=", "bad_topic"),
        ("/history?topic=%00x", "bad_topic"),
        ("/history?topic=a&offset=1", "bad_since"),
        ("/history?topic=a&epoch=1", "bad_since"),
        ("/history?topic=a&epoch=1&offset=9007199254740992", "bad_since"),
        ("/history?topic=a&epoch=1&offset=-1", "bad_since"),
        ("/history?topic=a&limit=0", "bad_limit"),
        ("/history?topic=a&limit=10001", "bad_limit"),
        ("/history?topic=a&limit=all", "bad_limit"),
        ("/history?topic=a&topic=b", "bad_query"),
        ("/history?topic=a&lines=1", "bad_query"),
        ("/presence", "no_room"),
        ("/presence?room=", "bad_topic"),
        ("/rooms?limit=0", "bad_limit"),
    ] {
        assert_eq!(refused(get(&server.admin, target)), (400, code.to_owned()), "{target}");
    }
    let (_, value) = get(&server.admin, "/history?topic=a&limit=all");
    assert!(value["message"].as_str().is_some_and(|message| message.contains("limit")), "{value}");
}

#[test]
fn rooms_and_who_is_in_them() {
    for shards in SHARDS {
        let server = start(shards);
        assert_eq!(got(&server, "/rooms"), json!({"rooms": [], "total": 0}));
        let names = ["b", "ab", "a b", "a&b", "aa"];
        let clients: Vec<Client> = names.map(|name| server.ws(&format!("/?room={}", escaped(name)))).into();
        let room = |name: &str, count: u64| json!({"room": name, "userCount": count});
        wait_until("all rooms are there", || got(&server, "/rooms")["total"] == json!(5));
        let all = ["a b", "a&b", "aa", "ab", "b"].map(|name| room(name, 1));
        assert_eq!(got(&server, "/rooms"), json!({"rooms": all, "total": 5}));
        assert_eq!(got(&server, "/rooms?prefix=a%26&limit=1"), json!({"rooms": [room("a&b", 1)], "total": 1}));
        assert_eq!(got(&server, "/rooms?prefix=a&limit=2"), json!({"rooms": all[..2], "total": 4}));
        let more: Vec<Client> = (0..3).map(|_| server.ws("/?room=aa")).collect();
        wait_until("four are in it", || got(&server, "/presence?room=aa")["userCount"] == json!(4));
        assert_eq!(got(&server, "/presence?room=aa"), room("aa", 4), "too many for a list");
        drop(more);
        wait_until("one is in it", || got(&server, "/presence?room=aa")["userCount"] == json!(1));
        let presence = got(&server, "/presence?room=aa");
        assert_eq!(presence["members"].as_array().map(Vec::len), Some(1), "{presence}");
        assert_eq!(got(&server, "/presence?room=none"), json!({"room": "none", "userCount": 0, "members": []}));
        drop(clients);
        wait_until("all rooms are gone", || got(&server, "/rooms")["total"] == json!(0));
    }
}

#[test]
fn topics_and_how_many_are_subscribed() {
    for shards in SHARDS {
        let server = start(shards);
        assert_eq!(got(&server, "/topics"), json!({"topics": []}));
        let names = ["b", "ab", "a b", "aa", "b", "b", "aa"];
        let clients: Vec<Client> = names.map(|name| server.ws(&format!("/raw/{}", escaped(name)))).into();
        let _member = server.ws("/?room=b");
        let topic = |name: &str, count: u64| json!({"topic": name, "subscribers": count});
        let all = [topic("a b", 1), topic("aa", 2), topic("ab", 1), topic("b", 4)];
        wait_until("all are subscribed", || got(&server, "/topics") == json!({ "topics": all }));
        assert_eq!(got(&server, "/topics?prefix=a&limit=2"), json!({"topics": all[..2], "next": "aa"}));
        assert_eq!(got(&server, "/topics?prefix=a&limit=2&after=aa"), json!({"topics": [all[2]]}));
        let (mut told, mut after) = (Vec::new(), String::new());
        while let page = got(&server, &format!("/topics?limit=1&after={}", escaped(&after)))
            && let Some(next) = page["next"].as_str()
        {
            told.extend(page["topics"].as_array().expect("a list").clone());
            after = next.to_owned();
        }
        assert_eq!(told, all[..3], "the last page has no next");
        assert_eq!(refused(get(&server.admin, "/topics?limit=10001")), (400, "bad_limit".to_owned()));
        drop(clients);
        wait_until("one is left", || got(&server, "/topics") == json!({"topics": [topic("b", 1)]}));
    }
}

fn escaped(name: &str) -> String {
    name.replace('&', "%26").replace(' ', "%20")
}

#[test]
fn the_listener_says_what_is_there() {
    let server = start(1);
    let contents = exchange(&server.admin, "GET / HTTP/1.0\r\n\r\n");
    assert_eq!((contents.status, contents.field("content-type")), (200, Some("text/plain; charset=utf-8")));
    let listed: Vec<_> =
        contents.body.lines().filter_map(|line| line.split(' ').find(|word| word.starts_with('/'))).collect();
    assert_eq!(listed.len(), 19, "{}", contents.body);
    for path in listed {
        let response = exchange(&server.admin, &format!("PUT {path} HTTP/1.0\r\n\r\n"));
        assert_eq!(response.status, 405, "{path} is there");
        let method = response.field("allow").expect("an Allow field").to_owned();
        assert!(contents.body.contains(&format!("{:<5}{path} ", method.trim_end_matches(",HEAD"))), "{method} {path}");
    }
    let _client = server.ws("/raw/t");
    assert_eq!(get(&server.admin, "/health"), (200, json!({"status": "ok", "connections": 1})));
}

#[test]
fn requests_are_counted() {
    let server = start(1);
    posted(&server.admin, "/publish", r#"{"topic":"t","data":1}"#);
    post(&server.admin, "/publish", "{}");
    post(&server.admin, "/publish", "");
    get(&server.admin, "/nowhere");
    let count = |route: &str, status: &str| {
        let text = super::common::scrape(&server.admin);
        let series = format!("uproar_api_requests_total{{route=\"{route}\",status=\"{status}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&series)).expect("a series");
        line.parse::<u64>().expect("a number")
    };
    assert_eq!([count("/publish", "2xx"), count("/publish", "4xx"), count("/publish", "5xx")], [1, 2, 0]);
    assert_eq!(count("/rooms", "2xx"), 0);
}

#[test]
fn a_unix_socket_will_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(3);
    config.admin_listen = AdminListen::Unix(dir.path().join("admin"));
    let server = TestServer::start(config);
    let mut client = server.ws("/raw/t");
    posted(&server.admin, "/publish", r#"{"topic":"t","data":"over a file"}"#);
    client.expect_text(r#""over a file""#);
    let named = exchange(&server.admin, "GET /rooms HTTP/1.1\r\nHost: uproar\r\nConnection: close\r\n\r\n");
    assert_eq!(named.status, 200, "no page can make a browser come here");
}

#[test]
fn a_server_that_stops_says_so_or_nothing() {
    let server = start(3);
    server.running().shutdown(Duration::from_secs(5));
    wait_until("it has stopped", || {
        std::net::TcpStream::connect(&server.admin).is_err() || get(&server.admin, "/health").0 == 503
    });
}
