//! What values look like: text to value, value to text, and the bounds in words.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where the admin listener is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdminListen {
    /// An address and port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
    /// Nowhere.
    Off,
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminListen::Tcp(address) => address.fmt(f),
            AdminListen::Unix(path) => write!(f, "unix:{}", path.display()),
            AdminListen::Off => f.write_str("off"),
        }
    }
}

/// What becomes of a message that a full backlog has no room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BacklogPolicy {
    /// The connection is closed, with code 1013.
    Close,
    /// The oldest messages that wait make room.
    DropOldest,
    /// It is not delivered.
    DropNewest,
    /// Of every topic, only the latest message waits.
    Latest,
}

impl BacklogPolicy {
    pub(super) const NAMES: [(&str, BacklogPolicy); 4] = [
        ("close", BacklogPolicy::Close),
        ("drop-oldest", BacklogPolicy::DropOldest),
        ("drop-newest", BacklogPolicy::DropNewest),
        ("latest", BacklogPolicy::Latest),
    ];
}

/// Whether connections begin with a header of the PROXY protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyProtocol {
    /// None does.
    Off,
    /// Each does, of version 1 or 2.
    V1V2,
}

impl ProxyProtocol {
    pub(super) const NAMES: [(&str, ProxyProtocol); 2] = [("off", ProxyProtocol::Off), ("v1v2", ProxyProtocol::V1V2)];
}

/// Whether the kernel seals and opens the records of TLS connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsKernel {
    /// Where it can.
    Auto,
    /// Nowhere.
    Off,
}

impl TlsKernel {
    pub(super) const NAMES: [(&str, TlsKernel); 2] = [("auto", TlsKernel::Auto), ("off", TlsKernel::Off)];
}

/// How much is logged; each level has those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    /// What stops the server, or a part of it.
    Error,
    /// What an operator should look at.
    Warn,
    /// What happens once in a while: start, stop, reload.
    Info,
    /// What happens to single connections.
    Debug,
}

impl LogLevel {
    pub(super) const NAMES: [(&str, LogLevel); 4] =
        [("error", LogLevel::Error), ("warn", LogLevel::Warn), ("info", LogLevel::Info), ("debug", LogLevel::Debug)];
}

/// What a line of the log is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object of JSON, for programs.
    Json,
}

impl LogFormat {
    pub(super) const NAMES: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
}

pub(super) const OUT_OF_BOUNDS: &str = "is out of bounds";
pub(super) const NOT_A_SIZE: &str = "is not a size";
pub(super) const NOT_A_TIME: &str = "is not a time";

/// How a knob's value is written.
pub(super) trait Grammar {
    /// What the text means.
    type Value;
    /// The value of a text; the error goes on where the text ends: `is not a size`.
    fn parse(&self, text: &str) -> Result<Self::Value, &'static str>;
    /// A text of a value, which [`Grammar::parse`] reads, unless there is something in it that nobody is to see.
    fn show(&self, value: &Self::Value) -> String;
    /// What is said of a text that is refused: as much of it as may be seen.
    fn quote(&self, text: &str) -> String {
        if self.is_secret() { "what is set".into() } else { format!("{text:?}") }
    }
    /// The values allowed.
    fn range(&self) -> String;
    /// A word for the value, and how it is written where the range does not show that.
    fn form(&self) -> (&'static str, &'static str);
    /// Whether nobody is to see it: it is taken from no flag, and not printed.
    fn is_secret(&self) -> bool {
        false
    }
}

/// An IP address and port.
pub(super) struct Address;

impl Grammar for Address {
    type Value = SocketAddr;

    fn parse(&self, text: &str) -> Result<SocketAddr, &'static str> {
        text.parse().map_err(|_| "is not an IP address and port")
    }

    fn show(&self, value: &SocketAddr) -> String {
        value.to_string()
    }

    fn range(&self) -> String {
        "ip:port".into()
    }

    fn form(&self) -> (&'static str, &'static str) {
        ("ADDRESS", "as 127.0.0.1:8080, 0.0.0.0:80 or [::]:8080")
    }
}

