//! Who a client is and what it may do: tokens, the keys that prove them, and permissions.
//!
//! A shard checks no signature: like a handshake of TLS, that is the business of a thread of its own ([`gate`]).

pub mod gate;
pub mod grant;
pub mod jwt;
pub mod token;

pub use gate::{Gate, Purpose, Verdict};
pub use grant::{Grant, Permissions};
pub use jwt::{Denied, Keys};
