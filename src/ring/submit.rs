//! From operations to submission-queue entries, and from completion-queue entries to completions. No side effects.

use std::os::fd::RawFd;

use io_uring::squeue::{Entry, Flags};
use io_uring::{cqueue, opcode, types};

use super::addresses::Addresses;
use super::buffers::Buffers;
use super::ktls::{Record, Records, ULP};
use super::op::{Completion, Op};
use super::token::{ConnId, Kind, Token};
use crate::hub::frame::{Frames, Span};
use crate::limits::{ACCEPTS, MAX_CONNECTIONS_PER_SHARD, READ_BUFFER_BYTES, READ_BUFFERS};

/// A receive's token has its read buffer above the bits that a slot needs.
const BUFFER_SHIFT: u32 = MAX_CONNECTIONS_PER_SHARD.trailing_zeros();

/// No descriptor has this number.
const NO_DESCRIPTOR: RawFd = -1;

const _: () = assert!(READ_BUFFERS as u64 <= 1 << (u32::BITS - BUFFER_SHIFT));
const _: () = assert!(READ_BUFFER_BYTES <= i32::MAX as usize, "a receive's result is its count");

/// What operations refer to.
pub(super) struct Ground<'a> {
    /// What [`Op::Accept`] accepts from.
    pub listeners: &'a [RawFd],
    /// What [`Op::Send`] sends.
    pub frames: &'a Frames,
    /// What [`Op::Receive`] reads into.
    pub buffers: &'a mut Buffers,
    /// What [`Op::Accept`] writes addresses to.
    pub addresses: &'a mut Addresses,
    /// What [`Op::SendRecord`] and [`Op::ReceiveRecord`] have their messages in.
    pub records: &'a mut Records,
}

/// The entry for an operation.
pub(super) fn entry(op: Op, ground: &mut Ground<'_>) -> Entry {
    match op {
        Op::Accept { seat } => accept(seat, ground),
        Op::CancelAccept { seat } => cancel(Kind::Accept, Token::seat(seat)),
        Op::Watch(conn) => opcode::PollAdd::new(slot(conn), (libc::POLLIN | libc::POLLRDHUP) as u32)
            .multi(true)
            .build()
            .user_data(bits(Kind::Readable, conn)),
        Op::Unwatch(conn) => cancel(Kind::Readable, conn),
        Op::AwaitWritable(conn) => {
            opcode::PollAdd::new(slot(conn), libc::POLLOUT as u32).build().user_data(bits(Kind::Writable, conn))
        }
        Op::CancelWritable(conn) => cancel(Kind::Writable, conn),
        Op::Receive { conn, buffer } => receive(conn, buffer, ground.buffers.get(buffer)),
        Op::Discard { conn, bytes } => discard(conn, bytes),
        Op::Send { conn, span } => send(conn, span, ground.frames),
        Op::AttachTls(conn) => set_option(conn, libc::SOL_TCP, libc::TCP_ULP, ULP, Kind::TlsAttached),
        Op::InstallTls { conn, keys, receive } => {
            let direction = if receive { libc::TLS_RX } else { libc::TLS_TX };
            set_option(conn, libc::SOL_TLS, direction, ground.frames.bytes(keys), Kind::TlsInstalled)
        }
        Op::SendSealed { conn, span } => send_sealed(conn, ground.frames.bytes(span)),
        Op::SendRecord { conn, record } => send_record(conn, record, ground.records),
        Op::ReceiveRecord { conn, buffer } => receive_record(conn, buffer, ground),
        Op::Shutdown(conn) => {
            opcode::Shutdown::new(slot(conn), libc::SHUT_WR).build().user_data(bits(Kind::Shutdown, conn))
        }
        Op::Close(conn) => {
            opcode::Close::new(slot(conn)).build().flags(Flags::SKIP_SUCCESS).user_data(bits(Kind::Close, conn))
        }
    }
}

/// Without a listener, the accept fails (`EBADF`).
fn accept(seat: u16, ground: &mut Ground<'_>) -> Entry {
    let listener = ground.listeners.get(usize::from(seat / ACCEPTS)).copied().unwrap_or(NO_DESCRIPTOR);
    let (address, len) = ground.addresses.prepare(seat);
    opcode::Accept::new(types::Fd(listener), address, len)
        .file_index(Some(types::DestinationSlot::auto_target()))
        .build()
        .user_data(bits(Kind::Accept, Token::seat(seat)))
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
    decode(entry.user_data(), entry.result(), entry.flags())
}

fn decode(user_data: u64, result: i32, flags: u32) -> Option<Completion> {
    let mut token = Token::from_bits(user_data)?;
    let mut buffer = 0;
    if matches!(token.kind, Kind::Receive | Kind::ReceiveRecord) {
        buffer = (token.conn.index >> BUFFER_SHIFT) as u16;
        token.conn.index &= MAX_CONNECTIONS_PER_SHARD - 1;
    }
    Some(Completion { token, result, more: cqueue::more(flags), buffer })
}

