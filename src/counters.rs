//! What a shard counts. One writer (the shard), any readers, no lock: a reader never stops the shard.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::CloseReason;

/// A number that one thread writes and others read.
#[derive(Default, Debug)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds to it. Only the shard that owns the counters may call this: it is a load and a store, not a locked add.
    #[inline]
    pub fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }

    /// Takes from it; see [`Cell::add`].
    #[inline]
    pub fn sub(&self, n: u64) {
        self.set(self.get().wrapping_sub(n));
    }

    /// Replaces it; see [`Cell::add`].
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Reads it.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether a metric only ever grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sort {
    /// Grows until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A cell as the metrics page shows it.
pub struct Sample<'a> {
    /// Metric name, without prefix and without `_total`.
    pub name: &'static str,
    /// The label that tells the metric's series apart, besides the shard.
    pub label: Option<(&'static str, &'static str)>,
    /// What the metric counts.
    pub help: &'static str,
    /// Counter or gauge.
    pub sort: Sort,
    /// The number.
    pub cell: &'a Cell,
}

macro_rules! counters {
    ($($field:ident: $sort:ident $name:literal $({$label:literal = $value:literal})? $help:literal,)*) => {
        /// The counters of one shard.
        #[derive(Default, Debug)]
        pub struct Counters {
            $(#[doc = $help] pub $field: Cell,)*
            /// Connections that ended, by reason.
            pub closed: [Cell; CloseReason::ALL.len()],
        }

        impl Counters {
            /// Every cell, series of one metric side by side.
            pub fn samples(&self) -> Vec<Sample<'_>> {
                let mut samples = vec![
                    $(Sample {
                        name: $name,
                        label: None$(.or(Some(($label, $value))))?,
                        help: $help,
                        sort: Sort::$sort,
                        cell: &self.$field,
                    },)*
                ];
                samples.extend(CloseReason::ALL.into_iter().map(|reason| Sample {
                    name: "connections_closed",
                    label: Some(("reason", reason.label())),
                    help: "Connections that ended",
                    sort: Sort::Counter,
                    cell: &self.closed[reason as usize],
                }));
                samples
            }
        }
    };
}

