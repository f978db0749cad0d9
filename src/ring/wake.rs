//! Waking a shard that sleeps in its ring.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};

use super::sys;

/// An event descriptor that a ring watches. Any thread may write to it; nobody reads it, because each write wakes
/// those who poll, whatever the count says.
#[derive(Debug)]
pub struct WakeFd(File);

impl WakeFd {
    /// A new one; it works for the ring that gets it in its [`super::Setup`].
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` when the process or the system is out of descriptors.
    pub fn new() -> io::Result<WakeFd> {
        sys::eventfd().map(|fd| WakeFd(File::from(fd)))
    }

    /// Makes the ring post a [`super::token::Kind::Wake`]; wakes in quick succession may be one completion.
    pub fn wake(&self) {
        let written = (&self.0).write(&1u64.to_ne_bytes());
        // Fails only if the count is full: after 2⁶⁴ wakes.
        debug_assert!(matches!(written, Ok(8)), "{written:?}");
    }
}

impl AsRawFd for WakeFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
