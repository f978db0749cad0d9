//! What a connection costs before it is a WebSocket: its head, its route, its handshake.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use uproar::http::request::parse;
use uproar::http::route::route;
use uproar::ws::handshake;

const MAX_HEAD: usize = 8 * 1024;
/// What a browser sends.
const HEAD: &[u8] = b"GET /raw/ticks HTTP/1.1\r\n\
    Host: localhost:8080\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0\r\n\
    Upgrade: websocket\r\n\
    Origin: http://localhost:8080\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-US,en;q=0.9\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

fn upgrade(head: &[u8], response: &mut Vec<u8>) {
    let request = parse(head, MAX_HEAD).expect("a good head").expect("a whole head");
    black_box(route(request.path, request.wants_websocket()));
    let handshake = handshake::check(request.method.as_str(), request.minor_version, request.headers(), &[]);
    handshake.expect("a good handshake").write_response(None, response);
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handshake");
    group.throughput(Throughput::Elements(1));
    group.bench_function("head", |bencher| bencher.iter(|| parse(black_box(HEAD), MAX_HEAD).is_ok()));
    group.bench_function("accept_key", |bencher| {
        bencher.iter(|| handshake::accept_key(black_box(b"dGhlIHNhbXBsZSBub25jZQ==")));
    });
    let mut response = Vec::with_capacity(1024);
    group.bench_function("upgrade", |bencher| {
        bencher.iter(|| {
            response.clear();
            upgrade(black_box(HEAD), &mut response);
        });
    });
    group.finish();
}

criterion_group!(handshake_benches, benches);
criterion_main!(handshake_benches);
