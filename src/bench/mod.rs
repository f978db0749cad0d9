//! `uproar bench`: a load generator and judge for WebSocket broadcast servers, this one or another.
//!
//! # One run
//!
//! ```text
//! options ─▶ preflight ─▶ target ─▶ mode ─▶ report ─▶ text, JSON, HTML
//!                                    │
//!              run: phases, progress, what the server costs (observe)
//!              crew: threads of load, each with
//!                       │
//!   publisher ─▶ swarm: connections on a ring ─▶ ws::client::reader ─▶ judge: faults, deliveries
//! ```
//!
//! The main thread parses the options, starts a *crew* and leads it from phase to phase: connected, warmed up, measured.
//! Each thread of the crew has a *swarm* of connections, on a ring like a shard's, and works in turns: what is to be sent is
//! submitted, what has come is read, and a *judge* says what each message was. At the end the threads hand their figures
//! over, and the main thread puts the *report* together.
//!
//! Some connections are *read*: every message is parsed and checked. Others are *counted*: the kernel throws away their
//! bytes, which must be as many as those that a connection that is read received of the same topic. So one core of load is
//! enough for one core of server.
//!
//! # Where things are
//!
//! What is asked for, and of whom:
//! - [`options`]: the command line; `preflight`: what can be said of it before anything is connected.
//! - [`target`]: the server: addresses, handshakes and their answers, and templates of what subscribes and publishes.
//! - [`mode`]: what is done, one mode a file, and the figures that it comes to.
//! - [`schedule`]: when messages or connections are due, in an open loop.
//!
//! Threads:
//! - `run`: what every mode has around it, on the main thread: phases, progress, costs, the report.
//! - [`crew`]: the threads of load. Each is a *member*; they wait for each other at *gates*, and tell how far they are by
//!   *gauges*.
//!
//! Connections of one thread:
//! - [`swarm`]: connections, whatever they are for. Their *attention* says what becomes of what they are sent: watched, read
//!   when asked, counted, or ignored.
//! - [`crowd`]: a swarm whose connections are subscribers and publishers of topics, as `fanout`, `rate` and `storm` have
//!   them. Its *plan* says who subscribes to what; a *sweep* asks those that nothing wakes the thread for.
//! - In [`mode::idle`], each thread is a *holder* of many connections, but for the last, the *conductor*: it publishes to all
//!   of them, and to a few *bystanders*, who show what others feel of that.
//!
//! Messages, on their way out and back:
//! - [`message`]: a payload: its *stamp* (topic, number, when it was due, a check) and its *fill*.
//! - [`publisher`]: from a stamp to the bytes that publish it.
//! - `ws::client`: frames as a client sends them, and what a server sends, taken apart into messages.
//! - [`tracker`]: keeps which numbers one subscriber has got.
//! - [`judge`]: which subscriber a message came to, whether it should have, and what is missing in the end.
//! - [`refusals`]: why connections could not be made, counted by reason.
//!
//! What comes of it:
//! - [`observe`]: CPU time, memory and run delay of the server's process, and the kernel's memory.
//! - [`timeline`]: distributions of times.
//! - [`progress`]: what is shown meanwhile.
//! - [`report`]: figures, latencies, series and faults; as text, JSON and a page with plots.

pub mod crew;
pub mod crowd;
pub mod judge;
pub mod message;
pub mod mode;
pub mod observe;
pub mod options;
mod preflight;
pub mod progress;
pub mod publisher;
pub mod refusals;
pub mod report;
mod run;
pub mod schedule;
pub mod swarm;
pub mod target;
pub mod timeline;
pub mod tracker;

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
    let outcome = preflight::check(&options.mode).and_then(|()| mode::run(&options.mode));
    match outcome.and_then(|report| run::publish(&report, options.mode.common()).map(|()| report)) {
        Ok(report) if report.complaint.is_none() && report.faults.none() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("uproar bench: {error}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 3 })
        }
    }
}
