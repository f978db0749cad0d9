//! TLS connections: what comes is opened before it is looked at, and what goes is sealed when it is sent.
//!
//! A connection's outbox holds plain bytes, as any other's, and the policies of slow readers are applied to that. What one send
//! takes is sealed, in records of many messages, and is then on the *wire*: sent, or waiting for a socket that takes nothing.

use std::mem;

use hashbrown::HashMap;

use crate::conn::Phase;
use crate::conn::outbox::Outbox;
use crate::error::CloseReason;
use crate::hub::frame::{Frames, LogId, Span};
use crate::ring::op::Op;
use crate::ring::token::ConnId;
use crate::tls::{Progress, Session, Shaken};

use super::flush::{STAGE_BYTES, Sent};
use super::kernel_tls::{KernelSide, Takeover};
use super::{Core, Shard};

/// Plain bytes of one send: sealed, they are no more than what can be gathered in a chunk.
const SEALED_AT_ONCE: usize = STAGE_BYTES - 4 * 1024;
/// What buffers for plain and sealed bytes may keep between turns.
const KEPT_BUFFER: usize = 128 * 1024;

/// The TLS of one connection.
pub(super) struct Secure {
    /// `None` before the client has sent anything, while a thread shakes hands with it, and when it is over.
    pub(super) session: Option<Box<Session>>,
    /// What is sealed and not yet sent.
    pub(super) wire: Outbox,
    /// The client is told that nothing more comes.
    ended: bool,
    /// How far it has come on its way to the kernel.
    pub(super) takeover: Takeover,
}

/// The TLS of a shard's connections, by slot.
#[derive(Default)]
pub(super) struct SecureTable {
    pub(super) by_slot: HashMap<u32, Secure>,
    /// Of those that the kernel has.
    pub(super) by_kernel: HashMap<u32, KernelSide>,
    /// Those that it may be time to give to the kernel.
    pub(super) candidates: Vec<ConnId>,
    /// Keys that the kernel reads in the next enter.
    pub(super) keys: Vec<Span>,
    /// Empty between uses, as is the other.
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl SecureTable {
    /// A TLS connection begins.
    pub(super) fn start(&mut self, index: u32) {
        let takeover = Takeover::Never;
        self.by_slot.insert(index, Secure { session: None, wire: Outbox::new(), ended: false, takeover });
    }

    /// It is over.
    pub(super) fn end(&mut self, index: u32, frames: &mut Frames) {
        if let Some(mut secure) = self.by_slot.remove(&index) {
            secure.wire.clear(frames);
        }
        self.by_kernel.remove(&index);
    }

    /// Whether something is sealed and not yet sent.
    pub(super) fn has_wire(&self, index: u32) -> bool {
        self.by_slot.get(&index).is_some_and(|secure| !secure.wire.is_empty())
    }

    /// So many bytes of what is sealed were sent.
    pub(super) fn sent(&mut self, id: ConnId, bytes: u32, frames: &mut Frames) {
        if let Some(secure) = self.by_slot.get_mut(&id.index) {
            secure.wire.consume(frames, bytes);
            if secure.takeover != Takeover::Never && secure.wire.is_empty() {
                self.candidates.push(id);
            }
        }
    }

    /// Moves what the socket did not take into a chunk of its own: the one that it is in is shared by all of a turn.
    pub(super) fn shelter(&mut self, index: u32, frames: &mut Frames) {
        let Some(wire) = self.by_slot.get_mut(&index).map(|secure| &mut secure.wire) else { return };
        let left = wire.len_bytes();
        if left > 0 {
            let chunk = frames.alloc(left as usize, LogId::NONE);
            let span = wire.gather(frames, chunk, left);
            wire.clear(frames);
            wire.push(frames, span);
        }
    }

    /// Bytes that are held, without what sessions have on the heap.
    pub(super) fn bytes(&self) -> usize {
        let table = self.by_slot.capacity() * size_of::<(u32, Secure)>();
        let table = table + self.by_kernel.capacity() * size_of::<(u32, KernelSide)>();
        table + self.by_slot.len() * size_of::<Session>() + self.plain.capacity() + self.sealed.capacity()
    }

    /// Bytes that are sealed and not yet sent, for tests.
    pub(super) fn wire_bytes(&self) -> u64 {
        self.by_slot.values().map(|secure| u64::from(secure.wire.len_bytes())).sum()
    }

    /// TLS connections, for tests.
    pub(super) fn len(&self) -> usize {
        self.by_slot.len() + self.by_kernel.len()
    }
}

impl Shard {
    /// Bytes that a TLS connection has sent.
    pub(super) fn unseal(&mut self, id: ConnId, bytes: &mut [u8]) {
        let core = &mut self.core;
        if !core.conns.get(id).is_some_and(|conn| !matches!(conn.phase, Phase::Flushing | Phase::Lingering)) {
            return;
        }
        let Some(secure) = core.secure.by_slot.get_mut(&id.index) else { return };
        let Some(session) = secure.session.as_mut().filter(|session| session.is_open()) else {
            return core.shake(id, bytes);
        };
        let (mut plain, mut reply) = (mem::take(&mut core.secure.plain), Vec::new());
        let outcome = session.receive(bytes, &mut plain, &mut reply);
        if !reply.is_empty() {
            core.put_on_wire(id, &reply);
            core.mark_dirty(id.index);
        }
        if !plain.is_empty() {
            self.inbound(id, &mut plain);
        }
        self.core.secure.plain = recycled(plain);
        match outcome {
            Ok(Progress::Ended) => self.core.end_of_stream(id),
            Ok(_) => {}
            Err(broken) => self.core.seal_broke(id, &broken),
        }
    }
}

impl Core {
    /// A connection of a TLS listener.
    pub(super) fn start_tls(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.flags.set_tls(true);
        self.secure.start(id.index);
        self.counters.tls_connections.add(1);
    }

