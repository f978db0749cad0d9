//! What `uproar bench` can be asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedI64ValueParser;
use clap::{Args, Subcommand, ValueEnum};

/// Load a WebSocket server, this one or another, and judge what it delivers.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub mode: Mode,
}

/// The modes.
#[derive(Subcommand, Clone, Debug)]
pub enum Mode {
    /// Publish as fast as messages are delivered (closed loop)
    Fanout(Fanout),
    /// Publish at a fixed rate; latency counts from when a message was due (open loop)
    Rate(Rate),
    /// Hold many connections, publish to all of them now and then
    Idle(Idle),
    /// Send, and wait for one's own message
    Echo(Echo),
    /// Connect, shake hands and close, again and again
    Churn(Churn),
    /// Publish to some that never read, and see what that costs the server
    Stalled(Stalled),
    /// Cut all connections, and connect them all again at once
    Storm(Storm),
}

impl Mode {
    /// What every mode has.
    pub fn common(&self) -> &Common {
        match self {
            Mode::Fanout(options) => &options.common,
            Mode::Rate(options) => &options.common,
            Mode::Idle(options) => &options.common,
            Mode::Echo(options) => &options.common,
            Mode::Churn(options) => &options.common,
            Mode::Stalled(options) => &options.common,
            Mode::Storm(options) => &options.common,
        }
    }

    /// Bytes of a message; `None`: the mode sends none.
    pub fn payload(&self) -> Option<usize> {
        match self {
            Mode::Fanout(Fanout { payload, .. })
            | Mode::Rate(Rate { payload, .. })
            | Mode::Idle(Idle { payload, .. })
            | Mode::Echo(Echo { payload, .. })
            | Mode::Storm(Storm { payload, .. }) => Some(payload.payload),
            Mode::Stalled(options) => Some(options.payload),
            Mode::Churn(_) => None,
        }
    }
}

/// What every mode has.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Where to connect; {topic} stands for a topic's name, n in braces for the number of the connection
    #[arg(long, default_value = "ws://127.0.0.1:8080/raw/{topic}")]
    pub url: String,
    /// Where publishers connect, if elsewhere; for the default --url it is that with ?self=false
    #[arg(long)]
    pub publish_url: Option<String>,
    /// Text that subscribes, sent after the handshake: '{"type":"subscribe","topics":["{topic}"]}'
    #[arg(long, value_name = "TEMPLATE")]
    pub subscribe: Option<String>,
    /// Text that the answer to it contains, and that is waited for
    #[arg(long, value_name = "TEXT", requires = "subscribe")]
    pub subscribed: Option<String>,
    /// Text that publishes: '{"type":"publish","topic":"{topic}","data":"{payload}"}'; without it, the payload itself is sent
    #[arg(long, value_name = "TEMPLATE")]
    pub publish: Option<String>,
    /// Send text messages where no template does; otherwise they are binary
    #[arg(long)]
    pub text: bool,
    /// Offer permessage-deflate
    #[arg(long)]
    pub deflate: bool,
    /// The certificates to trust, in PEM, where the URL is wss://
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,
    /// Trust any certificate, where the URL is wss://
    #[arg(long)]
    pub insecure: bool,
    /// A header for every handshake, as "Name: value"; may be given more than once
    #[arg(long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// Read every connection in full, not only some; the others' bytes are only counted
    #[arg(long)]
    pub verify_all: bool,
    /// Threads of load, each with connections of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// Source addresses: one, or a range as 127.0.1.1-127.0.1.60; connections take turns
    #[arg(long, value_name = "ADDRESS")]
    pub source: Option<String>,
    /// Handshakes under way at once, for each thread
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub concurrency: u32,
    /// How long to wait for a handshake or a message before it counts as lost
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    pub timeout: Duration,
    /// How long to load the server before measuring, where that is done for a time [a fifth of --time; stalled: 500ms]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub warm_up: Option<Duration>,
    /// Read this process's CPU time and memory beside the load: the server's, on this machine
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Run on these CPUs, as 1 or 2,3; threads take turns
    #[arg(long, value_name = "CPUS", value_delimiter = ',')]
    pub cpus: Vec<usize>,
    /// Write the report to this file as JSON; - is standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report to this file as a page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print the report only: no progress
    #[arg(long, short)]
    pub quiet: bool,
}

impl Common {
    /// How long to load the server before measuring for a time.
    pub fn warm_up_for(&self, time: Duration) -> Duration {
        self.warm_up.unwrap_or(time / 5)
    }
}

/// How messages look.
#[derive(Args, Clone, Debug)]
pub struct Payload {
    /// Bytes of a message
    #[arg(long, default_value = "64", value_name = "SIZE", value_parser = size)]
    pub payload: usize,
    /// What fills it up
    #[arg(long, value_enum, default_value_t = Fill::Ticks)]
    pub fill: Fill,
}

/// What a payload is filled up with.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// Text like market data, which compresses about as well.
    Ticks,
    /// Text that hardly compresses.
    Random,
}

