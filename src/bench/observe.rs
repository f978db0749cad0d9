//! What the server costs while it is loaded: CPU time and memory of its process, and the kernel's memory for sockets.
//!
//! All of it is read from outside, so it works with any server on this machine.

pub mod delay;
pub mod kernel;
pub mod sampler;

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use crate::bench;
use crate::bench::crew;
use crate::bench::report::{Figure, quantity};
use crate::ring::sys;

pub use delay::{RunDelay, Waited};
pub use kernel::{KernelMemory, kernel_memory, without_caches};
pub use sampler::Sampler;

/// A process that is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Process {
    pid: u32,
}

impl Process {
    /// Checks that there is such a process, and that this one may look at it.
    ///
    /// # Errors
    /// There is none, `/proc` hides it, or it has no memory of its own: a thread of the kernel.
    pub fn new(pid: u32) -> bench::Result<Process> {
        let process = Process { pid };
        process.cpu().map_err(|error| format!("process {pid}: {error}"))?;
        process.resident().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("process {pid}: /proc hides it from this user (hidepid)"),
            _ => format!("process {pid}: its memory: {error}"),
        })?;
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

    /// Bytes in memory that belong to the process: anonymous ones, and shared ones that are of no file (`RssAnon` and
    /// `RssShmem`, proc_pid_status(5)). Pages of files, as of its program, are the page cache's, and would be there for
    /// other processes too. The kernel counts in batches: it may be off by some hundred KiB for each CPU.
    ///
    /// # Errors
    /// The process has ended, or `/proc` hides it.
    pub fn resident(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        parse_resident(&status).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it has none"))
    }
}

/// `RssAnon` and `RssShmem` of `/proc/PID/status`, in bytes.
fn parse_resident(status: &str) -> Option<u64> {
    kernel::kibibytes(status, "RssAnon:")?.checked_add(kernel::kibibytes(status, "RssShmem:")?)
}

/// For how many per cent of the time others may keep a process from running before its figures are those of a machine that was
/// disturbed.
const MOST_BY_OTHERS: f64 = 5.0;

/// CPU times from an instant on, and how long was waited for a CPU.
#[derive(Clone, Debug)]
pub struct Meter {
    server: Option<(Process, Duration)>,
    load: Duration,
    server_delay: Option<RunDelay>,
    load_delay: RunDelay,
    began: Instant,
}

/// What has passed since a [`Meter`] was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spent {
    /// Time.
    pub time: Duration,
    /// CPU time of the server, if its process is known.
    pub server: Option<Duration>,
    /// CPU time of this process: the load.
    pub load: Duration,
    /// How long the server's threads could have run and did not; if that is known.
    pub server_delay: Option<Waited>,
    /// The same of the threads of load.
    pub load_delay: Option<Waited>,
}

impl Meter {
    /// Begins, with the server if its process is known.
    ///
    /// # Errors
    /// The server has ended.
    pub fn start(server: Option<Process>) -> io::Result<Meter> {
        let server_delay = server.map(|process| RunDelay::start(process.pid, ""));
        let load_delay = RunDelay::start(std::process::id(), crew::THREAD_NAME);
        let server = server.map(|process| process.cpu().map(|cpu| (process, cpu))).transpose()?;
        Ok(Meter { server, load: Process::this().cpu()?, server_delay, load_delay, began: Instant::now() })
    }

    /// Since the start.
    ///
    /// # Errors
    /// The server has ended.
    pub fn spent(&self) -> io::Result<Spent> {
        let server = self.server.map(|(process, before)| process.cpu().map(|cpu| cpu.saturating_sub(before)));
        let load = Process::this().cpu()?.saturating_sub(self.load);
        let time = self.began.elapsed();
        let server_delay = self.server_delay.as_ref().and_then(RunDelay::so_far);
        Ok(Spent { time, server: server.transpose()?, load, server_delay, load_delay: self.load_delay.so_far() })
    }
}

impl Spent {
    /// What has passed in two times.
    pub fn and(&self, other: &Spent) -> Spent {
        Spent {
            time: self.time + other.time,
            server: sum(self.server, other.server),
            load: self.load + other.load,
            server_delay: sum(self.server_delay, other.server_delay),
            load_delay: sum(self.load_delay, other.load_delay),
        }
    }

    /// "server CPU a delivery", in ns, for so many of them; none if there were none, or the server is not known.
    pub fn server_each(&self, what: &str, count: u64) -> Option<Figure> {
        let cpu = self.server.filter(|_| count > 0)?;
        Some(Figure::new(format!("server CPU a {what}"), "ns", cpu.as_nanos() as f64 / count as f64))
    }

    /// "server CPU" and "load CPU", in percent of one core: where the load's is near a hundred for each of its threads,
    /// it was the limit. "run delay, server" and "run delay, load", in percent of the time: what others, or their own
    /// threads, kept them from running; of the server also what others certainly did. Those that are known.
    pub fn figures(&self) -> Vec<Figure> {
        let figures = [
            ("server CPU", self.server),
            ("load CPU", Some(self.load)),
            ("run delay, server", self.server_delay.map(|waited| waited.all)),
            ("run delay, server, by others at least", self.server_delay.map(|waited| waited.by_others)),
            ("run delay, load", self.load_delay.map(|waited| waited.all)),
        ];
        let known = figures.into_iter().filter_map(|(name, time)| Some((name, time?)));
        known.map(|(name, time)| Figure::new(name, "%", percent(time, self.time))).collect()
    }
}

