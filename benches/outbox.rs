//! What an outbox, the table and the wheel cost a delivery, beside a send of about 3 µs.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use uproar::conn::outbox::{BacklogPolicy, Outbox, Verdict};
use uproar::conn::table::Table;
use uproar::hub::frame::{Frames, LogId, Span};
use uproar::time::{Tick, Wheel};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SUBSCRIBERS: u32 = 1000;
/// A text frame of 64 bytes of payload.
const FRAME: [u8; 66] = {
    let mut frame = [b'x'; 66];
    frame[0] = 0x81;
    frame[1] = 64;
    frame
};

fn append(frames: &mut Frames, chunk: u32, subscribers: u32) -> Span {
    let span = frames.append(chunk, &[&FRAME]);
    frames.retain(chunk, subscribers);
    span
}

/// A turn: `burst` frames of each topic to every subscriber, then each outbox is sent whole.
fn turn(frames: &mut Frames, outboxes: &mut [Outbox], topics: u32, burst: u32) {
    let chunks: Vec<u32> = (0..topics).map(|topic| frames.alloc(64 * 1024, LogId(topic))).collect();
    for _ in 0..burst {
        for &chunk in &chunks {
            let span = append(frames, chunk, SUBSCRIBERS);
            outboxes.iter_mut().for_each(|outbox| outbox.push(frames, span));
        }
    }
    for outbox in outboxes {
        while let Some(front) = outbox.front() {
            outbox.consume(frames, black_box(front).len());
        }
    }
    chunks.into_iter().for_each(|chunk| frames.release(chunk, 1));
}

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("deliver 64 B to 1,000");
    let mut frames = Frames::new();
    let mut outboxes: Vec<_> = (0..SUBSCRIBERS).map(|_| Outbox::new()).collect();
    for (name, topics, burst) in
        [("one topic, single", 1, 1), ("one topic, burst of 32", 1, 32), ("two topics, single", 2, 1)]
    {
        group.throughput(Throughput::Elements(u64::from(SUBSCRIBERS * topics * burst)));
        group.bench_function(name, |b| b.iter(|| turn(&mut frames, &mut outboxes, topics, burst)));
    }
    group.finish();
}

/// One message more to a stalled connection whose backlog of `topics` is at its bound of 1 MiB.
fn stalled(c: &mut Criterion) {
    const BOUND: u32 = 1 << 20;
    let mut group = c.benchmark_group("push at the bound of 1 MiB");
    let cases = [
        ("drop-oldest, 1 topic", BacklogPolicy::DropOldest, 1),
        ("drop-newest, 1 topic", BacklogPolicy::DropNewest, 1),
        ("latest, 1 topic", BacklogPolicy::Latest, 1),
        ("drop-oldest, 20,000 topics", BacklogPolicy::DropOldest, 20_000),
        ("latest, 20,000 topics", BacklogPolicy::Latest, 20_000),
    ];
    for (name, policy, topics) in cases {
        let (mut frames, mut outbox) = (Frames::new(), Outbox::new());
        let mut tails: Vec<Option<u32>> = vec![None; topics];
        let mut turn = 0;
        let mut push = || {
            let topic = turn % topics;
            turn += 1;
            let chunk = tails[topic].filter(|&tail| frames.room(tail) >= FRAME.len()).unwrap_or_else(|| {
                tails[topic].take().into_iter().for_each(|tail| frames.release(tail, 1));
                frames.alloc(if topics == 1 { 64 * 1024 } else { 256 }, LogId(topic as u32))
            });
            tails[topic] = Some(chunk);
            let span = append(&mut frames, chunk, 1);
            outbox.push(&mut frames, span);
            outbox.enforce(&mut frames, BOUND, policy)
        };
        (0..40_000).for_each(|_| assert_ne!(push(), Verdict::Close));
        group.bench_function(name, |b| b.iter(&mut push));
    }
    group.finish();
}

fn table(c: &mut Criterion) {
    let mut table = Table::with_capacity(20_000);
    let ids: Vec<_> = (0..20_000).map(|index| table.insert(index, [std::num::NonZeroU64::MIN; 8])).collect();
    let mut at = 0;
    c.bench_function("table get, 20,000 connections", |b| {
        b.iter(|| {
            at = (at + 7919) % ids.len();
            table.get(black_box(ids[at])).map(|value| value[0])
        });
    });
}

fn wheel(c: &mut Criterion) {
    const CONNECTIONS: u32 = 1 << 20;
    let filled = || {
        let mut wheel = Wheel::new(CONNECTIONS);
        (0..CONNECTIONS).for_each(|index| wheel.set(index, Tick(index % 2500)));
        wheel
    };
    let mut group = c.benchmark_group("wheel of a million");
    let (mut all, mut at) = (filled(), 0);
    group.bench_function("set", |b| {
        b.iter(|| {
            at = (at + 7919) % CONNECTIONS;
            all.set(at, Tick(at % 3000));
        });
    });
    group.bench_function("next", |b| b.iter(|| black_box(&all).next(Tick(0))));
    group.throughput(Throughput::Elements(u64::from(CONNECTIONS)));
    group.bench_function("expire all", |b| {
        b.iter_batched(
            || (filled(), Vec::with_capacity(CONNECTIONS as usize)),
            |(mut wheel, mut due)| {
                (0..=2500).for_each(|now| wheel.expire(Tick(now), usize::MAX, &mut due));
                assert_eq!(due.len(), CONNECTIONS as usize);
                (wheel, due)
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! { name = benches; config = quick(); targets = fan_out, stalled, table, wheel }
criterion_main!(benches);
