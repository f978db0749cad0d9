//! WebSocket (RFC 6455) and its compression (RFC 7692), sans-IO.

pub mod client;
pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod message;
pub mod utf8;
