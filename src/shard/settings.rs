//! The configuration as a shard wants it.

use std::time::Duration;

use crate::conn::outbox::BacklogPolicy;

/// What a shard needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connections of the whole process; one more is answered with 503.
    pub max_connections: u64,
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
    pub lifetime_jitter: u8,
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

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_connections: u64::MAX,
            max_head: 8 * 1024,
            head_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(30),
            max_message: 1 << 20,
            backlog: 64 * 1024,
            backlog_policy: BacklogPolicy::Close,
            ping_interval: Some(Duration::from_secs(30)),
            ping_timeout: Duration::from_secs(10),
            max_lifetime: None,
            lifetime_jitter: 10,
            close_timeout: Duration::from_secs(5),
            deflate: true,
            deflate_min: 64,
            max_topics: 1024,
            playground: true,
        }
    }
}
