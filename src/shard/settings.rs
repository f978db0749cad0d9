//! The configuration as a shard wants it.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::Limits;
use crate::auth::Permissions;
use crate::bucket::Bucket;
use crate::config::ConfigError;
use crate::config::{
    AUTO_ADDRESS_CONNECT_RATE, AUTO_ADDRESS_CONNECTIONS, BacklogPolicy, Config, HistoryRule, HistoryRules, HookEvents,
    Limit, Networks, Patterns, ProxyProtocol, Rate, Secret,
};
use crate::conn::peer::Peer;
use crate::dialect::json::Types;
use crate::hub::history::Retention;
use crate::hub::presence;

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
    /// Time for a message to be complete.
    pub message_timeout: Option<Duration>,
    /// Bytes of incomplete messages and requests that this shard keeps.
    pub incomplete_bytes: usize,
    /// Messages that one connection may send.
    pub message_rate: Limit<Rate>,
    /// Bytes that one connection may send.
    pub byte_rate: Limit<Rate>,
    /// Connections of one address.
    pub address_connections: Limit<u32>,
    /// New connections of one address.
    pub address_connect_rate: Limit<Rate>,
    /// New connections of the whole server.
    pub connect_rate: Option<Bucket>,
    /// Publications to one topic.
    pub topic_publish_rate: Option<Bucket>,
    /// Who is believed to speak for others.
    pub trusted_proxies: Networks,
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: bool,
    /// What a client may do whose token does not say it, or that has none.
    pub permissions: Arc<Permissions>,
    /// Whether clients without a token are let in.
    pub anonymous: bool,
    /// The cookie that may have the token.
    pub auth_cookie: Option<String>,
    /// What the application is asked about.
    pub hook_events: HookEvents,
    /// The fields of a request that it is told, in lower case.
    pub hook_headers: Vec<String>,
    /// Pages that may connect.
    pub allowed_origins: Patterns,
    /// Bytes that an outbox may refer to while the socket takes nothing.
    pub backlog: u32,
    /// What happens at that bound.
    pub backlog_policy: BacklogPolicy,
    /// Between pings; `None`: never.
    pub ping_interval: Option<Duration>,
    /// Time to answer a ping.
    pub ping_timeout: Duration,
    /// Silence after which a stream of Server-Sent Events is sent a comment.
    pub sse_heartbeat: Duration,
    /// Maximum lifetime of a WebSocket or a stream.
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
    /// Whether there are pages: the playground at `/`, the demos below `/demo/`.
    pub playground: bool,
    /// When a room's members are told who comes and goes.
    pub presence: presence::Rules,
    /// The application's own types of messages.
    pub types: Types,
    /// By one of which a backend proves itself; without one, there is none.
    pub backend_key: Vec<Secret>,
    /// Topics that keep messages.
    pub history: HistoryRules,
    /// Bytes of all histories of this shard.
    pub history_bytes: usize,
    /// How long a message is known that was acknowledged.
    pub ack_window: Duration,
    /// How long a topic's place is known after it was last used.
    pub topic_memory: Duration,
    /// Bad messages in a row that a client may send.
    pub max_errors: u32,
}

impl TryFrom<&Config> for Settings {
    type Error = ConfigError;

    /// What the configuration's own bounds do not say is checked here.
    fn try_from(config: &Config) -> Result<Settings, ConfigError> {
        let types = Types::new(&config.relay, &config.handover);
        let types = types.map_err(|bad| ConfigError::new(format!("relay, handover: {bad}")))?;
        Ok(Settings {
            max_head: config.max_head as usize,
            head_timeout: config.head_timeout,
            keep_alive_timeout: config.keep_alive_timeout,
            max_message: config.max_message,
            message_timeout: config.message_timeout,
            incomplete_bytes: config.incomplete_bytes(None) as usize,
            message_rate: config.message_rate,
            byte_rate: config.byte_rate,
            address_connections: config.address_connections,
            address_connect_rate: config.address_connect_rate,
            connect_rate: config.connect_rate.map(Bucket::of_things),
            topic_publish_rate: config.topic_publish_rate.map(Bucket::of_things),
            trusted_proxies: config.trusted_proxies.clone(),
            proxy_protocol: config.proxy_protocol != ProxyProtocol::Off,
            permissions: Arc::new(permissions(config)),
            anonymous: config.anonymous,
            auth_cookie: config.auth_cookie.clone(),
            hook_events: config.auth_hook_events,
            hook_headers: config.auth_hook_headers.iter().map(|name| name.to_ascii_lowercase()).collect(),
            allowed_origins: config.allowed_origins.clone(),
            backlog: config.backlog,
            backlog_policy: config.backlog_policy,
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
            sse_heartbeat: config.sse_heartbeat,
            max_lifetime: config.max_lifetime,
            lifetime_jitter: config.lifetime_jitter,
            close_timeout: config.close_timeout,
            deflate: config.deflate,
            deflate_min: config.deflate_min as usize,
            max_topics: config.max_topics,
            playground: config.playground,
            presence: presence::Rules {
                notices: config.presence,
                limit: config.presence_limit,
                rate: config.presence_rate,
            },
            types,
            backend_key: config.backend_key.clone(),
            history: config.history.clone(),
            history_bytes: usize::try_from(config.history_memory / u64::from(config.shards)).unwrap_or(usize::MAX),
            ack_window: config.ack_window,
            topic_memory: config.ack_window,
            max_errors: config.max_errors,
        })
    }
}

impl Settings {
    /// What an address may have.
    pub fn limits_of(&self, peer: Peer) -> Limits {
        let rate = self.address_connect_rate.of(AUTO_ADDRESS_CONNECT_RATE, peer.is_loopback());
        Limits {
            connections: self.address_connections.of(AUTO_ADDRESS_CONNECTIONS, peer.is_loopback()),
            rate: rate.map(Bucket::of_things),
        }
    }
}

/// What clients may do as far as no token says it.
fn permissions(config: &Config) -> Permissions {
    Permissions {
        rooms: config.client_rooms.clone(),
        subscribe: config.client_subscribe.clone(),
        publish: config.client_publish.clone(),
        presence: config.client_presence.clone(),
        history: config.client_history.clone(),
    }
}

impl From<&HistoryRule> for Retention {
    fn from(rule: &HistoryRule) -> Retention {
        Retention { count: rule.count, age: rule.age, bytes: rule.bytes, last_value: rule.last_value }
    }
}
