//! The server under a supervisor, which this plays: readiness, the watchdog, sockets that it opens. With systemd's own
//! `systemd-socket-activate`, where it is installed.

mod common;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::unistd::Pid;
use socket2::SockRef;
use tempfile::TempDir;

use common::tls::{TlsClient, certificate, trusting};
use common::{Client, PATIENCE, Process, SHARDS, wait_until};

/// Where a supervisor hears of its service.
struct Supervisor {
    socket: UnixDatagram,
    dir: TempDir,
}

impl Supervisor {
    fn new() -> Supervisor {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Supervisor { socket, dir }
    }

    /// The command, with this as its supervisor; `watchdog` is in microseconds.
    fn command(&self, args: &[&str], watchdog: Option<u32>) -> Command {
        let mut command = Process::command(&[&["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"], args].concat());
        command.env("NOTIFY_SOCKET", self.dir.path().join("notify"));
        if let Some(micros) = watchdog {
            command.env("WATCHDOG_USEC", micros.to_string());
        }
        command
    }

    /// The next datagram's lines.
    fn lines(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let len = self.socket.recv(&mut buffer).expect("the server says something");
        String::from_utf8_lossy(&buffer[..len]).lines().map(str::to_owned).collect()
    }

    /// Waits for a line that begins so, and returns what follows.
    fn hear(&self, begin: &str) -> String {
        loop {
            if let Some(rest) = self.lines().iter().find_map(|line| line.strip_prefix(begin)) {
                return rest.to_owned();
            }
        }
    }

    /// When the server says that it lives, for so long.
    fn signs_of_life(&self, time: Duration) -> Vec<Instant> {
        let (end, mut signs) = (Instant::now() + time, Vec::new());
        self.socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let mut buffer = [0; 4096];
        while Instant::now() < end {
            let len = self.socket.recv(&mut buffer).unwrap_or_default();
            if String::from_utf8_lossy(&buffer[..len]).contains("WATCHDOG=1") {
                signs.push(Instant::now());
            }
        }
        signs
    }
}

#[test]
fn a_supervisor_hears_of_the_beginning_and_the_end() {
    for shards in SHARDS {
        let supervisor = Supervisor::new();
        let args = [&*format!("--shards={shards}"), "--drain-time=2s", "--drain-delay=1s"];
        let mut server = Process::launch(supervisor.command(&args, None));
        let address = server.addr.to_string();
        assert_eq!(supervisor.lines(), ["READY=1", &format!("STATUS=serving on {address}")]);
        let _clients = [server.ws("/raw/t"), server.ws("/raw/t")];
        server.signal("TERM");
        assert_eq!(supervisor.hear("STOPPING="), "1");
        assert_eq!(supervisor.hear("STATUS="), "draining, 2 connections");
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn it_hears_how_long_the_end_may_take() {
    let supervisor = Supervisor::new();
    let args = ["--drain-time=70s", "--drain-delay=10s", "--shutdown-timeout=4s"];
    let mut server = Process::launch(supervisor.command(&args, None));
    let _client = server.ws("/raw/t");
    server.signal("TERM");
    // What the drain may take, and five seconds.
    assert_eq!(supervisor.hear("EXTEND_TIMEOUT_USEC="), "89000000");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(143));
}

#[test]
fn it_hears_of_a_reload() {
    let supervisor = Supervisor::new();
    let certificate = certificate(supervisor.dir.path(), "localhost", &["localhost"]);
    let (file, key) = (certificate.certificate.display(), certificate.key.display());
    let args = ["--tls-listen=127.0.0.1:0", &format!("--tls-certificate={file}"), &format!("--tls-key={key}")];
    let server = Process::launch(supervisor.command(&args, None));
    supervisor.hear("READY=1");
    server.signal("HUP");
    assert_eq!(supervisor.hear("RELOADING="), "1");
    supervisor.hear("READY=1");
}

#[test]
fn the_watchdog_hears_of_a_server_that_does_nothing() {
    let supervisor = Supervisor::new();
    let _server = Process::launch(supervisor.command(&["--shards=3"], Some(800_000)));
    supervisor.hear("READY=1");
    let signs = supervisor.signs_of_life(Duration::from_secs(4));
    let longest = signs.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(signs.len() >= 8 && longest < Some(Duration::from_millis(800)), "{} signs, {longest:?}", signs.len());
}

/// The thread of a shard.
fn thread_of(process: u32, shard: &str) -> Pid {
    for task in fs::read_dir(format!("/proc/{process}/task")).expect("it runs") {
        let task = task.expect("a thread").path();
        if fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == shard) {
            let id = task.file_name().and_then(|name| name.to_str()).expect("a number");
            return Pid::from_raw(id.parse().expect("a number"));
        }
    }
    panic!("no {shard}");
}

