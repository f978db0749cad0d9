//! `uproar top` against servers: on a terminal, as `script` of util-linux makes one, and in a pipe.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use common::{Client, Process, wait_until};

/// A name that would clear the screen.
const EVIL: &str = "/raw/evil%1b%5b2J";

/// What a terminal of 80 × 24 shows of bytes, as far as cursor positions and letters go.
fn screen(bytes: &[u8]) -> String {
    let mut cells = vec![vec![' '; 80]; 24];
    let (mut row, mut column) = (0, 0);
    let text = String::from_utf8_lossy(bytes);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.next_if_eq(&'[').is_some() => {
                let mut numbers = String::new();
                let end = chars.by_ref().find(|c| {
                    c.is_ascii_alphabetic() || {
                        numbers.push(*c);
                        false
                    }
                });
                let mut at = numbers.split(';').map(|number| number.parse::<usize>().unwrap_or(1).saturating_sub(1));
                match end {
                    Some('H') => (row, column) = (at.next().unwrap_or(0), at.next().unwrap_or(0)),
                    Some('J') => cells = vec![vec![' '; 80]; 24],
                    _ => {}
                }
            }
            '\r' => column = 0,
            '\n' => row += 1,
            c if !c.is_control() => {
                if let Some(cell) = cells.get_mut(row).and_then(|line| line.get_mut(column)) {
                    *cell = c;
                }
                column += 1;
            }
            _ => {}
        }
    }
    cells.into_iter().map(|line| line.into_iter().collect::<String>() + "\n").collect()
}

/// The command on a terminal; what it leaves behind is told by `stty`.
struct OnTerminal {
    child: Child,
    keys: Option<ChildStdin>,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Where its number is.
    id: tempfile::NamedTempFile,
}

