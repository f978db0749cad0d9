//! What a client may do.

use std::sync::Arc;

use serde::Deserialize;

use crate::config::Patterns;

/// Patterns that there may be of one kind.
const MAX_PATTERNS: usize = 256;

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

/// What a token, or an application's answer, says of permissions: lists of patterns. Of what it does not name, what was there
/// before counts.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// See [`Permissions::rooms`].
    pub rooms: Option<Patterns>,
    /// See [`Permissions::subscribe`].
    pub subscribe: Option<Patterns>,
    /// See [`Permissions::publish`].
    pub publish: Option<Patterns>,
    /// See [`Permissions::presence`].
    pub presence: Option<Patterns>,
    /// See [`Permissions::history`].
    pub history: Option<Patterns>,
}

impl Allowed {
    /// Whether no list has more patterns than one may have.
    pub fn is_bounded(&self) -> bool {
        self.lists().into_iter().flatten().all(|list| list.0.len() <= MAX_PATTERNS)
    }

    /// The lists that are there, and `before` for the others.
    pub fn over(&self, before: &Arc<Permissions>) -> Arc<Permissions> {
        if self.lists().iter().all(Option::is_none) {
            return before.clone();
        }
        let or = |list: &Option<Patterns>, before: &Patterns| list.as_ref().unwrap_or(before).clone();
        Arc::new(Permissions {
            rooms: or(&self.rooms, &before.rooms),
            subscribe: or(&self.subscribe, &before.subscribe),
            publish: or(&self.publish, &before.publish),
            presence: or(&self.presence, &before.presence),
            history: or(&self.history, &before.history),
        })
    }

    fn lists(&self) -> [Option<&Patterns>; 5] {
        [&self.rooms, &self.subscribe, &self.publish, &self.presence, &self.history].map(Option::as_ref)
    }
}

/// What a client's own token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// The user.
    pub user: Option<Box<str>>,
    /// Milliseconds since 1970 from which on nothing of it holds.
    pub expires: Option<u64>,
    /// What it may do.
    pub allowed: Allowed,
}

impl Said {
    /// What that grants where `before` is what everybody may do.
    pub fn over(self, before: &Arc<Permissions>) -> Grant {
        Grant { may: self.allowed.over(before), user: self.user, expires: self.expires }
    }
}

/// What a topic's token says: leave to subscribe to it, and nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pass {
    /// The user that it is for; without one, for whoever has it.
    pub user: Option<Box<str>>,
    /// Milliseconds since 1970 from which on it is none.
    pub expires: Option<u64>,
}

/// What is known of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The user.
    pub user: Option<Box<str>>,
    /// Milliseconds since 1970 from which on nothing of it holds.
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
