//! `uproar health`.

use std::io::{self, Write};
use std::process::ExitCode;

use super::admin::AdminOptions;
use super::http::Response;
use super::{Error, end};

/// What it does.
pub const LONG_ABOUT: &str = "Say whether a server that runs is well

For the checks of containers and scripts, where there is no curl: it asks the admin listener for /health and prints the answer. With \
--ready it asks for /ready, which is about newcomers.";

const AFTER_HELP: &str = "\
Examples:
  uproar health
  uproar health --ready --admin unix:/run/uproar/admin.sock

Exit codes:
  0  it is well; or it takes newcomers      2  bad usage
  1  it ends; or it takes no newcomers      3  there is no server there, or it did not answer";

/// Its arguments.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Options {
    /// Ask whether it takes newcomers, not whether it is well
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    admin: AdminOptions,
}

/// Asks. Exit codes: see its help.
pub fn run(options: &Options) -> ExitCode {
    end("health", ask(options))
}

fn ask(options: &Options) -> Result<(), Error> {
    let path = if options.ready { "/ready" } else { "/health" };
    let answer = options.admin.admin()?.get(path).map_err(|error| options.admin.no_server(&error))?;
    let said = judged(&answer)?;
    // Whether or not anybody reads it, the exit code tells.
    let _ = writeln!(io::stdout(), "{said}");
    Ok(())
}

/// What the answer says, if that is good.
fn judged(answer: &Response) -> Result<String, Error> {
    let said = String::from_utf8_lossy(&answer.body).trim().to_owned();
    match answer.status {
        200 if said.starts_with("{\"status\":") => Ok(said),
        503 => Err(Error::Refused(said)),
        status => Err(Error::NoServer(format!("that is no admin listener of uproar: it answers {status}: {said}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> Result<String, Error> {
        judged(&Response { status, body: body.into() })
    }

    #[test]
    fn the_answer_decides() {
        let well = r#"{"status":"ok","connections":7}"#;
        assert_eq!(of(200, &format!("{well}\n")), Ok(well.into()));
        let full = r#"{"status":"unready","reason":"full"}"#;
        assert_eq!(of(503, full), Err(Error::Refused(full.into())));
        for (status, body) in [(200, "<html>"), (404, "no"), (401, "{}")] {
            assert!(matches!(of(status, body), Err(Error::NoServer(_))), "{status} {body}");
        }
    }
}
