use super::frame::{Class, Frames, MessageKind, Span};
use super::history::Retention;
use super::{Hub, Position, SubscribeOutcome, TopicHandle, UnsubscribeOutcome};
use crate::time::Tick;
use bytes::Bytes;
use std::time::Duration;

/// A hub whose deliveries are written down as `sub:text`.
struct Fixture {
    hub: Hub,
    frames: Frames,
    delivered: Vec<String>,
}

fn writer(delivered: &mut Vec<String>) -> impl FnMut(&mut Frames, u32, Span) {
    |frames, sub, span| {
        delivered.push(format!("{sub}:{}", String::from_utf8_lossy(frames.bytes(span))));
        frames.release(span.chunk, 1);
    }
}

impl Fixture {
    fn new() -> Fixture {
        Fixture { hub: Hub::new(1000, 5), frames: Frames::new(), delivered: Vec::new() }
    }

    fn subscribe(&mut self, sub: u32, name: &str) -> u32 {
        self.hub.subscribe(sub, Class::PLAIN, name).topic
    }

    fn publish(&mut self, topic: u32, exclude: Option<u32>, text: &str) {
        self.hub.publish(topic, &mut self.frames, exclude, |_, append| append(&[text.as_bytes()]));
    }

    fn unsubscribe(&mut self, sub: u32, topic: u32) -> Option<UnsubscribeOutcome> {
        self.hub.unsubscribe(sub, topic, &mut self.frames, &mut writer(&mut self.delivered))
    }

    fn start(&mut self) {
        self.hub.start_fanouts(&mut self.frames);
    }

    fn deliver(&mut self, budget: usize) -> bool {
        self.hub.deliver(&mut self.frames, budget, &mut writer(&mut self.delivered))
    }

    fn delivered(&mut self) -> Vec<String> {
        self.hub.invariants(&self.frames);
        std::mem::take(&mut self.delivered)
    }
}

#[test]
fn a_turns_messages_are_one_span() {
    let mut f = Fixture::new();
    let topic = f.subscribe(1, "t");
    f.subscribe(2, "t");
    f.publish(topic, None, "x");
    f.publish(topic, None, "y");
    assert_eq!((f.hub.pending_bytes(topic), f.hub.queued_bytes()), (2, 2));
    f.start();
    assert!(!f.deliver(10));
    assert_eq!(f.delivered(), ["1:xy", "2:xy"]);
    assert_eq!((f.hub.pending_bytes(topic), f.frames.live_bytes()), (0, 0));
}

#[test]
fn nothing_is_encoded_for_nobody_and_once_for_each_class() {
    let mut f = Fixture::new();
    let home = f.hub.add_interest("t", 1, TopicHandle { index: 0, generation: 0 });
    let mut classes = Vec::new();
    f.hub.publish(home.index, &mut f.frames, None, |class, _| classes.push(class));
    assert!(classes.is_empty());
    for sub in 0..9 {
        f.hub.subscribe(sub, if sub % 3 == 0 { Class::deflate(12) } else { Class::PLAIN }, "t");
    }
    f.hub.publish(home.index, &mut f.frames, None, |class, append| {
        append(&[b"<", if class == Class::PLAIN { b"plain" } else { b"small" }, b">"]);
        classes.push(class);
    });
    assert_eq!(classes, [Class::deflate(12), Class::PLAIN]);
    assert_eq!(f.hub.classes(home.index).collect::<Vec<_>>(), classes);
    f.start();
    f.deliver(100);
    let mut delivered = f.delivered();
    delivered.sort();
    assert_eq!(delivered[..3], ["0:<small>", "1:<plain>", "2:<plain>"]);
    assert_eq!(delivered.len(), 9);
}

#[test]
fn the_publisher_can_be_left_out() {
    let mut f = Fixture::new();
    let topic = f.subscribe(1, "t");
    f.subscribe(2, "t");
    f.publish(topic, Some(1), "a");
    f.publish(topic, None, "b");
    f.publish(topic, Some(2), "c");
    f.publish(topic, Some(77), "d");
    f.start();
    f.deliver(100);
    assert_eq!(f.delivered(), ["1:bcd", "2:ab", "2:d"]);
}

