//! `uproar doctor`: what of this machine is fit for many connections, what is not, and what mends it.

use std::process::ExitCode;

/// What is to be looked at.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// For how many connections
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    connections: u64,
}

/// Looks, and prints what it finds.
pub fn run(_options: &Options) -> ExitCode {
    ExitCode::SUCCESS
}