counters! {
    connections: Gauge "connections" "Open connections, handshakes in progress included",
    websockets: Gauge "websockets" "Open WebSocket connections",
    event_streams: Gauge "event_streams" "Open streams of Server-Sent Events",
    topics: Gauge "topics" "Topics with a subscriber",
    topics_remembered: Gauge "topics_remembered" "Topics that nobody uses any more and whose place is still known",
    subscriptions: Gauge "subscriptions" "Subscriptions",
    accepted: Counter "accepted" "Connections accepted",
    accept_paused: Counter "accept_pauses" "Pauses of accepting for want of descriptors or memory",
    accept_waits: Counter "accept_waits" "Pauses of accepting because of connect_rate",
    refused_full: Counter "refused" {"reason" = "full"} "Connections that were not served, but told why or closed at once",
    refused_memory: Counter "refused" {"reason" = "memory"} "Connections that were not served, but told why or closed at once",
    refused_draining: Counter "refused" {"reason" = "draining"} "Connections that were not served, but told why or closed at once",
    refused_address_connections: Counter "refused" {"reason" = "address_connections"} "Connections that were not served, but told why or closed at once",
    refused_address_rate: Counter "refused" {"reason" = "address_rate"} "Connections that were not served, but told why or closed at once",
    refused_proxy: Counter "refused" {"reason" = "proxy"} "Connections that were not served, but told why or closed at once",
    untracked: Counter "untracked" "Connections that are not counted with their address, as there were too many addresses",
    tls_connections: Gauge "tls_connections" "Open TLS connections, handshakes in progress included",
    tls_ok: Counter "tls_handshakes" {"result" = "ok"} "TLS handshakes",
    tls_failed: Counter "tls_handshakes" {"result" = "failed"} "TLS handshakes",
    tls_shed: Counter "tls_handshakes" {"result" = "shed"} "TLS handshakes",
    handshakes_ok: Counter "handshakes" {"result" = "ok"} "Requests for a WebSocket or an event stream",
    handshakes_bad: Counter "handshakes" {"result" = "refused"} "Requests for a WebSocket or an event stream",
    http_requests: Counter "http_requests" "Plain HTTP requests answered",
    http_errors: Counter "http_errors" "HTTP requests answered with an error",
    messages_in: Counter "messages_received" "Data messages received",
    bytes_in: Counter "bytes_received" "Bytes received",
    bytes_out: Counter "bytes_sent" "Bytes sent",
    published: Counter "published" "Messages published to a topic that this shard orders",
    deliveries: Counter "deliveries" "Messages put into the outboxes of subscribers",
    sends: Counter "sends" "Send operations",
    sends_short: Counter "sends_short" "Send operations that the socket did not take whole",
    dropped_oldest: Counter "dropped" {"reason" = "drop_oldest"} "Messages not delivered",
    dropped_newest: Counter "dropped" {"reason" = "drop_newest"} "Messages not delivered",
    dropped_latest: Counter "dropped" {"reason" = "conflated"} "Messages not delivered",
    dropped_close: Counter "dropped" {"reason" = "backlog_close"} "Messages not delivered",
    dropped_memory: Counter "dropped" {"reason" = "memory"} "Messages not delivered",
    dropped_gone: Counter "dropped" {"reason" = "connection_ended"} "Messages not delivered",
    close_timeouts: Counter "close_timeouts" "Connections cut because the peer did not finish the close handshake, or read its last frames, in time",
    handler_panics: Counter "handler_panics" "Panics of an embedder's handler",
    pings: Counter "pings_sent" "Pings of WebSockets, and comments of silent event streams",
    deflated: Counter "deflate_runs" "Times a message was compressed",
    inflated: Counter "inflate_runs" "Times a message was decompressed",
    publish_paused: Counter "publisher_pauses" "Times a publisher was not read from until its messages were on their way",
    turns: Counter "turns" "Turns of the shard's loop",
    rearmed: Counter "rearmed" "Multishot operations that ended by themselves and were asked for again",
    overflows: Counter "completion_overflows" "Times the completion queue was full",
    mail: Counter "mail" "Messages from other shards and threads",
    wakes: Counter "wakes_sent" "Other shards woken",
    rooms: Gauge "rooms" "Rooms with somebody in them that are at home here",
    history_bytes: Gauge "history_bytes" "Bytes of messages that are kept for those who come back or come late",
    history_evicted: Counter "history_evicted" "Messages that were not kept, or not as long as their history says, for want of history_memory",
    history_shed: Counter "history_shed" "Messages of histories that were given up because the process was short of memory",
    replayed: Counter "replayed" "Messages of the past sent to those who came back or came late",
    gaps: Counter "gaps" "Times that history did not reach back to where a client was",
    resets: Counter "resets" "Times that a client's place was in an epoch of its topic that is over",
    repeated: Counter "repeated" "Messages that had been acknowledged and came again; they were not delivered again",
    addressed: Counter "addressed" "Messages to one client, user or room that found it",
    undeliverable: Counter "undeliverable" "Messages to a client, user or room that is not there",
    backends: Gauge "backends" "Connections of backends",
    backends_refused: Counter "backends_refused" "Connections of backends that were refused for their key",
    handed_over: Counter "handed_over" "Messages of clients put into the outboxes of backends",
    not_handed_over_busy: Counter "not_handed_over" {"reason" = "busy"} "Messages for a backend that were answered with an error",
    not_handed_over_none: Counter "not_handed_over" {"reason" = "no_backend"} "Messages for a backend that were answered with an error",
    instructions: Counter "backend_instructions" "Messages of backends",
    presence_notices: Counter "presence_notices" "Notices of who came to a room and who went",
    client_errors: Counter "client_errors" "Messages of json clients that were answered with an error",
    auth_granted: Counter "auth" {"result" = "granted"} "Tokens of clients, and requests without one where one is wanted",
    auth_denied: Counter "auth" {"result" = "denied"} "Tokens of clients, and requests without one where one is wanted",
    auth_shed: Counter "auth" {"result" = "shed"} "Tokens of clients, and requests without one where one is wanted",
    not_allowed: Counter "not_allowed" "Publications of clients that were refused because client_publish does not name the topic",
    too_fast: Counter "too_fast" "Messages, pings and requests that were refused because they came too fast",
    topic_too_fast: Counter "topic_too_fast" "Publications that were refused because their topic was published to too fast",
    frame_bytes: Gauge "frame_bytes" "Bytes of frames that outboxes refer to",
    partial_bytes: Gauge "partial_message_bytes" "Bytes of incomplete messages that connections keep",
    backlogged: Gauge "backlogged_connections" "Connections whose socket takes nothing at the moment",
}
