//! The `uproar` command.
fn main() {}
