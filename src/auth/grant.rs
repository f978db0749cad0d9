//! What a client may do.

use std::sync::Arc;

use crate::config::Patterns;

/// Topics, by what may be done with them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permissions {
    /// Rooms that a client may connect to.
    pub rooms: Patterns,
    /// Topics that it may subscribe to.
    pub subscribe: Patterns,
    /// Topics that it may publish to.
    pub publish: Patterns,
    /// Rooms of which it may ask who is in them.
    pub presence: Patterns,
    /// Topics whose past it may have.
    pub history: Patterns,
}

/// What a token says of its bearer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The user.
    pub user: Option<Box<str>>,
    /// Seconds since 1970 from which on nothing of it holds.
    pub expires: Option<u64>,
    /// What it may do. Most tokens say nothing of it, and share what the configuration says.
    pub may: Arc<Permissions>,
}

impl Grant {
    /// Of somebody who has no token.
    pub fn anonymous(may: Arc<Permissions>) -> Grant {
        Grant { user: None, expires: None, may }
    }
}
