//! A bare fan-out: the same bytes to every socket, in one way or another.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::{Probe, cqueue, opcode, squeue, types};

use crate::crowd::Peers;
use crate::sys::{self, SEND_FLAGS};
use crate::uring::{Uring, Wait, needs};

/// What carries the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// The ring's SEND of one range.
    Send,
    /// The ring's SEND for each piece.
    SendEach,
    /// The ring's SENDMSG of all pieces.
    SendMessage,
    /// The ring's SEND of a copy of all pieces, made for each socket.
    SendCopy,
    /// The ring's SEND_ZC of one range.
    SendZeroCopy,
    /// `send(2)` of one range.
    Syscall,
}

/// A way to send.
#[derive(Clone, Copy)]
pub struct Way {
    pub call: Call,
    /// Sockets of one submission.
    pub batch: usize,
    /// With `MSG_DONTWAIT`.
    pub never_waits: bool,
    /// A send that succeeds posts no completion.
    pub skips: bool,
    /// The ring's registered files instead of descriptors.
    pub fixed: bool,
}

/// What the server does.
pub const SERVERS: Way = Way { call: Call::Send, batch: 128, never_waits: true, skips: true, fixed: true };

/// Everything that a fan-out needs.
pub struct Fan<'a> {
    ring: Uring,
    way: Way,
    /// In pieces of `piece` bytes, one behind the other.
    bytes: &'a [u8],
    piece: usize,
    /// The registered files to send to, in this order.
    slots: &'a [u32],
    /// The descriptor of each slot; empty if the way has no need for them.
    files: &'a [RawFd],
    /// The pieces, for SENDMSG.
    vector: Vec<libc::iovec>,
    header: libc::msghdr,
    copies: Vec<u8>,
    completions: Vec<cqueue::Entry>,
}

impl<'a> Fan<'a> {
    pub fn new(ring: Uring, way: Way, bytes: &'a [u8], slots: &'a [u32], files: &'a [RawFd]) -> io::Result<Fan<'a>> {
        needs(way.call != Call::SendZeroCopy || supports(&ring, opcode::SendZc::CODE)?)?;
        // SAFETY: all of its fields are integers and pointers, for which zero is valid.
        let header = unsafe { std::mem::zeroed() };
        let copies = vec![0; way.batch * bytes.len()];
        let (piece, vector, completions) = (bytes.len(), Vec::new(), Vec::new());
        Ok(Fan { ring, way, bytes, piece, slots, files, vector, header, copies, completions })
    }

    /// In pieces of so many bytes.
    pub fn in_pieces(mut self, piece: usize) -> Fan<'a> {
        let part = |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        self.piece = piece;
        self.vector = self.bytes.chunks(piece).map(part).collect();
        self.header.msg_iov = self.vector.as_mut_ptr();
        self.header.msg_iovlen = self.vector.len();
        self
    }

