//! Every knob: what it is for, its unit, default and bounds, and where its value came from.
//!
//! A knob has one name. `backlog` is `backlog = "64KiB"` in the TOML file that `--config` or `UPROAR_CONFIG` names,
//! `UPROAR_BACKLOG` in the environment and `--backlog` as a flag; the later of these wins. `PORT` sets the port of
//! `listen` and nothing else: it wins over the file, and an explicit `UPROAR_LISTEN` or `--listen` wins over it.
//!
//! Values are parsed once, into a [`Config`]; what is unknown or out of bounds is refused and named. The last word of a knob
//! below says what another value takes in a server that runs: `Live`, a reload, or `Restart`.

mod advice;
mod exposure;
mod history;
mod hook;
mod incomplete;
mod limit;
mod load;
mod network;
mod pattern;
mod rate;
mod reload;
mod secret;
mod source;
#[cfg(test)]
mod tests;
mod url;
mod value;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

pub use history::{HistoryRule, HistoryRules, parse_history};
pub use hook::HookEvents;
pub use limit::{AUTO_ADDRESS_CONNECT_RATE, AUTO_ADDRESS_CONNECTIONS, AUTO_BYTE_RATE, AUTO_MESSAGE_RATE, Limit};
pub use load::{ConfigError, Inputs, Resolved, load};
pub use network::{Network, Networks};
pub use pattern::Patterns;
pub use rate::Rate;
pub use reload::{Changed, ReloadReport};
pub use secret::Secret;
pub use source::Source;
pub(crate) use url::public_url;
pub use value::{AdminListen, BacklogPolicy, LogFormat, LogLevel, ProxyProtocol, TlsKernel, parse_size, parse_time};

use crate::limits::{
    MAX_BYTE_RATE, MAX_CONNECT_RATE, MAX_CONNECTIONS_PER_SHARD, MAX_MESSAGE_BYTES, MAX_MESSAGE_RATE, MAX_SHARDS,
    READ_BUFFER_BYTES,
};
use history::History;
use hook::Events;
use limit::Automatic;
use network::Cidr;
use pattern::PatternList;
use rate::{bytes_per_second, count_per_second};
use reload::Takes;
use secret::{Key, Keys};
use url::Url;
use value::{Address, AdminAddress, Choice, Count, Grammar, Or, Size, Switch, Text, Time, Words};

const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;
const MAX_MESSAGE: u32 = MAX_MESSAGE_BYTES as u32;
const GIB: u32 = 1 << 30;
const MAX_HEAD_BYTES: u32 = READ_BUFFER_BYTES as u32;
const ALL_CONNECTIONS: u32 = MAX_CONNECTIONS_PER_SHARD * MAX_SHARDS as u32;
/// Of `max_memory`.
pub(crate) const MIN_MEMORY: u64 = 64 << 20;
const TIB_64: u64 = 64 << 40;
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const _: () = {
    assert!(MAX_MESSAGE_BYTES <= u32::MAX as u64 && READ_BUFFER_BYTES <= u32::MAX as usize);
    assert!(MAX_CONNECTIONS_PER_SHARD as u64 * MAX_SHARDS as u64 <= u32::MAX as u64);
};

/// Types of messages.
const TYPES: Words = Words { max: 64 };
/// Names of header fields.
const FIELDS: Words = Words { max: 64 };
/// Paths of files.
const FILES: Words = Words { max: 4096 };

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).into()).collect()
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The cores this process may use, by its affinity mask and its cgroup's quota.
fn cores() -> u32 {
    available_parallelism().map_or(1, |cores| cores.get().min(MAX_SHARDS) as u32)
}

