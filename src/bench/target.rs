//! Where connections go, and what is said there: addresses, handshakes, subscriptions, publications.

mod template;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::options::Common;
use super::{Result, Usage};
use crate::tls::trust::{Trust, client_config};
use crate::ws::client::answer::{self, Asked};
use crate::ws::handshake::{AcceptKey, accept_key};
use template::{Template, Word};

/// The key of all handshakes: "uproar bench key". It should be random (RFC 6455 section 4.1), against caches that take a
/// handshake for something else; between a load generator and a server there are none.
const KEY: &str = "dXByb2FyIGJlbmNoIGtleQ==";
/// The default of `--url`: there, publishers ask not to be sent their own messages.
const DEFAULT_URL: &str = "ws://127.0.0.1:8080/raw/{topic}";
/// What is offered with `--deflate`: contexts that a server kept for each connection would be measured, not delivery.
const DEFLATE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// Headers of the handshake that are not for `--header` to say.
const OWN_HEADERS: [&str; 6] =
    ["Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions"];
/// Connections of one source address, which has 28,232 ports unless told (`net.ipv4.ip_local_port_range`). The kernel leaves
/// every other one to those who bind: when the first half is taken, it looks through all of that for each connection, before
/// it takes from the second. Measured: 7,000 connections a second with 19,000 to an address, 22,000 with 9,500.
const CONNECTIONS_OF_AN_ADDRESS: u32 = 12_000;
/// The first source address where many are needed and none was given.
const FIRST_LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
/// Addresses that a range of `--source` may have.
const MAX_SOURCES: u32 = 1 << 16;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It is sent messages.
    Subscriber,
    /// It sends them.
    Publisher,
}

/// What its sessions have in common.
fn sessions(common: &Common) -> Result<Arc<ClientConfig>> {
    let trust = match (&common.ca, common.insecure) {
        (Some(file), _) => Trust::File(file),
        (None, true) => Trust::Anybody,
        (None, false) => return Usage::error("wss:// wants --ca FILE, with the certificate to trust, or --insecure"),
    };
    client_config(trust).map_err(|why| Usage(format!("--ca {why}")).into())
}

/// The name of a topic: `t0`, `t1`, …
pub fn topic_name(topic: u32) -> String {
    format!("t{topic}")
}

/// The server, and what to say to it.
#[derive(Clone, Debug)]
pub struct Target {
    subscribers: Endpoint,
    publishers: Endpoint,
    /// Lines of every handshake, each with its CRLF.
    headers: String,
    /// The subprotocols among them.
    protocols: Vec<String>,
    accept: AcceptKey,
    deflate: bool,
    subscribe: Option<Template>,
    subscribed: Option<String>,
    publish: Option<Template>,
    text: bool,
    sources: Sources,
    /// Where a URL is `wss`.
    tls: Option<Arc<ClientConfig>>,
}

/// A URL, taken apart.
#[derive(Clone, Debug)]
struct Endpoint {
    address: SocketAddr,
    /// Host and port as the URL has them.
    authority: String,
    /// Whom TLS is spoken with, if it is.
    secure: Option<ServerName<'static>>,
    /// Path and query.
    path: Template,
}

/// Where connections come from.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Sources {
    /// The kernel chooses.
    Any,
    /// They take turns.
    Turns(Vec<IpAddr>),
    /// Loopback addresses, one after the other.
    Loopback,
}

impl Target {
    /// Parses the options, and resolves the hosts that they name.
    ///
    /// # Errors
    /// [`Usage`]: what is wrong with an option, or that a host has no address.
    pub fn new(common: &Common) -> Result<Target> {
        let subscribers = Endpoint::parse("--url", &common.url)?;
        let publishers = match &common.publish_url {
            Some(url) => Endpoint::parse("--publish-url", url)?,
            None if common.url == DEFAULT_URL => Endpoint::parse("--url", &without_own(&common.url))?,
            None => subscribers.clone(),
        };
        let (headers, protocols) = parse_headers(&common.headers)?;
        let sources = common.source.as_deref().map_or(Ok(Sources::Any), parse_sources)?;
        sources.check(&[subscribers.address, publishers.address])?;
        let secure = subscribers.secure.is_some() || publishers.secure.is_some();
        let tls = secure.then(|| sessions(common)).transpose()?;
        Ok(Target {
            subscribers,
            publishers,
            headers,
            protocols,
            accept: accept_key(KEY.as_bytes()),
            deflate: common.deflate,
            subscribe: common.subscribe.as_deref().map(parse_subscribe).transpose()?,
            subscribed: common.subscribed.clone(),
            publish: common.publish.as_deref().map(parse_publish).transpose()?,
            text: common.text,
            sources,
            tls,
        })
    }

