//! What is measured: the cells of the comparison, each a run of `uproar bench`.

use crate::contender::{Contender, Setting};

/// A part of the comparison, which is a table of its own. Its cells are its rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// One message, or so many in one write, to all subscribers of one topic; wait until all have them; again.
    Fanout { burst: u32 },
    /// The same with many topics, all published to at once.
    Topics,
    /// The same with `permessage-deflate`.
    Deflate,
    /// The same while one subscriber of a hundred reads nothing.
    SomeStalled,
    /// Messages at a fixed rate: how late they are.
    Rate,
    /// Many that do nothing, and then are all published to, while a topic of 10 goes on at a fixed rate.
    Crowd,
    /// Some read nothing of what is published: what the server holds for them.
    Stalled,
    /// Clients that come and go.
    Churn,
    /// Clients that get their own messages back.
    Echo,
    /// A fan-out over TLS.
    Tls,
    /// A crowd over TLS.
    TlsCrowd,
    /// Clients that come and go over TLS.
    TlsChurn,
}

/// Which of two figures is the better one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Better {
    Less,
    More,
}

/// A figure that contenders are compared in.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Metric {
    /// As the load generator calls it; of a latency also which share: "due to delivered, p99".
    pub figure: &'static str,
    /// As the tables call it.
    pub title: &'static str,
    /// What the tables have it in, and how much of the load generator's unit that is.
    pub unit: &'static str,
    pub scale: f64,
    pub better: Better,
}

impl Metric {
    /// The name of the latency that this is a share of, if it is one.
    pub fn distribution(&self) -> Option<&'static str> {
        self.figure.rsplit_once(", p").map(|(name, _)| name)
    }
}

/// The server's CPU time for each of something.
const fn cpu(figure: &'static str, title: &'static str) -> Metric {
    Metric { figure, title, unit: "ns", scale: 1.0, better: Better::Less }
}

const fn latency(figure: &'static str, title: &'static str) -> Metric {
    Metric { figure, title, unit: "ms", scale: 1e6, better: Better::Less }
}

const fn memory(figure: &'static str, title: &'static str, unit: &'static str) -> Metric {
    Metric { figure, title, unit, scale: 1.0, better: Better::Less }
}

const fn rate(figure: &'static str, title: &'static str) -> Metric {
    Metric { figure, title, unit: "/s", scale: 1.0, better: Better::More }
}

const FANOUT: [Metric; 2] = [cpu("server CPU a delivery", "CPU a delivery"), rate("deliveries", "deliveries a second")];
const DEFLATE: [Metric; 3] =
    [FANOUT[0], FANOUT[1], memory("bytes on the wire a delivery", "bytes on the wire a delivery", "B")];
const RATE: [Metric; 4] = [
    latency("due to delivered, p50", "latency, p50"),
    latency("due to delivered, p99", "latency, p99"),
    latency("due to delivered, p99.9", "latency, p99.9"),
    cpu("server CPU a delivery", "CPU a delivery"),
];
const CROWD: [Metric; 5] = [
    memory("server's resident memory a connection", "server's memory a connection", "B"),
    memory("kernel's slab memory a connection, both ends", "kernel's memory a connection, both ends", "B"),
    latency("bystanders, while all are published to: due to delivered, p50", "latency of another topic meanwhile, p50"),
    latency("bystanders, while all are published to: due to delivered, p99", "latency of another topic meanwhile, p99"),
    latency(
        "bystanders, while all are published to: due to delivered, p99.9",
        "latency of another topic meanwhile, p99.9",
    ),
];
const STALLED: [Metric; 1] = [memory("resident growth of the server", "growth of the server's memory", "MiB")];
const CHURN: [Metric; 2] =
    [cpu("server CPU a handshake", "CPU a handshake"), rate("handshakes", "handshakes a second")];
const TLS_CROWD: [Metric; 1] = [CROWD[0]];
const ECHO: [Metric; 2] = [cpu("server CPU a message", "CPU a message"), rate("echoes", "echoes a second")];

impl Part {
    pub const ALL: [Part; 14] = [
        Part::Fanout { burst: 1 },
        Part::Fanout { burst: 8 },
        Part::Fanout { burst: 32 },
        Part::Topics,
        Part::Deflate,
        Part::SomeStalled,
        Part::Rate,
        Part::Crowd,
        Part::Stalled,
        Part::Churn,
        Part::Echo,
        Part::Tls,
        Part::TlsCrowd,
        Part::TlsChurn,
    ];

    /// The first word of its cells' names.
    pub fn word(self) -> String {
        match self {
            Part::Fanout { burst: 1 } => "single".into(),
            Part::Fanout { burst } => format!("burst of {burst}"),
            Part::Topics => "topics".into(),
            Part::Deflate => "deflate".into(),
            Part::SomeStalled => "some stalled".into(),
            Part::Rate => "rate".into(),
            Part::Crowd => "crowd".into(),
            Part::Stalled => "stalled".into(),
            Part::Churn => "churn".into(),
            Part::Echo => "echo".into(),
            Part::Tls => "tls".into(),
            Part::TlsCrowd => "tls crowd".into(),
            Part::TlsChurn => "tls churn".into(),
        }
    }

