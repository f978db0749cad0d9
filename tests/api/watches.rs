//! What those who watch are told: the server at a glance, the connections that are slow or busy, the topics that are.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::common::{Client, SHARDS, TestServer, config, wait_until};
use super::{get, post, posted, refused};

#[track_caller]
fn got(server: &TestServer, target: &str) -> Value {
    let (status, value) = get(&server.admin, target);
    assert_eq!(status, 200, "{target}: {value}");
    value
}

/// The sum over all shards.
fn sum(server: &TestServer, field: &str) -> u64 {
    let shards = got(server, "/overview")["shards"].clone();
    shards.as_array().expect("a list").iter().map(|shard| shard[field].as_u64().expect("a number")).sum()
}

#[test]
fn the_overview_counts_what_happens() {
    for shards in SHARDS {
        let server = TestServer::start(config(shards));
        let mut clients: Vec<Client> = (0..3).map(|_| server.ws("/raw/t")).collect();
        wait_until("they are counted", || sum(&server, "websockets") == 3 && sum(&server, "subscriptions") == 3);
        posted(&server.admin, "/publish", r#"{"topic":"t","data":1}"#);
        clients.iter_mut().for_each(|client| client.expect_text("1"));
        wait_until("it is counted", || sum(&server, "delivered") == 3 && sum(&server, "sentBytes") >= 9);
        assert_eq!([sum(&server, "published"), sum(&server, "dropped")], [1, 0]);
        let overview = got(&server, "/overview");
        assert_eq!(
            (&overview["standing"], &overview["version"]),
            (&json!("serving"), &json!(env!("CARGO_PKG_VERSION")))
        );
        assert_eq!(overview["shards"].as_array().map(Vec::len), Some(shards as usize));
        assert!(overview["memory"]["resident"].as_u64() > Some(1 << 20), "{overview}");
        assert!(overview["memory"]["parts"]["connections"].as_u64() > Some(0), "{overview}");
        let timed = |field: &str| -> u64 {
            let shards = overview["shards"].as_array().expect("a list").iter();
            let counts = shards.flat_map(|shard| shard[field].as_array().expect("counts"));
            counts.map(|count| count.as_u64().expect("a number")).sum()
        };
        assert!(timed("latency") == 3 && timed("turnTimes") > 3, "{overview}");
        let bounds = overview["bounds"].as_array().map(Vec::len);
        assert_eq!(overview["shards"][0]["latency"].as_array().map(Vec::len), bounds.map(|bounds| bounds + 1));
        drop(clients);
        wait_until("they are gone", || {
            let closed = got(&server, "/overview")["closed"].clone();
            closed["lost"].as_u64().zip(closed["peer"].as_u64()).map(|(lost, peer)| lost + peer) == Some(3)
        });
    }
}

/// One that does not read, and is sent more than the kernel keeps for it.
fn stall(server: &TestServer, topic: &str) -> Client {
    let stalled = Client::ws_small(server.addr, &format!("/raw/{topic}"));
    let data = "x".repeat(64 << 10);
    let body = json!({"topic": topic, "data": data}).to_string();
    wait_until("it is behind", || {
        posted(&server.admin, "/publish", &body);
        sum(server, "backlogged") == 1
    });
    stalled
}

#[test]
fn the_slow_and_the_busy_come_first_and_can_be_sent_away() {
    for shards in SHARDS {
        let mut config = config(shards);
        // What the watchers are told may be half a second old, and more is posted meanwhile.
        config.backlog = 64 << 20;
        let server = TestServer::start(config);
        let mut busy = server.ws("/raw/busy");
        let _quiet = server.ws("/?room=quiet");
        let mut stalled = stall(&server, "slow");
        let began = Instant::now();
        for sort in ["backlog", "age"] {
            let found = got(&server, &format!("/connections?sort={sort}"));
            assert_eq!(found["total"], 3, "{found}");
            let first = &found["connections"][0];
            assert!(first["kind"] == "raw" && first["backlog"].as_u64() > Some(1000), "{sort}: {found}");
            assert!(first["topics"] == 1 && first["peer"] == "127.0.0.1");
        }
        wait_until("the busy is found, with its rates", || {
            for n in 0..50 {
                busy.text(&n.to_string());
                busy.expect_text(&n.to_string());
            }
            let first = got(&server, "/connections?sort=rate&limit=1")["connections"][0].clone();
            let rate = |field: &str| first[field].as_f64().is_some_and(|rate| rate > 1.0);
            first["backlog"] == 0 && rate("receivedRate") && rate("deliveredRate")
        });
        let first = got(&server, "/connections?limit=1")["connections"][0].clone();
        let behind = Duration::from_millis(first["behind"].as_u64().expect("a number"));
        assert!(behind + Duration::from_millis(600) >= began.elapsed(), "{behind:?} of {:?}", began.elapsed());
        let away = json!({"connection": first["connection"], "code": 4000, "reason": "slow"}).to_string();
        assert_eq!(posted(&server.admin, "/disconnect", &away), json!({}));
        let last = std::iter::from_fn(|| stalled.frame()).last().expect("a close frame");
        assert_eq!(last.code(), 4000);
        wait_until("it is closing", || refused(post(&server.admin, "/disconnect", &away)).0 == 404);
    }
}

#[test]
fn topics_by_subscribers_and_by_rate() {
    for shards in SHARDS {
        let server = TestServer::start(config(shards));
        let _crowd: Vec<Client> = (0..12).map(|n| server.ws(if n < 8 { "/raw/large" } else { "/raw/small" })).collect();
        let topic = |name: &str, subscribers: u64| json!({"topic": name, "subscribers": subscribers});
        let named = |target: &str| {
            let mut list = got(&server, target)["topics"].clone();
            for topic in list.as_array_mut().expect("a list") {
                topic.as_object_mut().expect("a topic").remove("rate");
            }
            list
        };
        wait_until("all are subscribed", || {
            named("/topics?sort=subscribers") == json!([topic("large", 8), topic("small", 4)])
        });
        assert_eq!(named("/topics?sort=subscribers&limit=1"), json!([topic("large", 8)]));
        wait_until("the small one is the busy one", || {
            (0..20).for_each(|_| drop(posted(&server.admin, "/publish", r#"{"topic":"small","data":1}"#)));
            let first = got(&server, "/topics?sort=rate&limit=1")["topics"][0].clone();
            first["topic"] == "small" && first["rate"].as_f64() > Some(1.0)
        });
    }
}

/// What one watcher has asked for is what the next is told, for half a second.
#[test]
fn many_watchers_cost_as_much_as_one() {
    let server = TestServer::start(config(1));
    let _client = server.ws("/raw/t");
    got(&server, "/connections");
    let turns = sum(&server, "turns");
    let began = Instant::now();
    (0..100).for_each(|_| drop(got(&server, "/connections?sort=rate")));
    let (turns, time) = (sum(&server, "turns") - turns, began.elapsed());
    assert!(turns <= 2 * 100 + 20 + time.as_millis() as u64 / 100, "{turns} turns in {time:?}");
}
