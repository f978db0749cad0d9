//! What a run does, one mode a file.

pub mod churn;
pub mod echo;
pub mod fanout;
pub mod idle;
pub mod rate;
pub mod stalled;
pub mod storm;

use crate::bench::Result;
use crate::bench::options::{Common, Mode};
use crate::bench::report::Report;

/// Runs a mode; gives back its common options too, as they tell where the report goes.
pub fn run(mode: &Mode) -> (&Common, Result<Report>) {
    match mode {
        Mode::Fanout(options) => (&options.common, fanout::run(options)),
        Mode::Rate(options) => (&options.common, rate::run(options)),
        Mode::Echo(options) => (&options.common, echo::run(options)),
        Mode::Idle(options) => (&options.common, idle::run(options)),
        Mode::Stalled(options) => (&options.common, stalled::run(options)),
        Mode::Churn(options) => (&options.common, churn::run(options)),
        Mode::Storm(options) => (&options.common, storm::run(options)),
    }
}