    /// What its tables are headed.
    pub fn title(self) -> String {
        match self {
            Part::Fanout { burst: 1 } => "One message at a time to one topic".into(),
            Part::Fanout { burst } => format!("Bursts of {burst} messages to one topic"),
            Part::Topics => "1,000 topics of 10 subscribers".into(),
            Part::Deflate => "Compressed (permessage-deflate)".into(),
            Part::SomeStalled => "One subscriber of a hundred reads nothing".into(),
            Part::Rate => "Messages at a fixed rate".into(),
            Part::Crowd => "A crowd: idle, and while it is published to".into(),
            Part::Stalled => "30 subscribers read nothing".into(),
            Part::Churn => "Connecting and closing".into(),
            Part::Echo => "Echo".into(),
            Part::Tls => "Over TLS: to one topic".into(),
            Part::TlsCrowd => "Over TLS: a crowd that is idle".into(),
            Part::TlsChurn => "Over TLS: connecting and closing".into(),
        }
    }

    /// What its contenders are compared in, the most telling first.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Part::Fanout { .. } | Part::Topics | Part::SomeStalled | Part::Tls => &FANOUT,
            Part::Deflate => &DEFLATE,
            Part::Rate => &RATE,
            Part::Crowd => &CROWD,
            Part::Stalled => &STALLED,
            Part::Churn | Part::TlsChurn => &CHURN,
            Part::TlsCrowd => &TLS_CROWD,
            Part::Echo => &ECHO,
        }
    }

    /// Whether it goes over TLS.
    fn tls(self) -> bool {
        matches!(self, Part::Tls | Part::TlsCrowd | Part::TlsChurn)
    }

    /// Whether a contender can be measured so: floors only send, and `tokio-tungstenite` knows no compression and has no TLS
    /// of its own.
    pub fn suits(self, contender: Contender) -> bool {
        match self {
            Part::Fanout { .. } | Part::Topics => true,
            Part::Deflate | Part::Tls | Part::TlsCrowd | Part::TlsChurn => {
                !contender.is_floor() && contender != Contender::Tungstenite
            }
            _ => !contender.is_floor(),
        }
    }

    /// What all servers are told. Nobody shall lose messages: not those of a burst, which is 512 KiB at most, and not where
    /// some read nothing.
    pub fn setting(self) -> Setting {
        let (backlog, pings) = match self {
            Part::Stalled => (64 << 20, false),
            Part::SomeStalled => (16 << 20, false),
            _ => (1 << 20, true),
        };
        Setting { deflate: self == Part::Deflate, tls: self.tls(), backlog, pings }
    }

    /// Where clients connect, below the server's address, and where publishers do.
    pub fn paths(self, contender: Contender) -> (&'static str, Option<&'static str>) {
        match self {
            Part::Echo if contender != Contender::Uproar => ("/echo/{topic}", None),
            Part::Echo | Part::Churn | Part::TlsChurn => ("/raw/{topic}", None),
            _ => ("/raw/{topic}", Some("/raw/{topic}?self=false")),
        }
    }
}

/// One thing to measure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cell {
    pub part: Part,
    /// As its part's tables call it: "64 B to 1,000".
    pub name: String,
    /// What `uproar bench` is told: the mode, and its options but for what they share.
    pub load: Vec<String>,
}

impl Cell {
    fn new(part: Part, name: String, load: String) -> Cell {
        Cell { part, name, load: load.split(' ').map(String::from).collect() }
    }

    /// What tells it from all others, in a record: "single, 64 B to 1,000".
    pub fn id(&self) -> String {
        format!("{}, {}", self.part.word(), self.name)
    }
}

/// How long things are looked at, and how many connections are many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Milliseconds of a fan-out, an echo or a churn.
    pub short: u32,
    /// Milliseconds of what has to be looked at for longer.
    pub long: u32,
    /// Connections of the crowd.
    pub crowd: u32,
    /// Of the crowd over TLS, whose clients take the load much memory and time.
    pub tls_crowd: u32,
}

impl Pace {
    pub const FULL: Pace = Pace { short: 700, long: 3000, crowd: 15_000, tls_crowd: 5_000 };
    pub const QUICK: Pace = Pace { short: 150, long: 800, crowd: 2_000, tls_crowd: 1_000 };
    /// For a few cells.
    pub const CALM: Pace = Pace { short: 1500, long: 3000, crowd: 15_000, tls_crowd: 5_000 };
}

const SIZES: [u32; 3] = [64, 1024, 16 << 10];
const CROWDS: [u32; 3] = [100, 1_000, 10_000];
const BURSTS: [u32; 3] = [1, 8, 32];

