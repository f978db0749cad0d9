//! Outboxes → sends: one contiguous send per connection and turn, and what becomes of those that fall short.

use crate::conn::outbox::Verdict;
use crate::conn::{Conn, Phase, Session};
use crate::error::CloseReason;
use crate::hub::frame::{LogId, Span};
use crate::limits::{MAX_BACKEND_BACKLOG, MAX_SHARED_CHUNK};
use crate::ring::op::{Completion, Op};
use crate::ring::token::ConnId;
use crate::time::Tick;

use super::{Core, Notice};

/// A send of this turn. It is taken to have succeeded unless a completion says otherwise.
pub(super) struct Sent {
    pub(super) conn: ConnId,
    pub(super) bytes: u32,
    /// The chunk that the bytes were gathered in, if they were.
    pub(super) staged: Option<u32>,
}

/// What may be left in the outbox of a connection whose socket takes bytes before the shard reads nothing more, so that
/// its publishers cannot outrun one send a turn.
const BEHIND_BYTES: u32 = MAX_SHARED_CHUNK as u32;
/// Chunks that gathered bytes of this turn are in.
pub(super) const STAGE_BYTES: usize = 64 * 1024;

/// Bytes that may wait for a connection to read them before it is not read from either.
pub(super) fn unread(conn: &Conn, backlog: u32) -> u32 {
    if conn.is_backend() { MAX_BACKEND_BACKLOG } else { backlog }
}

impl Core {
    /// Puts a connection on the list of those to send to.
    #[inline]
    pub(super) fn mark_dirty(&mut self, index: u32) {
        if let Some((_, conn)) = self.conns.by_index(index)
            && !conn.flags.dirty()
        {
            conn.flags.set_dirty(true);
            self.dirty.push(index);
        }
    }

    /// Turns the dirty list into send operations.
    pub(super) fn flush(&mut self) {
        (self.attention, self.behind) = (false, false);
        // By index: a connection that ends here may let go of others that were held, which join the end of the list.
        let (mut next, mut later) = (0, 0);
        while let Some(&index) = self.dirty.get(next) {
            if !self.flush_one(index) {
                self.dirty[later] = index;
                later += 1;
            }
            next += 1;
        }
        self.dirty.truncate(later);
        if let Some(stage) = self.stage.take() {
            self.frames.release(stage, 1);
        }
    }

    /// Sends to a connection that is on the list; `false` if that must wait for the next turn.
    #[inline]
    fn flush_one(&mut self, index: u32) -> bool {
        // Who was put on the list may have ended since, and another have come to its slot, and be on the list itself.
        let Some((id, conn)) = self.conns.by_index(index).filter(|(_, conn)| conn.flags.dirty()) else { return true };
        // A backend that was sent to may be told, in this very flush, of a client that has ended: never two sends in one.
        if conn.flags.sending() {
            return false;
        }
        conn.flags.set_dirty(false);
        if conn.flags.blocked() || conn.held > 0 {
            return true;
        }
        if conn.flags.in_session() {
            self.flush_sealed(id);
            return true;
        }
        if conn.flags.kernel_tls() && self.flush_record(id) {
            return true;
        }
        let Some(conn) = self.conns.get_mut(id) else { return true };
        let Some(front) = conn.outbox.front() else {
            self.flushed(id);
            return true;
        };
        conn.flags.set_sending(true);
        let total = conn.outbox.len_bytes();
        let is_sealed = conn.flags.kernel_tls();
        let awaited = conn.phase != Phase::Open || conn.flags.throttled();
        let (span, staged) = if front.len() == total {
            (front, None)
        } else {
            let span = self.gather(index, front);
            (span, (span.chunk != front.chunk).then_some(span.chunk))
        };
        // A send that succeeds posts nothing: whoever waits for what comes after it must not wait for a completion.
        self.attention |= awaited || span.len() < total || span.len() as usize > STAGE_BYTES;
        self.ops.push(match self.secure.by_kernel.get_mut(&index).filter(|_| is_sealed) {
            None => Op::Send { conn: id, span },
            Some(side) => {
                side.sends(span.len());
                Op::SendSealed { conn: id, span }
            }
        });
        self.sent.push(Sent { conn: id, bytes: span.len(), staged });
        true
    }

    /// Many small spans as one: a send costs three microseconds, copying 64 KiB less than that. A front span that is
    /// large by itself is sent as it is.
    fn gather(&mut self, index: u32, front: Span) -> Span {
        if front.len() as usize >= STAGE_BYTES / 4 {
            return front;
        }
        let Some((_, conn)) = self.conns.by_index(index) else { return front };
        let wanted = (conn.outbox.len_bytes() as usize).min(STAGE_BYTES);
        let stage = self.stage(wanted);
        let Some((_, conn)) = self.conns.by_index(index) else { return front };
        let span = conn.outbox.gather(&mut self.frames, stage, wanted as u32);
        self.frames.retain(stage, 1);
        span
    }

    /// The chunk that bytes of this turn are gathered in, with room for `wanted`.
    pub(super) fn stage(&mut self, wanted: usize) -> u32 {
        match self.stage {
            Some(stage) if self.frames.room(stage) >= wanted => stage,
            full => {
                if let Some(full) = full {
                    self.frames.release(full, 1);
                }
                let stage = self.frames.alloc(STAGE_BYTES.max(wanted), LogId::NONE);
                self.stage = Some(stage);
                stage
            }
        }
    }

