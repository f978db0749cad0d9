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
    figures.push(Figure::new("kernel's slab memory a connection, one end, if the two are alike", "B", slab / 2.0));
    let before_caches = before.caches();
    for (cache, bytes) in now.caches() {
        let bytes = each(bytes, before_caches.get(cache).copied().unwrap_or(0));
        if bytes >= LEAST_OF_A_CACHE {
            figures.push(Figure::new(format!("kernel's slab memory a connection, both ends: {cache}"), "B", bytes));
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
        figures.push(mib("server's resident memory above the start, when all were closed", after, before));
    }
    figures.push(mib("kernel's slab memory above the start, with all", held.slab(), before.slab()));
    figures.push(mib("kernel's slab memory above the start, when all were closed", after.slab(), before.slab()));
    figures.push(mib("machine's memory available, at the start", before.kernel.available, 0));
    figures.push(mib("machine's memory available, with all", held.kernel.available, 0));
    figures.push(mib("machine's memory available, when all were closed", after.kernel.available, 0));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(server: u64, slab: &[(&str, u64)], available: u64) -> Memory {
        let slab = slab.iter().map(|&(name, bytes)| (name.to_owned(), bytes)).collect();
        let kernel = KernelMemory { slab: Some(slab), slab_total: 1 << 40, available, ..KernelMemory::default() };
        Memory { server: Some(server), load: 7, kernel }
    }

    fn values(figures: &[Figure]) -> Vec<(&str, f64)> {
        figures.iter().map(|figure| (figure.name.as_str(), figure.value)).collect()
    }

    #[test]
    fn what_a_connection_costs_is_told_by_cache() {
        let before = memory(1000, &[("TCP", 500), ("dentry", 9000)], 50_000);
        let now = memory(2130, &[("TCP", 48_500), ("dentry", 9009), ("filp", 2000)], 20_000);
        let expected = [
            ("server's resident memory a connection", 113.0),
            ("kernel's slab memory a connection, both ends", 5000.9),
            ("kernel's slab memory a connection, one end, if the two are alike", 2500.45),
            ("kernel's slab memory a connection, both ends: TCP", 4800.0),
            ("kernel's slab memory a connection, both ends: filp", 200.0),
            ("load's resident memory a connection", 0.0),
            ("machine's memory a connection, all told", 3000.0),
        ];
        assert_eq!(values(&each(10, &before, &now)), expected);
        assert_eq!(each(0, &before, &now), []);
    }

    #[test]
    fn what_only_root_may_see_is_not_needed() {
        let kernel = |slab_total| KernelMemory { slab_total, ..KernelMemory::default() };
        let at = |slab_total| Memory { server: None, load: 0, kernel: kernel(slab_total) };
        let figures = each(10, &at(100), &at(1100));
        assert_eq!(values(&figures)[0], ("kernel's slab memory a connection, both ends", 100.0));
        assert!(left(&at(0), &at(1 << 20), &at(0)).iter().all(|figure| !figure.name.contains("server")));
    }

    #[test]
    fn what_is_left_may_be_less_than_there_was() {
        let mib = |n: u64| n << 20;
        let at = |server, slab, available| memory(mib(server), &[("TCP", mib(slab))], mib(available));
        let figures = left(&at(10, 5, 100), &at(12, 45, 60), &at(11, 4, 99));
        assert_eq!(
            values(&figures).iter().map(|(_, value)| *value).collect::<Vec<_>>(),
            [2., 1., 40., -1., 100., 60., 99.]
        );
    }

    #[test]
    fn a_curve_has_points_at_distances() {
        let at = |connections: u64| memory(1000 + (connections << 20), &[("TCP", connections << 21)], 1 << 40);
        let mut curve = Curve::new(2000, &at(0));
        for connections in 0..=2000 {
            if curve.wants(connections) {
                curve.add(connections, &at(connections));
            }
        }
        let [server, slab, machine] = &curve.series()[..] else { panic!("three lines") };
        assert_eq!(server.points.len(), 201);
        assert_eq!((server.points[1], slab.points[1], machine.points[1]), ((10.0, 10.0), (10.0, 20.0), (10.0, 0.0)));
        assert_eq!((server.points[200], server.over.as_str()), ((2000.0, 2000.0), "connections"));
    }
}
