//! The contenders as processes: started on a core of their own, asked for CPU time and memory, and stopped.

use crate::sys;
use clap::ValueEnum;
use serde::Serialize;
use std::error::Error;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The core of the server, and that of the load.
pub const SERVER_CORE: &str = "0";
pub const LOAD_CORE: &str = "1";

/// Ports to listen on: below those that the kernel gives to clients, which may linger.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// A server to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Contender {
    /// A bare loop of ring sends.
    Floor,
    /// A bare loop of `send(2)`.
    Send,
    /// This project's server.
    Uproar,
    /// Bun, whose WebSocket server is uWebSockets in C++.
    Bun,
    /// The `ws` package on Node.js.
    Ws,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(match self {
            Contender::Floor => "floor",
            Contender::Send => "send",
            Contender::Uproar => "uproar",
            Contender::Bun => "bun",
            Contender::Ws => "ws",
        })
    }
}

impl Contender {
    /// A loop of sends, not a server: it can be compared in CPU time alone.
    pub fn is_floor(self) -> bool {
        matches!(self, Contender::Floor | Contender::Send)
    }

    fn command(self, port: u16, slots: u32) -> Result<Vec<String>> {
        let floor = |kind: &str| -> Result<Vec<String>> {
            let executable = std::env::current_exe()?.display().to_string();
            let arguments = ["--serve-floor", kind, "--port", &port.to_string(), "--slots", &slots.to_string()];
            Ok([executable].into_iter().chain(arguments.map(String::from)).collect())
        };
        let peer = |file: &str| peers().join(file).display().to_string();
        Ok(match self {
            Contender::Floor => floor("ring")?,
            Contender::Send => floor("syscall")?,
            Contender::Uproar => [env!("CARGO_BIN_EXE_uproar"), "--listen", &format!("127.0.0.1:{port}")]
                .into_iter()
                .chain(["--shards", "1", "--admin-listen", "off"])
                .map(String::from)
                .collect(),
            Contender::Bun => vec![bun()?.display().to_string(), peer("bun.js")],
            Contender::Ws => vec!["node".into(), peer("ws.mjs")],
        })
    }
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers")
}

/// Bun's executable, out of the package of this platform: the `bun` package only puts a link to it, by a script.
fn bun() -> Result<PathBuf> {
    let packages = peers().join("node_modules/@oven");
    let packages = std::fs::read_dir(packages).map_err(|_| "the peers are not installed: use --peers")?;
    packages.flatten().map(|p| p.path().join("bin/bun")).find(|p| p.exists()).ok_or_else(|| "no bun executable".into())
}

/// Installs the peers that the lock file names, without running their install scripts.
pub fn install() -> Result<()> {
    let status = Command::new("npm").args(["ci", "--ignore-scripts", "--silent"]).current_dir(peers()).status()?;
    if status.success() { Ok(()) } else { Err(format!("npm ci: {status}").into()) }
}

/// Pins the load, which is this process, to its core.
pub fn pin_load() -> Result<()> {
    let pid = std::process::id().to_string();
    let status = Command::new("taskset").args(["-c", "-p", LOAD_CORE, &pid]).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err("two cores are needed: one for the server, one for the load".into()) }
}

/// A running server; dropping it stops it.
pub struct Server {
    process: Child,
    pub port: u16,
}

impl Server {
    /// Starts a server and waits until it accepts connections. `slots`: connections that a floor must have room for.
    pub fn start(contender: Contender, slots: u32, more: &[&str]) -> Result<Server> {
        let port = free_port()?;
        let ours = if contender.is_floor() { Stdio::piped } else { Stdio::null };
        // Should the benchmark be killed, the kernel kills the server.
        let process = Command::new("taskset")
            .args(["-c", SERVER_CORE, "setpriv", "--pdeathsig", "KILL"])
            .args(contender.command(port, slots)?)
            .args(more)
            .env("PORT", port.to_string())
            .stdin(ours())
            .stdout(ours())
            .spawn()?;
        let mut server = Server { process, port };
        server.await_start()?;
        Ok(server)
    }

    fn await_start(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if let Some(status) = self.process.try_wait()? {
                return Err(format!("ended at start: {status}").into());
            }
            if Instant::now() > deadline {
                return Err("does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// CPU time so far: of a server all of it, of a floor that of its sends.
    pub fn cpu(&mut self) -> Result<Duration> {
        let (Some(stdin), Some(stdout)) = (&mut self.process.stdin, &mut self.process.stdout) else {
            return Ok(sys::process_cpu(self.process.id())?);
        };
        stdin.write_all(b"?")?;
        let mut line = String::new();
        BufReader::with_capacity(64, stdout).read_line(&mut line)?;
        Ok(Duration::from_nanos(line.trim().parse()?))
    }

    /// Resident bytes.
    pub fn resident(&self) -> Result<u64> {
        kilobytes(&format!("/proc/{}/status", self.process.id()), "VmRSS:")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it ended before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Bytes of the kernel's objects in use, of the whole machine; `None` if they may not be seen, as by anyone but root.
pub fn kernel_objects() -> Option<u64> {
    let caches = std::fs::read_to_string("/proc/slabinfo").ok()?;
    // Two lines of heading, then: name, objects in use, objects, bytes of an object, …
    let bytes = |line: &str| {
        let mut fields = line.split_whitespace().skip(1).map(str::parse::<u64>);
        let (used, _, size) = (fields.next()?.ok()?, fields.next()?, fields.next()?.ok()?);
        Some(used * size)
    };
    caches.lines().skip(2).map(bytes).sum()
}

fn kilobytes(file: &str, field: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).ok_or_else(|| format!("{file}: no {field}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// A port that nobody listens on, not used before in this run: connections of the last server may linger.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % u32::from(PORTS)) as u16;
    (0..PORTS)
        .map(|_| FIRST_PORT + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS)
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .ok_or_else(|| "no free port".into())
}
