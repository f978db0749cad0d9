//! Signals, `uproar drain`, and what cuts a drain short.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::common::{Client, PATIENCE, Process, wait_until};
use super::drain::until_closed;
use super::probes::get;

fn drain(server: &Process, args: &[&str]) -> Child {
    let admin = format!("http://{}", server.admin);
    let mut command = Process::command(&[&["drain", "--admin", &admin], args].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs")
}

/// Its exit code and all that it said.
fn finished(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn the_command_waits_until_the_server_is_gone_and_says_how_far_it_is() {
    let mut server = Process::start(&["--shards=2", "--drain-time=2s", "--drain-delay=500ms"]);
    let clients: Vec<_> = (0..8).map(|_| until_closed(server.ws("/raw/t"))).collect();
    let (code, said) = finished(drain(&server, &[]));
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0] == "8 connections left" && lines.last() == Some(&"the server is gone"), "{said}");
    clients.into_iter().for_each(|client| drop(client.join().expect("it was closed")));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_command_waits_no_longer_than_it_is_told() {
    let server = Process::start(&["--shards=1", "--drain-time=10m"]);
    let _clients: Vec<_> = (0..3).map(|_| server.ws("/raw/t")).collect();
    assert_eq!(finished(drain(&server, &["--wait", "0"])), (Some(0), "3 connections left\n".into()));
    let (code, said) = finished(drain(&server, &["--wait", "600ms"]));
    assert!(code == Some(1) && said.contains("still there"), "{said}");
}

#[test]
fn health_is_asked_without_a_browser() {
    let mut server = Process::start(&["--shards=1", "--drain-time=10m"]);
    let _client = server.ws("/raw/t");
    let admin = format!("http://{}", server.admin);
    let ask = |args: &[&str]| {
        let mut command = Process::command(&[&["health", "--admin", &admin], args].concat());
        finished(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs"))
    };
    assert_eq!(ask(&[]), (Some(0), "{\"status\":\"ok\",\"connections\":1}\n".into()));
    assert_eq!(ask(&["--ready"]), (Some(0), "{\"status\":\"ready\"}\n".into()));
    assert_eq!(finished(drain(&server, &["--wait", "0"])).0, Some(0));
    assert_eq!(ask(&[]), (Some(0), "{\"status\":\"draining\",\"connections\":1}\n".into()));
    let (code, said) = ask(&["--ready"]);
    assert!(code == Some(1) && said.contains("draining"), "{code:?} {said}");
    server.signal("INT");
    server.wait();
    let (code, said) = ask(&[]);
    assert!(code == Some(3) && said.contains("is the server running"), "{code:?} {said}");
}

#[test]
fn a_drain_is_cut_short_by_an_interrupt_and_by_a_second_signal() {
    let begin = || {
        let server = Process::start(&["--shards=2", "--drain-time=10m"]);
        // As many as to leave some open, on whichever shard they are.
        let clients: Vec<_> = (0..12).map(|_| server.ws("/raw/t")).collect();
        (server, clients)
    };
    let (mut server, clients) = begin();
    assert_eq!(finished(drain(&server, &["--wait=0"])).0, Some(0));
    wait_until("it drains", || get(server.addr, "/health").body.contains("draining"));
    server.signal("INT");
    let mut codes: Vec<_> = clients.into_iter().map(|mut client| (client.close_code(), client.close(1001)).0).collect();
    codes.sort_unstable();
    assert!(codes[0] == 1001 && codes.iter().all(|code| [1001, 1012].contains(code)), "{codes:?}");
    assert_eq!(server.wait().code(), Some(0));

    let (mut server, _clients) = begin();
    server.signal("TERM");
    wait_until("it drains", || get(server.addr, "/health").body.contains("draining"));
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(143));
}

#[test]
fn a_kill_amid_a_drain_ends_all_and_another_server_takes_over() {
    let mut server = Process::start(&["--shards=2", "--drain-time=10m"]);
    let clients: Vec<_> = (0..12).map(|_| server.ws("/raw/t")).collect();
    server.signal("TERM");
    wait_until("it drains", || get(server.addr, "/health").body.contains("draining"));
    server.signal("KILL");
    server.wait();
    assert!(clients.into_iter().all(|mut client| client.ends()));
    let next = Process::start_at(server.addr, &["--shards=2"]);
    assert_eq!(get(next.addr, "/ready").status, 200);
}

#[test]
fn nobody_to_send_away_takes_no_time_and_stragglers_a_bounded_one() {
    let begin = Instant::now();
    let mut server = Process::start(&["--shards=3", "--drain-time=10m"]);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let mut server =
        Process::start(&["--shards=2", "--drain-time=300ms", "--shutdown-timeout=300ms", "--close-timeout=10m"]);
    let mut silent: Vec<Client> = (0..6).map(|_| server.ws("/raw/t")).collect();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    assert!(silent.iter_mut().all(|client| client.close_code() == 1012));
    assert!(begin.elapsed() < 4 * PATIENCE);
}

const SIGHUP: i32 = 1;

/// Whether a process ignores `SIGHUP` for now.
fn ignores_hang_up(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it is our child");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
    u64::from_str_radix(mask.trim(), 16).expect("a mask") & 1 << (SIGHUP - 1) != 0
}

#[test]
fn a_hang_up_does_not_end_a_server_that_starts() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let [file, next] = ["uproar.toml", "next.toml"].map(|name| dir.path().join(name));
    // A pipe: the server gets no further than to its configuration before somebody writes that.
    assert!(Command::new("mkfifo").arg(&file).status().expect("there is mkfifo(1)").success());
    let mut command = Process::command(&["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--pin=false"]);
    let child = command.arg("--config").arg(&file).stdout(Stdio::piped()).spawn().expect("the binary starts");
    wait_until("it ignores SIGHUP", || ignores_hang_up(&child));
    let script = "for i in $(seq 100); do kill -HUP $0 && sleep 0.001 || exit 1; done";
    let mut signals = Command::new("sh").args(["-c", script, &child.id().to_string()]).spawn().expect("there is sh(1)");
    thread::sleep(Duration::from_millis(30));
    let mut pipe = fs::OpenOptions::new().write(true).open(&file).expect("it is read");
    // Reloads find a file.
    fs::write(&next, "shards = 2\n").and_then(|()| fs::rename(&next, &file)).expect("a file");
    pipe.write_all(b"shards = 2\n").expect("it is read");
    drop(pipe);
    let mut server = Process::of(child);
    assert!(signals.wait().expect("it ends").success());
    assert_eq!(get(server.addr, "/ready").status, 200);
    let reloads = server.metric("config_reloads_total result=\"ok\"");
    server.signal("HUP");
    wait_until("it is listened to", || server.metric("config_reloads_total result=\"ok\"") > reloads);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_hang_up_ends_a_tool() {
    let server = Process::start(&["--shards=1"]);
    let mut tool = Process::command(&["subscribe", "--url", &format!("ws://{}/", server.addr), "t"]);
    let mut tool = tool.stdout(Stdio::null()).spawn().expect("the binary runs");
    let mut status = None;
    wait_until("it ends", || {
        status = tool.try_wait().expect("it is our child");
        let number = tool.id().to_string();
        status.is_some() || !Command::new("kill").args(["-HUP", &number]).status().expect("there is kill(1)").success()
    });
    assert_eq!(status.and_then(|status| status.signal()), Some(SIGHUP));
}