fn receive(conn: ConnId, buffer: u16, memory: &mut [u8]) -> Entry {
    opcode::Recv::new(slot(conn), memory.as_mut_ptr(), memory.len() as u32)
        .flags(libc::MSG_DONTWAIT)
        .build()
        .user_data(bits_of_receive(Kind::Receive, conn, buffer))
}

fn receive_record(conn: ConnId, buffer: u16, ground: &mut Ground<'_>) -> Entry {
    let message = ground.records.incoming(buffer, ground.buffers.get(buffer));
    opcode::RecvMsg::new(slot(conn), message).flags(libc::MSG_DONTWAIT as u32).build().user_data(bits_of_receive(
        Kind::ReceiveRecord,
        conn,
        buffer,
    ))
}

fn bits_of_receive(kind: Kind, conn: ConnId, buffer: u16) -> u64 {
    debug_assert!(conn.index < MAX_CONNECTIONS_PER_SHARD);
    bits(kind, ConnId { index: conn.index | u32::from(buffer) << BUFFER_SHIFT, ..conn })
}

/// With `MSG_TRUNC`, a TCP socket takes bytes off its queue and writes none (tcp(7)).
fn discard(conn: ConnId, bytes: u32) -> Entry {
    opcode::Recv::new(slot(conn), std::ptr::null_mut(), bytes)
        .flags(libc::MSG_DONTWAIT | libc::MSG_TRUNC)
        .build()
        .user_data(bits(Kind::Discard, conn))
}

fn send(conn: ConnId, span: Span, frames: &Frames) -> Entry {
    let bytes = frames.bytes(span);
    opcode::Send::new(slot(conn), bytes.as_ptr(), bytes.len() as u32)
        .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(bits(Kind::Send, conn))
}

/// Without `MSG_WAITALL`, which a socket of kernel TLS refuses. So a short send counts as a success, and a success has to be told.
fn send_sealed(conn: ConnId, bytes: &[u8]) -> Entry {
    opcode::Send::new(slot(conn), bytes.as_ptr(), bytes.len() as u32)
        .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        .build()
        .user_data(bits(Kind::Send, conn))
}

