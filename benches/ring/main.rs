//! A laboratory: the ring's choices one by one, as bare loops on loopback without the server around them.
//!
//! Each experiment compares variants of one choice. The variants take turns, in another order each time, so that a change
//! of the machine's mood meets them all, and none always has the same one before it. Shown are the median over the repetitions, the spread, and the ratio to what the server does, taken within
//! each repetition. The variant that the server uses has a star. What a variant costs is the CPU time of the thread that
//! runs the loop; its peers run on another CPU. `benches/README.md` has the results and what follows from them.

mod buffers;
mod crowd;
mod experiment;
mod fan;
mod lab;
mod peer;
mod polled;
mod received;
mod report;
mod serve;
mod shuffle;
mod sys;
mod uring;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use experiment::EXPERIMENTS;
use lab::{Cpus, Lab, Pace};
use uproar::ring::sys::{allowed_cpus, pin_to, raise_nofile};

/// Measures the choices that the ring is made of, on this kernel.
#[derive(Parser)]
struct Arguments {
    /// Experiments, by name; all without it
    #[arg(long, value_delimiter = ',', value_parser = EXPERIMENTS.map(|(name, _)| name))]
    only: Vec<String>,
    /// Samples of each variant [default: 5, or 3 if not --full]
    #[arg(long)]
    repeat: Option<usize>,
    /// Long samples: two minutes in all, where a quick look takes half of one
    #[arg(long)]
    full: bool,
    /// Also write every figure to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ring: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    raise_nofile()?;
    let cpus = cpus()?;
    pin_to(cpus.own)?;
    let pace = if arguments.full { Pace::Full } else { Pace::Quick };
    let mut lab = Lab::new(cpus, pace, arguments.repeat)?;
    println!("Linux {}, loop on CPU {}, peers on CPU {}; * is what the server does", lab.kernel(), cpus.own, cpus.peer);
    for (name, experiment) in EXPERIMENTS {
        if arguments.only.is_empty() || arguments.only.iter().any(|only| only == name) {
            lab.enter(name);
            experiment(&mut lab).map_err(|error| io::Error::other(format!("{name}: {error}")))?;
        }
    }
    match &arguments.json {
        Some(file) => lab.write(file),
        None => Ok(()),
    }
}

/// One CPU for the loop and one for its peers.
fn cpus() -> io::Result<Cpus> {
    match allowed_cpus()?[..] {
        [own, poller, .., peer] => Ok(Cpus { own, peer, poller }),
        [own, peer] => Ok(Cpus { own, peer, poller: peer }),
        _ => Err(io::Error::other("two CPUs are needed: one for the loop, one for its peers")),
    }
}
