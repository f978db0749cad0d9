//! Uproar: a broadcast server for games and market data on Linux io_uring.
//!
//! The `uproar` command serves ready-made dialects. This crate is the same engine for those who want their own: a
//! [`Server`] with a [`Handler`] for each path, and a [`Publisher`] that any thread may use.
//!
//! ```no_run
//! use uproar::{Config, Connection, Handler, Message, Server};
//!
//! /// A room that everybody on the path is in.
//! struct Room;
//!
//! impl Handler for Room {
//!     fn open(&mut self, conn: &mut Connection<'_>) {
//!         let _ = conn.subscribe("room");
//!     }
//!
//!     fn message(&mut self, conn: &mut Connection<'_>, message: Message<'_>) {
//!         conn.publish("room", message);
//!     }
//! }
//!
//! fn main() -> Result<(), uproar::StartError> {
//!     let running = Server::new(Config::default()).route("/room", || Room).start()?;
//!     let publisher = running.publisher();
//!     std::thread::spawn(move || publisher.publish("room", "the market is open"));
//!     running.join()
//! }
//! ```
//!
//! # The route of a message
//!
//! ```text
//! client ─TCP─▶ ring ─▶ shard::completion ─▶ shard::inbound ─▶ ws::message ─▶ dialect or Handler
//!                                                                                  │
//!   other shards ◀─ shard::mailbox ◀── the topic's home shard orders ◀── publish ──┤
//!         │                                                                        │
//!         └──────▶ hub: topics of this shard ─▶ one frame for each class ─▶ conn::outbox
//!                                                                                  │
//! client ◀─TCP─ ring ◀── shard::flush: one send for each connection and turn ◀─────┘
//! ```
//!
//! A shard is one thread with its own ring, connections, topics and timers. It shares nothing with the others but
//! mailboxes and counters. `ARCHITECTURE.md` in the repository tells the rest. The engine's own modules are public for its
//! tests and benchmarks, hidden here, and no promise.

#[doc(hidden)]
pub mod admission;
pub mod auth;
#[doc(hidden)]
pub mod bench;
#[doc(hidden)]
pub mod bucket;
#[doc(hidden)]
pub mod cli;
pub mod config;
#[doc(hidden)]
pub mod conn;
mod control;
#[doc(hidden)]
pub mod counters;
#[doc(hidden)]
pub mod dialect;
#[doc(hidden)]
pub mod doctor;
pub mod error;
mod handler;
pub mod http;
#[doc(hidden)]
pub mod hub;
pub mod limits;
mod log;
#[doc(hidden)]
pub mod remote;
#[doc(hidden)]
pub mod ring;
pub mod server;
#[doc(hidden)]
pub mod shard;
#[doc(hidden)]
pub mod time;
#[doc(hidden)]
pub mod tls;
#[doc(hidden)]
pub mod ws;

pub use config::{BacklogPolicy, Config, ReloadReport};
pub use error::{CloseReason, StartError};
pub use handler::{
    Backend, Client, Closed, Connection, Handler, JoinError, Message, Refuse, Routes, SubscribeError, Topics, Upgrade,
};
pub use http::request::Request;
pub use hub::frame::MessageKind;
pub use server::{PublishError, Publisher, Running, Server};
