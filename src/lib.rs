//! Uproar: a broadcast server for games and market data on Linux io_uring.

pub mod cli;
pub mod config;
pub mod conn;
mod control;
pub mod counters;
pub mod dialect;
pub mod error;
mod handler;
pub mod http;
pub mod hub;
pub mod limits;
pub mod ring;
pub mod server;
pub mod shard;
pub mod time;
pub mod ws;

pub use config::Config;
pub use error::StartError;
pub use handler::{Closed, Connection, Handler, Message, Refuse, Routes, SubscribeError, Topics, Upgrade};
pub use server::{PublishError, Publisher, Running, Server};
