//! The contenders as processes: each is started on a core of its own, and stopped.

use std::fmt;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::Result;

/// The core of the server, and that of the load.
pub const SERVER_CORE: &str = "0";
pub const LOAD_CORE: &str = "1";

/// Ports to listen on: below those that the kernel gives to clients, which may linger.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The command that is measured, as this `cargo bench` built it. Its load generator measures.
pub const UPROAR: &str = env!("CARGO_BIN_EXE_uproar");

/// A server to measure.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize, Deserialize)]
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
    /// A server on the `tokio-tungstenite` crate.
    Tungstenite,
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
            Contender::Tungstenite => "tungstenite",
            Contender::Ws => "ws",
        })
    }
}

/// What every contender is told alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Agree to `permessage-deflate`.
    pub deflate: bool,
    /// Speak TLS, with the certificate that [`prepare`] has made.
    pub tls: bool,
    /// Bytes that may wait for a connection.
    pub backlog: u64,
    /// Ping clients. Those that read nothing answer none.
    pub pings: bool,
}

impl Contender {
    /// Those that this project's server is compared with. The floors are no servers.
    pub const PEERS: [Contender; 3] = [Contender::Bun, Contender::Tungstenite, Contender::Ws];

    /// A loop of sends, not a server.
    pub fn is_floor(self) -> bool {
        matches!(self, Contender::Floor | Contender::Send)
    }

    /// Whether it comes from the npm registry.
    pub fn is_npm(self) -> bool {
        matches!(self, Contender::Bun | Contender::Ws)
    }

    /// Whether it is compiled while it runs, so that it gets faster for a while.
    pub fn warms_up(self) -> bool {
        self.is_npm()
    }

    /// The example that it is, if it is one.
    pub fn example(self) -> Option<&'static str> {
        match self {
            Contender::Floor | Contender::Send => Some("peer-floor"),
            Contender::Tungstenite => Some("peer-tungstenite"),
            Contender::Uproar | Contender::Bun | Contender::Ws => None,
        }
    }

    fn command(self, port: u16, setting: Setting) -> Result<Vec<String>> {
        let example = |name: &str| bin_dir().join("examples").join(name).display().to_string();
        let script = |name: &str| peers_dir().join(name).display().to_string();
        Ok(match self {
            Contender::Floor => vec![example("peer-floor"), "ring".into()],
            Contender::Send => vec![example("peer-floor"), "send".into()],
            Contender::Uproar => uproar(port, setting),
            Contender::Bun => vec![bun()?.display().to_string(), script("bun.js")],
            Contender::Tungstenite => vec![example("peer-tungstenite")],
            Contender::Ws => vec!["node".into(), script("ws.mjs")],
        })
    }
}

fn uproar(port: u16, setting: Setting) -> Vec<String> {
    let listen = if setting.tls { "--tls-listen" } else { "--listen" };
    let mut command = vec![UPROAR.into(), listen.into(), format!("127.0.0.1:{port}")];
    if setting.tls {
        let (certificate, key) = tls_files();
        command.extend(["--listen", "127.0.0.1:0", "--tls-certificate"].map(String::from));
        command.extend([certificate.display().to_string(), "--tls-key".into(), key.display().to_string()]);
    }
    command.extend(["--shards", "1", "--admin-listen", "off", "--log", "warn"].map(String::from));
    command.push(format!("--deflate={}", setting.deflate));
    command.push(format!("--backlog={}", setting.backlog));
    // Of the servers, it alone pings without being told.
    command.extend((!setting.pings).then_some("--ping-interval=off".into()));
    command
}

/// Where cargo puts what it builds for this profile.
fn bin_dir() -> &'static Path {
    Path::new(UPROAR).parent().unwrap_or(Path::new("."))
}

/// The certificate of all contenders, and its key.
fn tls_files() -> (PathBuf, PathBuf) {
    (bin_dir().join("compare.pem"), bin_dir().join("compare.key"))
}

/// Makes a certificate that signs itself, of the P-256 key that most servers have.
fn make_certificate() -> Result<()> {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
    let (certificate, key) = tls_files();
    std::fs::write(certificate, made.cert.pem())?;
    Ok(std::fs::write(key, made.signing_key.serialize_pem())?)
}

pub fn peers_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers")
}

/// Bun's executable, out of the package of this platform: the `bun` package only puts a link to it, by a script.
pub fn bun() -> Result<PathBuf> {
    let packages = std::fs::read_dir(peers_dir().join("node_modules/@oven")).map_err(|_| "Bun is not installed")?;
    packages.flatten().map(|p| p.path().join("bin/bun")).find(|p| p.exists()).ok_or_else(|| "no bun executable".into())
}

/// Builds and installs what the contenders need. Install scripts of packages are not run.
pub fn prepare(contenders: &[Contender]) -> Result<()> {
    make_certificate()?;
    if contenders.iter().any(|contender| contender.is_npm()) && !is_installed() {
        let mut npm = Command::new("npm");
        succeed(npm.args(["ci", "--ignore-scripts", "--silent"]).current_dir(peers_dir()))?;
    }
    let mut examples: Vec<_> = contenders.iter().filter_map(|contender| contender.example()).collect();
    examples.dedup();
    if examples.is_empty() {
        return Ok(());
    }
    let profile = match bin_dir().file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--profile", profile]).current_dir(env!("CARGO_MANIFEST_DIR"));
    succeed(cargo.args(examples.iter().flat_map(|example| ["--example", example])))
}

/// Whether what the lock file names is installed: npm notes what it installed in a file, which is then the newer one.
fn is_installed() -> bool {
    let modified = |file: &str| peers_dir().join(file).metadata().and_then(|data| data.modified()).ok();
    modified("node_modules/.package-lock.json").is_some_and(|done| Some(done) >= modified("package-lock.json"))
}

fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let status = command.status().map_err(|error| format!("{}: {error}", program.display()))?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", program.display()).into()) }
}

/// A running server; dropping it stops it.
pub struct Server {
    process: Child,
    pub contender: Contender,
    pub port: u16,
    pub tls: bool,
}

impl Server {
    /// Starts a server and waits until it accepts connections.
    pub fn start(contender: Contender, setting: Setting) -> Result<Server> {
        let port = free_port()?;
        let mut command = Command::new("taskset");
        // Should the benchmark be killed, the kernel kills the server.
        command.args(["-c", SERVER_CORE, "setpriv", "--pdeathsig", "KILL"]).args(contender.command(port, setting)?);
        command.env("PORT", port.to_string()).env("BACKLOG", setting.backlog.to_string());
        command.env("DEFLATE", if setting.deflate { "1" } else { "0" });
        if setting.tls {
            let (certificate, key) = tls_files();
            command.env("TLS_CERTIFICATE", certificate).env("TLS_KEY", key);
        }
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut server = Server { process, contender, port, tls: setting.tls };
        server.await_start()?;
        Ok(server)
    }

    fn await_start(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if let Some(how) = self.ended() {
                return Err(how.into());
            }
            if Instant::now() > deadline {
                return Err("the server does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.process.try_wait().ok().flatten()?;
        Some(format!("the server ended ({status})"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it ended before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
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
