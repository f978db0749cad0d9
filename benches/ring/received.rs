//! Receives that wait for bytes themselves: one for each message, or one for all.
#![allow(unsafe_code)]

use std::io;

use io_uring::{cqueue, opcode, squeue, types};

use crate::buffers::{GROUP, Provided};
use crate::serve::{Kind, Meter, Served, Work, failed, push_send, tag, untag};
use crate::uring::{Uring, Wait};

/// <linux/io_uring.h>: flags of a receive's `ioprio`.
const POLL_FIRST: u16 = 1 << 0;
const MULTISHOT: u16 = 1 << 1;
const BUNDLE: u16 = 1 << 4;

/// Bytes of the buffer that each connection's single-shot receive has.
const OWN_BUFFER_BYTES: usize = 4096;

/// A multishot receive.
#[derive(Clone, Copy)]
pub struct Multishot {
    /// Wait for the socket's report at first, without trying.
    pub poll_first: bool,
    /// One completion for as many buffers as are filled.
    pub bundle: bool,
    /// Provided buffers, a power of two, and their size.
    pub buffers: (u16, usize),
}

/// Serves the ring's first `slots` files by one receive a message, each into its connection's own buffer. With
/// `poll_first`, it waits for the socket's report without trying.
pub fn serve_single(ring: Uring, slots: u32, poll_first: bool, work: Work) -> io::Result<Served> {
    let mut memory = vec![0; slots as usize * OWN_BUFFER_BYTES];
    let base: *mut u8 = memory.as_mut_ptr();
    // A local, so that it is dropped before the memory.
    let mut ring = ring;
    let mut meter = Meter::new(work);
    let arm = |ring: &mut Uring, slot: u32| {
        let buffer = base.wrapping_add(slot as usize * OWN_BUFFER_BYTES);
        let receive = opcode::Recv::new(types::Fixed(slot), buffer, OWN_BUFFER_BYTES as u32);
        let receive = receive.ioprio(if poll_first { POLL_FIRST } else { 0 }).build();
        // SAFETY: the buffer is this connection's alone, and `ring` is dropped before it.
        unsafe { ring.push(&receive.user_data(tag(Kind::Received, 0, slot))) }
    };
    (0..slots).try_for_each(|slot| arm(&mut ring, slot))?;
    let mut completions = Vec::new();
    loop {
        ring.turn(Wait::One)?;
        ring.drain(&mut completions);
        for completion in &completions {
            let (kind, _, slot) = untag(completion.user_data());
            let (Kind::Received, count @ 1..) = (kind, completion.result()) else {
                return Err(failed(kind, slot, completion.result()));
            };
            meter.add(count as usize);
            if meter.echoes() {
                let bytes = base.wrapping_add(slot as usize * OWN_BUFFER_BYTES);
                // SAFETY: the send is over before the receive after it begins.
                unsafe { push_send(&mut ring, slot, bytes, count as usize) }?;
            }
            arm(&mut ring, slot)?;
        }
        if let Some(served) = meter.read_ring(&ring)? {
            ring.settle()?;
            return Ok(served);
        }
    }
}

/// The state of a loop of multishot receives. The ring is dropped before the buffers.
struct Received {
    ring: Uring,
    provided: Provided,
    how: Multishot,
    completions: Vec<cqueue::Entry>,
    /// Buffers that have been read, or are being sent.
    taken: Vec<u16>,
    meter: Meter,
}

/// Serves the ring's first `slots` files by one receive a connection.
pub fn serve_multishot(ring: Uring, slots: u32, how: Multishot, work: Work) -> io::Result<Served> {
    let provided = Provided::new(&ring, how.buffers.0, how.buffers.1)?;
    let (completions, taken, meter) = (Vec::new(), Vec::new(), Meter::new(work));
    let mut received = Received { ring, provided, how, completions, taken, meter };
    (0..slots).try_for_each(|slot| arm(&mut received.ring, slot, how))?;
    loop {
        received.turn()?;
        if let Some(served) = received.meter.read_ring(&received.ring)? {
            received.ring.settle()?;
            return Ok(served);
        }
    }
}

fn arm(ring: &mut Uring, slot: u32, how: Multishot) -> io::Result<()> {
    // SAFETY: its memory is the ring's provided buffers.
    unsafe { ring.push(&receive(slot, how)) }
}

/// Asks for everything that a connection sends.
pub fn receive(slot: u32, how: Multishot) -> squeue::Entry {
    let mut flags = MULTISHOT;
    flags |= if how.poll_first { POLL_FIRST } else { 0 };
    flags |= if how.bundle { BUNDLE } else { 0 };
    let receive = opcode::Recv::new(types::Fixed(slot), std::ptr::null_mut(), 0).ioprio(flags).buf_group(GROUP);
    receive.build().flags(squeue::Flags::BUFFER_SELECT).user_data(tag(Kind::Received, 0, slot))
}

impl Received {
    /// Sends what the last turn received, waits, handles what has come.
    fn turn(&mut self) -> io::Result<()> {
        self.ring.turn(Wait::One)?;
        self.provided.give_back(&mut self.taken);
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.drain(&mut completions);
        for completion in &completions {
            let (kind, _, slot) = untag(completion.user_data());
            match (kind, completion.result(), cqueue::buffer_select(completion.flags())) {
                (Kind::Received, count @ 1.., Some(buffer)) => self.received(slot, buffer, count as usize)?,
                (Kind::Received, result, None) if result == -libc::ENOBUFS => {}
                (kind, result, _) => return Err(failed(kind, slot, result)),
            }
            if !cqueue::more(completion.flags()) {
                arm(&mut self.ring, slot, self.how)?;
            }
        }
        self.completions = completions;
        if !self.meter.echoes() {
            self.provided.give_back(&mut self.taken);
        }
        Ok(())
    }

    fn received(&mut self, slot: u32, buffer: u16, count: usize) -> io::Result<()> {
        for piece in self.provided.take(buffer, count, &mut self.taken) {
            if self.meter.echoes() {
                // SAFETY: the buffer is given back after the next enter, and `ring` is dropped before it.
                unsafe { push_send(&mut self.ring, slot, piece.as_ptr(), piece.len()) }?;
            }
        }
        self.meter.add(count);
        Ok(())
    }
}
