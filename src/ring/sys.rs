//! Small safe wrappers over system calls that the standard library lacks.

use std::fs;
use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

pub use libc::{EAGAIN, ECANCELED, ECONNABORTED, EINTR, EIO, EKEYEXPIRED};

/// How much other threads yield to those of the shards (nice(2)).
const NICENESS: i32 = 5;

/// Asks for pages of 4 KiB only, from here on: a huge page makes two megabytes resident for the first connection in it.
///
/// # Errors
/// The kernel is built without huge pages (`EINVAL`), which comes to the same.
pub fn disable_huge_pages() -> io::Result<()> {
    // SAFETY: PR_SET_THP_DISABLE takes four integers and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) })
}

/// Wakes this thread as soon as its time is up, from here on. Otherwise the kernel may let it sleep 50 µs longer, to wake
/// several at once.
///
/// # Errors
/// None on any Linux that io_uring runs on.
pub fn wake_on_time() -> io::Result<()> {
    let nanoseconds: libc::c_ulong = 1;
    // SAFETY: PR_SET_TIMERSLACK takes an integer and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds) })
}

/// Lets this thread yield to those of the shards, which have the same cores: by niceness, which on Linux concerns the thread alone. Where that is forbidden, as by a filter of system
/// calls, the log says so once.
pub fn yield_to_shards() {
    static SAID: std::sync::Once = std::sync::Once::new();
    // SAFETY: setpriority takes three integers and touches no memory of ours; 0 is this thread.
    if let Err(error) = check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) }) {
        SAID.call_once(|| tracing::warn!("threads for TLS, tokens and the hook do not yield to shards: {error}"));
    }
}

/// What `SIGHUP` did before it was ignored.
pub struct HangUp(libc::sighandler_t);

/// Ignores `SIGHUP`, which would end the process, until somebody listens for it. To be called before other threads run.
pub fn ignore_hang_up() -> HangUp {
    // SAFETY: no handler of ours is named, and no memory passed.
    HangUp(unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) })
}

impl HangUp {
    /// Has it do that again.
    pub fn restore(self) {
        if self.0 != libc::SIG_ERR {
            // SAFETY: what the same call has returned, before anybody else could change it.
            unsafe { libc::signal(libc::SIGHUP, self.0) };
        }
    }
}

/// Gives memory that this thread has freed, and the allocator keeps for it, back to the system.
pub fn give_back_memory() {
    // SAFETY: mi_collect has no preconditions. It works on the heap of the calling thread, which may be empty if the
    // process uses another allocator.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Fixes the kernel's send buffer of the connections that a listener accepts (`SO_SNDBUF`, which the kernel doubles for
/// its own accounting and caps at `net.core.wmem_max`).
pub fn set_send_buffer(listener: &TcpListener, bytes: usize) -> io::Result<()> {
    socket2::SockRef::from(listener).set_send_buffer_size(bytes)
}

/// Bits of a poll mask that say that the peer has sent its last byte, or that the connection is broken.
pub const POLL_HANG_UP: i32 = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as i32;

/// Raises the soft limit of descriptors to the hard limit, and returns it.
///
/// Registered-file tables are bounded by it too, each by itself.
pub fn raise_nofile() -> io::Result<u64> {
    let mut limit = limit_of(libc::RLIMIT_NOFILE)?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the kernel reads an initialised rlimit.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    }
    Ok(limit.rlim_cur)
}

/// The soft limit of descriptors.
pub fn nofile() -> io::Result<u64> {
    limit_of(libc::RLIMIT_NOFILE).map(|limit| limit.rlim_cur)
}

/// The soft limit of locked memory, in bytes.
pub fn memlock() -> io::Result<u64> {
    limit_of(libc::RLIMIT_MEMLOCK).map(|limit| limit.rlim_cur)
}

fn limit_of(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes to a local rlimit.
    check(unsafe { libc::getrlimit(resource, &mut limit) })?;
    Ok(limit)
}

/// The CPUs that this thread may run on, ascending.
///
/// # Errors
/// `EINVAL` on a machine with more CPUs than a `cpu_set_t` has bits (1,024).
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mut set = no_cpus();
    // SAFETY: the kernel writes at most the size given to a local set; 0 is this thread.
    check(unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &mut set) })?;
    let cpus = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: the indices are below the set's size.
    Ok(cpus.filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Keeps this thread on one CPU.
///
/// # Errors
/// `EINVAL` if there is no such CPU, or the thread may not run there.
pub fn pin_to(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut set = no_cpus();
    // SAFETY: the index is below the set's size.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the kernel reads a local set of the size given; 0 is this thread.
    check(unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &set) })
}

