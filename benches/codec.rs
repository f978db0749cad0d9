//! What the WebSocket codec costs: masking and validation against memory's speed, headers, decoding, compression.
#![allow(missing_docs, reason = "criterion's macros make the functions")]

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use uproar::hub::frame::MessageKind;
use uproar::ws::deflate::{Arena, Deflater, Inflater};
use uproar::ws::frame::{Opcode, encode_header, first_len};
use uproar::ws::mask;
use uproar::ws::message::{Compression, Decoder, Event, Settings};
use uproar::ws::utf8::Validator;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const SETTINGS: Settings = Settings { max_message: 1 << 20, max_skipped: 0, compression: Compression::Off };
const SIZES: [usize; 4] = [16, 64, 1024, 64 * 1024];

fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.warm_up_time(std::time::Duration::from_millis(300));
    group.measurement_time(std::time::Duration::from_secs(1));
    group
}

fn masking(c: &mut Criterion) {
    let mut group = group(c, "mask");
    for size in SIZES {
        let mut bytes = vec![7u8; size];
        let mut copy = vec![0u8; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{size}"), |b| b.iter(|| mask::apply(black_box(&mut bytes), KEY, 1)));
        group.bench_function(format!("{size}, memcpy beside it"), |b| {
            b.iter(|| black_box(&mut copy).copy_from_slice(black_box(&bytes)));
        });
    }
}

fn validation(c: &mut Criterion) {
    let mut group = group(c, "utf8");
    for size in SIZES {
        let ascii = "a".repeat(size);
        let mixed = "aé€😀 ".chars().cycle().take(size / 2).collect::<String>();
        for (name, text) in [("ascii", ascii), ("mixed", mixed)] {
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_function(format!("{name} of {}", text.len()), |b| {
                b.iter(|| {
                    let mut validator = Validator::default();
                    validator.push(black_box(text.as_bytes())).is_ok() && validator.finish().is_ok()
                });
            });
        }
    }
}

fn encoding(c: &mut Criterion) {
    let mut group = group(c, "encode");
    for len in [64u64, 1024, 1 << 20] {
        group.bench_function(format!("header of {len}"), |b| {
            b.iter(|| encode_header(Opcode::Data(MessageKind::Text), false, black_box(len)));
        });
    }
    let mut frames = Vec::new();
    for _ in 0..1000 {
        frames.extend_from_slice(encode_header(Opcode::Data(MessageKind::Text), false, 64).as_slice());
        frames.extend_from_slice(&[b'a'; 64]);
    }
    group.throughput(Throughput::Elements(1000));
    group.bench_function("walk over 1000 frames", |b| {
        b.iter(|| {
            let (mut rest, mut count) = (black_box(&frames[..]), 0);
            while let Some(len) = first_len(rest) {
                rest = &rest[len..];
                count += 1;
            }
            count
        });
    });
}

/// `count` masked messages of `len` bytes of text, back to back.
fn conversation(count: usize, len: usize) -> Vec<u8> {
    let mut header = encode_header(Opcode::Data(MessageKind::Text), false, len as u64).as_slice().to_vec();
    header[1] |= 0x80;
    header.extend(KEY);
    let mut payload = vec![b'a'; len];
    mask::apply(&mut payload, KEY, 0);
    [header, payload].concat().repeat(count)
}

fn decoding(c: &mut Criterion) {
    let mut group = group(c, "decode");
    for (count, len) in [(1, 64), (32, 64), (32, 1024), (1, 60_000)] {
        let bytes = conversation(count, len);
        let (mut inflater, mut arena) = (Inflater::new(), Arena::default());
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("{count} of {len}"), |b| {
            b.iter_batched_ref(
                || bytes.clone(),
                |bytes| {
                    let mut partial = None;
                    let mut input = &mut bytes[..];
                    let mut decoder = Decoder::new(SETTINGS, &mut partial, &mut inflater, &mut arena);
                    let mut sum = 0;
                    while let Ok(Some(Event::Message { payload, .. })) = decoder.next(&mut input) {
                        sum += payload.len();
                    }
                    assert_eq!(sum, count * len);
                },
                BatchSize::SmallInput,
            );
        });
    }
}

/// Something like JSON: words that repeat, numbers that do not.
fn json(len: usize) -> Vec<u8> {
    let ticks = (0u64..).map(|i| {
        let noise = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        format!(r#"{{"symbol":"EURUSD","bid":1.{noise:07},"ask":1.{:07},"sequence":{i}}}"#, noise + 3)
    });
    ticks.flat_map(String::into_bytes).take(len).collect()
}

fn compression(c: &mut Criterion) {
    let mut group = group(c, "deflate");
    for size in [64, 1024, 16 * 1024] {
        let payload = json(size);
        group.throughput(Throughput::Bytes(size as u64));
        for (window_bits, level) in [(15, 1), (15, 6), (11, 6)] {
            let (mut deflater, mut arena) = (Deflater::new(window_bits, level), Arena::default());
            let to = deflater.compress(&payload, &mut arena).len();
            group.bench_function(format!("{size} to {to}, window {window_bits}, level {level}"), |b| {
                b.iter(|| deflater.compress(black_box(&payload), &mut arena).len());
            });
        }
        let (mut inflater, mut out, mut arena) = (Inflater::new(), Arena::default(), Arena::default());
        let compressed = Deflater::new(15, 6).compress(&payload, &mut out);
        group.bench_function(format!("inflate to {size}"), |b| {
            b.iter(|| inflater.inflate(black_box(compressed), &mut arena, size).map(|bytes| bytes.len()));
        });
    }
}

criterion_group!(benches, masking, validation, encoding, decoding, compression);
criterion_main!(benches);
