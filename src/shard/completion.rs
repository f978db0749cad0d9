//! What each kind of completion means: the only match on the kind.

use crate::error::CloseReason;
use crate::limits::{MAX_UNDECODED, READ_BUFFER_BYTES};
use crate::ring::op::{Arrivals, Completion, Op};
use crate::ring::sys;
use crate::ring::token::{ConnId, Kind};

use super::flush::unread;
use super::{Core, Shard};

impl Shard {
    /// Takes in a turn's completions. `arrivals` lends the bytes that a receive has read, and knows who was accepted.
    ///
    /// Sends come first: until they are accounted for, an outbox does not know what is still to be sent. Then the mail:
    /// what was posted before a client asked to subscribe is older than its subscription, and it must not get it.
    pub fn complete(&mut self, completions: &[Completion], arrivals: &mut impl Arrivals) {
        self.core.forget_keys();
        for completion in completions.iter().filter(|completion| completion.token.kind == Kind::Send) {
            self.core.send_fell_short(*completion);
        }
        self.core.settle();
        self.core.read_mail();
        for completion in completions {
            let id = completion.token.conn;
            match completion.token.kind {
                Kind::Accept => self.core.accept_completed(*completion, arrivals.peer(id.index as u16)),
                Kind::Readable => self.core.readable(*completion),
                Kind::Writable => self.core.writable(id),
                Kind::Receive => {
                    self.core.buffers.push(completion.buffer);
                    match self.core.received(*completion) {
                        0 => {}
                        bytes => self.arrived(id, arrivals.buffer(completion.buffer, bytes)),
                    }
                }
                Kind::ReceiveRecord => {
                    self.core.buffers.push(completion.buffer);
                    self.core.record_read(id);
                    match self.core.received(*completion) {
                        0 => {}
                        bytes => {
                            let kind = arrivals.record_kind(completion.buffer);
                            self.record_arrived(id, kind, arrivals.buffer(completion.buffer, bytes));
                        }
                    }
                }
                Kind::TlsAttached => self.core.tls_attached(*completion),
                Kind::TlsInstalled => self.core.tls_installed(*completion),
                Kind::Shutdown => self.core.shutdown_completed(id),
                // A shard never discards.
                Kind::Send | Kind::Wake | Kind::Close | Kind::Cancel | Kind::Discard => {}
            }
        }
        // Before more is read in this turn.
        self.core.bound_incomplete();
    }

    /// Bytes have come from a connection.
    pub(super) fn arrived(&mut self, id: ConnId, bytes: &mut [u8]) {
        let Some(flags) = self.core.conns.get(id).map(|conn| conn.flags) else { return };
        match (flags.headless(), flags.in_session()) {
            (true, _) => self.proxy_header(id, bytes),
            (_, true) => self.unseal(id, bytes),
            _ => self.inbound(id, bytes),
        }
    }

    /// Asks for the bytes of connections that have some; `false` if there is nothing to read. What the receives bring is
    /// handled in the same turn, so that a message does not wait for the sends of a turn twice.
    pub fn receive(&mut self) -> bool {
        let before = self.core.ops.len();
        if !self.core.behind {
            self.decode_rest();
            self.core.receive();
        }
        self.core.ops.len() > before
    }
}

impl Core {
    /// The poll says that there is something to read, or that the peer is gone.
    fn readable(&mut self, completion: Completion) {
        let id = completion.token.conn;
        let Some(conn) = self.conns.get_mut(id) else { return };
        if completion.result < 0 {
            return self.terminate(id, CloseReason::Lost);
        }
        if completion.result & sys::POLL_HANG_UP != 0 {
            conn.flags.set_hung_up(true);
        }
        if !completion.more {
            self.counters.rearmed.add(1);
            self.ops.push(Op::Watch(id));
        }
        self.want_read(id);
    }

    /// Queues a connection to be read from, unless it has to wait.
    pub(super) fn want_read(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.flags.readable() || conn.flags.is_not_read() {
            return;
        }
        conn.flags.set_readable(true);
        self.readable.push_back(id);
    }

    /// The bytes that a receive read, or 0 where there is nothing to do but what is done here.
    fn received(&mut self, completion: Completion) -> usize {
        let id = completion.token.conn;
        let Some(conn) = self.conns.get_mut(id) else { return 0 };
        match completion.result {
            0 => self.end_of_stream(id),
            count if count > 0 => {
                let bytes = count as usize;
                self.counters.bytes_in.add(bytes as u64);
                let pace = self.meters.charge_bytes(id.index, bytes, self.now);
                conn.flags.set_heard(true);
                // A short read has drained the socket; the poll tells of what comes later, but not of the end that
                // it has told of already, nor of a record behind that is no data.
                let more = bytes == READ_BUFFER_BYTES || conn.flags.hung_up() || conn.flags.kernel_tls();
                if more {
                    self.want_read(id);
                }
                return if self.floods(id, pace) { 0 } else { bytes };
            }
            error if error == -sys::EAGAIN || error == -sys::EINTR => {}
            error if error == -sys::EIO && conn.flags.kernel_tls() && completion.token.kind == Kind::Receive => {
                self.no_data(id)
            }
            // What comes is sealed with keys that the kernel is yet to get.
            error if error == -sys::EKEYEXPIRED && conn.flags.kernel_tls() => {}
            _ => {
                let reason = if conn.is_open() { CloseReason::Lost } else { conn.reason };
                self.terminate(id, reason);
            }
        }
        0
    }

    /// Turns the queue of readable connections into receives, as many as there are buffers. A busy connection goes to
    /// the back of the queue, so one turn reads at most one buffer of it.
    fn receive(&mut self) {
        while let Some(&buffer) = self.buffers.last().filter(|_| self.undecoded.len() < MAX_UNDECODED) {
            let Some(id) = self.readable.pop_front() else { break };
            let Some(conn) = self.conns.get_mut(id) else { continue };
            conn.flags.set_readable(false);
            if conn.flags.is_not_read() {
                continue;
            }
            self.buffers.pop();
            let is_record = conn.flags.kernel_tls() && self.secure.reads_record(id.index);
            self.ops.push(if is_record {
                Op::ReceiveRecord { conn: id, buffer }
            } else {
                Op::Receive { conn: id, buffer }
            });
        }
    }

    /// After a connection was read from: does it have to wait before it is read from again?
    pub(super) fn pace(&mut self, id: ConnId, posted: bool) {
        let congested = posted && self.congested();
        let backlog = self.settings.backlog;
        let Some(conn) = self.conns.get_mut(id) else { return };
        let sends_nothing = conn.flags.blocked() || conn.held > 0;
        if sends_nothing && conn.outbox.len_bytes() > unread(conn, backlog) {
            conn.flags.set_throttled(true);
        }
        if congested && !conn.flags.paused() {
            conn.flags.set_paused(true);
            self.paused.push(id);
            self.counters.publish_paused.add(1);
        }
    }

    /// Reads again from those who were paused, if the congestion is over.
    pub(super) fn resume_paused(&mut self) {
        if self.paused.is_empty() || self.congested() {
            return;
        }
        for id in std::mem::take(&mut self.paused) {
            if let Some(conn) = self.conns.get_mut(id) {
                conn.flags.set_paused(false);
                self.want_read(id);
            }
        }
    }
}
