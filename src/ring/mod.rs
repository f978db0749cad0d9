//! The kernel's ring: the only module that knows io_uring and libc, and the only one with unsafe code.
//!
//! # A turn of the ring
//! A shard writes what it wants as [`Op`] values. [`Ring::enter`] submits them, in order and in batches of the
//! submission queue, waits in the system call of the last batch, and then goes on collecting deferred completions
//! until there are none or a good batch is together. [`Ring::drain`] hands out the [`Completion`]s.
//!
//! ```text
//! ops ─▶ submit ─▶ SQ ─▶ io_uring_enter ─▶ CQ ─▶ drain ─▶ completions ─▶ shard ─▶ ops
//! ```
//!
//! # Who owns what
//! - Connections exist in the ring's registered-file table only, not in the process's descriptor table. A slot is
//!   allocated by the kernel at accept and freed by [`Op::Close`].
//! - **No memory of a shard's is the kernel's after an enter returned.** Receives and sends carry `MSG_DONTWAIT`, which makes
//!   io_uring answer `-EAGAIN` rather than arm a poll and retry later; so each is over within the enter that submits
//!   it. Sends carry `MSG_WAITALL` besides, without which a short send counts as a success, and a success posts no
//!   completion.
//! - The one thing that the kernel writes to later are the seats of accepts, which are the ring's own (`addresses.rs`).
//! - If an enter fails or panics half-way, entries that point into frames may be left in the submission queue. The
//!   ring then refuses to enter again: those entries are never submitted.
//! - An armed poll holds the socket open: [`Op::Unwatch`] and [`Op::CancelWritable`] come before [`Op::Close`], or
//!   the peer sees no FIN. The ended poll's own completion (`-ECANCELED`) may arrive after the close; the generation
//!   in its token says so.
//! - [`Op::Shutdown`] runs on a kernel worker, and looks its slot up only there. [`Op::Close`] must wait for the
//!   shutdown's completion, or it could hit the slot's next tenant.
//! - Dropping the ring cancels what is armed and closes every connection and the listener.
//!
//! # Kernel versions
//! Linux 6.1 (Debian 12) is the oldest that can work: `DEFER_TASKRUN`, which runs completion work inside our own
//! enter and nowhere else, appeared there. An accept into a slot that the kernel allocates needs 5.19, skipped
//! completions 5.17. Newer features are used where they are, see [`Features`] and [`ktls`]; nothing depends on them.

#![allow(unsafe_code)]

mod addresses;
mod buffers;
pub mod dial;
pub mod inherit;
pub mod ktls;
pub mod op;
mod probe;
mod submit;
pub mod sys;
#[cfg(test)]
mod tests;
pub mod token;
mod wake;

use std::io;
use std::marker::PhantomData;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;
use std::vec::Drain;

use socket2::Socket;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue};

use addresses::Addresses;
use buffers::Buffers;
use ktls::Records;
use op::{Arrivals, Completion, Op, Wait};
pub use probe::{Features, KTLS_KERNEL, MIN_KERNEL, SetupError};
use token::Kind;
pub use wake::WakeFd;

use submit::Ground;

use crate::hub::frame::Frames;
use crate::limits::ACCEPTS;

/// Completions after which a turn of the ring is good enough, even if the kernel has more.
const TURN_COMPLETIONS: usize = 512;
/// Enters that collect deferred completions of one turn. Newer kernels deliver 20 an enter, older ones all.
const TURN_ENTERS: usize = TURN_COMPLETIONS.div_ceil(20);
/// Tries of an enter that fails for want of kernel memory or queue space before the ring gives up.
const RETRIES: u32 = 1000;
/// How long dropping the ring may wait for the end of what is armed.
const CANCEL_TIMEOUT: Timespec = Timespec::new().sec(1);

