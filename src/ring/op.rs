//! What a shard wants of the kernel, as values: the ring turns them into submissions, a test into anything it likes.

use std::net::IpAddr;

use super::ktls::Record;
use super::token::{ConnId, Token};
use crate::hub::frame::Span;

/// One operation. They are submitted in the order given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Accept one connection into a free slot, and its address into a seat. A seat's accepts come one after the other.
    Accept {
        /// Of the listener of index `seat / ACCEPTS`.
        seat: u16,
    },
    /// End [`Op::Accept`].
    CancelAccept {
        /// Its seat.
        seat: u16,
    },
    /// Report every time the connection has bytes to read or is hung up (multishot poll).
    Watch(ConnId),
    /// End [`Op::Watch`].
    Unwatch(ConnId),
    /// Report once when the connection takes bytes again (one-shot poll).
    AwaitWritable(ConnId),
    /// End [`Op::AwaitWritable`].
    CancelWritable(ConnId),
    /// Read what is there into a read buffer, without waiting: done, one way or the other, when the enter returns.
    Receive {
        /// From whom.
        conn: ConnId,
        /// Index of the read buffer, which is the ring's alone until the completion was handled.
        buffer: u16,
    },
    /// Throw away up to so many bytes of what is there, in the kernel and without waiting: done when the enter returns. The
    /// completion has their number.
    Discard {
        /// Whose.
        conn: ConnId,
        /// At most; below 2³¹.
        bytes: u32,
    },
    /// Send a span without waiting: when the enter returns, it was either sent whole and posts nothing,
    /// or a completion tells how much was sent.
    Send {
        /// To whom. At most one send of a connection is in one batch of operations.
        conn: ConnId,
        /// What; the caller keeps it alive until the enter returned.
        span: Span,
    },
    /// Let the kernel take over a socket's TLS records once it gets their keys; until then nothing changes. Always posts a
    /// completion, within the enter that submits it.
    AttachTls(ConnId),
    /// Give the kernel the keys of one direction of a socket that is attached, or the next ones. Always posts a completion, within
    /// the enter that submits it.
    InstallTls {
        /// Whose.
        conn: ConnId,
        /// A [`super::ktls::CryptoInfo`]; the caller keeps it alive until the enter returned.
        keys: Span,
        /// The keys that what comes is opened with; otherwise those that what is sent is sealed with.
        receive: bool,
    },
    /// As [`Op::Send`], of a connection whose kernel seals: a completion always tells how much was sent.
    SendSealed {
        /// To whom.
        conn: ConnId,
        /// What.
        span: Span,
    },
    /// Send a record that is no data, of a connection whose kernel seals, without waiting. Counts as a send, and always posts its
    /// completion.
    SendRecord {
        /// To whom.
        conn: ConnId,
        /// Which.
        record: Record,
    },
    /// As [`Op::Receive`], of a connection whose kernel opens, and whatever the record's type, which [`Arrivals::record_kind`]
    /// then says.
    ReceiveRecord {
        /// From whom.
        conn: ConnId,
        /// Index of the read buffer.
        buffer: u16,
    },
    /// Send FIN, keep reading. Always posts a completion, and not within the enter that submits it: a kernel worker
    /// does it, which looks the slot up only then. The slot must not be closed before.
    Shutdown(ConnId),
    /// Give the slot back and close the socket; posts only if there was nothing to close. The slot may be accepted
    /// into at once. An armed poll keeps the socket open: end it before. A shutdown on its way must have completed.
    Close(ConnId),
}

/// The kernel's answer to an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion {
    /// What it answers.
    pub token: Token,
    /// A count, slot or poll mask; or an error number, negative.
    pub result: i32,
    /// A multishot operation goes on; `false`: it has ended and must be asked for again.
    pub more: bool,
    /// The read buffer of a [`super::token::Kind::Receive`] or a [`super::token::Kind::ReceiveRecord`].
    pub buffer: u16,
}

/// Where receives put what they read, and accepts who has come: a ring's own memory, or a test's.
pub trait Arrivals {
    /// The first `len` bytes of a buffer whose receive has completed with that count.
    fn buffer(&mut self, index: u16, len: usize) -> &mut [u8];

    /// Who was accepted in a seat whose accept has completed.
    fn peer(&self, seat: u16) -> IpAddr;

    /// The type of the record that a [`Op::ReceiveRecord`] has put into a buffer; `None` if it is not known.
    fn record_kind(&self, _buffer: u16) -> Option<u8> {
        None
    }
}

/// How long an enter may wait for a completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Submit, collect what is there, return.
    None,
    /// Until there is a completion, or so many nanoseconds have passed.
    AtMost(u64),
    /// Until there is a completion.
    Forever,
}
