//! Uproar: a broadcast server for games and market data on Linux io_uring.

pub mod cli;
pub mod config;
pub mod conn;
pub mod counters;
pub mod error;
pub mod http;
pub mod hub;
pub mod limits;
pub mod ring;
pub mod time;
pub mod ws;