/// Bytes that a round may have under way: what the kernel lets all sockets hold is of the same order.
const MOST_IN_FLIGHT: u64 = 2 << 30;

/// Everything.
pub fn all(pace: Pace) -> Vec<Cell> {
    let fits = |&(burst, crowd, size): &(u32, u32, u32)| {
        u64::from(burst) * u64::from(crowd) * u64::from(size) <= MOST_IN_FLIGHT
    };
    let of = |burst| CROWDS.into_iter().flat_map(move |crowd| SIZES.map(|size| (burst, crowd, size)));
    let fan_outs = BURSTS.into_iter().flat_map(of).filter(fits);
    let fan_outs = fan_outs.map(|(burst, crowd, size)| fan_out(size, crowd, burst, pace));
    fan_outs.chain(special_fan_outs(pace)).chain(others(pace)).chain(over_tls(pace)).collect()
}

/// A look: 64 bytes to 1,000.
pub fn short(pace: Pace) -> Vec<Cell> {
    [1, 32].map(|burst| fan_out(64, 1_000, burst, pace)).into()
}

fn fan_out(size: u32, crowd: u32, burst: u32, pace: Pace) -> Cell {
    let load = format!("fanout --subscribers {crowd} --payload {size} --burst {burst} --time {}ms", pace.short);
    Cell::new(Part::Fanout { burst }, format!("{} to {}", bytes(size), thousands(crowd.into())), load)
}

fn special_fan_outs(pace: Pace) -> Vec<Cell> {
    let time = pace.short;
    let cell = |part, name: &str, burst: u32, more: &str| {
        let name = if burst == 1 { name.into() } else { format!("{name}, bursts of {burst}") };
        Cell::new(part, name, format!("fanout --burst {burst} --time {time}ms {more}"))
    };
    let topics = |burst| cell(Part::Topics, "64 B", burst, "--topics 1000 --subscribers 10000 --payload 64");
    let deflate =
        |burst| cell(Part::Deflate, "1 KiB ticks to 1,000", burst, "--deflate --subscribers 1000 --payload 1KiB");
    let stalled =
        |burst| cell(Part::SomeStalled, "1 KiB to 1,000", burst, "--stalled 1 --subscribers 1000 --payload 1KiB");
    vec![topics(1), topics(32), deflate(1), deflate(8), stalled(1), stalled(8)]
}

fn others(pace: Pace) -> Vec<Cell> {
    let Pace { short, long, crowd, .. } = pace;
    let rate = |rate: u32| {
        let load = format!("rate --subscribers 1000 --payload 64 --samples 100 --rate {rate} --time {long}ms");
        Cell::new(Part::Rate, format!("64 B to 1,000, {rate} a second"), load)
    };
    // A message to all takes a tenth of a second, so that they are published to most of the time.
    let publishes = long / 150;
    let hold = format!(
        "idle --connections {crowd} --payload 64 --hold {long}ms --publishes {publishes} --bystanders 10 --bystander-rate 1000"
    );
    let echo = |connections: u32, size: u32| {
        let name = format!("{} over {} connections", bytes(size), thousands(connections.into()));
        Cell::new(Part::Echo, name, format!("echo --connections {connections} --payload {size} --time {short}ms"))
    };
    vec![
        rate(50),
        rate(100),
        Cell::new(Part::Crowd, format!("{} subscribers", thousands(crowd.into())), hold),
        Cell::new(
            Part::Stalled,
            "16 MiB in messages of 1 KiB".into(),
            "stalled --readers 30 --volume 16MiB --payload 1KiB".into(),
        ),
        Cell::new(Part::Churn, "handshake, close".into(), format!("churn --time {}ms", 2 * short)),
        echo(100, 64),
        echo(1_000, 64),
        echo(100, 1 << 10),
    ]
}

fn over_tls(pace: Pace) -> Vec<Cell> {
    let Pace { short, long, tls_crowd: crowd, .. } = pace;
    let fan_out = |size, burst| {
        let Cell { name, load, .. } = fan_out(size, 1_000, burst, pace);
        let name = if burst == 1 { name } else { format!("{name}, bursts of {burst}") };
        Cell { part: Part::Tls, name, load }
    };
    let hold = format!("idle --connections {crowd} --payload 64 --hold {long}ms");
    vec![
        fan_out(64, 1),
        fan_out(64, 32),
        fan_out(1024, 1),
        Cell::new(Part::TlsCrowd, format!("{} subscribers", thousands(crowd.into())), hold),
        Cell::new(Part::TlsChurn, "handshake, close".into(), format!("churn --time {}ms", 2 * short)),
    ]
}

fn bytes(size: u32) -> String {
    if size < 1024 { format!("{size} B") } else { format!("{} KiB", size / 1024) }
}

/// "10,000" of 10,000.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap_or("")).collect();
    groups.join(",")
}
