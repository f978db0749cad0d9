//! What an operator relies on: who may listen where, the admin listener's key, the probes, draining.

#[path = "../common/mod.rs"]
mod common;

mod admin;
mod drain;
mod exposure;
mod probes;
mod process;
