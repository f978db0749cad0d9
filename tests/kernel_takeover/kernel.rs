//! The fake: the socket of one connection, and the kernel behind it.

use std::collections::VecDeque;
use std::net::IpAddr;

use uproar::limits::READ_BUFFER_BYTES;
use uproar::ring::ktls::Record;
use uproar::ring::op::{Arrivals, Completion, Op};
use uproar::ring::token::{ConnId, Kind, Token};
use uproar::shard::Shard;

pub const CONN: ConnId = ConnId { index: 3, generation: 0 };
pub const EAGAIN: i32 = 11;
pub const EIO: i32 = 5;
pub const ENOENT: i32 = 2;
pub const ENOMEM: i32 = 12;
pub const ENOTCONN: i32 = 107;
pub const EOPNOTSUPP: i32 = 95;

/// What a client has sent, once the kernel opens it.
pub enum Opened {
    Data(Vec<u8>),
    Record(u8, Vec<u8>),
}

/// The socket of one connection, and the kernel behind it.
#[derive(Default)]
pub struct Kernel {
    pub attach: i32,
    pub install: i32,
    /// Bytes that it still takes; `None`: any number.
    pub room: Option<usize>,
    /// Sealed, on its way to the server.
    pub up: Vec<u8>,
    pub opened: VecDeque<Opened>,
    /// Sealed by a session, on its way to the client.
    pub down: Vec<u8>,
    /// What the kernel was to seal.
    pub plain: Vec<u8>,
    pub records: Vec<Record>,
    /// Keys as they came, and whether they are of what comes.
    pub keys: Vec<(bool, Vec<u8>)>,
    /// The server has read whole records, and so many of the application's.
    pub read: Vec<u8>,
    pub has_all_keys: bool,
    pub shut: bool,
    pub closed: bool,
    pub awaited: bool,
    pub buffer: Vec<u8>,
    pub kind: Option<u8>,
}

impl Arrivals for Kernel {
    fn buffer(&mut self, _: u16, len: usize) -> &mut [u8] {
        &mut self.buffer[..len]
    }

    fn peer(&self, _: u16) -> IpAddr {
        IpAddr::from([127, 0, 0, 1])
    }

    fn record_kind(&self, _: u16) -> Option<u8> {
        self.kind
    }
}

impl Kernel {
    /// Carries out the operations of an enter.
    pub fn enter(&mut self, shard: &mut Shard) -> Vec<Completion> {
        let ops = std::mem::take(&mut shard.core.ops);
        let count = |is: fn(&Op) -> bool| ops.iter().filter(|op| is(op)).count();
        let sends = count(|op| matches!(op, Op::Send { .. } | Op::SendSealed { .. } | Op::SendRecord { .. }));
        let receives = count(|op| matches!(op, Op::Receive { .. }));
        let installs = count(|op| matches!(op, Op::InstallTls { .. }));
        assert!(sends <= 1 && (installs == 0 || sends + receives == 0), "one at a time: {ops:?}");
        ops.into_iter().filter_map(|op| self.carry_out(op, shard)).collect()
    }

    fn carry_out(&mut self, op: Op, shard: &Shard) -> Option<Completion> {
        let bytes = |span| shard.core.frames.bytes(span);
        let (kind, result, buffer) = match op {
            Op::Receive { buffer, .. } => (Kind::Receive, self.receive(), buffer),
            Op::ReceiveRecord { buffer, .. } => (Kind::ReceiveRecord, self.receive_record(), buffer),
            Op::Send { span, .. } => {
                assert!(!self.has_all_keys, "the kernel seals, and is not told");
                self.down.extend_from_slice(bytes(span));
                return None;
            }
            Op::SendSealed { span, .. } => {
                assert!(self.has_all_keys && !self.shut && !self.awaited);
                let taken = self.room.map_or(usize::MAX, |room| room).min(bytes(span).len());
                self.plain.extend_from_slice(&bytes(span)[..taken]);
                self.room = self.room.map(|room| room - taken);
                (Kind::Send, if taken == 0 { -EAGAIN } else { taken as i32 }, 0)
            }
            Op::SendRecord { record, .. } => {
                assert!(self.has_all_keys && !self.shut && !self.awaited);
                let fits = self.room.is_none_or(|room| room > 0);
                if fits {
                    self.records.push(record);
                }
                (Kind::Send, if fits { 2 } else { -EAGAIN }, 0)
            }
            Op::AttachTls(_) => (Kind::TlsAttached, self.attach, 0),
            Op::InstallTls { keys, receive, .. } => {
                self.keys.push((receive, bytes(keys).to_vec()));
                self.has_all_keys |= self.keys.len() >= 2;
                (Kind::TlsInstalled, self.install, 0)
            }
            Op::AwaitWritable(_) => {
                self.awaited = true;
                return None;
            }
            Op::Shutdown(_) => {
                self.shut = true;
                (Kind::Shutdown, 0, 0)
            }
            Op::Close(_) => {
                self.closed = true;
                return None;
            }
            Op::Accept { .. } | Op::CancelAccept { .. } | Op::Watch(_) | Op::Unwatch(_) => return None,
            Op::CancelWritable(_) | Op::Discard { .. } => return None,
        };
        Some(Completion { token: Token::new(kind, CONN), result, more: false, buffer })
    }

    fn receive(&mut self) -> i32 {
        assert!(self.keys.is_empty() || self.has_all_keys, "nothing is read while keys are on their way");
        if !self.has_all_keys {
            let count = self.up.len().min(READ_BUFFER_BYTES);
            self.buffer = self.up.drain(..count).collect();
            self.read.extend_from_slice(&self.buffer);
            return if count == 0 { -EAGAIN } else { count as i32 };
        }
        match self.opened.front() {
            None => -EAGAIN,
            Some(Opened::Record(..)) => -EIO,
            Some(Opened::Data(_)) => self.receive_record(),
        }
    }

    fn receive_record(&mut self) -> i32 {
        (self.kind, self.buffer) = match self.opened.pop_front() {
            Some(Opened::Record(kind, bytes)) => (Some(kind), bytes),
            Some(Opened::Data(bytes)) => (Some(23), bytes),
            None => return -EAGAIN,
        };
        self.buffer.len() as i32
    }

    /// Records of the application's that the server has read; it must not have read half of one.
    pub fn records_read(&self) -> u64 {
        let (mut rest, mut count) = (&self.read[..], 0);
        while !rest.is_empty() {
            let len = 5 + usize::from(u16::from_be_bytes([rest[3], rest[4]]));
            assert!(rest.len() >= len, "half a record is in the session");
            count += u64::from(rest[0] == 23);
            rest = &rest[len..];
        }
        count
    }
}
