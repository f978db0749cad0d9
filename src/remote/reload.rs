//! `uproar reload`.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Deserialize;

use super::admin::{AdminOptions, judge};
use super::{Error, end};

/// What it does.
pub const LONG_ABOUT: &str = "Have a server that runs read its configuration again

It reads its file, and the certificates and keys that the file names, and takes up all that can change at run time, at once. What \
takes a restart stays as it is. Printed is what has changed. If anything is wrong, nothing changes, and every problem is printed.";

const AFTER_HELP: &str = "\
Examples:
  uproar reload
  uproar reload --admin unix:/run/uproar/admin.sock

Exit codes:
  0  done; what takes a restart is printed     2  bad usage
  1  the server refused it, or its             3  there is no server there, or it did not
     configuration is not valid                   answer";

/// Its arguments.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Options {
    #[command(flatten)]
    admin: AdminOptions,
}

#[derive(Deserialize)]
struct Report {
    changed: Vec<Changed>,
    restart: Vec<Changed>,
    notes: Vec<String>,
}

#[derive(Deserialize)]
struct Changed {
    knob: String,
    from: Option<String>,
    to: Option<String>,
}

#[derive(Deserialize)]
struct Refused {
    message: String,
    problems: Vec<String>,
}

/// Has it reload, and prints what came of it. Exit codes: see its help.
pub fn run(options: &Options) -> ExitCode {
    end("reload", reload(options))
}

fn reload(options: &Options) -> Result<(), Error> {
    let answer = options.admin.admin()?.post("/reload", b"{}").map_err(|error| options.admin.no_server(&error))?;
    if let Ok(Refused { message, problems }) = serde_json::from_slice(&answer.body) {
        return Err(Error::Refused(format!("{message}\n  {}", problems.join("\n  "))));
    }
    let report = judge(&answer, &options.admin.url)?;
    // Whether or not anybody reads it, it is done.
    let _ = io::stdout().write_all(words(&report).as_bytes());
    Ok(())
}

fn words(Report { changed, restart, notes }: &Report) -> String {
    let lines = |changes: &[Changed], when: &str| -> String {
        let one = |Changed { knob, from, to }: &Changed| match (from, to) {
            (Some(from), Some(to)) => format!("{knob}: {from} -> {to}{when}\n"),
            _ => format!("{knob}: changed{when}\n"),
        };
        changes.iter().map(one).collect()
    };
    let nothing = if changed.is_empty() && restart.is_empty() { "no knob has another value\n" } else { "" };
    let notes: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
    format!("{}{}{nothing}{notes}", lines(changed, ""), lines(restart, ", after a restart"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_line_for_each_knob() {
        for (report, expected) in [
            (r#"{"changed":[],"restart":[],"notes":[]}"#, "no knob has another value\n"),
            (
                r#"{"changed":[{"knob":"backlog","from":"1","to":"2"},{"knob":"admin_key"}],
                    "restart":[{"knob":"shards","from":"3","to":"4"}],"notes":["look"]}"#,
                "backlog: 1 -> 2\nadmin_key: changed\nshards: 3 -> 4, after a restart\nnote: look\n",
            ),
        ] {
            assert_eq!(words(&serde_json::from_str(report).unwrap()), expected);
        }
    }
}