    /// Goes on with a handshake, on a thread of its own. Until it comes back, the connection is not read from.
    fn shake(&mut self, id: ConnId, bytes: &[u8]) {
        let Some(secure) = self.secure.by_slot.get_mut(&id.index) else { return };
        let session = secure.session.take();
        let taken = self.aides.handshakes.as_ref().is_some_and(|threads| threads.go_on(self.id, id, session, bytes));
        if !taken {
            self.counters.tls_shed.add(1);
            return self.terminate(id, CloseReason::Refused);
        }
        if let Some(conn) = self.conns.get_mut(id) {
            conn.flags.set_shaking(true);
        }
    }

    /// A step of a handshake is done.
    pub(super) fn shaken(&mut self, shaken: Shaken) {
        let Shaken { conn: id, session, reply, plain, progress } = shaken;
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.flags.set_shaking(false);
        let is_over = session.is_none();
        let is_open = progress == Progress::Open;
        let takeover = if is_open { self.takeover_of(session.as_deref()) } else { Takeover::Never };
        if let Some(secure) = self.secure.by_slot.get_mut(&id.index) {
            (secure.session, secure.takeover) = (session, takeover);
        }
        self.put_on_wire(id, &reply);
        match progress {
            _ if is_over => {
                self.counters.tls_failed.add(1);
                self.flush_and_close(id, CloseReason::Protocol);
                return self.mark_dirty(id.index);
            }
            Progress::Handshake => {}
            Progress::Open => self.counters.tls_ok.add(1),
            // What it sent with its last words is taken up first; the end of its socket follows.
            Progress::Ended if plain.is_empty() => return self.end_of_stream(id),
            Progress::Ended => {}
        }
        self.mark_dirty(id.index);
        let Some(conn) = self.conns.get_mut(id).filter(|_| !plain.is_empty()) else { return self.want_read(id) };
        conn.flags.set_undecoded(true);
        self.undecoded.push_back((id, plain));
    }

