//! How long threads were kept waiting for a CPU. Whoever shares its CPU with others is not what was to be measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Waits from an instant on, of the threads of a process.
#[derive(Clone, Debug)]
pub struct RunDelay {
    pid: u32,
    /// What the names of the threads begin with.
    named: &'static str,
    before: BTreeMap<u32, Scheduled>,
}

/// What the kernel's scheduler knows of a thread: `/proc/PID/task/TID/schedstat` (sched-stats.rst of the kernel's
/// documentation).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Scheduled {
    /// Nanoseconds in which it ran.
    ran: u64,
    /// Nanoseconds in which it could have run, and did not: another ran.
    waited: u64,
    /// How often it was given a CPU.
    turns: u64,
}

/// How long threads have waited for a CPU.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Waited {
    /// All of them together. A thread that waits for another of its own process waits too.
    pub all: Duration,
    /// Of that, what others than these threads have certainly caused: what the thread that ran most has waited beyond the
    /// time in which the rest of them ran. If they all share one CPU, and one of them does nearly all, it is no less.
    pub by_others: Duration,
}

impl std::ops::Add for Waited {
    type Output = Waited;

    fn add(self, other: Waited) -> Waited {
        Waited { all: self.all + other.all, by_others: self.by_others + other.by_others }
    }
}

impl RunDelay {
    /// Begins, with the threads of a process whose names begin so.
    pub fn start(pid: u32, named: &'static str) -> RunDelay {
        RunDelay { pid, named, before: threads(pid, named) }
    }

    /// How long they have waited since; those that have ended have not. `None`: the kernel does not tell, or the process has
    /// ended.
    pub fn so_far(&self) -> Option<Waited> {
        let now = threads(self.pid, self.named);
        since(&self.before, &now)
    }
}

fn since(before: &BTreeMap<u32, Scheduled>, now: &BTreeMap<u32, Scheduled>) -> Option<Waited> {
    // A kernel that does not count has zeros for all.
    now.values().any(|thread| thread.turns > 0).then(|| {
        let grown = |(tid, thread): (&u32, &Scheduled)| {
            let before = before.get(tid).copied().unwrap_or_default();
            (thread.ran.saturating_sub(before.ran), thread.waited.saturating_sub(before.waited))
        };
        let grown: Vec<(u64, u64)> = now.iter().map(grown).collect();
        let sum = |of: fn(&(u64, u64)) -> u64| grown.iter().map(of).fold(0, u64::saturating_add);
        let (ran, waited) = grown.iter().copied().max().unwrap_or_default();
        let rest = sum(|thread| thread.0).saturating_sub(ran);
        Waited {
            all: Duration::from_nanos(sum(|thread| thread.1)),
            by_others: Duration::from_nanos(waited.saturating_sub(rest)),
        }
    })
}

/// By their numbers; without those that end meanwhile.
fn threads(pid: u32, named: &str) -> BTreeMap<u32, Scheduled> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| thread(&task.path(), named)).collect()
}

fn thread(task: &Path, named: &str) -> Option<(u32, Scheduled)> {
    let tid = task.file_name()?.to_str()?.parse().ok()?;
    if !named.is_empty() && !fs::read_to_string(task.join("comm")).ok()?.starts_with(named) {
        return None;
    }
    Some((tid, parse(&fs::read_to_string(task.join("schedstat")).ok()?)?))
}

/// `ran waited turns`, of which the first two are nanoseconds.
fn parse(schedstat: &str) -> Option<Scheduled> {
    let mut fields = schedstat.split_whitespace().map(str::parse);
    let mut next = || fields.next()?.ok();
    Some(Scheduled { ran: next()?, waited: next()?, turns: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::sys;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Instant;

    #[test]
    fn what_the_scheduler_tells_is_parsed() {
        assert_eq!(parse("5170935 14093 27\n"), Some(Scheduled { ran: 5_170_935, waited: 14_093, turns: 27 }));
        for garbage in ["", "1", "1 2", "1 x 3", "1 2 -3", "1 18446744073709551616 3"] {
            assert_eq!(parse(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn threads_add_up_by_what_each_has_waited_since() {
        let threads = |threads: &[(u32, u64, u64)]| -> BTreeMap<u32, Scheduled> {
            threads.iter().map(|&(tid, ran, waited)| (tid, Scheduled { ran, waited, turns: ran })).collect()
        };
        let waited = |all, by_others| {
            let [all, by_others] = [all, by_others].map(Duration::from_nanos);
            Some(Waited { all, by_others })
        };
        let before = threads(&[(1, 500, 100), (2, 90, 50), (3, 80, 70)]);
        let now = threads(&[(1, 600, 130), (3, 86, 70), (4, 5, 7)]);
        assert_eq!(since(&before, &now), waited(37, 30 - 11), "one ended, and one is new");
        let busy = threads(&[(1, 600, 130), (3, 170, 170)]);
        assert_eq!(since(&before, &busy), waited(130, 0), "they waited for each other");
        assert_eq!(since(&threads(&[]), &threads(&[(1, 0, 0)])), None, "nothing is counted");
        assert_eq!(since(&before, &threads(&[])), None, "it has ended");
    }

    /// Two threads that are never idle share a CPU: together they wait as long as they run.
    #[test]
    fn threads_that_share_a_cpu_wait_for_each_other() {
        let cpu = sys::allowed_cpus().unwrap()[0];
        let over = Arc::new(AtomicBool::new(false));
        let busy = |n: u32| {
            let over = over.clone();
            let spin = move || {
                sys::pin_to(cpu).unwrap();
                while !over.load(Ordering::Relaxed) {}
            };
            thread::Builder::new().name(format!("busy-{n}")).spawn(spin).unwrap()
        };
        let threads = [busy(0), busy(1)];
        let (all, none) = (RunDelay::start(std::process::id(), "busy-"), RunDelay::start(std::process::id(), "nobody"));
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(300) {
            thread::sleep(Duration::from_millis(10));
        }
        let (waited, elapsed) = (all.so_far(), began.elapsed());
        over.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(waited.is_none_or(|waited| waited.all > elapsed / 2), "{waited:?} of {elapsed:?}");
        assert_eq!(none.so_far(), None);
    }
}
