//! Once warm, a shard takes a message in and fans it out without taking anything from the heap.

mod counting;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use counting::allocations;
use uproar::Config;
use uproar::ring::op::{Arrivals, Completion, Op};
use uproar::ring::token::{ConnId, Kind, Token};
use uproar::ring::{Stats, WakeFd};
use uproar::shard::accept::Door;
use uproar::shard::settings::Settings;
use uproar::shard::shared::Shared;
use uproar::shard::{Aides, Parts, Shard, mailbox};
use uproar::time::{Moment, Tick};

const SUBSCRIBERS: u32 = 1_000;
const HEAD: &[u8] = b"GET /raw/ticks HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A kernel whose sockets take everything.
struct Kernel {
    shard: Shard,
    buffer: Buffer,
    completions: Vec<Completion>,
    sent: u64,
}

/// All buffers in one: only one is read into at a time.
struct Buffer(Vec<u8>);

impl Arrivals for Buffer {
    fn buffer(&mut self, _: u16, len: usize) -> &mut [u8] {
        &mut self.0[..len]
    }

    fn peer(&self, _: u16) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }
}

impl Kernel {
    fn new() -> Kernel {
        let (postbox, mailbox) = mailbox::mailbox(Arc::new(WakeFd::new().unwrap()));
        let shard = Shard::new(Parts {
            id: 0,
            doors: vec![Door::Plain],
            aides: Aides::default(),
            slots: 2 * SUBSCRIBERS,
            settings: Settings::try_from(&Config::default()).expect("valid"),
            shared: Arc::new(Shared::new(1)),
            mailbox,
            postboxes: vec![postbox],
            routes: uproar::Routes::new(Vec::new(), true),
            seed: 1,
        });
        Kernel { shard, buffer: Buffer(vec![0; 4096]), completions: Vec::new(), sent: 0 }
    }

    /// Turns until there is nothing to do.
    fn settle(&mut self) {
        for _ in 0..SUBSCRIBERS {
            self.sent += self.shard.core.ops.drain(..).filter(|op| matches!(op, Op::Send { .. })).count() as u64;
            self.shard.set_now(Tick::at(Duration::ZERO), 0);
            self.shard.turn_begins(Moment(1), Moment(1), false);
            self.shard.complete(&self.completions, &mut self.buffer);
            self.completions.clear();
            self.shard.turn();
            self.shard.turn_ends(Moment(30_000), Stats::default());
        }
    }

    fn accept(&mut self, slot: u32) {
        let token = Token::new(Kind::Accept, Token::seat(0));
        self.completions.push(Completion { token, result: slot as i32, more: true, buffer: 0 });
        self.settle_once();
    }

    fn settle_once(&mut self) {
        self.shard.core.ops.clear();
        self.shard.complete(&self.completions, &mut self.buffer);
        self.completions.clear();
        self.shard.turn();
    }

    /// The connection in `slot`, the slot's first, has sent `bytes`.
    fn receive(&mut self, slot: u32, bytes: &[u8]) {
        let conn = ConnId { index: slot, generation: 0 };
        self.completions.push(Completion { token: Token::new(Kind::Readable, conn), result: 1, more: true, buffer: 0 });
        self.shard.complete(&self.completions, &mut self.buffer);
        self.completions.clear();
        assert!(self.shard.receive(), "a readable connection is read from");
        self.buffer.0[..bytes.len()].copy_from_slice(bytes);
        let Some(&Op::Receive { buffer, .. }) = self.shard.core.ops.last() else { panic!("no receive") };
        let result = bytes.len() as i32;
        self.completions.push(Completion { token: Token::new(Kind::Receive, conn), result, more: false, buffer });
    }
}

#[test]
fn a_fan_out_takes_nothing_from_the_heap_once_warm() {
    let mut kernel = Kernel::new();
    for slot in 0..SUBSCRIBERS {
        kernel.accept(slot);
        kernel.receive(slot, HEAD);
        kernel.settle_once();
    }
    kernel.settle();
    // Masked with zeros: a text of five bytes, and four of them in one read.
    let frame = [0x81, 0x85, 0, 0, 0, 0, b't', b'i', b'c', b'k', b'!'];
    let burst = frame.repeat(4);
    for _ in 0..3 {
        for bytes in [&frame[..], &burst] {
            kernel.receive(7, bytes);
            kernel.settle();
        }
    }
    let before = kernel.sent;
    let taken = allocations(|| {
        for bytes in [&frame[..], &burst, &frame] {
            kernel.receive(7, bytes);
            kernel.settle();
        }
    });
    assert_eq!(kernel.sent - before, 3 * u64::from(SUBSCRIBERS), "one send for each subscriber and burst");
    assert_eq!(taken, 0);
    kernel.shard.core.invariants();
}