impl Spent {
    /// One sentence that says that others kept the server or the load from running, if they did for long.
    pub fn disturbance(&self) -> Option<String> {
        let waited = [("the server", self.server_delay), ("the load", self.load_delay)];
        let kept = waited.into_iter().filter_map(|(who, waited)| Some((who, percent(waited?.by_others, self.time))));
        let kept = kept.filter(|(_, percent)| *percent > MOST_BY_OTHERS);
        let of_time = |(who, percent)| format!("in place of {who} for {} of the time", quantity::show(percent, "%"));
        let kept: Vec<String> = kept.map(of_time).collect();
        (!kept.is_empty()).then(|| format!("the machine was disturbed: others ran {}, at least", kept.join(" and ")))
    }
}

/// What is not known of one is not known of both.
fn sum<T: std::ops::Add<Output = T>>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.zip(other).map(|(one, other)| one + other)
}

/// Percent of a time: of CPU time, those of one core.
fn percent(part: Duration, time: Duration) -> f64 {
    100.0 * part.as_secs_f64() / time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const STATUS: &str = "Name:\tuproar\nUmask:\t0022\nState:\tS (sleeping)\nVmHWM:\t   12672 kB\nVmRSS:\t   12672 kB\n\
        RssAnon:\t    4352 kB\nRssFile:\t    8192 kB\nRssShmem:\t     128 kB\nThreads:\t4\n";

    #[test]
    fn what_belongs_to_a_process_is_not_its_files() {
        assert_eq!(parse_resident(STATUS), Some((4352 + 128) << 10));
        for garbage in
            ["", "RssAnon:", "RssAnon: x kB\nRssShmem: 0 kB", "RssAnon: 1 MB\nRssShmem: 0 kB", "RssAnon: 7 kB"]
        {
            assert_eq!(parse_resident(garbage), None, "{garbage:?}");
        }
        let most = u64::MAX >> 10;
        assert_eq!(parse_resident(&format!("RssAnon: {most} kB\nRssShmem: {most} kB\n")), None);
    }

    #[test]
    fn this_process_is_there_and_grows() {
        let this = Process::new(std::process::id()).unwrap();
        assert_eq!(this, Process::this());
        let before = this.resident().unwrap();
        let memory = vec![1u8; 256 << 20];
        assert!(this.resident().unwrap() > before + (memory.len() as u64) / 2);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        for pid in [child.id(), 0, u32::MAX] {
            // 0 would be this process for the system call.
            let error = Process::new(pid).unwrap_err().to_string();
            assert_eq!(error, format!("process {pid}: No such process (os error 3)"));
        }
    }

    #[test]
    fn a_process_that_sleeps_costs_nothing_and_the_load_does() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::new(child.id()).unwrap();
        let meter = Meter::start(Some(process)).unwrap();
        let until = Process::this().cpu().unwrap() + Duration::from_millis(50);
        while Process::this().cpu().unwrap() < until {}
        let spent = meter.spent().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            spent.load >= Duration::from_millis(49) && spent.server.unwrap() < Duration::from_millis(20),
            "{spent:?}"
        );
        assert!(meter.spent().is_err(), "it has ended");
        assert!(Meter::start(None).unwrap().spent().unwrap().server.is_none());
    }

    #[test]
    fn cpu_is_told_in_percent_of_a_core() {
        let [time, cpu, all, by_others] = [2000, 500, 20, 10].map(Duration::from_millis);
        let delay = Waited { all, by_others };
        let spent = Spent {
            time,
            server: Some(cpu),
            load: 2 * time,
            server_delay: Some(delay),
            load_delay: Some(delay + delay),
        };
        let expected = [
            ("server CPU", 25.0),
            ("load CPU", 200.0),
            ("run delay, server", 1.0),
            ("run delay, server, by others at least", 0.5),
            ("run delay, load", 2.0),
        ];
        let figures = expected.map(|(name, percent)| Figure::new(name, "%", percent));
        assert_eq!(spent.figures(), figures);
        assert_eq!(spent.server_each("delivery", 1000), Some(Figure::new("server CPU a delivery", "ns", 500_000.0)));
        assert_eq!(spent.server_each("delivery", 0), None);
        let twice = Spent {
            time: 2 * time,
            server: Some(2 * cpu),
            load: 4 * time,
            server_delay: Some(delay + delay),
            load_delay: Some(delay + delay + delay + delay),
        };
        assert_eq!(spent.and(&spent), twice);
        assert_eq!(spent.disturbance(), None);
        let seconds = Duration::from_secs;
        let long = Waited { all: seconds(1), by_others: seconds(1) };
        let disturbed = Spent { time: seconds(8), load_delay: Some(long), ..spent };
        let words = "the machine was disturbed: others ran in place of the load for 12.5 % of the time, at least";
        assert_eq!(disturbed.disturbance().as_deref(), Some(words));
        let both = Spent { server_delay: Some(long), ..disturbed }.disturbance().unwrap();
        assert!(
            both.contains("the server for 12.5 % of the time and in place of the load for 12.5 % of the time"),
            "{both}"
        );
        let own = Spent { load_delay: Some(Waited { by_others: Duration::ZERO, ..long }), ..disturbed };
        assert_eq!(own.disturbance(), None, "its own threads kept it");
        let unknown = Spent { server: None, server_delay: None, load_delay: None, ..spent };
        assert_eq!(unknown.figures().len(), 1);
        assert_eq!(spent.and(&unknown).server_delay, None);
    }
}