#[test]
fn a_joiner_gets_nothing_from_before() {
    let mut f = Fixture::new();
    let topic = f.subscribe(1, "t");
    f.publish(topic, None, "old");
    f.start();
    f.publish(topic, None, "pending");
    f.subscribe(2, "t");
    f.publish(topic, None, "new");
    f.start();
    while f.deliver(1) {}
    assert_eq!(f.delivered(), ["1:old", "1:pendingnew", "2:new"]);
}

#[test]
fn the_next_bearer_of_a_number_is_not_taken_for_the_last() {
    let mut f = Fixture::new();
    let topic = f.subscribe(1, "t");
    f.subscribe(2, "t");
    f.publish(topic, Some(2), "a");
    f.hub.close(2, &mut f.frames, |_, _, _| {});
    f.subscribe(2, "t");
    f.publish(topic, None, "b");
    f.start();
    f.deliver(100);
    assert_eq!(f.delivered(), ["1:ab", "2:b"]);
}

#[test]
fn who_leaves_gets_at_once_what_it_is_owed() {
    let mut f = Fixture::new();
    let topic = f.subscribe(1, "t");
    for sub in 2..5 {
        f.subscribe(sub, "t");
    }
    f.publish(topic, None, "a");
    f.start();
    f.deliver(1);
    f.publish(topic, None, "b");
    assert_eq!(f.delivered(), ["1:a"]);
    f.unsubscribe(1, topic);
    assert_eq!(f.delivered(), ["1:b"]);
    f.unsubscribe(3, topic);
    assert_eq!(f.delivered(), ["3:a", "3:b"]);
    f.start();
    while f.deliver(1) {}
    assert_eq!(f.delivered(), ["4:a", "2:a", "4:b", "2:b"]);
    assert_eq!(f.unsubscribe(1, topic), None);
}

#[test]
fn who_comes_back_gets_nothing_from_its_first_stay() {
    let mut f = Fixture::new();
    let topic = f.subscribe(1, "t");
    f.publish(topic, None, "a");
    f.subscribe(2, "t");
    f.publish(topic, Some(1), "b");
    f.publish(topic, Some(2), "c");
    f.unsubscribe(2, topic);
    assert_eq!(f.delivered(), ["2:b"]);
    f.publish(topic, Some(1), "d");
    f.subscribe(2, "t");
    f.publish(topic, None, "e");
    f.unsubscribe(2, topic);
    f.start();
    f.deliver(10);
    assert_eq!(f.delivered(), ["2:e", "1:a", "1:c", "1:e"]);
}

#[test]
fn fan_outs_take_turns() {
    let mut f = Fixture::new();
    let large = f.subscribe(0, "large");
    for sub in 1..500 {
        f.subscribe(sub, "large");
    }
    let small = f.subscribe(900, "small");
    f.publish(large, None, "l");
    f.publish(small, None, "s");
    f.start();
    assert!(f.deliver(100));
    let delivered = f.delivered();
    assert_eq!(delivered.len(), 100);
    assert!(delivered.contains(&"900:s".to_owned()));
    while f.deliver(100) {}
    assert_eq!(f.delivered().len(), 401);
}

#[test]
fn a_batch_that_nobody_is_left_for_is_dropped() {
    let mut f = Fixture::new();
    for stage in 0..3 {
        let topic = f.subscribe(1, "t");
        f.publish(topic, None, "a");
        if stage > 0 {
            f.start();
            f.publish(topic, None, "b");
        }
        if stage > 1 {
            f.start();
        }
        f.hub.close(1, &mut f.frames, |_, _, _| {});
        assert_eq!((f.frames.live_bytes(), f.hub.queued_bytes(), f.hub.topics()), (0, 0, 0));
        assert!(f.delivered().is_empty());
        let topic = f.subscribe(2, "t");
        f.publish(topic, None, "c");
        f.start();
        assert!(!f.deliver(10));
        assert_eq!(f.delivered(), ["2:c"]);
        f.hub.close(2, &mut f.frames, |_, _, _| {});
    }
}

