//! Receiving what a poll reports, by a second, short enter: what the server does.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;

use io_uring::{cqueue, opcode, types};

use crate::serve::{Kind, Meter, Served, Work, failed, push_send, tag, untag};
use crate::uring::{Uring, Wait};

/// The server's read buffers.
pub const BUFFERS: usize = 32;
pub const BUFFER_BYTES: usize = 64 << 10;

/// How polls are armed, and how much is read in a turn.
#[derive(Clone, Copy)]
pub struct Polls {
    /// One poll for all events, or one for each.
    pub multishot: bool,
    /// Receives of a turn at most.
    pub buffers: usize,
    pub wait: Wait,
}

/// What the server does.
pub const SERVERS: Polls = Polls { multishot: true, buffers: BUFFERS, wait: Wait::One };

/// The state of the loop.
struct Polled {
    ring: Uring,
    polls: Polls,
    memory: Vec<u8>,
    free: Vec<usize>,
    readable: VecDeque<u32>,
    completions: Vec<cqueue::Entry>,
    /// Buffers whose bytes the next enter sends.
    sending: Vec<usize>,
    meter: Meter,
}

/// Serves the ring's first `slots` files until the work is done.
pub fn serve(ring: Uring, slots: u32, polls: Polls, work: Work) -> io::Result<Served> {
    let memory = vec![0; polls.buffers * BUFFER_BYTES];
    let (readable, completions) = (VecDeque::new(), Vec::new());
    let (free, sending, meter) = ((0..polls.buffers).collect(), Vec::new(), Meter::new(work));
    let mut polled = Polled { ring, polls, memory, free, readable, completions, sending, meter };
    (0..slots).try_for_each(|slot| polled.watch(slot))?;
    loop {
        polled.turn()?;
        if let Some(served) = polled.meter.read_ring(&polled.ring)? {
            polled.ring.settle()?;
            return Ok(served);
        }
    }
}

impl Polled {
    /// Sends what the last turn read, waits if there is nothing to read, reads.
    fn turn(&mut self) -> io::Result<()> {
        self.ring.turn(if self.readable.is_empty() { self.polls.wait } else { Wait::No })?;
        self.free.append(&mut self.sending);
        self.handle()?;
        self.receive()?;
        self.ring.turn(Wait::No)?;
        self.handle()?;
        // With a poller, the receives are not over yet.
        while self.free.len() + self.sending.len() < self.polls.buffers {
            self.ring.turn(Wait::One)?;
            self.handle()?;
        }
        Ok(())
    }

    fn watch(&mut self, slot: u32) -> io::Result<()> {
        let poll = opcode::PollAdd::new(types::Fixed(slot), (libc::POLLIN | libc::POLLRDHUP) as u32);
        let poll = poll.multi(self.polls.multishot).build().user_data(tag(Kind::Readable, 0, slot));
        // SAFETY: a poll has no memory.
        unsafe { self.ring.push(&poll) }
    }

    fn receive(&mut self) -> io::Result<()> {
        while let Some(&buffer) = self.free.last() {
            let Some(slot) = self.readable.pop_front() else { break };
            self.free.pop();
            let memory = &mut self.memory[buffer * BUFFER_BYTES..][..BUFFER_BYTES];
            let receive = opcode::Recv::new(types::Fixed(slot), memory.as_mut_ptr(), BUFFER_BYTES as u32);
            let receive = receive.flags(libc::MSG_DONTWAIT).build().user_data(tag(Kind::Received, buffer, slot));
            // SAFETY: the buffer is nobody else's until the completion, and `ring` is dropped before it.
            unsafe { self.ring.push(&receive) }?;
        }
        Ok(())
    }

    fn handle(&mut self) -> io::Result<()> {
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.drain(&mut completions);
        for completion in &completions {
            let (kind, buffer, slot) = untag(completion.user_data());
            match (kind, completion.result()) {
                (Kind::Readable, result) if result > 0 => {
                    if self.polls.multishot && !cqueue::more(completion.flags()) {
                        self.watch(slot)?;
                    }
                    self.readable.push_back(slot);
                }
                (Kind::Received, result) if result > 0 => self.received(slot, buffer, result as usize)?,
                // Told twice of the same bytes.
                (Kind::Received, result) if result == -libc::EAGAIN => self.free.push(buffer),
                (kind, result) => return Err(failed(kind, slot, result)),
            }
        }
        self.completions = completions;
        Ok(())
    }

    fn received(&mut self, slot: u32, buffer: usize, count: usize) -> io::Result<()> {
        self.meter.add(count);
        if self.meter.echoes() {
            let bytes = self.memory[buffer * BUFFER_BYTES..].as_ptr();
            // SAFETY: the buffer is read into again only after the next enter, and `ring` is dropped before it; a
            // poller takes the send before the receive that comes after it.
            unsafe { push_send(&mut self.ring, slot, bytes, count) }?;
            self.sending.push(buffer);
        } else {
            self.free.push(buffer);
        }
        if count == BUFFER_BYTES && self.polls.multishot {
            self.readable.push_back(slot);
        }
        if !self.polls.multishot {
            self.watch(slot)?;
        }
        Ok(())
    }
}
