//! What the hub itself costs: a delivery, and coming and going, in small and large topics.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use uproar::hub::Hub;
use uproar::hub::frame::{Class, Frames};
use uproar::limits::DELIVERIES_PER_TURN;

fn crowd(subscribers: u32) -> (Hub, Frames, u32) {
    let mut hub = Hub::new(subscribers + 1, 5);
    let mut topic = 0;
    (0..subscribers).for_each(|sub| topic = hub.subscribe(sub, Class::PLAIN, "topic").topic);
    (hub, Frames::new(), topic)
}

/// Publishes a message of 64 bytes, and fans it out in turns as a shard does; receivers are done with it at once.
fn fan_out(hub: &mut Hub, frames: &mut Frames, topic: u32, exclude: Option<u32>) {
    hub.publish(topic, frames, exclude, |_, append| append(&[b"\x81\x40", &[b'x'; 64]]));
    hub.start_fanouts(frames);
    while hub.deliver(frames, DELIVERIES_PER_TURN, &mut |frames, sub, span| {
        black_box(sub);
        frames.release(span.chunk, 1);
    }) {}
}

fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish");
    for subscribers in [1_000, 100_000] {
        group.throughput(Throughput::Elements(u64::from(subscribers)));
        let (mut hub, mut frames, topic) = crowd(subscribers);
        group.bench_function(format!("to {subscribers}"), |b| {
            b.iter(|| fan_out(&mut hub, &mut frames, topic, None));
        });
        group.bench_function(format!("to {subscribers} but the publisher"), |b| {
            b.iter(|| fan_out(&mut hub, &mut frames, topic, Some(7)));
        });
    }
    group.finish();
}

fn churn(c: &mut Criterion) {
    let mut group = c.benchmark_group("subscribe and unsubscribe");
    for subscribers in [1, 1_000, 100_000] {
        let (mut hub, mut frames, topic) = crowd(subscribers);
        let mut turn = 0;
        group.bench_function(format!("in a topic of {subscribers}"), |b| {
            b.iter(|| {
                hub.subscribe(subscribers, Class::PLAIN, "topic");
                hub.unsubscribe(subscribers, topic, &mut frames, &mut |_, _, _| {});
            });
        });
        group.bench_function(format!("anywhere in a topic of {subscribers}"), |b| {
            b.iter(|| {
                let sub = turn % subscribers;
                turn = turn.wrapping_add(7919);
                hub.close(sub, &mut frames, |_, _, _| {});
                hub.subscribe(sub, Class::PLAIN, "topic");
            });
        });
    }
    group.finish();
}

fn close(c: &mut Criterion) {
    c.bench_function("100,000 subscribers come", |b| {
        b.iter_batched(
            || Hub::new(100_000, 5),
            |mut hub| {
                (0..100_000).for_each(|sub| _ = hub.subscribe(sub, Class::PLAIN, "topic"));
                hub
            },
            BatchSize::LargeInput,
        );
    });
    c.bench_function("100,000 subscribers go while a fan-out is half through", |b| {
        let setup = || {
            let (mut hub, mut frames, topic) = crowd(100_000);
            hub.publish(topic, &mut frames, None, |_, append| append(&[&[b'x'; 64]]));
            hub.start_fanouts(&mut frames);
            hub.deliver(&mut frames, 50_000, &mut |frames, _, span| frames.release(span.chunk, 1));
            (hub, frames)
        };
        b.iter_batched(
            setup,
            |(mut hub, mut frames)| {
                (0..100_000).for_each(|sub| hub.close(sub, &mut frames, |_, _, _| {}));
                (hub, frames)
            },
            BatchSize::LargeInput,
        );
    });
}

criterion_group!(benches, publish, churn, close);
criterion_main!(benches);
