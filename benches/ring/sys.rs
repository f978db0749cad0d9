//! The few system calls that have no safe wrapper, and what the kernel tells in files.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use uproar::ring::sys::{process_cpu_time, thread_cpu_time};

/// Never block, never be cut short silently, never raise SIGPIPE: as the server sends.
pub const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;

/// `send(2)` of all the bytes, or an error.
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads `bytes` during the call only.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), SEND_FLAGS) };
    match usize::try_from(sent) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(sent) if sent < bytes.len() => Err(io::Error::other("the socket is full")),
        Ok(_) => Ok(()),
    }
}

/// `recv(2)` of what is there, without waiting.
pub fn receive(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes to an exclusive slice, of its length at most.
    let count = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Takes so many bytes off a TCP socket's receive queue without copying them anywhere; waits for them.
pub fn discard(fd: RawFd, mut bytes: usize) -> io::Result<()> {
    while bytes > 0 {
        // SAFETY: with MSG_TRUNC a TCP socket writes nothing to the buffer (tcp(7)), which so may be null.
        let taken = unsafe { libc::recv(fd, std::ptr::null_mut(), bytes, libc::MSG_TRUNC) };
        match usize::try_from(taken) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(taken) => bytes -= taken,
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
    Ok(())
}

/// CPU time of what a loop does: that of this thread, and of the kernel thread that takes over the receiving of what is
/// sent on this CPU, whenever others want to run here too.
///
/// Without the latter, a delivery on a busy machine would look cheaper than it is.
pub fn loop_cpu() -> io::Result<Duration> {
    static SOFTIRQS: OnceLock<Option<u32>> = OnceLock::new();
    let softirqs = SOFTIRQS.get_or_init(|| {
        // SAFETY: no arguments.
        let cpu = unsafe { libc::sched_getcpu() };
        process_named(&format!("ksoftirqd/{cpu}"))
    });
    // Not to be seen from a container.
    let softirqs = softirqs.map_or(Ok(Duration::ZERO), process_cpu_time)?;
    Ok(thread_cpu_time() + softirqs)
}

fn process_named(name: &str) -> Option<u32> {
    let mut processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let is_it = |path: &Path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name);
    processes.find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        is_it(&process.path()).then_some(pid)
    })
}

/// CPU time of another thread of this process.
pub fn cpu_of(thread: u32) -> io::Result<Duration> {
    // <linux/posix-timers.h>: the complement of the id above three bits, which say "scheduled time of a thread".
    let clock = (!(thread as libc::clockid_t)) << 3 | 0b110;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes a time to the local it is given.
    check(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// The thread that polls the submission queue of a ring that this thread has just made; waits until it runs.
pub fn poller_of(ring: RawFd) -> io::Result<u32> {
    // SAFETY: no arguments.
    let maker = unsafe { libc::gettid() } as u32;
    for _ in 0..1000 {
        let facts = fs::read_to_string(format!("/proc/self/fdinfo/{ring}"))?;
        let thread = facts.lines().find_map(|line| line.strip_prefix("SqThread:"));
        match thread.and_then(|thread| thread.trim().parse().ok()) {
            // Until the thread has begun, the maker's number stands for it.
            Some(thread) if thread != maker => return Ok(thread),
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    Err(io::Error::other("the ring's poller does not begin"))
}

/// An epoll instance.
pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        check(fd)?;
        // SAFETY: a new descriptor, which nobody else owns.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Reports a descriptor when it is readable, under a name.
    pub fn add(&self, fd: RawFd, name: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: name.into() };
        // SAFETY: the kernel reads a local event.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) })
    }

    /// Appends the names of readable descriptors, at most 64, to `names`; waits for the first if asked to. A
    /// signal may end the wait early.
    pub fn wait(&self, names: &mut Vec<u32>, wait: bool) -> io::Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        let timeout = if wait { -1 } else { 0 };
        // SAFETY: the kernel writes to a local array, of its length at most.
        let count = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), events.len() as i32, timeout) };
        match check(count) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        names.extend(events[..count as usize].iter().map(|event| event.u64 as u32));
        Ok(())
    }
}

/// Ends the process with SIGALRM if it is not dropped in time.
pub struct Deadline;

impl Deadline {
    pub fn after(time: Duration) -> Deadline {
        // SAFETY: no memory is passed.
        unsafe { libc::alarm(time.as_secs() as u32) };
        Deadline
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        // SAFETY: no memory is passed.
        unsafe { libc::alarm(0) };
    }
}

/// Objects in use and bytes of one, for each of the kernel's caches.
pub type Caches = BTreeMap<String, (i64, i64)>;

/// The kernel's object caches, which are the whole machine's. Root only.
pub fn caches() -> io::Result<Caches> {
    // Two lines of heading, then: name, objects in use, objects, bytes of an object, …
    let cache = |line: &str| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?.to_owned();
        let mut numbers = fields.map(str::parse::<i64>);
        let (used, _, bytes) = (numbers.next()?.ok()?, numbers.next()?, numbers.next()?.ok()?);
        Some((name, (used, bytes)))
    };
    Ok(fs::read_to_string("/proc/slabinfo")?.lines().skip(2).filter_map(cache).collect())
}

/// The last error, if the result of a system call says that there was one.
pub fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
