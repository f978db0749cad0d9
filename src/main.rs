//! The `uproar` command.

use std::process::ExitCode;

use uproar::cli;
use uproar::server::{Surroundings, serve};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything starts a thread.
    let surroundings = Surroundings::of_process();
    cli::run(cli::parse(), |config, source| serve(config, source, surroundings?))
}
