//! How experiments are run: whose turn it is, how long a sample takes, what becomes of it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::report::Table;
use crate::shuffle::Shuffler;
use crate::sys;

/// A sample takes a fraction of a second; one that takes so much longer has lost a message, and will wait for ever.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the two sides run.
#[derive(Clone, Copy)]
pub struct Cpus {
    pub own: usize,
    pub peer: usize,
    /// For a ring's poller; that of the peers where there is no third.
    pub poller: usize,
}

/// How thorough to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    Quick,
    Full,
}

/// One way of doing a thing.
pub struct Variant<'a> {
    /// What it is.
    pub name: String,
    /// The Linux version that it needs, where that is newer than what the server needs anyway (6.1).
    pub since: &'static str,
    /// Whether it is what the server does, which the others are compared with.
    pub base: bool,
    /// Measures it once: a value for each column of the table.
    pub sample: Box<dyn FnMut() -> io::Result<Vec<f64>> + 'a>,
}

impl<'a> Variant<'a> {
    pub fn new(name: impl Into<String>, sample: impl FnMut() -> io::Result<Vec<f64>> + 'a) -> Variant<'a> {
        Variant { name: name.into(), since: "", base: false, sample: Box::new(sample) }
    }

    pub fn since(self, since: &'static str) -> Variant<'a> {
        Variant { since, ..self }
    }

    /// Marks what the server does.
    pub fn base(self, base: bool) -> Variant<'a> {
        Variant { base, ..self }
    }
}

/// The laboratory.
pub struct Lab {
    pub cpus: Cpus,
    pace: Pace,
    repeat: usize,
    kernel: String,
    experiment: &'static str,
    tables: Vec<Table>,
}

impl Lab {
    pub fn new(cpus: Cpus, pace: Pace, repeat: Option<usize>) -> io::Result<Lab> {
        let repeat = repeat.unwrap_or(if pace == Pace::Full { 5 } else { 3 }).max(1);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
        Ok(Lab { cpus, pace, repeat, kernel, experiment: "", tables: Vec::new() })
    }

    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// Begins an experiment: what is compared from here on is part of it.
    pub fn enter(&mut self, experiment: &'static str) {
        self.experiment = experiment;
    }

    /// How many of a full sample's operations to do.
    pub fn scale(&self, full: u64) -> u64 {
        if self.pace == Pace::Full { full } else { full.div_ceil(3) }
    }

    /// Lets the variants take turns, in another order each time, and prints the table. The first column is the one whose ratio to the base is taken.
    ///
    /// A variant that this kernel does not have is left out, and the table says so. Any other failure is an error.
    pub fn compare(&mut self, title: &str, columns: &[&'static str], mut variants: Vec<Variant>) -> io::Result<()> {
        let mut table = Table::new(self.experiment, title, columns);
        for variant in &variants {
            table.row(&variant.name, variant.since, variant.base);
        }
        let mut turns: Vec<usize> = (0..variants.len()).collect();
        let mut shuffler = Shuffler::default();
        for _ in 0..self.repeat {
            shuffler.shuffle(&mut turns);
            let mut missing = Vec::new();
            for &row in &turns {
                let variant = &mut variants[row];
                let _deadline = sys::Deadline::after(SAMPLE_TIMEOUT);
                match (variant.sample)() {
                    Ok(values) => table.add(row, &values),
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => missing.push(row),
                    Err(error) => return Err(io::Error::other(format!("{title}: {}: {error}", variant.name))),
                }
            }
            turns.retain(|row| !missing.contains(row));
        }
        println!("\n{}", table.text(&self.kernel));
        self.tables.push(table);
        Ok(())
    }

    /// Says something about what was, or was not, measured.
    pub fn note(&self, text: &str) {
        println!("{text}");
    }

    /// Writes every sample as JSON.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(io::Error::other)?.as_secs();
        let report = serde_json::json!({ "unix_time": time, "kernel": self.kernel, "tables": self.tables });
        fs::write(file, serde_json::to_string_pretty(&report)?)
    }
}
