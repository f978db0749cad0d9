//! Clients that mean harm, against the real binary, with healthy traffic measured beside each attack.
//!
//! Each test is one attack on a server of its own, and goes through [`arena::Arena`]: some twenty healthy subscribers are
//! published to every 10 ms, first alone, then while the attack goes on. Afterwards the healthy ones must have got everything,
//! once and in order, without a stall; the attackers must be gone, and what they took given back. What the server has told
//! the attackers and counted is each test's own to say. The attacks are bounded, in time and in number.
//!
//! `HOSTILE_TABLE=FILE cargo test --release --test hostile -- --test-threads=1` appends a row of a table for each.

#[path = "../common/mod.rs"]
mod common;

mod admin;
mod arena;
mod connections;
mod crowd;
mod events;
mod floods;
mod frames;
mod heads;
mod healthy;
mod incomplete;
mod memory;
mod secured;
mod slow;
mod soak;
mod tokens;