#[test]
fn the_watchdog_hears_nothing_while_a_shard_stands_still() {
    let supervisor = Supervisor::new();
    let server = Process::launch(supervisor.command(&["--shards=2"], Some(400_000)));
    supervisor.hear("WATCHDOG=1");
    let shard = thread_of(server.id(), "shard-1");
    if let Err(error) = ptrace::seize(shard, ptrace::Options::empty()) {
        eprintln!("SKIPPED: a thread cannot be stopped here: {error}");
        return;
    }
    ptrace::interrupt(shard).expect("it is ours");
    nix::sys::wait::waitpid(shard, Some(nix::sys::wait::WaitPidFlag::__WALL)).expect("it stops");
    // One sign at most for a turn just before.
    let signs = supervisor.signs_of_life(Duration::from_millis(250));
    assert!(signs.len() <= 1, "{} signs", signs.len());
    assert_eq!(supervisor.signs_of_life(Duration::from_secs(1)).len(), 0);
    ptrace::detach(shard, None).expect("it is ours");
    assert!(supervisor.signs_of_life(Duration::from_secs(1)).len() >= 2);
}

/// Passes on sockets as a supervisor does: from descriptor 3 on, to the process whose number the environment names.
fn hand_over(command: &Command, sockets: &[(&str, &dyn AsFd)]) -> Command {
    let mut script = String::new();
    for ((_, socket), fd) in sockets.iter().zip(3..) {
        SockRef::from(socket).set_cloexec(false).expect("it is ours");
        // To numbers that are surely free, before 3 and so on are taken.
        let _ = write!(script, "exec {}>&{}; ", fd + 200, socket.as_fd().as_raw_fd());
    }
    for (_, fd) in sockets.iter().zip(3..) {
        let _ = write!(script, "exec {fd}>&{0} {0}>&-; ", fd + 200);
    }
    let names = sockets.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(":");
    script += "LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let mut shell = Command::new("bash");
    shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names);
    shell.args(["-c", &script]).arg(command.get_program()).args(command.get_args());
    shell
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    // As systemd opens them.
    listener.set_nonblocking(true).expect("it is ours");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// The process of a command that serves on these sockets.
fn serve_on(sockets: &[(&str, &dyn AsFd)], args: &[&str]) -> Process {
    let mut command = hand_over(&Process::command(&[&["--pin=false"], args].concat()), sockets);
    command.stderr(Stdio::null());
    Process::launch(command)
}

#[test]
fn listeners_that_are_handed_over_are_used() {
    let dir = tempfile::tempdir().expect("a directory");
    let certificate = certificate(dir.path(), "localhost", &["localhost"]);
    let path = dir.path().join("admin");
    let admin = UnixListener::bind(&path).expect("a socket");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let (file, key) = (certificate.certificate.display(), certificate.key.display());
    let certificates = [format!("--tls-certificate={file}"), format!("--tls-key={key}"), "--tls-listen=[::1]:1".into()];
    for shards in SHARDS {
        let ((public, at), (tls, tls_at)) = (listener(), listener());
        let sockets: [(&str, &dyn AsFd); 3] = [("admin", &admin), ("tls", &tls), ("public", &public)];
        let shards = format!("--shards={shards}");
        let args = [&*shards, &certificates[0], &certificates[1], &certificates[2], "--listen=127.0.0.1:1"];
        let mut server = serve_on(&sockets, &args);
        assert_eq!((server.addr, &*server.admin), (at, &*format!("unix:{}", path.display())));
        let mut client = server.ws("/raw/t");
        client.text("hello");
        client.expect_text("hello");
        let mut secure =
            TlsClient::connect(tls_at, "localhost", &trusting(&[&certificate], &[&rustls::version::TLS13]));
        secure.stream.write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is taken");
        let mut answer = [0; 12];
        secure.stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
        assert!(server.metric("connections_accepted_total") >= 2);
        for fd in 3..6 {
            let facts = fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", server.id())).expect("it is open");
            let flags = facts.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags");
            let flags = u32::from_str_radix(flags.trim(), 8).expect("octal digits");
            assert_ne!(flags & 0o2_000_000, 0, "descriptor {fd} is closed on exec");
        }
        server.signal("INT");
        assert_eq!(server.wait().code(), Some(0));
        assert!(path.exists(), "it is not the server's to remove");
    }
}

