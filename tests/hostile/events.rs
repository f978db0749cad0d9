//! Event streams: places that nobody has given, and readers who send.

use std::net::TcpStream;
use std::time::Duration;

use super::arena::Arena;
use super::common::Client;
use super::common::events::Events;
use super::crowd::{end_of, flood};

#[test]
fn places_that_are_forged() {
    let args = ["--history=* count=1000 age=1s"];
    let (after, answered) = Arena::start(&args).attack("Last-Event-ID forged, 12 kinds × 30", |server| {
        let mut writer = server.ws("/raw/secret?self=false");
        (0..10).for_each(|n| writer.text(&format!("secret {n}")));
        let mut good = Events::open(server.addr, "topic=other", "");
        good.expect("subscribed");
        let id = good.last_id.clone();
        let (place, offset) = id.rsplit_once('-').expect("an id");
        let forged = [
            "0".to_owned(),
            "-".into(),
            "---".into(),
            "x".repeat(4000),
            "f-".repeat(2000),
            format!("{place}-18446744073709551616"),
            format!("{place}-9007199254740992"),
            format!("{place}-{offset}-{place}-{offset}"),
            format!("{id}{}", format!(".{id}").repeat(100)),
            id.to_uppercase(),
            id.chars().rev().collect(),
            "\u{7f}\u{fffd}%0d%0a".into(),
        ];
        let ask = |place: &String| {
            let mut events = Events::ask(Client::connect(server.addr), "topic=other", place);
            let head = events.part(b"\r\n\r\n").unwrap_or_default();
            let status = head.get(9..12).unwrap_or_default().to_owned();
            if status == "200" {
                events.part(b"\n\n");
                let first = events.event().expect("an event");
                // Nothing of any topic but the one that was asked for.
                assert!(first.name == "subscribed" && !first.data.contains("secret"), "{place}: {first:?}");
            }
            status
        };
        (0..30).flat_map(|_| forged.iter().map(ask)).collect::<Vec<_>>()
    });
    assert_eq!(answered.len(), 360);
    assert!(answered.iter().all(|status| ["200", "400"].contains(&status.as_str())), "{answered:?}");
    assert_eq!(after.rose("history_replayed_total"), 0);
}

#[test]
fn readers_of_streams_who_send() {
    let args = ["--byte-rate=64KiB burst=128KiB", "--close-timeout=500ms"];
    let (after, ended) = Arena::start(&args).attack("readers of streams who send, 20 × 1 MB/s", |server| {
        let mut streams: Vec<TcpStream> =
            (0..20).map(|_| Events::open(server.addr, "topic=other", "").stream).collect();
        flood(&mut streams, &[b'x'; 16 * 1024], Duration::from_secs(1));
        streams.iter_mut().map(end_of).count()
    });
    assert_eq!(ended, 20);
    after.rises("connections_closed_total reason=\"too_fast\"", 20);
}

#[test]
fn streams_of_as_many_topics_as_there_may_be() {
    let (after, _) = Arena::start(&["--max-head=32KiB"]).attack("streams of 250 topics, 60", |server| {
        let query: Vec<String> = (0..250).map(|n| format!("topic=t{n}")).collect();
        let mut streams: Vec<Events> = (0..60).map(|_| Events::open(server.addr, &query.join("&"), "")).collect();
        let mut writer = server.ws("/raw/t7?self=false");
        for n in 0..50 {
            writer.text(&n.to_string());
        }
        streams.iter_mut().for_each(|stream| while stream.event().expect("an event").name != "message" {});
    });
    assert!(after.rose("deliveries_total") >= 60 * 50);
}
