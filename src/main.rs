//! The `uproar` command.

use std::process::ExitCode;

use uproar::cli;
use uproar::ring::sys;
use uproar::server::{Surroundings, serve};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A server that starts is not ended by whoever wants it to reload: it reads its configuration anyway.
    let hang_up = sys::ignore_hang_up();
    // Before anything starts a thread.
    let surroundings = Surroundings::of_process();
    let invocation = cli::parse();
    if let cli::Invocation::Tool(_) = invocation {
        hang_up.restore();
    }
    cli::run(invocation, |config, source| serve(config, source, surroundings?))
}