/// An IP address and port, the path of a socket, or nothing.
pub(super) struct AdminAddress;

/// Bytes of a socket's path that `sockaddr_un` has room for, besides the NUL that ends it (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

impl Grammar for AdminAddress {
    type Value = AdminListen;

    fn parse(&self, text: &str) -> Result<AdminListen, &'static str> {
        match (text, text.strip_prefix("unix:")) {
            ("off", _) => Ok(AdminListen::Off),
            (_, Some(path)) if path.is_empty() || path.contains('\0') => Err("has no path"),
            (_, Some(path)) if path.len() > MAX_SOCKET_PATH => Err("has a path of more than 107 bytes"),
            (_, Some(path)) => Ok(AdminListen::Unix(path.into())),
            (address, None) => Address.parse(address).map(AdminListen::Tcp),
        }
    }

    fn show(&self, value: &AdminListen) -> String {
        value.to_string()
    }

    fn range(&self) -> String {
        "ip:port, unix:/path or off".into()
    }

    fn form(&self) -> (&'static str, &'static str) {
        ("ADDRESS", "")
    }
}

/// On or off.
pub(super) struct Switch;

impl Grammar for Switch {
    type Value = bool;

    fn parse(&self, text: &str) -> Result<bool, &'static str> {
        text.parse().map_err(|_| "is neither true nor false")
    }

    fn show(&self, value: &bool) -> String {
        value.to_string()
    }

    fn range(&self) -> String {
        "true or false".into()
    }

    fn form(&self) -> (&'static str, &'static str) {
        ("BOOL", "")
    }
}

/// A number of things.
pub(super) struct Count {
    pub min: u32,
    pub max: u32,
}

impl Grammar for Count {
    type Value = u32;

    fn parse(&self, text: &str) -> Result<u32, &'static str> {
        let count: i128 = text.parse().map_err(|_| "is not a whole number")?;
        u32::try_from(count).ok().filter(|count| (self.min..=self.max).contains(count)).ok_or(OUT_OF_BOUNDS)
    }

    fn show(&self, value: &u32) -> String {
        value.to_string()
    }

    fn range(&self) -> String {
        format!("{}..{}", self.min, self.max)
    }

    fn form(&self) -> (&'static str, &'static str) {
        ("N", "")
    }
}

/// Bytes, as `64KiB` says them.
pub fn parse_size(text: &str) -> Option<u64> {
    parse_scaled(text, &BYTE_UNITS)
}

/// A time, as `250ms` says it.
pub fn parse_time(text: &str) -> Option<Duration> {
    Time { min: Duration::ZERO, max: Duration::MAX }.parse(text).ok()
}

/// A number of bytes, as [`parse_size`] reads it.
pub(super) fn show_size(bytes: u64) -> String {
    show_scaled(bytes, &BYTE_UNITS)
}

/// A time, as [`parse_time`] reads it.
pub(super) fn show_time(time: Duration) -> String {
    show_scaled(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), &TIME_UNITS)
}

/// A number of bytes.
pub(super) struct Size<T> {
    pub min: T,
    pub max: T,
}

/// Of the first two, the second is what a size is shown in.
const BYTE_UNITS: [(&str, u64); 6] =
    [("B", 1), ("", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

impl<T: Copy + PartialOrd + TryFrom<u64> + Into<u64>> Grammar for Size<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Result<T, &'static str> {
        let bytes = parse_scaled(text, &BYTE_UNITS).ok_or(NOT_A_SIZE)?;
        T::try_from(bytes).ok().filter(|size| (self.min..=self.max).contains(size)).ok_or(OUT_OF_BOUNDS)
    }

    fn show(&self, value: &T) -> String {
        show_size((*value).into())
    }

    fn range(&self) -> String {
        format!("{}..{}", self.show(&self.min), self.show(&self.max))
    }

    fn form(&self) -> (&'static str, &'static str) {
        ("SIZE", "in bytes, or with KiB, MiB, GiB or TiB after the number")
    }
}

/// A span of time, in whole milliseconds.
pub(super) struct Time {
    pub min: Duration,
    pub max: Duration,
}