fn send_record(conn: ConnId, record: Record, records: &mut Records) -> Entry {
    opcode::SendMsg::new(slot(conn), records.outgoing(record))
        .flags((libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32)
        .build()
        .user_data(bits(Kind::Send, conn))
}

/// The kernel reads the value when the operation is submitted: setting an option of TLS waits for nothing.
fn set_option(conn: ConnId, level: i32, option: i32, value: &[u8], kind: Kind) -> Entry {
    opcode::SetSockOpt::new(slot(conn), level as u32, option as u32, value.as_ptr().cast(), value.len() as u32)
        .build()
        .user_data(bits(kind, conn))
}

/// Ends an accept or a poll, which then completes with `-ECANCELED`. If it has ended already, this completes with
/// `-ENOENT`. Not a `POLL_REMOVE`: that fails with `-EALREADY`, and the poll lives on and holds the socket open, if the
/// poll has been triggered and its completion work has yet to run.
fn cancel(kind: Kind, conn: ConnId) -> Entry {
    opcode::AsyncCancel::new(bits(kind, conn)).build().flags(Flags::SKIP_SUCCESS).user_data(bits(Kind::Cancel, conn))
}

fn slot(conn: ConnId) -> types::Fixed {
    types::Fixed(conn.index)
}

fn bits(kind: Kind, conn: ConnId) -> u64 {
    Token::new(kind, conn).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::frame::LogId;

    const CONN: ConnId = ConnId { index: MAX_CONNECTIONS_PER_SHARD - 1, generation: ConnId::GENERATION_MASK };
    const LISTENER: RawFd = 5;

    /// The fields of `struct io_uring_sqe` (<linux/io_uring.h>) that matter here.
    #[derive(PartialEq, Debug)]
    struct Fields {
        opcode: u8,
        flags: u8,
        ioprio: u16,
        fd: i32,
        addr: u64,
        len: u32,
        op_flags: u32,
        user_data: u64,
        file_index: u32,
    }

    fn fields(entry: Entry) -> Fields {
        // SAFETY: an entry is 64 bytes without padding, and was zeroed before it was filled.
        let bytes: [u8; 64] = unsafe { std::mem::transmute(entry) };
        let u32_at = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        Fields {
            opcode: bytes[0],
            flags: bytes[1],
            ioprio: u16::from_ne_bytes([bytes[2], bytes[3]]),
            fd: u32_at(4) as i32,
            addr: u64_at(16),
            len: u32_at(24),
            op_flags: u32_at(28),
            user_data: u64_at(32),
            file_index: u32_at(44),
        }
    }

    fn of(op: Op, frames: &Frames, buffers: &mut Buffers) -> Fields {
        let addresses = &mut Addresses::new(usize::from(2 * ACCEPTS));
        let records = &mut Records::new();
        fields(entry(op, &mut Ground { listeners: &[LISTENER, LISTENER + 1], frames, buffers, addresses, records }))
    }

    const FIXED: u8 = 1;
    const SKIP: u8 = 1 << 6;

    #[test]
    fn operations_on_sockets_name_the_registered_slot() {
        let (mut frames, mut buffers) = (Frames::new(), Buffers::new());
        let chunk = frames.alloc(8, LogId::NONE);
        frames.append(chunk, &[b"abc"]);
        let span = frames.append(chunk, &[b"defgh"]);
        for (op, opcode, flags, len, op_flags, kind) in [
            (Op::Watch(CONN), 6, FIXED, 1, 0x2001, Kind::Readable),
            (Op::AwaitWritable(CONN), 6, FIXED, 0, 4, Kind::Writable),
            (Op::Send { conn: CONN, span }, 26, FIXED | SKIP, 5, 0x40 | 0x100 | 0x4000, Kind::Send),
            (Op::Shutdown(CONN), 34, FIXED, 1, 0, Kind::Shutdown),
            (Op::Discard { conn: CONN, bytes: 9 }, 27, FIXED, 9, 0x40 | 0x20, Kind::Discard),
        ] {
            let addr = if kind == Kind::Send { frames.bytes(span).as_ptr() as u64 } else { 0 };
            let (fd, user_data) = (CONN.index as i32, bits(kind, CONN));
            let expected = Fields { opcode, flags, ioprio: 0, fd, addr, len, op_flags, user_data, file_index: 0 };
            assert_eq!(of(op, &frames, &mut buffers), expected, "{op:?}");
        }
    }

    #[test]
    fn an_accept_takes_any_free_slot_of_its_seats_listener() {
        for (seat, listener) in [(0, LISTENER), (ACCEPTS - 1, LISTENER), (ACCEPTS, LISTENER + 1)] {
            let fields = of(Op::Accept { seat }, &Frames::new(), &mut Buffers::new());
            assert_eq!((fields.opcode, fields.flags, fields.ioprio, fields.fd), (13, 0, 0, listener));
            assert_eq!((fields.len, fields.op_flags, fields.file_index), (0, 0, u32::MAX));
            assert_ne!(fields.addr, 0, "the address is wanted");
            assert_eq!(fields.user_data, bits(Kind::Accept, Token::seat(seat)));
        }
    }

    #[test]
    fn cancels_name_what_they_end_and_are_silent() {
        for (op, target, conn) in [
            (Op::CancelAccept { seat: 3 }, Kind::Accept, Token::seat(3)),
            (Op::Unwatch(CONN), Kind::Readable, CONN),
            (Op::CancelWritable(CONN), Kind::Writable, CONN),
        ] {
            let fields = of(op, &Frames::new(), &mut Buffers::new());
            let is = (fields.opcode, fields.flags, fields.addr, fields.user_data);
            assert_eq!(is, (14, SKIP, bits(target, conn), bits(Kind::Cancel, conn)), "{op:?}");
        }
    }

    #[test]
    fn a_close_names_the_slot_plus_one() {
        let fields = of(Op::Close(CONN), &Frames::new(), &mut Buffers::new());
        assert_eq!((fields.opcode, fields.fd, fields.file_index), (19, 0, CONN.index + 1));
        assert_eq!(fields.flags & SKIP, SKIP);
    }

    #[test]
    fn a_receives_buffer_and_connection_come_back_from_its_user_data() {
        let (frames, mut buffers) = (Frames::new(), Buffers::new());
        for buffer in [0, 1, READ_BUFFERS - 1] {
            for conn in [CONN, ConnId { index: 0, generation: 0 }] {
                let fields = of(Op::Receive { conn, buffer }, &frames, &mut buffers);
                assert_eq!((fields.opcode, fields.flags, fields.op_flags), (27, FIXED, 0x40));
                assert_eq!((fields.fd, fields.len as usize), (conn.index as i32, READ_BUFFER_BYTES));
                assert_eq!(fields.addr, buffers.get(buffer).as_ptr() as u64);
                let completion = decode(fields.user_data, 17, 2).unwrap();
                let token = Token::new(Kind::Receive, conn);
                assert_eq!(completion, Completion { token, result: 17, more: true, buffer });
            }
        }
        assert_eq!(decode(u64::MAX, 0, 0), None);
    }
}