#[test]
fn a_log_with_slow_readers_settles_when_they_are_done() {
    let mut f = Fixture::new();
    let topic = f.subscribe(1, "t");
    f.publish(topic, None, "a");
    f.start();
    let mut outbox = Vec::new();
    f.hub.deliver(&mut f.frames, 10, &mut |_, _, span| outbox.push(span));
    f.start();
    assert_ne!(f.frames.live_bytes(), 0);
    outbox.iter().for_each(|span| f.frames.release(span.chunk, 1));
    f.start();
    assert_eq!(f.frames.live_bytes(), 0);
    f.hub.invariants(&f.frames);
}

#[test]
fn outcomes_tell_the_first_and_the_last() {
    let mut f = Fixture::new();
    let topic = f.subscribe(1, "t");
    assert_eq!(f.hub.subscribe(1, Class::PLAIN, "t"), SubscribeOutcome { topic, first: false, already: true });
    assert_eq!(f.hub.subscribe(2, Class::PLAIN, "t"), SubscribeOutcome { topic, first: false, already: false });
    assert_eq!((f.hub.subscribers(topic), f.hub.subscriptions()), (2, 2));
    assert_eq!(f.unsubscribe(1, topic), Some(UnsubscribeOutcome { last: false }));
    let handle = f.hub.handle(topic);
    assert_eq!(f.unsubscribe(2, topic), Some(UnsubscribeOutcome { last: true }));
    assert_eq!((f.hub.resolve(handle), f.hub.find("t")), (None, None));
}

#[test]
fn close_shows_each_topic_before_it_vanishes() {
    let mut f = Fixture::new();
    let home = TopicHandle { index: 7, generation: 8 };
    let topics = ["a", "b", "c"].map(|name| f.subscribe(1, name));
    f.subscribe(2, "b");
    f.hub.set_home(topics[0], home);
    assert_eq!(f.hub.topics_of(1).collect::<Vec<_>>(), topics);
    let mut left = Vec::new();
    f.hub.close(1, &mut f.frames, |hub, topic, last| {
        left.push((hub.name(topic).to_owned(), hub.home(topic), last));
    });
    assert_eq!(left, [("a".into(), Some(home), true), ("b".into(), None, false), ("c".into(), None, true)]);
    assert_eq!((f.hub.topics(), f.hub.topics_of(1).len()), (1, 0));
    f.hub.invariants(&f.frames);
}

#[test]
fn interest_keeps_a_topic_until_it_is_withdrawn_by_who_showed_it() {
    let mut f = Fixture::new();
    let remote = |index| TopicHandle { index, generation: 0 };
    let home = f.hub.add_interest("t", 3, remote(1));
    assert_eq!(f.hub.add_interest("t", 3, remote(2)), home);
    f.hub.add_interest("t", 4, remote(9));
    assert_eq!(f.hub.interested(home.index), [(3, remote(2)), (4, remote(9))]);
    assert_eq!((f.hub.order(home.index), f.hub.order(home.index), f.hub.position(home.index).offset), (1, 2, 2));
    assert!(!f.hub.remove_interest(home, 3, remote(1)), "replaced by what shard 3 said since");
    f.subscribe(1, "t");
    assert!(f.hub.remove_interest(home, 3, remote(2)));
    assert!(f.hub.remove_interest(home, 4, remote(9)));
    assert_eq!(f.hub.resolve(home), Some(home.index), "a subscriber is left");
    f.unsubscribe(1, home.index);
    assert_eq!(f.hub.resolve(home), None);
    assert!(!f.hub.remove_interest(home, 4, remote(9)));
    f.hub.invariants(&f.frames);
}

#[test]
fn a_confirmation_returns_the_waiters_once_and_only_to_the_topic_that_asked() {
    let mut f = Fixture::new();
    let home = TopicHandle { index: 5, generation: 5 };
    let topic = f.subscribe(1, "t");
    let asked = f.hub.handle(topic);
    f.hub.await_home(topic, 11);
    f.hub.await_home(topic, 12);
    assert_eq!(f.hub.waiting(topic), [11, 12]);
    assert_eq!(f.hub.confirm(asked, home), Some(vec![11, 12]));
    assert_eq!(f.hub.confirm(asked, home), Some(vec![]));
    assert_eq!(f.hub.home(topic), Some(home));
    f.unsubscribe(1, topic);
    assert_eq!(f.subscribe(1, "t"), topic, "the slot is used again");
    assert_eq!((f.hub.confirm(asked, home), f.hub.home(topic)), (None, None));
}

