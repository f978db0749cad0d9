//! Whether kernel TLS works here, found out by trying it between two sockets of loopback.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::thread;
use std::time::Duration;

use io_uring::{IoUring, opcode, types};

use super::{Cipher, CryptoInfo, KernelTls, ULP, Version};

/// What loopback takes for a few bytes at most.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is sent to see whether it comes.
const WORDS: &[u8] = b"kernel TLS";

/// Why kernel TLS is not used.
#[derive(Debug)]
pub enum Lacking {
    /// io_uring cannot set options of sockets (`SOCKET_URING_OP_SETSOCKOPT`, Linux 6.7).
    Command,
    /// There is no module `tls`, or it is not loaded and this process may not load it.
    Module,
    /// It is there, but has no cipher that works.
    Ciphers,
    /// Something else failed.
    Io(io::Error),
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lacking::Command => write!(f, "Linux 6.7 or newer is needed"),
            Lacking::Module => write!(f, "the module is not loaded (modprobe tls)"),
            Lacking::Ciphers => write!(f, "no cipher works"),
            Lacking::Io(error) => write!(f, "{error}"),
        }
    }
}

impl From<io::Error> for Lacking {
    fn from(error: io::Error) -> Lacking {
        Lacking::Io(error)
    }
}

/// Tries each cipher of each version. It takes some milliseconds.
///
/// It has a thread of its own: the kernel interrupts what a thread does when it takes a ring of that thread's down, and the
/// caller may be an embedder's, who does not expect that.
///
/// # Errors
/// Why there is no kernel TLS.
pub fn probe() -> Result<KernelTls, Lacking> {
    let prober = thread::Builder::new().name("probe".into()).spawn(try_all)?;
    prober.join().unwrap_or(Err(Lacking::Ciphers))
}

fn try_all() -> Result<KernelTls, Lacking> {
    let mut prober = Prober { ring: IoUring::new(4)? };
    let mut found = KernelTls::default();
    for version in Version::ALL {
        for cipher in Cipher::ALL {
            let ends = prober.attached_pair()?;
            if prober.works(&ends, version, cipher).unwrap_or(false) {
                found.add(version, cipher);
                found.rekeys |= version == Version::Tls13 && prober.rekeys(&ends.0, cipher);
            }
        }
    }
    if found == KernelTls::default() { Err(Lacking::Ciphers) } else { Ok(found) }
}

struct Prober {
    ring: IoUring,
}

impl Prober {
    /// Two ends of a connection, both attached.
    fn attached_pair(&mut self) -> Result<(TcpStream, TcpStream), Lacking> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let one = TcpStream::connect(listener.local_addr()?)?;
        let (other, _) = listener.accept()?;
        for end in [&one, &other] {
            end.set_read_timeout(Some(PATIENCE))?;
            end.set_write_timeout(Some(PATIENCE))?;
            match self.set(end.as_raw_fd(), libc::SOL_TCP, libc::TCP_ULP, ULP) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Err(Lacking::Module),
                Err(error) if is_unknown_command(&error) => return Err(Lacking::Command),
                outcome => outcome?,
            }
        }
        Ok((one, other))
    }

    /// Whether what one end seals the other opens.
    fn works(&mut self, ends: &(TcpStream, TcpStream), version: Version, cipher: Cipher) -> io::Result<bool> {
        let Some(keys) = trial_keys(version, cipher) else { return Ok(false) };
        let (mut from, mut to) = (&ends.0, &ends.1);
        self.set(from.as_raw_fd(), libc::SOL_TLS, libc::TLS_TX, keys.as_bytes())?;
        self.set(to.as_raw_fd(), libc::SOL_TLS, libc::TLS_RX, keys.as_bytes())?;
        from.write_all(WORDS)?;
        let mut heard = [0; WORDS.len()];
        to.read_exact(&mut heard)?;
        Ok(heard == WORDS)
    }

    /// Whether an end that has keys takes others.
    fn rekeys(&mut self, end: &TcpStream, cipher: Cipher) -> bool {
        let keys = trial_keys(Version::Tls13, cipher);
        keys.is_some_and(|keys| self.set(end.as_raw_fd(), libc::SOL_TLS, libc::TLS_TX, keys.as_bytes()).is_ok())
    }

    /// Sets an option of a socket the way that shards do.
    fn set(&mut self, fd: RawFd, level: i32, option: i32, value: &[u8]) -> io::Result<()> {
        let (value, len) = (value.as_ptr().cast(), value.len() as u32);
        let entry = opcode::SetSockOpt::new(types::Fd(fd), level as u32, option as u32, value, len).build();
        // SAFETY: the descriptor and the value outlive the call: it waits until the operation is over.
        unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)?;
        self.ring.submit_and_wait(1)?;
        match self.ring.completion().next().map(|done| done.result()) {
            Some(0..) => Ok(()),
            Some(error) => Err(io::Error::from_raw_os_error(-error)),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// Errors of kernels that do not know the command, or not for sockets, or not the operation.
fn is_unknown_command(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS | libc::EPERM | libc::EACCES))
}

/// Keys that protect nothing.
fn trial_keys(version: Version, cipher: Cipher) -> Option<CryptoInfo> {
    CryptoInfo::new(version, cipher, &[1; 32][..cipher.key_len()], [2; 12], 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it says must agree with what can be seen of the kernel otherwise.
    #[test]
    fn the_probe_agrees_with_the_kernel() {
        let kernel = crate::ring::sys::kernel_version().unwrap();
        let has_module = std::path::Path::new("/proc/net/tls_stat").exists();
        match probe() {
            Ok(found) => {
                assert!(has_module && kernel >= (6, 7), "{found}");
                assert!(found.has(Version::Tls13, Cipher::Aes128Gcm));
                assert_eq!(found.rekeys, kernel >= (6, 14), "{found}");
            }
            Err(Lacking::Command) => assert!(kernel < (6, 7)),
            Err(Lacking::Module) => assert!(!has_module && kernel >= (6, 7)),
            Err(other) => panic!("{other}"),
        }
    }
}
