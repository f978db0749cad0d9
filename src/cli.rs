//! The command line: arguments → configuration → server, or one of the tools → exit code.

mod manual;

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, Subcommand, value_parser};
use clap_complete::Shell;

use crate::bench;
use crate::config::{Config, KNOBS, Knob, Source};
use crate::control::{Prepared, warnings};
use crate::doctor;
use crate::error::StartError;
use crate::log;
use crate::remote;

const ABOUT: &str = "Broadcast server for games and market data: WebSockets on Linux io_uring.

Every option can also be set in a TOML file (backlog = \"64KiB\") and in the environment (UPROAR_BACKLOG=64KiB).
An option wins over the environment, which wins over the file. PORT sets the port of --listen, unless --listen
or UPROAR_LISTEN is given. In brackets: the default; the values allowed.";

const AFTER_HELP: &str = "\
Values:
  SIZE  65536, 64KiB, 1MiB, 1GiB
  TIME  500ms, 30s, 10m, 1h, 30d
  BOOL  true, false; an option without a value is true

Examples:
  uproar                                      listen on 127.0.0.1:8080, one shard a core
  uproar --backlog 1MiB                       be patient with slow readers
  uproar --backlog-policy latest              market data: slow readers get each topic's newest price
  PORT=9000 UPROAR_ADMIN_LISTEN=off uproar    configured by a platform's environment
  uproar --config uproar.toml --check         is the file good?
  uproar --print-config > uproar.toml         begin a file: every knob, its bounds, its default
  uproar subscribe prices.AAPL                print what is published there
  uproar publish prices.AAPL 189.1            publish there

Exit codes:
  0  ended in order     3  the configuration is not valid
  1  any other failure  4  a listener cannot be bound: in use, not permitted
  2  bad usage          5  the kernel is too old, or forbids io_uring";

const COMPLETIONS_HELP: &str = "\
Examples:
  uproar completions bash > /etc/bash_completion.d/uproar
  uproar completions zsh > /usr/local/share/zsh/site-functions/_uproar
  uproar completions fish > ~/.config/fish/completions/uproar.fish";

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// To serve, or to look at the configuration.
    Server(ServerInvocation),
    /// To use one of the tools.
    Tool(Tool),
}

/// What comes with the server.
#[derive(Subcommand, Debug)]
pub enum Tool {
    /// Load a WebSocket server, this one or another, and judge what it delivers
    Bench(Box<bench::Options>),
    /// Publish a message to a topic of a server that runs
    #[command(long_about = remote::publish::LONG_ABOUT)]
    Publish(remote::publish::Options),
    /// Print the messages of topics, as they are published
    #[command(long_about = remote::subscribe::LONG_ABOUT)]
    Subscribe(remote::subscribe::Options),
    /// Show a server that runs, as it runs: shards, topics, slow connections
    #[command(long_about = remote::top::LONG_ABOUT)]
    Top(remote::top::Options),
    /// Have a server that runs send its clients away, and end
    #[command(long_about = remote::drain::LONG_ABOUT)]
    Drain(remote::drain::Options),
    /// Have a server that runs read its configuration again
    #[command(long_about = remote::reload::LONG_ABOUT)]
    Reload(remote::reload::Options),
    /// Say whether a server that runs is well
    #[command(long_about = remote::health::LONG_ABOUT)]
    Health(remote::health::Options),
    /// Say what of this machine is fit for many connections, what is not, and what mends it
    Doctor(doctor::Options),
    /// Print what makes a shell complete the command's words
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// For which shell
        shell: Shell,
    },
    /// Print a page of the manual, for man(1)
    #[command(long_about = manual::LONG_ABOUT)]
    Man(manual::Options),
}

/// The server's own arguments.
#[derive(Debug)]
pub struct ServerInvocation {
    mode: Mode,
    file: Option<PathBuf>,
    flags: Vec<(&'static str, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Serve,
    Check,
    PrintConfig,
}

/// Reads the process's arguments. Prints and exits on `--help` and `--version` (0) and on bad usage (2).
pub fn parse() -> Invocation {
    Invocation::from_matches(&command().get_matches())
}

/// Does what was asked for; `start` serves until the server ends.
pub fn run(invocation: Invocation, start: impl FnOnce(Config, Source) -> Result<(), StartError>) -> ExitCode {
    match invocation {
        Invocation::Server(invocation) => serve(invocation, start),
        Invocation::Tool(Tool::Bench(options)) => bench::run(&options),
        Invocation::Tool(Tool::Publish(options)) => remote::publish::run(&options),
        Invocation::Tool(Tool::Subscribe(options)) => remote::subscribe::run(&options),
        Invocation::Tool(Tool::Top(options)) => remote::top::run(options),
        Invocation::Tool(Tool::Drain(options)) => remote::drain::run(&options),
        Invocation::Tool(Tool::Reload(options)) => remote::reload::run(&options),
        Invocation::Tool(Tool::Health(options)) => remote::health::run(&options),
        Invocation::Tool(Tool::Doctor(options)) => doctor::run(&options),
        Invocation::Tool(Tool::Completions { shell }) => complete(shell),
        Invocation::Tool(Tool::Man(options)) => manual::run(&options, command_that_says(manual::default_anywhere)),
    }
}

fn complete(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "uproar", &mut script);
    match io::stdout().lock().write_all(&script) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("uproar completions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(invocation: ServerInvocation, start: impl FnOnce(Config, Source) -> Result<(), StartError>) -> ExitCode {
    let result = serve_or_show(invocation, start);
    log::flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Indented, so that the problems of a configuration stand out below the first line.
            eprintln!("uproar: {}", error.to_string().replace('\n', "\n  "));
            ExitCode::from(error.exit_code())
        }
    }
}