/// One knob, independent of its type.
pub(crate) struct Knob {
    /// Its name in the file, and the field's in [`Config`].
    pub name: &'static str,
    /// What kind of knob it is; a heading.
    pub group: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// Parses and stores a value; the error says what it is not.
    pub set: fn(&mut Config, &str) -> Result<(), &'static str>,
    /// The value, as `set` reads it unless it has a part that nobody is to see. Of a secret, for no eyes.
    pub show: fn(&Config) -> String,
    /// What is said of a text that `set` refuses: as much of it as may be seen.
    pub quote: fn(&str) -> String,
    /// The values allowed.
    pub range: fn() -> String,
    /// What to write for a value: a word for the usage, and an explanation, which may be empty.
    pub form: fn() -> (&'static str, &'static str),
    /// Whether nobody is to see the value.
    pub is_secret: fn() -> bool,
    /// What it takes for another value to hold.
    pub takes: Takes,
    /// Whether two configurations have the same value.
    pub is_same: fn(&Config, &Config) -> bool,
    /// Gives the second configuration the value of the first.
    pub copy: fn(&Config, &mut Config),
}

impl Knob {
    /// The knob of that name.
    pub fn named(name: &str) -> Option<&'static Knob> {
        KNOBS.iter().find(|knob| knob.name == name)
    }

    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("UPROAR_{}", self.name.to_ascii_uppercase())
    }

    /// Its flag, without the dashes before it.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }
}