const TIME_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl Grammar for Time {
    type Value = Duration;

    fn parse(&self, text: &str) -> Result<Duration, &'static str> {
        // Nothing is nothing in every unit.
        let millis = if text == "0" { Some(0) } else { parse_scaled(text, &TIME_UNITS) };
        let time = Duration::from_millis(millis.ok_or(NOT_A_TIME)?);
        if (self.min..=self.max).contains(&time) { Ok(time) } else { Err(OUT_OF_BOUNDS) }
    }

    fn show(&self, value: &Duration) -> String {
        show_time(*value)
    }

    fn range(&self) -> String {
        format!("{}..{}", self.show(&self.min), self.show(&self.max))
    }

    fn form(&self) -> (&'static str, &'static str) {
        ("TIME", "with ms, s, m, h or d after the number")
    }
}

/// A value, or a word for its absence; nothing (`0`) may stand for `off`.
pub(super) struct Or<G>(pub &'static str, pub G);

impl<G: Grammar> Grammar for Or<G> {
    type Value = Option<G::Value>;

    fn parse(&self, text: &str) -> Result<Self::Value, &'static str> {
        if text == self.0 || (text == "0" && self.0 == "off") { Ok(None) } else { self.1.parse(text).map(Some) }
    }

    fn show(&self, value: &Self::Value) -> String {
        value.as_ref().map_or(self.0.into(), |value| self.1.show(value))
    }

    fn quote(&self, text: &str) -> String {
        self.1.quote(text)
    }

    fn range(&self) -> String {
        format!("{} or {}", self.0, self.1.range())
    }

    fn form(&self) -> (&'static str, &'static str) {
        self.1.form()
    }

    fn is_secret(&self) -> bool {
        self.1.is_secret()
    }
}

/// One of a few words.
pub(super) struct Choice<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Grammar for Choice<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Result<T, &'static str> {
        self.0.iter().find(|(name, _)| *name == text).map(|&(_, value)| value).ok_or("is none of the words")
    }

    fn show(&self, value: &T) -> String {
        self.0.iter().find(|(_, other)| other == value).map_or(String::new(), |(name, _)| (*name).into())
    }

    fn range(&self) -> String {
        self.0.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("|")
    }

    fn form(&self) -> (&'static str, &'static str) {
        ("WORD", "")
    }
}

/// Any text.
pub(super) struct Text;

impl Grammar for Text {
    type Value = String;

    fn parse(&self, text: &str) -> Result<String, &'static str> {
        match text.len() {
            0 => Err("is empty"),
            1..=2048 => Ok(text.into()),
            _ => Err("has more than 2048 bytes"),
        }
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn range(&self) -> String {
        "a text".into()
    }

    fn form(&self) -> (&'static str, &'static str) {
        ("TEXT", "")
    }
}

/// Words with commas between.
pub(super) struct Words {
    /// Bytes of one.
    pub max: usize,
}

impl Grammar for Words {
    type Value = Vec<String>;

    fn parse(&self, text: &str) -> Result<Vec<String>, &'static str> {
        let words = || text.split(',').map(str::trim);
        match text {
            "none" => Ok(Vec::new()),
            _ if words().any(|word| word.is_empty() || word.len() > self.max) => {
                Err("has an empty word, or one too long")
            }
            _ => Ok(words().map(String::from).collect()),
        }
    }

    fn show(&self, value: &Vec<String>) -> String {
        if value.is_empty() { "none".into() } else { value.join(",") }
    }

    fn range(&self) -> String {
        "none or words with commas between".into()
    }

    fn form(&self) -> (&'static str, &'static str) {
        ("WORDS", "")
    }
}

/// A whole number and one of the units behind it, multiplied.
fn parse_scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

/// The number in the largest unit that leaves no fraction; `units` grow.
fn show_scaled(number: u64, units: &[(&str, u64)]) -> String {
    match units.iter().rev().find(|(_, scale)| number.is_multiple_of(*scale)) {
        Some((unit, scale)) if number != 0 => format!("{}{unit}", number / scale),
        _ => number.to_string(),
    }
}
