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
    /// Nanoseconds in which it could have run, and did not: another ran.
    waited: u64,
    /// How often it was given a CPU.
    turns: u64,
}

impl RunDelay {
    /// Begins, with the threads of a process whose names begin so.
    pub fn start(pid: u32, named: &'static str) -> RunDelay {
        RunDelay { pid, named, before: threads(pid, named) }
    }

    /// How long they have waited since, all together; those that have ended have not. A thread that waits for another of
    /// its own process waits too. `None`: the kernel does not tell, or the process has ended.
    pub fn so_far(&self) -> Option<Duration> {
        let now = threads(self.pid, self.named);
        since(&self.before, &now)
    }
}

fn since(before: &BTreeMap<u32, Scheduled>, now: &BTreeMap<u32, Scheduled>) -> Option<Duration> {
    // A kernel that does not count has zeros for all.
    now.values().any(|thread| thread.turns > 0).then(|| {
        let waited = |(tid, thread): (&u32, &Scheduled)| {
            thread.waited.saturating_sub(before.get(tid).map_or(0, |before| before.waited))
        };
        Duration::from_nanos(now.iter().map(waited).fold(0, u64::saturating_add))
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
    let mut fields = schedstat.split_whitespace().skip(1).map(str::parse);
    Some(Scheduled { waited: fields.next()?.ok()?, turns: fields.next()?.ok()? })
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
        assert_eq!(parse("5170935 14093 27\n"), Some(Scheduled { waited: 14_093, turns: 27 }));
        for garbage in ["", "1", "1 2", "1 x 3", "1 2 -3", "1 18446744073709551616 3"] {
            assert_eq!(parse(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn threads_add_up_by_what_each_has_waited_since() {
        let all = |threads: &[(u32, u64, u64)]| -> BTreeMap<u32, Scheduled> {
            threads.iter().map(|&(tid, waited, turns)| (tid, Scheduled { waited, turns })).collect()
        };
        let before = all(&[(1, 100, 5), (2, 50, 5), (3, 70, 5)]);
        let now = all(&[(1, 130, 9), (3, 70, 6), (4, 7, 1)]);
        assert_eq!(since(&before, &now), Some(Duration::from_nanos(37)), "one ended, and one is new");
        assert_eq!(since(&all(&[]), &all(&[(1, 0, 0)])), None, "nothing is counted");
        assert_eq!(since(&before, &all(&[])), None, "it has ended");
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
        assert!(waited.is_none_or(|waited| waited > elapsed / 2), "{waited:?} of {elapsed:?}");
        assert_eq!(none.so_far(), None);
    }
}
