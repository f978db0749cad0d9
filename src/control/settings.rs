//! The configuration as the control thread wants it.

use std::time::Duration;

use super::Access;
use crate::config::{Config, Limit};
use crate::tls::Pair;

/// What the control thread needs to know of the configuration. It is replaced whole, by a reload.
#[derive(Clone)]
pub struct Settings {
    /// What is asked of requests to the admin listener.
    pub access: Access,
    /// How a drain goes.
    pub drain: Drain,
    /// Bytes that a message may have.
    pub max_message: usize,
    /// Resident bytes of the process near which load is shed.
    pub max_memory: Limit<u64>,
    /// The certificates' files, where there is a TLS listener.
    pub pairs: Vec<Pair>,
    /// Sixteen digits that tell this configuration from others, but for secrets.
    pub fingerprint: String,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Settings {
        Settings {
            access: Access::from(config),
            drain: Drain::from(config),
            max_message: config.max_message as usize,
            max_memory: config.max_memory,
            pairs: config.tls_listen.map_or(Vec::new(), |_| config.tls_pairs()),
            fingerprint: config.fingerprint(),
        }
    }
}

/// How a drain goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drain {
    /// Time until it begins.
    pub delay: Duration,
    /// Time over which clients are sent away.
    pub time: Duration,
    /// Time for the last ones to go; and of a stop without a drain, for all.
    pub grace: Duration,
}

impl From<&Config> for Drain {
    fn from(config: &Config) -> Drain {
        Drain { delay: config.drain_delay, time: config.drain_time, grace: config.shutdown_timeout }
    }
}
