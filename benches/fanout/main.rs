//! What a broadcast costs, end to end: servers of any make against each other and against a bare loop of sends.
//! `benches/README.md` tells how it is measured.

mod bystander;
mod client;
mod floor;
mod peer;
mod report;
mod scenario;
mod sys;

use clap::{Parser, ValueEnum};
use peer::{Contender, Result};
use report::Report;
use scenario::Scenario;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Bytes that a scenario may have under way in the kernel.
const MOST_IN_FLIGHT: usize = 512 << 20;
/// Repetitions of the scenarios that take several seconds each, with `--full`.
const LONG_REPEAT: usize = 3;

/// Measures what a broadcast costs each contender.
#[derive(Parser)]
struct Arguments {
    /// Install the other servers (npm ci) and measure them too
    #[arg(long)]
    peers: bool,
    /// Whom to measure, instead of the floors and uproar
    #[arg(long, value_delimiter = ',')]
    contenders: Vec<Contender>,
    /// What to measure
    #[arg(long, value_delimiter = ',', default_value = "single,burst,idle,stalled,bystander")]
    scenarios: Vec<Kind>,
    /// Subscribers of single and burst
    #[arg(long, value_delimiter = ',')]
    subscribers: Vec<usize>,
    /// Bytes of a message of single and burst
    #[arg(long, value_delimiter = ',')]
    payload: Vec<usize>,
    /// Messages of a burst
    #[arg(long, value_delimiter = ',')]
    burst: Vec<usize>,
    /// Connections of idle and bystander
    #[arg(long)]
    connections: Option<usize>,
    /// Repetitions of single and burst, and of the others
    #[arg(long)]
    repeat: Option<usize>,
    /// A look in a few seconds a contender
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Every size, every crowd: tens of minutes
    #[arg(long)]
    full: bool,
    /// Also write every figure to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
    /// Be a floor
    #[arg(long, hide = true, requires_all = ["port", "slots"])]
    serve_floor: Option<floor::Floor>,
    #[arg(long, hide = true)]
    port: Option<u16>,
    #[arg(long, hide = true)]
    slots: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Single,
    Burst,
    Idle,
    Stalled,
    Bystander,
}

/// How long things are looked at.
pub struct Pace {
    /// Before measuring.
    pub warm_up: Duration,
    /// A fan-out.
    pub measure: Duration,
    /// Each half of a bystander's measurement.
    pub phase: Duration,
}

impl Arguments {
    fn contenders(&self) -> Vec<Contender> {
        let mut chosen = self.contenders.clone();
        if chosen.is_empty() {
            chosen.extend([Contender::Floor, Contender::Send, Contender::Uproar]);
            chosen.extend(self.peers.then_some([Contender::Bun, Contender::Ws]).into_iter().flatten());
        }
        chosen
    }

    fn pace(&self) -> Pace {
        let [warm_up, measure, phase] = if self.quick { [100, 200, 1000] } else { [150, 300, 2000] };
        let [warm_up, measure, phase] = [warm_up, measure, phase].map(Duration::from_millis);
        Pace { warm_up, measure, phase }
    }

    fn scenarios(&self) -> Vec<Scenario> {
        let connections = self.connections.unwrap_or(if self.quick { 2_000 } else { 15_000 });
        self.scenarios
            .iter()
            .flat_map(|kind| match kind {
                Kind::Single => self.fan_outs(&[1]),
                Kind::Burst => self.fan_outs(self.choose(&self.burst, &[32], &[8, 32])),
                Kind::Idle => vec![Scenario::Idle { connections }],
                Kind::Stalled => vec![Scenario::Stalled { published: 16 << 20 }],
                Kind::Bystander => vec![Scenario::Bystander { subscribers: connections }],
            })
            .collect()
    }

    fn fan_outs(&self, bursts: &[usize]) -> Vec<Scenario> {
        let crowds = self.choose(&self.subscribers, &[1_000], &[100, 1_000, 10_000]);
        let payloads = self.choose(&self.payload, &[64], &[64, 1024, 16 << 10]);
        let of = |&burst| {
            crowds.iter().flat_map(move |&subscribers| {
                payloads.iter().map(move |&payload| Scenario::FanOut { subscribers, payload, burst })
            })
        };
        bursts.iter().flat_map(of).collect()
    }

    /// What was asked for, or else the default or, with `--full`, everything.
    fn choose<'a>(&self, asked: &'a [usize], default: &'a [usize], full: &'a [usize]) -> &'a [usize] {
        match asked {
            [] if self.full => full,
            [] => default,
            asked => asked,
        }
    }

    fn repeat(&self, scenario: &Scenario) -> usize {
        let usual = match scenario {
            _ if self.quick => 1,
            Scenario::FanOut { .. } => 5,
            _ if self.full => LONG_REPEAT,
            _ => 1,
        };
        self.repeat.unwrap_or(usual)
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fanout: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures everything asked for; `false` if some contender could not be measured.
fn run(arguments: &Arguments) -> Result<bool> {
    if let (Some(kind), Some(port), Some(slots)) = (arguments.serve_floor, arguments.port, arguments.slots) {
        floor::serve(kind, port, slots)?;
        return Ok(true);
    }
    let open_files = sys::raise_open_files()?;
    peer::pin_load()?;
    if arguments.peers {
        peer::install()?;
    }
    let mut report = Report::default();
    for scenario in arguments.scenarios() {
        if scenario.bytes_in_flight() > MOST_IN_FLIGHT || scenario.connections() as u64 > open_files {
            println!("\n{scenario}: left out, needs too much memory or too many open files ({open_files})");
            continue;
        }
        measure(arguments, &scenario, &mut report);
        print!("{}", report.table(&scenario.to_string()));
    }
    if let Some(file) = &arguments.json {
        report.write(file)?;
    }
    Ok(report.failures().is_empty())
}

/// Lets the contenders take turns, so that a change of the machine's mood meets them all.
fn measure(arguments: &Arguments, scenario: &Scenario, report: &mut Report) {
    let contenders = arguments.contenders();
    let pace = arguments.pace();
    let name = scenario.to_string();
    for repetition in 0..arguments.repeat(scenario) {
        for &contender in contenders.iter().filter(|&&contender| scenario.suits(contender)) {
            match scenario.run(contender, &pace) {
                Ok(figures) => report.add(&name, contender, repetition, figures),
                Err(error) => {
                    eprintln!("{name}: {contender}: {error}");
                    report.fail(format!("{name}: {contender}: {error}"));
                }
            }
        }
    }
}
