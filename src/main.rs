//! The `uproar` command.

use std::io;
use std::process::ExitCode;

use uproar::cli;
use uproar::error::StartError;

fn main() -> ExitCode {
    cli::run(cli::parse(), |_config| {
        // THE ONE CALL SITE of the server: `uproar::server::run(config)`.
        Err(StartError::Io { doing: "cannot serve", source: io::ErrorKind::Unsupported.into() })
    })
}
