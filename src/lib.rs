//! Uproar: a broadcast server for games and market data on Linux io_uring.

pub mod conn;
pub mod counters;
pub mod dialect;
pub mod error;
pub mod handler;
pub mod http;
pub mod hub;
pub mod limits;
pub mod ring;
pub mod shard;
pub mod time;
pub mod ws;
