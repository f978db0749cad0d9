//! What a shard counts. One writer (the shard), any readers, no lock: a reader never stops the shard.

pub mod histogram;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::CloseReason;
use histogram::Histogram;

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

/// A number as the metrics page shows it.
pub struct Sample {
    /// Metric name, without prefix and without `_total`.
    pub name: &'static str,
    /// The label that tells the metric's series apart, besides the shard.
    pub label: Option<(&'static str, &'static str)>,
    /// What the metric counts.
    pub help: &'static str,
    /// Counter or gauge.
    pub sort: Sort,
    /// The number.
    pub value: u64,
}

/// What a shard's memory is for, as far as the shard knows: what its own tables and buffers take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Part {
    /// What there is for each slot of a connection that has ever been used.
    Connections,
    /// Topics, subscriptions, and where subscribers are.
    Topics,
    /// Chunks that outboxes and topics refer to: what is to be sent.
    Frames,
    /// Chunks that are kept to be filled again.
    Pool,
    /// Messages for those who come back or come late.
    History,
    /// Incomplete messages and requests.
    PartialMessages,
    /// Compressors, the decompressor, and their buffers.
    Deflate,
    /// What the ring's receives read into.
    ReadBuffers,
    /// What is held for each TLS connection, without what its session has on the heap.
    Tls,
    /// Messages from other shards that are still to be dealt with.
    Mail,
}

impl Part {
    /// All parts, in the order of the numbers that they stand for.
    pub const ALL: [Part; 10] = [
        Part::Connections,
        Part::Topics,
        Part::Frames,
        Part::Pool,
        Part::History,
        Part::PartialMessages,
        Part::Deflate,
        Part::ReadBuffers,
        Part::Tls,
        Part::Mail,
    ];

    /// The part as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Part::Connections => "connections",
            Part::Topics => "topics",
            Part::Frames => "frames",
            Part::Pool => "pool",
            Part::History => "history",
            Part::PartialMessages => "partial_messages",
            Part::Deflate => "deflate",
            Part::ReadBuffers => "read_buffers",
            Part::Tls => "tls",
            Part::Mail => "mail",
        }
    }
}

/// What is counted of the process, by the one thread that does each thing.
#[derive(Default, Debug)]
pub struct Process {
    /// What `max_memory` allows, in bytes; 0 without a bound.
    pub memory_limit: Cell,
    /// When the first of the TLS certificates expires, in seconds since 1970; 0 without any.
    pub certificate_expiry: Cell,
    /// Fetches of `jwks_url` that brought keys.
    pub jwks_ok: Cell,
    /// Fetches of `jwks_url` that brought none.
    pub jwks_failed: Cell,
    /// When the last good one was, in seconds since 1970; 0 before the first.
    pub jwks_fetched_at: Cell,
    /// 1 while `jwks_url` has brought no key, and there is no other: then no token is accepted.
    pub keys_awaited: Cell,
    /// The circuit breaker before the application that is asked about clients: 0 closed, 1 half open, 2 open.
    pub hook_breaker: Cell,
}

macro_rules! counters {
    ($($field:ident: $sort:ident $name:literal $({$label:literal = $value:literal})? => $help:expr,)*) => {
        /// The counters of one shard.
        #[derive(Default, Debug)]
        pub struct Counters {
            $(
                #[doc = concat!("`uproar_", $name, "`" $(, ", ", $label, " `", $value, "`")?, ".")]
                pub $field: Cell,
            )*
            /// Open connections, handshakes in progress included.
            pub connections: Cell,
            /// Open WebSocket connections, those of backends included.
            pub websockets: Cell,
            /// Open streams of Server-Sent Events.
            pub event_streams: Cell,
            /// Open connections of backends.
            pub backends: Cell,
            /// The kernel's number of the shard's thread; 0 before that runs.
            pub thread: Cell,
            /// Connections that ended, by reason.
            pub closed: [Cell; CloseReason::ALL.len()],
            /// Bytes of memory, by [`Part`].
            pub memory: [Cell; Part::ALL.len()],
            /// From the begin of the turn that read a message to the end of the one that gave it to the kernel; see
            /// [`crate::hub::Hub::served`].
            pub delivery_latency: Histogram,
            /// Turns of the loop.
            pub turn_time: Histogram,
            /// Enters between two turns that did not wait: the kernel's work.
            pub enter_time: Histogram,
        }

        impl Counters {
            /// Every number, series of one metric side by side.
            pub fn samples(&self) -> Vec<Sample> {
                let mut samples = Vec::from(self.connections_by_kind());
                samples.extend(CloseReason::ALL.into_iter().map(|reason| Sample {
                    name: "connections_closed",
                    label: Some(("reason", reason.label())),
                    help: "Connections that ended",
                    sort: Sort::Counter,
                    value: self.closed[reason as usize].get(),
                }));
                samples.extend([
                    $(Sample {
                        name: $name,
                        label: None$(.or(Some(($label, $value))))?,
                        help: $help,
                        sort: Sort::$sort,
                        value: self.$field.get(),
                    },)*
                ]);
                samples
            }
        }
    };
}

