//! Who a client is and what it may do: tokens, the keys that prove them, and permissions.
//!
//! A shard checks no signature: like a handshake of TLS, that is the business of a thread of its own ([`gate`]). Nor does it
//! wait for an application that is asked ([`hook`]).

pub mod gate;
pub mod grant;
pub mod hook;
pub mod jwt;
pub mod token;

pub use gate::{Gate, Purpose, Verdict};
pub use grant::{Allowed, Grant, Permissions};
pub use hook::Hook;
pub use jwt::{Denied, Keys};