#[test]
fn all_shards_take_from_one_socket() {
    let (public, _) = listener();
    let server = serve_on(&[("public", &public)], &["--shards=3", "--admin-listen=127.0.0.1:0"]);
    let mut clients: Vec<Client> = (0..300).map(|_| server.ws("/raw/t")).collect();
    for shard in 0..3 {
        let accepted = server.metric(&format!("connections_accepted_total shard=\"{shard}\""));
        assert!((30..=200).contains(&accepted), "shard {shard} has {accepted} of 300");
    }
    clients[0].text("to all");
    clients.iter_mut().for_each(|client| client.expect_text("to all"));
}

#[test]
fn connections_wait_while_the_server_is_not_there() {
    let (public, at) = listener();
    let start = || serve_on(&[("", &public)], &["--shards=2", "--admin-listen=127.0.0.1:0"]);
    let before = TcpStream::connect(at).expect("the queue takes it");
    let mut first = start();
    let asked = |mut stream: TcpStream| {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    asked(before);
    first.signal("INT");
    assert_eq!(first.wait().code(), Some(0));
    let between: Vec<_> = (0..50).map(|_| TcpStream::connect(at).expect("the queue takes it")).collect();
    let _second = start();
    between.into_iter().for_each(asked);
}

/// Exit code and what is said on standard error.
fn refused(sockets: &[(&str, &dyn AsFd)], args: &[&str]) -> (Option<i32>, String) {
    let command = Process::command(&[&["--admin-listen=off"], args].concat());
    let output = hand_over(&command, sockets).stderr(Stdio::piped()).output().expect("there is bash");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_is_handed_over_has_to_be_right() {
    let (public, _) = listener();
    let open = TcpListener::bind("0.0.0.0:0").expect("a port");
    let unix = tempfile::tempdir().expect("a directory");
    let path = unix.path().join("admin");
    let admin = UnixListener::bind(&path).expect("a socket");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("it is ours");
    let datagram = UnixDatagram::unbound().expect("a socket");
    type Case<'a> = (&'a [(&'a str, &'a dyn AsFd)], &'a [&'a str]);
    let cases: [Case<'_>; 6] = [
        (&[("public", &datagram)], &["\"public\"", "no stream socket"]),
        (&[("public", &public), ("web", &public)], &["\"web\"", "public, tls or admin"]),
        (&[("public", &public), ("public", &public)], &["twice"]),
        (&[("public", &open)], &["listen (0.0.0.0:", "can be reached from other machines"]),
        (&[("tls", &public)], &["tls_certificate"]),
        (&[("admin", &admin)], &["SocketMode=0600"]),
    ];
    for (sockets, words) in cases {
        let (code, said) = refused(sockets, &[]);
        assert!(code == Some(3) && words.iter().all(|word| said.contains(word)), "{words:?}: {code:?} {said}");
    }
}

#[test]
fn systemd_itself_activates_it() {
    if Command::new("systemd-socket-activate").arg("--version").output().is_err() {
        eprintln!("SKIPPED: systemd-socket-activate is not installed");
        return;
    }
    let (probe, at) = listener();
    drop(probe);
    let server = Process::command(&["--pin=false", "--shards=2", "--admin-listen=off"]);
    let mut activate = Command::new("systemd-socket-activate");
    activate.arg(format!("--listen={at}")).arg("--fdname=public").arg(server.get_program()).args(server.get_args());
    let mut child = activate.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it is installed");
    let mut stream = None;
    wait_until("it listens", || {
        stream = TcpStream::connect(at).ok();
        stream.is_some()
    });
    drop(stream);
    let mut client = Client::ws(at, "/raw/t");
    client.text("activated");
    client.expect_text("activated");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}