impl Counters {
    /// The kinds are disjoint: their sum is [`Counters::connections`].
    fn connections_by_kind(&self) -> [Sample; 4] {
        let [all, websockets, streams, backends] =
            [&self.connections, &self.websockets, &self.event_streams, &self.backends].map(Cell::get);
        let clients = websockets.saturating_sub(backends);
        // The shard may have counted on between two reads.
        let rest = all.saturating_sub(clients + streams + backends);
        [("websocket", clients), ("event_stream", streams), ("backend", backends), ("http", rest)].map(
            |(kind, value)| Sample {
                name: "connections",
                label: Some(("kind", kind)),
                help: "Open connections; http: those that are none of the others, handshakes in progress included",
                sort: Sort::Gauge,
                value,
            },
        )
    }

    /// Every histogram, with its name, without prefix, and what it is of.
    pub fn histograms(&self) -> [(&'static str, &'static str, &Histogram); 3] {
        [
            ("delivery_latency_seconds", DELIVERY_LATENCY, &self.delivery_latency),
            ("turn_seconds", TURN, &self.turn_time),
            ("enter_seconds", ENTER, &self.enter_time),
        ]
    }

    /// Bytes that the shard knows of in a part of its memory.
    pub fn memory(&self, part: Part) -> u64 {
        self.memory[part as usize].get()
    }
}

const DELIVERY_LATENCY: &str = "From the begin of the turn that read a message from its publisher, on whatever shard, to the end of \
    the turn that gave it to the kernel for a subscriber of this shard";
const TURN: &str = "Turns of the loop: from one enter's return to the next enter";
const ENTER: &str =
    "Enters between turns that did not wait, as there was more to do: the kernel's work on a turn's sends";
const REFUSED: &str = "Connections that were not served, but told why or closed at once";
const ACCEPT_PAUSES: &str = "Pauses of accepting: for want of descriptors or memory, or because of connect_rate";
const TLS_HANDSHAKES: &str = "TLS handshakes";
const TLS_KERNEL_TAKEOVERS: &str = "TLS connections that were to be given to the kernel";
const TLS_KERNEL_KEY_UPDATES: &str = "Changes of keys of TLS connections that the kernel seals";
const HANDSHAKES: &str = "Requests for a WebSocket or an event stream, once their client was let in";
const DROPPED: &str = "Messages not delivered";
const HISTORY_EVICTED: &str =
    "Messages that were not kept as long as their history says, for want of history_memory, or of max_memory";
const RECOVERIES: &str =
    "Subscriptions that went on from a place, by what history still had: all, not all, or another epoch";
const CLIENT_SESSIONS: &str =
    "Connections of the json dialect, by what they said of an earlier one: nothing, proven, not proven";
const NOT_HANDED_OVER: &str = "Messages for a backend that were answered with an error";
const AUTHENTICATIONS: &str = "Tokens of clients, and requests without one where one is wanted";
const HOOK_DECISIONS: &str =
    "What came of asking the application whether a client may do something; open, busy: it was not asked";
const MESSAGES_REFUSED: &str = "Messages, pings and requests that were refused: for want of permission, of their connection's pace, \
    or of their topic's";