macro_rules! knobs {
    ($($group:literal {
        $($(#[doc = $help:literal])+ $name:ident: $type:ty = $default:expr, $grammar:expr, $takes:ident;)+
    })+) => {
        /// A configuration: every field is a knob of its name.
        ///
        /// Embedders start from [`Config::default`] and set fields; [`Config::validate`] checks the bounds.
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub struct Config {
            $($($(#[doc = $help])+ pub $name: $type,)+)+
        }

        impl Default for Config {
            fn default() -> Config {
                Config { $($($name: $default,)+)+ }
            }
        }

        /// Every knob, in the order of the help.
        pub(crate) static KNOBS: &[Knob] = &[
            $($(Knob {
                name: stringify!($name),
                group: $group,
                help: concat!($($help),+).trim_ascii(),
                set: |config, text| $grammar.parse(text).map(|value| config.$name = value),
                show: |config| $grammar.show(&config.$name),
                quote: |text| $grammar.quote(text),
                range: || $grammar.range(),
                form: || $grammar.form(),
                is_secret: || $grammar.is_secret(),
                takes: Takes::$takes,
                is_same: |a, b| a.$name == b.$name,
                copy: |from, to| to.$name.clone_from(&from.$name),
            },)+)+
        ];
    };
}

knobs! {
    "Listeners" {
        /// Address and port of the public listener: WebSockets, the playground, /health. Port 0 lets the kernel choose.
        listen: SocketAddr = loopback(8080), Address, Restart;
        /// Address and port of the admin listener, or unix:/path for a socket in the file system. Keep it private.
        admin_listen: AdminListen = AdminListen::Tcp(loopback(8081)), AdminAddress, Restart;
        /// The keys, with commas between, one of which a request to the admin listener must bring that comes neither from this
        /// machine nor by the Unix socket. Not as a flag, which others on the machine could read: in UPROAR_ADMIN_KEY, or in the
        /// file.
        admin_key: Vec<Secret> = Vec::new(), Keys, Live;
        /// Address and port of a second public listener, with TLS: wss:// and https://. It wants tls_certificate and tls_key.
        tls_listen: Option<SocketAddr> = None, Or("off", Address), Restart;
        /// Files of certificate chains in PEM, with commas between; the first is for clients that name no host of another. They
        /// are read again when they change, and with every reload.
        tls_certificate: Vec<String> = Vec::new(), FILES, Live;
        /// Files of the certificates' keys, in the same order.
        tls_key: Vec<String> = Vec::new(), FILES, Live;
        /// Whether the kernel seals and opens what TLS connections send and are sent: auto, where it can (Linux 6.7, module tls).
        tls_kernel: TlsKernel = TlsKernel::Auto, Choice(&TlsKernel::NAMES), Restart;
        /// Let listeners be reached from other machines though nothing says who may connect: for networks that let in only
        /// whom you trust. Otherwise the server refuses to start so.
        insecure_open: bool = false, Switch, Live;
        /// Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn.
        accept_backlog: u32 = 4096, Count { min: 1, max: 65_535 }, Restart;
        /// Networks of proxies that are believed when they say whom they speak for: X-Forwarded-For, Forwarded (RFC 7239), and
        /// the PROXY protocol. Limits of addresses then hold for their clients, and not for them.
        trusted_proxies: Networks = Networks::default(), Cidr, Live;
        /// Whether every connection to the public listeners begins with a header of the PROXY protocol, version 1 or 2. Then
        /// they are for trusted_proxies alone.
        proxy_protocol: ProxyProtocol = ProxyProtocol::Off, Choice(&ProxyProtocol::NAMES), Live;
        /// Serve the playground at / and the demos below /demo/.
        playground: bool = true, Switch, Live;
    }
    "Threads" {
        /// Threads that serve connections, each with its own ring. By default the cores this process may use.
        shards: u32 = cores(), Count { min: 1, max: MAX_SHARDS as u32 }, Restart;
        /// Pin every shard to a core of its own.
        pin: bool = true, Switch, Restart;
    }
    "Who may come in" {
        /// The secrets that tokens of clients (JWT) are signed with, by HS256: one, or several while one takes another's place. Not as a
        /// flag, which others on the machine could read: in UPROAR_JWT_SECRET, or in the file. With this, a public key or a set of
        /// keys, clients need tokens.
        jwt_secret: Vec<Secret> = Vec::new(), Keys, Live;
        /// Files of public keys in PEM that tokens are checked with, with commas between: RSA (RS256), P-256 (ES256), Ed25519 (EdDSA).
        jwt_public_key: Vec<String> = Vec::new(), FILES, Live;
        /// Address of a set of public keys (JWKS, RFC 7517), http:// or https://.
        jwks_url: Option<String> = None, Or("off", Url), Live;
        /// Time after which the set of keys is fetched again; it is fetched before when a token names a key that is not in it,
        /// and when that failed: after a second, then after twice as long each time.
        jwks_refresh: Duration = secs(5 * MINUTE), Time { min: secs(1), max: secs(DAY) }, Live;
        /// What tokens must have as issuer (iss).
        jwt_issuer: Option<String> = None, Or("off", Text), Live;
        /// What tokens must have as audience (aud).
        jwt_audience: Option<String> = None, Or("off", Text), Live;
        /// Let clients without a token in as well, where others need one.
        anonymous: bool = false, Switch, Live;
        /// Cookie that may have the token. Where this is set, set allowed_origins too: a browser sends it for any page.
        auth_cookie: Option<String> = None, Or("off", Text), Live;
        /// Origins of pages that may connect, with https:// before them, in which * is any characters; what is no page says no origin.
        allowed_origins: Patterns = Patterns::all(), PatternList, Live;
        /// Rooms that clients may connect to, as far as their token does not say.
        client_rooms: Patterns = Patterns::all(), PatternList, Live;
        /// Topics that clients may subscribe to, as far as their token does not say.
        client_subscribe: Patterns = Patterns::all(), PatternList, Live;
        /// Rooms of which clients may ask who is in them, as far as their token does not say.
        client_presence: Patterns = Patterns::all(), PatternList, Live;
        /// Topics whose past clients may have, as far as their token does not say.
        client_history: Patterns = Patterns::all(), PatternList, Live;
        /// Address, http:// or https://, at which the application is asked whether a client may do what it is about to do.
        auth_hook: Option<String> = None, Or("off", Url), Live;
        /// What it is asked about: who connects, what is subscribed to, what is published.
        auth_hook_events: HookEvents = HookEvents::CONNECT, Events, Live;
        /// Time for the application to answer; after it, what was asked for is refused.
        auth_hook_timeout: Duration = secs(2), Time { min: millis(10), max: secs(30) }, Live;
        /// Requests to the application that may be under way at a time. 16 times as many may wait; beyond that, what is asked
        /// for is refused.
        auth_hook_concurrency: u32 = 64, Count { min: 1, max: 1024 }, Live;
        /// By which the application knows that it is this server that asks, in Authorization: Bearer. Not as a flag, which
        /// others on the machine could read: in UPROAR_AUTH_HOOK_SECRET, or in the file.
        auth_hook_secret: Option<Secret> = None, Or("off", Key), Live;
        /// Header fields of the client's request that the application is told.
        auth_hook_headers: Vec<String> = words(&["cookie", "authorization", "origin", "user-agent"]), FIELDS, Live;
    }
    "Limits" {
        /// Connections of the whole process; auto: as many as its descriptors and memory allow.
        max_connections: Option<u32> = None, Or("auto", Count { min: 1, max: ALL_CONNECTIONS }), Live;
        /// Connections of one IPv4 address, or of one IPv6 network of 64 bits; those beyond are answered with 429. auto: 1000 for
        /// addresses elsewhere, since an office or a provider may share one, and no bound for those of this machine; what is
        /// set holds for both.
        address_connections: Limit<u32> = Limit::Auto, Automatic(Count { min: 1, max: ALL_CONNECTIONS }), Live;
        /// New connections a second of one such address; those beyond are answered with 429. auto: 200 burst=1000 for
        /// addresses elsewhere, so that all of an office may come back at once; no bound for those of this machine.
        address_connect_rate: Limit<Rate> = Limit::Auto, Automatic(count_per_second(MAX_CONNECT_RATE)), Live;
        /// New connections a second of the whole server; those beyond wait in the kernel's queue, see accept_backlog.
        connect_rate: Option<Rate> = None, Or("off", count_per_second(MAX_CONNECT_RATE)), Live;
        /// Bytes of memory of the whole process, near which load is shed: from nine tenths on newcomers are refused, from 95 percent
        /// histories are emptied, from 98 percent the connections with the largest backlogs and incomplete messages are closed (code 1013). auto: three
        /// quarters of what the machine has, or the control group of a container or a unit.
        max_memory: Limit<u64> = Limit::Auto, Automatic(Size { min: MIN_MEMORY, max: TIB_64 }), Live;
        /// Topics one connection may be subscribed to.
        max_topics: u32 = 1024, Count { min: 1, max: 65_535 }, Live;
        /// Bytes of a message that a client sends, decompressed.
        max_message: u32 = MIB, Size { min: 125, max: MAX_MESSAGE }, Live;
        /// Messages, pings and requests a second that one connection may send; backends may send more. auto: 1000 burst=5000
        /// from elsewhere, far more than a person or a game needs; no bound from this machine; what is set holds for both.
        message_rate: Limit<Rate> = Limit::Auto, Automatic(count_per_second(MAX_MESSAGE_RATE)), Live;
        /// Bytes a second that one connection may send; backends may send more. auto: 4MiB burst=32MiB from elsewhere, as much
        /// as a good video; no bound from this machine; what is set holds for both.
        byte_rate: Limit<Rate> = Limit::Auto, Automatic(bytes_per_second(KIB, MAX_BYTE_RATE)), Live;
        /// Messages a second that are published to one topic, by everybody together; those beyond are refused.
        topic_publish_rate: Option<Rate> = None, Or("off", count_per_second(MAX_MESSAGE_RATE)), Live;
        /// Bytes of a request's head.
        max_head: u32 = 8 * KIB, Size { min: KIB, max: MAX_HEAD_BYTES }, Live;
    }
    "Rooms and topics" {
        /// Tell the members of a room who comes and goes.
        presence: bool = true, Switch, Live;
        /// Members of a room beyond which nobody is told who comes and goes, nor who is there.
        presence_limit: u32 = 200, Count { min: 0, max: 65_535 }, Live;
        /// Notices a second of one room beyond which those of a second are told together.
        presence_rate: u32 = 10, Count { min: 0, max: 10_000 }, Live;
        /// Types of messages that are relayed to the sender's room: chat, unless others are named, or none.
        relay: Vec<String> = vec!["chat".into()], TYPES, Live;
        /// Types of messages that are handed to a backend; of chat, instead of being relayed.
        handover: Vec<String> = vec!["prompt".into(), "playerAction".into()], TYPES, Live;
        /// The keys, with commas between, by one of which a backend proves itself on /backend. Not as a flag, which others on
        /// the machine could read: in UPROAR_BACKEND_KEY, or in the file.
        backend_key: Vec<Secret> = Vec::new(), Keys, Live;
        /// Topics that clients may publish to, by publish, binary messages, /raw and POST /publish: not those that a
        /// backend alone speaks for. Backends, the HTTP API and what is relayed to a room are not bound by it.
        client_publish: Patterns = Patterns::all(), PatternList, Live;
        /// Topics that keep messages for those who come back or come late: rules, of which the first counts whose pattern
        /// the topic is. In a pattern, * is any characters, also dots. What a rule does not say is count=100 age=5m
        /// bytes=1MiB; what exceeds any of them goes, but for the newest message with last_value.
        history: HistoryRules = HistoryRules::default(), History, Live;
        /// Bytes of all histories of the process; beyond them, the oldest messages go.
        history_memory: u64 = 64 * (1 << 20), Size { min: 1 << 20, max: TIB_64 }, Live;
        /// Time for which a message that was acknowledged is known when it comes again.
        ack_window: Duration = secs(2 * MINUTE), Time { min: secs(1), max: secs(HOUR) }, Live;
        /// Bad messages in a row after which a json client is closed.
        max_errors: u32 = 100, Count { min: 1, max: 65_535 }, Live;
    }
    "Slow readers" {
        /// Bytes that may wait to be sent to one connection.
        backlog: u32 = 64 * KIB, Size { min: KIB, max: GIB }, Live;
        /// Bytes of a connection's send buffer in the kernel, which fills before the backlog does; auto: as
        /// net.ipv4.tcp_wmem has it, up to megabytes. Small: a slow reader of prices gets fresher ones.
        send_buffer: Option<u32> = None, Or("auto", Size { min: 4 * KIB, max: 64 * MIB }), Restart;
        /// What to do with a connection whose backlog is full: close it (code 1013), drop its oldest or its newest
        /// messages, or keep the latest message of each topic.
        backlog_policy: BacklogPolicy = BacklogPolicy::Close, Choice(&BacklogPolicy::NAMES), Live;
    }
    "Timeouts" {
        /// Time for a request's head to be complete.
        head_timeout: Duration = secs(10), Time { min: millis(100), max: secs(10 * MINUTE) }, Live;
        /// Time between two plain requests on one connection.
        keep_alive_timeout: Duration = secs(30), Time { min: millis(100), max: secs(10 * MINUTE) }, Live;
        /// Time for a message of a WebSocket to be complete, from its first byte on, however it goes on; whoever takes longer is
        /// closed (code 1008).
        message_timeout: Option<Duration> = Some(secs(MINUTE)), Or("off", Time { min: secs(1), max: secs(HOUR) }), Live;
        /// Time between pings of a WebSocket; no less than ping_timeout, whatever is set.
        ping_interval: Option<Duration> = Some(secs(30)), Or("off", Time { min: secs(1), max: secs(HOUR) }), Live;
        /// Time for a ping to be answered.
        ping_timeout: Duration = secs(10), Time { min: millis(100), max: secs(10 * MINUTE) }, Live;
        /// Time after which a stream of Server-Sent Events in which nothing was said is sent a comment.
        sse_heartbeat: Duration = secs(15), Time { min: secs(1), max: secs(10 * MINUTE) }, Live;
        /// Age at which a WebSocket or a stream is closed, so that clients spread anew over the servers behind a balancer.
        max_lifetime: Option<Duration> = None, Or("off", Time { min: secs(1), max: secs(30 * DAY) }), Live;
        /// Percent of max_lifetime by which it varies at random, so that not all clients return at once.
        lifetime_jitter: u32 = 10, Count { min: 0, max: 100 }, Live;
        /// Time for a client to answer a close frame and to read what is still to be sent.
        close_timeout: Duration = secs(5), Time { min: millis(100), max: secs(10 * MINUTE) }, Live;
        /// Time between the begin of a drain, which turns /ready, and its first closes: for balancers to notice.
        drain_delay: Duration = Duration::ZERO, Time { min: Duration::ZERO, max: secs(10 * MINUTE) }, Live;
        /// Time over which a drain, by SIGTERM or uproar drain, closes the connections evenly; 0: all at once, with 1001.
        drain_time: Duration = secs(10), Time { min: Duration::ZERO, max: secs(HOUR) }, Live;
        /// Time for all connections to close when the server ends; 0 waits for none.
        shutdown_timeout: Duration = secs(5), Time { min: Duration::ZERO, max: secs(10 * MINUTE) }, Live;
    }
    "Compression" {
        /// Agree to permessage-deflate (RFC 7692) when a client offers it.
        deflate: bool = true, Switch, Live;
        /// Bytes from which a message is sent compressed; smaller ones hardly shrink.
        deflate_min: u32 = 128, Size { min: 0, max: MAX_MESSAGE }, Live;
    }
    "Log" {
        /// What is logged to standard error: messages of this level and of those before it.
        log: LogLevel = LogLevel::Info, Choice(&LogLevel::NAMES), Live;
        /// How it is logged: lines to be read, or a JSON object a line.
        log_format: LogFormat = LogFormat::Text, Choice(&LogFormat::NAMES), Restart;
    }
}

impl Config {
    /// Checks the bounds of every field, and the fields against each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut scratch = self.clone();
        let mut problems = Vec::new();
        for knob in KNOBS {
            let text = (knob.show)(self);
            if let Err(why) = (knob.set)(&mut scratch, &text) {
                problems.push(load::complaint(knob.name, &text, why, knob));
            }
        }
        problems.extend(self.clashes());
        ConfigError::unless_empty(problems)
    }

    /// What is wrong with fields beside each other.
    fn clashes(&self) -> Vec<String> {
        let admin = if let AdminListen::Tcp(admin) = self.admin_listen { Some(admin) } else { None };
        let listeners = [("listen", Some(self.listen)), ("tls_listen", self.tls_listen), ("admin_listen", admin)];
        let listeners: Vec<_> = listeners.into_iter().filter_map(|(name, address)| Some((name, address?))).collect();
        let mut problems = Vec::new();
        for (i, (name, address)) in listeners.iter().enumerate() {
            for (other, at) in listeners[i + 1..].iter().filter(|(_, at)| is_in_the_way(*address, *at)) {
                let words = "are in each other's way: change one's port";
                problems.push(format!("{name} ({address}) and {other} ({at}) {words}"));
            }
        }
        let (certificates, keys) = (self.tls_certificate.len(), self.tls_key.len());
        if certificates != keys {
            problems.push(format!(
                "tls_certificate names {certificates} files, tls_key {keys}: each certificate has a key"
            ));
        } else if self.tls_listen.is_some() && certificates == 0 {
            problems.push("tls_listen wants tls_certificate and tls_key".into());
        }
        if self.proxy_protocol != ProxyProtocol::Off && self.trusted_proxies.0.is_empty() {
            problems.push("proxy_protocol wants trusted_proxies: nobody else may connect".into());
        }
        problems.extend(self.admin_problem());
        problems
    }

    /// Whether clients need tokens.
    pub(crate) fn wants_tokens(&self) -> bool {
        !self.jwt_secret.is_empty() || !self.jwt_public_key.is_empty() || self.jwks_url.is_some()
    }

    /// The certificates and their keys.
    pub(crate) fn tls_pairs(&self) -> Vec<(PathBuf, PathBuf)> {
        self.tls_certificate
            .iter()
            .zip(&self.tls_key)
            .map(|(certificate, key)| (certificate.into(), key.into()))
            .collect()
    }
}

/// Two listeners cannot have one port, unless each has an address of its own.
fn is_in_the_way(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && same_ip
}
