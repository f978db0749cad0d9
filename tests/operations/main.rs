//! What an operator relies on: who may listen where, the admin listener's key, the probes, draining, reloads, the log.

#[path = "../common/mod.rs"]
mod common;

mod admin;
mod drain;
mod exposure;
mod logs;
mod probes;
mod process;
mod reload;
