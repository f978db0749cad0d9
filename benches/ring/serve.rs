//! The serving side of an echo or of a stream: what all ways to receive have in common.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::{opcode, squeue, types};

use crate::sys::{self, Epoll, SEND_FLAGS};
use crate::uring::Uring;

/// Of the bytes of a sample, one of so many warms up.
const WARM_UP: u64 = 10;

/// What there is to do.
#[derive(Clone, Copy)]
pub struct Work {
    /// Until so many bytes have come.
    pub bytes: u64,
    /// Send back what comes; or else throw it away.
    pub echo: bool,
}

/// What it took, after the warm-up.
#[derive(Clone, Copy, Default)]
pub struct Served {
    pub bytes: u64,
    pub cpu: Duration,
    /// CPU of the ring's poller.
    pub poller: Duration,
    pub enters: u64,
}

impl Served {
    /// CPU of a message of so many bytes in nanoseconds: of this thread, and of the ring's poller.
    pub fn cost(&self, message: usize) -> [f64; 2] {
        [self.cpu, self.poller].map(|cpu| cpu.as_nanos() as f64 * message as f64 / self.bytes as f64)
    }

    /// Messages for each system call of the ring.
    pub fn batch(&self, message: usize) -> f64 {
        self.bytes as f64 / message as f64 / self.enters as f64
    }
}

/// Counts bytes, and the cost of those after the warm-up.
pub struct Meter {
    work: Work,
    handled: u64,
    /// Bytes, CPU of the two threads, and enters, when the warm-up was over.
    start: Option<(u64, [Duration; 2], u64)>,
}

impl Meter {
    pub fn new(work: Work) -> Meter {
        Meter { work, handled: 0, start: None }
    }

    pub fn echoes(&self) -> bool {
        self.work.echo
    }

    pub fn add(&mut self, bytes: usize) {
        self.handled += bytes as u64;
    }

    /// Call once a turn; what it took, once everything has been handled.
    pub fn read(&mut self, now: impl FnOnce() -> io::Result<([Duration; 2], u64)>) -> io::Result<Option<Served>> {
        match self.start {
            None if self.handled >= self.work.bytes / WARM_UP => {
                let (cpu, enters) = now()?;
                self.start = Some((self.handled, cpu, enters));
            }
            Some((bytes, before, enters)) if self.handled >= self.work.bytes => {
                let (after, all_enters) = now()?;
                let [cpu, poller] = [0, 1].map(|i| after[i].saturating_sub(before[i]));
                let (bytes, enters) = (self.handled - bytes, all_enters - enters);
                return Ok(Some(Served { bytes, cpu, poller, enters }));
            }
            _ => {}
        }
        Ok(None)
    }

    /// The same for what a ring does.
    pub fn read_ring(&mut self, ring: &Uring) -> io::Result<Option<Served>> {
        self.read(|| Ok((ring.cpu()?, ring.enters())))
    }
}

/// What a completion is about: kind in the top byte, read buffer below, slot in the low half.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Readable,
    Received,
    Sent,
}

pub fn tag(kind: Kind, buffer: usize, slot: u32) -> u64 {
    (kind as u64) << 56 | (buffer as u64) << 32 | u64::from(slot)
}

/// Kind, read buffer, slot.
pub fn untag(bits: u64) -> (Kind, usize, u32) {
    let kind = [Kind::Readable, Kind::Received, Kind::Sent][(bits >> 56) as usize];
    (kind, (bits >> 32) as usize & 0xff_ffff, bits as u32)
}

/// Queues a send as the server's.
///
/// # Safety
/// The bytes have to live until an enter that submitted it has returned; with a poller, until a later completion.
pub unsafe fn push_send(ring: &mut Uring, slot: u32, bytes: *const u8, length: usize) -> io::Result<()> {
    let send = opcode::Send::new(types::Fixed(slot), bytes, length as u32).flags(SEND_FLAGS).build();
    // SAFETY: by this function's own condition, since MSG_DONTWAIT ends the send within its submission.
    unsafe { ring.push(&send.flags(squeue::Flags::SKIP_SUCCESS).user_data(tag(Kind::Sent, 0, slot))) }
}

/// An operation that must not fail did.
pub fn failed(kind: Kind, slot: u32, result: i32) -> io::Error {
    io::Error::other(format!("slot {slot}: {kind:?} gave {result}"))
}

/// Without a ring: epoll, `recv(2)`, `send(2)`.
pub fn by_epoll(files: &[RawFd], work: Work) -> io::Result<Served> {
    let epoll = Epoll::new()?;
    for (name, &file) in files.iter().enumerate() {
        epoll.add(file, name as u32)?;
    }
    let mut meter = Meter::new(work);
    let mut readable = VecDeque::new();
    let mut buffer = vec![0; 64 << 10];
    let mut waits = 0;
    let mut names = Vec::new();
    loop {
        waits += 1;
        epoll.wait(&mut names, true)?;
        readable.extend(names.drain(..));
        while let Some(name) = readable.pop_front() {
            let file = files[name as usize];
            let count = sys::receive(file, &mut buffer)?;
            if meter.echoes() {
                sys::send(file, &buffer[..count])?;
            }
            meter.add(count);
        }
        if let Some(served) = meter.read(|| Ok(([sys::loop_cpu()?, Duration::ZERO], waits)))? {
            return Ok(served);
        }
    }
}