#[test]
fn a_subscriber_may_have_topics_of_several_classes() {
    let mut f = Fixture::new();
    let wrapped = Class::PLAIN.in_envelope();
    let (plain, enveloped) = (f.subscribe(1, "p"), f.hub.subscribe(1, wrapped, "e").topic);
    f.hub.subscribe(2, Class::PLAIN, "e");
    assert_eq!((f.hub.class_of(1, plain), f.hub.class_of(1, enveloped)), (Some(Class::PLAIN), Some(wrapped)));
    for topic in [plain, enveloped] {
        f.hub.publish(topic, &mut f.frames, None, |class, append| {
            append(&[if class.has_envelope() { b"[x]".as_slice() } else { b"x" }]);
        });
    }
    f.publish(enveloped, Some(1), "not for 1");
    f.start();
    f.deliver(100);
    let mut delivered = f.delivered();
    delivered.sort();
    assert_eq!(delivered, ["1:[x]", "1:x", "2:xnot for 1"]);
    assert!(f.hub.subscribe(1, Class::PLAIN, "e").already);
    assert_eq!(f.hub.class_of(1, enveloped), Some(wrapped), "nothing has changed");
    f.unsubscribe(1, plain);
    assert_eq!((f.hub.class_of(1, plain), f.hub.class_of(1, enveloped)), (None, Some(wrapped)));
}

#[test]
fn who_changes_its_class_misses_nothing() {
    let mut f = Fixture::new();
    let topic = f.subscribe(1, "t");
    f.subscribe(2, "t");
    f.publish(topic, None, "a");
    f.unsubscribe(1, topic);
    f.hub.subscribe(1, Class::PLAIN.in_envelope(), "t");
    f.publish(topic, None, "b");
    f.start();
    f.deliver(100);
    assert_eq!(f.delivered(), ["1:a", "2:ab", "1:b"]);
}

#[test]
fn a_pinned_topic_is_neither_first_nor_last() {
    let mut f = Fixture::new();
    let topic = f.hub.intern("t");
    assert_eq!((f.hub.pin(topic), f.hub.pin(topic)), (true, false));
    f.hub.expire_histories(Tick(0), 10);
    assert_eq!(f.hub.subscribe(1, Class::PLAIN, "t"), SubscribeOutcome { topic, first: false, already: false });
    assert_eq!(f.unsubscribe(1, topic), Some(UnsubscribeOutcome { last: false }));
    f.subscribe(1, "t");
    let mut left = Vec::new();
    f.hub.close(1, &mut f.frames, |_, topic, last| left.push((topic, last)));
    assert_eq!((left, f.hub.find("t")), (vec![(topic, false)], Some(topic)));
    f.hub.invariants(&f.frames);
    assert_eq!((f.hub.unpin(topic), f.hub.unpin(topic), f.hub.find("t")), (false, true, None));
}

#[test]
fn an_interned_topic_is_forgotten_unless_it_gets_into_use() {
    let mut f = Fixture::new();
    let (idle, used) = (f.hub.intern("idle"), f.hub.intern("used"));
    assert_eq!((f.hub.next_expiry(Tick(7)), f.hub.intern("idle")), (Some(Tick(7)), idle));
    f.subscribe(1, "used");
    f.hub.expire_histories(Tick(7), 100);
    assert_eq!((f.hub.find("idle"), f.hub.find("used"), f.hub.next_expiry(Tick(7))), (None, Some(used), None));
    f.hub.invariants(&f.frames);
}

const MINUTE: Retention = Retention { count: 9, age: Duration::from_secs(60), bytes: 9999, last_value: false };

impl Fixture {
    fn remember(&mut self, name: &str, now: Tick, text: &'static str) -> u32 {
        let topic = self.hub.intern(name);
        self.hub.keep(topic, MINUTE);
        let offset = self.hub.order(topic);
        self.hub.remember(topic, now, offset, MessageKind::Text, Bytes::from_static(text.as_bytes()));
        topic
    }