    /// The client broke TLS: nothing that it sends can be trusted, and no more can be sealed.
    fn seal_broke(&mut self, id: ConnId, broken: &crate::tls::Broken) {
        log_conn!(self, id, why = %broken, "TLS was broken");
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.outbox.clear(&mut self.frames);
        if let Some(secure) = self.secure.by_slot.get_mut(&id.index) {
            secure.session = None;
        }
        self.backend_closes(id);
        self.flush_and_close(id, CloseReason::Protocol);
        self.mark_dirty(id.index);
    }

    /// Sends what is on the wire; if nothing is, what the outbox has for one send, sealed.
    pub(super) fn flush_sealed(&mut self, id: ConnId) {
        if !self.secure.has_wire(id.index) {
            self.seal(id);
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        let wire = self.secure.by_slot.get(&id.index).map(|secure| &secure.wire);
        let Some((front, total)) = wire.and_then(|wire| Some((wire.front()?, wire.len_bytes()))) else {
            // Before the handshake is done, what waits to be sealed goes on waiting.
            return if conn.outbox.is_empty() {
                self.flushed(id)
            };
        };
        conn.flags.set_sending(true);
        let awaited = conn.phase != Phase::Open || conn.flags.throttled();
        self.attention |= awaited || front.len() < total || !conn.outbox.is_empty();
        self.ops.push(Op::Send { conn: id, span: front });
        self.sent.push(Sent { conn: id, bytes: front.len(), staged: None });
    }

    /// Moves the beginning of an outbox to the wire.
    fn seal(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let SecureTable { by_slot, plain, sealed, .. } = &mut self.secure;
        let session = by_slot.get_mut(&id.index).and_then(|secure| secure.session.as_mut());
        let Some(session) = session.filter(|session| session.is_open() && !conn.outbox.is_empty()) else { return };
        debug_assert!(plain.is_empty() && sealed.is_empty(), "buffers are empty between their uses");
        for span in conn.outbox.spans() {
            let room = u32::try_from(SEALED_AT_ONCE - plain.len()).unwrap_or(0);
            plain.extend_from_slice(self.frames.bytes(Span { end: span.start + span.len().min(room), ..span }));
        }
        conn.outbox.consume(&mut self.frames, plain.len() as u32);
        let mut records = mem::take(sealed);
        let outcome = session.seal(plain, &mut records);
        plain.clear();
        match outcome {
            Ok(()) => self.put_on_wire(id, &records),
            Err(broken) => self.seal_broke(id, &broken),
        }
        self.secure.sealed = recycled(records);
    }

    /// Whether the client is yet to be told that nothing more comes; then it is on the wire now.
    pub(super) fn seal_end(&mut self, id: ConnId) -> bool {
        let Some(secure) = self.secure.by_slot.get_mut(&id.index).filter(|secure| !secure.ended) else { return false };
        secure.ended = true;
        let mut record = Vec::new();
        let session = secure.session.as_mut().filter(|session| session.is_open());
        if session.is_none_or(|session| session.seal_end(&mut record).is_err()) {
            return false;
        }
        self.put_on_wire(id, &record);
        self.mark_dirty(id.index);
        true
    }

    /// Puts records behind those that are on the wire.
    fn put_on_wire(&mut self, id: ConnId, records: &[u8]) {
        if records.is_empty() {
            return;
        }
        let chunk = self.stage(records.len());
        let Some(secure) = self.secure.by_slot.get_mut(&id.index) else { return };
        let span = self.frames.append(chunk, &[records]);
        self.frames.retain(chunk, 1);
        secure.wire.push(&mut self.frames, span);
    }
}

/// A buffer for the next turn: empty, and not for ever as large as it once had to be.
fn recycled(mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    if buffer.capacity() > KEPT_BUFFER { Vec::new() } else { buffer }
}
