//! One shard without a kernel, told of completions one by one: what a seeded run would seldom meet.

mod fixture;

use std::time::Duration;

use fixture::{Buffer, Fixture, HEAD, frame, sends_to, text};
use uproar::Config;
use uproar::config::Secret;
use uproar::counters::Part;
use uproar::dialect::Position;
use uproar::hub::TopicHandle;
use uproar::ring::op::{Completion, Op, Wait};
use uproar::ring::sys;
use uproar::ring::token::{ConnId, Kind, Token};
use uproar::shard::mail::{Answer, Ask, ConnOrder, Mail, Past, Question, Recovered, Return};
use uproar::ws::deflate::{Arena, Deflater};

#[test]
fn whoever_is_let_go_by_a_connection_that_ends_in_the_flush_is_sent_its_answers() {
    let mut config = Config::default();
    config.max_lifetime = Some(Duration::from_secs(60));
    config.lifetime_jitter = 0;
    config.ping_interval = None;
    let mut f = Fixture::new(2, &config);
    let topic = f.remote_topic();
    // The one that ends is the last subscriber of a topic that the home shard has not confirmed, ...
    f.json(0);
    f.receive(0, &text(&format!(r#"{{"type":"subscribe","topic":"{topic}"}}"#)));
    f.pass(Duration::from_secs(30));
    // ... of which the other has been one, too.
    f.json(1);
    let held = f.receive(1, &text(&format!(r#"{{"type":"subscribe","topic":"{topic}"}}"#)));
    let still_held = f.receive(1, &text(&format!(r#"{{"type":"unsubscribe","topic":"{topic}"}}"#)));
    assert_eq!((sends_to(&held, 1), sends_to(&still_held, 1)), (0, 0));
    f.pass(Duration::from_secs(31));
    f.turn(&[], b"");
    f.turn(&[], b"");
    let ops = f.receive(0, &frame(8, &1001u16.to_be_bytes()));
    assert!(ops.iter().any(|op| matches!(op, Op::Close(conn) if conn.index == 0)), "{ops:?}");
    assert_eq!(sends_to(&ops, 1), 1, "{ops:?}");
}

#[test]
fn a_pong_that_nobody_told_of_is_found_before_the_connection_is_given_up() {
    let mut f = Fixture::new(1, &Config::default());
    f.websocket(0, "/raw/a");
    f.websocket(1, "/raw/b");
    f.pass(Duration::from_secs(20));
    f.turn(&[], b"");
    f.pass(Duration::from_secs(11));
    f.turn(&[], b"");
    assert_eq!(f.timed_out(), 0);
    let asked = f.receives();
    assert_eq!(asked.iter().map(|(conn, _)| conn.index).collect::<Vec<_>>(), [0, 1]);
    let pong = frame(10, b"");
    let came =
        |(conn, buffer), result| Completion { token: Token::new(Kind::Receive, conn), result, more: false, buffer };
    f.turn(&[came(asked[0], pong.len() as i32), came(asked[1], -sys::EAGAIN)], &pong);
    f.pass(Duration::from_secs(6));
    f.turn(&[], b"");
    f.pass(Duration::from_secs(6));
    f.turn(&[], b"");
    assert_eq!((f.shard.core.connections(), f.timed_out()), (1, 1));
}

#[test]
fn the_last_sends_before_a_silence_are_accounted_for() {
    let mut config = Config::default();
    config.ping_interval = None;
    let mut f = Fixture::new(1, &config);
    f.websocket(0, "/raw/a");
    f.pass(Duration::from_secs(1));
    let ops = f.receive_once(0, &text("the last word"));
    assert_eq!(sends_to(&ops, 0), 1);
    let Wait::AtMost(nanos) = f.shard.wait().at(f.now) else { panic!("{:?}", f.shard.wait()) };
    f.pass(Duration::from_nanos(nanos));
    f.turn(&[], b"");
    f.turn(&[], b"");
    assert_eq!(
        (f.counter(|counters| counters.sends.get()), f.counter(|counters| counters.memory(Part::Frames))),
        (2, 0)
    );
    assert_eq!(f.shard.wait().at(f.now), Wait::Forever);
}

#[test]
fn who_comes_and_goes_faster_than_a_home_shard_notes_is_not_read_from() {
    let mut f = Fixture::new(2, &Config::default());
    let topic = f.remote_topic();
    f.json(0);
    let subscribe = text(&format!(r#"{{"type":"subscribe","topic":"{topic}"}}"#));
    let both = [subscribe, text(&format!(r#"{{"type":"unsubscribe","topic":"{topic}"}}"#))].concat().repeat(500);
    for _ in 0..200 {
        f.receive(0, &both);
        if f.counter(|counters| counters.publish_paused.get()) > 0 {
            break;
        }
    }
    let (postbox, mailbox) = &mut f.neighbours[0];
    assert!(postbox.weight() < 16 << 20, "{}", postbox.weight());
    while mailbox.take().is_some() {}
    mailbox.settle();
    assert_eq!(postbox.weight(), 0);
    f.turn(&[], b"");
    f.receive(0, &text(r#"{"type":"ping"}"#));
    assert_eq!(f.counter(|counters| counters.publish_paused.get()), 1);
}

#[test]
fn what_inflates_is_decoded_a_turns_worth_at_a_time_and_others_are_served_meanwhile() {
    const OFFER: &str = "HTTP/1.1\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
    let mut f = Fixture::new(1, &Config::default());
    for slot in [0, 1] {
        f.accept(slot);
        f.receive(slot, format!("GET /raw/a?self=false {HEAD}").replacen("HTTP/1.1\r\n", OFFER, 1).as_bytes());
    }
    let mut deflater = Deflater::new(15, 9);
    let mut arena = Arena::default();
    let mut compressed = |payload: &[u8]| {
        let mut frame = frame(2, deflater.compress(payload, &mut arena));
        frame[0] |= 0x40;
        frame
    };
    let bomb = compressed(&vec![0; 1 << 20]);
    let last = compressed(b"the last of them");
    let count = 30;
    f.receive_once(0, &[bomb.repeat(count), last].concat());
    let received = |f: &Fixture| f.counter(|counters| counters.messages_in.get()) as usize;
    assert_eq!(received(&f), 1);
    for turn in 2..count + 2 {
        assert_eq!(f.shard.wait().at(f.now), Wait::None);
        f.shard.receive();
        f.shard.core.ops.clear();
        let ops = f.turn(&[], b"");
        assert_eq!((received(&f), sends_to(&ops, 1)), (turn.min(count + 1), 1));
    }
    assert_eq!(received(&f), count + 1);
    // It is read from as before.
    f.receive(0, &text("another"));
    assert_eq!(received(&f), count + 2);
}

#[test]
fn who_is_held_is_not_read_from_beyond_a_backlog_and_then_sent_all() {
    let config = Config::default();
    let mut f = Fixture::new(2, &config);
    let topic = f.remote_topic();
    f.json(0);
    f.receive(0, &text(&format!(r#"{{"type":"subscribe","topic":"{topic}"}}"#)));
    let asked = text(r#"{"type":"unsubscribe","topic":"no such topic"}"#).repeat(500);
    let mut reads = 0;
    loop {
        f.readable(0);
        if !f.shard.receive() {
            break;
        }
        let Some(Op::Receive { conn, buffer }) = f.shard.core.ops.pop() else { panic!("no receive") };
        let token = Token::new(Kind::Receive, conn);
        f.turn(&[Completion { token, result: asked.len() as i32, more: false, buffer }], &asked);
        reads += 1;
        assert!(reads < 10, "it is read from for ever");
    }
    let Some(Mail::Interest { topic, .. }) = f.neighbours[0].1.take() else { panic!("no interest") };
    f.postbox.post(Mail::Confirm { topic, home: TopicHandle { index: 0, generation: 0 }, epoch: 0 });
    assert_eq!(sends_to(&f.turn(&[], b""), 0), 1);
    while sends_to(&f.turn(&[], b""), 0) > 0 {}
    assert_eq!(f.counter(|counters| counters.closed.iter().map(|closed| closed.get()).sum()), 0);
    assert!(f.shard.receive(), "it is read from again");
}

#[test]
fn the_successor_in_a_slot_that_ends_in_the_same_turn_is_sent_its_bytes_once() {
    let mut f = Fixture::new(1, &Config::default());
    f.accept(3);
    let completed = |kind, conn, result, buffer| {
        [Completion { token: Token::new(kind, conn), result, more: kind != Kind::Receive, buffer }]
    };
    let handshake = format!("GET /?room=r {HEAD}");
    // One is answered, and ends before the answer is sent.
    let first = ConnId { index: 3, generation: 0 };
    f.readable(3);
    let (_, buffer) = f.receives()[0];
    let mut bytes = Buffer(handshake.clone().into_bytes());
    f.shard.complete(&completed(Kind::Receive, first, handshake.len() as i32, buffer), &mut bytes);
    f.shard.complete(&completed(Kind::Readable, first, -sys::ECONNABORTED, 0), &mut bytes);
    // Another comes to its slot and is answered, all in one turn.
    f.shard.complete(&completed(Kind::Accept, Token::seat(0), 3, 0), &mut bytes);
    let second = ConnId { index: 3, generation: 1 };
    f.shard.complete(&completed(Kind::Readable, second, 1, 0), &mut bytes);
    let (_, buffer) = f.receives()[0];
    let ops = f.turn(&completed(Kind::Receive, second, handshake.len() as i32, buffer), handshake.as_bytes());
    let sends = ops.iter().filter(|op| matches!(op, Op::Send { .. })).count();
    assert_eq!(sends, 1, "{ops:?}");
}

#[test]
fn a_backend_that_is_told_in_the_flush_of_who_ends_there_is_not_sent_to_twice() {
    let mut config = Config::default();
    config.backend_key = vec![Secret::new("correct-horse-battery")];
    let mut f = Fixture::new(1, &config);
    f.websocket(0, "/backend?presence=true&key=correct-horse-battery");
    f.json(1);
    let [backend, client] = [0, 1].map(|index| ConnId { index, generation: 0 });
    let name = f.shared.identity().client(0, client);
    f.receive(0, &text(&format!(r#"{{"type":"close","clientId":"{name:016x}"}}"#)));
    // The backend is sent a pong, and then the client, all of whose bytes are sent, ends.
    let ping = text(r#"{"type":"ping"}"#);
    let close = frame(8, &1000u16.to_be_bytes());
    let came = |conn, bytes: &[u8], buffer| {
        let token = Token::new(Kind::Receive, conn);
        [Completion { token, result: bytes.len() as i32, more: false, buffer }]
    };
    f.readable(0);
    let (_, buffer) = f.receives()[0];
    f.shard.complete(&came(backend, &ping, buffer), &mut Buffer(ping.clone()));
    f.readable(1);
    let (_, buffer) = f.receives()[0];
    let ops = f.turn(&came(client, &close, buffer), &close);
    assert!(ops.contains(&Op::Close(client)), "{ops:?}");
    assert_eq!(sends_to(&ops, 0), 1, "{ops:?}");
    assert_eq!(f.shard.wait().at(f.now), Wait::None);
    assert_eq!(sends_to(&f.turn(&[], b""), 0), 1, "it is told in the next turn");
}

#[test]
fn a_stream_is_not_given_up_for_what_a_late_turn_has_just_for_it() {
    let config = Config::default();
    let mut f = Fixture::new(2, &config);
    let topic = f.remote_topic();
    f.accept(0);
    f.receive(0, format!("GET /sse?topic={topic} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    let Some(Mail::Recover(asked)) = f.neighbours[0].1.take() else { panic!("it asks for nothing") };
    let past =
        Past { now: Position { epoch: 1, offset: 0 }, reset: false, gap: None, messages: Vec::new(), snapshot: true };
    let home = TopicHandle { index: 0, generation: 0 };
    let told = Recovered { topic: asked.topic, home, to: asked.from.conn, recover: true, past };
    // The shard stands still; then it reads its mail before it looks at the time.
    f.pass(config.sse_heartbeat + config.ping_timeout + Duration::from_secs(1));
    f.postbox.post(Mail::Recovered(Box::new(told)));
    let ops = f.turn(&[], b"");
    assert_eq!(sends_to(&ops, 0), 1, "{ops:?}");
    let ops = f.turn(&[], b"");
    assert!(!ops.contains(&Op::Shutdown(asked.from.conn)), "{ops:?}");
}

/// Who watches stalls nobody: a turn looks at 4,096 slots, and what was found then is good for half a second.
#[test]
fn a_survey_takes_turns_and_answers_all_who_asked() {
    let mut fixture = Fixture::with_slots(10_000, 1, &Config::default());
    let token = Token::new(Kind::Accept, Token::seat(0));
    let accepted: Vec<_> = (0..9000).map(|result| Completion { token, result, more: true, buffer: 0 }).collect();
    fixture.turn(&accepted, b"");
    let (to, answers) = flume::bounded(3);
    let ask = |fixture: &Fixture| {
        let question = Question::Connections { order: ConnOrder::Backlog, limit: 5 };
        fixture.postbox.post(Mail::Ask(Box::new(Ask { question, to: Return::Caller(to.clone()) })));
    };
    let turns = |fixture: &mut Fixture| {
        let mut turns = 1;
        while fixture.turn(&[], b"").is_empty() && answers.is_empty() {
            assert_eq!(fixture.shard.wait().at(fixture.now), Wait::None, "it goes on at once");
            turns += 1;
        }
        turns
    };
    let named = || match answers.try_recv().expect("an answer") {
        Answer::Connections(facts) => (facts.len(), facts.iter().any(|facts| facts.rates.is_some())),
        other => panic!("{other:?}"),
    };
    (0..2).for_each(|_| ask(&fixture));
    assert_eq!(turns(&mut fixture), 3);
    assert_eq!([named(), named()], [(5, false); 2], "both are answered by one walk");
    ask(&fixture);
    assert_eq!((turns(&mut fixture), named()), (1, (5, false)), "a moment later, at once");
    fixture.pass(Duration::from_secs(1));
    ask(&fixture);
    assert_eq!((turns(&mut fixture), named()), (3, (5, true)), "by a second walk, which has rates");
}
