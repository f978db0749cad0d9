//! What connections cost in memory: the server's, and the kernel's.

use std::collections::BTreeMap;

use crate::bench::Result;
use crate::bench::observe::{KernelMemory, Process, kernel_memory};
use crate::bench::report::{Figure, Series};

const MIB: f64 = (1 << 20) as f64;
/// Caches that grew by less for each connection did not grow because of it.
const LEAST_OF_A_CACHE: f64 = 1.0;
/// Points of a curve are at least so many connections apart, as a part of all.
const POINTS: u32 = 200;

/// Memory at one moment.
#[derive(Clone, Default, Debug)]
pub struct Memory {
    /// Bytes of the server that are resident, if it is known.
    pub server: Option<u64>,
    /// Bytes of the load that are resident.
    pub load: u64,
    /// The kernel's, of the whole machine.
    pub kernel: KernelMemory,
}

impl Memory {
    /// Now.
    pub fn now(server: Option<Process>) -> Result<Memory> {
        Ok(Memory {
            server: server.map(|process| process.resident()).transpose()?,
            load: Process::this().resident()?,
            kernel: kernel_memory(),
        })
    }

    /// Bytes of slab caches: of those that sockets use, or of all where only root may see which.
    fn slab(&self) -> u64 {
        self.kernel.slab.as_ref().map_or(self.kernel.slab_total, |caches| caches.values().sum())
    }

    fn caches(&self) -> BTreeMap<&str, u64> {
        let caches = self.kernel.slab.iter().flatten();
        caches.map(|(name, &bytes)| (name.as_str(), bytes)).collect()
    }
}

fn grown(now: u64, before: u64) -> f64 {
    now as f64 - before as f64
}

/// What each of so many connections has added to a machine's memory.
pub fn each(connections: u64, before: &Memory, now: &Memory) -> Vec<Figure> {
    if connections == 0 {
        return Vec::new();
    }
    let each = |now: u64, before: u64| grown(now, before) / connections as f64;
    let mut figures = Vec::new();
    if let (Some(now), Some(before)) = (now.server, before.server) {
        figures.push(Figure::new("server's resident memory a connection", "B", each(now, before)));
    }
    let slab = each(now.slab(), before.slab());
    figures.push(Figure::new("kernel's slab memory a connection, both ends", "B", slab));
    figures.push(Figure::new("… one end, if the two are alike", "B", slab / 2.0));
    let before_caches = before.caches();
    for (cache, bytes) in now.caches() {
        let bytes = each(bytes, before_caches.get(cache).copied().unwrap_or(0));
        if bytes >= LEAST_OF_A_CACHE {
            figures.push(Figure::new(format!("… {cache}, both ends"), "B", bytes));
        }
    }
    figures.push(Figure::new("load's resident memory a connection", "B", each(now.load, before.load)));
    figures.push(Figure::new(
        "machine's memory a connection, all told",
        "B",
        each(before.kernel.available, now.kernel.available),
    ));
    figures
}

/// What is left of it when they are closed.
pub fn left(before: &Memory, held: &Memory, after: &Memory) -> Vec<Figure> {
    let mib = |name: &str, now: u64, before: u64| Figure::new(name, "MiB", grown(now, before) / MIB);
    let mut figures = Vec::new();
    if let (Some(before), Some(held), Some(after)) = (before.server, held.server, after.server) {
        figures.push(mib("server's resident memory above the start, with all", held, before));
        figures.push(mib("… when all were closed", after, before));
    }
    figures.push(mib("kernel's slab memory above the start, with all", held.slab(), before.slab()));
    figures.push(mib("… when all were closed", after.slab(), before.slab()));
    figures.push(mib("machine's memory available at the start", before.kernel.available, 0));
    figures.push(mib("… with all", held.kernel.available, 0));
    figures.push(mib("… when all were closed", after.kernel.available, 0));
    figures
}

/// Memory against connections.
#[derive(Default, Debug)]
pub struct Curve {
    server: Vec<(f64, f64)>,
    slab: Vec<(f64, f64)>,
    machine: Vec<(f64, f64)>,
    /// At no connection.
    start: Memory,
    /// The next point is at so many connections, or beyond.
    next: u64,
    step: u64,
}

impl Curve {
    /// Of up to so many connections.
    pub fn new(connections: u32, start: &Memory) -> Curve {
        let step = u64::from(connections.div_ceil(POINTS)).max(1);
        let mut curve = Curve { start: start.clone(), step, ..Curve::default() };
        curve.add(0, start);
        curve
    }

    /// Whether a point at so many connections would show more.
    pub fn wants(&self, connections: u64) -> bool {
        connections >= self.next
    }

    /// Adds a point.
    pub fn add(&mut self, connections: u64, now: &Memory) {
        let x = connections as f64;
        if let (Some(now), Some(start)) = (now.server, self.start.server) {
            self.server.push((x, grown(now, start) / MIB));
        }
        self.slab.push((x, grown(now.slab(), self.start.slab()) / MIB));
        self.machine.push((x, grown(self.start.kernel.available, now.kernel.available) / MIB));
        self.next = connections + self.step;
    }

    /// The lines of one plot, each of what was added since the start.
    pub fn series(self) -> Vec<Series> {
        let lines = [
            ("server, resident", self.server),
            ("kernel's slab caches, both ends", self.slab),
            ("machine, all told", self.machine),
        ];
        let lines = lines.into_iter().filter(|(_, points)| !points.is_empty());
        let series = lines.map(|(name, points)| Series {
            plot: "Memory against connections".into(),
            name: name.into(),
            unit: "MiB".into(),
            over: "connections".into(),
            points,
        });
        series.collect()
    }
}
