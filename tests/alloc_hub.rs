//! Once warm, publishing and fanning out takes nothing from the heap.

mod counting;

use std::time::Duration;

use bytes::Bytes;
use counting::allocations;
use uproar::hub::Hub;
use uproar::hub::frame::{Class, Frames, MessageKind, Span};
use uproar::hub::history::Retention;
use uproar::time::Tick;

const SUBSCRIBERS: u32 = 5_000;
const TOPICS: [&str; 3] = ["ticks", "trades", "chat"];

struct Shard {
    hub: Hub,
    frames: Frames,
    topics: [u32; 3],
    outbox: Vec<Span>,
}

impl Shard {
    fn new() -> Shard {
        let mut hub = Hub::new(SUBSCRIBERS, 5);
        let topics = TOPICS.map(|name| {
            let mut last = 0;
            for sub in 0..SUBSCRIBERS {
                let class = if sub % 2 == 0 { Class::PLAIN } else { Class::deflate(15) };
                last = hub.subscribe(sub, class, name).topic;
            }
            last
        });
        Shard { hub, frames: Frames::new(), topics, outbox: Vec::with_capacity(1 << 20) }
    }

    /// A burst to every topic, fanned out over many turns with others published meanwhile, held until the end.
    fn round(&mut self, messages: u32) -> usize {
        for _ in 0..3 {
            for topic in self.topics {
                for sub in 0..messages {
                    self.hub
                        .publish(topic, &mut self.frames, Some(sub), |_, append| append(&[b"header", &[b'x'; 200]]));
                }
            }
            self.hub.start_fanouts(&mut self.frames);
            let outbox = &mut self.outbox;
            self.hub.deliver(&mut self.frames, 256, &mut |_, _, span| outbox.push(span));
        }
        while self.hub.deliver(&mut self.frames, 256, &mut |_, _, span| self.outbox.push(span)) {}
        let delivered = self.outbox.len();
        self.outbox.drain(..).for_each(|span| self.frames.release(span.chunk, 1));
        self.hub.start_fanouts(&mut self.frames);
        delivered
    }
}

#[test]
fn publishing_and_fanning_out_allocates_nothing_once_warm() {
    let mut shard = Shard::new();
    let cold = allocations(|| assert!(shard.round(32) > 3 * SUBSCRIBERS as usize));
    assert_ne!(cold, 0, "the allocator counts");
    shard.round(32);
    assert_eq!(allocations(|| (0..10).for_each(|_| _ = shard.round(32))), 0);
    assert_eq!(allocations(|| (0..10).for_each(|_| _ = shard.round(1))), 0, "nor with smaller chunks, once pooled");
}

#[test]
fn coming_and_going_allocates_nothing_for_a_subscribers_only_topic() {
    let (mut hub, mut frames) = (Hub::new(SUBSCRIBERS, 5), Frames::new());
    (0..SUBSCRIBERS).for_each(|sub| _ = hub.subscribe(sub, Class::PLAIN, "lobby"));
    let churn = allocations(|| {
        for sub in 0..100 {
            hub.close(sub, &mut frames, |_, _, _| {});
            hub.subscribe(sub, Class::PLAIN, "lobby");
        }
    });
    assert_eq!(churn, 0);
}

#[test]
fn remembering_allocates_nothing_once_warm() {
    let mut hub = Hub::new(SUBSCRIBERS, 5);
    let topics = TOPICS.map(|name| hub.intern(name));
    for topic in topics {
        hub.keep(topic, Retention { count: 100, age: Duration::from_secs(1), bytes: 1 << 20, last_value: false });
    }
    let payload = Bytes::from_static(&[b'x'; 200]);
    let mut rounds = |turns: std::ops::Range<u32>| {
        for turn in turns {
            for topic in topics {
                let offset = hub.order(topic);
                hub.remember(topic, Tick(turn), offset, MessageKind::Text, payload.clone());
            }
            hub.expire_histories(Tick(turn), 10);
        }
    };
    rounds(0..2000);
    assert_eq!(allocations(|| rounds(2000..5000)), 0);
}
