//! `uproar bench`: a load generator and judge for WebSocket broadcast servers, this one or another.
//!
//! ```text
//! options ─▶ target (URL, templates) ─▶ mode ─▶ report ─▶ text, JSON, HTML
//!                                        │
//!                message (stamps) ─▶ swarm (connections on a ring) ─▶ inspect (loss, order, corruption)
//! ```
//!
//! A [`swarm::Swarm`] is one thread's connections, on a ring like a shard's. Some connections are *read*: every message is
//! parsed and checked. The others are *counted*: the kernel throws away their bytes, which must be as many as those that a
//! connection that is read received of the same topic.

pub mod crew;
pub mod crowd;
pub mod frame;
pub mod inspect;
pub mod judge;
pub mod message;
pub mod mode;
pub mod observe;
pub mod options;
pub mod progress;
pub mod publisher;
pub mod refusals;
pub mod report;
mod run;
pub mod schedule;
pub mod swarm;
pub mod target;
pub mod timeline;

use std::process::ExitCode;

pub use options::Options;

/// Why a run came to no result.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a run comes to, or why it does not.
pub type Result<T> = std::result::Result<T, Error>;

/// What is wrong with the options: one is malformed, or they do not go together.
#[derive(thiserror::Error, Debug)]
#[error("{0}")]
pub struct Usage(String);

impl Usage {
    /// It as a result.
    ///
    /// # Errors
    /// Always: this.
    fn error<T>(why: impl Into<String>) -> Result<T> {
        Err(Usage(why.into()).into())
    }
}

/// Runs a mode and reports. Exit codes: 0 nothing was wrong; 1 the server lost, reordered, repeated or corrupted a message,
/// or refused or closed a connection; 2 bad usage; 3 there is no result.
pub fn run(options: &Options) -> ExitCode {
    let (common, outcome) = mode::run(&options.mode);
    match outcome.and_then(|report| run::publish(&report, common).map(|()| report)) {
        Ok(report) if report.complaint.is_none() && report.faults.none() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("uproar bench: {error}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 3 })
        }
    }
}