/// Options of `fanout`.
#[derive(Args, Clone, Debug)]
pub struct Fanout {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub payload: Payload,
    /// Subscribers, spread over the topics
    #[arg(long, default_value_t = 1000, value_parser = some())]
    pub subscribers: u32,
    /// Topics, each with a publisher; in a round each is published to
    #[arg(long, default_value_t = 1, value_parser = some())]
    pub topics: u32,
    /// Messages to a topic in one write
    #[arg(long, default_value_t = 1, value_parser = positive())]
    pub burst: u32,
    /// Rounds under way at once
    #[arg(long, default_value_t = 1, value_parser = positive())]
    pub window: u32,
    /// How many of a hundred subscribers never read; they are not judged
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    pub stalled: f64,
    /// How long to measure
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = time)]
    pub time: Duration,
}

/// Options of `rate`.
#[derive(Args, Clone, Debug)]
pub struct Rate {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub payload: Payload,
    /// Subscribers, spread over the topics
    #[arg(long, default_value_t = 1000, value_parser = some())]
    pub subscribers: u32,
    /// Topics, published to in turn
    #[arg(long, default_value_t = 1, value_parser = some())]
    pub topics: u32,
    /// Messages a second, over all topics
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// Subscribers whose messages are timed
    #[arg(long, default_value_t = 100, value_parser = some())]
    pub samples: u32,
    /// How long to measure
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = time)]
    pub time: Duration,
}

/// Options of `idle`.
#[derive(Args, Clone, Debug)]
pub struct Idle {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub payload: Payload,
    /// Connections, over all threads
    #[arg(long, default_value_t = 10_000, value_parser = some())]
    pub connections: u32,
    /// How long to hold them
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = time)]
    pub hold: Duration,
    /// Messages that are published to all while they are held, evenly spread
    #[arg(long, default_value_t = 1)]
    pub publishes: u32,
    /// Subscribers of a second topic, whose latency is taken while all are published to; 0: none
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=MOST))]
    pub bystanders: u32,
    /// Messages a second to the second topic
    #[arg(long, default_value_t = 100.0)]
    pub bystander_rate: f64,
}

/// Options of `echo`.
#[derive(Args, Clone, Debug)]
pub struct Echo {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub payload: Payload,
    /// Connections, each alone on a topic
    #[arg(long, default_value_t = 100, value_parser = some())]
    pub connections: u32,
    /// Messages of a connection under way at once
    #[arg(long, default_value_t = 1, value_parser = positive())]
    pub window: u32,
    /// How long to measure
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = time)]
    pub time: Duration,
}

/// Options of `churn`.
#[derive(Args, Clone, Debug)]
pub struct Churn {
    #[command(flatten)]
    pub common: Common,
    /// Connections a second, timed from when they were due; 0: as many as go, --concurrency of each thread under way
    #[arg(long, default_value_t = 0.0)]
    pub rate: f64,
    /// How a connection ends that is open
    #[arg(long, value_enum, default_value_t = Close::Reset)]
    pub close: Close,
    /// How long to measure
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = time)]
    pub time: Duration,
}

/// How a client ends a connection.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// It resets it: what is measured is connecting.
    Reset,
    /// It sends a close frame, and waits for the answer.
    Frame,
}

/// Options of `stalled`.
#[derive(Args, Clone, Debug)]
pub struct Stalled {
    #[command(flatten)]
    pub common: Common,
    /// Bytes of a message
    #[arg(long, default_value = "1KiB", value_name = "SIZE", value_parser = size)]
    pub payload: usize,
    /// Subscribers that never read
    #[arg(long, default_value_t = 30, value_parser = some())]
    pub readers: u32,
    /// Bytes to publish to each
    #[arg(long, default_value = "16MiB", value_name = "SIZE", value_parser = size)]
    pub volume: usize,
}

/// Options of `storm`.
#[derive(Args, Clone, Debug)]
pub struct Storm {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub payload: Payload,
    /// Connections, spread over the topics
    #[arg(long, default_value_t = 10_000, value_parser = some())]
    pub connections: u32,
    /// Topics, each with a publisher that is not cut
    #[arg(long, default_value_t = 1, value_parser = some())]
    pub topics: u32,
    /// Times that they are all cut
    #[arg(long, default_value_t = 3, value_parser = positive())]
    pub rounds: u32,
}

/// Connections, or topics, that may be asked for: more than any machine has, and few enough for a `u32` to hold the sum of
/// several such numbers.
const MOST: i64 = 1 << 28;

/// A number of connections or topics.
fn some() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=MOST)
}

fn positive() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

fn time(text: &str) -> Result<Duration, String> {
    crate::config::parse_time(text).ok_or_else(|| format!("{text:?} is no time; for example 500ms, 30s or 10m"))
}

fn size(text: &str) -> Result<usize, String> {
    let bytes = crate::config::parse_size(text).and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or_else(|| format!("{text:?} is no size; for example 64, 1KiB or 16MiB"))
}
