//! The ring over a long run of connections. A process of its own, because it counts descriptors.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use uproar::hub::frame::Frames;
use uproar::limits::ACCEPTS;
use uproar::ring::op::{Completion, Op, Wait};
use uproar::ring::token::{ConnId, Kind};
use uproar::ring::{Ring, Setup, WakeFd, sys};

const CONNECTIONS: usize = 100_000;
const BATCH: usize = 100;

fn enter(ring: &mut Ring, mut ops: Vec<Op>, wait: Wait) -> Vec<Completion> {
    let mut completions = Vec::new();
    ring.enter(&mut ops, &Frames::new(), wait).unwrap();
    ring.drain(&mut completions);
    completions
}

/// Opens a batch of connections and returns both ends.
fn open(ring: &mut Ring, port: u16) -> (Vec<TcpStream>, Vec<ConnId>) {
    let clients = (0..BATCH).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).collect();
    let (mut conns, mut again) = (Vec::new(), Vec::new());
    while conns.len() < BATCH {
        let accepted = enter(ring, std::mem::take(&mut again), Wait::AtMost(10_000_000_000));
        assert!(!accepted.is_empty(), "{} of {BATCH} connections accepted", conns.len());
        for completion in accepted.iter().filter(|c| c.token.kind == Kind::Accept) {
            again.push(Op::Accept { seat: completion.token.conn.index as u16 });
            conns.push(ConnId { index: u32::try_from(completion.result).unwrap(), generation: 0 });
        }
    }
    assert_eq!(enter(ring, again, Wait::None), [], "nobody else has come");
    (clients, conns)
}

#[test]
fn opening_and_closing_many_connections_leaks_no_slot_and_no_descriptor() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let listener = sys::listen((Ipv4Addr::LOCALHOST, 0).into(), 1024, true).unwrap();
    let port = listener.local_addr().unwrap().port();
    // A table without room for a single leaked slot.
    let setup = Setup { slots: BATCH as u32, listeners: vec![listener], wake: Arc::new(WakeFd::new().unwrap()) };
    let mut ring = Ring::new(setup).unwrap();
    let made = descriptors();
    enter(&mut ring, (0..ACCEPTS).map(|seat| Op::Accept { seat }).collect(), Wait::None);

    for _ in 0..CONNECTIONS / BATCH {
        let (clients, conns) = open(&mut ring, port);
        assert_eq!(descriptors(), made + BATCH, "connections of the ring are not in the process's table");
        let ops = conns.into_iter().flat_map(|conn| [Op::Watch(conn), Op::Unwatch(conn), Op::Close(conn)]);
        let ended = enter(&mut ring, ops.collect(), Wait::None);
        assert_eq!(ended.len(), BATCH, "each poll ends, and nothing else posts");
        for client in clients {
            // A reset instead of TIME_WAIT, of which there would be more than there are ports.
            socket2::Socket::from(client).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    assert_eq!((ring.stats().overflows, descriptors()), (0, made));
    drop(ring);
    assert_eq!(descriptors(), before);
}
