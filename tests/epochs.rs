//! Event streams that come back to a topic after nobody had used it, or to a server that has begun it anew.

mod common;

use common::events::Events;
use common::{SHARDS, TestServer, config, wait_until};
use serde_json::json;
use uproar::config::parse_history;

fn with_history(shards: u32, rule: &str) -> TestServer {
    let mut config = config(shards);
    config.history = parse_history(rule).expect("a rule");
    TestServer::start(config)
}

#[test]
fn another_servers_id_is_of_another_epoch() {
    for shards in SHARDS {
        let earlier = with_history(shards, "* count=2");
        let mut before = Events::open(earlier.addr, "topic=a", "");
        let old = before.expect("subscribed")["topics"][0]["epoch"].clone();
        drop(earlier);
        assert!(before.event().is_none(), "the server has ended");
        let server = with_history(shards, "* count=2");
        for i in 1..=4 {
            server.publisher().publish("a", &i.to_string()).expect("there is room");
        }
        wait_until("they are ordered", || server.metric("messages_published_total") == 4);
        let mut after = Events::open(server.addr, "topic=a", &before.last_id);
        let subscribed = after.expect("subscribed");
        assert_ne!(subscribed["topics"][0]["epoch"], old);
        assert!(after.last_id.ends_with("-0"), "nothing of it was had: {}", after.last_id);
        let gap = after.expect("gap");
        assert_eq!((&gap["reset"], &gap["from"], &gap["to"]), (&json!(true), &json!(1), &json!(2)));
        assert!(after.last_id.ends_with("-2"), "{}", after.last_id);
        assert_eq!([3, 4].map(|_| after.expect("message")["data"].clone()), [3, 4].map(|data| json!(data)));
        // Also where nothing is known to be lost, it is said that it is not known.
        let elsewhere = before.last_id.clone();
        let empty = with_history(shards, "off");
        let mut again = Events::open(empty.addr, "topic=a", &elsewhere);
        let epoch = again.expect("subscribed")["topics"][0]["epoch"].clone();
        assert_eq!(again.last_id, elsewhere, "who is cut off now is told when it comes again");
        let gap = json!({"type": "gap", "topic": "a", "epoch": epoch, "reset": true});
        assert_eq!(again.expect("gap"), gap);
        let mut told = Events::open(empty.addr, "topic=a", &again.last_id);
        assert_eq!(told.expect("subscribed")["topics"][0]["epoch"], epoch);
        empty.publisher().publish("a", "1").expect("there is room");
        assert_eq!(told.expect("message")["offset"], 1);
    }
}

#[test]
fn who_comes_back_to_a_topic_that_nobody_used_has_missed_what_was_published() {
    for shards in SHARDS {
        let server = TestServer::start(config(shards));
        for topic in ["a", "b", "c"] {
            let query = format!("topic={topic}");
            let mut first = Events::open(server.addr, &query, "");
            let epoch = first.expect("subscribed")["topics"][0]["epoch"].clone();
            let id = first.last_id.clone();
            drop(first);
            server.wait_idle();
            let mut second = Events::open(server.addr, &query, &id);
            assert_eq!(second.expect("subscribed")["topics"][0]["epoch"], epoch, "nothing was missed");
            drop(second);
            server.wait_idle();
            let published = server.metric("messages_published_total");
            (0..2).for_each(|_| server.publisher().publish(topic, "1").expect("there is room"));
            wait_until("they are ordered", || server.metric("messages_published_total") == published + 2);
            let mut third = Events::open(server.addr, &query, &id);
            assert_eq!(third.expect("subscribed")["topics"][0]["offset"], 2);
            let gap = json!({"type": "gap", "topic": topic, "epoch": epoch, "from": 1, "to": 2});
            assert_eq!(third.expect("gap"), gap);
            server.publisher().publish(topic, "3").expect("there is room");
            assert_eq!(third.expect("message")["offset"], 3);
        }
        assert_eq!(server.metric("recoveries_total result=\"gap\""), 3);
        wait_until("places are counted", || server.metric("topics_remembered") >= 2);
    }
}
