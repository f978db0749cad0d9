//! What whoever started the process left for it: open descriptors, and variables that are for it alone. The protocol is that
//! of systemd, sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3), which other supervisors speak too.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::process;
use std::time::Duration;

use super::sys::check;

/// The first of the descriptors, after standard input, output and error.
const FIRST: RawFd = 3;
/// Descriptors at most: no supervisor has a reason for more.
const MOST: usize = 64;
/// What is taken out of the environment.
const VARIABLES: [&str; 7] =
    ["LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];
/// The name of a descriptor that was given none.
pub const NAMELESS: &str = "unknown";

/// What was left.
#[derive(Default, Debug)]
pub struct Inheritance {
    /// Open descriptors and their names, in order. They are closed on exec from here on.
    pub descriptors: Vec<(String, OwnedFd)>,
    /// Address of the datagram socket where the supervisor wants to hear of the process: a path, or `@` and a name.
    pub notify: Option<OsString>,
    /// Time within which it wants to hear that the process lives, again and again.
    pub watchdog: Option<Duration>,
}

/// Takes what was left, and its variables out of the environment: a second call finds nothing, nor does a program that is
/// started from here.
///
/// # Errors
/// The variables contradict each other, or name descriptors that are not open; or other threads run already, which may have
/// opened these descriptors, or read the environment meanwhile.
pub fn take() -> io::Result<Inheritance> {
    let variable = |name: &str| env::var_os(name);
    if VARIABLES.iter().all(|name| variable(name).is_none()) {
        return Ok(Inheritance::default());
    }
    if !is_only_thread()? {
        return Err(io::Error::other("a supervisor's sockets can only be taken before other threads run"));
    }
    let text = |name: &str| variable(name).map(|value| value.to_string_lossy().into_owned());
    let names = announced(text, process::id()).map_err(io::Error::other)?;
    let watchdog = patience(text, process::id()).map_err(io::Error::other)?;
    let notify = variable("NOTIFY_SOCKET").filter(|address| !address.is_empty());
    for name in VARIABLES {
        // SAFETY: no other thread runs that could read or write the environment, as was checked above.
        unsafe { env::remove_var(name) };
    }
    let own = |(fd, name): (RawFd, String)| own(fd).map(|fd| (name, fd)).map_err(|error| no_descriptor(fd, &error));
    let descriptors = (FIRST..).zip(names).map(own).collect::<io::Result<_>>()?;
    Ok(Inheritance { descriptors, notify, watchdog })
}

fn no_descriptor(fd: RawFd, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("LISTEN_FDS: descriptor {fd} cannot be used: {error}"))
}

/// Takes a descriptor that the process was started with.
fn own(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD takes an integer; of a descriptor that is not open it says so.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and nobody in this process owns it: it was opened for this process before it began, as its
    // environment said, and `take` finds that said once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn is_only_thread() -> io::Result<bool> {
    Ok(fs::read_dir("/proc/self/task")?.take(2).count() == 1)
}

/// The names of the descriptors that are meant for the process of this id.
fn announced(variable: impl Fn(&str) -> Option<String>, own: u32) -> Result<Vec<String>, String> {
    let (Some(pid), Some(count)) = (variable("LISTEN_PID"), variable("LISTEN_FDS")) else { return Ok(Vec::new()) };
    let pid: u32 = pid.parse().map_err(|_| format!("LISTEN_PID: {pid:?} is no process"))?;
    if pid != own {
        return Ok(Vec::new());
    }
    let wrong = || format!("LISTEN_FDS: {count:?} is not a number from 0 to {MOST}");
    let count = count.parse().ok().filter(|count| *count <= MOST).ok_or_else(wrong)?;
    let Some(names) = variable("LISTEN_FDNAMES") else { return Ok(vec![NAMELESS.into(); count]) };
    let names: Vec<String> = names.split(':').map(str::to_owned).collect();
    match names.len() {
        len if len == count || count == 0 => Ok(names.into_iter().take(count).collect()),
        len => Err(format!("LISTEN_FDNAMES has {len} names for {count} descriptors")),
    }
}

/// The time of the watchdog, if there is one for the process of this id.
fn patience(variable: impl Fn(&str) -> Option<String>, own: u32) -> Result<Option<Duration>, String> {
    let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(own));
    let Some(time) = variable("WATCHDOG_USEC").filter(|_| is_ours) else { return Ok(None) };
    let micros = time.parse().ok().filter(|micros| *micros > 0);
    let micros = micros.ok_or_else(|| format!("WATCHDOG_USEC: {time:?} is no number of microseconds"))?;
    Ok(Some(Duration::from_micros(micros)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(variables: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + use<'a> {
        |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn descriptors_are_those_announced_to_this_process() {
        for (variables, names) in [
            (&[][..], &[][..]),
            (&[("LISTEN_FDS", "2")], &[]),
            (&[("LISTEN_PID", "8"), ("LISTEN_FDS", "2")], &[]),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "0")], &[]),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "0"), ("LISTEN_FDNAMES", "")], &[]),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "2")], &[NAMELESS, NAMELESS]),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "public:admin")], &["public", "admin"]),
        ] {
            assert_eq!(
                announced(of(variables), 7),
                Ok(names.iter().map(|&name| name.into()).collect()),
                "{variables:?}"
            );
        }
        for (variables, problem) in [
            (&[("LISTEN_PID", "me"), ("LISTEN_FDS", "1")][..], "LISTEN_PID: \"me\""),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "-1")], "LISTEN_FDS: \"-1\""),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "65")], "LISTEN_FDS: \"65\""),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "a")], "1 names for 2"),
        ] {
            let error = announced(of(variables), 7).expect_err("a contradiction");
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn the_watchdog_is_that_of_this_process() {
        let second = Some(Duration::from_secs(1));
        for (variables, expected) in [
            (&[][..], Ok(None)),
            (&[("WATCHDOG_USEC", "1000000")], Ok(second)),
            (&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "7")], Ok(second)),
            (&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "8")], Ok(None)),
            (&[("WATCHDOG_USEC", "0")], Err(())),
            (&[("WATCHDOG_USEC", "soon")], Err(())),
        ] {
            assert_eq!(patience(of(variables), 7).map_err(drop), expected, "{variables:?}");
        }
    }

    #[test]
    fn a_descriptor_that_is_not_open_is_refused() {
        assert_eq!(own(i32::MAX).expect_err("not open").raw_os_error(), Some(libc::EBADF));
    }
}