/// What a ring is made of.
pub struct Setup {
    /// Connections at most: entries of the registered-file table, which `RLIMIT_NOFILE` bounds (see [`Ring::slots`]).
    pub slots: u32,
    /// Where connections come from, once [`Op::Accept`] is given. Closed with the ring. A ring of clients has none, and
    /// is given its connections by [`Ring::adopt`].
    pub listeners: Vec<TcpListener>,
    /// Writes to it complete with [`Kind::Wake`].
    pub wake: Arc<WakeFd>,
}

/// What a ring has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Calls of `io_uring_enter`.
    pub enters: u64,
    /// Operations submitted.
    pub submissions: u64,
    /// Completions handed out.
    pub completions: u64,
    /// Times that the completion queue was found full. Nothing is lost then, but multishots may have ended.
    pub overflows: u64,
}

/// Entries of the two queues.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    submissions: u32,
    completions: u32,
}

/// Twice the deliveries of a turn; and completions enough that overflow, which ends multishots, is a rarity.
const SIZES: Sizes = Sizes { submissions: 512, completions: 8192 };

const _: () = assert!(SIZES.submissions as usize >= 2 * crate::limits::DELIVERIES_PER_TURN);
const _: () = assert!(SIZES.completions >= 4 * SIZES.submissions);

/// One shard's io_uring, with its registered files, read buffers and listeners.
///
/// It belongs to the thread that made it (`IORING_SETUP_SINGLE_ISSUER`), so it is not [`Send`].
pub struct Ring {
    uring: IoUring,
    buffers: Buffers,
    /// `None` only while the ring is dropped.
    addresses: Option<Addresses>,
    records: Records,
    /// They are closed with the ring.
    _listeners: Vec<TcpListener>,
    /// Their descriptors.
    doors: Vec<RawFd>,
    wake: Arc<WakeFd>,
    features: Features,
    /// Completions moved out of a queue that was in danger of overflowing.
    stowed: Vec<cqueue::Entry>,
    stats: Stats,
    /// The poll of `wake` has to be armed with the next enter.
    wake_ended: bool,
    /// An enter began and did not succeed.
    broken: bool,
    _stays_on_its_thread: PhantomData<*const ()>,
}

impl Ring {
    /// Makes the ring of this thread.
    ///
    /// Errors say in words which limit, sysctl or policy stands in the way.
    pub fn new(setup: Setup) -> Result<Ring, SetupError> {
        Ring::with_sizes(setup, SIZES)
    }

    fn with_sizes(setup: Setup, sizes: Sizes) -> Result<Ring, SetupError> {
        let (uring, features) = probe::build(sizes, setup.slots)?;
        Ok(Ring {
            uring,
            buffers: Buffers::new(),
            addresses: Some(Addresses::new(setup.listeners.len() * usize::from(ACCEPTS))),
            records: Records::new(),
            doors: setup.listeners.iter().map(AsRawFd::as_raw_fd).collect(),
            _listeners: setup.listeners,
            wake: setup.wake,
            features,
            stowed: Vec::new(),
            stats: Stats::default(),
            wake_ended: true,
            broken: false,
            _stays_on_its_thread: PhantomData,
        })
    }

