//! The experiments. Each says what it decides in the server, and which kernels have what it compares.

mod idle;
mod order;
mod receive;
mod send;
mod setup;
mod wait;

use std::io;

use crate::lab::Lab;

/// Compares the variants of a choice.
type Experiment = fn(&mut Lab) -> io::Result<()>;

/// With their names, as in `--only`.
pub const EXPERIMENTS: [(&str, Experiment); 7] = [
    ("send", send::send),
    ("setup", setup::setup),
    ("receive", receive::receive),
    ("idle", idle::idle),
    ("wait", wait::wait),
    ("busy", wait::busy),
    ("order", order::order),
];

/// The first column of most tables: CPU time of the loop's thread for one operation.
const CPU: &str = "CPU ns";