counters! {
    topics: Gauge "topics" => "Topics with a subscriber",
    topics_remembered: Gauge "topics_remembered" => "Topics that nobody uses any more and whose place is still known",
    subscriptions: Gauge "subscriptions" => "Subscriptions",
    accepted: Counter "connections_accepted" => "Connections accepted",
    accept_paused: Counter "accept_pauses" {"reason" = "resources"} => ACCEPT_PAUSES,
    accept_waits: Counter "accept_pauses" {"reason" = "connect_rate"} => ACCEPT_PAUSES,
    refused_full: Counter "connections_refused" {"reason" = "full"} => REFUSED,
    refused_memory: Counter "connections_refused" {"reason" = "memory"} => REFUSED,
    refused_draining: Counter "connections_refused" {"reason" = "draining"} => REFUSED,
    refused_address_connections: Counter "connections_refused" {"reason" = "address_connections"} => REFUSED,
    refused_address_rate: Counter "connections_refused" {"reason" = "address_rate"} => REFUSED,
    refused_proxy: Counter "connections_refused" {"reason" = "proxy"} => REFUSED,
    untracked: Counter "connections_untracked" => "Connections that are not counted with their address, as there were too many addresses",
    tls_connections: Gauge "tls_connections" => "Open TLS connections, handshakes in progress included",
    tls_ok: Counter "tls_handshakes" {"result" = "ok"} => TLS_HANDSHAKES,
    tls_failed: Counter "tls_handshakes" {"result" = "failed"} => TLS_HANDSHAKES,
    tls_shed: Counter "tls_handshakes" {"result" = "shed"} => TLS_HANDSHAKES,
    tls_kernel_connections: Gauge "tls_kernel_connections" => "Open TLS connections whose records the kernel seals and opens",
    tls_kernel_ok: Counter "tls_kernel_takeovers" {"result" = "ok"} => TLS_KERNEL_TAKEOVERS,
    tls_kernel_cipher: Counter "tls_kernel_takeovers" {"result" = "cipher"} => TLS_KERNEL_TAKEOVERS,
    tls_kernel_refused: Counter "tls_kernel_takeovers" {"result" = "refused"} => TLS_KERNEL_TAKEOVERS,
    tls_kernel_failed: Counter "tls_kernel_takeovers" {"result" = "failed"} => TLS_KERNEL_TAKEOVERS,
    tls_key_updates: Counter "tls_kernel_key_updates" {"result" = "ok"} => TLS_KERNEL_KEY_UPDATES,
    tls_key_updates_refused: Counter "tls_kernel_key_updates" {"result" = "closed"} => TLS_KERNEL_KEY_UPDATES,
    handshakes_ok: Counter "handshakes" {"result" = "ok"} => HANDSHAKES,
    handshakes_malformed: Counter "handshakes" {"result" = "malformed"} => HANDSHAKES,
    handshakes_forbidden: Counter "handshakes" {"result" = "forbidden"} => HANDSHAKES,
    handshakes_handler: Counter "handshakes" {"result" = "handler"} => HANDSHAKES,
    handshakes_backend: Counter "handshakes" {"result" = "backend_key"} => HANDSHAKES,
    http_requests: Counter "http_requests" => "Plain HTTP requests answered",
    http_errors: Counter "http_errors" => "HTTP requests answered with an error",
    messages_in: Counter "messages_received" => "Data messages received",
    bytes_in: Counter "received_bytes" => "Bytes received",
    bytes_out: Counter "sent_bytes" => "Bytes sent",
    published: Counter "messages_published" => "Messages published to a topic that this shard orders",
    deliveries: Counter "deliveries" => "Messages put into the outboxes of subscribers",
    sends: Counter "sends" => "Send operations",
    sends_short: Counter "sends_short" => "Send operations that the socket did not take whole",
    dropped_oldest: Counter "messages_dropped" {"reason" = "drop_oldest"} => DROPPED,
    dropped_newest: Counter "messages_dropped" {"reason" = "drop_newest"} => DROPPED,
    dropped_latest: Counter "messages_dropped" {"reason" = "conflated"} => DROPPED,
    dropped_close: Counter "messages_dropped" {"reason" = "backlog_close"} => DROPPED,
    dropped_memory: Counter "messages_dropped" {"reason" = "memory"} => DROPPED,
    dropped_gone: Counter "messages_dropped" {"reason" = "connection_ended"} => DROPPED,
    close_timeouts: Counter "close_timeouts" => "Connections cut because the peer did not finish the close handshake, or read its last frames, in time",
    handler_panics: Counter "handler_panics" => "Panics of an embedder's handler",
    pings: Counter "pings_sent" => "Pings of WebSockets, and comments of silent event streams",
    deflated: Counter "deflate_runs" => "Times a message was compressed",
    inflated: Counter "inflate_runs" => "Times a message was decompressed",
    publish_paused: Counter "publisher_pauses" => "Times a publisher was not read from until its messages were on their way",
    rearmed: Counter "ring_rearmed" => "Multishot operations that ended by themselves and were asked for again",
    enters: Counter "ring_enters" => "Calls of io_uring_enter",
    submissions: Counter "ring_submissions" => "Operations submitted",
    completions: Counter "ring_completions" => "Completions taken; a send that succeeds has none",
    overflows: Counter "ring_completion_overflows" => "Times the completion queue was full",
    mail: Counter "mail" => "Messages from other shards and threads",
    wakes: Counter "wakes_sent" => "Other shards woken",
    rooms: Gauge "rooms" => "Rooms with somebody in them that are at home here",
    history_messages: Gauge "history_messages" => "Messages that are kept for those who come back or come late",
    history_bytes: Gauge "history_bytes" => "Bytes of messages that are kept for those who come back or come late",
    history_evicted: Counter "history_evicted" {"reason" = "history_memory"} => HISTORY_EVICTED,
    history_shed: Counter "history_evicted" {"reason" = "max_memory"} => HISTORY_EVICTED,
    replayed: Counter "history_replayed" => "Messages of the past sent to those who came back or came late",
    recovered: Counter "recoveries" {"result" = "complete"} => RECOVERIES,
    gaps: Counter "recoveries" {"result" = "gap"} => RECOVERIES,
    resets: Counter "recoveries" {"result" = "reset"} => RECOVERIES,
    clients_new: Counter "client_sessions" {"result" = "new"} => CLIENT_SESSIONS,
    clients_resumed: Counter "client_sessions" {"result" = "resumed"} => CLIENT_SESSIONS,
    clients_unproven: Counter "client_sessions" {"result" = "unproven"} => CLIENT_SESSIONS,
    repeated: Counter "messages_repeated" => "Messages that had been acknowledged and came again; they were not delivered again",
    addressed: Counter "addressed" => "Messages to one client, user or room that found it",
    undeliverable: Counter "undeliverable" => "Messages to a client, user or room that is not there",
    handed_over: Counter "handed_over" => "Messages of clients put into the outboxes of backends",
    not_handed_over_busy: Counter "not_handed_over" {"reason" = "busy"} => NOT_HANDED_OVER,
    not_handed_over_none: Counter "not_handed_over" {"reason" = "no_backend"} => NOT_HANDED_OVER,
    instructions: Counter "backend_instructions" => "Messages of backends",
    presence_notices: Counter "presence_notices" => "Notices of who came to a room and who went",
    client_errors: Counter "client_errors" => "Messages of json clients that were answered with an error",
    auth_granted: Counter "authentications" {"result" = "granted"} => AUTHENTICATIONS,
    auth_denied: Counter "authentications" {"result" = "denied"} => AUTHENTICATIONS,
    auth_shed: Counter "authentications" {"result" = "shed"} => AUTHENTICATIONS,
    hook_ok: Counter "auth_hook_decisions" {"result" = "ok"} => HOOK_DECISIONS,
    hook_refused: Counter "auth_hook_decisions" {"result" = "refused"} => HOOK_DECISIONS,
    hook_failed: Counter "auth_hook_decisions" {"result" = "failed"} => HOOK_DECISIONS,
    hook_timeout: Counter "auth_hook_decisions" {"result" = "timeout"} => HOOK_DECISIONS,
    hook_open: Counter "auth_hook_decisions" {"result" = "open"} => HOOK_DECISIONS,
    hook_busy: Counter "auth_hook_decisions" {"result" = "busy"} => HOOK_DECISIONS,
    hook_waiting: Gauge "auth_hook_waiting" => "Questions to the application that are under way, or wait to be",
    not_allowed: Counter "messages_refused" {"reason" = "not_allowed"} => MESSAGES_REFUSED,
    too_fast: Counter "messages_refused" {"reason" = "too_fast"} => MESSAGES_REFUSED,
    topic_too_fast: Counter "messages_refused" {"reason" = "topic_too_fast"} => MESSAGES_REFUSED,
    backlogged: Gauge "backlogged_connections" => "Connections whose socket takes nothing at the moment",
    backlog_bytes: Gauge "backlog_bytes" => "Bytes in outboxes that the sockets have not taken, when last looked at after a turn's sends",
}
