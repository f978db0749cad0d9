//! A server under test, in this process or as one of its own, and its metrics. The client is in [`client`].
#![allow(dead_code, reason = "every test uses a part of it")]

pub mod client;
pub mod events;
pub mod rng;
pub mod tls;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use uproar::config::AdminListen;
use uproar::{Config, Publisher, Running, Server};

pub use client::Client;

/// What a test waits for anything at most.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// One shard, and several.
pub const SHARDS: [u32; 2] = [1, 3];

/// A configuration for loopback, with ports of the kernel's choice.
pub fn config(shards: u32) -> Config {
    let mut config = Config::default();
    config.listen = ([127, 0, 0, 1], 0).into();
    config.admin_listen = AdminListen::Tcp(([127, 0, 0, 1], 0).into());
    config.shards = shards;
    config.pin = false;
    config
}

/// Waits until a condition holds; `what` it is that never came, if it does not.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A server in this process; it is stopped, and must stop well, when this is dropped.
pub struct TestServer {
    running: Option<Running>,
    pub addr: SocketAddr,
    pub admin: String,
}

impl TestServer {
    /// The built-in dialects.
    pub fn start(config: Config) -> TestServer {
        TestServer::serve(Server::new(config).dialects())
    }

    pub fn serve(server: Server) -> TestServer {
        let running = server.start().expect("the server starts");
        let admin = running.admin_address().unwrap_or_default().to_owned();
        TestServer { addr: running.address(), admin, running: Some(running) }
    }

    pub fn publisher(&self) -> Publisher {
        self.running().publisher()
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs until it is dropped")
    }

    /// Publishes 1, 2, 3 and so on to each of the topics `deep.0` to `deep.TOPICS`, until that is over.
    pub fn count_in(&self, topics: usize, over: &AtomicBool) {
        let publisher = self.publisher();
        for number in 1.. {
            for topic in 0..topics {
                let _ = publisher.publish(&format!("deep.{topic}"), &number.to_string());
            }
            if over.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// A client whose WebSocket is open.
    pub fn ws(&self, path: &str) -> Client {
        Client::ws(self.addr, path)
    }

    pub fn metric(&self, series: &str) -> u64 {
        metric(&self.admin, series)
    }

    /// Waits until every connection has ended.
    #[track_caller]
    pub fn wait_idle(&self) {
        wait_until("all connections have ended", || self.publisher().connections() == 0);
        for gauge in [
            "connections",
            "connections kind=\"websocket\"",
            "connections kind=\"event_stream\"",
            "subscriptions",
            "topics",
            "backlogged_connections",
        ] {
            wait_until(&format!("{gauge} is 0"), || self.metric(gauge) == 0);
        }
    }

    /// Waits until so many subscriptions are there.
    #[track_caller]
    pub fn wait_subscriptions(&self, count: u64) {
        wait_until("the subscriptions are there", || self.metric("subscriptions") == count);
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.shutdown(Duration::ZERO);
        let joined = running.join();
        if !std::thread::panicking() {
            joined.expect("no shard has failed");
        }
    }
}

/// The sum, over shards, of a metric's series: `connections`, or `dropped_total reason="drop_oldest"`.
pub fn metric(admin: &str, series: &str) -> u64 {
    sum(&scrape(admin), series)
}

/// As [`metric`], of a page that is there.
pub fn sum(text: &str, series: &str) -> u64 {
    let (name, label) = series.split_once(' ').unwrap_or((series, ""));
    let prefix = format!("uproar_{name}{{");
    let values: Vec<u64> = text
        .lines()
        .filter(|line| line.starts_with(&prefix) && line.contains(label))
        .map(|line| line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a whole number"))
        .collect();
    assert!(!values.is_empty(), "no {series} in\n{text}");
    values.iter().sum()
}

/// The metrics page of an admin listener, on TCP or a Unix socket.
pub fn scrape(admin: &str) -> String {
    scrape_as(admin, "*/*")
}

/// The same, as somebody who accepts that.
pub fn scrape_as(admin: &str, accept: &str) -> String {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    let mut response = String::new();
    match admin.strip_prefix("unix:") {
        Some(path) => exchange(UnixStream::connect(path).expect("the admin socket"), request.as_bytes(), &mut response),
        None => exchange(TcpStream::connect(admin).expect("the admin listener"), request.as_bytes(), &mut response),
    }
    assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
    response
}

fn exchange(mut stream: impl Read + Write, request: &[u8], response: &mut String) {
    stream.write_all(request).expect("the request is sent");
    stream.read_to_string(response).expect("the response is text");
}

/// The `uproar` command, running; it is killed when this is dropped.
pub struct Process {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    pub addr: SocketAddr,
    pub admin: String,
}

impl Process {
    /// Starts it on ports of the kernel's choice, and waits until it serves.
    pub fn start(args: &[&str]) -> Process {
        Process::start_at(([127, 0, 0, 1], 0).into(), args)
    }

    /// As [`Process::start`], on this address.
    pub fn start_at(addr: SocketAddr, args: &[&str]) -> Process {
        let mut command = Process::command(&[&format!("--listen={addr}"), "--pin=false"]);
        if !args.iter().any(|arg| arg.starts_with("--admin-listen")) {
            command.arg("--admin-listen=127.0.0.1:0");
        }
        command.args(args);
        Process::launch(command)
    }

    /// Starts what a command says, and waits until it serves.
    pub fn launch(mut command: Command) -> Process {
        Process::of(command.stdout(Stdio::piped()).spawn().expect("the binary starts"))
    }

    /// Waits until a server, whose standard output is piped, serves.
    pub fn of(mut child: Child) -> Process {
        let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut after = |label: &str| loop {
            let mut line = String::new();
            assert_ne!(out.read_line(&mut line).expect("text"), 0, "no {label} in the banner");
            if let Some(rest) = line.trim().strip_prefix(label) {
                return rest.trim().split(' ').next().unwrap_or_default().to_owned();
            }
        };
        let page = after("page");
        let addr = page.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
        let admin = after("admin");
        Process { child, out, addr, admin }
    }

    /// The command with arguments, and nothing of this environment.
    pub fn command(args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uproar"));
        command.env_clear().args(args).stderr(Stdio::null());
        command
    }

    pub fn ws(&self, path: &str) -> Client {
        Client::ws(self.addr, path)
    }

    pub fn metric(&self, series: &str) -> u64 {
        metric(&self.admin, series)
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal: `TERM`, `INT`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("there is kill(1)").success());
    }

    /// Its exit status; it must end in time.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the process ends", || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Nobody reads its standard output any more.
    pub fn hang_up(&mut self) {
        let devnull = std::fs::File::open("/dev/null").expect("it is there");
        self.out = BufReader::new(std::os::fd::OwnedFd::from(devnull).into());
    }

    /// What it still says on standard output, up to its end.
    pub fn rest_of_output(&mut self) -> String {
        let mut text = String::new();
        self.out.read_to_string(&mut text).expect("text");
        text
    }

    /// Resident memory in bytes, that of the program's file not included.
    pub fn resident(&self) -> u64 {
        let status = self.proc_file("status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("kibibytes") << 10
    }

    /// Open descriptors, those in the rings' tables not included.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }

    /// Clock ticks, of 10 ms each, that it has used a core for.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = self.proc_file("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_ascii_whitespace().collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("ticks")).sum()
    }

    fn proc_file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).expect("it runs")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