fn serve_or_show(
    invocation: ServerInvocation,
    start: impl FnOnce(Config, Source) -> Result<(), StartError>,
) -> Result<(), StartError> {
    let source = Source::of_process(invocation.file.as_deref(), invocation.flags)?;
    let resolved = source.read()?;
    match invocation.mode {
        Mode::Serve => start(resolved.config, source),
        Mode::Check => {
            resolved.config.refuse_strangers()?;
            Prepared::new(&resolved.config)?;
            let expired = warnings::of_certificates(&resolved.config);
            resolved.warnings().iter().chain(&expired).for_each(|warning| eprintln!("warning: {warning}"));
            print("configuration ok\n")
        }
        Mode::PrintConfig => print(&resolved.to_toml()),
    }
}

impl Invocation {
    fn from_matches(matches: &ArgMatches) -> Invocation {
        if matches.subcommand_name().is_some() {
            return Invocation::Tool(Tool::from_arg_matches(matches).unwrap_or_else(|error| error.exit()));
        }
        let mode = match (matches.get_flag("check"), matches.get_flag("print_config")) {
            (true, _) => Mode::Check,
            (false, true) => Mode::PrintConfig,
            (false, false) => Mode::Serve,
        };
        let value = |knob: &'static Knob| Some((knob.name, matches.get_one::<String>(knob.name)?.clone()));
        let file = matches.get_one("config").cloned();
        Invocation::Server(ServerInvocation { mode, file, flags: KNOBS.iter().filter_map(value).collect() })
    }
}

fn print(text: &str) -> Result<(), StartError> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|source| StartError::Io { doing: "cannot write to standard output", source })
}

fn command() -> Command {
    command_that_says(|knob| (knob.show)(&Config::default()))
}

/// The command, whose help says of each knob that this is its default.
fn command_that_says(default: fn(&Knob) -> String) -> Command {
    let switch = |name: &'static str, flag: &'static str| Arg::new(name).long(flag).action(ArgAction::SetTrue);
    let command = Command::new("uproar")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(AFTER_HELP)
        .max_term_width(120)
        .args_conflicts_with_subcommands(true)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Read this TOML file; UPROAR_CONFIG names one too. Without either, none is read"),
        )
        .arg(switch("check", "check").conflicts_with("print_config").help("Check the configuration and exit"))
        .arg(switch("print_config", "print-config").help("Print the configuration as a TOML file and exit"))
        .args(KNOBS.iter().map(|knob| knob_arg(knob, &default(knob))));
    // Which has an opinion on what the whole is about.
    Tool::augment_subcommands(command).about(ABOUT)
}

fn knob_arg(knob: &'static Knob, default: &str) -> Arg {
    let (value_name, _) = (knob.form)();
    let arg = Arg::new(knob.name)
        .long(knob.flag())
        .value_name(value_name)
        .help_heading(knob.group)
        .help(format!("{} [{default}; {}{}]", knob.help.trim_end_matches('.'), (knob.range)(), knob.takes.hint()))
        .allow_negative_numbers(true);
    match value_name {
        "BOOL" => arg.num_args(0..=1).default_missing_value("true"),
        _ => arg,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(args: &[&str]) -> Result<Invocation, clap::Error> {
        command().try_get_matches_from([&["uproar"], args].concat()).map(|matches| Invocation::from_matches(&matches))
    }

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn flags_are_handed_on_as_they_are() {
        let args = ["--shards", "-1", "--pin", "--deflate=false", "--ping-interval=off"];
        let Invocation::Server(invocation) = invocation(&args).unwrap() else { panic!("no tool was named") };
        assert_eq!(invocation.mode, Mode::Serve);
        let mut flags: Vec<_> = invocation.flags.iter().map(|(name, value)| (*name, value.as_str())).collect();
        flags.sort_unstable();
        assert_eq!(flags, [("deflate", "false"), ("pin", "true"), ("ping_interval", "off"), ("shards", "-1")]);
    }

    #[test]
    fn bad_usage_is_refused() {
        for args in
            [&["--no-such"][..], &["stray"], &["--check", "--print-config"], &["--backlog"], &["--shards=1", "doctor"]]
        {
            assert_eq!(invocation(args).unwrap_err().exit_code(), 2, "{args:?}");
        }
        assert!(invocation(&["--backlgo", "1"]).unwrap_err().to_string().contains("--backlog"));
    }

    #[test]
    fn the_server_is_started_with_what_was_resolved() {
        let mut started = None;
        let start = |config: Config, _: Source| {
            started = Some(config);
            Err(StartError::Kernel("no io_uring".into()))
        };
        let code = run(invocation(&["--backlog=1MiB"]).unwrap(), start);
        assert_eq!(code, ExitCode::from(5));
        assert_eq!(started.unwrap().backlog, 1 << 20);
    }
}
