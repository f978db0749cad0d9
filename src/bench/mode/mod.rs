//! What a run does, one mode a file.

pub mod churn;
pub mod echo;
pub mod fanout;
pub mod idle;
pub mod rate;
pub mod stalled;
pub mod storm;

use crate::bench::Result;
use crate::bench::options::Mode;
use crate::bench::report::Report;

/// Runs a mode.
pub fn run(mode: &Mode) -> Result<Report> {
    match mode {
        Mode::Fanout(options) => fanout::run(options),
        Mode::Rate(options) => rate::run(options),
        Mode::Echo(options) => echo::run(options),
        Mode::Idle(options) => idle::run(options),
        Mode::Stalled(options) => stalled::run(options),
        Mode::Churn(options) => churn::run(options),
        Mode::Storm(options) => storm::run(options),
    }
}
