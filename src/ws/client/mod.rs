//! The client's side of a WebSocket: for the load generator, and for `uproar subscribe`.

pub mod answer;
pub mod frame;
pub mod reader;
