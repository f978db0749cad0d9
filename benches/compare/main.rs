//! Uproar, the floors and its peers in one run: servers of any make under the load of `uproar bench`.
//! `benches/README.md` tells how it is measured.

mod contender;
mod load;
mod machine;
mod plan;
mod plots;
mod record;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use regex::Regex;

use contender::{Contender, LOAD_CORE, SERVER_CORE, Server};
use machine::Machine;
use plan::{Cell, Pace};
use record::Record;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const REPEAT: usize = 5;
/// Of the few cells that are measured if nothing is asked for.
const SHORT_REPEAT: usize = 3;

/// Compares Uproar with the floors and its peers. Without options, a short run of Uproar and the floors alone.
#[derive(Parser, Default)]
struct Arguments {
    /// Everything, five times; writes benches/record/<date>
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// Everything, but briefly, once, and with smaller crowds
    #[arg(long)]
    quick: bool,
    /// Only cells whose names match: '^single', 'to 1,000$'
    #[arg(long, value_name = "REGEX")]
    only: Option<Regex>,
    /// Whom to measure: floor, send, uproar, bun, tungstenite, ws
    #[arg(long, value_delimiter = ',')]
    contenders: Vec<Contender>,
    /// Repetitions
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    repeat: Option<u16>,
    /// Write the record, its table and its plots to this directory
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Measure nothing: make table and plots of this record again
    #[arg(long, value_name = "DIR")]
    render: Option<PathBuf>,
    /// Measure nothing: make the README's table, of this record or of the newest
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    readme: Option<Option<PathBuf>>,
    /// As `--only`, but of the short run: what `cargo bench -- FILTER` gives all benchmarks
    filter: Option<Regex>,
    /// Given by cargo bench, not by cargo test
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    /// Nothing but a filter was asked for.
    fn is_short(&self) -> bool {
        !self.full && !self.quick && self.only.is_none() && self.contenders.is_empty()
    }

    fn cells(&self) -> Vec<Cell> {
        let mut cells = match self {
            _ if self.is_short() => plan::short(Pace::CALM),
            _ if self.quick => plan::all(Pace::QUICK),
            _ => plan::all(Pace::FULL),
        };
        let patterns: Vec<&Regex> = self.only.iter().chain(&self.filter).collect();
        cells.retain(|cell| patterns.iter().all(|pattern| pattern.is_match(&cell.id())));
        cells
    }

    fn contenders(&self) -> Vec<Contender> {
        match self {
            _ if !self.contenders.is_empty() => self.contenders.clone(),
            _ if self.is_short() => vec![Contender::Floor, Contender::Send, Contender::Uproar],
            _ => table::CONTENDERS.into(),
        }
    }

    fn repeat(&self) -> usize {
        match self {
            Arguments { repeat: Some(repeat), .. } => (*repeat).into(),
            _ if self.quick => 1,
            _ if self.is_short() => SHORT_REPEAT,
            _ => REPEAT,
        }
    }

    /// Where the record goes, if anywhere.
    fn record_dir(&self, date: &str) -> Option<PathBuf> {
        let dated = || package().join("benches/record").join(date);
        self.record.clone().or_else(|| self.full.then(dated))
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::from(2)
        }
    }
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Does what was asked for; `false` if some contender could not be measured.
fn run(arguments: &Arguments) -> Result<bool> {
    match arguments {
        Arguments { readme: Some(dir), .. } => readme(dir.clone()).map(|()| true),
        Arguments { render: Some(dir), .. } => render(&Record::read(dir)?, dir).map(|()| true),
        Arguments { bench: false, .. } => {
            println!("compare: measures only as `cargo bench --bench compare`");
            Ok(true)
        }
        arguments => compare(arguments),
    }
}

fn compare(arguments: &Arguments) -> Result<bool> {
    let (cells, contenders) = (arguments.cells(), arguments.contenders());
    if cells.is_empty() {
        return Ok(true);
    }
    machine::check_cores(&[SERVER_CORE, LOAD_CORE])?;
    // Servers and load inherit it.
    uproar::ring::sys::raise_nofile()?;
    if let Err(error) = contender::prepare(&contenders) {
        eprintln!("compare: {error}: what is missing will fail");
    }
    let mut record = Record { machine: Machine::this(), ..Record::default() };
    for (done, cell) in cells.iter().enumerate() {
        eprintln!("{} of {}: {}", done + 1, cells.len(), cell.id());
        measure(cell, &contenders, arguments.repeat(), &mut record);
        print!("{}", table::terminal(&record, cell));
    }
    if let Some(dir) = arguments.record_dir(&record.machine.date) {
        record.write(&dir)?;
        render(&record, &dir)?;
        println!("\nwritten to {}", dir.display());
    }
    Ok(record.failures.is_empty())
}

/// Lets the contenders take turns, so that a change of the machine's mood meets them all, and each begin once.
fn measure(cell: &Cell, contenders: &[Contender], repeat: usize, record: &mut Record) {
    let mut contenders: Vec<Contender> = contenders.iter().copied().filter(|&c| cell.part.suits(c)).collect();
    for repetition in 0..repeat {
        for &contender in &contenders {
            let (outcome, waited) = load::undisturbed(|| {
                Server::start(contender, cell.part.setting()).and_then(|mut server| load::run(cell, &mut server))
            });
            if let Err(error) = &outcome {
                eprintln!("{contender} failed: {error}");
            }
            record.note_disturbances(&cell.id(), contender, repetition, &outcome, waited);
            record.add(&cell.id(), contender, repetition, outcome);
        }
        if !contenders.is_empty() {
            contenders.rotate_left(1);
        }
    }
}

/// Makes table and plots of a record.
fn render(record: &Record, dir: &Path) -> Result<()> {
    fs::write(dir.join("table.md"), table::page(record))?;
    plots::write(record, dir)
}

/// Makes the README's table of a record, or of the newest.
fn readme(dir: Option<PathBuf>) -> Result<()> {
    let dir = dir.or_else(|| record::newest(&package().join("benches/record"))).ok_or("there is no record")?;
    let file = package().join("README.md");
    let made = table::in_readme(&fs::read_to_string(&file)?, &table::readme(&Record::read(&dir)?, &name_of(&dir)?));
    Ok(fs::write(file, made.ok_or("README.md has no place for the table")?)?)
}

/// A directory as the README links to it: from the package's directory.
fn name_of(dir: &Path) -> Result<String> {
    let dir = dir.canonicalize()?;
    Ok(dir.strip_prefix(package().canonicalize()?)?.display().to_string())
}