impl OnTerminal {
    fn start(admin: &str) -> OnTerminal {
        let binary = env!("CARGO_BIN_EXE_uproar");
        let id = tempfile::NamedTempFile::new().expect("a file");
        let top = format!("exec {binary} top --interval 250ms --admin http://{admin}");
        let top = format!("sh -c 'echo $$ >{}; {top}'", id.path().display());
        let shell = format!("stty rows 24 cols 80; {top}; echo code=$?; stty -a");
        let mut command = Command::new("script");
        command.args(["-qfec", &shell, "/dev/null"]).env("TERM", "xterm-256color").env_remove("UPROAR_ADMIN_KEY");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script(1) of util-linux");
        let (keys, mut out) = (child.stdin.take(), child.stdout.take().expect("it is piped"));
        let shown = Arc::new(Mutex::new(Vec::new()));
        let all = shown.clone();
        thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(len @ 1..) = out.read(&mut some) {
                all.lock().expect("nobody panics").extend_from_slice(&some[..len]);
            }
        });
        OnTerminal { child, keys, shown, id }
    }

    fn bytes(&self) -> Vec<u8> {
        self.shown.lock().expect("nobody panics").clone()
    }

    #[track_caller]
    fn wait_for(&self, what: &str) {
        wait_until(what, || screen(&self.bytes()).contains(what));
    }

    fn press(&mut self, key: &str) {
        let keys = self.keys.as_mut().expect("it is not over");
        keys.write_all(key.as_bytes()).and_then(|()| keys.flush()).expect("it reads");
    }

    fn signal(&mut self, name: &str) {
        let id = std::fs::read_to_string(self.id.path()).expect("its number");
        let status = Command::new("kill").args([&format!("-{name}"), id.trim()]).status();
        assert!(status.expect("there is kill(1)").success());
    }

    /// What it has written to the terminal until it ended, and what came after it.
    fn ended(&mut self) -> (String, String) {
        wait_until("it ends", || self.child.try_wait().expect("it is our child").is_some());
        drop(self.keys.take());
        let all = || String::from_utf8_lossy(&self.bytes()).into_owned();
        wait_until("all is read", || all().contains("icanon"));
        let all = all();
        let (during, after) = all.split_once("code=").expect("the shell goes on");
        (during.to_owned(), after.to_owned())
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_shows_a_server_and_leaves_the_terminal_as_it_was() {
    let server = Process::start(&["--shards=2"]);
    let mut busy = server.ws("/raw/prices.EURUSD");
    let _evil = server.ws(EVIL);
    let mut top = OnTerminal::start(&server.admin);
    for what in ["serving", "SHARD", "prices.EURUSD", "evil\\u{1b}[2J", "0x", "127.0.0.1"] {
        top.wait_for(what);
    }
    top.press("r");
    wait_until("rates are shown", || {
        for n in 0..20 {
            busy.text(&n.to_string());
            busy.expect_text(&n.to_string());
        }
        let shown = screen(&top.bytes());
        let line = shown.lines().find(|line| line.starts_with("prices.EURUSD")).unwrap_or_default().to_owned();
        line.split_whitespace().last().and_then(|rate| rate.replace(',', "").parse::<f64>().ok()) > Some(1.0)
    });
    top.press("q");
    let (during, after) = top.ended();
    assert!(during.contains("\u{1b}[?1049h") && during.contains("\u{1b}[?1049l"), "the screen before is back");
    assert!(!during.contains("evil\u{1b}"), "a name did what it says");
    assert!(after.starts_with('0') && after.contains(" icanon") && after.contains(" echo "), "{after}");
}

#[test]
fn who_ends_it_from_elsewhere_leaves_the_terminal_as_it_was() {
    let server = Process::start(&["--shards=1"]);
    for name in ["TERM", "HUP"] {
        let mut top = OnTerminal::start(&server.admin);
        top.wait_for("serving");
        top.signal(name);
        let (during, after) = top.ended();
        assert!(during.contains("\u{1b}[?1049l"), "{name}: the screen before is back");
        assert!(after.starts_with('0') && after.contains(" icanon") && after.contains(" echo "), "{name}: {after}");
    }
}

/// An address that nobody listens on, for two servers, the one after the other.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

#[test]
fn a_server_that_goes_away_is_waited_for() {
    let admin = free_address();
    let args = ["--shards=1", &format!("--admin-listen={admin}")];
    let first = Process::start(&args);
    let mut top = OnTerminal::start(&admin.to_string());
    top.wait_for("serving");
    drop(first);
    top.wait_for("trying again");
    let second = Process::start(&args);
    let _client: Client = second.ws("/raw/after");
    top.wait_for("after");
    wait_until("all is well", || !screen(&top.bytes()).contains("trying again"));
    let (_, after) = {
        top.press("q");
        top.ended()
    };
    assert!(after.starts_with('0'), "{after}");
}

#[test]
fn once_is_text_and_without_a_terminal_it_is_the_only_way() {
    let server = Process::start(&["--shards=2"]);
    let _clients = [server.ws("/raw/prices"), server.ws(EVIL)];
    let top = |args: &[&str]| {
        let mut command = Process::command(&[&["top", "--interval", "300ms"], args].concat());
        let output = command.stderr(Stdio::piped()).output().expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let admin = format!("http://{}", server.admin);
    let (code, printed, said) = top(&["--once", "--admin", &admin]);
    assert_eq!((code, &*said), (Some(0), ""));
    assert!(!printed.chars().any(|c| c.is_control() && c != '\n'), "{printed:?}");
    for part in ["serving", "connections 2 of ", "SHARD", "prices", "evil\\u{1b}[2J", "CONNECTION"] {
        assert!(printed.contains(part), "{part} is not in\n{printed}");
    }
    let (code, _, said) = top(&["--admin", &admin]);
    assert!(code == Some(2) && said.contains("--once"), "{said}");
    let (code, _, said) = top(&["--once", "--admin", "http://127.0.0.1:1"]);
    assert!(code == Some(3) && said.contains("Connection refused"), "{said}");
    assert_eq!(top(&["--once", "--interval", "1ms"]).0, Some(2));
}