    /// What the kernel offers and the ring uses.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Connections that the registered-file table has room for.
    pub fn slots(&self) -> u32 {
        self.features.slots
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Submits `ops` in order and leaves the vector empty, then waits for completions as `wait` says.
    ///
    /// When it returns, every [`Op::Send`] and [`Op::Receive`] of `ops` is over, and what it posted comes with the
    /// next [`Ring::drain`]. A signal may end the wait early.
    ///
    /// # Errors
    /// None that the caller could mend: the ring is of no use after one, and says so when entered again.
    ///
    /// # Panics
    /// If an operation names a read buffer or a span that does not exist.
    pub fn enter(&mut self, ops: &mut Vec<Op>, frames: &Frames, wait: Wait) -> io::Result<()> {
        if mem::replace(&mut self.broken, true) {
            return Err(io::Error::other("the ring failed before and is of no use any more"));
        }
        self.turn(ops.drain(..), frames, wait)?;
        self.broken = false;
        Ok(())
    }

    /// Puts a socket into a slot, and out of the process's descriptor table. The slot has to be free: whatever is in it is
    /// dropped.
    ///
    /// # Errors
    /// There is no such slot, or no kernel memory.
    pub fn adopt(&mut self, slot: u32, socket: Socket) -> io::Result<()> {
        self.uring.submitter().register_files_update(slot, &[socket.as_raw_fd()]).map(drop)
    }

    /// Appends every completion there is to `out`, oldest first.
    pub fn drain(&mut self, out: &mut Vec<Completion>) {
        for entry in self.stowed.drain(..).chain(self.uring.completion()) {
            let Some(completion) = submit::completion(&entry) else { continue };
            self.stats.completions += 1;
            self.wake_ended |= completion.token.kind == Kind::Wake && !completion.more;
            out.push(completion);
        }
    }

    fn turn(&mut self, mut ops: Drain<'_, Op>, frames: &Frames, wait: Wait) -> io::Result<()> {
        let wait = if wait == Wait::AtMost(0) { Wait::None } else { wait };
        self.arm_wake();
        self.push(&mut ops, frames);
        while !ops.as_slice().is_empty() {
            self.submit(Wait::None)?;
            self.make_room()?;
            self.push(&mut ops, frames);
        }
        let wait = if self.stowed.is_empty() { wait } else { Wait::None };
        if wait != Wait::None || !self.uring.submission().is_empty() {
            self.submit(wait)?;
        }
        self.make_room()?;
        self.collect_deferred()
    }

    /// Asks for completions of the wake descriptor, if that is not armed. The submission queue is empty before.
    fn arm_wake(&mut self) {
        if mem::take(&mut self.wake_ended) {
            let entry = submit::watch_wake(self.wake.as_raw_fd());
            // SAFETY: the entry refers to no memory, and the ring keeps the descriptor open as long as it lives.
            unsafe { self.uring.submission().push(&entry) }.expect("the submission queue is empty between enters");
        }
    }

    /// Moves operations into the submission queue until it is full or they are at an end.
    fn push(&mut self, ops: &mut Drain<'_, Op>, frames: &Frames) {
        let Some(addresses) = &mut self.addresses else { return };
        let (buffers, records) = (&mut self.buffers, &mut self.records);
        let mut ground = Ground { listeners: &self.doors, frames, buffers, addresses, records };
        let mut queue = self.uring.submission();
        let room = queue.capacity() - queue.len();
        for op in ops.take(room) {
            let entry = submit::entry(op, &mut ground);
            // SAFETY: the listeners' descriptors, the read buffers, the seats' addresses and the records' messages live as long as the
            // ring. A send's bytes and keys are borrowed until the enter that called this returns; it submits the entry before, or
            // leaves the ring broken so that nobody will; MSG_DONTWAIT ends the send within its submission, and keys are read there.
            unsafe { queue.push(&entry) }.expect("as many as there was room for");
        }
    }

    /// Enters the kernel until it took every submission and waited once.
    fn submit(&mut self, mut wait: Wait) -> io::Result<()> {
        let mut retries = RETRIES;
        loop {
            let pending = self.uring.submission().len();
            let result = self.enter_kernel(pending, wait);
            let left = self.uring.submission().len();
            self.stats.enters += 1;
            self.stats.submissions += (pending - left) as u64;
            let taken = left == 0;
            match result.map_err(|error| (error.raw_os_error(), error)) {
                // The timeout is over, or a signal came: an error only if there was nothing to submit.
                Ok(_) | Err((Some(libc::ETIME | libc::EINTR), _)) if taken => return Ok(()),
                Ok(_) | Err((Some(libc::EINTR), _)) => {}
                Err((Some(libc::EAGAIN | libc::EBUSY), _)) if retries > 0 => {
                    retries -= 1;
                    self.stow();
                    // Not for more, when there may be some already.
                    wait = Wait::None;
                    std::thread::yield_now();
                }
                Err((_, error)) => return Err(error),
            }
        }
    }

    /// One system call: submits `pending` entries, waits, runs the kernel's deferred work.
    fn enter_kernel(&self, pending: usize, wait: Wait) -> io::Result<usize> {
        let timeout = match wait {
            Wait::AtMost(nanos) => Some(Timespec::from(Duration::from_nanos(nanos))),
            Wait::None | Wait::Forever => None,
        };
        let args = timeout.as_ref().map(|timeout| SubmitArgs::new().timespec(timeout));
        let mut flags = EnterFlags::GETEVENTS;
        flags.set(EnterFlags::EXT_ARG, args.is_some());
        flags.set(EnterFlags::NO_IOWAIT, self.features.no_iowait);
        let wanted = u32::from(wait != Wait::None);
        // SAFETY: with EXT_ARG the argument is an io_uring_getevents_arg, which SubmitArgs is, and it and the time it
        // points to outlive the call; without, there is none. What the entries point to is justified at their push.
        unsafe { self.uring.submitter().enter(pending as u32, wanted, flags.bits(), args.as_ref()) }
    }

    /// Empties a completion queue that is half full or has overflowed, so that it does not overflow (again).
    fn make_room(&mut self) -> io::Result<()> {
        let half_full = {
            let queue = self.uring.completion();
            queue.len() > queue.capacity() / 2
        };
        if half_full {
            self.stow();
        }
        while self.uring.submission().cq_overflow() {
            self.stats.overflows += 1;
            self.stow();
            self.submit(Wait::None)?;
        }
        Ok(())
    }

    fn stow(&mut self) {
        self.stowed.extend(self.uring.completion());
    }

    /// Goes on entering while the kernel says it has completions that it did not deliver, for a good batch.
    fn collect_deferred(&mut self) -> io::Result<()> {
        for _ in 0..TURN_ENTERS {
            let enough = self.stowed.len() + self.uring.completion().len() >= TURN_COMPLETIONS;
            if enough || !self.uring.submission().taskrun() {
                break;
            }
            self.submit(Wait::None)?;
            self.make_room()?;
        }
        Ok(())
    }
}

impl Arrivals for Ring {
    /// The first `len` bytes of a read buffer: what a receive read. Its content is stale once the buffer is the
    /// subject of another receive.
    ///
    /// # Panics
    /// If there is no such buffer, or it is shorter than `len`.
    fn buffer(&mut self, index: u16, len: usize) -> &mut [u8] {
        &mut self.buffers.get(index)[..len]
    }

    fn peer(&self, seat: u16) -> IpAddr {
        self.addresses.as_ref().map_or(Ipv4Addr::UNSPECIFIED.into(), |addresses| addresses.get(seat))
    }

    fn record_kind(&self, buffer: u16) -> Option<u8> {
        self.records.kind(buffer)
    }
}

impl Drop for Ring {
    /// The kernel would end everything by itself, but some time after the descriptor is closed. Whoever binds the
    /// listener's port next, or counts descriptors, should not have to wait for that.
    fn drop(&mut self) {
        let cancelled = self.uring.submitter().register_sync_cancel(Some(CANCEL_TIMEOUT), CancelBuilder::any());
        // Accepts that are still armed may be written for: the kernel can have that memory.
        if cancelled.is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
            mem::forget(self.addresses.take());
        }
        // Submits nothing: what a failed enter left in the queue must stay there.
        while self.uring.submission().taskrun() && self.enter_kernel(0, Wait::None).is_ok() {
            self.uring.completion().for_each(drop);
        }
        let _ = self.uring.submitter().unregister_files();
    }
}
