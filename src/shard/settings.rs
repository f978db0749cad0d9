//! The configuration as a shard wants it.

use std::time::Duration;

use crate::config::{BacklogPolicy, Config};

/// What a shard needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of an HTTP head.
    pub max_head: usize,
    /// Time from accept, or from the first byte of a later request, to the end of the head.
    pub head_timeout: Duration,
    /// Time between requests.
    pub keep_alive_timeout: Duration,
    /// Bytes of a message, inflated.
    pub max_message: u32,
    /// Bytes that an outbox may refer to while the socket takes nothing.
    pub backlog: u32,
    /// What happens at that bound.
    pub backlog_policy: BacklogPolicy,
    /// Between pings; `None`: never.
    pub ping_interval: Option<Duration>,
    /// Time to answer a ping.
    pub ping_timeout: Duration,
    /// Maximum lifetime of a WebSocket.
    pub max_lifetime: Option<Duration>,
    /// Percent of the lifetime, a random part of which is cut from it.
    pub lifetime_jitter: u32,
    /// Time for the close handshake, and to flush what is to be sent last.
    pub close_timeout: Duration,
    /// Whether `permessage-deflate` is negotiated.
    pub deflate: bool,
    /// Bytes under which a message is not compressed.
    pub deflate_min: usize,
    /// Topics of one connection.
    pub max_topics: u32,
    /// Whether `GET /` is answered with the playground.
    pub playground: bool,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Settings {
        Settings {
            max_head: config.max_head as usize,
            head_timeout: config.head_timeout,
            keep_alive_timeout: config.keep_alive_timeout,
            max_message: config.max_message,
            backlog: config.backlog,
            backlog_policy: config.backlog_policy,
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
            max_lifetime: config.max_lifetime,
            lifetime_jitter: config.lifetime_jitter,
            close_timeout: config.close_timeout,
            deflate: config.deflate,
            deflate_min: config.deflate_min as usize,
            max_topics: config.max_topics,
            playground: config.playground,
        }
    }
}
