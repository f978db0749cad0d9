//! A bare ring, set up in one way or another.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use crate::sys;

/// The server's queues.
const SUBMISSIONS: u32 = 512;
const COMPLETIONS: u32 = 8192;
/// The server's turn: completions after which it is good enough, and enters that collect them.
const TURN_COMPLETIONS: usize = 512;
const TURN_ENTERS: usize = TURN_COMPLETIONS.div_ceil(20);
/// How long a poller looks for submissions before it sleeps.
const POLLER_IDLE_MS: u32 = 50;

/// When the kernel runs the work that completes an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Within our own enters only: what the server does.
    Deferred,
    /// At any switch to the kernel, without interrupting user space for it.
    Cooperative,
    /// At once, interrupting the thread if it is in user space.
    Interrupting,
    /// By a kernel thread that looks for submissions, on that CPU.
    Polled { cpu: usize },
}

/// How a ring is set up.
#[derive(Clone, Copy)]
pub struct Setup {
    pub work: Work,
    /// Enter by an index that the kernel keeps for this thread, not by descriptor.
    pub registered: bool,
    pub index_array: IndexArray,
}

/// Whether submissions are named by an array beside the queue, which was a must before 6.6.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum IndexArray {
    /// Only where it is a must.
    IfNeeded,
    Always,
    Never,
}

/// What the server does.
pub const SERVERS: Setup = Setup { work: Work::Deferred, registered: false, index_array: IndexArray::IfNeeded };

/// What to wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Nothing.
    No,
    /// A completion.
    One,
    /// So many, but after so many microseconds no more than one.
    Gather { events: u32, micros: u32 },
    /// A completion, by entering again and again.
    EnterAgain,
    /// A completion, by looking at the queues until the kernel says that it has work.
    Look,
}

/// A ring with registered files.
pub struct Uring {
    ring: IoUring,
    setup: Setup,
    /// The ring's index among the thread's registered rings.
    index: Option<u32>,
    poller: Option<u32>,
    enters: u64,
}

impl Uring {
    /// # Errors
    /// `Unsupported` if this kernel does not have it.
    pub fn new(setup: Setup) -> io::Result<Uring> {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_clamp().setup_cqsize(COMPLETIONS).setup_submit_all();
        match setup.work {
            Work::Deferred => {
                builder.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag().setup_defer_taskrun()
            }
            Work::Cooperative => builder.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag(),
            Work::Interrupting => builder.setup_single_issuer(),
            Work::Polled { cpu } => builder.setup_sqpoll(POLLER_IDLE_MS).setup_sqpoll_cpu(cpu as u32),
        };
        let with = || builder.build(SUBMISSIONS).map_err(unsupported);
        let without = || builder.clone().setup_no_sqarray().build(SUBMISSIONS).map_err(unsupported);
        let ring = match setup.index_array {
            IndexArray::IfNeeded => without().or_else(|_| with())?,
            IndexArray::Always => with()?,
            IndexArray::Never => without()?,
        };
        let poller = match setup.work {
            Work::Polled { .. } => Some(sys::poller_of(ring.as_raw_fd())?),
            _ => None,
        };
        let index = if setup.registered { Some(register_ring(ring.as_raw_fd())?) } else { None };
        Ok(Uring { ring, setup, index, poller, enters: 0 })
    }

    /// A ring whose registered files are these, in this order.
    pub fn with_files(setup: Setup, files: impl Iterator<Item = RawFd>) -> io::Result<Uring> {
        let uring = Uring::new(setup)?;
        uring.ring.submitter().register_files(&files.collect::<Vec<_>>())?;
        Ok(uring)
    }

    /// The ring itself, to register things with.
    pub fn raw(&self) -> &IoUring {
        &self.ring
    }

    /// Whether submissions are taken by a kernel thread, at some time after they were pushed.
    pub fn is_polled(&self) -> bool {
        matches!(self.setup.work, Work::Polled { .. })
    }

    /// System calls so far.
    pub fn enters(&self) -> u64 {
        self.enters
    }

    /// CPU time so far, of the loop and of the ring's poller.
    pub fn cpu(&self) -> io::Result<[Duration; 2]> {
        let poller = self.poller.map_or(Ok(Duration::ZERO), sys::cpu_of)?;
        Ok([sys::loop_cpu()?, poller])
    }