    /// Where such a connection goes.
    pub fn address(&self, role: Role) -> SocketAddr {
        self.endpoint(role).address
    }

    /// How such a connection speaks TLS, and with whom; `None`: it does not.
    pub fn tls(&self, role: Role) -> Option<(&Arc<ClientConfig>, &ServerName<'static>)> {
        self.tls.as_ref().zip(self.endpoint(role).secure.as_ref())
    }

    /// Says how many connections there will be, of all threads. If one source address cannot have as many, and none was
    /// given, and both URLs are on IPv4 loopback, sources are 127.0.1.1 and so on: all of 127.0.0.0/8 is this machine.
    pub fn spread(&mut self, connections: u32) {
        let is_loopback = |address: SocketAddr| matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback());
        let loopback = is_loopback(self.subscribers.address) && is_loopback(self.publishers.address);
        if self.sources == Sources::Any && loopback && connections > CONNECTIONS_OF_AN_ADDRESS {
            self.sources = Sources::Loopback;
        }
    }

    /// The address that the `n`-th connection is bound to; `None`: any.
    pub fn source(&self, n: u32) -> Option<IpAddr> {
        match &self.sources {
            Sources::Any => None,
            Sources::Turns(addresses) => addresses.get(n as usize % addresses.len()).copied(),
            Sources::Loopback => {
                let nth = FIRST_LOOPBACK.to_bits() + n / CONNECTIONS_OF_AN_ADDRESS;
                Some(Ipv4Addr::from_bits(nth).into())
            }
        }
    }

    /// Appends the request of the `n`-th connection's handshake.
    pub fn handshake(&self, role: Role, topic: u32, n: u32, out: &mut Vec<u8>) {
        let endpoint = self.endpoint(role);
        append(out, &["GET "]);
        endpoint.path.fill(topic, n, &[], out);
        append(out, &[" HTTP/1.1\r\nHost: ", &endpoint.authority, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"]);
        append(out, &["Sec-WebSocket-Key: ", KEY, "\r\nSec-WebSocket-Version: 13\r\n"]);
        if self.deflate {
            append(out, &["Sec-WebSocket-Extensions: ", DEFLATE, "\r\n"]);
        }
        append(out, &[&self.headers, "\r\n"]);
    }

    /// Judges what has come of the answer to a handshake. `None`: its head is not there in whole. Otherwise the head's
    /// bytes, and whether messages may be compressed.
    ///
    /// # Errors
    /// In words, why there is no connection.
    pub fn accepts(&self, head: &[u8]) -> std::result::Result<Option<(usize, bool)>, String> {
        let (accept, protocols) = (self.accept.as_bytes(), &self.protocols[..]);
        answer::judge(head, Asked { accept, deflate: self.deflate, protocols })
    }

    /// The text that subscribes the `n`-th connection to a topic; `None`: the URL does.
    pub fn subscription(&self, topic: u32, n: u32) -> Option<String> {
        let mut text = Vec::new();
        self.subscribe.as_ref()?.fill(topic, n, &[], &mut text);
        String::from_utf8(text).ok()
    }

    /// Whether there is an answer to be waited for.
    pub fn awaits_subscribed(&self) -> bool {
        self.subscribed.is_some()
    }

    /// Whether a message answers a subscription. If no answer was named, every message does.
    pub fn is_subscribed(&self, message: &[u8]) -> bool {
        let answer = self.subscribed.as_deref().unwrap_or_default().as_bytes();
        answer.is_empty() || message.windows(answer.len()).any(|window| window == answer)
    }

    /// Appends the message that publishes a payload.
    pub fn publication(&self, topic: u32, payload: &[u8], out: &mut Vec<u8>) {
        match &self.publish {
            Some(template) => template.fill(topic, 0, payload, out),
            None => out.extend_from_slice(payload),
        }
    }

    /// Whether publications are text messages; otherwise they are binary.
    pub fn publishes_text(&self) -> bool {
        self.text || self.publish.is_some()
    }

    /// Whether the publishers' URL is the same for all topics, so that one connection publishes to all.
    pub fn one_publisher(&self) -> bool {
        !self.publishers.path.has(Word::Topic)
    }

    fn endpoint(&self, role: Role) -> &Endpoint {
        match role {
            Role::Subscriber => &self.subscribers,
            Role::Publisher => &self.publishers,
        }
    }
}

fn append(out: &mut Vec<u8>, parts: &[&str]) {
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}

impl Endpoint {
    fn parse(option: &str, url: &str) -> Result<Endpoint> {
        let wrong = |why: &str| Usage(format!("{option} {url}: {why}"));
        let (rest, default_port) = match (url.strip_prefix("ws://"), url.strip_prefix("wss://")) {
            (Some(rest), _) => (rest, 80),
            (None, Some(rest)) => (rest, 443),
            (None, None) => return Err(wrong("a URL begins with ws:// or wss://").into()),
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains('#') {
            return Err(wrong("blanks, # and what is not ASCII are percent-encoded").into());
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) =
            host_and_port(authority, default_port).ok_or_else(|| wrong("expected ws://host:port/path"))?;
        let root = if path.starts_with('/') { "" } else { "/" };
        let path = Template::parse(option, &format!("{root}{path}"), &[Word::Topic, Word::N])?;
        let name = || ServerName::try_from(host.to_owned()).map_err(|_| wrong("this host has no certificate"));
        let secure = url.starts_with("wss://").then(name).transpose()?;
        let address = resolve(host, port).map_err(|error| wrong(&error.to_string()))?;
        Ok(Endpoint { address, authority: authority.to_owned(), secure, path })
    }
}

/// `host`, `host:port`, `[::1]` or `[::1]:port`.
fn host_and_port(authority: &str, default_port: u16) -> Option<(&str, u16)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, default_port),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty() && !host.contains('@')).then_some((host, port))
}

