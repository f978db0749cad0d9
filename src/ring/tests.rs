//! On the real kernel, over loopback.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::token::{ConnId, Token};
use super::*;
use crate::hub::frame::{LogId, Span};
use crate::limits::READ_BUFFER_BYTES;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(10);

/// A ring with a listener, and what a shard keeps beside it.
struct Rig {
    ring: Ring,
    addr: SocketAddr,
    wake: Arc<WakeFd>,
    frames: Frames,
    ops: Vec<Op>,
    out: Vec<Completion>,
}

impl Rig {
    fn new(slots: u32, sizes: Sizes) -> Rig {
        let listener = sys::listen((Ipv4Addr::LOCALHOST, 0).into(), 1024, true).unwrap();
        let addr = listener.local_addr().unwrap();
        let wake = Arc::new(WakeFd::new().unwrap());
        let ring = Ring::with_sizes(Setup { slots, listener, wake: wake.clone() }, sizes).unwrap();
        Rig { ring, addr, wake, frames: Frames::new(), ops: Vec::new(), out: Vec::new() }
    }

    /// A rig that accepts.
    fn accepting(slots: u32) -> Rig {
        let mut rig = Rig::new(slots, SIZES);
        rig.now(&[Op::Accept]);
        rig
    }

    /// Submits, does not wait, drains: the completions of that one enter.
    fn now(&mut self, ops: &[Op]) -> Vec<Completion> {
        self.ops.extend_from_slice(ops);
        self.ring.enter(&mut self.ops, &self.frames, Wait::None).unwrap();
        assert!(self.ops.is_empty());
        self.ring.drain(&mut self.out);
        mem::take(&mut self.out)
    }

    /// Enters until there is a completion of the kind, and returns the first; forgets the others.
    fn await_kind(&mut self, kind: Kind) -> Completion {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            self.ring.enter(&mut self.ops, &self.frames, Wait::AtMost(SECOND.as_nanos() as u64)).unwrap();
            self.ring.drain(&mut self.out);
            if let Some(found) = mem::take(&mut self.out).into_iter().find(|c| c.token.kind == kind) {
                return found;
            }
        }
        panic!("no {kind:?} within {PATIENCE:?}");
    }

    /// Connects a client and accepts it.
    fn connect(&mut self) -> (TcpStream, ConnId) {
        let client = TcpStream::connect(self.addr).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let accepted = self.await_kind(Kind::Accept);
        assert!(accepted.more && accepted.token.conn == Token::RING);
        (client, conn(accepted.result))
    }

    fn span(&mut self, bytes: &[u8]) -> Span {
        let chunk = self.frames.alloc(bytes.len(), LogId::NONE);
        self.frames.append(chunk, &[bytes])
    }
}

fn conn(result: i32) -> ConnId {
    ConnId { index: u32::try_from(result).expect("a slot"), generation: 7 }
}

#[test]
fn what_a_client_sends_is_received_and_sent_back() {
    let mut rig = Rig::accepting(16);
    let (mut client, conn) = rig.connect();
    rig.now(&[Op::Watch(conn)]);
    for text in [&b"hello"[..], b"again"] {
        client.write_all(text).unwrap();
        let readable = rig.await_kind(Kind::Readable);
        assert_eq!((readable.token.conn, readable.more), (conn, true));
        let received = rig.now(&[Op::Receive { conn, buffer: 3 }]);
        let token = Token::new(Kind::Receive, conn);
        assert_eq!(received, [Completion { token, result: 5, more: false, buffer: 3 }]);
        assert_eq!(rig.ring.buffer(3, 5), text);

        let span = rig.span(text);
        assert_eq!(rig.now(&[Op::Send { conn, span }]), [], "a send that succeeds posts nothing");
        let mut echoed = [0; 5];
        client.read_exact(&mut echoed).unwrap();
        assert_eq!(echoed, text);
    }
}
