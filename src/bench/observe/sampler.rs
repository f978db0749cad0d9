//! Looks at the server, the load and the kernel at regular times, on a thread of its own.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::kernel::{self, KernelMemory};
use super::{Process, percent};
use crate::bench::report::{Series, quantity};

/// Samples until it is stopped.
#[derive(Debug)]
pub struct Sampler {
    taken: Arc<Mutex<Vec<Sample>>>,
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

/// What was seen at a time since the start; nothing of a server that is not known, or has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sample {
    at: Duration,
    server_cpu: Option<Duration>,
    load_cpu: Option<Duration>,
    resident: Option<u64>,
    kernel: KernelMemory,
}

impl Sampler {
    /// Begins, with the server if its process is known.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(server: Option<Process>, interval: Duration) -> io::Result<Sampler> {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = mpsc::channel();
        let (samples, start) = (Arc::clone(&taken), Instant::now());
        let take = move || {
            let sample = Sample::take(server, start);
            let at = sample.at;
            samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
            at
        };
        let thread = thread::Builder::new().name("sampler".into()).spawn(move || {
            let mut last = take();
            let mut next = interval;
            while stopped.recv_timeout(next.saturating_sub(start.elapsed())) == Err(RecvTimeoutError::Timeout) {
                last = take();
                // After a delay, no two samples right behind each other: CPU over no time is noise.
                next = (next + interval).max(last + interval / 2);
            }
            // What is left of the last interval counts if it is long enough to be measured.
            if start.elapsed().saturating_sub(last) >= interval / 2 {
                take();
            }
        })?;
        Ok(Sampler { taken, stop, thread })
    }

    /// The newest, as rows of a table: names and values.
    pub fn latest(&self) -> Vec<(&'static str, String)> {
        match self.taken.lock().unwrap_or_else(PoisonError::into_inner).as_slice() {
            [.., before, sample] => rows(before, sample),
            _ => Vec::new(),
        }
    }

    /// Ends, and gives what was seen: CPU in percent of one core, memory in MiB, over seconds since the start.
    pub fn stop(self) -> Vec<Series> {
        drop(self.stop);
        // A thread that has panicked has left what it saw before.
        let _ = self.thread.join();
        series(&self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sample {
    fn take(server: Option<Process>, start: Instant) -> Sample {
        Sample {
            at: start.elapsed(),
            server_cpu: server.and_then(|process| process.cpu().ok()),
            load_cpu: Process::this().cpu().ok(),
            resident: server.and_then(|process| process.resident().ok()),
            // To count the slabs cache by cache takes the kernel's lock on them.
            kernel: kernel::without_caches(),
        }
    }
}

/// Percent of one core between two samples.
fn busy(before: &Sample, after: &Sample, cpu: fn(&Sample) -> Option<Duration>) -> Option<f64> {
    let time = after.at.checked_sub(before.at).filter(|time| !time.is_zero())?;
    Some(percent(cpu(after)?.saturating_sub(cpu(before)?), time))
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

fn rows(before: &Sample, sample: &Sample) -> Vec<(&'static str, String)> {
    let rows = [
        ("server CPU", "%", busy(before, sample, |sample| sample.server_cpu)),
        ("load CPU", "%", busy(before, sample, |sample| sample.load_cpu)),
        ("server resident", "B", sample.resident.map(|bytes| bytes as f64)),
        ("TCP buffers", "B", Some(sample.kernel.buffers as f64)),
    ];
    let known = rows.into_iter().filter_map(|(name, unit, value)| Some((name, quantity::show(value?, unit))));
    known.collect()
}

/// Lines of two plots, without those that have no point.
fn series(samples: &[Sample]) -> Vec<Series> {
    let line = |plot: &str, name: &str, unit: &str, points: Vec<(f64, f64)>| Series {
        plot: plot.into(),
        name: name.into(),
        unit: unit.into(),
        over: "s".into(),
        points,
    };
    let cpu = |name: &str, of: fn(&Sample) -> Option<Duration>| {
        let pairs = samples.windows(2).filter_map(|pair| match pair {
            [before, after] => Some((after.at.as_secs_f64(), busy(before, after, of)?)),
            _ => None,
        });
        line("CPU", name, "%", pairs.collect())
    };
    let memory = |name: &str, of: &dyn Fn(&Sample) -> Option<f64>| {
        let points = samples.iter().filter_map(|sample| Some((sample.at.as_secs_f64(), mebibytes(of(sample)?))));
        line("memory", name, "MiB", points.collect())
    };
    let slabs = samples.first().map_or(0, |first| first.kernel.slab_total) as f64;
    let lines = [
        cpu("server", |sample| sample.server_cpu),
        cpu("load", |sample| sample.load_cpu),
        memory("server, resident", &|sample| sample.resident.map(|bytes| bytes as f64)),
        memory("machine, TCP buffers", &|sample| Some(sample.kernel.buffers as f64)),
        memory("machine, growth of slabs", &|sample| Some(sample.kernel.slab_total as f64 - slabs)),
    ];
    lines.into_iter().filter(|line| !line.points.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: u64, server: Option<u64>, load: u64, resident: Option<u64>, slab_total: u64) -> Sample {
        let [at, load] = [at, load].map(Duration::from_millis);
        let kernel = KernelMemory { slab_total, buffers: 3 << 20, ..KernelMemory::default() };
        Sample { at, server_cpu: server.map(Duration::from_millis), load_cpu: Some(load), resident, kernel }
    }

    #[test]
    fn samples_become_series() {
        let samples = [
            sample(0, Some(100), 0, Some(4 << 20), 100 << 20),
            sample(500, Some(600), 50, Some(6 << 20), 107 << 20),
            sample(1000, None, 300, None, 99 << 20),
        ];
        let series = series(&samples);
        let points = |name: &str| {
            let found = series.iter().find(|series| series.name == name).unwrap();
            (found.plot.as_str(), found.unit.as_str(), found.points.clone())
        };
        assert_eq!(points("server"), ("CPU", "%", vec![(0.5, 100.0)]), "it has ended since");
        assert_eq!(points("load"), ("CPU", "%", vec![(0.5, 10.0), (1.0, 50.0)]));
        assert_eq!(points("server, resident"), ("memory", "MiB", vec![(0.0, 4.0), (0.5, 6.0)]));
        assert_eq!(points("machine, TCP buffers").2, [(0.0, 3.0), (0.5, 3.0), (1.0, 3.0)]);
        assert_eq!(points("machine, growth of slabs").2, [(0.0, 0.0), (0.5, 7.0), (1.0, -1.0)]);
        assert!(super::series(&[]).is_empty());
    }

    #[test]
    fn without_a_server_there_is_no_line_of_it() {
        let samples = [sample(0, None, 0, None, 0), sample(500, None, 50, None, 0), sample(500, None, 50, None, 0)];
        let names: Vec<String> = series(&samples).into_iter().map(|series| series.name).collect();
        assert_eq!(names, ["load", "machine, TCP buffers", "machine, growth of slabs"]);
        assert_eq!(series(&samples)[0].points.len(), 1, "no time passed between the last two");
        assert_eq!(rows(&samples[0], &samples[1]), [("load CPU", "10 %".into()), ("TCP buffers", "3.00 MiB".into())]);
    }

    #[test]
    fn it_samples_until_it_is_stopped() {
        let interval = Duration::from_millis(20);
        let sampler = Sampler::start(Some(Process::this()), interval).unwrap();
        let start = Instant::now();
        while start.elapsed() < 10 * interval {}
        assert_eq!(sampler.latest().len(), 4);
        let series = sampler.stop();
        assert_eq!(series.len(), 5);
        let resident = &series[2].points;
        assert!((3..=12).contains(&resident.len()), "{resident:?}");
        assert!(resident.is_sorted() && resident.iter().all(|point| point.1 > 0.1), "{resident:?}");
        let busy = series[0].points.iter().map(|point| point.1).fold(0.0, f64::max);
        assert!(busy > 10.0, "this thread was busy: {busy} %");
    }

    #[test]
    fn one_that_is_forgotten_ends() {
        let sampler = Sampler::start(None, Duration::from_secs(3600)).unwrap();
        let Sampler { stop, thread, .. } = sampler;
        drop(stop);
        thread.join().unwrap();
    }
}