/// Keeps this thread, and those that it starts from now on, on these CPUs; on those that it has, if none are given.
///
/// # Errors
/// `EINVAL` if none of them exists, or may be used.
pub fn allow_cpus(cpus: &[usize]) -> io::Result<()> {
    let mut set = no_cpus();
    for &cpu in cpus.iter().filter(|&&cpu| cpu < libc::CPU_SETSIZE as usize) {
        // SAFETY: the index is below the set's size.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    if cpus.is_empty() {
        return Ok(());
    }
    // SAFETY: the kernel reads a local set of the size given; 0 is this thread.
    check(unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &set) })
}

fn no_cpus() -> libc::cpu_set_t {
    // SAFETY: a cpu_set_t is an array of integers, for which zero is valid.
    unsafe { mem::zeroed() }
}

/// Major and minor version of the running kernel.
pub fn kernel_version() -> io::Result<(u32, u32)> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    parse_release(&release).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, release))
}

/// `6.1.0-13-amd64` → `(6, 1)`.
pub fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Bytes of this process that are in memory.
pub fn resident_bytes() -> io::Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages: Option<u64> = statm.split(' ').nth(1).and_then(|field| field.parse().ok());
    let pages = pages.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, statm))?;
    Ok(pages * page_size())
}

/// Time of the clock that never jumps (`CLOCK_MONOTONIC`), as supervisors compare it.
pub fn monotonic() -> Duration {
    clock(libc::CLOCK_MONOTONIC).expect("every Linux has this clock")
}

/// CPU time that this thread has used, in user space and in the kernel.
pub fn thread_cpu_time() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has this clock")
}

/// The kernel's number of this thread.
pub fn thread_id() -> u32 {
    // SAFETY: no arguments, and it does not fail.
    unsafe { libc::gettid() }.cast_unsigned()
}

/// CPU time that a thread of this process has used, in user space and in the kernel, by its [`thread_id`].
///
/// # Errors
/// `EINVAL` if there is no such thread.
pub fn cpu_time_of(thread: u32) -> io::Result<Duration> {
    // 0 would be the calling thread.
    let thread = libc::clockid_t::try_from(thread).ok().filter(|&thread| thread > 0);
    let thread = thread.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    // As pthread_getcpuclockid(3) makes it of a thread's number: its complement, then "of a thread", then "as scheduled".
    const OF_A_THREAD: libc::clockid_t = 4;
    const AS_SCHEDULED: libc::clockid_t = 2;
    clock(!thread << 3 | OF_A_THREAD | AS_SCHEDULED)
}

