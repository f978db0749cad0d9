//! What a run is about, while it runs: a bar, and a small table beneath it.

/// Shows progress on standard error, if that is a terminal.
#[derive(Debug)]
pub struct Progress {}

impl Progress {
    /// Shows nothing until there is a phase, and nothing at all if `quiet`.
    pub fn new(_quiet: bool) -> Progress {
        Progress {}
    }

    /// Begins a phase of `total` steps of a unit: "connect", 10,000, "connections".
    pub fn phase(&mut self, _name: &str, _total: u64, _unit: &str) {}

    /// Says how many steps of the phase are done. Draws every 100 ms at most.
    pub fn at(&mut self, _done: u64) {}

    /// Says what the table beneath the bar shows: names and values.
    pub fn show(&mut self, _rows: &[(&str, String)]) {}

    /// Clears what is shown.
    pub fn end(self) {}
}