    /// A send posted a completion: the socket took `result` bytes, or failed.
    pub(super) fn send_fell_short(&mut self, completion: Completion) {
        let id = completion.token.conn;
        let is_sealed = self.conns.get(id).is_some_and(|conn| conn.flags.kernel_tls());
        if is_sealed && self.kernel_took(id, completion.result) {
            return;
        }
        self.counters.sends_short.add(1);
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.flags.set_sending(false);
        match completion.result {
            // Not one byte, or not all: the rest goes when the socket is writable again.
            result if result >= 0 || result == -crate::ring::sys::EAGAIN => {
                let taken = result.max(0) as u32;
                if taken > 0 {
                    took(conn, self.now);
                }
                if conn.flags.in_session() {
                    self.secure.sent(id, taken, &mut self.frames);
                    self.secure.shelter(id.index, &mut self.frames);
                } else {
                    conn.outbox.consume(&mut self.frames, taken);
                }
                self.counters.bytes_out.add(u64::from(taken));
                conn.flags.set_blocked(true);
                if !conn.flags.lagging() {
                    conn.flags.set_lagging(true);
                    self.watch.lagging.insert(id.index, self.now);
                }
                self.ops.push(Op::AwaitWritable(id));
                self.counters.backlogged.add(1);
                self.enforce_backlog(id);
                self.unthrottle(id);
            }
            _ => self.terminate(id, CloseReason::Lost),
        }
    }

    /// Accounts for the sends of the enter that has just returned. Call after every [`Core::send_fell_short`] of it.
    pub(super) fn settle(&mut self) {
        let mut sent = std::mem::take(&mut self.sent);
        let mut bytes = 0;
        self.counters.sends.add(sent.len() as u64);
        for send in sent.drain(..) {
            if let Some(stage) = send.staged {
                self.frames.release(stage, 1);
            }
            let Some(conn) = self.conns.get_mut(send.conn) else { continue };
            if !conn.flags.sending() {
                continue;
            }
            conn.flags.set_sending(false);
            took(conn, self.now);
            if conn.flags.in_session() {
                self.secure.sent(send.conn, send.bytes, &mut self.frames);
            } else {
                conn.outbox.consume(&mut self.frames, send.bytes);
            }
            let is_flushed =
                conn.outbox.is_empty() && !(conn.flags.in_session() && self.secure.has_wire(send.conn.index));
            if is_flushed && conn.flags.lagging() {
                conn.flags.set_lagging(false);
                self.watch.lagging.remove(&send.conn.index);
            }
            bytes += u64::from(send.bytes);
            if conn.has_untold_drops() && conn.outbox.len_bytes() <= self.settings.backlog {
                self.notices.push(Notice::Drained(send.conn));
            }
            if !is_flushed {
                self.behind |= conn.outbox.len_bytes() > BEHIND_BYTES;
                self.mark_dirty(send.conn.index);
            } else if conn.phase != Phase::Open {
                self.flushed(send.conn);
            }
            self.unthrottle(send.conn);
        }
        self.counters.bytes_out.add(bytes);
        self.counters.backlog_bytes.set(self.frames.queued_bytes());
        self.sent = sent;
    }

    /// The socket takes bytes again.
    pub(super) fn writable(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if !conn.flags.blocked() {
            return;
        }
        conn.flags.set_blocked(false);
        // The peer has acknowledged bytes: it lives, however long its backlog keeps our ping from it.
        conn.flags.set_heard(true);
        self.counters.backlogged.sub(1);
        self.notices.push(Notice::Drained(id));
        self.mark_dirty(id.index);
    }

    /// Reads on from a connection that has read what it was sent, up to a backlog. Not before: every read that is
    /// answered with more than the socket took would let the outbox grow.
    fn unthrottle(&mut self, id: ConnId) {
        let backlog = self.settings.backlog;
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.flags.throttled() && conn.outbox.len_bytes() <= unread(conn, backlog) {
            conn.flags.set_throttled(false);
            self.want_read(id);
        }
    }

    /// Brings the backlog of a connection that takes nothing within its bound.
    pub(super) fn enforce_backlog(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        // What a backend is sent is bounded before it is put there.
        if !conn.is_open() || conn.is_backend() || conn.outbox.len_bytes() <= self.settings.backlog {
            return;
        }
        match conn.outbox.enforce(&mut self.frames, self.settings.backlog, self.settings.backlog_policy) {
            Verdict::Kept => {}
            Verdict::Dropped { count } => {
                use crate::conn::outbox::BacklogPolicy::*;
                let dropped = match self.settings.backlog_policy {
                    DropOldest => &self.counters.dropped_oldest,
                    DropNewest => &self.counters.dropped_newest,
                    Latest => &self.counters.dropped_latest,
                    Close => &self.counters.dropped_close,
                };
                dropped.add(u64::from(count));
                conn.session.make_room();
                if let Some(untold) = conn.session.dropped() {
                    *untold = untold.saturating_add(count);
                }
            }
            Verdict::Close => self.close_overrun(id),
        }
    }

    /// Gives up a backlog: what was begun is finished, the rest is dropped and counted, and 1013 says why.
    pub(super) fn close_overrun(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let dropped = conn.outbox.clear_unsent(&mut self.frames);
        self.counters.dropped_close.add(u64::from(dropped));
        self.close(id, 1013, "backlog", CloseReason::Backlog);
    }
}

/// A connection's socket has taken something.
#[inline]
fn took(conn: &mut Conn, now: Tick) {
    if let Session::Events(stream) = &mut conn.session {
        stream.sent = now;
    }
}