    /// Queues an operation; submits what is queued if there is no room.
    ///
    /// # Safety
    /// What the entry points to must live until the operation is over.
    pub unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: by this function's own condition.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.enter(Wait::No)?;
        }
        Ok(())
    }

    /// Submits everything and waits.
    pub fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let (wanted, micros) = match wait {
            Wait::No => (0, 0),
            Wait::One => (1, 0),
            Wait::Gather { events, micros } => (events, micros),
            Wait::EnterAgain => return self.enter_until_there_are_some(),
            Wait::Look => return self.look(),
        };
        loop {
            match self.system_call(wanted, micros) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(()) if self.is_polled() || self.ring.submission().is_empty() => return Ok(()),
                _ => {}
            }
        }
    }

    /// Submits, waits, and goes on collecting what the kernel has deferred, as the server does in a turn.
    pub fn turn(&mut self, wait: Wait) -> io::Result<()> {
        self.enter(wait)?;
        for _ in 0..TURN_ENTERS {
            if self.ring.completion().len() >= TURN_COMPLETIONS || !self.ring.submission().taskrun() {
                break;
            }
            self.enter(Wait::No)?;
        }
        Ok(())
    }

    /// Waits until everything that was pushed has begun, which for a send without waiting is its end.
    pub fn settle(&mut self) -> io::Result<()> {
        const LAST: u64 = u64::MAX;
        // SAFETY: it has no memory.
        unsafe { self.push(&opcode::Nop::new().build().user_data(LAST)) }?;
        loop {
            self.enter(Wait::One)?;
            if self.ring.completion().any(|completion| completion.user_data() == LAST) {
                return Ok(());
            }
        }
    }

    /// Moves the completions there are to `out`.
    pub fn drain(&mut self, out: &mut Vec<cqueue::Entry>) {
        out.clear();
        out.extend(self.ring.completion());
    }

    fn enter_until_there_are_some(&mut self) -> io::Result<()> {
        self.enter(Wait::No)?;
        while self.ring.completion().is_empty() {
            self.enter(Wait::No)?;
        }
        Ok(())
    }

    fn look(&mut self) -> io::Result<()> {
        if !self.ring.submission().is_empty() {
            self.enter(Wait::No)?;
        }
        while self.ring.completion().is_empty() {
            let has_work = self.ring.submission().taskrun();
            match has_work {
                true => self.enter(Wait::No)?,
                false => std::hint::spin_loop(),
            }
        }
        Ok(())
    }

    fn system_call(&mut self, wanted: u32, micros: u32) -> io::Result<()> {
        let mut flags = EnterFlags::GETEVENTS;
        let is_polled = self.is_polled();
        let queue = self.ring.submission();
        let pending = queue.len() as u32;
        if is_polled {
            flags.set(EnterFlags::SQ_WAKEUP, queue.need_wakeup());
            if wanted == 0 && !flags.contains(EnterFlags::SQ_WAKEUP) {
                // It is the poller's turn, who may share our CPU.
                std::thread::yield_now();
                return Ok(());
            }
        }
        drop(queue);
        self.enters += 1;
        let fd = match self.index {
            Some(index) => index as RawFd,
            None => self.ring.as_raw_fd(),
        };
        flags.set(EnterFlags::REGISTERED_RING, self.index.is_some());
        let forever = Timespec::new().sec(u32::MAX.into());
        let args = (micros > 0).then(|| SubmitArgs::new().min_wait_usec(micros).timespec(&forever));
        flags.set(EnterFlags::EXT_ARG, args.is_some());
        let (arg, size) = args.as_ref().map_or((std::ptr::null(), 0), |it| (std::ptr::from_ref(it), size_of_val(it)));
        let call = libc::SYS_io_uring_enter;
        // SAFETY: with EXT_ARG the argument is an io_uring_getevents_arg, which SubmitArgs is, and it and the time it
        // points to outlive the call; without, there is none. What entries point to is justified at their push.
        let result = unsafe { libc::syscall(call, fd, pending, wanted, flags.bits(), arg, size) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Uring {
    /// Ends what is armed now, and not while the next variant is measured.
    fn drop(&mut self) {
        let _ = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
        let _ = self.ring.submitter().unregister_files();
        let _ = self.index.map(|index| unregister_ring(self.ring.as_raw_fd(), index));
    }
}

/// <linux/io_uring.h>: `struct io_uring_rsrc_update`, and what is done with it.
#[repr(C)]
struct Update {
    offset: u32,
    reserved: u32,
    data: u64,
}

const REGISTER_RING_FDS: libc::c_uint = 20;
const UNREGISTER_RING_FDS: libc::c_uint = 21;
const ANY_INDEX: u32 = u32::MAX;

impl Update {
    fn apply(&mut self, ring: RawFd, operation: libc::c_uint) -> io::Result<()> {
        let call = libc::SYS_io_uring_register;
        // SAFETY: the kernel reads and writes one structure of the layout that both operations ask for.
        let result = unsafe { libc::syscall(call, ring, operation, &raw mut *self, 1) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Gives this thread's next enters a shorter way to the ring, by an index; since 5.18.
fn register_ring(ring: RawFd) -> io::Result<u32> {
    let mut update = Update { offset: ANY_INDEX, reserved: 0, data: ring as u64 };
    update.apply(ring, REGISTER_RING_FDS).map_err(unsupported)?;
    Ok(update.offset)
}

/// The index holds the ring, and there are 16 for each thread.
fn unregister_ring(ring: RawFd, index: u32) -> io::Result<()> {
    Update { offset: index, reserved: 0, data: 0 }.apply(ring, UNREGISTER_RING_FDS)
}

/// `EINVAL` when something is set up means that the kernel does not know it.
fn unsupported(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EINVAL) => io::ErrorKind::Unsupported.into(),
        _ => error,
    }
}

/// Says that this kernel lacks something, unless it has it.
pub fn needs(has: bool) -> io::Result<()> {
    if has { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
}
