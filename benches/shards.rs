//! Two shards against one: how long does a message to many take, from the first delivery to the last?
//!
//! The kernel stamps each delivery when it reaches its socket (`SO_TIMESTAMPNS`), and nobody reads before all are there:
//! so the load takes nothing of the CPUs while the server sends, and two CPUs are enough to see what two shards do. The
//! variants take turns; the ratio is taken within each repetition.

use std::io::{self, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use uproar::ring::sys::raise_nofile;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Compares one shard with two.
#[derive(Parser)]
struct Arguments {
    /// Subscribers of the one topic
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(2..=18_000))]
    subscribers: u32,
    /// Messages of each measurement
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// Measurements of each number of shards
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Bytes of a message
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(..=125))]
    payload: u8,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is compared.
const SHARDS: [usize; 2] = [1, 2];
/// Deliveries that take longer than this are a fault.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a message may take, for each subscriber, until nobody looks any more; and a pause that all are given.
const EACH: Duration = Duration::from_micros(15);
const PAUSE: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shards: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    raise_nofile()?;
    let mut took = SHARDS.map(|_| Vec::new());
    for _ in 0..arguments.repeat {
        for (shards, took) in SHARDS.into_iter().zip(&mut took) {
            took.push(measure(arguments, shards)?);
        }
    }
    println!("{} B to {} subscribers, first delivery to last:", arguments.payload, arguments.subscribers);
    for (shards, took) in SHARDS.into_iter().zip(&took) {
        let seconds = median(took.clone());
        let rate = f64::from(arguments.subscribers) / seconds / 1e6;
        println!("  {shards} shard(s)  {:6.2} ms  {rate:.2} M deliveries/s", seconds * 1e3);
    }
    let ratios: Vec<f64> = took[0].iter().zip(&took[1]).map(|(one, two)| one / two).collect();
    let words: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    println!("  {:.2} times as fast with two (each repetition: {})", median(ratios), words.join(", "));
    Ok(())
}

/// Seconds from first to last, the median over the messages.
fn measure(arguments: &Arguments, shards: usize) -> Result<f64> {
    let server = Server::start(shards)?;
    let subscribers: Vec<TcpStream> =
        (0..arguments.subscribers).map(|_| subscriber(server.port)).collect::<Result<_>>()?;
    let mut publisher = server.connect("/raw/topic?self=false")?;
    let frame = client_frame(arguments.payload);
    let mut spreads = Vec::new();
    for _ in 0..arguments.messages {
        sleep(PAUSE);
        publisher.write_all(&frame)?;
        sleep(PAUSE + EACH * arguments.subscribers);
        let stamps: Vec<f64> = subscribers.iter().map(arrival).collect::<Result<_>>()?;
        let (first, last) = stamps.iter().fold((f64::MAX, 0.0), |(a, b), &at| (at.min(a), at.max(b)));
        spreads.push(last - first);
    }
    Ok(median(spreads))
}

fn subscriber(port: u16) -> Result<TcpStream> {
    let stream = connect(port, "/raw/topic")?;
    setsockopt(&stream, sockopt::ReceiveTimestampns, &true)?;
    Ok(stream)
}

/// When the one message that is there came, in seconds since 1970 by the kernel's clock.
fn arrival(stream: &TcpStream) -> Result<f64> {
    let mut bytes = [0; 256];
    let mut control = nix::cmsg_space!(TimeSpec);
    let mut pieces = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut pieces, Some(&mut control), MsgFlags::empty())?;
    message
        .cmsgs()?
        .find_map(|control| match control {
            ControlMessageOwned::ScmTimestampns(at) => Some(at.tv_sec() as f64 + at.tv_nsec() as f64 / 1e9),
            _ => None,
        })
        .ok_or_else(|| "a delivery has no time".into())
}

/// A WebSocket by hand: whatever reads ahead would read the first message without its time.
fn connect(port: u16, path: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if head.starts_with(b"HTTP/1.1 101") { Ok(stream) } else { Err(String::from_utf8_lossy(&head).into()) }
}

/// A binary message of zeros, masked with zeros (RFC 6455 section 5.2).
fn client_frame(payload: u8) -> Vec<u8> {
    [&[0x82, 0x80 | payload][..], &vec![0; 4 + usize::from(payload)]].concat()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start(shards: usize) -> Result<Server> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let process = Command::new(env!("CARGO_BIN_EXE_uproar"))
            .args(["--admin-listen", "off", "--log", "warn"])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--shards", &shards.to_string()])
            .stdout(Stdio::null())
            .spawn()?;
        let server = Server { process, port };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if Instant::now() > deadline {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    fn connect(&self, path: &str) -> Result<TcpStream> {
        connect(self.port, path)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it ended before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