/// A host's address: the first of IPv4, where servers listen that listen on one only, or else the first.
fn resolve(host: &str, port: u16) -> std::io::Result<SocketAddr> {
    let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    let chosen = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    chosen.copied().ok_or_else(|| std::io::Error::other("the host has no address"))
}

/// The URL that keeps Uproar from sending publishers what they publish.
fn without_own(url: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}self=false")
}

fn parse_subscribe(text: &str) -> Result<Template> {
    Template::parse("--subscribe", text, &[Word::Topic, Word::N])
}

fn parse_publish(text: &str) -> Result<Template> {
    let template = Template::parse("--publish", text, &[Word::Topic, Word::Payload])?;
    if template.has(Word::Payload) { Ok(template) } else { Usage::error("--publish has no {payload}") }
}

/// The lines of the handshake that `--header` asks for, and the subprotocols among them.
fn parse_headers(headers: &[String]) -> Result<(String, Vec<String>)> {
    let (mut lines, mut protocols) = (String::new(), Vec::new());
    for header in headers {
        let Some((name, value)) = header.split_once(':').map(|(name, value)| (name, value.trim())) else {
            return Usage::error(format!("--header {header}: expected \"Name: value\""));
        };
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) || value.chars().any(char::is_control) {
            return Usage::error(format!("--header {header}: this is no header"));
        }
        if OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            return Usage::error(format!("--header {header}: the handshake has its own {name}"));
        }
        if name.eq_ignore_ascii_case("Sec-WebSocket-Protocol") {
            protocols.extend(value.split(',').map(|protocol| protocol.trim().to_owned()));
        }
        lines.push_str(&format!("{name}: {value}\r\n"));
    }
    Ok((lines, protocols))
}

/// An address, or a range of IPv4 addresses.
fn parse_sources(text: &str) -> Result<Sources> {
    let wrong = || Usage(format!("--source {text}: expected an address, or a range as 127.0.1.1-127.0.1.60"));
    let Some((first, last)) = text.split_once('-') else {
        return Ok(Sources::Turns(vec![text.parse().map_err(|_| wrong())?]));
    };
    let first: Ipv4Addr = first.parse().map_err(|_| wrong())?;
    let last: Ipv4Addr = last.parse().map_err(|_| wrong())?;
    let range = first.to_bits()..=last.to_bits();
    if range.is_empty() {
        return Err(wrong().into());
    }
    if range.end() - range.start() >= MAX_SOURCES {
        return Usage::error(format!("--source {text}: at most {MAX_SOURCES} addresses"));
    }
    Ok(Sources::Turns(range.map(|bits| Ipv4Addr::from_bits(bits).into()).collect()))
}

impl Sources {
    /// One end of a connection cannot be IPv4 and the other IPv6.
    fn check(&self, targets: &[SocketAddr]) -> Result<()> {
        let Sources::Turns(addresses) = self else { return Ok(()) };
        let differs = |source: &&IpAddr| targets.iter().any(|target| target.is_ipv4() != source.is_ipv4());
        match addresses.iter().find(differs) {
            Some(source) => Usage::error(format!("--source {source} does not reach the target: IPv4 and IPv6 are two")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
