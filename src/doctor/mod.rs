//! `uproar doctor`: what of this machine is fit for many connections, what is not, and what mends it.
//!
//! ```text
//! Root ─▶ Machine ─┐
//!                  ├─▶ checks ─▶ findings ─▶ text or JSON, exit status
//! Options ▶ Wanted ┘                 └─────▶ plan ─▶ diff ─▶ changes, and how to take them back
//! ```
//!
//! It changes nothing unless it is told to.

mod apply;
mod checks;
mod finding;
mod machine;
mod render;
mod root;
mod sysctl;
#[cfg(test)]
mod tests;
mod wanted;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;

use crate::config::Config;
use crate::limits::{MAX_CONNECTIONS_PER_SHARD, MAX_SHARDS};
use crate::ring::{Ring, Setup, WakeFd};

use apply::{ApplyError, Plan, State};
use finding::{Finding, Severity};
use machine::Machine;
use render::Report;
use root::Root;
use wanted::Wanted;

/// The exit status if what was asked for could not be done.
const FAILED: u8 = 4;
/// Slots of the ring that is made to see whether one can be made.
const TRIAL_SLOTS: u32 = 16;

const AFTER_HELP: &str = "\
Exit codes:
  0  nothing has to be changed, as far as can be told
  1  something should be changed
  2  bad usage
  3  something must be changed: so many connections are impossible as it is
  4  it could not look, or could not change what it was to

Limits are those of processes that this shell starts; --pid looks at those of a running server.
The guide is in tuning/.";

/// Bytes of memory that this process can have: all of the machine's, or what its control groups allow.
pub fn memory_of_this_process() -> Option<u64> {
    machine::memory_of(&Root::new(PathBuf::from("/")), "self")
}

/// What is to be looked at.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Options {
    /// For how many connections
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=most()))]
    connections: u64,
    /// For how many shards [default: one for each core that may be used]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_SHARDS as i64))]
    shards: Option<u32>,
    /// The port that the server listens to
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// What counts most besides
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// Look at this process's limits and control groups, a running server's, instead of those of this shell
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Print the findings as JSON
    #[arg(long, conflicts_with_all = ["apply", "revert"])]
    json: bool,
    /// Change what can be changed by itself: show a diff, ask, keep what was there, write, look again
    #[arg(long)]
    apply: bool,
    /// Put back what --apply has changed: show a diff, ask, write, look again
    #[arg(long, conflicts_with = "apply")]
    revert: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Where /proc, /sys, /etc and /var are
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

/// What a machine can be tuned for besides the number of connections.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Profile {
    /// The lowest latency, whatever power and throughput it costs
    Latency,
}

const fn most() -> u64 {
    MAX_CONNECTIONS_PER_SHARD as u64 * MAX_SHARDS as u64
}

/// Looks, prints what it finds, and changes what it was told to. The help names the exit codes.
pub fn run(options: &Options) -> ExitCode {
    let doctor = Doctor::new(options);
    let process = format!("/proc/{}", doctor.process);
    if !doctor.root.exists(&process) {
        eprintln!("uproar doctor: there is no {process} to look at");
        return ExitCode::from(FAILED);
    }
    let outcome = match (options.apply, options.revert) {
        (true, _) => doctor.apply(options.yes),
        (_, true) => doctor.revert(options.yes),
        _ => Ok(()),
    };
    if let Err(error) = &outcome {
        eprintln!("uproar doctor: {error}");
    }
    let severity = doctor.look(options.json);
    ExitCode::from(match (outcome, severity) {
        (Err(_), _) => FAILED,
        (_, Severity::Fine | Severity::Unknown) => 0,
        (_, Severity::Should) => 1,
        (_, Severity::Must) => 3,
    })
}

/// What is looked at, and for what.
struct Doctor {
    root: Root,
    process: String,
    wanted: Wanted,
}

impl Doctor {
    fn new(options: &Options) -> Doctor {
        let shards = options.shards.unwrap_or(Config::default().shards);
        let latency = options.profile == Some(Profile::Latency);
        Doctor {
            root: Root::new(options.root.clone()),
            process: options.pid.map_or("self".to_owned(), |pid| pid.to_string()),
            wanted: Wanted::new(options.connections, shards.into(), options.port, latency),
        }
    }

    /// Reads the machine and runs the checks.
    fn examine(&self) -> (Machine, Vec<Finding>) {
        let mut machine = Machine::read(&self.root, &checks::sysctls(&self.wanted), &self.process);
        // Of a tree of files, or of another process, only what is written can be known.
        if self.root.is_real() && self.process == "self" {
            machine.io_uring = Some(try_ring());
        }
        let findings = checks::all(&machine, &self.wanted);
        (machine, findings)
    }

    /// Prints what there is to say, and returns the worst of it.
    fn look(&self, json: bool) -> Severity {
        let (machine, findings) = self.examine();
        let report = Report { machine: &machine, wanted: &self.wanted, findings: &findings };
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        say(&if json { report.json() } else { report.text(colour) });
        report.severity()
    }

    fn apply(&self, yes: bool) -> Result<(), ApplyError> {
        let plan = Plan::mending(&self.root, &self.examine().1)?;
        if agreed(&plan, "there is nothing that can be changed by itself", yes) {
            apply::apply(&self.root, &plan)?;
        }
        Ok(())
    }

    fn revert(&self, yes: bool) -> Result<(), ApplyError> {
        let Some(state) = State::load(&self.root)? else {
            say("Nothing was applied: there is nothing to put back.\n\n");
            return Ok(());
        };
        let plan = Plan::reverting(&self.root, &state)?;
        if plan.is_empty() || agreed(&plan, "there is nothing to put back", yes) {
            apply::revert(&self.root, &plan, &state)?;
        }
        Ok(())
    }
}

/// Shows a plan, and asks whether it is to be carried out. Without a terminal to ask on, it is not.
fn agreed(plan: &Plan, nothing: &str, yes: bool) -> bool {
    if plan.is_empty() {
        say(&format!("Nothing is changed: {nothing}.\n\n"));
        return false;
    }
    say(&plan.show());
    if yes {
        say("\n");
        return true;
    }
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        say("\nNothing is changed: --yes does it without asking.\n\n");
        return false;
    }
    say("\nShall this be done? [y/N] ");
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer).is_ok();
    say("\n");
    read && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}

/// Whether a shard's ring can be made here: what it offers, or what stands in the way.
fn try_ring() -> Result<String, String> {
    let wake = WakeFd::new().map_err(|error| format!("cannot make an eventfd: {error}"))?;
    let setup = Setup { slots: TRIAL_SLOTS, listeners: Vec::new(), wake: Arc::new(wake) };
    let ring = Ring::new(setup).map_err(|error| error.to_string())?;
    let features = ring.features();
    let newer = [(features.no_sqarray, "no_sqarray"), (features.no_iowait, "no_iowait")];
    let newer: Vec<_> = newer.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect();
    Ok(if newer.is_empty() {
        "all that is needed".to_owned()
    } else {
        format!("all that is needed, {}", newer.join(", "))
    })
}

/// Writes to standard output; whoever closed it does not want to know.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