    /// From now on, to these.
    pub fn in_order(&mut self, slots: &'a [u32]) -> &mut Fan<'a> {
        self.slots = slots;
        self
    }

    /// Sends everything to everybody so many times, and once before. Returns the mean CPU time of one socket's, in
    /// nanoseconds: of the loop, and of the ring's poller. The peers read between the rounds, which is not counted.
    pub fn measure(&mut self, rounds: u64, peers: &Peers) -> io::Result<[f64; 2]> {
        let mut spent = [Duration::ZERO; 2];
        for round in 0..=rounds {
            let before = self.ring.cpu()?;
            self.round()?;
            let after = self.ring.cpu()?;
            peers.discard(self.bytes.len())?;
            if round > 0 {
                (0..2).for_each(|i| spent[i] += after[i].saturating_sub(before[i]));
            }
        }
        let sends = rounds as f64 * self.slots.len() as f64;
        Ok(spent.map(|time| time.as_nanos() as f64 / sends))
    }

    fn round(&mut self) -> io::Result<()> {
        let slots = self.slots;
        if self.way.call == Call::Syscall {
            return slots.iter().try_for_each(|&slot| sys::send(self.files[slot as usize], self.bytes));
        }
        for batch in slots.chunks(self.way.batch) {
            self.submit(batch)?;
        }
        Ok(())
    }

    fn submit(&mut self, batch: &[u32]) -> io::Result<()> {
        let mut reported = 0;
        for (place, &slot) in batch.iter().enumerate() {
            // Who polls tells with the last send that all are done.
            let skips = self.way.skips && !(self.ring.is_polled() && place + 1 == batch.len());
            let pieces = if self.way.call == Call::SendEach { self.bytes.len() / self.piece } else { 1 };
            for piece in 0..pieces {
                let entry = self.entry(slot, place, piece);
                let entry = if skips { entry.flags(squeue::Flags::SKIP_SUCCESS) } else { entry };
                // SAFETY: the bytes outlive the fan. What never waits is over when the enters below return; of what
                // may wait, and of zero-copy sends, the completions are awaited there.
                unsafe { self.ring.push(&entry) }?;
                reported += usize::from(!skips);
            }
        }
        self.ring.enter(Wait::No)?;
        self.reap(reported)
    }

    /// Waits for the completions that are due, and for no others.
    fn reap(&mut self, mut due: usize) -> io::Result<()> {
        loop {
            self.ring.drain(&mut self.completions);
            for completion in &self.completions {
                due = due.checked_sub(1).ok_or_else(|| failed(completion))?;
                let is_notice = cqueue::notif(completion.flags());
                if !is_notice && completion.result() as usize != self.expected() {
                    return Err(failed(completion));
                }
                due += usize::from(cqueue::more(completion.flags()));
            }
            match due {
                0 => return Ok(()),
                _ => self.ring.enter(Wait::One)?,
            }
        }
    }

    fn expected(&self) -> usize {
        if self.way.call == Call::SendEach { self.piece } else { self.bytes.len() }
    }

    fn entry(&mut self, slot: u32, place: usize, piece: usize) -> squeue::Entry {
        let flags = if self.way.never_waits { SEND_FLAGS } else { SEND_FLAGS & !libc::MSG_DONTWAIT };
        let file = types::Fd(if self.way.fixed { slot as RawFd } else { self.files[slot as usize] });
        let send = |bytes: &[u8]| opcode::Send::new(file, bytes.as_ptr(), bytes.len() as u32).flags(flags).build();
        let entry = match self.way.call {
            // Nobody asks for the entry of a system call.
            Call::Send | Call::Syscall => send(self.bytes),
            Call::SendEach => send(&self.bytes[piece * self.piece..][..self.piece]),
            Call::SendMessage => opcode::SendMsg::new(file, &raw const self.header).flags(flags as u32).build(),
            Call::SendCopy => send(self.copy(place)),
            Call::SendZeroCopy => {
                let (bytes, length) = (self.bytes.as_ptr(), self.bytes.len() as u32);
                opcode::SendZc::new(file, bytes, length).flags(flags).build()
            }
        };
        if self.way.fixed { entry.flags(squeue::Flags::FIXED_FILE) } else { entry }
    }

    /// Gathers the pieces in a place of their own.
    fn copy(&mut self, place: usize) -> &[u8] {
        let copy = &mut self.copies[place * self.bytes.len()..][..self.bytes.len()];
        for (to, from) in copy.chunks_mut(self.piece).zip(self.bytes.chunks(self.piece)) {
            to.copy_from_slice(from);
        }
        copy
    }
}

fn failed(completion: &cqueue::Entry) -> io::Error {
    io::Error::other(format!("a send gave {}", completion.result()))
}

fn supports(ring: &Uring, code: u8) -> io::Result<bool> {
    let mut probe = Probe::new();
    ring.raw().submitter().register_probe(&mut probe)?;
    Ok(probe.is_supported(code))
}
