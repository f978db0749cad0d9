//! TLS: sessions, certificates, and the threads that shake hands.
//!
//! A shard does no asymmetric cryptography: a handshake costs up to a millisecond, in which it would serve nobody. What comes
//! before a session is open goes to a thread of [`handshakes`], with the session, and comes back.

pub mod certificates;
pub mod handshakes;
pub mod kernel;
pub mod session;
pub mod trust;

pub use certificates::{Pair, Unusable};
pub use handshakes::{Handshakes, Shaken};
pub use kernel::{Keys, Meaning, NextKeys};
pub use session::{Broken, Progress, Session};
