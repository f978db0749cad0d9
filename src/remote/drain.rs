//! `uproar drain`.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::admin::{Admin, AdminOptions, judge};
use super::{Error, end, time};

/// What it does.
pub const LONG_ABOUT: &str = "Have a server that runs send its clients away, and end

Its /ready turns at once. After its drain_delay, newcomers are answered 503, and connections are closed evenly over its drain_time, \
each with a hint when to come back; then it ends. Printed is how many connections are left, until the server is gone.";

const AFTER_HELP: &str = "\
Examples:
  uproar drain
  uproar drain --wait 30s --admin unix:/run/uproar/admin.sock
  uproar drain --wait 0                                    begin, and do not wait

Exit codes:
  0  the server is gone; or it drains,      2  bad usage
     and --wait is 0                        3  there is no server there, or it did not
  1  the server refused it, or was still       answer
     there when --wait was over";

/// How often it is asked how far it is.
const PAUSE: Duration = Duration::from_millis(250);
/// Questions without an answer, one after the other, after which it is taken for gone.
const SILENCES: u32 = 4;

/// Its arguments.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Options {
    /// Wait no longer than this for the server to be gone
    #[arg(long, value_name = "TIME", value_parser = time)]
    wait: Option<Duration>,
    #[command(flatten)]
    admin: AdminOptions,
}

#[derive(Deserialize)]
struct Draining {
    connections: u64,
}

/// What `/health` says.
#[derive(Deserialize)]
struct Health {
    status: String,
    connections: u64,
}

/// What is known of the server.
#[derive(PartialEq, Eq, Debug)]
enum State {
    /// It has so many connections.
    Left(u64),
    /// It has ended.
    Gone,
    /// It did not answer, or something else.
    Unknown,
}

/// Begins a drain, and waits. Exit codes: see its help.
pub fn run(options: &Options) -> ExitCode {
    end("drain", drain(options))
}

fn drain(options: &Options) -> Result<(), Error> {
    let admin = options.admin.admin()?;
    let answer = admin.post("/drain", b"{}").map_err(|error| options.admin.no_server(&error))?;
    let Draining { connections } = judge(&answer, &options.admin.url)?;
    say(connections);
    match options.wait {
        Some(Duration::ZERO) => Ok(()),
        wait => watch(&admin, connections, wait),
    }
}

fn watch(admin: &Admin, mut left: u64, wait: Option<Duration>) -> Result<(), Error> {
    let until = wait.and_then(|wait| Instant::now().checked_add(wait));
    let mut silences = 0;
    loop {
        if until.is_some_and(|until| Instant::now() >= until) {
            return Err(Error::Refused(format!("the server is still there, with {left} connections")));
        }
        thread::sleep(PAUSE);
        match state(admin) {
            State::Left(now) => {
                silences = 0;
                if now != left {
                    say(now);
                }
                left = now;
            }
            State::Unknown if silences < SILENCES => silences += 1,
            State::Unknown | State::Gone => {
                let _ = writeln!(io::stdout(), "the server is gone");
                return Ok(());
            }
        }
    }
}

/// Whether or not anybody reads it, the server drains.
fn say(connections: u64) {
    let s = if connections == 1 { "" } else { "s" };
    let _ = writeln!(io::stdout(), "{connections} connection{s} left");
}

fn state(admin: &Admin) -> State {
    match admin.get("/health") {
        Ok(answer) => judged(&answer.body),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => State::Gone,
        Err(_) => State::Unknown,
    }
}

fn judged(health: &[u8]) -> State {
    match serde_json::from_slice(health) {
        // That is the one that has taken its place.
        Ok(Health { status, .. }) if status == "ok" => State::Gone,
        Ok(Health { connections, .. }) => State::Left(connections),
        Err(_) => State::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_tells_how_far_it_is() {
        for (health, state) in [
            (r#"{"status":"draining","connections":7}"#, State::Left(7)),
            (r#"{"status":"stopping","connections":0}"#, State::Left(0)),
            (r#"{"status":"ok","connections":7}"#, State::Gone),
            ("busy", State::Unknown),
        ] {
            assert_eq!(judged(health.as_bytes()), state, "{health}");
        }
    }
}
