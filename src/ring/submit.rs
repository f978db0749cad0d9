//! From operations to submission-queue entries, and from completion-queue entries to completions. No side effects.

use std::os::fd::RawFd;

use io_uring::squeue::{Entry, Flags};
use io_uring::{cqueue, opcode, types};

use super::buffers::Buffers;
use super::op::{Completion, Op};
use super::token::{ConnId, Kind, Token};
use crate::hub::frame::{Frames, Span};
use crate::limits::{MAX_CONNECTIONS_PER_SHARD, READ_BUFFER_BYTES, READ_BUFFERS};

/// A receive's token has its read buffer above the bits that a slot needs.
const BUFFER_SHIFT: u32 = MAX_CONNECTIONS_PER_SHARD.trailing_zeros();

const _: () = assert!(READ_BUFFERS as u64 <= 1 << (u32::BITS - BUFFER_SHIFT));
const _: () = assert!(READ_BUFFER_BYTES <= i32::MAX as usize, "a receive's result is its count");

/// The entry for an operation. `listener` is what [`Op::Accept`] accepts from.
pub(super) fn entry(op: Op, listener: RawFd, frames: &Frames, buffers: &mut Buffers) -> Entry {
    match op {
        Op::Accept => opcode::AcceptMulti::new(types::Fd(listener))
            .allocate_file_index(true)
            .build()
            .user_data(bits(Kind::Accept, Token::RING)),
        Op::CancelAccept => opcode::AsyncCancel::new(bits(Kind::Accept, Token::RING))
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(bits(Kind::Cancel, Token::RING)),
        Op::Watch(conn) => opcode::PollAdd::new(slot(conn), (libc::POLLIN | libc::POLLRDHUP) as u32)
            .multi(true)
            .build()
            .user_data(bits(Kind::Readable, conn)),
        Op::Unwatch(conn) => end_poll(Kind::Readable, conn),
        Op::AwaitWritable(conn) => {
            opcode::PollAdd::new(slot(conn), libc::POLLOUT as u32).build().user_data(bits(Kind::Writable, conn))
        }
        Op::CancelWritable(conn) => end_poll(Kind::Writable, conn),
        Op::Receive { conn, buffer } => receive(conn, buffer, buffers.get(buffer)),
        Op::Send { conn, span } => send(conn, span, frames),
        Op::Shutdown(conn) => {
            opcode::Shutdown::new(slot(conn), libc::SHUT_WR).build().user_data(bits(Kind::Shutdown, conn))
        }
        Op::Close(conn) => {
            opcode::Close::new(slot(conn)).build().flags(Flags::SKIP_SUCCESS).user_data(bits(Kind::Close, conn))
        }
    }
}

/// The entry that reports every write to the wake descriptor.
pub(super) fn watch_wake(fd: RawFd) -> Entry {
    opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32)
        .multi(true)
        .build()
        .user_data(bits(Kind::Wake, Token::RING))
}

/// What a completion-queue entry means; `None` for one that no operation of ours can have.
pub(super) fn completion(entry: &cqueue::Entry) -> Option<Completion> {
    let mut token = Token::from_bits(entry.user_data())?;
    let mut buffer = 0;
    if token.kind == Kind::Receive {
        buffer = (token.conn.index >> BUFFER_SHIFT) as u16;
        token.conn.index &= MAX_CONNECTIONS_PER_SHARD - 1;
    }
    Some(Completion { token, result: entry.result(), more: cqueue::more(entry.flags()), buffer })
}

fn receive(conn: ConnId, buffer: u16, memory: &mut [u8]) -> Entry {
    debug_assert!(conn.index < MAX_CONNECTIONS_PER_SHARD);
    let index = conn.index | u32::from(buffer) << BUFFER_SHIFT;
    opcode::Recv::new(slot(conn), memory.as_mut_ptr(), memory.len() as u32)
        .flags(libc::MSG_DONTWAIT)
        .build()
        .user_data(bits(Kind::Receive, ConnId { index, ..conn }))
}

fn send(conn: ConnId, span: Span, frames: &Frames) -> Entry {
    let bytes = frames.bytes(span);
    opcode::Send::new(slot(conn), bytes.as_ptr(), bytes.len() as u32)
        .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(bits(Kind::Send, conn))
}

/// Ends a poll, which then completes with `-ECANCELED`. If it has ended already, this completes with `-ENOENT`.
fn end_poll(kind: Kind, conn: ConnId) -> Entry {
    opcode::PollRemove::new(bits(kind, conn)).build().flags(Flags::SKIP_SUCCESS).user_data(bits(Kind::Cancel, conn))
}

fn slot(conn: ConnId) -> types::Fixed {
    types::Fixed(conn.index)
}

fn bits(kind: Kind, conn: ConnId) -> u64 {
    Token::new(kind, conn).to_bits()
}
