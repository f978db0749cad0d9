//! Who a client is and what it may do: tokens, the keys that prove them, and permissions.
//!
//! A shard checks no signature: like a handshake of TLS, that is the business of a thread of its own ([`gate`]). Nor does it
//! wait for an application that is asked ([`hook`]), or for keys that are fetched ([`jwks`]).

mod agent;
pub mod gate;
pub mod grant;
pub mod hook;
pub mod jwks;
pub mod jwt;
pub mod token;

pub use gate::{Gate, Judged, Purpose, Verdict};
pub use grant::{Allowed, Grant, Pass, Permissions, Said};
pub use hook::Hook;
pub use jwt::{Denied, Keys};
