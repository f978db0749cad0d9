//! The kernel's ring.

pub mod op;
pub mod token;
