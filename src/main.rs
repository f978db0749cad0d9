//! The `uproar` command.

use std::process::ExitCode;

use uproar::cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run(cli::parse(), uproar::server::serve)
}