    fn replayed(&self, topic: u32, since: Position) -> Vec<&[u8]> {
        self.hub.replay(topic, since).messages.map(|message| &*message.payload).collect()
    }
}

#[test]
fn a_topic_is_remembered_until_its_history_has_run_out() {
    let mut f = Fixture::new();
    let topic = f.remember("t", Tick(0), "a");
    f.remember("t", Tick(1000), "b");
    let start = Position { offset: 0, ..f.hub.position(topic) };
    assert_eq!(f.replayed(topic, start), [b"a", b"b"]);
    assert_eq!(f.replayed(topic, Position { epoch: start.epoch ^ 1, offset: 2 }), [b"a", b"b"]);
    assert!(f.replayed(topic, f.hub.position(topic)).is_empty());
    assert!(!f.hub.next_expiry(Tick(0)).expect("something to do").is_after(Tick(6000)));
    f.hub.expire_histories(Tick(6000), 100);
    assert_eq!((f.hub.replay(topic, start).gap, f.replayed(topic, start)), (Some((1, 1)), vec![&b"b"[..]]));
    f.hub.expire_histories(Tick(7000), 100);
    assert_eq!((f.hub.find("t"), f.hub.next_expiry(Tick(7000)), f.hub.history_bytes()), (None, None, 0));
    let again = f.remember("t", Tick(7000), "c");
    assert_ne!(f.hub.position(again).epoch, start.epoch);
    assert_eq!(f.hub.replay(again, start).gap, None, "all of the new epoch is there");
    f.hub.invariants(&f.frames);
}

#[test]
fn the_bound_on_all_histories_is_paid_by_those_published_to_the_longest_ago() {
    let mut f = Fixture::new();
    for name in ["old", "new"] {
        for text in ["1", "2"] {
            f.remember(name, Tick(0), text);
        }
    }
    f.remember("old", Tick(0), "3");
    let [old, new] = ["old", "new"].map(|name| f.hub.intern(name));
    let lengths = |f: &Fixture| [old, new].map(|topic| f.hub.history(topic).map_or(0, |history| history.len()));
    f.hub.set_history_bound(f.hub.history_bytes());
    f.remember("old", Tick(0), "4");
    assert_eq!((lengths(&f), f.hub.evicted_messages()), ([4, 1], 1));
    f.remember("new", Tick(0), "3");
    assert_eq!((lengths(&f), f.hub.evicted_messages()), ([3, 2], 2));
    f.hub.set_history_bound(700);
    assert_eq!((lengths(&f), f.hub.evicted_messages()), ([0, 2], 5));
    f.hub.invariants(&f.frames);
    f.hub.expire_histories(Tick(0), 100);
    assert_eq!((f.hub.find("old"), f.hub.topics()), (None, 1));
}

#[test]
fn a_turn_expires_no_more_than_it_may() {
    let mut f = Fixture::new();
    for name in ["a", "b", "c"] {
        (0..5).for_each(|_| _ = f.remember(name, Tick(0), ""));
    }
    // The wheel brings deadlines near in steps, which count too.
    f.hub.expire_histories(Tick(5999), 100);
    for left in (0..15usize).rev() {
        assert_eq!(f.hub.next_expiry(Tick(6000)), Some(Tick(6000)));
        f.hub.expire_histories(Tick(6000), 1);
        let kept: usize = f.hub.topics.iter().map(|(_, topic)| topic.history.as_ref().map_or(0, |h| h.len())).sum();
        assert_eq!(kept, left);
        f.hub.invariants(&f.frames);
    }
    f.hub.expire_histories(Tick(6000), 100);
    assert_eq!((f.hub.topics(), f.hub.next_expiry(Tick(6000))), (0, None));
}

#[test]
fn the_epoch_elsewhere_is_the_home_shards() {
    let mut f = Fixture::new();
    let topic = f.subscribe(1, "t");
    f.hub.set_epoch(topic, 77);
    assert_eq!(f.hub.position(topic), Position { epoch: 77, offset: 0 });
}