/// CPU time that a process has used, in user space and in the kernel: all its threads, also those that ended.
///
/// # Errors
/// `ESRCH` if there is no such process.
pub fn process_cpu_time(pid: u32) -> io::Result<Duration> {
    // 0 would be the calling process.
    let pid = libc::pid_t::try_from(pid).ok().filter(|&pid| pid > 0);
    let pid = pid.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    let mut id: libc::clockid_t = 0;
    // SAFETY: the C library writes to a local clock id.
    match unsafe { libc::clock_getcpuclockid(pid, &mut id) } {
        0 => clock(id),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn clock(id: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes to a local timespec.
    check(unsafe { libc::clock_gettime(id, &mut time) })?;
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Bytes of a page of memory.
pub fn page_size() -> u64 {
    // SAFETY: no arguments but a constant.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u64 }
}

/// A listening TCP socket whose connections have `TCP_NODELAY` (they inherit it).
///
/// With `reuseport`, other sockets that ask for it may listen at the same address, and the kernel spreads
/// connections over them: one for each shard. So may another process of the same user, unnoticed; see
/// [`port_taken`]. A socket at `[::]` takes IPv4 connections too.
///
/// # Errors
/// Those of `bind` and `listen`; `EADDRINUSE` above all.
pub fn listen(addr: SocketAddr, backlog: i32, reuseport: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuseport)?;
    socket.set_tcp_nodelay(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Makes a listener of somebody else's making one as [`listen`] does: the shards' accepts wait (which the kernel does not let
/// them do on a socket that must not block), its connections do not delay, and its queue is as long as is wanted.
///
/// # Errors
/// Those of `listen` and `setsockopt`.
pub fn adopt_listener(listener: &TcpListener, backlog: i32) -> io::Result<()> {
    let socket = socket2::SockRef::from(listener);
    socket.set_nonblocking(false)?;
    socket.set_tcp_nodelay(true)?;
    socket.listen(backlog)
}

/// Whether somebody listens at an address already, be it with `SO_REUSEPORT`.
///
/// Listens there without sharing, and stops again. Between this and the real [`listen`] is a short time in which
/// another process could take the port: this is for the mistake of starting a server twice, not for security.
///
/// # Errors
/// Those of [`listen`] but `EADDRINUSE`.
pub fn port_taken(addr: SocketAddr) -> io::Result<bool> {
    match listen(addr, 1, false) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(true),
        Err(error) => Err(error),
    }
}

/// A non-blocking event descriptor, counting from 0.
pub(super) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    check(fd)?;
    // SAFETY: a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
    use std::thread;

    const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn releases_of_all_sorts_are_understood() {
        for (release, version) in [
            ("6.1.0-13-amd64", Some((6, 1))),
            ("6.18.44-fc\n", Some((6, 18))),
            ("7.0-rc1", Some((7, 0))),
            ("6", None),
            ("linux", None),
            ("", None),
        ] {
            assert_eq!(parse_release(release), version, "{release:?}");
        }
    }

    #[test]
    fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
        let hard = limit_of(libc::RLIMIT_NOFILE).unwrap().rlim_max;
        assert_eq!(raise_nofile().unwrap(), hard);
        assert_eq!(nofile().unwrap(), hard);
    }

    #[test]
    fn a_pinned_thread_is_allowed_one_cpu() {
        let all = allowed_cpus().unwrap();
        let last = *all.last().unwrap();
        let pinned = thread::spawn(move || pin_to(last).and_then(|()| allowed_cpus()));
        assert_eq!(pinned.join().unwrap().unwrap(), [last]);
        assert_eq!(pin_to(usize::MAX).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(allowed_cpus().unwrap(), all, "other threads are not affected");
    }

    #[test]
    fn memory_that_was_written_is_resident() {
        let before = resident_bytes().unwrap();
        let memory = vec![1u8; 256 << 20];
        assert!(resident_bytes().unwrap() > before + (memory.len() as u64) / 2);
    }

    #[test]
    fn work_takes_cpu_time_and_sleep_does_not() {
        let start = thread_cpu_time();
        thread::sleep(Duration::from_millis(50));
        let slept = thread_cpu_time() - start;
        assert!(slept < Duration::from_millis(40), "{slept:?}");
        while thread_cpu_time() < start + Duration::from_millis(50) {}
    }

    #[test]
    fn a_process_has_the_cpu_time_of_its_threads() {
        let start = process_cpu_time(std::process::id()).unwrap();
        let burn = || {
            let start = thread_cpu_time();
            while thread_cpu_time() < start + Duration::from_millis(30) {}
        };
        thread::spawn(burn).join().unwrap();
        assert!(process_cpu_time(std::process::id()).unwrap() >= start + Duration::from_millis(30));
        for pid in [0, u32::MAX] {
            assert_eq!(process_cpu_time(pid).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        }
    }

    #[test]
    fn accepted_connections_do_not_delay() {
        let listener = listen(ANY_PORT, 8, true).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(listener.accept().unwrap().0.nodelay().unwrap());
    }

    #[test]
    fn a_port_that_shards_share_is_taken_for_others() {
        let first = listen(ANY_PORT, 8, true).unwrap();
        let addr = first.local_addr().unwrap();
        let second = listen(addr, 8, true).unwrap();
        assert!(port_taken(addr).unwrap());
        drop((first, second));
        assert!(!port_taken(addr).unwrap());
    }

    #[test]
    fn the_ipv6_wildcard_takes_ipv4_too() {
        match listen((Ipv6Addr::UNSPECIFIED, 0).into(), 8, true) {
            Ok(listener) => {
                let port = listener.local_addr().unwrap().port();
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            }
            // A machine without IPv6.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EAFNOSUPPORT)),
        }
    }
}
