//! `uproar publish`, `subscribe`, `top`, `drain`, `reload` and `health`: the command as a client of a server that runs.
//!
//! They block: one connection, one thread, no runtime. `publish`, `reload` and `health` ask the HTTP API once (`admin`, `http`), `drain`
//! until the server is gone, and `top` again and again. `subscribe` has a WebSocket of the `json` dialect (`link`, over a `stream`), and what comes of
//! its messages is decided without one (`follow`).

mod address;
mod admin;
pub mod drain;
mod follow;
pub mod health;
mod http;
mod link;
pub mod publish;
pub mod reload;
mod secret;
mod stream;
pub mod subscribe;
pub mod top;

use std::process::ExitCode;
use std::time::Duration;

/// Why a command did not do what it was to.
#[derive(PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The arguments make no sense.
    #[error("{0}")]
    Usage(String),
    /// The server said no; or the time was over.
    #[error("{0}")]
    Refused(String),
    /// There is no server, or it did not answer as one.
    #[error("{0}")]
    NoServer(String),
}

impl Error {
    fn exit_code(&self) -> u8 {
        match self {
            Error::Refused(_) => 1,
            Error::Usage(_) => 2,
            Error::NoServer(_) => 3,
        }
    }
}

fn time(text: &str) -> Result<Duration, String> {
    crate::config::parse_time(text).ok_or_else(|| format!("{text:?} is no time; for example 500ms, 30s or 10m"))
}

fn end(command: &str, outcome: Result<(), Error>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("uproar {command}: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
